/**
 * Martians: addresses that the kernel refuses on a frame from outside the node, before or in its routing decision.
 *
 * IPv6 refuses on arrival (ip6_rcv_core): loopback on either side, a group as source.
 * IPv4 refuses when it routes, behind the rules of PREROUTING (ip_route_input_slow): a source that is a group, in 0/8,
 * loopback, or an address of the node itself; a destination in 0/8, or loopback, unless net.ipv4.conf.*.route_localnet is
 * on, which kube-proxy sets for nodePorts on 127.0.0.1.
 * Groups are not forwarded (no multicast router runs): what the node listens to is delivered to it, the rest refused.
 */
import type { Burst } from '../wire/burst.ts';
import { type Datapath, kernelOf } from './datapath.ts';
import { OWNER_NODE, ownerIndex, ownerKind } from './owner.ts';
import { findSourceOwner } from './route.ts';

/** True if an IPv6 frame may not even enter. */
export function isMartianOnArrival(b: Burst, s: number): boolean {
  if (b.family[s] === 4) return false;
  if (b.src0[s] >>> 24 === 0xff) return true;
  if ((b.src0[s] | b.src1[s] | b.src2[s]) === 0 && b.src3[s] === 1) return true;
  return (b.dst0[s] | b.dst1[s] | b.dst2[s]) === 0 && b.dst3[s] === 1;
}

/** True if the routing decision refuses the frame, as its addresses stand behind PREROUTING. */
export function isMartianInRouting(dp: Datapath, b: Burst, s: number): boolean {
  if (b.family[s] === 6) return b.dst0[s] >>> 24 === 0xff && !isLinkGroup6(b.dst0[s]);
  const src = b.src0[s];
  const dst = b.dst0[s];
  if (src >>> 28 === 0xe || src === -1 || src >>> 24 === 127) return true;
  if (dst === -1) return false;
  if (src >>> 24 === 0 || dst >>> 24 === 0 || dst >>> 28 === 0xe) return true;
  if (dst >>> 24 === 127 && !kernelOf(dp).routeLocalnet) return true;
  const owner = findSourceOwner(dp, b, s);
  return owner >= 0 && ownerKind(owner) === OWNER_NODE && ownerIndex(owner) === b.node[s];
}

/** True for a destination that every host listens to: 255.255.255.255 and the groups of the link. */
export function isForEveryHost(b: Burst, s: number): boolean {
  return b.family[s] === 4 ? b.dst0[s] === -1 : isLinkGroup6(b.dst0[s]);
}

/** ff02::/16. */
function isLinkGroup6(a0: number): boolean {
  return a0 >>> 16 === 0xff02;
}
