/**
 * The recorder: event codes and the calls by which a running program tells what it does.
 *
 * Every call stands behind `if (ring.on)`, so a program without a listener pays one load and one branch. The events
 * are the whole material of `trace`: explanations are made from them and never from a second look at the objects.
 */

import { beginEvent, type EventRing } from '../tables/event-ring.ts';
import type { Burst } from '../wire/burst.ts';

/** Operands: node, entry (ENTRY_…), endpoint. The frame enters a node. */
export const EVENT_ENTER = 1;
/** Operands: family, proto, src 0-3, dst 0-3, sport, dport. The tuple as it is now. */
export const EVENT_TUPLE = 2;
/** Operands: hook, table. A base chain is entered. */
export const EVENT_HOOK = 3;
/** Operands: rule id, rules walked in this hook so far. A rule matched. */
export const EVENT_RULE = 4;
/** Operands: hook, table (nftables: chain id), policy target. A base chain came to its end. */
export const EVENT_POLICY = 5;
/** Operands: CT_STATE_… of the packet, protocol state (0 none), 1 when it is the reply direction. */
export const EVENT_CONNTRACK = 6;
/** Operands: rule id or map row that chose, options, taken. */
export const EVENT_CHOICE = 7;
/** Operands: map id (MAP_… of the mode), row (-1: no entry). */
export const EVENT_MAP = 8;
/** Operands: NAT_… flag. The tuple was rewritten; an EVENT_TUPLE follows. */
export const EVENT_NAT = 9;
/** Operands: ROUTE_… answer, index (endpoint or node; -1 none). */
export const EVENT_ROUTE = 10;
/** Operands: verdict, reason. */
export const EVENT_VERDICT = 11;
/** Operands: chain id, hook. A base chain of nftables is entered. */
export const EVENT_BASE_CHAIN = 12;

/** Operands: 0 in, 1 out; number of an interface (interface.ts), -1 none. Of a node that has numbers only. */
export const EVENT_INTERFACE = 13;

/** State of a packet for its conntrack: EVENT_CONNTRACK and lane `ctState`. */
export const CT_STATE_NONE = 0;
export const CT_STATE_NEW = 1;
export const CT_STATE_ESTABLISHED = 2;
export const CT_STATE_REPLY = 3;
export const CT_STATE_RELATED = 4;
export const CT_STATE_INVALID = 5;
export const CT_STATE_UNTRACKED = 6;

export function record1(ring: EventRing, code: number, a: number): void {
  const at = beginEvent(ring, code, 1);
  if (at >= 0) ring.words[at] = a;
}

export function record2(ring: EventRing, code: number, a: number, b: number): void {
  const at = beginEvent(ring, code, 2);
  if (at < 0) return;
  ring.words[at] = a;
  ring.words[at + 1] = b;
}

export function record3(ring: EventRing, code: number, a: number, b: number, c: number): void {
  const at = beginEvent(ring, code, 3);
  if (at < 0) return;
  ring.words[at] = a;
  ring.words[at + 1] = b;
  ring.words[at + 2] = c;
}

/** Writes the frame's tuple as it stands in the lanes. */
export function recordTuple(ring: EventRing, b: Burst, s: number): void {
  const at = beginEvent(ring, EVENT_TUPLE, 12);
  if (at < 0) return;
  const words = ring.words;
  words[at] = b.family[s];
  words[at + 1] = b.proto[s];
  words[at + 2] = b.src0[s];
  words[at + 3] = b.src1[s];
  words[at + 4] = b.src2[s];
  words[at + 5] = b.src3[s];
  words[at + 6] = b.dst0[s];
  words[at + 7] = b.dst1[s];
  words[at + 8] = b.dst2[s];
  words[at + 9] = b.dst3[s];
  words[at + 10] = b.sport[s];
  words[at + 11] = b.dport[s];
}
