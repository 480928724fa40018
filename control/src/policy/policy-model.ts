/**
 * The policies of a cluster, resolved for its pods: selectors into pods, peers into sets, tiers into order.
 *
 * Made once for a cluster and shared by all modes. Source of the semantics: docs/policy-semantics.md.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { Problem } from '../cluster/problem.ts';
import type { AdminNetworkPolicy } from '../model/admin-network-policy.ts';
import type { ClusterNetworkPolicy } from '../model/cluster-network-policy.ts';
import type { Node } from '../model/node.ts';
import type { Pod } from '../model/pod.ts';
import { comparePolicies, findAmbiguities } from './ambiguity.ts';
import { judgementOrders } from './judgement-orders.ts';
import { NodeIndex } from './node-index.ts';
import { PodIndex } from './pod-index.ts';
import type { JudgementOrder, PolicyRule } from './policy-rules.ts';
import type { PolicyProfile } from './profile.ts';
import {
  type AdminPolicyContext,
  resolveAdminNetworkPolicy,
  resolveClusterNetworkPolicy,
} from './resolve-admin-policy.ts';
import { resolveNetworkPolicy } from './resolve-network-policy.ts';
import { type ResolvedPolicy, RuleList } from './resolved-policy.ts';

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
export function resolvePolicies(cluster: Cluster, subjects: PolicySubjects, profile: PolicyProfile): PolicyModel {
  const { endpoints } = subjects;
  const pods = new PodIndex(cluster.namespaces, endpoints);
  const context = { pods, nodes: new NodeIndex(subjects.nodes), rules: new RuleList() };
  const policies = [
    ...inOrder(cluster, 'Admin').map((policy) => resolveRanked(policy, context)),
    ...cluster.networkPolicies.map((policy) => resolveNetworkPolicy(policy, pods, context.rules)),
    ...inOrder(cluster, 'Baseline').map((policy) => resolveRanked(policy, context)),
    ...cluster.baselineAdminNetworkPolicies.map((policy) => resolveAdminNetworkPolicy(policy, context)),
  ];
  const ingress = judgementOrders(policies, 'ingress', endpoints.length);
  const egress = judgementOrders(policies, 'egress', endpoints.length);
  const warnings = findAmbiguities([ingress, egress], endpoints);
  return { profile, rules: context.rules.rules, ingress, egress, warnings };
}

type RankedPolicy = ClusterNetworkPolicy | AdminNetworkPolicy;

/** The policies of a tier that have a priority: by it, then by kind, then by name. */
function inOrder(cluster: Cluster, tier: ClusterNetworkPolicy['spec']['tier']): RankedPolicy[] {
  const policies: RankedPolicy[] = cluster.clusterNetworkPolicies.filter(({ spec }) => spec.tier === tier);
  if (tier === 'Admin') policies.push(...cluster.adminNetworkPolicies);
  return policies.sort((a, b) => a.spec.priority - b.spec.priority || comparePolicies(a, b));
}

function resolveRanked(policy: RankedPolicy, context: AdminPolicyContext): ResolvedPolicy {
  return policy.kind === 'AdminNetworkPolicy'
    ? resolveAdminNetworkPolicy(policy, context)
    : resolveClusterNetworkPolicy(policy, context);
}
