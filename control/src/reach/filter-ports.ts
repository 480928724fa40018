/** `--ports`: what a user asks of ports, and cells restricted to it. */

import type { Protocol } from '../probe/reference.ts';
import type { CellRow } from './cells.ts';
import { FIRST_PORT, LAST_PORT, mergeRanges, type PortRange } from './port-ranges.ts';

/** An interval of ports; ICMP has port 0 alone. */
export type PortFilter = PortRange<Protocol>;

const WITH_PORTS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];

/**
 * Reads `80`, `80/tcp`, `8000-8080`, `53/udp` or `icmp`, several with commas.
 * @returns null for what is none of these
 */
export function readPortFilter(text: string): PortFilter[] | null {
  const filters: PortFilter[] = [];
  for (const part of text.split(',')) {
    const match = /^(?:(\d{1,5})(?:-(\d{1,5}))?)?(?:(?:^|\/)([a-z]+))?$/i.exec(part.trim());
    if (match === null || part.trim() === '') return null;
    const [, from, to, name] = match;
    const protocol = name?.toUpperCase();
    if (protocol === 'ICMP' && from === undefined) {
      filters.push({ protocol, first: 0, last: 0 });
      continue;
    }
    const first = Number(from ?? FIRST_PORT);
    const last = Number(to ?? from ?? LAST_PORT);
    const protocols = WITH_PORTS.filter((own) => protocol === undefined || own === protocol);
    if (protocols.length === 0 || first < FIRST_PORT || last > LAST_PORT || last < first) return null;
    for (const own of protocols) filters.push({ protocol: own, first, last });
  }
  return filters;
}

/** The part of rows that a filter asks for; all of them for an empty one. */
export function restrictRows(rows: readonly CellRow[], filters: readonly PortFilter[]): readonly CellRow[] {
  if (filters.length === 0) return rows;
  const merged = mergeRanges(filters);
  const kept: CellRow[] = [];
  for (const row of rows) {
    for (const { protocol, first, last } of merged) {
      if (protocol !== row.protocol || row.last < first || row.first > last) continue;
      kept.push({ ...row, first: Math.max(first, row.first), last: Math.min(last, row.last) });
    }
  }
  return kept;
}
