/**
 * Longest-prefix match for IPv6: address -> value. The twin of lpm4.ts for addresses of four host-order words.
 *
 * Memory and invariants: lpm-nodes.ts. A lookup asks the hosts (/128) first; where the address is none it takes at most
 * (128 - rootBits) / 4 steps below the root, and in a cluster's address plan one to three: bits that all prefixes of a
 * branch share cost nothing.
 */
import { mix32 } from './hash.ts';
import {
  attachTrie,
  checkPrefix,
  clearInNode,
  clearInRoot,
  countPrefix,
  createTrie,
  freeHost,
  hasRoom,
  type LpmTrie,
  NIBBLE_PATHS,
  NODE_LINKS,
  NODE_MASK,
  NODE_WORDS6,
  nodeOf,
  pruneNode,
  setInNode,
  setInRoot,
  takeNode,
} from './lpm-nodes.ts';
import { KIND_LPM6 } from './table-header.ts';

/** Where words 1 to 3 of a node's address bits begin; word 0 is the node's first word. */
const NODE_BASE1 = 48;

export type Lpm6 = LpmTrie;

/**
 * Makes an empty table.
 * @param prefixCapacity most prefixes, from 1 on; about 500 bytes each, touched only as they come
 * @param rootBits 4, 8, 12 or 16: the root takes 16 * 2^rootBits bytes
 * @throws RangeError for other values
 */
export function createLpm6(prefixCapacity: number, rootBits = 8): Lpm6 {
  return createTrie(KIND_LPM6, prefixCapacity, rootBits);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachLpm6(buffer: SharedArrayBuffer): Lpm6 {
  return attachTrie(KIND_LPM6, buffer);
}

function wordOf(i: number, a0: number, a1: number, a2: number, a3: number): number {
  return i === 0 ? a0 : i === 1 ? a1 : i === 2 ? a2 : a3;
}

function homeSlot(t: Lpm6, a0: number, a1: number, a2: number, a3: number): number {
  const upper = (Math.imul(a0, 0x9e3779b1) + Math.imul(a1, 0x2545f491) + Math.imul(a2, 0x1b56c4e9)) | 0;
  return mix32(((upper ^ (upper >>> 15)) + Math.imul(a3, 0x85ebca77)) | 0) >>> t.hostShift;
}

function homeOfHost(t: Lpm6, at: number): number {
  return homeSlot(t, t.words[at], t.words[at + 1], t.words[at + 2], t.words[at + 3]);
}

/** The host slot of an address, or the free one where it belongs. */
function hostSlot(t: Lpm6, a0: number, a1: number, a2: number, a3: number): number {
  const words = t.words;
  let slot = homeSlot(t, a0, a1, a2, a3);
  for (;;) {
    const at = t.hostsAt + slot * 5;
    const differs = (words[at + 3] ^ a3) | (words[at + 2] ^ a2) | (words[at + 1] ^ a1) | (words[at] ^ a0);
    if (differs === 0 || words[at + 4] === 0) return slot;
    slot = (slot + 1) & t.hostMask;
  }
}

/** The value of the longest prefix that covers the address; -1 if none does. */
export function lpm6Find(t: Lpm6, a0: number, a1: number, a2: number, a3: number): number {
  const words = t.words;
  const host = t.hostsAt + hostSlot(t, a0, a1, a2, a3) * 5;
  if (words[host + 4] !== 0) return (words[host + 4] - 1) | 0;
  const entry = t.rootAt + ((a0 >>> t.rootShift) << 1);
  let best = words[entry];
  let link = words[entry + 1];
  while (link !== 0) {
    const node = t.nodesAt + (link >>> 5) * NODE_WORDS6;
    const position = (link & 31) << 2;
    const inWord = position & 31;
    let word = a0;
    let base = words[node];
    if (position >= 32) {
      if ((a0 ^ base) !== 0) break;
      word = a1;
      base = words[node + NODE_BASE1];
      if (position >= 64) {
        if ((a1 ^ base) !== 0) break;
        word = a2;
        base = words[node + NODE_BASE1 + 1];
        if (position >= 96) {
          if ((a2 ^ base) !== 0) break;
          word = a3;
          base = words[node + NODE_BASE1 + 2];
        }
      }
    }
    // A shift by 32 would be a shift by 0: at a word's border nothing of this word lies in front of the node.
    if (inWord !== 0 && (word ^ base) >>> (32 - inWord) !== 0) break;
    const nibble = (word >>> (28 - inWord)) & 15;
    const covering = words[node + NODE_MASK] & NIBBLE_PATHS[nibble];
    if (covering !== 0) best = words[node + 31 - Math.clz32(covering)];
    link = words[node + NODE_LINKS + nibble];
  }
  return (best - 1) | 0;
}

function nibbleAt(position: number, a0: number, a1: number, a2: number, a3: number): number {
  return (wordOf(position >> 5, a0, a1, a2, a3) >>> (28 - (position & 31))) & 15;
}

/** The nibble of a node's own address bits at a position in front of it. */
function baseNibbleAt(t: Lpm6, node: number, position: number): number {
  const words = t.words;
  return nibbleAt(
    position,
    words[node],
    words[node + NODE_BASE1],
    words[node + NODE_BASE1 + 1],
    words[node + NODE_BASE1 + 2],
  );
}

/** Leading bits that an address has in common with a node's base, 0 … 128. */
function commonBits(t: Lpm6, node: number, a0: number, a1: number, a2: number, a3: number): number {
  const words = t.words;
  // Per word as a 32-bit difference: it must not matter whether a caller's word is signed.
  const x0 = a0 ^ words[node];
  if (x0 !== 0) return Math.clz32(x0);
  const x1 = a1 ^ words[node + NODE_BASE1];
  if (x1 !== 0) return 32 + Math.clz32(x1);
  const x2 = a2 ^ words[node + NODE_BASE1 + 1];
  if (x2 !== 0) return 64 + Math.clz32(x2);
  return 96 + Math.clz32(a3 ^ words[node + NODE_BASE1 + 2]);
}

/** Bits of word `i` of an address that lie in front of `position`. */
function maskWord(word: number, i: number, position: number): number {
  const bits = position - 32 * i;
  return bits <= 0 ? 0 : bits >= 32 ? word | 0 : word & (-1 << (32 - bits));
}

function takeNode6(t: Lpm6, position: number, a0: number, a1: number, a2: number, a3: number): number {
  const link = takeNode(t, position, maskWord(a0, 0, position));
  const node = nodeOf(t, link);
  t.words[node + NODE_BASE1] = maskWord(a1, 1, position);
  t.words[node + NODE_BASE1 + 1] = maskWord(a2, 2, position);
  t.words[node + NODE_BASE1 + 2] = maskWord(a3, 3, position);
  return link;
}

/** Index in its node of the prefix that ends there: (1 << l) + b, l and b its length and bits behind `position`. */
function indexInNode(length: number, position: number, a0: number, a1: number, a2: number, a3: number): number {
  const l = length - position;
  return (1 << l) + (nibbleAt(position, a0, a1, a2, a3) >> (4 - l));
}

/**
 * Adds a prefix or replaces its value. Not for the packet path.
 * @param prefixLength 0 to 128
 * @param value 0 to 2^31 - 1
 * @returns 0; -1 if the prefix is new and the table is full
 * @throws RangeError for another length or value
 */
export function lpm6Insert(
  t: Lpm6,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  prefixLength: number,
  value: number,
): number {
  checkPrefix(prefixLength, 128, value);
  if (prefixLength <= t.rootBits) return setInRoot(t, prefixLength, rootBitsOf(a0, prefixLength), value);
  const words = t.words;
  if (prefixLength === 128) {
    const at = t.hostsAt + hostSlot(t, a0, a1, a2, a3) * 5;
    if (words[at + 4] === 0 && countPrefix(t) === 0) return -1;
    words[at] = a0;
    words[at + 1] = a1;
    words[at + 2] = a2;
    words[at + 3] = a3;
    words[at + 4] = value + 1;
    return 0;
  }
  const target = (prefixLength - 1) & ~3;
  let linkAt = t.rootAt + 2 * rootBitsOf(a0, t.rootBits) + 1;
  for (;;) {
    const link = words[linkAt];
    if (link === 0) {
      if (hasRoom(t) === 0) return -1;
      words[linkAt] = takeNode6(t, target, a0, a1, a2, a3);
      break;
    }
    const position = (link & 31) << 2;
    const node = nodeOf(t, link);
    const common = commonBits(t, node, a0, a1, a2, a3);
    // Where the way to the target leaves the way to the node; both positions if it does not.
    const fork = common < Math.min(position, target) ? common & ~3 : Math.min(position, target);
    if (fork < position) {
      if (hasRoom(t) === 0) return -1;
      const joint = takeNode6(t, fork, a0, a1, a2, a3);
      words[nodeOf(t, joint) + NODE_LINKS + baseNibbleAt(t, node, fork)] = link;
      words[linkAt] = joint;
    }
    if (fork === target) break;
    linkAt = nodeOf(t, words[linkAt]) + NODE_LINKS + nibbleAt(fork, a0, a1, a2, a3);
  }
  return setInNode(t, nodeOf(t, words[linkAt]), indexInNode(prefixLength, target, a0, a1, a2, a3), value);
}

function rootBitsOf(a0: number, bits: number): number {
  return bits === 0 ? 0 : a0 >>> (32 - bits);
}

/**
 * Removes a prefix. Not for the packet path.
 * @returns 1 if it was there, else 0
 * @throws RangeError for another length
 */
export function lpm6Delete(t: Lpm6, a0: number, a1: number, a2: number, a3: number, prefixLength: number): number {
  checkPrefix(prefixLength, 128, 0);
  if (prefixLength <= t.rootBits) return clearInRoot(t, prefixLength, rootBitsOf(a0, prefixLength));
  const words = t.words;
  if (prefixLength === 128) {
    const slot = hostSlot(t, a0, a1, a2, a3);
    if (words[t.hostsAt + slot * 5 + 4] === 0) return 0;
    freeHost(t, slot, homeOfHost);
    return 1;
  }
  const target = (prefixLength - 1) & ~3;
  let parentAt = 0;
  let linkAt = t.rootAt + 2 * rootBitsOf(a0, t.rootBits) + 1;
  for (;;) {
    const link = words[linkAt];
    const position = (link & 31) << 2;
    if (link === 0 || position > target) return 0;
    const node = nodeOf(t, link);
    if (commonBits(t, node, a0, a1, a2, a3) < position) return 0;
    if (position === target) {
      if (clearInNode(t, node, indexInNode(prefixLength, target, a0, a1, a2, a3)) === 0) return 0;
      break;
    }
    parentAt = linkAt;
    linkAt = node + NODE_LINKS + nibbleAt(position, a0, a1, a2, a3);
  }
  pruneNode(t, linkAt);
  if (parentAt !== 0) pruneNode(t, parentAt);
  return 1;
}
