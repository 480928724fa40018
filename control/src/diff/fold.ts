/**
 * Rows folded for people: sources that lose the same thing at the same targets for the same reason share one entry.
 * Nothing is left out; a fold names all of its rows.
 */

import type { Origin } from '../model/origin.ts';
import type { DifferenceRow, RowSide } from './difference.ts';
import { formatDeclared } from './port-text.ts';
import { describeEntrance, isEntrance } from './service-entrances.ts';

export interface Fold {
  /** All of them have the same kind, ports, outcomes and deciding fields. */
  readonly rows: readonly DifferenceRow[];
  readonly sources: readonly string[];
  readonly targets: readonly string[];
  /** As `formatDeclared` has it, with the family where only one of two is meant. */
  readonly ports: string;
}

/** In the order of the rows: every pair of a fold's sources and targets is one of its rows. */
export function foldRows(rows: readonly DifferenceRow[]): Fold[] {
  const buckets = groupBy(rows, alikeKey);
  return [...buckets.values()].flatMap((bucket) => {
    const byTarget = [...groupBy(bucket, targetName).values()];
    // Targets with the same sources are one entry.
    const merged = groupBy(byTarget, (group) => group.map(sourceName).sort().join());
    return [...merged.values()].map((groups) => makeFold(groups.flat()));
  });
}

export function sourceName({ source, pairs, of }: DifferenceRow): string {
  return pairs === of ? source.id : `${source.id} (${pairs} of ${of} pairs)`;
}

export function targetName({ target }: DifferenceRow): string {
  return isEntrance(target) ? describeEntrance(target) : target.id;
}

export function portsOf({ ports, declared, families, source, target }: DifferenceRow): string {
  const text = formatDeclared(ports, isEntrance(target) ? null : declared);
  const both = isEntrance(target) ? target.families.length > 1 : source.members.length > 0;
  return families.length === 1 && families[0] === 6 && both ? `${text} (IPv6)` : text;
}

function makeFold(rows: readonly DifferenceRow[]): Fold {
  return {
    rows,
    sources: [...new Set(rows.map(sourceName))],
    targets: [...new Set(rows.map(targetName))],
    ports: portsOf(rows[0]!),
  };
}

function alikeKey(row: DifferenceRow): string {
  return [row.kind, portsOf(row), sideKey(row.before), sideKey(row.after)].join('\n');
}

/** Backends differ from Service to Service; they are told only where they are what changes. */
function sideKey({ outcome, decision }: RowSide): string {
  const end =
    outcome === null ? 'absent' : `${outcome.works} ${outcome.verdict} ${outcome.reason} ${outcome.masquerade}`;
  const by = [decision.origin, ...decision.policies].map((origin) => (origin === null ? '' : originKey(origin)));
  return `${end} ${outcome?.backends.join() ?? ''} ${by.join()} ${outcome === null ? decision.sentence : ''}`;
}

function originKey({ kind, namespace, name, field }: Origin): string {
  return `${kind}/${namespace}/${name}/${field}`;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
