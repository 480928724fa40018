/**
 * The routing decision of a node: where the destination of a frame lies as seen from there.
 *
 * 1. 127.0.0.0/8 and ::1 are the node itself; in the ipvs mode the addresses of its kube-ipvs0 too.
 * 2. The owner of the destination decides: a pod here, this node, or another node that has to be crossed first.
 * 3. An address of a pod CIDR that no pod owns goes to the CIDR's node and leaves the cluster's knowledge there.
 * 4. Everything else leaves by the uplink.
 */
import { lpm4Find } from '../tables/lpm4.ts';
import { lpm6Find } from '../tables/lpm6.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { isBoundDestination } from './ipvs-address.ts';
import { OWNER_NODE, OWNER_POD, OWNER_POD_CIDR, ownerIndex, ownerKind } from './owner.ts';

/** Kinds of a route; a route is `kind << 24 | index`. */
export const ROUTE_HOST = 1;
/** A pod of this node; the index is its endpoint. */
export const ROUTE_POD = 2;
/** Another node; the index is the node. */
export const ROUTE_NODE = 3;
/** Out of the cluster. */
export const ROUTE_OUT = 4;
/** The sending pod's own loopback, of an event only: what a pod sends to itself meets no node. The index is its endpoint. */
export const ROUTE_LOOPBACK = 5;

/** Owner of the frame's destination, -1 for an address outside the cluster. */
export function findDestinationOwner(dp: Datapath, b: Burst, s: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  return b.family[s] === 4
    ? lpm4Find(dp.topology.owners4, b.dst0[s])
    : lpm6Find(dp.topology.owners6, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
}

/** Owner of the frame's source, -1 for an address outside the cluster. */
export function findSourceOwner(dp: Datapath, b: Burst, s: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  return b.family[s] === 4
    ? lpm4Find(dp.topology.owners4, b.src0[s])
    : lpm6Find(dp.topology.owners6, b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
}

export function isLoopbackDestination(b: Burst, s: number): boolean {
  return b.family[s] === 4 ? b.dst0[s] >>> 24 === 127 : (b.dst0[s] | b.dst1[s] | b.dst2[s]) === 0 && b.dst3[s] === 1;
}

/** The route of the frame's destination from its present node, `kind << 24 | index`. */
export function findRoute(dp: Datapath, b: Burst, s: number): number {
  if (isBoundDestination(dp, b, s)) return ROUTE_HOST << 24;
  const node = b.node[s];
  const owner = findDestinationOwner(dp, b, s);
  if (owner >= 0) {
    const index = ownerIndex(owner);
    switch (ownerKind(owner)) {
      case OWNER_POD: {
        const home = dp.topology.endpointNode[index];
        return home === node ? (ROUTE_POD << 24) | index : (ROUTE_NODE << 24) | home;
      }
      case OWNER_NODE:
        return index === node ? ROUTE_HOST << 24 : (ROUTE_NODE << 24) | index;
      case OWNER_POD_CIDR:
        return index === node ? ROUTE_OUT << 24 : (ROUTE_NODE << 24) | index;
    }
  }
  return isLoopbackDestination(b, s) ? ROUTE_HOST << 24 : ROUTE_OUT << 24;
}

export function routeKind(route: number): number {
  return route >> 24;
}

export function routeIndex(route: number): number {
  return route & 0xffffff;
}
