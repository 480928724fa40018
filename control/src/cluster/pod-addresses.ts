/**
 * Addresses of pods: given ones stay, hostNetwork pods have their node's, the others take the next free one of their
 * node's pod CIDR (from .2 on: the gateway's .1 stays free). Succeeded and Failed pods own none.
 */

import { type Address, type Family, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import { internalAddresses, type Node } from '../model/node.ts';
import { hasEnded, type Pod } from '../model/pod.ts';
import { AddressPool, type NamedAddresses, prefixSize } from './addresses.ts';
import { nodeFamilies } from './nodes.ts';
import { PodCidrAllocator, type TakenAddress } from './pod-cidrs.ts';
import { describeObject, type ProblemList } from './problem.ts';

/**
 * Fills status.podIP, podIPs and hostIP of all pods, and podCIDRs of nodes that lack them and need some.
 *
 * @param pods by name; @param nodes by name, with their addresses
 * @param clusterCIDR the ranges that the user set, or empty
 */
export function addPodAddresses(
  pods: readonly Pod[],
  nodes: readonly Node[],
  families: readonly Family[],
  clusterCIDR: readonly string[],
  named: NamedAddresses,
  problems: ProblemList,
): void {
  const byNode = new Map<string, Pod[]>(nodes.map((node) => [node.metadata.name, []]));
  const nodeByName = new Map(nodes.map((node) => [node.metadata.name, node]));
  for (const pod of pods) {
    const node = nodeByName.get(pod.spec.nodeName);
    if (hasEnded(pod)) {
      pod.status.podIP = '';
      pod.status.podIPs = [];
    } else alignAddresses(pod);
    if (node === undefined) continue;
    if (pod.status.hostIP === '') pod.status.hostIP = internalAddresses(node)[0] ?? '';
    if (hasEnded(pod) || pod.status.podIPs.length > 0) continue;
    if (pod.spec.hostNetwork) setAddresses(pod, hostAddresses(node));
    else byNode.get(node.metadata.name)!.push(pod);
  }
  const missing = takePodCidrs(pods, nodes, byNode, families, clusterCIDR, problems);
  nodes.forEach((node, index) => {
    const waiting = byNode.get(node.metadata.name)!;
    if (waiting.length > 0 && !missing.has(index)) addressPods(node, waiting, named, problems);
  });
}

/** `podIP` and `podIPs` say the same, in canonical text. */
function alignAddresses({ status }: Pod): void {
  const texts = status.podIPs.map(({ ip }) => ip).filter((ip) => ip !== '');
  if (texts.length === 0 && status.podIP !== '') texts.push(status.podIP);
  setTexts(status, texts);
}

function setAddresses({ status }: Pod, addresses: readonly Address[]): void {
  setTexts(
    status,
    addresses.map(({ text }) => text),
  );
}

function setTexts(status: Pod['status'], texts: readonly string[]): void {
  status.podIPs = texts.map((text) => ({ ip: parseAddress(text)?.text ?? text }));
  status.podIP = status.podIPs[0]?.ip ?? '';
}

/** The node's first InternalIP of each family. */
function hostAddresses(node: Node): Address[] {
  const addresses: Address[] = [];
  for (const text of internalAddresses(node)) {
    const address = parseAddress(text);
    if (address !== null && !addresses.some(({ family }) => family === address.family)) addresses.push(address);
  }
  return addresses;
}

/** Gives CIDRs to nodes that need them; answers the numbers of nodes that got none. */
function takePodCidrs(
  pods: readonly Pod[],
  nodes: readonly Node[],
  byNode: ReadonlyMap<string, readonly Pod[]>,
  families: readonly Family[],
  clusterCIDR: readonly string[],
  problems: ProblemList,
): Set<number> {
  const missing = new Set<number>();
  const needing = nodes.filter((node) => node.spec.podCIDRs.length === 0 && byNode.get(node.metadata.name)!.length > 0);
  if (needing.length === 0) return missing;
  const used = nodes.flatMap((node) => node.spec.podCIDRs.map(parsePrefix)).filter((prefix) => prefix !== null);
  const taken = findTaken(pods, nodes);
  for (const family of families) {
    const allocator = new PodCidrAllocator(family, clusterCIDR, used, taken, needing.length);
    // A cluster range of one family only, as set by the user, gives pods that family only.
    if (!allocator.hasRange) continue;
    nodes.forEach((node, index) => {
      const waiting = byNode.get(node.metadata.name)!;
      if (!needing.includes(node) || !nodeFamilies(node).includes(family) || missing.has(index)) return;
      const block = allocator.take(node.metadata.name, index + 1, waiting.length);
      if (block !== null) node.spec.podCIDRs.push(block.text);
      else {
        missing.add(index);
        const range = clusterCIDR.length > 0 ? `clusterCIDR ${clusterCIDR.join(', ')}` : 'the range of pod addresses';
        problems.error(
          waiting[0]!,
          'status.podIP',
          `${range} is used up: no room for the ${waiting.length} pods of node ${node.metadata.name}`,
        );
      }
    });
  }
  for (const node of needing) node.spec.podCIDR = node.spec.podCIDRs[0] ?? '';
  return missing;
}

function findTaken(pods: readonly Pod[], nodes: readonly Node[]): TakenAddress[] {
  const taken: TakenAddress[] = [];
  const add = (text: string, node: string): void => {
    const address = parseAddress(text);
    if (address !== null) taken.push({ family: address.family, words: address.words, node });
  };
  for (const node of nodes) for (const { address } of node.status.addresses) add(address, '');
  for (const pod of pods) {
    if (pod.spec.hostNetwork) continue;
    for (const { ip } of pod.status.podIPs) add(ip, pod.spec.nodeName);
  }
  return taken;
}

function addressPods(node: Node, waiting: readonly Pod[], named: NamedAddresses, problems: ProblemList): void {
  const blocks = node.spec.podCIDRs.map(parsePrefix).filter((prefix) => prefix !== null);
  const byFamily = ([4, 6] as const)
    .map((family) => blocks.filter((block) => block.family === family))
    .filter((list) => list.length > 0);
  // The family of the node's first CIDR is the pods' first address.
  byFamily.sort((a, b) => blocks.indexOf(a[0]!) - blocks.indexOf(b[0]!));
  const failed = new Map<Prefix, number>();
  const pools = byFamily.map((list) => list.map((block) => poolOf(block, named)));
  for (const pod of waiting) {
    const addresses: Address[] = [];
    for (const [index, list] of pools.entries()) {
      const address = takeFirst(list);
      if (address !== null) addresses.push(address);
      else failed.set(byFamily[index]![0]!, (failed.get(byFamily[index]![0]!) ?? 0) + 1);
    }
    setAddresses(pod, addresses);
  }
  for (const [block, count] of failed) {
    const pod = waiting[waiting.length - count]!;
    const index = blocks.indexOf(block);
    problems.error(
      node,
      index === 0 && node.spec.podCIDRs.length === 1 ? 'spec.podCIDR' : `spec.podCIDRs[${index}]`,
      `${block.text} is used up: ${count} of ${waiting.length} pods get no address, from ${describeObject(pod)} on`,
    );
  }
}

function takeFirst(pools: readonly AddressPool[]): Address | null {
  for (const pool of pools) {
    const address = pool.takeNext();
    if (address !== null) return address;
  }
  return null;
}

function poolOf(block: Prefix, named: NamedAddresses): AddressPool {
  // Network, gateway and broadcast addresses stay free.
  const last = prefixSize(block) - (block.family === 4 ? 2 : 1);
  return new AddressPool(block, 2, last, named, false);
}
