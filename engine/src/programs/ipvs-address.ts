/**
 * Addresses of kube-ipvs0: in the ipvs mode every node holds the addresses of Services as its own, so they are local to
 * its routing, to `addrtype` and to the choice of an error's source. Nothing of this exists in the other modes.
 */
import { findInSet, setInstance } from '../tables/ipset.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';

/** True if the frame's destination is an address of its node's kube-ipvs0. */
export function isBoundDestination(dp: Datapath, b: Burst, s: number): boolean {
  return dp.ipvs !== null && isBound(dp, b, s, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
}

/** True if the frame's source is an address of its node's kube-ipvs0. */
export function isBoundSource(dp: Datapath, b: Burst, s: number): boolean {
  return dp.ipvs !== null && isBound(dp, b, s, b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
}

function isBound(dp: Datapath, b: Burst, s: number, a0: number, a1: number, a2: number, a3: number): boolean {
  const image = dp.ipvs!;
  const set = b.family[s] === 4 ? image.localSet4 : image.localSet6;
  if (set === -1) return false;
  const instance = setInstance(image.sets, b.node[s], set);
  if (instance === -1) return false;
  dp.counters[COUNT_LOOKUPS]++;
  return findInSet(image.sets, instance, 0, a0, a1, a2, a3, 0, 0, 0, 0) !== -1;
}
