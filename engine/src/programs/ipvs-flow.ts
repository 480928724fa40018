/**
 * IPVS as conntrack sees it: which of its entries are translated by IPVS and which by rules.
 *
 * An entry does not say who translated it; the connection that its client opened at a virtual server does, and the two
 * end together. So an entry is IPVS's exactly as long as that connection stands.
 */
import { CT_REPLY, ctDst, ctFlags, ctPorts, ctProto, ctSrc, ctXDst, ctXPorts, ctXSrc } from '../tables/conntrack.ts';
import { connFindIn } from '../tables/ipvs-connections.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { PASS_REQUEST } from './ipvs-image.ts';
import { conntrackOf } from './translate.ts';

/** True if the frame's entry (lane `ct`) translates anything. */
export function isTranslatedFlow(dp: Datapath, b: Burst, s: number): boolean {
  const ct = conntrackOf(dp, b, s);
  const slot = b.ct[s];
  let changed = ctPorts(ct, slot) ^ ctXPorts(ct, slot);
  for (let i = 0; i < ct.addressWords; i++) {
    changed |= (ctDst(ct, slot, i) ^ ctXDst(ct, slot, i)) | (ctSrc(ct, slot, i) ^ ctXSrc(ct, slot, i));
  }
  return changed !== 0;
}

/** True if the frame is of the original direction of an entry (lane `ct`) whose destination IPVS translates. */
export function isVirtualRequest(dp: Datapath, b: Burst, s: number): boolean {
  const ct = conntrackOf(dp, b, s);
  return (ctFlags(ct, b.ct[s]) & CT_REPLY) === 0 && isTranslatedFlow(dp, b, s) && isVirtualFlow(dp, b, s);
}

/** True if IPVS has translated the frame's flow, or is translating its first frame; false in the other modes. */
export function isOfIpvs(dp: Datapath, b: Burst, s: number): boolean {
  if (dp.ipvs === null) return false;
  return dp.ipvs.scratch.words[PASS_REQUEST] === 1 || (b.ct[s] !== -1 && isVirtualFlow(dp, b, s));
}

/** True if the client of the frame's entry (lane `ct`) has a connection at a virtual server. */
export function isVirtualFlow(dp: Datapath, b: Burst, s: number): boolean {
  const ct = conntrackOf(dp, b, s);
  const slot = b.ct[s];
  const reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  const wide = ct.addressWords === 4;
  const ports = reply ? (ctXPorts(ct, slot) << 16) | (ctXPorts(ct, slot) >>> 16) : ctPorts(ct, slot);
  dp.counters[COUNT_LOOKUPS]++;
  const at = connFindIn(
    dp.ipvsState!.connections,
    b.shard[s],
    b.node[s],
    b.family[s],
    ctProto(ct, slot),
    reply ? ctXDst(ct, slot, 0) : ctSrc(ct, slot, 0),
    wide ? (reply ? ctXDst(ct, slot, 1) : ctSrc(ct, slot, 1)) : 0,
    wide ? (reply ? ctXDst(ct, slot, 2) : ctSrc(ct, slot, 2)) : 0,
    wide ? (reply ? ctXDst(ct, slot, 3) : ctSrc(ct, slot, 3)) : 0,
    reply ? ctXSrc(ct, slot, 0) : ctDst(ct, slot, 0),
    wide ? (reply ? ctXSrc(ct, slot, 1) : ctDst(ct, slot, 1)) : 0,
    wide ? (reply ? ctXSrc(ct, slot, 2) : ctDst(ct, slot, 2)) : 0,
    wide ? (reply ? ctXSrc(ct, slot, 3) : ctDst(ct, slot, 3)) : 0,
    ports,
  );
  return at !== -1;
}
