/**
 * The memory of both longest-prefix-match tables. Whole addresses (/32, /128), most prefixes of a cluster and the longest
 * of all, stand in a hash table that is asked first; all others in a trie: a root of 2^rootBits entries, then nodes of
 * four address bits each. Chains of nodes with one child are skipped: a node carries the address bits in front of it, and
 * the finder compares them. lpm4.ts and lpm6.ts hold what depends on the width of an address.
 *
 * Memory, in words:
 *
 *     header      capacity and count in prefixes; parameters: root bits, node capacity, nodes ever used, first free node
 *     root        2^rootBits entries of two words: best (value + 1 of the longest prefix of at most rootBits bits
 *                 that covers the entry, 0 = none) and link
 *     root heap   2^(rootBits + 1) words: value + 1 of the prefix of length l with bits b at (1 << l) + b
 *     hosts       a power of two, at least twice the capacity, of slots: address (1 or 4 words), value + 1 (0 = free);
 *                 linear probing, load at most one half; removing shifts the rest of the run back
 *     nodes       at bit position p, a multiple of 4, for the prefixes of p + 1 … p + 4 bits:
 *       +0        first word of the address bits in front of the node (in a free node: the next free node)
 *       +1        mask: bit i says that word i of this node holds a prefix
 *       +2 … +31  value + 1 of the prefix whose last l bits (l = 1 … 4) are b, at (1 << l) + b
 *       +32 … +47 links, one per nibble
 *       +48 … +51 IPv6 only: words 1 to 3 of the address bits in front of the node, one spare
 *
 *     link = node number (from 1) << 5 | p / 4; 0 = none
 *
 * Invariants: a node's best match is one AND of its mask with the nibble's path, the highest set bit wins. A node without
 * a prefix has at least two children, hence never more than two nodes a prefix: the node capacity never runs out before
 * the prefix capacity does. Values of shorter and longer prefixes never overwrite each other.
 * Written by one thread while nobody reads (a change goes into the unread copy of an image); read by all.
 */
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_LPM4,
  PARAMETERS_AT,
} from './table-header.ts';

const ROOT_BITS_AT = PARAMETERS_AT;
const NODE_CAPACITY_AT = PARAMETERS_AT + 1;
const USED_AT = PARAMETERS_AT + 2;
const FREE_AT = PARAMETERS_AT + 3;

export const NODE_MASK = 1;
export const NODE_LINKS = 32;
export const NODE_WORDS4 = 48;
export const NODE_WORDS6 = 52;

const HOST_WORDS4 = 2;
const HOST_WORDS6 = 5;

/** Per nibble: the bits of a node's mask that cover it, all four lengths. */
export const NIBBLE_PATHS = Int32Array.from(
  { length: 16 },
  (_, n) => (1 << (16 + n)) | (1 << (8 + (n >> 1))) | (1 << (4 + (n >> 2))) | (1 << (2 + (n >> 3))),
);

export interface LpmTrie {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly rootBits: number;
  /** 32 - rootBits. */
  readonly rootShift: number;
  readonly nodeWords: number;
  readonly rootAt: number;
  readonly heapAt: number;
  readonly hostsAt: number;
  /** Words of a host slot: 2 or 5. */
  readonly hostWords: number;
  /** Host slots - 1, and 32 - log2 of them: a hash shifted right by it is the home slot. */
  readonly hostMask: number;
  readonly hostShift: number;
  /** Where node 0 would be: node n is at nodesAt + n * nodeWords. */
  readonly nodesAt: number;
}

/**
 * Makes an empty trie.
 * @param kind KIND_LPM4 or KIND_LPM6
 * @param prefixCapacity most prefixes
 * @param rootBits 4, 8, 12 or 16
 * @throws RangeError for other values
 */
export function createTrie(kind: number, prefixCapacity: number, rootBits: number): LpmTrie {
  if (rootBits !== 4 && rootBits !== 8 && rootBits !== 12 && rootBits !== 16) {
    throw new RangeError(`root bits must be 4, 8, 12 or 16, not ${rootBits}`);
  }
  const nodeWords = kind === KIND_LPM4 ? NODE_WORDS4 : NODE_WORDS6;
  const nodeCapacity = 2 * prefixCapacity;
  const hostSlots = ceilPow2(2 * prefixCapacity);
  const hostWords = hostSlots * (kind === KIND_LPM4 ? HOST_WORDS4 : HOST_WORDS6);
  const words = createTable(kind, prefixCapacity, 4 * 2 ** rootBits + hostWords + nodeCapacity * nodeWords);
  words[ROOT_BITS_AT] = rootBits;
  words[NODE_CAPACITY_AT] = nodeCapacity;
  return attachTrie(kind, words.buffer);
}

/**
 * Takes a trie from another thread.
 * @throws TypeError if the buffer does not hold one of this kind
 */
export function attachTrie(kind: number, buffer: SharedArrayBuffer): LpmTrie {
  const words = attachTable(kind, buffer);
  const rootBits = words[ROOT_BITS_AT];
  const nodeWords = kind === KIND_LPM4 ? NODE_WORDS4 : NODE_WORDS6;
  const heapAt = HEADER_WORDS + 2 * 2 ** rootBits;
  const hostWords = kind === KIND_LPM4 ? HOST_WORDS4 : HOST_WORDS6;
  const hostsAt = heapAt + 2 * 2 ** rootBits;
  const hostSlots = ceilPow2(2 * words[CAPACITY_AT]);
  const firstNode = hostsAt + hostSlots * hostWords;
  if (words.length !== firstNode + words[NODE_CAPACITY_AT] * nodeWords) {
    throw new TypeError(`a prefix table of ${rootBits} root bits has not ${words.length} words`);
  }
  return {
    buffer,
    words,
    rootBits,
    rootShift: 32 - rootBits,
    nodeWords,
    rootAt: HEADER_WORDS,
    heapAt,
    hostsAt,
    hostWords,
    hostMask: hostSlots - 1,
    hostShift: 32 - Math.log2(hostSlots),
    nodesAt: firstNode - nodeWords,
  };
}

/** 1 if another prefix fits, else 0. */
export function hasRoom(t: LpmTrie): number {
  return t.words[COUNT_AT] < t.words[CAPACITY_AT] ? 1 : 0;
}

/** Position in `words` of the node that a link leads to. */
export function nodeOf(t: LpmTrie, link: number): number {
  return t.nodesAt + (link >>> 5) * t.nodeWords;
}

/** Takes a free node for bit position `position`, all zero but its first word; answers its link. */
export function takeNode(t: LpmTrie, position: number, base: number): number {
  const words = t.words;
  let number = words[FREE_AT];
  if (number !== 0) words[FREE_AT] = words[t.nodesAt + number * t.nodeWords];
  else number = ++words[USED_AT];
  words[t.nodesAt + number * t.nodeWords] = base;
  return (number << 5) | (position >> 2);
}

/**
 * Drops the node behind a link if it holds no prefix and joins nothing: a childless one goes, one with a single child
 * is replaced by the child.
 * @param linkAt where the link stands
 */
export function pruneNode(t: LpmTrie, linkAt: number): void {
  const words = t.words;
  const link = words[linkAt];
  const node = nodeOf(t, link);
  if (words[node + NODE_MASK] !== 0) return;
  let only = 0;
  for (let i = 0; i < 16; i++) {
    const child = words[node + NODE_LINKS + i];
    if (child === 0) continue;
    if (only !== 0) return;
    only = child;
  }
  words[linkAt] = only;
  words.fill(0, node, node + t.nodeWords);
  words[node] = words[FREE_AT];
  words[FREE_AT] = link >>> 5;
}

/**
 * Writes the value of a prefix that ends in a node.
 * @param index (1 << l) + b for the last l bits b of the prefix
 * @returns 0; -1 if it is new and the table is full
 */
export function setInNode(t: LpmTrie, node: number, index: number, value: number): number {
  const words = t.words;
  if ((words[node + NODE_MASK] & (1 << index)) === 0) {
    if (hasRoom(t) === 0) return -1;
    words[COUNT_AT]++;
    words[node + NODE_MASK] |= 1 << index;
  }
  words[node + index] = value + 1;
  return 0;
}

/** Takes the value of a prefix out of a node. 1 if it was there, else 0. The caller prunes. */
export function clearInNode(t: LpmTrie, node: number, index: number): number {
  const words = t.words;
  if ((words[node + NODE_MASK] & (1 << index)) === 0) return 0;
  words[COUNT_AT]--;
  words[node + NODE_MASK] &= ~(1 << index);
  words[node + index] = 0;
  return 1;
}

/**
 * Writes the value of a prefix of at most rootBits bits.
 * @param bits the bits of the prefix, right-aligned
 * @returns 0; -1 if it is new and the table is full
 */
export function setInRoot(t: LpmTrie, length: number, bits: number, value: number): number {
  const words = t.words;
  const at = t.heapAt + (1 << length) + bits;
  if (words[at] === 0) {
    if (hasRoom(t) === 0) return -1;
    words[COUNT_AT]++;
  }
  words[at] = value + 1;
  spreadInRoot(t, length, bits);
  return 0;
}

/** Takes the value of a prefix of at most rootBits bits out. 1 if it was there, else 0. */
export function clearInRoot(t: LpmTrie, length: number, bits: number): number {
  const words = t.words;
  const at = t.heapAt + (1 << length) + bits;
  if (words[at] === 0) return 0;
  words[COUNT_AT]--;
  words[at] = 0;
  spreadInRoot(t, length, bits);
  return 1;
}

/** Finds again the best value of every root entry below a prefix. */
function spreadInRoot(t: LpmTrie, length: number, bits: number): void {
  const words = t.words;
  const first = bits << (t.rootBits - length);
  const last = first + (1 << (t.rootBits - length));
  for (let entry = first; entry < last; entry++) {
    let index = (1 << t.rootBits) + entry;
    while (index > 1 && words[t.heapAt + index] === 0) index >>= 1;
    words[t.rootAt + 2 * entry] = words[t.heapAt + index];
  }
}

/** Counts one prefix more. 1 if it fits, 0 if the table is full. */
export function countPrefix(t: LpmTrie): number {
  if (hasRoom(t) === 0) return 0;
  t.words[COUNT_AT]++;
  return 1;
}

/**
 * Frees a host slot and moves back what then stands too far from its home.
 * @param homeOf the home slot of the address at a position
 */
export function freeHost(t: LpmTrie, slot: number, homeOf: (t: LpmTrie, at: number) => number): void {
  const words = t.words;
  const valueAt = t.hostWords - 1;
  let hole = slot;
  for (let next = (slot + 1) & t.hostMask; ; next = (next + 1) & t.hostMask) {
    const at = t.hostsAt + next * t.hostWords;
    if (words[at + valueAt] === 0) break;
    if (((next - homeOf(t, at)) & t.hostMask) < ((next - hole) & t.hostMask)) continue;
    words.copyWithin(t.hostsAt + hole * t.hostWords, at, at + t.hostWords);
    hole = next;
  }
  words.fill(0, t.hostsAt + hole * t.hostWords, t.hostsAt + (hole + 1) * t.hostWords);
  words[COUNT_AT]--;
}

/**
 * @throws RangeError unless the prefix length fits the family and the value is a word from 0 on
 */
export function checkPrefix(length: number, addressBits: number, value: number): void {
  if (!Number.isInteger(length) || length < 0 || length > addressBits) {
    throw new RangeError(`prefix length must be 0 to ${addressBits}, not ${length}`);
  }
  if (!Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
    throw new RangeError(`value of a prefix must be 0 to 2^31 - 1, not ${value}`);
  }
}
