import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changeElement, findAdded, nextNumber } from '../../engine/src/programs/nft-dynamic.ts';
import { affinityMerge } from '../../engine/src/tables/affinity.ts';
import {
  DYNAMIC_ADD,
  DYNAMIC_DELETE,
  DYNAMIC_UPDATE,
  NFT_ACCEPT,
  SELECT_SADDR4,
} from '../../engine/src/tables/nft-rules.ts';
import { findNftElement, writeNftSet } from '../../engine/src/tables/nft-sets.ts';
import { HOOK_PREROUTING } from '../../engine/src/tables/rule-list.ts';
import { createBurst } from '../../engine/src/wire/burst.ts';
import { runs } from '../tables/runs.ts';
import { podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { sendOne, tcp, udp } from './fixture.ts';
import { buildNftDatapath, drop, increment, load, lookup, type NftRule, update, vmap } from './nft-fixture.ts';
import { AFFINITY_MS, kubeProxy } from './nft-kube-proxy.ts';

const SYN = 0x02;
const FOUR = kubeProxy(4);
const SIX = kubeProxy(6);

for (const family of [4, 6] as const) {
  describe(`IPv${family}: session affinity in a dynamic set`, () => {
    const kube = (shards = 1) => buildNftDatapath(FOUR, SIX, { shards, flows: 4096 });
    const targetOf = (dp: ReturnType<typeof kube>, port: number, timeMs: number, shard = 0) =>
      sendOne(
        dp,
        { pod: podOne, timeMs, shard, flowHash: Math.imul(port, 0x9e3779b1) },
        tcp(podOne[family], port, svcOne[family], 8443, SYN),
      ).target;

    it('keeps a client with its backend, and forgets it when its time is over', () => {
      const dp = kube();
      const first = targetOf(dp, 40000, 0);
      let now = 0;
      for (let i = 1; i <= 20; i++) {
        // Each new connection renews the stamp.
        now += AFFINITY_MS - 1;
        expect(targetOf(dp, 40000 + i, now)).toBe(first);
      }
      const later = new Set<number>();
      for (let i = 0; i < 20; i++) {
        now += AFFINITY_MS;
        later.add(targetOf(dp, 41000 + i, now));
      }
      expect([...later].sort()).toEqual([podTwo.index, podThree.index]);
    });

    it('is known to the shard at once and to the others from the next tick on', () => {
      const dp = kube(4);
      const first = targetOf(dp, 40000, 0, 1);
      for (let i = 0; i < 8; i++) expect(targetOf(dp, 40100 + i, 1, 1)).toBe(first);
      const others = new Set<number>();
      for (let i = 0; i < 20; i++) {
        const fresh = kube(4);
        targetOf(fresh, 40000, 0, 1);
        others.add(targetOf(fresh, 40200 + i, 1, 2));
      }
      expect(others.size).toBe(2);
      affinityMerge(dp.affinity);
      for (let i = 0; i < 8; i++) expect(targetOf(dp, 40300 + i, 2, 3)).toBe(first);
    });
  });
}

describe('a dynamic set', () => {
  // The compiled elements 1 and 2 stay; packets add and remove.
  const set = writeNftSet({ id: 0, fields: [1], valueWords: 0, stamps: 0, lifeMs: 50 }, [
    { id: 0, first: [1], last: null, value: [] },
    { id: 1, first: [2], last: null, value: [] },
  ]);
  const step = fc.record({
    how: fc.constantFrom(DYNAMIC_ADD, DYNAMIC_UPDATE, DYNAMIC_DELETE),
    key: fc.nat(5),
    life: fc.constantFrom(-1, -1, 0, 20),
    wait: fc.nat(40),
  });

  it('behaves as a map of expiry times', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(0, 0x7fffff00), (steps, start) => {
        const dp = buildNftDatapath();
        const b = createBurst(1);
        const registers = new Int32Array(4);
        const expiry = new Map<number, number>();
        let now = start;
        const isThere = (key: number) => {
          const until = expiry.get(key);
          // What has expired leaves the compiled element as it was; what was deleted does not.
          if (until === undefined || (until !== -1 && until <= now)) return key === 1 || key === 2;
          return until !== -1;
        };
        for (const { how, key, life, wait } of steps) {
          now += wait;
          b.timeMs[0] = now;
          registers[0] = key;
          const there = isThere(key);
          const stamped = expiry.has(key) && there && expiry.get(key)! > now;
          const held = changeElement(dp, b, 0, set, 0, registers, 0, how, life);
          if (how === DYNAMIC_DELETE) {
            expect(held).toBe(there);
            if (there) expiry.set(key, -1);
          } else {
            expect(held).toBe(true);
            if (!there || (stamped && how === DYNAMIC_UPDATE)) {
              const lives = life === -1 ? 50 : life;
              expiry.set(key, lives === 0 ? Number.POSITIVE_INFINITY : now + lives);
            }
          }
          for (let k = 0; k <= 5; k++) {
            registers[0] = k;
            const added = findAdded(dp, b, 0, set, 0, registers, 0);
            const found = added === 1 || (added === -1 && findNftElement(set, 0, registers, 0) !== -1);
            expect(found).toBe(isThere(k));
          }
        }
      }),
      runs(300),
    );
  });

  it('is each node’s own', () => {
    const rule: NftRule = [...load(SELECT_SADDR4), lookup('seen'), drop];
    const dp = buildNftDatapath({
      sets: { seen: { fields: [1], data: 0, stamps: 0, elements: [] } },
      chains: { pre: [rule, [...load(SELECT_SADDR4), update('seen')]] },
      bases: [{ chain: 'pre', hook: HOOK_PREROUTING }],
    });
    const again = () => sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podTwo[4], 2)).verdict;
    // The frame passes both nodes, and each sees its sender once.
    expect(again()).toBe('delivered');
    expect(again()).toBe('dropped');
  });
});

describe('numgen inc', () => {
  it('counts by node and shard, and goes round', () => {
    const dp = buildNftDatapath(undefined, undefined, { shards: 2 });
    const b = createBurst(1);
    const take = (node: number, shard: number, counter: number) => {
      b.node[0] = node;
      b.shard[0] = shard;
      return nextNumber(dp, b, 0, counter, 3);
    };
    expect([0, 1, 2, 3].map(() => take(0, 0, 0))).toEqual([0, 1, 2, 0]);
    expect([0, 1].map(() => take(0, 1, 0))).toEqual([0, 1]);
    expect([0, 1].map(() => take(1, 0, 0))).toEqual([0, 1]);
    expect([0, 1].map(() => take(0, 0, 1))).toEqual([0, 1]);
    affinityMerge(dp.affinity);
    expect(take(0, 0, 0)).toBe(1);
    expect(take(0, 1, 0)).toBe(2);
  });

  it('is a choice point that a probe leaves alone', () => {
    const dp = buildNftDatapath({
      chains: {
        pre: [
          [increment(2, 0, 5), vmap({ fields: [1], data: 'verdict', elements: [{ first: [5], verdict: NFT_ACCEPT }] })],
          [drop],
        ],
      },
      bases: [{ chain: 'pre', hook: HOOK_PREROUTING }],
    });
    const sent = (choice: number) => {
      dp.ring.points = 0;
      return sendOne(dp, { pod: podOne, choice }, udp(podOne[4], 1, podThree[4], 2)).verdict;
    };
    expect([-1, -1, -1].map(sent)).toEqual(['delivered', 'dropped', 'delivered']);
    dp.ring.script[0] = 1;
    expect([0, 0].map(sent)).toEqual(['dropped', 'dropped']);
    expect(dp.ring.options[0]).toBe(2);
    expect(sent(-1)).toBe('dropped');
  });
});
