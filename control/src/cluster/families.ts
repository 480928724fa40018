/**
 * Which IP families a cluster has.
 *
 * 1. What its nodes and pods have (addresses, pod CIDRs), where any has one; and every family that a Service names by
 *    an address, in `ipFamilies`, or by RequireDualStack.
 * 2. Where nodes and pods say nothing, the Services decide: IPv4, unless each of them names IPv6 alone; both, where one
 *    names or prefers both.
 */

import { type Family, parseAddress, parsePrefix } from '../model/address.ts';
import { hasEnded } from '../model/pod.ts';
import type { Service } from '../model/service.ts';
import type { ObjectStore } from './store.ts';

/** The cluster's families, IPv4 first. */
export function detectFamilies(store: ObjectStore): Family[] {
  const infrastructure = new Set<Family>();
  for (const node of store.list('Node')) {
    for (const { type, address } of node.status.addresses) {
      if (type === 'InternalIP') addFamily(infrastructure, parseAddress(address));
    }
    for (const text of [node.spec.podCIDR, ...node.spec.podCIDRs]) addFamily(infrastructure, parsePrefix(text));
  }
  for (const pod of store.list('Pod')) {
    if (hasEnded(pod)) continue;
    addFamily(infrastructure, parseAddress(pod.status.podIP));
    for (const { ip } of pod.status.podIPs) addFamily(infrastructure, parseAddress(ip));
  }
  const services = store.list('Service').filter(({ spec }) => spec.type !== 'ExternalName');
  const families = new Set(infrastructure);
  for (const service of services) for (const family of namedFamilies(service)) families.add(family);
  if (infrastructure.size === 0) {
    if (services.some(({ spec }) => spec.ipFamilyPolicy === 'PreferDualStack')) families.add(4).add(6);
    if (services.length === 0 || services.some((service) => namedFamilies(service).length === 0)) families.add(4);
  }
  return ([4, 6] as const).filter((family) => families.has(family));
}

/** Families that a Service names, by address or by word. */
export function namedFamilies({ spec }: Service): Family[] {
  if (spec.ipFamilyPolicy === 'RequireDualStack') return [4, 6];
  const families = new Set<Family>(spec.ipFamilies.map(familyOf));
  for (const text of [spec.clusterIP, ...spec.clusterIPs]) addFamily(families, parseAddress(text));
  return [...families];
}

export function familyOf(name: 'IPv4' | 'IPv6'): Family {
  return name === 'IPv4' ? 4 : 6;
}

function addFamily(families: Set<Family>, found: { readonly family: Family } | null): void {
  if (found !== null) families.add(found.family);
}
