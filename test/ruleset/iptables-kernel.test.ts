/**
 * The kernel counts what its rules match: random rules of dumps without a target are loaded by the real
 * iptables-legacy-restore into a network namespace, random packets are replayed into it, and every rule's counter must
 * be what flatpath's own walk of the same dump says.
 *
 * A namespace has one interface to the outside; packets are forwarded or reach the node, where they are dropped unanswered.
 * What this kernel lacks is left out rule by rule.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tellStory } from '../../control/src/explain/story.ts';
import type { Family } from '../../control/src/model/address.ts';
import { Injector } from '../../control/src/probe/injector.ts';
import { modelRuleset } from '../../control/src/ruleset/node-model.ts';
import { buildFrame, type FrameFields, type L4Fields } from '../../engine/src/wire/build.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { seeded } from '../compile/random-cluster.ts';

const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';
const TOOLS = 'iptables-legacy-save && ip6tables-legacy-save && tcpreplay --version && ip -V';
const available = spawnSync('unshare', [UNSHARE, 'sh', '-c', TOOLS]).status === 0;
if (!available) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('iptables-legacy, tcpreplay or iproute2 is missing');
  console.log('skipped: iptables-legacy, tcpreplay or iproute2 in a network namespace is missing');
}

const NODE_MAC = 0x020000000010;
const OUTSIDE_MAC = 0x020000000001;

// ---- rules ------------------------------------------------------------------------------------------------------

const port = fc.constantFrom(22, 53, 80, 443, 1000, 8080);
const range = fc.tuple(port, port).map(([a, b]) => (a === b ? `${a}` : `${Math.min(a, b)}:${Math.max(a, b)}`));
const ports = fc.oneof(port.map(String), range);
const not = fc.constantFrom('', '', '! ');
const flags = fc
  .subarray(['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG'], { minLength: 1 })
  .chain((mask) => fc.tuple(fc.constant(mask), fc.subarray(mask)))
  .map(([mask, set]) => `--tcp-flags ${mask.join(',')} ${set.length === 0 ? 'NONE' : set.join(',')}`);

const CLIENTS: Readonly<Record<Family, readonly string[]>> = {
  4: ['203.0.113.1', '203.0.113.2', '203.0.113.130', '198.18.7.7'],
  6: ['2001:db8:1::1', '2001:db8:1::2', '2001:db8:1::8001', '2001:db8:77::7'],
};
const SERVERS: Readonly<Record<Family, readonly string[]>> = {
  4: ['192.0.2.10', '198.51.100.1', '198.51.100.9'],
  6: ['2001:db8::10', '2001:db8:2::1', '2001:db8:2::9'],
};
const PREFIXES: Readonly<Record<Family, readonly string[]>> = {
  4: ['203.0.113.0/25', '203.0.0.2/255.0.0.255', '198.51.100.0/29', '0.0.0.0/0'],
  6: ['2001:db8:1::/64', '2001:db8:1::/113', '2001:db8:2::1/ffff:ffff:ffff::f', '::/0'],
};

function matchOf(family: Family): fc.Arbitrary<string> {
  const client = fc.constantFrom(...CLIENTS[family]);
  const server = fc.constantFrom(...SERVERS[family]);
  const full = family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff';
  const part = family === 4 ? '255.255.255.128' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:8000';
  const ordered = (list: readonly string[]) =>
    fc.tuple(fc.nat({ max: list.length - 1 }), fc.nat({ max: list.length - 1 })).map(([a, b]) => {
      // In the order of their numbers, which is that of the lists but for the last client of IPv4.
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      return family === 4 && list === CLIENTS[4] && high === 3
        ? `${list[3]}-${list[low]}`
        : `${list[low]}-${list[high]}`;
    });
  const both = [
    fc.tuple(not, fc.constantFrom(...PREFIXES[family])).map(([n, prefix]) => `${n}-s ${prefix}`),
    fc.tuple(not, server).map(([n, to]) => `${n}-d ${to}`),
    fc.tuple(not, fc.constantFrom('out0', 'lo', 'ou+', '+')).map(([n, name]) => `${n}-i ${name}`),
    fc.tuple(not, fc.constantFrom('tcp', 'udp', 'sctp', '47')).map(([n, name]) => `${n}-p ${name}`),
    fc
      .tuple(fc.constantFrom('tcp', 'udp', 'sctp'), not, fc.constantFrom('sport', 'dport'), ports)
      .map(([p, n, side, text]) => `-p ${p} -m ${p} ${n}--${side} ${text}`),
    fc
      .tuple(
        fc.constantFrom('tcp', 'udp', 'sctp'),
        not,
        fc.constantFrom('sports', 'dports', 'ports'),
        fc.array(ports, { minLength: 1, maxLength: 4 }),
      )
      .map(([p, n, side, list]) => `-p ${p} -m multiport ${n}--${side} ${list.join(',')}`),
    fc.tuple(not, flags).map(([n, text]) => `-p tcp -m tcp ${n}${text}`),
    not.map((n) => `-p tcp -m tcp ${n}--syn`),
    fc.tuple(not, fc.constantFrom(2, 3, 8)).map(([n, kind]) => `-p tcp -m tcp ${n}--tcp-option ${kind}`),
    fc
      .tuple(not, fc.constantFrom('1400', '1000:1459'))
      .map(([n, mss]) => `-p tcp -m tcp --syn -m tcpmss ${n}--mss ${mss}`),
    fc
      .tuple(
        not,
        fc.constantFrom('all', 'any', 'only'),
        fc.subarray(['INIT', 'DATA', 'SACK', 'ABORT'], { minLength: 1 }),
      )
      .map(([n, how, chunks]) => `-p sctp -m sctp ${n}--chunk-types ${how} ${chunks.join(',')}`),
    fc.tuple(not, fc.constantFrom('0:60', '61:100', '40')).map(([n, bytes]) => `-m length ${n}--length ${bytes}`),
    fc.tuple(not, fc.constantFrom('0x10/0x3f', '0x08', '0xb8/0xfc')).map(([n, value]) => `-m tos ${n}--tos ${value}`),
    fc.tuple(not, fc.constantFrom('46', '0', '2')).map(([n, value]) => `-m dscp ${n}--dscp ${value}`),
    fc.tuple(not, ordered(CLIENTS[family])).map(([n, text]) => `-m iprange ${n}--src-range ${text}`),
    fc.tuple(not, ordered(SERVERS[family])).map(([n, text]) => `-m iprange ${n}--dst-range ${text}`),
    fc
      .tuple(not, fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:99'))
      .map(([n, mac]) => `-m mac ${n}--mac-source ${mac}`),
    fc
      .tuple(not, fc.constantFrom('src', 'dst'), fc.constantFrom('LOCAL', 'UNICAST', 'MULTICAST'))
      .map(([n, side, type]) => `-m addrtype ${n}--${side}-type ${type}`),
    fc
      .tuple(not, fc.subarray(['NEW', 'ESTABLISHED', 'INVALID', 'RELATED', 'UNTRACKED'], { minLength: 1 }))
      .map(([n, states]) => `-m conntrack ${n}--ctstate ${states.join(',')}`),
    fc
      .tuple(not, fc.constantFrom('ORIGINAL', 'REPLY'))
      .map(([n, dir]) => `-m conntrack ${n === '' ? '' : ''}--ctdir ${dir}`),
    fc
      .tuple(not, fc.subarray(['SEEN_REPLY', 'ASSURED', 'CONFIRMED'], { minLength: 1 }))
      .map(([n, status]) => `-m conntrack ${n}--ctstatus ${status.join(',')}`),
    fc
      .tuple(not, client, not, server)
      .map(
        ([n, from, m, to]) =>
          `-m conntrack --ctstate NEW,ESTABLISHED,INVALID ${n}--ctorigsrc ${from} ${m}--ctorigdst ${to}`,
      ),
    fc.tuple(not, server).map(([n, to]) => `-m conntrack ${n}--ctreplsrc ${to}`),
    fc.tuple(not, ports).map(([n, text]) => `-p tcp -m conntrack ${n}--ctorigdstport ${text}`),
    fc.tuple(not, ports).map(([n, text]) => `-p udp -m conntrack --ctproto 17 ${n}--ctrepldstport ${text}`),
    fc
      .integer({ min: 2, max: 4 })
      .chain((every) =>
        fc
          .tuple(not, fc.nat({ max: every - 1 }))
          .map(([n, packet]) => `-m statistic --mode nth ${n}--every ${every} --packet ${packet}`),
      ),
    fc
      .tuple(
        not,
        fc.constantFrom(
          '--set',
          '--rcheck',
          '--update',
          '--remove',
          '--rcheck --hitcount 3',
          '--update --hitcount 2',
          '--rcheck --rttl',
          '--update --rttl --hitcount 2',
        ),
        fc.constantFrom('A', 'B'),
        fc.constantFrom(full, part),
        fc.constantFrom('--rsource', '--rdest'),
      )
      .map(([n, action, name, mask, side]) => `-m recent ${n}${action} --name ${name} --mask ${mask} ${side}`),
  ];
  const four = [
    fc
      .tuple(not, fc.constantFrom('--ttl-eq 64', '--ttl-lt 64', '--ttl-gt 63'))
      .map(([n, text]) => `-m ttl ${text.startsWith('--ttl-eq') ? n : ''}${text}`),
    fc
      .tuple(not, fc.constantFrom('8', '0', '3', '3/1', 'any'))
      .map(([n, type]) => `-p icmp -m icmp ${n}--icmp-type ${type}`),
  ];
  const six = [
    fc
      .tuple(not, fc.constantFrom('--hl-eq 64', '--hl-lt 64', '--hl-gt 63'))
      .map(([n, text]) => `-m hl ${text.startsWith('--hl-eq') ? n : ''}${text}`),
    fc
      .tuple(not, fc.constantFrom('128', '129', '1', '1/3'))
      .map(([n, type]) => `-p ipv6-icmp -m icmp6 ${n}--icmpv6-type ${type}`),
  ];
  return fc.oneof(...both, ...(family === 4 ? four : six));
}

/** One or two matches and a chain; a list name stands in one rule only, so that its use is the rule's own. */
const ruleOf = (family: Family) =>
  fc
    .tuple(
      fc.constantFrom('mangle PREROUTING', 'mangle FORWARD', 'raw PREROUTING', 'mangle INPUT'),
      matchOf(family),
      fc.option(matchOf(family), { nil: '' }),
    )
    .map(([place, first, second]) => {
      const [table, chain] = place.split(' ') as [string, string];
      // Two protocols or two headers of a kind cannot stand in one rule.
      const clash = ['-p ', '-s ', '-d ', '-i '].some((option) => first.includes(option) && second.includes(option));
      const again = [...first.matchAll(/-m (\S+)/g)].some(([, name]) => second.includes(`-m ${name} `));
      const words = clash || again ? first : `${first} ${second}`.trim();
      return { table, rule: `-A ${chain} ${sortHeader(words)}` };
    });

/** The header's options first, as iptables-save prints them. */
function sortHeader(words: string): string {
  const header: string[] = [];
  const rest = words.replace(/(?:! )?-[sdip] \S+ ?/g, (option) => {
    header.push(option.trim());
    return '';
  });
  return [...header, rest.trim()].join(' ').trim();
}

// ---- packets ----------------------------------------------------------------------------------------------------

const payload = fc.nat({ max: 80 }).map((length) => new Uint8Array(length));

function transportOf(family: Family): fc.Arbitrary<L4Fields> {
  const option = fc.constantFrom<number[]>(
    [],
    [2, 4, 5, 180],
    [1, 1, 2, 4, 3, 232],
    [3, 3, 7],
    [8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
  );
  const chunk = fc.constantFrom(0, 1, 3, 6).map((type) => ({ type, value: new Uint8Array(type === 1 ? 16 : 12) }));
  const sport = fc.constantFrom(1000, 4000, 4001);
  return fc.oneof(
    fc.record({
      protocol: fc.constant('tcp' as const),
      sport,
      dport: port,
      flags: fc.constantFrom(2, 2, 2, 16, 18, 4, 17, 24, 1, 41),
      seq: fc.constant(1000),
      window: fc.constant(60_000),
      options: option.map((bytes) => Uint8Array.from(bytes)),
    }),
    fc.record({ protocol: fc.constant('udp' as const), sport, dport: port }),
    fc.record({
      protocol: fc.constant('sctp' as const),
      sport,
      dport: port,
      tag: fc.constant(0),
      chunks: fc.array(chunk, { minLength: 1, maxLength: 2 }),
    }),
    fc.record({
      protocol: fc.constant(family === 4 ? ('icmp' as const) : ('icmpv6' as const)),
      type: family === 4 ? fc.constantFrom(8, 0) : fc.constantFrom(128, 129),
      id: sport,
      sequence: fc.constant(1),
    }),
  );
}

function packetOf(family: Family): fc.Arbitrary<FrameFields> {
  const words = (text: string): readonly [number, number, number, number] => wordsOf(family, text);
  const src = fc.constantFrom(...CLIENTS[family]).map(words);
  const dst = fc.constantFrom(...SERVERS[family]).map(words);
  const ttl = fc.constantFrom(64, 63, 10);
  const tos = fc.constantFrom(0, 0x10, 0x08, 0xb8);
  const ethernet = { dst: NODE_MAC, src: OUTSIDE_MAC };
  return fc
    .tuple(src, dst, ttl, tos, transportOf(family), payload, fc.boolean())
    .map(([client, server, hops, type, request, data, isReply]) => {
      // The node's own address is no source of what comes in.
      const [from, to] = isReply && !isNode(family, server) ? [server, client] : [client, server];
      const l4 =
        from === server && 'sport' in request ? { ...request, sport: request.dport, dport: request.sport } : request;
      return {
        ethernet,
        ip:
          family === 4
            ? { family: 4 as const, src: from, dst: to, ttl: hops, tos: type }
            : { family: 6 as const, src: from, dst: to, hopLimit: hops, trafficClass: type },
        l4,
        ...(l4.protocol === 'sctp' ? {} : { payload: data }),
      };
    });
}

function isNode(family: Family, words: readonly number[]): boolean {
  return wordsOf(family, SERVERS[family][0]!).every((word, i) => word === words[i]);
}

function wordsOf(family: Family, text: string): readonly [number, number, number, number] {
  if (family === 4) {
    return [text.split('.').reduce((word, byte) => (word << 8) | Number(byte), 0), 0, 0, 0];
  }
  const [head = '', tail = ''] = text.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const left = groups(head);
  const right = groups(tail);
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  const word = (i: number): number => (all[i]! << 16) | all[i + 1]!;
  return [word(0), word(2), word(4), word(6)];
}

// ---- both sides -------------------------------------------------------------------------------------------------

const ADDRESSES = JSON.stringify([
  [
    { ifname: 'lo', flags: ['LOOPBACK'], addr_info: [{ local: '127.0.0.1', prefixlen: 8, scope: 'host' }] },
    {
      ifname: 'out0',
      addr_info: [
        { local: '192.0.2.10', prefixlen: 24, scope: 'global' },
        { local: '2001:db8::10', prefixlen: 64, scope: 'global' },
      ],
    },
  ],
  [{ dst: 'default', gateway: '192.0.2.1', dev: 'out0' }],
  [{ dst: 'default', gateway: '2001:db8::1', dev: 'out0' }],
]);

const BASES: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};

function dumpOf(family: Family, rules: readonly { table: string; rule: string }[]): string {
  const lines = [`# Generated by ip${family === 6 ? '6' : ''}tables-save v1.8.9 on Thu Jan  1 00:00:00 1970`];
  // Neither answers to the outside nor the namespace's own chatter may change what is counted.
  const all = [...rules, { table: 'filter', rule: '-A INPUT -j DROP' }, { table: 'filter', rule: '-A OUTPUT -j DROP' }];
  for (const [table, chains] of Object.entries(BASES)) {
    lines.push(`*${table}`, ...chains.map((chain) => `:${chain} ACCEPT [0:0]`));
    lines.push(...all.filter((entry) => entry.table === table).map(({ rule }) => rule), 'COMMIT');
  }
  return `${lines.join('\n')}\n`;
}

/** The namespace's set-up: what comes in by `out0` is routed on by it, nobody answers, neighbours are known. */
const SET_UP = `
ip link add out0 address 02:00:00:00:00:10 type veth peer name far0 &&
ip link set lo up && ip link set far0 up &&
sysctl -qw net.ipv6.conf.out0.accept_dad=0 net.ipv6.conf.out0.addr_gen_mode=1 net.ipv6.conf.far0.disable_ipv6=1 &&
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 &&
sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.out0.send_redirects=0 net.ipv4.conf.out0.rp_filter=0 &&
ip link set out0 up && ip addr add 192.0.2.10/24 dev out0 && ip addr add 2001:db8::10/64 dev out0 nodad &&
ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev out0 && ip neigh add 2001:db8::1 lladdr 02:00:00:00:00:01 dev out0 &&
ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8::1 dev out0
`;

/** Packets that each rule of the kernel has matched, in the order of the dump; null where the kernel refuses the rules. */
function countInKernel(folder: string, family: Family, dump: string, pcap: Uint8Array): number[] | null {
  const tool = `ip${family === 6 ? '6' : ''}tables-legacy`;
  writeFileSync(join(folder, 'dump'), dump);
  writeFileSync(join(folder, 'pcap'), pcap);
  const script = `${SET_UP.trim()} || exit 9
    ${tool}-restore ${folder}/dump || exit 8
    ${tool} -t raw -Z; ${tool} -t mangle -Z
    tcpreplay -q -i far0 -M 20 ${folder}/pcap >/dev/null 2>&1 || exit 7
    sleep 0.2
    ${tool}-save -c`;
  const { status, stdout, stderr } = spawnSync('unshare', [UNSHARE, 'sh', '-c', script], { encoding: 'utf8' });
  if (status === 8) return null;
  if (status !== 0) throw new Error(`the namespace could not be made (${status}): ${stderr}`);
  return countersOf(stdout);
}

/** Counters of the rules of raw and mangle, table by table as the tool orders them. */
function countersOf(saved: string): number[] {
  const counts: Record<string, number[]> = {};
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const count = /^\[(\d+):\d+\] -A/.exec(line);
    counts[table] ??= [];
    if (count !== null) counts[table].push(Number(count[1]));
  }
  return [...(counts['raw'] ?? []), ...(counts['mangle'] ?? [])];
}

/** The same by flatpath's walk. */
function countHere(folder: string, dump: string, frames: readonly Uint8Array[]): number[] {
  writeFileSync(join(folder, 'dump'), dump);
  writeFileSync(join(folder, 'node.json'), ADDRESSES);
  const request = { files: [join(folder, 'dump')], addresses: [join(folder, 'node.json')], lenient: false };
  const { model } = modelRuleset(request, null, null, {});
  const injector = new Injector(model, 'iptables');
  const counts = new Map<number, number>();
  frames.forEach((frame) => {
    const { events } = injector.inject(frame, null, null, 0, true);
    for (const hop of tellStory(injector.image, events).hops) {
      for (const step of hop.steps) {
        if (step.step === 'rule') counts.set(step.origin!.line!, (counts.get(step.origin!.line!) ?? 0) + 1);
      }
    }
  });
  const lines = dump.split('\n');
  const counted: number[] = [];
  let table = '';
  lines.forEach((line, i) => {
    if (line.startsWith('*')) table = line.slice(1);
    if (line.startsWith('-A') && table !== 'filter') counted.push(counts.get(i + 1) ?? 0);
  });
  return counted;
}

/** Chains of a table come back in hook order: rules are written that way from the start. */
function inHookOrder(rules: readonly { table: string; rule: string }[]): { table: string; rule: string }[] {
  return Object.entries(BASES).flatMap(([table, chains]) =>
    chains.flatMap((chain) => rules.filter((entry) => entry.table === table && entry.rule.startsWith(`-A ${chain} `))),
  );
}

describe.skipIf(!available)('rules of dumps, counted by the kernel', () => {
  it.each([4, 6] as const)('match what they match here, IPv%i', { timeout: 240_000 }, (family) => {
    const folder = mkdtempSync(join(tmpdir(), 'flatpath-counters-'));
    const seen = new Map<string, number>();
    let refused = 0;
    try {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          // Drawn by number: a counterexample of fifty packets says less than the rule that differs.
          const [given] = fc.sample(fc.array(ruleOf(family), { minLength: 20, maxLength: 40 }), { seed, numRuns: 1 });
          const [packets] = fc.sample(fc.array(packetOf(family), { minLength: 60, maxLength: 120 }), {
            seed,
            numRuns: 1,
          });
          const rules = inHookOrder(given!);
          const dump = dumpOf(family, rules);
          const pieces: Uint8Array[] = [];
          const write = pcapWriter('microseconds', (piece) => pieces.push(piece.slice()));
          const frames = packets!.map((packet) => buildFrame(packet));
          for (const frame of frames) write(0, 0, frame, frame.length);
          const kernel = countInKernel(folder, family, dump, Buffer.concat(pieces));
          if (kernel === null) {
            refused++;
            return;
          }
          const here = countHere(folder, dump, frames);
          const written = rules.map(({ table, rule }) => `${table} ${rule}`);
          const show = (counts: readonly number[]) => written.map((rule, i) => `${counts[i]} ${rule}`);
          expect(show(here)).toEqual(show(kernel));
          written.forEach((rule, i) => {
            for (const [, name] of rule.matchAll(/ --?([a-z-]+)/g)) seen.set(name!, (seen.get(name!) ?? 0) + here[i]!);
          });
        }),
        { ...seeded(20), endOnFailure: true },
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    console.log(`IPv${family}: ${refused} refused, ${[...seen].map(([name, count]) => `${name} ${count}`).join(', ')}`);
  });
});
