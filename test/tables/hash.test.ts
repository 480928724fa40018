/** The foreign hashes against published vectors and slow oracles, the own ones for spread. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hashTuple4, hashTuple6, jhash3, jhashTuple6, mix32 } from '../../engine/src/tables/hash.ts';
import { murmur3x64_128 } from '../../engine/src/tables/murmur3.ts';
import { final, hashLittle, mix, type Triple } from './lookup3.ts';
import { runs, words } from './runs.ts';

const text = (s: string) => new TextEncoder().encode(s);

describe('the oracle for lookup3', () => {
  it('gives the values that lookup3.c publishes', () => {
    expect(hashLittle(text(''), 0)).toBe(0xdeadbeef);
    expect(hashLittle(text(''), 0xdeadbeef)).toBe(0xbd5b7dde);
    expect(hashLittle(text('Four score and seven years ago'), 0)).toBe(0x17770551);
    expect(hashLittle(text('Four score and seven years ago'), 1)).toBe(0xcd628161);
  });
});

describe('jhash3', () => {
  it('is lookup3 over twelve bytes', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer(), fc.integer(), fc.integer(), (a, b, c, initval) => {
        const bytes = new Uint8Array(Int32Array.of(a, b, c).buffer);
        expect(jhash3(a, b, c, initval) >>> 0).toBe(hashLittle(bytes, initval));
        expect(jhash3(a >>> 0, b >>> 0, c >>> 0, initval >>> 0)).toBe(jhash3(a, b, c, initval));
      }),
      runs(500),
    );
  });

  it('keeps its values', () => {
    expect(jhash3(0, 0, 0, 0) >>> 0).toBe(hashLittle(new Uint8Array(12), 0));
    expect(jhash3(0, 0, 0, 0) >>> 0).toBe(0x1b68e557);
    expect(jhash3(1, 2, 3, 4) >>> 0).toBe(0x8103143f);
  });
});

describe('jhashTuple6', () => {
  it('is two rounds of lookup3 over the source address, ports and protocol', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.tuple(word, word, word, word, word, word, word), ([s0, s1, s2, s3, ports, proto, seed]) => {
        const plus = (x: number, y: number) => (x + y) % 0x100000000;
        const [a, b, c] = mix([s0, s1, s2]);
        const second: Triple = mix([plus(a, s3), plus(b, ports), plus(c, proto)]);
        const expected = final([plus(second[0], seed), second[1], second[2]])[2];
        expect(jhashTuple6(s0, s1, s2, s3, ports, proto, seed) >>> 0).toBe(expected);
      }),
      runs(500),
    );
  });
});

function murmur(bytes: Uint8Array, seed: number): string {
  const out = new Int32Array(4);
  murmur3x64_128(bytes, seed, out);
  const hex = (i: number) => (out[i]! >>> 0).toString(16).padStart(8, '0');
  return `${hex(1)}${hex(0)} ${hex(3)}${hex(2)}`;
}

describe('murmur3x64_128', () => {
  it('gives known values', () => {
    expect(murmur(text(''), 0)).toBe('0000000000000000 0000000000000000');
    expect(murmur(text('hello'), 0)).toBe('cbd8a7b341bd9b02 5b1e906a48ae1d19');
    expect(murmur(text('hello, world'), 0)).toBe('342fac623a5ebc8e 4cdcbc079642414d');
    expect(murmur(text('19 Jan 2038 at 3:14:07 AM'), 0)).toBe('b89e5988b737affc 664fc2950231b2cb');
    expect(murmur(text('The quick brown fox jumps over the lazy dog.'), 0)).toBe('cd99481f9ee902c9 695da1a38987b6e7');
  });

  it('passes the verification of SMHasher, 0x6384ba69', () => {
    const results = new Uint8Array(256 * 16);
    const out = new Int32Array(4);
    for (let length = 0; length < 256; length++) {
      murmur3x64_128(
        Uint8Array.from({ length }, (_, i) => i),
        256 - length,
        out,
      );
      results.set(new Uint8Array(out.buffer), 16 * length);
    }
    murmur3x64_128(results, 0, out);
    expect(out[0]! >>> 0).toBe(0x6384ba69);
  });
});

describe('the own hashes', () => {
  // Values of a C program whose MurmurHash3 x86_32 gives 0xba6bd213 for "test": results of a seed depend on them.
  it('keep their values', () => {
    expect(mix32(0)).toBe(0);
    expect(mix32(1) >>> 0).toBe(0x514e28b7);
    expect(hashTuple4(0, 0x0a000001, 0x0a600001, (40000 << 16) | 80, 6)).toBe(1560965891);
    expect(hashTuple6(0, 0xfd000000 | 0, 0, 0, 1, 0xfd000000 | 0, 0x96, 0, 1, (40000 << 16) | 80, 6)).toBe(-938702013);
  });

  it('spread flows in sequence evenly over 256 shards', () => {
    const patterns: ((n: number) => number)[] = [
      (n) => hashTuple4(1, 0x0a000001, 0x0a600001, ((1024 + n) << 16) | 80, 6),
      (n) => hashTuple4(1, 0x0a000000 + n, 0x0a600001, (40000 << 16) | 80, 6),
      (n) => hashTuple4(1, 0x0a000000 + (n & 255), 0x0a600000 + (n >> 8), (40000 << 16) | 80, 17),
      (n) => hashTuple4(n, 0x0a000001, 0x0a600001, (40000 << 16) | 80, 6),
      (n) => hashTuple6(1, 0xfd000000, 0, 0, n, 0xfd000000, 0x96, 0, 1, (40000 << 16) | 80, 6),
      (n) => mix32(n),
    ];
    for (const hash of patterns) {
      const shards = new Int32Array(256);
      for (let n = 0; n < 65536; n++) shards[hash(n) & 255]!++;
      // Chi-square of 255 degrees of freedom: above 350 once in 10^4 random functions; these are fixed.
      const chiSquare = shards.reduce((sum, count) => sum + (count - 256) ** 2 / 256, 0);
      expect(chiSquare).toBeLessThan(350);
    }
  });

  it('change half of their bits with any bit of the flow', () => {
    const next = words(3);
    let flipped = 0;
    const trials = 4000;
    for (let i = 0; i < trials; i++) {
      const flow = [next(), next(), next(), next() & 255] as const;
      const other = [...flow];
      other[i & 3]! ^= 1 << (i % 4 === 3 ? (i >> 2) & 7 : (i >> 2) & 31);
      let x = hashTuple4(9, ...flow) ^ hashTuple4(9, other[0]!, other[1]!, other[2]!, other[3]!);
      for (; x !== 0; x &= x - 1) flipped++;
    }
    expect(flipped / trials).toBeGreaterThan(15.5);
    expect(flipped / trials).toBeLessThan(16.5);
  });
});
