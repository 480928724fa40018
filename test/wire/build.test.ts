import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { describeFrame } from '../../engine/src/wire/describe.ts';
import { initChunk } from '../../engine/src/wire/sctp-chunk.ts';
import { TCP_SYN } from '../../engine/src/wire/tcp.ts';
import { anyFrame, hex, makeBurst, put, runs } from './support.ts';

const A4 = [0x0a000001, 0, 0, 0] as const;
const B4 = [0x0a000002, 0, 0, 0] as const;
const A6 = [0x20010db8, 0, 0, 1] as const;
const B6 = [0x20010db8, 0, 0, 2] as const;

describe('buildFrame', () => {
  it('writes a SYN byte by byte', () => {
    const frame = buildFrame({
      ip: { family: 4, src: A4, dst: B4, id: 0x1234, dontFragment: true },
      l4: { protocol: 'tcp', sport: 1024, dport: 80, seq: 1, flags: TCP_SYN, window: 0xfaf0, options: hex('020405b4') },
    });
    // IP: 4500 + 002c + 1234 + 4000 + 4006 + 0a00 + 0001 + 0a00 + 0002 = eb69.
    // TCP: 0a00 + 1 + 0a00 + 2 + 0006 + 0018 + 0400 + 0050 + 1 + 6002 + faf0 + 0204 + 05b4 = 1_7b1c.
    expect(Buffer.from(frame).toString('hex')).toBe(
      [
        '020000000002 020000000001 0800',
        '4500 002c 1234 4000 4006 1496 0a000001 0a000002',
        '0400 0050 00000001 00000000 6002 faf0 84e2 0000 020405b4',
      ]
        .join('')
        .replace(/\s/g, ''),
    );
  });

  it('writes an ICMPv6 echo request byte by byte', () => {
    const frame = buildFrame({
      ip: { family: 6, src: A6, dst: B6, hopLimit: 255, flowLabel: 0xabcde, trafficClass: 0x20 },
      l4: { protocol: 'icmpv6', type: 128, id: 7, sequence: 1 },
      payload: hex('6162'),
    });
    // Pseudo header: 2 * (2001 + 0db8) + 1 + 2 + 000a + 003a; message: 8000 + 0007 + 0001 + 6162; 1_3d23 in all.
    expect(Buffer.from(frame).toString('hex')).toBe(
      [
        '020000000002 020000000001 86dd',
        '620abcde 000a 3a ff 20010db8000000000000000000000001 20010db8000000000000000000000002',
        '8000 c2db 0007 0001 6162',
      ]
        .join('')
        .replace(/\s/g, ''),
    );
  });

  it('writes what a description names, wrong or not', () => {
    const frame = buildFrame({
      ethernet: { type: 0x0806, padding: 3 },
      ip: { family: 4, src: A4, dst: B4, totalLength: 9, checksum: 0xbeef, protocol: 99 },
      l4: { protocol: 'udp', sport: 1, dport: 2, length: 1, checksum: 0 },
    });
    expect(Buffer.from(frame).toString('hex')).toBe(
      `0200000000020200000000010806${'4500000900000000 4063beef0a0000010a000002'.replace(' ', '')}0001000200010000000000`,
    );
  });

  it('refuses what does not fit', () => {
    const ip = { family: 4, src: A4, dst: B4 } as const;
    const udp = { protocol: 'udp', sport: 1, dport: 2 } as const;
    expect(() => buildFrame({ ip, l4: udp, payload: new Uint8Array(65_508) })).toThrow(RangeError);
    expect(() => buildFrame({ ip: { ...ip, options: new Uint8Array(41) }, l4: udp })).toThrow('40 bytes');
    expect(buildFrame({ ip, l4: udp, payload: new Uint8Array(65_507) })).toHaveLength(65_549);
  });
});

describe('describeFrame', () => {
  it('reads back what was built', () => {
    fc.assert(
      fc.property(anyFrame, (fields) => {
        const told = describeFrame(buildFrame(fields));
        const { ip, l4 } = fields;
        expect(told.problem).toBeNull();
        expect(told.ethernet?.vlan.map((tag) => tag.id)).toEqual(fields.ethernet?.vlan?.map((tag) => tag.id));
        expect(told.ip).toMatchObject({ family: ip.family, fragment: 'none', checksumOk: true });
        expect(told.ip?.ttl).toBe(ip.family === 4 ? ip.ttl : ip.hopLimit);
        expect(told.ip?.tos).toBe(ip.family === 4 ? ip.tos : ip.trafficClass);
        expect(told.l4).toMatchObject({ protocol: l4.protocol, checksumOk: true });
        if ('sport' in l4) expect(told.l4).toMatchObject({ sport: l4.sport, dport: l4.dport });
        if ('type' in l4) expect(told.l4).toMatchObject({ type: l4.type, id: l4.id, sequence: l4.sequence });
        expect(told.summary).not.toContain('undefined');
      }),
      runs(300),
    );
  });

  it('says it in one line', () => {
    const ip = { family: 4, src: A4, dst: B4 } as const;
    const line = (fields: Parameters<typeof buildFrame>[0]) => describeFrame(buildFrame(fields)).summary;
    expect(line({ ip, l4: { protocol: 'tcp', sport: 5, dport: 80, flags: 0x12 } })).toBe(
      '10.0.0.1 > 10.0.0.2 ttl 64 length 40 TCP 5 > 80 SYN,ACK seq 0 ack 0 window 64240',
    );
    expect(line({ ip, l4: { protocol: 'sctp', sport: 5, dport: 6, chunks: [initChunk('init', 1, 1, 1, 1, 1)] } })).toBe(
      '10.0.0.1 > 10.0.0.2 ttl 64 length 52 SCTP 5 > 6 INIT tag 0',
    );
    expect(line({ ip: { ...ip, id: 9, fragmentOffset: 16, moreFragments: true }, l4: { protocol: 17 } })).toBe(
      '10.0.0.1 > 10.0.0.2 ttl 64 length 20 fragment 9 at 16+',
    );
    expect(line({ ip: { family: 6, src: A6, dst: B6 }, l4: { protocol: 'icmpv6', type: 128, id: 3 } })).toBe(
      '2001:db8::1 > 2001:db8::2 hop limit 64 length 8 ICMPv6 echo request id 3 sequence 0',
    );
    expect(line({ ip: { ...ip, checksum: 0 }, l4: { protocol: 17 } })).toBe(
      '02:00:00:00:00:01 > 02:00:00:00:00:02 (l3-checksum)',
    );
  });

  it('never throws, and says why a frame is refused', () => {
    expect(describeFrame(new Uint8Array(0))).toMatchObject({
      ethernet: null,
      ip: null,
      l4: null,
      problem: 'unsupported-l2',
    });
    expect(describeFrame(hex('020000000002 020000000001 0806 0001'))).toMatchObject({ problem: 'unsupported-l3' });
    expect(describeFrame(hex('020000000002 020000000001 8100 00'))).toMatchObject({
      problem: 'unsupported-l2',
      ethernet: { type: 0x8100, vlan: [] },
    });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(describeFrame(bytes).length).toBe(bytes.length);
      }),
      runs(300),
    );
  });

  it('leaves a burst of the caller alone', () => {
    const burst = makeBurst(1);
    put(burst, 0, hex('00'));
    describeFrame(hex('01'));
    expect(burst.len[0]).toBe(1);
  });
});
