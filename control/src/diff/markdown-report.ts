/**
 * The difference as Markdown for a comment on a pull request: a sentence, a table of what breaks and opens, the rest
 * folded away. It stays below what GitHub takes for one comment (65,536 characters).
 */

import { describeOrigin } from '../model/origin.ts';
import type { Decision } from './decision.ts';
import type { Difference, RowSide } from './difference.ts';
import type { FlowDifference } from './flow-difference.ts';
import { type Fold, foldRows } from './fold.ts';
import { countConnections } from './json-report.ts';
import type { ChangeKind } from './outcome.ts';
import { formatPorts } from './port-text.ts';
import { summarize } from './text-report.ts';
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

const KINDS: readonly ChangeKind[] = ['breaks', 'opens', 'changes'];
/** Rows of a table, entries of a list. */
const MOST_ROWS = 30;
const MOST_CHARACTERS = 60_000;

export function formatMarkdown(difference: Difference, flows: FlowDifference | null): string {
  const { objects, rows } = difference;
  const parts = ['### flatpath: what this change does to connections', '', headline(difference, flows)];
  if (flows !== null) parts.push(...flowSection(flows));
  for (const kind of KINDS) {
    const folds = foldRows(rows.filter((row) => row.kind === kind));
    if (folds.length === 0) continue;
    // Where flows were recorded they are what counts; the rest is there for who asks.
    parts.push(...section(kind, folds, kind === 'breaks' && flows === null));
  }
  if (objects.length > 0) {
    const listed = objects.slice(0, MOST_ROWS).map((object) => `- ${code(describeChange(object))}`);
    if (objects.length > MOST_ROWS) listed.push(`- … and ${objects.length - MOST_ROWS} more`);
    parts.push(...details(countOf(objects.length, 'changed object', 'changed objects'), listed, false));
  }
  return cut(parts);
}

function headline(difference: Difference, flows: FlowDifference | null): string {
  if (flows === null) return `**${plain(summarize(difference))}**`;
  const counts = countConnections(flows.rows);
  const told = KINDS.filter((kind) => counts[kind] > 0).map((kind) => {
    return `${HEADINGS[kind]}: ${countOf(counts[kind], 'recorded connection', 'recorded connections')}`;
  });
  const sentence = told.length === 0 ? 'no recorded connection changes' : told.join(', ');
  return `**${plain(sentence)}** (${plain(describeModes(difference))})`;
}

function flowSection(flows: FlowDifference): string[] {
  const lines: string[] = [];
  for (const kind of KINDS) {
    const rows = flows.rows.filter((row) => row.kind === kind);
    if (rows.length === 0) continue;
    const table = ['| connections | from | to | port | before | now |', '| ---: | --- | --- | --- | --- | --- |'];
    for (const { source, target, protocol, port, connections, before, after } of rows.slice(0, MOST_ROWS)) {
      const at = formatPorts([{ protocol, first: port, last: port }]);
      const cells = [formatCount(connections), code(source), code(target), at, side(before), side(after)];
      table.push(`| ${cells.join(' | ')} |`);
    }
    if (rows.length > MOST_ROWS) table.push('', `… and ${rows.length - MOST_ROWS} more`);
    lines.push(...details(`recorded: ${HEADINGS[kind]} (${rows.length})`, table, kind === 'breaks'));
  }
  const notes = describeRecordings(flows).map((line) => `- ${plain(line)}`);
  return [...lines, ...details('recordings', notes, false)];
}

function section(kind: ChangeKind, folds: readonly Fold[], isOpen: boolean): string[] {
  const table = ['| from | to | ports | before | now |', '| --- | --- | --- | --- | --- |'];
  for (const { rows, sources, targets, ports } of folds.slice(0, MOST_ROWS)) {
    const { before, after } = rows[0]!;
    const cells = [names(sources), names(targets), plain(ports), side(before), side(after)];
    table.push(`| ${cells.join(' | ')} |`);
  }
  if (folds.length > MOST_ROWS) table.push('', `… and ${folds.length - MOST_ROWS} more`);
  return details(`${HEADINGS[kind]} (${folds.reduce((sum, { rows }) => sum + rows.length, 0)})`, table, isOpen);
}

/** An outcome and, below it, who decides. */
function side({ outcome, decision }: RowSide): string {
  const by = decidedBy(decision);
  return `${plain(describeOutcome({ outcome, decision }))}${by === '' ? '' : `<br>${by}`}`;
}

function decidedBy({ origin, sentence }: Decision): string {
  return origin === null ? `<sub>${plain(sentence)}</sub>` : `<sub>${plain(describeOrigin(origin))}</sub>`;
}

function details(title: string, lines: readonly string[], isOpen: boolean): string[] {
  return ['', `<details${isOpen ? ' open' : ''}><summary>${plain(title)}</summary>`, '', ...lines, '', '</details>'];
}

function names(list: readonly string[]): string {
  return listNames(list.map(code));
}

function code(text: string): string {
  return `\`${text.replace(/`/g, "'").replace(/\|/g, '\\|')}\``;
}

/** Text that Markdown and HTML leave alone. */
function plain(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/[\\`*_{}[\]|#~]/g, '\\$&')
    .replace(/\n/g, ' ');
}

/** Whole lines, as many as fit; what is open is closed. */
function cut(lines: readonly string[]): string {
  const kept: string[] = [];
  let size = 0;
  let open = 0;
  for (const line of lines) {
    size += line.length + 1;
    if (size > MOST_CHARACTERS) {
      kept.push('', ...(open > 0 ? ['', '</details>'] : []), '', '… cut off here: the whole is in `--json`');
      break;
    }
    if (line.startsWith('<details')) open++;
    else if (line === '</details>') open--;
    kept.push(line);
  }
  return `${kept.join('\n')}\n`;
}
