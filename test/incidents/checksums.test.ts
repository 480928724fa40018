/** Incidents of checksums: RFC 1624, zero and minus zero. FACTS §2: qemu 0dacea92, FreeBSD 75b400ba. */
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { client, type Exit, FAMILIES, type Family, Lab, packet, SYN, tcp, udp, vip, webService } from './lab.ts';

const L4 = { 4: 34, 6: 54 } as const;

function checksumAt(exit: Exit, family: Family, off: number): number {
  return (exit.bytes[L4[family] + off]! << 8) | exit.bytes[L4[family] + off + 1]!;
}

describe.each(BUILT_MODES)('%s', (mode) => {
  it('UDP checksum 0 of IPv4: none was made, and none is made of it', () => {
    const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
    const l4 = { protocol: 'udp', sport: 5000, dport: 80, checksum: 0 } as const;
    const exit = lab.send('client', packet(client[4], vip(0)[4], l4, new Uint8Array(40)));
    expect([exit.end, exit.dport, checksumAt(exit, 4, 6)]).toEqual(['delivered web-b', 8080, 0]);
  });

  describe.each(FAMILIES)('IPv%i', (family) => {
    it('qemu 0dacea92, FreeBSD 75b400ba: a UDP checksum that comes out as 0 is sent as 0xFFFF', () => {
      const frame = (word: number) => {
        const { ip, l4 } = udp(client[family], 5000, vip(0)[family], 80);
        return buildFrame({ ip, l4, payload: Uint8Array.of(word >>> 8, word & 255, 1, 2) });
      };
      const probe = new Lab(mode, [webService(0, ['web-b'], 'UDP')]).send('client', frame(0));
      // Adding the checksum to the data makes the sum all ones.
      const exit = new Lab(mode, [webService(0, ['web-b'], 'UDP')]).send('client', frame(checksumAt(probe, family, 6)));
      expect([exit.end, checksumAt(exit, family, 6), exit.wrong]).toEqual(['delivered web-b', 0xffff, 0]);
    });

    it('RFC 1624: a TCP checksum that comes out as 0 is 0, never minus zero', () => {
      const frame = (urgent: number) => {
        const { ip, l4 } = tcp(client[family], 5000, vip(0)[family], 80, SYN);
        return buildFrame({ ip, l4: { ...l4, urgent } as typeof l4 });
      };
      const probe = new Lab(mode, [webService(0, ['web-b'])]).send('client', frame(0));
      const exit = new Lab(mode, [webService(0, ['web-b'])]).send('client', frame(checksumAt(probe, family, 16)));
      expect([exit.end, checksumAt(exit, family, 16), exit.wrong]).toEqual(['delivered web-b', 0, 0]);
    });
  });
});
