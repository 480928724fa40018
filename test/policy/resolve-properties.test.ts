/** Selecting by index against selecting one by one; orders against what each pod's own policies say. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LabelSelector, selects } from '../../control/src/model/label-selector.ts';
import { judgementOrders } from '../../control/src/policy/judgement-orders.ts';
import { PodIndex } from '../../control/src/policy/pod-index.ts';
import type { Direction, PolicyRule } from '../../control/src/policy/policy-rules.ts';
import type { ResolvedPolicy } from '../../control/src/policy/resolved-policy.ts';
import { loadObjects, seed } from '../cluster/support.ts';
import { namespace, networkPolicy, pod } from './support.ts';

type Labels = Record<string, string>;

const KEYS = ['a', 'b', 'constructor'];
const VALUES = ['', 'x', 'y'];
const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), { maxKeys: 3 });
const values = fc.array(fc.constantFrom(...VALUES), { minLength: 1, maxLength: 3 });
const selector: fc.Arbitrary<LabelSelector> = fc.record(
  {
    matchLabels: fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), { maxKeys: 2 }),
    matchExpressions: fc.array(
      fc.oneof(
        fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom('In', 'NotIn'), values }),
        fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom('Exists', 'DoesNotExist') }),
      ),
      { maxLength: 2 },
    ),
  },
  { requiredKeys: [] },
);
const NAMESPACES = ['n1', 'n2', 'n3'];
const facts = fc.record({
  namespaces: fc.array(labels, { minLength: 3, maxLength: 3 }),
  pods: fc.array(fc.record({ namespace: fc.constantFrom(...NAMESPACES), labels }), { maxLength: 70 }),
});

/** Requirement by requirement, as the API documents it. */
function takes({ matchLabels = {}, matchExpressions = [] }: LabelSelector, has: Labels): boolean {
  const own = new Map(Object.entries(has));
  return (
    Object.entries(matchLabels).every(([key, value]) => own.get(key) === value) &&
    matchExpressions.every(({ key, operator, values: listed = [] }) => {
      const value = own.get(key);
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      const isListed = value !== undefined && listed.includes(value);
      return operator === 'In' ? isListed : !isListed;
    })
  );
}

describe('the pod index', () => {
  it('takes whom the selectors take, one by one', () => {
    fc.assert(
      fc.property(facts, fc.array(fc.tuple(selector, selector), { maxLength: 8 }), (drawn, asked) => {
        const { cluster } = loadObjects([
          ...NAMESPACES.map((name, index) => namespace(name, drawn.namespaces[index]!)),
          ...drawn.pods.map((each, index) => pod(each.namespace, `p${index}`, each.labels)),
        ]);
        const endpoints = cluster.pods.map((each) => ({ pod: each }));
        const index = new PodIndex(cluster.namespaces, endpoints);
        const where = (test: (ns: Labels, own: Labels, name: string) => boolean): number[] =>
          endpoints.flatMap(({ pod: { metadata } }, number) => {
            const ns = cluster.namespaces.find(({ metadata: { name } }) => name === metadata.namespace)!;
            return test(ns.metadata.labels ?? {}, metadata.labels ?? {}, metadata.namespace) ? [number] : [];
          });
        for (const [namespaces, pods] of asked) {
          const found = index.select(namespaces, pods);
          expect(found).toEqual(where((ns, own) => takes(namespaces, ns) && takes(pods, own)));
          expect(found).toEqual(where((ns, own) => selects(namespaces, ns) && selects(pods, own)));
          expect(index.select(structuredClone(namespaces), structuredClone(pods))).toBe(found);
          const own = index.selectIn('n2', pods);
          expect(own).toEqual(where((_ns, has, name) => name === 'n2' && takes(pods, has)));
          expect(index.selectIn('nowhere', pods)).toEqual([]);
        }
      }),
      { seed: seed(), numRuns: 150 },
    );
  });
});

describe('judgement orders', () => {
  const PODS = 6;
  const tier = fc.constantFrom<ResolvedPolicy['tier']>('admin', 'network', 'baseline');
  const drawnPolicy = fc.record({
    tier,
    endpoints: fc.subarray([...Array(PODS).keys()]),
    ingress: fc.option(fc.nat({ max: 3 }), { nil: null }),
    egress: fc.option(fc.nat({ max: 3 }), { nil: null }),
  });
  const RANK = ['admin', 'network', 'baseline'];

  it('hold the policies of each pod in their order, and are one where the policies are the same', () => {
    fc.assert(
      fc.property(
        fc.array(drawnPolicy, { maxLength: 8 }),
        fc.constantFrom<Direction>('ingress', 'egress'),
        (drawn, direction) => {
          const sorted = [...drawn].sort((a, b) => RANK.indexOf(a.tier) - RANK.indexOf(b.tier));
          const policies = sorted.map((each, position): ResolvedPolicy => {
            const { cluster } = loadObjects([networkPolicy({}, `p${position}`)]);
            const rules = (count: number | null, of: Direction): PolicyRule[] | null =>
              count === null
                ? null
                : [...Array(count).keys()].map((index) => rule(cluster.networkPolicies[0]!, each.tier, of, index));
            return {
              policy: cluster.networkPolicies[0]!,
              tier: each.tier,
              endpoints: each.endpoints,
              ingress: rules(each.ingress, 'ingress'),
              egress: rules(each.egress, 'egress'),
            };
          });
          const orders = judgementOrders(policies, direction, PODS);
          const textOf = new Map<string, unknown>();
          for (let pod = 0; pod < PODS; pod++) {
            const own = policies.filter((each) => each[direction] !== null && each.endpoints.includes(pod));
            const order = orders[pod]!;
            if (own.length === 0) {
              expect(order).toBeNull();
              continue;
            }
            const rulesOf = (of: ResolvedPolicy['tier']): PolicyRule[] =>
              own.filter((each) => each.tier === of).flatMap((each) => each[direction]!);
            const isolating = own.filter((each) => each.tier === 'network').map((each) => each.policy);
            expect(order).toEqual({
              direction,
              admin: rulesOf('admin'),
              network: isolating.length === 0 ? null : { isolating, rules: rulesOf('network') },
              baseline: isolating.length === 0 ? rulesOf('baseline') : [],
              policies: own.map((each) => each.policy),
            });
            const text = own.map((each) => each.policy.metadata.name).join();
            expect(textOf.get(text) ?? order).toBe(order);
            textOf.set(text, order);
          }
          expect(new Set(orders.filter((order) => order !== null)).size).toBe(textOf.size);
        },
      ),
      { seed: seed(), numRuns: 100 },
    );
  });

  function rule(
    policy: ResolvedPolicy['policy'],
    of: ResolvedPolicy['tier'],
    direction: Direction,
    id: number,
  ): PolicyRule {
    const field = `spec.${direction}[${id}]`;
    const what = { policy, tier: of, priority: 0, direction, action: 'accept', field, peerField: field } as const;
    return { id, ...what, peer: { kind: 'any' }, ports: null };
  }
});
