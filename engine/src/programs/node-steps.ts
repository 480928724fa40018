/**
 * Steps of a node's kernel that the netfilter modes share: what stands between the hooks, and the parts of the nat hooks
 * and of REJECT that do not depend on whose rules run. Each mode keeps its own order (iptables.ts, nftables.ts, ipvs.ts).
 */
import {
  IFACE_LOOPBACK,
  IFACE_POD,
  IFACE_UPLINK,
  REJECT_ADMIN_PROHIBITED,
  REJECT_HOST_UNREACHABLE,
  REJECT_NET_UNREACHABLE,
} from '../tables/rule-list.ts';
import { type Burst, ENTRY_ANSWER, ENTRY_HOST } from '../wire/burst.ts';
import { REASON_RULE_REJECT, REASON_TTL_EXCEEDED, REASON_UNROUTABLE } from '../wire/reason.ts';
import { decrementTtl } from '../wire/rewrite.ts';
import { answerReject, answerTimeExceeded } from './answer.ts';
import type { Datapath } from './datapath.ts';
import {
  findDestinationRoute,
  type Interfaces,
  incomingDevice,
  interfacesOf,
  NO_DEVICE,
  outgoingDevice,
  RTN_ANYCAST,
  RTN_BLACKHOLE,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_MULTICAST,
  RTN_PROHIBIT,
  RTN_UNICAST,
  RTN_UNREACHABLE,
  routeType,
} from './interface.ts';
import { untranslateAnswer } from './netfilter-nat.ts';
import { FLOW_IN, FLOW_IN_DEVICE, FLOW_OUT, FLOW_OUT_DEVICE } from './netfilter-scratch.ts';
import { CT_STATE_RELATED, EVENT_INTERFACE, EVENT_ROUTE, record2 } from './record.ts';
import { findRoute, ROUTE_HOST, ROUTE_NODE, ROUTE_POD, routeIndex, routeKind } from './route.ts';
import { translateDestination, translateErrorDestination, translateErrorSource, translateSource } from './translate.ts';
import { STEP_TO_NODE, VERDICT_DELIVERED, VERDICT_FORWARDED, VERDICT_REJECTED } from './verdict.ts';

/**
 * The route of the frame's destination, `kind << 24 | index`, told to the recorder. A node with numbered interfaces has a
 * routing table that may refuse.
 * @returns the route, or minus a drop reason
 */
export function chooseRoute(dp: Datapath, b: Burst, s: number): number {
  let route = findRoute(dp, b, s);
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces !== null && routeKind(route) !== ROUTE_HOST) route = askTable(dp, interfaces, b, s, route);
  if (dp.ring.on && route >= 0) record2(dp.ring, EVENT_ROUTE, routeKind(route), routeIndex(route));
  return route;
}

/** What the routing table makes of a route to somewhere else: the route, the node itself, or minus a drop reason. */
function askTable(dp: Datapath, interfaces: Interfaces, b: Burst, s: number, route: number): number {
  switch (routeType(interfaces, findDestinationRoute(dp, interfaces, b, s))) {
    case RTN_UNICAST:
    case RTN_MULTICAST:
      return route;
    case RTN_LOCAL:
    case RTN_BROADCAST:
    case RTN_ANYCAST:
      return ROUTE_HOST << 24;
    case RTN_BLACKHOLE:
      return -REASON_UNROUTABLE;
    case RTN_PROHIBIT:
      return refuseRoute(dp, b, s, REJECT_ADMIN_PROHIBITED);
    case RTN_UNREACHABLE:
      return refuseRoute(dp, b, s, b.family[s] === 4 ? REJECT_HOST_UNREACHABLE : REJECT_NET_UNREACHABLE);
  }
  return refuseRoute(dp, b, s, REJECT_NET_UNREACHABLE);
}

/** A sender elsewhere hears why; a local process has its error from the socket. */
function refuseRoute(dp: Datapath, b: Burst, s: number, kind: number): number {
  if (b.entry[s] !== ENTRY_HOST && b.entry[s] !== ENTRY_ANSWER) {
    const answer = answerReject(dp, b, s, kind);
    if (answer !== -1) untranslateAnswer(dp, b, s, answer);
  }
  return -REASON_UNROUTABLE;
}

/** Class (IFACE_…) of the interface that a route leads out by. */
export function interfaceOf(route: number): number {
  switch (routeKind(route)) {
    case ROUTE_HOST:
      return IFACE_LOOPBACK;
    case ROUTE_POD:
      return IFACE_POD;
  }
  return IFACE_UPLINK;
}

/**
 * Notes the interfaces that the frame comes in by and leaves by: their classes (IFACE_…, 0 for none yet) and, on a node
 * with numbered interfaces, their numbers.
 */
export function setInterfaces(dp: Datapath, b: Burst, s: number, incoming: number, outgoing: number): void {
  const flow = dp.ports.scratch.flow;
  flow[FLOW_IN] = incoming;
  flow[FLOW_IN_DEVICE] = NO_DEVICE;
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces !== null && incoming !== 0) {
    flow[FLOW_IN_DEVICE] = incomingDevice(dp, interfaces, b, s, incoming);
    if (dp.ring.on) record2(dp.ring, EVENT_INTERFACE, 0, flow[FLOW_IN_DEVICE]);
  }
  setOutgoing(dp, b, s, outgoing);
}

/** Notes the interface that the frame leaves by; to be called again where its destination has changed. */
export function setOutgoing(dp: Datapath, b: Burst, s: number, outgoing: number): void {
  const flow = dp.ports.scratch.flow;
  flow[FLOW_OUT] = outgoing;
  flow[FLOW_OUT_DEVICE] = NO_DEVICE;
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null || outgoing === 0) return;
  flow[FLOW_OUT_DEVICE] = outgoingDevice(dp, interfaces, b, s, outgoing);
  if (dp.ring.on) record2(dp.ring, EVENT_INTERFACE, 1, flow[FLOW_OUT_DEVICE]);
}

/**
 * Takes one from the time to live of a frame that is forwarded.
 * @returns 0, or minus REASON_TTL_EXCEEDED with an answer made
 */
export function ageFrame(dp: Datapath, b: Burst, s: number): number {
  if (decrementTtl(b, s) !== 0) return 0;
  const answer = answerTimeExceeded(dp, b, s);
  if (answer !== -1) untranslateAnswer(dp, b, s, answer);
  return -REASON_TTL_EXCEEDED;
}

/** The destination half of a known flow's translation (lane `ct` is set); 0, or minus a drop reason. */
export function followDestination(dp: Datapath, b: Burst, s: number): number {
  return b.ctState[s] === CT_STATE_RELATED ? translateErrorDestination(dp, b, s) : translateDestination(dp, b, s);
}

/** The source half of a known flow's translation (lane `ct` is set); 0, or minus a drop reason. */
export function followSource(dp: Datapath, b: Burst, s: number): number {
  return b.ctState[s] === CT_STATE_RELATED ? translateErrorSource(dp, b, s) : translateSource(dp, b, s);
}

/** Refuses the frame with an answer of kind REJECT_…; answers VERDICT_REJECTED. */
export function rejectFrame(dp: Datapath, b: Burst, s: number, kind: number): number {
  const answer = answerReject(dp, b, s, kind);
  if (answer !== -1) untranslateAnswer(dp, b, s, answer);
  b.reason[s] = REASON_RULE_REJECT;
  return VERDICT_REJECTED;
}

/** Gives the frame to the pod, to the next node, or out of the cluster. */
export function handOver(b: Burst, s: number, route: number): number {
  const index = routeIndex(route);
  switch (routeKind(route)) {
    case ROUTE_POD:
      b.target[s] = index;
      return VERDICT_DELIVERED;
    case ROUTE_NODE:
      b.node[s] = index;
      // Tells the next node's conntrack that the flow was counted; the end of the frame writes its verdict over it.
      b.verdict[s] = STEP_TO_NODE;
      return STEP_TO_NODE;
  }
  return VERDICT_FORWARDED;
}
