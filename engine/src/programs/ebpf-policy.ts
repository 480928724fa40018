/**
 * Policy enforcement of the ebpf mode (cilium: bpf/lib/policy.h for the order of things, not for the maps' layout).
 *
 *  1. Egress is judged where a frame leaves its pod's interface, by its final destination and before anything gives it
 *     another source; ingress where it is delivered to a pod of this node, by the source it came with. Both must allow.
 *  2. A node and its own pods: what the node sends always passes, what the pod sends by POLICY_JUDGES_OWN_NODE.
 *  3. A pod to itself passes, unless POLICY_JUDGES_HAIRPIN.
 *  4. Frames of a known flow's original direction are judged again, unless POLICY_KEEPS_FLOWS; replies and errors about
 *     a flow never are. The caller asks for those only that may need it.
 *  5. A pod that no policy selects for a direction costs one word; nothing is recorded of it.
 *
 * A frame is judged before its flow is entered, so a refusal leaves nothing behind that would let a later frame pass.
 */
import { lpm4Find } from '../tables/lpm4.ts';
import { lpm6Find } from '../tables/lpm6.ts';
import { findDecision, findPortMap, SLOT_OTHER } from '../tables/policy-map.ts';
import { type Burst, ENTRY_POD, ENTRY_UPLINK } from '../wire/burst.ts';
import { REASON_POLICY_DENIED } from '../wire/reason.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { MAP_IPCACHE, MAP_POLICY } from './ebpf-image.ts';
import {
  type EbpfPolicy,
  ID_NODE,
  ID_PEER,
  ID_WORDS,
  IDENTITY_WORLD,
  isDenied,
  judgementRow,
  POLICY_JUDGES_HAIRPIN,
  POLICY_JUDGES_OWN_NODE,
} from './ebpf-policy-image.ts';
import { EVENT_MAP, record2 } from './record.ts';
import { ROUTE_HOST, ROUTE_POD, routeIndex, routeKind } from './route.ts';

/** Slots of the policy maps. */
export const SLOT_TCP = 0;
export const SLOT_UDP = 1;
export const SLOT_SCTP = 2;

/**
 * Judges a frame that carries its final destination and still its own source.
 * @param route of `findRoute`
 * @returns 0, or -REASON_POLICY_DENIED
 */
export function judgeFrame(dp: Datapath, policy: EbpfPolicy, b: Burst, s: number, route: number): number {
  const entry = b.entry[s];
  const kind = routeKind(route);
  if (entry === ENTRY_POD) {
    const step = judgeEgress(dp, policy, b, s, kind, routeIndex(route));
    if (step < 0) return step;
  } else if (entry !== ENTRY_UPLINK) return 0;
  return kind === ROUTE_POD ? judgeIngress(dp, policy, b, s, routeIndex(route)) : 0;
}

function judgeEgress(dp: Datapath, policy: EbpfPolicy, b: Burst, s: number, kind: number, target: number): number {
  const endpoint = b.endpoint[s];
  if (endpoint < 0) return 0;
  const map = policy.egress[endpoint];
  if (map < 0) return 0;
  if (kind === ROUTE_HOST && (policy.options & POLICY_JUDGES_OWN_NODE) === 0) return 0;
  if (kind === ROUTE_POD && target === endpoint && (policy.options & POLICY_JUDGES_HAIRPIN) === 0) return 0;
  dp.counters[COUNT_LOOKUPS]++;
  const found =
    b.family[s] === 4
      ? lpm4Find(policy.ipcache4, b.dst0[s])
      : lpm6Find(policy.ipcache6, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
  return judge(dp, policy, b, s, map, found < 0 ? IDENTITY_WORLD : found);
}

function judgeIngress(dp: Datapath, policy: EbpfPolicy, b: Burst, s: number, endpoint: number): number {
  const map = policy.ingress[endpoint];
  if (map < 0) return 0;
  const fromPod = b.entry[s] === ENTRY_POD;
  if (fromPod && b.endpoint[s] === endpoint && (policy.options & POLICY_JUDGES_HAIRPIN) === 0) return 0;
  dp.counters[COUNT_LOOKUPS]++;
  const found =
    b.family[s] === 4
      ? lpm4Find(policy.ipcache4, b.src0[s])
      : lpm6Find(policy.ipcache6, b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
  const identity = found < 0 ? IDENTITY_WORLD : found;
  // A frame of this very node that another node sent back to it, balanced.
  if (policy.identities[identity * ID_WORDS + ID_NODE] === b.node[s]) return 0;
  return judge(dp, policy, b, s, map, identity);
}

function judge(dp: Datapath, policy: EbpfPolicy, b: Burst, s: number, map: number, identity: number): number {
  dp.counters[COUNT_LOOKUPS] += 2;
  const portMap = findPortMap(policy.maps, map, policy.identities[identity * ID_WORDS + ID_PEER]);
  const decision = findDecision(policy.maps, portMap, slotOf(b.proto[s]), b.dport[s]);
  if (dp.ring.on) {
    record2(dp.ring, EVENT_MAP, MAP_IPCACHE, identity);
    record2(dp.ring, EVENT_MAP, MAP_POLICY, judgementRow(decision));
  }
  return isDenied(decision) ? -REASON_POLICY_DENIED : 0;
}

function slotOf(proto: number): number {
  switch (proto) {
    case PROTO_TCP:
      return SLOT_TCP;
    case PROTO_UDP:
      return SLOT_UDP;
    case PROTO_SCTP:
      return SLOT_SCTP;
  }
  return SLOT_OTHER;
}
