/** Bodies of the engine's nftables rules, read back. */

import type { NftRules } from '../../engine/src/tables/nft-rules.ts';

export interface ReadRule {
  readonly id: number;
  readonly expressions: number[][];
}

/** The rules of a body: id, and each expression as its op and operands. */
export function readBody({ words }: NftRules, start: number): ReadRule[] {
  const rules: ReadRule[] = [];
  for (let at = start; words[at] !== 0; at += words[at]!) {
    const expressions: number[][] = [];
    for (let e = at + 2; e < at + words[at]!; e += words[e]! >>> 8) {
      expressions.push([words[e]! & 0xff, ...words.subarray(e + 1, e + (words[e]! >>> 8))]);
    }
    rules.push({ id: words[at + 1]!, expressions });
  }
  return rules;
}
