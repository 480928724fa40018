/**
 * Matchers for test runners with `expect.extend`: what a cluster allows and what its policies deny.
 *
 * `toAllow`: the connection's first packet arrives on every branch. `toDeny`: policies deny it on every branch, so that
 * neither a Service without endpoints nor a misspelt port passes for a policy. A failure says what became of the packet
 * and which policy and rule decided.
 */

import { describeAnswer } from '../explain/judgement.ts';
import { answersOf } from '../probe/branch-policies.ts';
import { Cluster, type ProbeAnswer, type ProbeBranch, type ProbeRequest } from './cluster.ts';

export interface MatcherResult {
  readonly pass: boolean;
  message(): string;
}

export const matchers = {
  toAllow(received: unknown, request: ProbeRequest): MatcherResult {
    const cluster = requireCluster('toAllow', received);
    const answer = cluster.probe(request);
    const pass = answer.branches.every(arrives);
    return { pass, message: () => explain(cluster, request, answer, pass ? 'not to be allowed' : 'to be allowed') };
  },

  toDeny(received: unknown, request: ProbeRequest): MatcherResult {
    const cluster = requireCluster('toDeny', received);
    const answer = cluster.probe(request);
    const pass = answer.branches.length > 0 && answer.branches.every(({ reason }) => reason === 'policy-denied');
    const wanted = pass ? 'not to be denied by policies' : 'to be denied by policies';
    return { pass, message: () => explain(cluster, request, answer, wanted) };
  },
};

function requireCluster(matcher: string, received: unknown): Cluster {
  if (received instanceof Cluster) return received;
  throw new TypeError(`${matcher} asks a cluster: expect(loadCluster('manifests')).${matcher}({from, to, port})`);
}

function arrives({ verdict }: ProbeBranch): boolean {
  return verdict === 'delivered' || verdict === 'forwarded';
}

/** Ways of one connection that a message describes. */
const TOLD = 10;

function explain(
  { mode }: Cluster,
  { from, to, port, protocol }: ProbeRequest,
  { branches }: ProbeAnswer,
  wanted: string,
): string {
  const target = port === undefined ? to : `${to}, port ${port}`;
  const lines = [
    `expected ${from} → ${target}${protocol === undefined ? '' : ` ${protocol}`} ${wanted} (mode ${mode})`,
  ];
  for (const branch of branches.slice(0, TOLD)) {
    const reason = branch.reason === 'none' ? '' : ` (${branch.reason})`;
    const end = branch.deliveredTo === null ? '' : ` to ${branch.deliveredTo}`;
    const backend = branch.backend === null ? '' : `${branch.backend}: `;
    lines.push(`  ${backend}${branch.verdict}${end}${reason}`);
    for (const answer of answersOf(branch.policies)) lines.push(`    ${describeAnswer(answer)}`);
  }
  if (branches.length > TOLD) lines.push(`  and ${branches.length - TOLD} further paths`);
  return lines.join('\n');
}
