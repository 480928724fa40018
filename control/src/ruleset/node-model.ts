/**
 * A cluster model in which one node runs the rules of its dumps. The node stands in a cluster of manifests, or alone.
 *
 * Of a node alone, its addresses are the ones given; without any it forwards everything. In a cluster of manifests the
 * other nodes run what kube-proxy would write for them; addresses that were given add to those of the node's object.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { type DatapathConfig, type DatapathInput, resolveDatapath } from '../model/datapath.ts';
import type { Node } from '../model/node.ts';
import { type NodeAddresses, readNodeAddresses } from './node-addresses.ts';
import { compileInterfaces, interfaceNames, ownAddresses } from './node-interfaces.ts';
import type { NodePlace } from './rule-context.ts';
import { type LoadedRuleset, loadRuleset } from './ruleset.ts';

/** What a user gave of one node. */
export interface RulesetRequest {
  /** Dumps. */
  readonly files: readonly string[];
  /** Output of ip -j addr and ip -j route. */
  readonly addresses: readonly string[];
  readonly lenient: boolean;
}

export interface RulesetModel {
  readonly model: ClusterModel;
  readonly loaded: LoadedRuleset;
}

/** Name of a node that stands alone and was not named. */
const LONE_NODE = 'node';

/**
 * @param cluster null: the node alone
 * @param nodeName the node that the dumps came from; of a cluster it has to be one of its nodes
 * @throws InputError with everything that is wrong in dumps and addresses
 */
export function modelRuleset(
  request: RulesetRequest,
  cluster: Cluster | null,
  nodeName: string | null,
  datapath: DatapathInput,
): RulesetModel {
  const addresses = request.addresses.length === 0 ? null : readNodeAddresses(request.addresses);
  const name = nodeName ?? LONE_NODE;
  const whole = cluster === null ? loneCluster(name, addresses) : withAddresses(cluster, name, addresses);
  const config = cluster === null ? loneConfig(datapath) : resolveDatapath(datapath, cluster.defaults);
  const node = whole.nodes.findIndex(({ metadata }) => metadata.name === name);
  const loaded = loadRuleset(
    request.files,
    {
      node,
      place: placeOf(addresses, cluster === null ? null : config),
      interfaces: addresses === null ? null : compileInterfaces(addresses, node),
    },
    request.lenient,
  );
  const warnings = [...(addresses?.warnings ?? []), ...loaded.warnings];
  return { model: modelCluster(whole, config, loaded.ruleset), loaded: { ...loaded, warnings } };
}

/** @param config of the cluster that the node stands in, null for a node alone */
function placeOf(addresses: NodeAddresses | null, config: DatapathConfig | null): NodePlace {
  if (addresses !== null) return { kind: 'interfaces', names: interfaceNames(addresses) };
  if (config === null) return { kind: 'unknown' };
  const { bridgeInterface, interfaceNamePrefix } = config.kubeProxy;
  return { kind: 'cluster', podInterfaces: [bridgeInterface, `${interfaceNamePrefix}+`] };
}

/** Nothing is known of pods: no prefix holds them, and what the CNI masquerades is in the dump. */
function loneConfig(datapath: DatapathInput): DatapathConfig {
  return resolveDatapath({
    ...datapath,
    kubeProxy: { ...datapath.kubeProxy, detectLocalMode: 'None' },
    pods: { masqueradeOutbound: false },
  });
}

function loneCluster(name: string, addresses: NodeAddresses | null): Cluster {
  const node: Node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, namespace: '', labels: {} },
    spec: { podCIDR: '', podCIDRs: [] },
    status: { addresses: addresses === null ? [] : statusAddresses(addresses) },
  };
  return {
    namespaces: [],
    nodes: [node],
    pods: [],
    services: [],
    endpointSlices: [],
    networkPolicies: [],
    clusterNetworkPolicies: [],
    adminNetworkPolicies: [],
    baselineAdminNetworkPolicies: [],
    unmodelled: [],
    unmodelledPolicies: [],
    warnings: [],
    defaults: { taken: [] },
  };
}

function withAddresses(cluster: Cluster, name: string, addresses: NodeAddresses | null): Cluster {
  if (addresses === null) return cluster;
  const nodes = cluster.nodes.map((node) => {
    if (node.metadata.name !== name) return node;
    const known = new Set(node.status.addresses.map(({ address }) => address));
    const more = statusAddresses(addresses).filter(({ address }) => !known.has(address));
    return { ...node, status: { ...node.status, addresses: [...node.status.addresses, ...more] } };
  });
  return { ...cluster, nodes };
}

function statusAddresses(addresses: NodeAddresses): Node['status']['addresses'] {
  return ownAddresses(addresses).map(({ text }) => ({ type: 'InternalIP', address: text }));
}
