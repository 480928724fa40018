/**
 * What nftables expressions do with registers alone: masks, shifts and comparisons. Registers side by side are one number,
 * the first one the highest, as the kernel compares bytes in network order; all are unsigned.
 */
import {
  COMPARE_EQUAL,
  COMPARE_GREATER,
  COMPARE_GREATER_EQUAL,
  COMPARE_LESS,
  COMPARE_NOT_EQUAL,
} from '../tables/nft-rules.ts';

/** EXPR_BITWISE at word `e`. */
export function maskRegisters(registers: Int32Array, words: Int32Array, e: number): void {
  const count = ((words[e] >>> 8) - 2) >> 1;
  const to = words[e + 1];
  for (let i = 0; i < count; i++) {
    registers[to + i] = (registers[to + i] & words[e + 2 + 2 * i]) ^ words[e + 3 + 2 * i];
  }
}

/** Shifts to the left by `bits`, to the right by a negative number. */
export function shiftRegister(registers: Int32Array, at: number, bits: number): void {
  registers[at] = bits >= 0 ? registers[at] << bits : registers[at] >>> -bits;
}

/** EXPR_RANGE at word `e`. */
export function holdsRange(registers: Int32Array, words: Int32Array, e: number): boolean {
  const count = ((words[e] >>> 8) - 3) >> 1;
  const at = words[e + 2];
  const inside =
    order(registers, at, words, e + 3, count) >= 0 && order(registers, at, words, e + 3 + count, count) <= 0;
  return inside !== (words[e + 1] === 1);
}

/** True if the registers from `at` on compare so (COMPARE_…) with `count` words from `w` on. */
export function holdsComparison(
  comparison: number,
  registers: Int32Array,
  at: number,
  words: Int32Array,
  w: number,
  count: number,
): boolean {
  const sign = order(registers, at, words, w, count);
  switch (comparison) {
    case COMPARE_EQUAL:
      return sign === 0;
    case COMPARE_NOT_EQUAL:
      return sign !== 0;
    case COMPARE_LESS:
      return sign < 0;
    case COMPARE_GREATER:
      return sign > 0;
    case COMPARE_GREATER_EQUAL:
      return sign >= 0;
  }
  return sign <= 0;
}

/** -1, 0 or 1 as the registers are below, equal to or above the words. */
function order(registers: Int32Array, at: number, words: Int32Array, w: number, count: number): number {
  for (let i = 0; i < count; i++) {
    if (registers[at + i] !== words[w + i]) return registers[at + i] >>> 0 < words[w + i] >>> 0 ? -1 : 1;
  }
  return 0;
}
