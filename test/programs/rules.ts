/** Writes rule lists by hand, for tests: chains by name, matches and targets as small calls. */
import {
  HOOKS,
  MASQUERADE_RANDOM_FULLY,
  MATCH_CTSTATE,
  MATCH_DPORT,
  MATCH_DST_TYPE,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_MARK,
  MATCH_PROTO,
  MATCH_RECENT,
  MATCH_SRC4,
  MATCH_SRC6,
  MATCH_STATISTIC,
  RULE_TABLES,
  type RuleList,
  RuleListBuilder,
  TARGET_ACCEPT,
  TARGET_CONTINUE,
  TARGET_DNAT,
  TARGET_DROP,
  TARGET_GOTO,
  TARGET_JUMP,
  TARGET_MARK,
  TARGET_MASQUERADE,
  TARGET_REJECT,
  TARGET_RETURN,
  TARGET_SNAT,
} from '../../engine/src/tables/rule-list.ts';
import { type Address, isFour, words } from './addresses.ts';

export interface Match {
  readonly op: number;
  readonly operands: readonly number[];
  readonly invert: boolean;
}

export interface Rule {
  readonly target: number;
  readonly args: readonly number[];
  /** Chain of a jump or goto. */
  readonly chain: string | null;
  readonly matches: readonly Match[];
}

export function match(op: number, ...operands: number[]): Match {
  return { op, operands, invert: false };
}

export function not(m: Match): Match {
  return { ...m, invert: true };
}

function mask(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

function prefix(op4: number, op6: number, address: Address, bits: number | undefined): Match {
  if (isFour(address)) {
    const m = mask(bits ?? 32);
    return match(op4, words(address)[0] & m, m);
  }
  const masks = [0, 1, 2, 3].map((i) => mask((bits ?? 128) - 32 * i));
  return match(op6, ...words(address).map((word, i) => word & masks[i]!), ...masks);
}

export const dst = (address: Address, bits?: number) => prefix(MATCH_DST4, MATCH_DST6, address, bits);
export const src = (address: Address, bits?: number) => prefix(MATCH_SRC4, MATCH_SRC6, address, bits);
export const proto = (number: number) => match(MATCH_PROTO, number);
export const dport = (first: number, last = first) => match(MATCH_DPORT, first, last);
export const ctstate = (bits: number) => match(MATCH_CTSTATE, bits);
export const mark = (value: number) => match(MATCH_MARK, value, value);
export const dstType = (bits: number) => match(MATCH_DST_TYPE, bits);
export const statistic = (probability: number) => match(MATCH_STATISTIC, Math.round(probability * 2 ** 31) | 0);
export const recent = (flags: number, list: number, seconds = 0) => match(MATCH_RECENT, flags, list, seconds);

function rule(target: number, args: readonly number[], chain: string | null, matches: readonly Match[]): Rule {
  return { target, args, chain, matches };
}

export const accept = (...matches: Match[]) => rule(TARGET_ACCEPT, [], null, matches);
export const drop = (...matches: Match[]) => rule(TARGET_DROP, [], null, matches);
export const back = (...matches: Match[]) => rule(TARGET_RETURN, [], null, matches);
export const pass = (...matches: Match[]) => rule(TARGET_CONTINUE, [], null, matches);
export const jump = (chain: string, ...matches: Match[]) => rule(TARGET_JUMP, [], chain, matches);
export const go = (chain: string, ...matches: Match[]) => rule(TARGET_GOTO, [], chain, matches);
export const reject = (kind: number, ...matches: Match[]) => rule(TARGET_REJECT, [kind], null, matches);
export const setMark = (bits: number, ...matches: Match[]) => rule(TARGET_MARK, [bits, bits], null, matches);
export const flipMark = (bits: number, ...matches: Match[]) => rule(TARGET_MARK, [bits, 0], null, matches);
export const dnat = (to: Address, port: number, ...matches: Match[]) =>
  rule(TARGET_DNAT, [...words(to), port, port], null, matches);
export const masquerade = (flags = MASQUERADE_RANDOM_FULLY, ...matches: Match[]) =>
  rule(TARGET_MASQUERADE, [flags], null, matches);
export const snat = (to: Address, first: number, last: number, ...matches: Match[]) =>
  rule(TARGET_SNAT, [...words(to), first, last], null, matches);
export const notrack = (target: number, ...matches: Match[]) => rule(target, [], null, matches);

export interface Base {
  readonly hook: number;
  readonly table: number;
  readonly chain: string;
  readonly policy?: number;
}

/** The rule list of `nodes` equal nodes; rule ids count from 0 in the order of `chains`. */
export function ruleList(
  nodes: number,
  chains: Readonly<Record<string, readonly Rule[]>>,
  bases: readonly Base[],
): RuleList {
  const names = Object.keys(chains);
  const builder = new RuleListBuilder();
  let id = 0;
  const starts = names.map((name) => {
    const start = builder.beginBody();
    for (const { target, args, chain, matches } of chains[name]!) {
      builder.rule(target, id++, chain === null ? args : [names.indexOf(chain)]);
      for (const m of matches) builder.match(m.op, m.invert, m.operands);
    }
    builder.endBody();
    return start;
  });
  const baseRow = new Array<number>(HOOKS * RULE_TABLES).fill(-1);
  const policyRow = new Array<number>(HOOKS * RULE_TABLES).fill(TARGET_ACCEPT);
  for (const { hook, table, chain, policy } of bases) {
    baseRow[hook * RULE_TABLES + table] = names.indexOf(chain);
    policyRow[hook * RULE_TABLES + table] = policy ?? TARGET_ACCEPT;
  }
  const perNode = (row: readonly number[]) => Array.from({ length: nodes }, () => row).flat();
  const rows = Array.from({ length: nodes }, (_, node) => node);
  return builder.build(names.length, rows, perNode(starts), perNode(baseRow), perNode(policyRow));
}
