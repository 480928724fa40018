/**
 * The structure of a node's nftables rules in the engine: what its chains do and what its sets hold, by names. Two images
 * of one structure treat every packet alike.
 *
 * Numbers that a compile hands out (rules, chains, sets, elements, stamps) are replaced by names or left out; origins and
 * texts are no part of it, nor are sets that no rule asks.
 */

import { createHash } from 'node:crypto';
import {
  BASE_WORDS,
  EXPR_DYNAMIC,
  EXPR_INCREMENT,
  EXPR_LOOKUP,
  EXPR_MAP,
  EXPR_VERDICT,
  EXPR_VERDICT_MAP,
  STAGES,
} from '@flatpath/engine/tables/nft-rules';
import { nftSetElements, SET_ID, SET_KEY_WORDS, SET_LIFE_MS, SET_STAMPS } from '@flatpath/engine/tables/nft-sets';
import { HOOKS } from '@flatpath/engine/tables/rule-list';
import type { CompiledNft } from '../compile/nftables.ts';

/** SHA-256 in hex of the structure of a node's rules of one family. */
export function nftStructuralHash(compiled: CompiledNft, node: number): string {
  return createHash('sha256').update(describeNftStructure(compiled, node).join('\n')).digest('hex');
}

/** The structure as lines: base chains as the kernel runs them, then chains and sets by name. */
export function describeNftStructure(compiled: CompiledNft, node: number): string[] {
  const row = compiled.rules.rows[node] ?? -1;
  return row === -1 ? [] : new NftStructure(compiled, row).lines();
}

class NftStructure {
  private readonly compiled: CompiledNft;
  private readonly row: number;
  /** Named sets that rules ask, and whether their values are verdicts. */
  private readonly asked = new Map<number, boolean>();

  constructor(compiled: CompiledNft, row: number) {
    this.compiled = compiled;
    this.row = row;
  }

  lines(): string[] {
    const { rules } = this.compiled;
    const chains: string[] = [];
    for (let chain = 0; chain < rules.chains; chain++) {
      const start = rules.starts[this.row * rules.chains + chain]!;
      if (start !== -1) chains.push([this.chainName(chain), ...this.body(start)].join('\n  '));
    }
    const sets = [...this.asked].map(([set, isVerdicts]) => this.namedSet(set, isVerdicts));
    return [...this.bases(), ...chains.sort(), ...sets.sort()];
  }

  private bases(): string[] {
    const { rules } = this.compiled;
    const lines: string[] = [];
    for (let stage = 0; stage < HOOKS * STAGES; stage++) {
      const at = this.row * HOOKS * STAGES + stage;
      for (let entry = rules.stages[at]!; entry < rules.stages[at + 1]!; entry++) {
        const [chain, priority, policy] = rules.bases.subarray(entry * BASE_WORDS, (entry + 1) * BASE_WORDS);
        lines.push(`base ${stage} ${this.chainName(chain!)} priority ${priority} policy ${policy}`);
      }
    }
    return lines;
  }

  private chainName(chain: number): string {
    const { table, name } = this.compiled.chain(chain);
    return `${table} ${name}`;
  }

  /** Each rule of a body as a line. */
  private body(start: number): string[] {
    const { words } = this.compiled.rules;
    const lines: string[] = [];
    for (let r = start; words[r] !== 0; r += words[r]!) {
      const expressions: string[] = [];
      for (let e = r + 2; e < r + words[r]!; e += words[e]! >>> 8) expressions.push(this.expression(e));
      lines.push(expressions.join(' '));
    }
    return lines;
  }

  private expression(e: number): string {
    const { words } = this.compiled.rules;
    const op = words[e]! & 0xff;
    const operands: (string | number)[] = [...words.subarray(e + 1, e + (words[e]! >>> 8))];
    switch (op) {
      case EXPR_LOOKUP:
      case EXPR_MAP:
        operands[0] = this.setOperand(words[e + 1]!, false);
        break;
      case EXPR_VERDICT_MAP:
        operands[0] = this.setOperand(words[e + 1]!, true);
        break;
      case EXPR_DYNAMIC:
        operands[1] = this.setOperand(words[e + 2]!, false);
        break;
      case EXPR_INCREMENT:
        // The number of its counter.
        operands.length = 3;
        break;
      case EXPR_VERDICT:
        if (words[e + 2] !== -1) operands[1] = this.chainName(words[e + 2]!);
        break;
    }
    return `${op}(${operands.join(' ')})`;
  }

  /** Name of a named set, contents of an anonymous one. */
  private setOperand(set: number, isVerdicts: boolean): string {
    if (set < 0) return `{${this.contents(-1 - set, isVerdicts)}}`;
    this.asked.set(set, isVerdicts);
    return this.setName(set);
  }

  private setName(set: number): string {
    const { sets } = this.compiled.rules;
    const start = this.startOf(set);
    return start === -1 ? 'no such set' : this.compiled.setName(sets[start + SET_ID]!);
  }

  private startOf(set: number): number {
    const { rules } = this.compiled;
    return rules.setStarts[this.row * rules.setCount + set]!;
  }

  private namedSet(set: number, isVerdicts: boolean): string {
    const start = this.startOf(set);
    return `set ${this.setName(set)} ${start === -1 ? '' : this.contents(start, isVerdicts)}`;
  }

  private contents(start: number, isVerdicts: boolean): string {
    const { sets } = this.compiled.rules;
    const elements = nftSetElements(sets, start).map(({ first, last, value }) => {
      const key = first === null ? '*' : `${first.join('.')}-${(last ?? first).join('.')}`;
      return value.length === 0 ? key : `${key}:${isVerdicts ? this.verdict(value) : value.join('.')}`;
    });
    const writable = sets[start + SET_STAMPS] === -1 ? '' : ` written, life ${sets[start + SET_LIFE_MS]}`;
    return `${sets[start + SET_KEY_WORDS]}${writable}: ${elements.sort().join(', ')}`;
  }

  private verdict([verdict, chain]: readonly number[]): string {
    return chain === -1 ? `${verdict}` : `${verdict} ${this.chainName(chain!)}`;
  }
}
