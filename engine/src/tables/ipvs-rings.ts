/**
 * The lookup tables of IPVS's hashing schedulers, and the hashes that index them: source hashing (sh), destination
 * hashing (dh), Maglev hashing (mh).
 *
 * A ring holds positions in the virtual server's list of real servers, -1 for none. Rings depend on the list alone, so
 * the compiler fills them. Hashes are bit for bit those of a 64-bit Linux (ip_vs_sh.c, ip_vs_dh.c, ip_vs_mh.c,
 * siphash.h), so a real node and this one choose the same real server for a client.
 * Addresses are four host-order words, of IPv4 the first; IPv6 is folded to one word by XOR.
 */

/** Buckets of sh and dh (IP_VS_SH_TAB_BITS, IP_VS_DH_TAB_BITS). */
export const SH_RING = 256;
/** Buckets of mh (CONFIG_IP_VS_MH_TAB_INDEX 12). */
export const MH_RING = 4093;
/** Bits of a weight, divided by the common divisor, that mh keeps (IP_VS_MH_TAB_BITS). */
const MH_WEIGHT_BITS = 6;

const GOLDEN_RATIO = 0x61c88647;
/** Both halves of mh's keys, for a server's first place and for its step; also of a client. */
const MH_OFFSET_KEY = 2654435761;
const MH_SKIP_KEY = 2654446892;

/** What a ring is made from. */
export interface RingServer {
  readonly address: readonly number[];
  readonly port: number;
  readonly weight: number;
  readonly lastWeight: number;
}

/** The word that an address counts as. */
export function foldAddress(family: number, a0: number, a1: number, a2: number, a3: number): number {
  return family === 4 ? a0 : a0 ^ a1 ^ a2 ^ a3;
}

/** Bucket of sh. @param offset 0, or a step of the fallback @param port 0 where ports do not count */
export function sourceBucket(word: number, port: number, offset: number): number {
  return (offset + (Math.imul((word + port) | 0, GOLDEN_RATIO) >>> 24)) & (SH_RING - 1);
}

/** Bucket of dh. */
export function destinationBucket(word: number): number {
  return Math.imul(word, GOLDEN_RATIO) >>> 24;
}

/** Bucket of mh. @param offset 0, or a step of the fallback @param port 0 where ports do not count */
export function maglevBucket(word: number, port: number, offset: number): number {
  return hsiphash((word + port + offset) | 0, MH_OFFSET_KEY | 0) % MH_RING;
}

/** Fills sh's buckets: each server as many in a row as its weight, one for a weight of 0, round and round. */
export function fillSourceRing(ring: Int32Array, list: readonly RingServer[]): void {
  let at = 0;
  let filled = 0;
  for (let i = 0; i < SH_RING; i++) {
    ring[i] = list.length === 0 ? -1 : at;
    if (list.length > 0 && ++filled >= list[at]!.weight) {
      at = (at + 1) % list.length;
      filled = 0;
    }
  }
}

/** Fills dh's buckets: one server after the other, whatever their weights. */
export function fillDestinationRing(ring: Int32Array, servers: number): void {
  for (let i = 0; i < SH_RING; i++) ring[i] = servers === 0 ? -1 : i % servers;
}

/**
 * Fills mh's buckets: in turns by (last) weight each server takes the next free place of its own permutation.
 * Empty if no server has ever had a weight, or there are more servers than places.
 */
export function fillMaglevRing(ring: Int32Array, list: readonly RingServer[]): void {
  ring.fill(-1);
  const gcd = list.reduce((sum, { lastWeight }) => commonDivisor(lastWeight, sum), 0);
  if (gcd < 1 || list.length > MH_RING) return;
  const most = Math.max(...list.map(({ lastWeight }) => lastWeight));
  const shift = Math.max(0, 32 - Math.clz32(Math.trunc(most / gcd)) - MH_WEIGHT_BITS);
  const places = list.map(({ address, port, lastWeight }) => {
    const [a0, a1, a2, a3] = address as [number, number, number, number];
    // An IPv4 address is word 0 and the others are 0: folding all four is right for both families.
    const word = (a0 ^ a1 ^ a2 ^ a3) + port;
    return {
      next: hsiphash(word | 0, MH_OFFSET_KEY | 0) % MH_RING,
      skip: (hsiphash(word | 0, MH_SKIP_KEY | 0) % (MH_RING - 1)) + 1,
      turns: Math.trunc(lastWeight / gcd) >> shift || (lastWeight === 0 ? 0 : 1),
    };
  });
  let taken = 0;
  while (taken < MH_RING) {
    for (let i = 0; i < places.length; i++) {
      const place = places[i]!;
      for (let turn = 0; turn < place.turns && taken < MH_RING; turn++) {
        while (ring[place.next] !== -1) place.next = (place.next + place.skip) % MH_RING;
        ring[place.next] = i;
        taken++;
      }
    }
  }
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/**
 * The kernel's hsiphash of one 32-bit word on a 64-bit machine: SipHash-1-3, its lower half.
 * @param key both halves of the key, which have no upper half
 * @returns unsigned 32-bit word
 */
export function hsiphash(word: number, key: number): number {
  // v0 to v3 of SipHash, each as an upper and a lower word; see its paper for the constants.
  let h0 = 0x736f6d65;
  let l0 = 0x70736575 ^ key;
  let h1 = 0x646f7261;
  let l1 = 0x6e646f6d ^ key;
  let h2 = 0x6c796765;
  let l2 = 0x6e657261 ^ key;
  let h3 = 0x74656462 ^ (4 << 24);
  let l3 = 0x79746573 ^ key ^ word;
  for (let round = 0; round < 4; round++) {
    let sum = (l0 >>> 0) + (l1 >>> 0);
    h0 = (h0 + h1 + (sum > 0xffffffff ? 1 : 0)) | 0;
    l0 = sum | 0;
    let h = (h1 << 13) | (l1 >>> 19);
    l1 = ((l1 << 13) | (h1 >>> 19)) ^ l0;
    h1 = h ^ h0;
    h = l0;
    l0 = h0;
    h0 = h;
    sum = (l2 >>> 0) + (l3 >>> 0);
    h2 = (h2 + h3 + (sum > 0xffffffff ? 1 : 0)) | 0;
    l2 = sum | 0;
    h = (h3 << 16) | (l3 >>> 16);
    l3 = ((l3 << 16) | (h3 >>> 16)) ^ l2;
    h3 = h ^ h2;
    sum = (l0 >>> 0) + (l3 >>> 0);
    h0 = (h0 + h3 + (sum > 0xffffffff ? 1 : 0)) | 0;
    l0 = sum | 0;
    h = (h3 << 21) | (l3 >>> 11);
    l3 = ((l3 << 21) | (h3 >>> 11)) ^ l0;
    h3 = h ^ h0;
    sum = (l2 >>> 0) + (l1 >>> 0);
    h2 = (h2 + h1 + (sum > 0xffffffff ? 1 : 0)) | 0;
    l2 = sum | 0;
    h = (h1 << 17) | (l1 >>> 15);
    l1 = ((l1 << 17) | (h1 >>> 15)) ^ l2;
    h1 = h ^ h2;
    h = l2;
    l2 = h2;
    h2 = h;
    if (round === 0) {
      h0 ^= 4 << 24;
      l0 ^= word;
      l2 ^= 0xff;
    }
  }
  return (l0 ^ l1 ^ l2 ^ l3) >>> 0;
}
