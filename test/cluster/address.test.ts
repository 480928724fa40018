import { isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addToWords,
  formatEndpoint,
  formatWords,
  inPrefix,
  makePrefix,
  overlaps,
  parseAddress,
  parsePrefix,
  type Words,
} from '../../control/src/model/address.ts';
import { seed } from './support.ts';

const word = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const words6 = fc.tuple(word, word, word, word).map((words): Words => words);
const sparse6 = fc
  .tuple(...Array.from({ length: 8 }, () => fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }))))
  .map((g): Words => [(g[0]! << 16) | g[1]!, (g[2]! << 16) | g[3]!, (g[4]! << 16) | g[5]!, (g[6]! << 16) | g[7]!]);

/** The dumb oracle: 128 bits as one number. */
function bits(words: Words): bigint {
  return words.reduce((sum, w) => (sum << 32n) | BigInt(w >>> 0), 0n);
}

describe('parseAddress', () => {
  it.each([
    ['10.0.0.1', 4, '10.0.0.1'],
    ['010.000.0.01', 4, '10.0.0.1'],
    ['255.255.255.255', 4, '255.255.255.255'],
    ['::', 6, '::'],
    ['::1', 6, '::1'],
    ['2001:DB8:0:0:0:0:0:1', 6, '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', 6, '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', 6, '2001:0:0:1::1'],
    ['2001:db8::1:0:0:1', 6, '2001:db8::1:0:0:1'],
    ['::ffff:10.0.0.1', 4, '10.0.0.1'],
    ['::ffff:010.0.0.1', 4, '10.0.0.1'],
    ['::ffff:0a00:0001', 4, '10.0.0.1'],
    ['64:ff9b::192.0.2.1', 6, '64:ff9b::c000:201'],
    ['0:0:0:0:0:0:0:0', 6, '::'],
  ])('%s', (text, family, canonical) => {
    expect(parseAddress(text)).toMatchObject({ family, text: canonical });
  });

  it.each([
    '',
    ' ',
    '10',
    '10.1',
    '10.0.0',
    '10.0.0.256',
    '10.0.0.0.1',
    '10.0.0.-1',
    '0x0a.0.0.1',
    '10.0.0.1 ',
    '1e1.0.0.1',
    '10.0.0.1:80',
    '[::1]',
    'fe80::1%eth0',
    ':::',
    '1::2::3',
    '12345::',
    '::ffff:10.0.0.256',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    'g::',
    'localhost',
    '10.0.0.1/32',
    '::10.0.0.1.1',
    '99999999999.0.0.1',
  ])('refuses %j', (text) => {
    expect(parseAddress(text)).toBeNull();
  });

  it('keeps words in host order', () => {
    expect(parseAddress('255.0.0.1')!.words).toEqual([(255 << 24) | 1, 0, 0, 0]);
    expect(parseAddress('2001:db8::ffff:1')!.words).toEqual([0x20010db8, 0, 0, 0xffff0001 | 0]);
  });

  it('reads back what it writes, in the form of RFC 5952', () => {
    fc.assert(
      fc.property(fc.oneof(words6, sparse6), (words) => {
        const text = formatWords(6, words);
        expect(isIPv6(text)).toBe(true);
        // The URL parser of the platform writes RFC 5952 too.
        expect(`[${text}]`).toBe(new URL(`http://[${text}]/`).hostname);
        const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
        expect(parseAddress(text)?.words).toEqual(mapped ? [words[3], 0, 0, 0] : words);
      }),
      { seed: seed() },
    );
    fc.assert(
      fc.property(word, (w) => {
        const text = formatWords(4, [w, 0, 0, 0]);
        expect(isIPv4(text)).toBe(true);
        expect(parseAddress(text)?.words).toEqual([w, 0, 0, 0]);
      }),
      { seed: seed() },
    );
  });

  it('agrees with the platform on what is an IPv6 address', () => {
    const piece = fc.constantFrom(':', '::', '0', '1', 'ffff', '10.0.0.1', '2001', 'db8', 'g', '%', '/', '12345', '.');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join('');
        if (!text.includes(':') || text.includes('%')) return;
        expect(parseAddress(text) !== null).toBe(isIPv6(text));
      }),
      { seed: seed() },
    );
  });
});

describe('parsePrefix', () => {
  it.each([
    ['10.0.0.0/8', '10.0.0.0/8', false],
    ['10.1.2.3/08', '10.0.0.0/8', true],
    ['010.0.0.0/024', '10.0.0.0/24', false],
    ['0.0.0.0/0', '0.0.0.0/0', false],
    ['255.255.255.255/32', '255.255.255.255/32', false],
    ['2001:db8::1/32', '2001:db8::/32', true],
    ['::/0', '::/0', false],
    ['::1/128', '::1/128', false],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8', false],
  ])('%s', (text, canonical, hostBits) => {
    expect(parsePrefix(text)).toMatchObject({ text: canonical, hostBits });
  });

  it.each([
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '::/129',
    '/8',
    '10.0.0.0/a',
    '10.0.0.0/ 8',
    '::ffff:10.0.0.0/8',
  ])('refuses %j', (text) => {
    expect(parsePrefix(text)).toBeNull();
  });

  it('holds what arithmetic says it holds', () => {
    const length = fc.integer({ min: 0, max: 128 });
    fc.assert(
      fc.property(words6, length, words6, length, fc.integer({ min: 0, max: 128 }), (a, la, b, lb, shared) => {
        // Addresses that share a random number of leading bits: else nothing is ever inside.
        const mask = ((1n << 128n) - 1n) ^ ((1n << BigInt(128 - shared)) - 1n);
        const joined = (bits(a) & mask) | (bits(b) & ~mask & ((1n << 128n) - 1n));
        const near: Words = [0, 1, 2, 3].map((i) => Number((joined >> BigInt(96 - 32 * i)) & 0xffffffffn) | 0) as never;
        const prefix = makePrefix(6, a, la);
        const inside = bits(a) >> BigInt(128 - la) === bits(near) >> BigInt(128 - la);
        expect(inPrefix({ family: 6, words: near }, prefix)).toBe(inside);
        expect(bits(prefix.words)).toBe((bits(a) >> BigInt(128 - la)) << BigInt(128 - la));
        const short = BigInt(128 - Math.min(la, lb));
        expect(overlaps(prefix, makePrefix(6, near, lb))).toBe(bits(a) >> short === bits(near) >> short);
      }),
      { seed: seed() },
    );
    expect(inPrefix(parseAddress('10.0.0.1')!, parsePrefix('::/0')!)).toBe(false);
  });

  it('counts on from an address', () => {
    fc.assert(
      fc.property(words6, fc.integer({ min: 0, max: 2 ** 48 }), (words, offset) => {
        expect(bits(addToWords(6, words, offset))).toBe((bits(words) + BigInt(offset)) & ((1n << 128n) - 1n));
      }),
      { seed: seed() },
    );
    expect(formatWords(4, addToWords(4, [(10 << 24) | 0xffffff, 0, 0, 0], 1))).toBe('11.0.0.0');
  });

  it('writes endpoints', () => {
    expect(formatEndpoint(parseAddress('10.0.0.1')!, 80)).toBe('10.0.0.1:80');
    expect(formatEndpoint(parseAddress('2001:DB8::1')!, 80)).toBe('[2001:db8::1]:80');
  });
});
