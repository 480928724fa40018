/**
 * From a case that fails to a small one that still does: fewer flows, fewer steps, fewer policies, fewer Services, fewer
 * endpoints, default options. Greedy, and bounded, because every try is a node of its own. What chance decides may hide a failure,
 * so a try counts as passed only after two runs.
 */

import { DEFAULT_OPTIONS, type World, type WorldService } from '../conformance/world.ts';
import type { KernelCase } from './case.ts';
import type { Difference } from './judge.ts';

const MOST_TRIES = 80;

/** Judges a case; answers its differences. */
export type Judge = (one: KernelCase) => Promise<readonly Difference[]>;

/** @param first the differences that the case has shown */
export async function shrinkCase(one: KernelCase, first: readonly Difference[], judge: Judge): Promise<KernelCase> {
  let tries = 0;
  const fails = async (tried: KernelCase): Promise<boolean> => {
    for (let run = 0; run < 2; run++) {
      if (tries++ >= MOST_TRIES) return false;
      if ((await judge(tried)).length > 0) return true;
    }
    return false;
  };
  const wanted = first.find(({ flow }) => flow >= 0);
  let best = one;
  if (wanted !== undefined) {
    const steps = wanted.phase + 1;
    const shorter = {
      ...best,
      flows: best.flows.map((flow) => ({ ...flow, steps: flow.steps.slice(0, steps) })),
    };
    if (await fails(shorter)) best = shorter;
    const alone = { ...best, flows: best.flows.filter(({ id }) => id === wanted.flow) };
    if (await fails(alone)) best = alone;
  }
  best = await dropParts(best, best.flows, (flows) => ({ ...best, flows }), fails);
  const unjudged = { ...best, policies: [] };
  if (best.policies.length > 0 && (await fails(unjudged))) best = unjudged;
  best = await dropParts(best, best.policies, (policies) => ({ ...best, policies }), fails);
  const withWorld = (from: KernelCase, change: Partial<World>): KernelCase => ({
    ...from,
    world: { ...from.world, ...change },
  });
  best = await dropParts(best, best.world.services, (services) => withWorld(best, { services }), fails);
  for (const key of Object.keys(DEFAULT_OPTIONS) as (keyof typeof DEFAULT_OPTIONS)[]) {
    const { options } = best.world;
    if (options[key] === DEFAULT_OPTIONS[key]) continue;
    const plainer = withWorld(best, { options: { ...options, [key]: DEFAULT_OPTIONS[key] } });
    if (await fails(plainer)) best = plainer;
  }
  for (let i = 0; i < best.world.services.length; i++) {
    for (const plain of PLAINER) {
      const services = best.world.services.map((own, at) => (at === i ? plain(own) : own));
      const plainer = withWorld(best, { services });
      if (JSON.stringify(plainer) !== JSON.stringify(best) && (await fails(plainer))) best = plainer;
    }
  }
  return best;
}

const PLAINER: readonly ((own: WorldService) => WorldService)[] = [
  (own) => ({ ...own, affinity: false }),
  (own) => ({ ...own, sourceRanges: [] }),
  (own) => ({ ...own, externalIPs: [] }),
  (own) => ({ ...own, internalLocal: false, externalLocal: false }),
  (own) => ({ ...own, slices: own.slices.map((slice) => ({ ...slice, endpoints: slice.endpoints.slice(0, 1) })) }),
  (own) => ({ ...own, slices: own.slices.slice(0, 1) }),
];

/** Leaves out halves, then quarters, and so on, as long as what is left still fails. */
async function dropParts<T>(
  one: KernelCase,
  parts: readonly T[],
  withParts: (left: readonly T[]) => KernelCase,
  fails: (tried: KernelCase) => Promise<boolean>,
): Promise<KernelCase> {
  let best = one;
  let left = parts;
  for (let size = Math.ceil(left.length / 2); size >= 1 && left.length > 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < left.length && left.length > 1; ) {
      const fewer = [...left.slice(0, at), ...left.slice(at + size)];
      const tried = withParts(fewer);
      if (fewer.length > 0 && (await fails(tried))) {
        left = fewer;
        best = tried;
      } else at += size;
    }
  }
  return best;
}
