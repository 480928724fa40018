/** Checks of one NetworkPolicy: its CIDRs, ports and label expressions. */

import { inPrefix } from '../model/address.ts';
import type { LabelSelector } from '../model/label-selector.ts';
import type { NetworkPolicy } from '../model/network-policy.ts';
import { type FieldReport, isPortName, isPortNumber } from './field-report.ts';
import { show } from './shape.ts';

type Rule = NonNullable<NetworkPolicy['spec']['ingress']>[number];
type Peer = NonNullable<Rule['from']>[number];
type Port = NonNullable<Rule['ports']>[number];

export function checkNetworkPolicy({ spec }: NetworkPolicy, report: FieldReport): void {
  checkSelector(spec.podSelector, 'spec.podSelector', report);
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
}

function checkPeer(peer: Peer, field: string, report: FieldReport): void {
  if (peer.podSelector !== undefined) checkSelector(peer.podSelector, `${field}.podSelector`, report);
  if (peer.namespaceSelector !== undefined) checkSelector(peer.namespaceSelector, `${field}.namespaceSelector`, report);
  const { ipBlock } = peer;
  if (ipBlock === undefined) {
    if (peer.podSelector === undefined && peer.namespaceSelector === undefined) {
      report.error(field, 'needs a podSelector, a namespaceSelector or an ipBlock');
    }
    return;
  }
  if (peer.podSelector !== undefined || peer.namespaceSelector !== undefined) {
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
  if (typeof port === 'number' && !isPortNumber(port))
    report.error(`${field}.port`, `${port} is not a port (1 to 65535)`);
  if (typeof port === 'string' && !isPortName(port)) {
    report.error(`${field}.port`, `${show(port)} is neither a port's number nor its name`);
  }
  if (endPort === undefined) return;
  if (typeof port !== 'number') report.error(`${field}.endPort`, 'needs a number in port');
  else if (!isPortNumber(endPort)) report.error(`${field}.endPort`, `${endPort} is not a port (1 to 65535)`);
  else if (endPort < port) report.error(`${field}.endPort`, `${endPort} lies before port ${port}`);
}

function checkSelector({ matchExpressions }: LabelSelector, field: string, report: FieldReport): void {
  matchExpressions?.forEach(({ operator, values }, index) => {
    const count = values?.length ?? 0;
    const takesValues = operator === 'In' || operator === 'NotIn';
    const at = `${field}.matchExpressions[${index}].values`;
    if (takesValues && count === 0) report.error(at, `is required with ${operator}`);
    if (!takesValues && count > 0) report.error(at, `must be empty with ${operator}`);
  });
}
