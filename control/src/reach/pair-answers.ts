/**
 * What one party reaches at another's own address, port by port: parties that nothing tells apart are tried once.
 *
 * A pair's *key* is all that its answer can depend on: the effective rules of the sender's egress and of the receiver's
 * ingress, what kinds of party they are, whether they share a node, and the family. For each new key one packet is run for
 * each protocol and each interval of ports that the rules tell apart. Pods whose address is a Service's too, or another
 * pod's, are tried pair by pair.
 *
 * Ports of a node's addresses at which Services listen are left out: they belong to those Services.
 */

import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '@flatpath/engine/wire/burst';
import { listServicePorts, type ServicePortInfo } from '../compile/service-ports.ts';
import type { Address, Family } from '../model/address.ts';
import type { Direction, PolicyRule } from '../policy/policy-rules.ts';
import type { Source, Target } from '../probe/connection.ts';
import type { Protocol } from '../probe/reference.ts';
import type { EffectiveRules } from './effective.ts';
import type { Answer, Cell, Evaluator } from './evaluator.ts';
import type { Parties, PartyKind } from './parties.ts';
import { FIRST_PORT, LAST_PORT } from './port-ranges.ts';

/** Who denied, for the pair that was tried; `findDenier` finds the rule of another pair with the same key. */
export interface Denial {
  readonly direction: Direction;
  /** Null: no rule matched, and the direction is isolated. */
  readonly rule: PolicyRule | null;
  /** Classes of the pod that was judged and of the party at the other end. */
  readonly judged: number;
  readonly other: number;
}

/** An interval of ports with one answer; ICMP has one entry, with ports 0. */
export interface PortAnswer {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
  readonly answer: Answer;
  /** Null where no policy denied. */
  readonly denial: Denial | null;
}

/** All ports of all protocols in order, but for those left out. Neighbours with equal answers are one. */
export interface PortAnswers {
  /** Equal lists are one object. */
  readonly number: number;
  readonly entries: readonly PortAnswer[];
  /** Some entry is denied by a rule. */
  readonly namesRules: boolean;
}

/** Lists of answers, each once. */
export class PortLists {
  private readonly byText = new Map<string, PortAnswers>();

  listOf(entries: readonly PortAnswer[]): PortAnswers {
    const text = entries.map(textOfEntry).join();
    let list = this.byText.get(text);
    if (list === undefined) {
      const namesRules = entries.some(({ denial }) => denial !== null && denial.rule !== null);
      list = { number: this.byText.size, entries, namesRules };
      this.byText.set(text, list);
    }
    return list;
  }
}

/** A denial without a rule is the pods' own isolation, whoever they are. */
function textOfEntry({ protocol, first, last, answer, denial }: PortAnswer): string {
  return `${protocol} ${first} ${last} ${answer.number} ${denial === null ? '' : `${denial.direction} ${denial.rule?.id}`}`;
}

const PORT_PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const KIND_NUMBER: Readonly<Record<PartyKind, number>> = { pod: 0, node: 1, outside: 2 };
/** Combinations of kinds, place and family. */
const SITUATIONS = 3 * 3 * 2 * 2;

interface Waiting {
  readonly key: number;
  readonly source: number;
  readonly target: number;
  readonly family: Family;
  readonly egress: number;
  readonly ingress: number;
}

interface Interval {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
}

export class PairAnswers {
  private readonly parties: Parties;
  private readonly rules: EffectiveRules;
  private readonly evaluator: Evaluator;
  /** By situation, then signatures or parties. */
  private readonly keys = Array.from({ length: 2 * SITUATIONS }, () => new Map<number, number>());
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
  private readonly denials = new Map<string, Denial | null>();

  constructor(parties: Parties, rules: EffectiveRules, evaluator: Evaluator, portLists: PortLists) {
    this.parties = parties;
    this.portLists = portLists;
    this.rules = rules;
    this.evaluator = evaluator;
    this.isSpecial = new Uint8Array(parties.count);
    this.kinds = Uint8Array.from({ length: parties.count }, (_, party) => KIND_NUMBER[parties.kindOf(party)]);
    this.readServices();
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
    let detail = egress * 0x400_0000 + ingress;
    if (isSpecial[source] === 1 || isSpecial[target] === 1) {
      situation += SITUATIONS;
      detail = source * 0x400_0000 + target;
    }
    const known = this.keys[situation]!;
    let key = known.get(detail);
    if (key === undefined) {
      key = this.lists.length;
      known.set(detail, key);
      this.lists.push(null);
      this.waiting.push({ key, source, target, family, egress, ingress });
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
    const cells: Cell[] = [];
    const intervals = waiting.map((pair) => {
      const own = this.intervalsOf(pair);
      for (const interval of own) cells.push(this.cellOf(pair, interval));
      return own;
    });
    const answers = this.evaluator.evaluate(cells);
    let at = 0;
    waiting.forEach((pair, i) => {
      const list: PortAnswer[] = [];
      for (const interval of intervals[i]!) {
        const answer = answers[at]!;
        const denial = answer.reason === 'policy-denied' ? this.denialOf(pair, interval, cells[at]!) : null;
        at++;
        const before = list[list.length - 1];
        if (before?.protocol === interval.protocol && before.answer === answer && before.denial === denial) {
          list[list.length - 1] = { ...before, last: interval.last };
        } else list.push({ ...interval, answer, denial });
      }
      this.lists[pair.key] = this.portLists.listOf(list);
    });
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
  private intervalsOf({ source, target, family, egress, ingress }: Waiting): Interval[] {
    const { signatures } = this.rules;
    const intervals: Interval[] = [];
    for (const protocol of PORT_PROTOCOLS) {
      const cuts = new Set<number>(signatures[egress]!.cuts.get(protocol));
      for (const cut of signatures[ingress]!.cuts.get(protocol) ?? []) cuts.add(cut);
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

  /**
   * Who denied: asked of the recorder once for each signature and interval, because the sender's egress is judged first
   * and does not depend on the receiver's ingress.
   */
  private denialOf(
    { source, target, family, egress, ingress }: Waiting,
    interval: Interval,
    cell: Cell,
  ): Denial | null {
    const { classOf } = this.parties;
    const place = `${family} ${this.sharesNode(source, target)} ${this.parties.kindOf(source)} ${this.parties.kindOf(target)}`;
    const outKey = `egress ${place} ${this.placeInCuts(egress, interval)}`;
    const inKey = `ingress ${place} ${this.placeInCuts(ingress, interval)}`;
    const out = this.denials.get(outKey);
    if (out !== undefined && out !== null) return out;
    const known = out === null ? this.denials.get(inKey) : undefined;
    if (known !== undefined) return known;
    const denied = this.evaluator.judge(cell).find(({ verdict }) => verdict === 'denied');
    if (denied === undefined) return null;
    const ends = [classOf[source]!, classOf[target]!] as const;
    const [judged, other] = denied.direction === 'egress' ? ends : [ends[1], ends[0]];
    const denial = { direction: denied.direction, rule: denied.rule, judged, other };
    this.denials.set(denied.direction === 'egress' ? outKey : inKey, denial);
    if (denied.direction === 'ingress') this.denials.set(outKey, null);
    return denial;
  }

  /** A signature and the interval of its own cuts in which ports lie. */
  private placeInCuts(signature: number, { protocol, first }: Interval): string {
    const cuts = this.rules.signatures[signature]!.cuts.get(protocol as 'TCP') ?? [];
    let place = 0;
    while (place < cuts.length && cuts[place]! <= first) place++;
    return `${signature} ${protocol} ${place}`;
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
