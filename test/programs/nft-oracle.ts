/**
 * A dumb nftables: recursion over the statements of nft-fixture.ts as they were written, whole numbers for keys, packets
 * as they were described. It knows no registers' words, no hash tables and no compiled rules.
 */
import {
  COMPARE_EQUAL,
  COMPARE_GREATER,
  COMPARE_GREATER_EQUAL,
  COMPARE_LESS,
  COMPARE_LESS_EQUAL,
  COMPARE_NOT_EQUAL,
  EXPR_BITWISE,
  EXPR_COMPARE,
  EXPR_IMMEDIATE,
  EXPR_LOAD,
  EXPR_LOOKUP,
  EXPR_MAP,
  EXPR_MATCH,
  EXPR_NEVER,
  EXPR_RANDOM,
  EXPR_RANGE,
  EXPR_SET_MARK,
  EXPR_SHIFT,
  EXPR_VERDICT,
  EXPR_VERDICT_MAP,
  NFT_ACCEPT,
  NFT_CONTINUE,
  NFT_DROP,
  NFT_GOTO,
  NFT_JUMP,
  NFT_RETURN,
  SELECT_MARK,
} from '../../engine/src/tables/nft-rules.ts';
import type { NftSpec, Operand, SetSpec, Statement } from './nft-fixture.ts';

/** Words of each selector that the packet has. */
export type PacketFields = ReadonlyMap<number, readonly number[]>;

type Ended = 'accept' | 'drop' | 'return' | 'end';

const big = (words: readonly number[]) => words.reduce((sum, word) => (sum << 32n) | BigInt(word >>> 0), 0n);

export class NftOracle {
  mark = 0;
  walked = 0;
  lookups = 0;
  private point = 0;
  private readonly spec: NftSpec;
  private readonly fields: PacketFields;
  private readonly script: readonly number[];
  private registers: number[] = [];

  constructor(spec: NftSpec, fields: PacketFields, script: readonly number[]) {
    this.spec = spec;
    this.fields = fields;
    this.script = script;
  }

  /** What a chain comes to. */
  walk(chain: string): Ended {
    for (const rule of this.spec.chains[chain]!) {
      this.walked++;
      const ended = this.run(rule);
      if (ended !== 'next') return ended;
    }
    return 'end';
  }

  private run(rule: readonly Statement[]): Ended | 'next' {
    for (const statement of rule) {
      const ended = this.step(statement);
      if (ended === 'break') return 'next';
      if (ended !== 'held') return ended;
    }
    return 'next';
  }

  private step({ op, operands }: Statement): Ended | 'next' | 'break' | 'held' {
    const n = (i: number) => operands[i] as number;
    const rest = (i: number) => operands.slice(i) as number[];
    switch (op) {
      case EXPR_NEVER:
        return 'break';
      case EXPR_MATCH: {
        const field = this.read(n(0));
        return field !== null && this.compares(n(1), [field[0]! & n(2)], [n(3)]) ? 'held' : 'break';
      }
      case EXPR_LOAD: {
        const field = this.read(n(0));
        if (field === null) return 'break';
        this.put(n(1), field);
        return 'held';
      }
      case EXPR_IMMEDIATE:
        this.put(n(0), rest(1));
        return 'held';
      case EXPR_BITWISE: {
        const pairs = rest(1);
        for (let i = 0; i < pairs.length / 2; i++) {
          this.put(n(0) + i, [(this.registers[n(0) + i]! & pairs[2 * i]!) ^ pairs[2 * i + 1]!]);
        }
        return 'held';
      }
      case EXPR_SHIFT: {
        const value = this.registers[n(0)]! >>> 0;
        const shifted = n(1) >= 0 ? value * 2 ** n(1) : Math.floor(value / 2 ** -n(1));
        this.put(n(0), [(shifted % 2 ** 32) | 0]);
        return 'held';
      }
      case EXPR_COMPARE: {
        const words = rest(2);
        return this.compares(n(0), this.take(n(1), words.length), words) ? 'held' : 'break';
      }
      case EXPR_RANGE: {
        const ends = rest(2);
        const count = ends.length / 2;
        const value = big(this.take(n(1), count));
        const inside = big(ends.slice(0, count)) <= value && value <= big(ends.slice(count));
        return inside !== (n(0) === 1) ? 'held' : 'break';
      }
      case EXPR_LOOKUP:
        return (this.find(operands[0]!, n(1)) !== null) !== (n(2) === 1) ? 'held' : 'break';
      case EXPR_MAP: {
        const element = this.find(operands[0]!, n(1));
        if (element === null) return 'break';
        this.put(n(2), element.value!);
        return 'held';
      }
      case EXPR_VERDICT_MAP: {
        const element = this.find(operands[0]!, n(1));
        return element === null ? 'break' : this.obey(element.verdict!, element.chain);
      }
      case EXPR_RANDOM:
        this.put(n(2), [Math.min(this.script[this.point++] ?? 0, n(0) - 1) + n(1)]);
        return 'held';
      case EXPR_SET_MARK:
        this.mark = this.registers[n(0)]!;
        return 'held';
      case EXPR_VERDICT: {
        const to = operands[1]!;
        return this.obey(n(0), typeof to === 'object' && 'chain' in to ? to.chain : undefined);
      }
    }
    throw new Error(`the oracle does not know ${op}`);
  }

  private obey(code: number, chain: string | undefined): Ended | 'next' | 'held' {
    switch (code) {
      case NFT_CONTINUE:
        return 'held';
      case NFT_ACCEPT:
        return 'accept';
      case NFT_DROP:
        return 'drop';
      case NFT_RETURN:
        return 'return';
      case NFT_JUMP: {
        const ended = this.walk(chain!);
        return ended === 'accept' || ended === 'drop' ? ended : 'next';
      }
      case NFT_GOTO: {
        const ended = this.walk(chain!);
        return ended === 'end' ? 'return' : ended;
      }
    }
    throw new Error(`no verdict ${code}`);
  }

  private find(operand: Operand, register: number) {
    this.lookups++;
    const reference = (operand as { set: string | SetSpec }).set;
    const set = typeof reference === 'string' ? this.spec.sets![reference]! : reference;
    const count = set.fields.reduce((sum, words) => sum + words, 0);
    const key = this.take(register, count);
    const hit = set.elements.find(({ first, last }) => {
      if (first === null) return false;
      let at = 0;
      return set.fields.every((words) => {
        const from = at;
        at += words;
        const field = big(key.slice(from, at));
        return big(first.slice(from, at)) <= field && field <= big((last ?? first).slice(from, at));
      });
    });
    return hit ?? set.elements.find(({ first }) => first === null) ?? null;
  }

  private compares(comparison: number, left: readonly number[], right: readonly number[]): boolean {
    const a = big(left);
    const b = big(right);
    switch (comparison) {
      case COMPARE_EQUAL:
        return a === b;
      case COMPARE_NOT_EQUAL:
        return a !== b;
      case COMPARE_LESS:
        return a < b;
      case COMPARE_GREATER:
        return a > b;
      case COMPARE_LESS_EQUAL:
        return a <= b;
      case COMPARE_GREATER_EQUAL:
        return a >= b;
    }
    throw new Error(`no comparison ${comparison}`);
  }

  private read(selector: number): readonly number[] | null {
    return selector === SELECT_MARK ? [this.mark] : (this.fields.get(selector) ?? null);
  }

  private put(at: number, words: readonly number[]): void {
    words.forEach((word, i) => {
      this.registers[at + i] = word;
    });
  }

  private take(at: number, count: number): number[] {
    return Array.from({ length: count }, (_, i) => this.registers[at + i] ?? 0);
  }
}
