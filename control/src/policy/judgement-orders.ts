/**
 * What judges each pod: the policies that select it, in their order, as one `JudgementOrder` a set of policies. Pods that
 * the same policies select share the object.
 *
 * A set of policies is a number: 0 is the empty one, any other is a set and the policy that came after it. So the work is
 * one step for each pod and policy that selects it, and equal sets meet without being compared.
 */

import type { Direction, JudgementOrder } from './policy-rules.ts';
import type { ResolvedPolicy } from './resolved-policy.ts';

/**
 * @param policies in their order: the Admin tier by priority, NetworkPolicies, the Baseline tier
 * @param endpoints how many there are
 * @returns by endpoint number; null where no policy that speaks about the direction selects the pod
 */
export function judgementOrders(
  policies: readonly ResolvedPolicy[],
  direction: Direction,
  endpoints: number,
): (JudgementOrder | null)[] {
  const setOf = new Int32Array(endpoints);
  /** By set: the set without its last policy, and that policy's position. */
  const before = [0];
  const last = [-1];
  /** By set: the set that the present policy makes of it, where `last` of that one says so. */
  const extended = [0];
  policies.forEach((resolved, position) => {
    if (resolved[direction] === null) return;
    for (const endpoint of resolved.endpoints) {
      const set = setOf[endpoint]!;
      let next = extended[set]!;
      if (last[next] !== position) {
        next = before.length;
        before.push(set);
        last.push(position);
        extended.push(0);
        extended[set] = next;
      }
      setOf[endpoint] = next;
    }
  });

  const orders = new Map<number, JudgementOrder>();
  return Array.from(setOf, (set) => {
    if (set === 0) return null;
    let order = orders.get(set);
    if (order === undefined) {
      const selecting: ResolvedPolicy[] = [];
      for (let rest = set; rest !== 0; rest = before[rest]!) selecting.push(policies[last[rest]!]!);
      order = makeOrder(selecting.reverse(), direction);
      orders.set(set, order);
    }
    return order;
  });
}

function makeOrder(policies: readonly ResolvedPolicy[], direction: Direction): JudgementOrder {
  const of = (tier: ResolvedPolicy['tier']): ResolvedPolicy[] => policies.filter((resolved) => resolved.tier === tier);
  const isolating = of('network');
  return {
    direction,
    admin: of('admin').flatMap((resolved) => resolved[direction] ?? []),
    network:
      isolating.length === 0
        ? null
        : {
            isolating: isolating.map(({ policy }) => policy),
            rules: isolating.flatMap((resolved) => resolved[direction] ?? []),
          },
    baseline: isolating.length > 0 ? [] : of('baseline').flatMap((resolved) => resolved[direction] ?? []),
    policies: policies.map(({ policy }) => policy),
  };
}
