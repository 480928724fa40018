/** The report of a test run: what counts as a difference, what the exit code says, what the text shows. */

import { describe, expect, it } from 'vitest';
import {
  type ActualResult,
  differences,
  exitCodeOf,
  formatText,
  makeReport,
  type ProbeResult,
  type TestResult,
} from '../../control/src/probe/report.ts';

const ACTUAL: ActualResult = {
  verdict: 'dropped',
  reason: 'rule-drop',
  translated: false,
  backends: ['10.0.0.1:80', '10.0.0.2:80'],
  masquerade: true,
};
const probe = (expected: ProbeResult['expected'], more: Partial<ProbeResult> = {}): ProbeResult => ({
  name: 'p',
  passed: true,
  expected,
  actual: ACTUAL,
  branches: [],
  notEnforced: [],
  denials: [],
  error: null,
  ...more,
});
const test = (probes: readonly ProbeResult[], error: string | null = null): TestResult => ({
  name: 't',
  mode: 'iptables',
  error,
  probes,
});
const plain = (text: string): string => text;
const PALETTE = { good: plain, bad: plain, dim: plain, bold: plain };

describe('differences', () => {
  it('checks what is expected and nothing else', () => {
    expect(differences(probe({}))).toEqual([]);
    expect(differences(probe({ verdict: 'dropped', masquerade: true }))).toEqual([]);
    expect(differences(probe({ translated: true }))).toHaveLength(1);
  });

  it('takes backends as a set', () => {
    expect(differences(probe({ backends: ['10.0.0.2:80', '10.0.0.1:80', '10.0.0.2:80'] }))).toEqual([]);
    expect(differences(probe({ verdict: 'dropped', backends: ['10.0.0.2:80'] }))).toEqual([
      'backends: expected [10.0.0.2:80], got [10.0.0.1:80, 10.0.0.2:80]',
    ]);
  });

  it('tells the reason of a verdict that was not expected', () => {
    expect(differences(probe({ verdict: 'delivered' }))).toEqual([
      'verdict: expected delivered, got dropped (rule-drop)',
    ]);
  });
});

describe('exitCodeOf', () => {
  it('is 0, 1 or 2', () => {
    expect(exitCodeOf(makeReport([]))).toBe(0);
    expect(exitCodeOf(makeReport([test([probe({})])]))).toBe(0);
    expect(exitCodeOf(makeReport([test([probe({}), probe({}, { passed: false })])]))).toBe(1);
    expect(exitCodeOf(makeReport([test([probe({}, { passed: false, error: 'no' })])]))).toBe(2);
    expect(exitCodeOf(makeReport([test([], 'no'), test([probe({}, { passed: false })])]))).toBe(2);
  });
});

describe('formatText', () => {
  it('shows an error even where no probe failed', () => {
    const lines = formatText(makeReport([test([], 'cannot load')]), PALETTE).split('\n');
    expect(lines).toEqual([
      '✗ t [iptables] 0/0',
      '    cannot load',
      '0 probes in 1 tests: 0 passed, 0 failed, 1 test has an error',
    ]);
  });
});
