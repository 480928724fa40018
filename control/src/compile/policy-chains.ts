/**
 * What judges a pod, as chains of the filter table in one family.
 *
 *     POLICY-OUT-<pod>, POLICY-IN-<pod>    a pod's own, one a judged direction: itself returns, then on to its first tier
 *     POLICY-ADM-<hash>    Admin tier: pass and the end go on to the next tier
 *     POLICY-NET-<hash>    NetworkPolicies: the end denies
 *     POLICY-BASE-<hash>   Baseline tier: pass and the end allow
 *
 * A tier's chain is shared by all pods that the same policies judge; where policies for ingress name ports, by those that
 * give the names the same numbers. Its name is the hash of its rules, so it does not change with anything else. A rule of
 * a policy is a rule of the chain, or one for each protocol (and 15 ports) that it names; those that no packet of the
 * family can match are left out. Allowed is RETURN: the other end of the packet is still to be judged.
 *
 * Each rule that decides carries its judgement; what returns without one is not judged.
 */

import type { Address, Family } from '../model/address.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { Pod } from '../model/pod.ts';
import type { Protocol } from '../model/port.ts';
import { namedPorts } from '../policy/named-ports.ts';
import type { Direction, Judgement, JudgementOrder, PolicyRule } from '../policy/policy-rules.ts';
import type { PolicyProfile } from '../policy/profile.ts';
import type { Ipset } from './ipset.ts';
import { shortHash } from './iptables-names.ts';
import {
  type Chain,
  comment,
  type Header,
  hostMatch,
  type Match,
  makeRule,
  type Rule,
  type Source,
  type Target,
} from './iptables-rules.ts';
import { ruleText } from './iptables-text.ts';
import type { PeerMatch, PolicySets, Side } from './policy-sets.ts';

/** Chains of one pod's direction, and the sets that they ask. */
export interface PodChains {
  /** The pod's own chain, where its packets are sent. */
  readonly entry: Chain;
  /** The chains of its tiers, in their order. */
  readonly tiers: readonly Chain[];
  readonly sets: readonly Ipset[];
}

/** A rule before its chain has a name. */
interface Draft {
  readonly header: Header;
  readonly matches: readonly Match[];
  readonly target: Target;
  readonly sources: readonly Source[];
  readonly judgement: Judgement | null;
  /** The sets that it asks. */
  readonly sets: readonly Ipset[];
}

interface Tier {
  readonly chains: readonly Chain[];
  readonly sets: readonly Ipset[];
}

type Range = readonly [first: number, last: number];

/** Ports of one protocol; null: all of them. */
interface ProtocolPorts {
  readonly protocol: Protocol;
  readonly ranges: readonly Range[] | null;
}

/** Longest comment that the kernel stores. */
const MAX_COMMENT = 255;
/** Ports of a multiport match; a range counts twice. */
const MULTIPORT_SLOTS = 15;
const LAST_PORT = 65_535;
const RETURN: Target = { kind: 'return' };
const DENY: Target = { kind: 'deny' };
const PROFILE: readonly Source[] = [{ option: 'policy.profile' }];
const SIDE: Readonly<Record<Direction, Side>> = { ingress: 'src', egress: 'dst' };

/** Makes the chains of one family and remembers those that pods share. */
export class PolicyChains {
  private readonly family: Family;
  private readonly sets: PolicySets;
  private readonly profile: PolicyProfile;
  private readonly tiers = new Map<JudgementOrder, Map<string, Tier>>();
  /** By name. */
  private readonly made = new Map<string, Chain>();
  private readonly drafted = new Map<PolicyRule, readonly Draft[]>();
  private readonly contents = new Map<Draft, string>();
  private readonly judgements = new Map<PolicyRule, Judgement>();

  constructor(family: Family, sets: PolicySets, profile: PolicyProfile) {
    this.family = family;
    this.sets = sets;
    this.profile = profile;
  }

  /** The chains of a direction of the pod with an address of the family. */
  podChains(address: Address, pod: Pod, order: JudgementOrder): PodChains {
    const { direction } = order;
    const tier = this.tiersOf(order, pod);
    const name = podChainName(pod, direction);
    const rules: Rule[] = [];
    if (this.profile.hairpin === 'always') {
      const own = hostMatch(address);
      const header: Header = direction === 'egress' ? { destination: own } : { source: own };
      rules.push(makeRule('filter', name, header, [comment('a pod reaches itself')], RETURN, PROFILE));
    }
    const end = tier.chains[0] === undefined ? open(order) : goOn(order, tier.chains[0].name);
    rules.push(toRule(name, end));
    return { entry: { table: 'filter', name, rules }, tiers: tier.chains, sets: tier.sets };
  }

  private tiersOf(order: JudgementOrder, subject: Pod): Tier {
    let variants = this.tiers.get(order);
    if (variants === undefined) {
      variants = new Map();
      this.tiers.set(order, variants);
    }
    const key = order.direction === 'ingress' ? numbersOf(order, subject) : '';
    let tier = variants.get(key);
    if (tier === undefined) {
      tier = this.makeTiers(order, subject);
      variants.set(key, tier);
    }
    return tier;
  }

  /** The chains of an order's tiers, the first one first; none where all that is left is open. */
  private makeTiers(order: JudgementOrder, subject: Pod): Tier {
    const sets = new Set<Ipset>();
    const chains: Chain[] = [];
    const { admin, network, baseline } = order;
    if (network !== null) {
      const drafts = network.rules.flatMap((rule) => this.draftsOf(rule, subject, open(order), sets));
      chains.push(this.chain('POLICY-NET-', [...drafts, isolated(order, network.isolating)]));
    } else if (baseline.length > 0) {
      const drafts = baseline.flatMap((rule) => this.draftsOf(rule, subject, open(order), sets));
      chains.push(this.chain('POLICY-BASE-', [...drafts, open(order)]));
    }
    if (admin.length > 0) {
      const next = chains[0] === undefined ? open(order) : goOn(order, chains[0].name);
      const drafts = admin.flatMap((rule) => this.draftsOf(rule, subject, next, sets));
      chains.unshift(this.chain('POLICY-ADM-', [...drafts, next]));
    }
    return { chains, sets: [...sets] };
  }

  /** The chain of these rules, which is the same for all who need it. */
  private chain(prefix: string, drafts: readonly Draft[]): Chain {
    const name = `${prefix}${shortHash(drafts.map((draft) => this.contentOf(draft)).join('\n'))}`;
    let chain = this.made.get(name);
    if (chain === undefined) {
      chain = { table: 'filter', name, rules: drafts.map((draft) => toRule(name, draft)) };
      this.made.set(name, chain);
    }
    return chain;
  }

  /** All that a rule is: policies that isolate are in the judgement alone. */
  private contentOf(draft: Draft): string {
    let content = this.contents.get(draft);
    if (content === undefined) {
      const { judgement } = draft;
      const policies = judgement?.policies.map(policyName).join(' ') ?? '';
      content = `${ruleText(toRule('', draft), this.family)} ${judgement?.direction ?? ''} ${policies}`;
      this.contents.set(draft, content);
    }
    return content;
  }

  // ---- rules ------------------------------------------------------------------------------------------------------

  /**
   * A policy's rule as rules of its tier; the same ones for all pods that it is the same for.
   * @param passed what follows for a packet that the rule passes on
   * @param asked gets the sets that the rules ask
   */
  private draftsOf(rule: PolicyRule, subject: Pod, passed: Draft, asked: Set<Ipset>): readonly Draft[] {
    const asksSubject = rule.direction === 'ingress' && (rule.ports ?? []).some(({ kind }) => kind === 'named');
    const isShared = rule.action !== 'pass' && !asksSubject;
    let drafts = isShared ? this.drafted.get(rule) : undefined;
    if (drafts === undefined) {
      drafts = this.makeDrafts(rule, subject, passed);
      if (isShared) this.drafted.set(rule, drafts);
    }
    for (const { sets } of drafts) for (const set of sets) asked.add(set);
    return drafts;
  }

  private makeDrafts(rule: PolicyRule, subject: Pod, passed: Draft): Draft[] {
    const parts = [comment(`${policyName(rule.policy)} ${rule.peerField}`.slice(0, MAX_COMMENT))];
    const sources: Source[] = [{ object: rule.policy, field: rule.peerField }];
    if (rule.peerField !== rule.field) sources.push({ object: rule.policy, field: rule.field });
    const drafts: Draft[] = [];
    const push = (peer: PeerMatch, protocol: Protocol | null, ports: readonly Match[]): void => {
      const { target, judgement } = this.decision(rule, passed);
      const address =
        peer.address === null
          ? {}
          : rule.direction === 'ingress'
            ? { source: peer.address }
            : { destination: peer.address };
      const header: Header = protocol === null ? address : { ...address, protocol };
      const matches = [...parts, ...peer.matches, ...ports];
      drafts.push({ header, matches, target, sources, judgement, sets: peer.sets });
    };

    const peer = this.sets.matchPeer(rule, SIDE[rule.direction]);
    if (rule.ports === null) {
      if (peer !== null) push(peer, null, []);
      return drafts;
    }
    if (peer !== null) {
      for (const { protocol, ranges } of numberedPorts(rule, subject)) {
        if (ranges === null) push(peer, protocol, []);
        else for (const some of chunks(ranges)) push(peer, protocol, [{ kind: 'ports', protocol, ranges: some }]);
      }
    }
    if (rule.direction === 'egress') {
      for (const port of rule.ports) {
        const named = port.kind === 'named' ? this.sets.matchNamedPort(rule, port) : null;
        if (named !== null) push(named, null, []);
      }
    }
    return drafts;
  }

  private decision(rule: PolicyRule, passed: Draft): Pick<Draft, 'target' | 'judgement'> {
    if (rule.action === 'pass') return { target: passed.target, judgement: passed.judgement };
    let judgement = this.judgements.get(rule);
    if (judgement === undefined) {
      const verdict = rule.action === 'accept' ? 'allowed' : 'denied';
      judgement = { direction: rule.direction, verdict, rule, policies: [rule.policy] };
      this.judgements.set(rule, judgement);
    }
    return { target: rule.action === 'accept' ? RETURN : DENY, judgement };
  }
}

/** The name of a policy or pod in comments. */
export function policyName({ kind, metadata }: KubernetesObject): string {
  return metadata.namespace === '' ? `${kind} ${metadata.name}` : `${kind} ${metadata.namespace}/${metadata.name}`;
}

function podChainName({ metadata }: Pod, direction: Direction): string {
  const prefix = direction === 'egress' ? 'POLICY-OUT-' : 'POLICY-IN-';
  return prefix + shortHash(`${metadata.namespace}/${metadata.name}`);
}

function toRule(chain: string, { header, matches, target, sources, judgement }: Draft): Rule {
  return makeRule('filter', chain, header, matches, target, sources, judgement);
}

// ---- ends of a tier -------------------------------------------------------------------------------------------------

function goOn(order: JudgementOrder, chain: string): Draft {
  const target: Target = { kind: 'goto', chain };
  return { header: {}, matches: [], target, sources: subjects(order.policies), judgement: null, sets: [] };
}

/** Policies select the pod and nothing of them decided: everything passes. */
function open(order: JudgementOrder): Draft {
  const { direction, policies } = order;
  const judgement: Judgement = { direction, verdict: 'allowed', rule: null, policies };
  const words = comment(`open for ${direction}`);
  return { header: {}, matches: [words], target: RETURN, sources: subjects(policies), judgement, sets: [] };
}

function isolated({ direction }: JudgementOrder, policies: readonly KubernetesObject[]): Draft {
  const judgement: Judgement = { direction, verdict: 'denied', rule: null, policies };
  const words = comment(`isolated for ${direction} by ${policies.map(policyName).join(', ')}`.slice(0, MAX_COMMENT));
  return { header: {}, matches: [words], target: DENY, sources: subjects(policies), judgement, sets: [] };
}

/** Where policies say whom they are about. */
export function subjects(policies: readonly KubernetesObject[]): Source[] {
  return policies.map((object) => ({
    object,
    field: object.kind === 'NetworkPolicy' ? 'spec.podSelector' : 'spec.subject',
  }));
}

// ---- ports ----------------------------------------------------------------------------------------------------------

/** What the port names of an order's rules mean in a pod. */
function numbersOf({ admin, network, baseline }: JudgementOrder, pod: Pod): string {
  const found = new Map<string, string>();
  for (const { ports } of [...admin, ...(network?.rules ?? []), ...baseline]) {
    for (const port of ports ?? []) {
      if (port.kind !== 'named') continue;
      const key = `${port.protocol ?? ''} ${port.name}`;
      if (found.has(key)) continue;
      const numbers = namedPorts(pod, port.name, port.protocol).map((one) => `${one.protocol}/${one.port}`);
      found.set(key, numbers.sort().join(','));
    }
  }
  return [...found].map(([key, numbers]) => `${key}=${numbers}`).join(' ');
}

/** A rule's ports by protocol, in order and joined; names count where the subject is the destination. */
function numberedPorts(rule: PolicyRule, subject: Pod): ProtocolPorts[] {
  const found = new Map<Protocol, Range[]>();
  const add = (protocol: Protocol, first: number, last: number): void => {
    const ranges = found.get(protocol) ?? [];
    ranges.push([first, last]);
    found.set(protocol, ranges);
  };
  for (const port of rule.ports ?? []) {
    if (port.kind === 'range') add(port.protocol, port.first, port.last);
    else if (rule.direction === 'ingress') {
      for (const { protocol, port: number } of namedPorts(subject, port.name, port.protocol))
        add(protocol, number, number);
    }
  }
  return [...found].map(([protocol, ranges]) => {
    const joined = joinRanges(ranges);
    const [first, last] = joined[0]!;
    return { protocol, ranges: first === 0 && last === LAST_PORT ? null : joined };
  });
}

function joinRanges(ranges: readonly Range[]): Range[] {
  const joined: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = joined.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined;
}

/** Ranges in groups that one multiport match holds. */
function chunks(ranges: readonly Range[]): Range[][] {
  const groups: Range[][] = [];
  let slots = MULTIPORT_SLOTS;
  for (const range of ranges) {
    const need = range[0] === range[1] ? 1 : 2;
    if (slots + need > MULTIPORT_SLOTS) {
      groups.push([]);
      slots = 0;
    }
    groups.at(-1)!.push(range);
    slots += need;
  }
  return groups;
}
