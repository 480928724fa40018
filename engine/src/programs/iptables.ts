/**
 * The iptables mode: one frame through one node of the kernel's netfilter, as kube-proxy's rules meet it.
 *
 *     from a pod or the uplink    raw, conntrack, mangle, nat PREROUTING -> routing -> INPUT or FORWARD
 *     to the node                 mangle, filter, nat INPUT -> confirm -> delivered
 *     through the node            TTL -> mangle, filter FORWARD -> leave
 *     from the node               raw, conntrack, mangle, nat OUTPUT -> routing again -> filter OUTPUT -> leave
 *     leave                       mangle, nat POSTROUTING -> confirm -> a pod here, another node, or out of the cluster
 *     to itself                   leave by lo -> raw, mangle PREROUTING -> to the node
 *
 * Guarantees: hooks in the kernel's order; nat rules for the first frame of a flow only, its translation for all; no
 * entry for a frame that was dropped; an answer for every frame that is rejected or outlives its TTL, where the kernel
 * sends one. What is left out: bridges, multicast routing, MTU, reverse-path filters, IPsec.
 */
import {
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  IFACE_LOOPBACK,
  IFACE_POD,
  IFACE_UPLINK,
  type RuleList,
  TABLE_FILTER,
  TABLE_MANGLE,
  TABLE_NAT,
  TABLE_RAW,
  TABLE_SECURITY,
} from '../tables/rule-list.ts';
import { type Burst, ENTRY_ANSWER, ENTRY_HOST, ENTRY_POD } from '../wire/burst.ts';
import { REASON_MARTIAN } from '../wire/reason.ts';
import type { Datapath } from './datapath.ts';
import { isForEveryHost, isMartianInRouting, isMartianOnArrival } from './martian.ts';
import { confirmFlow, removeFlow, trackPacket } from './netfilter-conntrack.ts';
import { FLOW_REMOVE } from './netfilter-scratch.ts';
import {
  ageFrame,
  chooseRoute,
  followDestination,
  followSource,
  handOver,
  interfaceOf,
  setInterfaces,
  setOutgoing,
} from './node-steps.ts';
import { CT_STATE_NEW, CT_STATE_RELATED } from './record.ts';
import { ROUTE_HOST, routeKind } from './route.ts';
import { walkHook } from './rule-walk.ts';
import { VERDICT_DELIVERED } from './verdict.ts';

/**
 * Runs the frame of a slot through the node in lane `node`.
 * @returns VERDICT_…, STEP_TO_NODE with lane `node` set to the next one, or minus a drop reason
 */
export function iptablesNode(dp: Datapath, b: Burst, s: number): number {
  const rules = b.family[s] === 4 ? dp.iptables!.rules4 : dp.iptables!.rules6;
  const flow = dp.ports.scratch.flow;
  const entry = b.entry[s];
  flow[FLOW_REMOVE] = 0;
  const isLocal = entry === ENTRY_HOST || entry === ENTRY_ANSWER;
  const step = isLocal ? sendFromHost(dp, b, s, rules) : receive(dp, b, s, rules);
  if (flow[FLOW_REMOVE] === 1) removeFlow(dp, b, s);
  return step;
}

/** A frame from a pod or from the uplink. */
function receive(dp: Datapath, b: Burst, s: number, rules: RuleList): number {
  setInterfaces(dp, b, s, b.entry[s] === ENTRY_POD ? IFACE_POD : IFACE_UPLINK, 0);
  if (isMartianOnArrival(b, s)) return -REASON_MARTIAN;
  let step = walkHook(dp, b, s, rules, HOOK_PREROUTING, TABLE_RAW);
  if (step !== 0) return step;
  step = trackPacket(dp, b, s);
  if (step !== 0) return step;
  step = walkHook(dp, b, s, rules, HOOK_PREROUTING, TABLE_MANGLE);
  if (step !== 0) return step;
  step = natDestination(dp, b, s, rules, HOOK_PREROUTING);
  if (step !== 0) return step;
  if (isMartianInRouting(dp, b, s)) return -REASON_MARTIAN;
  const route = isForEveryHost(b, s) ? ROUTE_HOST << 24 : chooseRoute(dp, b, s);
  if (route < 0) return route;
  if (routeKind(route) === ROUTE_HOST) return deliverToHost(dp, b, s, rules);

  step = ageFrame(dp, b, s);
  if (step !== 0) return step;
  setOutgoing(dp, b, s, interfaceOf(route));
  step = walkHook(dp, b, s, rules, HOOK_FORWARD, TABLE_MANGLE);
  if (step !== 0) return step;
  step = walkFilter(dp, b, s, rules, HOOK_FORWARD);
  if (step !== 0) return step;
  step = leave(dp, b, s, rules);
  return step !== 0 ? step : handOver(b, s, route);
}

/** A frame of the node itself: of a local process, or its answer to a frame that it refused. */
function sendFromHost(dp: Datapath, b: Burst, s: number, rules: RuleList): number {
  let route = chooseRoute(dp, b, s);
  if (route < 0) return route;
  setInterfaces(dp, b, s, 0, interfaceOf(route));
  if (b.entry[s] === ENTRY_ANSWER) b.ctState[s] = CT_STATE_RELATED;
  let step = walkHook(dp, b, s, rules, HOOK_OUTPUT, TABLE_RAW);
  if (step !== 0) return step;
  step = trackPacket(dp, b, s);
  if (step !== 0) return step;
  step = walkHook(dp, b, s, rules, HOOK_OUTPUT, TABLE_MANGLE);
  if (step !== 0) return step;
  const nat = b.nat[s];
  step = natDestination(dp, b, s, rules, HOOK_OUTPUT);
  if (step !== 0) return step;
  if (b.nat[s] !== nat) {
    route = chooseRoute(dp, b, s);
    if (route < 0) return route;
    setOutgoing(dp, b, s, interfaceOf(route));
  }
  step = walkFilter(dp, b, s, rules, HOOK_OUTPUT);
  if (step !== 0) return step;
  step = leave(dp, b, s, rules);
  if (step !== 0) return step;
  return routeKind(route) === ROUTE_HOST ? receiveFromItself(dp, b, s, rules) : handOver(b, s, route);
}

/** A frame that left by lo comes in by lo, with its conntrack entry and its translation done. */
function receiveFromItself(dp: Datapath, b: Burst, s: number, rules: RuleList): number {
  setInterfaces(dp, b, s, IFACE_LOOPBACK, 0);
  let step = walkHook(dp, b, s, rules, HOOK_PREROUTING, TABLE_RAW);
  if (step !== 0) return step;
  step = walkHook(dp, b, s, rules, HOOK_PREROUTING, TABLE_MANGLE);
  if (step !== 0) return step;
  return deliverToHost(dp, b, s, rules);
}

function deliverToHost(dp: Datapath, b: Burst, s: number, rules: RuleList): number {
  let step = walkHook(dp, b, s, rules, HOOK_INPUT, TABLE_MANGLE);
  if (step !== 0) return step;
  step = walkFilter(dp, b, s, rules, HOOK_INPUT);
  if (step !== 0) return step;
  step = natSource(dp, b, s, rules, HOOK_INPUT);
  if (step !== 0) return step;
  step = confirmFlow(dp, b, s);
  return step !== 0 ? step : VERDICT_DELIVERED;
}

function leave(dp: Datapath, b: Burst, s: number, rules: RuleList): number {
  let step = walkHook(dp, b, s, rules, HOOK_POSTROUTING, TABLE_MANGLE);
  if (step !== 0) return step;
  step = natSource(dp, b, s, rules, HOOK_POSTROUTING);
  if (step !== 0) return step;
  return confirmFlow(dp, b, s);
}

/** The filter table, then security, whose rules see what filter has accepted. */
function walkFilter(dp: Datapath, b: Burst, s: number, rules: RuleList, hook: number): number {
  const step = walkHook(dp, b, s, rules, hook, TABLE_FILTER);
  return step !== 0 ? step : walkHook(dp, b, s, rules, hook, TABLE_SECURITY);
}

/** The nat hooks before routing: rules for a flow's first frame, its entry for the others. */
function natDestination(dp: Datapath, b: Burst, s: number, rules: RuleList, hook: number): number {
  if (b.ct[s] !== -1) return followDestination(dp, b, s);
  return b.ctState[s] === CT_STATE_NEW ? walkHook(dp, b, s, rules, hook, TABLE_NAT) : 0;
}

/** The nat hooks behind routing. */
function natSource(dp: Datapath, b: Burst, s: number, rules: RuleList, hook: number): number {
  if (b.ct[s] !== -1) return followSource(dp, b, s);
  return b.ctState[s] === CT_STATE_NEW ? walkHook(dp, b, s, rules, hook, TABLE_NAT) : 0;
}
