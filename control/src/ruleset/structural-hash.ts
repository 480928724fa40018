/**
 * The structure of a node's iptables rules: what its chains do, by names. Two images of one structure treat every packet
 * alike.
 *
 * Numbers that a compile hands out (rules, chains, lists, sets) are replaced by names; origins and texts are not part of it;
 * chains that are empty are as if they were not there.
 */

import { createHash } from 'node:crypto';
import {
  HOOKS,
  MATCH_FURTHER,
  MATCH_NTH,
  MATCH_RECENT,
  MATCH_RECENT_LIST,
  MATCH_SET,
  RULE_HEAD,
  RULE_TABLES,
  type RuleList,
  TARGET_GOTO,
  TARGET_JUMP,
} from '@flatpath/engine/tables/rule-list';
import type { CompiledRules } from '../compile/iptables.ts';

/** The first operand of these is a list's id. */
const REMEMBERING = new Set([MATCH_RECENT_LIST, MATCH_NTH]);

/**
 * SHA-256 in hex of the structure of a node's rules.
 * @param setNames names of the ipsets that rules ask, by set id
 */
export function structuralHash(compiled: CompiledRules, node: number, setNames: readonly string[] = []): string {
  return createHash('sha256')
    .update(describeStructure(compiled, node, setNames).join('\n'))
    .digest('hex');
}

/** The structure as lines: base chains with their policies, then every chain with its rules, by name. */
export function describeStructure(compiled: CompiledRules, node: number, setNames: readonly string[] = []): string[] {
  const { rules } = compiled;
  const row = rules.rows[node] ?? -1;
  if (row === -1) return [];
  const lines: string[] = [];
  for (let base = 0; base < HOOKS * RULE_TABLES; base++) {
    const at = row * HOOKS * RULE_TABLES + base;
    const chain = rules.bases[at]!;
    lines.push(`base ${base} ${chain === -1 ? '-' : chainName(compiled, chain)} policy ${rules.policies[at]}`);
  }
  const chains: string[] = [];
  for (let chain = 0; chain < rules.chains; chain++) {
    const start = rules.starts[row * rules.chains + chain]!;
    if (start !== -1)
      chains.push([chainName(compiled, chain), ...describeBody(compiled, start, setNames)].join('\n  '));
  }
  return [...lines, ...chains.sort()];
}

function chainName(compiled: CompiledRules, chain: number): string {
  const { table, name } = compiled.chain(chain);
  return `${table} ${name}`;
}

/** Each rule of a body as a line. */
function describeBody(compiled: CompiledRules, start: number, setNames: readonly string[]): string[] {
  const { words } = compiled.rules;
  const lines: string[] = [];
  for (let r = start; words[r] !== 0; r += words[r]!) lines.push(describeRule(compiled, r, setNames));
  return lines;
}

function describeRule(compiled: CompiledRules, r: number, setNames: readonly string[]): string {
  const { words }: RuleList = compiled.rules;
  const end = r + words[r]!;
  const matchesAt = r + words[r + 2]!;
  const target = words[r + 1]!;
  const args: (string | number)[] = [...words.subarray(r + RULE_HEAD, matchesAt)];
  if (target === TARGET_JUMP || target === TARGET_GOTO) args[0] = chainName(compiled, words[r + RULE_HEAD]!);
  const matches: string[] = [];
  for (let m = matchesAt; m < end; m += words[m]! >>> 8) matches.push(describeMatch(compiled, m, setNames));
  return `${matches.join(' ')} -> ${target}(${args.join(' ')})`;
}

function describeMatch(compiled: CompiledRules, m: number, setNames: readonly string[]): string {
  const { words } = compiled.rules;
  const op = words[m]! & 0x7f;
  const operands: (string | number)[] = [...words.subarray(m + 1, m + (words[m]! >>> 8))];
  if (op === MATCH_SET) operands[0] = setNames[words[m + 1]!] ?? words[m + 1]!;
  else if (op === MATCH_RECENT) operands[1] = compiled.recentList(words[m + 2]!);
  else if (op >= MATCH_FURTHER && REMEMBERING.has(op)) operands[0] = compiled.recentList(words[m + 1]!);
  return `${words[m]! & 0xff}(${operands.join(' ')})`;
}
