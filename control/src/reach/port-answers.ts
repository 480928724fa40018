/** Answers port by port: the lists that halves, pairs and cells are made of. */

import type { Direction, PolicyRule } from '../policy/policy-rules.ts';
import type { Protocol } from '../probe/reference.ts';
import type { Answer } from './evaluator.ts';

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

/** Ports of a protocol that nothing tells apart. */
export interface Interval {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
}

/** Adds an interval to a list that is made in order; neighbours with equal answers become one. */
export function appendAnswer(list: PortAnswer[], interval: Interval, answer: Answer, denial: Denial | null): void {
  const { protocol, first, last } = interval;
  const before = list[list.length - 1];
  if (before?.protocol === protocol && before.answer === answer && isSameDenial(before.denial, denial)) {
    list[list.length - 1] = { ...before, last };
  } else list.push({ protocol, first, last, answer, denial });
}

function isSameDenial(a: Denial | null, b: Denial | null): boolean {
  return a === b || (a !== null && b !== null && a.direction === b.direction && a.rule === b.rule);
}
