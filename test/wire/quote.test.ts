import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AddressWords, buildFrame, type FrameFields } from '../../engine/src/wire/build.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import {
  innerTuple,
  TUPLE_DPORT,
  TUPLE_DST,
  TUPLE_FAMILY,
  TUPLE_PROTO,
  TUPLE_SPORT,
  TUPLE_SRC,
  TUPLE_WORDS,
  translateIcmpError,
} from '../../engine/src/wire/quote.ts';
import {
  REASON_CT_TRUNCATED,
  REASON_FRAGMENT_UNSUPPORTED,
  REASON_INVALID_EXTENSION_HEADER,
  REASON_INVALID_PACKET,
  REASON_UNKNOWN_L4,
} from '../../engine/src/wire/reason.ts';
import { addressOf, frameOf, hex, lanes, makeBurst, port, put, readdressed, runs, take } from './support.ts';

const burst = makeBurst();
const A4 = [0x0a000001, 0, 0, 0] as const;
const B4 = [0x0a000002, 0, 0, 0] as const;
const A6 = [0x20010db8, 0, 0, 1] as const;
const B6 = [0x20010db8, 0, 0, 2] as const;

/** The IP packet of a frame, without Ethernet header and padding. */
function packetOf(fields: FrameFields): Uint8Array {
  return buildFrame({ ...fields, ethernet: {} }).subarray(14);
}

function errorAbout(quote: Uint8Array, family: 4 | 6, src: AddressWords, dst: AddressWords): FrameFields {
  const ip = family === 4 ? ({ family: 4, src, dst } as const) : ({ family: 6, src, dst } as const);
  const l4 =
    family === 4 ? ({ protocol: 'icmp', type: 3, code: 1 } as const) : ({ protocol: 'icmpv6', type: 1 } as const);
  return { ip, l4, payload: quote };
}

function tupleOf(fields: FrameFields): Int32Array {
  const { ip, l4 } = fields;
  const tuple = new Int32Array(TUPLE_WORDS);
  tuple[TUPLE_FAMILY] = ip.family;
  tuple[TUPLE_PROTO] = { tcp: 6, udp: 17, sctp: 132, icmp: 1, icmpv6: 58 }[l4.protocol as 'tcp'];
  tuple.set(ip.src, TUPLE_SRC);
  tuple.set(ip.dst, TUPLE_DST);
  if ('sport' in l4) tuple.set([l4.sport, l4.dport], TUPLE_SPORT);
  if ('id' in l4 && l4.id !== undefined) tuple.set([l4.id, l4.id], TUPLE_SPORT);
  return tuple;
}

function parseError(quote: Uint8Array, family: 4 | 6 = 4): number {
  const [src, dst] = family === 4 ? [A4, B4] : [A6, B6];
  put(burst, 1, buildFrame(errorAbout(quote, family, src, dst)));
  expect(parseFrame(burst, 1)).toBe(0);
  return innerTuple(burst, 1, new Int32Array(TUPLE_WORDS));
}

describe('innerTuple', () => {
  it('reads what was sent, however much of it is quoted', () => {
    const cases = fc.constantFrom(4 as const, 6 as const).chain((f) => fc.tuple(frameOf(f), fc.nat(120)));
    fc.assert(
      fc.property(cases, ([fields, more]) => {
        const packet = packetOf(fields);
        put(burst, 0, buildFrame(fields));
        parseFrame(burst, 0);
        const head = burst.l4[0] - burst.l3[0];
        const { family } = fields.ip;
        put(burst, 1, buildFrame(errorAbout(packet.subarray(0, head + 8 + more), family, A6, B6)));
        expect(parseFrame(burst, 1)).toBe(0);
        const out = new Int32Array(TUPLE_WORDS).fill(-1);
        expect(innerTuple(burst, 1, out)).toBe(0);
        expect(out).toEqual(tupleOf(fields));
      }),
      runs(300),
    );
  });

  const udp = packetOf({ ip: { family: 4, src: A4, dst: B4 }, l4: { protocol: 'udp', sport: 1, dport: 2 } });
  const change = (off: number, ...bytes: number[]) => {
    const changed = udp.slice();
    changed.set(bytes, off);
    return changed;
  };

  it.each<[string, number, Uint8Array]>([
    ['nothing', REASON_INVALID_PACKET, hex('')],
    ['half a header', REASON_INVALID_PACKET, udp.subarray(0, 19)],
    ['a header of 16 bytes', REASON_INVALID_PACKET, change(0, 0x44)],
    ['a packet shorter than its header', REASON_INVALID_PACKET, change(3, 19)],
    ['IPv6 in ICMPv4', REASON_INVALID_PACKET, packetOf({ ip: { family: 6, src: A6, dst: B6 }, l4: { protocol: 6 } })],
    ['a later fragment', REASON_FRAGMENT_UNSUPPORTED, change(7, 1)],
    ['options that are cut off', REASON_CT_TRUNCATED, change(0, 0x4f, 0, 0, 100)],
    ['ports that are cut off', REASON_CT_TRUNCATED, udp.subarray(0, 23)],
    ['an ICMP header cut off before its identifier', REASON_CT_TRUNCATED, change(9, 1).subarray(0, 25)],
  ])('refuses %s', (_, reason, quote) => {
    const out = new Int32Array(TUPLE_WORDS).fill(9);
    expect(parseError(quote)).toBe(-reason);
    innerTuple(burst, 1, out);
    expect(out.every((w) => w === 9)).toBe(true);
    const before = take(burst, 1);
    expect(translateIcmpError(burst, 1, out, out)).toBe(-reason);
    expect(take(burst, 1)).toEqual(before);
  });

  it('refuses IPv6 quotes that lie', () => {
    const fields: FrameFields = {
      ip: { family: 6, src: A6, dst: B6, extensions: [{ kind: 'hop-by-hop' }] },
      l4: { protocol: 6 },
    };
    expect(parseError(packetOf(fields).subarray(0, 46), 6)).toBe(-REASON_INVALID_EXTENSION_HEADER);
    expect(parseError(udp, 6)).toBe(-REASON_INVALID_PACKET);
    expect(parseError(packetOf(fields).subarray(0, 39), 6)).toBe(-REASON_INVALID_PACKET);
  });

  it('refuses what is no error', () => {
    const ip = { family: 4, src: A4, dst: B4 } as const;
    const payload = udp;
    const frames: FrameFields[] = [
      { ip, l4: { protocol: 'icmp', type: 8 }, payload },
      { ip, l4: { protocol: 'udp', sport: 1, dport: 2 }, payload },
      { ip: { ...ip, fragmentOffset: 8 }, l4: { protocol: 1 }, payload },
      { ip: { family: 6, src: A6, dst: B6 }, l4: { protocol: 'icmpv6', type: 128 }, payload },
    ];
    for (const fields of frames) {
      put(burst, 1, buildFrame(fields));
      expect(parseFrame(burst, 1)).toBe(0);
      expect(innerTuple(burst, 1, new Int32Array(TUPLE_WORDS))).toBe(-REASON_UNKNOWN_L4);
    }
  });

  it('gives quotes of other protocols no ports', () => {
    const out = new Int32Array(TUPLE_WORDS);
    expect(parseError(change(9, 47))).toBe(0);
    innerTuple(burst, 1, out);
    expect([out[TUPLE_PROTO], out[TUPLE_SPORT], out[TUPLE_DPORT]]).toEqual([47, 0, 0]);
  });
});

describe('translateIcmpError', () => {
  it('gives the error that would have been built about the other packet', () => {
    const cases = fc.constantFrom(4 as const, 6 as const).chain((f) => {
      const address = addressOf(f);
      return fc.record({
        fields: frameOf(f),
        addresses: fc.tuple(address, address, address, address, address, address),
        ports: fc.tuple(port, port),
        // Multiples of 4, as routers cut: of half a checksum nothing can be said.
        more: fc.oneof(fc.nat(10), fc.constant(16_384)).map((words) => words * 4),
      });
    });
    fc.assert(
      fc.property(cases, ({ fields, addresses, ports, more }) => {
        const { family } = fields.ip;
        const [src, dst, oldFrom, oldTo, newFrom, newTo] = addresses;
        let wanted = readdressed(fields, 'dst', dst, ports[1]);
        wanted = readdressed(wanted, 'src', src, ports[0]);
        put(burst, 0, buildFrame(fields));
        parseFrame(burst, 0);
        // The least that routers quote is the IP header and 8 bytes, so checksums may be cut off.
        const length = burst.l4[0] - burst.l3[0] + 8 + more;
        put(burst, 1, buildFrame(errorAbout(packetOf(fields).subarray(0, length), family, oldFrom, oldTo)));
        expect(parseFrame(burst, 1)).toBe(0);
        const outer = new Int32Array(TUPLE_WORDS);
        outer.set(newFrom, TUPLE_SRC);
        outer.set(newTo, TUPLE_DST);
        expect(translateIcmpError(burst, 1, tupleOf(wanted), outer)).toBe(0);
        const expected = buildFrame(errorAbout(packetOf(wanted).subarray(0, length), family, newFrom, newTo));
        expect(take(burst, 1)).toEqual(expected);
        const told = lanes(burst, 1);
        parseFrame(burst, 1);
        expect(told).toEqual(lanes(burst, 1));
      }),
      runs(2000),
    );
  });

  it('stays inside the error, whatever the quote says', () => {
    const quote = fc.tuple(fc.constantFrom('45', '46', '60'), fc.uint8Array({ maxLength: 100 }));
    fc.assert(
      fc.property(quote, fc.constantFrom(4 as const, 6 as const), ([first, rest], family) => {
        const frame = buildFrame(errorAbout(Uint8Array.of(...hex(first), ...rest), family, A6, B6));
        put(burst, 3, frame);
        if (parseFrame(burst, 3) < 0) return;
        const behind = () => burst.bytes.slice(burst.end[3]).every((byte) => byte === 0xa5);
        const tuple = new Int32Array(TUPLE_WORDS).fill(0x01020304);
        const result = translateIcmpError(burst, 3, tuple, tuple);
        expect(result).toBeLessThanOrEqual(0);
        if (result < 0) expect(take(burst, 3)).toEqual(frame);
        expect(behind()).toBe(true);
      }),
      runs(500),
    );
  });
});
