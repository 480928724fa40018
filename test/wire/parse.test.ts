import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildFrame, type FrameFields } from '../../engine/src/wire/build.ts';
import { createBurst, FRAG_FIRST, FRAG_LATER, FRAG_NONE, frameOffset } from '../../engine/src/wire/burst.ts';
import { BAD_IP, BAD_L4, verifyFrame } from '../../engine/src/wire/checksum.ts';
import type { ExtensionHeader } from '../../engine/src/wire/extension-header.ts';
import { parseFrame, verifyL4 } from '../../engine/src/wire/parse.ts';
import {
  findReason,
  REASON_CT_TRUNCATED,
  REASON_FRAME_TOO_LARGE,
  REASON_INVALID_EXTENSION_HEADER,
  REASON_INVALID_PACKET,
  REASON_L3_CHECKSUM,
  REASON_UNSUPPORTED_L2,
  REASON_UNSUPPORTED_L3,
} from '../../engine/src/wire/reason.ts';
import { anyFrame, hex, lanes, makeBurst, plainChecksum, put, runs } from './support.ts';

const A4 = [0x0a000001, 0, 0, 0] as const;
const B4 = [0x0a000002 | 0, 0, 0, 0] as const;
const A6 = [0x20010db8, 0, 0, 1] as const;
const B6 = [0x20010db8, 0, 0, 2] as const;
const V4 = { family: 4, src: A4, dst: B4 } as const;
const V6 = { family: 6, src: A6, dst: B6 } as const;
const TCP = { protocol: 'tcp', sport: 1024, dport: 80 } as const;
const UDP = { protocol: 'udp', sport: 5000, dport: 53 } as const;

const burst = makeBurst();

function parse(frame: Uint8Array): number {
  put(burst, 1, frame);
  return parseFrame(burst, 1);
}

function parseFields(fields: FrameFields): number {
  return parse(buildFrame(fields));
}

/** Rewrites the IPv4 header checksum after a test changed the header. */
function seal(frame: Uint8Array, l3 = 14): Uint8Array {
  frame.set([0, 0], l3 + 10);
  const sum = plainChecksum(frame.subarray(l3, l3 + (frame[l3] & 15) * 4));
  frame.set([sum >>> 8, sum & 255], l3 + 10);
  return frame;
}

describe('parseFrame', () => {
  it('reads a captured SYN', () => {
    const syn = hex(`
      0a580af40102 0a580af40101 0800
      4500003c 1c46 4000 40 06 0820 0af40105 0af4010a
      d431 0050 5a2b3c4d 00000000 a002 faf0 0000 0000 020405b4 0402080a 00000001 00000000 01030307`);
    expect(parse(seal(syn))).toBe(0);
    expect(lanes(burst, 1)).toEqual({
      l3: 14,
      l4: 34,
      end: 74,
      family: 4,
      proto: 6,
      frag: FRAG_NONE,
      src: [0x0af40105, 0, 0, 0],
      dst: [0x0af4010a, 0, 0, 0],
      sport: 0xd431,
      dport: 80,
      info: 0x02,
    });
  });

  it('reads every kind of right frame', () => {
    fc.assert(
      fc.property(anyFrame, (fields) => {
        const frame = buildFrame(fields);
        const { ip, l4 } = fields;
        expect(parse(frame)).toBe(0);
        const read = lanes(burst, 1);
        expect(read).toMatchObject({ family: ip.family, frag: FRAG_NONE, src: ip.src, dst: ip.dst });
        expect(read.end).toBe(frame.length - (fields.ethernet?.padding ?? 0));
        expect(burst.l3[1] % 4).toBe(0);
        if ('sport' in l4) expect(read).toMatchObject({ sport: l4.sport, dport: l4.dport });
        if (l4.protocol === 'tcp') expect(read.info).toBe(l4.flags);
        if (l4.protocol === 'sctp') expect(read.info).toBe(l4.chunks[0].type);
        if ('type' in l4) expect(read).toMatchObject({ info: l4.type << 8, sport: l4.id, dport: l4.id });
        expect(verifyFrame(burst, 1)).toBe(0);
      }),
      runs(500),
    );
  });

  it.each<[string, number, Uint8Array]>([
    ['no bytes', REASON_UNSUPPORTED_L2, new Uint8Array(0)],
    ['13 bytes', REASON_UNSUPPORTED_L2, new Uint8Array(13)],
    ['a cut-off tag', REASON_UNSUPPORTED_L2, hex('020000000002 020000000001 8100 0001 08')],
    ['a cut-off second tag', REASON_UNSUPPORTED_L2, hex('020000000002 020000000001 88a8 0001 8100 00')],
    ['three tags', REASON_UNSUPPORTED_L3, hex('020000000002 020000000001 88a8 0001 8100 0002 8100 0003 0800')],
    ['ARP', REASON_UNSUPPORTED_L3, hex('020000000002 020000000001 0806 0001080006040001')],
    ['an 802.3 length', REASON_UNSUPPORTED_L3, hex('020000000002 020000000001 0026 4242 03')],
    ['a cut-off IPv4 header', REASON_INVALID_PACKET, buildFrame({ ip: V4, l4: TCP }).subarray(0, 33)],
    ['a cut-off IPv6 header', REASON_INVALID_PACKET, buildFrame({ ip: V6, l4: TCP }).subarray(0, 53)],
  ])('refuses %s', (_, reason, frame) => {
    expect(parse(frame)).toBe(-reason);
    expect(lanes(burst, 1)).toMatchObject({ family: 0, proto: 0, src: [0, 0, 0, 0], sport: 0, dport: 0 });
  });

  it('refuses a frame that is longer than its slot, and a negative length', () => {
    const small = createBurst(2, 192);
    small.len[1] = 191;
    expect(parseFrame(small, 1)).toBe(-REASON_FRAME_TOO_LARGE);
    small.len[1] = -5;
    expect(parseFrame(small, 1)).toBe(-REASON_UNSUPPORTED_L2);
  });

  it.each<[string, number, number, number[], boolean]>([
    ['version 5', REASON_INVALID_PACKET, 14, [0x55], true],
    ['a header of 16 bytes', REASON_INVALID_PACKET, 14, [0x44], true],
    ['a header beyond the packet', REASON_INVALID_PACKET, 14, [0x4f], false],
    ['a total length below the header', REASON_INVALID_PACKET, 16, [0, 19], true],
    ['a total length beyond the frame', REASON_INVALID_PACKET, 16, [0, 41], true],
    ['a wrong checksum', REASON_L3_CHECKSUM, 24, [0xbe, 0xef], false],
    ['a packet beyond 65,535 bytes after reassembly', REASON_INVALID_PACKET, 20, [0x1f, 0xff], true],
    ['a TCP header cut off', REASON_CT_TRUNCATED, 16, [0, 39], true],
    ['a data offset of 16 bytes', REASON_CT_TRUNCATED, 46, [0x40], false],
    ['a data offset beyond the packet', REASON_CT_TRUNCATED, 46, [0x60], false],
  ])('refuses IPv4 with %s', (_, reason, off, change, sealed) => {
    const frame = buildFrame({ ip: V4, l4: TCP });
    frame.set(change, off);
    expect(parse(sealed ? seal(frame) : frame)).toBe(-reason);
  });

  it('keeps the addresses of a frame whose transport header lies', () => {
    const fields = { ip: V4, l4: { ...TCP, headerBytes: 60 } };
    expect(parseFields(fields)).toBe(-REASON_CT_TRUNCATED);
    expect(lanes(burst, 1)).toMatchObject({ family: 4, proto: 6, src: A4, dst: B4, sport: 0, dport: 0, info: 0 });
  });

  it.each<[string, Uint8Array]>([
    ['a loose source route', hex('830704 0a000003 00')],
    ['a strict source route that has arrived', hex('890708 0a000003 00')],
    ['an option of length 1', hex('9401 0000')],
    ['an option of length 0', hex('9400 0000')],
    ['an option beyond the header', hex('9405 0000')],
    ['an option cut off before its length', hex('01010194')],
  ])('refuses IPv4 with %s', (_, options) => {
    expect(parseFields({ ip: { ...V4, options }, l4: TCP })).toBe(-REASON_INVALID_PACKET);
  });

  it('accepts what follows the end of options', () => {
    expect(parseFields({ ip: { ...V4, options: hex('01008300') }, l4: TCP })).toBe(0);
  });

  it.each<[string, number, FrameFields]>([
    [
      'version 4 in an IPv6 frame',
      REASON_INVALID_PACKET,
      { ethernet: { type: 0x86dd }, ip: V4, l4: TCP, payload: new Uint8Array(40) },
    ],
    ['a payload beyond the frame', REASON_INVALID_PACKET, { ip: { ...V6, payloadLength: 21 }, l4: TCP }],
    [
      'a jumbogram',
      REASON_INVALID_EXTENSION_HEADER,
      { ip: { ...V6, payloadLength: 0, extensions: [{ kind: 'hop-by-hop' }] }, l4: TCP },
    ],
    ['a TCP header cut off', REASON_CT_TRUNCATED, { ip: { ...V6, payloadLength: 19 }, l4: TCP }],
    ['a UDP length of 7', REASON_CT_TRUNCATED, { ip: V6, l4: { ...UDP, length: 7 } }],
    ['a UDP length beyond the packet', REASON_CT_TRUNCATED, { ip: V6, l4: { ...UDP, length: 9 } }],
    ['half a UDP header', REASON_CT_TRUNCATED, { ip: { ...V6, payloadLength: 7 }, l4: UDP }],
    [
      'half an ICMPv6 header',
      REASON_CT_TRUNCATED,
      { ip: { ...V6, payloadLength: 7 }, l4: { protocol: 'icmpv6', type: 128 } },
    ],
    ['half an ICMP header', REASON_CT_TRUNCATED, { ip: { ...V4, totalLength: 27 }, l4: { protocol: 'icmp', type: 8 } }],
    ['SCTP without a chunk', REASON_CT_TRUNCATED, { ip: V4, l4: { protocol: 'sctp', sport: 1, dport: 2, chunks: [] } }],
    [
      'an SCTP chunk of length 3',
      REASON_CT_TRUNCATED,
      {
        ip: V4,
        l4: { protocol: 'sctp', sport: 1, dport: 2, chunks: [{ type: 1, value: new Uint8Array(4), length: 3 }] },
      },
    ],
  ])('refuses %s', (_, reason, fields) => {
    expect(parseFields(fields)).toBe(-reason);
  });

  it('leaves Ethernet padding out', () => {
    expect(parseFields({ ethernet: { padding: 6 }, ip: V4, l4: TCP })).toBe(0);
    expect(lanes(burst, 1).end).toBe(54);
    expect(verifyL4(burst, 1)).toBe(1);
  });

  it('reads no ports of protocols that have none here', () => {
    const payload = hex('0102030405060708');
    expect(parseFields({ ip: V4, l4: { protocol: 47 }, payload })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ proto: 47, sport: 0, dport: 0, info: 0 });
    // ICMPv6 over IPv4 and ICMPv4 over IPv6 are not ICMP.
    expect(parseFields({ ip: V4, l4: { protocol: 58 }, payload })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ proto: 58, sport: 0, info: 0 });
    expect(parseFields({ ip: V6, l4: { protocol: 1 }, payload })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ proto: 1, sport: 0, info: 0 });
    expect(verifyFrame(burst, 1)).toBe(0);
    expect(parseFields({ ip: V6, l4: { protocol: 59 } })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ proto: 59, l4: 54, end: 54 });
  });

  it('gives ICMP errors no ports', () => {
    expect(parseFields({ ip: V4, l4: { protocol: 'icmp', type: 3, code: 4, id: 99 } })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ info: 0x0304, sport: 0, dport: 0 });
  });
});

describe('fragments', () => {
  it('reads ports of the first only', () => {
    const payload = new Uint8Array(24);
    expect(parseFields({ ip: { ...V4, moreFragments: true }, l4: { ...UDP, length: 4000 }, payload })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ frag: FRAG_FIRST, sport: 5000, dport: 53 });
    expect(verifyL4(burst, 1)).toBe(1);
    expect(verifyFrame(burst, 1)).toBe(0);
    expect(parseFields({ ip: { ...V4, fragmentOffset: 8 }, l4: { protocol: 17 }, payload: hex('01') })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ frag: FRAG_LATER, proto: 17, sport: 0, dport: 0, l4: 34, end: 35 });
    expect(verifyFrame(burst, 1)).toBe(0);
  });

  it('reads IPv6 fragments', () => {
    const fragment = (offset: number, more: boolean): ExtensionHeader => ({ kind: 'fragment', offset, more, id: 1 });
    const parsed = (offset: number, more: boolean, payload: Uint8Array) =>
      parseFields({ ip: { ...V6, extensions: [fragment(offset, more)] }, l4: { protocol: 17 }, payload });
    expect(parsed(0, true, hex('1388003510000000'))).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ frag: FRAG_FIRST, proto: 17, l4: 62, sport: 5000, dport: 53 });
    expect(parsed(0, false, hex('1388003500080000'))).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ frag: FRAG_NONE, sport: 5000 });
    expect(parsed(8, false, hex('010203'))).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ frag: FRAG_LATER, l4: 62, sport: 0 });
    expect(parsed(8, true, hex('010203'))).toBe(-REASON_INVALID_PACKET);
    expect(parsed(0, true, hex('138800351000000000'))).toBe(-REASON_INVALID_PACKET);
    expect(parsed(65_528, false, hex('0102030405060708'))).toBe(-REASON_INVALID_PACKET);
  });

  it('does not read headers out of the data of a later fragment', () => {
    const extensions: ExtensionHeader[] = [{ kind: 'fragment', offset: 8, more: false, id: 1 }];
    expect(parseFields({ ip: { ...V6, extensions }, l4: { protocol: 60 }, payload: hex('ff') })).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ frag: FRAG_LATER, proto: 60, l4: 62 });
  });
});

describe('extension headers', () => {
  const walk = (...extensions: ExtensionHeader[]) => parseFields({ ip: { ...V6, extensions }, l4: TCP });
  const options: ExtensionHeader = { kind: 'destination-options' };
  const mobility: ExtensionHeader = { kind: 'other', number: 135, body: new Uint8Array(6) };
  const fragment: ExtensionHeader = { kind: 'fragment', offset: 0, more: false, id: 1 };

  it('walks all kinds, up to eight', () => {
    const icv = new Uint8Array(12);
    expect(
      walk({ kind: 'hop-by-hop' }, options, mobility, fragment, { kind: 'authentication', spi: 1, sequence: 1, icv }),
    ).toBe(0);
    expect(lanes(burst, 1)).toMatchObject({ proto: 6, l4: 54 + 8 * 4 + 24, sport: 1024, dport: 80 });
    expect(verifyL4(burst, 1)).toBe(1);
    expect(walk(...new Array<ExtensionHeader>(8).fill(options))).toBe(0);
    expect(walk(...new Array<ExtensionHeader>(9).fill(options))).toBe(-REASON_INVALID_EXTENSION_HEADER);
  });

  it('takes the last stop of a routing header for the checksum', () => {
    const addresses = [
      [1, 1, 1, 1],
      [2, 2, 2, 2],
    ] as const;
    for (const [type, last] of [
      [0, 1],
      [4, 0],
    ]) {
      const frame = buildFrame({
        ip: { ...V6, extensions: [{ kind: 'routing', type, segmentsLeft: 1, addresses }] },
        l4: TCP,
      });
      expect(parse(frame)).toBe(0);
      expect(verifyL4(burst, 1)).toBe(1);
      const plain = plainChecksum(
        frame.subarray(22, 38),
        frame.subarray(62 + last * 16, 78 + last * 16),
        [0, 6, 0, 20],
        frame.subarray(94),
      );
      expect(plain).toBe(0);
    }
  });

  it.each<[string, ExtensionHeader[]]>([
    ['two fragment headers', [fragment, fragment]],
    ['more stops left than there are', [{ kind: 'routing', type: 0, segmentsLeft: 2, addresses: [[1, 1, 1, 1]] }]],
    ['stops of a type that nobody knows', [{ kind: 'routing', type: 9, segmentsLeft: 1, addresses: [[1, 1, 1, 1]] }]],
  ])('refuses %s', (_, extensions) => {
    expect(walk(...extensions)).toBe(-REASON_INVALID_EXTENSION_HEADER);
  });

  it('refuses headers that are cut off', () => {
    const frame = buildFrame({ ip: { ...V6, extensions: [options] }, l4: TCP });
    frame[55] = 200;
    expect(parse(frame)).toBe(-REASON_INVALID_EXTENSION_HEADER);
    expect(parseFields({ ip: { ...V6, extensions: [options], payloadLength: 7 }, l4: TCP })).toBe(
      -REASON_INVALID_EXTENSION_HEADER,
    );
  });
});

describe('verifyL4 and verifyFrame', () => {
  it('know about checksums that are not sent', () => {
    expect(parseFields({ ip: V4, l4: { ...UDP, checksum: 0 } })).toBe(0);
    expect(verifyL4(burst, 1)).toBe(1);
    expect(parseFields({ ip: V6, l4: { ...UDP, checksum: 0 } })).toBe(0);
    expect(verifyL4(burst, 1)).toBe(0);
    expect(verifyFrame(burst, 1)).toBe(BAD_L4);
  });

  it('find one wrong byte anywhere in the packet', () => {
    fc.assert(
      fc.property(anyFrame, fc.nat(), fc.integer({ min: 1, max: 255 }), (fields, where, flip) => {
        const frame = buildFrame(fields);
        expect(parse(frame)).toBe(0);
        const off = burst.l4[1] + (where % (burst.end[1] - burst.l4[1]));
        burst.bytes[off] ^= flip;
        // A field that says "none was computed" hides the flip; a byte 0 against 255 is the same number.
        const hidden = fields.l4.protocol === 'udp' && burst.view.getUint16(burst.l4[1] + 6) === 0;
        if (!hidden) expect(verifyFrame(burst, 1) & BAD_L4).toBe(BAD_L4);
      }),
      runs(300),
    );
  });

  it('find lanes and lengths that no longer fit', () => {
    const damaged = (change: () => void) => {
      expect(parseFields({ ip: V4, l4: TCP })).toBe(0);
      change();
      return verifyFrame(burst, 1);
    };
    const frame = frameOffset(burst, 1);
    expect(damaged(() => {})).toBe(0);
    expect(damaged(() => burst.dst0.fill(1))).toBe(BAD_IP);
    expect(damaged(() => burst.view.setUint8(frame + 22, 63))).toBe(BAD_IP);
    expect(damaged(() => burst.sport.fill(1))).toBe(BAD_L4);
    expect(damaged(() => burst.view.setUint8(frame + 46, 0x40))).toBe(BAD_L4);
    expect(damaged(() => burst.view.setUint16(frame + 16, 39))).toBe(BAD_IP);
  });
});

describe('any bytes', () => {
  /** Parses and asks for what holds of every frame. */
  function check(frame: Uint8Array): number {
    const small = createBurst(2, 128 * Math.ceil((frame.length + 2) / 128) + 64);
    // The last slot: a read behind it is behind the slab and would throw.
    put(small, 1, frame);
    const before = small.bytes.slice();
    const result = parseFrame(small, 1);
    const read = lanes(small, 1);
    expect(read.l3).toBeGreaterThanOrEqual(0);
    expect(read.l4).toBeGreaterThanOrEqual(read.l3);
    expect(read.end).toBeGreaterThanOrEqual(read.l4);
    expect(read.end).toBeLessThanOrEqual(Math.max(frame.length, 0));
    expect(small.bytes).toEqual(before);
    if (result < 0) expect(findReason(-result)).toBeDefined();
    else {
      expect(result).toBe(0);
      verifyFrame(small, 1);
    }
    // What lies behind the frame is not looked at.
    small.bytes.fill(0x5a, frameOffset(small, 1) + frame.length);
    expect(parseFrame(small, 1)).toBe(result);
    expect(lanes(small, 1)).toEqual(read);
    return result;
  }

  it('are safe when random', () => {
    const head = fc.constantFrom(
      '0800 45',
      '0800 4f',
      '86dd 60',
      '8100 0001 0800 45',
      '88a8 0001 8100 0002 86dd 60',
      '',
    );
    fc.assert(
      fc.property(head, fc.uint8Array({ maxLength: 160 }), (start, rest) => {
        check(Uint8Array.of(...hex(`020000000002 020000000001 ${start}`), ...rest));
        check(rest);
      }),
      runs(1000),
    );
  });

  it('are safe when a right frame is cut, stretched or damaged', () => {
    const damage = fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(anyFrame, damage, fc.nat(200), fc.boolean(), (fields, changes, cut, resealed) => {
        const frame = buildFrame(fields);
        for (const [off, value] of changes) frame[off % frame.length] = value;
        const l3 = 14 + 4 * (fields.ethernet?.vlan?.length ?? 0);
        if (resealed && fields.ip.family === 4 && frame.length >= l3 + 60) seal(frame, l3);
        check(frame);
        check(frame.subarray(0, Math.min(cut, frame.length)));
      }),
      runs(1000),
    );
  });
});
