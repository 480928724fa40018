/**
 * Netfilter's conntrack for one frame: which flow it belongs to, what that makes of the flow, and entering a new one.
 *
 *     trackPacket    at PREROUTING and OUTPUT: finds the flow or begins one; lanes `ct` and `ctState` tell
 *     confirmFlow    behind POSTROUTING and INPUT: enters the flow that the frame began, with all its translation
 *
 * Guarantees: a frame that is dropped between the two leaves no entry. What does not fit its flow's protocol is INVALID
 * and goes on without one. A full table first loses what has expired, then flows that are not assured, then refuses the
 * newcomer (REASON_CONNTRACK_FULL). Every node is a zone, every shard has its share of nf_conntrack_max.
 * Fragments do not come here: netfilter-fragment.ts gathers them first.
 * What is left out: helpers, expectations.
 */
import {
  type Conntrack,
  CT_CLASH,
  CT_FULL,
  CT_OWN_WORDS,
  CT_REPLY,
  CT_SEEN_REPLY,
  ctDst,
  ctFind4,
  ctFind6,
  ctFlags,
  ctFlows,
  ctHash4,
  ctHash6,
  ctInsert4,
  ctInsert6,
  ctOwn,
  ctPeer,
  ctRemove,
  ctSetFlags,
  ctSetMark,
  ctState,
} from '../tables/conntrack.ts';
import { ctEarlyDrop, ctSweep } from '../tables/conntrack-aging.ts';
import { type Burst, ENTRY_POD, ENTRY_UPLINK } from '../wire/burst.ts';
import { verifyL4 } from '../wire/checksum.ts';
import { ICMP_BYTES, isIcmp4Error, PROTO_ICMP } from '../wire/icmp4.ts';
import { isIcmp6Error, PROTO_ICMPV6 } from '../wire/icmp6.ts';
import { getIpv4HeaderBytes } from '../wire/ipv4.ts';
import { walkBytes, walkExtensionHeaders } from '../wire/ipv6.ts';
import { innerTuple, TUPLE_DPORT, TUPLE_DST, TUPLE_PROTO, TUPLE_SPORT, TUPLE_SRC } from '../wire/quote.ts';
import { REASON_CONNTRACK_FULL, REASON_CT_INSERT_FAILED } from '../wire/reason.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { getUdpChecksum, PROTO_UDP } from '../wire/udp.ts';
import { COUNT_LOOKUPS, COUNT_NEW_FLOWS } from './count.ts';
import { type Datapath, kernelOf } from './datapath.ts';
import { flowPorts, icmpPorts, isIcmp, isIcmpQuery } from './flow-key.ts';
import { findFlow } from './flow-lookup.ts';
import { judgeAssociation, SCTP_MISFIT, SCTP_STATE_BITS } from './netfilter-association.ts';
import { followFlow, MISFITS, REOPENS } from './netfilter-follow.ts';
import { movePort } from './netfilter-nat.ts';
import { FLOW_DST, FLOW_FLAGS, FLOW_LIFE, FLOW_MARK, FLOW_PORTS, FLOW_SRC, FLOW_STATE } from './netfilter-scratch.ts';
import { judgeSegment, segmentLife } from './netfilter-segment.ts';
import {
  FLOW_FRESH,
  plainLife,
  SCTP_LIFE_MS,
  SCTP_NONE,
  TCP_ESTABLISHED,
  TCP_NONE,
  TCP_SYN_SENT,
  TCP_UNACKNOWLEDGED_MS,
  UDP_LIFE_MS,
} from './netfilter-states.ts';
import { hasSoundFlags, SEGMENT_OTHER, segmentOf, TCP_INVALID, tcpFirst } from './netfilter-tcp.ts';
import { beginWindow, W_LAST_END } from './netfilter-window.ts';
import {
  CT_STATE_ESTABLISHED,
  CT_STATE_INVALID,
  CT_STATE_NEW,
  CT_STATE_RELATED,
  CT_STATE_REPLY,
  CT_STATE_UNTRACKED,
  EVENT_CONNTRACK,
  record3,
} from './record.ts';
import { conntrackOf } from './translate.ts';
import { STEP_TO_NODE } from './verdict.ts';

/** Slots that a full shard is swept for expired flows before a living one has to go. */
const SWEEP_SLOTS = 64;

/**
 * Finds the frame's flow, or begins one, and sets lanes `ct` and `ctState`. A frame that NOTRACK has marked, or that
 * carries the node's answer to another frame, comes with its state and keeps it.
 * @returns 0, or minus a drop reason
 */
export function trackPacket(dp: Datapath, b: Burst, s: number): number {
  b.ct[s] = -1;
  if (b.ctState[s] === CT_STATE_UNTRACKED || b.ctState[s] === CT_STATE_RELATED) return noteState(dp, b, s);
  if (b.unverified[s] !== 0 && isSummedWrong(b, s)) return setState(dp, b, s, CT_STATE_INVALID);
  const proto = b.proto[s];
  if (isIcmp(proto)) {
    const type = b.info[s] >>> 8;
    if (proto === PROTO_ICMP ? isIcmp4Error(type) : isIcmp6Error(type)) return trackError(dp, b, s);
    if (proto === PROTO_ICMPV6 && isNeighbourMessage(type)) return setState(dp, b, s, CT_STATE_UNTRACKED);
  } else if (proto === PROTO_TCP && !hasSoundFlags(b.info[s])) {
    return setState(dp, b, s, CT_STATE_INVALID);
  }
  const ports = flowPorts(b, s);
  const ct = conntrackOf(dp, b, s);
  const slot = findFlow(dp, b, s);
  if (slot === -1) return beginFlow(dp, b, s, ports);
  switch (followFlow(dp, b, s, ct, slot)) {
    case REOPENS:
      ctRemove(ct, b.shard[s], slot);
      return beginFlow(dp, b, s, ports);
    case MISFITS:
      return setState(dp, b, s, CT_STATE_INVALID);
  }
  b.ct[s] = slot;
  const flags = ctFlags(ct, slot);
  if ((flags & CT_REPLY) !== 0) {
    if ((flags & CT_SEEN_REPLY) === 0) ctSetFlags(ct, slot, ctPeer(ct, b.shard[s], slot), CT_SEEN_REPLY);
    return setState(dp, b, s, CT_STATE_REPLY);
  }
  return setState(dp, b, s, (flags & CT_SEEN_REPLY) !== 0 ? CT_STATE_ESTABLISHED : CT_STATE_NEW);
}

/**
 * net.netfilter.nf_conntrack_checksum, on by default: what comes in with a wrong transport checksum is INVALID. What the
 * node itself sends is not looked at, and UDP without a checksum is accepted in either family.
 */
function isSummedWrong(b: Burst, s: number): boolean {
  if (b.entry[s] !== ENTRY_POD && b.entry[s] !== ENTRY_UPLINK) return false;
  if (b.proto[s] === PROTO_UDP && getUdpChecksum(b.view, b.l4[s]) === 0) return false;
  return verifyL4(b, s) === 0;
}

function setState(dp: Datapath, b: Burst, s: number, state: number): number {
  b.ctState[s] = state;
  return noteState(dp, b, s);
}

function noteState(dp: Datapath, b: Burst, s: number): number {
  if (!dp.ring.on) return 0;
  const slot = b.ct[s];
  const ct = conntrackOf(dp, b, s);
  const isNew = b.ctState[s] === CT_STATE_NEW && slot === -1;
  const state = slot === -1 ? (isNew ? dp.ports.scratch.flow[FLOW_STATE] : 0) : ctState(ct, slot);
  const reply = slot !== -1 && (ctFlags(ct, slot) & CT_REPLY) !== 0 ? 1 : 0;
  record3(dp.ring, EVENT_CONNTRACK, b.ctState[s], state, reply);
  return 0;
}

/** Listener discovery, router and neighbour messages: conntrack leaves them alone (nf_conntrack_proto_icmpv6.c). */
function isNeighbourMessage(type: number): boolean {
  return (type >= 130 && type <= 136) || type === 143 || type === 151 || type === 152;
}

// ---- an ICMP error ----------------------------------------------------------------------------------------------

/**
 * RELATED: the flow is that of the packet which the error quotes, looked for in the error's own direction, the reverse
 * of the quoted packet's. An error about no known flow, or one addressed to somebody else, is INVALID.
 */
function trackError(dp: Datapath, b: Burst, s: number): number {
  const inner = dp.ports.scratch.inner;
  if (innerTuple(b, s, inner) < 0) return setState(dp, b, s, CT_STATE_INVALID);
  const proto = inner[TUPLE_PROTO];
  let ports = (inner[TUPLE_DPORT] << 16) | inner[TUPLE_SPORT];
  if (isIcmp(proto)) {
    const quoted = icmpPorts(proto, quotedIcmpType(b, s), inner[TUPLE_SPORT]);
    ports = (quoted << 16) | (quoted >>> 16);
  }
  const ct = conntrackOf(dp, b, s);
  dp.counters[COUNT_LOOKUPS]++;
  const slot = findQuotedFlow(ct, b, s, inner, proto, ports);
  if (slot === -1) return setState(dp, b, s, CT_STATE_INVALID);
  if (ctDst(ct, slot, 0) !== b.dst0[s]) return setState(dp, b, s, CT_STATE_INVALID);
  if (b.family[s] === 6) {
    const same =
      ctDst(ct, slot, 1) === b.dst1[s] && ctDst(ct, slot, 2) === b.dst2[s] && ctDst(ct, slot, 3) === b.dst3[s];
    if (!same) return setState(dp, b, s, CT_STATE_INVALID);
  }
  b.ct[s] = slot;
  return setState(dp, b, s, CT_STATE_RELATED);
}

function findQuotedFlow(ct: Conntrack, b: Burst, s: number, inner: Int32Array, proto: number, ports: number): number {
  if (b.family[s] === 4) {
    return ctFind4(ct, b.shard[s], b.node[s], proto, inner[TUPLE_DST], inner[TUPLE_SRC], ports, b.timeMs[s]);
  }
  return ctFind6(
    ct,
    b.shard[s],
    b.node[s],
    proto,
    inner[TUPLE_DST],
    inner[TUPLE_DST + 1],
    inner[TUPLE_DST + 2],
    inner[TUPLE_DST + 3],
    inner[TUPLE_SRC],
    inner[TUPLE_SRC + 1],
    inner[TUPLE_SRC + 2],
    inner[TUPLE_SRC + 3],
    ports,
    b.timeMs[s],
  );
}

/** Type of the ICMP message that an error quotes; `innerTuple` has checked that it is there. */
function quotedIcmpType(b: Burst, s: number): number {
  const l3 = b.l4[s] + ICMP_BYTES;
  if (b.family[s] === 4) return b.view.getUint8(l3 + getIpv4HeaderBytes(b.view, l3));
  return b.view.getUint8(l3 + walkBytes(walkExtensionHeaders(b.view, l3, b.end[s])));
}

// ---- a new flow -------------------------------------------------------------------------------------------------

/** Begins a flow: notes the tuple as it came and what the entry will be; or the frame is INVALID. */
function beginFlow(dp: Datapath, b: Burst, s: number, ports: number): number {
  const flow = dp.ports.scratch.flow;
  const proto = b.proto[s];
  let state = FLOW_FRESH;
  let life = UDP_LIFE_MS;
  if (proto === PROTO_TCP) {
    state = tcpFirst(b.info[s]);
    if (state === TCP_INVALID) return setState(dp, b, s, CT_STATE_INVALID);
    life = firstSegment(dp, b, s, state);
  } else if (proto === PROTO_SCTP) {
    const made = judgeAssociation(dp.ports.scratch.tcp, 0, CT_OWN_WORDS, 0, SCTP_NONE, b, s);
    if ((made & SCTP_MISFIT) !== 0) return setState(dp, b, s, CT_STATE_INVALID);
    state = made & SCTP_STATE_BITS;
    life = SCTP_LIFE_MS[state];
  } else if (isIcmp(proto) && !isIcmpQuery(proto, b.info[s] >>> 8)) {
    return setState(dp, b, s, CT_STATE_INVALID);
  } else if (proto !== PROTO_UDP) life = plainLife(proto, state);
  flow[FLOW_SRC] = b.src0[s];
  flow[FLOW_SRC + 1] = b.src1[s];
  flow[FLOW_SRC + 2] = b.src2[s];
  flow[FLOW_SRC + 3] = b.src3[s];
  flow[FLOW_DST] = b.dst0[s];
  flow[FLOW_DST + 1] = b.dst1[s];
  flow[FLOW_DST + 2] = b.dst2[s];
  flow[FLOW_DST + 3] = b.dst3[s];
  flow[FLOW_PORTS] = ports;
  flow[FLOW_STATE] = state;
  flow[FLOW_LIFE] = life;
  flow[FLOW_FLAGS] = 0;
  flow[FLOW_MARK] = 0;
  if (!hasRoom(dp, b, s, ports)) return -REASON_CONNTRACK_FULL;
  return setState(dp, b, s, CT_STATE_NEW);
}

/** Notes what a connection's first segment tells of its window; its life in ms. */
function firstSegment(dp: Datapath, b: Burst, s: number, state: number): number {
  const words = dp.ports.scratch.tcp;
  const segment = segmentOf(b.info[s]);
  beginWindow(words, 0, CT_OWN_WORDS, b, s, state !== TCP_SYN_SENT, SEGMENT_OTHER);
  // The first segment always fits: there is nothing yet that it could contradict.
  judgeSegment(words, 0, CT_OWN_WORDS, 0, segment, TCP_NONE, 0, kernelOf(dp).tcpBeLiberal, b, s);
  const life = segmentLife(words, 0, CT_OWN_WORDS, segment, state);
  return state === TCP_ESTABLISHED && life > TCP_UNACKNOWLEDGED_MS ? TCP_UNACKNOWLEDGED_MS : life;
}

/** The kernel looks for room before the rules run; a flow that it then refuses has thrown out another all the same. */
function hasRoom(dp: Datapath, b: Burst, s: number, ports: number): boolean {
  const ct = conntrackOf(dp, b, s);
  const shard = b.shard[s];
  const share = Math.ceil(kernelOf(dp).conntrackMax / ct.shards);
  const most = Math.min(share, ct.limit);
  if (ctFlows(ct, shard) < most) return true;
  if (ctSweep(ct, shard, b.timeMs[s], SWEEP_SLOTS) > 0) return true;
  const hash =
    b.family[s] === 4
      ? ctHash4(b.node[s], b.proto[s], b.src0[s], b.dst0[s], ports)
      : ctHash6(
          b.node[s],
          b.proto[s],
          b.src0[s],
          b.src1[s],
          b.src2[s],
          b.src3[s],
          b.dst0[s],
          b.dst1[s],
          b.dst2[s],
          b.dst3[s],
          ports,
        );
  return ctEarlyDrop(ct, shard, hash, b.timeMs[s]) === 1;
}

/**
 * Enters the flow that the frame began; nothing for all other frames.
 * @returns 0, or minus a drop reason
 */
export function confirmFlow(dp: Datapath, b: Burst, s: number): number {
  if (b.ct[s] !== -1 || b.ctState[s] !== CT_STATE_NEW) return 0;
  let slot = insertFlow(dp, b, s);
  if (slot === CT_CLASH) {
    // Another flow has the reply's tuple: the kernel then moves the source port, asked or not.
    const moved = movePort(dp, b, s);
    if (moved < 0) return moved;
    slot = insertFlow(dp, b, s);
  }
  if (slot === CT_FULL) return -REASON_CONNTRACK_FULL;
  if (slot < 0) return -REASON_CT_INSERT_FAILED;
  const mark = dp.ports.scratch.flow[FLOW_MARK];
  const hasOwnWords = b.proto[s] === PROTO_TCP || b.proto[s] === PROTO_SCTP;
  if (mark !== 0 || hasOwnWords) {
    const ct = conntrackOf(dp, b, s);
    const peer = ctPeer(ct, b.shard[s], slot);
    if (hasOwnWords) keepOwnWords(dp, ct, slot, peer);
    if (mark !== 0) ctSetMark(ct, slot, peer, mark);
  }
  b.ct[s] = slot;
  // A frame that crosses from another node has begun its flow there.
  if (b.verdict[s] !== STEP_TO_NODE) dp.counters[COUNT_NEW_FLOWS]++;
  return 0;
}

/** Writes what the first packet told of its window, or association, into the new entry. */
function keepOwnWords(dp: Datapath, ct: Conntrack, slot: number, peer: number): void {
  const words = ct.words;
  const from = dp.ports.scratch.tcp;
  const orig = ctOwn(ct, slot);
  const rep = ctOwn(ct, peer);
  for (let i = 1; i < CT_OWN_WORDS; i++) words[orig + i] = from[i];
  // A connection to itself has one slot: what is known of the last segment goes before what is known of the window.
  for (let i = rep === orig ? W_LAST_END : 1; i < CT_OWN_WORDS; i++) words[rep + i] = from[CT_OWN_WORDS + i];
}

/** Removes the flow that the frame ended (FLOW_REMOVE); the frame has passed by then, translated as long as it lived. */
export function removeFlow(dp: Datapath, b: Burst, s: number): void {
  ctRemove(conntrackOf(dp, b, s), b.shard[s], b.ct[s]);
  b.ct[s] = -1;
}

function insertFlow(dp: Datapath, b: Burst, s: number): number {
  const flow = dp.ports.scratch.flow;
  const now = b.timeMs[s];
  if (b.family[s] === 4) {
    return ctInsert4(
      dp.conntrack4,
      b.shard[s],
      b.node[s],
      b.proto[s],
      flow[FLOW_SRC],
      flow[FLOW_DST],
      flow[FLOW_PORTS],
      b.src0[s],
      b.dst0[s],
      flowPorts(b, s),
      flow[FLOW_STATE],
      flow[FLOW_FLAGS],
      now + flow[FLOW_LIFE],
      now,
    );
  }
  return ctInsert6(
    dp.conntrack6,
    b.shard[s],
    b.node[s],
    b.proto[s],
    flow[FLOW_SRC],
    flow[FLOW_SRC + 1],
    flow[FLOW_SRC + 2],
    flow[FLOW_SRC + 3],
    flow[FLOW_DST],
    flow[FLOW_DST + 1],
    flow[FLOW_DST + 2],
    flow[FLOW_DST + 3],
    flow[FLOW_PORTS],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    flowPorts(b, s),
    flow[FLOW_STATE],
    flow[FLOW_FLAGS],
    now + flow[FLOW_LIFE],
    now,
  );
}
