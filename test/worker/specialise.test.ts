/** The bundle's partial evaluation: a module behaves the same with and without it, and calls go where they should. */
import { expect, it } from 'vitest';

const file = '../../scripts/specialise.mjs';
const { specialise } = (await import(file)) as {
  specialise(
    code: string,
    constants: readonly string[],
    members: Readonly<Record<string, string>>,
  ): { code: string; copies: number };
};

/** Evaluates a module whose last line says `export { … }`. */
async function load(code: string): Promise<Record<string, unknown>> {
  return (await import(`data:text/javascript,${encodeURIComponent(code)}`)) as Record<string, unknown>;
}

const module = `
const ours = { a: [1, 2, 3], other: null };
const inner = { n: 10 };
ours.other = inner;
const theirs = { a: [7, 8, 9], other: { n: 70 } };
function read(b, i) { return b.a[i]; }
function both(x, b, y, c) { return x + read(b, 0) + y + read(c, 1); }
function member(b) { const o = b.other; return twice(o) + twice(b.other); }
function twice(o) { return { o, b: 1 }.o.n * 2; }
function loop(b, n) { return n === 0 ? read(b, 2) : loop(b, n - 1) + 1; }
function field(box) { return box.b + read(box.ours, 0); }
const results = [
  both(100, ours, 1000, theirs), both(100, theirs, 1000, ours), both(1, ours, 2, ours), member(ours), member(theirs),
  loop(ours, 4), loop(theirs, 4), field({ b: 5, ours }),
];
export { results };
`;

it('changes no result', async () => {
  const made = specialise(module, ['ours', 'inner'], { 'ours.other': 'inner' });
  expect((await load(made.code)).results).toEqual((await load(module)).results);
  expect(made.copies).toBeGreaterThan(5);
});

it('sends calls with a constant to a copy without that parameter, calls with anything else to the general version', () => {
  const { code } = specialise(module, ['ours', 'inner'], { 'ours.other': 'inner' });
  expect(code).toContain('both$1ours(100, 1000, theirs)');
  expect(code).toContain('both$3ours(100, theirs, 1000)');
  expect(code).toContain('both$1ours$3ours(1, 2)');
  expect(code).toContain('function read$0ours(i) { return ours.a[i]; }');
  expect(code).toContain('function twice$0inner() { return { o: inner, b: 1 }.o.n * 2; }');
  expect(code).toContain('loop$0ours(n - 1)');
  expect(code).toContain('loop(theirs, 4)');
});

it('refuses a function that gives the parameter’s name to something else', () => {
  const shadowed = 'const ours = {};\nfunction f(b) { { const b = 1; return b; } }\nf(ours);\n';
  expect(() => specialise(shadowed, ['ours'], {})).toThrow("'b' is declared again");
});
