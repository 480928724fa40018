/**
 * The hash functions, all over 32-bit words.
 *
 * Own ones (`mix32`, `hashTuple4`, `hashTuple6`) spread flows over shards and draw the random choices; nothing outside
 * depends on their values, but a change of them changes every result that depends on a seed. Foreign ones (`jhash`, `jhash3`,
 * `jhashTuple6`, `murmur3x64_128`) are bit for bit those of the Linux kernel and of Cilium's ring builder.
 * Every function but `murmur3x64_128` answers a signed 32-bit word: take `>>> 0` before a modulo or a comparison.
 * None is safe against a sender who picks his tuples to collide.
 */

/** The finaliser of MurmurHash3: every input bit changes every output bit with probability near one half. */
export function mix32(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** One round of MurmurHash3 x86_32: folds the word `k` into the state `h`. */
function fold(h: number, k: number): number {
  k = Math.imul(k, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  h ^= k;
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

/**
 * Hash of (seed, IPv4 flow): MurmurHash3 x86_32 over the words src, dst, ports, proto.
 * @param ports sport << 16 | dport
 * @returns signed 32-bit word
 */
export function hashTuple4(seed: number, src: number, dst: number, ports: number, proto: number): number {
  return mix32(fold(fold(fold(fold(seed, src), dst), ports), proto) ^ 16);
}

/** Hash of (seed, IPv6 flow); as `hashTuple4`, over ten words. */
export function hashTuple6(
  seed: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  proto: number,
): number {
  const source = fold(fold(fold(fold(seed, s0), s1), s2), s3);
  const both = fold(fold(fold(fold(source, d0), d1), d2), d3);
  return mix32(fold(fold(both, ports), proto) ^ 40);
}

const JHASH_INITVAL = 0xdeadbeef;

/** The last steps of Jenkins' lookup3 (linux: include/linux/jhash.h, `__jhash_final`); answers c. */
function jhashFinal(a: number, b: number, c: number): number {
  c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
  a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
  b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
  c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
  a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
  b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
  return ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
}

/** The kernel's jhash_3words(a, b, c, initval). */
export function jhash3(a: number, b: number, c: number, initval: number): number {
  const init = (initval + JHASH_INITVAL + 12) | 0;
  return jhashFinal((a + init) | 0, (b + init) | 0, (c + init) | 0);
}

/**
 * The kernel's jhash(key, length, initval), for a key whose bytes lie in words as a little-endian CPU reads them.
 * @param at,count the key's words; bytes of the last one behind the length must be zero
 * @param length bytes of the key
 */
export function jhash(words: Int32Array, at: number, count: number, length: number, initval: number): number {
  let a = (JHASH_INITVAL + length + initval) | 0;
  let b = a;
  let c = a;
  let left = count;
  let i = at;
  while (left > 3) {
    a = (a + words[i]) | 0;
    b = (b + words[i + 1]) | 0;
    c = (c + words[i + 2]) | 0;
    a = ((a - c) ^ ((c << 4) | (c >>> 28))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 6) | (a >>> 26))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 8) | (b >>> 24))) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ ((c << 16) | (c >>> 16))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 19) | (a >>> 13))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 4) | (b >>> 28))) | 0;
    b = (b + a) | 0;
    i += 3;
    left -= 3;
  }
  if (left === 0) return c;
  a = (a + words[i]) | 0;
  if (left > 1) b = (b + words[i + 1]) | 0;
  if (left > 2) c = (c + words[i + 2]) | 0;
  return jhashFinal(a, b, c);
}

/**
 * Cilium's hash of an IPv6 tuple (cilium: bpf/lib/hash.h): lookup3 without its length word, six words in two rounds,
 * the seed added before the last steps.
 */
export function jhashTuple6(
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  ports: number,
  proto: number,
  seed: number,
): number {
  let a = s0;
  let b = s1;
  let c = s2;
  for (let round = 0; round < 2; round++) {
    a = ((a - c) ^ ((c << 4) | (c >>> 28))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 6) | (a >>> 26))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 8) | (b >>> 24))) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ ((c << 16) | (c >>> 16))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 19) | (a >>> 13))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 4) | (b >>> 28))) | 0;
    b = (b + a) | 0;
    if (round === 0) {
      a = (a + s3) | 0;
      b = (b + ports) | 0;
      c = (c + proto) | 0;
    }
  }
  return jhashFinal((a + seed) | 0, b, c);
}
