/**
 * What kube-proxy in iptables mode knows of the node it runs on, in one family: how it tells local pods' traffic, where
 * nodePorts listen, the node's own address.
 *
 * Refused: a nodePortAddresses entry that is not a prefix (RangeError).
 * Source: kubernetes cmd/kube-proxy/app/server.go, pkg/proxy/util/{localdetector,nodeport_addresses}.go.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { resolveClusterCidr } from '../cluster/cluster-cidr.ts';
import { type Address, type Family, inPrefix, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import { type DatapathConfig, isPrimaryOnly } from '../model/datapath.ts';
import { type Node, zoneOf } from '../model/node.ts';
import type { NodeTopology } from './endpoint-selection.ts';
import { hostPrefix } from './iptables-rules.ts';
import { nodeAddresses } from './topology.ts';

/** How traffic of local pods is told: by source prefix or by interface; exactly one is set. */
export interface LocalDetector {
  readonly prefix: Prefix | null;
  /** Interface name, or prefix with '+'. */
  readonly interfaceName: string | null;
}

export interface NodeView {
  readonly topology: NodeTopology;
  /** Where the node has no address of the family, the loopback address. */
  readonly nodeIP: Address;
  /** Null: local pods cannot be told. Nodes with the same detector share the object. */
  readonly detector: LocalDetector | null;
  /** Addresses on which nodePorts listen; null: every local one. */
  readonly nodePortIPs: readonly Address[] | null;
  /** NodePorts answer on 127.0.0.0/8 too. Never in IPv6. */
  readonly localhostNodePorts: boolean;
}

const LOOPBACK: Readonly<Record<Family, Address>> = { 4: parseAddress('127.0.0.1')!, 6: parseAddress('::1')! };
export const LOOPBACK_PREFIX: Readonly<Record<Family, Prefix>> = {
  4: parsePrefix('127.0.0.0/8')!,
  6: parsePrefix('::1/128')!,
};

/** Makes the views of a cluster's nodes in one family. */
export class NodeViews {
  private readonly config: DatapathConfig;
  private readonly family: Family;
  private readonly shared: LocalDetector | null;
  private readonly configured: readonly Prefix[];

  constructor(cluster: Cluster, config: DatapathConfig, family: Family) {
    this.config = config;
    this.family = family;
    this.shared = sharedDetector(cluster, config, family);
    this.configured = isPrimaryOnly(config.kubeProxy.nodePortAddresses)
      ? []
      : parseAll(config.kubeProxy.nodePortAddresses, family);
  }

  view(node: Node): NodeView {
    const { family, config } = this;
    const own = nodeAddresses(node).filter(
      (address, i, all) => address.family === family && all.findIndex(({ text }) => text === address.text) === i,
    );
    const nodeIP = own[0] ?? LOOPBACK[family];
    const prefixes = isPrimaryOnly(config.kubeProxy.nodePortAddresses)
      ? own.slice(0, 1).map(hostPrefix)
      : this.configured;
    // No prefix of this family means every address, even where the other family is restricted.
    const matchAll = prefixes.length === 0 || prefixes.some((prefix) => prefix.length === 0);
    const local = [LOOPBACK[family], ...own];
    const reachesLoopback = matchAll || prefixes.some((prefix) => coversLoopback(prefix));
    const localhostNodePorts = family === 4 && config.kubeProxy.localhostNodePorts && reachesLoopback;
    const listening = local.filter((address) => prefixes.some((prefix) => inPrefix(address, prefix)));
    return {
      topology: { name: node.metadata.name, zone: zoneOf(node) },
      nodeIP,
      detector: config.kubeProxy.detectLocalMode === 'NodeCIDR' ? nodeDetector(node, family) : this.shared,
      nodePortIPs: matchAll
        ? null
        : listening.filter((address) => localhostNodePorts || !inPrefix(address, LOOPBACK_PREFIX[family])),
      localhostNodePorts,
    };
  }
}

function sharedDetector(cluster: Cluster, config: DatapathConfig, family: Family): LocalDetector | null {
  const { detectLocalMode, clusterCIDR, bridgeInterface, interfaceNamePrefix } = config.kubeProxy;
  switch (detectLocalMode) {
    case 'ClusterCIDR':
      return firstOfFamily(resolveClusterCidr(cluster, clusterCIDR).prefixes, family);
    case 'BridgeInterface':
      return { prefix: null, interfaceName: bridgeInterface };
    case 'InterfaceNamePrefix':
      return { prefix: null, interfaceName: `${interfaceNamePrefix}+` };
    default:
      return null;
  }
}

function nodeDetector(node: Node, family: Family): LocalDetector | null {
  const texts = node.spec.podCIDRs.length > 0 ? node.spec.podCIDRs : [node.spec.podCIDR];
  return firstOfFamily(
    texts.map(parsePrefix).filter((prefix) => prefix !== null),
    family,
  );
}

/** kube-proxy uses the first prefix of each family only. */
function firstOfFamily(prefixes: readonly Prefix[], family: Family): LocalDetector | null {
  const prefix = prefixes.find((candidate) => candidate.family === family);
  return prefix === undefined ? null : { prefix, interfaceName: null };
}

function parseAll(texts: readonly string[], family: Family): Prefix[] {
  const prefixes: Prefix[] = [];
  for (const text of texts) {
    const prefix = parsePrefix(text);
    if (prefix === null) throw new RangeError(`kubeProxy.nodePortAddresses: '${text}' is not a prefix`);
    if (prefix.family === family) prefixes.push(prefix);
  }
  return prefixes;
}

/** As kube-proxy asks it: the prefix lies in 127.0.0.0/8 or holds 127.0.0.0. */
function coversLoopback(prefix: Prefix): boolean {
  if (prefix.family !== 4) return false;
  return inPrefix(prefix, LOOPBACK_PREFIX[4]) || inPrefix(LOOPBACK_PREFIX[4], prefix);
}
