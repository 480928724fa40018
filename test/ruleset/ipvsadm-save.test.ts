/** The reader of `ipvsadm-save` against the writer, and against lines as ipvsadm 1.31 prints them (ipvsadm.c, ipvsadm(8)). */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Forwarding,
  IPVS_SCHEDULERS,
  type RealServer,
  type VirtualAddress,
  type VirtualServer,
} from '../../control/src/compile/ipvs-ruleset.ts';
import { ipvsadmLines } from '../../control/src/compile/ipvs-text.ts';
import { type Address, type Family, formatEndpoint, formatWords, type Words } from '../../control/src/model/address.ts';
import type { Protocol } from '../../control/src/model/port.ts';
import { isIpvsadmSave, parseIpvsadmSave } from '../../control/src/ruleset/ipvsadm-save.ts';
import { seeded } from '../compile/random-cluster.ts';

const word = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff });
const address = (family: Family): fc.Arbitrary<Address> =>
  fc.tuple(word, word, word, word).map(([a, b, c, d]) => {
    const words: Words = family === 4 ? [a, 0, 0, 0] : [a, b, c, d];
    return { family, words, text: formatWords(family, words) };
  });
const port = fc.integer({ min: 1, max: 65535 });

const realServer = (family: Family): fc.Arbitrary<RealServer> =>
  fc
    .tuple(
      address(family),
      port,
      fc.integer({ min: 0, max: 65535 }),
      fc.constantFrom<Forwarding>('masquerade', 'route', 'tunnel'),
    )
    .map(([host, number, weight, forwarding]) => ({
      address: host,
      port: number,
      text: formatEndpoint(host, number),
      weight,
      forwarding,
      sources: [],
    }));

const virtualAddress = (family: Family): fc.Arbitrary<VirtualAddress> =>
  fc.oneof(
    fc
      .tuple(fc.constantFrom<Protocol>('TCP', 'UDP', 'SCTP'), address(family), port)
      .map(([protocol, host, number]) => ({ kind: 'address' as const, protocol, address: host, port: number })),
    fc.integer({ min: 1, max: 0x7fff_ffff }).map((mark) => ({ kind: 'fwmark' as const, family, mark })),
  );

const virtualServer: fc.Arbitrary<VirtualServer> = fc.constantFrom<Family>(4, 6).chain((family) =>
  fc
    .record({
      virtual: virtualAddress(family),
      scheduler: fc.constantFrom(...IPVS_SCHEDULERS),
      schedulerFlags: fc.integer({ min: 0, max: 7 }),
      persistentSeconds: fc.constantFrom(0, 60, 10800),
      persistentPrefix: fc.integer({ min: 1, max: family === 4 ? 32 : 128 }),
      onePacket: fc.boolean(),
      realServers: fc.uniqueArray(realServer(family), { maxLength: 5, selector: ({ text }) => text }),
      sources: fc.constant([]),
    })
    .map((server) => ({
      ...server,
      persistentPrefix: server.persistentSeconds === 0 ? (family === 4 ? 32 : 128) : server.persistentPrefix,
    })),
);

const servers = fc.uniqueArray(virtualServer, { maxLength: 6, selector: ({ virtual }) => JSON.stringify(virtual) });

/** Without lines, sorted: ipvsadm prints in an order of its own. */
function normal(list: readonly VirtualServer[]): unknown[] {
  const texts = list.map(({ sources: _, realServers, ...server }) => {
    const reals = realServers.map(({ sources: __, ...real }) => JSON.stringify(real)).sort();
    return JSON.stringify(
      { ...server, virtual: sorted(server.virtual), reals },
      Object.keys({ ...server, reals }).sort(),
    );
  });
  return texts.sort();
}

function sorted(virtual: VirtualAddress): string {
  return virtual.kind === 'fwmark'
    ? `${virtual.mark}/${virtual.family}`
    : `${virtual.address.text}:${virtual.port}/${virtual.protocol}`;
}

describe('ipvsadm-save', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(servers, (list) => {
        const text = ipvsadmLines(list).join('\n');
        const parsed = parseIpvsadmSave('servers', text);
        expect(parsed.notUnderstood).toEqual([]);
        expect(normal(parsed.virtualServers)).toEqual(normal(list));
      }),
      seeded(300),
    );
  });

  it('of a real node is read, names of ports and long options included', () => {
    const text = `-A -t 10.96.0.1:https -s rr
-a -t 10.96.0.1:https -r 192.168.0.1:6443 -m -w 1
-A -t 10.96.0.10:53 -s rr -p 10800
-a -t 10.96.0.10:53 -r 10.244.0.2:53 -m -w 0
-A -u [fd00:10:96::a]:53 -s sh -b sh-port,sh-fallback
-A --sctp-service 10.96.0.9:5000 -s mh -p 60 -M 255.255.255.0
-A -f 5 -6 -s wlc -p 300 -M 64
-a -f 5 -6 -r [fd00::1]:0 -g -w 100
ipvsadm --add-service --udp-service 10.0.0.1:53 --scheduler lc --ops
`;
    expect(isIpvsadmSave(text)).toBe(true);
    const { virtualServers, notUnderstood } = parseIpvsadmSave('node.ipvs', text);
    expect(notUnderstood).toEqual([]);
    const lines = virtualServers.map((server) => {
      const reals = server.realServers.map(({ text: end, weight, forwarding }) => `${end} ${forwarding} ${weight}`);
      const { scheduler, schedulerFlags, persistentSeconds, persistentPrefix, onePacket } = server;
      const flags = `${schedulerFlags} ${persistentSeconds}/${persistentPrefix}${onePacket ? ' ops' : ''}`;
      return [`${sorted(server.virtual)} ${scheduler} ${flags}`, ...reals];
    });
    expect(lines).toEqual([
      ['10.96.0.1:443/TCP rr 0 0/32', '192.168.0.1:6443 masquerade 1'],
      ['10.96.0.10:53/TCP rr 0 10800/32', '10.244.0.2:53 masquerade 0'],
      ['fd00:10:96::a:53/UDP sh 3 0/128'],
      ['10.96.0.9:5000/SCTP mh 0 60/24'],
      ['5/6 wlc 0 300/64', '[fd00::1]:0 route 100'],
      ['10.0.0.1:53/UDP lc 0 0/32 ops'],
    ]);
    expect(virtualServers[1]!.realServers[0]!.sources).toEqual([{ file: 'node.ipvs', line: 4 }]);
  });

  it('names options that flatpath lacks', () => {
    const text = `-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip
-a -u 10.0.0.1:5060 -r 10.1.0.1:5060 -m -w 1
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1 -x 100 -y 10
-a -t 10.0.0.1:80 -r 10.1.0.2:80 -m -w 1 -x 0 -y 0`;
    const { virtualServers, notUnderstood } = parseIpvsadmSave('x', text);
    expect(notUnderstood.map(({ line, message }) => `${line}: ${message}`)).toEqual([
      "1: flatpath does not know the persistence engine 'sip'",
      '4: flatpath does not know thresholds of connections',
    ]);
    expect(virtualServers.map(({ realServers }) => realServers.map((real) => real.text))).toEqual([['10.1.0.2:80']]);
  });

  it('lists every line that does not fit', () => {
    const text = `IP Virtual Server version 1.2.1 (size=4096)
-A -t kube-dns.kube-system:53 -s rr
-A -t 10.0.0.1:80 -s fastest
-A -t 10.0.0.2:80 -s rr
-A -t 10.0.0.2:80 -s rr
-a -t 10.0.0.3:80 -r 10.1.0.1:80 -m -w 1
-a -t 10.0.0.2:80 -m -w 1
-a -t 10.0.0.2:80 -r 10.1.0.1:80 -m -w 70000
-A -t 10.0.0.4:80 -s rr -p 60 -M 255.0.255.0
-A -s rr`;
    let message = '';
    try {
      parseIpvsadmSave('node.ipvs', text);
    } catch (error) {
      message = String(error);
    }
    expect(message.split('\n')).toEqual([
      "InputError: node.ipvs:1: 'IP' is not what ipvsadm-save -n prints: -A or -a",
      "node.ipvs:2: 'kube-dns.kube-system:53' has no address: print the dump with ipvsadm-save -n, which writes numbers",
      "node.ipvs:3: 'fastest' is no scheduler: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh, fo, ovf",
      'node.ipvs:5: virtual server 10.0.0.2:80/TCP is added twice',
      'node.ipvs:6: there is no virtual server 10.0.0.3:80/TCP: its -A line comes first',
      "node.ipvs:7: a real server needs '-r ADDRESS:PORT'",
      "node.ipvs:8: '70000' is no weight (0 to 65535)",
      "node.ipvs:9: '255.0.255.0' is no mask of IPv4",
      'node.ipvs:10: the line names no virtual server',
    ]);
  });
});
