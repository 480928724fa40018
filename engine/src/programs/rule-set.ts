/**
 * The match `set` of iptables: is what the frame carries in an ipset (linux xt_set.c, ip_set_getport.c).
 *
 * Each dimension of the set is the frame's source or destination, as the rule says. A set that the node lacks or that is
 * of the other family holds nothing. A port counts with its protocol; of an ICMP message it is type and code, of a
 * protocol without ports 0. bitmap:port holds ports of TCP and UDP only. An element with `nomatch` that is found is a no.
 */
import { findInSet, isSetOfFamily, SET_BITMAP_PORT, SET_DIM_ADDRESS, setInstance, setType } from '../tables/ipset.ts';
import type { Burst } from '../wire/burst.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { isIcmp } from './flow-key.ts';
import { MAP_SETS } from './ipvs-image.ts';
import { EVENT_MAP, record2 } from './record.ts';

const PROTO_UDPLITE = 136;

/** True if the frame is in a set. @param sides bit i: dimension i is the frame's source */
export function isInSet(dp: Datapath, b: Burst, s: number, set: number, sides: number): boolean {
  const element = lookUp(dp, b, s, set, sides);
  const isIn = element !== -1 && (element & 1) === 0;
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_SETS + set, isIn ? element >> 1 : -1);
  return isIn;
}

/** Element id << 1 | nomatch; -1 for none. */
function lookUp(dp: Datapath, b: Burst, s: number, set: number, sides: number): number {
  const sets = dp.iptables === null ? dp.ipvs!.sets : dp.iptables.sets;
  if (sets === null) return -1;
  const instance = setInstance(sets, b.node[s], set);
  if (instance === -1 || !isSetOfFamily(sets, instance, b.family[s])) return -1;
  const type = setType(sets, instance);
  let port = 0;
  let addresses = 0;
  let side1 = 0;
  let side2 = 0;
  for (let i = 0; type >> (2 * i) !== 0; i++) {
    const side = (sides >> i) & 1;
    if (((type >> (2 * i)) & 3) === SET_DIM_ADDRESS) {
      if (addresses++ === 0) side1 = side;
      else side2 = side;
      continue;
    }
    port = setPort(b, s, side);
    if (type === SET_BITMAP_PORT) {
      if (b.proto[s] !== PROTO_TCP && b.proto[s] !== PROTO_UDP) return -1;
      port &= 0xffff;
    }
  }
  dp.counters[COUNT_LOOKUPS]++;
  const one = addresses > 0;
  const two = addresses > 1;
  const isSource1 = side1 === 1;
  const isSource2 = side2 === 1;
  return findInSet(
    sets,
    instance,
    port,
    one ? (isSource1 ? b.src0[s] : b.dst0[s]) : 0,
    one ? (isSource1 ? b.src1[s] : b.dst1[s]) : 0,
    one ? (isSource1 ? b.src2[s] : b.dst2[s]) : 0,
    one ? (isSource1 ? b.src3[s] : b.dst3[s]) : 0,
    two ? (isSource2 ? b.src0[s] : b.dst0[s]) : 0,
    two ? (isSource2 ? b.src1[s] : b.dst1[s]) : 0,
    two ? (isSource2 ? b.src2[s] : b.dst2[s]) : 0,
    two ? (isSource2 ? b.src3[s] : b.dst3[s]) : 0,
  );
}

/** Protocol << 16 | port of one side of the frame. */
function setPort(b: Burst, s: number, side: number): number {
  const proto = b.proto[s];
  const hasPorts = proto === PROTO_TCP || proto === PROTO_UDP || proto === PROTO_SCTP || proto === PROTO_UDPLITE;
  if (hasPorts) return (proto << 16) | (side === 1 ? b.sport[s] : b.dport[s]);
  return isIcmp(proto) ? (proto << 16) | b.info[s] : proto << 16;
}
