/**
 * What the connections of IPVS share: counts of connections per real server, the cursors of round robin, clients'
 * persistence, and the caches of the locality schedulers. One sparse table of rows; programs/ipvs-state.ts says what the
 * key and the words of each kind mean.
 *
 * Flows of different shards share rows, so there are two layers, as in tables/affinity.ts: the *merged* part is read by all
 * and written at a tick by one thread while the others wait; each shard's *pending* part has one writer, the shard's
 * owner, who sees his own writes at once. A row has *sums*, to which shards add, and *registers*, of which the last write
 * counts: by time, then by shard. With one shard there is no pending part: everything is seen at once, as in the kernel.
 *
 * Memory, in words:
 *
 *     header    capacity and count in merged rows; parameters: shards, pending rows of a shard, writes refused
 *     control   one 64-byte line per shard: pending rows, writes refused
 *     pending   per shard 2p slots (p a power of two) and p words that list the slots in use; none with one shard
 *     merged    2^n slots, at least twice the capacity
 *     a slot, 16 words:
 *       +0  tag: hash of the key with bit 0 set, 0 = free       +1 … +7  key: kind << 16 | node, id, address, second id
 *       +8, +9  sums    +10 … +12  registers    +13 expiry of the registers in ms    +14 0 none, 1 set, 2 set for ever
 *       +15 time of the last write of the registers
 *
 * A merged row whose sums are 0 and whose registers have expired is dead; dead rows go when room is needed.
 * Full: a write is refused and counted; the caller counts sums anew from the connections (`sharedRefused`).
 */
import { mix32 } from './hash.ts';
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_IPVS_SHARED,
  PARAMETERS_AT,
} from './table-header.ts';

const SHARDS_AT = PARAMETERS_AT;
const PENDING_AT = PARAMETERS_AT + 1;
const REFUSED_AT = PARAMETERS_AT + 2;

const CONTROL_WORDS = 16;
const CONTROL_COUNT = 0;
const CONTROL_REFUSED = 1;

const SLOT_WORDS = 16;
/** Words of a key. */
export const SHARED_KEY_WORDS = 7;
const SUMS = 8;
const REGISTERS = 10;
const EXPIRY = 13;
const SET = 14;
const WRITTEN = 15;
const SET_UNTIL = 1;
const SET_FOR_EVER = 2;

export interface IpvsShared {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly shards: number;
  /** Pending rows of a shard; 0 with one shard. */
  readonly pendingCapacity: number;
  readonly pendingAt: number;
  /** Words of a shard's pending part. */
  readonly pendingWords: number;
  readonly mergedAt: number;
  /** Merged slots - 1. */
  readonly mask: number;
}

/**
 * Makes an empty table.
 * @param capacity merged rows
 * @param shards a power of two, 1 to 256
 * @param pendingCapacity rows that one shard can write between two ticks, rounded up to a power of two
 * @throws RangeError for other values
 */
export function createIpvsShared(capacity: number, shards: number, pendingCapacity: number): IpvsShared {
  if (!Number.isInteger(shards) || shards < 1 || shards > 256 || (shards & (shards - 1)) !== 0) {
    throw new RangeError(`shards must be a power of two from 1 to 256, not ${shards}`);
  }
  if (!Number.isInteger(pendingCapacity) || pendingCapacity < 1) {
    throw new RangeError(`a shard's pending capacity must be a whole number from 1 on, not ${pendingCapacity}`);
  }
  const pending = shards === 1 ? 0 : ceilPow2(pendingCapacity);
  const perShard = CONTROL_WORDS + pending * (1 + 2 * SLOT_WORDS);
  const slots = Math.max(8, ceilPow2(2 * capacity));
  const words = createTable(KIND_IPVS_SHARED, capacity, shards * perShard + slots * SLOT_WORDS);
  words[SHARDS_AT] = shards;
  words[PENDING_AT] = pending;
  return attachIpvsShared(words.buffer);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachIpvsShared(buffer: SharedArrayBuffer): IpvsShared {
  const words = attachTable(KIND_IPVS_SHARED, buffer);
  const shards = words[SHARDS_AT];
  const pendingCapacity = words[PENDING_AT];
  const pendingWords = pendingCapacity * (1 + 2 * SLOT_WORDS);
  const pendingAt = HEADER_WORDS + shards * CONTROL_WORDS;
  const mergedAt = pendingAt + shards * pendingWords;
  const slots = Math.max(8, ceilPow2(2 * words[CAPACITY_AT]));
  if (words.length !== mergedAt + slots * SLOT_WORDS) {
    throw new TypeError(`IPVS state of ${words[CAPACITY_AT]} rows and ${shards} shards has not ${words.length} words`);
  }
  return { buffer, words, shards, pendingCapacity, pendingAt, pendingWords, mergedAt, mask: slots - 1 };
}

function hashKey(key: Int32Array): number {
  let h = (Math.imul(key[2], 0x9e3779b1) + Math.imul(key[3], 0x2545f491) + Math.imul(key[4], 0x1b56c4e9)) | 0;
  h = (h ^ (h >>> 15)) + Math.imul(key[5], 0x85ebca77) + Math.imul(key[1], 0xc2b2ae3d);
  return mix32((h ^ (h >>> 16)) + Math.imul(key[0], 0x27d4eb2f) + Math.imul(key[6], 0x165667b1)) | 1;
}

function isKey(words: Int32Array, at: number, key: Int32Array): boolean {
  const near =
    (words[at + 1] ^ key[0]) | (words[at + 2] ^ key[1]) | (words[at + 3] ^ key[2]) | (words[at + 6] ^ key[5]);
  return (near | (words[at + 4] ^ key[3]) | (words[at + 5] ^ key[4]) | (words[at + 7] ^ key[6])) === 0;
}

/** The slot of a key, or the free slot where it belongs. */
function locate(words: Int32Array, first: number, mask: number, tag: number, key: Int32Array): number {
  let i = (tag >>> 1) & mask;
  for (;;) {
    const at = first + i * SLOT_WORDS;
    if (words[at] === 0 || (words[at] === tag && isKey(words, at, key))) return at;
    i = (i + 1) & mask;
  }
}

function pendingSlot(t: IpvsShared, shard: number, tag: number, key: Int32Array): number {
  const first = t.pendingAt + shard * t.pendingWords + t.pendingCapacity;
  return locate(t.words, first, 2 * t.pendingCapacity - 1, tag, key);
}

function isPending(t: IpvsShared, shard: number): boolean {
  return t.pendingCapacity > 0 && t.words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_COUNT] !== 0;
}

// ---- reading ----------------------------------------------------------------------------------------------------

/** A sum (0 or 1) of a key as this shard knows it; 0 for a key that is not there. */
export function sharedSum(t: IpvsShared, shard: number, key: Int32Array, which: number): number {
  const words = t.words;
  const tag = hashKey(key);
  let sum = words[locate(words, t.mergedAt, t.mask, tag, key) + SUMS + which];
  if (isPending(t, shard)) sum += words[pendingSlot(t, shard, tag, key) + SUMS + which];
  return sum;
}

/**
 * The registers of a key as this shard knows them.
 * @returns a position for `sharedRegister` until the next write; -1 if they were never set. Expired ones may be found
 */
export function sharedFind(t: IpvsShared, shard: number, key: Int32Array): number {
  const words = t.words;
  const tag = hashKey(key);
  let at = locate(words, t.mergedAt, t.mask, tag, key);
  if (isPending(t, shard)) {
    const pending = pendingSlot(t, shard, tag, key);
    if (words[pending + SET] !== 0) at = pending;
  }
  return words[at + SET] === 0 ? -1 : at;
}

/** True if the registers at a position have not expired. */
export function isSharedLive(t: IpvsShared, at: number, nowMs: number): boolean {
  return isSet(t.words, at, nowMs);
}

/** True if the registers at a position were written before the last tick: this shard has not written them since. */
export function isSharedMerged(t: IpvsShared, at: number): boolean {
  return at >= t.mergedAt;
}

/** Register 0 to 2 at a position that `sharedFind` gave. */
export function sharedRegister(t: IpvsShared, at: number, which: number): number {
  return t.words[at + REGISTERS + which];
}

/** When the registers at a position expire, in ms. */
export function sharedExpiry(t: IpvsShared, at: number): number {
  return t.words[at + EXPIRY];
}

function isSet(words: Int32Array, at: number, nowMs: number): boolean {
  const set = words[at + SET];
  return set === SET_FOR_EVER || (set === SET_UNTIL && ((words[at + EXPIRY] - nowMs) | 0) > 0);
}

/** Writes refused since the last `sharedMerge` or `sharedForgetSums`: sums may be wrong. */
export function sharedRefused(t: IpvsShared): number {
  let refused = t.words[REFUSED_AT];
  for (let shard = 0; shard < t.shards; shard++) {
    refused += t.words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_REFUSED];
  }
  return refused;
}

// ---- writing ----------------------------------------------------------------------------------------------------

/** Adds to a sum (0 or 1) of a key. */
export function sharedAdd(
  t: IpvsShared,
  shard: number,
  key: Int32Array,
  which: number,
  by: number,
  nowMs: number,
): void {
  const at = writable(t, shard, key, nowMs);
  if (at !== -1) t.words[at + SUMS + which] += by;
}

/** Sets the registers of a key. @param expiryMs virtual time at which they expire, unless they are set for ever */
export function sharedSet(
  t: IpvsShared,
  shard: number,
  key: Int32Array,
  r0: number,
  r1: number,
  r2: number,
  forEver: boolean,
  expiryMs: number,
  nowMs: number,
): void {
  const at = writable(t, shard, key, nowMs);
  if (at === -1) return;
  const words = t.words;
  words[at + REGISTERS] = r0;
  words[at + REGISTERS + 1] = r1;
  words[at + REGISTERS + 2] = r2;
  words[at + EXPIRY] = expiryMs;
  words[at + SET] = forEver ? SET_FOR_EVER : SET_UNTIL;
  words[at + WRITTEN] = nowMs;
}

/** The slot that this shard may write for a key; -1 if there is no room (counted). */
function writable(t: IpvsShared, shard: number, key: Int32Array, nowMs: number): number {
  const words = t.words;
  const tag = hashKey(key);
  if (t.pendingCapacity === 0) return takeMerged(t, tag, key, nowMs);
  const at = pendingSlot(t, shard, tag, key);
  if (words[at] !== 0) return at;
  const control = HEADER_WORDS + shard * CONTROL_WORDS;
  const count = words[control + CONTROL_COUNT];
  if (count === t.pendingCapacity) {
    words[control + CONTROL_REFUSED]++;
    return -1;
  }
  words[t.pendingAt + shard * t.pendingWords + count] = at;
  words[control + CONTROL_COUNT] = count + 1;
  writeKey(words, at, tag, key);
  return at;
}

function takeMerged(t: IpvsShared, tag: number, key: Int32Array, nowMs: number): number {
  const words = t.words;
  let at = locate(words, t.mergedAt, t.mask, tag, key);
  if (words[at] !== 0) return at;
  if (words[COUNT_AT] >= words[CAPACITY_AT]) {
    if (reap(t, nowMs) === 0) {
      words[REFUSED_AT]++;
      return -1;
    }
    at = locate(words, t.mergedAt, t.mask, tag, key);
  }
  words[COUNT_AT]++;
  writeKey(words, at, tag, key);
  return at;
}

function writeKey(words: Int32Array, at: number, tag: number, key: Int32Array): void {
  words[at] = tag;
  for (let i = 0; i < SHARED_KEY_WORDS; i++) words[at + 1 + i] = key[i];
}

/** Frees dead merged rows; answers how many. */
function reap(t: IpvsShared, nowMs: number): number {
  const words = t.words;
  let freed = 0;
  for (let i = 0; i <= t.mask; ) {
    const at = t.mergedAt + i * SLOT_WORDS;
    const dead = words[at] !== 0 && (words[at + SUMS] | words[at + SUMS + 1]) === 0 && !isSet(words, at, nowMs);
    if (dead) {
      freeMerged(t, i);
      freed++;
      // Another row may stand here now.
    } else i++;
  }
  return freed;
}

/** Frees a merged slot and moves back what then stands too far from its home. */
function freeMerged(t: IpvsShared, slot: number): void {
  const words = t.words;
  let hole = slot;
  for (let next = (slot + 1) & t.mask; ; next = (next + 1) & t.mask) {
    const at = t.mergedAt + next * SLOT_WORDS;
    if (words[at] === 0) break;
    const home = (words[at] >>> 1) & t.mask;
    if (((next - home) & t.mask) < ((next - hole) & t.mask)) continue;
    words.copyWithin(t.mergedAt + hole * SLOT_WORDS, at, at + SLOT_WORDS);
    hole = next;
  }
  const freed = t.mergedAt + hole * SLOT_WORDS;
  words.fill(0, freed, freed + SLOT_WORDS);
  words[COUNT_AT]--;
}

/**
 * Applies all pending writes. For the tick, by one thread while the others wait.
 * @param key SHARED_KEY_WORDS words of scratch
 */
export function sharedMerge(t: IpvsShared, key: Int32Array, nowMs: number): void {
  const words = t.words;
  if (t.pendingCapacity === 0) return;
  for (let shard = 0; shard < t.shards; shard++) {
    const control = HEADER_WORDS + shard * CONTROL_WORDS;
    const count = words[control + CONTROL_COUNT];
    const list = t.pendingAt + shard * t.pendingWords;
    for (let i = 0; i < count; i++) {
      applyPending(t, words[list + i], key, nowMs);
      words.fill(0, words[list + i], words[list + i] + SLOT_WORDS);
    }
    words[control + CONTROL_COUNT] = 0;
  }
}

function applyPending(t: IpvsShared, from: number, key: Int32Array, nowMs: number): void {
  const words = t.words;
  for (let i = 0; i < SHARED_KEY_WORDS; i++) key[i] = words[from + 1 + i];
  const at = takeMerged(t, words[from], key, nowMs);
  if (at === -1) return;
  words[at + SUMS] += words[from + SUMS];
  words[at + SUMS + 1] += words[from + SUMS + 1];
  if (words[from + SET] === 0) return;
  // Shards come in their order, so of two writes at one time the later shard's counts.
  if (words[at + SET] !== 0 && ((words[from + WRITTEN] - words[at + WRITTEN]) | 0) < 0) return;
  for (let i = REGISTERS; i < SLOT_WORDS; i++) words[at + i] = words[from + i];
}

/** Sets all merged sums to 0 and forgets what was refused, for a recount behind `sharedMerge`. */
export function sharedForgetSums(t: IpvsShared): void {
  const words = t.words;
  for (let i = 0; i <= t.mask; i++) {
    words[t.mergedAt + i * SLOT_WORDS + SUMS] = 0;
    words[t.mergedAt + i * SLOT_WORDS + SUMS + 1] = 0;
  }
  words[REFUSED_AT] = 0;
  for (let shard = 0; shard < t.shards; shard++) words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_REFUSED] = 0;
}

/** Adds to a merged sum past the pending part, for a recount. */
export function sharedRecount(t: IpvsShared, key: Int32Array, which: number, by: number, nowMs: number): void {
  const at = takeMerged(t, hashKey(key), key, nowMs);
  if (at !== -1) t.words[at + SUMS + which] += by;
}

/** Forgets what a shard has written since the last tick, whatever its memory holds, and asks for a recount. */
export function sharedForgetShard(t: IpvsShared, shard: number): void {
  const first = t.pendingAt + shard * t.pendingWords;
  t.words.fill(0, first, first + t.pendingWords);
  t.words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_COUNT] = 0;
  t.words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_REFUSED] = 1;
}

/** Forgets everything. Only while no other thread uses the table. */
export function sharedClear(t: IpvsShared): void {
  const words = t.words;
  for (let shard = 0; shard < t.shards; shard++) {
    const control = HEADER_WORDS + shard * CONTROL_WORDS;
    const list = t.pendingAt + shard * t.pendingWords;
    for (let i = 0; i < words[control + CONTROL_COUNT]; i++) {
      words.fill(0, words[list + i], words[list + i] + SLOT_WORDS);
    }
    words.fill(0, control, control + CONTROL_WORDS);
  }
  if (words[COUNT_AT] !== 0) words.fill(0, t.mergedAt);
  words[COUNT_AT] = 0;
  words[REFUSED_AT] = 0;
}
