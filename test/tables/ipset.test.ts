import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachIpSets,
  countElements,
  findInSet,
  type IpSets,
  IpSetsBuilder,
  isSetOfFamily,
  SET_ADDRESS,
  SET_ADDRESS_ADDRESS,
  SET_ADDRESS_PORT,
  SET_ADDRESS_PORT_ADDRESS,
  SET_BITMAP_PORT,
  type SetElement,
  setInstance,
  setType,
} from '../../engine/src/tables/ipset.ts';
import { runs } from './runs.ts';

const NOTHING: SetElement = {
  id: 0,
  address1: [0, 0, 0, 0],
  length1: 0,
  proto: 0,
  port: 0,
  address2: [0, 0, 0, 0],
  length2: 0,
  nomatch: false,
};

type Words = readonly [number, number, number, number];

interface DrawnElement extends SetElement {
  readonly address1: Words;
  readonly address2: Words;
}

interface Key {
  readonly port: number;
  readonly a: Words;
  readonly b: Words;
}

function find(t: IpSets, instance: number, { port, a, b }: Key): number {
  return findInSet(t, instance, port, a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]);
}

/** The first `length` bits of an address as text of 0 and 1. */
function bits(address: readonly number[], length: number): string {
  const all = address.map((word) => (word >>> 0).toString(2).padStart(32, '0')).join('');
  return all.slice(0, length);
}

/** The dumb set: all elements that hold the key, of these the one with the longest first, then second prefix. */
function oracle(type: number, elements: readonly SetElement[], { port, a, b }: Key): number {
  const has1 = type !== SET_BITMAP_PORT;
  const has2 = type === SET_ADDRESS_PORT_ADDRESS || type === SET_ADDRESS_ADDRESS;
  const hasPort = type !== SET_ADDRESS && type !== SET_ADDRESS_ADDRESS;
  let best: SetElement | null = null;
  for (const element of elements) {
    if (has1 && bits(element.address1, element.length1) !== bits(a, element.length1)) continue;
    if (has2 && bits(element.address2, element.length2) !== bits(b, element.length2)) continue;
    const own = type === SET_BITMAP_PORT ? element.port : (element.proto << 16) | element.port;
    if (hasPort && own !== port) continue;
    const n1 = has1 ? element.length1 : 0;
    const n2 = has2 ? element.length2 : 0;
    const best1 = best === null || !has1 ? 0 : best.length1;
    const best2 = best === null || !has2 ? 0 : best.length2;
    if (best === null || n1 > best1 || (n1 === best1 && n2 >= best2)) best = element;
  }
  return best === null ? -1 : (best.id << 1) | (best.nomatch ? 1 : 0);
}

const TYPES = [SET_ADDRESS, SET_ADDRESS_PORT, SET_ADDRESS_PORT_ADDRESS, SET_ADDRESS_ADDRESS, SET_BITMAP_PORT];

/** Few bits, so that keys and elements meet: addresses differ in their first and last words only. */
const smallWord = fc.constantFrom(0, 1, 2, 3, 0x0a000000, 0x0a000001, 0x0a010000, -0x80000000, -1);

function address(family: number) {
  return family === 4
    ? smallWord.map((word): Words => [word, 0, 0, 0])
    : fc.tuple(smallWord, fc.constantFrom(0, 1), fc.constant(0), smallWord);
}

function setOf(type: number, family: number) {
  const most = family === 4 ? 32 : 128;
  const length = fc.oneof(fc.constant(most), fc.constantFrom(0, 1, 8, 16, 24, 31, most - 1), fc.nat(most));
  const element = fc.record({
    address1: address(family),
    length1: length,
    proto: fc.constantFrom(6, 17, 132),
    port: fc.nat(3),
    address2: address(family),
    length2: length,
    nomatch: fc.boolean(),
  });
  const key = fc.record({
    port: fc
      .tuple(fc.constantFrom(6, 17, 132), fc.nat(3))
      .map(([proto, port]) => (type === SET_BITMAP_PORT ? port : (proto << 16) | port)),
    a: address(family),
    b: address(family),
  });
  return fc.record({
    type: fc.constant(type),
    family: fc.constant(family),
    elements: fc
      .array(element, { maxLength: 30 })
      .map((list) => list.map((values, id): DrawnElement => ({ ...values, id }))),
    keys: fc.array(key, { minLength: 1, maxLength: 30 }),
  });
}

const anySet = fc
  .tuple(fc.constantFrom(...TYPES), fc.constantFrom(4, 6))
  .chain(([type, family]) => setOf(type, family));

describe('ipsets', () => {
  it('answer as a list that is searched for the longest prefixes, one set not disturbing the others', () => {
    fc.assert(
      fc.property(fc.array(anySet, { minLength: 1, maxLength: 4 }), (sets) => {
        const builder = new IpSetsBuilder(2, sets.length);
        const instances = sets.map(({ type, family, elements }) => builder.instance(type, family, elements));
        instances.forEach((instance, set) => {
          builder.place(set % 2, set, instance);
        });
        const t = attachIpSets(builder.build().buffer);
        sets.forEach(({ type, family, elements, keys }, set) => {
          const instance = setInstance(t, set % 2, set);
          expect(instance).toBe(instances[set]);
          expect(setInstance(t, 1 - (set % 2), set)).toBe(-1);
          expect(setType(t, instance)).toBe(type);
          expect(isSetOfFamily(t, instance, family)).toBe(true);
          expect(isSetOfFamily(t, instance, 10 - family)).toBe(false);
          const own = elements.map(
            ({ address1, port, proto, address2 }): Key => ({
              port: type === SET_BITMAP_PORT ? port : (proto << 16) | port,
              a: address1,
              b: address2,
            }),
          );
          for (const key of [...keys, ...own]) {
            const bare = type === SET_ADDRESS || type === SET_ADDRESS_ADDRESS ? { ...key, port: 0 } : key;
            expect(find(t, instance, bare)).toBe(oracle(type, elements, bare));
          }
        });
      }),
      runs(200),
    );
  });

  it('hold a bitmap:port of no family in both', () => {
    const builder = new IpSetsBuilder(1, 1);
    builder.place(0, 0, builder.instance(SET_BITMAP_PORT, 0, [{ ...NOTHING, id: 5, port: 30_080 }]));
    const t = builder.build();
    const instance = setInstance(t, 0, 0);
    expect(isSetOfFamily(t, instance, 4) && isSetOfFamily(t, instance, 6)).toBe(true);
    expect(find(t, instance, { port: 30_080, a: [0, 0, 0, 0], b: [0, 0, 0, 0] })).toBe(5 << 1);
    expect(find(t, instance, { port: 30_081, a: [0, 0, 0, 0], b: [0, 0, 0, 0] })).toBe(-1);
    expect(countElements(t)).toBe(1);
  });

  it('let the longest prefix decide, and nomatch take a piece out of a network', () => {
    const net = (id: number, word: number, length1: number, nomatch: boolean): SetElement => ({
      ...NOTHING,
      id,
      address1: [word, 0, 0, 0],
      length1,
      nomatch,
    });
    const builder = new IpSetsBuilder(1, 1);
    const list = [net(1, 0x0a000000, 8, false), net(2, 0x0a010000, 16, true), net(3, 0x0a010200, 24, false)];
    builder.place(0, 0, builder.instance(SET_ADDRESS, 4, list));
    const t = builder.build();
    const ask = (word: number) => findInSet(t, setInstance(t, 0, 0), 0, word, 0, 0, 0, 0, 0, 0, 0);
    expect([0x0a000001, 0x0a010001, 0x0a010201, 0x0b000001].map(ask)).toEqual([2, 5, 6, -1]);
  });

  it('refuse what cannot be', () => {
    const builder = new IpSetsBuilder(1, 1);
    expect(() => builder.place(0, 1, 0)).toThrow('set 1 of 1');
    builder.place(0, 0, 3);
    expect(() => builder.build()).toThrow('no instance 3');
    const long = new IpSetsBuilder(1, 1);
    long.place(0, 0, long.instance(SET_ADDRESS, 4, [{ ...NOTHING, length1: 33 }]));
    expect(() => long.build()).toThrow('0 to 32, not 33');
    const far = new IpSetsBuilder(1, 1);
    far.place(1, 0, far.instance(SET_ADDRESS, 4, []));
    expect(() => far.build()).toThrow('node 1 of 1');
    expect(() => attachIpSets(new SharedArrayBuffer(64))).toThrow('not a table');
  });
});
