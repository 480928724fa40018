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
import { BURST_FRAMES, type Burst, ENTRY_UPLINK, FRAME_HEADROOM } from '../wire/burst.ts';
import { PROTO_ICMP } from '../wire/icmp4.ts';
import { PROTO_SCTP, SCTP_INIT, SCTP_SHUTDOWN } from '../wire/sctp.ts';
import { PROTO_TCP, TCP_ACK, TCP_FIN, TCP_SYN } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import type { FrameFacts, StreamFacts } from './facts.ts';
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
import { SLOT_L3, TEMPLATE_CLIENT, TEMPLATE_SIZES } from './template.ts';
import { threadBurst } from './thread-burst.ts';

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
function drawStream(st: Station, hash: number): number {
  const traffic = st.traffic;
  if (traffic.streams === 1) return 0;
  return drawAlias(traffic.limit, traffic.alias, 0, traffic.streams, mix32(hash ^ 0x73747265));
}

/** Flow of the packet with this hash. */
function drawFlow(st: Station, stream: StreamFacts, hash: number): number {
  if (stream.flowAlias === -1) return stream.firstFlow + drawUniform(stream.flows, hash);
  const traffic = st.traffic;
  return stream.firstFlow + drawAlias(traffic.limit, traffic.alias, stream.flowAlias, stream.flows, hash);
}

/**
 * Writes the station's share of a window of packet numbers into its burst.
 *
 * Three passes: choose the packets, touch their flows, write. Where flows do not fit the cache, lines touched in
 * a loop of their own come in side by side; where they do, the passes cost some 20 ns a packet.
 * @param count packet numbers of the window, WINDOW_PACKETS but for the last
 * @param startMs virtual time of the window's first packet; fractions allowed
 * @param stepMs virtual time from one packet to the next
 * @returns frames written
 */
export function sendWindow(st: Station, window: number, count: number, startMs: number, stepMs: number): number {
  const ofWindow = windowHash(st.traffic.seed, window);
  const taken = choosePackets(st, ofWindow, count);
  touchFlows(st, taken);
  st.counts[STATION_PACKETS] += taken;
  let frames = 0;
  for (let n = 0; n < taken; n++) {
    const i = st.chosen[n];
    const flow = st.chosenFlows[n];
    const hash = packetHash(ofWindow, i);
    const stream = streamOf(st, flow);
    st.timeMs = (startMs + i * stepMs) | 0;
    const isNew = stream.newBelow > 0 && mix32(hash ^ 0x6e657766) >>> 0 < stream.newBelow;
    frames += sendPacket(st, stream, flow, hash, isNew, frames);
  }
  return frames;
}

/** Lists the station's packets of a window in `chosen` and their flows in `chosenFlows`; answers how many there are. */
function choosePackets(st: Station, ofWindow: number, count: number): number {
  const owner = st.owner;
  const worker = st.worker;
  let taken = 0;
  for (let i = 0; i < count; i++) {
    const hash = packetHash(ofWindow, i);
    const flow = drawFlow(st, st.streams[drawStream(st, hash)], hash);
    if (owner[st.flowShards[flow]] !== worker) continue;
    st.chosen[taken] = i;
    st.chosenFlows[taken] = flow;
    taken++;
  }
  return taken;
}

function touchFlows(st: Station, count: number): void {
  const words = st.flowWords;
  const flows = st.chosenFlows;
  let sum = 0;
  for (let n = 0; n < count; n++) sum ^= words[flows[n] * FLOW_WORDS];
  // Kept, so that the loads are not found to be useless.
  st.chosen[WINDOW_PACKETS] = sum;
}

/** The stream that a flow belongs to. */
export function streamOf(st: Station, flow: number): StreamFacts {
  return st.streams.length === 1 ? st.streams[0] : st.streams[st.flowStreams[flow]];
}

/** Packet numbers of a window that fall to the station: what `sendWindow` would take, without sending. */
export function countWindow(st: Station, window: number, count: number): number {
  return choosePackets(st, windowHash(st.traffic.seed, window), count);
}

/**
 * Writes the first frames of the station's flows among `count` flows from `first` on: SYN, INIT, or the first datagram.
 * Streams whose every packet begins a flow need no set-up and get none.
 * @returns frames written
 */
export function sendSetup(st: Station, first: number, count: number): number {
  let frames = 0;
  for (let flow = first; flow < first + count; flow++) {
    if (!isSetUp(st, flow)) continue;
    st.counts[STATION_PACKETS]++;
    frames += sendPacket(st, streamOf(st, flow), flow, 0, false, frames);
  }
  return frames;
}

/** Flows that fall to the station: what `sendSetup` would send. */
export function countSetup(st: Station, first: number, count: number): number {
  let taken = 0;
  for (let flow = first; flow < first + count; flow++) if (isSetUp(st, flow)) taken++;
  return taken;
}

function isSetUp(st: Station, flow: number): boolean {
  return st.owner[st.flowShards[flow]] === st.worker && streamOf(st, flow).newBelow < EVERY_PACKET;
}

/** One packet of a flow into slot `s`; 1, or 0 when the connect was refused. */
function sendPacket(st: Station, stream: StreamFacts, flow: number, hash: number, isNew: boolean, s: number): number {
  const flows = st.flowWords;
  const line = flow * FLOW_WORDS;
  const state = flows[line + FLOW_STATE];
  if (!isNew && state !== 0) {
    enter(st, threadBurst, s, flow, state >>> 1);
    writeData(st, stream, line, s, hash);
    return 1;
  }
  if (isNew) flows[line + FLOW_ATTEMPT] = (flows[line + FLOW_ATTEMPT] + 1) & 0x3fffffff;
  const generation = flows[line + FLOW_ATTEMPT];
  enter(st, threadBurst, s, flow, generation);
  if (stream.proto === PROTO_TCP || stream.proto === PROTO_SCTP) {
    if (connect(st, s, stream, flow, generation, FLOW_OPENING) !== 0) return 0;
    writeOpening(st, stream, line, s);
    return 1;
  }
  flows[line + FLOW_STATE] = 0;
  if (connect(st, s, stream, flow, generation, FLOW_STANDING) !== 0) return 0;
  flows[line + FLOW_STATE] = (generation << 1) | 1;
  writeData(st, stream, line, s, hash);
  return 1;
}

/** Sets the entry lanes of a frame that the flow's client sends. */
function enter(st: Station, b: Burst, s: number, flow: number, generation: number): void {
  const source = st.peers[st.flowWords[flow * FLOW_WORDS + FLOW_SOURCE]];
  b.node[s] = source.node;
  b.entry[s] = source.entry;
  b.endpoint[s] = source.endpoint;
  b.shard[s] = st.flowShards[flow];
  b.timeMs[s] = st.timeMs;
  b.flowHash[s] = connectionHash(st.traffic.seed, flow, generation);
  b.tag[s] = flow << 1;
}

/**
 * The client connects: notes destination and ports of connection `which` of the flow, socket-level balancing applied.
 * @returns 0, or not 0 when the connect was refused; it has been counted then
 */
function connect(st: Station, s: number, stream: StreamFacts, flow: number, generation: number, which: number): number {
  const flows = st.flowWords;
  const b = threadBurst;
  const line = flow * FLOW_WORDS;
  const to = st.peers[flows[line + FLOW_DESTINATION]];
  const ports = flowPorts(flows, flow, generation, st.traffic.words, st.flowStreams[flow], st.traffic.peers);
  const kept = line + which;
  flows[kept] = to.a0;
  flows[kept + 1] = to.a1;
  flows[kept + 2] = to.a2;
  flows[kept + 3] = to.a3;
  flows[kept + CONNECTION_PORTS] = ports;
  // The socket hook sits between a local process and the stack; frames from the uplink have passed theirs elsewhere.
  if (st.dp.mode !== MODE_EBPF || b.entry[s] === ENTRY_UPLINK) return 0;
  const from = st.peers[flows[line + FLOW_SOURCE]];
  b.family[s] = stream.family;
  b.proto[s] = stream.proto;
  b.src0[s] = from.a0;
  b.src1[s] = from.a1;
  b.src2[s] = from.a2;
  b.src3[s] = from.a3;
  b.dst0[s] = to.a0;
  b.dst1[s] = to.a1;
  b.dst2[s] = to.a2;
  b.dst3[s] = to.a3;
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
  if (b.src0[s] !== from.a0 || b.src3[s] !== from.a3) flows[line + FLOW_SOURCE] = from.routed;
  flows[kept] = b.dst0[s];
  flows[kept + 1] = b.dst1[s];
  flows[kept + 2] = b.dst2[s];
  flows[kept + 3] = b.dst3[s];
  flows[kept + CONNECTION_PORTS] = (ports & -65_536) | b.dport[s];
  return 0;
}

/** Writes a template with addresses from the client's side; answers the sum of the addresses. */
function putForth(
  st: Station,
  b: Burst,
  s: number,
  family: number,
  frame: FrameFacts,
  line: number,
  which: number,
): number {
  const flows = st.flowWords;
  const from = st.peers[flows[line + FLOW_SOURCE]];
  const d = line + which;
  const l3 = s * b.slotBytes + SLOT_L3;
  putTemplate(frame, b, s);
  if (family === 4) return putIpv4(b.view, l3, frame.ipSum, from.a0, flows[d]);
  return putIpv6(b.view, l3, from.a0, from.a1, from.a2, from.a3, flows[d], flows[d + 1], flows[d + 2], flows[d + 3]);
}

/** SYN or INIT of the connection being opened. */
function writeOpening(st: Station, stream: StreamFacts, line: number, s: number): void {
  const b = threadBurst;
  const seq = initialSequence(b.flowHash[s], 0);
  if (stream.proto === PROTO_SCTP) {
    writeClientChunk(st, b, s, stream, line, FLOW_OPENING, SCTP_INIT, 0, clientTag(b.flowHash[s]), seq);
    return;
  }
  const frame = st.frames[stream.template + TEMPLATE_CLIENT];
  const sum = putForth(st, b, s, stream.family, frame, line, FLOW_OPENING) + frame.l4Sum;
  const ports = st.flowWords[line + FLOW_OPENING + CONNECTION_PORTS];
  putTcp(b.view, s * b.slotBytes + stream.l4, sum, ports, seq, 0, TCP_SYN);
}

/** A frame of the standing connection with the payload that the packet's hash draws. */
function writeData(st: Station, stream: StreamFacts, line: number, s: number, hash: number): void {
  const b = threadBurst;
  const flows = st.flowWords;
  let size = TEMPLATE_SIZES;
  if (stream.sizes > 1) {
    const traffic = st.traffic;
    size += drawAlias(traffic.limit, traffic.alias, stream.sizeAlias, stream.sizes, mix32(hash ^ 0x73697a65));
  }
  const frame = st.frames[stream.template + size];
  const addresses = putForth(st, b, s, stream.family, frame, line, FLOW_STANDING);
  const sum = addresses + frame.l4Sum;
  const l4 = s * b.slotBytes + stream.l4;
  const ports = flows[line + FLOW_STANDING + CONNECTION_PORTS];
  const seq = flows[line + FLOW_SEQ];
  const proto = stream.proto;
  if (proto === PROTO_TCP) {
    flows[line + FLOW_SEQ] = (seq + frame.payload) | 0;
    putTcp(b.view, l4, sum, ports, seq, flows[line + FLOW_ACK], 0);
  } else if (proto === PROTO_UDP) putUdp(b.view, l4, sum, ports);
  else if (proto === PROTO_SCTP) {
    flows[line + FLOW_SEQ] = (seq + 1) | 0;
    putSctpData(b, l4, s * b.slotBytes + FRAME_HEADROOM + frame.length, ports, serverTag(b.flowHash[s]), seq);
  } else {
    flows[line + FLOW_SEQ] = (seq + 1) | 0;
    const covered = proto === PROTO_ICMP ? frame.l4Sum : sum;
    putEcho(b.view, l4, covered, (ports & -65_536) | (seq & 0xffff));
  }
}

/**
 * Writes the frame that begins to close the standing connection into slot `s` of `b`: FIN or SHUTDOWN.
 * UDP and ICMP have nothing to close and never come here.
 */
export function writeClosing(st: Station, b: Burst, s: number, stream: StreamFacts, flow: number): void {
  const flows = st.flowWords;
  const line = flow * FLOW_WORDS;
  enter(st, b, s, flow, flows[line + FLOW_STATE] >>> 1);
  const seq = flows[line + FLOW_SEQ];
  const ackSeq = flows[line + FLOW_ACK];
  if (stream.proto === PROTO_SCTP) {
    writeClientChunk(st, b, s, stream, line, FLOW_STANDING, SCTP_SHUTDOWN, serverTag(b.flowHash[s]), 0, ackSeq);
    return;
  }
  const frame = st.frames[stream.template + TEMPLATE_CLIENT];
  const sum = putForth(st, b, s, stream.family, frame, line, FLOW_STANDING) + frame.l4Sum;
  const ports = flows[line + FLOW_STANDING + CONNECTION_PORTS];
  putTcp(b.view, s * b.slotBytes + stream.l4, sum, ports, seq, ackSeq, TCP_FIN | TCP_ACK);
}

/** An SCTP control chunk from the client of connection `which`. */
function writeClientChunk(
  st: Station,
  b: Burst,
  s: number,
  stream: StreamFacts,
  line: number,
  which: number,
  type: number,
  tag: number,
  ownTag: number,
  tsn: number,
): void {
  const flows = st.flowWords;
  const from = st.peers[flows[line + FLOW_SOURCE]];
  const d = line + which;
  writeSctpControl(
    st,
    stream,
    b,
    s,
    0,
    stream.family,
    from.a0,
    from.a1,
    from.a2,
    from.a3,
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
