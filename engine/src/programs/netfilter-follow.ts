/**
 * What a frame makes of the flow it belongs to, protocol by protocol: its state, its flags, and how long it lives on.
 *
 * Guarantees: the slot stays where it is. A packet prolongs its own direction; a new state is written to both, with its
 * life, which may be shorter. CT_SEEN_REPLY is the caller's to set, after the frame was looked at, as in the kernel.
 */
import {
  type Conntrack,
  CT_ASSURED,
  CT_REPLY,
  CT_SEEN_REPLY,
  ctExpiry,
  ctFlags,
  ctPeer,
  ctSetFlags,
  ctSetState,
  ctState,
  ctTouch,
} from '../tables/conntrack.ts';
import { type Burst, FRAG_LATER } from '../wire/burst.ts';
import { PROTO_SCTP, SCTP_INIT } from '../wire/sctp.ts';
import { PROTO_TCP, TCP_RST } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import type { Datapath } from './datapath.ts';
import { FLOW_REMOVE } from './netfilter-scratch.ts';
import { SCTP_INVALID, sctpTransition } from './netfilter-sctp.ts';
import {
  FLOW_STREAM,
  PROTO_GRE,
  plainLife,
  SCTP_CLOSED,
  SCTP_COOKIE_ECHOED,
  SCTP_ESTABLISHED,
  SCTP_LIFE_MS,
  TCP_ESTABLISHED,
  TCP_LIFE_MS,
  TCP_SYN_RECV,
  TCP_UNACKNOWLEDGED_MS,
  UDP_LIFE_MS,
  UDP_STREAM_AGE_MS,
  UDP_STREAM_LIFE_MS,
} from './netfilter-states.ts';
import { TCP_IGNORE, TCP_INVALID, TCP_REOPEN, tcpNewFlags, tcpTransition } from './netfilter-tcp.ts';

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
  if (proto === PROTO_TCP) {
    if (b.frag[s] !== FRAG_LATER) return followTcp(dp, ct, shard, slot, b.info[s], now);
    ctTouch(ct, slot, now + tcpLife(ctState(ct, slot), ctFlags(ct, slot)));
    return FITS;
  }
  if (proto === PROTO_UDP) {
    followUdp(ct, shard, slot, now);
    return FITS;
  }
  if (proto === PROTO_SCTP) {
    if (b.frag[s] !== FRAG_LATER) return followSctp(ct, shard, slot, b.info[s], now);
    ctTouch(ct, slot, now + SCTP_LIFE_MS[ctState(ct, slot)]);
    return FITS;
  }
  if (proto === PROTO_GRE) followGre(ct, shard, slot);
  ctTouch(ct, slot, now + plainLife(proto, ctState(ct, slot)));
  return FITS;
}

/** Life of a TCP flow in ms: one that was picked up and not answered yet does not get a day. */
export function tcpLife(state: number, flags: number): number {
  if (state === TCP_ESTABLISHED && (flags & CT_SEEN_REPLY) === 0) return TCP_UNACKNOWLEDGED_MS;
  return TCP_LIFE_MS[state];
}

function followTcp(dp: Datapath, ct: Conntrack, shard: number, slot: number, segment: number, now: number): number {
  const flags = ctFlags(ct, slot);
  const state = ctState(ct, slot);
  const reply = (flags & CT_REPLY) === 0 ? 0 : 1;
  const next = tcpTransition(reply, segment, state, flags);
  if (next === TCP_IGNORE) return FITS;
  if (next === TCP_INVALID) return MISFITS;
  if (next === TCP_REOPEN) return REOPENS;
  let gained = tcpNewFlags(reply, segment, state, next);
  const seenReply = (flags & CT_SEEN_REPLY) !== 0;
  if (next === TCP_ESTABLISHED && seenReply && (state === TCP_SYN_RECV || state === TCP_ESTABLISHED)) {
    gained |= CT_ASSURED;
  }
  // Nobody but a resetting end has been heard: the flow goes as soon as this frame has passed.
  if (!seenReply && (segment & TCP_RST) !== 0) dp.ports.scratch.flow[FLOW_REMOVE] = 1;
  const expiry = now + tcpLife(next, flags);
  if (next === state && (flags & gained) === gained) {
    ctTouch(ct, slot, expiry);
    return FITS;
  }
  const peer = ctPeer(ct, shard, slot);
  ctSetState(ct, slot, peer, next);
  ctSetFlags(ct, slot, peer, gained);
  // Both directions: the new state's life may be shorter than what the other one still has.
  ctTouch(ct, slot, expiry);
  ctTouch(ct, peer, expiry);
  return FITS;
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

function followSctp(ct: Conntrack, shard: number, slot: number, chunk: number, now: number): number {
  const reply = (ctFlags(ct, slot) & CT_REPLY) === 0 ? 0 : 1;
  const state = ctState(ct, slot);
  const next = sctpTransition(reply, chunk, state);
  if (next === SCTP_INVALID) return MISFITS;
  // A repeated INIT must not keep a closed association's entry, and its translation, for ever.
  if (next === SCTP_CLOSED && state === SCTP_CLOSED && chunk === SCTP_INIT) return FITS;
  const expiry = now + SCTP_LIFE_MS[next];
  ctTouch(ct, slot, expiry);
  if (next === state) return FITS;
  const peer = ctPeer(ct, shard, slot);
  ctSetState(ct, slot, peer, next);
  ctTouch(ct, peer, expiry);
  if (state === SCTP_COOKIE_ECHOED && next === SCTP_ESTABLISHED && reply === 1) ctSetFlags(ct, slot, peer, CT_ASSURED);
  return FITS;
}

function followGre(ct: Conntrack, shard: number, slot: number): void {
  if (ctState(ct, slot) === FLOW_STREAM || (ctFlags(ct, slot) & CT_SEEN_REPLY) === 0) return;
  const peer = ctPeer(ct, shard, slot);
  ctSetState(ct, slot, peer, FLOW_STREAM);
  ctSetFlags(ct, slot, peer, CT_ASSURED);
}
