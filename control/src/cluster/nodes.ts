/**
 * The cluster's nodes: those given, those that pods and slices name, and node-1 to node-3 where nobody names one.
 *
 * Made nodes carry the labels that a kubelet sets, and the zone that a slice gives for them. Nodes without an InternalIP
 * get one a family: 198.18.0.0/16 and fd00:f1a7::/64, by their place among the nodes.
 */

import { type Family, makePrefix, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import { HOSTNAME_LABEL, internalAddresses, type Node, ZONE_LABEL } from '../model/node.ts';
import { copyOrigin } from '../model/origin.ts';
import { AddressPool, type NamedAddresses, prefixSize } from './addresses.ts';
import type { ObjectStore } from './store.ts';
import { sortByName } from './store.ts';

export const OS_LABEL = 'kubernetes.io/os';
export const ARCH_LABEL = 'kubernetes.io/arch';

const DEFAULT_NODES = ['node-1', 'node-2', 'node-3'];
const POOLS: Readonly<Record<Family, Prefix>> = {
  4: makePrefix(4, [(198 << 24) | (18 << 16), 0, 0, 0], 16),
  6: makePrefix(6, [0xfd00f1a7 | 0, 0, 0, 0], 64),
};

/** All nodes by name, as copies that may be filled in. */
export function gatherNodes(store: ObjectStore): Node[] {
  const nodes = new Map<string, Node>();
  for (const given of store.list('Node')) {
    const labels = { [HOSTNAME_LABEL]: given.metadata.name, ...given.metadata.labels };
    const node: Node = {
      ...given,
      metadata: { ...given.metadata, labels },
      spec: { ...given.spec },
      status: { ...given.status, addresses: [...given.status.addresses] },
    };
    copyOrigin(node, given);
    nodes.set(given.metadata.name, node);
  }
  const nameNode = (name: string | undefined, zone: string | undefined): void => {
    if (name === undefined || name === '') return;
    const known = nodes.get(name);
    if (known === undefined) nodes.set(name, makeNode(name, zone ?? ''));
    else if (zone !== undefined && zone !== '')
      known.metadata.labels = { [ZONE_LABEL]: zone, ...known.metadata.labels };
  };
  for (const pod of store.list('Pod')) nameNode(pod.spec.nodeName, undefined);
  for (const slice of store.list('EndpointSlice')) {
    for (const { nodeName, zone } of slice.endpoints) nameNode(nodeName, zone);
  }
  for (const { subsets } of store.list('Endpoints')) {
    for (const subset of subsets) {
      for (const { nodeName } of [...subset.addresses, ...subset.notReadyAddresses]) nameNode(nodeName, undefined);
    }
  }
  if (nodes.size === 0) for (const name of DEFAULT_NODES) nameNode(name, undefined);
  return sortByName([...nodes.values()]);
}

/** Gives an InternalIP of every family to each node that has none at all. */
export function addNodeAddresses(nodes: readonly Node[], families: readonly Family[], named: NamedAddresses): void {
  const pools = families.map((family) => {
    const prefix = POOLS[family];
    return new AddressPool(prefix, 1, prefixSize(prefix) - 2, named, true);
  });
  nodes.forEach((node, index) => {
    if (internalAddresses(node).length > 0) return;
    for (const pool of pools) {
      const address = pool.take(index);
      if (address !== null) node.status.addresses.push({ type: 'InternalIP', address: address.text });
    }
  });
}

/** Brings `podCIDR` and `podCIDRs` of given nodes in line: the first of the list is the single one. */
export function alignPodCidrs(nodes: readonly Node[]): void {
  for (const { spec } of nodes) {
    if (spec.podCIDRs.length === 0 && spec.podCIDR !== '') spec.podCIDRs = [spec.podCIDR];
    spec.podCIDRs = spec.podCIDRs.map((text) => parsePrefix(text)?.text ?? text);
    spec.podCIDR = spec.podCIDRs[0] ?? '';
  }
}

/** Families of a node's InternalIPs. */
export function nodeFamilies(node: Node): Family[] {
  const families: Family[] = [];
  for (const text of internalAddresses(node)) {
    const family = parseAddress(text)?.family;
    if (family !== undefined && !families.includes(family)) families.push(family);
  }
  return families;
}

function makeNode(name: string, zone: string): Node {
  const labels: Record<string, string> = { [HOSTNAME_LABEL]: name, [OS_LABEL]: 'linux', [ARCH_LABEL]: 'amd64' };
  if (zone !== '') labels[ZONE_LABEL] = zone;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, namespace: '', labels },
    spec: { podCIDR: '', podCIDRs: [] },
    status: { addresses: [] },
  };
}
