/**
 * Checks of one AdminNetworkPolicy or BaselineAdminNetworkPolicy (v1alpha1): at most 100 rules a direction, peers a rule,
 * ports a rule; the Baseline one is called `default`, so that a cluster has one at most.
 */

import type { AdminNetworkPolicy } from '../model/admin-network-policy.ts';
import type { AdminPolicyPort } from '../model/admin-policy-port.ts';
import { BASELINE_NAME, type BaselineAdminNetworkPolicy } from '../model/baseline-admin-network-policy.ts';
import {
  type AdminPolicyLimits,
  type AdminPolicyRule,
  checkLength,
  checkOneOf,
  checkPortName,
  checkRange,
  checkRule,
  checkSubject,
} from './check-admin-policy.ts';
import type { FieldReport } from './field-report.ts';
import { show } from './shape.ts';

const LIMITS: AdminPolicyLimits = { entries: 100, namespacesOptional: false };

type Rule = AdminPolicyRule & { readonly ports?: readonly AdminPolicyPort[] };

export function checkAdminNetworkPolicy({ spec }: AdminNetworkPolicy, report: FieldReport): void {
  checkSubject(spec.subject, LIMITS, report);
  checkRules(spec.ingress, 'spec.ingress', report);
  checkRules(spec.egress, 'spec.egress', report);
}

export function checkBaselineAdminNetworkPolicy(policy: BaselineAdminNetworkPolicy, report: FieldReport): void {
  const { metadata, spec } = policy;
  if (metadata.name !== BASELINE_NAME) {
    const message = `${show(metadata.name)}: a cluster has only one BaselineAdminNetworkPolicy, called ${BASELINE_NAME}`;
    report.error('metadata.name', message);
  }
  checkSubject(spec.subject, LIMITS, report);
  checkRules(spec.ingress, 'spec.ingress', report);
  checkRules(spec.egress, 'spec.egress', report);
}

function checkRules(rules: readonly Rule[], list: string, report: FieldReport): void {
  checkLength(rules, 'rule', LIMITS.entries, list, report, 0);
  rules.forEach((rule, index) => {
    const field = `${list}[${index}]`;
    const { ports } = rule;
    checkRule(rule, field, ports?.some(({ namedPort }) => namedPort !== undefined) === true, LIMITS, report);
    if (ports === undefined) return;
    checkLength(ports, 'port', LIMITS.entries, `${field}.ports`, report);
    ports.forEach((port, position) => {
      const at = `${field}.ports[${position}]`;
      checkOneOf(port, ['portNumber', 'portRange', 'namedPort'], at, report);
      if (port.portRange !== undefined) checkRange(port.portRange, `${at}.portRange`, report);
      if (port.namedPort !== undefined) checkPortName(port.namedPort, `${at}.namedPort`, report);
    });
  });
}
