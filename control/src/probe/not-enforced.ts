/**
 * Policies that the datapath does not enforce: those of other systems, which are not modelled, and NetworkPolicies, which
 * are read and checked only. An answer about a pod that one of them may select names it, because the real cluster may
 * answer otherwise.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { ClusterModel } from '../compile/image.ts';
import { hasLabels, selects } from '../model/label-selector.ts';
import type { Pod } from '../model/pod.ts';
import type { Connection } from './connection.ts';
import type { Branch } from './simulator.ts';

/** The name of a policy; `namespace` is '' for one of the whole cluster. */
export interface PolicyName {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** All policies of a cluster that are not enforced. */
export function listNotEnforced(cluster: Cluster): PolicyName[] {
  const own = cluster.networkPolicies.map(({ apiVersion, kind, metadata: { namespace, name } }) => ({
    apiVersion,
    kind,
    namespace,
    name,
  }));
  return [...own, ...cluster.unmodelledPolicies.map(nameOf)];
}

/** The policies that may select a pod at either end of a connection: its source, its targets and every backend. */
export function notEnforcedFor(
  model: ClusterModel,
  connection: Connection,
  branches: readonly Branch[],
): readonly PolicyName[] {
  const { cluster, topology } = model;
  if (cluster.networkPolicies.length + cluster.unmodelledPolicies.length === 0) return NONE;
  const pods = new Set<Pod>();
  const add = (endpoint: number | undefined): void => {
    const pod = endpoint === undefined ? undefined : topology.endpoints[endpoint]?.pod;
    if (pod !== undefined) pods.add(pod);
  };
  for (const { endpoint } of connection.sources) add(endpoint);
  for (const { address } of connection.targets) add(topology.endpointByAddress.get(address.text));
  for (const { backend } of branches) {
    if (backend !== null) add(topology.endpointByAddress.get(addressOf(backend)));
  }
  return policiesOf(cluster, [...pods]);
}

/** 'CiliumNetworkPolicy shop/deny', or 'GlobalNetworkPolicy deny' for one of the whole cluster. */
export function describePolicy({ kind, namespace, name }: PolicyName): string {
  return namespace === '' ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

const NONE: readonly PolicyName[] = [];

function policiesOf(cluster: Cluster, pods: readonly Pod[]): PolicyName[] {
  const found: PolicyName[] = [];
  for (const { apiVersion, kind, metadata, spec } of cluster.networkPolicies) {
    const { namespace, name } = metadata;
    const isSelected = pods.some(
      (pod) => pod.metadata.namespace === namespace && selects(spec.podSelector, pod.metadata.labels),
    );
    if (isSelected) found.push({ apiVersion, kind, namespace, name });
  }
  for (const policy of cluster.unmodelledPolicies) {
    const { namespace, podLabels } = policy;
    const maySelect = pods.some(
      ({ metadata }) =>
        (namespace === '' || metadata.namespace === namespace) &&
        (podLabels === null || hasLabels(metadata.labels, podLabels)),
    );
    if (maySelect) found.push(nameOf(policy));
  }
  return found;
}

function nameOf({ apiVersion, kind, namespace, name }: PolicyName): PolicyName {
  return { apiVersion, kind, namespace, name };
}

/** The address in `ip:port` or `[v6]:port`. */
function addressOf(backend: string): string {
  const address = backend.slice(0, backend.lastIndexOf(':'));
  return address.startsWith('[') ? address.slice(1, -1) : address;
}
