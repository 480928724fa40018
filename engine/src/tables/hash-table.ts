/**
 * Exact-match hash table with a fixed number of key words and value words: frontends, endpoints, policy entries.
 *
 * Memory, in words:
 *
 *     header   capacity and count in rows; parameters: key words, value words, log2 of rows
 *     rows     2^n rows (at least twice the capacity) of 1 + keyWords + valueWords words:
 *       +0     tag: the key's hash with bit 0 set; 0 = free row
 *       +1     key
 *       …      value, zeros in a new row
 *
 * Open addressing, linear probing from the top bits of the tag; load never above one half. A delete shifts the rest of
 * its run back, so there are no tombstones and a miss ends at the first free row.
 * A row index is valid until the next delete; inserts do not move rows.
 * Written by one thread while nobody reads (a change goes into the unread copy of an image); read by all.
 */
import { mix32 } from './hash.ts';
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_HASH,
  PARAMETERS_AT,
} from './table-header.ts';

const KEY_WORDS_AT = PARAMETERS_AT;
const VALUE_WORDS_AT = PARAMETERS_AT + 1;
const ROW_BITS_AT = PARAMETERS_AT + 2;

export interface HashTable {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly keyWords: number;
  readonly valueWords: number;
  readonly rowWords: number;
  /** Rows - 1. */
  readonly mask: number;
  /** 32 - log2 of rows: a tag shifted right by it is the home row. */
  readonly shift: number;
}

/**
 * Makes an empty table.
 * @param keyWords 1 to 16; `hashFind2` and `hashFind5` need 2 and 5
 * @param valueWords 0 to 64
 * @param capacity most rows in use
 * @throws RangeError for other values
 */
export function createHashTable(keyWords: number, valueWords: number, capacity: number): HashTable {
  if (!Number.isInteger(keyWords) || keyWords < 1 || keyWords > 16) {
    throw new RangeError(`a key has 1 to 16 words, not ${keyWords}`);
  }
  if (!Number.isInteger(valueWords) || valueWords < 0 || valueWords > 64) {
    throw new RangeError(`a value has 0 to 64 words, not ${valueWords}`);
  }
  const rows = Math.max(8, ceilPow2(2 * capacity));
  const words = createTable(KIND_HASH, capacity, rows * (1 + keyWords + valueWords));
  words[KEY_WORDS_AT] = keyWords;
  words[VALUE_WORDS_AT] = valueWords;
  words[ROW_BITS_AT] = Math.log2(rows);
  return attachHashTable(words.buffer);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachHashTable(buffer: SharedArrayBuffer): HashTable {
  const words = attachTable(KIND_HASH, buffer);
  const keyWords = words[KEY_WORDS_AT];
  const valueWords = words[VALUE_WORDS_AT];
  const rows = 2 ** words[ROW_BITS_AT];
  const rowWords = 1 + keyWords + valueWords;
  if (words.length !== HEADER_WORDS + rows * rowWords) {
    throw new TypeError(`a hash table of ${rows} rows of ${rowWords} words has not ${words.length} words`);
  }
  return { buffer, words, keyWords, valueWords, rowWords, mask: rows - 1, shift: 32 - words[ROW_BITS_AT] };
}

function tag2(k0: number, k1: number): number {
  const h = Math.imul(k0, 0x9e3779b1) + Math.imul(k1 ^ (k1 >>> 16), 0x85ebca77);
  return mix32(h | 0) | 1;
}

function tag5(k0: number, k1: number, k2: number, k3: number, k4: number): number {
  const upper = (Math.imul(k0, 0x9e3779b1) + Math.imul(k1, 0x2545f491) + Math.imul(k2, 0x1b56c4e9)) | 0;
  const h = (upper ^ (upper >>> 15)) + Math.imul(k3, 0x85ebca77) + Math.imul(k4 ^ (k4 >>> 16), 0xc2b2ae3d);
  return mix32(h | 0) | 1;
}

/** The row of a key of two words; -1 if it is not there. */
export function hashFind2(t: HashTable, k0: number, k1: number): number {
  const words = t.words;
  const tag = tag2(k0, k1);
  let row = tag >>> t.shift;
  for (;;) {
    const at = HEADER_WORDS + row * t.rowWords;
    const held = words[at];
    // XOR: it must not matter whether a caller's word is signed.
    if (held === tag && ((words[at + 1] ^ k0) | (words[at + 2] ^ k1)) === 0) return row;
    if (held === 0) return -1;
    row = (row + 1) & t.mask;
  }
}

/** The row of a key of five words (address words 0 to 3, port << 8 | proto); -1 if it is not there. */
export function hashFind5(t: HashTable, k0: number, k1: number, k2: number, k3: number, k4: number): number {
  const words = t.words;
  const tag = tag5(k0, k1, k2, k3, k4);
  let row = tag >>> t.shift;
  for (;;) {
    const at = HEADER_WORDS + row * t.rowWords;
    const held = words[at];
    if (held === tag) {
      const differs = (words[at + 1] ^ k0) | (words[at + 2] ^ k1) | (words[at + 3] ^ k2) | (words[at + 4] ^ k3);
      if ((differs | (words[at + 5] ^ k4)) === 0) return row;
    }
    if (held === 0) return -1;
    row = (row + 1) & t.mask;
  }
}

/** Takes the first free row from the home of a tag on; -1 if the table is full. */
function takeRow(t: HashTable, tag: number): number {
  const words = t.words;
  if (words[COUNT_AT] >= words[CAPACITY_AT]) return -1;
  let row = tag >>> t.shift;
  while (words[HEADER_WORDS + row * t.rowWords] !== 0) row = (row + 1) & t.mask;
  words[COUNT_AT]++;
  words[HEADER_WORDS + row * t.rowWords] = tag;
  return row;
}

/** The row of a key, made with a value of zeros if it is not there; -1 if it is not there and the table is full. */
export function hashInsert2(t: HashTable, k0: number, k1: number): number {
  const found = hashFind2(t, k0, k1);
  if (found !== -1) return found;
  const row = takeRow(t, tag2(k0, k1));
  if (row === -1) return -1;
  const at = HEADER_WORDS + row * t.rowWords;
  t.words[at + 1] = k0;
  t.words[at + 2] = k1;
  return row;
}

/** As `hashInsert2`, for five words. */
export function hashInsert5(t: HashTable, k0: number, k1: number, k2: number, k3: number, k4: number): number {
  const found = hashFind5(t, k0, k1, k2, k3, k4);
  if (found !== -1) return found;
  const row = takeRow(t, tag5(k0, k1, k2, k3, k4));
  if (row === -1) return -1;
  const at = HEADER_WORDS + row * t.rowWords;
  t.words[at + 1] = k0;
  t.words[at + 2] = k1;
  t.words[at + 3] = k2;
  t.words[at + 4] = k3;
  t.words[at + 5] = k4;
  return row;
}

/** Frees a row and moves back the rows of its run that then stand too far from their home. */
function freeRow(t: HashTable, row: number): void {
  const words = t.words;
  const rowWords = t.rowWords;
  let hole = row;
  for (let next = (row + 1) & t.mask; ; next = (next + 1) & t.mask) {
    const at = HEADER_WORDS + next * rowWords;
    const tag = words[at];
    if (tag === 0) break;
    if (((next - (tag >>> t.shift)) & t.mask) < ((next - hole) & t.mask)) continue;
    words.copyWithin(HEADER_WORDS + hole * rowWords, at, at + rowWords);
    hole = next;
  }
  words.fill(0, HEADER_WORDS + hole * rowWords, HEADER_WORDS + (hole + 1) * rowWords);
  words[COUNT_AT]--;
}

/** Removes a key. 1 if it was there, else 0. */
export function hashDelete2(t: HashTable, k0: number, k1: number): number {
  const row = hashFind2(t, k0, k1);
  if (row === -1) return 0;
  freeRow(t, row);
  return 1;
}

/** As `hashDelete2`, for five words. */
export function hashDelete5(t: HashTable, k0: number, k1: number, k2: number, k3: number, k4: number): number {
  const row = hashFind5(t, k0, k1, k2, k3, k4);
  if (row === -1) return 0;
  freeRow(t, row);
  return 1;
}

/** Word `i` of a row's value. */
export function rowValue(t: HashTable, row: number, i: number): number {
  return t.words[HEADER_WORDS + row * t.rowWords + 1 + t.keyWords + i];
}

export function setRowValue(t: HashTable, row: number, i: number, value: number): void {
  t.words[HEADER_WORDS + row * t.rowWords + 1 + t.keyWords + i] = value;
}

/** Word `i` of a row's key. */
export function rowKey(t: HashTable, row: number, i: number): number {
  return t.words[HEADER_WORDS + row * t.rowWords + 1 + i];
}

/**
 * Walks the rows in use, for dumps.
 * @param row -1 at first, then the last answer
 * @returns the next row in use, -1 at the end
 */
export function nextRow(t: HashTable, row: number): number {
  for (let next = row + 1; next <= t.mask; next++) {
    if (t.words[HEADER_WORDS + next * t.rowWords] !== 0) return next;
  }
  return -1;
}
