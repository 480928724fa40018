import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildFrame, type FrameFields, type TcpFields } from '../../engine/src/wire/build.ts';
import { createBurst } from '../../engine/src/wire/burst.ts';
import { verifyFrame } from '../../engine/src/wire/checksum.ts';
import { describeFrame } from '../../engine/src/wire/describe.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { writeIcmp4Error, writeIcmp6Error, writeTcpReset } from '../../engine/src/wire/reject.ts';
import { anyFrame, hex, lanes, makeBurst, put, runs, take } from './support.ts';

const burst = makeBurst();
const A4 = [0x0a000001, 0, 0, 0] as const;
const B4 = [0x0a000002, 0, 0, 0] as const;
const A6 = [0x20010db8, 0, 0, 1] as const;
const B6 = [0x20010db8, 0, 0, 2] as const;
const V4 = { family: 4, src: A4, dst: B4 } as const;
const V6 = { family: 6, src: A6, dst: B6 } as const;
const UDP = { protocol: 'udp', sport: 5000, dport: 53 } as const;
const ROUTER4 = 0x0a0000fe;

function load(fields: FrameFields, slot = 0): void {
  put(burst, slot, buildFrame(fields));
  expect(parseFrame(burst, slot)).toBe(0);
}

function icmp4(fields: FrameFields): number {
  load(fields);
  return writeIcmp4Error(burst, 0, 1, 3, 3, ROUTER4);
}

function icmp6(fields: FrameFields): number {
  load(fields);
  return writeIcmp6Error(burst, 0, 1, 1, 4, ...B6);
}

function reset(ip: FrameFields['ip'], l4: Omit<TcpFields, 'protocol' | 'sport' | 'dport'>, payload = hex('')): number {
  load({ ip, l4: { protocol: 'tcp', sport: 1024, dport: 80, ...l4 }, payload });
  return writeTcpReset(burst, 0, 1);
}

/** What stands in slot 1, read back. */
function answer() {
  expect(parseFrame(burst, 1)).toBe(0);
  expect(verifyFrame(burst, 1)).toBe(0);
  return describeFrame(take(burst, 1));
}

describe('ICMP errors', () => {
  it('say what happened, and quote the packet', () => {
    const vlan = [{ id: 9, priority: 0 }];
    const length = icmp4({
      ethernet: { vlan, padding: 4 },
      ip: { ...V4, tos: 0x7f, id: 77 },
      l4: UDP,
      payload: hex('0102'),
    });
    expect(length).toBe(18 + 20 + 8 + 30);
    expect(burst.len[1]).toBe(length);
    expect(answer()).toMatchObject({
      ethernet: { dst: '02:00:00:00:00:01', src: '02:00:00:00:00:02', vlan },
      ip: { src: '10.0.0.254', dst: '10.0.0.1', ttl: 64, tos: 0xde, id: 77 },
      l4: { protocol: 'icmp', type: 3, code: 3, id: 0, sequence: 0 },
    });
    expect(take(burst, 1).subarray(46)).toEqual(take(burst, 0).subarray(18, 48));
  });

  it('do so over IPv6', () => {
    expect(icmp6({ ip: { ...V6, flowLabel: 5, trafficClass: 9 }, l4: UDP })).toBe(14 + 40 + 8 + 48);
    expect(answer()).toMatchObject({
      ip: { src: '2001:db8::2', dst: '2001:db8::1', ttl: 64, tos: 0, flowLabel: 0 },
      l4: { protocol: 'icmpv6', type: 1, code: 4 },
    });
    expect(take(burst, 1).subarray(62)).toEqual(take(burst, 0).subarray(14));
  });

  it('stop at 576 and 1,280 bytes', () => {
    const payload = new Uint8Array(1400).fill(3);
    expect(icmp4({ ip: V4, l4: UDP, payload })).toBe(14 + 576);
    answer();
    expect(icmp6({ ip: V6, l4: UDP, payload })).toBe(14 + 1280);
    answer();
  });

  it('are written for every right frame of hosts, and are right', () => {
    fc.assert(
      fc.property(anyFrame, (fields) => {
        load(fields);
        const length =
          burst.family[0] === 4
            ? writeIcmp4Error(burst, 0, 1, 11, 0, ROUTER4)
            : writeIcmp6Error(burst, 0, 1, 3, 0, ...A6);
        if (length === 0) {
          const { src, dst } = fields.ip;
          const odd = [src, dst].some((a) =>
            fields.ip.family === 4 ? a[0] === 0 || a[0] >>> 29 === 7 : a[0] >>> 24 === 255 || a.every((w) => w === 0),
          );
          expect(odd).toBe(true);
        } else answer();
      }),
      runs(300),
    );
  });

  it.each<[string, FrameFields]>([
    ['an ICMP error', { ip: V4, l4: { protocol: 'icmp', type: 3 } }],
    ['a redirect', { ip: V4, l4: { protocol: 'icmp', type: 5 } }],
    ['an ICMP type that nobody knows', { ip: V4, l4: { protocol: 'icmp', type: 40 } }],
    ['a later fragment', { ip: { ...V4, fragmentOffset: 8 }, l4: { protocol: 17 }, payload: hex('00') }],
    ['a frame to everybody', { ethernet: { dst: 0xffff_ffff_ffff }, ip: V4, l4: UDP }],
    ['a source of 0.0.0.0', { ip: { ...V4, src: [0, 0, 0, 0] }, l4: UDP }],
    ['a multicast source', { ip: { ...V4, src: [0xe0000001, 0, 0, 0] }, l4: UDP }],
    ['broadcast', { ip: { ...V4, dst: [-1, 0, 0, 0] }, l4: UDP }],
    ['multicast', { ip: { ...V4, dst: [0xe0000001, 0, 0, 0] }, l4: UDP }],
    ['IPv6', { ip: V6, l4: UDP }],
  ])('over IPv4 do not answer %s', (_, fields) => {
    burst.len[1] = 5;
    expect(icmp4(fields)).toBe(0);
    expect(burst.len[1]).toBe(5);
  });

  it.each<[string, FrameFields]>([
    ['an ICMP error', { ip: V6, l4: { protocol: 'icmpv6', type: 1 } }],
    ['an error of an unknown type', { ip: V6, l4: { protocol: 'icmpv6', type: 127 } }],
    ['a redirect', { ip: V6, l4: { protocol: 'icmpv6', type: 137 } }],
    [
      'a later fragment',
      { ip: { ...V6, extensions: [{ kind: 'fragment', offset: 8, more: false, id: 1 }] }, l4: { protocol: 17 } },
    ],
    ['a frame to a group', { ethernet: { dst: 0x3333_0000_0001 }, ip: V6, l4: UDP }],
    ['the unspecified source', { ip: { ...V6, src: [0, 0, 0, 0] }, l4: UDP }],
    ['a multicast source', { ip: { ...V6, src: [0xff020000, 0, 0, 1] }, l4: UDP }],
    ['multicast', { ip: { ...V6, dst: [0xff020000, 0, 0, 1] }, l4: UDP }],
    ['IPv4', { ip: V4, l4: UDP }],
  ])('over IPv6 do not answer %s', (_, fields) => {
    expect(icmp6(fields)).toBe(0);
  });

  it('answer queries and first fragments', () => {
    expect(icmp4({ ip: V4, l4: { protocol: 'icmp', type: 8 } })).toBeGreaterThan(0);
    expect(icmp6({ ip: V6, l4: { protocol: 'icmpv6', type: 128 } })).toBeGreaterThan(0);
    expect(icmp4({ ip: { ...V4, moreFragments: true }, l4: UDP })).toBeGreaterThan(0);
  });

  it('are cut to a small slot, or not sent', () => {
    const small = createBurst(2, 192);
    put(small, 0, buildFrame({ ip: V4, l4: UDP, payload: new Uint8Array(148) }));
    parseFrame(small, 0);
    expect(writeIcmp4Error(small, 0, 1, 3, 3, ROUTER4)).toBe(190);
    const tiny = createBurst(2, 64);
    put(tiny, 0, buildFrame({ ip: V4, l4: UDP }));
    parseFrame(tiny, 0);
    expect(writeIcmp4Error(tiny, 0, 1, 3, 3, ROUTER4)).toBe(0);
  });
});

describe('TCP resets', () => {
  it('acknowledge a segment that has no ACK', () => {
    expect(reset(V4, { flags: 0x02, seq: 0xffff_ffff })).toBe(54);
    expect(answer()).toMatchObject({
      ip: { src: '10.0.0.2', dst: '10.0.0.1', ttl: 64, tos: 0, id: 0, dontFragment: true },
      l4: { sport: 80, dport: 1024, flags: ['RST', 'ACK'], seq: 0, ackSeq: 0, window: 0 },
    });
    reset(V4, { flags: 0x03, seq: 100, options: hex('020405b4') }, hex('010203'));
    expect(answer().l4).toMatchObject({ seq: 0, ackSeq: 105 });
  });

  it('take the acknowledgment of a segment that has one', () => {
    expect(reset(V6, { flags: 0x18, seq: 100, ackSeq: 0xfffffff0 }, hex('0102'))).toBe(74);
    expect(answer()).toMatchObject({
      ip: { src: '2001:db8::2', dst: '2001:db8::1', ttl: 64 },
      l4: { sport: 80, dport: 1024, flags: ['RST'], seq: 0xfffffff0, ackSeq: 0 },
    });
  });

  it('drop options and extension headers', () => {
    expect(reset({ ...V6, extensions: [{ kind: 'hop-by-hop' }] }, { flags: 2 })).toBe(74);
    answer();
    expect(reset({ ...V4, options: hex('94040000') }, { flags: 2 })).toBe(54);
    expect(lanes(burst, 0).l4).toBe(38);
    answer();
  });

  it('do not answer resets, fragments, wrong checksums, groups and other protocols', () => {
    expect(reset(V4, { flags: 0x04 })).toBe(0);
    expect(reset(V4, { flags: 0x14 })).toBe(0);
    expect(reset({ ...V4, moreFragments: true }, { flags: 2 })).toBe(0);
    expect(reset(V4, { flags: 2, checksum: 1 })).toBe(0);
    expect(reset({ ...V4, src: [0xe0000001, 0, 0, 0] }, { flags: 2 })).toBe(0);
    expect(reset({ ...V6, dst: [0xff020000, 0, 0, 1] }, { flags: 2 })).toBe(0);
    load({ ip: V4, l4: UDP });
    expect(writeTcpReset(burst, 0, 1)).toBe(0);
  });

  it('do not leave their slot', () => {
    const tiny = createBurst(2, 64);
    put(
      tiny,
      0,
      buildFrame({ ethernet: { vlan: [{ id: 1 }, { id: 2 }] }, ip: V4, l4: { protocol: 'tcp', sport: 1, dport: 2 } }),
    );
    tiny.len[0] = 62;
    expect(parseFrame(tiny, 0)).toBe(0);
    expect(writeTcpReset(tiny, 0, 1)).toBe(62);
    put(tiny, 0, buildFrame({ ip: V4, l4: { protocol: 'tcp', sport: 1, dport: 2 } }));
    expect(parseFrame(tiny, 0)).toBe(0);
    expect(writeTcpReset(tiny, 0, 1)).toBe(54);
  });
});
