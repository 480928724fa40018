import { describe, expect, it } from 'vitest';
import { attachAffinity, createAffinity } from '../../engine/src/tables/affinity.ts';
import { attachBackends, createBackends } from '../../engine/src/tables/backends.ts';
import { attachConntrack, createConntrack } from '../../engine/src/tables/conntrack.ts';
import { attachCounters, createCounters } from '../../engine/src/tables/counters.ts';
import { attachHashTable, createHashTable } from '../../engine/src/tables/hash-table.ts';
import { attachLpm4, createLpm4 } from '../../engine/src/tables/lpm4.ts';
import { attachLpm6, createLpm6 } from '../../engine/src/tables/lpm6.ts';
import { attachMaglev, createMaglev } from '../../engine/src/tables/maglev.ts';
import {
  attachTable,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_CONNTRACK,
  KIND_HASH,
  KIND_LPM4,
} from '../../engine/src/tables/table-header.ts';

/** A copy of a table's buffer, `words` longer or shorter, with one header word changed. */
function altered(buffer: SharedArrayBuffer, index: number, value: number, words = 0): SharedArrayBuffer {
  const copy = new SharedArrayBuffer(buffer.byteLength + 4 * words);
  const to = new Int32Array(copy);
  to.set(new Int32Array(buffer).subarray(0, to.length));
  to[index] = value;
  return copy;
}

describe('table header', () => {
  it('comes back through its buffer', () => {
    const words = createTable(KIND_HASH, 7, 100);
    words[HEADER_WORDS + 99] = 42;
    const again = attachTable(KIND_HASH, words.buffer);
    expect(again.length).toBe(HEADER_WORDS + 100);
    expect(again[HEADER_WORDS + 99]).toBe(42);
  });

  it('is refused with a message of its own for each fault', () => {
    const { buffer } = createTable(KIND_HASH, 7, 100);
    const messages = [
      () => attachTable(KIND_HASH, new ArrayBuffer(1000) as unknown as SharedArrayBuffer),
      () => attachTable(KIND_HASH, new SharedArrayBuffer(60)),
      () => attachTable(KIND_HASH, new SharedArrayBuffer(1001)),
      () => attachTable(KIND_HASH, altered(buffer, 0, 1)),
      () => attachTable(KIND_HASH, altered(buffer, 1, 99)),
      () => attachTable(KIND_LPM4, buffer),
      () => attachTable(KIND_HASH, altered(buffer, 5, 0, 1)),
      () => attachTable(KIND_HASH, altered(buffer, 5, 0, -1)),
      () => attachTable(KIND_CONNTRACK, altered(buffer, 2, 77)),
    ].map((attach) => {
      try {
        attach();
        return 'accepted';
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
        return (error as Error).message;
      }
    });
    expect(messages).toEqual([
      'a table lives in a SharedArrayBuffer',
      '60 bytes do not hold a table: too short or not whole words',
      '1001 bytes do not hold a table: too short or not whole words',
      'not a table: wrong magic number',
      'table layout version 99, this program reads version 1',
      'a hash table where a lpm4 table is needed',
      'table cut or padded: 117 words, its header says 116',
      'table cut or padded: 115 words, its header says 116',
      'a unknown (77) table where a conntrack table is needed',
    ]);
  });

  it('refuses capacities that are not whole numbers from 1 on', () => {
    for (const capacity of [0, -1, 1.5, Number.NaN, 2 ** 31]) {
      expect(() => createTable(KIND_HASH, capacity, 1)).toThrow(RangeError);
      expect(() => createConntrack(4, capacity, 1)).toThrow(RangeError);
      expect(() => createLpm4(capacity)).toThrow(RangeError);
      expect(() => createMaglev(capacity)).toThrow(RangeError);
      expect(() => createCounters(capacity, 1)).toThrow(RangeError);
      expect(() => createBackends(capacity, 1)).toThrow(RangeError);
      expect(() => createAffinity(capacity, 1, 1, 0, 0)).toThrow(RangeError);
      expect(() => createHashTable(1, 1, capacity)).toThrow(RangeError);
    }
    expect(() => createTable(KIND_HASH, 1, -1)).toThrow(RangeError);
  });

  it('is checked by every table, parameters against length included', () => {
    const tables = [
      { made: createConntrack(4, 10, 2), attach: attachConntrack },
      { made: createConntrack(6, 10, 2), attach: attachConntrack },
      { made: createLpm4(5), attach: attachLpm4 },
      { made: createLpm6(5, 4), attach: attachLpm6 },
      { made: createHashTable(2, 3, 9), attach: attachHashTable },
      { made: createMaglev(251), attach: attachMaglev },
      { made: createBackends(4, 9), attach: attachBackends },
      { made: createAffinity(8, 2, 4, 3, 2), attach: attachAffinity },
      { made: createCounters(9, 2), attach: attachCounters },
    ];
    const kinds = new Set<number>();
    for (const { made, attach } of tables) {
      expect(attach(made.buffer)).toEqual(made);
      kinds.add(made.words[2]!);
      expect(() => attach(altered(made.buffer, 2, 77))).toThrow(/where a .* table is needed/);
      // Padded, with a header that says so: the parameters betray it.
      const padded = altered(made.buffer, 3, made.words.length + 32, 32);
      expect(() => attach(padded)).toThrow(TypeError);
    }
    expect(kinds.size).toBe(8);
  });
});

describe('ceilPow2', () => {
  it('rounds up', () => {
    expect([1, 2, 3, 4, 5, 1023, 1024, 1025, 2 ** 30].map(ceilPow2)).toEqual([
      1,
      2,
      4,
      4,
      8,
      1024,
      1024,
      2048,
      2 ** 30,
    ]);
  });
});
