/**
 * The chains and rules of an iptables dump as items of a check (check.ts).
 *
 * Rules are the same where they say the same: comments, modules without options, the order of options, ways to write an
 * address and a mark do not count. A rule of a base chain is kube-proxy's if it jumps to a chain of kube-proxy's. kubelet,
 * kube-router and others name chains KUBE-… too: theirs are foreign.
 */

import { BASE_CHAINS } from '../compile/iptables-base.ts';
import type { Family } from '../model/address.ts';
import type { CheckItem } from './check.ts';
import { type Given, type GivenRule, NotUnderstoodRule, readRule } from './iptables-rule.ts';
import type { DumpRule, DumpTable, IptablesDump } from './iptables-save.ts';
import { ruleTarget } from './iptables-target.ts';
import type { RuleContext } from './rule-context.ts';
import { readMasked, readProtocol } from './rule-values.ts';

const PER_SERVICE = /^KUBE-(?:SVC|SVL|EXT|FW|SEP|XLB)-[A-Z2-7]{16}$/;
/** kube-proxy's, in iptables and ipvs mode. KUBE-FIREWALL is kubelet's too: it is nobody's leftover. */
const FIXED = new Set([
  'KUBE-SERVICES',
  'KUBE-EXTERNAL-SERVICES',
  'KUBE-NODEPORTS',
  'KUBE-NODE-PORT',
  'KUBE-POSTROUTING',
  'KUBE-MARK-MASQ',
  'KUBE-FORWARD',
  'KUBE-PROXY-FIREWALL',
  'KUBE-PROXY-CANARY',
  'KUBE-LOAD-BALANCER',
  'KUBE-SOURCE-RANGES-FIREWALL',
  'KUBE-IPVS-FILTER',
  'KUBE-IPVS-OUT-FILTER',
]);

/** True for the name of a chain that kube-proxy writes. */
export function isKubeProxyChain(name: string): boolean {
  return FIXED.has(name) || PER_SERVICE.test(name);
}

export function iptablesItems(dump: IptablesDump): CheckItem[] {
  const items: CheckItem[] = [];
  const { file, family } = dump;
  for (const table of dump.tables.values()) {
    for (const chain of table.chains.values()) {
      const isBase = BASE_CHAINS[table.name].includes(chain.name);
      const isOwn = isKubeProxyChain(chain.name);
      if (!isBase) {
        const text = `:${chain.name}`;
        items.push({
          place: table.name,
          key: text,
          text,
          file,
          line: chain.line,
          isOwn,
          holds: `${table.name} ${chain.name}`,
        });
      }
      for (const rule of chain.rules) {
        const { key, target } = readKey(rule, table, family);
        items.push({
          place: `${table.name} ${chain.name}`,
          key,
          text: rule.text,
          file,
          line: rule.line,
          isOwn: isBase ? isKubeProxyChain(target) : isOwn,
          holds: null,
        });
      }
    }
  }
  return items;
}

/** What a rule does, and the chain or target that it goes to. A rule that cannot be read is its words. */
function readKey(rule: DumpRule, table: DumpTable, family: Family): { key: string; target: string } {
  try {
    const given = readRule(rule.words, (name) => table.chains.has(name));
    return { key: describeRule(given, family), target: given.target?.name ?? '' };
  } catch (error) {
    if (!(error instanceof NotUnderstoodRule)) throw error;
    return { key: rule.words.join(' '), target: rule.words[rule.words.indexOf('-j') + 1] ?? '' };
  }
}

function describeRule({ header, matches, target }: GivenRule, family: Family): string {
  const parts = header.map((given) => describeHeader(given, family)).filter((part) => part !== '');
  parts.sort();
  for (const { name, options } of matches) {
    if (name === 'comment' || options.length === 0) continue;
    parts.push(`${name} ${options.map(describeGiven).sort().join(' ')}`);
  }
  if (target !== null) parts.push(describeTarget(target.name, target.options, target.isGoto, family));
  return parts.join(' | ');
}

function describeHeader(given: Given, family: Family): string {
  const [text = ''] = given.values;
  switch (given.option) {
    case 'source':
    case 'destination': {
      const { words, mask } = readMasked(text, family);
      if (mask.every((word) => word === 0) && !given.invert) return '';
      return `${given.option}${given.invert ? ' not' : ''} ${words.join('.')}/${mask.join('.')}`;
    }
    case 'protocol':
      return `protocol${given.invert ? ' not' : ''} ${readProtocol(text)}`;
    default:
      return describeGiven(given);
  }
}

function describeGiven({ option, invert, values }: Given): string {
  return `${option}${invert ? ' not' : ''} ${values.join(' ')}`;
}

/** Marks may be written in several ways; what the engine would run is the same. */
function describeTarget(name: string, options: readonly Given[], isGoto: boolean, family: Family): string {
  if (name === 'MARK' || name === 'CONNMARK' || name === 'REJECT') {
    const context: RuleContext = {
      family,
      table: 'filter',
      place: { kind: 'unknown' },
      ruleName: '',
      lists: new Map(),
      sets: new Set(),
      hasIpvs: false,
      assume: () => undefined,
    };
    return JSON.stringify(ruleTarget({ name, options: [...options], isGoto }, context));
  }
  return `${isGoto ? 'goto' : 'to'} ${name} ${options.map(describeGiven).sort().join(' ')}`;
}
