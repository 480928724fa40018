/**
 * What iptables-save and ip6tables-save print, as tables, chains and the words of each rule. Nothing is understood of a
 * rule here but its chain; that is `iptables-rule.ts`.
 *
 * Read: counters in brackets (`-c`), `-4` and `-6` in front of a rule of a combined file, several files' worth of tables
 * in one. A table that comes twice is the later one's, as a restore would have it.
 * Refused, with the line and all at once: what is no table, chain or rule; a rule outside a table or of a chain that is
 * not declared; a policy that is none; a quote without an end; a table that is never committed.
 */

import type { Problem } from '../cluster/problem.ts';
import { BASE_CHAINS } from '../compile/iptables-base.ts';
import type { TableName } from '../compile/iptables-rules.ts';
import type { Family } from '../model/address.ts';
import { dumpError } from './not-understood.ts';
import { splitRule } from './rule-tokens.ts';

export interface DumpRule {
  /** 1-based. */
  readonly line: number;
  /** The line from `-A` on, counters left out. */
  readonly text: string;
  /** Words behind the chain's name. */
  readonly words: readonly string[];
}

export interface DumpChain {
  readonly name: string;
  /** 'ACCEPT' or 'DROP' of a base chain, null of another. */
  readonly policy: 'ACCEPT' | 'DROP' | null;
  readonly line: number;
  readonly rules: DumpRule[];
}

export interface DumpTable {
  readonly name: TableName;
  readonly line: number;
  readonly chains: Map<string, DumpChain>;
}

export interface IptablesDump {
  readonly file: string;
  readonly family: Family;
  readonly tables: Map<TableName, DumpTable>;
}

const TABLES: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter', 'security'];
const COUNTERS = /^\[\d+:\d+\]\s*/;

/** True for text that iptables-save could have printed. */
export function isIptablesSave(text: string): boolean {
  return /^\*(raw|mangle|nat|filter|security)\s*$/m.test(text);
}

/**
 * Reads a dump.
 * @param problems every error of the dump is added
 */
export function readIptablesSave(file: string, text: string, problems: Problem[]): IptablesDump {
  const dump: IptablesDump = { file, family: familyOf(text), tables: new Map() };
  let table: DumpTable | null = null;
  const fail = (line: number, message: string): void => {
    problems.push(dumpError(file, line, message));
  };
  text.split('\n').forEach((raw, index) => {
    const line = index + 1;
    const words = raw.trim();
    if (words === '' || words.startsWith('#')) return;
    if (words.startsWith('*')) {
      if (table !== null) fail(table.line, `table ${table.name} has no COMMIT`);
      table = null;
      const name = TABLES.find((known) => known === words.slice(1).trim());
      if (name === undefined) fail(line, `'${words}' is no table: ${TABLES.join(', ')}`);
      table = { name: name ?? 'filter', line, chains: new Map() };
    } else if (table === null) fail(line, 'stands in no table: a line such as *nat comes first');
    else if (words === 'COMMIT') {
      if (table.chains.size > 0) dump.tables.set(table.name, table);
      table = null;
    } else if (words.startsWith(':')) readChain(table, words, line, fail);
    else readRule(dump.family, table, words, line, fail);
  });
  // The assignments above happen in a closure, which the checker does not follow.
  const open = table as DumpTable | null;
  if (open !== null) fail(open.line, `table ${open.name} has no COMMIT: the dump is cut off`);
  return dump;
}

function readChain(table: DumpTable, words: string, line: number, fail: (line: number, message: string) => void): void {
  const [name = '', policy = ''] = words.slice(1).split(/\s+/);
  const isBase = BASE_CHAINS[table.name].includes(name);
  if (name === '') fail(line, 'a chain without a name');
  else if (isBase && policy !== 'ACCEPT' && policy !== 'DROP') {
    fail(line, `'${policy}' is no policy of base chain ${name}: ACCEPT or DROP`);
  } else if (!isBase && policy !== '-') {
    fail(line, `table ${table.name} has no base chain ${name}; a chain of your own has the policy -`);
  } else {
    table.chains.set(name, { name, policy: policy === 'ACCEPT' || policy === 'DROP' ? policy : null, line, rules: [] });
  }
}

function readRule(
  family: Family,
  table: DumpTable,
  text: string,
  line: number,
  fail: (line: number, message: string) => void,
): void {
  const plain = text.replace(COUNTERS, '');
  const tokens = splitRule(plain);
  if (tokens.open) {
    fail(line, 'a quote is never closed');
    return;
  }
  let words = tokens.words;
  if (words[0] === '-4' || words[0] === '-6') {
    if (words[0] !== `-${family}`) return;
    words = words.slice(1);
  }
  const [command, name] = words;
  if (command !== '-A' && command !== '--append') {
    fail(line, `'${command}' is not what iptables-save prints: -A CHAIN …`);
    return;
  }
  const chain = table.chains.get(name ?? '');
  if (chain === undefined) fail(line, `table ${table.name} declares no chain ${name ?? ''}`);
  else chain.rules.push({ line, text: plain, words: words.slice(2) });
}

/** The header says which tool it was; without it any IPv6 address or name does. */
function familyOf(text: string): Family {
  const header = /^# Generated by (ip6?)tables/m.exec(text);
  if (header !== null) return header[1] === 'ip6' ? 6 : 4;
  return /^-A .*(?:\s[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*(?:\/\d+)?(?:\s|$)|icmp6|ipv6-icmp|icmpv6)/m.test(text)
    ? 6
    : 4;
}
