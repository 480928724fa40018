/** The hash table against a Map. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachHashTable,
  createHashTable,
  type HashTable,
  hashDelete2,
  hashDelete5,
  hashFind2,
  hashFind5,
  hashInsert2,
  hashInsert5,
  nextRow,
  rowKey,
  rowValue,
  setRowValue,
} from '../../engine/src/tables/hash-table.ts';
import { HEADER_WORDS } from '../../engine/src/tables/table-header.ts';
import { runs } from './runs.ts';

const find = (t: HashTable, k: number[]) =>
  t.keyWords === 2 ? hashFind2(t, k[0]!, k[1]!) : hashFind5(t, k[0]!, k[1]!, k[2]!, k[3]!, k[4]!);
const insert = (t: HashTable, k: number[]) =>
  t.keyWords === 2 ? hashInsert2(t, k[0]!, k[1]!) : hashInsert5(t, k[0]!, k[1]!, k[2]!, k[3]!, k[4]!);
const remove = (t: HashTable, k: number[]) =>
  t.keyWords === 2 ? hashDelete2(t, k[0]!, k[1]!) : hashDelete5(t, k[0]!, k[1]!, k[2]!, k[3]!, k[4]!);

const word = fc.oneof(fc.nat(3), fc.constantFrom(-1, 1 << 31, 0x0a000001));
const operation = fc.record({ kind: fc.nat(7), key: fc.tuple(word, word, word, word, word), value: fc.integer() });

describe('hash table', () => {
  it('agrees with a Map after random operations', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(2, 5),
        fc.constantFrom(1, 3, 10, 100),
        fc.array(operation, { maxLength: 300, size: 'max' }),
        (keyWords, capacity, operations) => {
          const t = createHashTable(keyWords, 2, capacity);
          const oracle = new Map<string, number>();
          for (const op of operations) {
            const key = op.key.slice(0, keyWords);
            const held = oracle.get(key.join());
            const row = find(t, key);
            expect(row !== -1).toBe(held !== undefined);
            if (row !== -1) expect([rowValue(t, row, 0), rowValue(t, row, 1)]).toEqual([held, ~held!]);
            if (op.kind < 5) {
              const made = insert(t, key);
              if (held === undefined && oracle.size === capacity) expect(made).toBe(-1);
              else {
                // A new row begins with zeros.
                if (held === undefined) expect([rowValue(t, made, 0), rowValue(t, made, 1)]).toEqual([0, 0]);
                setRowValue(t, made, 0, op.value);
                setRowValue(t, made, 1, ~op.value);
                oracle.set(key.join(), op.value);
              }
            } else expect(remove(t, key)).toBe(oracle.delete(key.join()) ? 1 : 0);
          }
          const rows = new Map<string, number>();
          for (let row = nextRow(t, -1); row !== -1; row = nextRow(t, row)) {
            const key = Array.from({ length: keyWords }, (_, i) => rowKey(t, row, i));
            rows.set(key.join(), rowValue(t, row, 0));
          }
          expect(rows).toEqual(oracle);
        },
      ),
      runs(300),
    );
  });

  it('takes its capacity and does not mind whether a word is signed', () => {
    const t = createHashTable(2, 0, 1000);
    for (let i = 0; i < 1000; i++) expect(hashInsert2(t, 0xfffffff0 + i, (i << 8) | 6)).not.toBe(-1);
    expect(hashInsert2(t, 5000, 0)).toBe(-1);
    for (let i = 0; i < 1000; i++) {
      expect(hashFind2(t, (0xfffffff0 + i) | 0, (i << 8) | 6)).toBe(hashFind2(t, 0xfffffff0 + i, (i << 8) | 6));
    }
    expect(hashFind2(t, -1, (15 << 8) | 6)).not.toBe(-1);
  });

  it('spreads keys in sequence', () => {
    for (const keyWords of [2, 5]) {
      const t = createHashTable(keyWords, 0, 8192);
      for (let i = 0; i < 8192; i++) {
        const address = keyWords === 2 ? [0x0a600000 + (i >> 2)] : [0xfd000010 | 0, 0x96, 0, i >> 2];
        insert(t, [...address, ([80, 443, 8080, 9090][i & 3]! << 8) | 6]);
      }
      let distance = 0;
      for (let row = nextRow(t, -1); row !== -1; row = nextRow(t, row)) {
        const tag = t.words[HEADER_WORDS + row * t.rowWords]!;
        distance += (row - (tag >>> t.shift)) & t.mask;
      }
      // Half full: a random function gives 0.5.
      expect(distance / 8192).toBeLessThan(0.65);
    }
  });

  it('is shared through its buffer and refuses impossible shapes', () => {
    const t = createHashTable(5, 1, 10);
    const row = hashInsert5(t, 1, 2, 3, 4, 5);
    setRowValue(t, row, 0, -7);
    const other = attachHashTable(t.buffer);
    expect(rowValue(other, hashFind5(other, 1, 2, 3, 4, 5), 0)).toBe(-7);
    for (const [keyWords, valueWords] of [
      [0, 1],
      [17, 1],
      [2, -1],
      [2, 65],
      [2.5, 1],
    ] as const) {
      expect(() => createHashTable(keyWords, valueWords, 10)).toThrow(RangeError);
    }
  });
});
