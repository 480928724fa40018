/**
 * Scratch of the netfilter programs: what one frame leaves behind for a later step of its pass through one node.
 *
 * One frame is in one node at a time, so one record a thread is enough. Nothing here outlives the pass; everything that
 * does is in the tables. `flow` is written by `trackPacket`; its words:
 *
 *     0–3   source as the frame came        4–7   destination as the frame came
 *     8     ports word as the frame came (flow-key.ts)
 *     9     protocol state that the new entry will get     10    CT_* flags that the new entry will get
 *     11    life of the new entry in ms                    12    1: the entry goes when the frame has passed
 *     13    class of the interface it came in by (IFACE_*, 0 none)    14    of the one it leaves by
 *     16    number of the interface it came in by, of a node that has numbers (interface.ts; NO_DEVICE none)
 *     17    of the one it leaves by                        18    HOOK_* whose rules are walked
 *     19    mark that the new entry will get (connmark.ts)
 *
 * `tcp` holds what the new entry's own words will be (netfilter-window.ts), of both directions.
 */
import { CT_OWN_WORDS } from '../tables/conntrack.ts';
import { TUPLE_WORDS } from '../wire/quote.ts';

export const FLOW_SRC = 0;
export const FLOW_DST = 4;
export const FLOW_PORTS = 8;
export const FLOW_STATE = 9;
export const FLOW_FLAGS = 10;
export const FLOW_LIFE = 11;
export const FLOW_REMOVE = 12;
export const FLOW_IN = 13;
export const FLOW_OUT = 14;
export const FLOW_IN_DEVICE = 16;
export const FLOW_OUT_DEVICE = 17;
export const FLOW_HOOK = 18;
export const FLOW_MARK = 19;
const FLOW_WORDS = 24;

/** Rules may jump this deep; the kernel sizes its stack by the rules, a loop would be the only way beyond. */
export const RULE_STACK = 64;

export interface NetfilterScratch {
  readonly flow: Int32Array;
  readonly tcp: Int32Array;
  /** Where the rule walk goes on when a chain ends. */
  readonly stack: Int32Array;
  /** The packet that an ICMP error quotes, and the addresses around it (layout of wire/quote.ts). */
  readonly inner: Int32Array;
  readonly outer: Int32Array;
}

export function createNetfilterScratch(): NetfilterScratch {
  return {
    flow: new Int32Array(FLOW_WORDS),
    tcp: new Int32Array(2 * CT_OWN_WORDS),
    stack: new Int32Array(RULE_STACK),
    inner: new Int32Array(TUPLE_WORDS),
    outer: new Int32Array(TUPLE_WORDS),
  };
}
