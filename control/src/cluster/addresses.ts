/**
 * Addresses that are spoken for, and pools that give out the others.
 *
 * A pool never gives out an address that the input names, an address inside a range that the input names, or the same
 * address twice. A range that covers the whole pool (an ipBlock of 0.0.0.0/0) is no reservation: nothing would be left.
 */

import {
  type Address,
  addToWords,
  formatWords,
  inPrefix,
  overlaps,
  type Prefix,
  parseAddressOrPrefix,
  type Words,
} from '../model/address.ts';

/** Everything that the input, or a probe, names. */
export class NamedAddresses {
  readonly #addresses = new Set<string>();
  readonly #ranges: Prefix[] = [];

  /** Adds an address or a prefix; text that is neither names nothing. */
  add(text: string): void {
    const prefix = text === '' ? null : parseAddressOrPrefix(text.trim());
    if (prefix === null) return;
    if (prefix.length < (prefix.family === 4 ? 32 : 128)) this.#ranges.push(prefix);
    else this.#addresses.add(formatWords(prefix.family, prefix.words));
  }

  has(text: string): boolean {
    return this.#addresses.has(text);
  }

  take(text: string): void {
    this.#addresses.add(text);
  }

  /** Named ranges that lie in or across a pool without covering it. */
  rangesWithin(pool: Prefix): Prefix[] {
    return this.#ranges.filter((range) => overlaps(range, pool) && range.length > pool.length);
  }
}

export class AddressPool {
  readonly prefix: Prefix;
  readonly #first: number;
  readonly #last: number;
  readonly #named: NamedAddresses;
  readonly #ranges: readonly Prefix[];
  #left: number;
  #next = 0;

  /**
   * @param first offset of the first address to give out, @param last of the last one (both from the network address)
   * @param skipRanges whether ranges that the input names are left alone, beside single addresses
   */
  constructor(prefix: Prefix, first: number, last: number, named: NamedAddresses, skipRanges: boolean) {
    this.prefix = prefix;
    this.#first = first;
    this.#last = last;
    this.#named = named;
    this.#ranges = skipRanges ? named.rangesWithin(prefix) : [];
    this.#left = last - first + 1;
  }

  /** The free address at or after an offset (any number; it is brought into the pool), or null where all are taken. */
  take(preferred: number): Address | null {
    const size = this.#last - this.#first + 1;
    if (this.#left <= 0) return null;
    for (let step = 0; step < size; step++) {
      const offset = this.#first + ((preferred + step) % size);
      const words = addToWords(this.prefix.family, this.prefix.words, offset);
      const text = formatWords(this.prefix.family, words);
      if (this.#named.has(text) || this.#isInRange(words)) continue;
      this.#named.take(text);
      this.#left--;
      return { family: this.prefix.family, words, text };
    }
    this.#left = 0;
    return null;
  }

  /** The next free address in order, or null where all are taken. */
  takeNext(): Address | null {
    const address = this.take(this.#next);
    if (address !== null) this.#next++;
    return address;
  }

  #isInRange(words: Words): boolean {
    for (const range of this.#ranges) if (inPrefix({ family: this.prefix.family, words }, range)) return true;
    return false;
  }
}

/** Addresses in a prefix, at most 2^32. */
export function prefixSize(prefix: Prefix): number {
  const bits = (prefix.family === 4 ? 32 : 128) - prefix.length;
  return bits >= 32 ? 0x1_0000_0000 : 2 ** bits;
}
