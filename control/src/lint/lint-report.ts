/** Findings as text, grouped by rule, and as JSON. */

import { describeFinding, type Finding, LINT_RULES, type LintRule, SEVERITIES, type Severity } from './finding.ts';

/** How text is coloured; plain functions where nobody looks. */
export interface LintPalette {
  readonly bad: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly bold: (text: string) => string;
}

export interface LintSummary {
  readonly errors: number;
  readonly warnings: number;
  readonly notes: number;
}

export function summarizeFindings(findings: readonly Finding[]): LintSummary {
  const count = (severity: Severity): number => findings.filter((own) => own.severity === severity).length;
  return { errors: count('error'), warnings: count('warning'), notes: count('info') };
}

/** True for what is at least as bad as a severity. */
export function isAtLeast({ severity }: Finding, least: Severity): boolean {
  return SEVERITIES.indexOf(severity) <= SEVERITIES.indexOf(least);
}

/** @param shown the least severity that is printed; the others are counted */
export function lintText(findings: readonly Finding[], shown: Severity, palette: LintPalette): string {
  const lines: string[] = [];
  const rules = new Map<LintRule, Finding[]>();
  for (const finding of findings) {
    if (!isAtLeast(finding, shown)) continue;
    const list = rules.get(finding.rule);
    if (list === undefined) rules.set(finding.rule, [finding]);
    else list.push(finding);
  }
  for (const [rule, list] of rules) {
    lines.push(`${palette.bold(LINT_RULES[rule])} ${palette.dim(`(${rule})`)}`);
    for (const finding of list) {
      const { severity, advice } = finding;
      lines.push(`  ${severity === 'error' ? palette.bad(severity) : severity}: ${describeFinding(finding)}`);
      lines.push(palette.dim(`      ${advice}`));
    }
    lines.push('');
  }
  lines.push(summaryLine(findings, shown));
  return lines.join('\n');
}

function summaryLine(findings: readonly Finding[], shown: Severity): string {
  const { errors, warnings, notes } = summarizeFindings(findings);
  const parts = [
    { count: errors, one: 'error', severity: 'error' as const },
    { count: warnings, one: 'warning', severity: 'warning' as const },
    { count: notes, one: 'note', severity: 'info' as const },
  ].filter(({ count }) => count > 0);
  if (parts.length === 0) return 'nothing found';
  const hidden = parts.find(({ severity }) => SEVERITIES.indexOf(severity) > SEVERITIES.indexOf(shown));
  const text = parts.map(({ count, one }) => `${count} ${one}${count === 1 ? '' : 's'}`).join(', ');
  return hidden === undefined ? text : `${text} (--severity ${hidden.severity} shows all)`;
}

/** The shape of `lint --json`. */
export function lintJson(findings: readonly Finding[], shown: Severity): object {
  return {
    version: 1,
    summary: summarizeFindings(findings),
    findings: findings.filter((finding) => isAtLeast(finding, shown)),
  };
}
