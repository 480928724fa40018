/** Both prefix tables against a linear scan over all prefixes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attachLpm4, createLpm4, lpm4Delete, lpm4Find, lpm4Insert } from '../../engine/src/tables/lpm4.ts';
import { attachLpm6, createLpm6, lpm6Delete, lpm6Find, lpm6Insert } from '../../engine/src/tables/lpm6.ts';
import { COUNT_AT } from '../../engine/src/tables/table-header.ts';
import { runs, words } from './runs.ts';

type Address = readonly number[];

interface Face {
  readonly bits: number;
  readonly root: number;
  insert(address: Address, length: number, value: number): number;
  remove(address: Address, length: number): number;
  find(address: Address): number;
  count(): number;
}

function face4(capacity: number, rootBits: number): Face {
  const t = createLpm4(capacity, rootBits);
  return {
    bits: 32,
    root: rootBits,
    insert: (a, length, value) => lpm4Insert(t, a[0]!, length, value),
    remove: (a, length) => lpm4Delete(t, a[0]!, length),
    find: (a) => lpm4Find(t, a[0]!),
    count: () => t.words[COUNT_AT]!,
  };
}

function face6(capacity: number, rootBits: number): Face {
  const t = createLpm6(capacity, rootBits);
  return {
    bits: 128,
    root: rootBits,
    insert: (a, length, value) => lpm6Insert(t, a[0]!, a[1]!, a[2]!, a[3]!, length, value),
    remove: (a, length) => lpm6Delete(t, a[0]!, a[1]!, a[2]!, a[3]!, length),
    find: (a) => lpm6Find(t, a[0]!, a[1]!, a[2]!, a[3]!),
    count: () => t.words[COUNT_AT]!,
  };
}

/** The first `length` bits of an address as text: a key and, by `startsWith`, a cover. */
function bitsOf(address: Address, length: number): string {
  return address
    .map((word) => (word >>> 0).toString(2).padStart(32, '0'))
    .join('')
    .slice(0, length);
}

class LinearScan {
  readonly prefixes = new Map<string, number>();
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  insert(bits: string, value: number): number {
    if (!this.prefixes.has(bits) && this.prefixes.size >= this.capacity) return -1;
    this.prefixes.set(bits, value);
    return 0;
  }

  find(bits: string): number {
    let best = -1;
    let longest = -1;
    for (const [prefix, value] of this.prefixes) {
      if (prefix.length > longest && bits.startsWith(prefix)) {
        longest = prefix.length;
        best = value;
      }
    }
    return best;
  }
}

/** Few distinct words, so that prefixes share long beginnings and addresses hit them; and any word. */
const word = fc.oneof(
  fc.constantFrom(0, -1, 0x0a000001, 0x0a000002, 0x0a010000, 0xfd000000 | 0, 1 << 31, 0x0a0000ff),
  fc.integer(),
);

const operation = fc.record({
  kind: fc.nat(9),
  address: fc.tuple(word, word, word, word),
  /** Added to the first prefix's words so that neighbours arise. */
  near: fc.nat(3),
  length: fc.oneof(fc.constantFrom(0, 4, 8, 16, 24, 28, 31, 32, 33, 48, 64, 65, 96, 127, 128), fc.nat(128)),
  value: fc.oneof(fc.nat(9), fc.constantFrom(0x7fffffff, 0)),
});

describe.each([
  { name: 'lpm4', make: face4, size: 1 },
  { name: 'lpm6', make: face6, size: 4 },
])('$name', ({ make, size }) => {
  it('agrees with a linear scan after random inserts and deletes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4, 8, 12, 16),
        fc.constantFrom(3, 20, 200),
        fc.array(operation, { maxLength: 120, size: 'max' }),
        (rootBits, capacity, operations) => {
          const table = make(capacity, rootBits);
          const oracle = new LinearScan(capacity);
          const seen: Address[] = [];
          for (const op of operations) {
            // Half of the operations go to an address near one that was used before.
            const old = seen[op.value % (seen.length + 1)];
            const address =
              old === undefined
                ? op.address.slice(0, size)
                : old.map((w, i) => w ^ (i === op.near % size ? op.near : 0));
            seen.push(address);
            const length = Math.min(op.length, table.bits);
            if (op.kind < 6) {
              expect(table.insert(address, length, op.value)).toBe(oracle.insert(bitsOf(address, length), op.value));
            } else if (op.kind < 8) {
              expect(table.remove(address, length)).toBe(oracle.prefixes.delete(bitsOf(address, length)) ? 1 : 0);
            }
            expect(table.find(address)).toBe(oracle.find(bitsOf(address, table.bits)));
            expect(table.count()).toBe(oracle.prefixes.size);
          }
          for (const address of seen) {
            for (const flip of [0, 1, 16, -1, 1 << 31]) {
              const other = address.map((w, i) => (i === size - 1 ? w ^ flip : w));
              expect(table.find(other)).toBe(oracle.find(bitsOf(other, table.bits)));
            }
          }
          // Everything comes out again, and the nodes with it: the table takes as many prefixes as before.
          for (const prefix of [...oracle.prefixes.keys()]) {
            const bits = prefix.padEnd(table.bits, '0');
            const address = Array.from(
              { length: size },
              (_, i) => Number.parseInt(bits.slice(32 * i, 32 * i + 32), 2) | 0,
            );
            expect(table.remove(address, prefix.length)).toBe(1);
          }
          for (const address of seen) expect(table.find(address)).toBe(-1);
          expect(table.count()).toBe(0);
        },
      ),
      runs(120),
    );
  });

  it('never runs out of nodes before prefixes', () => {
    const next = words(7);
    for (let round = 0; round < 8; round++) {
      const capacity = 64;
      const table = make(capacity, 8);
      const held: { address: Address; length: number; value: number }[] = [];
      // Far more inserts and deletes than nodes: freed nodes are used again.
      for (let i = 0; i < 2000; i++) {
        const address = Array.from({ length: size }, () => next());
        // No whole addresses: they take no nodes.
        const length = table.bits - 1 - (i % 40 < 30 ? 0 : next() & 15);
        if (held.length < capacity) {
          expect(table.insert(address, length, i)).toBe(0);
          held.push({ address, length, value: i });
        } else {
          const gone = held.splice((next() >>> 0) % held.length, 1)[0]!;
          expect(table.remove(gone.address, gone.length)).toBe(1);
        }
      }
      for (const { address, value } of held) expect(table.find(address)).toBe(value);
    }
  });

  it('keeps nested prefixes apart', () => {
    const table = make(200, 8);
    const address = Array.from({ length: size }, () => 0x12345678);
    for (let length = 0; length <= table.bits; length++) expect(table.insert(address, length, length)).toBe(0);
    for (let length = table.bits; length >= 0; length--) {
      expect(table.find(address)).toBe(length);
      expect(table.remove(address, length)).toBe(1);
      expect(table.remove(address, length)).toBe(0);
    }
    expect(table.find(address)).toBe(-1);
  });

  it('answers with the default route where nothing longer covers', () => {
    const table = make(4, 8);
    expect(table.insert(new Array(size).fill(-1), 0, 5)).toBe(0);
    expect(table.find(new Array(size).fill(0))).toBe(5);
    expect(table.find(new Array(size).fill(-1))).toBe(5);
  });

  it('refuses what is not a prefix or a value', () => {
    const table = make(4, 8);
    const zero = new Array(size).fill(0);
    for (const length of [-1, table.bits + 1, 1.5]) {
      expect(() => table.insert(zero, length, 0)).toThrow(RangeError);
      expect(() => table.remove(zero, length)).toThrow(RangeError);
    }
    for (const value of [-1, 2 ** 31, 0.5]) expect(() => table.insert(zero, 8, value)).toThrow(RangeError);
    for (const rootBits of [0, 5, 20]) expect(() => make(4, rootBits)).toThrow(RangeError);
  });
});

describe('prefix tables', () => {
  it('do not mind whether a word is signed', () => {
    const t4 = createLpm4(4);
    lpm4Insert(t4, 0xc0a80100, 24, 1);
    expect([lpm4Find(t4, 0xc0a80105), lpm4Find(t4, 0xc0a80105 | 0)]).toEqual([1, 1]);
    expect(lpm4Delete(t4, 0xc0a80100, 24)).toBe(1);
    const t6 = createLpm6(4);
    lpm6Insert(t6, 0xfd000000, 0xffffffff, 0xffffffff, 0xf0000000, 100, 2);
    lpm6Insert(t6, 0xfd000000, 0xffffffff, 0xffffffff, 0xf8000000, 101, 3);
    expect(lpm6Find(t6, 0xfd000000, 0xffffffff, 0xffffffff, 0xf1000000)).toBe(2);
    expect(lpm6Find(t6, 0xfd000000 | 0, -1, -1, 0xf8000000 | 0)).toBe(3);
    expect(lpm6Delete(t6, 0xfd000000 | 0, -1, -1, 0xf8000000, 101)).toBe(1);
  });

  it('are shared through their buffers', () => {
    const t4 = createLpm4(4);
    const other4 = attachLpm4(t4.buffer);
    lpm4Insert(t4, 0x0a000000, 8, 1);
    lpm4Insert(t4, 0x0a0a0a0a, 32, 2);
    expect([lpm4Find(other4, 0x0a0a0a0b), lpm4Find(other4, 0x0a0a0a0a)]).toEqual([1, 2]);
    const t6 = createLpm6(4);
    const other6 = attachLpm6(t6.buffer);
    lpm6Insert(t6, 0x20010db8, 0, 0, 1, 128, 7);
    expect([lpm6Find(other6, 0x20010db8, 0, 0, 1), lpm6Find(other6, 0x20010db8, 0, 0, 2)]).toEqual([7, -1]);
  });
});
