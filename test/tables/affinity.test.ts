/** Stamps against a list that is kept in order of age. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  affinityClear,
  affinityFind,
  affinityMerge,
  affinityRefused,
  affinitySet,
  attachAffinity,
  createAffinity,
} from '../../engine/src/tables/affinity.ts';
import { runs } from './runs.ts';

interface Stamp {
  readonly id: number;
  readonly address: readonly [number, number, number, number];
  value: number;
  timeMs: number;
  shard: number;
  sequence: number;
}

const isSame = (a: Pick<Stamp, 'id' | 'address'>, b: Pick<Stamp, 'id' | 'address'>) =>
  a.id === b.id && a.address.join() === b.address.join();

class Oracle {
  /** Oldest first. */
  merged: Stamp[] = [];
  pending: Stamp[] = [];
  sequence = 0;
  readonly capacity: number;
  readonly pendingCapacity: number;
  readonly limit: number;

  constructor(capacity: number, pendingCapacity: number, limit: number) {
    this.capacity = capacity;
    this.pendingCapacity = pendingCapacity;
    this.limit = limit;
  }

  set(stamp: Stamp): number {
    const own = this.pending.filter((other) => other.shard === stamp.shard);
    const old = own.find((other) => isSame(other, stamp));
    if (old === undefined && own.length === this.pendingCapacity) return -1;
    this.pending = [...this.pending.filter((other) => other !== old), { ...stamp, sequence: this.sequence++ }];
    return 0;
  }

  find(shard: number, key: Pick<Stamp, 'id' | 'address'>, nowMs: number, timeoutMs: number): number {
    const own = this.pending.find((other) => other.shard === shard && isSame(other, key));
    const stamp = own ?? this.merged.find((other) => isSame(other, key));
    return stamp === undefined || ((nowMs - stamp.timeMs) | 0) > timeoutMs ? -1 : stamp.value;
  }

  merge(): number {
    const inOrder = this.pending.sort(
      (a, b) => (a.timeMs - b.timeMs) | 0 || a.shard - b.shard || a.sequence - b.sequence,
    );
    for (const stamp of inOrder) {
      const known = this.merged.some((other) => isSame(other, stamp));
      this.merged = this.merged.filter((other) => !isSame(other, stamp));
      if (!known) {
        const list = this.merged.filter((other) => other.id === stamp.id);
        if (this.limit > 0 && list.length >= this.limit) this.merged.splice(this.merged.indexOf(list[0]!), 1);
        else if (this.merged.length >= this.capacity) this.merged.shift();
      }
      this.merged.push(stamp);
    }
    this.pending = [];
    return inOrder.length;
  }
}

const operation = fc.record({
  kind: fc.nat(9),
  shard: fc.nat(255),
  id: fc.nat(2),
  address: fc.constantFrom<readonly [number, number, number, number]>(
    ...([0, 1, 2, 3, 4, 5, 6, 7].map((n) => [n & 1, 0, n >> 2, n * 0x10000001]) as never[]),
  ),
  value: fc.nat(5),
  step: fc.integer({ min: -3, max: 40 }),
  timeoutMs: fc.constantFrom(0, 10, 100, 10_800_000),
});

describe('affinity', () => {
  it('agrees with an ordered list after random operations', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 8, 256),
        fc.constantFrom(3, 6, 40),
        fc.constantFrom(1, 4),
        fc.constantFrom(0, 1, 2),
        fc.array(operation, { maxLength: 200, size: 'max' }),
        (shards, capacity, pendingCapacity, limit, operations) => {
          const t = createAffinity(capacity, shards, pendingCapacity, limit > 0 ? 3 : 0, limit);
          const oracle = new Oracle(capacity, pendingCapacity, limit);
          let refused = 0;
          let nowMs = 0xffffffc0;
          for (const op of operations) {
            const shard = op.shard & (shards - 1);
            nowMs = (nowMs + op.step) >>> 0;
            if (op.kind < 6) {
              const stamp = { id: op.id, address: op.address, value: op.value, timeMs: nowMs, shard, sequence: 0 };
              const expected = oracle.set(stamp);
              expect(affinitySet(t, shard, op.id, ...op.address, op.value, nowMs)).toBe(expected);
              if (expected === -1) refused++;
            } else if (op.kind === 6) expect(affinityMerge(t)).toBe(oracle.merge());
            else if (op.kind === 7 && op.value === 0) {
              affinityClear(t);
              oracle.merged = [];
              oracle.pending = [];
              refused = 0;
            }
            const key = { id: op.id, address: op.address };
            for (const s of [shard, 0]) {
              expect(affinityFind(t, s, op.id, ...op.address, nowMs, op.timeoutMs)).toBe(
                oracle.find(s, key, nowMs, op.timeoutMs),
              );
            }
          }
          expect(affinityMerge(t)).toBe(oracle.merge());
          for (const op of operations) {
            const key = { id: op.id, address: op.address };
            expect(affinityFind(t, 0, op.id, ...op.address, nowMs, 1000)).toBe(oracle.find(0, key, nowMs, 1000));
          }
          let counted = 0;
          for (let s = 0; s < shards; s++) counted += affinityRefused(t, s);
          expect(counted).toBe(refused);
        },
      ),
      runs(300),
    );
  });

  it('does not depend on the order in which shards wrote', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ shard: fc.nat(7), id: fc.nat(3), address: fc.nat(20), value: fc.nat(99), at: fc.nat(9) }),
          {
            maxLength: 120,
          },
        ),
        fc.constantFrom(0, 3),
        (writes, limit) => {
          // Each shard's own writes stay in order; how they mix is up to the workers.
          const byShard = [0, 1, 2, 3, 4, 5, 6, 7].map((shard) => writes.filter((write) => write.shard === shard));
          const tables = [writes, byShard.flat(), [...byShard].reverse().flat()].map((order) => {
            const t = createAffinity(16, 8, 128, limit > 0 ? 4 : 0, limit);
            for (const w of order) affinitySet(t, w.shard, w.id, w.address, 0, 0, 0, w.value, w.at);
            affinityMerge(t);
            return t;
          });
          for (let id = 0; id < 4; id++) {
            for (let address = 0; address <= 20; address++) {
              const found = tables.map((t) => affinityFind(t, 0, id, address, 0, 0, 0, 9, 100));
              expect(new Set(found).size).toBe(1);
            }
          }
        },
      ),
      runs(200),
    );
  });

  it('shows a write to its own shard at once and to others after the tick', () => {
    const t = createAffinity(8, 2, 4, 0, 0);
    const other = attachAffinity(t.buffer);
    affinitySet(t, 1, 7, 0x0af40105, 0, 0, 0, 3, 1000);
    expect(affinityFind(other, 1, 7, 0x0af40105, 0, 0, 0, 1000, 50)).toBe(3);
    expect(affinityFind(other, 0, 7, 0x0af40105, 0, 0, 0, 1000, 50)).toBe(-1);
    affinityMerge(t);
    expect(affinityFind(other, 0, 7, 0x0af40105, 0, 0, 0, 1050, 50)).toBe(3);
    expect(affinityFind(other, 0, 7, 0x0af40105, 0, 0, 0, 1051, 50)).toBe(-1);
  });

  it('forgets the oldest of a list of 100, as xt_recent does', () => {
    const t = createAffinity(1000, 1, 1, 2, 100);
    for (let n = 0; n < 150; n++) {
      affinitySet(t, 0, 1, n, 0, 0, 0, 1, n);
      affinityMerge(t);
    }
    affinitySet(t, 0, 0, 5, 0, 0, 0, 1, 150);
    affinityMerge(t);
    const left = Array.from({ length: 150 }, (_, n) => affinityFind(t, 0, 1, n, 0, 0, 0, 150, 10_000));
    expect(left.filter((value) => value === 1).length).toBe(100);
    expect(left.indexOf(1)).toBe(50);
  });

  it('refuses impossible shapes', () => {
    expect(() => createAffinity(8, 3, 4, 0, 0)).toThrow(RangeError);
    expect(() => createAffinity(8, 1, 0, 0, 0)).toThrow(RangeError);
    expect(() => createAffinity(8, 1, 4, 5, 0)).toThrow(RangeError);
    expect(() => createAffinity(8, 1, 4, 0, 5)).toThrow(RangeError);
  });
});
