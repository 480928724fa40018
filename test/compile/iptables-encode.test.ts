/**
 * The encoded rules against the text: every body is read back into words of the command line and must say the same as
 * the line that `iptables-save` prints, chain by chain and node by node.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { type CompiledRules, compileIptables } from '../../control/src/compile/iptables.ts';
import { renderIptablesSave } from '../../control/src/compile/iptables-save.ts';
import { type Family, formatWords, parsePrefix } from '../../control/src/model/address.ts';
import { type DatapathConfig, resolveDatapath } from '../../control/src/model/datapath.ts';
import { describeOrigin } from '../../control/src/model/origin.ts';
import * as owner from '../../engine/src/programs/owner.ts';
import * as list from '../../engine/src/tables/rule-list.ts';
import { kubeProxyConfig, makeCluster, makeNode, makeService, makeSlice } from './fixture.ts';
import { randomCluster, randomConfig, seeded } from './random-cluster.ts';

const STATES: [number, string][] = [
  [list.CTSTATE_INVALID, 'INVALID'],
  [list.CTSTATE_NEW, 'NEW'],
  [list.CTSTATE_RELATED, 'RELATED'],
  [list.CTSTATE_ESTABLISHED, 'ESTABLISHED'],
  [list.CTSTATE_DNAT, 'DNAT'],
];
const PROTOCOLS: Record<number, string> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };
const TARGETS: Record<number, string> = {
  [list.TARGET_ACCEPT]: 'ACCEPT',
  [list.TARGET_DROP]: 'DROP',
  [list.TARGET_RETURN]: 'RETURN',
};

/** A rule of the rule list as sorted words, such as 'dport 80', 'target KUBE-SVC-…'. */
interface ReadRule {
  readonly id: number;
  readonly words: string[];
  readonly ops: number[];
}

function readBody(compiled: CompiledRules, family: Family, start: number): ReadRule[] {
  const { words } = compiled.rules;
  const found: ReadRule[] = [];
  let at = start;
  while (words[at] !== 0) {
    const end = at + words[at]!;
    const said: string[] = [];
    const ops: number[] = [];
    const args = [...words.subarray(at + list.RULE_HEAD, at + words[at + 2]!)];
    said.push(readTarget(compiled, family, words[at + 1]!, args));
    for (let m = at + words[at + 2]!; m < end; m += words[m]! >>> 8) {
      const operands = [...words.subarray(m + 1, m + (words[m]! >>> 8))];
      ops.push(words[m]! & 0x7f);
      const not = (words[m]! & list.MATCH_INVERT) === 0 ? '' : '! ';
      said.push(not + readMatch(compiled, family, words[m]! & 0x7f, operands));
    }
    found.push({ id: words[at + 3]!, words: said.filter((word) => word !== '').sort(), ops });
    at = end;
  }
  return found;
}

function readTarget(compiled: CompiledRules, family: Family, target: number, args: number[]): string {
  switch (target) {
    case list.TARGET_CONTINUE:
      return '';
    case list.TARGET_JUMP:
      return `target ${compiled.chain(args[0]!).name}`;
    case list.TARGET_REJECT:
      expect(args).toEqual([list.REJECT_PORT_UNREACHABLE]);
      return 'target REJECT';
    case list.TARGET_MARK:
      return `target MARK 0x${args[0]!.toString(16)}/0x${args[1]!.toString(16)}`;
    case list.TARGET_DNAT: {
      expect(args[4]).toBe(args[5]);
      const text = formatWords(family, [args[0]!, args[1]!, args[2]!, args[3]!]);
      return `target DNAT ${family === 4 ? text : `[${text}]`}:${args[4]}`;
    }
    case list.TARGET_MASQUERADE:
      expect(args[0]! & list.MASQUERADE_RANDOM_FULLY).toBe(list.MASQUERADE_RANDOM_FULLY);
      return 'target MASQUERADE';
    default:
      return `target ${TARGETS[target]}`;
  }
}

function readMatch(compiled: CompiledRules, family: Family, op: number, operands: number[]): string {
  const [a, b, c] = [operands[0]!, operands[1]!, operands[2]!];
  const prefix = () => {
    const half = operands.length / 2;
    const bits = operands.slice(half).map((word) => (word >>> 0).toString(2).padStart(32, '0'));
    const length = bits.join('').replace(/0+$/, '').length;
    expect(bits.join('').slice(0, length)).toMatch(/^1*$/);
    return `${formatWords(family, [operands[0]!, half > 1 ? operands[1]! : 0, half > 1 ? operands[2]! : 0, half > 1 ? operands[3]! : 0])}/${length}`;
  };
  switch (op) {
    case list.MATCH_SRC4:
    case list.MATCH_SRC6:
      return `source ${prefix()}`;
    case list.MATCH_DST4:
    case list.MATCH_DST6:
      return `destination ${prefix()}`;
    case list.MATCH_IN_IFACE:
      expect(a).toBe(list.IFACE_POD);
      return 'in pods';
    case list.MATCH_PROTO:
      return `proto ${PROTOCOLS[a]}`;
    case list.MATCH_DPORT:
      expect(a).toBe(b);
      return `dport ${a}`;
    case list.MATCH_MARK:
      return `mark 0x${a.toString(16)}/0x${b.toString(16)}`;
    case list.MATCH_CTSTATE:
      return `ctstate ${STATES.filter(([bit]) => (a & bit) !== 0).map(([, name]) => name)}`;
    case list.MATCH_SRC_TYPE:
    case list.MATCH_DST_TYPE:
      expect(a).toBe(list.ADDRTYPE_LOCAL);
      return `${op === list.MATCH_SRC_TYPE ? 'src' : 'dst'}-type LOCAL`;
    case list.MATCH_STATISTIC:
      return `probability ${(a / 2 ** 31).toFixed(9)}`;
    case list.MATCH_RECENT:
      expect(b).toBeLessThan(compiled.recentLists);
      return a === list.RECENT_SET
        ? `recent set ${compiled.recentList(b)}`
        : `recent ${a === (list.RECENT_CHECK | list.RECENT_REAP) ? 'rcheck' : a} ${c} ${compiled.recentList(b)}`;
    default:
      throw new Error(`match ${op}`);
  }
}

/** The same words from a line of `iptables-save`, by a reader that knows nothing of the compile. */
function readLine(line: string): string[] {
  const said: string[] = [];
  const tokens = line.replace(/-m comment --comment (?:"[^"]*"|\S+)/, '').split(/ +/);
  let not = '';
  const seconds = /--seconds (\d+)/.exec(line)?.[1];
  const recent = / --name (\S+)/.exec(line)?.[1];
  for (let i = 2; i < tokens.length; i++) {
    const value = tokens[i + 1]!;
    const say = (word: string) => {
      said.push(not + word);
      not = '';
      i++;
    };
    switch (tokens[i]) {
      case '!':
        not = '! ';
        break;
      case '-s':
        say(`source ${parsePrefix(value)!.text}`);
        break;
      case '-d':
        say(`destination ${parsePrefix(value)!.text}`);
        break;
      case '-i':
        say('in pods');
        break;
      case '-p':
        say(`proto ${value}`);
        break;
      case '--dport':
        say(`dport ${value}`);
        break;
      case '--mark':
        say(`mark ${value}`);
        break;
      case '--ctstate':
        say(`ctstate ${value}`);
        break;
      case '--src-type':
      case '--dst-type':
        say(`${tokens[i]!.slice(2)} ${value}`);
        break;
      case '--probability':
        say(`probability ${Number(value).toFixed(9)}`);
        break;
      case '--set':
        said.push(`recent set ${recent}`);
        break;
      case '--rcheck':
        said.push(`recent rcheck ${seconds} ${recent}`);
        break;
      case '-j': {
        const more = value === 'MARK' || value === 'DNAT' ? ` ${tokens[i + 3]}` : '';
        say(`target ${value}${more}`);
        break;
      }
    }
  }
  return said.sort();
}

const row = ({ rules }: CompiledRules, node: number) => {
  const at = rules.rows[node]! * rules.chains;
  return at < 0 ? rules.starts.subarray(0, 0) : rules.starts.subarray(at, at + rules.chains);
};
const base = ({ rules }: CompiledRules, node: number, hook: number, table: number) =>
  rules.rows[node] === -1 ? -1 : rules.bases[(rules.rows[node]! * list.HOOKS + hook) * list.RULE_TABLES + table]!;

/** Rules of the text by 'table chain'. */
function chainsOfText(text: string): Map<string, string[]> {
  const chains = new Map<string, string[]>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    if (!line.startsWith('-A ')) continue;
    const key = `${table} ${line.split(' ')[1]}`;
    chains.set(key, [...(chains.get(key) ?? []), line]);
  }
  return chains;
}

function expectAgreement(cluster: Cluster, config: DatapathConfig, family: Family, names: string[]): void {
  const compiled = compileIptables(cluster, config, family, names);
  cluster.nodes.forEach((node, index) => {
    const starts = row(compiled, index);
    if (!names.includes(node.metadata.name)) {
      expect(starts.every((start) => start === -1)).toBe(true);
      return;
    }
    const text = chainsOfText(renderIptablesSave(cluster, config, node.metadata.name, family));
    const encoded = new Map<string, ReadRule[]>();
    starts.forEach((start, id) => {
      const { table, name } = compiled.chain(id);
      if (start >= 0) encoded.set(`${table} ${name}`, readBody(compiled, family, start));
    });
    expect([...encoded.keys()].sort()).toEqual([...text.keys()].sort());
    for (const [key, lines] of text) {
      const rules = encoded.get(key)!;
      expect(rules.map((rule) => compiled.rule(rule.id).text)).toEqual(lines);
      expect(rules.map((rule) => rule.words)).toEqual(lines.map(readLine));
    }
  });
}

const OUTBOUND_OFF = { pods: { masqueradeOutbound: false } };

describe('encoded rules', () => {
  it('say what the text says, for random clusters', () => {
    fc.assert(
      fc.property(
        randomCluster,
        randomConfig,
        fc.constantFrom(4 as const, 6 as const),
        fc.subarray(['node-1', 'node-2', 'node-3']),
        (cluster, config, family, names) => {
          expectAgreement(cluster, { ...config, ...OUTBOUND_OFF }, family, names);
        },
      ),
      seeded(120),
    );
  });

  const nodes = [makeNode('node-1', ['192.168.0.1']), makeNode('node-2', ['192.168.0.2'])];
  const services = [
    makeService('shop/web', {
      clusterIPs: ['10.96.0.1'],
      type: 'NodePort',
      sessionAffinity: 'ClientIP',
      ports: [{ name: 'http', nodePort: 30080 }],
    }),
    makeService('shop/db', { clusterIPs: ['10.96.0.2'], internalTrafficPolicy: 'Local', ports: [{ name: 'sql' }] }),
  ];
  const endpointSlices = [
    makeSlice('shop/web', [{ name: 'http', port: 80 }], [{ address: '10.244.0.1' }, { address: '10.244.0.2' }]),
    makeSlice('shop/db', [{ name: 'sql', port: 80 }], [{ address: '10.244.0.3', nodeName: 'node-2' }]),
  ];
  const cluster = makeCluster({ nodes, services, endpointSlices });

  it('enter at the hooks that have rules, and nowhere else', () => {
    const compiled = compileIptables(cluster, kubeProxyConfig(), 4, ['node-2']);
    const entered: string[] = [];
    for (let hook = 0; hook < list.HOOKS; hook++) {
      for (let table = 0; table < list.RULE_TABLES; table++) {
        expect(base(compiled, 0, hook, table)).toBe(-1);
        const chain = base(compiled, 1, hook, table);
        if (chain < 0) continue;
        const info = compiled.chain(chain);
        entered.push(`${hook} ${table} ${info.table} ${info.name}`);
        expect(row(compiled, 1)[chain]).toBeGreaterThanOrEqual(0);
      }
    }
    expect(entered).toEqual([
      `${list.HOOK_PREROUTING} ${list.TABLE_NAT} nat PREROUTING`,
      `${list.HOOK_INPUT} ${list.TABLE_FILTER} filter INPUT`,
      `${list.HOOK_FORWARD} ${list.TABLE_FILTER} filter FORWARD`,
      `${list.HOOK_OUTPUT} ${list.TABLE_NAT} nat OUTPUT`,
      `${list.HOOK_OUTPUT} ${list.TABLE_FILTER} filter OUTPUT`,
      `${list.HOOK_POSTROUTING} ${list.TABLE_NAT} nat POSTROUTING`,
    ]);
    expect(compiled.rules.policies.every((policy) => policy === list.TARGET_ACCEPT)).toBe(true);
  });

  it('share equal bodies between nodes and keep apart what differs', () => {
    const compiled = compileIptables(cluster, kubeProxyConfig(), 4, ['node-1', 'node-2']);
    const [one, two] = [row(compiled, 0), row(compiled, 1)];
    const differing = [...one.keys()].filter((id) => one[id] !== two[id]).map((id) => compiled.chain(id));
    const names = differing.map(({ table, name }) => `${table} ${name.slice(0, 9)}`).sort();
    expect(names).toEqual(['filter KUBE-SERV', 'nat KUBE-SEP-', 'nat KUBE-SERV', 'nat KUBE-SVL-']);
    const shared = [...one.keys()].filter((id) => one[id] === two[id] && one[id]! >= 0);
    expect(shared.some((id) => compiled.chain(id).name.startsWith('KUBE-SVC-'))).toBe(true);
    expect(shared.some((id) => compiled.chain(id).name.startsWith('KUBE-EXT-'))).toBe(true);
  });

  it('are one body each where all nodes are alike', () => {
    const alike = makeCluster({ nodes, services: services.slice(0, 1), endpointSlices });
    const compiled = compileIptables(alike, kubeProxyConfig(), 4, ['node-1', 'node-2']);
    expect(row(compiled, 0)).toEqual(row(compiled, 1));
  });

  it('check the destination before anything else in KUBE-SERVICES', () => {
    const compiled = compileIptables(cluster, kubeProxyConfig(), 4, ['node-2']);
    const id = [...row(compiled, 1).keys()].find(
      (chain) => compiled.chain(chain).table === 'nat' && compiled.chain(chain).name === 'KUBE-SERVICES',
    );
    const [first] = readBody(compiled, 4, row(compiled, 1)[id!]!);
    expect(first!.ops).toEqual([list.MATCH_DST4, list.MATCH_PROTO, list.MATCH_DPORT]);
  });

  it('masquerade outbound traffic of pods behind kube-proxy, unless switched off', () => {
    const compiled = compileIptables(cluster, kubeProxyConfig(), 4, ['node-1']);
    const start = row(compiled, 0)[base(compiled, 0, list.HOOK_POSTROUTING, list.TABLE_NAT)]!;
    const jumps = readBody(compiled, 4, start);
    expect(jumps.map((rule) => rule.words)).toEqual([['target KUBE-POSTROUTING'], ['target CNI-MASQ']]);
    const id = [...row(compiled, 0).keys()].find((chain) => compiled.chain(chain).name === 'CNI-MASQ');
    const at = row(compiled, 0)[id!]!;
    const pods = owner.OWNER_BIT_POD | owner.OWNER_BIT_POD_CIDR | owner.OWNER_BIT_CLUSTER;
    const inside = pods | owner.OWNER_BIT_NODE | owner.OWNER_BIT_SERVICE;
    const { words } = compiled.rules;
    expect([...words.subarray(at + 1, at + words[at]!)]).toEqual([
      list.TARGET_MASQUERADE,
      list.RULE_HEAD + 1,
      words[at + 3],
      list.MASQUERADE_RANDOM_FULLY | list.MASQUERADE_OUTBOUND,
      list.MATCH_SRC_OWNER | (2 << 8),
      pods,
      list.MATCH_DST_OWNER | list.MATCH_INVERT | (2 << 8),
      inside,
    ]);
    expect(compiled.rule(words[at + 3]!)).toMatchObject({
      text: '-A CNI-MASQ -m comment --comment "outbound traffic of pods" -m set --match-set CNI-PODS src -m set ! --match-set CNI-CLUSTER dst -j MASQUERADE --random-fully',
      origin: { kind: 'Datapath', field: 'pods.masqueradeOutbound' },
    });
    const off = compileIptables(cluster, resolveDatapath(OUTBOUND_OFF), 4, ['node-1']);
    for (let chain = 0; chain < off.rules.chains; chain++) expect(off.chain(chain).name).not.toBe('CNI-MASQ');
  });

  it('lead back to objects and fields', () => {
    const compiled = compileIptables(cluster, kubeProxyConfig(), 4, ['node-1', 'node-2']);
    const rules = Array.from({ length: compiled.ruleCount }, (_, id) => compiled.rule(id));
    const origins = (part: string) => {
      const rule = rules.find(({ text }) => text.includes(part))!;
      return [rule.origin, ...rule.further].map(describeOrigin);
    };
    expect(origins('-A KUBE-SERVICES -d 10.96.0.1/32')).toEqual([
      'Service shop/web spec.clusterIP',
      'Service shop/web spec.ports[0].port',
    ]);
    expect(origins('--to-destination 10.244.0.2:80')).toEqual([
      'EndpointSlice shop/web-abcde endpoints[1].addresses[0]',
      'EndpointSlice shop/web-abcde ports[0].port',
      'Service shop/web spec.sessionAffinity',
    ]);
    expect(origins('--probability')[0]).toBe('EndpointSlice shop/web-abcde endpoints[0].addresses[0]');
    expect(origins('--rcheck')[0]).toBe('Service shop/web spec.sessionAffinity');
    expect(origins('--dport 30080')).toEqual(['Service shop/web spec.ports[0].nodePort']);
    expect(origins('has no local endpoints')[0]).toBe('Service shop/db spec.internalTrafficPolicy');
    expect(origins('external destinations')).toEqual(['Service shop/web spec.externalTrafficPolicy']);
    expect(origins('! -s 10.244.0.0/16')[0]).toBe('Datapath configuration kubeProxy.detectLocalMode');
    expect(origins('KUBE-POSTROUTING -j MARK')).toEqual(['Datapath configuration kubeProxy']);
    const all = compileIptables(cluster, kubeProxyConfig({ masqueradeAll: true }), 4, ['node-1']);
    const texts = Array.from({ length: all.ruleCount }, (_, id) => all.rule(id));
    const mark = texts.find(({ text }) => text.includes('-A KUBE-SVC') && text.includes('KUBE-MARK-MASQ'))!;
    expect(mark.origin.field).toBe('kubeProxy.masqueradeAll');
  });

  it('refuse ids and nodes that there are not', () => {
    const compiled = compileIptables(cluster, kubeProxyConfig(), 4, ['node-1']);
    expect(() => compiled.rule(compiled.ruleCount)).toThrow(`there is no rule ${compiled.ruleCount}`);
    expect(() => compiled.chain(-1)).toThrow('there is no chain -1');
    expect(() => compiled.recentList(99)).toThrow('there is no recent list 99');
    expect(() => compileIptables(cluster, kubeProxyConfig(), 4, ['node-9'])).toThrow("no node 'node-9'");
  });

  it('are the same words for the same input', () => {
    const again = makeCluster({ nodes, services, endpointSlices });
    const [a, b] = [cluster, again].map((input) => compileIptables(input, kubeProxyConfig(), 4, ['node-1', 'node-2']));
    expect(a!.rules.words).toEqual(b!.rules.words);
    expect(a!.rules.starts).toEqual(b!.rules.starts);
  });
});
