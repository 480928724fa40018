import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachIpvsShared,
  createIpvsShared,
  type IpvsShared,
  isSharedLive,
  isSharedMerged,
  SHARED_KEY_WORDS,
  sharedAdd,
  sharedClear,
  sharedExpiry,
  sharedFind,
  sharedForgetShard,
  sharedForgetSums,
  sharedMerge,
  sharedRecount,
  sharedRefused,
  sharedRegister,
  sharedSet,
  sharedSum,
} from '../../engine/src/tables/ipvs-shared.ts';
import { runs } from './runs.ts';

function keyOf(n: number): Int32Array {
  // Keys that differ in one word each.
  const key = new Int32Array(SHARED_KEY_WORDS);
  key[n % SHARED_KEY_WORDS] = 1 + Math.floor(n / SHARED_KEY_WORDS);
  return key;
}

interface Registers {
  readonly values: readonly [number, number, number];
  readonly expiry: number;
  readonly forEver: boolean;
  readonly time: number;
}

interface Row {
  sums: [number, number];
  registers: Registers | null;
}

/** The same with Maps: what all know, and what each shard has written since. */
class Oracle {
  merged = new Map<number, Row>();
  pending: Map<number, Row>[];

  constructor(shards: number) {
    this.pending = Array.from({ length: shards }, () => new Map<number, Row>());
  }

  row(shard: number, key: number): Row {
    const rows = this.pending.length === 1 ? this.merged : this.pending[shard]!;
    if (!rows.has(key)) rows.set(key, { sums: [0, 0], registers: null });
    return rows.get(key)!;
  }

  sum(shard: number, key: number, which: 0 | 1): number {
    return (this.merged.get(key)?.sums[which] ?? 0) + (this.pending[shard]!.get(key)?.sums[which] ?? 0);
  }

  registers(shard: number, key: number): Registers | null {
    return this.pending[shard]!.get(key)?.registers ?? this.merged.get(key)?.registers ?? null;
  }

  merge(): void {
    for (const rows of this.pending) {
      for (const [key, { sums, registers }] of rows) {
        const into = this.merged.get(key) ?? { sums: [0, 0], registers: null };
        this.merged.set(key, into);
        into.sums = [into.sums[0] + sums[0], into.sums[1] + sums[1]];
        if (registers !== null && (into.registers === null || registers.time >= into.registers.time)) {
          into.registers = registers;
        }
      }
      rows.clear();
    }
  }
}

const KEYS = 20;
const step = fc.record({
  kind: fc.constantFrom('add', 'set', 'forEver', 'merge', 'wait'),
  shard: fc.nat(3),
  key: fc.nat(KEYS - 1),
  which: fc.constantFrom(0 as const, 1 as const),
  value: fc.integer({ min: -5, max: 5 }),
  life: fc.nat(300),
});

function readRegisters(t: IpvsShared, shard: number, key: number, now: number) {
  const at = sharedFind(t, shard, keyOf(key));
  if (at === -1) return null;
  return {
    values: [0, 1, 2].map((i) => sharedRegister(t, at, i)),
    isLive: isSharedLive(t, at, now),
    expiry: sharedExpiry(t, at),
  };
}

describe('shared rows of IPVS', () => {
  it('are what Maps would hold: at once with one shard, own writes first with several', () => {
    fc.assert(
      fc.property(fc.constantFrom(1, 4), fc.array(step, { maxLength: 150 }), (shards, steps) => {
        const t = attachIpvsShared(createIpvsShared(64, shards, 32).buffer);
        const oracle = new Oracle(shards);
        const scratch = new Int32Array(SHARED_KEY_WORDS);
        let now = 1000;
        for (const { kind, shard: any, key, which, value, life } of steps) {
          const shard = any % shards;
          if (kind === 'add') {
            sharedAdd(t, shard, keyOf(key), which, value, now);
            oracle.row(shard, key).sums[which] += value;
          } else if (kind === 'set' || kind === 'forEver') {
            const forEver = kind === 'forEver';
            sharedSet(t, shard, keyOf(key), value, key, life, forEver, now + life, now);
            oracle.row(shard, key).registers = { values: [value, key, life], expiry: now + life, forEver, time: now };
          } else if (kind === 'merge') {
            sharedMerge(t, scratch, now);
            oracle.merge();
          } else now += life;
          for (let s = 0; s < shards; s++) {
            for (let k = 0; k < KEYS; k++) {
              expect(sharedSum(t, s, keyOf(k), 0)).toBe(oracle.sum(s, k, 0));
              expect(sharedSum(t, s, keyOf(k), 1)).toBe(oracle.sum(s, k, 1));
              const want = oracle.registers(s, k);
              expect(readRegisters(t, s, k, now)).toEqual(
                want && { values: want.values, expiry: want.expiry, isLive: want.forEver || want.expiry > now },
              );
            }
          }
        }
        expect(sharedRefused(t)).toBe(0);
        sharedClear(t);
        for (let k = 0; k < KEYS; k++) expect(readRegisters(t, 0, k, now)).toBeNull();
      }),
      runs(80),
    );
  });

  it('give room by losing dead rows, and refuse when all live', () => {
    const t = createIpvsShared(4, 1, 1);
    for (let k = 0; k < 4; k++) sharedSet(t, 0, keyOf(k), k, 0, 0, false, 100 + k, 0);
    sharedAdd(t, 0, keyOf(3), 0, 1, 0);
    // At 102 the rows 0 to 2 are dead; row 3 has a sum.
    sharedSet(t, 0, keyOf(10), 9, 0, 0, true, 0, 102);
    expect(sharedFind(t, 0, keyOf(0))).toBe(-1);
    expect(sharedSum(t, 0, keyOf(3), 0)).toBe(1);
    expect(sharedFind(t, 0, keyOf(10))).not.toBe(-1);
    sharedSet(t, 0, keyOf(11), 0, 0, 0, true, 0, 200);
    sharedSet(t, 0, keyOf(12), 0, 0, 0, true, 0, 200);
    expect(sharedRefused(t)).toBe(0);
    sharedSet(t, 0, keyOf(13), 0, 0, 0, true, 0, 200);
    expect(sharedFind(t, 0, keyOf(13))).toBe(-1);
    expect(sharedRefused(t)).toBe(1);
  });

  it('count what a shard could not write, until sums are counted anew', () => {
    const t = createIpvsShared(16, 2, 2);
    const scratch = new Int32Array(SHARED_KEY_WORDS);
    for (let k = 0; k < 3; k++) sharedAdd(t, 0, keyOf(k), 0, 1, 0);
    expect(sharedRefused(t)).toBe(1);
    sharedMerge(t, scratch, 0);
    expect([0, 1, 2].map((k) => sharedSum(t, 1, keyOf(k), 0))).toEqual([1, 1, 0]);
    sharedForgetSums(t);
    for (let k = 0; k < 3; k++) sharedRecount(t, keyOf(k), 0, 1, 0);
    expect([0, 1, 2].map((k) => sharedSum(t, 1, keyOf(k), 0))).toEqual([1, 1, 1]);
    expect(sharedRefused(t)).toBe(0);
  });

  it('tell own writes from merged ones, and forget those of a shard whose writer died', () => {
    const t = createIpvsShared(16, 2, 2);
    sharedSet(t, 0, keyOf(1), 5, 0, 0, true, 0, 0);
    expect(isSharedMerged(t, sharedFind(t, 0, keyOf(1)))).toBe(false);
    expect(sharedFind(t, 1, keyOf(1))).toBe(-1);
    sharedMerge(t, new Int32Array(SHARED_KEY_WORDS), 0);
    expect(isSharedMerged(t, sharedFind(t, 0, keyOf(1)))).toBe(true);
    sharedSet(t, 0, keyOf(1), 6, 0, 0, true, 0, 1);
    sharedForgetShard(t, 0);
    expect(sharedRegister(t, sharedFind(t, 0, keyOf(1)), 0)).toBe(5);
    expect(sharedRefused(t)).toBe(1);
  });

  it('refuse what cannot be', () => {
    expect(() => createIpvsShared(16, 5, 2)).toThrow('power of two');
    expect(() => createIpvsShared(16, 2, 0)).toThrow('pending capacity');
    expect(() => attachIpvsShared(new SharedArrayBuffer(64))).toThrow('not a table');
  });
});
