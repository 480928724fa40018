/** Port intervals in words: 'TCP 80, 8000–8100', 'UDP but 53', 'every port and ICMP'. */

import type { PortInterval } from './declared-ports.ts';

const LAST_PORT = 65_535;
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'];
/** Ranges of one protocol that are told one by one, and ports that a range may lack to be told by them. */
const MOST_RANGES = 8;
const MOST_HOLES = 4;

/** @param ports by protocol and port, apart from each other */
export function formatPorts(ports: readonly PortInterval[]): string {
  const parts: string[] = [];
  const whole: string[] = [];
  for (const protocol of PROTOCOLS) {
    const own = ports.filter((interval) => interval.protocol === protocol);
    if (own.length === 0) continue;
    if (own.length === 1 && own[0]!.first <= 1 && own[0]!.last === LAST_PORT) whole.push(protocol);
    else parts.push(`${protocol} ${formatRanges(own)}`);
  }
  if (whole.length === PROTOCOLS.length) parts.unshift('every port');
  else parts.unshift(...whole.map((protocol) => `all ${protocol}`));
  if (ports.some(({ protocol }) => protocol === 'ICMP')) parts.push('ICMP');
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
}

/**
 * The ports that the target is known to listen at, and that there are others.
 * @param declared of `ports`; null where nothing is known
 */
export function formatDeclared(ports: readonly PortInterval[], declared: readonly PortInterval[] | null): string {
  if (declared === null) return formatPorts(ports);
  if (declared.length === 0) return `undeclared ports (${formatPorts(ports)})`;
  const known = formatPorts(declared);
  return countPorts(ports) > countPorts(declared) ? `${known}, and undeclared ports` : known;
}

export function countPorts(ports: readonly PortInterval[]): number {
  return ports.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

function formatRanges(ranges: readonly PortInterval[]): string {
  const holes = holesBetween(ranges);
  if (holes !== null && holes.length < ranges.length) return `but ${holes.map(formatRange).join(', ')}`;
  const told = ranges.slice(0, MOST_RANGES).map(formatRange);
  if (ranges.length > MOST_RANGES) told.push(`${ranges.length - MOST_RANGES} more`);
  return told.join(', ');
}

/** The ranges that are lacking to all ports, null where these are many. */
function holesBetween(ranges: readonly PortInterval[]): PortInterval[] | null {
  const holes: PortInterval[] = [];
  let next = 1;
  const { protocol } = ranges[0]!;
  for (const { first, last } of ranges) {
    if (first > next) holes.push({ protocol, first: next, last: first - 1 });
    next = last + 1;
  }
  if (next <= LAST_PORT) holes.push({ protocol, first: next, last: LAST_PORT });
  return holes.length <= MOST_HOLES && holes.every(({ first, last }) => last - first < 1024) ? holes : null;
}

function formatRange({ first, last }: PortInterval): string {
  return first === last ? String(first) : `${first}–${last}`;
}
