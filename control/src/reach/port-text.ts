/** Ports of a cell in words: `all`, `none`, `TCP 80, 443; UDP 53`, `all but TCP 22`, `TCP 80 (2 of 3)`. */

import type { OutcomeReport, RowReport } from './report.ts';

const PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'ICMP'] as const;
/** More holes than that are no shorter than what is left. */
const MAX_HOLES = 3;

export function isReachedOutcome({ verdict }: OutcomeReport): boolean {
  return verdict === 'delivered' || verdict === 'forwarded';
}

/** What is reached at a peer's own address, or at a Service's ports. */
export function describeReached(rows: readonly RowReport[], isService: boolean): string {
  const parts: string[] = [];
  for (const [label, own] of groupRows(rows)) {
    const text = describeGroup(own, isService);
    if (text !== 'none') parts.push(label === '' ? text : `${label}: ${text}`);
  }
  return parts.length === 0 ? 'none' : parts.join('; ');
}

/** Rows by family and address of a Service; the ClusterIP goes without saying. */
function groupRows(rows: readonly RowReport[]): Map<string, RowReport[]> {
  const groups = new Map<string, RowReport[]>();
  for (const row of rows) {
    const family = row.family === undefined ? '' : `IPv${row.family}`;
    const via = row.via === undefined || row.via === 'ClusterIP' ? '' : row.via;
    const label = [via, family].filter((word) => word !== '').join(' ');
    const own = groups.get(label);
    if (own === undefined) groups.set(label, [row]);
    else own.push(row);
  }
  return groups;
}

function describeGroup(rows: readonly RowReport[], isService: boolean): string {
  const ranges = mergeShares(rows.map((row) => ({ ...row, share: shareOf(row) })));
  const reached = ranges.filter(({ share }) => share !== '');
  if (reached.length === 0) return 'none';
  if (isService) return list(reached);
  const closed = ranges.filter(({ share }) => share === '');
  const isWhole = reached.every(({ share }) => share === 'all');
  const [first] = reached;
  const isAlike = closed.length === 0 && reached.length === PROTOCOLS.length;
  if (isAlike && first !== undefined && !isWhole && reached.every(({ share }) => share === first.share)) {
    return `all${first.share}`;
  }
  if (closed.length === 0 && isWhole && PROTOCOLS.every((own) => rows.some(({ protocol }) => protocol === own)))
    return 'all';
  if (isWhole && closed.length > 0 && closed.length <= MAX_HOLES && closed.length < reached.length - 1) {
    return `all but ${list(closed)}`;
  }
  return list(reached);
}

interface Range {
  readonly protocol: string;
  readonly first: number;
  readonly last: number;
  /** `all`, ` (2 of 3)`, or '' where nobody gets through. */
  readonly share: string;
}

/** Ranges that touch and are shared alike are one. */
function mergeShares(ranges: readonly Range[]): Range[] {
  const merged: Range[] = [];
  for (const range of ranges) {
    const before = merged[merged.length - 1];
    const touches = before?.protocol === range.protocol && before.last + 1 === range.first;
    if (touches && before.share === range.share) merged[merged.length - 1] = { ...before, last: range.last };
    else merged.push(range);
  }
  return merged;
}

function shareOf({ outcomes }: RowReport): string {
  let reached = 0;
  let all = 0;
  let isPartly = false;
  for (const outcome of outcomes) {
    const pairs = outcome.pairs ?? 1;
    all += pairs;
    if (isReachedOutcome(outcome)) reached += pairs;
    isPartly ||= outcome.partly === true;
  }
  if (isPartly) return ' (some backends)';
  if (reached === 0) return '';
  return reached === all ? 'all' : ` (${reached} of ${all})`;
}

function list(ranges: readonly Range[]): string {
  const words: string[] = [];
  for (const protocol of PROTOCOLS) {
    const own = ranges.filter((range) => range.protocol === protocol);
    if (own.length === 0) continue;
    const ports = own.map((range) => `${describePorts(range)}${range.share === 'all' ? '' : range.share}`);
    const isAll = own.length === 1 && (protocol === 'ICMP' || (own[0]!.first <= 1 && own[0]!.last === 65_535));
    const share = own[0]!.share === 'all' ? '' : own[0]!.share;
    words.push(isAll ? `${protocol}${protocol === 'ICMP' ? '' : ' all'}${share}` : `${protocol} ${ports.join(', ')}`);
  }
  return words.join('; ');
}

function describePorts({ first, last }: { readonly first: number; readonly last: number }): string {
  return first === last ? String(first) : `${first}-${last}`;
}
