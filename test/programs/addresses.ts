/** The cast of the program tests, and addresses as text. Two nodes, three pods, one outside client, both families. */

import { formatEndpoint } from '../../engine/src/wire/address.ts';
import type { AddressWords } from '../../engine/src/wire/build.ts';
import type { Burst } from '../../engine/src/wire/burst.ts';

export type Address = string;

export const nodeOne = { index: 0, 4: '172.18.0.2', 6: 'fd00:18::2' } as const;
export const nodeTwo = { index: 1, 4: '172.18.0.3', 6: 'fd00:18::3' } as const;
export const podOne = { index: 0, node: 0, 4: '10.244.0.5', 6: 'fd00:10:244::5' } as const;
export const podTwo = { index: 1, node: 1, 4: '10.244.1.7', 6: 'fd00:10:244:1::7' } as const;
export const podThree = { index: 2, node: 0, 4: '10.244.0.6', 6: 'fd00:10:244::6' } as const;
export const svcOne = { 4: '10.96.0.10', 6: 'fd00:10:96::10' } as const;
export const client = { 4: '203.0.113.9', 6: '2001:db8::9' } as const;

export function isFour(address: Address): boolean {
  return !address.includes(':');
}

/** The lanes' words of an address: dotted decimal, or IPv6 with at most one `::`. */
export function words(address: Address): AddressWords {
  if (isFour(address)) {
    return [address.split('.').reduce((word, part) => (word << 8) | Number(part), 0), 0, 0, 0];
  }
  const [head, tail] = address.split('::');
  const groups = (text: string | undefined) => (text ? text.split(':').map((group) => Number.parseInt(group, 16)) : []);
  const first = groups(head);
  const last = groups(tail);
  const all =
    tail === undefined ? first : [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  const word = (i: number) => (all[2 * i]! << 16) | all[2 * i + 1]!;
  return [word(0), word(1), word(2), word(3)];
}

/** `source -> destination` as the lanes stand. */
export function tuple(b: Burst, s: number): string {
  const family = b.family[s]!;
  const from = formatEndpoint(family, b.src0[s]!, b.src1[s]!, b.src2[s]!, b.src3[s]!, b.sport[s]!);
  const to = formatEndpoint(family, b.dst0[s]!, b.dst1[s]!, b.dst2[s]!, b.dst3[s]!, b.dport[s]!);
  return `${from} -> ${to}`;
}
