/**
 * Policies resolved against a cluster: what every mode's compile reads, and nothing else of the policy objects.
 *
 * A rule of a policy becomes one `PolicyRule` for each of its peers, so that an answer can name the peer; a rule without
 * `from` or `to` has the one peer `any`. A pod's direction that some policy selects has a `Judgement order`:
 *
 *   1. admin: the Admin tier's rules by priority; the first that matches ends the tier (accept, deny, or pass to 2).
 *   2. network: some NetworkPolicy isolates the direction: a rule of any of them that matches accepts, else deny.
 *   3. baseline, only where no NetworkPolicy isolates: the first rule that matches decides (accept, deny; pass goes to 4).
 *   4. accept.
 */

import type { Prefix } from '../model/address.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { Protocol } from '../model/port.ts';

export type Direction = 'ingress' | 'egress';
export type PolicyTier = 'admin' | 'network' | 'baseline';
export type PolicyAction = 'accept' | 'deny' | 'pass';

export type PolicyPeer =
  /** Everybody, outside addresses too. */
  | { readonly kind: 'any' }
  /** Endpoint numbers of the topology, ascending; may be empty. Never a hostNetwork pod. */
  | { readonly kind: 'pods'; readonly endpoints: readonly number[] }
  /** Addresses in `prefix` and in none of `except`, of either family; cluster-owned ones as the profile says. */
  | { readonly kind: 'block'; readonly prefix: Prefix; readonly except: readonly Prefix[] }
  /** Node numbers of the topology, ascending: any address of these nodes. */
  | { readonly kind: 'nodes'; readonly nodes: readonly number[] };

export type PolicyPort =
  /** Destination ports `first` to `last`, both belong to it; 0 to 65535: the whole protocol. */
  | { readonly kind: 'range'; readonly protocol: Protocol; readonly first: number; readonly last: number }
  /** A container port's name, resolved in the destination pod; null: whatever protocol the port has. Matches pods only. */
  | { readonly kind: 'named'; readonly protocol: Protocol | null; readonly name: string };

export interface PolicyRule {
  /** Position in `PolicyModel.rules`. */
  readonly id: number;
  readonly policy: KubernetesObject;
  readonly tier: PolicyTier;
  /** Of the Admin tier and of ClusterNetworkPolicies in the Baseline one; 0 elsewhere. */
  readonly priority: number;
  readonly direction: Direction;
  readonly action: PolicyAction;
  /** Field of the rule in its policy: 'spec.ingress[0]'. */
  readonly field: string;
  /** Field of the peer: 'spec.ingress[0].from[1]'; the rule's own where it has no peers. */
  readonly peerField: string;
  readonly peer: PolicyPeer;
  /** Any of them must match; null: every port of every protocol, ICMP too. Never empty. */
  readonly ports: readonly PolicyPort[] | null;
}

/** What judges one direction of a pod. Pods that the same policies select share the object: compare by identity. */
export interface JudgementOrder {
  readonly direction: Direction;
  readonly admin: readonly PolicyRule[];
  /** Null: no NetworkPolicy isolates the direction. */
  readonly network: { readonly isolating: readonly KubernetesObject[]; readonly rules: readonly PolicyRule[] } | null;
  /** Empty where `network` is not null. */
  readonly baseline: readonly PolicyRule[];
  /** Every policy that selects the pod and speaks about the direction. */
  readonly policies: readonly KubernetesObject[];
}

/** What one direction of a pod answered to a packet. */
export interface Judgement {
  readonly direction: Direction;
  readonly verdict: 'allowed' | 'denied';
  /** The rule that decided; null: none matched, and the direction is isolated (denied) or open (allowed). */
  readonly rule: PolicyRule | null;
  /** The rule's policy; without a rule those that isolate the pod, or, allowed, those that select it. */
  readonly policies: readonly KubernetesObject[];
}

/** The same for blocks that match the same addresses. */
export function blockText({ prefix, except }: Extract<PolicyPeer, { kind: 'block' }>): string {
  return [prefix, ...except].map(({ text }) => text).join();
}
