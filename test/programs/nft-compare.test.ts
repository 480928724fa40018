import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { holdsComparison, holdsRange, maskRegisters, shiftRegister } from '../../engine/src/programs/nft-compare.ts';
import { runs } from '../tables/runs.ts';

const word = fc.oneof(fc.integer(), fc.constantFrom(0, 1, -1, 0x7fffffff, -0x80000000));
const wordsOf = (count: number) => fc.array(word, { minLength: count, maxLength: count });
const big = (words: readonly number[]) => words.reduce((sum, w) => (sum << 32n) | BigInt(w >>> 0), 0n);

describe('registers of nftables', () => {
  it('compare as one unsigned number', () => {
    const pairs = fc
      .integer({ min: 1, max: 4 })
      .chain((count) => fc.tuple(wordsOf(count), wordsOf(count), fc.boolean()));
    fc.assert(
      fc.property(pairs, ([left, drawn, same]) => {
        const right = same ? left : drawn;
        const [a, b] = [big(left), big(right)];
        const holds = [0, 1, 2, 3, 4, 5].map((comparison) =>
          holdsComparison(comparison, Int32Array.from([7, ...left]), 1, Int32Array.from([9, ...right]), 1, left.length),
        );
        expect(holds).toEqual([a === b, a !== b, a < b, a > b, a <= b, a >= b]);
      }),
      runs(300),
    );
  });

  it('lie in a range, both ends included, or outside', () => {
    const ranges = fc.integer({ min: 1, max: 4 }).chain((n) => fc.tuple(wordsOf(n), wordsOf(n), wordsOf(n), fc.nat(2)));
    fc.assert(
      fc.property(ranges, ([drawn, first, last, pick]) => {
        const value = [drawn, first, last][pick]!;
        const inside = big(first) <= big(value) && big(value) <= big(last);
        for (const inverted of [0, 1]) {
          const words = [7 | ((3 + 2 * first.length) << 8), inverted, 1, ...first, ...last];
          expect(holdsRange(Int32Array.from([5, ...value]), Int32Array.from(words), 0)).toBe(
            inside !== (inverted === 1),
          );
        }
      }),
      runs(300),
    );
  });

  it('shift as unsigned words', () => {
    fc.assert(
      fc.property(word, fc.integer({ min: -31, max: 31 }), (value, bits) => {
        const registers = Int32Array.of(3, value);
        shiftRegister(registers, 1, bits);
        const wide = BigInt(value >>> 0);
        expect(registers[1]! >>> 0).toBe(
          Number(bits >= 0 ? (wide << BigInt(bits)) & 0xffffffffn : wide >> BigInt(-bits)),
        );
      }),
      runs(200),
    );
  });

  it('are masked and turned over word by word', () => {
    const registers = Int32Array.of(9, 0x0a0b0c0d, -1);
    maskRegisters(registers, Int32Array.of(4 | (6 << 8), 1, -256, 1, 0xff, 0xf0), 0);
    expect([...registers]).toEqual([9, 0x0a0b0c01, 0x0f]);
  });
});
