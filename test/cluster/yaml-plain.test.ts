/** The quick YAML reader against the complete one: whatever it reads, the other reads the same. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SourceText } from '../../control/src/cluster/source-text.ts';
import { readYaml } from '../../control/src/cluster/yaml-documents.ts';
import { readPlain } from '../../control/src/cluster/yaml-plain.ts';
import { seed } from './support.ts';

/** A directive keeps the complete reader from handing the document on. */
const DIRECTIVE = '%YAML 1.2\n---\n';

/** Checks a text; answers whether it was plain. */
function agree(text: string): boolean {
  const plain = readPlain(text, 0, text.length);
  if (plain === null) return false;
  const { documents, problems } = readYaml(new SourceText('a', DIRECTIVE + text));
  expect(problems, JSON.stringify(text)).toEqual([]);
  expect(plain.value, JSON.stringify(text)).toEqual(documents[0]?.value);
  const place = documents[0]!.placeOf([]).locate('');
  expect({ line: place.line - 2, column: place.column }).toEqual(new SourceText('a', text).positionAt(plain.start));
  return true;
}

const words = [
  'a',
  'b-1',
  'on',
  'y',
  '1',
  '-1',
  '08',
  '0x1f',
  '1e3',
  '1.5',
  '.5',
  '1_000',
  '10.0.0.1',
  'null',
  'Null',
  '~',
];
const odd = [
  'true',
  'fd00::1',
  'a:1',
  'a: b',
  'a #b',
  'a#b',
  '2001-12-14',
  '<<',
  '&x',
  '*x',
  '!t',
  '|',
  '>',
  '?',
  '-',
  '---',
  '.inf',
];
const forms = [
  '"q"',
  '"q\\n\\"x"',
  '"\\x41"',
  "'it''s'",
  "''",
  '[]',
  '{}',
  '[a, "b", 1]',
  '{a: 1, b: [c]}',
  '[a,]',
  '{a}',
  '[a: b]',
];
const value = fc.constantFrom(
  '',
  ...words,
  ...odd,
  ...forms,
  '{a: }',
  '{a:1}',
  '[a:]',
  '[ a , b ]',
  '{"a":1}',
  '{a: 1} # c',
  '"a"b',
  'é',
);
const key = fc.constantFrom(
  'a',
  'b',
  'c.d/e',
  '"k"',
  "'l'",
  'true',
  'y',
  'null',
  '1',
  '__proto__',
  'constructor',
  '- a',
  '- - b',
  '-',
);
const line = fc
  .tuple(
    fc.integer({ min: 0, max: 3 }),
    key,
    fc.constantFrom(':', ': ', ':  ', '', ' : '),
    value,
    fc.constantFrom('', '', ' ', ' # c', '#c'),
  )
  .map(([indent, name, colon, text, behind]) => `${' '.repeat(indent * 2)}${name}${colon}${text}${behind}`);
const other = fc.constantFrom(
  '',
  '# c',
  '   # c',
  '  - x',
  '- x',
  '-',
  '  text',
  'text',
  '\ta: 1',
  '- a: 1\n  b: 2',
  'a:\n- 1\n- 2',
  'a:\n  b',
);

describe('the quick YAML reader', () => {
  it('agrees with the complete one wherever it answers', () => {
    let plain = 0;
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ arbitrary: line, weight: 4 }, other), { minLength: 1, maxLength: 6 }),
        (lines) => {
          if (agree(lines.join('\n'))) plain++;
        },
      ),
      { seed: seed(), numRuns: 20_000 },
    );
    expect(plain).toBeGreaterThan(100);
  });

  it('reads what manifests are mostly written in', () => {
    const manifest = [
      '# a comment',
      'apiVersion: v1',
      'kind: Service # behind a value',
      'metadata: {name: web, labels: {app: web, "b": \'c\'}}',
      'spec:',
      '  clusterIP: 10.96.0.1',
      '  clusterIPs:',
      '  - fd00::1',
      '  - "10.96.0.1"',
      '  selector:',
      '',
      '    app.kubernetes.io/name: web',
      '  ports:',
      '    - name: http',
      '      port: 80',
      '      targetPort: "http"',
      '    -   {name: b, port: 81}',
      '  none: null',
      '  empty:',
      '  publishNotReadyAddresses: true',
      '  image: registry:5000/a@sha256:0',
      '',
    ].join('\n');
    expect(agree(manifest)).toBe(true);
  });

  it('numbers documents, and gives parts their lines, whichever reader took them', () => {
    const text = 'a: 1\n---\n# nothing\n---\nb: &x [1]\nc:\n  d: 2\n--- # next\ne:\n  - f: 3\n  - g: 4\n';
    const { documents, problems } = readYaml(new SourceText('a', text));
    expect(problems).toEqual([]);
    expect(documents.map(({ number, value }) => [number, value])).toEqual([
      [1, { a: 1 }],
      [3, { b: [1], c: { d: 2 } }],
      [4, { e: [{ f: 3 }, { g: 4 }] }],
    ]);
    expect(documents[1]!.placeOf([]).locate('c.d')).toEqual({ line: 7, column: 3 });
    expect(documents[1]!.placeOf(['c']).locate('d')).toEqual({ line: 7, column: 3 });
    expect(documents[2]!.placeOf(['e', 1]).locate('g')).toEqual({ line: 11, column: 5 });
    expect(readYaml(new SourceText('a', 'a: 1\n---\nb: 1\nb: 2\n')).problems).toMatchObject([
      { document: 2, offset: 14, path: ['b'] },
    ]);
  });
});
