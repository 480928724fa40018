/** A case's cluster as flatpath loads it. The CNI's own masquerade is no part of what kube-proxy writes, so it is off. */

import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import { datapathOf, objectsOf, type World } from '../conformance/world.ts';

export function modelOf(world: World, tcpBeLiberal: boolean): ClusterModel {
  const { cluster } = loadCluster([], { objects: objectsOf(world), clusterCIDR: [...world.options.clusterCIDR] });
  const { kubeProxy } = datapathOf(world) as DatapathInput;
  const pods = { masqueradeOutbound: false };
  return modelCluster(cluster, resolveDatapath({ kubeProxy: { ...kubeProxy, tcpBeLiberal }, pods }));
}
