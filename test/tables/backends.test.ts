/** Backends against arrays of objects. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addBackend,
  attachBackends,
  type Backends,
  backendAddress,
  backendEndpoint,
  backendFlags,
  backendNode,
  backendOrigin,
  backendPort,
  createBackends,
  isBackend,
  listEntry,
  removeBackend,
  setBackendFlags,
  setListEntry,
  takeList,
} from '../../engine/src/tables/backends.ts';
import { runs } from './runs.ts';

function read(t: Backends, b: number): number[] {
  const address = [0, 1, 2, 3].map((i) => backendAddress(t, b, i));
  return [
    ...address,
    backendPort(t, b),
    backendNode(t, b),
    backendEndpoint(t, b),
    backendFlags(t, b),
    backendOrigin(t, b),
  ];
}

describe('backends', () => {
  it('keep index and content while others come and go', () => {
    const row = fc.tuple(
      fc.integer(),
      fc.integer(),
      fc.integer(),
      fc.integer(),
      fc.nat(65535),
      fc.integer({ min: -1, max: 99 }),
      fc.integer({ min: -1, max: 99 }),
      fc.nat(),
      fc.nat(),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(1, 4, 50),
        fc.array(fc.record({ kind: fc.nat(5), row, pick: fc.nat(60) }), { maxLength: 200, size: 'max' }),
        (capacity, operations) => {
          const t = createBackends(capacity, 0);
          const oracle = new Map<number, number[]>();
          for (const op of operations) {
            if (op.kind < 3) {
              const index = addBackend(t, ...op.row);
              if (oracle.size === capacity) expect(index).toBe(-1);
              else {
                expect(oracle.has(index)).toBe(false);
                oracle.set(index, [...op.row]);
              }
            } else if (op.kind < 5) {
              expect(removeBackend(t, op.pick)).toBe(oracle.delete(op.pick) ? 1 : 0);
            } else if (oracle.has(op.pick)) {
              setBackendFlags(t, op.pick, op.row[7]);
              oracle.get(op.pick)![7] = op.row[7];
            }
          }
          for (let b = -1; b <= capacity; b++) {
            expect(isBackend(t, b)).toBe(oracle.has(b) ? 1 : 0);
            if (oracle.has(b)) expect(read(t, b)).toEqual(oracle.get(b));
          }
        },
      ),
      runs(200),
    );
  });

  it('give out lists until the entries are used up', () => {
    const t = createBackends(3, 10);
    const lists = [takeList(t, 4), takeList(t, 0), takeList(t, 6)];
    expect(takeList(t, 1)).toBe(-1);
    lists.forEach((offset, n) => {
      const size = [4, 0, 6][n]!;
      for (let i = 0; i < size; i++) setListEntry(t, offset, i, 100 * n + i);
    });
    const other = attachBackends(t.buffer);
    expect([0, 1, 2, 3].map((i) => listEntry(other, lists[0]!, i))).toEqual([0, 1, 2, 3]);
    expect([0, 5].map((i) => listEntry(other, lists[2]!, i))).toEqual([200, 205]);
  });
});
