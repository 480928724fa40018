/** What a dump may not be, and what is said about it: all at once, each with its line. */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../control/src/cluster/problem.ts';
import { readIptablesSave } from '../../control/src/ruleset/iptables-save.ts';
import { modelRuleset } from '../../control/src/ruleset/node-model.ts';
import { splitRule } from '../../control/src/ruleset/rule-tokens.ts';
import { seeded } from '../compile/random-cluster.ts';
import { ask, dump, NODE_JSON, nodeOf, writeFiles } from './iptables-node.ts';

/** 'line: text' of everything that loading says. */
function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.problems.map(
      ({ line, object, message }) => `${line ?? '-'}: ${object === '' ? '' : `${object} `}${message}`,
    );
  }
  return [];
}

function alone(text: string, lenient = false) {
  return modelRuleset({ files: writeFiles({ 'node.iptables': text }), addresses: [], lenient }, null, null, {});
}

describe('words of a rule', () => {
  it('are split as iptables-restore splits them', () => {
    expect(splitRule('-A  X\t--comment "a \\"b\\" \\\\ c" -j  Y').words).toEqual([
      '-A',
      'X',
      '--comment',
      'a "b" \\ c',
      '-j',
      'Y',
    ]);
    expect(splitRule('a "" b').words).toEqual(['a', '', 'b']);
    expect(splitRule('a "b')).toEqual({ words: ['a', 'b'], open: true });
  });

  it('come back from any text that is quoted', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme-ascii' })), (words) => {
        const line = words.map((word) => `"${word.replace(/["\\]/g, '\\$&')}"`).join(' ');
        expect(splitRule(line)).toEqual({ words, open: false });
      }),
      seeded(200),
    );
  });
});

describe('a dump that is none', () => {
  it('names every line that is wrong', () => {
    const text = [
      '-A INPUT -j ACCEPT',
      '*nat',
      ':PREROUTING ACCEPT [0:0]',
      ':INPUT - [0:0]',
      ':OWN ACCEPT [0:0]',
      '-A NOSUCH -j ACCEPT',
      '-A PREROUTING -m comment --comment "open -j ACCEPT',
      '-I PREROUTING -j ACCEPT',
      'nonsense',
      '*broken',
      'COMMIT',
      '*filter',
      ':INPUT ACCEPT [0:0]',
    ].join('\n');
    expect(problemsOf(() => alone(text))).toEqual([
      '1: stands in no table: a line such as *nat comes first',
      "4: '-' is no policy of base chain INPUT: ACCEPT or DROP",
      '5: table nat has no base chain OWN; a chain of your own has the policy -',
      '6: table nat declares no chain NOSUCH',
      '7: a quote is never closed',
      "8: '-I' is not what iptables-save prints: -A CHAIN …",
      "9: 'nonsense' is not what iptables-save prints: -A CHAIN …",
      '2: table nat has no COMMIT',
      "10: '*broken' is no table: raw, mangle, nat, filter, security",
      '12: table filter has no COMMIT: the dump is cut off',
    ]);
  });

  it('is said of other files, of two dumps of one family, of kinds that do not go together', () => {
    expect(problemsOf(() => alone('hello'))).toEqual([
      '1: is not the output of iptables-save, ip6tables-save, nft list ruleset, nft -j, ipvsadm-save or ipset save',
    ]);
    const rules = dump({ filter: ['-A FORWARD -j DROP'] });
    expect(problemsOf(() => nodeOf({ a: rules, b: rules }))[0]).toMatch(/^2: IPv4 rules were given before, by .*a$/);
    expect(problemsOf(() => nodeOf({ a: rules, b: 'table ip x {\n}\n' }))).toEqual([
      '1: rules of iptables and of nftables were given; a run walks one of them',
    ]);
    expect(problemsOf(() => nodeOf({ a: 'create s hash:ip family inet\n' }))).toEqual([
      '1: ipsets need rules that ask them: add iptables-save',
    ]);
    expect(
      problemsOf(() => modelRuleset({ files: ['/nonexistent'], addresses: [], lenient: false }, null, null, {})),
    ).toHaveLength(1);
  });

  it('never breaks the reader, whatever its bytes', () => {
    const line = fc.oneof(
      fc.constantFrom('*nat', '*filter', 'COMMIT', ':INPUT ACCEPT [0:0]', ':X - [0:0]', '-A X -j X', '-A INPUT ! -s'),
      fc.string(),
      fc
        .array(fc.constantFrom('-A', 'INPUT', '-m', 'tcp', '!', '--dport', '80', '-j', '"', 'x/y', '-s', '1.2.3.4/'))
        .map((words) => words.join(' ')),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        readIptablesSave('any', lines.join('\n'), []);
      }),
      seeded(300),
    );
  });
});

describe('a rule that is not understood', () => {
  const text = dump({
    filter: [
      '-A FORWARD -p tcp -m tcp --dport 1 -j DROP',
      '-A FORWARD -m u32 --u32 "0>>22&0x3C@0>>24=0" -j DROP',
      '-A FORWARD -m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0" -j DROP',
      '-A FORWARD -p tcp -m tcp --dport 99999 -j DROP',
      '-A FORWARD -s 10.0.0.300/32 -j DROP',
      '-A FORWARD -j NOWHERE',
      '-A FORWARD -p tcp -m conntrack --ctstate OLD -j DROP',
      '-A FORWARD -m physdev --physdev-in veth1 -j DROP',
      '-A FORWARD -p tcp --nosuch 1 -j DROP',
      '-A FORWARD -m set --match-set x src -j DROP',
      '-A FORWARD -m time --timestart 10:00 -j DROP',
      '-A FORWARD -p tcp -m socket -j DROP',
      '-A FORWARD -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1',
      '-A FORWARD -p tcp -m tcp --dport',
      '-A FORWARD -p tcp -m tcp --dport 2 -j REJECT --reject-with icmp6-no-route',
      '-A FORWARD -j CT --zone 5',
      '-A FORWARD -p tcp -m recent --rcheck --set --name X',
    ],
  });

  it('is an error with its line, all of them at once', () => {
    expect(problemsOf(() => nodeOf({ 'node.iptables': text }))).toEqual([
      "5: '-m u32' flatpath does not know this match",
      "6: '-m bpf' flatpath does not know this match",
      "7: '99999' is not a port or a range of ports",
      "8: '10.0.0.300' is not an IPv4 address",
      "9: '-j NOWHERE' neither a target that flatpath knows nor a chain of this table",
      "10: 'OLD' 'OLD' is not a state that flatpath knows",
      "11: '--physdev-in veth1' which port of a bridge a packet takes is not known here",
      "12: '--nosuch' flatpath does not know this option of the rule",
      "13: '--match-set x' no set of this name was given: add the output of ipset save",
      "14: '-m time' flatpath does not know this match",
      "15: '-m socket' cannot be told from packets, addresses and connections",
      "16: '-j TPROXY' neither a target that flatpath knows nor a chain of this table",
      "17: '--dport' lacks a value",
      "18: '--reject-with icmp6-no-route' is not a kind of refusal",
      "19: '--zone' a node is one conntrack zone here",
      "20: '-m recent' has one of --set, --rcheck, --update, --remove",
    ]);
  });

  it('leniently never matches and is named', () => {
    const node = nodeOf({ 'node.iptables': text }, true);
    expect(node.loaded.skipped).toHaveLength(16);
    expect(node.loaded.skipped[0]).toMatchObject({ line: 5, text: '-m u32' });
    expect(ask(node, '203.0.113.1', '10.244.1.5:1').verdict).toBe('dropped');
    expect(ask(node, '203.0.113.1', '10.244.1.5:2').verdict).toBe('forwarded');
  });
});

describe('a node of which nothing is known', () => {
  it('refuses what depends on addresses, routes and interfaces, with its line', () => {
    const text = dump({
      nat: [
        '-A PREROUTING -d 203.0.113.50/32 -p tcp -j DNAT --to-destination 10.244.1.5:80',
        '-A PREROUTING -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.244.1.5',
        '-A PREROUTING -i eth0 -j ACCEPT',
        '-A POSTROUTING -j MASQUERADE',
      ],
      filter: ['-A FORWARD -s 198.51.100.0/24 -j DROP', '-A INPUT -j DROP'],
      raw: ['-A PREROUTING -m rpfilter --invert -j DROP'],
    });
    const hint =
      "depends on the node's addresses, routes and interfaces: give --addresses (ip -j addr, ip -j route), or -f and --node";
    expect(problemsOf(() => alone(text))).toEqual([
      `6: '--dst-type LOCAL' ${hint}`,
      `7: '-i eth0' ${hint}`,
      `8: 'nat POSTROUTING' which packets meet it ${hint}`,
      `8: '-j MASQUERADE' ${hint}`,
      `13: 'filter FORWARD' which packets meet it ${hint}`,
      `14: 'filter INPUT' which packets meet it ${hint}`,
      `18: '-m rpfilter' ${hint}`,
    ]);
    const lenient = alone(text, true);
    expect(ask(lenient, '203.0.113.1', '203.0.113.50:1')).toMatchObject({
      verdict: 'forwarded',
      backends: ['10.244.1.5:80'],
    });
    expect(ask(lenient, '198.51.100.1', '203.0.113.50:1').verdict).toBe('dropped');
  });

  it('runs what does not depend on them', () => {
    const node = alone(
      dump({ nat: ['-A PREROUTING -d 203.0.113.50/32 -p tcp -j DNAT --to-destination 10.244.1.5:80'] }),
    );
    expect(ask(node, '10.1.2.3', '203.0.113.50:443')).toMatchObject({
      verdict: 'forwarded',
      backends: ['10.244.1.5:80'],
    });
  });
});

describe('addresses', () => {
  const rules = dump({ filter: ['-A INPUT -j ACCEPT'] });
  const load = (...texts: string[]) => {
    const files = Object.fromEntries(texts.map((text, i) => [`a${i}.json`, text]));
    return modelRuleset(
      { files: writeFiles({ r: rules }), addresses: writeFiles(files), lenient: false },
      null,
      'worker-1',
      {},
    );
  };
  const { addr, route, route6 } = JSON.parse(NODE_JSON);

  it('may stand in one file or several, arrays behind each other too', () => {
    const forms = [
      [NODE_JSON],
      [JSON.stringify(addr), JSON.stringify([...route]), JSON.stringify(route6)],
      [`${JSON.stringify(addr)}\n${JSON.stringify(route, null, 2)}\n${JSON.stringify(route6)}\n`],
      [JSON.stringify({ interfaces: { all: addr } }), JSON.stringify([route, route6])],
    ];
    for (const form of forms) {
      const node = load(...form);
      expect(node.model.cluster.nodes[0]!.metadata.name).toBe('worker-1');
      expect(node.model.cluster.nodes[0]!.status.addresses.map(({ address }) => address)).toEqual([
        '192.0.2.10',
        '192.0.2.11',
        '10.244.1.1',
        '10.245.0.1',
        '2001:db8::10',
        'fe80::1',
        'fe80::ecee',
      ]);
      expect(node.loaded.ruleset.interfaceNames).toEqual(['cali12', 'cni0', 'eth0', 'lo', 'tunl0', 'veth1']);
      expect(ask(node, '203.0.113.1', '10.246.0.1:1').out).toEqual(['tunl0']);
      expect(ask(node, '203.0.113.1', '192.0.2.11:1').verdict).toBe('delivered');
    }
  });

  it('that are wrong are named with their place', () => {
    expect(problemsOf(() => load('no json'))).toEqual([
      '-: is not JSON: the output of ip -j addr and ip -j route is expected',
    ]);
    expect(problemsOf(() => load(JSON.stringify(addr)))).toEqual(['-: no routes: add the output of ip -j route']);
    expect(problemsOf(() => load(JSON.stringify(route)))).toEqual(['-: no interfaces: add the output of ip -j addr']);
    expect(problemsOf(() => load('{"a": [{"b": 1}]}'))).toHaveLength(1);
    const broken = [
      {
        ifname: 'eth0',
        addr_info: [
          { local: '300.0.0.1', prefixlen: 24 },
          { local: '10.0.0.1', prefixlen: 64 },
        ],
      },
      { ifindex: 4, addr_info: [] },
    ];
    const routes = [{ dst: 'nowhere', dev: 'eth0' }, { dst: '10.0.0.0/8' }, { dst: '10.0.0.0/40', dev: 'eth0' }];
    expect(problemsOf(() => load(JSON.stringify(broken), JSON.stringify(routes)))).toEqual([
      '-: is not an address with its prefixlen',
      '-: is not an address with its prefixlen',
      '-: an interface without ifname',
      "-: dst 'nowhere' is not a prefix of IPv4",
      '-: route 10.0.0.0/8 has no dev',
      "-: dst '10.0.0.0/40' is not a prefix of IPv4",
    ]);
  });

  it('warn of routes that are left out', () => {
    const odd = [
      ...route,
      { dst: '10.9.0.0/16', dev: 'eth0', table: '1000' },
      { dst: '10.8.0.0/16', nexthops: [{ dev: 'cni0' }, { dev: 'eth0' }] },
    ];
    const node = load(JSON.stringify(addr), JSON.stringify(odd));
    expect(node.loaded.warnings).toEqual([
      'route 10.8.0.0/16 has 2 next hops: the first is taken',
      'routes of table 1000 are left out: rules that ask them are not known',
    ]);
    expect(ask(node, '203.0.113.1', '10.8.0.1:1').out).toEqual(['cni0']);
    // No IPv6 route was given: those of the addresses' subnets stand in.
    expect(ask(node, '2001:db8::99', '[2001:db8::77]:1').out).toEqual(['eth0']);
    expect(ask(node, '2001:db8::99', '[2001:db8:1::77]:1')).toMatchObject({ verdict: 'dropped', reason: 'unroutable' });
  });
});
