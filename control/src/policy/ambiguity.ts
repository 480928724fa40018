/**
 * Policies of one priority in one tier: where two of them judge the same direction of the same pod and do not say the same,
 * the API leaves open which comes first. The order here is by kind, then by name; every policy that could stand before
 * another of its priority is warned about.
 *
 * Rules that all have one action are no ambiguity: whichever comes first, the answer is the same.
 */

import { describeObject, type Problem, ProblemList } from '../cluster/problem.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { Pod } from '../model/pod.ts';
import type { JudgementOrder, PolicyAction, PolicyRule } from './policy-rules.ts';

/**
 * @param orders by endpoint number, of any direction
 * @param endpoints the pods by endpoint number
 */
export function findAmbiguities(
  orders: readonly (readonly (JudgementOrder | null)[])[],
  endpoints: readonly { readonly pod: Pod }[],
): Problem[] {
  const seen = new Set<JudgementOrder>();
  const found = new Map<KubernetesObject, Map<KubernetesObject, Pod>>();
  for (const direction of orders) {
    direction.forEach((order, endpoint) => {
      if (order === null || seen.has(order)) return;
      seen.add(order);
      noteTier(order.admin, endpoints[endpoint]!.pod, found);
      noteTier(order.baseline, endpoints[endpoint]!.pod, found);
    });
  }
  const problems = new ProblemList();
  for (const [later, others] of [...found].sort(([a], [b]) => comparePolicies(a, b))) {
    for (const [earlier, pod] of others) {
      const name = describeObject(earlier);
      problems.warn(
        later,
        'spec.priority',
        `is ambiguous: ${name} has the same priority and selects ${describeObject(pod)} too; ` +
          `${name} is taken first (by kind, then by name)`,
      );
    }
  }
  return problems.warnings;
}

/** The order of two policies of one priority. */
export function comparePolicies(a: KubernetesObject, b: KubernetesObject): number {
  if (a.kind !== b.kind) return a.kind < b.kind ? -1 : 1;
  return a.metadata.name < b.metadata.name ? -1 : 1;
}

/** Notes for each policy the first one before it, of its priority, that can answer otherwise. */
function noteTier(
  rules: readonly PolicyRule[],
  pod: Pod,
  found: Map<KubernetesObject, Map<KubernetesObject, Pod>>,
): void {
  let priority = -1;
  const firstWith = new Map<PolicyAction, KubernetesObject>();
  for (const rule of rules) {
    // The one without a priority comes after all others of its tier, by definition.
    if (rule.policy.kind === 'BaselineAdminNetworkPolicy') return;
    if (rule.priority !== priority) firstWith.clear();
    priority = rule.priority;
    for (const [action, earlier] of firstWith) {
      if (action === rule.action || earlier === rule.policy) continue;
      const others = found.get(rule.policy) ?? new Map<KubernetesObject, Pod>();
      if (!others.has(earlier)) others.set(earlier, pod);
      found.set(rule.policy, others);
    }
    if (!firstWith.has(rule.action)) firstWith.set(rule.action, rule.policy);
  }
}
