import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { REASONS } from '../../engine/src/wire/reason.ts';

describe('docs/reasons.md', () => {
  const text = readFileSync(new URL('../../docs/reasons.md', import.meta.url), 'utf8');

  it('has a row for each reason of the registry, in its order, and no other', () => {
    const rows = text.split('\n').filter((line) => /^\| \d/.test(line));
    expect(rows).toEqual(REASONS.map(({ number, name, sentence }) => `| ${number} | \`${name}\` | ${sentence} |`));
  });

  it('no number or name stands twice', () => {
    expect(new Set(REASONS.map(({ number }) => number)).size).toBe(REASONS.length);
    expect(new Set(REASONS.map(({ name }) => name)).size).toBe(REASONS.length);
  });
});
