/**
 * Checks between given objects of one kind: what two nodes, two pods or two slices cannot both have. (Services are
 * checked where their addresses and ports are assigned.)
 */

import { overlaps, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import { type EndpointSlice, serviceNameOf } from '../model/endpoint-slice.ts';
import type { Node } from '../model/node.ts';
import { hasEnded, type Pod } from '../model/pod.ts';
import { describeObject, type ProblemList } from './problem.ts';

/** Two nodes with one InternalIP, or with pod CIDRs that overlap, are errors. */
export function checkNodes(nodes: readonly Node[], problems: ProblemList): void {
  const owners = new Map<string, Node>();
  const blocks: { readonly prefix: Prefix; readonly node: Node; readonly field: string }[] = [];
  for (const node of nodes) {
    node.status.addresses.forEach(({ type, address }, index) => {
      const text = type === 'InternalIP' ? parseAddress(address)?.text : undefined;
      if (text === undefined) return;
      const owner = owners.get(text);
      if (owner === undefined) owners.set(text, node);
      else if (owner !== node) {
        problems.error(
          node,
          `status.addresses[${index}].address`,
          `${text} is also an address of ${describeObject(owner)}`,
        );
      }
    });
    node.spec.podCIDRs.forEach((text, index) => {
      const prefix = parsePrefix(text);
      if (prefix !== null) blocks.push({ prefix, node, field: `spec.podCIDRs[${index}]` });
    });
  }
  // In order of their first address an overlapping prefix lies inside the widest one before it.
  blocks.sort((a, b) => comparePrefixes(a.prefix, b.prefix));
  let widest = blocks[0];
  for (const block of blocks.slice(1)) {
    if (widest !== undefined && overlaps(widest.prefix, block.prefix)) {
      if (widest.node !== block.node) {
        const [first, second] = [widest, block].sort((a, b) => (a.node.metadata.name < b.node.metadata.name ? -1 : 1));
        problems.error(
          second!.node,
          second!.field,
          `${second!.prefix.text} overlaps ${first!.prefix.text} of ${describeObject(first!.node)}`,
        );
      }
    } else widest = block;
  }
}

/** Two running pods with one address are odd: a cluster can show it for a moment. */
export function checkPods(pods: readonly Pod[], problems: ProblemList): void {
  const owners = new Map<string, Pod>();
  for (const pod of pods) {
    if (pod.spec.hostNetwork || hasEnded(pod) || pod.metadata.deletionTimestamp !== undefined) continue;
    const texts = pod.status.podIPs.length > 0 ? pod.status.podIPs.map(({ ip }) => ip) : [pod.status.podIP];
    for (const ip of texts) {
      const text = parseAddress(ip)?.text;
      if (text === undefined) continue;
      const owner = owners.get(text);
      if (owner === undefined) owners.set(text, pod);
      else
        problems.warn(pod, 'status.podIP', `${text} is also the address of ${describeObject(owner)}, which keeps it`);
    }
  }
}

/** One address twice among a Service's slices with the same ports is odd; it is one endpoint then. */
export function checkSlices(slices: readonly EndpointSlice[], problems: ProblemList): void {
  const seen = new Map<string, EndpointSlice>();
  for (const slice of slices) {
    const service = serviceNameOf(slice);
    if (service === '') continue;
    const ports = slice.ports.map(({ name, protocol, port }) => `${name}/${protocol}/${port}`).join();
    slice.endpoints.forEach(({ addresses }, index) => {
      const text = parseAddress(addresses[0] ?? '')?.text;
      if (text === undefined) return;
      const key = `${slice.metadata.namespace}/${service}/${text}/${ports}`;
      const other = seen.get(key);
      if (other === undefined) seen.set(key, slice);
      else {
        const where = other === slice ? 'in this slice' : `for Service ${service}, first in ${describeObject(other)}`;
        problems.warn(slice, `endpoints[${index}].addresses[0]`, `${text} stands twice ${where}`);
      }
    });
  }
}

function comparePrefixes(a: Prefix, b: Prefix): number {
  if (a.family !== b.family) return a.family - b.family;
  for (let word = 0; word < 4; word++) {
    const difference = (a.words[word]! >>> 0) - (b.words[word]! >>> 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
