/**
 * The ebpf mode: a frame's path through one node whose services are eBPF maps, as Cilium's kube-proxy replacement does it.
 *
 *     pod      source check -> conntrack -+-> known flow: translate, policy, route
 *                                         +-> new flow: service, policy, hairpin, outbound masquerade, enter, route
 *     uplink   conntrack -----------------+-> known flow: translate (replies too), policy, route
 *                                         +-> new flow: service with source ranges, policy, SNAT or DSR for a remote
 *                                             backend, else as addressed; enter, route
 *     host     conntrack -> route; its sockets were balanced when they connected (ebpf-socket.ts)
 *     answer   what the node itself answers: route
 *
 * Policy is egress of the pod that sends and ingress of the pod that gets the frame here (ebpf-policy.ts), asked between
 * the two halves of a translation: behind the destination's, before the source's. Replies are not asked.
 *
 * Guarantees: the flow's entry says what happened to its frame, so both directions stay consistent whatever the image
 * becomes; bytes, lanes and checksums agree. What is not emulated is listed in docs/modes.md.
 */
import { backendAddress, backendPort } from '../tables/backends.ts';
import { type Conntrack, CT_REPLY, ctFlags, ctRemove, ctXDst, ctXPorts } from '../tables/conntrack.ts';
import { rowValue } from '../tables/hash-table.ts';
import { REJECT_PORT_UNREACHABLE } from '../tables/rule-list.ts';
import { type Burst, ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK, FRAG_FIRST, FRAG_LATER } from '../wire/burst.ts';
import {
  REASON_FRAGMENT_FIRST_MISSING,
  REASON_INVALID_SOURCE,
  REASON_IS_CLUSTER_IP,
  REASON_MARTIAN,
  REASON_NAT_UNSUPPORTED_PROTO,
  REASON_NO_BACKEND,
  REASON_NODE_NOT_COMPILED,
  REASON_NOT_IN_SOURCE_RANGE,
  REASON_TTL_EXCEEDED,
  REASON_UNKNOWN_L4,
  REASON_UNSUPPORTED_SERVICE_PROTO,
} from '../wire/reason.ts';
import { decrementTtl } from '../wire/rewrite.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP, TCP_ACK, TCP_SYN } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { answerReject, answerTimeExceeded } from './answer.ts';
import { COUNT_NEW_FLOWS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { beginFlow, EBPF_CT_ALLOWED, EBPF_CT_DSR, EBPF_CT_TRANSLATED, keepTuple, passFlow } from './ebpf-conntrack.ts';
import { noteFirstFragment, recallFirstFragment } from './ebpf-fragment.ts';
import { findQuotedFlow, isIcmpFlow, translateRelatedDestination, translateRelatedSource } from './ebpf-icmp.ts';
import {
  EBPF_DSR,
  EBPF_EXTERNAL_CLUSTER_IP,
  EBPF_MASQUERADE,
  EBPF_SCTP,
  type EbpfImage,
  FE_FLAGS,
  FE_HAS_BACKENDS,
  FE_HAS_RANGES,
  FE_IS_CLUSTER_IP,
} from './ebpf-image.ts';
import {
  forgetBalancedFlow,
  isToItself,
  keepBalancedFlow,
  maskHairpin,
  masquerade,
  passBalancedFrame,
  tellBackendNode,
} from './ebpf-nat.ts';
import { judgeFrame } from './ebpf-policy.ts';
import { POLICY_KEEPS_FLOWS } from './ebpf-policy-image.ts';
import {
  findFrontend,
  isInSourceRange,
  isSelected,
  NODE_PORTS_ANY,
  NODE_PORTS_OWN,
  selectBackend,
} from './ebpf-service.ts';
import { isIcmp } from './flow-key.ts';
import { findFlow, hashFlow } from './flow-lookup.ts';
import { isForEveryHost } from './martian.ts';
import { OWNER_POD, ownerKind } from './owner.ts';
import { EVENT_ROUTE, record2 } from './record.ts';
import {
  findDestinationOwner,
  findRoute,
  findSourceOwner,
  isLoopbackDestination,
  ROUTE_HOST,
  ROUTE_NODE,
  ROUTE_OUT,
  ROUTE_POD,
  routeIndex,
  routeKind,
} from './route.ts';
import { CT_NAT_OUTBOUND, conntrackOf, setDestination, translateDestination, translateSource } from './translate.ts';
import {
  NAT_DESTINATION,
  NAT_OUTBOUND,
  NAT_SOURCE,
  STEP_TO_NODE,
  VERDICT_DELIVERED,
  VERDICT_FORWARDED,
  VERDICT_REJECTED,
} from './verdict.ts';

/**
 * Runs one parsed frame through its node.
 * @returns VERDICT_… (VERDICT_REJECTED: lane `reason` is set), STEP_TO_NODE (lane `node` is set), or minus a drop reason
 */
export function ebpfNode(dp: Datapath, b: Burst, s: number): number {
  const image = dp.ebpf;
  if (image === null) return -REASON_NODE_NOT_COMPILED;
  if (b.entry[s] === ENTRY_POD && !isOwnSource(dp, b, s)) return -REASON_INVALID_SOURCE;
  const frag = b.frag[s];
  const proto = b.proto[s];
  if (frag === FRAG_LATER) return passLaterFragment(dp, image, b, s);
  if (frag === FRAG_FIRST) noteFirstFragment(dp.ports.fragments, b, s);
  if (isIcmp(proto) && !isIcmpFlow(b, s)) return passIcmpMessage(dp, image, b, s);
  const slot = findFlow(dp, b, s);
  if (slot < 0) return passNewFlow(dp, image, b, s);
  const ct = conntrackOf(dp, b, s);
  if (proto === PROTO_TCP && (b.info[s] & (TCP_SYN | TCP_ACK)) === TCP_SYN && isStale(dp, image, b, s, ct, slot)) {
    ctRemove(ct, b.shard[s], slot);
    return passNewFlow(dp, image, b, s);
  }
  return passKnownFlow(dp, image, b, s, ct, slot);
}

// ---- known flows ------------------------------------------------------------------------------------------------

function passKnownFlow(dp: Datapath, image: EbpfImage, b: Burst, s: number, ct: Conntrack, slot: number): number {
  const flags = ctFlags(ct, slot);
  passFlow(dp, b, s, ct, slot);
  if ((flags & EBPF_CT_TRANSLATED) === 0) {
    const straight = findRoute(dp, b, s);
    const allowed = judgeKnown(dp, image, b, s, flags, straight);
    return allowed < 0 ? allowed : leave(dp, b, s, straight);
  }
  const tells = (flags & (EBPF_CT_DSR | CT_REPLY)) === EBPF_CT_DSR && tellsEveryFrame(b, s);
  if (tells) keepTuple(b, s, image.scratch.original);
  const destination = translateDestination(dp, b, s);
  if (destination < 0) return destination;
  const route = findRoute(dp, b, s);
  const judged = judgeKnown(dp, image, b, s, flags, route);
  if (judged < 0) return judged;
  const source = translateSource(dp, b, s);
  if (source < 0) return source;
  if (tells && routeKind(route) === ROUTE_NODE) {
    const told = tellBackendNode(dp, b, s, routeIndex(route), image.scratch.original);
    if (told < 0) return told;
  }
  return leave(dp, b, s, route);
}

/** DSR: TCP carries the frontend with SYN only, everything else with every frame. */
function tellsEveryFrame(b: Burst, s: number): boolean {
  return b.proto[s] !== PROTO_TCP || (b.info[s] & (TCP_SYN | TCP_ACK)) === TCP_SYN;
}

/** A connection that begins anew on a known tuple, whose backend the Service no longer has, is balanced again. */
function isStale(dp: Datapath, image: EbpfImage, b: Burst, s: number, ct: Conntrack, slot: number): boolean {
  if ((ctFlags(ct, slot) & (EBPF_CT_TRANSLATED | CT_REPLY)) !== EBPF_CT_TRANSLATED) return false;
  const last = ct.addressWords - 1;
  const a0 = ctXDst(ct, slot, 0);
  const a1 = last === 0 ? 0 : ctXDst(ct, slot, 1);
  const a2 = last === 0 ? 0 : ctXDst(ct, slot, 2);
  const a3 = last === 0 ? 0 : ctXDst(ct, slot, 3);
  const port = ctXPorts(ct, slot) & 0xffff;
  const isBalanced =
    port !== b.dport[s] || a0 !== b.dst0[s] || a1 !== b.dst1[s] || a2 !== b.dst2[s] || a3 !== b.dst3[s];
  if (!isBalanced) return false;
  const nodePorts = b.entry[s] === ENTRY_UPLINK ? NODE_PORTS_OWN : NODE_PORTS_ANY;
  const frontend = findFrontend(dp, image, b, s, nodePorts);
  return frontend < 0 || !isSelected(dp, image, b, s, frontend, a0, a1, a2, a3, port);
}

// ---- new flows --------------------------------------------------------------------------------------------------

function passNewFlow(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  if (isMartian(b, s)) return -REASON_MARTIAN;
  if (isForEveryHost(b, s)) return leave(dp, b, s, ROUTE_HOST << 24);
  switch (b.entry[s]) {
    case ENTRY_POD:
      return passNewFromPod(dp, image, b, s);
    case ENTRY_UPLINK:
      return passNewFromUplink(dp, image, b, s);
    case ENTRY_HOST:
      return passNewFromHost(dp, image, b, s);
  }
  return leave(dp, b, s, findRoute(dp, b, s));
}

function passNewFromPod(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  if (!isCarried(image, b, s)) return -REASON_UNKNOWN_L4;
  keepTuple(b, s, image.scratch.original);
  let flags = 0;
  const frontend = hasPorts(b, s) ? findFrontend(dp, image, b, s, NODE_PORTS_ANY) : -1;
  if (frontend >= 0) {
    const step = balance(dp, image, b, s, frontend);
    if (step !== 0) return step;
    flags = EBPF_CT_TRANSLATED;
  }
  const route = findRoute(dp, b, s);
  const judged = judgeNew(dp, image, b, s, route);
  if (judged < 0) return judged;
  if (flags !== 0 && isToItself(b, s)) {
    const masked = maskHairpin(dp, b, s);
    if (masked < 0) return masked;
  }
  if (leavesCluster(dp, image, b, s, route)) {
    const step = masquerade(dp, b, s, NAT_OUTBOUND);
    if (step < 0) return step;
    flags |= EBPF_CT_TRANSLATED | CT_NAT_OUTBOUND;
  }
  return enter(dp, image, b, s, flags, 1, route);
}

/** Pod traffic that takes the node's address. SCTP cannot: its ports are not rewritten. */
function leavesCluster(dp: Datapath, image: EbpfImage, b: Burst, s: number, route: number): boolean {
  if ((image.options & EBPF_MASQUERADE) === 0 || routeKind(route) !== ROUTE_OUT) return false;
  return b.proto[s] !== PROTO_SCTP && findDestinationOwner(dp, b, s) < 0;
}

function passNewFromUplink(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  if (hasPorts(b, s)) {
    const frontend = findFrontend(dp, image, b, s, NODE_PORTS_OWN);
    if (frontend >= 0) return passServiceFromUplink(dp, image, b, s, frontend);
    if ((image.options & EBPF_DSR) !== 0 && passBalancedFrame(dp, b, s)) return deliverBalanced(dp, image, b, s);
  }
  const route = findRoute(dp, b, s);
  const kind = routeKind(route);
  // On its way to somewhere else, the node is but a router.
  if (kind !== ROUTE_POD && kind !== ROUTE_HOST) return leave(dp, b, s, route);
  if (!isCarried(image, b, s)) return kind === ROUTE_HOST ? leave(dp, b, s, route) : -REASON_UNKNOWN_L4;
  const judged = judgeNew(dp, image, b, s, route);
  if (judged < 0) return judged;
  keepTuple(b, s, image.scratch.original);
  return enter(dp, image, b, s, 0, beginsHere(dp, b, s), route);
}

/**
 * Sends a frame that another node balanced to the pod here. That node entered its flow already: one that was never allowed
 * is taken out again.
 */
function deliverBalanced(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  const route = findRoute(dp, b, s);
  const policy = image.policy;
  if (policy !== null) {
    const wasAllowed = (ctFlags(conntrackOf(dp, b, s), b.ct[s]) & EBPF_CT_ALLOWED) !== 0;
    if (!wasAllowed || (policy.options & POLICY_KEEPS_FLOWS) === 0) {
      const judged = judgeFrame(dp, policy, b, s, route);
      if (judged < 0) {
        if (!wasAllowed) forgetBalancedFlow(dp, b, s);
        return judged;
      }
      if (!wasAllowed) keepBalancedFlow(dp, b, s);
    }
  }
  return leave(dp, b, s, route);
}

/**
 * A client's frame to a frontend. A local backend sees the client; for a remote one the node puts itself between them
 * (SNAT), or lets the backend's node answer in its place (DSR).
 */
function passServiceFromUplink(dp: Datapath, image: EbpfImage, b: Burst, s: number, frontend: number): number {
  const kind = rowValue(image.frontends, frontend, FE_FLAGS);
  if ((kind & FE_HAS_RANGES) !== 0 && !isInSourceRange(dp, image, b, s, frontend)) return -REASON_NOT_IN_SOURCE_RANGE;
  if ((kind & FE_IS_CLUSTER_IP) !== 0 && (image.options & EBPF_EXTERNAL_CLUSTER_IP) === 0) return -REASON_IS_CLUSTER_IP;
  const original = image.scratch.original;
  keepTuple(b, s, original);
  const begins = beginsHere(dp, b, s);
  const step = balance(dp, image, b, s, frontend);
  if (step !== 0) return step;
  const route = findRoute(dp, b, s);
  const judged = judgeNew(dp, image, b, s, route);
  if (judged < 0) return judged;
  const isRemote = routeKind(route) === ROUTE_NODE;
  let flags = EBPF_CT_TRANSLATED;
  if (isRemote && (image.options & EBPF_DSR) !== 0) {
    flags |= EBPF_CT_DSR;
    const told = tellBackendNode(dp, b, s, routeIndex(route), original);
    if (told < 0) return told;
  } else if (isRemote || routeKind(route) === ROUTE_OUT) {
    if (b.proto[s] === PROTO_SCTP) return -REASON_NAT_UNSUPPORTED_PROTO;
    const masked = masquerade(dp, b, s, NAT_SOURCE);
    if (masked < 0) return masked;
  }
  return enter(dp, image, b, s, flags, begins, route);
}

function passNewFromHost(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  const route = findRoute(dp, b, s);
  if (routeKind(route) === ROUTE_HOST || !isCarried(image, b, s)) return leave(dp, b, s, route);
  keepTuple(b, s, image.scratch.original);
  return enter(dp, image, b, s, 0, 1, route);
}

/** Gives the frame a backend of a frontend. 0, VERDICT_REJECTED (answered), or minus a drop reason. */
function balance(dp: Datapath, image: EbpfImage, b: Burst, s: number, frontend: number): number {
  const isSctp = b.proto[s] === PROTO_SCTP;
  if (isSctp && (image.options & EBPF_SCTP) === 0) return -REASON_UNKNOWN_L4;
  const backend = selectBackend(dp, image, b, s, frontend);
  if (backend < 0) {
    // A policy keeps the backends of other nodes away: silence. There are none at all: the client is told.
    if ((rowValue(image.frontends, frontend, FE_FLAGS) & FE_HAS_BACKENDS) !== 0) return -REASON_NO_BACKEND;
    answerReject(dp, b, s, REJECT_PORT_UNREACHABLE);
    b.reason[s] = REASON_NO_BACKEND;
    return VERDICT_REJECTED;
  }
  const backends = image.backends;
  const port = backendPort(backends, backend);
  if (isSctp && port !== b.dport[s]) return -REASON_UNSUPPORTED_SERVICE_PROTO;
  return setDestination(
    dp,
    b,
    s,
    backendAddress(backends, backend, 0),
    backendAddress(backends, backend, 1),
    backendAddress(backends, backend, 2),
    backendAddress(backends, backend, 3),
    port,
    NAT_DESTINATION,
  );
}

/** 1 for a frame that came from outside: a flow of a pod or node began on another node. */
function beginsHere(dp: Datapath, b: Burst, s: number): number {
  return findSourceOwner(dp, b, s) < 0 ? 1 : 0;
}

/** Enters the new flow, counts it if it begins here, and sends its frame on. */
function enter(
  dp: Datapath,
  image: EbpfImage,
  b: Burst,
  s: number,
  flags: number,
  begins: number,
  route: number,
): number {
  const slot = beginFlow(dp, b, s, image.scratch.original, flags);
  if (slot < 0) return slot;
  dp.counters[COUNT_NEW_FLOWS] += begins;
  return leave(dp, b, s, route);
}

// ---- fragments and ICMP -----------------------------------------------------------------------------------------

/**
 * A fragment without ports takes those of its datagram's first one. If that is not known there is no key to look anything
 * up with, and it is dropped, from pod to pod too (cilium#13349, #25709); only what the host sends is but routed.
 */
function passLaterFragment(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  if (recallFirstFragment(dp.ports.fragments, b, s) < 0) {
    return b.entry[s] === ENTRY_HOST ? leave(dp, b, s, findRoute(dp, b, s)) : -REASON_FRAGMENT_FIRST_MISSING;
  }
  if (!isIcmp(b.proto[s]) || isIcmpFlow(b, s)) {
    hashFlow(b, s);
    const slot = findFlow(dp, b, s);
    if (slot >= 0) return passKnownFlow(dp, image, b, s, conntrackOf(dp, b, s), slot);
  }
  // Its first fragment went without a flow, or its flow has gone: it passes where nothing could have been translated.
  const from = findSourceOwner(dp, b, s);
  const to = findDestinationOwner(dp, b, s);
  const isPlain = from >= 0 && to >= 0 && ownerKind(from) === OWNER_POD && ownerKind(to) === OWNER_POD;
  if (!isPlain && b.entry[s] !== ENTRY_HOST) return -REASON_FRAGMENT_FIRST_MISSING;
  return passWithoutFlow(dp, image, b, s);
}

function passIcmpMessage(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  if (isMartian(b, s)) return -REASON_MARTIAN;
  if (isForEveryHost(b, s)) return leave(dp, b, s, ROUTE_HOST << 24);
  if (!findQuotedFlow(dp, b, s)) return passWithoutFlow(dp, image, b, s);
  const destination = translateRelatedDestination(dp, b, s);
  if (destination < 0) return destination;
  const route = findRoute(dp, b, s);
  const source = translateRelatedSource(dp, b, s);
  return source < 0 ? source : leave(dp, b, s, route);
}

function passWithoutFlow(dp: Datapath, image: EbpfImage, b: Burst, s: number): number {
  const route = findRoute(dp, b, s);
  const judged = judgeNew(dp, image, b, s, route);
  return judged < 0 ? judged : leave(dp, b, s, route);
}

// ---- shared steps -----------------------------------------------------------------------------------------------

/** Asks the policies of the pods at both ends about a frame that no flow vouches for. 0, or minus a drop reason. */
function judgeNew(dp: Datapath, image: EbpfImage, b: Burst, s: number, route: number): number {
  return image.policy === null ? 0 : judgeFrame(dp, image.policy, b, s, route);
}

/** Asks them again about a frame of a known flow. 0, or minus a drop reason. */
function judgeKnown(dp: Datapath, image: EbpfImage, b: Burst, s: number, flags: number, route: number): number {
  const policy = image.policy;
  if (policy === null || (flags & CT_REPLY) !== 0 || (policy.options & POLICY_KEEPS_FLOWS) !== 0) return 0;
  return judgeFrame(dp, policy, b, s, route);
}

/** Sends the frame where its route says. */
function leave(dp: Datapath, b: Burst, s: number, route: number): number {
  const kind = routeKind(route);
  if (dp.ring.on)
    record2(dp.ring, EVENT_ROUTE, kind, kind === ROUTE_POD || kind === ROUTE_NODE ? routeIndex(route) : -1);
  if (kind === ROUTE_HOST) return VERDICT_DELIVERED;
  if ((b.entry[s] === ENTRY_POD || b.entry[s] === ENTRY_UPLINK) && decrementTtl(b, s) === 0) {
    answerTimeExceeded(dp, b, s);
    return -REASON_TTL_EXCEEDED;
  }
  if (kind === ROUTE_POD) {
    b.target[s] = routeIndex(route);
    return VERDICT_DELIVERED;
  }
  if (kind === ROUTE_NODE) {
    b.node[s] = routeIndex(route);
    return STEP_TO_NODE;
  }
  return VERDICT_FORWARDED;
}

/** True where a pod's frame carries the pod's address. Unlisted pods have none to compare with. */
function isOwnSource(dp: Datapath, b: Burst, s: number): boolean {
  const endpoint = b.endpoint[s];
  if (endpoint < 0) return true;
  if (b.family[s] === 4) return b.src0[s] === dp.topology.endpointAddress4[endpoint];
  const own = dp.topology.endpointAddress6;
  const at = endpoint * 4;
  return b.src0[s] === own[at] && b.src1[s] === own[at + 1] && b.src2[s] === own[at + 2] && b.src3[s] === own[at + 3];
}

/**
 * Addresses that the kernel below refuses on a frame from outside the node, as in the other modes (martian.ts): loopback
 * on either side, a group as source, 0/8, and groups beyond the link, which nobody forwards.
 */
function isMartian(b: Burst, s: number): boolean {
  if (b.entry[s] !== ENTRY_POD && b.entry[s] !== ENTRY_UPLINK) return false;
  const src = b.src0[s];
  const dst = b.dst0[s];
  if (isLoopbackDestination(b, s)) return true;
  if (b.family[s] === 6) {
    if (src >>> 24 === 0xff || ((src | b.src1[s] | b.src2[s]) === 0 && b.src3[s] === 1)) return true;
    return dst >>> 24 === 0xff && !isForEveryHost(b, s);
  }
  if (src >>> 28 === 0xe || src === -1 || src >>> 24 === 127) return true;
  return dst !== -1 && (src >>> 24 === 0 || dst >>> 24 === 0 || dst >>> 28 === 0xe);
}

function hasPorts(b: Burst, s: number): boolean {
  const proto = b.proto[s];
  return proto === PROTO_TCP || proto === PROTO_UDP || proto === PROTO_SCTP;
}

/** Protocols that the maps have keys for. */
function isCarried(image: EbpfImage, b: Burst, s: number): boolean {
  const proto = b.proto[s];
  if (proto === PROTO_SCTP) return (image.options & EBPF_SCTP) !== 0;
  return proto === PROTO_TCP || proto === PROTO_UDP || isIcmp(proto);
}
