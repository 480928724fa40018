import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  applyDelta,
  checksum,
  delta16,
  delta32,
  foldSum,
  onesSum,
  pseudoSum4,
  pseudoSum6,
  updateChecksum16,
  updateChecksum32,
} from '../../engine/src/wire/checksum.ts';
import { crc32c, crc32cUpdate, crc32cZeros, updateCrc32c } from '../../engine/src/wire/crc32c.ts';
import { hex, plainChecksum, port, runs } from './support.ts';

describe('checksum', () => {
  it('adds the example of RFC 1071 §3', () => {
    const bytes = hex('0001 f203 f4f5 f6f7');
    expect(foldSum(onesSum(bytes, 0, 8, 0))).toBe(0xddf2);
    expect(checksum(bytes, 0, 8, 0)).toBe(0x220d);
  });

  it('gives the known checksum of a header', () => {
    const header = hex('4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7');
    expect(checksum(header, 0, 20, 0)).toBe(0xb861);
    header.set(hex('b861'), 10);
    expect(checksum(header, 0, 20, 0)).toBe(0);
  });

  it('takes the odd last byte as a high half and nothing behind it', () => {
    expect(foldSum(onesSum(hex('01 ff'), 0, 1, 0))).toBe(0x0100);
  });

  it('is 0xFFFF over zeros only', () => {
    expect(checksum(new Uint8Array(40), 0, 40, 0)).toBe(0xffff);
    expect(foldSum(0)).toBe(0);
    expect(foldSum(0xffff_0000)).toBe(0xffff);
  });

  it('does not overflow over the longest packet of all ones', () => {
    const bytes = new Uint8Array(65_575).fill(0xff);
    expect(checksum(bytes, 0, bytes.length, 0)).toBe(plainChecksum(bytes));
  });

  it('agrees with the definition at every offset and length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(9), fc.nat(0xffff), (bytes, skip, start) => {
        const off = Math.min(skip, bytes.length);
        const part = bytes.subarray(off);
        const expected = plainChecksum([start >>> 8, start & 255], part);
        expect(checksum(bytes, off, part.length, start)).toBe(expected);
      }),
      runs(500),
    );
  });

  it('sums pseudo headers', () => {
    const v4 = hex('4500 0000 0000 0000 0000 0000 0a000001 0a000002');
    expect(foldSum(pseudoSum4(new DataView(v4.buffer), 0, 6, 20))).toBe(
      65_535 - plainChecksum(hex('0a000001 0a000002 0006 0014')),
    );
    const v6 = new Uint8Array(40).map((_, i) => i * 7);
    expect(foldSum(pseudoSum6(new DataView(v6.buffer), 0, 58, 300))).toBe(
      65_535 - plainChecksum(v6.subarray(8), hex('0000012c 0000003a')),
    );
  });
});

describe('incremental updates', () => {
  it('does the example of RFC 1624 §4, on which eq. 2 fails', () => {
    expect(updateChecksum16(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });

  it('never writes -0', () => {
    expect(updateChecksum16(0xffff, 0xffff, 0)).toBe(0);
    expect(updateChecksum16(0xffff, 0, 0)).toBe(0);
    expect(updateChecksum32(0xffff, -1, 0)).toBe(0);
    expect(applyDelta(0xffff, 0)).toBe(0);
  });

  it('equals a sum from scratch, whatever changes', () => {
    const change = fc.tuple(fc.nat(9), port, port);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 40, maxLength: 40 }),
        fc.array(change, { maxLength: 5 }),
        (data, changes) => {
          // A protocol number keeps the data from being all zeros, as in every header.
          data[39] = 6;
          const view = new DataView(data.buffer, data.byteOffset, 40);
          let hc = checksum(data, 0, 40, 0);
          let combined = hc;
          let delta = 0;
          for (const [index, high, low] of changes) {
            const off = index * 4 + (index === 9 ? -2 : 0);
            const old = view.getInt32(off);
            view.setUint16(off, high);
            if (off < 34) view.setUint16(off + 2, low);
            hc = updateChecksum32(hc, old, view.getInt32(off));
            delta += delta32(old, view.getInt32(off));
          }
          combined = applyDelta(combined, delta);
          expect(hc).toBe(checksum(data, 0, 40, 0));
          expect(changes.length === 0 ? hc : combined).toBe(hc);
        },
      ),
      runs(1000),
    );
  });

  it('takes words of either sign', () => {
    expect(delta32(0xc0a80001, 0xfffffffe)).toBe(delta32(0xc0a80001 | 0, -2));
    expect(delta16(0xffff, 0)).toBe(0);
  });
});

describe('crc32c', () => {
  it.each([
    ['', 0],
    ['313233343536373839', 0xe3069283],
    ['00'.repeat(32), 0x8a9136aa],
    ['ff'.repeat(32), 0x62a8ab43],
    [[...Array(32).keys()].map((i) => i.toString(16).padStart(2, '0')).join(''), 0x46dd794e],
  ])('has the known value of %s', (text, crc) => {
    const bytes = hex(text);
    expect(crc32c(bytes, 0, bytes.length) >>> 0).toBe(crc);
  });

  it('agrees with the bit by bit definition, in pieces and over zeros', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), fc.nat(70), (bytes, cut, zeros) => {
        const at = Math.min(cut, bytes.length);
        const head = crc32cUpdate(-1, bytes, 0, at);
        const whole = crc32cUpdate(head, bytes, at, bytes.length - at);
        expect(~whole >>> 0).toBe(bitwiseCrc32c(bytes));
        expect(~crc32cZeros(whole, zeros) >>> 0).toBe(bitwiseCrc32c([...bytes, ...new Array<number>(zeros).fill(0)]));
      }),
      runs(200),
    );
  });

  it('follows a changed word without the rest of the message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 120 }), fc.nat(116), fc.integer(), (bytes, at, word) => {
        const off = Math.min(at, bytes.length - 4);
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        const before = crc32c(bytes, 0, bytes.length);
        const old = view.getInt32(off);
        view.setInt32(off, word);
        expect(updateCrc32c(before, old, word, bytes.length - off - 4)).toBe(crc32c(bytes, 0, bytes.length));
      }),
      runs(300),
    );
  });
});

function bitwiseCrc32c(bytes: Iterable<number>): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
