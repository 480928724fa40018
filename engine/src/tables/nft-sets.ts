/**
 * nftables sets, maps and verdict maps as flat integers, one after the other in one array; named and anonymous alike.
 *
 *     t+0  kind (SET_HASH, SET_RANGES)          t+1  set id: what the compiler knows about the set is found by it
 *     t+2  K, words of a key                    t+3  V, words of a value (0 set, 2 verdict map: verdict, chain id)
 *     t+4  rows (SET_HASH: a power of two)      t+5  the catch-all element: offset from t of its words, 0 for none
 *     t+6  list of the stamps that packets add (programs/nft-dynamic.ts), -1 for a set that they do not write
 *     t+7  life of an added element in ms, 0 for ever
 *     t+8  fields of a key: bit i is set where a field begins with word i
 *     t+9  shift of a tag to its home row (SET_HASH)
 *     t+10… rows, then the catch-all element
 *
 *     an element's words: element id, V words of its value
 *     a row of SET_HASH:   tag (the key's hash with bit 0 set; 0 = free row), K words, element's words
 *     a row of SET_RANGES: K words of the lowest key, K of the highest, K of the highest end so far, element's words
 *
 * SET_HASH holds single keys: open addressing, load at most one half; a lookup costs the same whatever the size.
 * SET_RANGES holds intervals: a key matches where each of its fields lies between the element's two. Rows stand in the
 * order of their lowest keys read as one number. A search begins with the last row whose lowest key is not above the
 * key and goes down until the highest end so far is below it: one step where elements do not overlap, as single fields
 * cannot. Of overlapping elements the one that begins last is found, of those the one that ends first.
 *
 * Numbers are unsigned. An IPv4 address is one word, an IPv6 address four, all other fields one.
 * Written by the compiler only, read by all; elements that packets add are not here.
 */
import { mix32 } from './hash.ts';
import { ceilPow2 } from './table-header.ts';

export const SET_HASH = 1;
export const SET_RANGES = 2;

export const SET_KIND = 0;
export const SET_ID = 1;
export const SET_KEY_WORDS = 2;
export const SET_VALUE_WORDS = 3;
export const SET_ROWS = 4;
export const SET_CATCH_ALL = 5;
export const SET_STAMPS = 6;
export const SET_LIFE_MS = 7;
const SET_FIELDS = 8;
const SET_SHIFT = 9;
const SET_HEAD = 10;

/** Words of a key that packets can add: the stamps are keyed by so many. */
export const DYNAMIC_KEY_WORDS = 4;
/** Words of a key at most. */
export const MAX_KEY_WORDS = 16;

/** What an element is. */
export interface NftSetElement {
  /** What the recorder tells of a hit. */
  readonly id: number;
  /** Words of the key, or of the lowest key; null for the catch-all element. */
  readonly first: readonly number[] | null;
  /** Words of the highest key of an interval; null for a single key. */
  readonly last: readonly number[] | null;
  /** Verdict (NFT_…) and chain id in a verdict map (chain -1 where the verdict needs none), data in a map, else nothing. */
  readonly value: readonly number[];
}

export interface NftSetShape {
  readonly id: number;
  /** Words of each field of the key: 4 for an IPv6 address, else 1. */
  readonly fields: readonly number[];
  readonly valueWords: number;
  /**
   * Number of the list of stamps; -1 where no packet writes the set. Distinct over both families, but for a set of a
   * table inet, which is one.
   */
  readonly stamps: number;
  /** Life of elements that packets add, in ms; 0 for ever. */
  readonly lifeMs: number;
}

/**
 * The words of a set.
 * @throws RangeError for a key of no or too many words, an element that does not fit the shape, or a key twice among
 * single ones
 */
export function writeNftSet(shape: NftSetShape, elements: readonly NftSetElement[]): Int32Array {
  const keyWords = shape.fields.reduce((sum, words) => sum + words, 0);
  if (keyWords < 1 || keyWords > MAX_KEY_WORDS) {
    throw new RangeError(`a key has 1 to ${MAX_KEY_WORDS} words, not ${keyWords}`);
  }
  if (shape.stamps >= 0 && keyWords > DYNAMIC_KEY_WORDS) {
    throw new RangeError(`a key that packets add has at most ${DYNAMIC_KEY_WORDS} words, not ${keyWords}`);
  }
  let catchAll: NftSetElement | null = null;
  const keyed: KeyedElement[] = [];
  for (const element of elements) {
    if (element.value.length !== shape.valueWords) {
      throw new RangeError(`element ${element.id} has a value of ${element.value.length} words`);
    }
    if (element.first === null) catchAll = element;
    else keyed.push(readKeys(element, element.first, keyWords));
  }
  const ranges = keyed.some(({ first, last }) => first.some((word, i) => word !== last[i]));
  const rows = ranges ? keyed.length : Math.max(2, ceilPow2(2 * keyed.length));
  const rowWords = (ranges ? 3 : 1) * keyWords + (ranges ? 0 : 1) + 1 + shape.valueWords;
  const catchAllAt = SET_HEAD + rows * rowWords;
  const words = new Int32Array(catchAllAt + (catchAll === null ? 0 : 1 + shape.valueWords));
  words[SET_KIND] = ranges ? SET_RANGES : SET_HASH;
  words[SET_ID] = shape.id;
  words[SET_KEY_WORDS] = keyWords;
  words[SET_VALUE_WORDS] = shape.valueWords;
  words[SET_ROWS] = rows;
  words[SET_CATCH_ALL] = catchAll === null ? 0 : catchAllAt;
  words[SET_STAMPS] = shape.stamps;
  words[SET_LIFE_MS] = shape.lifeMs;
  words[SET_FIELDS] = fieldBits(shape.fields);
  // A shift by 32 would be none; with one row there would be nothing to shift for.
  words[SET_SHIFT] = 32 - Math.log2(Math.max(2, rows));
  if (ranges) writeRanges(words, keyed, rowWords, keyWords);
  else for (const element of keyed) writeHashed(words, element, rowWords);
  if (catchAll !== null) words.set([catchAll.id, ...catchAll.value], catchAllAt);
  return words;
}

interface KeyedElement {
  readonly id: number;
  readonly first: Int32Array;
  readonly last: Int32Array;
  readonly value: readonly number[];
}

function readKeys(element: NftSetElement, first: readonly number[], keyWords: number): KeyedElement {
  const last = element.last ?? first;
  if (first.length !== keyWords || last.length !== keyWords) {
    throw new RangeError(
      `element ${element.id} has a key of ${first.length} and ${last.length} words, not ${keyWords}`,
    );
  }
  return {
    id: element.id,
    first: Int32Array.from(first, toWord),
    last: Int32Array.from(last, toWord),
    value: element.value,
  };
}

function toWord(word: number): number {
  return word | 0;
}

function fieldBits(fields: readonly number[]): number {
  let bits = 0;
  let at = 0;
  for (const words of fields) {
    bits |= 1 << at;
    at += words;
  }
  return bits;
}

function writeHashed(words: Int32Array, element: KeyedElement, rowWords: number): void {
  const { first, value } = element;
  const tag = tagOf(first, 0, first.length);
  const mask = words[SET_ROWS]! - 1;
  let row = tag >>> words[SET_SHIFT]!;
  for (;;) {
    const at = SET_HEAD + row * rowWords;
    if (words[at] === 0) {
      words.set([tag, ...first, element.id, ...value], at);
      return;
    }
    if (words[at] === tag && first.every((word, i) => words[at + 1 + i] === word)) {
      throw new RangeError(`element ${element.id} has the key of element ${words[at + 1 + first.length]}`);
    }
    row = (row + 1) & mask;
  }
}

function writeRanges(words: Int32Array, elements: readonly KeyedElement[], rowWords: number, keyWords: number): void {
  const sorted = [...elements].sort((a, b) => compare(a.first, b.first) || compare(b.last, a.last) || a.id - b.id);
  let highest = new Int32Array(keyWords);
  sorted.forEach((element, row) => {
    const at = SET_HEAD + row * rowWords;
    if (compare(element.last, highest) > 0) highest = Int32Array.from(element.last);
    words.set(element.first, at);
    words.set(element.last, at + keyWords);
    words.set(highest, at + 2 * keyWords);
    words.set([element.id, ...element.value], at + 3 * keyWords);
  });
}

function compare(a: Int32Array, b: Int32Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! >>> 0 < b[i]! >>> 0 ? -1 : 1;
  return 0;
}

/** The elements of the set at `t`, in the order of their rows; not for packets. */
export function nftSetElements(words: Int32Array, t: number): NftSetElement[] {
  const keyWords = words[t + SET_KEY_WORDS]!;
  const valueWords = words[t + SET_VALUE_WORDS]!;
  const ranges = words[t + SET_KIND] === SET_RANGES;
  const keysAt = ranges ? 0 : 1;
  const elementAt = (ranges ? 3 : 1) * keyWords + keysAt;
  const rowWords = elementAt + 1 + valueWords;
  const dataAt = (at: number): number[] => [...words.subarray(at + 1, at + 1 + valueWords)];
  const elements: NftSetElement[] = [];
  for (let row = 0; row < words[t + SET_ROWS]!; row++) {
    const at = t + SET_HEAD + row * rowWords;
    if (!ranges && words[at] === 0) continue;
    const first = [...words.subarray(at + keysAt, at + keysAt + keyWords)];
    const last = ranges ? [...words.subarray(at + keyWords, at + 2 * keyWords)] : null;
    elements.push({ id: words[at + elementAt]!, first, last, value: dataAt(at + elementAt) });
  }
  const catchAll = words[t + SET_CATCH_ALL]!;
  if (catchAll !== 0) elements.push({ id: words[t + catchAll]!, first: null, last: null, value: dataAt(t + catchAll) });
  return elements;
}

// ---- looking up -------------------------------------------------------------------------------------------------

/**
 * Finds the element of a key.
 * @param t where the set begins in `words`
 * @param key,k the key's words are `key[k]` and those behind it
 * @returns the index in `words` of the element's words (its id, then its value); -1 if there is none
 */
export function findNftElement(words: Int32Array, t: number, key: Int32Array, k: number): number {
  const found = words[t + SET_KIND] === SET_HASH ? findHashed(words, t, key, k) : findInRanges(words, t, key, k);
  if (found !== -1) return found;
  return words[t + SET_CATCH_ALL] === 0 ? -1 : t + words[t + SET_CATCH_ALL];
}

function findHashed(words: Int32Array, t: number, key: Int32Array, k: number): number {
  const keyWords = words[t + SET_KEY_WORDS];
  const rowWords = 2 + keyWords + words[t + SET_VALUE_WORDS];
  const mask = words[t + SET_ROWS] - 1;
  const tag = tagOf(key, k, keyWords);
  let row = tag >>> words[t + SET_SHIFT];
  for (;;) {
    const at = t + SET_HEAD + row * rowWords;
    const held = words[at];
    if (held === tag) {
      let differs = 0;
      for (let i = 0; i < keyWords; i++) differs |= words[at + 1 + i] ^ key[k + i];
      if (differs === 0) return at + 1 + keyWords;
    }
    if (held === 0) return -1;
    row = (row + 1) & mask;
  }
}

function findInRanges(words: Int32Array, t: number, key: Int32Array, k: number): number {
  const keyWords = words[t + SET_KEY_WORDS];
  const rowWords = 3 * keyWords + 1 + words[t + SET_VALUE_WORDS];
  const first = t + SET_HEAD;
  let low = 0;
  let high = words[t + SET_ROWS];
  // The rows below `low` begin at or below the key, those from `high` on above it.
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isAbove(words, first + middle * rowWords, key, k, keyWords)) high = middle;
    else low = middle + 1;
  }
  for (let row = low - 1; row >= 0; row--) {
    const at = first + row * rowWords;
    if (isBelow(words, at + 2 * keyWords, key, k, keyWords)) return -1;
    if (isInside(words, at, key, k, keyWords, words[t + SET_FIELDS])) return at + 3 * keyWords;
  }
  return -1;
}

/** True if the words at `at`, read as one number, are above the key. */
function isAbove(words: Int32Array, at: number, key: Int32Array, k: number, count: number): boolean {
  for (let i = 0; i < count; i++) {
    if (words[at + i] !== key[k + i]) return words[at + i] >>> 0 > key[k + i] >>> 0;
  }
  return false;
}

function isBelow(words: Int32Array, at: number, key: Int32Array, k: number, count: number): boolean {
  for (let i = 0; i < count; i++) {
    if (words[at + i] !== key[k + i]) return words[at + i] >>> 0 < key[k + i] >>> 0;
  }
  return false;
}

/** True if each field of the key lies between those of the row's lowest and highest key. */
function isInside(words: Int32Array, at: number, key: Int32Array, k: number, count: number, fields: number): boolean {
  let i = 0;
  while (i < count) {
    let next = i + 1;
    while (next < count && ((fields >>> next) & 1) === 0) next++;
    if (isAbove(words, at + i, key, k + i, next - i) || isBelow(words, at + count + i, key, k + i, next - i))
      return false;
    i = next;
  }
  return true;
}

function tagOf(key: Int32Array, k: number, count: number): number {
  let h = 0x2545f491;
  for (let i = 0; i < count; i++) {
    h = Math.imul(h ^ (h >>> 15), 0x85ebca77) + Math.imul(key[k + i] ^ (key[k + i] >>> 16), 0x9e3779b1);
  }
  return mix32(h | 0) | 1;
}
