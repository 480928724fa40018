/**
 * Who lives where: the cluster's addresses as the engine's topology tables, the same for every mode.
 *
 * Precedence where one address has several owners: node, pod, Service, pod CIDR, cluster CIDR (an externalIP that a
 * node owns is the node's). Of two pods with one address the first by name has it. Ended pods own nothing; a
 * hostNetwork pod is its node.
 */

import type { Topology } from '@flatpath/engine/programs/datapath';
import type { Interfaces } from '@flatpath/engine/programs/interface';
import {
  OWNER_CLUSTER,
  OWNER_NODE,
  OWNER_POD,
  OWNER_POD_CIDR,
  OWNER_SERVICE,
  ownerValue,
} from '@flatpath/engine/programs/owner';
import { createLpm4, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6, lpm6Insert } from '@flatpath/engine/tables/lpm6';
import type { Cluster } from '../cluster/cluster.ts';
import { type Address, type Family, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import type { Node } from '../model/node.ts';
import { hasEnded, type Pod } from '../model/pod.ts';
import { hasNoVirtualAddress } from '../model/service.ts';

/** A pod's attachment to its node; its number in the tables is its position in `ClusterTopology.endpoints`. */
export interface Endpoint {
  readonly pod: Pod;
  readonly node: number;
  readonly addresses: readonly Address[];
}

export interface ClusterTopology {
  readonly tables: Topology;
  readonly endpoints: readonly Endpoint[];
  readonly nodes: readonly Node[];
  /** Position of a node by its name. */
  readonly nodeIndex: ReadonlyMap<string, number>;
  /** Endpoint number by canonical address. */
  readonly endpointByAddress: ReadonlyMap<string, number>;
  /** Node number by canonical address. */
  readonly nodeByAddress: ReadonlyMap<string, number>;
}

/**
 * @param clusterCidr the prefixes that hold the pods, from `resolveClusterCidr`
 * @param interfaces of the node whose rules come from a dump
 */
export function compileTopology(
  cluster: Cluster,
  clusterCidr: readonly Prefix[],
  interfaces: Interfaces | null = null,
): ClusterTopology {
  const nodeIndex = new Map(cluster.nodes.map((node, index) => [node.metadata.name, index]));
  const endpoints: Endpoint[] = [];
  for (const pod of cluster.pods) {
    if (pod.spec.hostNetwork || hasEnded(pod)) continue;
    const addresses = podAddresses(pod);
    if (addresses.length > 0) endpoints.push({ pod, node: nodeIndex.get(pod.spec.nodeName) ?? 0, addresses });
  }

  const owners = new OwnerList();
  for (const prefix of clusterCidr) owners.add(prefix, ownerValue(OWNER_CLUSTER, 0));
  cluster.nodes.forEach((node, index) => {
    for (const text of node.spec.podCIDRs) {
      const prefix = parsePrefix(text);
      if (prefix !== null) owners.add(prefix, ownerValue(OWNER_POD_CIDR, index));
    }
  });
  for (const address of serviceAddresses(cluster)) owners.addAddress(address, ownerValue(OWNER_SERVICE, 0));
  const endpointByAddress = new Map<string, number>();
  endpoints.forEach((endpoint, index) => {
    for (const address of endpoint.addresses) {
      if (endpointByAddress.has(address.text)) continue;
      endpointByAddress.set(address.text, index);
      owners.addAddress(address, ownerValue(OWNER_POD, index));
    }
  });
  const nodeByAddress = new Map<string, number>();
  const nodeAddress4 = shared(cluster.nodes.length);
  const nodeAddress6 = shared(cluster.nodes.length * 4);
  cluster.nodes.forEach((node, index) => {
    for (const address of nodeAddresses(node)) {
      if (nodeByAddress.has(address.text)) continue;
      nodeByAddress.set(address.text, index);
      owners.addAddress(address, ownerValue(OWNER_NODE, index));
      if (address.family === 4) nodeAddress4[index] ||= address.words[0];
      else if (isUnset(nodeAddress6, index)) nodeAddress6.set(address.words, index * 4);
    }
  });

  const endpointNode = shared(endpoints.length);
  const endpointAddress4 = shared(endpoints.length);
  const endpointAddress6 = shared(endpoints.length * 4);
  endpoints.forEach((endpoint, index) => {
    endpointNode[index] = endpoint.node;
    for (const address of endpoint.addresses) {
      if (address.family === 4) endpointAddress4[index] = address.words[0];
      else endpointAddress6.set(address.words, index * 4);
    }
  });
  const tables: Topology = {
    nodes: cluster.nodes.length,
    ...owners.build(),
    endpointNode,
    endpointAddress4,
    endpointAddress6,
    nodeAddress4,
    nodeAddress6,
    interfaces,
  };
  return { tables, endpoints, nodes: cluster.nodes, nodeIndex, endpointByAddress, nodeByAddress };
}

/** A pod's addresses, at most one a family. */
export function podAddresses(pod: Pod): Address[] {
  const texts = pod.status.podIPs.map((entry) => entry.ip);
  if (pod.status.podIP !== '') texts.unshift(pod.status.podIP);
  return onePerFamily(texts);
}

/** A node's own addresses: InternalIPs first, then ExternalIPs. */
export function nodeAddresses(node: Node): Address[] {
  const found: Address[] = [];
  for (const type of ['InternalIP', 'ExternalIP']) {
    for (const entry of node.status.addresses) {
      if (entry.type !== type) continue;
      const address = parseAddress(entry.address);
      if (address !== null) found.push(address);
    }
  }
  return found;
}

function onePerFamily(texts: readonly string[]): Address[] {
  const found: Address[] = [];
  for (const text of texts) {
    const address = parseAddress(text);
    if (address !== null && !found.some((other) => other.family === address.family)) found.push(address);
  }
  return found;
}

function* serviceAddresses(cluster: Cluster): Generator<Address> {
  for (const service of cluster.services) {
    if (hasNoVirtualAddress(service)) continue;
    const texts = [
      ...service.spec.clusterIPs,
      ...service.spec.externalIPs,
      ...service.status.loadBalancer.ingress.map((ingress) => ingress.ip),
    ];
    for (const text of texts) {
      const address = parseAddress(text);
      if (address !== null) yield address;
    }
  }
}

/** Prefixes and owners in order of precedence: a later one replaces an earlier one of the same prefix. */
class OwnerList {
  private readonly values = new Map<string, { prefix: Prefix; value: number }>();

  add(prefix: Prefix, value: number): void {
    this.values.set(prefix.text, { prefix, value });
  }

  addAddress(address: Address, value: number): void {
    const length = address.family === 4 ? 32 : 128;
    const text = `${address.text}/${length}`;
    this.values.set(text, { prefix: { ...address, length, text, hostBits: false }, value });
  }

  build(): Pick<Topology, 'owners4' | 'owners6'> {
    const owners4 = createLpm4(this.count(4));
    const owners6 = createLpm6(this.count(6));
    for (const { prefix, value } of this.values.values()) {
      const [w0, w1, w2, w3] = prefix.words;
      if (prefix.family === 4) lpm4Insert(owners4, w0, prefix.length, value);
      else lpm6Insert(owners6, w0, w1, w2, w3, prefix.length, value);
    }
    return { owners4, owners6 };
  }

  private count(family: Family): number {
    let count = 0;
    for (const { prefix } of this.values.values()) if (prefix.family === family) count++;
    return Math.max(count, 1);
  }
}

function isUnset(addresses6: Int32Array, index: number): boolean {
  const at = index * 4;
  return (addresses6[at]! | addresses6[at + 1]! | addresses6[at + 2]! | addresses6[at + 3]!) === 0;
}

function shared(words: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(words * 4));
}
