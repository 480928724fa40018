/** Options of fast-check for a property: its number of runs, and the seed of FLATPATH_SEED if that is set. */
export function runs(numRuns: number): { numRuns: number; seed?: number } {
  const seed = process.env['FLATPATH_SEED'];
  return seed === undefined ? { numRuns } : { numRuns, seed: Number(seed) };
}

/** A small generator of 32-bit words (splitmix32) for data sets that are too large to be drawn by fast-check. */
export function words(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let x = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return x ^ (x >>> 15);
  };
}
