/**
 * Effective rules: what is left of a pod's judgement order for one party at the other end, its peers already matched.
 *
 * Two pairs with equal effective rules at both ends are judged alike on every port, whatever policies the rules come from,
 * so they get one number, a *signature*. Nothing is judged here: who decides for a port is the datapath's business, which
 * runs a packet for each pair of signatures and each interval of ports that their rules tell apart.
 *
 * Signature 0 means that no policy selects the pod for the direction. In the network tier, where rules only add up, order
 * and repetition do not count; in the others they do.
 */

import { type Family, inPrefix } from '../model/address.ts';
import { namedPorts } from '../policy/named-ports.ts';
import {
  blockText,
  type Direction,
  type JudgementOrder,
  type PolicyAction,
  type PolicyPort,
  type PolicyRule,
  type PolicyTier,
} from '../policy/policy-rules.ts';
import type { Parties } from './parties.ts';
import type { PortRange } from './port-ranges.ts';
import { cutPoints, mergeRanges } from './port-ranges.ts';

/** A rule without its peer, ports resolved. */
export interface EffectiveRule {
  readonly tier: PolicyTier;
  readonly action: PolicyAction;
  /** Null: everything, ICMP too. */
  readonly ports: readonly PortRange[] | null;
}

export interface Signature {
  readonly number: number;
  readonly rules: readonly EffectiveRule[];
  /** Ports at which some rule begins or ceases to match, by protocol, ascending. */
  readonly cuts: ReadonlyMap<string, readonly number[]>;
}

/** Signatures toward every class of parties. */
type Row = Int32Array;

export class EffectiveRules {
  readonly signatures: Signature[] = [{ number: 0, rules: [], cuts: new Map() }];
  private readonly parties: Parties;
  private readonly byText = new Map<string, number>();
  /** Rules by their text, numbered; numbers of policies' rules without named ports, -2 where not yet known. */
  private readonly rules: EffectiveRule[] = [];
  private readonly ruleNumbers = new Map<string, number>();
  private readonly plainNumbers: Int32Array;
  /** By order, then class of the judged pod where its named ports matter, and family where CIDRs do. */
  private readonly rows = new Map<JudgementOrder, Map<number, Row>>();
  /** What `rowFor` answered, by direction, family and class. */
  private readonly known: readonly (Row | null | undefined)[][];
  private readonly everybody: readonly number[];
  private readonly peerClasses = new Map<readonly number[], readonly number[]>();
  /** Of blocks, by family and text. */
  private readonly blockClasses = new Map<string, readonly number[]>();

  constructor(parties: Parties) {
    this.parties = parties;
    this.plainNumbers = new Int32Array(parties.model.policies.rules.length).fill(-2);
    this.known = Array.from({ length: 4 }, () => new Array<Row | null | undefined>(parties.classCount));
    this.everybody = Array.from({ length: parties.classCount }, (_, number) => number);
  }

  /**
   * The signatures of a pod's direction toward every class of parties; null where no policy selects the pod.
   * @param judged class of the judged pod
   */
  rowFor(direction: Direction, judged: number, family: Family): Row | null {
    const known = this.known[(direction === 'ingress' ? 0 : 2) + (family === 4 ? 0 : 1)]!;
    let row = known[judged];
    if (row === undefined) {
      const order = this.orderOf(direction, judged);
      row = order === null ? null : this.rowOf(order, judged, family);
      known[judged] = row;
    }
    return row;
  }

  /**
   * The first rule of a pod's order that matches a party and does what a rule does for another pair.
   * @param tried classes of the pair that `like` decided for
   */
  findRule(
    judged: number,
    other: number,
    family: Family,
    like: PolicyRule,
    tried: { readonly judged: number; readonly other: number },
  ): PolicyRule | null {
    const order = this.orderOf(like.direction, judged);
    if (order === null) return null;
    const wanted = this.ruleNumber(like, tried.judged, tried.other);
    for (const rule of [...order.admin, ...(order.network?.rules ?? []), ...order.baseline]) {
      if (this.ruleNumber(rule, judged, other) !== wanted) continue;
      if (this.classesOfPeer(rule, family).includes(other)) return rule;
    }
    return null;
  }

  /** What judges pods of a class; null for classes of nodes and the outside, which policies do not select. */
  orderOf(direction: Direction, judged: number): JudgementOrder | null {
    const first = this.parties.firstOf[judged]!;
    return first < this.parties.pods ? this.parties.model.policies[direction][first]! : null;
  }

  private rowOf(order: JudgementOrder, judged: number, family: Family): Row {
    let rows = this.rows.get(order);
    if (rows === undefined) {
      rows = new Map();
      this.rows.set(order, rows);
    }
    const all = [...order.admin, ...(order.network?.rules ?? []), ...order.baseline];
    // Named ports are the destination's: of ingress those of the judged pod itself.
    const named = order.direction === 'ingress' && all.some(hasNamedPort) ? judged + 1 : 0;
    const block = family === 6 && all.some(({ peer }) => peer.kind === 'block') ? 1 : 0;
    const key = named * 2 + block;
    let row = rows.get(key);
    if (row === undefined) {
      row = this.makeRow(order, judged, family);
      rows.set(key, row);
    }
    return row;
  }

  private makeRow(order: JudgementOrder, judged: number, family: Family): Row {
    const { classCount } = this.parties;
    const texts = new Array<string>(classCount).fill(order.network === null ? '' : '|');
    const addTier = (rules: readonly PolicyRule[], isOrdered: boolean): void => {
      const lists = new Map<number, number[]>();
      for (const rule of rules) {
        for (const other of this.classesOfPeer(rule, family)) {
          const number = this.ruleNumber(rule, judged, other);
          if (number < 0) continue;
          const list = lists.get(other);
          if (list === undefined) lists.set(other, [number]);
          else list.push(number);
        }
      }
      for (const [other, list] of lists) {
        const numbers = isOrdered ? list : [...new Set(list)].sort((a, b) => a - b);
        texts[other] += `${numbers.join()};`;
      }
    };
    addTier(order.admin, true);
    addTier(order.network?.rules ?? [], false);
    addTier(order.baseline, true);
    const row = new Int32Array(classCount);
    for (let other = 0; other < classCount; other++) row[other] = this.signatureOf(texts[other]!);
    return row;
  }

  private signatureOf(text: string): number {
    let number = this.byText.get(text);
    if (number === undefined) {
      number = this.signatures.length;
      const rules = (text.match(/\d+/g) ?? []).map((rule) => this.rules[Number(rule)]!);
      this.signatures.push({ number, rules, cuts: cutPoints(rules.flatMap(({ ports }) => ports ?? [])) });
      this.byText.set(text, number);
    }
    return number;
  }

  private classesOfPeer({ peer }: PolicyRule, family: Family): readonly number[] {
    const { parties } = this;
    switch (peer.kind) {
      case 'any':
        return this.everybody;
      case 'pods':
        return this.classesOfList(peer.endpoints, 0);
      case 'nodes':
        return this.classesOfList(peer.nodes, parties.pods);
      case 'block': {
        const text = `${family} ${blockText(peer)}`;
        let classes = this.blockClasses.get(text);
        if (classes === undefined) {
          classes = this.everybody.filter((other) => this.isInBlock(peer, other, family));
          this.blockClasses.set(text, classes);
        }
        return classes;
      }
    }
  }

  private classesOfList(list: readonly number[], first: number): readonly number[] {
    let classes = this.peerClasses.get(list);
    if (classes === undefined) {
      classes = this.parties.classesOf(first === 0 ? list : list.map((member) => member + first));
      this.peerClasses.set(list, classes);
    }
    return classes;
  }

  private isInBlock(peer: Extract<PolicyRule['peer'], { kind: 'block' }>, other: number, family: Family): boolean {
    const { parties } = this;
    const party = parties.firstOf[other]!;
    if (!parties.model.policies.profile.cidrMatchesCluster && parties.kindOf(party) !== 'outside') return false;
    const address = parties.addressOf(party, family);
    return (
      address !== null && inPrefix(address, peer.prefix) && !peer.except.some((prefix) => inPrefix(address, prefix))
    );
  }

  /** Number of a rule without its peer; -1 where its named ports are nothing at the destination. */
  private ruleNumber(rule: PolicyRule, judged: number, other: number): number {
    const known = this.plainNumbers[rule.id]!;
    if (known !== -2) return known;
    const ports =
      rule.ports === null ? null : this.resolvePorts(rule.ports, rule.direction === 'ingress' ? judged : other);
    if (ports !== null && ports.length === 0) return -1;
    const text = `${rule.tier} ${rule.action} ${ports?.map(({ protocol, first, last }) => `${protocol} ${first} ${last}`).join() ?? '*'}`;
    let number = this.ruleNumbers.get(text);
    if (number === undefined) {
      number = this.rules.length;
      this.rules.push({ tier: rule.tier, action: rule.action, ports });
      this.ruleNumbers.set(text, number);
    }
    if (!hasNamedPort(rule)) this.plainNumbers[rule.id] = number;
    return number;
  }

  private resolvePorts(ports: readonly PolicyPort[], destination: number): PortRange[] {
    const party = this.parties.firstOf[destination]!;
    const pod = this.parties.model.topology.endpoints[party]?.pod;
    const ranges: PortRange[] = [];
    for (const port of ports) {
      if (port.kind === 'range') ranges.push(port);
      else if (pod !== undefined) {
        for (const found of namedPorts(pod, port.name, port.protocol)) {
          ranges.push({ protocol: found.protocol, first: found.port, last: found.port });
        }
      }
    }
    return mergeRanges(ranges);
  }
}

function hasNamedPort({ ports }: PolicyRule): boolean {
  return ports?.some(({ kind }) => kind === 'named') ?? false;
}
