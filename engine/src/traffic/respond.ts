/**
 * The responder: what the receiver of a frame sends back (hot).
 *
 * `follow` looks at a frame that has ended and writes the frame that it causes, if any, into the same slot or an earlier
 * one, with the same shard; it enters where the receiver sits. Rules, for the server's side of a stream that responds:
 *
 * 1. TCP: SYN gets SYN-ACK, data gets ACK (or the same data back), FIN gets FIN-ACK. Bare ACK and RST get nothing.
 * 2. UDP gets the same bytes back. ICMP echo gets its reply.
 * 3. SCTP: INIT gets INIT-ACK, COOKIE-ECHO gets COOKIE-ACK, DATA gets SACK, SHUTDOWN gets SHUTDOWN-ACK.
 *
 * and for the client:
 *
 * 4. TCP: SYN-ACK of the connection being opened gets ACK; the connection then stands, and the one it replaces is
 *    closed. SYN-ACK of an attempt given up gets RST. FIN-ACK gets ACK. RST ends the connection.
 * 5. SCTP: INIT-ACK gets COOKIE-ECHO, COOKIE-ACK makes the association stand, SHUTDOWN-ACK gets SHUTDOWN-COMPLETE.
 *
 * Every chain of answers ends: the longest is INIT to COOKIE-ACK, and closing begins a chain of its own that opens nothing.
 * A reply that reaches somebody else than the client, or shows a tuple that the client does not know, is a *stray*.
 */
import { VERDICT_DELIVERED, VERDICT_FORWARDED } from '../programs/verdict.ts';
import { type Burst, ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '../wire/burst.ts';
import { applyDelta, delta16, delta32 } from '../wire/checksum.ts';
import { ICMP_CHECKSUM, ICMP_TYPE, ICMP4_ECHO, ICMP4_ECHO_REPLY, PROTO_ICMP } from '../wire/icmp4.ts';
import { ICMP6_ECHO, ICMP6_ECHO_REPLY, PROTO_ICMPV6 } from '../wire/icmp6.ts';
import {
  PROTO_SCTP,
  SCTP_COOKIE_ACK,
  SCTP_COOKIE_ECHO,
  SCTP_DATA,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SACK,
  SCTP_SHUTDOWN,
  SCTP_SHUTDOWN_ACK,
  SCTP_SHUTDOWN_COMPLETE,
} from '../wire/sctp.ts';
import {
  getTcpHeaderBytes,
  PROTO_TCP,
  TCP_ACK,
  TCP_ACK_SEQ,
  TCP_CHECKSUM,
  TCP_FIN,
  TCP_RST,
  TCP_SEQ,
  TCP_SYN,
} from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import type { PeerFacts, StreamFacts } from './facts.ts';
import {
  CONNECTION_PORTS,
  FLOW_ACK,
  FLOW_ATTEMPT,
  FLOW_OPENING,
  FLOW_SEQ,
  FLOW_SOURCE,
  FLOW_STANDING,
  FLOW_STATE,
  FLOW_WORDS,
} from './flow.ts';
import { copyFrame, putIpv4, putIpv6, putTcp, putTemplate, turnAround } from './frame.ts';
import { connectionHash, initialSequence, streamOf, writeClosing } from './generate.ts';
import { clientTag, getDataTsn, serverTag, writeSctpControl } from './sctp-frame.ts';
import { STATION_OPENED, STATION_STRAY, type Station } from './station.ts';
import { RESPOND_ECHO, RESPOND_NONE } from './stream.ts';
import { SLOT_L3, TEMPLATE_CLIENT, TEMPLATE_SERVER } from './template.ts';
import { closingBurst } from './thread-burst.ts';

/**
 * Answers the ended frame in slot `s`.
 * @param to slot for the answer, at most `s`
 * @returns 1 if slot `to` holds a frame to send, else 0
 */
export function follow(st: Station, b: Burst, s: number, to: number): number {
  const verdict = b.verdict[s];
  if (verdict !== VERDICT_DELIVERED && verdict !== VERDICT_FORWARDED) return 0;
  return (b.tag[s] & 1) === 0 ? followAsServer(st, b, s, to) : followAsClient(st, b, s, to);
}

/** Sets the entry lanes of the answer in slot `to` to the frame in slot `s`. */
function handOver(b: Burst, s: number, to: number, node: number, entry: number, endpoint: number): void {
  b.node[to] = node;
  b.entry[to] = entry;
  b.endpoint[to] = endpoint;
  b.tag[to] = b.tag[s] ^ 1;
  if (to === s) return;
  b.shard[to] = b.shard[s];
  b.timeMs[to] = b.timeMs[s];
  b.flowHash[to] = b.flowHash[s];
}

// ---- the server -------------------------------------------------------------------------------------------------

function followAsServer(st: Station, b: Burst, s: number, to: number): number {
  const flow = b.tag[s] >>> 1;
  const stream = streamOf(st, flow);
  const respond = stream.respond;
  const proto = b.proto[s];
  let made = 0;
  if (proto === PROTO_TCP) {
    if (respond === RESPOND_NONE && st.settingUp === 0) return 0;
    made = serveTcp(st, b, s, to, stream, flow, respond);
  } else if (proto === PROTO_SCTP) {
    if (respond === RESPOND_NONE && st.settingUp === 0) return 0;
    made = serveSctp(st, b, s, to, stream);
  } else if (respond !== RESPOND_NONE) {
    if (proto === PROTO_UDP) made = serveUdp(b, s, to);
    else if (proto === PROTO_ICMP || proto === PROTO_ICMPV6) made = serveEcho(b, s, to);
  }
  if (made === 0) return 0;
  // Out of the cluster, the answer comes back by the uplink of the node that the frame left by.
  const entry = b.target[s] >= 0 ? ENTRY_POD : b.verdict[s] === VERDICT_DELIVERED ? ENTRY_HOST : ENTRY_UPLINK;
  handOver(b, s, to, b.node[s], entry, b.target[s]);
  return 1;
}

function serveTcp(
  st: Station,
  b: Burst,
  s: number,
  to: number,
  stream: StreamFacts,
  flow: number,
  respond: number,
): number {
  const flags = b.info[s];
  if ((flags & TCP_RST) !== 0) return 0;
  const l4 = b.l4[s];
  const seq = b.view.getInt32(l4 + TCP_SEQ);
  const ackSeq = b.view.getInt32(l4 + TCP_ACK_SEQ);
  if ((flags & TCP_SYN) !== 0) {
    writeTcpReply(st, b, s, to, stream, 1, initialSequence(b.flowHash[s], 1), (seq + 1) | 0, TCP_SYN | TCP_ACK);
    return 1;
  }
  const payload = b.end[s] - l4 - getTcpHeaderBytes(b.view, l4);
  if ((flags & TCP_FIN) !== 0) {
    writeTcpReply(st, b, s, to, stream, 1, ackSeq, (seq + payload + 1) | 0, TCP_FIN | TCP_ACK);
    return 1;
  }
  if (payload === 0) return 0;
  if (respond === RESPOND_ECHO) {
    const acked = flow * FLOW_WORDS + FLOW_ACK;
    const own = st.flowWords[acked];
    st.flowWords[acked] = (own + payload) | 0;
    echoTcp(b, s, to, own, seq, ackSeq, payload);
  } else writeTcpReply(st, b, s, to, stream, 1, ackSeq, (seq + payload) | 0, TCP_ACK);
  return 1;
}

/** Sends a data segment back as the server's own: addresses and ports change sides, the payload stays. */
function echoTcp(b: Burst, s: number, to: number, own: number, seq: number, ackSeq: number, payload: number): void {
  const l4 = turnInto(b, s, to);
  const view = b.view;
  const ack = (seq + payload) | 0;
  view.setInt32(l4 + TCP_SEQ, own);
  view.setInt32(l4 + TCP_ACK_SEQ, ack);
  const delta = delta32(seq, own) + delta32(ackSeq, ack);
  view.setUint16(l4 + TCP_CHECKSUM, applyDelta(view.getUint16(l4 + TCP_CHECKSUM), delta));
}

/** Moves the frame to slot `to` if that is another, turns it around there, ports included; answers its L4 offset. */
function turnInto(b: Burst, s: number, to: number): number {
  if (to !== s) copyFrame(b, s, b, to);
  const moved = (to - s) * b.slotBytes;
  const l4 = b.l4[s] + moved;
  turnAround(b, to, b.family[s], b.l3[s] + moved);
  const proto = b.proto[s];
  if (proto === PROTO_TCP || proto === PROTO_UDP) {
    const ports = b.view.getInt32(l4);
    b.view.setInt32(l4, (ports << 16) | (ports >>> 16));
  }
  return l4;
}

function serveUdp(b: Burst, s: number, to: number): number {
  turnInto(b, s, to);
  return 1;
}

function serveEcho(b: Burst, s: number, to: number): number {
  const type = b.info[s] >>> 8;
  const reply = b.family[s] === 4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
  if (type !== (b.family[s] === 4 ? ICMP4_ECHO : ICMP6_ECHO)) return 0;
  const l4 = turnInto(b, s, to);
  const view = b.view;
  view.setUint8(l4 + ICMP_TYPE, reply);
  view.setUint16(l4 + ICMP_CHECKSUM, applyDelta(view.getUint16(l4 + ICMP_CHECKSUM), delta16(type << 8, reply << 8)));
  return 1;
}

function serveSctp(st: Station, b: Burst, s: number, to: number, stream: StreamFacts): number {
  const hash = b.flowHash[s];
  const tag = clientTag(hash);
  switch (b.info[s]) {
    case SCTP_INIT:
      writeSctpReply(st, b, s, to, stream, 1, SCTP_INIT_ACK, tag, serverTag(hash), initialSequence(hash, 1));
      return 1;
    case SCTP_COOKIE_ECHO:
      writeSctpReply(st, b, s, to, stream, 1, SCTP_COOKIE_ACK, tag, 0, 0);
      return 1;
    case SCTP_DATA:
      writeSctpReply(st, b, s, to, stream, 1, SCTP_SACK, tag, 0, getDataTsn(b.view, b.l4[s]));
      return 1;
    case SCTP_SHUTDOWN:
      writeSctpReply(st, b, s, to, stream, 1, SCTP_SHUTDOWN_ACK, tag, 0, 0);
      return 1;
  }
  return 0;
}

// ---- the client -------------------------------------------------------------------------------------------------

function followAsClient(st: Station, b: Burst, s: number, to: number): number {
  const flow = b.tag[s] >>> 1;
  const line = flow * FLOW_WORDS;
  const source = st.peers[st.flowWords[line + FLOW_SOURCE]];
  const proto = b.proto[s];
  const info = b.info[s];
  // ICMP errors are told to the client and end there; what they quote is not his to answer.
  if (proto === PROTO_ICMP && info >>> 8 !== ICMP4_ECHO_REPLY) return 0;
  if (proto === PROTO_ICMPV6 && info >>> 8 !== ICMP6_ECHO_REPLY) return 0;
  const reached = hasReached(b, s, source);
  const isControl = proto === PROTO_TCP ? (info & (TCP_SYN | TCP_FIN | TCP_RST)) !== 0 : proto === PROTO_SCTP;
  // Nearly all frames: data or an ACK of the standing connection, which needs no answer.
  if (reached && !isControl && isPeer(st, b, s, line + FLOW_STANDING)) return 0;
  const which = findConnection(st, b, s, flow, line);
  if (!reached || (which >= 0 && !isPeer(st, b, s, line + which))) {
    st.counts[STATION_STRAY]++;
    return 0;
  }
  const stream = streamOf(st, flow);
  let made = 0;
  if (proto === PROTO_TCP) made = clientTcp(st, b, s, to, stream, flow, line, which);
  else if (proto === PROTO_SCTP) made = clientSctp(st, b, s, to, stream, flow, line, which);
  if (made === 0) return 0;
  handOver(b, s, to, source.node, source.entry, source.endpoint);
  return 1;
}

/** The connection of the flow that a frame belongs to, by the hash it carries: FLOW_STANDING, FLOW_OPENING, -1 older. */
function findConnection(st: Station, b: Burst, s: number, flow: number, line: number): number {
  const words = st.flowWords;
  const state = words[line + FLOW_STATE];
  const hash = b.flowHash[s];
  if (state !== 0 && hash === connectionHash(st.traffic.seed, flow, state >>> 1)) return FLOW_STANDING;
  return hash === connectionHash(st.traffic.seed, flow, words[line + FLOW_ATTEMPT]) ? FLOW_OPENING : -1;
}

/** True when the frame ended where the client sits: at its interface, in its node, or outside under its address. */
function hasReached(b: Burst, s: number, source: PeerFacts): boolean {
  if (b.dst0[s] !== source.a0) return false;
  if (b.family[s] === 6) {
    if (((b.dst1[s] ^ source.a1) | (b.dst2[s] ^ source.a2) | (b.dst3[s] ^ source.a3)) !== 0) return false;
  }
  if (source.entry === ENTRY_POD && source.endpoint >= 0) return b.target[s] === source.endpoint;
  if (source.entry === ENTRY_HOST) return b.verdict[s] === VERDICT_DELIVERED && b.node[s] === source.node;
  return b.verdict[s] === VERDICT_FORWARDED;
}

/** True when the frame comes from the address and port that connection `at` goes to, to the port it came from. */
function isPeer(st: Station, b: Burst, s: number, at: number): boolean {
  const words = st.flowWords;
  const ports = words[at + CONNECTION_PORTS];
  if (((b.dport[s] << 16) | b.sport[s]) !== ports || b.src0[s] !== words[at]) return false;
  if (b.family[s] === 4) return true;
  return ((b.src1[s] ^ words[at + 1]) | (b.src2[s] ^ words[at + 2]) | (b.src3[s] ^ words[at + 3])) === 0;
}

function clientTcp(
  st: Station,
  b: Burst,
  s: number,
  to: number,
  stream: StreamFacts,
  flow: number,
  line: number,
  which: number,
): number {
  const flags = b.info[s];
  const seq = b.view.getInt32(b.l4[s] + TCP_SEQ);
  const ackSeq = b.view.getInt32(b.l4[s] + TCP_ACK_SEQ);
  if ((flags & TCP_RST) !== 0) {
    if (which === FLOW_STANDING) st.flowWords[line + FLOW_STATE] = 0;
    return 0;
  }
  if ((flags & TCP_SYN) !== 0) {
    if (which === -1) {
      writeTcpReply(st, b, s, to, stream, 0, ackSeq, 0, TCP_RST);
      return 1;
    }
    if (which === FLOW_OPENING) stand(st, b.timeMs[s], stream, flow, line, ackSeq, (seq + 1) | 0);
    writeTcpReply(st, b, s, to, stream, 0, ackSeq, (seq + 1) | 0, TCP_ACK);
    return 1;
  }
  if ((flags & TCP_FIN) !== 0) {
    writeTcpReply(st, b, s, to, stream, 0, ackSeq, (seq + 1) | 0, TCP_ACK);
    return 1;
  }
  return 0;
}

function clientSctp(
  st: Station,
  b: Burst,
  s: number,
  to: number,
  stream: StreamFacts,
  flow: number,
  line: number,
  which: number,
): number {
  const hash = b.flowHash[s];
  const tag = serverTag(hash);
  switch (b.info[s]) {
    case SCTP_INIT_ACK:
      writeSctpReply(st, b, s, to, stream, 0, SCTP_COOKIE_ECHO, tag, clientTag(hash), 0);
      return 1;
    case SCTP_COOKIE_ACK:
      if (which === FLOW_OPENING)
        stand(st, b.timeMs[s], stream, flow, line, initialSequence(hash, 0), initialSequence(hash, 1));
      return 0;
    case SCTP_SHUTDOWN_ACK:
      writeSctpReply(st, b, s, to, stream, 0, SCTP_SHUTDOWN_COMPLETE, tag, 0, 0);
      return 1;
  }
  return 0;
}

/** The connection being opened stands from now on; the one that stood is closed, at the time of the frame that says so. */
function stand(
  st: Station,
  timeMs: number,
  stream: StreamFacts,
  flow: number,
  line: number,
  seq: number,
  ackSeq: number,
): void {
  const words = st.flowWords;
  if (words[line + FLOW_STATE] !== 0 && st.closingCount < closingBurst.slots) {
    st.timeMs = timeMs;
    writeClosing(st, closingBurst, st.closingCount++, stream, flow);
  }
  for (let i = 0; i <= CONNECTION_PORTS; i++) words[line + FLOW_STANDING + i] = words[line + FLOW_OPENING + i];
  words[line + FLOW_STATE] = (words[line + FLOW_ATTEMPT] << 1) | 1;
  words[line + FLOW_SEQ] = seq;
  words[line + FLOW_ACK] = ackSeq;
  st.counts[STATION_OPENED]++;
}

// ---- frames -----------------------------------------------------------------------------------------------------

/** A TCP header back to the sender of the frame in slot `s`, into slot `to`. */
function writeTcpReply(
  st: Station,
  b: Burst,
  s: number,
  to: number,
  stream: StreamFacts,
  fromServer: number,
  seq: number,
  ackSeq: number,
  flags: number,
): void {
  const frame = st.frames[stream.template + (fromServer === 1 ? TEMPLATE_SERVER : TEMPLATE_CLIENT)];
  const l3 = to * b.slotBytes + SLOT_L3;
  const ports = (b.dport[s] << 16) | b.sport[s];
  putTemplate(frame, b, to);
  const addresses =
    b.family[s] === 4
      ? putIpv4(b.view, l3, frame.ipSum, b.dst0[s], b.src0[s])
      : putIpv6(b.view, l3, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
  putTcp(b.view, to * b.slotBytes + stream.l4, frame.l4Sum + addresses, ports, seq, ackSeq, flags);
}

/** An SCTP control chunk back to the sender of the frame in slot `s`, into slot `to`. */
function writeSctpReply(
  st: Station,
  b: Burst,
  s: number,
  to: number,
  stream: StreamFacts,
  fromServer: number,
  type: number,
  tag: number,
  ownTag: number,
  tsn: number,
): void {
  writeSctpControl(
    st,
    stream,
    b,
    to,
    fromServer,
    b.family[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    (b.dport[s] << 16) | b.sport[s],
    type,
    tag,
    ownTag,
    tsn,
  );
}
