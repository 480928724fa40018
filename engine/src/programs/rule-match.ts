/**
 * The matches of a rule: does this frame, as its lanes stand now, satisfy one of them.
 *
 * Guarantees: every MATCH_… of tables/rule-list.ts, for both families. A match of the other family's address is false.
 * Two have effects: `recent` may stamp the source, and `statistic` is a choice point: the flow's hash decides, or the
 * recorder's script where the frame is a probe.
 */
import { affinityFind, affinityMerge, affinitySet } from '../tables/affinity.ts';
import { CT_REPLY, ctDst, ctFlags, ctSrc, ctXDst, ctXSrc } from '../tables/conntrack.ts';
import { takeChoice } from '../tables/event-ring.ts';
import { mix32 } from '../tables/hash.ts';
import {
  ADDRTYPE_MULTICAST,
  ADDRTYPE_UNICAST,
  ADDRTYPE_UNSPEC,
  CTSTATE_DNAT,
  CTSTATE_ESTABLISHED,
  CTSTATE_INVALID,
  CTSTATE_NEW,
  CTSTATE_RELATED,
  CTSTATE_SNAT,
  CTSTATE_UNTRACKED,
  MATCH_CTSTATE,
  MATCH_DPORT,
  MATCH_DST_OWNER,
  MATCH_DST_TYPE,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_ICMP,
  MATCH_IN_IFACE,
  MATCH_IPVS,
  MATCH_MARK,
  MATCH_OUT_IFACE,
  MATCH_PROTO,
  MATCH_RECENT,
  MATCH_SET,
  MATCH_SPORT,
  MATCH_SRC_OWNER,
  MATCH_SRC_TYPE,
  MATCH_SRC4,
  MATCH_SRC6,
  MATCH_STATISTIC,
  MATCH_TCP_FLAGS,
  RECENT_CHECK,
  RECENT_REMOVE,
  RECENT_SET,
  RECENT_UPDATE,
} from '../tables/rule-list.ts';
import { type Burst, FRAG_LATER } from '../wire/burst.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { destinationAddressType, sourceAddressType } from './address-type.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { isIcmp } from './flow-key.ts';
import { isOfIpvs } from './ipvs-flow.ts';
import { FLOW_DST, FLOW_IN, FLOW_OUT, FLOW_SRC } from './netfilter-scratch.ts';
import { ownerBit } from './owner.ts';
import {
  CT_STATE_ESTABLISHED,
  CT_STATE_NEW,
  CT_STATE_RELATED,
  CT_STATE_REPLY,
  CT_STATE_UNTRACKED,
  EVENT_CHOICE,
  record3,
} from './record.ts';
import { findDestinationOwner, findSourceOwner } from './route.ts';
import { isOfVirtualServer } from './rule-ipvs.ts';
import { isInSet } from './rule-set.ts';
import { conntrackOf } from './translate.ts';

/** A `recent` entry of any age. */
const FOREVER_MS = 0x7fffffff;
/** Types of IPv6 that the address alone tells. */
const SCOPES6 = ADDRTYPE_UNICAST | ADDRTYPE_MULTICAST | ADDRTYPE_UNSPEC;
const STAMPED = 1;
const REMOVED = 0;

/**
 * True if the frame satisfies the match at word `m`, its inversion not counted (but see MATCH_SPORT and MATCH_DPORT,
 * which are false whether inverted or not where there are no ports).
 * @param ruleId the rule's id: which choice point it is
 */
export function holdsMatch(dp: Datapath, b: Burst, s: number, words: Int32Array, m: number, ruleId: number): boolean {
  switch (words[m] & 0x7f) {
    case MATCH_SRC4:
      return b.family[s] === 4 && (b.src0[s] & words[m + 2]) === words[m + 1];
    case MATCH_DST4:
      return b.family[s] === 4 && (b.dst0[s] & words[m + 2]) === words[m + 1];
    case MATCH_SRC6:
      return (
        b.family[s] === 6 &&
        (b.src3[s] & words[m + 8]) === words[m + 4] &&
        (b.src2[s] & words[m + 7]) === words[m + 3] &&
        (b.src1[s] & words[m + 6]) === words[m + 2] &&
        (b.src0[s] & words[m + 5]) === words[m + 1]
      );
    case MATCH_DST6:
      return (
        b.family[s] === 6 &&
        (b.dst3[s] & words[m + 8]) === words[m + 4] &&
        (b.dst2[s] & words[m + 7]) === words[m + 3] &&
        (b.dst1[s] & words[m + 6]) === words[m + 2] &&
        (b.dst0[s] & words[m + 5]) === words[m + 1]
      );
    case MATCH_PROTO:
      return b.proto[s] === words[m + 1];
    case MATCH_SPORT:
      return b.sport[s] >= words[m + 1] && b.sport[s] <= words[m + 2];
    case MATCH_DPORT:
      return b.dport[s] >= words[m + 1] && b.dport[s] <= words[m + 2];
    case MATCH_MARK:
      return (b.mark[s] & words[m + 2]) === words[m + 1];
    case MATCH_CTSTATE:
      return (ctStateBits(dp, b, s, words[m + 1]) & words[m + 1]) !== 0;
    case MATCH_SRC_TYPE:
      return holdsType(b, s, sourceAddressType(dp, b, s), words[m + 1]);
    case MATCH_DST_TYPE:
      return holdsType(b, s, destinationAddressType(dp, b, s), words[m + 1]);
    case MATCH_SET:
      return isInSet(dp, b, s, words[m + 1], words[m + 2]);
    case MATCH_IPVS:
      return isOfVirtualServer(dp, b, s, words, m);
    case MATCH_STATISTIC:
      return drawStatistic(dp, b, s, words[m + 1] >>> 0, ruleId);
    case MATCH_RECENT:
      return holdsRecent(dp, b, s, words[m + 1], words[m + 2], words[m + 3]);
    case MATCH_IN_IFACE:
      return (dp.ports.scratch.flow[FLOW_IN] & words[m + 1]) !== 0;
    case MATCH_OUT_IFACE:
      return (dp.ports.scratch.flow[FLOW_OUT] & words[m + 1]) !== 0;
    case MATCH_SRC_OWNER:
      return (ownerBit(findSourceOwner(dp, b, s)) & words[m + 1]) !== 0;
    case MATCH_DST_OWNER:
      return (ownerBit(findDestinationOwner(dp, b, s)) & words[m + 1]) !== 0;
    case MATCH_TCP_FLAGS:
      return b.proto[s] === PROTO_TCP && b.frag[s] !== FRAG_LATER && (b.info[s] & words[m + 1]) === words[m + 2];
    case MATCH_ICMP:
      return holdsIcmp(b, s, words[m + 1], words[m + 2], words[m + 3]);
  }
  return false;
}

/**
 * addrtype: is an address of type `type` one of `types`. IPv6 asks otherwise than IPv4 (xt_addrtype.c): the scope of the
 * address and what the routing table says are apart, and each must fit where it is asked; a local address is unicast too.
 */
function holdsType(b: Burst, s: number, type: number, types: number): boolean {
  if (b.family[s] === 4) return (type & types) !== 0;
  const scope = type === ADDRTYPE_MULTICAST || type === ADDRTYPE_UNSPEC ? type : ADDRTYPE_UNICAST;
  if ((types & SCOPES6 & ~scope) !== 0) return false;
  const routed = types & ~SCOPES6;
  return routed === 0 || (type & routed) !== 0;
}

/** True where a port match can be asked at all: the protocol has ports and this frame carries them. */
export function hasPorts(b: Burst, s: number): boolean {
  const proto = b.proto[s];
  return b.frag[s] !== FRAG_LATER && (proto === PROTO_TCP || proto === PROTO_UDP || proto === PROTO_SCTP);
}

function holdsIcmp(b: Burst, s: number, type: number, first: number, last: number): boolean {
  if (!isIcmp(b.proto[s]) || b.frag[s] === FRAG_LATER || b.info[s] >>> 8 !== type) return false;
  const code = b.info[s] & 255;
  return code >= first && code <= last;
}

// ---- conntrack --------------------------------------------------------------------------------------------------

/** CTSTATE_… bits of the frame; the two NAT bits only if `wanted` has them, they cost a look at the entry. */
function ctStateBits(dp: Datapath, b: Burst, s: number, wanted: number): number {
  let bits = CTSTATE_INVALID;
  switch (b.ctState[s]) {
    case CT_STATE_NEW:
      bits = CTSTATE_NEW;
      break;
    case CT_STATE_ESTABLISHED:
    case CT_STATE_REPLY:
      bits = CTSTATE_ESTABLISHED;
      break;
    case CT_STATE_RELATED:
      bits = CTSTATE_RELATED;
      break;
    case CT_STATE_UNTRACKED:
      bits = CTSTATE_UNTRACKED;
      break;
  }
  if ((wanted & (CTSTATE_SNAT | CTSTATE_DNAT)) !== 0) bits |= natBits(dp, b, s);
  return bits;
}

/** Which of the flow's addresses are translated; ports alone do not count (xt_conntrack). */
function natBits(dp: Datapath, b: Burst, s: number): number {
  const slot = b.ct[s];
  let source = 0;
  let destination = 0;
  if (slot === -1) {
    if (b.ctState[s] !== CT_STATE_NEW) return 0;
    const flow = dp.ports.scratch.flow;
    source = (flow[FLOW_SRC] ^ b.src0[s]) | (flow[FLOW_SRC + 1] ^ b.src1[s]);
    source |= (flow[FLOW_SRC + 2] ^ b.src2[s]) | (flow[FLOW_SRC + 3] ^ b.src3[s]);
    destination = (flow[FLOW_DST] ^ b.dst0[s]) | (flow[FLOW_DST + 1] ^ b.dst1[s]);
    destination |= (flow[FLOW_DST + 2] ^ b.dst2[s]) | (flow[FLOW_DST + 3] ^ b.dst3[s]);
  } else {
    const ct = conntrackOf(dp, b, s);
    for (let i = 0; i < ct.addressWords; i++) {
      source |= ctSrc(ct, slot, i) ^ ctXSrc(ct, slot, i);
      destination |= ctDst(ct, slot, i) ^ ctXDst(ct, slot, i);
    }
    if ((ctFlags(ct, slot) & CT_REPLY) !== 0) {
      const swapped = source;
      source = destination;
      destination = swapped;
    }
  }
  // What IPVS does is no DNAT to conntrack.
  if (destination !== 0 && isOfIpvs(dp, b, s)) destination = 0;
  return (source !== 0 ? CTSTATE_SNAT : 0) | (destination !== 0 ? CTSTATE_DNAT : 0);
}

// ---- choice and memory ------------------------------------------------------------------------------------------

/** True with a probability of threshold / 2^31. Of the two ways of a choice point the first is the match. */
function drawStatistic(dp: Datapath, b: Burst, s: number, threshold: number, ruleId: number): boolean {
  if (threshold >= 0x80000000) return true;
  if (threshold === 0) return false;
  let taken = 0;
  if (b.choice[s] >= 0) taken = takeChoice(dp.ring, 2);
  else taken = mix32(b.flowHash[s] ^ Math.imul(ruleId + 1, 0x9e3779b1)) >>> 1 < threshold ? 0 : 1;
  if (dp.ring.on) record3(dp.ring, EVENT_CHOICE, ruleId, 2, taken);
  return taken === 0;
}

/**
 * Id of a `recent` list in the affinity table: each node has its own, and each family.
 * The table needs `recentLists × 2 × nodes` lists for a limit of stamps per list.
 */
export function recentListId(list: number, family: number, nodes: number, node: number): number {
  return (list * 2 + (family === 6 ? 1 : 0)) * nodes + node;
}

function holdsRecent(dp: Datapath, b: Burst, s: number, flags: number, list: number, seconds: number): boolean {
  const t = dp.affinity;
  const id = recentListId(list, b.family[s], dp.topology.nodes, b.node[s]);
  const shard = b.shard[s];
  dp.counters[COUNT_LOOKUPS]++;
  if ((flags & RECENT_SET) !== 0) {
    stampRecent(dp, b, s, id, STAMPED);
    return true;
  }
  if ((flags & (RECENT_CHECK | RECENT_UPDATE | RECENT_REMOVE)) === 0) return false;
  const age = seconds === 0 || (flags & RECENT_REMOVE) !== 0 ? FOREVER_MS : seconds * 1000;
  const found = affinityFind(t, shard, id, b.src0[s], b.src1[s], b.src2[s], b.src3[s], b.timeMs[s], age);
  if (found !== STAMPED) return false;
  if ((flags & RECENT_UPDATE) !== 0) stampRecent(dp, b, s, id, STAMPED);
  if ((flags & RECENT_REMOVE) !== 0) stampRecent(dp, b, s, id, REMOVED);
  return true;
}

function stampRecent(dp: Datapath, b: Burst, s: number, id: number, value: number): void {
  affinitySet(dp.affinity, b.shard[s], id, b.src0[s], b.src1[s], b.src2[s], b.src3[s], value, b.timeMs[s]);
  // A table of one shard has nobody to wait for: its lists are then as full and as old as the kernel's.
  if (dp.affinity.shards === 1) affinityMerge(dp.affinity);
}
