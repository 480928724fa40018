/** Policy maps against arrays: every port of every slot, for maps of random intervals. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addInterval,
  attachPolicyMaps,
  countMaps,
  countPortMaps,
  createPolicyMaps,
  findDecision,
  findPortMap,
  firstInterval,
  intervalDecision,
  intervalStart,
  mapDefault,
  PORT_SLOTS,
  policyMapsParts,
  SLOT_OTHER,
  setMapDefault,
  setMapPeer,
  takePortMap,
} from '../../engine/src/tables/policy-map.ts';
import { runs } from './runs.ts';

const PORTS = 65_536;
const SLOTS = PORT_SLOTS + 1;

const port = fc.oneof(fc.nat(PORTS - 1), fc.constantFrom(1, 2, 80, 1023, 1024, 30_000, 65_534, 65_535));
const decision = fc.integer();
/** Where intervals begin, beside port 0, and what they decide. */
const slot = fc.tuple(decision, fc.array(fc.tuple(port, decision), { maxLength: 12 }));
const portMap = fc.array(slot, { minLength: SLOTS, maxLength: SLOTS });

type Intervals = [number, number][];

function intervalsOf([first, others]: [number, Intervals]): Intervals {
  const byStart = new Map<number, number>([...others, [0, first]]);
  return [...byStart].sort(([a], [b]) => a - b);
}

describe('policy maps', () => {
  it('decide every port as an array of all ports does', () => {
    fc.assert(
      fc.property(fc.array(portMap, { minLength: 1, maxLength: 3 }), (given) => {
        const portMaps = given.map((slots) => slots.map(intervalsOf));
        const made = createPolicyMaps(0, portMaps.length, portMaps.flat(2).length, 0);
        portMaps.forEach((slots, m) => {
          expect(takePortMap(made)).toBe(m);
          slots.forEach((intervals, s) => {
            for (const [first, decided] of intervals) expect(addInterval(made, m, s, first, decided)).toBe(0);
          });
        });
        expect(takePortMap(made)).toBe(-1);
        expect(addInterval(made, 0, SLOT_OTHER, 0, 0)).toBe(-1);
        const p = attachPolicyMaps(policyMapsParts(made));
        expect([countMaps(p), countPortMaps(p)]).toEqual([0, portMaps.length]);
        portMaps.forEach((slots, m) => {
          slots.forEach((intervals, s) => {
            const oracle = new Int32Array(PORTS);
            for (const [first, decided] of intervals) oracle.fill(decided, first);
            let wrong = 0;
            for (let at = 0; at < PORTS; at++) if (findDecision(p, m, s, at) !== oracle[at]) wrong++;
            expect(wrong).toBe(0);
            const listed: Intervals = [];
            for (let i = firstInterval(p, m, s); i < firstInterval(p, m, s + 1); i++) {
              listed.push([intervalStart(p, i), intervalDecision(p, i)]);
            }
            expect(listed).toEqual(intervals);
          });
        });
      }),
      runs(12),
    );
  });

  it('give a peer its own port map, all others the default', () => {
    const entry = fc.record({ map: fc.nat(5), peer: fc.nat(20), portMap: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(fc.nat(9), { minLength: 6, maxLength: 6 }), fc.array(entry), (defaults, entries) => {
        const p = createPolicyMaps(6, 10, 0, entries.length);
        const oracle = new Map<string, number>();
        defaults.forEach((given, map) => {
          setMapDefault(p, map, given);
        });
        for (const { map, peer, portMap: given } of entries) {
          expect(setMapPeer(p, map, peer, given)).toBe(0);
          oracle.set(`${map} ${peer}`, given);
        }
        for (let map = 0; map < 6; map++) {
          expect(mapDefault(p, map)).toBe(defaults[map]);
          for (let peer = 0; peer <= 21; peer++) {
            expect(findPortMap(p, map, peer)).toBe(oracle.get(`${map} ${peer}`) ?? defaults[map]);
          }
        }
      }),
      runs(200),
    );
  });

  it('say so when their entries are full', () => {
    const p = createPolicyMaps(1, 1, 1, 1);
    expect([setMapPeer(p, 0, 1, 0), setMapPeer(p, 0, 2, 0)]).toEqual([0, -1]);
  });

  it('refuse buffers that are something else', () => {
    const parts = policyMapsParts(createPolicyMaps(2, 3, 4, 5));
    const cut = new SharedArrayBuffer(parts.words.byteLength);
    new Int32Array(cut).set(new Int32Array(parts.words));
    new Int32Array(cut)[6] = 9;
    expect(() => attachPolicyMaps({ ...parts, words: cut })).toThrow('9 policy maps and 3 port maps do not take');
    expect(() => attachPolicyMaps({ ...parts, words: parts.peers })).toThrow('a hash table where a policy map table');
  });
});
