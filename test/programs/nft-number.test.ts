import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { drawHash, drawRandom, drawSymmetric } from '../../engine/src/programs/nft-number.ts';
import { jhash } from '../../engine/src/tables/hash.ts';
import { HASH_NATIVE, HASH_NETWORK8, HASH_NETWORK16, HASH_NETWORK32 } from '../../engine/src/tables/nft-rules.ts';
import { createBurst } from '../../engine/src/wire/burst.ts';
import { hashLittle } from '../tables/lookup3.ts';
import { runs } from '../tables/runs.ts';
import { buildNftDatapath } from './nft-fixture.ts';

const LOCALHOST = 0x7f000001;

/** `jhash … mod 16 seed 0x12345678` of fields in registers. */
function seeded(key: readonly number[], orders: readonly number[], length: number): number {
  const registers = Int32Array.of(0, 0, ...key);
  const expression = Int32Array.of(14 | ((8 + key.length) << 8), 16, 0, 0, 1, 0x12345678, length, 2, ...orders);
  return drawHash(buildNftDatapath(), createBurst(1), 0, expression, 0, 0, registers);
}

describe('jhash of nftables', () => {
  it('is the kernel’s', () => {
    // Linux 6.18, nft 1.0.6: `jhash ip saddr . udp dport mod 16 seed 0x12345678` of packets from 127.0.0.1.
    const pair = (port: number) => seeded([LOCALHOST, port], [HASH_NETWORK32, HASH_NETWORK16], 8);
    expect([7001, 7002, 7003, 7050].map(pair)).toEqual([3, 10, 14, 12]);
    // `jhash udp dport mod 16 seed 0x12345678`.
    const single = (port: number) => seeded([port], [HASH_NETWORK16], 2);
    expect([7201, 7202, 7250].map(single)).toEqual([15, 2, 15]);
  });

  it('agrees with a plain lookup3 over keys of any length', () => {
    const field = fc.constantFrom(HASH_NETWORK32, HASH_NETWORK16, HASH_NETWORK8, HASH_NATIVE);
    fc.assert(
      fc.property(fc.array(fc.tuple(field, fc.nat(0xffffffff)), { minLength: 1, maxLength: 9 }), (drawn) => {
        const bytes: number[] = [];
        const key = drawn.map(([order, value]) => {
          const bits = order === HASH_NATIVE ? 32 : 32 - order;
          const word = bits === 32 ? value | 0 : value & (2 ** bits - 1);
          const register = new Uint8Array(4);
          const view = new DataView(register.buffer);
          if (order === HASH_NATIVE) view.setInt32(0, word, true);
          else if (bits === 32) view.setInt32(0, word);
          else if (bits === 16) view.setUint16(0, word);
          else view.setUint8(0, word);
          bytes.push(...register);
          return word;
        });
        const orders = drawn.map(([order]) => order);
        const hash = hashLittle(Uint8Array.from(bytes), 0x12345678);
        expect(seeded(key, orders, bytes.length)).toBe(Math.floor((hash / 2 ** 32) * 16));
      }),
      runs(300),
    );
  });

  it('counts the bytes of a single short field', () => {
    const words = Int32Array.of(0x3412);
    expect(jhash(words, 0, 1, 2, 7) >>> 0).toBe(hashLittle(Uint8Array.of(0x12, 0x34), 7));
    expect(jhash(words, 0, 1, 4, 7)).not.toBe(jhash(words, 0, 1, 2, 7));
  });
});

describe('random numbers of nftables', () => {
  const dp = buildNftDatapath();
  const b = createBurst(1);

  it('lie between the offset and the modulus behind it, whatever the modulus', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 0x7fffffff }),
        fc.nat(1000),
        fc.integer(),
        fc.nat(9),
        (modulus, offset, flow, rule) => {
          b.choice[0] = -1;
          b.flowHash[0] = flow;
          const expression = Int32Array.of(0, modulus, offset, 0);
          for (const taken of [
            drawRandom(dp, b, 0, expression, 0, rule, 2),
            drawSymmetric(dp, b, 0, expression, 0, rule),
          ]) {
            expect(Number.isInteger(taken)).toBe(true);
            expect(taken).toBeGreaterThanOrEqual(offset);
            expect(taken).toBeLessThan(offset + modulus);
          }
        },
      ),
      runs(300),
    );
  });

  it('of one flow differ from rule to rule and within a rule', () => {
    b.choice[0] = -1;
    const expression = Int32Array.of(0, 1 << 20, 0, 0);
    const drawn = new Set<number>();
    for (let rule = 0; rule < 10; rule++) {
      for (const salt of [2, 6, 11]) drawn.add(drawRandom(dp, b, 0, expression, 0, rule, salt));
    }
    expect(drawn.size).toBeGreaterThan(28);
  });

  it('follow the script of a probe', () => {
    b.choice[0] = 0;
    dp.ring.points = 0;
    dp.ring.script[0] = 2;
    expect(drawRandom(dp, b, 0, Int32Array.of(0, 3, 10, 0), 0, 0, 2)).toBe(12);
    expect(dp.ring.options[0]).toBe(3);
  });
});
