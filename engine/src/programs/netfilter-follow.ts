/**
 * What a frame makes of the flow it belongs to, protocol by protocol: its state, its flags, and how long it lives on.
 *
 * Guarantees: the slot stays where it is. A packet prolongs its own direction; a new state is written to both, with its
 * life, which may be shorter. TCP, whose life depends on both ends, always writes both. CT_SEEN_REPLY is the caller's to set, after the frame was looked at, as in the kernel.
 */
import {
  type Conntrack,
  CT_ASSURED,
  CT_REPLY,
  CT_SEEN_REPLY,
  ctExpiry,
  ctFlags,
  ctOwn,
  ctPeer,
  ctSetFlags,
  ctSetState,
  ctState,
  ctTouch,
} from '../tables/conntrack.ts';
import type { Burst } from '../wire/burst.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { type Datapath, kernelOf } from './datapath.ts';
import { judgeAssociation, SCTP_KEEPS_TIME, SCTP_MISFIT, SCTP_STATE_BITS } from './netfilter-association.ts';
import { FLOW_REMOVE } from './netfilter-scratch.ts';
import { judgeSegment, segmentLife, TCP_OUT_OF_WINDOW, TCP_REOPEN } from './netfilter-segment.ts';
import {
  FLOW_STREAM,
  PROTO_GRE,
  plainLife,
  SCTP_ESTABLISHED,
  SCTP_LIFE_MS,
  TCP_ESTABLISHED,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_UNACKNOWLEDGED_MS,
  UDP_LIFE_MS,
  UDP_STREAM_AGE_MS,
  UDP_STREAM_LIFE_MS,
} from './netfilter-states.ts';
import { SEGMENT_FIN, SEGMENT_RST, SEGMENT_SYN, segmentOf, TCP_IGNORE, TCP_INVALID } from './netfilter-tcp.ts';
import { lastKind, lastReply, setLastKind } from './netfilter-window.ts';

// Answers of `followFlow`.
export const FITS = 0;
/** The frame is INVALID. */
export const MISFITS = 1;
/** The flow is over; the frame begins a new one. */
export const REOPENS = 2;

/** What the frame makes of its flow: FITS, MISFITS or REOPENS. Prolongs the flow; the slot stays where it is. */
export function followFlow(dp: Datapath, b: Burst, s: number, ct: Conntrack, slot: number): number {
  const proto = b.proto[s];
  const shard = b.shard[s];
  const now = b.timeMs[s];
  if (proto === PROTO_TCP) return followTcp(dp, b, s, ct, slot);
  if (proto === PROTO_UDP) {
    followUdp(ct, shard, slot, now);
    return FITS;
  }
  if (proto === PROTO_SCTP) return followSctp(b, s, ct, slot);
  if (proto === PROTO_GRE) followGre(ct, shard, slot);
  ctTouch(ct, slot, now + plainLife(proto, ctState(ct, slot)));
  return FITS;
}

function followTcp(dp: Datapath, b: Burst, s: number, ct: Conntrack, slot: number): number {
  const shard = b.shard[s];
  const now = b.timeMs[s];
  const flags = ctFlags(ct, slot);
  const old = ctState(ct, slot);
  const peer = ctPeer(ct, shard, slot);
  const reply = (flags & CT_REPLY) === 0 ? 0 : 1;
  const orig = ctOwn(ct, reply === 0 ? slot : peer);
  const rep = ctOwn(ct, reply === 0 ? peer : slot);
  const segment = segmentOf(b.info[s]);
  const next = judgeSegment(ct.words, orig, rep, reply, segment, old, flags, kernelOf(dp).tcpBeLiberal, b, s);
  switch (next) {
    case TCP_IGNORE:
      return FITS;
    case TCP_INVALID:
      return MISFITS;
    case TCP_REOPEN:
      return REOPENS;
    case TCP_OUT_OF_WINDOW:
      hastenEnd(ct, slot, peer, rep, reply, segment, flags, now);
      return MISFITS;
  }
  if (next !== old) ctSetState(ct, slot, peer, next);
  let life = segmentLife(ct.words, orig, rep, segment, next);
  if ((flags & CT_SEEN_REPLY) === 0) {
    // Nobody but a resetting end has been heard: the flow goes as soon as this frame has passed.
    if (segment === SEGMENT_RST) dp.ports.scratch.flow[FLOW_REMOVE] = 1;
    // A repeated SYN keeps no entry alive: somebody else may have its port by then.
    if (segment === SEGMENT_SYN && old === TCP_SYN_SENT) return FITS;
    if (next === TCP_ESTABLISHED && life > TCP_UNACKNOWLEDGED_MS) life = TCP_UNACKNOWLEDGED_MS;
  } else if ((flags & CT_ASSURED) === 0 && next === TCP_ESTABLISHED) {
    if (old === TCP_SYN_RECV || old === TCP_ESTABLISHED) ctSetFlags(ct, slot, peer, CT_ASSURED);
  }
  // Both directions: the kernel has one timer, and the new life may be shorter than what the other direction has.
  ctTouch(ct, slot, now + life);
  ctTouch(ct, peer, now + life);
  return FITS;
}

/** FIN and RST from both ends, outside their windows: conntrack is out of step, and the entry need not last a day. */
function hastenEnd(
  ct: Conntrack,
  slot: number,
  peer: number,
  rep: number,
  reply: number,
  segment: number,
  flags: number,
  now: number,
): void {
  if ((flags & CT_ASSURED) === 0 || (segment !== SEGMENT_RST && segment !== SEGMENT_FIN)) return;
  const last = lastKind(ct.words, rep);
  if (lastReply(ct.words, rep) === reply || (last !== SEGMENT_FIN && last !== SEGMENT_RST)) {
    setLastKind(ct.words, rep, segment, reply);
    return;
  }
  if (((ctExpiry(ct, slot) - now) | 0) <= TCP_UNACKNOWLEDGED_MS) return;
  ctTouch(ct, slot, now + TCP_UNACKNOWLEDGED_MS);
  ctTouch(ct, peer, now + TCP_UNACKNOWLEDGED_MS);
}

/**
 * UDP: 30 s; once answers have been seen and the flow is older than two seconds it is a stream and lives 120 s.
 * An entry has no field for its birth: until it is a stream, the reply direction's expiry is left as it was made, birth
 * plus 30 s, and both directions prolong the original one.
 */
function followUdp(ct: Conntrack, shard: number, slot: number, now: number): void {
  const flags = ctFlags(ct, slot);
  if (ctState(ct, slot) === FLOW_STREAM) {
    ctTouch(ct, slot, now + UDP_STREAM_LIFE_MS);
    return;
  }
  const reply = (flags & CT_REPLY) !== 0;
  if (!reply && (flags & CT_SEEN_REPLY) === 0) {
    ctTouch(ct, slot, now + UDP_LIFE_MS);
    return;
  }
  const peer = ctPeer(ct, shard, slot);
  const birth = ctExpiry(ct, reply ? slot : peer) - UDP_LIFE_MS;
  if ((flags & CT_SEEN_REPLY) === 0 || ((now - birth) | 0) <= UDP_STREAM_AGE_MS) {
    ctTouch(ct, reply ? peer : slot, now + UDP_LIFE_MS);
    return;
  }
  ctSetState(ct, slot, peer, FLOW_STREAM);
  ctSetFlags(ct, slot, peer, CT_ASSURED);
  ctTouch(ct, slot, now + UDP_STREAM_LIFE_MS);
  ctTouch(ct, peer, now + UDP_STREAM_LIFE_MS);
}

function followSctp(b: Burst, s: number, ct: Conntrack, slot: number): number {
  const shard = b.shard[s];
  const flags = ctFlags(ct, slot);
  const reply = (flags & CT_REPLY) === 0 ? 0 : 1;
  const peer = ctPeer(ct, shard, slot);
  const orig = ctOwn(ct, reply === 0 ? slot : peer);
  const rep = ctOwn(ct, reply === 0 ? peer : slot);
  const old = ctState(ct, slot);
  const judged = judgeAssociation(ct.words, orig, rep, reply, old, b, s);
  const next = judged & SCTP_STATE_BITS;
  if (next !== old) ctSetState(ct, slot, peer, next);
  if (next === SCTP_ESTABLISHED && (flags & CT_ASSURED) === 0) ctSetFlags(ct, slot, peer, CT_ASSURED);
  if ((judged & SCTP_MISFIT) !== 0) return MISFITS;
  if ((judged & SCTP_KEEPS_TIME) !== 0) return FITS;
  const expiry = b.timeMs[s] + SCTP_LIFE_MS[next];
  ctTouch(ct, slot, expiry);
  // The new state's life may be shorter than what the other direction still has.
  if (next !== old) ctTouch(ct, peer, expiry);
  return FITS;
}

function followGre(ct: Conntrack, shard: number, slot: number): void {
  if (ctState(ct, slot) === FLOW_STREAM || (ctFlags(ct, slot) & CT_SEEN_REPLY) === 0) return;
  const peer = ctPeer(ct, shard, slot);
  ctSetState(ct, slot, peer, FLOW_STREAM);
  ctSetFlags(ct, slot, peer, CT_ASSURED);
}
