/** Rows of sources that are alike are made of one: each is what it is when it is asked for alone. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Reachability } from '../../control/src/reach/reachability.ts';
import { seeds } from '../conformance/random-world.ts';
import { modelOf } from '../policy/compare.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';

describe('rows', () => {
  it.each(seeds)('are the same together and alone, seed %i', (seed) => {
    let copied = 0;
    fc.assert(
      fc.property(randomPolicyCluster, (drawn) => {
        const reach = new Reachability(modelOf(allObjects(drawn), {}), 'ebpf');
        const sources = reach.peers.filter(({ kind }) => kind !== 'service');
        const together = [...reach.rows(sources, reach.peers)];
        for (const { source, cells } of together) {
          const [alone] = reach.rows([source], reach.peers);
          expect(
            cells.map(({ number }) => number),
            source.id,
          ).toEqual(alone!.cells.map(({ number }) => number));
        }
        copied += sources.length - new Set(sources.map(({ units }) => units.map((unit) => unit.class).join())).size;
      }),
      { seed, numRuns: 40 },
    );
    expect(copied).toBeGreaterThan(0);
  });
});
