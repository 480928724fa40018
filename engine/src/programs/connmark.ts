/**
 * The mark of a connection (CONNMARK, `ct mark`): read and written by rules, kept in both directions of the flow.
 *
 * A flow that its first frame begins has its mark in scratch (FLOW_MARK) until `confirmFlow` enters it. Without a
 * connection there is no mark: it reads as 0 and writing changes nothing.
 */
import { ctMark, ctPeer, ctSetMark } from '../tables/conntrack.ts';
import { CONNMARK_RESTORE, CONNMARK_SAVE } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { FLOW_MARK } from './netfilter-scratch.ts';
import { CT_STATE_NEW } from './record.ts';
import { conntrackOf } from './translate.ts';

/** The mark of the frame's connection, 0 without one. */
export function connmarkOf(dp: Datapath, b: Burst, s: number): number {
  if (b.ct[s] !== -1) return ctMark(conntrackOf(dp, b, s), b.ct[s]);
  return b.ctState[s] === CT_STATE_NEW ? dp.ports.scratch.flow[FLOW_MARK] : 0;
}

/** Sets the mark of the frame's connection. */
export function setConnmark(dp: Datapath, b: Burst, s: number, mark: number): void {
  const slot = b.ct[s];
  if (slot !== -1) {
    const ct = conntrackOf(dp, b, s);
    ctSetMark(ct, slot, ctPeer(ct, b.shard[s], slot), mark);
  } else if (b.ctState[s] === CT_STATE_NEW) dp.ports.scratch.flow[FLOW_MARK] = mark;
}

/** TARGET_CONNMARK: `how` is CONNMARK_…, `x` and `y` its arguments. */
export function applyConnmark(dp: Datapath, b: Burst, s: number, how: number, x: number, y: number): void {
  const mark = connmarkOf(dp, b, s);
  if (how === CONNMARK_RESTORE) {
    // The packet of no connection keeps its mark (xt_connmark).
    if (b.ct[s] !== -1 || b.ctState[s] === CT_STATE_NEW) b.mark[s] = (b.mark[s] & ~x) ^ (mark & y);
  } else if (how === CONNMARK_SAVE) setConnmark(dp, b, s, (mark & ~y) ^ (b.mark[s] & x));
  else setConnmark(dp, b, s, (mark & ~y) ^ x);
}
