/**
 * Maglev rings: consistent hashing of packets to the backends of a service, as Cilium does it.
 *
 * Memory:
 *
 *     header   capacity = u16 entries of all rings, count = entries given out
 *     rings    u16 entries; a service owns the slice (offset, size) and keeps both in its own row.
 *              Entry: index into the names that the ring was built from, that is into the service's backends
 *
 * Ring (cilium: pkg/maglev/maglev.go): backends are sorted by name; the 128-bit murmur3 of a name gives
 * offset = h1 mod M and skip = h2 mod (M - 1) + 1, and so its own permutation of the M places; in turns each backend
 * takes the next free place of its permutation. With weights a backend passes its turn until (n + 1) * weight has caught
 * up with its counter. Cilium's names read `[10.0.0.1:8080/TCP,State:active]`, IPv6 `[[fd00::1]:8080/TCP,State:active]`.
 *
 * Packet (cilium: bpf/lib/hash.h): the destination address is left out, so that all addresses of a service agree.
 * Real nodes hash the words as they lie in the packet, read as little-endian; the tuple's dport is the packet's source
 * port (the tuple is kept in reply order). The functions here take host-order words and do the same.
 *
 * Written by one thread while nobody reads; read by all. Rings are given out once and never returned.
 */
import { jhash3, jhashTuple6 } from './hash.ts';
import { murmur3x64_128 } from './murmur3.ts';
import { attachTable, CAPACITY_AT, COUNT_AT, createTable, HEADER_WORDS, KIND_MAGLEV } from './table-header.ts';

/** Sizes that a ring may have: primes below the powers of two. */
export const RING_SIZES = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071];

/** The words of Cilium's default seed `JLfvgnHc2kaSUFaI`: for rings, for IPv4 packets, for IPv6 packets. */
export const RING_SEED = 0x24b7ef82;
export const PACKET_SEED4 = 0x71dcda46;
export const PACKET_SEED6 = 0x92505688;

const MAX_BACKENDS = 65535;

export interface Maglev {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly entries: Uint16Array;
}

/**
 * Makes a table without rings.
 * @param entryCapacity entries of all rings together, from 1 on
 * @throws RangeError for another number
 */
export function createMaglev(entryCapacity: number): Maglev {
  return attachMaglev(createTable(KIND_MAGLEV, entryCapacity, Math.ceil(entryCapacity / 2)).buffer);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachMaglev(buffer: SharedArrayBuffer): Maglev {
  const words = attachTable(KIND_MAGLEV, buffer);
  const capacity = words[CAPACITY_AT];
  if (words.length !== HEADER_WORDS + Math.ceil(capacity / 2)) {
    throw new TypeError(`rings of ${capacity} entries do not take ${words.length} words`);
  }
  return { buffer, words, entries: new Uint16Array(buffer, HEADER_WORDS * 4, capacity) };
}

/**
 * The size of a service's ring.
 * @param backends number of backends
 * @param wanted one of RING_SIZES to have it whatever the number of backends; 0 for the smallest that holds 100 entries a
 *   backend (the largest if none does), so that a backend that goes moves 1 to 2 % of the others' flows
 * @throws RangeError if `wanted` is not allowed
 */
export function ringSize(backends: number, wanted: number): number {
  if (wanted !== 0) {
    if (RING_SIZES.includes(wanted)) return wanted;
    throw new RangeError(`a Maglev ring has one of the sizes ${RING_SIZES.join(', ')}, not ${wanted}`);
  }
  return RING_SIZES.find((size) => size >= 100 * backends) ?? RING_SIZES[RING_SIZES.length - 1];
}

/** Gives out a ring of `size` entries; answers its offset, -1 if there is no room. */
export function takeRing(t: Maglev, size: number): number {
  const offset = t.words[COUNT_AT];
  if (offset + size > t.words[CAPACITY_AT]) return -1;
  t.words[COUNT_AT] = offset + size;
  return offset;
}

/**
 * Fills a ring.
 * @param offset,size the ring, of a size that `ringSize` gave
 * @param names of the backends, in the order of the service's list; at least one
 * @param weights one a backend, null if all are equal; as in Cilium they count only if their mean is 2 or more
 * @param seed RING_SEED or another
 * @throws RangeError if there are no backends or too many for u16 entries, or not as many weights
 */
export function buildRing(
  t: Maglev,
  offset: number,
  size: number,
  names: readonly string[],
  weights: readonly number[] | null,
  seed: number,
): void {
  const count = names.length;
  if (count < 1 || count > MAX_BACKENDS) throw new RangeError(`a ring has 1 to ${MAX_BACKENDS} backends, not ${count}`);
  if (weights !== null && weights.length !== count) {
    throw new RangeError(`${weights.length} weights for ${count} backends`);
  }
  const encoder = new TextEncoder();
  const bytes = names.map((name) => encoder.encode(name));
  // By bytes, as Go compares strings; equal names stay in the order of the list.
  const order = Int32Array.from(names, (_, i) => i).sort((a, b) => compareBytes(bytes[a], bytes[b]));

  const next = new Int32Array(count);
  const skip = new Int32Array(count);
  const hash = new Int32Array(4);
  for (let i = 0; i < count; i++) {
    murmur3x64_128(bytes[order[i]], seed, hash);
    next[i] = modulo64(hash[0], hash[1], size);
    skip[i] = modulo64(hash[2], hash[3], size - 1) + 1;
  }

  const weightSum = weights === null ? 0 : weights.reduce((sum, weight) => sum + weight, 0);
  const weighted = Math.floor(weightSum / count) > 1;
  const counters = Float64Array.from(order, (i) => (weights === null ? 0 : weights[i]) / count);

  const taken = new Uint8Array(size);
  for (let n = 0; n < size; n++) {
    let turn = n % count;
    if (weighted) {
      while ((n + 1) * weights![order[turn]] < Math.floor(counters[turn])) turn = (turn + 1) % count;
      counters[turn] += weightSum;
    }
    let place = next[turn];
    while (taken[place] === 1) place = step(place, skip[turn], size);
    taken[place] = 1;
    next[turn] = step(place, skip[turn], size);
    t.entries[offset + place] = order[turn];
  }
}

function step(place: number, skip: number, size: number): number {
  place += skip;
  return place >= size ? place - size : place;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/** A 64-bit number modulo `m` < 2^20: exact in doubles, 2^20 * 2^32 is below 2^53. */
function modulo64(low: number, high: number, m: number): number {
  return (((high >>> 0) % m) * 0x100000000 + (low >>> 0)) % m;
}

/**
 * The backend at the place of a hash.
 * @param hash any word; a place that `packetSlot4` gave stays itself
 * @returns index into the service's backends
 */
export function maglevFind(t: Maglev, ringOffset: number, size: number, hash: number): number {
  return t.entries[ringOffset + ((hash >>> 0) % size)];
}

/** Bytes of a word turned round. */
function swapWord(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Bytes of both half words turned round. */
function swapHalves(word: number): number {
  return ((word & 0x00ff00ff) << 8) | ((word >>> 8) & 0x00ff00ff);
}

/**
 * The place of an IPv4 packet in a ring of `size` entries.
 * @param src,ports host order, as the lanes of a burst and conntrack hold them; ports = sport << 16 | dport
 * @param seed PACKET_SEED4 or another
 */
export function packetSlot4(src: number, ports: number, proto: number, seed: number, size: number): number {
  return (jhash3(swapWord(src), swapHalves(ports), proto, seed) >>> 0) % size;
}

/** IPv6 of `packetSlot4`; `seed` PACKET_SEED6 or another. */
export function packetSlot6(
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  ports: number,
  proto: number,
  seed: number,
  size: number,
): number {
  const hash = jhashTuple6(swapWord(s0), swapWord(s1), swapWord(s2), swapWord(s3), swapHalves(ports), proto, seed);
  return (hash >>> 0) % size;
}
