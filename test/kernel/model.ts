/**
 * A case's cluster as flatpath loads it. The CNI's own masquerade is no part of what kube-proxy writes, so it is off.
 * Policies select pods by their names, which are labels too, and ask ports by name.
 */

import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import { datapathOf, objectsOf } from '../conformance/world.ts';
import type { KernelCase } from './case.ts';

/** Ports of every pod. Services lead to 80 and 81, or to 8080 and 8081. */
const CONTAINER_PORTS = [
  { name: 'web', protocol: 'TCP', containerPort: 80 },
  { name: 'web-alt', protocol: 'TCP', containerPort: 8080 },
  { name: 'talk', protocol: 'UDP', containerPort: 80 },
  { name: 'talk-alt', protocol: 'UDP', containerPort: 8080 },
  { name: 'plain', protocol: 'SCTP', containerPort: 7070 },
];
/** What of a world's pod is written here. */
interface PodObject {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: object;
}

export function modelOf({
  world,
  tcpBeLiberal,
  policies,
  profile,
}: Pick<KernelCase, 'world' | 'tcpBeLiberal' | 'policies' | 'profile'>): ClusterModel {
  const objects = [...(objectsOf(world) as PodObject[]).map(withNames), ...policies];
  const { cluster } = loadCluster([], { objects, clusterCIDR: [...world.options.clusterCIDR] });
  const { kubeProxy } = datapathOf(world) as DatapathInput;
  const pods = { masqueradeOutbound: false };
  const datapath = { kubeProxy: { ...kubeProxy, tcpBeLiberal }, pods, policy: { profile } };
  return modelCluster(cluster, resolveDatapath(datapath));
}

function withNames(object: PodObject): object {
  if (object.kind !== 'Pod') return object;
  const { metadata, spec } = object;
  return {
    ...object,
    metadata: { ...metadata, labels: { pod: metadata.name } },
    spec: { ...spec, containers: [{ name: 'c', ports: CONTAINER_PORTS }] },
  };
}
