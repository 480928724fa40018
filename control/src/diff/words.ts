/** Words that the text and the Markdown report share. */

import { describeOrigin } from '../model/origin.ts';
import type { Difference, RowSide } from './difference.ts';
import type { FlowDifference } from './flow-difference.ts';
import type { ObjectChange } from './object-changes.ts';
import type { ChangeKind } from './outcome.ts';

export const HEADINGS: Readonly<Record<ChangeKind, string>> = {
  breaks: 'breaks',
  opens: 'opens',
  changes: 'changes otherwise',
};

const SIGNS: Readonly<Record<ObjectChange['change'], string>> = { added: '+', removed: '-', changed: '~' };
const FORMATS = { capture: 'capture', hubble: 'Hubble flows', conntrack: 'conntrack list' } as const;
/** Names of a list that are told; the others are counted. */
const MOST_NAMES = 5;

/** 'a, b and 3 more'. */
export function listNames(names: readonly string[], most = MOST_NAMES): string {
  if (names.length <= most + 1) return names.join(', ');
  return `${names.slice(0, most).join(', ')} and ${formatCount(names.length - most)} more`;
}

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

export function countOf(count: number, one: string, many: string): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** What becomes of a connection, in a few words: 'works, to deploy/shop/cart:8080', 'dropped (policy-denied)'. */
export function describeOutcome({ outcome }: RowSide): string {
  if (outcome === null) return 'is not there';
  const { works, verdict, reason, backends, masquerade } = outcome;
  if (works === 'no') return reason === 'none' ? verdict : `${verdict} (${reason})`;
  const to = backends.length === 0 ? '' : `, to ${listNames(backends)}`;
  const source = masquerade ? ', source masqueraded' : '';
  if (works === 'yes') return `works${to}${source}`;
  return `works in part${to}${source}; else ${verdict} (${reason})`;
}

/** '+ NetworkPolicy shop/deny (shop.yaml:3)'. */
export function describeChange({ change, origin }: ObjectChange): string {
  return `${SIGNS[change]} ${describeOrigin({ ...origin, field: '' })}`;
}

export function describeModes({ modes }: Difference): string {
  return modes.before === modes.after ? `mode ${modes.after}` : `mode ${modes.before} before, ${modes.after} after`;
}

/** What was recorded, what of it ran, and what did not. */
export function describeRecordings({ recordings, connections, unplaced, unknown }: FlowDifference): string[] {
  const lines = recordings.map(({ file, format, connections: own, skipped }) => {
    const left = [...skipped].map(([why, count]) => `${formatCount(count)} × ${why}`);
    const note = left.length === 0 ? '' : ` (left out: ${left.join(', ')})`;
    return `${file}: ${FORMATS[format]}, ${countOf(own, 'connection', 'connections')}${note}`;
  });
  lines.push(`${countOf(connections, 'connection', 'connections')} ran on both sides`);
  if (unplaced > 0) lines.push(`${formatCount(unplaced)} could not run: an end is on neither side, or no address fits`);
  if (unknown > 0)
    lines.push(`${formatCount(unknown)} have ends that nobody in the manifests has, and ran as addresses`);
  return lines;
}
