/**
 * Names and choices that a cluster would draw at random, drawn from a hash of the object's name instead: the same
 * manifests give the same cluster, and one object more does not rename the others.
 */

/** Letters of generated names: no vowels, nothing that looks like something else. */
const LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

/** 32-bit FNV-1a of the text's UTF-16 units, mixed so that low bits are good too; unsigned. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A suffix of `length` letters for a generated name. */
export function nameHash(text: string, length: number): string {
  let suffix = '';
  let hash = hashText(text);
  for (let i = 0; i < length; i++) {
    // 27^6 fits 32 bits: longer suffixes go on with a fresh hash.
    if (i > 0 && i % 6 === 0) hash = hashText(`${text}#${i}`);
    suffix += LETTERS[hash % LETTERS.length];
    hash = Math.floor(hash / LETTERS.length);
  }
  return suffix;
}
