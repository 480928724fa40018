/**
 * Sampling: which stream, flow and size packet number k has, drawn from a hash of (seed, k) and nothing else.
 *
 * A weighted choice is an alias table (Vose 1991): two reads whatever the number of choices. Per choice i
 *
 *     limit[i]   u32: below it the drawn choice i stands
 *     alias[i]   the choice taken otherwise
 *
 * Probabilities are right to 2^-32. Integers only; the draw itself never branches on the number of choices.
 */
import { mix32 } from '../tables/hash.ts';

const TWO_32 = 4_294_967_296;
const TO_UNIT = 1 / TWO_32;
const GOLDEN = 0x9e3779b1;

/**
 * Builds an alias table over `weights` into `limit` and `alias` from index `base` on. O(n).
 * @throws RangeError if a weight is negative or not finite, or all are 0
 */
export function buildAlias(weights: ArrayLike<number>, limit: Int32Array, alias: Int32Array, base: number): void {
  const n = weights.length;
  let total = 0;
  for (let i = 0; i < n; i++) {
    if (!(weights[i] >= 0) || weights[i] === Infinity) throw new RangeError(`weight ${weights[i]} is not a share`);
    total += weights[i];
  }
  if (!(total > 0)) throw new RangeError('all weights are 0');
  const scaled = new Float64Array(n);
  const small = new Int32Array(n);
  const large = new Int32Array(n);
  let smalls = 0;
  let larges = 0;
  for (let i = 0; i < n; i++) {
    scaled[i] = (weights[i] * n) / total;
    if (scaled[i] < 1) small[smalls++] = i;
    else large[larges++] = i;
  }
  while (smalls > 0 && larges > 0) {
    const low = small[--smalls];
    const high = large[larges - 1];
    limit[base + low] = Math.floor(scaled[low] * TWO_32);
    alias[base + low] = high;
    scaled[high] -= 1 - scaled[low];
    if (scaled[high] < 1) {
      larges--;
      small[smalls++] = high;
    }
  }
  // What is left has probability 1 but for rounding: it is its own alias.
  while (larges > 0) fillWhole(limit, alias, base, large[--larges]);
  while (smalls > 0) fillWhole(limit, alias, base, small[--smalls]);
}

function fillWhole(limit: Int32Array, alias: Int32Array, base: number, i: number): void {
  limit[base + i] = -1;
  alias[base + i] = i;
}

/** Draws 0 … n-1 from the alias table at `base`. */
export function drawAlias(limit: Int32Array, alias: Int32Array, base: number, n: number, hash: number): number {
  const i = drawUniform(n, hash);
  return mix32((hash + GOLDEN) | 0) >>> 0 < limit[base + i] >>> 0 ? i : alias[base + i];
}

/** Draws 0 … n-1, each alike to n / 2^32. */
export function drawUniform(n: number, hash: number): number {
  return ((hash >>> 0) * (n * TO_UNIT)) >>> 0;
}

/** Weights of the Zipf distribution: the flow of rank r (0 first) has 1 / (r + 1)^skew. */
export function zipfWeights(n: number, skew: number): Float64Array {
  const weights = new Float64Array(n);
  for (let r = 0; r < n; r++) weights[r] = (r + 1) ** -skew;
  return weights;
}

/** The part of a packet's hash that its window of packet numbers shares. */
export function windowHash(seed: number, window: number): number {
  return mix32((mix32(seed ^ 0x2545f491) + Math.imul(window, GOLDEN)) | 0);
}

/** Hash of (seed, packet number): packet `i` of a window. */
export function packetHash(ofWindow: number, i: number): number {
  return mix32((ofWindow + Math.imul(i + 1, 0x85ebca77)) | 0);
}
