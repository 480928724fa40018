/** A random cluster through a mode and through the oracle, side by side. */

import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { readJudgements } from '../../control/src/explain/judgement.ts';
import { type DatapathInput, type Mode, resolveDatapath } from '../../control/src/model/datapath.ts';
import type { Judgement, PolicyRule } from '../../control/src/policy/policy-rules.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { type Branch, Simulator } from '../../control/src/probe/simulator.ts';
import { type Opinion, PolicyOracle, type Profile } from './oracle.ts';
import { type PolicyQuestion, questionText } from './questions.ts';
import type { KubeObject } from './random-cluster.ts';
import { allObjects, type PolicyCluster } from './random-policies.ts';
import { type Outcome, outcomeOf, type Prediction, predict } from './way.ts';

export const CLUSTER_CIDR = ['10.244.0.0/16', 'fd00:10:244::/56'];

export function modelOf(objects: readonly KubeObject[], datapath: DatapathInput): ClusterModel {
  const input = { ...datapath, kubeProxy: { clusterCIDR: CLUSTER_CIDR, ...datapath.kubeProxy } };
  const { cluster } = loadCluster([], { objects: [...objects], reserved: [], clusterCIDR: CLUSTER_CIDR });
  return modelCluster(cluster, resolveDatapath(input));
}

/** The first questions that a mode and the oracle answer differently, as text. */
export function disagreements(
  drawn: PolicyCluster,
  mode: Mode,
  profile: Profile,
  datapath: DatapathInput,
  questions: readonly PolicyQuestion[],
): string[] {
  const input: DatapathInput = { ...datapath, policy: { profile } };
  const bare = new Simulator(modelOf(allObjects({ ...drawn, policies: [] }), input), mode);
  const simulator = new Simulator(modelOf(allObjects(drawn), input), mode);
  const oracle = new PolicyOracle(drawn.cluster, drawn.policies, profile);
  const found: string[] = [];
  for (const question of questions) {
    const request = { ...question, to: questionText(question) };
    const expected = bare
      .probe(resolveConnection(bare.model, request), true)
      .map((branch) => predict(oracle, bare, question.protocol, branch));
    const branches = simulator.probe(resolveConnection(simulator.model, request), true);
    const wanted = summary(expected.map(({ outcome }) => outcome));
    const got = summary(branches.map((branch) => outcomeOf(simulator, branch)));
    const title = `${mode} ${profile}: ${JSON.stringify(question)}`;
    if (wanted !== got) found.push(`${title}\n  expected ${wanted}\n  got      ${got}`);
    else found.push(...misjudged(simulator, expected, branches).map((text) => `${title}\n  ${text}`));
  }
  return found.slice(0, 5);
}

/** Branches whose recorded judgements are not one for each direction that policies speak about, by a rule that decides. */
function misjudged(simulator: Simulator, expected: readonly Prediction[], branches: readonly Branch[]): string[] {
  return branches.flatMap((branch) => {
    const line = lineOf(outcomeOf(simulator, branch));
    const judgements = readJudgements(simulator.image, branch.events);
    const same = expected.filter(({ outcome }) => lineOf(outcome) === line);
    if (same.some((own) => fits(own, judgements))) return [];
    const said = judgements.map(({ direction, verdict, rule }) => `${direction} ${verdict} ${nameOf(rule)}`);
    const asked = same.map(({ egress, ingress }) => `egress ${say(egress)}, ingress ${say(ingress)}`);
    return [`${line}\n  judged   ${said.join(', ')}\n  expected ${asked.join(' | ')}`];
  });
}

function fits({ egress, ingress }: Prediction, judgements: readonly Judgement[]): boolean {
  return (
    fitsEnd(
      egress,
      judgements.filter(({ direction }) => direction === 'egress'),
    ) &&
    fitsEnd(
      ingress,
      judgements.filter(({ direction }) => direction === 'ingress'),
    )
  );
}

function fitsEnd(opinion: Opinion | null, judgements: readonly Judgement[]): boolean {
  if (opinion === null || !opinion.selected) return judgements.length === 0;
  if (judgements.length !== 1) return false;
  const { verdict, rule } = judgements[0]!;
  if ((verdict === 'allowed') !== opinion.allowed) return false;
  return opinion.by.length === 0 ? rule === null : opinion.by.includes(nameOf(rule));
}

function nameOf(rule: PolicyRule | null): string {
  if (rule === null) return '-';
  const { namespace, name } = rule.policy.metadata;
  return `${rule.policy.kind} ${namespace === '' ? '' : `${namespace}/`}${name} ${rule.peerField}`;
}

function say(opinion: Opinion | null): string {
  if (opinion === null || !opinion.selected) return 'nobody';
  return `${opinion.allowed ? 'allowed' : 'denied'} by ${opinion.by.join(' or ') || '-'}`;
}

/** Branches as a set: where a policy ends a packet early, branches behind it fall together. */
function summary(outcomes: readonly Outcome[]): string {
  return [...new Set(outcomes.map(lineOf))].sort().join(' | ');
}

function lineOf({ verdict, reason, backend, pod }: Outcome): string {
  return [verdict, reason, backend ?? '-', pod ?? '-'].join(' ');
}
