/**
 * A slow, plain reading of Bob Jenkins' lookup3 (public domain, 2006) as an oracle: unsigned arithmetic in doubles, one
 * rule per line. `hashLittle` has published vectors, so its two mixing steps can be trusted.
 */

export type Triple = [a: number, b: number, c: number];

const sub = (x: number, y: number) => (x - y + 0x100000000) % 0x100000000;
const add = (x: number, y: number) => (x + y) % 0x100000000;
const xor = (x: number, y: number) => (x ^ y) >>> 0;
const rot = (x: number, k: number) => ((x << k) | (x >>> (32 - k))) >>> 0;

export function mix([a, b, c]: Triple): Triple {
  for (const k of [4, 6, 8, 16, 19, 4]) {
    // Each rule with the roles turned: a -= c; a ^= rot(c, k); c += b.
    a = xor(sub(a, c), rot(c, k));
    c = add(c, b);
    [a, b, c] = [b, c, a];
  }
  return [a, b, c];
}

export function final([a, b, c]: Triple): Triple {
  for (const k of [14, 11, 25, 16, 4, 14, 24]) {
    // c ^= b; c -= rot(b, k), then the same for a with c, b with a, …
    c = sub(xor(c, b), rot(b, k));
    [a, b, c] = [b, c, a];
  }
  // Seven turns of three: one turn is left over.
  return [c, a, b];
}

/** hashlittle() of lookup3.c. */
export function hashLittle(bytes: Uint8Array, initval: number): number {
  const start = add(add(0xdeadbeef, bytes.length), initval >>> 0);
  let state: Triple = [start, start, start];
  let at = 0;
  const absorb = (): void => {
    for (let i = 0; i < 12 && at < bytes.length; i++, at++) {
      state[i >> 2] = add(state[i >> 2]!, (bytes[at]! << (8 * (i & 3))) >>> 0);
    }
  };
  while (bytes.length - at > 12) {
    absorb();
    state = mix(state);
  }
  if (at === bytes.length) return state[2];
  absorb();
  return final(state)[2];
}
