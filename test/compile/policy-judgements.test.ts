/**
 * What rules of the iptables and ipvs modes say of a packet: for each direction that policies judge exactly one judgement
 * among its events, by a rule that the oracle of test/policy would name too; none for what is not judged.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJudgements } from '../../control/src/explain/judgement.ts';
import type { Judgement } from '../../control/src/policy/policy-rules.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { type Branch, Simulator } from '../../control/src/probe/simulator.ts';
import { modelOf } from '../policy/compare.ts';
import { type Opinion, PolicyOracle } from '../policy/oracle.ts';
import { allQuestions, questionText } from '../policy/questions.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';
import { predict } from '../policy/way.ts';
import { seeded } from './random-cluster.ts';

const QUESTIONS = 40;
const picks = fc.noShrink(fc.array(fc.nat(), { minLength: QUESTIONS, maxLength: QUESTIONS, size: 'max' }));

/** The rule behind a judgement as the oracle names it; '' without one. */
function nameOf({ rule }: Judgement): string {
  if (rule === null) return '';
  const { namespace, name } = rule.policy.metadata;
  return `${rule.policy.kind} ${namespace === '' ? '' : `${namespace}/`}${name} ${rule.peerField}`;
}

/** What a direction must have said; null where nobody was to be asked. */
function wanted(opinion: Opinion | null): string {
  return opinion === null || !opinion.selected ? 'none' : opinion.allowed ? 'allowed' : 'denied';
}

describe.each(['iptables', 'ipvs'] as const)('%s', (mode) => {
  it('has one judgement for each judged direction of a packet', { timeout: 120_000 }, () => {
    fc.assert(
      fc.property(randomPolicyCluster, picks, (drawn, chosen) => {
        const bare = new Simulator(modelOf(allObjects({ ...drawn, policies: [] }), {}), mode);
        const simulator = new Simulator(modelOf(allObjects(drawn), {}), mode);
        const oracle = new PolicyOracle(drawn.cluster, drawn.policies, 'kubernetes');
        const all = allQuestions(drawn.cluster);
        for (const pick of chosen) {
          const question = all[pick % all.length]!;
          const request = { ...question, to: questionText(question) };
          const expected = new Map<string, Opinion[]>();
          for (const branch of bare.probe(resolveConnection(bare.model, request), true)) {
            const { outcome, egress, ingress } = predict(oracle, bare, question.protocol, branch);
            const key = `${outcome.backend} ${wanted(egress)} ${wanted(ingress)}`;
            expected.set(key, [egress, ingress].filter((opinion) => opinion?.selected === true) as Opinion[]);
          }
          const met = new Set<string>();
          for (const branch of simulator.probe(resolveConnection(simulator.model, request), true)) {
            const { key, names } = judgementsOf(simulator, branch);
            met.add(key);
            expect([...expected.keys()], JSON.stringify(question)).toContain(key);
            for (const [i, opinion] of expected.get(key)!.entries()) {
              if (opinion.by.length === 0) expect(names[i]).toBe('');
              else expect(opinion.by).toContain(names[i]);
            }
          }
          expect([...met].sort()).toEqual([...expected.keys()].sort());
        }
      }),
      seeded(15),
    );
  });
});

function judgementsOf(simulator: Simulator, branch: Branch): { key: string; names: string[] } {
  const found = readJudgements(simulator.image, branch.events);
  const of = (direction: Judgement['direction']): string => {
    const own = found.filter((judgement) => judgement.direction === direction);
    return own.length === 0 ? 'none' : own.map(({ verdict }) => verdict).join('+');
  };
  return { key: `${branch.backend} ${of('egress')} ${of('ingress')}`, names: found.map(nameOf) };
}
