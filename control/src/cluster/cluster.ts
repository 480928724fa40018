/**
 * A completed cluster: what a control plane would hold once all of its controllers have come to rest.
 *
 * Guarantees: every list is sorted by namespace, then name (plain code-unit order); every pod has a node, and an address
 * unless it has ended; every node has an InternalIP; every Service has the addresses and nodePorts of its type; every
 * Service with a selector and no given slice has computed EndpointSlices; every namespace that is named exists. Nothing
 * in it changes afterwards: a change of the desired state makes a new cluster.
 */

import type { AdminNetworkPolicy } from '../model/admin-network-policy.ts';
import type { BaselineAdminNetworkPolicy } from '../model/baseline-admin-network-policy.ts';
import type { ClusterNetworkPolicy } from '../model/cluster-network-policy.ts';
import type { DatapathInput } from '../model/datapath.ts';
import type { EndpointSlice } from '../model/endpoint-slice.ts';
import type { Namespace } from '../model/namespace.ts';
import type { NetworkPolicy } from '../model/network-policy.ts';
import type { Node } from '../model/node.ts';
import type { Origin } from '../model/origin.ts';
import type { Pod } from '../model/pod.ts';
import type { Service } from '../model/service.ts';
import type { Problem } from './problem.ts';
import type { UnmodelledPolicy } from './unmodelled-policy.ts';

/** Objects of a kind that flatpath does not model, counted. */
export interface UnmodelledKind {
  readonly apiVersion: string;
  readonly kind: string;
  readonly count: number;
}

/**
 * Datapath options that the cluster's own ConfigMaps set (kube-system/kube-proxy, kube-system/cilium-config). It is a
 * datapath block: `resolveDatapath(input, cluster.defaults)`. What the ConfigMaps do not say is left out.
 */
export interface DatapathDefaults extends DatapathInput {
  /** One entry an option that was taken, for the sentence "mode ipvs (from ConfigMap kube-system/kube-proxy)". */
  readonly taken: readonly { readonly option: string; readonly value: string; readonly origin: Origin }[];
}

export interface Cluster {
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly pods: readonly Pod[];
  readonly services: readonly Service[];
  readonly endpointSlices: readonly EndpointSlice[];
  readonly networkPolicies: readonly NetworkPolicy[];
  readonly clusterNetworkPolicies: readonly ClusterNetworkPolicy[];
  readonly adminNetworkPolicies: readonly AdminNetworkPolicy[];
  /** At most one. */
  readonly baselineAdminNetworkPolicies: readonly BaselineAdminNetworkPolicy[];
  readonly unmodelled: readonly UnmodelledKind[];
  readonly unmodelledPolicies: readonly UnmodelledPolicy[];
  readonly warnings: readonly Problem[];
  readonly defaults: DatapathDefaults;
}
