/**
 * Cells: what one peer reaches at another, over all of its pairs, port by port. Equal cells are one object and number.
 *
 * A cell is put together from the answer lists of its pairs, each with the number of pairs that have it and the family
 * where the two families differ.
 */

import type { VerdictName } from '@flatpath/engine/programs/verdict';
import type { Family } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';
import type { FrontendKind } from './frontends.ts';
import type { Denial, PortAnswer, PortAnswers } from './port-answers.ts';

/** How some pairs of a cell fare at some ports. */
export interface Outcome {
  readonly verdict: VerdictName;
  readonly reason: string;
  /** A Service sends it to several backends, and some of them are reached although the verdict is a refusal. */
  readonly partly: boolean;
  /** Who denied, for one of the pairs; null where no policy did. */
  readonly denial: Denial | null;
  /** Null: all pairs of the cell. */
  readonly pairs: number | null;
}

export interface CellRow {
  /** 0: both families alike, or the only one. */
  readonly family: Family | 0;
  /** Address of a Service that was asked; null for a pod, node or outside address. */
  readonly via: FrontendKind | null;
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
  /** Those that most pairs have first. */
  readonly outcomes: readonly Outcome[];
}

export interface CellAnswer {
  readonly number: number;
  /** Ports in order, protocol by protocol. Empty: there is nothing to try. */
  readonly rows: readonly CellRow[];
}

/** Answers that some pairs of a cell share. */
export interface CellPart {
  readonly list: PortAnswers;
  readonly family: Family;
  readonly via: FrontendKind | null;
  readonly pairs: number;
}

const VIAS: readonly (FrontendKind | null)[] = [null, 'ClusterIP', 'ExternalIP', 'LoadBalancer', 'NodePort'];
const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP'];

export function isReached({ verdict }: { readonly verdict: VerdictName }): boolean {
  return verdict === 'delivered' || verdict === 'forwarded';
}

export class Cells {
  readonly all: CellAnswer[] = [];
  private readonly byText = new Map<string, CellAnswer>();
  private readonly byList: (CellAnswer | undefined)[] = [];
  private readonly byParts = new Map<string, CellAnswer>();

  /** The cell of some parts. Pairs are counted per family, so a pair with both families counts once in each. */
  cellOf(parts: readonly CellPart[]): CellAnswer {
    const merged = mergeParts(parts);
    const key = keyOfParts(merged);
    let cell = this.byParts.get(key);
    if (cell === undefined) {
      cell = this.overlay(merged);
      this.byParts.set(key, cell);
    }
    return cell;
  }

  /** The cell of which all pairs have one list, at the peer's own address. */
  cellOfList(list: PortAnswers): CellAnswer {
    let cell = this.byList[list.number];
    if (cell === undefined) {
      cell = this.cellOf([{ list, family: 4, via: null, pairs: 1 }]);
      this.byList[list.number] = cell;
    }
    return cell;
  }

  private overlay(parts: readonly CellPart[]): CellAnswer {
    const rows: CellRow[] = [];
    for (const via of new Set(parts.map((part) => part.via))) {
      const own = parts.filter((part) => part.via === via);
      const four = overlay(own, 4, via);
      const six = overlay(own, 6, via);
      if (four.length === 0 || six.length === 0 || textOf(four) === textOf(six)) {
        rows.push(...(four.length > 0 ? four : six));
      } else {
        rows.push(
          ...four.map((row) => ({ ...row, family: 4 as const })),
          ...six.map((row) => ({ ...row, family: 6 as const })),
        );
      }
    }
    return this.add(rows);
  }

  /** The cell with these rows. */
  add(rows: readonly CellRow[]): CellAnswer {
    const text = textOf(rows);
    let cell = this.byText.get(text);
    if (cell === undefined) {
      cell = { number: this.all.length, rows };
      this.all.push(cell);
      this.byText.set(text, cell);
    }
    return cell;
  }
}

/** Parts in order, those with the same answers as one: pairs that differ only in what makes no difference. */
function mergeParts(parts: readonly CellPart[]): readonly CellPart[] {
  if (parts.length < 2) return parts;
  const merged = new Map<number, CellPart>();
  for (const part of parts) {
    const key = (part.list.number * VIAS.length + VIAS.indexOf(part.via)) * 2 + (part.family === 6 ? 1 : 0);
    const same = merged.get(key);
    merged.set(key, same === undefined ? part : { ...same, pairs: same.pairs + part.pairs });
  }
  return [...merged].sort(([a], [b]) => a - b).map(([, part]) => part);
}

/** The same for parts that give the same cell: how many pairs there are does not count where all fare alike. */
function keyOfParts(parts: readonly CellPart[]): string {
  const first = parts[0];
  if (first === undefined) return '';
  const isUniform = parts.every(({ list, via }) => list === first.list && via === first.via);
  if (isUniform) return `${first.list.number} ${first.via}`;
  return parts.map(({ list, family, via, pairs }) => `${list.number} ${family} ${via} ${pairs}`).join();
}

/** The parts of a family laid over each other. */
function overlay(parts: readonly CellPart[], family: Family, via: FrontendKind | null): CellRow[] {
  const own = parts.filter((part) => part.family === family);
  const rows: CellRow[] = [];
  for (const protocol of PROTOCOLS) {
    const lists = own.map(({ list, pairs }) => ({
      pairs,
      answers: list.entries.filter((entry) => entry.protocol === protocol),
      /** The first answer that does not lie wholly before the interval. */
      at: 0,
    }));
    const edges = new Set<number>();
    for (const { answers } of lists) {
      for (const { first, last } of answers) {
        edges.add(first);
        edges.add(last + 1);
      }
    }
    const sorted = [...edges].sort((a, b) => a - b);
    for (let i = 0; i + 1 < sorted.length; i++) {
      const first = sorted[i]!;
      const tallies: Tally[] = [];
      for (const list of lists) {
        const { answers, pairs } = list;
        while (list.at < answers.length && answers[list.at]!.last < first) list.at++;
        const found = answers[list.at];
        if (found !== undefined && found.first <= first) addTally(tallies, found, pairs);
      }
      if (tallies.length === 0) continue;
      tallies.sort((a, b) => b.pairs - a.pairs);
      const outcomes = tallies.map((tally) => outcomeOf(tally, tallies.length === 1));
      pushRow(rows, { family: 0, via, protocol, first, last: sorted[i + 1]! - 1, outcomes });
    }
  }
  return rows;
}

/** Pairs that fare alike. */
interface Tally {
  readonly found: PortAnswer;
  pairs: number;
}

function addTally(tallies: Tally[], found: PortAnswer, pairs: number): void {
  for (const tally of tallies) {
    if (!faresAlike(tally.found, found)) continue;
    tally.pairs += pairs;
    return;
  }
  tallies.push({ found, pairs });
}

/** A Service's answers differ in their backends too, which are no part of an outcome. */
function faresAlike({ answer: a, denial: from }: PortAnswer, { answer: b, denial: to }: PortAnswer): boolean {
  if (from?.direction !== to?.direction || from?.rule !== to?.rule) return false;
  return a === b || (a.verdict === b.verdict && a.reason === b.reason && isPartly(a) === isPartly(b));
}

function isPartly(answer: PortAnswer['answer']): boolean {
  return !isReached(answer) && answer.ways.some(isReached);
}

function outcomeOf({ found, pairs }: Tally, isOnly: boolean): Outcome {
  const { answer, denial } = found;
  const { verdict, reason } = answer;
  return { verdict, reason, partly: isPartly(answer), denial, pairs: isOnly ? null : pairs };
}

function pushRow(rows: CellRow[], row: CellRow): void {
  const before = rows[rows.length - 1];
  const isSame =
    before !== undefined &&
    before.protocol === row.protocol &&
    before.last + 1 === row.first &&
    textOfOutcomes(before.outcomes) === textOfOutcomes(row.outcomes);
  if (isSame) rows[rows.length - 1] = { ...before, last: row.last };
  else rows.push(row);
}

function textOf(rows: readonly CellRow[]): string {
  return rows
    .map(({ family, via, protocol, first, last, outcomes }) =>
      [family, via, protocol, first, last, textOfOutcomes(outcomes)].join(' '),
    )
    .join('\n');
}

/** A denial without a rule is the pods' own isolation, whoever they are. */
function textOfOutcomes(outcomes: readonly Outcome[]): string {
  return outcomes
    .map(({ verdict, reason, partly, denial, pairs }) =>
      [verdict, reason, partly, denial?.direction, denial?.rule?.id, pairs].join(' '),
    )
    .join('; ');
}
