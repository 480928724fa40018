/**
 * Service ports: every (Service, port, family) that a service proxy programs, as kube-proxy sees it, with its endpoints.
 *
 * A service port is known by `ns/name:port` (`ns/name` for an unnamed port) and its protocol. Its endpoints come from
 * all EndpointSlices of the Service, whoever wrote them: the slice's port number counts, never `targetPort`; a slice
 * port without a number gives none; only `addresses[0]` is read.
 *
 * Left out: headless and ExternalName Services, Services and slices that carry `service-proxy-name` (another proxy's) or
 * `headless` labels, and ports of a family in which the Service has no ClusterIP. Nothing here depends on a mode or on a
 * node; a node's view is `endpoint-selection.ts`.
 *
 * Source of the rules: kubernetes pkg/proxy/serviceport.go, servicechangetracker.go, endpointslicecache.go and
 * pkg/api/v1/service/util.go.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type Address, type Family, formatEndpoint, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import { type EndpointSlice, isReady, isTerminating, serviceNameOf } from '../model/endpoint-slice.ts';
import { type Origin, originOf } from '../model/origin.ts';
import type { Protocol } from '../model/port.ts';
import { affinitySeconds, hasNoVirtualAddress, type Service, type ServicePort } from '../model/service.ts';

const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name';
const HEADLESS_LABEL = 'service.kubernetes.io/headless';

/** IANA numbers of the transport protocols. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

/** An address of a Service and the field of the Service that gives it. */
export interface ServiceVip {
  readonly address: Address;
  /** 'spec.clusterIPs[0]', 'spec.externalIPs[1]', 'status.loadBalancer.ingress[0].ip'. */
  readonly field: string;
}

/** An entry of `spec.loadBalancerSourceRanges`. */
export interface SourceRange {
  readonly prefix: Prefix;
  readonly field: string;
}

/** An `ip:port` behind a service port. */
export interface ServiceEndpoint {
  readonly address: Address;
  readonly port: number;
  /** `ip:port`, IPv6 in brackets; unique within the service port and its sort key. */
  readonly text: string;
  /** '' where the slice names no node: such an endpoint is local nowhere. */
  readonly nodeName: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Zones and nodes of the hints; empty without hints. */
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
  readonly slice: EndpointSlice;
  /** Index in `slice.endpoints` and of the port in `slice.ports`. */
  readonly endpointIndex: number;
  readonly portIndex: number;
  /** Other entries of the slices with the same `ip:port`, in the order met; a node prefers the last that is its own. */
  readonly duplicates: readonly ServiceEndpoint[];
}

/** One port of one Service in one family. */
export interface ServicePortInfo {
  readonly service: Service;
  /** Index in `spec.ports`. */
  readonly portIndex: number;
  readonly family: Family;
  /** `ns/name:port`, or `ns/name` for an unnamed port. */
  readonly key: string;
  readonly protocol: Protocol;
  readonly protocolNumber: number;
  readonly port: number;
  readonly clusterIP: ServiceVip;
  readonly externalIPs: readonly ServiceVip[];
  /** Addresses of ingress entries that nodes capture; those of ipMode Proxy are left out. */
  readonly loadBalancerVIPs: readonly ServiceVip[];
  /** 0: none. Counts whatever the Service's type. */
  readonly nodePort: number;
  /** 0: none. Only a LoadBalancer with externalTrafficPolicy Local has one. */
  readonly healthCheckNodePort: number;
  /** Seconds that a client stays with its endpoint, 0 without session affinity. */
  readonly affinitySeconds: number;
  readonly externalPolicyLocal: boolean;
  readonly internalPolicyLocal: boolean;
  /** Those of the port's family; empty means that everybody may use the load balancer's addresses. */
  readonly sourceRanges: readonly SourceRange[];
  /** Reachable by something else than the ClusterIP. */
  readonly externallyAccessible: boolean;
  /** Some traffic goes to the endpoints of policy Cluster. */
  readonly usesClusterEndpoints: boolean;
  /** Some traffic goes to the endpoints of policy Local. */
  readonly usesLocalEndpoints: boolean;
  /** Sorted by `text` (code units). */
  readonly endpoints: readonly ServiceEndpoint[];
}

/** Where a field of the port's Service came from. */
export function servicePortOrigin(port: ServicePortInfo, field: string): Origin {
  return originOf(port.service, field);
}

/** Where an endpoint's address came from. */
export function endpointAddressOrigin(endpoint: ServiceEndpoint): Origin {
  return originOf(endpoint.slice, `endpoints[${endpoint.endpointIndex}].addresses[0]`);
}

/** Where an endpoint's port number came from. */
export function endpointPortOrigin(endpoint: ServiceEndpoint): Origin {
  return originOf(endpoint.slice, `ports[${endpoint.portIndex}].port`);
}

const listed = new WeakMap<Cluster, Map<Family, readonly ServicePortInfo[]>>();

/**
 * All service ports of a family, in the order of the cluster's Services (namespace, name) and of their ports. Worked out
 * once per cluster, which does not change, and shared by all modes.
 */
export function listServicePorts(cluster: Cluster, family: Family): readonly ServicePortInfo[] {
  let families = listed.get(cluster);
  if (families === undefined) {
    families = new Map();
    listed.set(cluster, families);
  }
  let ports = families.get(family);
  if (ports === undefined) {
    ports = makeServicePorts(cluster, family);
    families.set(family, ports);
  }
  return ports;
}

/** Endpoints behind all service ports of a family: what kube-proxy compares with its large-cluster threshold. */
export function countEndpoints(ports: readonly ServicePortInfo[]): number {
  let total = 0;
  for (const port of ports) total += port.endpoints.length;
  return total;
}

function makeServicePorts(cluster: Cluster, family: Family): ServicePortInfo[] {
  const slices = slicesByService(cluster, family);
  const ports: ServicePortInfo[] = [];
  for (const service of cluster.services) {
    if (hasNoVirtualAddress(service) || isOtherProxys(service.metadata.labels)) continue;
    const { namespace, name } = service.metadata;
    const clusterIP = clusterVip(service, family);
    if (clusterIP === null) continue;
    const view = viewService(service, family);
    const own = slices.get(`${namespace}/${name}`) ?? [];
    service.spec.ports.forEach((port, portIndex) => {
      ports.push(makeServicePort(service, port, portIndex, clusterIP, view, own));
    });
  }
  return ports;
}

/** What all ports of a Service share in a family. */
interface ServiceView {
  readonly family: Family;
  readonly externalIPs: readonly ServiceVip[];
  readonly loadBalancerVIPs: readonly ServiceVip[];
  readonly sourceRanges: readonly SourceRange[];
  readonly externalPolicyLocal: boolean;
}

function viewService(service: Service, family: Family): ServiceView {
  const { spec, status } = service;
  const loadBalancerVIPs: ServiceVip[] = [];
  status.loadBalancer.ingress.forEach(({ ip, ipMode }, i) => {
    if (ip === '' || ipMode === 'Proxy') return;
    pushVip(loadBalancerVIPs, family, ip, `status.loadBalancer.ingress[${i}].ip`);
  });
  const externalIPs: ServiceVip[] = [];
  spec.externalIPs.forEach((ip, i) => {
    pushVip(externalIPs, family, ip, `spec.externalIPs[${i}]`);
  });
  const sourceRanges: SourceRange[] = [];
  spec.loadBalancerSourceRanges.forEach((text, i) => {
    // The API server has always let padding pass.
    const prefix = parsePrefix(text.trim());
    if (prefix?.family === family) sourceRanges.push({ prefix, field: `spec.loadBalancerSourceRanges[${i}]` });
  });
  // A stray externalTrafficPolicy of a Service that is not external by its type or externalIPs does not count.
  const external =
    spec.type === 'LoadBalancer' ||
    spec.type === 'NodePort' ||
    (spec.type === 'ClusterIP' && spec.externalIPs.length > 0);
  return {
    family,
    externalIPs,
    loadBalancerVIPs,
    sourceRanges,
    externalPolicyLocal: external && spec.externalTrafficPolicy === 'Local',
  };
}

function makeServicePort(
  service: Service,
  port: ServicePort,
  portIndex: number,
  clusterIP: ServiceVip,
  view: ServiceView,
  slices: readonly ReadSlice[],
): ServicePortInfo {
  const { spec, metadata } = service;
  const { externalIPs, loadBalancerVIPs, externalPolicyLocal } = view;
  const name = `${metadata.namespace}/${metadata.name}`;
  const internalPolicyLocal = spec.internalTrafficPolicy === 'Local';
  const externallyAccessible = port.nodePort !== 0 || loadBalancerVIPs.length > 0 || externalIPs.length > 0;
  return {
    service,
    portIndex,
    family: view.family,
    key: port.name === '' ? name : `${name}:${port.name}`,
    protocol: port.protocol,
    protocolNumber: PROTOCOL_NUMBER[port.protocol],
    port: port.port,
    clusterIP,
    externalIPs,
    loadBalancerVIPs,
    nodePort: port.nodePort,
    healthCheckNodePort: spec.type === 'LoadBalancer' && externalPolicyLocal ? spec.healthCheckNodePort : 0,
    affinitySeconds: affinitySeconds(service),
    externalPolicyLocal,
    internalPolicyLocal,
    sourceRanges: view.sourceRanges,
    externallyAccessible,
    // External traffic of policy Local needs the cluster's endpoints too: pods and the node itself take a short cut.
    usesClusterEndpoints: !internalPolicyLocal || externallyAccessible,
    usesLocalEndpoints: internalPolicyLocal || (externalPolicyLocal && externallyAccessible),
    endpoints: endpointsOf(port, slices),
  };
}

function clusterVip(service: Service, family: Family): ServiceVip | null {
  const { clusterIPs, clusterIP } = service.spec;
  const texts = clusterIPs.length > 0 ? clusterIPs : [clusterIP];
  for (let i = 0; i < texts.length; i++) {
    const address = parseAddress(texts[i]!);
    // The first is written as `clusterIP` in most manifests.
    const field = i > 0 ? `spec.clusterIPs[${i}]` : 'spec.clusterIP';
    if (address?.family === family) return { address, field };
  }
  return null;
}

function pushVip(vips: ServiceVip[], family: Family, text: string, field: string): void {
  const address = parseAddress(text);
  if (address?.family === family) vips.push({ address, field });
}

function isOtherProxys(labels: Readonly<Record<string, string>> | undefined): boolean {
  return labels !== undefined && (Object.hasOwn(labels, PROXY_NAME_LABEL) || Object.hasOwn(labels, HEADLESS_LABEL));
}

/** A slice with its endpoints' addresses read: null for an endpoint without a usable one. */
interface ReadSlice {
  readonly slice: EndpointSlice;
  readonly addresses: readonly (Address | null)[];
}

function slicesByService(cluster: Cluster, family: Family): Map<string, ReadSlice[]> {
  const found = new Map<string, ReadSlice[]>();
  const addressType = family === 4 ? 'IPv4' : 'IPv6';
  for (const slice of cluster.endpointSlices) {
    const service = serviceNameOf(slice);
    if (slice.addressType !== addressType || service === '' || isOtherProxys(slice.metadata.labels)) continue;
    const addresses = slice.endpoints.map((endpoint) => {
      const address = endpoint.addresses.length === 0 ? null : parseAddress(endpoint.addresses[0]!);
      return address?.family === family ? address : null;
    });
    const key = `${slice.metadata.namespace}/${service}`;
    const list = found.get(key);
    if (list === undefined) found.set(key, [{ slice, addresses }]);
    else list.push({ slice, addresses });
  }
  return found;
}

const NONE: readonly never[] = [];

function endpointsOf(port: ServicePort, slices: readonly ReadSlice[]): readonly ServiceEndpoint[] {
  const all: ServiceEndpoint[] = [];
  for (const { slice, addresses } of slices) {
    for (let portIndex = 0; portIndex < slice.ports.length; portIndex++) {
      const slicePort = slice.ports[portIndex]!;
      if (slicePort.name !== port.name || slicePort.protocol !== port.protocol) continue;
      if (slicePort.port === undefined || slicePort.port === 0) continue;
      for (let i = 0; i < addresses.length; i++) {
        const address = addresses[i]!;
        if (address !== null) all.push(makeEndpoint(slice, i, portIndex, address, slicePort.port));
      }
    }
  }
  if (all.length < 2) return all;
  all.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0));
  return mergeDuplicates(all);
}

function makeEndpoint(
  slice: EndpointSlice,
  endpointIndex: number,
  portIndex: number,
  address: Address,
  port: number,
): ServiceEndpoint {
  const endpoint = slice.endpoints[endpointIndex]!;
  return {
    address,
    port,
    text: formatEndpoint(address, port),
    nodeName: endpoint.nodeName ?? '',
    ready: isReady(endpoint),
    // kube-proxy and the API's words agree: nil is true, whatever `ready` says.
    serving: endpoint.conditions.serving !== false,
    terminating: isTerminating(endpoint),
    zoneHints: endpoint.hints?.forZones?.map((hint) => hint.name) ?? NONE,
    nodeHints: endpoint.hints?.forNodes?.map((hint) => hint.name) ?? NONE,
    slice,
    endpointIndex,
    portIndex,
    duplicates: NONE,
  };
}

/** `sorted` is sorted by text, equal ones in the order met. Answers one endpoint for each text: the first. */
function mergeDuplicates(sorted: readonly ServiceEndpoint[]): readonly ServiceEndpoint[] {
  if (!sorted.some((endpoint, i) => i > 0 && endpoint.text === sorted[i - 1]!.text)) return sorted;
  const merged: ServiceEndpoint[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i + 1;
    while (end < sorted.length && sorted[end]!.text === sorted[i]!.text) end++;
    merged.push(end === i + 1 ? sorted[i]! : { ...sorted[i]!, duplicates: sorted.slice(i + 1, end) });
    i = end;
  }
  return merged;
}
