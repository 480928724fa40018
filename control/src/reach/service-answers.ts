/**
 * What one party reaches at a Service's frontend, over every backend that it could be sent to.
 *
 * A key is all that the answer can depend on: the frontend; the endpoints that the entry node uses for it; and for each of
 * them the key of the pair (sender, endpoint), and of the pair (entry node, endpoint) for the case that the node
 * masquerades. The packets themselves run once a key, along every way.
 */

import { ENTRY_UPLINK } from '@flatpath/engine/wire/burst';
import { type EndpointSelection, type NodeTopology, selectEndpoints } from '../compile/endpoint-selection.ts';
import type { Address } from '../model/address.ts';
import { zoneOf } from '../model/node.ts';
import type { Source } from '../probe/connection.ts';
import type { Answer, Cell, Evaluator } from './evaluator.ts';
import type { Frontend } from './frontends.ts';
import type { PairAnswers } from './pair-answers.ts';
import type { Parties, PartyKind } from './parties.ts';
import type { Denial, PortAnswer } from './port-answers.ts';

interface Waiting {
  readonly key: number;
  readonly source: number;
  readonly frontend: Frontend;
  readonly node: number;
}

/** What a node sees of a frontend. */
interface View {
  readonly number: number;
  /** Party of each endpoint that the node uses, -1 where nobody of the cluster owns its address. */
  readonly owners: readonly number[];
  /** Owners by node, as far as asked. */
  readonly on: Map<number, ReadonlySet<number>>;
}

/** Numbers that keys are chained of are below it. */
const RADIX = 0x400_0000;
const KIND_NUMBER: Readonly<Record<PartyKind, number>> = { pod: 0, node: 1, outside: 2 };

export class ServiceAnswers {
  private readonly parties: Parties;
  private readonly pairs: PairAnswers;
  private readonly evaluator: Evaluator;
  private readonly nodes: readonly NodeTopology[];
  private readonly links = new Map<number, number>();
  private readonly keys = new Map<number, number>();
  private readonly answers: (PortAnswer | null)[] = [];
  private readonly views: (Map<EndpointSelection, View> | undefined)[] = [];
  private readonly nodeLinks = new Map<number, number>();
  private viewCount = 0;
  private waiting: Waiting[] = [];

  constructor(parties: Parties, pairs: PairAnswers, evaluator: Evaluator) {
    this.parties = parties;
    this.pairs = pairs;
    this.evaluator = evaluator;
    this.nodes = parties.model.topology.nodes.map((node) => ({ name: node.metadata.name, zone: zoneOf(node) }));
  }

  /**
   * Key of a party and a frontend; noted for `evaluate` where it is new.
   * @param node where the packet enters: the party's own, or the one that the outside sends it to
   */
  keyOf(source: number, frontend: Frontend, node: number): number {
    const { parties, pairs } = this;
    const view = this.viewOf(frontend, node);
    let link = this.nodeLink(frontend, view, node);
    const kind = parties.kindOf(source);
    // Outside addresses differ in source ranges; SCTP that a mode does not balance is judged by the Service's address.
    const isOwn = kind === 'outside' || frontend.info.protocol === 'SCTP' || view.owners.includes(-1);
    link = this.chain(link, KIND_NUMBER[kind]);
    link = this.chain(link, isOwn ? parties.classOf[source]! : parties.placeOf(source));
    for (const owner of view.owners) {
      if (owner < 0) continue;
      link = this.chain(link, owner === source ? RADIX - 1 : pairs.keyOf(source, owner, frontend.info.family));
    }
    let key = this.keys.get(link);
    if (key === undefined) {
      key = this.answers.length;
      this.keys.set(link, key);
      this.answers.push(null);
      this.waiting.push({ key, source, frontend, node });
    }
    return key;
  }

  /** Runs the packets of all keys that were noted since the last time. */
  evaluate(): void {
    const { waiting } = this;
    this.waiting = [];
    const cells = waiting.map((asked) => this.cellOf(asked));
    const answers = this.evaluator.evaluate(cells);
    waiting.forEach(({ key, frontend, source }, i) => {
      const answer = answers[i]!;
      const denial = answer.reason === 'policy-denied' ? this.denialOf(cells[i]!, answer, source, frontend) : null;
      const { protocol } = frontend.info;
      this.answers[key] = { protocol, first: frontend.port, last: frontend.port, answer, denial };
    });
  }

  /** The answer of a key that was evaluated. */
  answerOf(key: number): PortAnswer {
    return this.answers[key]!;
  }

  /** The nodes that a packet from outside may enter by, those that make no difference together: one of each, and how many. */
  entryNodes(frontend: Frontend): { node: number; count: number }[] {
    const groups = new Map<string, { node: number; count: number }>();
    this.nodes.forEach((_, node) => {
      const party = this.parties.pods + node;
      if (this.parties.addressOf(party, frontend.info.family) === null) return;
      const { number } = this.viewOf(frontend, node);
      const key =
        this.backendsOn(frontend, node).size > 0 ? `node ${node}` : `${number} ${this.parties.classOf[party]}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { node, count: 1 });
      else group.count++;
    });
    return [...groups.values()];
  }

  /** The pods of a node that a frontend may send its packets to. */
  backendsOn(frontend: Frontend, node: number): ReadonlySet<number> {
    const view = this.viewOf(frontend, node);
    let on = view.on.get(node);
    if (on === undefined) {
      on = new Set(view.owners.filter((owner) => owner >= 0 && this.parties.nodeOf(owner) === node));
      view.on.set(node, on);
    }
    return on;
  }

  private cellOf({ source, frontend, node }: Waiting): Cell {
    const { parties } = this;
    const { family, protocol } = frontend.info;
    const address = frontend.address ?? parties.addressOf(parties.pods + node, family)!;
    return { source: this.sourceOf(source, frontend, node), target: { address, port: frontend.port }, protocol };
  }

  private sourceOf(source: number, { info }: Frontend, node: number): Source {
    const { family } = info;
    if (this.parties.kindOf(source) !== 'outside') return this.pairs.sourceOf(source, family, node);
    return { node, entry: ENTRY_UPLINK, endpoint: -1, address: this.parties.addressOf(source, family)! };
  }

  /** Who denied: for the first backend that is not reached, what the pair of sender and backend says; else the recorder. */
  private denialOf(cell: Cell, answer: Answer, source: number, { info }: Frontend): Denial | null {
    const { parties, pairs } = this;
    const way = answer.ways.find(({ reason, backend }) => reason === answer.reason && backend !== null);
    const endpoint = info.endpoints.find(({ text }) => text === way?.backend);
    const owner = endpoint === undefined ? -1 : parties.ownerOf(endpoint.address);
    if (endpoint !== undefined && owner >= 0 && owner !== source) {
      const own = pairs.answerAt(source, owner, info.family, info.protocol, endpoint.port);
      if (own !== null && own.denial !== null) return own.denial;
    }
    const denied = this.evaluator.judge(cell).find(({ verdict }) => verdict === 'denied');
    if (denied === undefined) return null;
    const from = parties.classOf[source]!;
    const to = owner < 0 ? from : parties.classOf[owner]!;
    const [judged, other] = denied.direction === 'egress' ? [from, to] : [to, from];
    return { direction: denied.direction, rule: denied.rule, judged, other };
  }

  private viewOf(frontend: Frontend, node: number): View {
    const { info } = frontend;
    const selection = selectEndpoints(info, this.nodes[node]!);
    let views = this.views[frontend.number];
    if (views === undefined) {
      views = new Map();
      this.views[frontend.number] = views;
    }
    let view = views.get(selection);
    if (view === undefined) {
      const owners = selection.reachable.map(({ address }: { address: Address }) => this.parties.ownerOf(address));
      view = { number: this.viewCount++, owners, on: new Map() };
      views.set(selection, view);
    }
    return view;
  }

  /** What the entry node itself is to a frontend's endpoints. */
  private nodeLink(frontend: Frontend, view: View, node: number): number {
    const { parties, pairs } = this;
    const at = view.number * this.nodes.length + node;
    let link = this.nodeLinks.get(at);
    if (link === undefined) {
      const party = parties.pods + node;
      const { family } = frontend.info;
      link = this.chain(0, view.number);
      const isOther = parties.addressOf(party, family) === null;
      for (const owner of view.owners) {
        if (owner < 0) continue;
        link = this.chain(
          link,
          isOther ? RADIX - 2 - (pairs.sharesNode(party, owner) ? 1 : 0) : pairs.keyOf(party, owner, family),
        );
      }
      this.nodeLinks.set(at, link);
    }
    return link;
  }

  /** A number for a list of numbers: the one before it, and the last. */
  private chain(before: number, last: number): number {
    const text = before * RADIX + last;
    let link = this.links.get(text);
    if (link === undefined) {
      link = this.links.size + 1;
      this.links.set(text, link);
    }
    return link;
  }
}
