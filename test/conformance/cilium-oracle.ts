/**
 * Cilium's kube-proxy replacement as flatpath's ebpf mode has it, predicted: what becomes of the first packet of a new
 * connection.
 *
 * Source: FACTS §1.6, DESIGN §5 and §7 (cilium bpf/bpf_sock.c, bpf/bpf_lxc.c, bpf/lib/nodeport.h).
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
export function predictCilium(world: World, packet: Packet): Outcome[] {
  const bySocket =
    packet.protocol !== 'SCTP' && (packet.entry === 'host' || (packet.entry === 'pod' && world.options.socketLB));
  if (!bySocket) return enter(world, packet, NOTHING_YET, 0);
  const frontend = findFrontend(world, packet);
  if (frontend === null) return enter(world, packet, NOTHING_YET, 0);
  return translate(world, packet, frontend, (translated, past) => {
    const leavesLoopback = isLoopback(packet.source) && !isLoopback(translated.destination);
    const source = leavesLoopback ? nodeAddress(world, packet.node, familyOf(packet.source)) : packet.source;
    return enter(world, { ...translated, source }, past, 0);
  });
}

interface Past {
  readonly backend: string | null;
  readonly masquerade: boolean;
}

const NOTHING_YET: Past = { backend: null, masquerade: false };

/** At an interface. */
function enter(world: World, packet: Packet, past: Past, hops: number): Outcome[] {
  const end = (verdict: Outcome['verdict']): Outcome[] => [{ verdict, ...past }];
  if (hops > 4) return end('dropped');
  if (packet.entry !== 'host' && isLoopback(packet.destination)) return end('dropped');
  // Frames of the host meet no balancing: its sockets were balanced.
  const frontend = packet.entry === 'host' ? null : findFrontend(world, packet);
  if (frontend === null) return carryOn(world, packet, past, hops);
  if (packet.entry === 'pod') {
    return translate(world, packet, frontend, (translated, now) => {
      // A pod that meets itself sees the address 169.254.42.1 (or its IPv6 twin).
      const itself = translated.destination === packet.source;
      return carryOn(world, translated, { ...now, masquerade: itself }, hops);
    });
  }
  if (frontend.kind === 'loadBalancer' && !isInRange(packet, frontend)) return end('dropped');
  if (frontend.kind === 'clusterIP' && !world.options.externalClusterIP) return end('dropped');
  return translate(world, packet, frontend, (translated, now) => {
    const place = placeOf(world, translated.destination);
    const staysHere = place.kind !== 'outside' && place.kind !== 'pod-cidr' && place.node === packet.node;
    const isRemote = place.kind !== 'outside' && place.node !== packet.node;
    if (staysHere || (isRemote && world.options.loadBalancerMode === 'dsr')) {
      return carryOn(world, translated, now, hops);
    }
    // Cilium masquerades no SCTP.
    if (packet.protocol === 'SCTP') return [{ verdict: 'dropped', ...now }];
    const source = nodeAddress(world, packet.node, familyOf(packet.destination));
    return carryOn(world, { ...translated, source }, { ...now, masquerade: true }, hops);
  });
}

/** Addresses first, then nodePorts: on this node for the uplink, on any for clients in the cluster. */
function findFrontend(world: World, packet: Packet): Frontend | null {
  const exact = findVip(world, packet);
  if (exact !== null) return exact;
  const { destination, entry, node } = packet;
  if (isLoopback(destination)) return entry === 'host' ? findNodePort(world, packet) : null;
  const owner = nodeOwning(world, destination);
  if (owner === null || (entry === 'uplink' && owner !== node)) return null;
  const prefixes = world.options.nodePortAddresses.filter((prefix) => familyOf(prefix) === familyOf(destination));
  if (prefixes.length > 0 && !prefixes.some((prefix) => isInside(destination, prefix))) return null;
  return findNodePort(world, packet);
}

function isInRange(packet: Packet, { service }: Frontend): boolean {
  const ranges = rangesOf(service, familyOf(packet.destination));
  return ranges.length === 0 || ranges.some((range) => isInside(packet.source, range));
}

function translate(
  world: World,
  packet: Packet,
  frontend: Frontend,
  next: (translated: Packet, past: Past) => Outcome[],
): Outcome[] {
  const family = familyOf(packet.destination);
  const backends = candidates(world, packet, frontend);
  if (backends.length === 0) {
    return [{ verdict: hasAnyBackend(frontend, family) ? 'dropped' : 'rejected', ...NOTHING_YET }];
  }
  return backends.flatMap((backend) => {
    // SCTP's checksum covers the ports, so Cilium cannot rewrite them.
    if (packet.protocol === 'SCTP' && backend.port !== packet.port) return [{ verdict: 'dropped', ...NOTHING_YET }];
    const translated = { ...packet, destination: backend.address, port: backend.port };
    return next(translated, { backend: endText(backend.address, backend.port), masquerade: false });
  });
}

/** externalTrafficPolicy binds what comes in by the uplink; internalTrafficPolicy binds a ClusterIP. */
function candidates(world: World, packet: Packet, frontend: Frontend): Backend[] {
  const family = familyOf(packet.destination);
  const bound = frontend.kind === 'clusterIP' || packet.entry === 'uplink';
  if (bound && isPolicyLocal(frontend)) return localBackends(frontend, family, packet.node);
  return clusterBackends(world, frontend, family, packet.node);
}

function carryOn(world: World, packet: Packet, past: Past, hops: number): Outcome[] {
  const { destination, node } = packet;
  const place = placeOf(world, destination);
  if (isLoopback(destination) || (place.kind === 'node' && place.node === node))
    return [{ verdict: 'delivered', ...past }];
  if (place.kind === 'outside') return [{ verdict: 'forwarded', ...past }];
  if (place.node === node) return [{ verdict: place.kind === 'pod' ? 'delivered' : 'forwarded', ...past }];
  return enter(world, { ...packet, node: place.node, entry: 'uplink' }, past, hops + 1);
}
