/**
 * MurmurHash3 x64 128, bit for bit (Austin Appleby's public-domain reference), in 32-bit halves. Cilium names the places
 * of a Maglev ring with it. For building tables, not for packets; about a microsecond for a backend's name.
 *
 * A 64-bit number is two words of `state`: low half at i, high half at i + 1.
 */

const H1 = 0;
const H2 = 2;
const K1 = 4;
const K2 = 6;

// The reference's c1 and c2, low and high half.
const C1_LOW = 0x114253d5;
const C1_HIGH = 0x87c37b91;
const C2_LOW = 0x2745937f;
const C2_HIGH = 0x4cf5ad43;

/** High word of the product of two unsigned words. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (middle & 0xffff);
  return aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000);
}

function multiply(state: Int32Array, i: number, low: number, high: number): void {
  const own = state[i];
  state[i + 1] = multiplyHigh(own, low) + Math.imul(own, high) + Math.imul(state[i + 1], low);
  state[i] = Math.imul(own, low);
}

function add(state: Int32Array, i: number, low: number, high: number): void {
  const sum = (state[i] >>> 0) + (low >>> 0);
  state[i + 1] = state[i + 1] + high + (sum > 0xffffffff ? 1 : 0);
  state[i] = sum;
}

/** Rotates left by 1 to 63 bits, 32 excluded. */
function rotate(state: Int32Array, i: number, bits: number): void {
  const low = bits < 32 ? state[i] : state[i + 1];
  const high = bits < 32 ? state[i + 1] : state[i];
  const by = bits & 31;
  state[i] = (low << by) | (high >>> (32 - by));
  state[i + 1] = (high << by) | (low >>> (32 - by));
}

function exclusiveOr(state: Int32Array, i: number, from: number): void {
  state[i] ^= state[from];
  state[i + 1] ^= state[from + 1];
}

function scrambleK1(state: Int32Array): void {
  multiply(state, K1, C1_LOW, C1_HIGH);
  rotate(state, K1, 31);
  multiply(state, K1, C2_LOW, C2_HIGH);
  exclusiveOr(state, H1, K1);
}

function scrambleK2(state: Int32Array): void {
  multiply(state, K2, C2_LOW, C2_HIGH);
  rotate(state, K2, 33);
  multiply(state, K2, C1_LOW, C1_HIGH);
  exclusiveOr(state, H2, K2);
}

/** The finaliser of a half: x ^= x >>> 33 between two multiplications. */
function finish(state: Int32Array, i: number): void {
  state[i] ^= state[i + 1] >>> 1;
  multiply(state, i, 0xed558ccd, 0xff51afd7);
  state[i] ^= state[i + 1] >>> 1;
  multiply(state, i, 0x1a85ec53, 0xc4ceb9fe);
  state[i] ^= state[i + 1] >>> 1;
}

/**
 * Hashes bytes.
 * @param seed a 32-bit word; both halves start with it
 * @param out gets four words: low and high word of the first half, low and high word of the second
 */
export function murmur3x64_128(bytes: Uint8Array, seed: number, out: Int32Array): void {
  const state = new Int32Array(8);
  state[H1] = seed;
  state[H2] = seed;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks = bytes.length >> 4;
  for (let block = 0; block < blocks; block++) {
    for (let i = 0; i < 4; i++) state[K1 + i] = view.getInt32(block * 16 + i * 4, true);
    scrambleK1(state);
    rotate(state, H1, 27);
    add(state, H1, state[H2], state[H2 + 1]);
    multiply(state, H1, 5, 0);
    add(state, H1, 0x52dce729, 0);
    scrambleK2(state);
    rotate(state, H2, 31);
    add(state, H2, state[H1], state[H1 + 1]);
    multiply(state, H2, 5, 0);
    add(state, H2, 0x38495ab5, 0);
  }
  // The tail: up to 15 bytes, the first eight in k1, the rest in k2, missing ones 0.
  state.fill(0, K1);
  for (let i = blocks * 16; i < bytes.length; i++) state[K1 + ((i & 15) >> 2)] |= bytes[i] << ((i & 3) * 8);
  scrambleK2(state);
  scrambleK1(state);

  state[H1] ^= bytes.length;
  state[H2] ^= bytes.length;
  add(state, H1, state[H2], state[H2 + 1]);
  add(state, H2, state[H1], state[H1 + 1]);
  finish(state, H1);
  finish(state, H2);
  add(state, H1, state[H2], state[H2 + 1]);
  add(state, H2, state[H1], state[H1 + 1]);
  for (let i = 0; i < 4; i++) out[i] = state[i];
}
