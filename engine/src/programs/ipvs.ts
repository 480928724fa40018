/**
 * The ipvs mode: one frame through one node of the kernel's netfilter, with IPVS at its hooks and the ipsets and rules that
 * kube-proxy keeps beside it.
 *
 *     from a pod or the uplink    raw, conntrack, mangle, nat PREROUTING -> routing (kube-ipvs0 is local) -> INPUT or FORWARD
 *     to the node                 mangle, filter INPUT -> IPVS: an answer, or a request -> nat INPUT -> delivered
 *     ... a request               translated -> TTL -> mangle, filter OUTPUT -> leave, unless its real server is the node
 *     through the node            TTL -> mangle, filter FORWARD -> IPVS: an answer -> leave
 *     from the node               raw, conntrack, mangle, nat OUTPUT -> IPVS -> filter OUTPUT -> leave
 *     ... a request               translated -> TTL -> raw, mangle, filter OUTPUT -> leave
 *     leave                       mangle, nat POSTROUTING -> confirm -> a pod here, another node, or out of the cluster
 *
 * With net.ipv4.vs.conntrack, as kube-proxy sets it, conntrack knows what IPVS did: the entry's reply comes from the real
 * server, so masquerading in POSTROUTING works and replies find back. But IPVS is no DNAT: netfilter does not touch the
 * destination of a flow's later frames, nor the source of its replies; IPVS does both at its own hooks.
 *
 * Guarantees: hooks in the kernel's order (IPVS behind filter at LOCAL_IN and FORWARD, before it at LOCAL_OUT). A packet to
 * a Service's address that no virtual server takes is the node's own. Left out: what ipvs-hooks.ts says, and what
 * iptables.ts leaves out.
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
import { isBoundSource } from './ipvs-address.ts';
import { endDueConnections } from './ipvs-connection.ts';
import { isTranslatedFlow, isVirtualRequest } from './ipvs-flow.ts';
import { IPVS_TOOK, takeAnswer, takeRequest } from './ipvs-hooks.ts';
import { PASS_ANSWER, PASS_REQUEST } from './ipvs-image.ts';
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
export function ipvsNode(dp: Datapath, b: Burst, s: number): number {
  const image = dp.ipvs!;
  const rules = b.family[s] === 4 ? image.rules4 : image.rules6;
  const flow = dp.ports.scratch.flow;
  const entry = b.entry[s];
  flow[FLOW_REMOVE] = 0;
  image.scratch.words[PASS_REQUEST] = 0;
  image.scratch.words[PASS_ANSWER] = 0;
  endDueConnections(dp, b.shard[s], b.timeMs[s]);
  const isLocal = entry === ENTRY_HOST || entry === ENTRY_ANSWER;
  const step = isLocal ? sendFromHost(dp, b, s, rules) : receive(dp, b, s, rules);
  if (flow[FLOW_REMOVE] === 1 && b.ct[s] !== -1) removeFlow(dp, b, s);
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
  if (isMartianInRouting(dp, b, s) || (b.family[s] === 4 && isBoundSource(dp, b, s))) return -REASON_MARTIAN;
  const route = isForEveryHost(b, s) ? ROUTE_HOST << 24 : chooseRoute(dp, b, s);
  if (route < 0) return route;
  if (routeKind(route) === ROUTE_HOST) return receiveLocally(dp, b, s, rules);

  step = ageFrame(dp, b, s);
  if (step !== 0) return step;
  setOutgoing(dp, b, s, interfaceOf(route));
  step = walkHook(dp, b, s, rules, HOOK_FORWARD, TABLE_MANGLE);
  if (step !== 0) return step;
  step = walkFilter(dp, b, s, rules, HOOK_FORWARD);
  if (step !== 0) return step;
  step = takeAnswer(dp, b, s);
  if (step !== 0 && step !== IPVS_TOOK) return step;
  step = leave(dp, b, s, rules);
  return step !== 0 ? step : handOver(b, s, route);
}

/** LOCAL_IN: a frame to an address of the node, kube-ipvs0's among them. */
function receiveLocally(dp: Datapath, b: Burst, s: number, rules: RuleList): number {
  let step = walkHook(dp, b, s, rules, HOOK_INPUT, TABLE_MANGLE);
  if (step !== 0) return step;
  step = walkFilter(dp, b, s, rules, HOOK_INPUT);
  if (step !== 0) return step;
  if (!hasPassed(dp)) {
    step = takeAnswer(dp, b, s);
    if (step === 0) step = takeRequest(dp, b, s);
    if (step !== 0 && step !== IPVS_TOOK) return step;
    if (dp.ipvs!.scratch.words[PASS_REQUEST] === 1) {
      const route = chooseRoute(dp, b, s);
      if (route < 0) return route;
      if (routeKind(route) !== ROUTE_HOST) return sendOn(dp, b, s, rules, route);
    }
  }
  step = natSource(dp, b, s, rules, HOOK_INPUT);
  if (step !== 0) return step;
  step = confirmFlow(dp, b, s);
  return step !== 0 ? step : VERDICT_DELIVERED;
}

/** A request that came to LOCAL_IN leaves for its real server as if the node had sent it. */
function sendOn(dp: Datapath, b: Burst, s: number, rules: RuleList, route: number): number {
  let step = ageFrame(dp, b, s);
  if (step !== 0) return step;
  setInterfaces(dp, b, s, 0, interfaceOf(route));
  step = walkHook(dp, b, s, rules, HOOK_OUTPUT, TABLE_RAW);
  if (step !== 0) return step;
  step = walkHook(dp, b, s, rules, HOOK_OUTPUT, TABLE_MANGLE);
  if (step !== 0) return step;
  step = walkFilter(dp, b, s, rules, HOOK_OUTPUT);
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
  step = takeAnswer(dp, b, s);
  if (step === 0) step = takeRequest(dp, b, s);
  if (step !== 0 && step !== IPVS_TOOK) return step;
  if (dp.ipvs!.scratch.words[PASS_REQUEST] === 1) {
    route = chooseRoute(dp, b, s);
    if (route < 0) return route;
    if (routeKind(route) !== ROUTE_HOST) {
      // A loopback source must not leave the node (crosses_local_route_boundary).
      return isLoopbackSource(b, s) ? -REASON_MARTIAN : sendOn(dp, b, s, rules, route);
    }
    setOutgoing(dp, b, s, IFACE_LOOPBACK);
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
  return receiveLocally(dp, b, s, rules);
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

/** The nat hooks before routing. The destination of a flow that IPVS translates is not netfilter's to change. */
function natDestination(dp: Datapath, b: Burst, s: number, rules: RuleList, hook: number): number {
  if (b.ct[s] === -1) return b.ctState[s] === CT_STATE_NEW ? walkHook(dp, b, s, rules, hook, TABLE_NAT) : 0;
  if (isVirtualRequest(dp, b, s)) return 0;
  return followDestination(dp, b, s);
}

/**
 * The nat hooks behind routing. IPVS has given an answer its source; an entry without translation, of a flow that shares
 * its real server's side with a connection of IPVS, does not take it back.
 */
function natSource(dp: Datapath, b: Burst, s: number, rules: RuleList, hook: number): number {
  if (b.ct[s] === -1) return b.ctState[s] === CT_STATE_NEW ? walkHook(dp, b, s, rules, hook, TABLE_NAT) : 0;
  if (dp.ipvs!.scratch.words[PASS_ANSWER] === 1 && !isTranslatedFlow(dp, b, s)) return 0;
  return followSource(dp, b, s);
}

/** True if IPVS has translated the frame in this pass: its later hooks leave it alone. */
function hasPassed(dp: Datapath): boolean {
  const words = dp.ipvs!.scratch.words;
  return (words[PASS_REQUEST] | words[PASS_ANSWER]) !== 0;
}

function isLoopbackSource(b: Burst, s: number): boolean {
  if (b.family[s] === 4) return b.src0[s] >>> 24 === 127;
  return (b.src0[s] | b.src1[s] | b.src2[s]) === 0 && b.src3[s] === 1;
}
