/**
 * Matches of `-m conntrack` beyond the state, and of `-m connmark`: what is known of the frame's connection.
 *
 * A frame that begins a connection has one, although it is not entered yet: its original tuple is the one it came with,
 * its replies' tuple the reverse of what it carries now.
 * Without a connection (INVALID, UNTRACKED) those of conntrack hold, inverted or not, because xt_conntrack then asks the
 * state alone; control writes a state in front of them where the rule asks none. Those of connmark do not hold.
 */
import {
  CT_ASSURED,
  CT_REPLY,
  CT_SEEN_REPLY,
  ctDst,
  ctExpiry,
  ctFlags,
  ctPeer,
  ctPorts,
  ctSrc,
  ctXDst,
  ctXPorts,
  ctXSrc,
} from '../tables/conntrack.ts';
import {
  CTSTATUS_ASSURED,
  CTSTATUS_CONFIRMED,
  CTSTATUS_SEEN_REPLY,
  MATCH_CTADDR4,
  MATCH_CTADDR6,
  MATCH_CTDIR,
  MATCH_CTEXPIRE,
  MATCH_CTPORT,
  MATCH_CTPROTO,
  MATCH_CTSTATUS,
  TUPLE_ORIG_DST,
  TUPLE_ORIG_SRC,
  TUPLE_REPL_SRC,
} from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { connmarkOf } from './connmark.ts';
import type { Datapath } from './datapath.ts';
import { FLOW_DST, FLOW_LIFE, FLOW_PORTS, FLOW_SRC } from './netfilter-scratch.ts';
import { CT_STATE_NEW } from './record.ts';
import { conntrackOf } from './translate.ts';

/** True if the frame has a connection, entered or begun. */
export function hasFlow(b: Burst, s: number): boolean {
  return b.ct[s] !== -1 || b.ctState[s] === CT_STATE_NEW;
}

/** A match of MATCH_CTSTATUS to MATCH_CTEXPIRE at word `m`, its inversion counted. */
export function holdsFlow(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  m: number,
  op: number,
  invert: boolean,
): boolean {
  if (!hasFlow(b, s)) return true;
  switch (op) {
    case MATCH_CTSTATUS:
      return ((flowStatus(dp, b, s) & words[m + 1]) !== 0) !== invert;
    case MATCH_CTDIR:
      return ((isReply(dp, b, s) ? 1 : 0) === words[m + 1]) !== invert;
    case MATCH_CTPROTO:
      return (b.proto[s] === words[m + 1]) !== invert;
    case MATCH_CTADDR4:
      return ((tupleWord(dp, b, s, words[m + 1], 0) & words[m + 3]) === words[m + 2]) !== invert;
    case MATCH_CTADDR6:
      return holdsTuple6(dp, b, s, words, m) !== invert;
    case MATCH_CTPORT: {
      const port = tuplePort(dp, b, s, words[m + 1]);
      return (port >= words[m + 2] && port <= words[m + 3]) !== invert;
    }
    case MATCH_CTEXPIRE: {
      const left = secondsLeft(dp, b, s);
      return (left >= words[m + 1] && left <= words[m + 2]) !== invert;
    }
  }
  return false;
}

/** MATCH_CONNMARK, its inversion counted. */
export function holdsConnmark(
  dp: Datapath,
  b: Burst,
  s: number,
  value: number,
  mask: number,
  invert: boolean,
): boolean {
  return hasFlow(b, s) && ((connmarkOf(dp, b, s) & mask) === value) !== invert;
}

function holdsTuple6(dp: Datapath, b: Burst, s: number, words: Int32Array, m: number): boolean {
  for (let i = 0; i < 4; i++) {
    if ((tupleWord(dp, b, s, words[m + 1], i) & words[m + 6 + i]) !== words[m + 2 + i]) return false;
  }
  return true;
}

/** True if the frame travels against its connection's first one. */
export function isReply(dp: Datapath, b: Burst, s: number): boolean {
  return b.ct[s] !== -1 && (ctFlags(conntrackOf(dp, b, s), b.ct[s]) & CT_REPLY) !== 0;
}

/** CTSTATUS_… bits of the frame's connection. */
export function flowStatus(dp: Datapath, b: Burst, s: number): number {
  if (b.ct[s] === -1) return 0;
  const flags = ctFlags(conntrackOf(dp, b, s), b.ct[s]);
  let status = CTSTATUS_CONFIRMED;
  if ((flags & CT_SEEN_REPLY) !== 0) status |= CTSTATUS_SEEN_REPLY;
  if ((flags & CT_ASSURED) !== 0) status |= CTSTATUS_ASSURED;
  return status;
}

/** Word `i` of one of the four addresses (TUPLE_…) of the frame's connection. */
export function tupleWord(dp: Datapath, b: Burst, s: number, which: number, i: number): number {
  const slot = b.ct[s];
  if (slot === -1) {
    const flow = dp.ports.scratch.flow;
    if (which === TUPLE_ORIG_SRC) return flow[FLOW_SRC + i];
    if (which === TUPLE_ORIG_DST) return flow[FLOW_DST + i];
    return which === TUPLE_REPL_SRC ? destinationWord(b, s, i) : sourceWord(b, s, i);
  }
  const ct = conntrackOf(dp, b, s);
  // A slot holds what its direction carries before and after translation: the other direction's tuple reversed.
  const reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  if (which === TUPLE_ORIG_SRC) return reply ? ctXDst(ct, slot, i) : ctSrc(ct, slot, i);
  if (which === TUPLE_ORIG_DST) return reply ? ctXSrc(ct, slot, i) : ctDst(ct, slot, i);
  if (which === TUPLE_REPL_SRC) return reply ? ctSrc(ct, slot, i) : ctXDst(ct, slot, i);
  return reply ? ctDst(ct, slot, i) : ctXSrc(ct, slot, i);
}

/** One of the four ports (TUPLE_…) of the frame's connection. */
export function tuplePort(dp: Datapath, b: Burst, s: number, which: number): number {
  const slot = b.ct[s];
  if (slot === -1) {
    const ports = dp.ports.scratch.flow[FLOW_PORTS];
    if (which === TUPLE_ORIG_SRC) return ports >>> 16;
    if (which === TUPLE_ORIG_DST) return ports & 0xffff;
    return which === TUPLE_REPL_SRC ? b.dport[s] : b.sport[s];
  }
  const ct = conntrackOf(dp, b, s);
  const reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  const own = ctPorts(ct, slot);
  const after = ctXPorts(ct, slot);
  if (which === TUPLE_ORIG_SRC) return reply ? after & 0xffff : own >>> 16;
  if (which === TUPLE_ORIG_DST) return reply ? after >>> 16 : own & 0xffff;
  if (which === TUPLE_REPL_SRC) return reply ? own >>> 16 : after & 0xffff;
  return reply ? own & 0xffff : after >>> 16;
}

/** Whole seconds until the connection expires; a connection expires when both its directions have. */
function secondsLeft(dp: Datapath, b: Burst, s: number): number {
  const slot = b.ct[s];
  if (slot === -1) return Math.trunc(dp.ports.scratch.flow[FLOW_LIFE] / 1000);
  const ct = conntrackOf(dp, b, s);
  const now = b.timeMs[s];
  const own = (ctExpiry(ct, slot) - now) | 0;
  const other = (ctExpiry(ct, ctPeer(ct, b.shard[s], slot)) - now) | 0;
  return Math.trunc(Math.max(own, other, 0) / 1000);
}

function sourceWord(b: Burst, s: number, i: number): number {
  switch (i) {
    case 0:
      return b.src0[s];
    case 1:
      return b.src1[s];
    case 2:
      return b.src2[s];
  }
  return b.src3[s];
}

function destinationWord(b: Burst, s: number, i: number): number {
  switch (i) {
    case 0:
      return b.dst0[s];
    case 1:
      return b.dst1[s];
    case 2:
      return b.dst2[s];
  }
  return b.dst3[s];
}
