/**
 * The generator: writes the frames that clients send (hot).
 *
 * What packet k of a run is:
 * 1. The hash of (seed, k) draws stream, flow and size (sample.ts), and whether it begins the flow's next generation.
 * 2. TCP and SCTP: a packet that begins a generation sends SYN or INIT with the next port; the connection that stands goes
 *    on until the handshake is through, and is closed then (respond.ts). A flow without a connection sends SYN or INIT
 *    of the generation it tries. Any other packet is data.
 * 3. UDP and ICMP echo: a packet that begins a generation takes the next port; all are data.
 *
 * Before a connection's first frame the client *connects*: socket-level balancing may replace the destination, which is
 * kept per connection, or refuse; then there is no frame, and the connect counts as one that entered and ended.
 *
 * What is not imitated: retransmission, windows, congestion. A client sends whether or not anything comes back.
 */
import { COUNT_ENTERED, countOf } from '../programs/count.ts';
import { MODE_EBPF } from '../programs/datapath.ts';
import { connectSocket } from '../programs/ebpf-socket.ts';
import { VERDICT_DROPPED } from '../programs/verdict.ts';
import { mix32 } from '../tables/hash.ts';
import { BURST_FRAMES, type Burst, ENTRY_UPLINK } from '../wire/burst.ts';
import { PROTO_ICMP } from '../wire/icmp4.ts';
import { PROTO_SCTP, SCTP_INIT, SCTP_SHUTDOWN } from '../wire/sctp.ts';
import { PROTO_TCP, TCP_ACK, TCP_FIN, TCP_SYN } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import {
  CONNECTION_PORTS,
  FLOW_ACK,
  FLOW_ATTEMPT,
  FLOW_DESTINATION,
  FLOW_OPENING,
  FLOW_SEQ,
  FLOW_SOURCE,
  FLOW_STANDING,
  FLOW_STATE,
  FLOW_WORDS,
  flowPorts,
} from './flow.ts';
import { putEcho, putIpv4, putIpv6, putTcp, putTemplate, putUdp } from './frame.ts';
import { drawAlias, drawUniform, packetHash, windowHash } from './sample.ts';
import { clientTag, putSctpData, serverTag, writeSctpControl } from './sctp-frame.ts';
import { STATION_PACKETS, STATION_REFUSED, type Station } from './station.ts';
import {
  PEER_ADDRESS,
  SOURCE_ENDPOINT,
  SOURCE_ENTRY,
  SOURCE_NODE,
  STREAM_ALIAS,
  STREAM_FAMILY,
  STREAM_FLOW_FIRST,
  STREAM_FLOWS,
  STREAM_PROTO,
  STREAM_SIZE_ALIAS,
  STREAM_SIZES,
  STREAM_TEMPLATE,
  STREAM_WORDS,
  type Traffic,
} from './stream.ts';
import {
  SLOT_L3,
  SLOT_L4_OF_IPV4,
  SLOT_L4_OF_IPV6,
  TEMPLATE_CLIENT,
  TEMPLATE_IP_SUM,
  TEMPLATE_L4_SUM,
  TEMPLATE_PAYLOAD,
  TEMPLATE_SIZES,
  TEMPLATE_WORDS,
} from './template.ts';

/**
 * Packet numbers in a window: what one breath of all workers together sends. One less than a burst: of the slots for
 * answers of rejecting nodes one is scratch, and a window in which every frame is rejected must get all its answers.
 */
export const WINDOW_PACKETS = BURST_FRAMES - 1;

/** `newBelow` of a stream whose every packet begins a flow. */
const EVERY_PACKET = 4_294_967_296;
const FLOW_STEP = 0x2c1b3c6d;
const GENERATION_STEP = 0x297a2d39;

/** Hash of (seed, flow, generation): what every random choice about a connection is drawn from. */
export function connectionHash(seed: number, flow: number, generation: number): number {
  return mix32((mix32((seed + Math.imul(flow, FLOW_STEP)) | 0) + Math.imul(generation, GENERATION_STEP)) | 0);
}

/** Initial sequence number of the client (side 0) or server (side 1). */
export function initialSequence(flowHash: number, side: number): number {
  return mix32(flowHash ^ (side === 0 ? 0x49534e43 : 0x49534e53));
}

/** Stream of the packet with this hash. */
function drawStream(traffic: Traffic, hash: number): number {
  if (traffic.streams === 1) return 0;
  return drawAlias(traffic.limit, traffic.alias, 0, traffic.streams, mix32(hash ^ 0x73747265));
}

/** Flow of the packet with this hash. */
function drawFlow(traffic: Traffic, stream: number, hash: number): number {
  const at = stream * STREAM_WORDS;
  const count = traffic.words[at + STREAM_FLOWS];
  const alias = traffic.words[at + STREAM_ALIAS];
  const drawn = mix32(hash ^ 0x666c6f77);
  const own = alias === -1 ? drawUniform(count, drawn) : drawAlias(traffic.limit, traffic.alias, alias, count, drawn);
  return traffic.words[at + STREAM_FLOW_FIRST] + own;
}

/**
 * Writes the station's share of a window of packet numbers into its burst.
 * @param count packet numbers of the window, WINDOW_PACKETS but for the last
 * @param startMs virtual time of the window's first packet; fractions allowed
 * @param stepMs virtual time from one packet to the next
 * @returns frames written
 */
export function sendWindow(st: Station, window: number, count: number, startMs: number, stepMs: number): number {
  const traffic = st.traffic;
  const flowShards = st.flowShards;
  const ofWindow = windowHash(traffic.seed, window);
  let frames = 0;
  for (let i = 0; i < count; i++) {
    const hash = packetHash(ofWindow, i);
    const stream = drawStream(traffic, hash);
    const flow = drawFlow(traffic, stream, hash);
    if (st.owner[flowShards[flow]] !== st.worker) continue;
    st.timeMs = Math.floor(startMs + i * stepMs);
    st.counts[STATION_PACKETS]++;
    const isNew = mix32(hash ^ 0x6e657766) >>> 0 < traffic.newBelow[stream];
    frames += sendPacket(st, stream, flow, hash, isNew, frames);
  }
  return frames;
}

/** Packet numbers of a window that fall to the station: what `sendWindow` would take, without sending. */
export function countWindow(st: Station, window: number, count: number): number {
  const ofWindow = windowHash(st.traffic.seed, window);
  let taken = 0;
  for (let i = 0; i < count; i++) {
    const hash = packetHash(ofWindow, i);
    if (st.owner[st.flowShards[drawFlow(st.traffic, drawStream(st.traffic, hash), hash)]] === st.worker) taken++;
  }
  return taken;
}

/**
 * Writes the first frames of the station's flows among `count` flows from `first` on: SYN, INIT, or the first datagram.
 * Streams whose every packet begins a flow need no set-up and get none.
 * @returns frames written
 */
export function sendSetup(st: Station, first: number, count: number): number {
  const flows = st.traffic.flows;
  let frames = 0;
  for (let flow = first; flow < first + count; flow++) {
    if (st.owner[flows.shards[flow]] !== st.worker) continue;
    const stream = flows.streams[flow];
    if (st.traffic.newBelow[stream] >= EVERY_PACKET) continue;
    st.counts[STATION_PACKETS]++;
    frames += sendPacket(st, stream, flow, 0, false, frames);
  }
  return frames;
}

/** Flows that fall to the station: what `sendSetup` would send. */
export function countSetup(st: Station, first: number, count: number): number {
  const flows = st.traffic.flows;
  let taken = 0;
  for (let flow = first; flow < first + count; flow++) {
    const isSet = st.traffic.newBelow[flows.streams[flow]] < EVERY_PACKET;
    if (isSet && st.owner[flows.shards[flow]] === st.worker) taken++;
  }
  return taken;
}

/** One packet of a flow into slot `s`; 1, or 0 when the connect was refused. */
function sendPacket(st: Station, stream: number, flow: number, hash: number, isNew: boolean, s: number): number {
  const proto = st.streamWords[stream * STREAM_WORDS + STREAM_PROTO];
  const flows = st.flowWords;
  const line = flow * FLOW_WORDS;
  const state = flows[line + FLOW_STATE];
  if (isNew) flows[line + FLOW_ATTEMPT] = (flows[line + FLOW_ATTEMPT] + 1) & 0x3fffffff;
  const generation = isNew || state === 0 ? flows[line + FLOW_ATTEMPT] : state >>> 1;
  enter(st, st.burst, s, stream, flow, generation);
  if (proto === PROTO_TCP || proto === PROTO_SCTP) {
    if (isNew || state === 0) {
      if (connect(st, s, stream, flow, generation, FLOW_OPENING) !== 0) return 0;
      writeOpening(st, stream, flow, s);
      return 1;
    }
  } else if (isNew || state === 0) {
    flows[line + FLOW_STATE] = 0;
    if (connect(st, s, stream, flow, generation, FLOW_STANDING) !== 0) return 0;
    flows[line + FLOW_STATE] = (generation << 1) | 1;
  }
  writeData(st, stream, flow, s, hash);
  return 1;
}

/** Sets the entry lanes of a frame that the flow's client sends. */
export function enter(st: Station, b: Burst, s: number, stream: number, flow: number, generation: number): void {
  const source = st.flowWords[flow * FLOW_WORDS + FLOW_SOURCE];
  b.node[s] = st.peers[source + SOURCE_NODE];
  b.entry[s] = st.peers[source + SOURCE_ENTRY];
  b.endpoint[s] = st.peers[source + SOURCE_ENDPOINT];
  b.shard[s] = st.flowShards[flow];
  b.timeMs[s] = st.timeMs;
  b.choice[s] = -1;
  b.flowHash[s] = connectionHash(st.traffic.seed, flow, generation);
  b.tag[s] = flow << 1;
  b.family[s] = st.streamWords[stream * STREAM_WORDS + STREAM_FAMILY];
}

/**
 * The client connects: notes destination and ports of connection `which` of the flow, socket-level balancing applied.
 * @returns 0, or not 0 when the connect was refused; it has been counted then
 */
function connect(st: Station, s: number, stream: number, flow: number, generation: number, which: number): number {
  const flows = st.flowWords;
  const peers = st.peers;
  const b = st.burst;
  const line = flow * FLOW_WORDS;
  const to = flows[line + FLOW_DESTINATION] + PEER_ADDRESS;
  const ports = flowPorts(flows, flow, generation, st.streamWords, stream, peers);
  const kept = line + which;
  flows[kept] = peers[to];
  flows[kept + 1] = peers[to + 1];
  flows[kept + 2] = peers[to + 2];
  flows[kept + 3] = peers[to + 3];
  flows[kept + CONNECTION_PORTS] = ports;
  // The socket hook sits between a local process and the stack; frames from the uplink have passed theirs elsewhere.
  if (st.dp.mode !== MODE_EBPF || b.entry[s] === ENTRY_UPLINK) return 0;
  const from = flows[line + FLOW_SOURCE] + PEER_ADDRESS;
  b.proto[s] = st.streamWords[stream * STREAM_WORDS + STREAM_PROTO];
  b.src0[s] = peers[from];
  b.src1[s] = peers[from + 1];
  b.src2[s] = peers[from + 2];
  b.src3[s] = peers[from + 3];
  b.dst0[s] = peers[to];
  b.dst1[s] = peers[to + 1];
  b.dst2[s] = peers[to + 2];
  b.dst3[s] = peers[to + 3];
  b.sport[s] = ports >>> 16;
  b.dport[s] = ports & 0xffff;
  b.reason[s] = 0;
  const step = connectSocket(st.dp, b, s);
  if (step !== 0) {
    st.dp.counters[COUNT_ENTERED]++;
    st.dp.counters[step < 0 ? countOf(VERDICT_DROPPED, -step) : countOf(step, b.reason[s])]++;
    st.counts[STATION_REFUSED]++;
    return step;
  }
  flows[kept] = b.dst0[s];
  flows[kept + 1] = b.dst1[s];
  flows[kept + 2] = b.dst2[s];
  flows[kept + 3] = b.dst3[s];
  flows[kept + CONNECTION_PORTS] = (ports & -65_536) | b.dport[s];
  return 0;
}

/** Writes the addresses of a template from the client's side; answers their sum. */
function putForth(st: Station, b: Burst, s: number, family: number, t: number, line: number, which: number): number {
  const flows = st.flowWords;
  const peers = st.peers;
  const a = flows[line + FLOW_SOURCE] + PEER_ADDRESS;
  const d = line + which;
  const l3 = s * b.slotBytes + SLOT_L3;
  putTemplate(st, t, b, s);
  if (family === 4) {
    const sum = st.templateIndex[t * TEMPLATE_WORDS + TEMPLATE_IP_SUM];
    return putIpv4(b.view, l3, sum, peers[a], flows[d]);
  }
  return putIpv6(
    b.view,
    l3,
    peers[a],
    peers[a + 1],
    peers[a + 2],
    peers[a + 3],
    flows[d],
    flows[d + 1],
    flows[d + 2],
    flows[d + 3],
  );
}

/** SYN or INIT of the connection being opened. */
function writeOpening(st: Station, stream: number, flow: number, s: number): void {
  const b = st.burst;
  const flows = st.flowWords;
  const line = flow * FLOW_WORDS;
  const seq = initialSequence(b.flowHash[s], 0);
  const at = stream * STREAM_WORDS;
  if (st.streamWords[at + STREAM_PROTO] === PROTO_SCTP) {
    writeClientChunk(st, b, s, stream, line, FLOW_OPENING, SCTP_INIT, 0, clientTag(b.flowHash[s]), seq);
    return;
  }
  const family = st.streamWords[at + STREAM_FAMILY];
  const t = st.streamWords[at + STREAM_TEMPLATE] + TEMPLATE_CLIENT;
  const sum =
    putForth(st, b, s, family, t, line, FLOW_OPENING) + st.templateIndex[t * TEMPLATE_WORDS + TEMPLATE_L4_SUM];
  const l4 = s * b.slotBytes + (family === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6);
  putTcp(b.view, l4, sum, flows[line + FLOW_OPENING + CONNECTION_PORTS], seq, 0, TCP_SYN);
}

/** A frame of the standing connection with the payload that the packet's hash draws. */
function writeData(st: Station, stream: number, flow: number, s: number, hash: number): void {
  const b = st.burst;
  const words = st.streamWords;
  const flows = st.flowWords;
  const at = stream * STREAM_WORDS;
  const line = flow * FLOW_WORDS;
  const family = words[at + STREAM_FAMILY];
  const proto = words[at + STREAM_PROTO];
  const sizes = words[at + STREAM_SIZES];
  const size =
    sizes === 1
      ? 0
      : drawAlias(st.traffic.limit, st.traffic.alias, words[at + STREAM_SIZE_ALIAS], sizes, mix32(hash ^ 0x73697a65));
  const t = words[at + STREAM_TEMPLATE] + TEMPLATE_SIZES + size;
  const row = t * TEMPLATE_WORDS;
  const addresses = putForth(st, b, s, family, t, line, FLOW_STANDING);
  const sum = addresses + st.templateIndex[row + TEMPLATE_L4_SUM];
  const l4 = s * b.slotBytes + (family === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6);
  const ports = flows[line + FLOW_STANDING + CONNECTION_PORTS];
  const seq = flows[line + FLOW_SEQ];
  if (proto === PROTO_TCP) {
    flows[line + FLOW_SEQ] = (seq + st.templateIndex[row + TEMPLATE_PAYLOAD]) | 0;
    putTcp(b.view, l4, sum, ports, seq, flows[line + FLOW_ACK], 0);
  } else if (proto === PROTO_UDP) putUdp(b.view, l4, sum, ports);
  else if (proto === PROTO_SCTP) {
    flows[line + FLOW_SEQ] = (seq + 1) | 0;
    putSctpData(b, l4, s * b.slotBytes + 2 + b.len[s], ports, serverTag(b.flowHash[s]), seq);
  } else {
    flows[line + FLOW_SEQ] = (seq + 1) | 0;
    const covered = proto === PROTO_ICMP ? sum - addresses : sum;
    putEcho(b.view, l4, covered, (ports & -65_536) | (seq & 0xffff));
  }
}

/**
 * Writes the frame that begins to close the standing connection into slot `s` of `b`: FIN or SHUTDOWN.
 * UDP and ICMP have nothing to close and never come here.
 */
export function writeClosing(st: Station, b: Burst, s: number, stream: number, flow: number): void {
  const flows = st.flowWords;
  const at = stream * STREAM_WORDS;
  const line = flow * FLOW_WORDS;
  enter(st, b, s, stream, flow, flows[line + FLOW_STATE] >>> 1);
  if (st.streamWords[at + STREAM_PROTO] === PROTO_SCTP) {
    const hash = b.flowHash[s];
    writeClientChunk(st, b, s, stream, line, FLOW_STANDING, SCTP_SHUTDOWN, serverTag(hash), 0, flows[line + FLOW_ACK]);
    return;
  }
  const family = st.streamWords[at + STREAM_FAMILY];
  const t = st.streamWords[at + STREAM_TEMPLATE] + TEMPLATE_CLIENT;
  const sum =
    putForth(st, b, s, family, t, line, FLOW_STANDING) + st.templateIndex[t * TEMPLATE_WORDS + TEMPLATE_L4_SUM];
  const l4 = s * b.slotBytes + (family === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6);
  const ports = flows[line + FLOW_STANDING + CONNECTION_PORTS];
  putTcp(b.view, l4, sum, ports, flows[line + FLOW_SEQ], flows[line + FLOW_ACK], TCP_FIN | TCP_ACK);
}

/** An SCTP control chunk from the client of connection `which`. */
function writeClientChunk(
  st: Station,
  b: Burst,
  s: number,
  stream: number,
  line: number,
  which: number,
  type: number,
  tag: number,
  ownTag: number,
  tsn: number,
): void {
  const flows = st.flowWords;
  const peers = st.peers;
  const a = flows[line + FLOW_SOURCE] + PEER_ADDRESS;
  const d = line + which;
  writeSctpControl(
    st,
    stream,
    b,
    s,
    0,
    st.streamWords[stream * STREAM_WORDS + STREAM_FAMILY],
    peers[a],
    peers[a + 1],
    peers[a + 2],
    peers[a + 3],
    flows[d],
    flows[d + 1],
    flows[d + 2],
    flows[d + 3],
    flows[d + CONNECTION_PORTS],
    type,
    tag,
    ownTag,
    tsn,
  );
}
