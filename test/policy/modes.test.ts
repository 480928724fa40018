/**
 * Random clusters, random policies, random questions: every mode answers as the oracle does, every branch by backend. A fixed
 * seed and a fresh one, which is printed; FLATPATH_SEED fixes it.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUILT_MODES, type DatapathInput } from '../../control/src/model/datapath.ts';
import { seeds } from '../conformance/random-world.ts';
import { disagreements } from './compare.ts';
import type { Profile } from './oracle.ts';
import { allQuestions } from './questions.ts';
import { randomPolicyCluster } from './random-policies.ts';

const PROFILES: readonly Profile[] = ['kubernetes', 'cilium', 'calico'];
/** Questions of one cluster. They do not shrink: the cluster does, as long as one of them is answered wrongly. */
const QUESTIONS = 60;
const picked = fc.noShrink(fc.array(fc.nat(), { minLength: QUESTIONS, maxLength: QUESTIONS, size: 'max' }));

const datapath: fc.Arbitrary<DatapathInput> = fc.record({
  kubeProxy: fc.record({ masqueradeAll: fc.constantFrom(false, false, true) }),
  ebpf: fc.record({
    socketLB: fc.boolean(),
    loadBalancerMode: fc.constantFrom('snat' as const, 'dsr' as const),
    externalClusterIP: fc.boolean(),
  }),
});

describe.each(BUILT_MODES)('%s', (mode) => {
  describe.each(PROFILES)('profile %s', (profile) => {
    it.each(seeds)('judges as the oracle does, seed %i', (seed) => {
      fc.assert(
        fc.property(randomPolicyCluster, datapath, picked, (drawn, input, picks) => {
          const all = allQuestions(drawn.cluster);
          const questions = picks.map((pick) => all[pick % all.length]!);
          expect(disagreements(drawn, mode, profile, input, questions)).toEqual([]);
        }),
        // The profile `kubernetes` is what people run.
        { seed, numRuns: Number(process.env['FLATPATH_RUNS'] ?? (profile === 'kubernetes' ? 25 : 10)) },
      );
    });
  });
});
