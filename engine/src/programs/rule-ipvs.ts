/**
 * The match `ipvs` of iptables: is the frame a request that IPVS has translated, of a connection to this virtual server
 * (linux xt_ipvs.c). It holds behind IPVS's own hook only, and for no answer: the kernel looks for the connection by the
 * frame's ends turned around. `--vaddr` is one address, `--vproto` and `--vport` are given, as kube-proxy writes it.
 */
import { connFindOut, connPorts, connVirtual } from '../tables/ipvs-connections.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { PASS_REQUEST } from './ipvs-image.ts';

/** True if the frame is of a connection to the virtual server that the match at word `m` names. */
export function isOfVirtualServer(dp: Datapath, b: Burst, s: number, words: Int32Array, m: number): boolean {
  const ipvs = dp.ipvs;
  if (ipvs === null || ipvs.scratch.words[PASS_REQUEST] === 0 || b.proto[s] !== words[m + 1]) return false;
  const t = dp.ipvsState!.connections;
  const at = connFindOut(
    t,
    b.shard[s],
    b.node[s],
    b.family[s],
    b.proto[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    (b.dport[s] << 16) | b.sport[s],
  );
  if (at === -1 || (connPorts(t, at) & 0xffff) !== words[m + 2]) return false;
  if (connVirtual(t, at, 0) !== words[m + 3]) return false;
  if (b.family[s] === 4) return true;
  return (
    connVirtual(t, at, 1) === words[m + 4] &&
    connVirtual(t, at, 2) === words[m + 5] &&
    connVirtual(t, at, 3) === words[m + 6]
  );
}
