import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  findNftElement,
  type NftSetElement,
  SET_HASH,
  SET_KIND,
  SET_RANGES,
  writeNftSet,
} from '../../engine/src/tables/nft-sets.ts';
import { runs } from './runs.ts';

// ---- the oracle: a linear scan over whole numbers --------------------------------------------------------------------

const asNumber = (words: readonly number[]) => words.reduce((sum, word) => (sum << 32n) | BigInt(word >>> 0), 0n);

/** A field's words of a key. */
function* fieldsOf(key: readonly number[], fields: readonly number[]) {
  let at = 0;
  for (const words of fields) {
    yield asNumber(key.slice(at, at + words));
    at += words;
  }
}

function findSlowly(elements: readonly NftSetElement[], fields: readonly number[], key: readonly number[]): number {
  const wanted = [...fieldsOf(key, fields)];
  const hits = elements.filter(({ first, last }) => {
    if (first === null) return false;
    const low = [...fieldsOf(first, fields)];
    const high = [...fieldsOf(last ?? first, fields)];
    return wanted.every((field, i) => low[i]! <= field && field <= high[i]!);
  });
  // Of overlapping elements the one that begins last, of those the one that ends first, of those the last one.
  const best = hits.reduce<NftSetElement | null>((kept, hit) => {
    if (kept === null) return hit;
    const starts = asNumber(hit.first!) - asNumber(kept.first!);
    if (starts !== 0n) return starts > 0n ? hit : kept;
    const ends = asNumber(hit.last ?? hit.first!) - asNumber(kept.last ?? kept.first!);
    return ends < 0n || (ends === 0n && hit.id > kept.id) ? hit : kept;
  }, null);
  return best?.id ?? elements.find(({ first }) => first === null)?.id ?? -1;
}

function search(words: Int32Array, key: readonly number[]): number {
  // Behind other sets and in the middle of registers, as in an image.
  const image = new Int32Array(words.length + 7);
  image.set(words, 7);
  const registers = Int32Array.from([99, ...key, 99]);
  const at = findNftElement(image, 7, registers, 1);
  return at === -1 ? -1 : image[at]!;
}

// ---- what is drawn ---------------------------------------------------------------------------------------------------

// Words close to each other and at both ends, so that keys meet and signs matter.
const word = fc.oneof(fc.nat(6), fc.constantFrom(-1, -2, -3, 0x7fffffff, -0x80000000, -0x7fffffff));
const shapeOf = fc.array(fc.constantFrom(1, 1, 4), { minLength: 1, maxLength: 4 });
const keyOf = (fields: readonly number[]) => {
  const count = fields.reduce((sum, words) => sum + words, 0);
  return fc.array(word, { minLength: count, maxLength: count });
};

function toRange(a: readonly number[], b: readonly number[], fields: readonly number[]): [number[], number[]] {
  const first: number[] = [];
  const last: number[] = [];
  let at = 0;
  for (const words of fields) {
    const x = a.slice(at, at + words);
    const y = b.slice(at, at + words);
    const swap = asNumber(x) > asNumber(y);
    first.push(...(swap ? y : x));
    last.push(...(swap ? x : y));
    at += words;
  }
  return [first, last];
}

const setOf = fc.tuple(shapeOf, fc.boolean(), fc.nat(3)).chain(([fields, ranges, valueWords]) =>
  fc.record({
    fields: fc.constant(fields),
    valueWords: fc.constant(valueWords),
    pairs: fc.array(fc.tuple(keyOf(fields), keyOf(fields)), { maxLength: 20 }).map((pairs) => {
      if (ranges) return pairs.map(([a, b]) => toRange(a, b, fields));
      const seen = new Map(pairs.map(([a]) => [a.map((w) => w >>> 0).join(), a]));
      return [...seen.values()].map((a): [number[], number[]] => [a, a]);
    }),
    catchAll: fc.boolean(),
    keys: fc.array(keyOf(fields), { minLength: 1, maxLength: 10 }),
  }),
);

describe('a set of nftables', () => {
  it('finds what a linear scan finds, exact or in ranges, over concatenated keys', () => {
    fc.assert(
      fc.property(setOf, ({ fields, valueWords, pairs, catchAll, keys }) => {
        const elements: NftSetElement[] = pairs.map(([first, last], i) => ({
          id: 100 + i,
          first,
          last,
          value: Array.from({ length: valueWords }, (_, k) => i * 10 + k),
        }));
        if (catchAll) elements.push({ id: 1, first: null, last: null, value: new Array<number>(valueWords).fill(7) });
        const words = writeNftSet({ id: 3, fields, valueWords, stamps: -1, lifeMs: 0 }, elements);
        for (const key of [...keys, ...pairs.flat()]) {
          expect(search(words, key)).toBe(findSlowly(elements, fields, key));
        }
      }),
      runs(500),
    );
  });

  const shape = { id: 0, fields: [1], valueWords: 2, stamps: -1, lifeMs: 0 };

  it('keeps the value behind the element id', () => {
    const words = writeNftSet(shape, [{ id: 5, first: [80], last: null, value: [4, 17] }]);
    const at = findNftElement(words, 0, Int32Array.of(80), 0);
    expect([...words.subarray(at, at + 3)]).toEqual([5, 4, 17]);
  });

  it('is a hash where all elements are single keys, whatever their flags, else ranges', () => {
    const single = { id: 0, first: [1], last: [1], value: [0, 0] };
    expect(writeNftSet(shape, [single])[SET_KIND]).toBe(SET_HASH);
    expect(writeNftSet(shape, [single, { id: 1, first: [4], last: [9], value: [0, 0] }])[SET_KIND]).toBe(SET_RANGES);
    expect(search(writeNftSet(shape, []), [0])).toBe(-1);
  });

  it('finds the narrower of two prefixes', () => {
    const words = writeNftSet({ ...shape, valueWords: 0 }, [
      { id: 8, first: [0x0a000000], last: [0x0affffff], value: [] },
      { id: 16, first: [0x0a010000], last: [0x0a01ffff], value: [] },
      { id: 24, first: [0x0a010200], last: [0x0a0102ff], value: [] },
    ]);
    expect(search(words, [0x0a010203])).toBe(24);
    expect(search(words, [0x0a010303])).toBe(16);
    expect(search(words, [0x0a020304])).toBe(8);
    expect(search(words, [0x0b000000])).toBe(-1);
  });

  it('refuses what no set can hold', () => {
    const value = [0, 0];
    expect(() => writeNftSet(shape, [{ id: 1, first: [1, 2], last: null, value }])).toThrow('2 and 2 words, not 1');
    expect(() => writeNftSet(shape, [{ id: 1, first: [1], last: null, value: [] }])).toThrow('a value of 0 words');
    expect(() => writeNftSet({ ...shape, fields: [] }, [])).toThrow('1 to 16 words, not 0');
    expect(() => writeNftSet({ ...shape, fields: [4, 4, 4, 4, 1] }, [])).toThrow('1 to 16 words, not 17');
    expect(() => writeNftSet({ ...shape, fields: [4, 1], stamps: 0 }, [])).toThrow('at most 4 words, not 5');
    const twice = [
      { id: 1, first: [-1], last: null, value },
      { id: 2, first: [0xffffffff], last: null, value },
    ];
    expect(() => writeNftSet(shape, twice)).toThrow('element 2 has the key of element 1');
  });
});
