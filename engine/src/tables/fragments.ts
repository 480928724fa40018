/**
 * Held fragments: the pieces of datagrams that are not whole yet, in the order of their place in the datagram, and pieces
 * of datagrams that have passed and wait to be taken away.
 *
 * Memory, in words, per shard, one behind the other; all of it belongs to the thread that owns the shard:
 *
 *     control      0 next free block, 0 none   1 blocks never used yet begin here   2 first piece to be taken   3 last one
 *     rows         ROW_WORDS each, one a datagram:
 *       +0  1: in use   +1 key   +2 number   +3–6 source   +7–10 destination   +11 time of the first piece in ms
 *       +12 length of the data, where `+13` is 1: the last piece has come; else the end of what has come
 *       +14 bytes that have come   +15 first piece   +16 last piece   +17 pieces
 *     blocks       BLOCK_WORDS each; a piece is a chain of them, 0 ends it:
 *       +0  next block   and in a chain's first block
 *       +1  next piece   +2 first byte's place in the datagram   +3 behind its last one   +4 bytes of the frame
 *       +5  where the data begins in the frame   +6 where the IP header does   +7–10 the program's own
 *       +11… the frame's bytes
 *
 * Rows, blocks and pieces are named by their word offset. A datagram goes when it is whole, when two of its pieces overlap,
 * or when its time is up, which is looked at whenever a fragment of the shard comes. When there is no row or block left,
 * newcomers are refused, as the kernel refuses them above ipfrag_high_thresh; nothing that waits is thrown out for them.
 */

/** The kernel's net.ipv4.ipfrag_high_thresh; a thread that owns all shards has as much. */
const BYTES_ALONE = 4 << 20;
/** Of many shards each must hold one largest datagram; streams send none. */
const BYTES_SHARED = 96 << 10;
const ROWS_ALONE = 256;
const ROWS_SHARED = 16;

const CONTROL_WORDS = 4;
const FREE = 0;
const FRESH = 1;
const TAKE_FIRST = 2;
const TAKE_LAST = 3;

const ROW_WORDS = 18;
const ROW_KEY = 1;
const ROW_NUMBER = 2;
const ROW_SRC = 3;
const ROW_DST = 7;
const ROW_TIME = 11;
const ROW_LENGTH = 12;
const ROW_COMPLETE = 13;
const ROW_BYTES = 14;
const ROW_FIRST = 15;
const ROW_LAST = 16;
const ROW_PIECES = 17;

const BLOCK_WORDS = 64;
const PIECE_NEXT = 1;
const PIECE_FROM = 2;
const PIECE_TO = 3;
const PIECE_FRAME = 4;
const PIECE_DATA = 5;
const PIECE_L3 = 6;
const PIECE_OWN = 7;
const PIECE_HEAD = 11;
/** Words that a program keeps with a piece. */
export const PIECE_OWN_WORDS = PIECE_HEAD - PIECE_OWN;

// Answers of `addPiece`.
/** The piece waits for the others. */
export const PIECE_HELD = 0;
/** The datagram is whole. */
export const PIECE_COMPLETES = 1;
/** Nothing was kept: no room; its bytes have come already; */
export const PIECE_REFUSED = -1;
export const PIECE_REPEATED = -2;
/** the datagram is gone: pieces overlap, or contradict each other about its end. */
export const PIECE_OVERLAPS = -3;
export const PIECE_CONTRADICTS = -4;

export interface Fragments {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly rows: number;
  readonly shardWords: number;
  /** Of a shard: where its rows and blocks begin. */
  readonly rowsAt: number;
  readonly blocksAt: number;
}

/** @param shards of the connection tables beside it */
export function createFragments(shards: number): Fragments {
  const rows = shards === 1 ? ROWS_ALONE : ROWS_SHARED;
  const blocks = (shards === 1 ? BYTES_ALONE : BYTES_SHARED) / (BLOCK_WORDS * 4);
  const blocksAt = CONTROL_WORDS + rows * ROW_WORDS;
  const shardWords = blocksAt + blocks * BLOCK_WORDS;
  const words = new Int32Array(shards * shardWords);
  return { words, bytes: new Uint8Array(words.buffer), rows, shardWords, rowsAt: CONTROL_WORDS, blocksAt };
}

// ---- datagrams --------------------------------------------------------------------------------------------------

/** The row of a datagram, -1 for none. */
export function findDatagram(
  f: Fragments,
  shard: number,
  key: number,
  number: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
): number {
  const words = f.words;
  let at = shard * f.shardWords + f.rowsAt;
  for (let i = 0; i < f.rows; i++, at += ROW_WORDS) {
    if (words[at] === 0 || words[at + ROW_NUMBER] !== number || words[at + ROW_KEY] !== key) continue;
    const source = (words[at + ROW_SRC] ^ s0) | (words[at + ROW_SRC + 1] ^ s1) | (words[at + ROW_SRC + 2] ^ s2);
    const target = (words[at + ROW_DST] ^ d0) | (words[at + ROW_DST + 1] ^ d1) | (words[at + ROW_DST + 2] ^ d2);
    if ((source | target | (words[at + ROW_SRC + 3] ^ s3) | (words[at + ROW_DST + 3] ^ d3)) === 0) return at;
  }
  return -1;
}

/** A row for a datagram that has none, -1 if all are taken. */
export function openDatagram(
  f: Fragments,
  shard: number,
  key: number,
  number: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  nowMs: number,
): number {
  const words = f.words;
  let at = shard * f.shardWords + f.rowsAt;
  for (let i = 0; i < f.rows; i++, at += ROW_WORDS) {
    if (words[at] !== 0) continue;
    words[at] = 1;
    words[at + ROW_KEY] = key;
    words[at + ROW_NUMBER] = number;
    words[at + ROW_SRC] = s0;
    words[at + ROW_SRC + 1] = s1;
    words[at + ROW_SRC + 2] = s2;
    words[at + ROW_SRC + 3] = s3;
    words[at + ROW_DST] = d0;
    words[at + ROW_DST + 1] = d1;
    words[at + ROW_DST + 2] = d2;
    words[at + ROW_DST + 3] = d3;
    words[at + ROW_TIME] = nowMs;
    return at;
  }
  return -1;
}

/** Ends a datagram and frees its pieces. @returns how many there were */
export function dropDatagram(f: Fragments, shard: number, row: number): number {
  const words = f.words;
  const pieces = words[row + ROW_PIECES];
  let piece = words[row + ROW_FIRST];
  while (piece !== 0) {
    const next = words[piece + PIECE_NEXT];
    freePiece(f, shard, piece);
    piece = next;
  }
  words.fill(0, row, row + ROW_WORDS);
  return pieces;
}

/**
 * Ends the datagrams whose time is up.
 * @param odd life in ms of those with an odd key, `even` of the others
 * @returns how many pieces went
 */
export function expireDatagrams(f: Fragments, shard: number, nowMs: number, even: number, odd: number): number {
  const words = f.words;
  let gone = 0;
  let at = shard * f.shardWords + f.rowsAt;
  for (let i = 0; i < f.rows; i++, at += ROW_WORDS) {
    if (words[at] === 0) continue;
    const life = (words[at + ROW_KEY] & 1) === 0 ? even : odd;
    if (((nowMs - words[at + ROW_TIME]) | 0) >= life) gone += dropDatagram(f, shard, at);
  }
  return gone;
}

/** Bytes of a whole datagram's data. */
export function datagramLength(f: Fragments, row: number): number {
  return f.words[row + ROW_LENGTH];
}

// ---- pieces -----------------------------------------------------------------------------------------------------

/**
 * Adds a piece to a datagram; whatever the answer, the frame may be thrown away.
 * @param from,to place of its data in the datagram, from < to
 * @param isLast no piece follows
 * @param bytes,off,data,l3 the slab, where the frame, its data and its IP header begin; the frame ends with the data
 * @returns PIECE_…
 */
export function addPiece(
  f: Fragments,
  shard: number,
  row: number,
  from: number,
  to: number,
  isLast: boolean,
  bytes: Uint8Array,
  off: number,
  l3: number,
  data: number,
): number {
  const words = f.words;
  const length = words[row + ROW_LENGTH];
  const knowsEnd = words[row + ROW_COMPLETE] === 1;
  if (isLast ? to < length || (knowsEnd && to !== length) : knowsEnd && to > length) return PIECE_CONTRADICTS;

  // Nearly always the newest piece follows the last one; else it belongs behind `before`.
  let before = words[row + ROW_LAST];
  if (before !== 0 && words[before + PIECE_FROM] > from) before = findBefore(f, row, from);
  const next = before === 0 ? words[row + ROW_FIRST] : words[before + PIECE_NEXT];
  const isTouched = (before !== 0 && words[before + PIECE_TO] > from) || (next !== 0 && words[next + PIECE_FROM] < to);
  if (isTouched) return isCovered(f, row, from, to) ? PIECE_REPEATED : PIECE_OVERLAPS;

  const piece = takePiece(f, shard, bytes, off, data + to - from - off);
  if (piece === 0) return PIECE_REFUSED;
  words[piece + PIECE_FROM] = from;
  words[piece + PIECE_TO] = to;
  words[piece + PIECE_DATA] = data - off;
  words[piece + PIECE_L3] = l3 - off;
  words[piece + PIECE_NEXT] = next;
  if (before === 0) words[row + ROW_FIRST] = piece;
  else words[before + PIECE_NEXT] = piece;
  if (next === 0) words[row + ROW_LAST] = piece;
  words[row + ROW_BYTES] += to - from;
  words[row + ROW_PIECES]++;
  if (isLast) words[row + ROW_COMPLETE] = 1;
  if (to > length) words[row + ROW_LENGTH] = to;
  const whole = words[row + ROW_COMPLETE] === 1 && words[row + ROW_BYTES] === words[row + ROW_LENGTH];
  return whole ? PIECE_COMPLETES : PIECE_HELD;
}

/** The last piece that begins at or before a place, 0 for none. */
function findBefore(f: Fragments, row: number, from: number): number {
  const words = f.words;
  let before = 0;
  let at = words[row + ROW_FIRST];
  while (at !== 0 && words[at + PIECE_FROM] <= from) {
    before = at;
    at = words[at + PIECE_NEXT];
  }
  return before;
}

/** True if all bytes from `from` to `to` have come. */
function isCovered(f: Fragments, row: number, from: number, to: number): boolean {
  const words = f.words;
  let reached = from;
  let at = words[row + ROW_FIRST];
  while (at !== 0 && words[at + PIECE_FROM] <= reached) {
    if (words[at + PIECE_TO] > reached) reached = words[at + PIECE_TO];
    at = words[at + PIECE_NEXT];
  }
  return reached >= to;
}

/** Takes the piece at a place out of its datagram again, as if it had not come. */
export function removePiece(f: Fragments, shard: number, row: number, from: number): void {
  const words = f.words;
  let before = 0;
  let at = words[row + ROW_FIRST];
  let length = 0;
  while (at !== 0 && words[at + PIECE_FROM] !== from) {
    before = at;
    at = words[at + PIECE_NEXT];
  }
  if (at === 0) return;
  const next = words[at + PIECE_NEXT];
  if (before === 0) words[row + ROW_FIRST] = next;
  else words[before + PIECE_NEXT] = next;
  if (next === 0) words[row + ROW_LAST] = before;
  words[row + ROW_BYTES] -= words[at + PIECE_TO] - words[at + PIECE_FROM];
  words[row + ROW_PIECES]--;
  if (next === 0) {
    // It may have been the one that knew the end.
    words[row + ROW_COMPLETE] = 0;
    if (before !== 0) length = words[before + PIECE_TO];
    words[row + ROW_LENGTH] = length;
  }
  freePiece(f, shard, at);
}

/** The datagram's first piece in place, 0 for none. */
export function firstPiece(f: Fragments, row: number): number {
  return f.words[row + ROW_FIRST];
}

/** The piece behind another, 0 for none. */
export function nextPiece(f: Fragments, piece: number): number {
  return f.words[piece + PIECE_NEXT];
}

/** The piece at a place in its datagram, 0 for none. */
export function findPiece(f: Fragments, row: number, from: number): number {
  const piece = findBefore(f, row, from);
  return piece !== 0 && f.words[piece + PIECE_FROM] === from ? piece : 0;
}

export function pieceFrom(f: Fragments, piece: number): number {
  return f.words[piece + PIECE_FROM];
}

export function pieceTo(f: Fragments, piece: number): number {
  return f.words[piece + PIECE_TO];
}

/** Bytes of the piece's frame. */
export function pieceFrame(f: Fragments, piece: number): number {
  return f.words[piece + PIECE_FRAME];
}

/** Where the data begins in the frame. */
export function pieceData(f: Fragments, piece: number): number {
  return f.words[piece + PIECE_DATA];
}

/** Where the IP header begins in the frame. */
export function pieceL3(f: Fragments, piece: number): number {
  return f.words[piece + PIECE_L3];
}

/** Word `i` of what the program keeps with a piece; 0 … PIECE_OWN_WORDS - 1. */
export function getPieceOwn(f: Fragments, piece: number, i: number): number {
  return f.words[piece + PIECE_OWN + i];
}

export function setPieceOwn(f: Fragments, piece: number, i: number, value: number): void {
  f.words[piece + PIECE_OWN + i] = value;
}

// ---- pieces that have passed ------------------------------------------------------------------------------------

/** Takes the datagram's first piece out of it, for `freePiece` or `handPiece`; 0 if it has none left, and the row is free. */
export function detachPiece(f: Fragments, row: number): number {
  const words = f.words;
  const piece = words[row + ROW_FIRST];
  if (piece === 0) {
    words.fill(0, row, row + ROW_WORDS);
    return 0;
  }
  words[row + ROW_FIRST] = words[piece + PIECE_NEXT];
  words[piece + PIECE_NEXT] = 0;
  return piece;
}

/** Puts a detached piece to those that wait to be taken away. */
export function handPiece(f: Fragments, shard: number, piece: number): void {
  const words = f.words;
  const control = shard * f.shardWords;
  const last = words[control + TAKE_LAST];
  if (last === 0) words[control + TAKE_FIRST] = piece;
  else words[last + PIECE_NEXT] = piece;
  words[control + TAKE_LAST] = piece;
}

/** The piece that has waited longest to be taken away, for `freePiece`; 0 for none. */
export function takeHanded(f: Fragments, shard: number): number {
  const words = f.words;
  const control = shard * f.shardWords;
  const piece = words[control + TAKE_FIRST];
  if (piece === 0) return 0;
  words[control + TAKE_FIRST] = words[piece + PIECE_NEXT];
  if (words[piece + PIECE_NEXT] === 0) words[control + TAKE_LAST] = 0;
  words[piece + PIECE_NEXT] = 0;
  return piece;
}

// ---- bytes ------------------------------------------------------------------------------------------------------

/** Reads `count` bytes of a piece's frame from place `from` on into a slab. */
export function readPiece(
  f: Fragments,
  piece: number,
  from: number,
  count: number,
  into: Uint8Array,
  off: number,
): void {
  copyPiece(f, piece, from, count, into, off, true);
}

/** Writes `count` bytes of a slab over a piece's frame from place `from` on. */
export function writePiece(
  f: Fragments,
  piece: number,
  from: number,
  count: number,
  out: Uint8Array,
  off: number,
): void {
  copyPiece(f, piece, from, count, out, off, false);
}

function copyPiece(
  f: Fragments,
  piece: number,
  from: number,
  count: number,
  other: Uint8Array,
  off: number,
  isRead: boolean,
): void {
  const words = f.words;
  const bytes = f.bytes;
  let block = piece;
  let room = (BLOCK_WORDS - PIECE_HEAD) * 4;
  let at = (piece + PIECE_HEAD) * 4;
  let skip = from;
  let done = 0;
  while (done < count) {
    if (skip >= room) skip -= room;
    else {
      const part = Math.min(room - skip, count - done);
      for (let i = 0; i < part; i++) {
        if (isRead) other[off + done + i] = bytes[at + skip + i];
        else bytes[at + skip + i] = other[off + done + i];
      }
      done += part;
      skip = 0;
    }
    block = words[block];
    at = (block + 1) * 4;
    room = (BLOCK_WORDS - 1) * 4;
  }
}

/** A chain of blocks that holds a frame, 0 if there are not enough. */
function takePiece(f: Fragments, shard: number, bytes: Uint8Array, off: number, length: number): number {
  const words = f.words;
  const blocks = 1 + Math.max(0, Math.ceil((length / 4 - (BLOCK_WORDS - PIECE_HEAD)) / (BLOCK_WORDS - 1)));
  let piece = 0;
  for (let i = 0; i < blocks; i++) {
    const block = takeBlock(f, shard);
    if (block === 0) {
      freePiece(f, shard, piece);
      return 0;
    }
    // The chain grows at its front.
    words[block] = piece;
    piece = block;
  }
  words[piece + PIECE_NEXT] = 0;
  words[piece + PIECE_FRAME] = length;
  writePiece(f, piece, 0, length, bytes, off);
  return piece;
}

/** A free block; 0 for none. */
function takeBlock(f: Fragments, shard: number): number {
  const words = f.words;
  const control = shard * f.shardWords;
  const free = words[control + FREE];
  if (free !== 0) {
    words[control + FREE] = words[free];
    return free;
  }
  const fresh = words[control + FRESH] === 0 ? control + f.blocksAt : words[control + FRESH];
  if (fresh + BLOCK_WORDS > control + f.shardWords) return 0;
  words[control + FRESH] = fresh + BLOCK_WORDS;
  return fresh;
}

/** Frees the blocks of a piece that is in no datagram; 0 is no piece. */
export function freePiece(f: Fragments, shard: number, piece: number): void {
  const words = f.words;
  const control = shard * f.shardWords;
  let block = piece;
  while (block !== 0) {
    const next = words[block];
    words[block] = words[control + FREE];
    words[control + FREE] = block;
    block = next;
  }
}
