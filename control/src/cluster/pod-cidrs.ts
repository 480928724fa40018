/**
 * Gives pod CIDRs to nodes that have none and run a pod that needs an address.
 *
 * Node number N (by name, from 1) gets block N of the cluster's range: 10.244.N.0/24, fd00:10:244:N::/64. A block that
 * would overlap another node's CIDR, or hold a node's address or another node's pod, is left out. A node whose given
 * pods lie in one free block gets that block. Blocks grow where a node has more pods than one holds.
 */

import { type Family, inPrefix, makePrefix, overlaps, type Prefix, parsePrefix, type Words } from '../model/address.ts';
import { prefixSize } from './addresses.ts';

/** Addresses of a block that no pod gets: the network's, the gateway's and, in IPv4, the broadcast address. */
const RESERVED_IN_BLOCK: Readonly<Record<Family, number>> = { 4: 3, 6: 2 };

const DEFAULT_RANGES: Readonly<Record<Family, readonly string[]>> = {
  // The second of each takes what does not fit into the first: clusters of more than 256 nodes.
  4: ['10.244.0.0/16', '10.128.0.0/10'],
  6: ['fd00:10:244::/56', 'fd00:10:244::/48'],
};
const BLOCK_LENGTH: Readonly<Record<Family, number>> = { 4: 24, 6: 64 };
const LONGEST_BLOCK: Readonly<Record<Family, number>> = { 4: 30, 6: 120 };

/** An address that is taken, and the node that has it ('' for a node's own address). */
export interface TakenAddress {
  readonly family: Family;
  readonly words: Words;
  readonly node: string;
}

export class PodCidrAllocator {
  readonly #family: Family;
  readonly #ranges: readonly { readonly prefix: Prefix; readonly blockLength: number }[];
  readonly #used: Prefix[];
  readonly #taken: readonly TakenAddress[];
  /** Longest block that a range had no room for: nothing is ever given back, so it need not be looked for again. */
  readonly #full = new Map<Prefix, number>();

  /**
   * @param configured the cluster CIDRs that the user set, or empty
   * @param used pod CIDRs that nodes have
   * @param nodes how many nodes will ask
   */
  constructor(
    family: Family,
    configured: readonly string[],
    used: readonly Prefix[],
    taken: readonly TakenAddress[],
    nodes: number,
  ) {
    this.#family = family;
    this.#used = used.filter((prefix) => prefix.family === family);
    this.#taken = taken.filter((address) => address.family === family);
    this.#ranges = this.#findRanges(configured).map((prefix) => {
      const needed = prefix.length + Math.ceil(Math.log2(Math.max(1, nodes)));
      const isDefault = configured.length === 0;
      const blockLength = isDefault ? BLOCK_LENGTH[family] : Math.max(BLOCK_LENGTH[family], needed);
      return { prefix, blockLength: Math.max(prefix.length, Math.min(LONGEST_BLOCK[family], blockLength)) };
    });
  }

  /** True where there is a range to take blocks of this family from. */
  get hasRange(): boolean {
    return this.#ranges.length > 0;
  }

  /**
   * A block for a node, or null where the range is used up.
   *
   * @param number the node's number, from 1
   * @param pods how many addresses it needs
   */
  take(node: string, number: number, pods: number): Prefix | null {
    const own = this.#blockOfGivenPods(node, pods);
    if (own !== null) return this.#use(own);
    for (const { prefix, blockLength } of this.#ranges) {
      const length = this.#lengthFor(blockLength, pods);
      if (length < prefix.length || length <= (this.#full.get(prefix) ?? -1)) continue;
      const blocks = 2 ** Math.min(32, length - prefix.length);
      for (let step = 0; step < blocks; step++) {
        const block = makePrefix(this.#family, blockWords(prefix, length, (number + step) % blocks), length);
        if (this.#isFree(block, node)) return this.#use(block);
      }
      this.#full.set(prefix, length);
    }
    return null;
  }

  /** Addresses that a block has for pods. */
  static capacity(block: Prefix): number {
    return Math.max(0, prefixSize(block) - RESERVED_IN_BLOCK[block.family]);
  }

  #findRanges(configured: readonly string[]): Prefix[] {
    const parse = (texts: readonly string[]): Prefix[] =>
      texts.map(parsePrefix).filter((prefix) => prefix !== null && prefix.family === this.#family) as Prefix[];
    if (configured.length > 0) return parse(configured);
    const defaults = parse(DEFAULT_RANGES[this.#family]);
    const known = this.#used[0];
    if (known === undefined || inPrefix(known, defaults[0]!)) return defaults;
    // The given nodes use another range: theirs is the /16 (or /56) around the first of them.
    const around = makePrefix(this.#family, known.words, Math.min(known.length, this.#family === 4 ? 16 : 56));
    return [around, ...defaults];
  }

  #blockOfGivenPods(node: string, pods: number): Prefix | null {
    const first = this.#taken.find((address) => address.node === node && node !== '');
    if (first === undefined) return null;
    const length = this.#lengthFor(BLOCK_LENGTH[this.#family], pods + 1);
    const block = makePrefix(this.#family, first.words, length);
    return this.#isFree(block, node) ? block : null;
  }

  #lengthFor(blockLength: number, pods: number): number {
    let length = blockLength;
    while (length > 1 && 2 ** Math.min(32, bitsOf(this.#family) - length) - RESERVED_IN_BLOCK[this.#family] < pods)
      length--;
    return length;
  }

  #isFree(block: Prefix, node: string): boolean {
    for (const prefix of this.#used) if (overlaps(prefix, block)) return false;
    for (const address of this.#taken) if (address.node !== node && inPrefix(address, block)) return false;
    return true;
  }

  #use(block: Prefix): Prefix {
    this.#used.push(block);
    return block;
  }
}

function bitsOf(family: Family): number {
  return family === 4 ? 32 : 128;
}

/** Words of the `index`-th block of `length` bits inside a prefix; `index` below 2^32. */
function blockWords(prefix: Prefix, length: number, index: number): Words {
  const words = [prefix.words[0], prefix.words[1], prefix.words[2], prefix.words[3]];
  // Bit by bit: a block's number may cross words.
  for (let bit = 0; bit < length - prefix.length && bit < 32; bit++) {
    if (Math.floor(index / 2 ** bit) % 2 === 0) continue;
    const position = length - 1 - bit;
    words[position >>> 5] = words[position >>> 5]! | (1 << (31 - (position & 31)));
  }
  return [words[0]!, words[1]!, words[2]!, words[3]!];
}
