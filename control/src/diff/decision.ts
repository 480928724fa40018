/**
 * Who decides: the object and field behind an answer, read from the story of a packet that is run with the recorder on.
 *
 * A policy's denial names the rule or the policies that isolate the pod; a Service's refusal the last rule or map entry
 * that the packet met; an answer that arrives names the rule that let it pass where the other side denied. An end that is
 * not there is said so. Where nobody decided, the sentence says that, and there is no object.
 */

import { describeAnswer, type PolicyAnswer } from '../explain/judgement.ts';
import { type Step, tellStory } from '../explain/story.ts';
import { describeOrigin, type Origin, originOf } from '../model/origin.ts';
import { hasNoVirtualAddress } from '../model/service.ts';
import type { Direction } from '../policy/policy-rules.ts';
import { type BranchPolicies, branchPolicies } from '../probe/branch-policies.ts';
import type { Connection, Source, Target } from '../probe/connection.ts';
import { type Branch, Simulator } from '../probe/simulator.ts';
import type { Change, ChangedPorts } from './changes.ts';
import { isArrived } from './outcome.ts';
import { isEntrance, type ServiceEntrance } from './service-entrances.ts';
import type { SideView } from './side-view.ts';
import { describeWorkload, type Subject } from './subjects.ts';

export interface Decision {
  /** What decided, in words. */
  readonly sentence: string;
  /** The object and field; null where none decided. */
  readonly origin: Origin | null;
  /** Policies that had a say, the one of `origin` among them. */
  readonly policies: readonly Origin[];
}

/** A traced packet: the worst of its branches. */
export interface Traced {
  readonly branch: Branch;
  readonly policies: BranchPolicies;
  /** Its story, told when somebody asks. */
  readonly steps: () => readonly Step[];
}

const NOT_TRACED: Decision = {
  sentence: 'not traced: the change touches too much',
  origin: null,
  policies: [],
};
const SEVERITY = ['dropped', 'rejected', 'forwarded', 'delivered'];

/** Traces packets of one side. */
export class Tracer {
  readonly view: SideView;
  private readonly simulator: Simulator;

  constructor(view: SideView) {
    this.view = view;
    this.simulator = new Simulator(view.model, view.mode);
  }

  trace(connection: Connection): Traced {
    const branches = this.simulator.probe(connection, true);
    let worst = branches[0]!;
    for (const branch of branches) {
      if (SEVERITY.indexOf(branch.verdict) < SEVERITY.indexOf(worst.verdict)) worst = branch;
    }
    const { image } = this.simulator;
    return {
      branch: worst,
      policies: branchPolicies(image, worst),
      steps: () => tellStory(image, worst.events, worst.source).hops.flatMap((hop) => hop.steps),
    };
  }
}

/** Changes whose packets are traced; of more nobody reads who decided each. */
const MOST_TRACED = 5000;

/** Decides for changes; takes both sides together, because what one denied the other must have let pass. */
export class Decider {
  private readonly before: Tracer;
  private readonly after: Tracer;
  private traced = 0;

  constructor(before: SideView, after: SideView) {
    this.before = new Tracer(before);
    this.after = new Tracer(after);
  }

  /** @param port of the change; 0 for ICMP */
  decide(change: Change, ports: ChangedPorts, port: number): { before: Decision; after: Decision } {
    if (this.traced++ >= MOST_TRACED) return { before: NOT_TRACED, after: NOT_TRACED };
    const was = ports.before === null ? null : this.traceSide('before', change, ports, port);
    const is = ports.after === null ? null : this.traceSide('after', change, ports, port);
    return {
      before: was === null ? absence(change, 'before') : decisionOf(was, deniedBy(is)),
      after: is === null ? absence(change, 'after') : decisionOf(is, deniedBy(was)),
    };
  }

  private traceSide(side: 'before' | 'after', change: Change, { protocol }: ChangedPorts, port: number): Traced {
    const tracer = this[side];
    const { source, target } = endsOf(tracer.view, side, change, port);
    return tracer.trace({ family: change.example.family, protocol, sources: [source], targets: [target] });
  }
}

/** Source and target of a change's example on a side where both are there. */
export function endsOf(
  { parties, pairs }: SideView,
  side: 'before' | 'after',
  { example, target }: Change,
  port: number,
): { source: Source; target: Target } {
  const { family, entry } = example;
  const from = example.source[side];
  if (!isEntrance(target)) {
    const to = example.target![side];
    const source = pairs.sourceOf(from, family, parties.nodeOf(to));
    return { source, target: { address: parties.addressOf(to, family)!, port } };
  }
  const frontend = target.families.find((own) => own.family === family)![side]!;
  const node = entry === null ? parties.nodeOf(from) : entry[side] - parties.pods;
  const address = frontend.address ?? parties.addressOf(parties.pods + node, family)!;
  return { source: pairs.sourceOf(from, family, node), target: { address, port } };
}

/**
 * What decided a traced packet.
 * @param other direction in which the other side denied it: the rule of that direction is worth telling
 */
export function decisionOf({ branch, policies, steps }: Traced, other: Direction | null): Decision {
  const { egress, ingress } = policies;
  const answers = [egress, ingress].filter((answer) => answer !== null);
  const said = answers.flatMap((answer) => [...answer.policies, ...(answer.origin === null ? [] : [answer.origin])]);
  const denied = answers.find(({ verdict }) => verdict === 'denied');
  if (denied !== undefined) return { sentence: describeAnswer(denied), origin: originOfAnswer(denied), policies: said };
  if (!isArrived(branch.verdict)) {
    const told = steps();
    const origin = lastOrigin(told);
    const sentence = told.map((step) => (step.step === 'verdict' ? step.sentence : '')).findLast((text) => text !== '');
    const by = origin === null ? '' : `: ${describeOrigin(origin)}`;
    return { sentence: `${branch.verdict}, ${sentence ?? branch.reason}${by}`, origin, policies: said };
  }
  const wanted = other === 'egress' ? egress : (ingress ?? egress);
  if (wanted !== null && (other !== null || !branch.translated)) {
    return { sentence: describeAnswer(wanted), origin: originOfAnswer(wanted), policies: said };
  }
  const origin = branch.translated ? lastOrigin(steps()) : null;
  const by = origin === null ? 'nothing stands in its way' : `by ${describeOrigin(origin)}`;
  return { sentence: `${branch.verdict}, ${by}`, origin, policies: said };
}

/** The direction in which policies denied a packet; null where they did not. */
export function deniedBy(traced: Traced | null): Direction | null {
  if (traced === null) return null;
  const { egress, ingress } = traced.policies;
  return [egress, ingress].find((answer) => answer?.verdict === 'denied')?.direction ?? null;
}

function originOfAnswer({ origin, policies }: PolicyAnswer): Origin | null {
  return origin ?? policies[0] ?? null;
}

/** The object behind the last rule, map entry or choice that has one. */
function lastOrigin(steps: readonly Step[]): Origin | null {
  const found = steps.findLast(
    (step) => (step.step === 'rule' || step.step === 'map' || step.step === 'choice') && step.origin !== null,
  );
  return found !== undefined && 'origin' in found ? found.origin : null;
}

/** Why a change's packet cannot even be sent on a side. */
function absence({ source, target, example }: Change, side: 'before' | 'after'): Decision {
  if (example.source[side] < 0) return lacks(describeSubject(source));
  if (!isEntrance(target)) return lacks(describeSubject(target));
  return entranceAbsence(target, side);
}

function entranceAbsence(entrance: ServiceEntrance, side: 'before' | 'after'): Decision {
  const { namespace, name, port, protocol, kind, address } = entrance;
  const service = entrance[side];
  if (service === null) return lacks(`Service ${namespace}/${name}`);
  const at = (field: string, sentence: string): Decision => {
    const origin = originOf(service, field);
    return { sentence: `Service ${namespace}/${name} ${sentence}`, origin, policies: [] };
  };
  if (hasNoVirtualAddress(service)) {
    const isName = service.spec.type === 'ExternalName';
    return isName ? at('spec.type', 'is an external name') : at('spec.clusterIP', 'is headless');
  }
  switch (kind) {
    case 'ClusterIP':
      return at('spec.ports', `has no port ${port}/${protocol}`);
    case 'NodePort':
      return at('spec.ports', `has no nodePort ${port}/${protocol}`);
    case 'ExternalIP':
      return at('spec.externalIPs', `is not offered at ${address}, port ${port}/${protocol}`);
    case 'LoadBalancer':
      return at('status.loadBalancer', `is not offered at ${address}, port ${port}/${protocol}`);
  }
}

function lacks(what: string): Decision {
  return { sentence: `${what} does not exist`, origin: null, policies: [] };
}

function describeSubject({ id, before, after }: Subject): string {
  const workload = after ?? before;
  return workload === null ? id : describeWorkload(workload);
}
