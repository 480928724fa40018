/** Rings against the paper's permutation tables, Cilium's published results and their promises. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachMaglev,
  buildRing,
  createMaglev,
  maglevFind,
  PACKET_SEED4,
  PACKET_SEED6,
  packetSlot4,
  packetSlot6,
  RING_SEED,
  RING_SIZES,
  ringSize,
  takeRing,
} from '../../engine/src/tables/maglev.ts';
import { murmur3x64_128 } from '../../engine/src/tables/murmur3.ts';
import { final, hashLittle, mix } from './lookup3.ts';
import { runs } from './runs.ts';

function ring(size: number, names: string[], weights: number[] | null = null, seed = RING_SEED): number[] {
  const t = createMaglev(size + 10);
  takeRing(t, 10);
  const offset = takeRing(t, size);
  buildRing(t, offset, size, names, weights, seed);
  return Array.from({ length: size }, (_, place) => maglevFind(t, offset, size, place));
}

/** Name of a backend as Cilium hashes it. */
function backendName(n: number): string {
  return `[10.244.${n >> 8}.${n & 255}:8080/TCP,State:active]`;
}

/** The Maglev paper, section 3.4: whole permutations first, then turns. Names must be ASCII. */
function paperRing(size: number, names: string[], seed: number): number[] {
  const sorted = names.map((name, index) => ({ name, index }));
  sorted.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.index - b.index));
  const permutations = sorted.map(({ name }) => {
    const out = new Int32Array(4);
    murmur3x64_128(new TextEncoder().encode(name), seed, out);
    const half = (i: number) => (BigInt(out[i + 1]! >>> 0) << 32n) | BigInt(out[i]! >>> 0);
    const offset = Number(half(0) % BigInt(size));
    const skip = Number(half(2) % BigInt(size - 1)) + 1;
    return Array.from({ length: size }, (_, j) => (offset + j * skip) % size);
  });
  const entries = new Array<number>(size).fill(-1);
  const next = sorted.map(() => 0);
  for (let filled = 0; filled < size; ) {
    for (let i = 0; i < sorted.length && filled < size; i++) {
      while (entries[permutations[i]![next[i]!]!] !== -1) next[i]!++;
      entries[permutations[i]![next[i]!]!] = sorted[i]!.index;
      filled++;
    }
  }
  return entries;
}

function counts(entries: number[], backends: number): number[] {
  const result = new Array<number>(backends).fill(0);
  for (const entry of entries) result[entry]!++;
  return result;
}

describe('buildRing', () => {
  it('agrees with the permutation tables of the paper', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(251, 509, 1021),
        fc.array(fc.stringMatching(/^[ -~]{1,40}$/), { minLength: 1, maxLength: 30 }),
        fc.integer(),
        (size, names, seed) => {
          expect(ring(size, names, null, seed)).toEqual(paperRing(size, names, seed));
        },
      ),
      runs(100),
    );
  });

  it('honours weights to the place as Cilium does', () => {
    // cilium: pkg/maglev/maglev_test.go, its backends, weights and expected results.
    const weights = [2, 13, 111, 10];
    const vector = [1, 3, 4, 5].map((n) => `[0.0.0.${n}:${n}/TCP,State:active]`);
    expect(ring(251, vector, weights).slice(0, 36).join('')).toBe('222223222122023232122222221222222222');
    expect(counts(ring(251, vector, weights), 4).reduce((sum, n) => sum + n)).toBe(251);
    const second = [1, 2, 3, 4].map((n) => `[0.0.0.${n}:${n}/TCP,State:active]`);
    expect(counts(ring(1021, second, weights), 4)).toEqual([16, 98, 832, 75]);
  });

  it('takes equal weights as none', () => {
    const names = Array.from({ length: 7 }, (_, n) => backendName(n));
    expect(
      ring(
        1021,
        names,
        names.map(() => 100),
      ),
    ).toEqual(ring(1021, names));
    expect(
      ring(
        1021,
        names,
        names.map(() => 1),
      ),
    ).toEqual(ring(1021, names));
  });

  it('gives a weight of 0 beside others next to nothing', () => {
    const names = Array.from({ length: 4 }, (_, n) => backendName(n));
    expect(counts(ring(1021, names, [100, 0, 100, 100]), 4)[1]).toBe(1);
  });

  it('does not depend on the order of the list but for the indices', () => {
    const names = Array.from({ length: 9 }, (_, n) => backendName(n));
    const turned = [...names].reverse();
    expect(ring(1021, turned).map((i) => turned[i])).toEqual(ring(1021, names).map((i) => names[i]));
  });

  it('is balanced: no backend has more than its share and one place', () => {
    for (const backends of [1, 2, 3, 10, 100]) {
      const size = ringSize(backends, 0);
      const share = counts(
        ring(
          size,
          Array.from({ length: backends }, (_, n) => backendName(n)),
        ),
        backends,
      );
      expect(Math.max(...share) - Math.min(...share)).toBeLessThanOrEqual(1);
      // max / mean: at most 1 % at 100 places a backend.
      expect(Math.max(...share) / (size / backends)).toBeLessThanOrEqual(1.01);
    }
  });

  it('moves few places of the others when a backend leaves', () => {
    for (const backends of [3, 10, 100]) {
      const names = Array.from({ length: backends }, (_, n) => backendName(n));
      const size = ringSize(backends, 0);
      const before = ring(size, names);
      for (const leaving of [0, backends >> 1, backends - 1]) {
        const after = ring(
          size,
          names.filter((_, n) => n !== leaving),
        );
        const moved = before.filter(
          (index, place) => index !== leaving && names[index] !== names.filter((_, n) => n !== leaving)[after[place]!],
        );
        // Seen: 0.4 to 2.3 %. Of the leaving backend's share, 1 / backends, nothing is counted.
        expect(moved.length / size).toBeLessThan(0.03);
      }
    }
  });

  it('refuses what it cannot place', () => {
    expect(() => ring(251, [])).toThrow('a ring has 1 to 65535 backends, not 0');
    expect(() => ring(251, ['a', 'b'], [1])).toThrow('1 weights for 2 backends');
  });
});

describe('ringSize', () => {
  it('is the smallest allowed size that holds 100 entries a backend, or the wanted one', () => {
    expect([0, 1, 2, 3, 5, 6, 10, 11, 163, 164, 1310, 1311, 5000].map((n) => ringSize(n, 0))).toEqual([
      251, 251, 251, 509, 509, 1021, 1021, 2039, 16381, 32749, 131071, 131071, 131071,
    ]);
    for (const size of RING_SIZES) expect(ringSize(3, size)).toBe(size);
    expect(() => ringSize(3, 1000)).toThrow(RangeError);
  });
});

describe('rings of a table', () => {
  it('lie beside each other until there is no room', () => {
    const t = createMaglev(251 + 509);
    const first = takeRing(t, 251);
    const second = takeRing(t, 509);
    expect(takeRing(t, 251)).toBe(-1);
    buildRing(t, first, 251, ['a'], null, RING_SEED);
    buildRing(t, second, 509, ['a', 'b'], null, RING_SEED);
    const other = attachMaglev(t.buffer);
    for (let place = 0; place < 251; place++) expect(maglevFind(other, first, 251, place)).toBe(0);
    expect(maglevFind(other, second, 509, -1)).toBe(maglevFind(other, second, 509, 0xffffffff % 509));
  });
});

describe('packet slots', () => {
  const port = fc.nat(65535);
  const word = fc.integer();

  it('are those of a little-endian node for IPv4', () => {
    fc.assert(
      fc.property(word, port, port, fc.constantFrom(6, 17, 132), (src, sport, dport, proto) => {
        // Bytes as in memory: saddr, then the u32 tuple.dport << 16 | tuple.sport, then the protocol. The tuple's ports
        // are loaded from the packet into (dport, sport): its dport is the packet's source port.
        const bytes = new Uint8Array(12);
        const view = new DataView(bytes.buffer);
        view.setInt32(0, src);
        view.setUint16(4, dport);
        view.setUint16(6, sport);
        view.setUint32(8, proto, true);
        const expected = hashLittle(bytes, PACKET_SEED4) % 16381;
        expect(packetSlot4(src, (sport << 16) | dport, proto, PACKET_SEED4, 16381)).toBe(expected);
      }),
      runs(300),
    );
  });

  it('are those of a little-endian node for IPv6', () => {
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), port, port, fc.constantFrom(6, 17), (s, sport, dport, proto) => {
        const view = new DataView(new ArrayBuffer(20));
        for (let i = 0; i < 4; i++) view.setInt32(4 * i, s[i]!);
        view.setUint16(16, dport);
        view.setUint16(18, sport);
        const raw = (i: number) => view.getUint32(4 * i, true);
        const plus = (x: number, y: number) => (x + y) % 0x100000000;
        const [a, b, c] = mix([raw(0), raw(1), raw(2)]);
        const [d, e, f] = mix([plus(a, raw(3)), plus(b, raw(4)), plus(c, proto)]);
        const expected = final([plus(d, PACKET_SEED6), e, f])[2] % 1021;
        expect(packetSlot6(...s, (sport << 16) | dport, proto, PACKET_SEED6, 1021)).toBe(expected);
      }),
      runs(300),
    );
  });

  it('come from the words of the default seed', () => {
    const seed = Buffer.from('JLfvgnHc2kaSUFaI', 'base64');
    expect([0, 4, 8].map((i) => seed.readUInt32BE(i))).toEqual([RING_SEED, PACKET_SEED4, PACKET_SEED6]);
  });
});
