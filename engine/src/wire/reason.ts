/**
 * The registry of reasons: why a frame was dropped or rejected. One list; metrics, API, CLI and docs are made from it.
 *
 * Numbers 130 to 205 are those of Cilium's drop_reasons.h where the meaning is the same, so that a Hubble drop and a
 * flatpath drop can be compared. Others are flatpath's: from 1 for what netfilter does, from 64 for the emulator's own
 * bounds. A number is never reused. On the packet path a step answers `-number`.
 */

export interface Reason {
  readonly number: number;
  /** Name in kebab case, as `expect.reason` and the metrics' label carry it. */
  readonly name: string;
  readonly sentence: string;
}

export const REASON_RULE_DROP = 1;
export const REASON_RULE_REJECT = 2;
export const REASON_CHAIN_POLICY = 3;
export const REASON_MARTIAN = 4;
export const REASON_CONNTRACK_FULL = 5;
export const REASON_RULE_LOOP = 6;
export const REASON_NO_REPLY_ROUTE = 7;
export const REASON_FRAGMENT_OVERLAP = 8;
export const REASON_FRAGMENT_DUPLICATE = 9;
export const REASON_FRAGMENTS_FULL = 10;
export const REASON_REAL_SERVER_GONE = 11;
export const REASON_CONNECTION_REPLACED = 12;
export const REASON_HOP_LIMIT = 64;
export const REASON_FRAME_TOO_LARGE = 65;
export const REASON_WORKER_LOST = 66;
export const REASON_NODE_NOT_COMPILED = 67;
export const REASON_INVALID_SOURCE = 132;
export const REASON_POLICY_DENIED = 133;
export const REASON_INVALID_PACKET = 134;
export const REASON_CT_TRUNCATED = 135;
export const REASON_UNSUPPORTED_L3 = 139;
export const REASON_UNKNOWN_L4 = 142;
export const REASON_UNROUTABLE = 151;
export const REASON_L3_CHECKSUM = 153;
export const REASON_L4_CHECKSUM = 154;
export const REASON_CT_INSERT_FAILED = 155;
export const REASON_INVALID_EXTENSION_HEADER = 156;
export const REASON_FRAGMENT_UNSUPPORTED = 157;
export const REASON_NO_BACKEND = 158;
export const REASON_UNSUPPORTED_SERVICE_PROTO = 159;
export const REASON_UNSUPPORTED_L2 = 166;
export const REASON_NO_NAT_MAPPING = 167;
export const REASON_NAT_UNSUPPORTED_PROTO = 168;
export const REASON_IS_CLUSTER_IP = 174;
export const REASON_FRAGMENT_FIRST_MISSING = 175;
export const REASON_NOT_IN_SOURCE_RANGE = 177;
export const REASON_TTL_EXCEEDED = 196;

export const REASONS: readonly Reason[] = [
  { number: REASON_RULE_DROP, name: 'rule-drop', sentence: 'a rule with target DROP matched' },
  { number: REASON_RULE_REJECT, name: 'rule-reject', sentence: 'a rule with target REJECT matched' },
  { number: REASON_CHAIN_POLICY, name: 'chain-policy', sentence: 'the policy of a base chain is DROP' },
  { number: REASON_MARTIAN, name: 'martian', sentence: 'the kernel refuses this address on this interface' },
  { number: REASON_CONNTRACK_FULL, name: 'conntrack-full', sentence: 'the connection table is full' },
  { number: REASON_RULE_LOOP, name: 'rule-loop', sentence: 'rules jump deeper than the kernel allows' },
  { number: REASON_NO_REPLY_ROUTE, name: 'no-reply-route', sentence: 'a reply would leave without translation' },
  {
    number: REASON_FRAGMENT_OVERLAP,
    name: 'fragment-overlap',
    sentence: 'two fragments of a datagram overlap, and all of it goes',
  },
  { number: REASON_FRAGMENT_DUPLICATE, name: 'fragment-duplicate', sentence: 'a fragment that has come already' },
  { number: REASON_FRAGMENTS_FULL, name: 'fragments-full', sentence: 'no room to hold another fragment' },
  {
    number: REASON_REAL_SERVER_GONE,
    name: 'real-server-gone',
    sentence: 'the real server of this IPVS connection was removed',
  },
  {
    number: REASON_CONNECTION_REPLACED,
    name: 'connection-replaced',
    sentence: 'an IPVS connection that is over stood in the way of a new one; repeated, it is scheduled',
  },
  { number: REASON_HOP_LIMIT, name: 'hop-limit', sentence: 'the frame crossed more nodes than a cluster path has' },
  { number: REASON_FRAME_TOO_LARGE, name: 'frame-too-large', sentence: 'the frame is longer than a slot' },
  { number: REASON_WORKER_LOST, name: 'worker-lost', sentence: 'the worker that held the frame died' },
  {
    number: REASON_NODE_NOT_COMPILED,
    name: 'node-not-compiled',
    sentence: 'the image holds no rules or maps of the node that the frame came to',
  },
  { number: REASON_INVALID_SOURCE, name: 'invalid-source', sentence: 'the source address is not the sender’s' },
  { number: REASON_POLICY_DENIED, name: 'policy-denied', sentence: 'a policy does not allow it' },
  { number: REASON_INVALID_PACKET, name: 'invalid-packet', sentence: 'lengths or versions in the headers are wrong' },
  { number: REASON_CT_TRUNCATED, name: 'truncated-l4', sentence: 'the transport header is cut off or lies' },
  { number: REASON_UNSUPPORTED_L3, name: 'unsupported-l3', sentence: 'not IPv4 or IPv6' },
  { number: REASON_UNKNOWN_L4, name: 'unknown-l4', sentence: 'a transport protocol that the datapath does not carry' },
  { number: REASON_UNROUTABLE, name: 'unroutable', sentence: 'no route to the destination' },
  { number: REASON_L3_CHECKSUM, name: 'l3-checksum', sentence: 'the IPv4 header checksum is wrong' },
  { number: REASON_L4_CHECKSUM, name: 'l4-checksum', sentence: 'the transport checksum is wrong' },
  { number: REASON_CT_INSERT_FAILED, name: 'ct-insert-failed', sentence: 'the connection could not be entered' },
  {
    number: REASON_INVALID_EXTENSION_HEADER,
    name: 'invalid-extension-header',
    sentence: 'an IPv6 extension header lies',
  },
  {
    number: REASON_FRAGMENT_UNSUPPORTED,
    name: 'fragment-unsupported',
    sentence: 'the datapath does not carry fragments',
  },
  { number: REASON_NO_BACKEND, name: 'no-service-backend', sentence: 'the Service has no usable backend' },
  {
    number: REASON_UNSUPPORTED_SERVICE_PROTO,
    name: 'unsupported-service-protocol',
    sentence: 'the Service cannot be reached with this protocol',
  },
  { number: REASON_UNSUPPORTED_L2, name: 'unsupported-l2', sentence: 'the Ethernet header is cut off' },
  { number: REASON_NO_NAT_MAPPING, name: 'no-nat-mapping', sentence: 'no free port to masquerade with' },
  {
    number: REASON_NAT_UNSUPPORTED_PROTO,
    name: 'nat-unsupported-protocol',
    sentence: 'this protocol cannot be masqueraded',
  },
  { number: REASON_IS_CLUSTER_IP, name: 'is-cluster-ip', sentence: 'a ClusterIP is not served to the outside' },
  {
    number: REASON_FRAGMENT_FIRST_MISSING,
    name: 'fragment-first-missing',
    sentence: 'a later fragment whose first was not seen',
  },
  {
    number: REASON_NOT_IN_SOURCE_RANGE,
    name: 'not-in-source-range',
    sentence: 'the client is outside loadBalancerSourceRanges',
  },
  { number: REASON_TTL_EXCEEDED, name: 'ttl-exceeded', sentence: 'the time to live ran out' },
];

const byNumber = new Map(REASONS.map((reason) => [reason.number, reason]));

/** Name of a reason by its number; `none` for 0. */
export function reasonName(number: number): string {
  return number === 0 ? 'none' : (byNumber.get(number)?.name ?? `reason-${number}`);
}

/** The registry's entry of a number, if there is one. */
export function findReason(number: number): Reason | undefined {
  return byNumber.get(number);
}
