/**
 * What one party reaches at another's own address, port by port: parties that nothing tells apart are tried once.
 *
 * A pair's *key* is all that its answer can depend on: the effective rules of the sender's egress and of the receiver's
 * ingress, what kinds of party they are, whether they share a node, and the family. Either end is answered by itself
 * (half-answers.ts): for each new half one packet is run for each protocol and each interval of ports that its rules tell
 * apart. Pods whose address is a Service's too, or another pod's, are tried pair by pair.
 *
 * Ports of a node's addresses at which Services listen are left out: they belong to those Services.
 */

import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '@flatpath/engine/wire/burst';
import { listServicePorts, type ServicePortInfo } from '../compile/service-ports.ts';
import type { Address, Family } from '../model/address.ts';
import type { Direction } from '../policy/policy-rules.ts';
import type { Source, Target } from '../probe/connection.ts';
import type { Protocol } from '../probe/reference.ts';
import type { EffectiveRules } from './effective.ts';
import type { Cell } from './evaluator.ts';
import { type HalfAnswers, type HalfPair, joinHalves } from './half-answers.ts';
import type { Parties, PartyKind } from './parties.ts';
import type { Denial, Interval, PortAnswer, PortAnswers, PortLists } from './port-answers.ts';
import { FIRST_PORT, LAST_PORT } from './port-ranges.ts';

const PORT_PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const KIND_NUMBER: Readonly<Record<PartyKind, number>> = { pod: 0, node: 1, outside: 2 };
/** Combinations of kinds, place and family. */
const SITUATIONS = 3 * 3 * 2 * 2;

/** Numbers that are put together are below it. */
const RADIX = 0x400_0000;

interface Waiting {
  readonly key: number;
  readonly situation: number;
  /** Of the key: the signatures, or the parties. */
  readonly detail: number;
  readonly source: number;
  readonly target: number;
  readonly family: Family;
  readonly egress: number;
  readonly ingress: number;
}

function makeNumbers(): Map<number, number>[] {
  return Array.from({ length: 2 * SITUATIONS }, () => new Map<number, number>());
}

export class PairAnswers {
  private readonly parties: Parties;
  private readonly rules: EffectiveRules;
  private readonly egress: HalfAnswers;
  private readonly ingress: HalfAnswers;
  /** By situation, then signatures or parties. */
  private readonly keys = makeNumbers();
  /** Numbers of the halves. */
  private readonly halves: Readonly<Record<Direction, Map<number, number>[]>> = {
    egress: makeNumbers(),
    ingress: makeNumbers(),
  };
  /** By the numbers of the halves' lists. */
  private readonly joined = new Map<number, PortAnswers>();
  /** KIND_NUMBER of each party. */
  private readonly kinds: Uint8Array;
  private readonly lists: (PortAnswers | null)[] = [];
  private readonly portLists: PortLists;
  private waiting: Waiting[] = [];
  /** Ports of nodes' addresses that belong to Services. */
  private readonly nodeServices = new Map<Protocol, Set<number>>();
  private readonly servedPorts = new Map<string, ServicePortInfo[]>();
  /** 1 for pods that share nothing with others of their class. */
  private readonly isSpecial: Uint8Array;
  private readonly ownLists = new Map<string, PortAnswers>();

  /** @param halves answer for one direction each */
  constructor(
    parties: Parties,
    rules: EffectiveRules,
    halves: Readonly<Record<Direction, HalfAnswers>>,
    portLists: PortLists,
  ) {
    this.parties = parties;
    this.portLists = portLists;
    this.rules = rules;
    this.egress = halves.egress;
    this.ingress = halves.ingress;
    this.isSpecial = new Uint8Array(parties.count);
    this.kinds = Uint8Array.from({ length: parties.count }, (_, party) => KIND_NUMBER[parties.kindOf(party)]);
    this.readServices();
  }

  /** True for a pod that shares nothing with others of its class. */
  isLikeNoOther(party: number): boolean {
    return this.isSpecial[party] === 1;
  }

  /** Number of keys so far; `listOf` knows those that were evaluated. */
  get count(): number {
    return this.lists.length;
  }

  /** Key of a pair of parties that both have an address of the family; noted for `evaluate` where it is new. */
  keyOf(source: number, target: number, family: Family): number {
    const { parties, rules } = this;
    const from = parties.classOf[source]!;
    const to = parties.classOf[target]!;
    const egress = rules.rowFor('egress', from, family)?.[to] ?? 0;
    const ingress = rules.rowFor('ingress', to, family)?.[from] ?? 0;
    return this.keyFor(source, target, family, egress, ingress, this.sharesNode(source, target));
  }

  /** As `keyOf`, for a caller that knows the signatures and whether the two share a node. */
  keyFor(source: number, target: number, family: Family, egress: number, ingress: number, sharesNode: boolean): number {
    const { isSpecial, kinds } = this;
    let situation = (kinds[source]! * 3 + kinds[target]!) * 4 + (sharesNode ? 2 : 0) + (family === 6 ? 1 : 0);
    let detail = egress * RADIX + ingress;
    if (isSpecial[source] === 1 || isSpecial[target] === 1) {
      situation += SITUATIONS;
      detail = source * RADIX + target;
    }
    const known = this.keys[situation]!;
    let key = known.get(detail);
    if (key === undefined) {
      key = this.lists.length;
      known.set(detail, key);
      this.lists.push(null);
      this.waiting.push({ key, situation, detail, source, target, family, egress, ingress });
    }
    return key;
  }

  /** Says which pair of a key that is not yet evaluated is to be tried. */
  tryPair(key: number, source: number, target: number): void {
    const at = this.waiting.length - (this.lists.length - key);
    this.waiting[at] = { ...this.waiting[at]!, source, target };
  }

  /** Runs the packets of all keys that were noted since the last time. */
  evaluate(): void {
    const { waiting } = this;
    this.waiting = [];
    const halves = waiting.map((pair) => this.halvesOf(pair));
    this.egress.evaluate();
    this.ingress.evaluate();
    waiting.forEach(({ key }, i) => {
      const { egress, ingress } = halves[i]!;
      const into = this.ingress.listOf(ingress);
      this.lists[key] = egress < 0 ? into : this.join(this.egress.listOf(egress), into);
    });
  }

  /** Numbers of a pair's halves; egress -1 where no policy selects the sender. */
  private halvesOf(pair: Waiting): { egress: number; ingress: number } {
    const { situation, detail } = pair;
    if (situation >= SITUATIONS) {
      return { egress: this.halfOf('egress', pair, detail), ingress: this.halfOf('ingress', pair, detail) };
    }
    return {
      egress: pair.egress === 0 ? -1 : this.halfOf('egress', pair, pair.egress),
      ingress: this.halfOf('ingress', pair, pair.ingress),
    };
  }

  private halfOf(direction: Direction, pair: Waiting, detail: number): number {
    const known = this.halves[direction][pair.situation]!;
    let number = known.get(detail);
    if (number === undefined) {
      number = this[direction].add(this.halfPair(direction, pair));
      known.set(detail, number);
    }
    return number;
  }

  private halfPair(direction: Direction, pair: Waiting): HalfPair {
    const isSpecial = pair.situation >= SITUATIONS;
    const signatures = isSpecial ? [pair.egress, pair.ingress] : [pair[direction]];
    const intervals = this.intervalsOf(pair, signatures);
    const { classOf } = this.parties;
    const ends = [classOf[pair.source]!, classOf[pair.target]!] as const;
    const [judged, other] = direction === 'egress' ? ends : [ends[1], ends[0]];
    const cells = intervals.map((interval) => this.cellOf(pair, interval));
    return { signature: isSpecial ? null : pair[direction], judged, other, intervals, cells };
  }

  private join(egress: PortAnswers, ingress: PortAnswers): PortAnswers {
    const halves = egress.number * RADIX + ingress.number;
    let list = this.joined.get(halves);
    if (list === undefined) {
      list = joinHalves(egress, ingress, this.portLists);
      this.joined.set(halves, list);
    }
    return list;
  }

  /** The answers of a key that was evaluated; equal keys share the list, whose denials may name another pair's rules. */
  listOf(key: number): PortAnswers {
    return this.lists[key]!;
  }

  /** The answers of a pair with its own rules, by classes of its parties; `key` is the pair's. */
  ownListOf(key: number, from: number, to: number, family: Family): PortAnswers {
    const list = this.lists[key]!;
    if (!list.namesRules) return list;
    const text = `${key} ${from} ${to} ${family}`;
    let own = this.ownLists.get(text);
    if (own === undefined) {
      const entries = list.entries.map((entry) => ({
        ...entry,
        denial: this.ownDenial(entry.denial, from, to, family),
      }));
      own = this.portLists.listOf(entries);
      this.ownLists.set(text, own);
    }
    return own;
  }

  /** A pair's own answer at one port, null where its key was not evaluated or leaves the port out. */
  answerAt(source: number, target: number, family: Family, protocol: Protocol, port: number): PortAnswer | null {
    const key = this.keyOf(source, target, family);
    if (this.lists[key] === null) return null;
    const { classOf } = this.parties;
    const list = this.ownListOf(key, classOf[source]!, classOf[target]!, family);
    return (
      list.entries.find((entry) => entry.protocol === protocol && entry.first <= port && port <= entry.last) ?? null
    );
  }

  private ownDenial(denial: Denial | null, from: number, to: number, family: Family): Denial | null {
    if (denial === null || denial.rule === null) return denial;
    const [judged, other] = denial.direction === 'egress' ? [from, to] : [to, from];
    return { ...denial, rule: this.rules.findRule(judged, other, family, denial.rule, denial), judged, other };
  }

  /** True for a port of nodes' addresses that is a Service's, and not part of any pair's answers. */
  isServed(protocol: Protocol, port: number): boolean {
    return this.nodeServices.get(protocol)?.has(port) ?? false;
  }

  /** @param entryNode node that a packet from outside enters by; -1: the first */
  sourceOf(party: number, family: Family, entryNode: number): Source {
    const { parties } = this;
    const address = parties.addressOf(party, family)!;
    const node = parties.nodeOf(party);
    switch (parties.kindOf(party)) {
      case 'pod':
        return { node, entry: ENTRY_POD, endpoint: party, address };
      case 'node':
        return { node, entry: ENTRY_HOST, endpoint: -1, address };
      case 'outside':
        return { node: Math.max(entryNode, 0), entry: ENTRY_UPLINK, endpoint: -1, address };
    }
  }

  sharesNode(source: number, target: number): boolean {
    const node = this.parties.nodeOf(source);
    return node >= 0 && node === this.parties.nodeOf(target);
  }

  private cellOf({ source, target, family }: Waiting, { protocol, first, last }: Interval): Cell {
    const { parties } = this;
    const port = protocol === 'ICMP' ? 0 : this.freePort(target, protocol, first, last);
    const to: Target = { address: parties.addressOf(target, family)!, port };
    return { source: this.sourceOf(source, family, parties.nodeOf(target)), target: to, protocol };
  }

  /** Where the answers of a pair can change; an interval of a node that Services take whole is left out. */
  private intervalsOf({ source, target, family }: Waiting, signatures: readonly number[]): Interval[] {
    const { rules } = this;
    const intervals: Interval[] = [];
    for (const protocol of PORT_PROTOCOLS) {
      const cuts = new Set<number>();
      for (const signature of signatures) {
        for (const cut of rules.signatures[signature]!.cuts.get(protocol) ?? []) cuts.add(cut);
      }
      if (this.isSpecial[target] === 1) this.addServedCuts(cuts, target, family, protocol);
      const firsts = [FIRST_PORT, ...[...cuts].sort((a, b) => a - b)];
      firsts.forEach((first, i) => {
        const last = (firsts[i + 1] ?? LAST_PORT + 1) - 1;
        if (this.freePort(target, protocol, first, last) > 0) intervals.push({ protocol, first, last });
      });
    }
    if (source !== target) intervals.push({ protocol: 'ICMP', first: 0, last: 0 });
    return intervals;
  }

  private addServedCuts(cuts: Set<number>, target: number, family: Family, protocol: Protocol): void {
    const address = this.parties.addressOf(target, family)!;
    for (const { port, protocol: served } of this.servedPorts.get(address.text) ?? []) {
      if (served !== protocol) continue;
      cuts.add(port);
      if (port < LAST_PORT) cuts.add(port + 1);
    }
  }

  /** The first port of an interval at which no Service listens; 0 if there is none. Only nodes have such ports. */
  private freePort(target: number, protocol: Protocol, first: number, last: number): number {
    const taken = this.parties.kindOf(target) === 'node' ? this.nodeServices.get(protocol) : undefined;
    if (taken === undefined) return first;
    for (let port = first; port <= last; port++) if (!taken.has(port)) return port;
    return 0;
  }

  private readServices(): void {
    const { parties } = this;
    const note = (protocol: Protocol, port: number): void => {
      const own = this.nodeServices.get(protocol) ?? new Set<number>();
      this.nodeServices.set(protocol, own.add(port));
    };
    const noteAddress = (address: Address, info: ServicePortInfo): void => {
      const served = this.servedPorts.get(address.text);
      if (served === undefined) this.servedPorts.set(address.text, [info]);
      else served.push(info);
      const owner = parties.ownerOf(address);
      if (owner < 0) return;
      if (parties.kindOf(owner) === 'node') note(info.protocol, info.port);
      else this.isSpecial[owner] = 1;
    };
    for (const family of parties.families) {
      for (const info of listServicePorts(parties.model.cluster, family)) {
        if (info.nodePort !== 0) note(info.protocol, info.nodePort);
        for (const { address } of [info.clusterIP, ...info.externalIPs, ...info.loadBalancerVIPs]) {
          noteAddress(address, info);
        }
      }
      for (let pod = 0; pod < parties.pods; pod++) {
        const address = parties.addressOf(pod, family);
        if (address !== null && parties.ownerOf(address) !== pod) this.isSpecial[pod] = 1;
      }
    }
  }
}
