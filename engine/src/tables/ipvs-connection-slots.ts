/**
 * The memory of IPVS connections: where slots, buckets and the heap of timers lie. What programs call is in
 * ipvs-connections.ts.
 *
 * Memory, in words:
 *
 *     header     capacity in connections; parameters: shards
 *     control    one 64-byte line per shard: connections, slots ever used, first free slot, size of the heap
 *     per shard  buckets by (client, virtual address), buckets by (real server, client), heap, slots of 24 words:
 *       +0   node << 16 | protocol << 8 | family; 0 = free      +1  client port << 16 | virtual port
 *       +2   client   +3 virtual address   +4 real server: word 0 of each
 *       +5   real port << 16 | flags << 8 | state               +6  expiry in ms, u32, may wrap
 *       +7   RS_ID    +8 next of its bucket (free: next free)   +9  next of its other bucket
 *       +10  place in the heap    +11 VS_ID    +12 … +20 words 1 to 3 of client, virtual address, real server
 *       +21  when the heap looks at it (not later than the expiry)     +22 persistence: prefix length + 1, 0 none
 *       +23  number of the image in which its real server was last known to be there
 *
 * The heap orders the slots of a shard by +21, the earliest at its top; a slot knows its place in it.
 */
import { mix32 } from './hash.ts';
import {
  attachTable,
  CAPACITY_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_IPVS_CONNECTIONS,
  PARAMETERS_AT,
} from './table-header.ts';

const SHARDS_AT = PARAMETERS_AT;

export const CONTROL_WORDS = 16;
export const CONTROL_COUNT = 0;
export const CONTROL_USED = 1;
export const CONTROL_FREE = 2;
export const CONTROL_HEAP = 3;

export const SLOT_WORDS = 24;
export const PORTS = 1;
export const CLIENT = 2;
export const VIRTUAL = 3;
export const REAL = 4;
export const STATE = 5;
export const EXPIRY = 6;
export const RS = 7;
export const NEXT_IN = 8;
export const NEXT_OUT = 9;
export const HEAP_PLACE = 10;
export const VS = 11;
export const CLIENT_REST = 12;
export const VIRTUAL_REST = 15;
export const REAL_REST = 18;
export const DUE = 21;
export const PERSISTENCE = 22;
export const GENERATION = 23;

export const REAL_PORT_SHIFT = 16;

export interface IpvsConnections {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly shards: number;
  /** Most connections of a shard. */
  readonly limit: number;
  readonly bucketMask: number;
  /** Word offset of shard 0's first bucket, and words of a shard. */
  readonly partitionsAt: number;
  readonly partitionWords: number;
}

/**
 * Makes an empty table.
 * @param capacity connections of the whole table; each shard takes capacity / shards of them, rounded up
 * @param shards a power of two, 1 to 256
 * @throws RangeError for other values
 */
export function createIpvsConnections(capacity: number, shards: number): IpvsConnections {
  if (!Number.isInteger(shards) || shards < 1 || shards > 256 || (shards & (shards - 1)) !== 0) {
    throw new RangeError(`shards must be a power of two from 1 to 256, not ${shards}`);
  }
  const limit = Math.ceil(capacity / shards);
  const words = createTable(KIND_IPVS_CONNECTIONS, capacity, shards * (CONTROL_WORDS + partitionWords(limit)));
  words[SHARDS_AT] = shards;
  return attachIpvsConnections(words.buffer);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachIpvsConnections(buffer: SharedArrayBuffer): IpvsConnections {
  const words = attachTable(KIND_IPVS_CONNECTIONS, buffer);
  const shards = words[SHARDS_AT];
  const limit = Math.ceil(words[CAPACITY_AT] / shards);
  const partition = partitionWords(limit);
  if (words.length !== HEADER_WORDS + shards * (CONTROL_WORDS + partition)) {
    throw new TypeError(`an IPVS connection table of ${shards} shards has not ${words.length} words`);
  }
  return {
    buffer,
    words,
    shards,
    limit,
    bucketMask: ceilPow2(limit) - 1,
    partitionsAt: HEADER_WORDS + shards * CONTROL_WORDS,
    partitionWords: partition,
  };
}

function partitionWords(limit: number): number {
  return 2 * ceilPow2(limit) + limit * (1 + SLOT_WORDS);
}

export function controlOf(shard: number): number {
  return HEADER_WORDS + shard * CONTROL_WORDS;
}

/** Hash of a bucket: of the two ends as they stand in a packet. */
export function hashEnds(
  meta: number,
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
  const s = (Math.imul(s0, 0x9e3779b1) + Math.imul(s1, 0x2545f491) + Math.imul(s2, 0x1b56c4e9)) | 0;
  const d = (Math.imul(d0, 0x85ebca77) + Math.imul(d1, 0x5851f42d) + Math.imul(d2, 0x14057b7f)) | 0;
  let h = (s ^ (s >>> 15)) + Math.imul(s3, 0x165667b1) + Math.imul(d3, 0x27d4eb2f) + d;
  h = (h ^ (h >>> 15)) + Math.imul(ports, 0xc2b2ae3d) + Math.imul(meta ^ (meta >>> 16), 0x85ebca6b);
  return mix32(h | 0);
}

export function slotsOf(t: IpvsConnections, shard: number): number {
  return t.partitionsAt + shard * t.partitionWords + 2 * (t.bucketMask + 1) + t.limit;
}

export function heapOf(t: IpvsConnections, shard: number): number {
  return t.partitionsAt + shard * t.partitionWords + 2 * (t.bucketMask + 1);
}

/** Bucket, from 0 on, of what the real server of a slot sends to its client. */
export function outHash(t: IpvsConnections, at: number): number {
  const w = t.words;
  const ports = ((w[at + STATE] >>> REAL_PORT_SHIFT) << 16) | (w[at + PORTS] >>> 16);
  const hash = hashEnds(
    w[at],
    w[at + REAL],
    w[at + REAL_REST],
    w[at + REAL_REST + 1],
    w[at + REAL_REST + 2],
    w[at + CLIENT],
    w[at + CLIENT_REST],
    w[at + CLIENT_REST + 1],
    w[at + CLIENT_REST + 2],
    ports,
  );
  return hash & t.bucketMask;
}

/** Puts a slot at a place of the heap or above it. */
export function rise(t: IpvsConnections, shard: number, place: number, at: number): void {
  const words = t.words;
  const heap = heapOf(t, shard);
  const due = words[at + DUE];
  while (place > 0) {
    const up = (place - 1) >> 1;
    const above = words[heap + up];
    if (((words[above + DUE] - due) | 0) <= 0) break;
    words[heap + place] = above;
    words[above + HEAP_PLACE] = place;
    place = up;
  }
  words[heap + place] = at;
  words[at + HEAP_PLACE] = place;
}

/** Puts a slot at a place of the heap or below it. */
export function sink(t: IpvsConnections, shard: number, place: number, at: number): void {
  const words = t.words;
  const heap = heapOf(t, shard);
  const size = words[controlOf(shard) + CONTROL_HEAP];
  const due = words[at + DUE];
  for (;;) {
    let down = 2 * place + 1;
    if (down >= size) break;
    if (down + 1 < size) {
      const left = words[words[heap + down] + DUE];
      const right = words[words[heap + down + 1] + DUE];
      if (((right - left) | 0) < 0) down++;
    }
    const below = words[heap + down];
    if (((words[below + DUE] - due) | 0) >= 0) break;
    words[heap + place] = below;
    words[below + HEAP_PLACE] = place;
    place = down;
  }
  words[heap + place] = at;
  words[at + HEAP_PLACE] = place;
}
