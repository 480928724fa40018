/**
 * kube-proxy in nftables mode, predicted: what becomes of the first packet of a new connection. Where it differs from the
 * iptables mode (FACTS §1.4, §5; kubernetes pkg/proxy/nftables/proxier.go):
 *
 *  1. Source ranges are asked before anything else, also where nobody serves the port.
 *  2. nodePorts listen on the node's first address of a family unless told otherwise, and never on loopback.
 *  3. A nodePort of no use is refused where nodePorts listen, and there only.
 *  4. A Service of no use is refused for everybody, also for what the node itself sends to external addresses.
 *  5. A ClusterIP rejects ports that it does not serve; an address of the service range that nobody has is dropped.
 */

import { balance, isInRange, type Past } from './kube-proxy-oracle.ts';
import {
  endText,
  type Frontend,
  findNodePort,
  findVip,
  hasAnyBackend,
  isInside,
  isLoopback,
  nodeAddress,
  nodeOwning,
  type Outcome,
  type Packet,
  placeOf,
} from './oracle.ts';
import { familyOf, type World } from './world.ts';

/** The default of the datapath's serviceCIDRs; worlds do not change it. */
const SERVICE_CIDRS = ['10.96.0.0/12', 'fd00:10:96::/112'];

/** Every way that the packet may go. */
export function predictNftables(world: World, packet: Packet): Outcome[] {
  return enter(world, packet, { backend: null, masquerade: false }, 0);
}

function enter(world: World, packet: Packet, past: Past, hops: number): Outcome[] {
  const end = (verdict: Outcome['verdict']): Outcome[] => [{ verdict, ...past }];
  if (hops > 4) return end('dropped');
  if (packet.entry !== 'host' && isLoopback(packet.destination)) return end('dropped');
  const vip = findVip(world, packet);
  if (vip?.kind === 'loadBalancer' && !isInRange(world, packet, vip)) return end('dropped');
  const frontend = vip ?? findListeningNodePort(world, packet);
  if (frontend === null) return carryOn(world, packet, past, false, hops);
  if (!hasAnyBackend(frontend, familyOf(packet.destination))) return end('rejected');
  const { backends, marked } = balance(world, packet, frontend);
  if (backends.length === 0) return end('dropped');
  return backends.flatMap((backend) => {
    const translated = { ...packet, destination: backend.address, port: backend.port };
    const hairpin = packet.source === backend.address;
    const here = { backend: endText(backend.address, backend.port), masquerade: past.masquerade };
    return carryOn(world, translated, here, marked || hairpin, hops);
  });
}

function findListeningNodePort(world: World, packet: Packet): Frontend | null {
  const { destination, node } = packet;
  const family = familyOf(destination);
  if (isLoopback(destination) || nodeOwning(world, destination) !== node) return null;
  const given = world.options.nodePortAddresses;
  const prefixes = given.filter((prefix) => familyOf(prefix) === family);
  if (given.length === 0) {
    if (destination !== nodeAddress(world, node, family)) return null;
  } else if (prefixes.length > 0 && !prefixes.some((prefix) => isInside(destination, prefix))) return null;
  return findNodePort(world, packet);
}

/** Routing, what the node forwards or sends to addresses of Services, POSTROUTING, and the next node. */
function carryOn(world: World, packet: Packet, past: Past, marked: boolean, hops: number): Outcome[] {
  const { source: from, destination, node, entry } = packet;
  if (entry !== 'host' && familyOf(from) === 4 && nodeOwning(world, from) === node) {
    return [{ verdict: 'dropped', ...past }];
  }
  const place = placeOf(world, destination);
  const toHost = isLoopback(destination) || (place.kind === 'node' && place.node === node);
  if (!toHost || entry === 'host') {
    const refused = refusalOfClusterIP(world, destination);
    if (refused !== null) return [{ verdict: refused, ...past }];
  }
  const masquerade = past.masquerade || (marked && !(toHost && entry !== 'host'));
  const now = { ...past, masquerade };
  if (toHost) return [{ verdict: 'delivered', ...now }];
  if (place.kind === 'outside') return [{ verdict: 'forwarded', ...now }];
  if (place.node === node) return [{ verdict: place.kind === 'pod' ? 'delivered' : 'forwarded', ...now }];
  const source = masquerade ? nodeAddress(world, node, familyOf(destination)) : from;
  return enter(world, { ...packet, node: place.node, entry: 'uplink', source }, now, hops + 1);
}

function refusalOfClusterIP(world: World, destination: string): 'rejected' | 'dropped' | null {
  if (world.services.some(({ clusterIPs }) => clusterIPs.includes(destination))) return 'rejected';
  return SERVICE_CIDRS.some((prefix) => isInside(destination, prefix)) ? 'dropped' : null;
}
