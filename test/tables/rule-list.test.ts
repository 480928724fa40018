import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MATCH_INVERT, RULE_HEAD, RuleListBuilder } from '../../engine/src/tables/rule-list.ts';
import { runs } from './runs.ts';

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const match = fc.record({
  op: fc.integer({ min: 1, max: 127 }),
  invert: fc.boolean(),
  operands: fc.array(word, { maxLength: 8 }),
});
const rule = fc.record({
  target: fc.nat(11),
  id: fc.nat(1_000_000),
  args: fc.array(word, { maxLength: 6 }),
  matches: fc.array(match, { maxLength: 4 }),
});

/** Reads a body word by word, as the picture at the top of rule-list.ts says. */
function readBody(words: Int32Array, start: number): unknown[] {
  const rules: unknown[] = [];
  let at = start;
  while (words[at] !== 0) {
    const end = at + words[at]!;
    const first = at + words[at + 2]!;
    const matches: unknown[] = [];
    for (let m = first; m < end; ) {
      const size = words[m]! >> 8;
      matches.push({
        op: words[m]! & 0x7f,
        invert: (words[m]! & MATCH_INVERT) !== 0,
        operands: [...words.subarray(m + 1, m + size)],
      });
      m += size;
    }
    rules.push({ target: words[at + 1], id: words[at + 3], args: [...words.subarray(at + RULE_HEAD, first)], matches });
    at = end;
  }
  return rules;
}

describe('rule list', () => {
  it('holds the rules of every body as they were given', () => {
    fc.assert(
      fc.property(fc.array(fc.array(rule, { maxLength: 6 }), { maxLength: 6 }), (bodies) => {
        const builder = new RuleListBuilder();
        const starts = bodies.map((rules) => {
          const start = builder.beginBody();
          for (const { target, id, args, matches } of rules) {
            builder.rule(target, id, args);
            for (const { op, invert, operands } of matches) builder.match(op, invert, operands);
          }
          builder.endBody();
          return start;
        });
        const list = builder.build(bodies.length, [0], starts, [-1], [1]);
        expect(bodies.map((_, chain) => readBody(list.words, list.starts[chain]!))).toEqual(bodies);
        expect(list.words.buffer).toBeInstanceOf(SharedArrayBuffer);
      }),
      runs(200),
    );
  });

  it('refuses a match without a rule', () => {
    const builder = new RuleListBuilder();
    builder.beginBody();
    expect(() => builder.match(1, false, [])).toThrow('a match needs a rule');
  });
});
