/** Finds every address and range that the given objects name, so that no made object gets one of them. */

import { hasEnded } from '../model/pod.ts';
import { NamedAddresses } from './addresses.ts';
import type { ObjectStore } from './store.ts';

/** @param reserved further addresses and prefixes, such as those that probes name */
export function collectNamedAddresses(store: ObjectStore, reserved: readonly string[]): NamedAddresses {
  const named = new NamedAddresses();
  for (const text of reserved) named.add(text);
  for (const node of store.list('Node')) {
    for (const { address } of node.status.addresses) named.add(address);
    named.add(node.spec.podCIDR);
    for (const text of node.spec.podCIDRs) named.add(text);
  }
  for (const pod of store.list('Pod')) {
    if (hasEnded(pod)) continue;
    named.add(pod.status.podIP);
    named.add(pod.status.hostIP);
    for (const { ip } of pod.status.podIPs) named.add(ip);
  }
  for (const { spec, status } of store.list('Service')) {
    for (const text of [spec.clusterIP, spec.loadBalancerIP]) named.add(text);
    for (const list of [spec.clusterIPs, spec.externalIPs, spec.loadBalancerSourceRanges]) {
      for (const text of list) named.add(text);
    }
    for (const { ip } of status.loadBalancer.ingress) named.add(ip);
  }
  for (const slice of store.list('EndpointSlice')) {
    for (const { addresses } of slice.endpoints) for (const text of addresses) named.add(text);
  }
  for (const { subsets } of store.list('Endpoints')) {
    for (const subset of subsets) {
      for (const { ip } of [...subset.addresses, ...subset.notReadyAddresses]) named.add(ip);
    }
  }
  for (const { spec } of store.list('NetworkPolicy')) {
    const peers = [...(spec.ingress ?? []).flatMap((rule) => rule.from ?? [])];
    peers.push(...(spec.egress ?? []).flatMap((rule) => rule.to ?? []));
    for (const { ipBlock } of peers) {
      if (ipBlock === undefined) continue;
      named.add(ipBlock.cidr);
      for (const text of ipBlock.except ?? []) named.add(text);
    }
  }
  for (const kind of ['ClusterNetworkPolicy', 'AdminNetworkPolicy', 'BaselineAdminNetworkPolicy'] as const) {
    for (const { spec } of store.list(kind)) {
      for (const { networks } of spec.egress.flatMap(({ to }) => to))
        for (const text of networks ?? []) named.add(text);
    }
  }
  return named;
}
