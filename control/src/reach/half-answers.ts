/**
 * One direction of pairs: what becomes of a packet when only the sender's egress, or only the receiver's ingress, is
 * judged and all policies of the other direction are left out.
 *
 * The two are judged one after the other and neither changes the packet, so a pair's answer is its egress half where that
 * denies, else its ingress half (`joinHalves`). So as many packets run as each direction tells apart, and not as many as
 * their combinations: with 300 signatures a direction 600, not 90,000.
 */

import type { Direction } from '../policy/policy-rules.ts';
import type { Protocol } from '../probe/reference.ts';
import type { EffectiveRules } from './effective.ts';
import type { Cell, Evaluator } from './evaluator.ts';
import {
  appendAnswer,
  type Denial,
  type Interval,
  type PortAnswer,
  type PortAnswers,
  type PortLists,
} from './port-answers.ts';

/** A pair that is tried for a half. */
export interface HalfPair {
  /** Null for parties that are like no others: any policy may decide. */
  readonly signature: number | null;
  /** Classes of the pod that is judged and of the party at the other end. */
  readonly judged: number;
  readonly other: number;
  readonly intervals: readonly Interval[];
  /** The packets of the intervals. */
  readonly cells: readonly Cell[];
}

interface Waiting {
  readonly number: number;
  readonly pair: HalfPair;
}

export class HalfAnswers {
  private readonly direction: Direction;
  private readonly evaluator: Evaluator;
  private readonly rules: EffectiveRules;
  private readonly portLists: PortLists;
  private readonly lists: (PortAnswers | null)[] = [];
  private waiting: Waiting[] = [];

  /** @param evaluator of the cluster without the other direction's policies */
  constructor(direction: Direction, evaluator: Evaluator, rules: EffectiveRules, portLists: PortLists) {
    this.direction = direction;
    this.evaluator = evaluator;
    this.rules = rules;
    this.portLists = portLists;
  }

  /** Notes a half for `evaluate`; answers its number. */
  add(pair: HalfPair): number {
    const number = this.lists.length;
    this.lists.push(null);
    this.waiting.push({ number, pair });
    return number;
  }

  /** Runs the packets of all halves that were added since the last time. */
  evaluate(): void {
    const { waiting } = this;
    this.waiting = [];
    const answers = this.evaluator.evaluate(waiting.flatMap(({ pair }) => pair.cells));
    let at = 0;
    for (const { number, pair } of waiting) {
      const list: PortAnswer[] = [];
      pair.intervals.forEach((interval, i) => {
        const answer = answers[at++]!;
        const denial = answer.reason === 'policy-denied' ? this.denialOf(pair, pair.cells[i]!) : null;
        appendAnswer(list, interval, answer, denial);
      });
      this.lists[number] = this.portLists.listOf(list);
    }
  }

  /** The answers of a half that was evaluated. */
  listOf(number: number): PortAnswers {
    return this.lists[number]!;
  }

  /** Who denied: isolation where no rule can, else what the recorder says. */
  private denialOf({ signature, judged, other }: HalfPair, cell: Cell): Denial | null {
    const { direction } = this;
    if (signature !== null && this.rules.signatures[signature]!.rules.every(({ action }) => action === 'accept')) {
      return { direction, rule: null, judged, other };
    }
    const denied = this.evaluator.judge(cell).find(({ verdict }) => verdict === 'denied');
    return denied === undefined ? null : { direction, rule: denied.rule, judged, other };
  }
}

/** In the order of the lists. */
const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP'];

/** A pair's answers: its egress half where that denies, else its ingress half. Ports that either leaves out are left out. */
export function joinHalves(egress: PortAnswers, ingress: PortAnswers, portLists: PortLists): PortAnswers {
  const list: PortAnswer[] = [];
  let i = 0;
  let j = 0;
  while (i < egress.entries.length && j < ingress.entries.length) {
    const out = egress.entries[i]!;
    const into = ingress.entries[j]!;
    const order = PROTOCOLS.indexOf(out.protocol) - PROTOCOLS.indexOf(into.protocol);
    if (order === 0) {
      const first = Math.max(out.first, into.first);
      const last = Math.min(out.last, into.last);
      const decides = out.denial !== null ? out : into;
      if (first <= last) appendAnswer(list, { protocol: out.protocol, first, last }, decides.answer, decides.denial);
      if (out.last <= into.last) i++;
      if (into.last <= out.last) j++;
    } else if (order < 0) i++;
    else j++;
  }
  return portLists.listOf(list);
}
