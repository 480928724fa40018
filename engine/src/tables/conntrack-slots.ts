/**
 * The memory of connection tracking: where a flow's two directions lie and how a slot is found, taken and freed.
 * What programs call is in conntrack.ts and conntrack-aging.ts.
 *
 * Memory, in words; A is 1 (IPv4) or 4 (IPv6), all addresses are host-order words:
 *
 *     header       16 words; parameters: family, shards, slots per shard, own words
 *     control      one 64-byte line per shard: flows, sweep cursor
 *     pad          12 words
 *     partition    per shard `slots` (a power of two) slots of 4A + 4 + P words, one DIRECTION of a flow each:
 *       +0         src            the key: what a packet of this direction carries when it arrives
 *       +A         dst
 *       +2A        sport << 16 | dport
 *       +2A+1      meta = zone (13 bits) << 19 | proto (8) << 11 | state (4) << 7 | flags (7); 0 = free slot
 *       +2A+2      xsrc           what the packet carries after translation
 *       +3A+2      xdst
 *       +4A+2      xports
 *       +4A+3      expiry in ms, u32, may wrap
 *       +4A+4      P words of the program's own, 0 in a new flow: P is 8 where netfilter tracks windows, 0 in the ebpf mode
 *
 * The other direction of a flow has key = reverse of x and x = reverse of this key; it is found by hashing again, never
 * by a pointer, so slots can move. A flow that is its own reverse (source = target, one port) is one slot, its own peer.
 *
 * Open addressing, linear probing, load at most 3/4. Removing shifts the rest of the run back instead of leaving
 * tombstones: a flood of short flows would fill the table with them and every miss would walk them. The price: **a slot
 * is a position only until the next insert, remove, sweep, eviction or clear in its shard.** Finding never moves anything.
 *
 * A flow has expired when both its directions have. Expired flows are misses and hold no tuple; their slots are freed by
 * an insert that needs their tuple, and by `ctSweep`, which must see each of them within 2^31 ms (24 days) of its expiry.
 * One writer per shard, no atomics: shards share no cache line but at a partition's edge, and no word.
 */
import {
  attachTable,
  CAPACITY_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_CONNTRACK,
  PARAMETERS_AT,
} from './table-header.ts';

const FAMILY_AT = PARAMETERS_AT;
const SHARDS_AT = PARAMETERS_AT + 1;
const SLOTS_AT = PARAMETERS_AT + 2;
const OWN_WORDS_AT = PARAMETERS_AT + 3;

/** Own words of a slot in the modes of the kernel: an IPv4 slot is then one cache line. */
export const CT_OWN_WORDS = 8;

/**
 * A large buffer begins 16 bytes behind a page (malloc's head), so 12 words more put the slots on cache lines: an IPv4
 * slot then lies in one line, where every other one would lie across two. Elsewhere it costs 48 bytes.
 */
const PAD_WORDS = 12;
export const CONTROL_WORDS = 16;
export const CONTROL_FLOWS = 0;
export const CONTROL_CURSOR = 1;

/** Flags of a slot. CT_USED and CT_REPLY belong to the table, the others to the programs, equal in both directions. */
export const CT_USED = 1;
export const CT_REPLY = 2;
export const CT_SEEN_REPLY = 4;
export const CT_ASSURED = 8;
/** Three bits whose meaning a mode chooses. */
export const CT_MODE_1 = 16;
export const CT_MODE_2 = 32;
export const CT_MODE_3 = 64;
export const CT_FLOW_FLAGS = CT_SEEN_REPLY | CT_ASSURED | CT_MODE_1 | CT_MODE_2 | CT_MODE_3;

export const ZONE_SHIFT = 19;
export const PROTO_SHIFT = 11;
export const STATE_SHIFT = 7;
export const STATE_MASK = 15 << STATE_SHIFT;
export const FLAGS_MASK = 127;
/** The bits of meta that are part of the key. */
export const KEY_MASK = -1 << PROTO_SHIFT;

// Word offsets in an IPv4 and in an IPv6 slot, for the code that differs; all other code takes them from the table.
export const META4 = 3;
export const EXPIRY4 = 7;
export const META6 = 9;
export const EXPIRY6 = 19;

export interface Conntrack {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  /** 4 or 6. */
  readonly family: number;
  readonly shards: number;
  /** Most flows of a shard. */
  readonly limit: number;
  /** Words of an address: 1 or 4. */
  readonly addressWords: number;
  /** Words of a slot: 8 or 16 for IPv4, 20 or 28 for IPv6. */
  readonly slotWords: number;
  /** log2 of them, for IPv4. */
  readonly slotShift: number;
  /** Word offsets inside a slot. */
  readonly metaAt: number;
  readonly expiryAt: number;
  readonly ownAt: number;
  /** Own words of a slot: CT_OWN_WORDS or 0. */
  readonly ownWords: number;
  /** Slots of a shard - 1. */
  readonly mask: number;
  /** Word offsets in `words`: the control line of shard 0 and the first slot of shard 0. */
  readonly controlAt: number;
  readonly slotsAt: number;
  /** Words from one shard's slots to the next one's. */
  readonly partitionWords: number;
}

/**
 * Makes a connection table.
 * @param family 4 or 6
 * @param capacity flows of the whole table; each shard takes capacity / shards of them, rounded up
 * @param shards a power of two, 1 to 256
 * @param ownWords CT_OWN_WORDS for netfilter's programs; 0 for the ebpf mode, which keeps nothing beside the slot
 * @throws RangeError for other values
 */
export function createConntrack(family: number, capacity: number, shards: number, ownWords = CT_OWN_WORDS): Conntrack {
  if (family !== 4 && family !== 6) throw new RangeError(`family must be 4 or 6, not ${family}`);
  if (!Number.isInteger(shards) || shards < 1 || shards > 256 || (shards & (shards - 1)) !== 0) {
    throw new RangeError(`shards must be a power of two from 1 to 256, not ${shards}`);
  }
  if (ownWords !== 0 && ownWords !== CT_OWN_WORDS) {
    throw new RangeError(`a slot has 0 or ${CT_OWN_WORDS} own words, not ${ownWords}`);
  }
  const slots = Math.max(8, ceilPow2(Math.ceil((Math.ceil(capacity / shards) * 2 * 4) / 3)));
  const slotWords = (family === 4 ? 8 : 20) + ownWords;
  const words = createTable(KIND_CONNTRACK, capacity, PAD_WORDS + shards * (CONTROL_WORDS + slots * slotWords));
  words[FAMILY_AT] = family;
  words[SHARDS_AT] = shards;
  words[SLOTS_AT] = slots;
  words[OWN_WORDS_AT] = ownWords;
  return attachConntrack(words.buffer);
}

/**
 * Takes a connection table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachConntrack(buffer: SharedArrayBuffer): Conntrack {
  const words = attachTable(KIND_CONNTRACK, buffer);
  const family = words[FAMILY_AT];
  const shards = words[SHARDS_AT];
  const slots = words[SLOTS_AT];
  const ownWords = words[OWN_WORDS_AT];
  const addressWords = family === 4 ? 1 : 4;
  const slotWords = 4 * addressWords + 4 + ownWords;
  if (words.length !== HEADER_WORDS + PAD_WORDS + shards * (CONTROL_WORDS + slots * slotWords)) {
    throw new TypeError(`a conntrack table of ${shards} shards with ${slots} slots has not ${words.length} words`);
  }
  return {
    buffer,
    words,
    family,
    shards,
    limit: Math.ceil(words[CAPACITY_AT] / shards),
    addressWords,
    slotWords,
    slotShift: ownWords === 0 ? 3 : 4,
    metaAt: 2 * addressWords + 1,
    expiryAt: 4 * addressWords + 3,
    ownAt: 4 * addressWords + 4,
    ownWords,
    mask: slots - 1,
    controlAt: HEADER_WORDS,
    slotsAt: HEADER_WORDS + shards * CONTROL_WORDS + PAD_WORDS,
    partitionWords: slots * slotWords,
  };
}

// ---- hashing ----------------------------------------------------------------------------------------------------

// Multiply-add per word, one nonlinear step between addresses and ports, then the finaliser of MurmurHash3. The
// multiplications do not wait for each other. Not `hashTuple4`: all flows of a shard agree in some of its bits.
export function hash4(key: number, src: number, dst: number, ports: number): number {
  let h = (Math.imul(src, 0x9e3779b1) + Math.imul(dst, 0x85ebca77)) | 0;
  h = (h ^ (h >>> 15)) + Math.imul(ports, 0xc2b2ae3d) + Math.imul(key ^ (key >>> 16), 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

export function hash6(
  key: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
): number {
  let s = (Math.imul(s0, 0x9e3779b1) + Math.imul(s1, 0x2545f491) + Math.imul(s2, 0x1b56c4e9)) | 0;
  let d = (Math.imul(d0, 0x165667b1) + Math.imul(d1, 0x5851f42d) + Math.imul(d2, 0x14057b7f)) | 0;
  s = ((s ^ (s >>> 15)) + Math.imul(s3, 0x9e3779b1)) | 0;
  d = ((d ^ (d >>> 15)) + Math.imul(d3, 0x85ebca77)) | 0;
  s = (s + d) | 0;
  let h = (s ^ (s >>> 15)) + Math.imul(ports, 0xc2b2ae3d) + Math.imul(key ^ (key >>> 16), 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** sport << 16 | dport of the other direction. */
export function swapPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16);
}

// ---- finding ----------------------------------------------------------------------------------------------------

/** The slot with this key, living or expired; -1 if there is none. */
export function locate4(
  ct: Conntrack,
  shard: number,
  hash: number,
  key: number,
  src: number,
  dst: number,
  ports: number,
): number {
  const words = ct.words;
  const mask = ct.mask;
  const first = ct.slotsAt + shard * ct.partitionWords;
  const shift = ct.slotShift;
  let i = hash & mask;
  for (;;) {
    const at = first + (i << shift);
    const meta = words[at + META4];
    if (meta === 0) return -1;
    // One branch for the whole key; XOR also makes it not matter whether a caller's word is signed.
    const differs = (words[at + 2] ^ ports) | (words[at] ^ src) | (words[at + 1] ^ dst) | ((meta ^ key) & KEY_MASK);
    if (differs === 0) return at;
    i = (i + 1) & mask;
  }
}

/** IPv6 of `locate4`. */
export function locate6(
  ct: Conntrack,
  shard: number,
  hash: number,
  key: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
): number {
  const words = ct.words;
  const mask = ct.mask;
  const first = ct.slotsAt + shard * ct.partitionWords;
  const slotWords = ct.slotWords;
  let i = hash & mask;
  for (;;) {
    const at = first + i * slotWords;
    const meta = words[at + META6];
    if (meta === 0) return -1;
    // The words that differ most often first: a slot is longer than a cache line.
    const near = (words[at + 8] ^ ports) | (words[at + 7] ^ d3) | (words[at + 3] ^ s3) | ((meta ^ key) & KEY_MASK);
    if (near === 0) {
      const source = (words[at] ^ s0) | (words[at + 1] ^ s1) | (words[at + 2] ^ s2);
      const destination = (words[at + 4] ^ d0) | (words[at + 5] ^ d1) | (words[at + 6] ^ d2);
      if ((source | destination) === 0) return at;
    }
    i = (i + 1) & mask;
  }
}

/**
 * The other direction of a flow; the slot itself if the flow is its own reverse.
 * @param slot a used slot of the shard
 */
export function ctPeer(ct: Conntrack, shard: number, slot: number): number {
  const words = ct.words;
  if (ct.family === 4) {
    const key = words[slot + META4] & KEY_MASK;
    const src = words[slot + 5];
    const dst = words[slot + 4];
    const ports = swapPorts(words[slot + 6]);
    return locate4(ct, shard, hash4(key, src, dst, ports), key, src, dst, ports);
  }
  const key = words[slot + META6] & KEY_MASK;
  const s0 = words[slot + 14];
  const s1 = words[slot + 15];
  const s2 = words[slot + 16];
  const s3 = words[slot + 17];
  const d0 = words[slot + 10];
  const d1 = words[slot + 11];
  const d2 = words[slot + 12];
  const d3 = words[slot + 13];
  const ports = swapPorts(words[slot + 18]);
  const hash = hash6(key, s0, s1, s2, s3, d0, d1, d2, d3, ports);
  return locate6(ct, shard, hash, key, s0, s1, s2, s3, d0, d1, d2, d3, ports);
}

// ---- taking and freeing -----------------------------------------------------------------------------------------

/** The free slot in which a tuple with this hash is to be written. There always is one: load is at most 3/4. */
export function freeSlot(ct: Conntrack, shard: number, hash: number): number {
  const words = ct.words;
  const mask = ct.mask;
  const first = ct.slotsAt + shard * ct.partitionWords;
  let i = hash & mask;
  while (words[first + i * ct.slotWords + ct.metaAt] !== 0) i = (i + 1) & mask;
  return first + i * ct.slotWords;
}

function homeOf(ct: Conntrack, at: number): number {
  const w = ct.words;
  if (ct.family === 4) return hash4(w[at + META4] & KEY_MASK, w[at], w[at + 1], w[at + 2]) & ct.mask;
  return (
    hash6(
      w[at + META6] & KEY_MASK,
      w[at],
      w[at + 1],
      w[at + 2],
      w[at + 3],
      w[at + 4],
      w[at + 5],
      w[at + 6],
      w[at + 7],
      w[at + 8],
    ) & ct.mask
  );
}

/**
 * Frees a slot and moves back what then stands too far from its home.
 * @param watched another used slot of the shard
 * @returns where the watched slot is now
 */
export function closeSlot(ct: Conntrack, shard: number, slot: number, watched: number): number {
  const words = ct.words;
  const mask = ct.mask;
  const slotWords = ct.slotWords;
  const first = ct.slotsAt + shard * ct.partitionWords;
  let hole = (slot - first) / slotWords;
  let i = hole;
  for (;;) {
    i = (i + 1) & mask;
    const at = first + i * slotWords;
    if (words[at + ct.metaAt] === 0) break;
    // May move if the hole lies on its way from home: cyclic distance home..i reaches back at least to the hole.
    if (((i - homeOf(ct, at)) & mask) < ((i - hole) & mask)) continue;
    const to = first + hole * slotWords;
    for (let k = 0; k < slotWords; k++) words[to + k] = words[at + k];
    if (at === watched) watched = to;
    hole = i;
  }
  const freed = first + hole * slotWords;
  for (let k = 0; k < slotWords; k++) words[freed + k] = 0;
  return watched;
}
