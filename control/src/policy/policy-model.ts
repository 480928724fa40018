/**
 * The policies of a cluster, resolved for its pods: selectors into pods, peers into sets, tiers into order.
 *
 * Made once for a cluster and shared by all modes. Source of the semantics: docs/policy-semantics.md.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { Problem } from '../cluster/problem.ts';
import type { Node } from '../model/node.ts';
import type { Pod } from '../model/pod.ts';
import type { JudgementOrder, PolicyRule } from './policy-rules.ts';
import type { PolicyProfile } from './profile.ts';

/** The part of the topology that policies speak about. */
export interface PolicySubjects {
  /** Pods with an address of their own, by endpoint number: no hostNetwork pod, none that has ended. */
  readonly endpoints: readonly { readonly pod: Pod }[];
  readonly nodes: readonly Node[];
}

export interface PolicyModel {
  readonly profile: PolicyProfile;
  /** By id. */
  readonly rules: readonly PolicyRule[];
  /** By endpoint number; null: no policy selects the pod for this direction, everything passes. */
  readonly ingress: readonly (JudgementOrder | null)[];
  readonly egress: readonly (JudgementOrder | null)[];
  /** Equal priorities and the like. */
  readonly warnings: readonly Problem[];
}

/** @param subjects of the same cluster */
export function resolvePolicies(_cluster: Cluster, subjects: PolicySubjects, profile: PolicyProfile): PolicyModel {
  const none = subjects.endpoints.map(() => null);
  return { profile, rules: [], ingress: none, egress: none, warnings: [] };
}
