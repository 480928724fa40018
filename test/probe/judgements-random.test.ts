/**
 * Judgements of random clusters: each judged direction of a packet has exactly one, in the order in which they are made,
 * the last of a denied packet denies, and the modes name the same reason. A fixed seed and a fresh one, which is printed.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PolicyAnswer, readJudgements } from '../../control/src/explain/judgement.ts';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { branchPolicies } from '../../control/src/probe/branch-policies.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { seeds } from '../conformance/random-world.ts';
import { modelOf } from '../policy/compare.ts';
import { allQuestions, questionText } from '../policy/questions.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';

const QUESTIONS = 40;
const picked = fc.noShrink(fc.array(fc.nat(), { minLength: QUESTIONS, maxLength: QUESTIONS, size: 'max' }));
const profiles = fc.constantFrom('kubernetes' as const, 'kubernetes' as const, 'cilium' as const, 'calico' as const);

/**
 * What the modes have to agree on. Of NetworkPolicies any rule that matches may be named, of the tiers only the first; who
 * judges last before a packet ends is the same, whatever the packet did not get to.
 */
function essence(answer: PolicyAnswer | null): string {
  if (answer === null) return '-';
  const { direction, pod, verdict, because, tier, policy, peer, policies } = answer;
  const named = policies.map(({ namespace, name }) => `${namespace}/${name}`);
  const rule = tier === 'network' ? 'network' : `${policy?.name} ${peer}`;
  return [direction, pod, verdict, because, ...(because === 'rule' ? [tier, rule] : named)].join(' ');
}

describe('judgements of random clusters', () => {
  it.each(seeds)('are one a direction, and the same in every mode, seed %i', (seed) => {
    fc.assert(
      fc.property(randomPolicyCluster, profiles, picked, (drawn, profile, picks) => {
        const model = modelOf(allObjects(drawn), { policy: { profile } });
        // Not another node's nodePort: a socket translates it before the egress is judged, kube-proxy behind it on that node,
        // from where the packet may come back with the pod's own address.
        const { nodeByAddress } = model.topology;
        const all = allQuestions(drawn.cluster).filter(({ to }) => !nodeByAddress.has(to));
        const questions = picks.map((pick) => all[pick % all.length]!);
        const simulators = BUILT_MODES.map((mode) => new Simulator(model, mode));
        for (const question of questions) {
          const connection = resolveConnection(model, { ...question, to: questionText(question) });
          const said = simulators.map((simulator) => {
            const answers = new Map<string, string>();
            for (const branch of simulator.probe(connection, true)) {
              const judgements = readJudgements(simulator.image, branch.events);
              const place = `${simulator.mode} ${JSON.stringify(question)} ${judgements.map(({ direction }) => direction)}`;
              expect(['', 'egress', 'ingress', 'egress,ingress'], place).toContain(
                judgements.map(({ direction }) => direction).join(),
              );
              judgements.forEach(({ verdict }, i) => {
                const isDenied = branch.reason === 'policy-denied' && i === judgements.length - 1;
                expect(verdict, place).toBe(isDenied ? 'denied' : 'allowed');
              });
              const { egress, ingress } = branchPolicies(simulator.image, branch);
              // Where a profile judges what a pod sends to its own node, IPVS hands the node what it has translated unjudged.
              const mayPass = simulator.mode === 'ipvs' && profile !== 'kubernetes' && branch.backend !== null;
              if (!mayPass) expect(egress?.because, place).not.toBe('unjudged');
              expect(ingress?.because, place).not.toBe('unjudged');
              answers.set(
                `${branch.backend} ${branch.verdict} ${branch.reason}`,
                `${essence(egress)}, ${essence(ingress)}`,
              );
            }
            return answers;
          });
          // Of what IPVS passes unjudged the modes say different things.
          if (profile !== 'kubernetes') continue;
          for (const [end, answer] of said[0]!) {
            // Where a mode has no such branch (a Service refused otherwise), the conformance tests say why.
            for (const [i, others] of said.entries()) {
              const other = others.get(end);
              if (other !== undefined) expect(other, `${BUILT_MODES[i]} ${JSON.stringify(question)}`).toBe(answer);
            }
          }
        }
      }),
      { seed, numRuns: Number(process.env['FLATPATH_RUNS'] ?? 6) },
    );
  });
});
