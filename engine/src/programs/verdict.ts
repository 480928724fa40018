/** Verdicts: how a packet's journey ended. A program's step answers 0 to go on, a verdict, or minus a drop reason. */

/** Reached a pod or a node. */
export const VERDICT_DELIVERED = 1;
/** Left toward an address that no pod, node or Service owns. */
export const VERDICT_FORWARDED = 2;
export const VERDICT_DROPPED = 3;
/** An ICMP error or a TCP RST goes back to the sender. */
export const VERDICT_REJECTED = 4;
/** A fragment that waits for the rest of its datagram, in the modes of the kernel; sent on, it enters once more. */
export const VERDICT_HELD = 5;
/** Not an end: the frame goes on to node `node[s]` and enters there by the uplink. Only programs and the journey see it. */
export const STEP_TO_NODE = 6;

export const VERDICT_NAMES = ['none', 'delivered', 'forwarded', 'dropped', 'rejected', 'held'] as const;
export type VerdictName = 'delivered' | 'forwarded' | 'dropped' | 'rejected' | 'held';

/** What rewrote a frame on its way (lane `nat`). */
export const NAT_DESTINATION = 1;
/** The Service path rewrote the source. */
export const NAT_SOURCE = 2;
/** The CNI's outbound masquerade rewrote the source. */
export const NAT_OUTBOUND = 4;
/** A reply was translated back. */
export const NAT_REVERSE = 8;
