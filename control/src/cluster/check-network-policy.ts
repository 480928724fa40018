/**
 * Checks of one NetworkPolicy: its CIDRs, ports, label selectors and types.
 *
 * Odd but valid (a warning): rules of a direction that the policyTypes leave out, a type that stands twice.
 */

import { inPrefix } from '../model/address.ts';
import type { NetworkPolicy } from '../model/network-policy.ts';
import { checkLabelSelector } from './check-label-selector.ts';
import { type FieldReport, isPortName, isPortNumber } from './field-report.ts';
import { show } from './shape.ts';

type Rule = NonNullable<NetworkPolicy['spec']['ingress']>[number];
type Peer = NonNullable<Rule['from']>[number];
type Port = NonNullable<Rule['ports']>[number];

export function checkNetworkPolicy({ spec }: NetworkPolicy, report: FieldReport): void {
  checkLabelSelector(spec.podSelector, 'spec.podSelector', report);
  spec.ingress?.forEach((rule, index) => {
    const field = `spec.ingress[${index}]`;
    rule.from?.forEach((peer, position) => {
      checkPeer(peer, `${field}.from[${position}]`, report);
    });
    rule.ports?.forEach((port, position) => {
      checkPort(port, `${field}.ports[${position}]`, report);
    });
  });
  spec.egress?.forEach((rule, index) => {
    const field = `spec.egress[${index}]`;
    rule.to?.forEach((peer, position) => {
      checkPeer(peer, `${field}.to[${position}]`, report);
    });
    rule.ports?.forEach((port, position) => {
      checkPort(port, `${field}.ports[${position}]`, report);
    });
  });
  checkTypes(spec, report);
}

function checkTypes({ policyTypes = [], ingress = [], egress = [] }: NetworkPolicy['spec'], report: FieldReport): void {
  if (policyTypes.length > 2) {
    report.error('spec.policyTypes', `holds ${policyTypes.length} types; a policy takes at most 2`);
    return;
  }
  if (policyTypes.length === 2 && policyTypes[0] === policyTypes[1]) {
    report.warn('spec.policyTypes[1]', `${policyTypes[1]} stands twice`);
  }
  if (policyTypes.length === 0) return;
  const note = (rules: readonly unknown[], field: string, type: 'Ingress' | 'Egress'): void => {
    if (rules.length > 0 && !policyTypes.includes(type)) {
      report.warn(field, `has no effect: policyTypes leaves ${type} out`);
    }
  };
  note(ingress, 'spec.ingress', 'Ingress');
  note(egress, 'spec.egress', 'Egress');
}

function checkPeer(peer: Peer, field: string, report: FieldReport): void {
  const { podSelector, namespaceSelector, ipBlock } = peer;
  if (podSelector !== undefined) checkLabelSelector(podSelector, `${field}.podSelector`, report);
  if (namespaceSelector !== undefined) checkLabelSelector(namespaceSelector, `${field}.namespaceSelector`, report);
  if (ipBlock === undefined) {
    if (podSelector === undefined && namespaceSelector === undefined) {
      report.error(field, 'needs a podSelector, a namespaceSelector or an ipBlock');
    }
    return;
  }
  if (podSelector !== undefined || namespaceSelector !== undefined) {
    report.error(field, 'ipBlock stands alone in its peer');
  }
  const block = report.prefix(`${field}.ipBlock.cidr`, ipBlock.cidr);
  ipBlock.except?.forEach((text, index) => {
    const except = report.prefix(`${field}.ipBlock.except[${index}]`, text);
    if (block === null || except === null) return;
    if (!inPrefix(except, block) || except.length <= block.length) {
      report.error(`${field}.ipBlock.except[${index}]`, `${show(text)} does not lie inside ${show(ipBlock.cidr)}`);
    }
  });
}

function checkPort({ port, endPort }: Port, field: string, report: FieldReport): void {
  if (typeof port === 'number' && !isPortNumber(port)) {
    report.error(`${field}.port`, `${port} is not a port (1 to 65535)`);
  }
  if (typeof port === 'string' && !isPortName(port)) {
    report.error(`${field}.port`, `${show(port)} is neither a port's number nor its name`);
  }
  if (endPort === undefined) return;
  if (typeof port !== 'number') report.error(`${field}.endPort`, 'needs a number in port');
  else if (!isPortNumber(endPort)) report.error(`${field}.endPort`, `${endPort} is not a port (1 to 65535)`);
  else if (endPort < port) report.error(`${field}.endPort`, `${endPort} lies before port ${port}`);
}
