/**
 * The changes between two sides: for every pair of subjects the ports at which an answer differs, and for every entrance of
 * a Service what its clients meet.
 *
 * Pairs that nothing tells apart on either side are compared once (reach/pair-answers.ts). Nobody is compared with itself.
 * A removed workload's own connections are no change (nothing is left that could miss them), nodes that only one side has
 * are left to the list of objects, and an address family is compared where both sides have it.
 */

import type { Family } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';
import type { PortAnswer } from '../reach/port-answers.ts';
import { AlikeEntrances, type Backends } from './alike.ts';
import { KeyLog } from './key-log.ts';
import { type ChangeKind, compareOutcomes, type Outcome, Outcomes } from './outcome.ts';
import { type EntranceFamily, listEntrances, losesAddress, type ServiceEntrance } from './service-entrances.ts';
import type { SideView } from './side-view.ts';
import { type Member, matchSubjects, type Subject } from './subjects.ts';

/** Ports of one protocol at which an answer changes alike; ICMP has ports 0. */
export interface ChangedPorts {
  readonly protocol: Protocol;
  readonly first: number;
  /** Belongs to it. */
  readonly last: number;
  readonly kind: ChangeKind;
  /** Null where one of the ends is not there. */
  readonly before: Outcome | null;
  readonly after: Outcome | null;
}

/** A pair whose packets show the change. */
export interface Example {
  readonly source: Member;
  /** Null where the target is a Service. */
  readonly target: Member | null;
  readonly family: Family;
  /** Node that a packet from outside enters by on its way to a Service, before and after; null for other packets. */
  readonly entry: Member | null;
}

/** What changes alike for some pairs of a source's and a target's members. */
export interface Change {
  readonly source: Subject;
  readonly target: Subject | ServiceEntrance;
  readonly ports: readonly ChangedPorts[];
  readonly families: readonly Family[];
  /** Pairs that it changes for, and all pairs that were compared, over its families. */
  readonly pairs: number;
  readonly of: number;
  readonly example: Example;
}

interface Gathered {
  readonly ports: readonly ChangedPorts[];
  readonly families: Set<Family>;
  readonly example: Example;
  pairs: number;
}

/** @param keyBefore of the view's answers, -1 where one of the ends is not there; @param keyAfter likewise */
type Visit = (example: Example, keyBefore: number, keyAfter: number) => void;

const FAMILIES: readonly Family[] = [4, 6];
const NO_CHANGE: readonly ChangedPorts[] = [];
const NOBODY: readonly PortAnswer[] = [];
/** Instead of keys: nothing has changed that could tell. */
const UNCHANGED = -2;
/** Keys of answers are below it. */
const RADIX = 0x400_0000;

export class Comparison {
  readonly before: SideView;
  readonly after: SideView;
  readonly subjects: readonly Subject[];
  readonly entrances: readonly ServiceEntrance[];
  /** Pairs of a source and a target that were compared. */
  compared = 0;
  private readonly nodes: readonly Member[];
  private readonly alike: AlikeEntrances;
  private readonly log = new KeyLog();
  /** The log is being read. */
  private isReplay = false;
  /** By sender, whom it reaches otherwise than before: parties of the side before. */
  private readonly changedTargets = new Map<number, Set<number>>();
  private readonly unmoved = new Map<Member, boolean>();
  private readonly outcomes = new Outcomes();
  private readonly pairDeltas = new Map<number, readonly ChangedPorts[]>();
  private readonly deltas = new Map<string, readonly ChangedPorts[]>();

  constructor(before: SideView, after: SideView) {
    this.before = before;
    this.after = after;
    this.subjects = matchSubjects(before, after);
    this.entrances = listEntrances(before, after);
    this.alike = new AlikeEntrances(before, after);
    this.nodes = this.subjects.find(({ kind }) => kind === 'nodes')!.members.filter(isOnBothSides);
  }

  /** Every change, by source and target: those of pairs, then those of Services. */
  run(): Change[] {
    // A first walk notes which packets are needed; when they have run together, a second one reads the answers.
    for (const source of this.subjects) {
      for (const target of this.subjects) this.visitPairs(source, target, () => undefined);
    }
    this.before.evaluate();
    this.after.evaluate();
    this.isReplay = true;
    const changes: Change[] = [];
    for (const source of this.subjects) {
      for (const target of this.subjects) {
        const gathering = new Gathering();
        this.visitPairs(source, target, (example, keyBefore, keyAfter) => {
          const ports = this.pairDelta(keyBefore, keyAfter);
          gathering.add(example, ports);
          if (ports.length > 0) this.noteChanged(example);
        });
        changes.push(...gathering.close(source, target));
        this.compared += gathering.total;
      }
    }
    return [...changes, ...this.runEntrances()];
  }

  private runEntrances(): Change[] {
    for (const source of this.subjects) {
      for (const entrance of this.entrances) this.visitEntrance(source, entrance, () => undefined);
    }
    this.before.evaluate();
    this.after.evaluate();
    const changes: Change[] = [];
    for (const source of this.subjects) {
      for (const entrance of this.entrances) {
        const gathering = new Gathering();
        this.visitEntrance(source, entrance, (example, keyBefore, keyAfter) => {
          gathering.add(
            example,
            keyBefore === UNCHANGED ? NO_CHANGE : this.entranceDelta(entrance, keyBefore, keyAfter),
          );
        });
        changes.push(...gathering.close(source, entrance));
        this.compared += gathering.total;
      }
    }
    return changes;
  }

  private noteChanged({ source, target }: Example): void {
    const known = this.changedTargets.get(source.before);
    const to = target!.before;
    if (known === undefined) this.changedTargets.set(source.before, new Set([to]));
    else known.add(to);
  }

  private visitPairs(source: Subject, target: Subject, visit: Visit): void {
    if (source.isRemoved || (source.isAdded && target.isRemoved)) return;
    if (source.kind === 'outside' && target.kind === 'outside') return;
    const mayLack = source.isAdded || target.isAdded || target.isRemoved;
    const { log } = this;
    for (const family of FAMILIES) {
      for (const from of source.members) {
        for (const to of target.members) {
          if (from === to) continue;
          if (!this.isReplay) {
            const keyBefore = pairKey(this.before, from.before, to.before, family);
            log.push(keyBefore, pairKey(this.after, from.after, to.after, family));
            continue;
          }
          log.next();
          const { before, after } = log;
          const isThere = mayLack ? before >= 0 || after >= 0 : before >= 0 && after >= 0;
          if (isThere) visit({ source: from, target: to, family, entry: null }, before, after);
        }
      }
    }
  }

  private visitEntrance(source: Subject, entrance: ServiceEntrance, visit: Visit): void {
    if (source.isRemoved) return;
    // Who is inside asks for the ClusterIP, and nobody outside has a route to it.
    const isOutside = source.kind === 'outside';
    if (isOutside === (entrance.kind === 'ClusterIP')) return;
    const backends = this.alike.backendsOf(entrance);
    for (const frontends of entrance.families) {
      for (const from of source.members) {
        for (const entry of isOutside ? this.nodes : OWN_NODE) {
          const isSame = backends !== null && this.meetsTheSame(from, entry, backends);
          if (!isSame) this.visitFrontends(frontends, from, entry, visit);
          else if (this.hasFamily(from, frontends.family)) {
            visit({ source: from, target: null, family: frontends.family, entry }, UNCHANGED, UNCHANGED);
          }
        }
      }
    }
  }

  /**
   * True where an entrance that is alike on both sides answers a sender alike: nothing changed between the sender and any
   * endpoint, nor between the node that may masquerade and any endpoint. Senders that are endpoints are always tried.
   */
  private meetsTheSame(from: Member, entry: Member | null, backends: Backends): boolean {
    if (!this.isUnmoved(from) || backends.has(from.before)) return false;
    const { parties } = this.before;
    const node = entry?.before ?? parties.pods + parties.nodeOf(from.before);
    for (const party of [from.before, node]) {
      for (const changed of this.changedTargets.get(party) ?? []) if (backends.has(changed)) return false;
    }
    return true;
  }

  /** On the same node with the same addresses on both sides. */
  private isUnmoved(member: Member): boolean {
    let isUnmoved = this.unmoved.get(member);
    if (isUnmoved === undefined) {
      isUnmoved = isOnBothSides(member) && placeOf(this.before, member.before) === placeOf(this.after, member.after);
      this.unmoved.set(member, isUnmoved);
    }
    return isUnmoved;
  }

  private hasFamily(from: Member, family: Family): boolean {
    return this.before.parties.addressOf(from.before, family) !== null;
  }

  private visitFrontends(frontends: EntranceFamily, from: Member, entry: Member | null, visit: Visit): void {
    const { family } = frontends;
    const keyBefore = frontendKey(this.before, frontends.before, from.before, entry?.before ?? null, family);
    const keyAfter = frontendKey(this.after, frontends.after, from.after, entry?.after ?? null, family);
    if (keyBefore < 0 && keyAfter < 0) return;
    // A node that the other side lacks, or an address family that it has not.
    const lacksBefore = frontends.before !== null && keyBefore < 0 && from.before >= 0;
    const lacksAfter = frontends.after !== null && keyAfter < 0;
    const isNewNode = from.before < 0 && from.name.startsWith('node/');
    if (lacksBefore || lacksAfter || isNewNode) return;
    visit({ source: from, target: null, family, entry }, keyBefore, keyAfter);
  }

  private pairDelta(keyBefore: number, keyAfter: number): readonly ChangedPorts[] {
    const at = (keyBefore + 1) * RADIX + keyAfter + 1;
    let delta = this.pairDeltas.get(at);
    if (delta === undefined) {
      const was = keyBefore < 0 ? NOBODY : this.before.pairs.listOf(keyBefore).entries;
      const is = keyAfter < 0 ? NOBODY : this.after.pairs.listOf(keyAfter).entries;
      delta = this.intern(this.compareLists(was, is));
      this.pairDeltas.set(at, delta);
    }
    return delta;
  }

  private entranceDelta(entrance: ServiceEntrance, keyBefore: number, keyAfter: number): readonly ChangedPorts[] {
    const { before, after } = this;
    const { protocol, port } = entrance;
    const was = keyBefore < 0 ? null : this.outcomes.of(before, before.services.answerOf(keyBefore).answer);
    const is = keyAfter < 0 ? null : this.outcomes.of(after, after.services.answerOf(keyAfter).answer);
    const compared = compareOutcomes(was, is);
    if (compared === null) return NO_CHANGE;
    const kind = (was === null || is === null) && losesAddress(entrance) ? 'changes' : compared;
    return this.intern([{ protocol, first: port, last: port, kind, before: was, after: is }]);
  }

  /** Two lists in the same order, interval by interval. A gap (a port that belongs to a Service) is no answer. */
  private compareLists(before: readonly PortAnswer[], after: readonly PortAnswer[]): ChangedPorts[] {
    const changed: ChangedPorts[] = [];
    const isOneSided = before.length === 0 || after.length === 0;
    let b = 0;
    let a = 0;
    const add = (
      { protocol }: PortAnswer,
      first: number,
      last: number,
      was: PortAnswer | null,
      is: PortAnswer | null,
    ): void => {
      const outcomes = {
        before: was === null ? null : this.outcomes.of(this.before, was.answer),
        after: is === null ? null : this.outcomes.of(this.after, is.answer),
      };
      const kind = compareOutcomes(outcomes.before, outcomes.after);
      if (kind === null) return;
      const previous = changed.at(-1);
      const joins =
        previous?.protocol === protocol &&
        previous.last + 1 === first &&
        previous.before === outcomes.before &&
        previous.after === outcomes.after;
      if (joins) changed[changed.length - 1] = { ...previous, last };
      else changed.push({ protocol, first, last, kind, ...outcomes });
    };
    if (isOneSided) {
      for (const was of before) add(was, was.first, was.last, was, null);
      for (const is of after) add(is, is.first, is.last, null, is);
      return changed;
    }
    while (b < before.length && a < after.length) {
      const was = before[b]!;
      const is = after[a]!;
      const order = ORDER.indexOf(was.protocol) - ORDER.indexOf(is.protocol);
      if (order < 0 || (order === 0 && was.last < is.first)) b++;
      else if (order > 0 || is.last < was.first) a++;
      else {
        add(was, Math.max(was.first, is.first), Math.min(was.last, is.last), was, is);
        if (was.last <= is.last) b++;
        if (is.last <= was.last) a++;
      }
    }
    return changed;
  }

  /** Equal lists are one object. */
  private intern(list: readonly ChangedPorts[]): readonly ChangedPorts[] {
    if (list.length === 0) return NO_CHANGE;
    const text = list
      .map(
        ({ protocol, first, last, kind, before, after }) =>
          `${protocol} ${first} ${last} ${kind} ${before?.number ?? ''}>${after?.number ?? ''}`,
      )
      .join();
    const known = this.deltas.get(text);
    if (known !== undefined) return known;
    this.deltas.set(text, list);
    return list;
  }
}

/** Protocols in the order of a list of answers. */
const ORDER: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP'];
/** A packet enters by the node of its source. */
const OWN_NODE: readonly (Member | null)[] = [null];

/** The changes of one source toward one target, by what changes. */
class Gathering {
  total = 0;
  private readonly found = new Map<readonly ChangedPorts[], Gathered>();
  private readonly totals = { 4: 0, 6: 0 };

  add(example: Example, ports: readonly ChangedPorts[]): void {
    const { family } = example;
    this.total++;
    this.totals[family]++;
    if (ports.length === 0) return;
    const known = this.found.get(ports);
    if (known === undefined) this.found.set(ports, { ports, families: new Set([family]), example, pairs: 1 });
    else {
      known.families.add(family);
      known.pairs++;
    }
  }

  close(source: Subject, target: Subject | ServiceEntrance): Change[] {
    return [...this.found.values()].map(({ ports, families, example, pairs }) => {
      const own = [...families].sort();
      const of = own.reduce((sum, family) => sum + this.totals[family], 0);
      return { source, target, ports, families: own, pairs, of, example };
    });
  }
}

function isOnBothSides({ before, after }: Member): boolean {
  return before >= 0 && after >= 0;
}

/** Addresses of a party and the name of its node. The outside is nowhere else than it was. */
function placeOf({ model: { topology }, parties }: SideView, party: number): string {
  if (parties.kindOf(party) === 'outside') return '';
  const addresses = FAMILIES.map((family) => parties.addressOf(party, family)?.text);
  return `${topology.nodes[parties.nodeOf(party)]?.metadata.name} ${addresses.join()}`;
}

/** -1 where one of the two is not there or has no address of the family. */
function pairKey({ parties, pairs }: SideView, from: number, to: number, family: Family): number {
  if (from < 0 || to < 0) return -1;
  if (parties.addressOf(from, family) === null || parties.addressOf(to, family) === null) return -1;
  return pairs.keyOf(from, to, family);
}

/** @param entry party of the node that it enters by, null: the source's own */
function frontendKey(
  { parties, services }: SideView,
  frontend: EntranceFamily['before'],
  from: number,
  entry: number | null,
  family: Family,
): number {
  if (frontend === null || from < 0 || parties.addressOf(from, family) === null) return -1;
  const node = entry === null ? parties.nodeOf(from) : entry - parties.pods;
  if (frontend.address === null && parties.addressOf(parties.pods + node, family) === null) return -1;
  return services.keyOf(from, frontend, node);
}
