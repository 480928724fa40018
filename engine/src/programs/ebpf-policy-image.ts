/**
 * Policies in the ebpf mode's image: who an address is, and what each pod lets pass.
 *
 *     ipcache4, ipcache6   prefix -> identity row, by longest prefix: addresses of pods and nodes, CIDRs of policies
 *     identities           rows of ID_WORDS words; row 0 is the outside that no CIDR of a policy names
 *       +0 peer            number in the policy maps: identities that no rule of any policy tells apart share it
 *       +1 node            node whose address it is, -1 for others
 *     ingress, egress      policy map of each endpoint, -1 where no policy selects it for the direction
 *     maps                 (map, peer, protocol, port) -> decision = judgement row << 1 | 1 where it is denied
 *                          (tables/policy-map.ts)
 *
 * One identity row is a label set or a node or a CIDR, and the CIDR of a policy that holds the address where CIDRs match
 * the cluster's own addresses. Tiers, priorities, passes, isolation, ranges and named ports are all worked out by the
 * compiler: a judged direction costs three lookups (ipcache, peer, port) whatever the number of policies. Rows that decide
 * lead back to policy, rule and peer.
 *
 * Written by the compiler only, read by all; a change is a new image, so no frame is judged by half a policy.
 */
import { attachLpm4, type Lpm4 } from '../tables/lpm4.ts';
import { attachLpm6, type Lpm6 } from '../tables/lpm6.ts';
import { attachPolicyMaps, type PolicyMaps, type PolicyMapsParts, policyMapsParts } from '../tables/policy-map.ts';

// Options (`EbpfPolicy.options`).
/** What a pod sends to its own node is judged. */
export const POLICY_JUDGES_OWN_NODE = 1;
/** What a pod sends to itself is judged. */
export const POLICY_JUDGES_HAIRPIN = 2;
/** Flows that were allowed once stay so; without it each of their frames is judged. Replies always pass. */
export const POLICY_KEEPS_FLOWS = 4;

/** The row of an address that the ipcache does not hold. */
export const IDENTITY_WORLD = 0;

export const ID_PEER = 0;
export const ID_NODE = 1;
export const ID_WORDS = 2;

export interface EbpfPolicy {
  /** POLICY_… bits. */
  readonly options: number;
  readonly ipcache4: Lpm4;
  readonly ipcache6: Lpm6;
  readonly identities: Int32Array<SharedArrayBuffer>;
  readonly ingress: Int32Array<SharedArrayBuffer>;
  readonly egress: Int32Array<SharedArrayBuffer>;
  readonly maps: PolicyMaps;
}

/** What another thread needs to attach it. */
export interface EbpfPolicyParts {
  readonly options: number;
  readonly ipcache4: SharedArrayBuffer;
  readonly ipcache6: SharedArrayBuffer;
  readonly identities: SharedArrayBuffer;
  readonly ingress: SharedArrayBuffer;
  readonly egress: SharedArrayBuffer;
  readonly maps: PolicyMapsParts;
}

/** @throws TypeError if a buffer does not hold its table */
export function attachEbpfPolicy(parts: EbpfPolicyParts): EbpfPolicy {
  return {
    options: parts.options,
    ipcache4: attachLpm4(parts.ipcache4),
    ipcache6: attachLpm6(parts.ipcache6),
    identities: new Int32Array(parts.identities),
    ingress: new Int32Array(parts.ingress),
    egress: new Int32Array(parts.egress),
    maps: attachPolicyMaps(parts.maps),
  };
}

/** Takes it apart for `attachEbpfPolicy`. */
export function ebpfPolicyParts(policy: EbpfPolicy): EbpfPolicyParts {
  return {
    options: policy.options,
    ipcache4: policy.ipcache4.buffer,
    ipcache6: policy.ipcache6.buffer,
    identities: policy.identities.buffer,
    ingress: policy.ingress.buffer,
    egress: policy.egress.buffer,
    maps: policyMapsParts(policy.maps),
  };
}

/** A decision word of the maps. */
export function decisionWord(row: number, denied: boolean): number {
  return (row << 1) | (denied ? 1 : 0);
}

export function isDenied(decision: number): boolean {
  return (decision & 1) !== 0;
}

export function judgementRow(decision: number): number {
  return decision >> 1;
}
