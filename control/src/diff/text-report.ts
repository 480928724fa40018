/** The difference as text for terminals: what breaks first, folded, each with who decides before and after. */

import type { Palette } from '../probe/report.ts';
import type { Difference, DifferenceRow } from './difference.ts';
import type { FlowDifference, FlowRow } from './flow-difference.ts';
import { type Fold, foldRows } from './fold.ts';
import { countConnections, countKinds } from './json-report.ts';
import type { ObjectChange } from './object-changes.ts';
import type { ChangeKind } from './outcome.ts';
import { formatPorts } from './port-text.ts';
import {
  countOf,
  describeChange,
  describeModes,
  describeOutcome,
  describeRecordings,
  formatCount,
  HEADINGS,
  listNames,
} from './words.ts';

/** Entries of one heading that are told; `--json` has all. */
const MOST_ENTRIES = 40;
const KINDS: readonly ChangeKind[] = ['breaks', 'opens', 'changes'];

export function formatDifference(difference: Difference, flows: FlowDifference | null, palette: Palette): string[] {
  const lines = [...describeObjects(difference, palette)];
  if (flows !== null) lines.push('', ...describeFlows(flows, palette));
  const { rows } = difference;
  if (flows !== null) lines.push('', palette.bold('whatever is recorded or not'));
  for (const kind of KINDS) {
    const folds = foldRows(rows.filter((row) => row.kind === kind));
    if (folds.length === 0) continue;
    lines.push('', paintKind(kind, palette)(`${HEADINGS[kind]}:`));
    for (const fold of folds.slice(0, MOST_ENTRIES)) lines.push(...describeFold(fold, palette));
    if (folds.length > MOST_ENTRIES) lines.push(`  … and ${folds.length - MOST_ENTRIES} more (--json has all)`);
  }
  lines.push('', summarize(difference));
  return lines;
}

/** 'breaks 3, opens 1, changes 0 (sources × targets); 8,940 pairs compared in mode ebpf'. */
export function summarize(difference: Difference): string {
  const { rows, compared } = difference;
  const pairs = `${countOf(compared, 'pair', 'pairs')} compared, ${describeModes(difference)}`;
  if (rows.length === 0) return `nothing changes for any connection (${pairs})`;
  const counts = countKinds(rows);
  const told = KINDS.filter((kind) => counts[kind] > 0).map(
    (kind) => `${HEADINGS[kind]}: ${formatCount(counts[kind])}`,
  );
  return `${told.join(', ')} (${pairs})`;
}

function describeObjects({ objects, scaled }: Difference, palette: Palette): string[] {
  const lines = [palette.bold(countOf(objects.length, 'object changed', 'objects changed'))];
  lines.push(...objects.slice(0, MOST_ENTRIES).map((object) => `  ${describeChange(object)}`));
  if (objects.length > MOST_ENTRIES) lines.push(`  … and ${objects.length - MOST_ENTRIES} more`);
  for (const { id, scaledFrom, scaledTo } of scaled) {
    lines.push(palette.dim(`  ${id}: ${countOf(scaledFrom, 'pod', 'pods')}, now ${scaledTo}`));
  }
  return lines;
}

function describeFlows(flows: FlowDifference, palette: Palette): string[] {
  const lines = [palette.bold('recorded flows'), ...describeRecordings(flows).map((line) => `  ${palette.dim(line)}`)];
  const counts = countConnections(flows.rows);
  if (flows.rows.length === 0) lines.push('  none of them changes');
  for (const kind of KINDS) {
    const rows = flows.rows.filter((row) => row.kind === kind);
    if (rows.length === 0) continue;
    const total = countOf(counts[kind], 'connection', 'connections');
    lines.push(`  ${paintKind(kind, palette)(`${HEADINGS[kind]}: ${total}`)}`);
    for (const row of rows.slice(0, MOST_ENTRIES)) lines.push(...describeFlow(row, palette));
    if (rows.length > MOST_ENTRIES) lines.push(`    … and ${rows.length - MOST_ENTRIES} more (--json has all)`);
  }
  return lines;
}

function describeFlow(row: FlowRow, palette: Palette): string[] {
  const { source, target, protocol, port, connections } = row;
  const at = formatPorts([{ protocol, first: port, last: port }]);
  const ends = `${source} → ${target}  ${at}`;
  return [
    `    ${formatCount(connections).padStart(7)}  ${palette.bold(ends)}`,
    ...describeSides(row, palette).map((line) => `             ${line}`),
  ];
}

function describeFold({ rows, sources, targets, ports }: Fold, palette: Palette): string[] {
  const first = rows[0]!;
  const head = `${palette.bold(listNames(sources))} → ${palette.bold(listNames(targets))}  ${ports}`;
  const lines = [`  ${head}`, ...describeSides(first, palette).map((line) => `      ${line}`)];
  const causes = [...new Set(rows.flatMap((row) => row.causes))].filter((cause) => !isToldBy(first, cause));
  if (causes.length > 0) lines.push(`      ${palette.dim(`because of ${listNames(causes.map(describeChange), 3)}`)}`);
  return lines;
}

/** The sentence of who decides now names it already. */
function isToldBy({ after }: DifferenceRow, { kind, namespace, name }: ObjectChange): boolean {
  const { origin } = after.decision;
  return origin !== null && origin.kind === kind && origin.namespace === namespace && origin.name === name;
}

function describeSides(row: Pick<DifferenceRow, 'before' | 'after'>, palette: Palette): string[] {
  return (['before', 'after'] as const).map((side) => {
    const label = palette.dim(side === 'before' ? 'before ' : 'now    ');
    return `${label} ${describeOutcome(row[side])}; ${row[side].decision.sentence}`;
  });
}

function paintKind(kind: ChangeKind, { bad, good, bold }: Palette): (text: string) => string {
  return kind === 'breaks' ? bad : kind === 'opens' ? good : bold;
}
