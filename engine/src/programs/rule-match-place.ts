/**
 * Matches about where a frame stands on its node: types of addresses by the routing table, reverse path, bridges.
 *
 * On a node with numbered interfaces (interface.ts) the routing table answers, as the kernel's does; elsewhere the owner
 * table knows the node's own addresses and nothing of bridges or other routes.
 */
import {
  ADDRTYPE_ANYCAST,
  ADDRTYPE_BLACKHOLE,
  ADDRTYPE_BROADCAST,
  ADDRTYPE_LOCAL,
  ADDRTYPE_MULTICAST,
  ADDRTYPE_PROHIBIT,
  ADDRTYPE_UNICAST,
  ADDRTYPE_UNREACHABLE,
  IFACE_LOOPBACK,
  PHYSDEV_IS_IN,
  RPFILTER_ACCEPT_LOCAL,
  RPFILTER_LOOSE,
  TYPE_DST_IN,
  TYPE_DST_OUT,
  TYPE_SRC_IN,
} from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import {
  addressDevice,
  findDestinationRoute,
  findSourceRoute,
  type Interfaces,
  interfacesOf,
  isBridge,
  RTN_ANYCAST,
  RTN_BLACKHOLE,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_MULTICAST,
  RTN_PROHIBIT,
  RTN_UNICAST,
  RTN_UNREACHABLE,
  routeType,
} from './interface.ts';
import { FLOW_IN, FLOW_IN_DEVICE, FLOW_OUT_DEVICE } from './netfilter-scratch.ts';
import { OWNER_NODE, ownerIndex, ownerKind } from './owner.ts';
import { findSourceOwner } from './route.ts';

/** ADDRTYPE_… of a route; an address without one is unicast, as for the kernel's inet_addr_type. */
export function addressType(interfaces: Interfaces, row: number): number {
  switch (routeType(interfaces, row)) {
    case RTN_LOCAL:
      return ADDRTYPE_LOCAL;
    case RTN_BROADCAST:
      return ADDRTYPE_BROADCAST;
    case RTN_ANYCAST:
      return ADDRTYPE_ANYCAST;
    case RTN_MULTICAST:
      return ADDRTYPE_MULTICAST;
    case RTN_BLACKHOLE:
      return ADDRTYPE_BLACKHOLE;
    case RTN_UNREACHABLE:
      return ADDRTYPE_UNREACHABLE;
    case RTN_PROHIBIT:
      return ADDRTYPE_PROHIBIT;
  }
  return ADDRTYPE_UNICAST;
}

/** addrtype with --limit-iface-in or -out: an address that another interface holds is unicast. */
export function holdsTypeOn(dp: Datapath, b: Burst, s: number, types: number, which: number): boolean {
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null) return false;
  const flow = dp.ports.scratch.flow;
  const device = flow[which === TYPE_SRC_IN || which === TYPE_DST_IN ? FLOW_IN_DEVICE : FLOW_OUT_DEVICE];
  const row =
    which === TYPE_DST_IN || which === TYPE_DST_OUT
      ? findDestinationRoute(dp, interfaces, b, s)
      : findSourceRoute(dp, interfaces, b, s);
  const type = addressDevice(interfaces, row) === device ? addressType(interfaces, row) : ADDRTYPE_UNICAST;
  return (type & types) !== 0;
}

/**
 * rpfilter: the route toward the source leads out of the interface that the frame came in by, which interface.ts makes
 * true for every source that has a route at all.
 */
export function holdsReversePath(dp: Datapath, b: Burst, s: number, flags: number): boolean {
  const flow = dp.ports.scratch.flow;
  if (flow[FLOW_IN] === IFACE_LOOPBACK) return true;
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null) {
    const owner = findSourceOwner(dp, b, s);
    const isOwn = owner >= 0 && ownerKind(owner) === OWNER_NODE && ownerIndex(owner) === b.node[s];
    return !isOwn || flags === (RPFILTER_ACCEPT_LOCAL | RPFILTER_LOOSE);
  }
  const row = findSourceRoute(dp, interfaces, b, s);
  const type = routeType(interfaces, row);
  if (type !== RTN_UNICAST && (type !== RTN_LOCAL || (flags & RPFILTER_ACCEPT_LOCAL) === 0)) return false;
  return (flags & RPFILTER_LOOSE) !== 0 || addressDevice(interfaces, row) === flow[FLOW_IN_DEVICE];
}

/** physdev: what comes in and leaves by one bridge is bridged; what only comes in by one came by one of its ports. */
export function holdsBridge(dp: Datapath, b: Burst, s: number, which: number): boolean {
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null) return false;
  const flow = dp.ports.scratch.flow;
  if (!isBridge(interfaces, flow[FLOW_IN_DEVICE])) return false;
  return which === PHYSDEV_IS_IN || flow[FLOW_OUT_DEVICE] === flow[FLOW_IN_DEVICE];
}
