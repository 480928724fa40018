/** Random clusters and random questions against the oracles. A fixed seed and a fresh one, which is printed; FLATPATH_SEED fixes it. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { worldOf } from './matrix-world.ts';
import { allQuestions, randomOptions, randomService, seeds } from './random-world.ts';
import { disagreements } from './run-world.ts';

describe.each(BUILT_MODES)('%s', (mode) => {
  it.each(seeds)('answers random clusters as the oracle does, seed %i', (seed) => {
    fc.assert(
      fc.property(fc.tuple(randomService(1), randomService(2), randomService(3)), randomOptions, (services, drawn) => {
        expect(disagreements(worldOf(services, drawn), mode, allQuestions(services))).toEqual([]);
      }),
      { seed, numRuns: Number(process.env['FLATPATH_RUNS'] ?? 25) },
    );
  });
});
