import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatAddress, formatEndpoint, formatMac } from '../../engine/src/wire/address.ts';
import { addressOf, runs } from './support.ts';

describe('formatAddress', () => {
  it.each([
    [[0, 0, 0, 0], '::'],
    [[0, 0, 0, 1], '::1'],
    [[0x20010db8, 0, 0, 1], '2001:db8::1'],
    [[0x20010db8, 0, 0, 0], '2001:db8::'],
    [[0x20010db8, 0x00000001, 0x00010001, 0x00010001], '2001:db8:0:1:1:1:1:1'],
    [[0x20010db8, 0, 0x00010000, 0x00000001], '2001:db8::1:0:0:1'],
    [[0x20010000, 0x00000001, 0, 0x00000001], '2001:0:0:1::1'],
    [[0, 0x00010002, 0x00030004, 0x00050006], '::1:2:3:4:5:6'],
    [[0, 0, 0xffff, 0xc0000201], '::ffff:192.0.2.1'],
    [[-1, -1, -1, -1], 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    [[0x20010db8, 0xaaaabbbb, 0xccccdddd, 0xeeee0001], '2001:db8:aaaa:bbbb:cccc:dddd:eeee:1'],
  ])('writes %j as RFC 5952 text', ([w0, w1, w2, w3], text) => {
    expect(formatAddress(6, w0, w1, w2, w3)).toBe(text);
  });

  it('writes IPv4 from signed and unsigned words', () => {
    expect(formatAddress(4, 0xc0000201, 0, 0, 0)).toBe('192.0.2.1');
    expect(formatAddress(4, 0xc0000201 | 0, 0, 0, 0)).toBe('192.0.2.1');
    expect(formatAddress(4, 0, 0, 0, 0)).toBe('0.0.0.0');
  });

  it('agrees with the URL parser, which also writes the short form', () => {
    fc.assert(
      fc.property(addressOf(6), ([w0, w1, w2, w3]) => {
        const text = formatAddress(6, w0, w1, w2, w3);
        expect(isIPv6(text)).toBe(true);
        // The URL standard writes mapped addresses in hex.
        if (!text.includes('.')) expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
      }),
      runs(500),
    );
  });
});

describe('formatEndpoint and formatMac', () => {
  it('puts IPv6 into brackets', () => {
    expect(formatEndpoint(4, 0x0a000001, 0, 0, 0, 80)).toBe('10.0.0.1:80');
    expect(formatEndpoint(6, 0, 0, 0, 1, 80)).toBe('[::1]:80');
  });

  it('writes all six bytes', () => {
    expect(formatMac(0x0200_0000_000a)).toBe('02:00:00:00:00:0a');
    expect(formatMac(0xffff_ffff_ffff)).toBe('ff:ff:ff:ff:ff:ff');
  });
});
