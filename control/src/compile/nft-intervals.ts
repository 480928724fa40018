/**
 * Prefixes and addresses as nft holds them in an anonymous interval set: overlapping and adjacent ones merged, in order,
 * each written as an address, a prefix or a range. Without a prefix shorter than a host's, the set is no interval set and
 * nothing merges but equal addresses.
 */

import { type Family, formatWords, makePrefix, type Prefix, type Words } from '../model/address.ts';
import type { NftValue } from './nft-ruleset.ts';

interface Interval {
  readonly first: bigint;
  last: bigint;
}

const BITS: Readonly<Record<Family, number>> = { 4: 32, 6: 128 };

/** @param prefixes of one family; a host's prefix is an address */
export function mergePrefixes(prefixes: readonly Prefix[], family: Family): NftValue[] {
  const bits = BITS[family];
  const intervals = prefixes.map(({ words, length }): Interval => {
    const first = toNumber(words, family);
    return { first, last: first + (1n << BigInt(bits - length)) - 1n };
  });
  intervals.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const touching = prefixes.some(({ length }) => length < bits) ? 1n : 0n;
  const merged: Interval[] = [];
  for (const interval of intervals) {
    const before = merged.at(-1);
    if (before === undefined || interval.first > before.last + touching) merged.push({ ...interval });
    else if (interval.last > before.last) before.last = interval.last;
  }
  return merged.map((interval) => intervalValue(interval, family));
}

function intervalValue({ first, last }: Interval, family: Family): NftValue {
  const size = last - first + 1n;
  if (size === 1n) return addressValue(first, family);
  const isPower = (size & (size - 1n)) === 0n;
  if (!isPower || first % size !== 0n) {
    return { kind: 'range', from: addressValue(first, family), to: addressValue(last, family) };
  }
  const length = BITS[family] - (size.toString(2).length - 1);
  return { kind: 'prefix', prefix: makePrefix(family, toWords(first, family), length) };
}

function addressValue(number: bigint, family: Family): NftValue {
  const words = toWords(number, family);
  return { kind: 'address', address: { family, words, text: formatWords(family, words) } };
}

function toNumber(words: Words, family: Family): bigint {
  let number = 0n;
  for (let i = 0; i < BITS[family] / 32; i++) number = (number << 32n) | BigInt(words[i]! >>> 0);
  return number;
}

function toWords(number: bigint, family: Family): Words {
  const word = (shift: bigint) => Number(BigInt.asIntN(32, number >> shift));
  return family === 4 ? [word(0n), 0, 0, 0] : [word(96n), word(64n), word(32n), word(0n)];
}
