/**
 * Ports of fragmented datagrams, as an LRU map of the kernel keeps them: written by each first fragment, read by the
 * later ones, given up when so many newer ones have come.
 *
 * Memory, in words, per shard; it belongs to the thread that owns the shard:
 *
 *     0 entries used once   1 the entry whose turn is next
 *     2…  heads of the hash chains, BUCKETS = entries: number of an entry + 1, 0 none
 *     then entries of ENTRY_WORDS:
 *       +0  next of its chain, as in a head   +1 key   +2 number of the datagram   +3–6 source   +7–10 destination
 *       +11 1: read since the turn last passed it   +12 sport << 16 | dport   +13, +14 two words of the program's
 *
 * A newcomer takes a free entry; when there is none, the turn goes round, spares each entry that was read since it last
 * came by, and takes the first that was not. The kernel's LRU is an approximation of the same kind (bpf_lru_list.c).
 */
import { mix32 } from './hash.ts';

const USED = 0;
const TURN = 1;
const HEAD_WORDS = 2;

const ENTRY_WORDS = 15;
const ENTRY_KEY = 1;
const ENTRY_NUMBER = 2;
const ENTRY_SRC = 3;
const ENTRY_DST = 7;
const ENTRY_READ = 11;
const ENTRY_PORTS = 12;
const ENTRY_PROTO = 13;
const ENTRY_INFO = 14;

export interface FragmentPorts {
  readonly words: Int32Array;
  readonly entries: number;
  readonly shardWords: number;
}

/**
 * @param entries of the whole map; a shard has its part of them
 * @param shards of the connection tables beside it
 */
export function createFragmentPorts(entries: number, shards: number): FragmentPorts {
  const each = Math.ceil(entries / shards);
  const shardWords = HEAD_WORDS + each * (1 + ENTRY_WORDS);
  return { words: new Int32Array(shards * shardWords), entries: each, shardWords };
}

/** Remembers a datagram's ports, protocol and lane `info`; what was known under the same key is overwritten. */
export function setFragmentPorts(
  f: FragmentPorts,
  shard: number,
  key: number,
  number: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  proto: number,
  info: number,
): void {
  const words = f.words;
  let at = getFragmentPorts(f, shard, key, number, s0, s1, s2, s3, d0, d1, d2, d3);
  if (at === -1) {
    const entry = takeEntry(f, shard);
    at = entryAt(f, shard, entry);
    words[at + ENTRY_KEY] = key;
    words[at + ENTRY_NUMBER] = number;
    words[at + ENTRY_SRC] = s0;
    words[at + ENTRY_SRC + 1] = s1;
    words[at + ENTRY_SRC + 2] = s2;
    words[at + ENTRY_SRC + 3] = s3;
    words[at + ENTRY_DST] = d0;
    words[at + ENTRY_DST + 1] = d1;
    words[at + ENTRY_DST + 2] = d2;
    words[at + ENTRY_DST + 3] = d3;
    words[at + ENTRY_READ] = 0;
    const head = headAt(f, shard, at);
    words[at] = words[head];
    words[head] = entry + 1;
  }
  words[at + ENTRY_PORTS] = ports;
  words[at + ENTRY_PROTO] = proto;
  words[at + ENTRY_INFO] = info;
}

/** Where the entry of a datagram begins in `words`, -1 for none. It counts as read. */
export function getFragmentPorts(
  f: FragmentPorts,
  shard: number,
  key: number,
  number: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
): number {
  const words = f.words;
  let link = words[bucketAt(f, shard, key, number, s0 ^ s1 ^ s2 ^ s3, d0 ^ d1 ^ d2 ^ d3)];
  while (link !== 0) {
    const at = entryAt(f, shard, link - 1);
    const named = (words[at + ENTRY_KEY] ^ key) | (words[at + ENTRY_NUMBER] ^ number);
    const source = (words[at + ENTRY_SRC] ^ s0) | (words[at + ENTRY_SRC + 1] ^ s1) | (words[at + ENTRY_SRC + 2] ^ s2);
    const target = (words[at + ENTRY_DST] ^ d0) | (words[at + ENTRY_DST + 1] ^ d1) | (words[at + ENTRY_DST + 2] ^ d2);
    const last = (words[at + ENTRY_SRC + 3] ^ s3) | (words[at + ENTRY_DST + 3] ^ d3);
    if ((named | source | target | last) === 0) {
      words[at + ENTRY_READ] = 1;
      return at;
    }
    link = words[at];
  }
  return -1;
}

/** sport << 16 | dport of an entry. */
export function portsOfEntry(f: FragmentPorts, at: number): number {
  return f.words[at + ENTRY_PORTS];
}

export function protoOfEntry(f: FragmentPorts, at: number): number {
  return f.words[at + ENTRY_PROTO];
}

export function infoOfEntry(f: FragmentPorts, at: number): number {
  return f.words[at + ENTRY_INFO];
}

function entryAt(f: FragmentPorts, shard: number, entry: number): number {
  return shard * f.shardWords + HEAD_WORDS + f.entries + entry * ENTRY_WORDS;
}

/** Where the head of the chain lies that the entry at `at` belongs to. */
function headAt(f: FragmentPorts, shard: number, at: number): number {
  const w = f.words;
  const source = w[at + ENTRY_SRC] ^ w[at + ENTRY_SRC + 1] ^ w[at + ENTRY_SRC + 2] ^ w[at + ENTRY_SRC + 3];
  const target = w[at + ENTRY_DST] ^ w[at + ENTRY_DST + 1] ^ w[at + ENTRY_DST + 2] ^ w[at + ENTRY_DST + 3];
  return bucketAt(f, shard, w[at + ENTRY_KEY], w[at + ENTRY_NUMBER], source, target);
}

function bucketAt(f: FragmentPorts, shard: number, key: number, number: number, src: number, dst: number): number {
  const hash = mix32(mix32(mix32(src) ^ dst) ^ mix32(number) ^ Math.imul(key, 0x9e3779b1));
  return shard * f.shardWords + HEAD_WORDS + ((hash >>> 0) % f.entries);
}

/** An entry for a newcomer, in no chain. */
function takeEntry(f: FragmentPorts, shard: number): number {
  const words = f.words;
  const control = shard * f.shardWords;
  const used = words[control + USED];
  if (used < f.entries) {
    words[control + USED] = used + 1;
    return used;
  }
  let turn = words[control + TURN];
  for (;;) {
    const at = entryAt(f, shard, turn);
    const entry = turn;
    turn = turn + 1 === f.entries ? 0 : turn + 1;
    if (words[at + ENTRY_READ] === 0) {
      words[control + TURN] = turn;
      unlink(f, shard, entry, at);
      return entry;
    }
    words[at + ENTRY_READ] = 0;
  }
}

function unlink(f: FragmentPorts, shard: number, entry: number, at: number): void {
  const words = f.words;
  let link = headAt(f, shard, at);
  while (words[link] !== entry + 1) link = entryAt(f, shard, words[link] - 1);
  words[link] = words[at];
}
