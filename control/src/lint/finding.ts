/**
 * What lint says: one finding names the rule, the object and field it is about, their place in the input, a sentence of what
 * is wrong and one of what to do. `LINT_RULES` is the list of everything that it looks for; docs/lint.md is held against it.
 */

import { describeProblem } from '../cluster/problem.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import { originOf } from '../model/origin.ts';

/** From the worst: what cannot work, what very likely is not meant, what is worth knowing. */
export const SEVERITIES = ['error', 'warning', 'info'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** By id, with the heading that findings of the rule stand under. */
export const LINT_RULES = {
  'allow-all': 'A policy that undoes a default deny',
  'block-over-nodes': 'An address block over nodes',
  'block-over-pods': 'An address block over pods',
  'block-over-services': 'An address block over Services, which no policy ever sees',
  'default-deny': 'Namespaces without a default deny',
  'dns-cut-off': 'Pods that cannot ask DNS',
  'empty-namespace': 'Policies of namespaces without pods',
  'equal-priority': 'Policies of one priority',
  'host-network': 'Pods of the host network, which policies do not see',
  'named-port': 'A port name that nobody has',
  'other-direction': 'Rules of a direction that the policy does not isolate',
  'policy-port': 'A port that no pod declares',
  'range-overlap': 'Address ranges that overlap',
  'redundant-rule': 'A rule that another one covers',
  'selector-empty': 'A selector that matches nothing',
  'service-port': 'A Service port that no pod declares',
  'shadowed-rule': 'A rule that is never reached',
  'target-port': 'A targetPort name that pods do not have',
} as const;
export type LintRule = keyof typeof LINT_RULES;

export interface Finding {
  readonly rule: LintRule;
  readonly severity: Severity;
  readonly kind: string;
  /** '' for what belongs to the cluster. */
  readonly namespace: string;
  readonly name: string;
  /** 'spec.ingress[0].from[1]', or ''. */
  readonly field: string;
  /** '' for what came from no file. */
  readonly file: string;
  /** 0 where it is not known. */
  readonly line: number;
  readonly message: string;
  /** What to do about it. */
  readonly advice: string;
}

export type FindingText = Pick<Finding, 'rule' | 'severity' | 'message' | 'advice'>;

/** A finding about a field; of a made object about what it was made from. */
export function findingAt(object: KubernetesObject, field: string, text: FindingText): Finding {
  const origin = originOf(object, field);
  return {
    ...text,
    kind: origin.kind,
    namespace: origin.namespace,
    name: origin.name,
    field: origin.field,
    file: origin.file ?? '',
    line: origin.line ?? 0,
  };
}

/** `file:line: NetworkPolicy shop/api spec.ingress[0]: what is wrong`. */
export function describeFinding({ kind, namespace, name, field, file, line, message }: Finding): string {
  const object = kind === '' ? '' : `${kind} ${namespace === '' ? name : `${namespace}/${name}`}`;
  const place = { file, document: 0, object, field, message, ...(line > 0 && { line }) };
  return describeProblem({ severity: 'warning', ...place });
}

/** The worst first, then by rule, file, line and field. */
export function sortFindings(findings: Finding[]): Finding[] {
  const key = (own: Finding): string =>
    [own.rule, own.file, String(own.line).padStart(8, '0'), own.kind, own.namespace, own.name, own.field].join('\n');
  return findings.sort((a, b) => {
    const worse = SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity);
    if (worse !== 0) return worse;
    return key(a) < key(b) ? -1 : 1;
  });
}
