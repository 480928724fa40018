/** Intervals of destination ports, by protocol. */

import type { Protocol } from '../model/port.ts';

export interface PortRange<P extends string = Protocol> {
  readonly protocol: P;
  readonly first: number;
  /** Belongs to it. */
  readonly last: number;
}

export const FIRST_PORT = 1;
export const LAST_PORT = 65_535;

/** Sorted by protocol and port; those that overlap or touch are one. */
export function mergeRanges<P extends string>(ranges: readonly PortRange<P>[]): PortRange<P>[] {
  const sorted = [...ranges].sort(
    (a, b) => (a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : 0) || a.first - b.first || a.last - b.last,
  );
  const merged: PortRange<P>[] = [];
  for (const { protocol, first, last } of sorted) {
    const before = merged[merged.length - 1];
    if (before === undefined || before.protocol !== protocol || before.last + 1 < first) {
      merged.push({ protocol, first, last });
    } else if (before.last < last) merged[merged.length - 1] = { ...before, last };
  }
  return merged;
}

/** Ports at which a range begins, and those right behind one's end; by protocol, ascending, within 2 … 65535. */
export function cutPoints(ranges: readonly PortRange[]): Map<Protocol, number[]> {
  const points = new Map<Protocol, Set<number>>();
  for (const { protocol, first, last } of ranges) {
    const own = points.get(protocol) ?? new Set<number>();
    points.set(protocol, own);
    if (first > FIRST_PORT) own.add(first);
    if (last < LAST_PORT) own.add(last + 1);
  }
  return new Map([...points].map(([protocol, own]) => [protocol, [...own].sort((a, b) => a - b)]));
}
