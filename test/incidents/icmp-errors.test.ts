/**
 * Incidents of ICMP errors: what a router or an end says about a translated packet reaches its sender, who recognises its
 * own packet in it. FACTS §2: cilium#33844, #18414.
 */
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import {
  ACK,
  back,
  client,
  type Exit,
  FAMILIES,
  type Family,
  Lab,
  nodeOne,
  other,
  outside,
  packet,
  router,
  type Sender,
  SYN,
  tcp,
  udp,
  vip,
  webB,
  webService,
} from './lab.ts';

/** Type, code, and the four bytes behind the checksum: unreachable, too big, time exceeded, parameter problem. */
const ERRORS: Readonly<Record<Family, readonly (readonly [name: string, type: number, code: number, rest: number])[]>> =
  {
    4: [
      ['port unreachable', 3, 3, 0],
      ['host unreachable', 3, 1, 0],
      ['fragmentation needed', 3, 4, 1400],
      ['time exceeded', 11, 0, 0],
      ['parameter problem', 12, 0, 0x14000000],
    ],
    6: [
      ['port unreachable', 1, 4, 0],
      ['packet too big', 2, 0, 1400],
      ['time exceeded', 3, 0, 0],
      ['parameter problem', 4, 0, 40],
    ],
  };

/** An error about `about`, a frame without its Ethernet header, of which `most` bytes are quoted. */
function error(
  family: Family,
  from: string,
  to: string,
  [, type, code, rest]: (typeof ERRORS)[4][number],
  about: Uint8Array,
  most = 1200,
) {
  const l4 = {
    protocol: family === 4 ? 'icmp' : 'icmpv6',
    type,
    code,
    id: rest >>> 16,
    sequence: rest & 0xffff,
  } as const;
  return buildFrame(packet(from, to, l4, about.slice(14, 14 + most)));
}

/** The packet that an error quotes, with what a hop changes put back: TTL, and the checksum of an IPv4 header. */
function quoted(family: Family, exit: Exit): Uint8Array {
  const bytes = exit.bytes.slice(14 + (family === 4 ? 20 : 40) + 8);
  return timeless(family, bytes);
}

function timeless(family: Family, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  if (family === 4) copy.fill(0, 8, 9).fill(0, 10, 12);
  else copy[7] = 0;
  return copy;
}

/** The checksum of the quoted IPv4 header is right. */
function isHeaderRight(bytes: Uint8Array): boolean {
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum === 0xffff;
}

describe.each(BUILT_MODES)('%s', (mode) => {
  describe.each(FAMILIES)('IPv%i', (family) => {
    const names = ERRORS[family];
    const protocols = ['TCP', 'UDP'] as const;

    /** A first frame to a Service, and where it came out. */
    function begin(protocol: 'TCP' | 'UDP', from: Sender, source: string, to: string, port: number) {
      const lab = new Lab(mode, [webService(0, ['web-b'], protocol)]);
      const sent = buildFrame(
        protocol === 'TCP' ? tcp(source, 40_000, to, port, SYN, { bytes: 0 }) : udp(source, 40_000, to, port, 40),
      );
      const exit = lab.send(from, sent);
      expect(exit.end).toBe('delivered web-b');
      return { lab, sent, exit };
    }

    function expectOwn(exit: Exit, end: string, to: string, sent: Uint8Array, most: number): void {
      expect([exit.end, exit.dst, exit.wrong]).toEqual([end, to, 0]);
      expect(quoted(family, exit)).toEqual(timeless(family, sent.slice(14, 14 + most)));
      if (family === 4) expect(isHeaderRight(exit.bytes.slice(42))).toBe(true);
    }

    it.each(names)('cilium#33844, #18414: %s from the backend reaches the pod that spoke to the Service', (...kind) => {
      for (const protocol of protocols) {
        const { lab, sent, exit } = begin(protocol, 'client', client[family], vip(0)[family], 80);
        const got = lab.send('web-b', error(family, webB[family], client[family], kind, exit.bytes), 5);
        expectOwn(got, 'delivered client', client[family], sent, 1200);
      }
    });

    it.each(names)(
      'cilium#33844: %s from a router reaches the client outside whose source was masqueraded',
      (...kind) => {
        for (const protocol of protocols) {
          const { lab, sent, exit } = begin(protocol, 'uplink-1', outside[family], nodeOne[family], 30_080);
          // In the middle of the way the packet went from the node to the backend.
          const got = lab.send('uplink-1', error(family, router[family], exit.src, kind, exit.bytes), 5);
          expectOwn(got, 'forwarded', outside[family], sent, 1200);
          const short = lab.send(
            'uplink-1',
            error(family, router[family], exit.src, kind, exit.bytes, family === 4 ? 28 : 48),
            6,
          );
          expectOwn(short, 'forwarded', outside[family], sent, family === 4 ? 28 : 48);
        }
      },
    );

    it.each(names)('cilium#18414: %s about a reply reaches the backend as if it had been asked directly', (...kind) => {
      for (const protocol of protocols) {
        const { lab, exit } = begin(protocol, 'client', client[family], vip(0)[family], 80);
        const { from, sport, to, dport } = back(exit);
        const sent = buildFrame(
          protocol === 'TCP'
            ? tcp(from, sport, to, dport, SYN | ACK, { seq: 5000, ack: 1001 })
            : udp(from, sport, to, dport, 40),
        );
        const reply = lab.send('web-b', sent, 5);
        expect([reply.end, reply.src]).toEqual(['delivered client', vip(0)[family]]);
        const got = lab.send('client', error(family, client[family], vip(0)[family], kind, reply.bytes), 6);
        if (mode === 'ipvs' && family === 4 && kind[0] === 'parameter problem') {
          // linux ip_vs_in_icmp: of IPv4's errors IPVS knows unreachable, source quench and time exceeded.
          expect(got.end).toBe('delivered node-1');
          continue;
        }
        expectOwn(got, 'delivered web-b', webB[family], sent, 1200);
      }
    });

    it('is not translated for a flow that nobody knows, and goes to nobody else', () => {
      const { lab, exit } = begin('UDP', 'client', client[family], vip(0)[family], 80);
      const stranger = exit.bytes.slice();
      stranger[stranger.length - 41 - 7]! ^= 0x11;
      const got = lab.send('uplink-1', error(family, router[family], other[family], names[0]!, stranger), 5);
      expect([got.dst, got.src]).toEqual([other[family], router[family]]);
    });
  });
});
