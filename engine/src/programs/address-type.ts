/**
 * What kind of address a frame carries, as the node's routing sees it (ADDRTYPE_… of tables/rule-list.ts): `addrtype` of
 * iptables, `fib … type` of nftables.
 *
 * Local are the node's own addresses (in the ipvs mode those of kube-ipvs0 too) and the loopback ranges; groups and the limited broadcast tell themselves; all else
 * is unicast. On a node with numbered interfaces (interface.ts) the routing table answers.
 */
import { ADDRTYPE_BROADCAST, ADDRTYPE_LOCAL, ADDRTYPE_MULTICAST, ADDRTYPE_UNICAST } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { findDestinationRoute, findSourceRoute, interfacesOf } from './interface.ts';
import { isBoundDestination, isBoundSource } from './ipvs-address.ts';
import { OWNER_NODE, ownerIndex, ownerKind } from './owner.ts';
import { findDestinationOwner, findSourceOwner } from './route.ts';
import { addressType } from './rule-match-place.ts';

const LOOPBACK4 = 127;

/** Type of the frame's source. */
export function sourceAddressType(dp: Datapath, b: Burst, s: number): number {
  if (b.family[s] === 4) {
    const type = fixedType4(b.src0[s]);
    if (type !== 0) return type;
  } else {
    const type = fixedType6(b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
    if (type !== 0) return type;
  }
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces !== null) return addressType(interfaces, findSourceRoute(dp, interfaces, b, s));
  if (isBoundSource(dp, b, s)) return ADDRTYPE_LOCAL;
  return isOwnNode(findSourceOwner(dp, b, s), b.node[s]) ? ADDRTYPE_LOCAL : ADDRTYPE_UNICAST;
}

/** Type of the frame's destination. */
export function destinationAddressType(dp: Datapath, b: Burst, s: number): number {
  if (b.family[s] === 4) {
    const type = fixedType4(b.dst0[s]);
    if (type !== 0) return type;
  } else {
    const type = fixedType6(b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
    if (type !== 0) return type;
  }
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces !== null) return addressType(interfaces, findDestinationRoute(dp, interfaces, b, s));
  if (isBoundDestination(dp, b, s)) return ADDRTYPE_LOCAL;
  return isOwnNode(findDestinationOwner(dp, b, s), b.node[s]) ? ADDRTYPE_LOCAL : ADDRTYPE_UNICAST;
}

/** Types that the address alone tells; 0 for others. */
function fixedType4(address: number): number {
  if (address >>> 24 === LOOPBACK4) return ADDRTYPE_LOCAL;
  if (address >>> 28 === 0xe) return ADDRTYPE_MULTICAST;
  // 0/8 as a whole (ipv4_is_zeronet).
  return address === -1 || address >>> 24 === 0 ? ADDRTYPE_BROADCAST : 0;
}

function fixedType6(a0: number, a1: number, a2: number, a3: number): number {
  if ((a0 | a1 | a2) === 0 && a3 === 1) return ADDRTYPE_LOCAL;
  return a0 >>> 24 === 0xff ? ADDRTYPE_MULTICAST : 0;
}

function isOwnNode(owner: number, node: number): boolean {
  return owner >= 0 && ownerKind(owner) === OWNER_NODE && ownerIndex(owner) === node;
}
