/**
 * What a compile numbers by order, and connection state or running streams have taken over: as texts that differ when
 * the numbers may.
 */

import type { ClusterModel } from '../compile/image.ts';
import type { Mode } from '../model/datapath.ts';
import { serviceNameOf } from '../model/endpoint-slice.ts';

/** Nodes in the order of their numbers, which are the zones of connections. */
export function nodesKey(model: ClusterModel): string {
  return model.cluster.nodes.map(({ metadata }) => metadata.name).join(' ');
}

/**
 * What numbers session affinity's lists in a mode: those of iptables' `recent` and of nftables' dynamic sets are numbered
 * by the Services with affinity and their endpoints. '' in modes that name them otherwise.
 */
export function affinityKey(model: ClusterModel, mode: Mode): string {
  if (mode !== 'iptables' && mode !== 'nftables') return '';
  const { services, endpointSlices } = model.cluster;
  const sticky = services.filter(({ spec }) => spec.sessionAffinity === 'ClientIP');
  const names = new Set(sticky.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
  const slices = endpointSlices.filter((slice) => names.has(`${slice.metadata.namespace}/${serviceNameOf(slice)}`));
  return JSON.stringify([
    nodesKey(model),
    sticky.map(({ metadata, spec }) => [metadata.namespace, metadata.name, spec]),
    slices.map(({ endpoints, ports }) => [endpoints, ports]),
  ]);
}
