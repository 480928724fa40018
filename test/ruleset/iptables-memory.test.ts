/**
 * What rules remember, over many packets, against naive models: `recent` lists by xt_recent.c's description of itself (a
 * ring of stamps an address), `statistic --mode nth`, marks of connections.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Injected, Injector } from '../../control/src/probe/injector.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { seeded } from '../compile/random-cluster.ts';
import { dump, nodeOf } from './iptables-node.ts';

interface Packet {
  readonly client: number;
  readonly server: number;
  readonly port: number;
  readonly ttl: number;
  readonly timeMs: number;
}

const clientOf = (client: number): number => 0xcb007100 | (client + 1);
const serverOf = (server: number): number => 0x0af40100 | (server + 5);

let serial = 0;

function send(injector: Injector, { client, server, port, ttl, timeMs }: Packet): Injected {
  // A fresh source port each: every packet begins a connection.
  serial = (serial + 1) % 60_000;
  const frame = buildFrame({
    ip: { family: 4, src: [clientOf(client) | 0, 0, 0, 0], dst: [serverOf(server), 0, 0, 0], ttl },
    l4: { protocol: 'udp', sport: 1024 + serial, dport: port },
  });
  return injector.inject(frame, null, null, timeMs, false);
}

const packets = fc
  .array(
    fc.record({
      client: fc.nat({ max: 2 }),
      server: fc.nat({ max: 1 }),
      port: fc.integer({ min: 1, max: 4 }),
      ttl: fc.constantFrom(64, 60),
      pause: fc.nat({ max: 4000 }),
    }),
    { minLength: 10, maxLength: 60 },
  )
  .map((list) => {
    let timeMs = 0;
    return list.map(({ pause, ...packet }): Packet => {
      timeMs += pause;
      return { ...packet, timeMs };
    });
  });

/** An option set of `-m recent`, as words and as what they mean. */
interface RecentRule {
  readonly action: 'set' | 'rcheck' | 'update' | 'remove';
  readonly seconds: number;
  readonly hits: number;
  readonly ttl: boolean;
  readonly dst: boolean;
  readonly invert: boolean;
  readonly mask: boolean;
}

const recentRule: fc.Arbitrary<RecentRule> = fc
  .record({
    action: fc.constantFrom('set' as const, 'rcheck' as const, 'update' as const, 'remove' as const),
    seconds: fc.constantFrom(0, 1, 5),
    hits: fc.constantFrom(0, 2, 3, 5),
    ttl: fc.boolean(),
    dst: fc.boolean(),
    invert: fc.boolean(),
    mask: fc.boolean(),
  })
  // The tool refuses times and counts of what asks for none.
  .map((rule) => (rule.action === 'set' || rule.action === 'remove' ? { ...rule, seconds: 0, hits: 0 } : rule));

function recentWords(rule: RecentRule): string {
  const words = ['-m recent', rule.invert ? '!' : '', `--${rule.action}`];
  if (rule.seconds > 0) words.push(`--seconds ${rule.seconds}`);
  if (rule.hits > 0) words.push(`--hitcount ${rule.hits}`);
  if (rule.ttl && rule.action !== 'set') words.push('--rttl');
  words.push(
    '--name L',
    `--mask ${rule.mask ? '255.255.255.254' : '255.255.255.255'}`,
    rule.dst ? '--rdest' : '--rsource',
  );
  return words.filter((word) => word !== '').join(' ');
}

/** Stamps of each address of one list, as the kernel keeps them. */
class NaiveList {
  private readonly entries = new Map<number, { stamps: number[]; index: number; ttl: number }>();
  private readonly most: number;
  private readonly mask: number;

  /** @param mask that of the first rule, whatever the others say */
  constructor(most: number, mask: number) {
    this.most = most;
    this.mask = mask;
  }

  holds(rule: RecentRule, packet: Packet): boolean {
    const address = (rule.dst ? serverOf(packet.server) : clientOf(packet.client)) & this.mask;
    let entry = this.entries.get(address);
    if (rule.ttl && rule.action !== 'set' && entry?.ttl !== packet.ttl) entry = undefined;
    let holds = rule.invert;
    if (entry === undefined) {
      if (rule.action !== 'set') return holds;
      this.entries.set(address, { stamps: [packet.timeMs], index: 1 % this.most, ttl: packet.ttl });
      return !holds;
    }
    if (rule.action === 'set') holds = !holds;
    else if (rule.action === 'remove') {
      this.entries.delete(address);
      return !holds;
    } else {
      const fresh = entry.stamps.filter((stamp) => rule.seconds === 0 || packet.timeMs - stamp <= rule.seconds * 1000);
      if (fresh.length > 0 && fresh.length >= rule.hits) holds = !holds;
    }
    if (rule.action === 'set' || (rule.action === 'update' && holds)) {
      entry.stamps[entry.index] = packet.timeMs;
      entry.index = (entry.index + 1) % this.most;
      entry.ttl = packet.ttl;
    }
    return holds;
  }
}

describe('recent lists', () => {
  it('answer as a naive model does, for random rules and packets', () => {
    fc.assert(
      fc.property(fc.array(recentRule, { minLength: 2, maxLength: 4 }), packets, (rules, list) => {
        const filter = rules.map((rule, i) => `-A FORWARD -p udp -m udp --dport ${i + 1} ${recentWords(rule)} -j DROP`);
        const { model } = nodeOf({ 'node.iptables': dump({ filter }) });
        const injector = new Injector(model, 'iptables');
        let most = 1;
        while (most < Math.max(...rules.map(({ hits }) => hits))) most *= 2;
        const naive = new NaiveList(most, rules[0]!.mask ? ~1 : ~0);
        for (const packet of list) {
          const rule = rules[packet.port - 1];
          const expected = rule !== undefined && naive.holds(rule, packet);
          const { verdict } = send(injector, packet);
          expect(verdict, JSON.stringify({ rules, packet })).toBe(expected ? 'dropped' : 'forwarded');
        }
      }),
      seeded(60),
    );
  });

  it('in kube-proxy’s two forms alone stay what they are in a rendered node', () => {
    const filter = [
      '-A FORWARD -p udp -m udp --dport 1 -m recent --set --name L --mask 255.255.255.255 --rsource',
      '-A FORWARD -p udp -m udp --dport 2 -m recent --rcheck --seconds 5 --reap --name L --mask 255.255.255.255 --rsource -j DROP',
    ];
    const { model } = nodeOf({ 'node.iptables': dump({ filter }) });
    const injector = new Injector(model, 'iptables');
    const at = (port: number, timeMs: number): string =>
      send(injector, { client: 0, server: 0, port, ttl: 64, timeMs }).verdict;
    expect([at(2, 0), at(1, 0), at(2, 5000), at(2, 5001)]).toEqual(['forwarded', 'forwarded', 'dropped', 'forwarded']);
  });
});

describe('every n-th packet', () => {
  it('is taken, counted from where the rule says', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.nat({ max: 5 }), fc.boolean(), (every, given, invert) => {
        const packet = given % every;
        const option = `--mode nth ${invert ? '! ' : ''}--every ${every} --packet ${packet}`;
        const { model } = nodeOf({ 'node.iptables': dump({ filter: [`-A FORWARD -m statistic ${option} -j DROP`] }) });
        const injector = new Injector(model, 'iptables');
        let count = every - 1 - packet;
        for (let i = 0; i < 20; i++) {
          count = count === every - 1 ? 0 : count + 1;
          const { verdict } = send(injector, { client: 0, server: 0, port: 1, ttl: 64, timeMs: i });
          expect(verdict).toBe((count === 0) !== invert ? 'dropped' : 'forwarded');
        }
      }),
      seeded(40),
    );
  });
});

describe('marks of connections', () => {
  const mangle = [
    '-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff',
    '-A PREROUTING -m mark --mark 0x7/0xff -j ACCEPT',
    '-A PREROUTING -i eth0 -p udp -m udp --dport 1 -j MARK --set-xmark 0x107/0x1ff',
    '-A POSTROUTING -m mark ! --mark 0x0/0xff -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff',
    '-A FORWARD -p udp -m udp --dport 3 -j CONNMARK --set-xmark 0x30/0xf0',
  ];
  const filter = [
    '-A FORWARD -m connmark --mark 0x30/0xf0 -j REJECT',
    '-A FORWARD -i cni0 -m connmark --mark 0x7 -m mark --mark 0x7 -j DROP',
    '-A FORWARD -i cni0 -m conntrack --ctdir REPLY --ctorigdst 10.244.1.5 --ctorigdstport 2 ! --ctstatus ASSURED -j DROP',
  ];

  it('live with the connection, in both directions', () => {
    const { model } = nodeOf({ 'node.iptables': dump({ mangle, filter }) });
    const injector = new Injector(model, 'iptables');
    const frame = (there: boolean, port: number): Uint8Array => {
      const client = [clientOf(0) | 0, 0, 0, 0] as const;
      const server = [serverOf(0), 0, 0, 0] as const;
      return buildFrame({
        ip: { family: 4, src: there ? client : server, dst: there ? server : client },
        l4: { protocol: 'udp', sport: there ? 4000 : port, dport: there ? port : 4000 },
      });
    };
    const go = (there: boolean, port: number): string => {
      const { verdict, reason } = injector.inject(frame(there, port), null, null, 0, false);
      return `${verdict} ${reason}`;
    };
    expect(go(true, 1)).toBe('forwarded none');
    expect(go(false, 1)).toBe('dropped rule-drop');
    expect(go(true, 2)).toBe('forwarded none');
    expect(go(false, 2)).toBe('dropped rule-drop');
    expect(go(true, 4)).toBe('forwarded none');
    expect(go(false, 4)).toBe('forwarded none');
    expect(go(true, 3)).toBe('rejected rule-reject');
    // A connection that was refused was never entered: its mark is gone with it.
    expect(go(false, 3)).toBe('forwarded none');
  });
});
