/** Random clusters and random questions against the oracles. The seed is printed with a failure; FLATPATH_SEED fixes it. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { worldOf } from './matrix-world.ts';
import { allQuestions, randomOptions, randomService, seed } from './random-world.ts';
import { disagreements } from './run-world.ts';

describe.each(BUILT_MODES)('%s', (mode) => {
  it('answers random clusters as the oracle does', () => {
    fc.assert(
      fc.property(fc.tuple(randomService(1), randomService(2), randomService(3)), randomOptions, (services, drawn) => {
        expect(disagreements(worldOf(services, drawn), mode, allQuestions(services))).toEqual([]);
      }),
      { seed, numRuns: Number(process.env['FLATPATH_RUNS'] ?? 40) },
    );
  });
});
