import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addPiece,
  createFragments,
  datagramLength,
  detachPiece,
  dropDatagram,
  expireDatagrams,
  type Fragments,
  findDatagram,
  firstPiece,
  freePiece,
  handPiece,
  nextPiece,
  openDatagram,
  PIECE_COMPLETES,
  PIECE_CONTRADICTS,
  PIECE_HELD,
  PIECE_OVERLAPS,
  PIECE_REFUSED,
  PIECE_REPEATED,
  pieceFrame,
  pieceFrom,
  pieceTo,
  readPiece,
  removePiece,
  takeHanded,
} from '../../engine/src/tables/fragments.ts';
import { runs } from './runs.ts';

const HEAD = 34;

/** A frame of `HEAD` bytes and data that its place and salt tell. */
function frameOf(from: number, to: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(HEAD + to - from);
  for (let i = from; i < to; i++) bytes[HEAD + i - from] = (i * 7 + salt) & 255;
  bytes.fill(salt, 0, HEAD);
  return bytes;
}

function row(f: Fragments, shard: number, id: number): number {
  return findDatagram(f, shard, 2, id, 1, 2, 3, 4, 5, 6, 7, 8);
}

function open(f: Fragments, shard: number, id: number, now = 0): number {
  return openDatagram(f, shard, 2, id, 1, 2, 3, 4, 5, 6, 7, 8, now);
}

function add(f: Fragments, shard: number, at: number, from: number, to: number, isLast: boolean, salt = 0): number {
  return addPiece(f, shard, at, from, to, isLast, frameOf(from, to, salt), 0, 14, HEAD);
}

/** The naive model: a datagram is what has come of it. */
class Model {
  readonly pieces = new Map<number, { to: number; salt: number }>();
  length = 0;
  known = false;
  add(from: number, to: number, isLast: boolean, salt: number): number {
    if (isLast ? to < this.length || (this.known && to !== this.length) : this.known && to > this.length) {
      return PIECE_CONTRADICTS;
    }
    const have = new Set<number>();
    for (const [start, piece] of this.pieces) for (let i = start; i < piece.to; i++) have.add(i);
    let seen = 0;
    for (let i = from; i < to; i++) if (have.has(i)) seen++;
    if (seen === to - from) return PIECE_REPEATED;
    if (seen > 0) return PIECE_OVERLAPS;
    this.pieces.set(from, { to, salt });
    this.known ||= isLast;
    this.length = Math.max(this.length, to);
    return this.known && have.size + to - from === this.length ? PIECE_COMPLETES : PIECE_HELD;
  }
}

describe('fragments', () => {
  it('are kept as a naive model keeps them, whatever comes', () => {
    const step = fc.record({
      id: fc.nat(3),
      from: fc.nat(12).map((n) => n * 8),
      size: fc.integer({ min: 1, max: 500 }),
      last: fc.boolean(),
      salt: fc.nat(255),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(1, 4), (steps, shards) => {
        const f = createFragments(shards);
        const shard = shards - 1;
        const models = new Map<number, Model>();
        for (const { id, from, size, last, salt } of steps) {
          let at = row(f, shard, id);
          expect(at === -1).toBe(!models.has(id));
          if (at === -1) {
            at = open(f, shard, id);
            models.set(id, new Model());
          }
          const model = models.get(id)!;
          const to = last ? from + size : from + ((size + 7) & ~7);
          const answer = add(f, shard, at, from, to, last, salt);
          expect(answer).toBe(model.add(from, to, last, salt));
          const kept = [...model.pieces].sort(([a], [b]) => a - b);
          let piece = firstPiece(f, at);
          for (const [start, { to: end, salt: own }] of kept) {
            expect([pieceFrom(f, piece), pieceTo(f, piece), pieceFrame(f, piece)]).toEqual([
              start,
              end,
              HEAD + end - start,
            ]);
            const out = new Uint8Array(HEAD + end - start);
            readPiece(f, piece, 0, out.length, out, 0);
            expect(out).toEqual(frameOf(start, end, own));
            piece = nextPiece(f, piece);
          }
          expect(piece).toBe(0);
          expect(datagramLength(f, at)).toBe(model.length);
          if (answer === PIECE_COMPLETES || answer === PIECE_OVERLAPS || answer === PIECE_CONTRADICTS) {
            expect(dropDatagram(f, shard, at)).toBe(kept.length);
            models.delete(id);
          }
        }
      }),
      runs(200),
    );
  });

  it('can be taken back, as if the last one had not come', () => {
    const f = createFragments(1);
    const at = open(f, 0, 9);
    expect(add(f, 0, at, 0, 64, false)).toBe(PIECE_HELD);
    expect(add(f, 0, at, 64, 100, true)).toBe(PIECE_COMPLETES);
    removePiece(f, 0, at, 64);
    expect(add(f, 0, at, 64, 200, true)).toBe(PIECE_COMPLETES);
    removePiece(f, 0, at, 0);
    expect(add(f, 0, at, 0, 64, false)).toBe(PIECE_COMPLETES);
    expect(datagramLength(f, at)).toBe(200);
  });

  it('use their memory again: nothing leaks, and what does not fit is refused', () => {
    const f = createFragments(8);
    for (let round = 0; round < 3; round++) {
      const at = open(f, 7, round);
      let from = 0;
      while (from < 65_536 && add(f, 7, at, from, from + 1480, false) === PIECE_HELD) from += 1480;
      expect(from).toBeGreaterThan(60_000);
      const other = open(f, 7, 100);
      let refused = 0;
      for (let i = 0; i < 40; i++) if (add(f, 7, other, i * 1480, (i + 1) * 1480, false) === PIECE_REFUSED) refused++;
      expect(refused).toBeGreaterThan(0);
      dropDatagram(f, 7, at);
      dropDatagram(f, 7, other);
    }
  });

  it('go when their time is up, by family', () => {
    const f = createFragments(1);
    const even = openDatagram(f, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, -5);
    const odd = openDatagram(f, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, -5);
    add(f, 0, even, 0, 8, false);
    add(f, 0, odd, 0, 8, false);
    add(f, 0, odd, 8, 16, false);
    expect(expireDatagrams(f, 0, 24, 30, 60)).toBe(0);
    expect(expireDatagrams(f, 0, 25, 30, 60)).toBe(1);
    expect(expireDatagrams(f, 0, 55, 30, 60)).toBe(2);
    expect(findDatagram(f, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0)).toBe(-1);
  });

  it('wait in turn to be taken away', () => {
    const f = createFragments(1);
    const at = open(f, 0, 1);
    for (let i = 0; i < 3; i++) add(f, 0, at, i * 8, i * 8 + 8, i === 2);
    for (let piece = detachPiece(f, at); piece !== 0; piece = detachPiece(f, at)) handPiece(f, 0, piece);
    expect(row(f, 0, 1)).toBe(-1);
    const places = [];
    for (let piece = takeHanded(f, 0); piece !== 0; piece = takeHanded(f, 0)) {
      places.push(pieceFrom(f, piece));
      freePiece(f, 0, piece);
    }
    expect(places).toEqual([0, 8, 16]);
  });
});
