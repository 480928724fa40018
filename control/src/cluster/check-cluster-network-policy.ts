/** Checks of one ClusterNetworkPolicy (v1alpha2): at most 25 rules a direction, peers a rule, protocols a rule. */

import type { ClusterNetworkPolicy, ClusterPolicyProtocol } from '../model/cluster-network-policy.ts';
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

const LIMITS: AdminPolicyLimits = { entries: 25, namespacesOptional: true };

type Rule = AdminPolicyRule & { readonly protocols?: readonly ClusterPolicyProtocol[] };

export function checkClusterNetworkPolicy({ spec }: ClusterNetworkPolicy, report: FieldReport): void {
  checkSubject(spec.subject, LIMITS, report);
  checkRules(spec.ingress, 'spec.ingress', report);
  checkRules(spec.egress, 'spec.egress', report);
}

function checkRules(rules: readonly Rule[], list: string, report: FieldReport): void {
  checkLength(rules, 'rule', LIMITS.entries, list, report, 0);
  rules.forEach((rule, index) => {
    const field = `${list}[${index}]`;
    const { protocols } = rule;
    const namedPorts = protocols?.some(({ destinationNamedPort }) => destinationNamedPort !== undefined) === true;
    checkRule(rule, field, namedPorts, LIMITS, report);
    if (protocols === undefined) return;
    checkLength(protocols, 'protocol', LIMITS.entries, `${field}.protocols`, report);
    protocols.forEach((protocol, position) => {
      checkProtocol(protocol, `${field}.protocols[${position}]`, report);
    });
  });
}

function checkProtocol(protocol: ClusterPolicyProtocol, field: string, report: FieldReport): void {
  checkOneOf(protocol, ['tcp', 'udp', 'sctp', 'destinationNamedPort'], field, report);
  for (const name of ['tcp', 'udp', 'sctp'] as const) {
    const port = protocol[name]?.destinationPort;
    if (port === undefined) continue;
    checkOneOf(port, ['number', 'range'], `${field}.${name}.destinationPort`, report);
    if (port.range !== undefined) checkRange(port.range, `${field}.${name}.destinationPort.range`, report);
  }
  if (protocol.destinationNamedPort !== undefined) {
    checkPortName(protocol.destinationNamedPort, `${field}.destinationNamedPort`, report);
  }
}
