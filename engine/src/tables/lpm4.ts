/**
 * Longest-prefix match for IPv4: address -> value (owner of an address, identity, CIDR rule).
 *
 * Memory and invariants: lpm-nodes.ts. Addresses are host-order words, signed or not. A lookup asks the hosts (/32) first,
 * one or two slots; where the address is none it takes one step in the root and one per node on the way, at most
 * (32 - rootBits) / 4 and in a cluster's address plan one to three. (10,000 pods in the trie took 60 ns a lookup.)
 * Host bits behind the prefix length are ignored. Inserting a prefix again replaces its value.
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
  NODE_WORDS4,
  nodeOf,
  pruneNode,
  setInNode,
  setInRoot,
  takeNode,
} from './lpm-nodes.ts';
import { KIND_LPM4 } from './table-header.ts';

export type Lpm4 = LpmTrie;

/**
 * Makes an empty table.
 * @param prefixCapacity most prefixes, from 1 on; about 420 bytes each, touched only as they come
 * @param rootBits 4, 8, 12 or 16: the root takes 16 * 2^rootBits bytes
 * @throws RangeError for other values
 */
export function createLpm4(prefixCapacity: number, rootBits = 8): Lpm4 {
  return createTrie(KIND_LPM4, prefixCapacity, rootBits);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachLpm4(buffer: SharedArrayBuffer): Lpm4 {
  return attachTrie(KIND_LPM4, buffer);
}

function homeSlot(t: Lpm4, address: number): number {
  return mix32(address) >>> t.hostShift;
}

function homeOfHost(t: Lpm4, at: number): number {
  return homeSlot(t, t.words[at]);
}

/** The host slot of an address, or the free one where it belongs. */
function hostSlot(t: Lpm4, address: number): number {
  let slot = homeSlot(t, address);
  for (;;) {
    const at = t.hostsAt + (slot << 1);
    if (t.words[at + 1] === 0 || (t.words[at] ^ address) === 0) return slot;
    slot = (slot + 1) & t.hostMask;
  }
}

/** The value of the longest prefix that covers the address; -1 if none does. */
export function lpm4Find(t: Lpm4, address: number): number {
  const words = t.words;
  let slot = homeSlot(t, address);
  for (;;) {
    const at = t.hostsAt + (slot << 1);
    const held = words[at + 1];
    if (held === 0) break;
    if ((words[at] ^ address) === 0) return (held - 1) | 0;
    slot = (slot + 1) & t.hostMask;
  }
  const entry = t.rootAt + ((address >>> t.rootShift) << 1);
  let best = words[entry];
  let link = words[entry + 1];
  while (link !== 0) {
    const node = t.nodesAt + (link >>> 5) * NODE_WORDS4;
    const position = (link & 31) << 2;
    if ((address ^ words[node]) >>> (32 - position) !== 0) break;
    const nibble = (address >>> (28 - position)) & 15;
    const covering = words[node + NODE_MASK] & NIBBLE_PATHS[nibble];
    if (covering !== 0) best = words[node + 31 - Math.clz32(covering)];
    link = words[node + NODE_LINKS + nibble];
  }
  return (best - 1) | 0;
}

/** The first `bits` bits of an address, right-aligned; bits 0 … 32. */
function leading(address: number, bits: number): number {
  return bits === 0 ? 0 : address >>> (32 - bits);
}

/** Index in its node of the prefix that ends there: (1 << l) + b, l and b its length and bits behind `position`. */
function indexInNode(address: number, length: number, position: number): number {
  const l = length - position;
  return (1 << l) + (leading(address, length) & ((1 << l) - 1));
}

/**
 * Adds a prefix or replaces its value. Not for the packet path.
 * @param prefixLength 0 to 32
 * @param value 0 to 2^31 - 1
 * @returns 0; -1 if the prefix is new and the table is full
 * @throws RangeError for another length or value
 */
export function lpm4Insert(t: Lpm4, address: number, prefixLength: number, value: number): number {
  checkPrefix(prefixLength, 32, value);
  if (prefixLength <= t.rootBits) return setInRoot(t, prefixLength, leading(address, prefixLength), value);
  const words = t.words;
  if (prefixLength === 32) {
    const at = t.hostsAt + (hostSlot(t, address) << 1);
    if (words[at + 1] === 0 && countPrefix(t) === 0) return -1;
    words[at] = address;
    words[at + 1] = value + 1;
    return 0;
  }
  const target = (prefixLength - 1) & ~3;
  let linkAt = t.rootAt + 2 * leading(address, t.rootBits) + 1;
  for (;;) {
    const link = words[linkAt];
    if (link === 0) {
      if (hasRoom(t) === 0) return -1;
      words[linkAt] = takeNode(t, target, address & (-1 << (32 - target)));
      break;
    }
    const position = (link & 31) << 2;
    const base = words[nodeOf(t, link)];
    const common = Math.clz32(address ^ base);
    // Where the way to the target leaves the way to the node; both positions if it does not.
    const fork = common < Math.min(position, target) ? common & ~3 : Math.min(position, target);
    if (fork < position) {
      if (hasRoom(t) === 0) return -1;
      const joint = takeNode(t, fork, address & (-1 << (32 - fork)));
      words[nodeOf(t, joint) + NODE_LINKS + ((base >>> (28 - fork)) & 15)] = link;
      words[linkAt] = joint;
    }
    if (fork === target) break;
    linkAt = nodeOf(t, words[linkAt]) + NODE_LINKS + ((address >>> (28 - fork)) & 15);
  }
  return setInNode(t, nodeOf(t, words[linkAt]), indexInNode(address, prefixLength, target), value);
}

/**
 * Removes a prefix. Not for the packet path.
 * @returns 1 if it was there, else 0
 * @throws RangeError for another length
 */
export function lpm4Delete(t: Lpm4, address: number, prefixLength: number): number {
  checkPrefix(prefixLength, 32, 0);
  if (prefixLength <= t.rootBits) return clearInRoot(t, prefixLength, leading(address, prefixLength));
  const words = t.words;
  if (prefixLength === 32) {
    const slot = hostSlot(t, address);
    if (words[t.hostsAt + (slot << 1) + 1] === 0) return 0;
    freeHost(t, slot, homeOfHost);
    return 1;
  }
  const target = (prefixLength - 1) & ~3;
  let parentAt = 0;
  let linkAt = t.rootAt + 2 * leading(address, t.rootBits) + 1;
  for (;;) {
    const link = words[linkAt];
    const position = (link & 31) << 2;
    if (link === 0 || position > target) return 0;
    const node = nodeOf(t, link);
    if (Math.clz32(address ^ words[node]) < position) return 0;
    if (position === target) {
      if (clearInNode(t, node, indexInNode(address, prefixLength, target)) === 0) return 0;
      break;
    }
    parentAt = linkAt;
    linkAt = node + NODE_LINKS + ((address >>> (28 - position)) & 15);
  }
  pruneNode(t, linkAt);
  if (parentAt !== 0) pruneNode(t, parentAt);
  return 1;
}
