/** `flatpath lint` as a user runs it, and its page. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LINT_RULES, SEVERITIES } from '../../control/src/lint/finding.ts';
import { flatpath, makeFolder, ROOT, SHOP } from '../cli/command.ts';
import { lint } from './support.ts';

const TYPO = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector:
    matchLabels: {app: wbe}
`;

interface Report {
  readonly version: number;
  readonly summary: { readonly errors: number; readonly warnings: number; readonly notes: number };
  readonly findings: readonly { readonly rule: string; readonly file: string; readonly line: number }[];
}

describe('flatpath lint', () => {
  /** Without the Service that selects nobody. */
  const shop = SHOP.split('---\n').filter((text) => !text.includes('app: nothing'));
  const folder = makeFolder({ 'shop.yaml': shop.join('---\n'), 'policy.yaml': TYPO });

  it('names file and line, groups by rule and ends with 1', () => {
    const { status, stdout } = flatpath(['lint', '-f', '.'], { cwd: folder });
    expect(status).toBe(1);
    expect(stdout).toContain(
      'A selector that matches nothing (selector-empty)\n  warning: policy.yaml:5: NetworkPolicy default/web spec.podSelector: no pod',
    );
  });

  it('ends with 0 where nothing of the severity is found', () => {
    const { status, stdout } = flatpath(['lint', '-f', 'shop.yaml'], { cwd: folder });
    expect([status, stdout]).toEqual([0, '1 note (--severity info shows all)\n']);
    expect(flatpath(['lint', '-f', 'shop.yaml', '--severity', 'info'], { cwd: folder }).status).toBe(1);
    expect(flatpath(['lint', '-f', '.', '--severity', 'error'], { cwd: folder }).status).toBe(0);
  });

  it('prints JSON, and ends with 2 for bad input', () => {
    const { status, stdout } = flatpath(['lint', '-f', '.', '--json'], { cwd: folder });
    const report = JSON.parse(stdout) as Report;
    expect(status).toBe(1);
    expect(report.version).toBe(1);
    expect(report.findings.map(({ rule, file, line }) => [rule, file, line])).toContainEqual([
      'selector-empty',
      'policy.yaml',
      5,
    ]);
    expect(flatpath(['lint', '-f', 'nothing-here'], { cwd: folder }).status).toBe(2);
    expect(flatpath(['lint', '-f', '.', '--severity', 'much'], { cwd: folder }).status).toBe(2);
  });
});

it('finds nothing to warn of in a well-written cluster', () => {
  const found = lint([], [join(ROOT, 'examples/shop')]).filter(({ severity }) => severity !== 'info');
  expect(found).toEqual([]);
});

it('has every rule on its page, and no other', () => {
  const page = readFileSync(join(ROOT, 'docs/lint.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| ([^|]+) \|/gm)];
  expect(rows.map(([, rule]) => rule).sort()).toEqual(Object.keys(LINT_RULES).sort());
  for (const [, , severities] of rows)
    for (const own of severities!.trim().split(', ')) expect(SEVERITIES).toContain(own);
});
