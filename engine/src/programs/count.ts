/**
 * What a datapath counts: one Float64Array lane per counter, owned by the thread that runs the datapath.
 *
 * Conservation: COUNT_ENTERED equals the sum over `countOf(verdict, reason)` whenever no frame is in flight.
 */

/** Frames that entered the cluster: from streams, responders, injection, answers of rejecting nodes, fragments sent on. */
export const COUNT_ENTERED = 0;
export const COUNT_BYTES = 1;
/** Connections entered into a conntrack as new, per frame that began one (not per node). */
export const COUNT_NEW_FLOWS = 2;
/** Rules that the interpreter walked over, matching or not. */
export const COUNT_RULES = 3;
/** Table and map lookups: conntrack, routes, frontends, backends, affinity, sets. */
export const COUNT_LOOKUPS = 4;
/** Passes through a node's program; a frame over two nodes makes two. */
export const COUNT_HOPS = 5;
/** Choices of a backend. */
export const COUNT_CHOICES = 6;
/** Entries that a full LRU conntrack gave up for new ones. */
export const COUNT_EVICTIONS = 7;
/** Replies and rejections answered on behalf of pods and nodes, contained in COUNT_ENTERED. */
export const COUNT_ANSWERS = 8;
/** Held fragments that went without their datagram: it was never whole, or its pieces did not fit. */
export const COUNT_FRAGMENTS_LOST = 9;

const VERDICT_BASE = 16;
const REASON_SPAN = 256;
const VERDICTS = 6;

export const COUNTERS = VERDICT_BASE + VERDICTS * REASON_SPAN;

/** Counter of frames that ended with a verdict and reason number (0 to 255). */
export function countOf(verdict: number, reason: number): number {
  return VERDICT_BASE + verdict * REASON_SPAN + reason;
}
