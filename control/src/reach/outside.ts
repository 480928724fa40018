/**
 * The world outside the cluster, cut into regions: the addresses that the same of the given prefixes hold, each with one
 * address that stands for all of them.
 *
 * A region is a prefix without the longer ones inside it; the rest of a family is the region of no prefix. The address is
 * one that no node, pod, Service or pod range of the cluster has; a region without such an address is none of the outside.
 */

import {
  type Address,
  addToWords,
  type Family,
  formatWords,
  inPrefix,
  makePrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  type Words,
} from '../model/address.ts';

export interface OutsideRegion {
  readonly family: Family;
  /** Null: everything that no prefix holds. */
  readonly prefix: Prefix | null;
  /** The longest prefixes inside that are regions of their own, or the cluster's. */
  readonly address: Address;
}

/** Addresses that packets never come from or go to over a wire: this network, loopback, link-local, multicast, reserved. */
const NEVER: readonly Prefix[] = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/8',
  'fe80::/10',
  'ff00::/8',
].map((text) => parsePrefix(text)!);

/** Documentation addresses (RFC 5737, 3849): who sees one in an answer knows that it stands for many. */
const FAMILIAR: readonly Address[] = [
  '203.0.113.1',
  '198.51.100.1',
  '192.0.2.1',
  '2001:db8::1',
  '2001:db8:ffff::1',
].map((text) => parseAddress(text)!);

/** Tries for a free address in a region; each jumps over a whole prefix that is not free. */
const MAX_JUMPS = 100_000;

/**
 * @param prefixes that tell outside addresses apart, of either family
 * @param taken addresses and ranges of the cluster
 */
export function outsideRegions(
  families: readonly Family[],
  prefixes: readonly Prefix[],
  taken: readonly Prefix[],
): OutsideRegion[] {
  const regions: OutsideRegion[] = [];
  for (const family of families) {
    const own = distinct(prefixes.filter((prefix) => prefix.family === family && prefix.length > 0));
    const closed = new Jumps([...taken, ...NEVER].filter((prefix) => prefix.family === family));
    const cut = new Jumps(own);
    const root = makePrefix(family, [0, 0, 0, 0], 0);
    for (const prefix of [root, ...own]) {
      const address = freeAddress(prefix, cut, closed);
      if (address !== null) regions.push({ family, prefix: prefix === root ? null : prefix, address });
    }
  }
  return regions;
}

function distinct(prefixes: readonly Prefix[]): Prefix[] {
  const known = new Map(prefixes.map((prefix) => [prefix.text, prefix]));
  return [...known.values()].sort((a, b) => compareWords(a.words, b.words) || a.length - b.length);
}

/** The first address of a prefix that is in no longer one of `cut` and in none of `closed`. */
function freeAddress(region: Prefix, cut: Jumps, closed: Jumps): Address | null {
  const { family } = region;
  for (const address of FAMILIAR) {
    if (address.family !== family || !inPrefix(address, region)) continue;
    if (cut.holder(address.words, region.length) === null && closed.holder(address.words, -1) === null) return address;
  }
  const bits = family === 4 ? 32 : 128;
  // The network's own address is a host's in a single-address prefix only.
  let words: Words | null = region.length < bits - 1 ? addToWords(family, region.words, 1) : region.words;
  for (let jump = 0; jump < MAX_JUMPS && words !== null; jump++) {
    if (!inPrefix({ family, words }, region)) return null;
    const holder: Prefix | null = closed.holder(words, -1) ?? cut.holder(words, region.length);
    if (holder === null) return { family, words, text: formatWords(family, words) };
    words = wordsBehind(holder);
  }
  return null;
}

/** Prefixes by length, to find one that holds an address. */
class Jumps {
  private readonly byLength = new Map<number, Map<string, Prefix>>();
  private readonly lengths: readonly number[];

  constructor(prefixes: readonly Prefix[]) {
    for (const prefix of prefixes) {
      const same = this.byLength.get(prefix.length) ?? new Map<string, Prefix>();
      same.set(prefix.words.join(), prefix);
      this.byLength.set(prefix.length, same);
    }
    this.lengths = [...this.byLength.keys()].sort((a, b) => a - b);
  }

  /** The shortest prefix longer than `length` that holds the address, null if there is none. */
  holder(words: Words, length: number): Prefix | null {
    for (const candidate of this.lengths) {
      if (candidate <= length) continue;
      const found = this.byLength.get(candidate)!.get(makePrefixWords(words, candidate));
      if (found !== undefined) return found;
    }
    return null;
  }
}

function makePrefixWords(words: Words, length: number): string {
  return words.map((word, i) => word & maskWord(length, i)).join();
}

/** The first address behind a prefix, null at the end of the address space. */
function wordsBehind({ family, words, length }: Prefix): Words | null {
  const last = words.map((word, i) => word | ~maskWord(length, i)) as [number, number, number, number];
  if (family === 4) return last[0] === -1 ? null : [(last[0] + 1) | 0, 0, 0, 0];
  if (last.every((word) => word === -1)) return null;
  return addToWords(6, last, 1);
}

function maskWord(length: number, word: number): number {
  const bits = length - word * 32;
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}

function compareWords(a: Words, b: Words): number {
  for (let i = 0; i < 4; i++) if (a[i] !== b[i]) return a[i]! >>> 0 < b[i]! >>> 0 ? -1 : 1;
  return 0;
}
