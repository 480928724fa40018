/** Checks of one Node: its addresses and pod CIDRs. */

import type { Node } from '../model/node.ts';
import type { FieldReport } from './field-report.ts';
import { show } from './shape.ts';

export function checkNode(node: Node, report: FieldReport): void {
  node.status.addresses.forEach(({ type, address }, index) => {
    if (type === 'InternalIP' || type === 'ExternalIP') report.address(`status.addresses[${index}].address`, address);
  });
  const { podCIDR, podCIDRs } = node.spec;
  const first = podCIDR === '' ? null : report.prefix('spec.podCIDR', podCIDR);
  const prefixes = podCIDRs.map((text, index) => report.prefix(`spec.podCIDRs[${index}]`, text));
  if (first !== null && prefixes[0] != null && prefixes[0].text !== first.text) {
    report.error('spec.podCIDRs[0]', `${show(podCIDRs[0])} differs from spec.podCIDR ${show(podCIDR)}`);
  }
}
