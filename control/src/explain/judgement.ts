/**
 * What policies said of a packet, as JSON and in words: which rule and peer decided, or which policies isolate the pod
 * without one, or why nobody was asked.
 *
 * A judgement comes from an event of the program (the rule or map row that decided); nothing is evaluated again here.
 */

import { MAP_POLICY } from '@flatpath/engine/programs/ebpf-image';
import { EVENT_MAP, EVENT_RULE, EVENT_TUPLE } from '@flatpath/engine/programs/record';
import type { Image } from '../compile/image.ts';
import type { Family } from '../model/address.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import { describeOrigin, type Origin, originOf } from '../model/origin.ts';
import type { Direction, Judgement, PolicyAction, PolicyTier } from '../policy/policy-rules.ts';

/** An object by its name; `namespace` is '' for one of the whole cluster. */
export interface PolicyReference {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/**
 * Why a direction of a pod was allowed, denied, or not judged:
 * `rule`: a rule matched. `isolated`: none did, and the policies isolate the pod. `open`: none did, and nothing isolates
 * it. `unselected`: no policy selects the pod. `own-node`, `itself`: always allowed. `dump`: the rules of its node come
 * from a dump, which has its own. `not-reached`: the packet ended before. `unjudged`: it arrived, and no policy was asked.
 */
export type PolicyBecause =
  | 'rule'
  | 'isolated'
  | 'open'
  | 'unselected'
  | 'own-node'
  | 'itself'
  | 'dump'
  | 'not-reached'
  | 'unjudged';

/** What one direction of a pod answered to a packet. */
export interface PolicyAnswer {
  readonly direction: Direction;
  /** 'namespace/name'. */
  readonly pod: string;
  readonly verdict: 'allowed' | 'denied' | 'not-judged';
  readonly because: PolicyBecause;
  /** The policy whose rule decided; null where none did. So are the next five. */
  readonly policy: PolicyReference | null;
  readonly tier: PolicyTier | null;
  readonly priority: number | null;
  readonly action: PolicyAction | null;
  /** Field of the rule in its policy: 'spec.ingress[0]'. */
  readonly rule: string | null;
  /** Field of the peer: 'spec.ingress[0].from[1]'; the rule's own where it has no peers. */
  readonly peer: string | null;
  /** Where the peer is written; null without a rule. */
  readonly origin: Origin | null;
  /** The rule's policy; without a rule those that isolate the pod, or, where it is open, those that select it. */
  readonly policies: readonly Origin[];
}

const NO_RULE = { policy: null, tier: null, priority: null, action: null, rule: null, peer: null, origin: null };

/** The judgement behind an event of a rule or a map, null where it is none; `a` and `b` are its first operands. */
export function judgementOfEvent(image: Image, family: Family, code: number, a: number, b: number): Judgement | null {
  switch (code) {
    case EVENT_RULE: {
      if (image.nft !== null) return (family === 6 ? image.nft.family6 : image.nft.family4).judgementOf(a);
      return (family === 6 ? image.rules6 : image.rules4)?.judgementOf(a) ?? null;
    }
    case EVENT_MAP:
      return image.maps === null || a !== MAP_POLICY || b < 0 ? null : image.maps.judgementOf(b);
    default:
      return null;
  }
}

/** The judgements in a packet's events, in the order in which they were made. */
export function readJudgements(image: Image, events: Int32Array): Judgement[] {
  const found: Judgement[] = [];
  let family: Family = 4;
  for (let at = 0; at < events.length; ) {
    const code = events[at]! & 0xff;
    const size = events[at]! >> 8;
    if (size < 1) break;
    if (code === EVENT_TUPLE) family = events[at + 1] === 6 ? 6 : 4;
    else {
      const judgement = judgementOfEvent(image, family, code, events[at + 1] ?? 0, events[at + 2] ?? 0);
      if (judgement !== null) found.push(judgement);
    }
    at += size;
  }
  return found;
}

/** Judgements in words: many packets meet few judgements, and their positions in files are dear to find. */
const described = new WeakMap<Judgement, PolicyAnswer>();

/** @param pod 'namespace/name' of the pod that was judged */
export function answerOf(judgement: Judgement, pod: string): PolicyAnswer {
  let answer = described.get(judgement);
  if (answer === undefined) {
    answer = describeJudgement(judgement);
    described.set(judgement, answer);
  }
  return { ...answer, pod };
}

/** The answer, but for the pod. */
function describeJudgement({ direction, verdict, rule, policies }: Judgement): PolicyAnswer {
  const pod = '';
  const origins = policies.map((policy) => originOf(policy, ''));
  if (rule === null) {
    const because = verdict === 'denied' ? 'isolated' : 'open';
    return { direction, pod, verdict, because, ...NO_RULE, policies: origins };
  }
  const { tier, priority, action, field, peerField } = rule;
  return {
    direction,
    pod,
    verdict,
    because: 'rule',
    policy: referenceTo(rule.policy),
    tier,
    priority,
    action,
    rule: field,
    peer: peerField,
    origin: originOf(rule.policy, peerField),
    policies: origins,
  };
}

/** The answer where no rule and no policy was asked. */
export function answerWithout(
  direction: Direction,
  pod: string,
  because: Exclude<PolicyBecause, 'rule' | 'isolated' | 'open'>,
): PolicyAnswer {
  const isAllowed = because === 'unselected' || because === 'own-node' || because === 'itself';
  const verdict = isAllowed ? 'allowed' : 'not-judged';
  return { direction, pod, verdict, because, ...NO_RULE, policies: [] };
}

/** A sentence: 'egress of pod shop/cart is denied: no rule of NetworkPolicy shop/deny (shop.yaml:3) allows it'. */
export function describeAnswer(answer: PolicyAnswer): string {
  const { direction, pod, verdict, because, origin, policies } = answer;
  const subject = `${direction} of pod ${pod}`;
  switch (because) {
    case 'rule':
      return `${subject} is ${verdict} by ${origin === null ? 'a rule' : describeOrigin(origin)}${describeTier(answer)}`;
    case 'isolated':
      return `${subject} is denied: no rule of ${list(policies, 'or')} allows it`;
    case 'open':
      return `${subject} is allowed: no rule of ${list(policies, 'or')} matches, and nothing isolates the pod`;
    case 'unselected':
      return `no policy selects pod ${pod} for ${direction}`;
    case 'own-node':
      return `${subject} is allowed: ${direction === 'egress' ? 'to' : 'from'} its own node`;
    case 'itself':
      return `${subject} is allowed: it talks to itself`;
    case 'dump':
      return `${subject} is up to the dump that its node's rules come from`;
    case 'not-reached':
      return `${subject} is not judged: the packet ends before`;
    case 'unjudged':
      return `${subject} is not judged: no policy is asked`;
  }
}

function referenceTo({ kind, metadata: { namespace, name } }: KubernetesObject): PolicyReference {
  return { kind, namespace, name };
}

/** The order of policies of the administrator's matters, so it is said; NetworkPolicies have none. */
function describeTier({ tier, priority, policy }: PolicyAnswer): string {
  if (tier === null || tier === 'network' || policy?.kind === 'BaselineAdminNetworkPolicy') return '';
  return `, tier ${tier === 'admin' ? 'Admin' : 'Baseline'}, priority ${priority}`;
}

/** Many policies may isolate a pod; a sentence names the first. */
const NAMED = 5;

function list(policies: readonly Origin[], word: string): string {
  const names = policies.slice(0, NAMED).map(describeOrigin);
  if (policies.length > NAMED) names.push(`${policies.length - NAMED} more`);
  const last = names.pop() ?? 'none';
  return names.length === 0 ? last : `${names.join(', ')} ${word} ${last}`;
}
