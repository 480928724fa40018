/**
 * kube-proxy in iptables mode, predicted: what becomes of the first packet of a new connection.
 *
 * Source: FACTS §1.1 and §5 (kubernetes pkg/proxy/iptables/proxier.go), the kernel's routing for the rest.
 */

import {
  type Backend,
  clusterBackends,
  endText,
  type Frontend,
  findNodePort,
  findVip,
  hasAnyBackend,
  isInside,
  isLoopback,
  isPolicyLocal,
  localBackends,
  nodeAddress,
  nodeOwning,
  type Outcome,
  type Packet,
  placeOf,
  rangesOf,
} from './oracle.ts';
import { familyOf, type World } from './world.ts';

/** Every way that the packet may go. */
export function predictKubeProxy(world: World, packet: Packet): Outcome[] {
  return enter(world, packet, { backend: null, masquerade: false }, 0);
}

/** What has happened to a packet on its way. */
export interface Past {
  readonly backend: string | null;
  readonly masquerade: boolean;
}

function enter(world: World, packet: Packet, past: Past, hops: number): Outcome[] {
  const end = (verdict: Outcome['verdict']): Outcome[] => [{ verdict, ...past }];
  if (hops > 4) return end('dropped');
  // Loopback addresses stay on their host.
  if (packet.entry !== 'host' && isLoopback(packet.destination)) return end('dropped');
  const frontend = findVip(world, packet) ?? findListeningNodePort(world, packet);
  if (frontend === null) {
    const verdict = refusalOfNodePort(world, packet);
    return verdict === null ? carryOn(world, packet, past, false, hops) : end(verdict);
  }
  const family = familyOf(packet.destination);
  if (!hasAnyBackend(frontend, family)) return refuse(world, packet, frontend, 'rejected', past, hops);
  if (frontend.kind === 'loadBalancer' && !isInRange(world, packet, frontend)) return end('dropped');
  const { backends, marked } = balance(world, packet, frontend);
  if (backends.length === 0) return refuse(world, packet, frontend, 'dropped', past, hops);
  return backends.flatMap((backend) => {
    const translated = { ...packet, destination: backend.address, port: backend.port };
    const hairpin = packet.source === backend.address;
    const here = { backend: endText(backend.address, backend.port), masquerade: past.masquerade };
    return carryOn(world, translated, here, marked || hairpin, hops);
  });
}

/** A nodePort on an address of this node, where nodePorts listen there. */
function findListeningNodePort(world: World, packet: Packet): Frontend | null {
  const { destination, node } = packet;
  const family = familyOf(destination);
  if (isLoopback(destination)) {
    if (family === 6 || !world.options.localhostNodePorts) return null;
  } else if (nodeOwning(world, destination) !== node) return null;
  const prefixes = world.options.nodePortAddresses.filter((prefix) => familyOf(prefix) === family);
  if (prefixes.length > 0 && !prefixes.some((prefix) => isInside(destination, prefix))) return null;
  return findNodePort(world, packet);
}

/** The filter rules of a nodePort that is of no use ask for any local address, whether nodePorts listen there or not. */
function refusalOfNodePort(world: World, packet: Packet): 'rejected' | 'dropped' | null {
  const { destination, node } = packet;
  if (!isLoopback(destination) && nodeOwning(world, destination) !== node) return null;
  const frontend = findNodePort(world, packet);
  if (frontend === null) return null;
  const family = familyOf(destination);
  if (!hasAnyBackend(frontend, family)) return 'rejected';
  return isPolicyLocal(frontend) && localBackends(frontend, family, node).length === 0 ? 'dropped' : null;
}

/**
 * REJECT and DROP of a Service without usable endpoints stand in the filter table: those of external addresses in INPUT
 * and FORWARD only, so a packet of the node itself to an address that is not the node's passes OUTPUT and leaves.
 */
function refuse(
  world: World,
  packet: Packet,
  { kind }: Frontend,
  verdict: 'rejected' | 'dropped',
  past: Past,
  hops: number,
): Outcome[] {
  const passes = packet.entry === 'host' && (kind === 'externalIP' || kind === 'loadBalancer');
  if (passes && nodeOwning(world, packet.destination) !== packet.node) {
    return carryOn(world, packet, past, false, hops);
  }
  return [{ verdict, ...past }];
}

/** loadBalancerSourceRanges, for everybody; a node in range may also speak from the load balancer's own address. */
export function isInRange(world: World, packet: Packet, { service }: Frontend): boolean {
  const family = familyOf(packet.destination);
  const ranges = rangesOf(service, family);
  if (ranges.length === 0) return true;
  if (ranges.some((range) => isInside(packet.source, range))) return true;
  const own = nodeAddress(world, packet.node, family);
  return (
    ranges.some((range) => isInside(own, range)) &&
    service.ingress.some(({ ip, proxy }) => ip === packet.source && !proxy)
  );
}

/** The endpoints that a packet may be sent to, and whether it leaves with the node's address. */
export function balance(world: World, packet: Packet, frontend: Frontend): { backends: Backend[]; marked: boolean } {
  const family = familyOf(packet.destination);
  const everywhere = clusterBackends(world, frontend, family, packet.node);
  const here = localBackends(frontend, family, packet.node);
  if (frontend.kind === 'clusterIP') {
    const marked = world.options.masqueradeAll || isLocalPod(world, packet) === 'no';
    return { backends: isPolicyLocal(frontend) ? here : everywhere, marked };
  }
  if (!isPolicyLocal(frontend)) return { backends: everywhere, marked: true };
  if (isLocalPod(world, packet) === 'yes') return { backends: everywhere, marked: false };
  if (isLoopback(packet.source) || nodeOwning(world, packet.source) === packet.node) {
    return { backends: everywhere, marked: true };
  }
  return { backends: here, marked: false };
}

/** What detect-local says of a packet; `unknown` where kube-proxy cannot tell, as without a prefix of the family. */
function isLocalPod(world: World, packet: Packet): 'yes' | 'no' | 'unknown' {
  const { detectLocalMode, clusterCIDR } = world.options;
  const family = familyOf(packet.source);
  const isFrom = (prefixes: readonly string[]): 'yes' | 'no' | 'unknown' => {
    // kube-proxy knows one prefix of each family.
    const prefix = prefixes.find((own) => familyOf(own) === family);
    if (prefix === undefined) return 'unknown';
    return isInside(packet.source, prefix) ? 'yes' : 'no';
  };
  switch (detectLocalMode) {
    case 'ClusterCIDR':
      return isFrom(clusterCIDR);
    case 'NodeCIDR':
      return isFrom(world.nodes.find(({ name }) => name === packet.node)!.podCIDRs);
    case 'None':
      return 'unknown';
    default:
      return packet.entry === 'pod' ? 'yes' : 'no';
  }
}

/** Routing, POSTROUTING, and the next node. */
function carryOn(world: World, packet: Packet, past: Past, marked: boolean, hops: number): Outcome[] {
  const { source: from, destination, node, entry } = packet;
  // IPv4 routing refuses a node's own address as the source of what comes in.
  if (entry !== 'host' && familyOf(from) === 4 && nodeOwning(world, from) === node) {
    return [{ verdict: 'dropped', ...past }];
  }
  const place = placeOf(world, destination);
  const toHost = isLoopback(destination) || (place.kind === 'node' && place.node === node);
  // A marked packet is rewritten in POSTROUTING, which one that arrives and stays on the host never sees.
  const masquerade = past.masquerade || (marked && !(toHost && entry !== 'host'));
  const now = { ...past, masquerade };
  if (toHost) return [{ verdict: 'delivered', ...now }];
  if (place.kind === 'outside') return [{ verdict: 'forwarded', ...now }];
  if (place.node === node) return [{ verdict: place.kind === 'pod' ? 'delivered' : 'forwarded', ...now }];
  const source = masquerade ? nodeAddress(world, node, familyOf(destination)) : from;
  return enter(world, { ...packet, node: place.node, entry: 'uplink', source }, now, hops + 1);
}
