/**
 * Stamps: (id, address) -> (value, time). Session affinity of the eBPF mode (id = service, value = backend) and the
 * `recent` lists of the iptables mode (id = list, value = 1).
 *
 * Flows of different shards share stamps, so there are two layers. The *merged* part is read by everybody and written only
 * at a tick, by one thread while the others wait. Each shard's *pending* part has one writer, the shard's owner, who sees
 * his own writes at once. `affinityMerge` applies all pending writes in the order (time, shard, sequence), whatever the
 * number of workers. With one shard and a merge after every write the table behaves like the real one.
 *
 * Memory, in words:
 *
 *     header    capacity and count in merged stamps; parameters below
 *     control   one 64-byte line per shard: pending stamps, writes of this tick, writes refused
 *     pending   per shard, 2p rows of 8 words (p = pending capacity, a power of two, load at most one half), found by
 *               linear probing, and p words that list the rows in use. A row: stamp, sequence from 1 on (0 = free row)
 *     buckets   a power of two, at least the capacity: first merged stamp of each chain, 0 = none
 *     lists     per id 3 words: stamps, oldest, newest; none if no limit was asked for
 *     stamps    numbered from 1, 12 words: stamp, next in chain, older and newer of all, older and newer of this id
 *
 *     a stamp is 7 words: id, address words 0 to 3, value, time in ms
 *
 * Full: a list at its limit forgets its oldest stamp (xt_recent: ip_list_tot, default 100), a full table its oldest of all
 * (as the kernel's LRU map). Old ones are not removed at their time: the caller's timeout makes them misses. A shard
 * that has no pending room refuses the write and counts it.
 */
import { mix32 } from './hash.ts';
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_AFFINITY,
  PARAMETERS_AT,
} from './table-header.ts';

const SHARDS_AT = PARAMETERS_AT;
const PENDING_AT = PARAMETERS_AT + 1;
const LISTS_AT = PARAMETERS_AT + 2;
const LIMIT_AT = PARAMETERS_AT + 3;
const OLDEST_AT = PARAMETERS_AT + 4;
const NEWEST_AT = PARAMETERS_AT + 5;
const FREE_AT = PARAMETERS_AT + 6;
const USED_AT = PARAMETERS_AT + 7;

const CONTROL_WORDS = 16;
const CONTROL_COUNT = 0;
const CONTROL_SEQUENCE = 1;
const CONTROL_REFUSED = 2;

const PENDING_WORDS = 8;
const LIST_WORDS = 3;
const STAMP_WORDS = 12;

// Inside a pending row and a merged stamp.
const VALUE = 5;
const TIME = 6;
const SEQUENCE = 7;
// Inside a merged stamp.
const CHAIN = 7;
const OLDER = 8;
const NEWER = 9;
const LIST_OLDER = 10;
const LIST_NEWER = 11;
// Inside a list.
const LIST_COUNT = 0;
const LIST_OLDEST = 1;
const LIST_NEWEST = 2;

export interface Affinity {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly shards: number;
  /** Pending stamps that a shard holds between two ticks. */
  readonly pendingCapacity: number;
  /** Ids from 0 to here have a list; 0 without a limit. */
  readonly lists: number;
  /** Most stamps of an id; 0 for no limit. */
  readonly limit: number;
  readonly pendingAt: number;
  /** Words of a shard's pending part. */
  readonly pendingWords: number;
  readonly bucketsAt: number;
  readonly bucketMask: number;
  readonly listsAt: number;
  /** Where stamp 0 would be. */
  readonly stampsAt: number;
}

/**
 * Makes an empty table.
 * @param capacity most merged stamps
 * @param shards a power of two, 1 to 256
 * @param pendingCapacity stamps that one shard can write between two ticks; rounded up to a power of two
 * @param lists number of ids if they have a limit, else 0
 * @param limit most stamps of an id, 0 for no limit
 * @throws RangeError for other values
 */
export function createAffinity(
  capacity: number,
  shards: number,
  pendingCapacity: number,
  lists: number,
  limit: number,
): Affinity {
  if (!Number.isInteger(shards) || shards < 1 || shards > 256 || (shards & (shards - 1)) !== 0) {
    throw new RangeError(`shards must be a power of two from 1 to 256, not ${shards}`);
  }
  if (!Number.isInteger(pendingCapacity) || pendingCapacity < 1) {
    throw new RangeError(`a shard's pending capacity must be a whole number from 1 on, not ${pendingCapacity}`);
  }
  if (!Number.isInteger(limit) || limit < 0 || !Number.isInteger(lists) || lists < 0 || limit > 0 !== lists > 0) {
    throw new RangeError(`a limit needs a number of lists and lists need a limit, not ${limit} and ${lists}`);
  }
  const pending = ceilPow2(pendingCapacity);
  const perShard = CONTROL_WORDS + pending * (1 + 2 * PENDING_WORDS);
  const body = shards * perShard + ceilPow2(capacity) + lists * LIST_WORDS + capacity * STAMP_WORDS;
  const words = createTable(KIND_AFFINITY, capacity, body);
  words[SHARDS_AT] = shards;
  words[PENDING_AT] = pending;
  words[LISTS_AT] = lists;
  words[LIMIT_AT] = limit;
  return attachAffinity(words.buffer);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachAffinity(buffer: SharedArrayBuffer): Affinity {
  const words = attachTable(KIND_AFFINITY, buffer);
  const shards = words[SHARDS_AT];
  const pendingCapacity = words[PENDING_AT];
  const lists = words[LISTS_AT];
  const pendingAt = HEADER_WORDS + shards * CONTROL_WORDS;
  const pendingWords = pendingCapacity * (1 + 2 * PENDING_WORDS);
  const bucketsAt = pendingAt + shards * pendingWords;
  const buckets = ceilPow2(words[CAPACITY_AT]);
  const listsAt = bucketsAt + buckets;
  const firstStamp = listsAt + lists * LIST_WORDS;
  if (words.length !== firstStamp + words[CAPACITY_AT] * STAMP_WORDS) {
    throw new TypeError(`an affinity table of ${words[CAPACITY_AT]} stamps has not ${words.length} words`);
  }
  return {
    buffer,
    words,
    shards,
    pendingCapacity,
    lists,
    limit: words[LIMIT_AT],
    pendingAt,
    pendingWords,
    bucketsAt,
    bucketMask: buckets - 1,
    listsAt,
    stampsAt: firstStamp - STAMP_WORDS,
  };
}

function hashKey(id: number, a0: number, a1: number, a2: number, a3: number): number {
  const upper = (Math.imul(a0, 0x9e3779b1) + Math.imul(a1, 0x2545f491) + Math.imul(a2, 0x1b56c4e9)) | 0;
  return mix32(((upper ^ (upper >>> 15)) + Math.imul(a3, 0x85ebca77) + Math.imul(id, 0xc2b2ae3d)) | 0);
}

function isKey(words: Int32Array, at: number, id: number, a0: number, a1: number, a2: number, a3: number): boolean {
  const address = (words[at + 1] ^ a0) | (words[at + 2] ^ a1) | (words[at + 3] ^ a2) | (words[at + 4] ^ a3);
  return (address | (words[at] ^ id)) === 0;
}

/** The pending row of a key or the free row where it belongs. */
function pendingRow(
  t: Affinity,
  shard: number,
  hash: number,
  id: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): number {
  const words = t.words;
  const first = t.pendingAt + shard * t.pendingWords + t.pendingCapacity;
  const mask = 2 * t.pendingCapacity - 1;
  let i = hash & mask;
  for (;;) {
    const at = first + i * PENDING_WORDS;
    if (words[at + SEQUENCE] === 0 || isKey(words, at, id, a0, a1, a2, a3)) return at;
    i = (i + 1) & mask;
  }
}

/** The number of a merged stamp, 0 if there is none. */
function mergedStamp(t: Affinity, hash: number, id: number, a0: number, a1: number, a2: number, a3: number): number {
  const words = t.words;
  let stamp = words[t.bucketsAt + (hash & t.bucketMask)];
  while (stamp !== 0) {
    const at = t.stampsAt + stamp * STAMP_WORDS;
    if (isKey(words, at, id, a0, a1, a2, a3)) break;
    stamp = words[at + CHAIN];
  }
  return stamp;
}

/**
 * The value that was last stamped on an address, as this shard may know it.
 * @param id service or list; below `lists` if there is a limit
 * @param a0,a1,a2,a3 address words; IPv4 is word 0
 * @param timeoutMs a stamp older than this is a miss (one of exactly this age is not)
 * @returns the value; -1 if there is none
 */
export function affinityFind(
  t: Affinity,
  shard: number,
  id: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  nowMs: number,
  timeoutMs: number,
): number {
  const words = t.words;
  const hash = hashKey(id, a0, a1, a2, a3);
  let at = -1;
  if (words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_COUNT] !== 0) {
    const row = pendingRow(t, shard, hash, id, a0, a1, a2, a3);
    if (words[row + SEQUENCE] !== 0) at = row;
  }
  if (at === -1) {
    const stamp = mergedStamp(t, hash, id, a0, a1, a2, a3);
    if (stamp === 0) return -1;
    at = t.stampsAt + stamp * STAMP_WORDS;
  }
  return ((nowMs - words[at + TIME]) | 0) > timeoutMs ? -1 : words[at + VALUE];
}

/**
 * Stamps an address. The shard sees it at once, all others after the next merge.
 * @param value from 0 on
 * @returns 0; -1 if the shard has no pending room left (counted)
 */
export function affinitySet(
  t: Affinity,
  shard: number,
  id: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  value: number,
  nowMs: number,
): number {
  const words = t.words;
  const control = HEADER_WORDS + shard * CONTROL_WORDS;
  const at = pendingRow(t, shard, hashKey(id, a0, a1, a2, a3), id, a0, a1, a2, a3);
  if (words[at + SEQUENCE] === 0) {
    const count = words[control + CONTROL_COUNT];
    if (count === t.pendingCapacity) {
      words[control + CONTROL_REFUSED]++;
      return -1;
    }
    words[t.pendingAt + shard * t.pendingWords + count] = at;
    words[control + CONTROL_COUNT] = count + 1;
    words[at] = id;
    words[at + 1] = a0;
    words[at + 2] = a1;
    words[at + 3] = a2;
    words[at + 4] = a3;
  }
  words[at + VALUE] = value;
  words[at + TIME] = nowMs;
  words[at + SEQUENCE] = ++words[control + CONTROL_SEQUENCE];
  return 0;
}

/** Writes that a shard has refused for lack of pending room since the table was made. */
export function affinityRefused(t: Affinity, shard: number): number {
  return t.words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_REFUSED];
}

/**
 * Applies all pending writes. For the tick, by one thread while the others wait.
 * @returns stamps applied
 */
export function affinityMerge(t: Affinity): number {
  const words = t.words;
  let total = 0;
  let shard = 0;
  for (let s = 0; s < t.shards; s++) {
    const count = words[HEADER_WORDS + s * CONTROL_WORDS + CONTROL_COUNT];
    if (count !== 0) shard = s;
    total += count;
  }
  if (total === 0) return 0;
  // The way of one shard that merges after each write; nothing to order, nothing to allocate.
  if (total === 1) apply(t, words[t.pendingAt + shard * t.pendingWords]);
  else applyInOrder(t, total);
  for (let s = 0; s < t.shards; s++) clearPending(t, s);
  return total;
}

/** Forgets everything, pending and merged; takes time only for what is there. Only while no other thread uses the table. */
export function affinityClear(t: Affinity): void {
  const words = t.words;
  for (let shard = 0; shard < t.shards; shard++) {
    clearPending(t, shard);
    words[HEADER_WORDS + shard * CONTROL_WORDS + CONTROL_REFUSED] = 0;
  }
  while (words[OLDEST_AT] !== 0) forget(t, words[OLDEST_AT]);
}

function applyInOrder(t: Affinity, total: number): void {
  const words = t.words;
  const rows = new Int32Array(total);
  let n = 0;
  for (let s = 0; s < t.shards; s++) {
    const count = words[HEADER_WORDS + s * CONTROL_WORDS + CONTROL_COUNT];
    for (let i = 0; i < count; i++) rows[n++] = words[t.pendingAt + s * t.pendingWords + i];
  }
  // Rows lie in the order of their shards, so a row's shard is compared by dividing its position.
  rows.sort((a, b) => {
    const time = (words[a + TIME] - words[b + TIME]) | 0;
    if (time !== 0) return time;
    const shards = Math.trunc((a - t.pendingAt) / t.pendingWords) - Math.trunc((b - t.pendingAt) / t.pendingWords);
    return shards !== 0 ? shards : words[a + SEQUENCE] - words[b + SEQUENCE];
  });
  for (let i = 0; i < total; i++) apply(t, rows[i]);
}

function clearPending(t: Affinity, shard: number): void {
  const words = t.words;
  const control = HEADER_WORDS + shard * CONTROL_WORDS;
  const count = words[control + CONTROL_COUNT];
  for (let i = 0; i < count; i++) words[words[t.pendingAt + shard * t.pendingWords + i] + SEQUENCE] = 0;
  words[control + CONTROL_COUNT] = 0;
  words[control + CONTROL_SEQUENCE] = 0;
}

/** Writes one pending row into the merged part, as its newest stamp. */
function apply(t: Affinity, row: number): void {
  const words = t.words;
  const id = words[row];
  const hash = hashKey(id, words[row + 1], words[row + 2], words[row + 3], words[row + 4]);
  let stamp = mergedStamp(t, hash, id, words[row + 1], words[row + 2], words[row + 3], words[row + 4]);
  if (stamp !== 0) unlink(t, stamp);
  else {
    if (t.limit > 0 && words[t.listsAt + id * LIST_WORDS + LIST_COUNT] >= t.limit) {
      forget(t, words[t.listsAt + id * LIST_WORDS + LIST_OLDEST]);
    } else if (words[COUNT_AT] >= words[CAPACITY_AT]) {
      forget(t, words[OLDEST_AT]);
    }
    stamp = words[FREE_AT];
    if (stamp !== 0) words[FREE_AT] = words[t.stampsAt + stamp * STAMP_WORDS];
    else stamp = ++words[USED_AT];
    words[COUNT_AT]++;
    const at = t.stampsAt + stamp * STAMP_WORDS;
    for (let i = 0; i < VALUE; i++) words[at + i] = words[row + i];
    const bucket = t.bucketsAt + (hash & t.bucketMask);
    words[at + CHAIN] = words[bucket];
    words[bucket] = stamp;
  }
  const at = t.stampsAt + stamp * STAMP_WORDS;
  words[at + VALUE] = words[row + VALUE];
  words[at + TIME] = words[row + TIME];
  linkNewest(t, stamp);
}

/** Removes a merged stamp. */
function forget(t: Affinity, stamp: number): void {
  const words = t.words;
  const at = t.stampsAt + stamp * STAMP_WORDS;
  unlink(t, stamp);
  const hash = hashKey(words[at], words[at + 1], words[at + 2], words[at + 3], words[at + 4]);
  let link = t.bucketsAt + (hash & t.bucketMask);
  while (words[link] !== stamp) link = t.stampsAt + words[link] * STAMP_WORDS + CHAIN;
  words[link] = words[at + CHAIN];
  words[at] = words[FREE_AT];
  words[FREE_AT] = stamp;
  words[COUNT_AT]--;
}

/** Takes a stamp out of the order of age, of all and of its id. */
function unlink(t: Affinity, stamp: number): void {
  const words = t.words;
  const at = t.stampsAt + stamp * STAMP_WORDS;
  const older = words[at + OLDER];
  const newer = words[at + NEWER];
  words[older === 0 ? OLDEST_AT : t.stampsAt + older * STAMP_WORDS + NEWER] = newer;
  words[newer === 0 ? NEWEST_AT : t.stampsAt + newer * STAMP_WORDS + OLDER] = older;
  if (t.limit === 0) return;
  const list = t.listsAt + words[at] * LIST_WORDS;
  const listOlder = words[at + LIST_OLDER];
  const listNewer = words[at + LIST_NEWER];
  words[listOlder === 0 ? list + LIST_OLDEST : t.stampsAt + listOlder * STAMP_WORDS + LIST_NEWER] = listNewer;
  words[listNewer === 0 ? list + LIST_NEWEST : t.stampsAt + listNewer * STAMP_WORDS + LIST_OLDER] = listOlder;
  words[list + LIST_COUNT]--;
}

/** Puts a stamp at the young end, of all and of its id. */
function linkNewest(t: Affinity, stamp: number): void {
  const words = t.words;
  const at = t.stampsAt + stamp * STAMP_WORDS;
  const last = words[NEWEST_AT];
  words[at + OLDER] = last;
  words[at + NEWER] = 0;
  words[last === 0 ? OLDEST_AT : t.stampsAt + last * STAMP_WORDS + NEWER] = stamp;
  words[NEWEST_AT] = stamp;
  if (t.limit === 0) return;
  const list = t.listsAt + words[at] * LIST_WORDS;
  const listLast = words[list + LIST_NEWEST];
  words[at + LIST_OLDER] = listLast;
  words[at + LIST_NEWER] = 0;
  words[listLast === 0 ? list + LIST_OLDEST : t.stampsAt + listLast * STAMP_WORDS + LIST_NEWER] = stamp;
  words[list + LIST_NEWEST] = stamp;
  words[list + LIST_COUNT]++;
}
