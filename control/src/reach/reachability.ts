/**
 * Reachability: who reaches whom on which ports, in one mode, as a matrix of peers (docs/reach.md).
 *
 * Rows are workloads, nodes and the outside; columns are these and Services. A workload's pods are not tried at their own
 * addresses by themselves: that never leaves the pod. In-cluster senders are tried at ClusterIPs, the outside at
 * external addresses, load balancers and nodePorts, by every node that it could enter.
 */

import type { ClusterModel } from '../compile/image.ts';
import type { Family } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import type { Direction } from '../policy/policy-rules.ts';
import { type CellAnswer, type CellPart, Cells } from './cells.ts';
import { EffectiveRules } from './effective.ts';
import { Evaluator } from './evaluator.ts';
import { type Frontend, listFrontends } from './frontends.ts';
import { HalfAnswers } from './half-answers.ts';
import { PairAnswers } from './pair-answers.ts';
import { Parties } from './parties.ts';
import { listPeers, type Peer, type Unit } from './peers.ts';
import { type PortAnswer, type PortAnswers, PortLists } from './port-answers.ts';
import { ServiceAnswers } from './service-answers.ts';

export interface MatrixRow {
  readonly source: Peer;
  /** A cell for each target, in their order. */
  readonly cells: readonly CellAnswer[];
}

/** Pairs of two classes that share a key. */
interface Share {
  key: number;
  from: number;
  /** -1 at a Service. */
  to: number;
  family: Family;
  frontend: Frontend | null;
  pairs: number;
}

/** The shares of a cell; made once for a column, because there may be a million cells. */
class Shares {
  count = 0;
  readonly first: Share = { key: 0, from: 0, to: 0, family: 4, frontend: null, pairs: 0 };
  private readonly more: Share[] = [];

  clear(): void {
    this.count = 0;
    if (this.more.length > 0) this.more.length = 0;
  }

  /** Adds what may be there already. */
  addTo(key: number, from: number, to: number, family: Family, frontend: Frontend | null, pairs: number): void {
    const same = this.find(key, from, to, frontend);
    if (same !== null) same.pairs += pairs;
    else this.add(key, from, to, family, frontend, pairs);
  }

  /** Adds what is not there yet. */
  add(key: number, from: number, to: number, family: Family, frontend: Frontend | null, pairs: number): void {
    if (this.count++ === 0) {
      const { first } = this;
      first.key = key;
      first.from = from;
      first.to = to;
      first.family = family;
      first.frontend = frontend;
      first.pairs = pairs;
    } else this.more.push({ key, from, to, family, frontend, pairs });
  }

  all(): readonly Share[] {
    return this.count === 0 ? [] : [this.first, ...this.more];
  }

  private find(key: number, from: number, to: number, frontend: Frontend | null): Share | null {
    if (this.count === 0) return null;
    if (isShare(this.first, key, from, to, frontend)) return this.first;
    return this.more.find((share) => isShare(share, key, from, to, frontend)) ?? null;
  }
}

function isShare(share: Share, key: number, from: number, to: number, frontend: Frontend | null): boolean {
  return share.key === key && share.from === from && share.to === to && share.frontend === frontend;
}

export class Reachability {
  readonly model: ClusterModel;
  readonly mode: Mode;
  readonly parties: Parties;
  readonly rules: EffectiveRules;
  readonly evaluator: Evaluator;
  readonly pairs: PairAnswers;
  readonly services: ServiceAnswers;
  readonly peers: readonly Peer[];
  readonly cells = new Cells();
  private readonly portLists = new PortLists();
  private readonly serviceLists = new Map<PortAnswer, PortAnswers>();

  constructor(model: ClusterModel, mode: Mode) {
    this.model = model;
    this.mode = mode;
    this.parties = new Parties(model);
    this.rules = new EffectiveRules(this.parties);
    this.evaluator = new Evaluator(model, mode);
    this.pairs = new PairAnswers(
      this.parties,
      this.rules,
      { egress: this.halfAnswers('egress'), ingress: this.halfAnswers('ingress') },
      this.portLists,
    );
    this.services = new ServiceAnswers(this.parties, this.pairs, this.evaluator);
    this.peers = listPeers(this.parties, listFrontends(model.cluster, this.parties.families));
  }

  private halfAnswers(direction: Direction): HalfAnswers {
    const { evaluator, rules, portLists } = this;
    return new HalfAnswers(direction, evaluator.onlyJudging(direction), rules, portLists);
  }

  /** A row of the matrix for each source, made one by one. */
  *rows(sources: readonly Peer[], targets: readonly Peer[]): Generator<MatrixRow> {
    const shares = targets.map(() => new Shares());
    const all = targets.map((_, i) => i);
    /** Columns in which sources that are alike may differ. */
    const own = all.filter((i) => targets[i]!.kind === 'service' || this.hasLikeNoOther(targets[i]!));
    const columns = new Map(targets.map((target, i) => [target, i]));
    const rows = new Map<string, MatrixRow>();
    for (const source of sources) {
      const likeness = this.likenessOf(source);
      const like = likeness === null ? undefined : rows.get(likeness);
      const asked = like === undefined ? all : [...own, ...columnsOf([source, like.source], columns)];
      for (const i of asked) this.collect(shares[i]!, source, targets[i]!);
      this.pairs.evaluate();
      this.services.evaluate();
      const cells = like === undefined ? new Array<CellAnswer>(targets.length) : [...like.cells];
      for (const i of asked) cells[i] = this.cellOf(shares[i]!);
      const row = { source, cells };
      if (likeness !== null && like === undefined) rows.set(likeness, row);
      yield row;
    }
  }

  /** Equal for workloads whose pods nothing tells apart, on the same nodes; null for what is like no other. */
  private likenessOf(source: Peer): string | null {
    if (source.kind !== 'workload' || this.hasLikeNoOther(source)) return null;
    return source.units.map(({ class: own, nodes, counts }) => `${own} ${nodes.join()} ${counts.join()}`).join(';');
  }

  private hasLikeNoOther({ units }: Peer): boolean {
    return units.some(({ members }) => members.some((member) => this.pairs.isLikeNoOther(member)));
  }

  private cellOf(shares: Shares): CellAnswer {
    const { first } = shares;
    // Most cells are one share of one key: no part is made for it.
    if (shares.count === 1 && first.frontend === null) {
      return this.cells.cellOfList(this.pairs.ownListOf(first.key, first.from, first.to, first.family));
    }
    return this.cells.cellOf(shares.all().map((share) => this.partOf(share)));
  }

  private partOf({ key, from, to, family, frontend, pairs }: Share): CellPart {
    if (frontend === null) return { list: this.pairs.ownListOf(key, from, to, family), family, via: null, pairs };
    const answer = this.services.answerOf(key);
    let list = this.serviceLists.get(answer);
    if (list === undefined) {
      list = this.portLists.listOf([answer]);
      this.serviceLists.set(answer, list);
    }
    return { list, family, via: frontend.kind, pairs };
  }

  private collect(shares: Shares, source: Peer, target: Peer): void {
    shares.clear();
    if (target.kind === 'service') this.addServices(shares, source, target);
    else if (source.kind !== 'outside' || target.kind !== 'outside') {
      for (const family of this.parties.families) {
        for (const from of source.units) {
          for (const to of target.units) this.addPairs(shares, from, to, family);
        }
      }
    }
  }

  /** The pairs of two units: those that share a node, and the others. */
  private addPairs(shares: Shares, from: Unit, to: Unit, family: Family): void {
    const { parties, rules } = this;
    const first = from.members[0]!;
    const last = to.members[0]!;
    if (parties.addressOf(first, family) === null || parties.addressOf(last, family) === null) return;
    const own = from.class === to.class ? countCommon(from.members, to.members) : 0;
    const together = pairsTogether(from, to) - own;
    const apart = from.members.length * to.members.length - own - together;
    const egress = rules.rowFor('egress', from.class, family)?.[to.class] ?? 0;
    const ingress = rules.rowFor('ingress', to.class, family)?.[from.class] ?? 0;
    for (let place = 0; place < 2; place++) {
      const sharesNode = place === 1;
      const count = sharesNode ? together : apart;
      if (count <= 0) continue;
      const known = this.pairs.count;
      const key = this.pairs.keyFor(first, last, family, egress, ingress, sharesNode);
      if (this.pairs.count > known) this.pairs.tryPair(key, ...this.pickPair(from, to, sharesNode));
      shares.add(key, from.class, to.class, family, null, count);
    }
  }

  /** Two different parties of two units that share a node, or that do not. */
  private pickPair(from: Unit, to: Unit, sharesNode: boolean): readonly [number, number] {
    for (const source of from.members) {
      for (const target of to.members) {
        if (source !== target && this.pairs.sharesNode(source, target) === sharesNode) return [source, target];
      }
    }
    return [from.members[0]!, to.members[0]!];
  }

  private addServices(shares: Shares, source: Peer, target: Peer): void {
    const isOutside = source.kind === 'outside';
    for (const frontend of target.frontends) {
      if (isOutside === (frontend.kind === 'ClusterIP')) continue;
      for (const unit of source.units) {
        if (this.parties.addressOf(unit.members[0]!, frontend.info.family) === null) continue;
        if (isOutside) this.addEntries(shares, unit, frontend);
        else this.addSenders(shares, unit, frontend);
      }
    }
  }

  private addEntries(shares: Shares, unit: Unit, frontend: Frontend): void {
    for (const { node, count } of this.services.entryNodes(frontend)) {
      this.addSender(shares, unit, frontend, unit.members[0]!, node, count);
    }
  }

  /** A unit's members, those of a node together; a member that is itself a backend of the Service is like no other. */
  private addSenders(shares: Shares, unit: Unit, frontend: Frontend): void {
    for (let i = 0; i < unit.nodes.length; i++) {
      const node = unit.nodes[i]!;
      const members = unit.membersOn[i]!;
      const backends = this.services.backendsOn(frontend, node);
      let others = members.length;
      let other = members[0]!;
      if (backends.size > 0) {
        others = 0;
        for (const member of members) {
          if (backends.has(member)) this.addSender(shares, unit, frontend, member, node, 1);
          else {
            others++;
            other = member;
          }
        }
      }
      if (others > 0) this.addSender(shares, unit, frontend, other, node, others);
    }
  }

  private addSender(shares: Shares, unit: Unit, frontend: Frontend, member: number, node: number, pairs: number): void {
    const key = this.services.keyOf(member, frontend, node);
    shares.addTo(key, unit.class, -1, frontend.info.family, frontend, pairs);
  }
}

/** Where peers are among the targets, each once. */
function columnsOf(peers: readonly Peer[], columns: ReadonlyMap<Peer, number>): number[] {
  return peers.flatMap((peer) => columns.get(peer) ?? []);
}

function pairsTogether(from: Unit, to: Unit): number {
  let pairs = 0;
  for (let i = 0, j = 0; i < from.nodes.length && j < to.nodes.length; ) {
    if (from.nodes[i]! < to.nodes[j]!) i++;
    else if (from.nodes[i]! > to.nodes[j]!) j++;
    else pairs += from.counts[i++]! * to.counts[j++]!;
  }
  return pairs;
}

/** Members of both of two ascending lists. */
function countCommon(a: readonly number[], b: readonly number[]): number {
  if (a === b) return a.length;
  let common = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i]! < b[j]!) i++;
    else if (a[i]! > b[j]!) j++;
    else {
      common++;
      i++;
      j++;
    }
  }
  return common;
}
