/** Incidents of address translation: races, ports, exhaustion, hairpins, tuples that come again. FACTS §2. */
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { COUNT_RULES, countOf } from '../../engine/src/programs/count.ts';
import { VERDICT_DROPPED } from '../../engine/src/programs/verdict.ts';
import { ctFlows } from '../../engine/src/tables/conntrack.ts';
import { REASON_NO_NAT_MAPPING } from '../../engine/src/wire/reason.ts';
import {
  ACK,
  back,
  client,
  FAMILIES,
  FIN,
  Lab,
  nodeOne,
  outside,
  reached,
  SYN,
  tcp,
  udp,
  vip,
  webA,
  webService,
} from './lab.ts';

const S = 1000;

describe.each(BUILT_MODES)('%s', (mode) => {
  describe.each(FAMILIES)('IPv%i', (family) => {
    const service = vip(0)[family];
    const from = client[family];

    it('k/k#56903, weave#3287: two datagrams of one socket at once go to one backend, and neither is lost', () => {
      const lab = new Lab(mode, [webService(0, ['web-a', 'web-b'], 'UDP')]);
      const [a, aaaa] = lab.sendAll('client', [udp(from, 5353, service, 80), udp(from, 5353, service, 80, 40)]);
      expect(a!.end).toMatch(/^delivered web-/);
      expect([aaaa!.end, aaaa!.dst, aaaa!.dport, aaaa!.wrong]).toEqual([a!.end, a!.dst, a!.dport, 0]);
      const answer = back(a!);
      const reply = lab.send(reached(a!), udp(answer.from, answer.sport, answer.to, answer.dport), 10);
      expect([reply.end, reply.src, reply.sport]).toEqual(['delivered client', service, 80]);
    });

    it('k/k#76699: no two clients of one source port get one masqueraded tuple', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'])]);
      const ports = new Set<number>();
      const clients = Array.from({ length: 300 }, (_, i) =>
        family === 4 ? `203.0.${113 + (i >> 8)}.${i & 255}` : `2001:db8:113::${(i + 1).toString(16)}`,
      );
      const exits = clients.map((address) => lab.send('uplink-1', tcp(address, 40_000, nodeOne[family], 30_080, SYN)));
      for (const exit of exits) {
        expect([exit.end, exit.src, exit.wrong]).toEqual(['delivered web-b', nodeOne[family], 0]);
        ports.add(exit.sport);
      }
      expect(ports.size).toBe(clients.length);
      exits.forEach((exit, i) => {
        const { from: self, sport, to, dport } = back(exit);
        const reply = lab.send('web-b', tcp(self, sport, to, dport, SYN | ACK, { seq: 5000, ack: 1001 }));
        expect([reply.end, reply.dst, reply.dport]).toEqual(['forwarded', clients[i], 40_000]);
        expect([reply.src, reply.sport]).toEqual([nodeOne[family], 30_080]);
      });
    });

    it('k/k#90854: the first SYN of a doubly translated connection arrives, its checksum right', () => {
      const lab = new Lab(mode, [webService(0, ['web-b']), webService(1, ['web-b'], 'UDP')]);
      const frames = [
        tcp(outside[family], 40_000, nodeOne[family], 30_080, SYN),
        udp(outside[family], 40_000, nodeOne[family], 30_081),
      ];
      for (const exit of lab.sendAll('uplink-1', frames)) {
        expect([exit.end, exit.src, exit.wrong]).toEqual(['delivered web-b', nodeOne[family], 0]);
      }
      // A process of the node has its socket balanced in the ebpf mode: no frame to the address exists.
      if (mode === 'ebpf') return;
      const exit = lab.send('host-1', tcp(nodeOne[family], 40_000, service, 80, SYN));
      expect([exit.end, exit.wrong]).toEqual(['delivered web-b', 0]);
      const { from: self, sport, to, dport } = back(exit);
      const reply = lab.send('web-b', tcp(self, sport, to, dport, SYN | ACK, { seq: 5000, ack: 1001 }));
      expect([reply.end, reply.src, reply.sport, reply.dport, reply.wrong]).toEqual([
        'delivered node-1',
        service,
        80,
        40_000,
        0,
      ]);
    });

    it('k/k#53775, #54219, #134884: a pod that is balanced to itself sees another source, and has its answer', () => {
      const lab = new Lab(mode, [webService(0, ['web-a'])]);
      for (const [to, port, own] of [
        [service, 80, 40_000],
        [nodeOne[family], 30_080, 40_001],
      ] as const) {
        const exit = lab.send('web-a', tcp(webA[family], own, to, port, SYN));
        expect([exit.end, exit.dport, exit.wrong]).toEqual(['delivered web-a', 8080, 0]);
        expect(exit.src).not.toBe(webA[family]);
        const { from: self, sport, to: masked, dport } = back(exit);
        const reply = lab.send('web-a', tcp(self, sport, masked, dport, SYN | ACK, { seq: 5000, ack: 1001 }));
        expect([reply.end, reply.src, reply.sport, reply.dport]).toEqual(['delivered web-a', to, port, own]);
      }
    });

    it('k/k#81775, kube-router#544: a SYN on a tuple in TIME_WAIT begins a connection at once', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'])]);
      const open = lab.send('client', tcp(from, 40_000, service, 80, SYN));
      const { from: self, sport, to, dport } = back(open);
      const server = (flags: number, seq: number, ack: number, at: number) =>
        lab.send('web-b', tcp(self, sport, to, dport, flags, { seq, ack }), at);
      const sender = (flags: number, seq: number, ack: number, at: number) =>
        lab.send('client', tcp(from, 40_000, service, 80, flags, { seq, ack }), at);
      server(SYN | ACK, 5000, 1001, 1);
      sender(ACK, 1001, 5001, 2);
      sender(FIN | ACK, 1001, 5001, 3);
      server(FIN | ACK, 5001, 1002, 4);
      expect(sender(ACK, 1002, 5002, 5).end).toBe('delivered web-b');
      const again = sender(SYN, 90_000, 0, 1 * S);
      expect([again.end, again.wrong]).toEqual(['delivered web-b', 0]);
      expect(server(SYN | ACK, 70_000, 90_001, 1 * S + 1)).toMatchObject({ end: 'delivered client', src: service });
      expect(sender(ACK, 90_001, 70_001, 1 * S + 2).end).toBe('delivered web-b');
    });

    it('k/k#90042: a connection to the Service and one straight to its backend may share a source port', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'])]);
      const balanced = lab.send('client', tcp(from, 40_000, service, 80, SYN));
      const straight = lab.send('client', tcp(from, 40_000, balanced.dst, 8080, SYN));
      expect([balanced.end, straight.end]).toEqual(['delivered web-b', 'delivered web-b']);
      const answer = (exit: typeof balanced) => {
        const { from: self, sport, to, dport } = back(exit);
        return lab.send('web-b', tcp(self, sport, to, dport, SYN | ACK, { seq: 5000, ack: 1001 }));
      };
      const second = answer(straight);
      expect([second.end, second.src, second.dport]).toEqual(['delivered client', balanced.dst, 40_000]);
      // A map update overwrites: in the ebpf mode the newer connection has the tuple (docs/modes.md).
      if (mode === 'ebpf') return;
      expect(straight.sport).not.toBe(balanced.sport);
      const first = answer(balanced);
      expect([first.end, first.src, first.dport]).toEqual(['delivered client', service, 40_000]);
    });

    it('calico#2113: a flow that nobody answers stays masqueraded as it began, without another walk', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
      const query = udp(outside[family], 40_000, nodeOne[family], 30_080);
      const first = lab.send('uplink-1', query);
      expect([first.end, first.src]).toEqual(['delivered web-b', nodeOne[family]]);
      const walked = lab.dp.counters[COUNT_RULES]!;
      const second = lab.send('uplink-1', query, 100);
      const perPacket = lab.dp.counters[COUNT_RULES]! - walked;
      expect(perPacket).toBeLessThan(Math.max(1, walked));
      for (let i = 2; i < 40; i++) {
        const next = lab.send('uplink-1', query, i * 20 * S);
        expect([next.end, next.src, next.sport]).toEqual([second.end, second.src, first.sport]);
      }
    });
  });

  it('cilium#8740, #21346, #24177, #33074, #35010: exhaustion is a counted drop, and expired ports are free at once', () => {
    const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')], { flows: 140_000 });
    // The kernel keeps low ports low: 511 of them. Cilium has one range.
    const sport = mode === 'ebpf' ? 40_000 : 100;
    const ports = mode === 'ebpf' ? 32_768 : 511;
    const query = (i: number) => udp(`198.18.${i >> 8}.${i & 255}`, sport, nodeOne[4], 30_080, 0);
    const taken = new Set<number>();
    for (let i = 0; i < ports; i++) {
      const exit = lab.send('uplink-1', query(i), 1);
      if (exit.end !== 'delivered web-b') expect(exit.end).toBe('delivered web-b');
      taken.add(exit.sport);
    }
    expect(taken.size).toBe(ports);
    for (let i = 0; i < 3; i++) expect(lab.send('uplink-1', query(60_000 + i), 2).end).toBe('dropped no-nat-mapping');
    expect(lab.dp.counters[countOf(VERDICT_DROPPED, REASON_NO_NAT_MAPPING)]).toBe(3);
    // Those who have one keep it.
    expect(lab.send('uplink-1', query(5), 3).end).toBe('delivered web-b');
    const late = lab.send('uplink-1', query(60_000), 61 * S);
    expect([late.end, taken.has(late.sport)]).toEqual(['delivered web-b', true]);
    expect(lab.unaccounted()).toBe(0);
    expect(ctFlows(lab.dp.conntrack4, 0)).toBeLessThanOrEqual(2 * ports + 2);
  });
});
