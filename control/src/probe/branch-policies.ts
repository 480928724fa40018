/**
 * What policies said at both ends of a branch: the egress of the pod that sends, the ingress of the pod that the packet
 * was for. Null at an end where no listed pod is: policies judge pods alone.
 *
 * The answers are the judgements among the branch's events; where there is none, the resolved policies and the packet's
 * end tell why.
 */

import { ENTRY_HOST } from '@flatpath/engine/wire/burst';
import type { Image } from '../compile/image.ts';
import { rulesetOf } from '../compile/node-ruleset.ts';
import { answerOf, answerWithout, type PolicyAnswer, readJudgements } from '../explain/judgement.ts';
import type { Direction, Judgement } from '../policy/policy-rules.ts';
import type { Branch } from './simulator.ts';

export interface BranchPolicies {
  readonly egress: PolicyAnswer | null;
  readonly ingress: PolicyAnswer | null;
}

/** @param branch run with the recorder on */
export function branchPolicies(image: Image, branch: Branch): BranchPolicies {
  const judgements = readJudgements(image, branch.events);
  const target = image.model.topology.endpointByAddress.get(destinationOf(branch)) ?? -1;
  return {
    egress: answerAt(image, branch, judgements, 'egress', branch.source.endpoint),
    ingress: answerAt(image, branch, judgements, 'ingress', target),
  };
}

/** What policies said at the ends of a branch where listed pods are. */
export function answersOf({ egress, ingress }: BranchPolicies): PolicyAnswer[] {
  return [egress, ingress].filter((answer) => answer !== null);
}

/** The address that a branch's packet was for after a Service translated it. */
export function destinationOf({ backend, target }: Pick<Branch, 'backend' | 'target'>): string {
  if (backend === null) return target.address.text;
  const address = backend.slice(0, backend.lastIndexOf(':'));
  return address.startsWith('[') ? address.slice(1, -1) : address;
}

function answerAt(
  image: Image,
  branch: Branch,
  judgements: readonly Judgement[],
  direction: Direction,
  endpoint: number,
): PolicyAnswer | null {
  const { topology, policies, ruleset } = image.model;
  const at = topology.endpoints[endpoint];
  if (at === undefined) return null;
  const pod = `${at.pod.metadata.namespace}/${at.pod.metadata.name}`;
  const judgement = judgements.findLast((candidate) => candidate.direction === direction);
  if (judgement !== undefined) return answerOf(judgement, pod);
  if (policies[direction][endpoint] === null) return answerWithout(direction, pod, 'unselected');
  if (rulesetOf(ruleset, at.node) !== null) return answerWithout(direction, pod, 'dump');
  if (branch.verdict !== 'delivered') return answerWithout(direction, pod, 'not-reached');
  if (branch.endpoint === branch.source.endpoint) return answerWithout(direction, pod, 'itself');
  const { source } = branch;
  const meetsOwnNode =
    direction === 'egress'
      ? policies.profile.ownNodeEgress === 'always' && branch.endpoint < 0 && branch.node === at.node
      : source.entry === ENTRY_HOST && source.node === at.node;
  return answerWithout(direction, pod, meetsOwnNode ? 'own-node' : 'unjudged');
}
