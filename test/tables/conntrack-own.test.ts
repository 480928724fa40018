import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CT_OWN_WORDS,
  createConntrack,
  ctFind4,
  ctInsert4,
  ctMark,
  ctOwn,
  ctPeer,
  ctRemove,
  ctSetMark,
} from '../../engine/src/tables/conntrack.ts';
import { runs } from './runs.ts';

const LATER = 1 << 30;

describe('own words of a slot', () => {
  it('are 0 in a new flow, and move with their slot', () => {
    const step = fc.record({ flow: fc.nat(30), remove: fc.boolean(), value: fc.integer() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
        const ct = createConntrack(4, 24, 1);
        const model = new Map<number, number>();
        const find = (flow: number) => ctFind4(ct, 0, 0, 6, flow, 99, (flow << 16) | 80, 1);
        for (const { flow, remove, value } of steps) {
          let slot = find(flow);
          expect(slot === -1).toBe(!model.has(flow));
          if (remove) {
            if (slot !== -1) ctRemove(ct, 0, slot);
            model.delete(flow);
            continue;
          }
          if (slot === -1) {
            slot = ctInsert4(ct, 0, 0, 6, flow, 99, (flow << 16) | 80, flow, 99, (flow << 16) | 80, 1, 0, LATER, 1);
            if (slot < 0) continue;
            const own = ct.words.subarray(ctOwn(ct, slot), ctOwn(ct, slot) + CT_OWN_WORDS);
            expect([...own]).toEqual(new Array(CT_OWN_WORDS).fill(0));
          }
          const peer = ctPeer(ct, 0, slot);
          ctSetMark(ct, slot, peer, value);
          ct.words[ctOwn(ct, slot) + CT_OWN_WORDS - 1] = value ^ 1;
          ct.words[ctOwn(ct, peer) + CT_OWN_WORDS - 1] = value ^ 2;
          model.set(flow, value);
        }
        for (const [flow, value] of model) {
          const slot = find(flow);
          const peer = ctPeer(ct, 0, slot);
          expect([ctMark(ct, slot), ctMark(ct, peer)]).toEqual([value, value]);
          expect(ct.words[ctOwn(ct, slot) + CT_OWN_WORDS - 1]).toBe(value ^ 1);
          expect(ct.words[ctOwn(ct, peer) + CT_OWN_WORDS - 1]).toBe(value ^ 2);
        }
      }),
      runs(200),
    );
  });

  it('are there or not, in either family, and an IPv4 slot with them is one cache line', () => {
    expect([4, 6].flatMap((family) => [0, 8].map((own) => createConntrack(family, 8, 1, own).slotWords))).toEqual([
      8, 16, 20, 28,
    ]);
    expect(() => createConntrack(4, 8, 1, 4)).toThrow('a slot has 0 or 8 own words, not 4');
  });
});
