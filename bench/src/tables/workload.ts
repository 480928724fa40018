/** What the benches of the tables share: a seeded source of words, the burst, and the baseline of an empty loop. */
import type { Bench } from 'tinybench';

/** Packets of an iteration: a burst, so that one timing covers microseconds and not nanoseconds. */
export const BURST = 256;

/** Keeps results alive, so that no loop is optimised away. */
export const sink = new Int32Array(1);

/** Words of splitmix32. */
export function words(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let x = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return x ^ (x >>> 15);
  };
}

/** `count` indices below `below`, drawn evenly. */
export function indices(seed: number, count: number, below: number): Int32Array {
  const next = words(seed);
  return Int32Array.from({ length: count }, () => (next() >>> 0) % below);
}

/**
 * Adds the loop that all others pay for: a burst of reads from a lane of indices.
 * @param picks a power of two of indices, walked round and round
 */
export function addBaseline(bench: Bench, picks: Int32Array): void {
  let at = 0;
  bench.add(`empty loop, a burst of ${BURST}`, () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) sum += picks[(at + i) & (picks.length - 1)];
    at += BURST;
    sink[0] ^= sum;
  });
}
