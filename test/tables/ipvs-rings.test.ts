import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  destinationBucket,
  fillDestinationRing,
  fillMaglevRing,
  fillSourceRing,
  foldAddress,
  hsiphash,
  MH_RING,
  maglevBucket,
  type RingServer,
  SH_RING,
  sourceBucket,
} from '../../engine/src/tables/ipvs-rings.ts';
import { runs } from './runs.ts';

const MASK = (1n << 64n) - 1n;

function rotate(x: bigint, by: bigint): bigint {
  return ((x << by) | (x >> (64n - by))) & MASK;
}

/** SipHash-c-d over bytes, as its paper has it, in 64-bit arithmetic. */
function sipHash(c: number, d: number, k0: bigint, k1: bigint, bytes: readonly number[]): bigint {
  let [v0, v1, v2, v3] = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  const round = () => {
    v0 = (v0 + v1) & MASK;
    v1 = rotate(v1, 13n) ^ v0;
    v0 = rotate(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = rotate(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = rotate(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = rotate(v1, 17n) ^ v2;
    v2 = rotate(v2, 32n);
  };
  const blocks = Math.floor(bytes.length / 8) + 1;
  for (let i = 0; i < blocks; i++) {
    let m = i === blocks - 1 ? BigInt(bytes.length & 255) << 56n : 0n;
    bytes.slice(8 * i, 8 * i + 8).forEach((byte, j) => {
      m |= BigInt(byte) << BigInt(8 * j);
    });
    v3 ^= m;
    for (let n = 0; n < c; n++) round();
    v0 ^= m;
  }
  v2 ^= 0xffn;
  for (let n = 0; n < d; n++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

function littleEndian(word: number): number[] {
  return [0, 8, 16, 24].map((shift) => (word >>> shift) & 255);
}

/** mh's table as the paper and the kernel's comments tell it: every server in turn takes its next free place. */
function naiveMaglev(list: readonly RingServer[]): number[] {
  const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
  const weights = list.map(({ lastWeight }) => lastWeight);
  const divisor = weights.reduce(gcd, 0);
  const ring = new Array<number>(MH_RING).fill(-1);
  if (divisor === 0) return ring;
  let most = Math.floor(Math.max(...weights) / divisor);
  let shift = 0;
  while (most >= 64) {
    most = Math.floor(most / 2);
    shift++;
  }
  const hash = (server: RingServer, key: bigint) => {
    const word = (server.address[0]! ^ server.address[1]! ^ server.address[2]! ^ server.address[3]!) + server.port;
    return Number(sipHash(1, 3, key, key, littleEndian(word)) & 0xffffffffn);
  };
  const preference = list.map((server) => {
    const offset = hash(server, 2654435761n) % MH_RING;
    const skip = (hash(server, 2654446892n) % (MH_RING - 1)) + 1;
    return Array.from({ length: MH_RING }, (_, i) => (offset + i * skip) % MH_RING);
  });
  const next = list.map(() => 0);
  let taken = 0;
  for (;;) {
    for (let i = 0; i < list.length; i++) {
      const share = Math.floor(Math.floor(weights[i]! / divisor) / 2 ** shift);
      const turns = weights[i] === 0 ? 0 : Math.max(1, share);
      for (let turn = 0; turn < turns; turn++) {
        while (ring[preference[i]![next[i]!]!] !== -1) next[i]!++;
        ring[preference[i]![next[i]!]!] = i;
        if (++taken === MH_RING) return ring;
      }
    }
  }
}

const server = fc
  .record({
    address: fc.tuple(fc.integer(), fc.constant(0), fc.constant(0), fc.integer()),
    port: fc.nat(65_535),
    weight: fc.nat(40),
  })
  .map((values): RingServer => ({ ...values, lastWeight: values.weight }));

describe('the hash of mh', () => {
  it('is checked against a SipHash that gives the published vector', () => {
    // Appendix A of the SipHash paper: SipHash-2-4, key 00 … 0f, message 00 … 0e.
    const message = Array.from({ length: 15 }, (_, i) => i);
    expect(sipHash(2, 4, 0x0706050403020100n, 0x0f0e0d0c0b0a0908n, message)).toBe(0xa129ca6149be45e5n);
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(2654435761, 2654446892, 0, 1), (word, key) => {
        const full = sipHash(1, 3, BigInt(key), BigInt(key), littleEndian(word));
        expect(hsiphash(word, key | 0)).toBe(Number(full & 0xffffffffn));
      }),
      runs(300),
    );
  });
});

describe('the rings of the hashing schedulers', () => {
  it('sh gives each server as many buckets in a row as its weight, one for weight 0', () => {
    fc.assert(
      fc.property(fc.array(server, { maxLength: 12 }), (list) => {
        const ring = new Int32Array(SH_RING);
        fillSourceRing(ring, list);
        const turn = list.flatMap(({ weight }, i) => new Array<number>(Math.max(1, weight)).fill(i));
        const want = Array.from({ length: SH_RING }, (_, i) => (turn.length === 0 ? -1 : turn[i % turn.length]!));
        expect([...ring]).toEqual(want);
      }),
      runs(100),
    );
  });

  it('dh gives buckets one after the other, whatever the weights', () => {
    const ring = new Int32Array(SH_RING);
    fillDestinationRing(ring, 3);
    expect([...ring]).toEqual(Array.from({ length: SH_RING }, (_, i) => i % 3));
    fillDestinationRing(ring, 0);
    expect(new Set(ring)).toEqual(new Set([-1]));
  });

  it('mh fills its table as a naive Maglev with weights does', () => {
    fc.assert(
      fc.property(fc.array(server, { minLength: 1, maxLength: 6 }), (list) => {
        const ring = new Int32Array(MH_RING);
        fillMaglevRing(ring, list);
        expect([...ring]).toEqual(naiveMaglev(list));
      }),
      runs(15),
    );
  });

  it('mh keeps the places of a server that drains, by its last weight, and gives none to one that never had any', () => {
    const list: RingServer[] = [10, 11, 12].map((host) => ({
      address: [0x0a000000 + host, 0, 0, 0],
      port: 80,
      weight: 1,
      lastWeight: 1,
    }));
    const before = new Int32Array(MH_RING);
    fillMaglevRing(before, list);
    const after = new Int32Array(MH_RING);
    fillMaglevRing(after, [list[0]!, { ...list[1]!, weight: 0 }, list[2]!]);
    expect(after).toEqual(before);
    fillMaglevRing(after, [list[0]!, { ...list[1]!, weight: 0, lastWeight: 0 }, list[2]!]);
    expect(new Set(after)).toEqual(new Set([0, 2]));
  });

  it('index by folded address, and by the port where it counts', () => {
    expect(foldAddress(6, 1, 2, 4, 8)).toBe(15);
    expect(foldAddress(4, 7, 9, 9, 9)).toBe(7);
    // hash_32(val, 8): the upper 8 bits of val * 0x61c88647.
    const bucket = (word: number) => Number(((BigInt(word >>> 0) * 0x61c88647n) & 0xffffffffn) >> 24n);
    fc.assert(
      fc.property(fc.integer(), fc.nat(65_535), fc.nat(4092), (word, port, offset) => {
        expect(destinationBucket(word)).toBe(bucket(word));
        expect(sourceBucket(word, port, offset)).toBe((offset + bucket((word + port) | 0)) % 256);
        expect(maglevBucket(word, port, offset)).toBe(hsiphash((word + port + offset) | 0, 2654435761 | 0) % MH_RING);
      }),
      runs(200),
    );
  });
});
