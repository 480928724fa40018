/**
 * From two references to the first packet of a new connection: who sends it, from where it enters, to which address.
 *
 * Sources (DESIGN §7, "from"): a pod, or an address that a pod owns, leaves by that pod's interface. A hostNetwork pod,
 * a node, or an address that a node owns is a local process of that node; a loopback address is a local process of
 * `node`. Any other address inside the cluster CIDR is an unlisted pod on `node`. Everything else comes in by the
 * uplink of `node`; without `node` that is the node of the target address, else the first by name.
 */

import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '@flatpath/engine/wire/burst';
import type { Cluster } from '../cluster/cluster.ts';
import { type ClusterTopology, nodeAddresses, podAddresses } from '../compile/topology.ts';
import { type Address, type Family, inPrefix, type Prefix, parseAddress } from '../model/address.ts';
import { isReady } from '../model/endpoint-slice.ts';
import type { Pod } from '../model/pod.ts';
import {
  commonFamily,
  findContainerPort,
  findPod,
  findService,
  findServicePort,
  type Protocol,
  parseReference,
  type Reference,
  UnresolvedReference,
} from './reference.ts';

export interface Source {
  /** Index of the node where the packet enters. */
  readonly node: number;
  /** ENTRY_POD, ENTRY_HOST or ENTRY_UPLINK. */
  readonly entry: number;
  /** Endpoint number of a listed pod, else -1. */
  readonly endpoint: number;
  readonly address: Address;
}

export interface Target {
  readonly address: Address;
  /** 0 for ICMP. */
  readonly port: number;
}

/** A new connection to try: several targets where the reference is a headless Service. */
export interface Connection {
  readonly family: Family;
  readonly protocol: Protocol;
  readonly sources: readonly Source[];
  readonly targets: readonly Target[];
}

export interface ConnectionRequest {
  readonly from: string;
  readonly to: string;
  /** Absent: TCP, or the protocol of the named port. */
  readonly protocol?: string | undefined;
  readonly node?: string | undefined;
}

/** What references are looked up in. */
export interface ReferenceScope {
  readonly cluster: Cluster;
  readonly topology: ClusterTopology;
  /** The prefixes that hold the pods; empty with detectLocalMode None. */
  readonly clusterCidr: readonly Prefix[];
}

/** A place that packets may come from, before the family is known. */
interface SourceCandidates {
  readonly addresses: readonly Address[];
  at(address: Address, target: Address): Source;
}

interface TargetCandidates {
  readonly addresses: readonly Address[];
  readonly port: number;
  /** Ports that differ from `port`, by address: a named port has each endpoint's own number. */
  readonly ports?: ReadonlyMap<string, readonly number[]>;
  readonly protocol: Protocol;
}

/** @throws UnresolvedReference where a reference cannot be read, found or combined with the other */
export function resolveConnection(scope: ReferenceScope, request: ConnectionRequest): Connection {
  const protocol = readProtocol(request.protocol);
  const to = parseReference(request.to);
  const from = parseReference(request.from);
  const entryNode = readNode(scope, request.node);
  const target = resolveTarget(scope, to, protocol);
  const source = resolveSource(scope, from, entryNode);
  const family = commonFamily(source.addresses, target.addresses);
  if (family === null) {
    throw new UnresolvedReference(
      `'${from.text}' and '${to.text}' share no address family: ${listFamilies(source.addresses)} and ${listFamilies(target.addresses)}`,
    );
  }
  const address = source.addresses.find((candidate) => candidate.family === family)!;
  const targets = target.addresses
    .filter((candidate) => candidate.family === family)
    .flatMap((destination) => {
      const ports = target.ports?.get(destination.text) ?? [target.port];
      return ports.map((port) => ({ address: destination, port }));
    });
  return {
    family,
    protocol: target.protocol,
    sources: targets.map((destination) => source.at(address, destination.address)),
    targets,
  };
}

function readProtocol(text: string | undefined): Protocol | null {
  if (text === undefined) return null;
  const upper = text.toUpperCase();
  if (upper === 'TCP' || upper === 'UDP' || upper === 'SCTP' || upper === 'ICMP') return upper;
  throw new UnresolvedReference(`'${text}' is not a protocol: TCP, UDP, SCTP or ICMP`);
}

function readNode(scope: ReferenceScope, name: string | undefined): number | null {
  if (name === undefined) return null;
  const bare = name.startsWith('node/') ? name.slice('node/'.length) : name;
  const index = scope.topology.nodeIndex.get(bare);
  if (index === undefined) {
    const names = scope.cluster.nodes.map((node) => node.metadata.name).slice(0, 5);
    throw new UnresolvedReference(`node '${bare}' does not exist; there is ${names.join(', ')}`);
  }
  return index;
}

function resolveTarget(scope: ReferenceScope, to: Reference, protocol: Protocol | null): TargetCandidates {
  switch (to.kind) {
    case 'address':
      return { addresses: [to.address!], ...numericPort(to, protocol) };
    case 'node': {
      const node = scope.topology.nodeIndex.get(to.name);
      if (node === undefined) throw new UnresolvedReference(`'${to.text}': there is no such node`);
      return { addresses: firstPerFamily(nodeAddresses(scope.cluster.nodes[node]!)), ...numericPort(to, protocol) };
    }
    case 'svc':
      return resolveServiceTarget(scope, to, protocol);
    default: {
      const pod = findPod(scope.cluster, to);
      const port = typeof to.port === 'string' ? findContainerPort(pod, to, protocol) : numericPort(to, protocol);
      return { addresses: requireAddresses(pod, to), port: port.port, protocol: protocol ?? port.protocol };
    }
  }
}

function resolveServiceTarget(scope: ReferenceScope, to: Reference, protocol: Protocol | null): TargetCandidates {
  const service = findService(scope.cluster, to);
  if (service.spec.type === 'ExternalName') {
    throw new UnresolvedReference(`'${to.text}' is the external name '${service.spec.externalName}', not an address`);
  }
  const found = protocol === 'ICMP' ? null : findServicePort(service, to, protocol);
  // A number is taken as it is, served or not; a name also says the protocol.
  const named = typeof to.port !== 'number' && found !== null;
  const port = protocol === 'ICMP' ? 0 : typeof to.port === 'number' ? to.port : found!.port;
  const reached = protocol ?? (named ? found!.protocol : 'TCP');
  if (service.spec.clusterIP !== 'None') {
    return { addresses: serviceClusterIps(service.spec.clusterIPs, to), port, protocol: reached };
  }
  const { addresses, ports } = readyEndpoints(scope.cluster, to, named ? found!.name : null, reached);
  if (addresses.length === 0) {
    throw new UnresolvedReference(`'${to.text}' is headless and has no ready endpoint, its name has no address`);
  }
  return { addresses, port, ports, protocol: reached };
}

function serviceClusterIps(texts: readonly string[], to: Reference): Address[] {
  const addresses = texts.map((text) => parseAddress(text)).filter((address) => address !== null);
  if (addresses.length === 0) throw new UnresolvedReference(`'${to.text}' has no ClusterIP`);
  return addresses;
}

/**
 * What DNS answers for a headless Service: the addresses of its ready endpoints and, of a named port, each one's own
 * numbers (its SRV records); an endpoint whose slice lacks the port has no record then.
 */
function readyEndpoints(
  cluster: Cluster,
  to: Reference,
  portName: string | null,
  protocol: Protocol,
): { addresses: Address[]; ports: Map<string, number[]> } {
  const addresses = new Map<string, Address>();
  const ports = new Map<string, number[]>();
  for (const slice of cluster.endpointSlices) {
    if (slice.metadata.namespace !== to.namespace) continue;
    if (slice.metadata.labels?.['kubernetes.io/service-name'] !== to.name) continue;
    const numbers = slice.ports
      .filter((port) => port.name === portName && port.protocol === protocol)
      .flatMap(({ port }) => (port === undefined || port === 0 ? [] : [port]));
    if (portName !== null && numbers.length === 0) continue;
    for (const endpoint of slice.endpoints) {
      if (!isReady(endpoint)) continue;
      const address = parseAddress(endpoint.addresses[0] ?? '');
      if (address === null) continue;
      addresses.set(address.text, address);
      if (portName !== null) ports.set(address.text, [...new Set([...(ports.get(address.text) ?? []), ...numbers])]);
    }
  }
  return { addresses: [...addresses.values()], ports };
}

function numericPort(to: Reference, protocol: Protocol | null): { port: number; protocol: Protocol } {
  if (protocol === 'ICMP') return { port: 0, protocol };
  if (typeof to.port === 'number') return { port: to.port, protocol: protocol ?? 'TCP' };
  if (to.port === null) throw new UnresolvedReference(`'${to.text}' needs a port (${to.text}:80)`);
  throw new UnresolvedReference(`'${to.text}': only pods and Services have named ports`);
}

function resolveSource(scope: ReferenceScope, from: Reference, entryNode: number | null): SourceCandidates {
  switch (from.kind) {
    case 'address':
      return resolveAddressSource(scope, from.address!, entryNode);
    case 'node': {
      const node = scope.topology.nodeIndex.get(from.name);
      if (node === undefined) throw new UnresolvedReference(`'${from.text}': there is no such node`);
      return hostSource(scope, node, firstPerFamily(nodeAddresses(scope.cluster.nodes[node]!)));
    }
    case 'svc':
      throw new UnresolvedReference(
        `'${from.text}': a Service sends nothing; name a pod, a workload, a node or an address`,
      );
    default: {
      const pod = findPod(scope.cluster, from);
      const node = scope.topology.nodeIndex.get(pod.spec.nodeName) ?? 0;
      const addresses = requireAddresses(pod, from);
      if (pod.spec.hostNetwork) return hostSource(scope, node, addresses);
      return podSource(
        scope.topology.endpoints.findIndex((endpoint) => endpoint.pod === pod),
        node,
        addresses,
      );
    }
  }
}

function resolveAddressSource(scope: ReferenceScope, address: Address, entryNode: number | null): SourceCandidates {
  const { topology } = scope;
  if (isLoopback(address)) {
    return {
      addresses: [address],
      at: (_, target) => localSource(scope, entryNode ?? nodeOfTarget(scope, target), address, target),
    };
  }
  const endpoint = topology.endpointByAddress.get(address.text);
  if (endpoint !== undefined) return podSource(endpoint, topology.endpoints[endpoint]!.node, [address]);
  const node = topology.nodeByAddress.get(address.text);
  if (node !== undefined) return hostSource(scope, node, [address]);
  const isPod = scope.clusterCidr.some((prefix) => inPrefix(address, prefix));
  return {
    addresses: [address],
    at: (_, target) => ({
      node: entryNode ?? nodeOfTarget(scope, target),
      entry: isPod ? ENTRY_POD : ENTRY_UPLINK,
      endpoint: -1,
      address,
    }),
  };
}

/** Where a frame with these addresses enters, whoever made it: the rules of the file's head for its source address. */
export function locateSource(
  scope: ReferenceScope,
  source: Address,
  target: Address,
  entryNode: number | null,
): Source {
  const { topology } = scope;
  const endpoint = topology.endpointByAddress.get(source.text);
  if (endpoint !== undefined) {
    return { node: topology.endpoints[endpoint]!.node, entry: ENTRY_POD, endpoint, address: source };
  }
  return resolveAddressSource(scope, source, entryNode).at(source, target);
}

function podSource(endpoint: number, node: number, addresses: readonly Address[]): SourceCandidates {
  return {
    addresses,
    at(address, target) {
      if (isLoopback(target)) {
        throw new UnresolvedReference(`${target.text} seen from a pod is the pod itself: no packet leaves it`);
      }
      return { node, entry: ENTRY_POD, endpoint, address };
    },
  };
}

function hostSource(scope: ReferenceScope, node: number, addresses: readonly Address[]): SourceCandidates {
  return { addresses, at: (address, target) => localSource(scope, node, address, target) };
}

/** A local process takes the source address that routing gives it: a loopback one only toward a loopback target. */
function localSource(scope: ReferenceScope, node: number, address: Address, target: Address): Source {
  const source = { node, entry: ENTRY_HOST, endpoint: -1, address };
  if (isLoopback(target)) {
    const loopback = parseAddress(target.family === 4 ? '127.0.0.1' : '::1')!;
    return { ...source, address: isLoopback(address) ? address : loopback };
  }
  if (!isLoopback(address)) return source;
  const own = nodeAddresses(scope.cluster.nodes[node]!).find((candidate) => candidate.family === target.family);
  return own === undefined ? source : { ...source, address: own };
}

/** The node that owns the target address or runs the pod that does, else the first by name. */
function nodeOfTarget(scope: ReferenceScope, target: Address): number {
  const { topology } = scope;
  const endpoint = topology.endpointByAddress.get(target.text);
  if (endpoint !== undefined) return topology.endpoints[endpoint]!.node;
  return topology.nodeByAddress.get(target.text) ?? 0;
}

function requireAddresses(pod: Pod, reference: Reference): Address[] {
  const addresses = podAddresses(pod);
  if (addresses.length === 0) throw new UnresolvedReference(`'${reference.text}' has no address`);
  return addresses;
}

function firstPerFamily(addresses: readonly Address[]): Address[] {
  return addresses.filter((address, i) => addresses.findIndex((other) => other.family === address.family) === i);
}

function isLoopback(address: Address): boolean {
  const [w0, w1, w2, w3] = address.words;
  return address.family === 4 ? w0 >>> 24 === 127 : (w0 | w1 | w2) === 0 && w3 === 1;
}

function listFamilies(addresses: readonly Address[]): string {
  return [...new Set(addresses.map((address) => `IPv${address.family}`))].join(', ') || 'none';
}
