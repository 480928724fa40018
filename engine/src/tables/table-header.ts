/**
 * The header that every table starts with, and the two ways to get a table: make one, or attach to a buffer.
 *
 * Memory, in 32-bit words:
 *
 *     0  magic      "FPTB"
 *     1  version    of the layout of all tables; raised by any change of a picture in this folder
 *     2  kind       KIND_*, one per file
 *     3  words      length of the whole buffer in words
 *     4  capacity   rows the table was made for; what a row is, the table's file says
 *     5  count      rows in use; tables with several writers count elsewhere
 *     6 … 15        parameters, named in the table's file
 *
 * A new buffer is all zeros, and in every table zero means "nothing here": making a table costs one allocation.
 * Attaching checks everything above once, so that accessors can be bare. A table is written by one thread at a time;
 * the exceptions (conntrack, affinity, counters) say in their files who may write which part.
 */

export const HEADER_WORDS = 16;

const MAGIC = 0x42545046;
const VERSION = 1;

const MAGIC_AT = 0;
const VERSION_AT = 1;
const KIND_AT = 2;
const WORDS_AT = 3;
export const CAPACITY_AT = 4;
export const COUNT_AT = 5;
export const PARAMETERS_AT = 6;

export const KIND_CONNTRACK = 1;
export const KIND_LPM4 = 2;
export const KIND_LPM6 = 3;
export const KIND_HASH = 4;
export const KIND_MAGLEV = 5;
export const KIND_BACKENDS = 6;
export const KIND_AFFINITY = 7;
export const KIND_COUNTERS = 8;
export const KIND_IPSET = 9;
export const KIND_IPVS_SERVICES = 10;
export const KIND_IPVS_CONNECTIONS = 11;
export const KIND_IPVS_SHARED = 12;
export const KIND_POLICY_MAP = 13;

const KIND_NAMES = [
  '',
  'conntrack',
  'lpm4',
  'lpm6',
  'hash',
  'maglev',
  'backends',
  'affinity',
  'counters',
  'ipset',
  'ipvs services',
  'ipvs connections',
  'ipvs shared state',
  'policy map',
];

function kindName(kind: number): string {
  return KIND_NAMES[kind] || `unknown (${kind})`;
}

/**
 * Makes a zeroed table with a header.
 * @param kind one of KIND_*
 * @param capacity rows, kept in the header
 * @param bodyWords 32-bit words behind the header
 * @returns the whole buffer as words; the body starts at HEADER_WORDS
 * @throws RangeError if a number is not a whole one of at least 0 (capacity: 1), or memory is short
 */
export function createTable(kind: number, capacity: number, bodyWords: number): Int32Array<SharedArrayBuffer> {
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > 0x7fffffff) {
    throw new RangeError(`capacity of a ${kindName(kind)} table must be a whole number from 1 on, not ${capacity}`);
  }
  if (!Number.isInteger(bodyWords) || bodyWords < 0) {
    throw new RangeError(`size of a ${kindName(kind)} table must be a whole number of words, not ${bodyWords}`);
  }
  const total = HEADER_WORDS + bodyWords;
  const words = new Int32Array(new SharedArrayBuffer(total * 4));
  words[MAGIC_AT] = MAGIC;
  words[VERSION_AT] = VERSION;
  words[KIND_AT] = kind;
  words[WORDS_AT] = total;
  words[CAPACITY_AT] = capacity;
  return words;
}

/**
 * Takes a buffer that `createTable` made, here or in another thread.
 * @param kind the kind that the caller can read
 * @returns the whole buffer as words
 * @throws TypeError if the buffer is not such a table; the message says which check failed
 */
export function attachTable(kind: number, buffer: SharedArrayBuffer): Int32Array<SharedArrayBuffer> {
  if (!(buffer instanceof SharedArrayBuffer)) throw new TypeError('a table lives in a SharedArrayBuffer');
  if (buffer.byteLength < HEADER_WORDS * 4 || buffer.byteLength % 4 !== 0) {
    throw new TypeError(`${buffer.byteLength} bytes do not hold a table: too short or not whole words`);
  }
  const words = new Int32Array(buffer);
  if (words[MAGIC_AT] !== MAGIC) throw new TypeError('not a table: wrong magic number');
  if (words[VERSION_AT] !== VERSION) {
    throw new TypeError(`table layout version ${words[VERSION_AT]}, this program reads version ${VERSION}`);
  }
  if (words[KIND_AT] !== kind) {
    throw new TypeError(`a ${kindName(words[KIND_AT])} table where a ${kindName(kind)} table is needed`);
  }
  if (words[WORDS_AT] !== words.length) {
    throw new TypeError(`table cut or padded: ${words.length} words, its header says ${words[WORDS_AT]}`);
  }
  return words;
}

/** The smallest power of two that is at least `n`; `n` from 1 to 2^30. */
export function ceilPow2(n: number): number {
  return n <= 1 ? 1 : 2 ** (32 - Math.clz32(n - 1));
}
