/** Random rulesets, written, read back, and by way of the real nft. Random changes of text and JSON: an answer or an error. */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../control/src/cluster/problem.ts';
import { formatNft } from '../../control/src/compile/nft-save.ts';
import { parseNftJson } from '../../control/src/ruleset/nft-json.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { seeded } from '../compile/random-cluster.ts';
import { CALICO, DOCKER, FIREWALLD } from './nft-nodes.ts';
import { normalRuleset } from './nft-normal.ts';
import { randomNftRuleset } from './nft-random.ts';
import { hasNft, loadRuleset } from './real-nft.ts';

describe('random nft rulesets', () => {
  it('are read as they were written', () => {
    fc.assert(
      fc.property(randomNftRuleset, (ruleset) => {
        const text = formatNft(ruleset);
        const { notUnderstood, ruleset: read } = parseNftText('x', text);
        expect(notUnderstood).toEqual([]);
        expect(normalRuleset(read)).toEqual(normalRuleset(ruleset));
      }),
      seeded(150),
    );
  });

  it.skipIf(!hasNft)('come back from the real nft, in text and in JSON', () => {
    fc.assert(
      fc.property(randomNftRuleset, (ruleset) => {
        const { text, json } = loadRuleset(formatNft(ruleset));
        const wanted = normalRuleset(ruleset);
        expect(normalRuleset(parseNftText('x', text).ruleset)).toEqual(wanted);
        expect(normalRuleset(parseNftJson('x', json).ruleset)).toEqual(wanted);
      }),
      seeded(25),
    );
  });
});

/** Cuts, doubles, swaps and overwrites pieces of a text. */
const mutation = (text: string): fc.Arbitrary<string> =>
  fc
    .array(
      fc.tuple(
        fc.nat({ max: text.length }),
        fc.nat({ max: 30 }),
        fc.constantFrom('', '{', '}', '"', ' . ', '\n', '@', ',', ':', '0', 'x'),
      ),
      { minLength: 1, maxLength: 4 },
    )
    .map((edits) => edits.reduce((now, [at, length, put]) => now.slice(0, at) + put + now.slice(at + length), text));

describe('damaged dumps of nft', () => {
  it('give an answer or an error of the input, in text', () => {
    const text = `${DOCKER}${CALICO}${FIREWALLD}`;
    fc.assert(
      fc.property(mutation(text), (damaged) => {
        try {
          parseNftText('x', damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      seeded(500),
    );
  });

  it.skipIf(!hasNft)('give an answer or an error of the input, in JSON', () => {
    const json = loadRuleset(`${DOCKER}${FIREWALLD}`).json;
    const values = fc.constantFrom<unknown>(
      null,
      0,
      -1,
      'x',
      '@x',
      [],
      {},
      true,
      1e99,
      ['x'],
      { set: null },
      { '&': 1 },
    );
    const damage = fc.array(fc.tuple(fc.nat({ max: 5000 }), values), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(
        fc.oneof(
          mutation(json),
          damage.map((edits) => replaceValues(json, edits)),
        ),
        (damaged) => {
          try {
            parseNftJson('x', damaged);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      seeded(300),
    );
  });
});

/** Puts other values where the n-th value of the JSON was. */
function replaceValues(json: string, edits: readonly (readonly [number, unknown])[]): string {
  let at = 0;
  const places = new Map(edits);
  return JSON.stringify(JSON.parse(json), (_, value: unknown) => {
    at++;
    // A copy: a value that is put into itself would be circular.
    return places.has(at) ? structuredClone(places.get(at)) : value;
  });
}
