/**
 * What a cluster assigns to Services: families, ClusterIPs, nodePorts, health-check ports and LoadBalancer addresses.
 *
 * Given values stay and are taken first. The others are drawn from the Service's name: ClusterIPs and nodePorts from the
 * upper band of their range before the lower, as the API server's allocators do (their static bands hold
 * min(max(16, size/16), 256) addresses and min(max(16, size/32), 128) ports). An object more or less moves no other
 * Service, except where two names draw the same number.
 */

import {
  type Address,
  type Family,
  inPrefix,
  makePrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../model/address.ts';
import { hasNoVirtualAddress, type IPFamily, type Service } from '../model/service.ts';
import { AddressPool, type NamedAddresses, prefixSize } from './addresses.ts';
import { familyOf } from './families.ts';
import { hashText } from './name-hash.ts';
import { NodePortAllocator } from './node-ports.ts';
import { describeObject, type ProblemList } from './problem.ts';

export const DEFAULT_SERVICE_CIDRS: readonly string[] = ['10.96.0.0/12', 'fd00:10:96::/112'];

/** LoadBalancer addresses, where status has none. */
const LB_POOLS: Readonly<Record<Family, Prefix>> = {
  4: makePrefix(4, [(198 << 24) | (19 << 16), 0, 0, 0], 16),
  6: makePrefix(6, [0xfd00f1a7 | 0, 0x00010000, 0, 0], 64),
};

/** Offset of the first dynamic address in a service range. */
function staticBand(size: number): number {
  return Math.min(Math.max(16, Math.floor(size / 16)), 256);
}

/**
 * Completes all Services in place.
 *
 * @param services by name, as copies; @param families of the cluster, the first is the default
 * @param serviceCIDRs empty: unknown, the usual ranges are drawn from and nothing counts as outside
 */
export function addServiceAddresses(
  services: readonly Service[],
  families: readonly Family[],
  serviceCIDRs: readonly string[],
  named: NamedAddresses,
  problems: ProblemList,
): void {
  for (const service of services) alignClusterIPs(service);
  checkClusterIPs(services, problems);
  warnOutside(services, serviceCIDRs, problems);
  const pools = clusterIPPools(serviceCIDRs.length > 0 ? serviceCIDRs : DEFAULT_SERVICE_CIDRS, named);
  for (const service of services) {
    setFamilies(service, families);
    if (service.spec.type !== 'ExternalName' && service.spec.clusterIP !== 'None') {
      takeClusterIPs(service, pools, problems);
    }
  }
  new NodePortAllocator(services, problems).assign();
  addLoadBalancerAddresses(services, named);
}

/** `clusterIP` and `clusterIPs` say the same, in canonical text. */
function alignClusterIPs({ spec }: Service): void {
  const texts = spec.clusterIPs.length > 0 ? spec.clusterIPs : spec.clusterIP === '' ? [] : [spec.clusterIP];
  spec.clusterIPs = texts.map((text) => parseAddress(text)?.text ?? text);
  spec.clusterIP = spec.clusterIPs[0] ?? '';
}

function checkClusterIPs(services: readonly Service[], problems: ProblemList): void {
  const owners = new Map<string, Service>();
  for (const service of services) {
    if (hasNoVirtualAddress(service)) continue;
    service.spec.clusterIPs.forEach((text, index) => {
      const owner = owners.get(text);
      if (owner === undefined) owners.set(text, service);
      else {
        const field = index === 0 ? 'spec.clusterIP' : `spec.clusterIPs[${index}]`;
        problems.error(service, field, `${text} is also the ClusterIP of ${describeObject(owner)}`);
      }
    });
  }
}

/** Ranges are often left at their default, so this is one warning, not one a Service. */
function warnOutside(services: readonly Service[], serviceCIDRs: readonly string[], problems: ProblemList): void {
  const ranges = serviceCIDRs.map(parsePrefix).filter((prefix) => prefix !== null);
  if (ranges.length === 0) return;
  let first = '';
  let count = 0;
  for (const service of services) {
    if (hasNoVirtualAddress(service)) continue;
    for (const text of service.spec.clusterIPs) {
      const address = parseAddress(text);
      if (address === null || ranges.some((range) => inPrefix(address, range))) continue;
      count++;
      if (count === 1) first = `${text} of ${describeObject(service)}`;
    }
  }
  if (count === 0) return;
  const others = count === 1 ? '' : ` and ${count - 1} more ClusterIPs`;
  problems.warnInput(`${first}${others} outside kubeProxy.serviceCIDRs ${serviceCIDRs.join(', ')}`);
}

/** Families of a Service as the API server defaults them. */
function setFamilies({ spec }: Service, cluster: readonly Family[]): void {
  if (spec.type === 'ExternalName') return;
  const names: IPFamily[] = [...spec.ipFamilies];
  const add = (family: Family): void => {
    const name: IPFamily = family === 4 ? 'IPv4' : 'IPv6';
    if (!names.includes(name)) names.push(name);
  };
  for (const text of spec.clusterIPs) {
    const family = parseAddress(text)?.family;
    if (family !== undefined) add(family);
  }
  const isSelectorless = spec.selector === undefined || Object.keys(spec.selector).length === 0;
  const isHeadlessWithoutSelector = spec.clusterIP === 'None' && isSelectorless;
  if (names.length === 0 && isHeadlessWithoutSelector && spec.ipFamilyPolicy === undefined) {
    for (const family of cluster) add(family);
  }
  if (names.length === 0) add(cluster[0] ?? 4);
  if (spec.ipFamilyPolicy === 'RequireDualStack') {
    add(4);
    add(6);
  }
  if (spec.ipFamilyPolicy === 'PreferDualStack') for (const family of cluster) add(family);
  spec.ipFamilyPolicy ??= names.length === 2 ? 'RequireDualStack' : 'SingleStack';
  spec.ipFamilies = names;
}

interface ServiceRange {
  readonly upper: AddressPool;
  readonly lower: AddressPool;
}

function clusterIPPools(serviceCIDRs: readonly string[], named: NamedAddresses): ServiceRange[] {
  return serviceCIDRs
    .map(parsePrefix)
    .filter((prefix) => prefix !== null)
    .map((prefix) => {
      const size = prefixSize(prefix);
      const last = prefix.family === 4 ? size - 2 : size - 1;
      const band = staticBand(size);
      return {
        upper: new AddressPool(prefix, Math.min(band, last), last, named, true),
        lower: new AddressPool(prefix, 1, Math.min(band - 1, last), named, true),
      };
    });
}

function takeClusterIPs(service: Service, ranges: readonly ServiceRange[], problems: ProblemList): void {
  const { spec } = service;
  for (const name of spec.ipFamilies.slice(spec.clusterIPs.length)) {
    const address = takeAddress(service, familyOf(name), ranges);
    if (address === null) {
      problems.error(service, 'spec.clusterIP', `no ${name} address is left in kubeProxy.serviceCIDRs`);
      return;
    }
    spec.clusterIPs.push(address.text);
  }
  spec.clusterIP = spec.clusterIPs[0] ?? '';
}

function takeAddress({ metadata }: Service, family: Family, ranges: readonly ServiceRange[]): Address | null {
  const preferred = hashText(`ClusterIP/${metadata.namespace}/${metadata.name}`);
  for (const { upper, lower } of ranges) {
    if (upper.prefix.family !== family) continue;
    const address = upper.take(preferred) ?? lower.take(preferred);
    if (address !== null) return address;
  }
  return null;
}

/** One address a family for each LoadBalancer whose status names neither an address nor a host name. */
function addLoadBalancerAddresses(services: readonly Service[], named: NamedAddresses): void {
  const pools = new Map<Family, AddressPool>();
  for (const service of services) {
    const { spec, status, metadata } = service;
    if (spec.type !== 'LoadBalancer' || hasNoVirtualAddress(service)) continue;
    if (status.loadBalancer.ingress.length > 0) continue;
    const wanted = parseAddress(spec.loadBalancerIP);
    const ingress = spec.ipFamilies.map((name) => {
      const family = familyOf(name);
      if (wanted?.family === family) return wanted.text;
      let pool = pools.get(family);
      if (pool === undefined) {
        const prefix = LB_POOLS[family];
        pool = new AddressPool(prefix, 1, prefixSize(prefix) - 2, named, true);
        pools.set(family, pool);
      }
      // Within 16 bits in both families, so that made addresses stay short.
      return pool.take(hashText(`LoadBalancer/${metadata.namespace}/${metadata.name}`) & 0xffff)?.text ?? '';
    });
    service.status = {
      ...status,
      loadBalancer: {
        ingress: ingress.filter((ip) => ip !== '').map((ip) => ({ ip, hostname: '', ipMode: 'VIP' as const })),
      },
    };
  }
}
