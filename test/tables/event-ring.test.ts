import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  beginEvent,
  createEventRing,
  MAX_CHOICE_POINTS,
  nextBranch,
  resetEventRing,
  takeChoice,
} from '../../engine/src/tables/event-ring.ts';
import { runs } from './runs.ts';

/** A tree of choices: each inner node has at least one way on. */
interface Tree {
  readonly ways: readonly Tree[];
}

const leaf: Tree = { ways: [] };
const tree = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constant(leaf),
    fc.record({ ways: fc.array(tie('tree'), { minLength: 1, maxLength: 4 }) }),
  ),
})).tree;

/** Every path from the root to a leaf, by recursion. */
function pathsOf({ ways }: Tree): number[][] {
  if (ways.length === 0) return [[]];
  return ways.flatMap((way, i) => pathsOf(way).map((path) => [i, ...path]));
}

describe('event ring', () => {
  it('holds events one behind the other, and counts those that it has no room for', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(255), fc.nat(9))), fc.nat(64), (events, capacity) => {
        const ring = createEventRing(capacity);
        const expected: number[] = [];
        let lost = 0;
        for (const [code, operands] of events) {
          const at = beginEvent(ring, code, operands);
          if (expected.length + operands + 1 > capacity) {
            expect(at).toBe(-1);
            lost++;
            continue;
          }
          expect(at).toBe(expected.length + 1);
          expected.push(code | ((operands + 1) << 8), ...new Array<number>(operands).fill(0));
        }
        expect([...ring.words.subarray(0, ring.used)]).toEqual(expected);
        expect(ring.lost).toBe(lost);
        resetEventRing(ring);
        expect([ring.used, ring.lost, ring.points]).toEqual([0, 0, 0]);
      }),
      runs(200),
    );
  });

  it('visits every branch of a tree of choices once, in order', () => {
    fc.assert(
      fc.property(tree, (root) => {
        const ring = createEventRing(16);
        const visited: number[][] = [];
        do {
          resetEventRing(ring);
          const path: number[] = [];
          for (let at = root; at.ways.length > 0; ) {
            const taken = takeChoice(ring, at.ways.length);
            path.push(taken);
            at = at.ways[taken]!;
          }
          visited.push(path);
        } while (nextBranch(ring));
        expect(visited).toEqual(pathsOf(root));
      }),
      runs(200),
    );
  });

  it('takes the last option where there are more choice points than it can note', () => {
    const ring = createEventRing(16);
    for (let i = 0; i < MAX_CHOICE_POINTS; i++) expect(takeChoice(ring, 2)).toBe(0);
    expect(takeChoice(ring, 3)).toBe(2);
    expect(ring.points).toBe(MAX_CHOICE_POINTS);
  });
});
