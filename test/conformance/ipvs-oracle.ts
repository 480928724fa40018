/**
 * kube-proxy in ipvs mode, predicted: what becomes of the first packet of a new connection.
 *
 * Every node holds every address of a Service itself (kube-ipvs0), so a packet to one goes no further than INPUT, where
 * IPVS waits, or is of a local process and meets IPVS in OUTPUT.
 * Source: FACTS §1.3 and §5 points 11 and 14 (kubernetes pkg/proxy/ipvs/proxier.go and README.md), the kernel's routing.
 */

import {
  allBackends,
  type Backend,
  clusterBackends,
  endText,
  type Frontend,
  findNodePort,
  findVip,
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
import { familyOf, type World, type WorldService } from './world.ts';

/** Every way that the packet may go. */
export function predictIpvs(world: World, packet: Packet): Outcome[] {
  // A local process that connects to an address of its node has that address too.
  const ownsTarget = packet.entry === 'host' && isBound(world, packet.node, packet.destination);
  const source = ownsTarget ? packet.destination : packet.source;
  return enter(world, { ...packet, source }, { backend: null, masquerade: false }, 0);
}

interface Past {
  readonly backend: string | null;
  readonly masquerade: boolean;
}

/** Services that kube-proxy of a family serves. */
function served(world: World, address: string): WorldService[] {
  return world.services.filter(({ clusterIPs }) => clusterIPs.some((ip) => familyOf(ip) === familyOf(address)));
}

/** kube-ipvs0 of the node holds the address: one of a Service that no other interface has. */
function isBound(world: World, node: string, address: string): boolean {
  if (nodeOwning(world, address) === node) return false;
  return served(world, address).some(
    (own) =>
      own.clusterIPs.includes(address) ||
      own.externalIPs.includes(address) ||
      own.ingress.some(({ ip, proxy }) => ip === address && !proxy),
  );
}

function isLocal(world: World, node: string, address: string): boolean {
  return isLoopback(address) || nodeOwning(world, address) === node || isBound(world, node, address);
}

function enter(world: World, packet: Packet, past: Past, hops: number): Outcome[] {
  const { node, entry, source, destination } = packet;
  const end = (verdict: Outcome['verdict']): Outcome[] => [{ verdict, ...past }];
  if (hops > 4) return end('dropped');
  // Nothing comes in for a loopback address, nor in IPv4 from an address that the node has.
  if (entry !== 'host') {
    if (isLoopback(destination)) return end('dropped');
    if (familyOf(source) === 4 && isLocal(world, node, source)) return end('dropped');
  }
  if (!isLocal(world, node, destination)) return carryOn(world, packet, past, false, hops);
  const frontend = findVip(world, packet) ?? findListeningNodePort(world, packet);
  const marked = isMarked(world, packet, frontend);
  // IPVS in OUTPUT comes before the filter rules, in INPUT behind them.
  if (entry === 'host') {
    return frontend === null
      ? carryOn(world, packet, past, marked, hops)
      : balance(world, packet, frontend, marked, past, hops);
  }
  const refused = filterInput(world, packet);
  if (refused !== null) return end(refused);
  return frontend === null ? end('delivered') : balance(world, packet, frontend, marked, past, hops);
}

/** The filter rules of INPUT: no port of the host at an address of a Service, and source ranges. */
function filterInput(world: World, packet: Packet): 'rejected' | 'dropped' | null {
  const vip = findVip(world, packet);
  if (vip === null) return isBound(world, packet.node, packet.destination) ? 'rejected' : null;
  return vip.kind === 'loadBalancer' && !isInRange(world, packet, vip) ? 'dropped' : null;
}

/** A nodePort on an address of this node that nodePortAddresses lets listen; never loopback. */
function findListeningNodePort(world: World, packet: Packet): Frontend | null {
  const { destination, node } = packet;
  if (isLoopback(destination) || nodeOwning(world, destination) !== node) return null;
  const prefixes = world.options.nodePortAddresses.filter((prefix) => familyOf(prefix) === familyOf(destination));
  if (prefixes.length > 0 && !prefixes.some((prefix) => isInside(destination, prefix))) return null;
  return findNodePort(world, packet);
}

/** The nat rules before routing: whether the packet is to be masqueraded. */
function isMarked(world: World, packet: Packet, frontend: Frontend | null): boolean {
  if (isLoopback(packet.source)) return false;
  if (frontend !== null && frontend.kind !== 'nodePort') {
    if (frontend.kind !== 'clusterIP') return !isPolicyLocal(frontend);
    if (world.options.masqueradeAll) return true;
    const local = isLocalPod(world, packet);
    // Without a detector only what comes from an address of the Service itself: a local process.
    return local === 'unknown' ? packet.source === packet.destination : local === 'no';
  }
  // The sets of nodePorts are asked for every local address (those of SCTP name theirs), if one listens at all.
  const port = findNodePort(world, packet);
  if (port === null || isPolicyLocal(port) || !listensAnywhere(world, packet)) return false;
  return packet.protocol === 'SCTP' ? frontend !== null : true;
}

function listensAnywhere(world: World, { node, destination }: Packet): boolean {
  const family = familyOf(destination);
  const prefixes = world.options.nodePortAddresses.filter((prefix) => familyOf(prefix) === family);
  const own = world.nodes
    .find(({ name }) => name === node)!
    .addresses.filter((address) => familyOf(address) === family);
  return own.some((address) => prefixes.length === 0 || prefixes.some((prefix) => isInside(address, prefix)));
}

/** loadBalancerSourceRanges; a node in range may also speak from the load balancer's own address. */
function isInRange(world: World, packet: Packet, { service }: Frontend): boolean {
  const family = familyOf(packet.destination);
  const ranges = rangesOf(service, family);
  if (ranges.length === 0 || ranges.some((range) => isInside(packet.source, range))) return true;
  return isNodeInRange(world, packet, ranges) && packet.source === packet.destination;
}

function isNodeInRange(world: World, { node, destination }: Packet, ranges: readonly string[]): boolean {
  return ranges.some((range) => isInside(nodeAddress(world, node, familyOf(destination)), range));
}

/** IPVS: refuses without a real server, else takes any of them. */
function balance(
  world: World,
  packet: Packet,
  frontend: Frontend,
  marked: boolean,
  past: Past,
  hops: number,
): Outcome[] {
  const backends = realServers(world, packet, frontend);
  if (backends.length === 0) return [{ verdict: 'rejected', ...past }];
  return backends.flatMap((backend) => {
    const translated = { ...packet, destination: backend.address, port: backend.port };
    const here = { backend: endText(backend.address, backend.port), masquerade: past.masquerade };
    if (isBarred(world, packet, frontend)) return [{ verdict: 'dropped', ...here } as const];
    return carryOn(world, translated, here, marked, hops);
  });
}

/** Policy Local falls back to what policy Cluster has, which is nothing where no traffic of the port goes by it. */
function realServers(world: World, { node, destination }: Packet, frontend: Frontend): Backend[] {
  const family = familyOf(destination);
  const everywhere = clusterBackends(world, frontend, family, node);
  if (!isPolicyLocal(frontend)) return everywhere;
  const here = localBackends(frontend, family, node);
  if (here.length > 0) return here;
  const { service, port } = frontend;
  // The cluster gives NodePort and LoadBalancer Services the nodePorts that they do not name.
  const external =
    port.nodePort !== 0 ||
    service.type !== 'ClusterIP' ||
    service.externalIPs.some((ip) => familyOf(ip) === family) ||
    service.ingress.some(({ ip, proxy }) => familyOf(ip) === family && !proxy);
  return !service.internalLocal || external ? everywhere : [];
}

/** KUBE-IPVS-OUT-FILTER: the node at a load balancer whose ranges leave it out. */
function isBarred(world: World, packet: Packet, { kind, service }: Frontend): boolean {
  if (packet.entry !== 'host' || kind !== 'loadBalancer' || packet.source !== packet.destination) return false;
  const ranges = rangesOf(service, familyOf(packet.destination));
  return ranges.length > 0 && !isNodeInRange(world, packet, ranges);
}

/** KUBE-LOOP-BACK: the node's own endpoints, by address, port and protocol, of any Service and in any state. */
function isHairpin(world: World, { node, source, destination, port, protocol }: Packet): boolean {
  if (source !== destination) return false;
  return served(world, destination).some((service) =>
    service.ports.some(
      (own) =>
        own.protocol === protocol &&
        allBackends({ service, port: own, kind: 'clusterIP' }, familyOf(destination)).some(
          (from) => from.node === node && from.address === destination && from.port === port,
        ),
    ),
  );
}

/** What detect-local says of a packet; `unknown` where kube-proxy cannot tell, as without a prefix of the family. */
function isLocalPod(world: World, packet: Packet): 'yes' | 'no' | 'unknown' {
  const { detectLocalMode, clusterCIDR } = world.options;
  const family = familyOf(packet.source);
  const isFrom = (prefixes: readonly string[]): 'yes' | 'no' | 'unknown' => {
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
  const toHost = isLocal(world, node, destination);
  const own = nodeAddress(world, node, familyOf(destination));
  // The hairpin rule stands first and keeps the port, so the node's own address stays as it is; the mark's changes ports.
  const rewritten = isHairpin(world, packet) ? from !== own : marked;
  // It is done in POSTROUTING, which a packet that arrives and stays on the host never sees.
  const masquerade = past.masquerade || (rewritten && !(toHost && entry !== 'host'));
  const now = { ...past, masquerade };
  if (toHost) {
    // What the node sends to itself comes in by lo and meets INPUT.
    const refused = entry === 'host' ? filterInput(world, { ...packet, source: masquerade ? own : from }) : null;
    return [{ verdict: refused ?? 'delivered', ...now }];
  }
  const place = placeOf(world, destination);
  if (place.kind === 'outside') return [{ verdict: 'forwarded', ...now }];
  if (place.node === node) return [{ verdict: place.kind === 'pod' ? 'delivered' : 'forwarded', ...now }];
  const source = masquerade ? own : from;
  return enter(world, { ...packet, node: place.node, entry: 'uplink', source }, now, hops + 1);
}
