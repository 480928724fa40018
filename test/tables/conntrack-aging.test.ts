import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Conntrack,
  CT_ASSURED,
  CT_FULL,
  createConntrack,
  ctFind4,
  ctFlows,
  ctHash4,
  ctInsert4,
  ctPeer,
  ctTouch,
} from '../../engine/src/tables/conntrack.ts';
import { ctEarlyDrop, ctEvictOldest, ctSweep } from '../../engine/src/tables/conntrack-aging.ts';
import { runs } from './runs.ts';

const TCP = 6;
/** Lives of two states: 0 = half open, 1 = established. */
const LIFETIME_MS = Int32Array.from([60_000, 8_000_000, ...new Array(14).fill(0)]);

function add(ct: Conntrack, n: number, state: number, flags: number, nowMs: number): number {
  const expiry = nowMs + LIFETIME_MS[state]!;
  return ctInsert4(ct, 0, 0, TCP, n, 9, n << 16, n, 9, n << 16, state, flags, expiry, nowMs);
}

function has(ct: Conntrack, n: number, nowMs: number): boolean {
  return ctFind4(ct, 0, 0, TCP, n, 9, n << 16, nowMs) !== -1;
}

function hashOf(n: number): number {
  return ctHash4(0, TCP, n, 9, n << 16);
}

describe('ctEvictOldest', () => {
  it('takes the flow that carried no packet for longest, whatever its state would still live', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ state: fc.nat(1), sentAt: fc.nat(50_000), answeredAt: fc.nat(50_000) }), {
          minLength: 1,
          maxLength: 4,
        }),
        fc.nat(1000),
        (flows, newcomer) => {
          // Four flows are eight slots: the sample is the whole shard.
          const ct = createConntrack(4, 4, 1);
          const nowMs = 50_001;
          flows.forEach((flow, n) => {
            const slot = add(ct, n + 1, flow.state, 0, flow.sentAt);
            ctTouch(ct, ctPeer(ct, 0, slot), flow.answeredAt + LIFETIME_MS[flow.state]!);
          });
          const used = flows.map((flow) => Math.max(flow.sentAt, flow.answeredAt));
          expect(ctEvictOldest(ct, 0, hashOf(1000 + newcomer), LIFETIME_MS, nowMs)).toBe(1);
          expect(ctFlows(ct, 0)).toBe(flows.length - 1);
          const gone = flows.findIndex((_, n) => !has(ct, n + 1, nowMs));
          expect(used[gone]).toBe(Math.min(...used));
        },
      ),
      runs(300),
    );
  });

  it('takes an expired flow before any living one', () => {
    const ct = createConntrack(4, 4, 1);
    add(ct, 1, 1, 0, 0);
    add(ct, 2, 0, 0, 10);
    add(ct, 3, 1, 0, 5);
    expect(ctEvictOldest(ct, 0, hashOf(77), LIFETIME_MS, 60_010)).toBe(1);
    expect([1, 2, 3].map((n) => has(ct, n, 60_009))).toEqual([true, false, true]);
  });

  it('answers 0 for an empty shard', () => {
    expect(ctEvictOldest(createConntrack(4, 4, 2), 1, 5, LIFETIME_MS, 0)).toBe(0);
  });

  it('lets a flood through a full shard while the flows in use stay', () => {
    const ct = createConntrack(4, 1024, 1);
    const used = 128;
    let nowMs = 0;
    for (let n = 1; n <= used; n++) add(ct, n, 1, CT_ASSURED, nowMs);
    let lost = 0;
    for (let flood = 0; flood < 10_000; flood++) {
      nowMs++;
      const n = 10_000 + flood;
      if (add(ct, n, 0, 0, nowMs) === CT_FULL) {
        expect(ctEvictOldest(ct, 0, hashOf(n), LIFETIME_MS, nowMs)).toBe(1);
        expect(add(ct, n, 0, 0, nowMs)).toBeGreaterThan(0);
      }
      // A used flow sends every 128 ms; in a full shard an entry of the flood would be some 900 ms old before its turn.
      const flow = 1 + (flood % used);
      const slot = ctFind4(ct, 0, 0, TCP, flow, 9, flow << 16, nowMs);
      if (slot === -1) {
        lost++;
        add(ct, flow, 1, CT_ASSURED, nowMs);
      } else ctTouch(ct, slot, nowMs + LIFETIME_MS[1]!);
    }
    expect(ctFlows(ct, 0)).toBeLessThanOrEqual(1024);
    // Established flows keep 99 % under a flood.
    expect(lost).toBeLessThan(100);
  });
});

describe('ctEarlyDrop', () => {
  it('takes an unassured or expired flow if there is one, never an assured living one', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ assured: fc.boolean(), age: fc.nat(80_000) }), { minLength: 1, maxLength: 8 }),
        fc.nat(1000),
        (flows, newcomer) => {
          // Eight flows are sixteen slots: the search sees the whole shard.
          const ct = createConntrack(4, 8, 1);
          const nowMs = 80_000;
          flows.forEach((flow, n) => {
            add(ct, n + 1, 0, flow.assured ? CT_ASSURED : 0, nowMs - flow.age);
          });
          const safe = flows.map((flow) => flow.assured && flow.age < 60_000);
          const dropped = ctEarlyDrop(ct, 0, hashOf(1000 + newcomer), nowMs);
          expect(dropped).toBe(safe.includes(false) ? 1 : 0);
          expect(ctFlows(ct, 0)).toBe(flows.length - dropped);
          flows.forEach((_, n) => {
            if (safe[n]) expect(has(ct, n + 1, nowMs)).toBe(true);
          });
        },
      ),
      runs(300),
    );
  });

  it('refuses the newcomer in a shard full of assured flows', () => {
    const ct = createConntrack(4, 100, 1);
    for (let n = 1; n <= 100; n++) add(ct, n, 1, CT_ASSURED, 0);
    expect(add(ct, 101, 0, 0, 1)).toBe(CT_FULL);
    expect(ctEarlyDrop(ct, 0, hashOf(101), 1)).toBe(0);
    expect(ctFlows(ct, 0)).toBe(100);
  });
});

describe('ctSweep', () => {
  it('goes on where it ended and frees everything that has expired in one round', () => {
    const ct = createConntrack(4, 1000, 1);
    for (let n = 1; n <= 1000; n++) add(ct, n, n % 2, 0, 0);
    let freed = 0;
    const slots = ct.mask + 1;
    // One round, and one look more for each removal: what moves into the freed slot is looked at as well.
    for (let looked = 0; looked < slots + 500; looked += 4) freed += ctSweep(ct, 0, 60_000, 4);
    expect(freed).toBe(500);
    expect(ctFlows(ct, 0)).toBe(500);
    for (let n = 1; n <= 1000; n++) expect(has(ct, n, 60_000)).toBe(n % 2 === 1);
    expect(ctSweep(ct, 0, 60_000, slots)).toBe(0);
  });

  it('costs nothing in an empty shard', () => {
    expect(ctSweep(createConntrack(6, 8, 4), 3, 0, 1_000_000_000)).toBe(0);
  });
});
