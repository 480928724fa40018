/**
 * The report of a test run (DESIGN §7) and its three forms: text for people, JSON and JUnit for machines.
 */

import type { Mode } from '../model/datapath.ts';
import type { Expectation } from './connectivity-test.ts';
import { describePolicy, type PolicyName } from './not-enforced.ts';

export interface ActualResult {
  readonly verdict: string;
  readonly reason: string;
  readonly translated: boolean;
  readonly backends: readonly string[];
  readonly masquerade: boolean;
}

export interface BranchResult extends ActualResult {
  /** The pod or node that it was delivered to, null for none. */
  readonly deliveredTo: string | null;
}

export interface ProbeResult {
  readonly name: string;
  readonly passed: boolean;
  readonly expected: Expectation;
  readonly actual: ActualResult;
  readonly branches: readonly BranchResult[];
  /** Policies that may select a pod of the probe and that nothing here enforces. */
  readonly notEnforced: readonly PolicyName[];
  /** Of a probe that failed: what policies said against its packets, a sentence each. */
  readonly denials: readonly string[];
  readonly error: string | null;
}

/** One document in one mode. */
export interface TestResult {
  readonly name: string;
  readonly mode: Mode;
  readonly error: string | null;
  readonly probes: readonly ProbeResult[];
}

export interface Report {
  readonly version: 1;
  readonly summary: {
    readonly tests: number;
    readonly probes: number;
    readonly passed: number;
    readonly failed: number;
  };
  readonly tests: readonly TestResult[];
}

/** What stands for an answer that could not be had. */
export const NO_ANSWER: ActualResult = {
  verdict: 'none',
  reason: 'none',
  translated: false,
  backends: [],
  masquerade: false,
};

export function makeReport(tests: readonly TestResult[]): Report {
  let probes = 0;
  let passed = 0;
  for (const test of tests) {
    probes += test.probes.length;
    for (const probe of test.probes) if (probe.passed) passed++;
  }
  return { version: 1, summary: { tests: tests.length, probes, passed, failed: probes - passed }, tests };
}

/** 0: all hold; 1: a probe failed; 2: anything has an error. */
export function exitCodeOf(report: Report): 0 | 1 | 2 {
  for (const test of report.tests) {
    if (test.error !== null || test.probes.some((probe) => probe.error !== null)) return 2;
  }
  return report.summary.failed > 0 ? 1 : 0;
}

/** Colours of a terminal, or nothing in a pipe. */
export interface Palette {
  good(text: string): string;
  bad(text: string): string;
  dim(text: string): string;
  bold(text: string): string;
}

export function formatText(report: Report, palette: Palette): string {
  const lines: string[] = [];
  for (const test of report.tests) {
    const bad = test.error !== null || test.probes.some((probe) => !probe.passed);
    const count = `${test.probes.filter((probe) => probe.passed).length}/${test.probes.length}`;
    lines.push(
      `${bad ? palette.bad('✗') : palette.good('✓')} ${palette.bold(test.name)} [${test.mode}] ${palette.dim(count)}`,
    );
    const notEnforced = describeNotEnforced(test.probes);
    if (notEnforced !== '') lines.push(`    ${palette.bad(notEnforced)}`);
    if (test.error !== null) for (const line of test.error.split('\n')) lines.push(`    ${palette.bad(line)}`);
    for (const probe of test.probes) {
      if (probe.passed) continue;
      lines.push(`  ${palette.bad('✗')} ${probe.name}`);
      if (probe.error !== null) {
        if (probe.error !== test.error) lines.push(`      ${probe.error}`);
      } else for (const line of [...differences(probe), ...probe.denials]) lines.push(`      ${line}`);
    }
  }
  const { tests, probes, passed, failed } = report.summary;
  const broken = report.tests.filter((test) => test.error !== null).length;
  const errors = broken === 0 ? '' : `, ${broken} ${broken === 1 ? 'test has' : 'tests have'} an error`;
  const ending = `${probes} probes in ${tests} tests: ${passed} passed, ${failed} failed${errors}`;
  lines.push(failed + broken > 0 ? palette.bad(ending) : palette.good(ending));
  return lines.join('\n');
}

/** The policies that could make a real cluster answer otherwise, '' where there are none. */
function describeNotEnforced(probes: readonly ProbeResult[]): string {
  const names = new Set(probes.flatMap((probe) => probe.notEnforced.map(describePolicy)));
  return names.size === 0 ? '' : `not enforced, but may change an answer: ${[...names].join(', ')}`;
}

/** The fields of a probe that are not as expected, one line each. */
export function differences(probe: ProbeResult): string[] {
  const { expected, actual } = probe;
  const lines: string[] = [];
  const compare = (field: keyof ActualResult, wanted: unknown, got: unknown): void => {
    if (wanted !== undefined && !sameValue(wanted, got))
      lines.push(`${field}: expected ${show(wanted)}, got ${show(got)}`);
  };
  compare('verdict', expected.verdict, actual.verdict);
  compare('reason', expected.reason, actual.reason);
  compare('translated', expected.translated, actual.translated);
  compare(
    'backends',
    expected.backends === undefined ? undefined : [...new Set(expected.backends)].sort(),
    actual.backends,
  );
  compare('masquerade', expected.masquerade, actual.masquerade);
  if (lines.length > 0 && expected.verdict !== undefined && !lines[0]!.startsWith('verdict')) return lines;
  if (lines.length > 0 && actual.reason !== 'none' && expected.reason === undefined) lines[0] += ` (${actual.reason})`;
  return lines;
}

function sameValue(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function show(value: unknown): string {
  return Array.isArray(value) ? `[${value.join(', ')}]` : String(value);
}

/** JUnit XML as CI systems read it: a suite an entry, a case a probe. */
export function formatJunit(report: Report): string {
  const lines = ['<?xml version="1.0" encoding="UTF-8"?>'];
  lines.push(`<testsuites name="flatpath" ${counts(report.tests)}>`);
  for (const test of report.tests) {
    const suite = `${test.name} [${test.mode}]`;
    lines.push(`  <testsuite name=${attribute(suite)} ${counts([test])}>`);
    for (const probe of casesOf(test)) {
      const open = `    <testcase classname=${attribute(suite)} name=${attribute(probe.name)}`;
      const notEnforced = describeNotEnforced([probe]);
      const output = notEnforced === '' ? [] : [`      <system-out>${escapeXml(notEnforced)}</system-out>`];
      if (probe.passed && output.length === 0) lines.push(`${open}/>`);
      else if (probe.passed) lines.push(`${open}>`, ...output, '    </testcase>');
      else {
        const kind = probe.error === null ? 'failure' : 'error';
        const message = probe.error ?? [...differences(probe), ...probe.denials].join('; ');
        lines.push(`${open}>`, `      <${kind} message=${attribute(message)}/>`, ...output, '    </testcase>');
      }
    }
    lines.push('  </testsuite>');
  }
  lines.push('</testsuites>');
  return lines.join('\n');
}

/** The cases of a suite; one that has no probes but an error still has to show it. */
function casesOf(test: TestResult): readonly ProbeResult[] {
  if (test.error === null || test.probes.length > 0) return test.probes;
  const { error } = test;
  const answer = { expected: {}, actual: NO_ANSWER, branches: [], notEnforced: [], denials: [] };
  return [{ name: 'document', passed: false, ...answer, error }];
}

function counts(tests: readonly TestResult[]): string {
  const cases = tests.flatMap(casesOf);
  const errors = cases.filter((probe) => probe.error !== null).length;
  const failures = cases.filter((probe) => !probe.passed).length - errors;
  return `tests="${cases.length}" failures="${failures}" errors="${errors}"`;
}

function attribute(text: string): string {
  return `"${escapeXml(text).replaceAll('"', '&quot;').replaceAll('\n', '&#10;')}"`;
}

function escapeXml(text: string): string {
  // Control characters other than tab and line ends are not allowed in XML 1.0 at all.
  const clean = [...text].filter((char) => char >= ' ' || char === '\n' || char === '\t').join('');
  return clean.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
