/**
 * What an nftables expression reads: a field of the packet, its flow, its interfaces or the node's routes, into registers.
 *
 * Guarantees: every SELECT_… of tables/nft-rules.ts. A field that the packet does not have (an address of the other
 * family, a byte behind its end, a flow's tuple without a flow) is answered by false: the rule does not hold, as with the
 * kernel's NFT_BREAK. Numbers are the kernel's (`ct state`, `fib type`, `pkttype`).
 */
import { ctProto } from '../tables/conntrack.ts';
import {
  CT_STATE_BIT_ESTABLISHED,
  CT_STATE_BIT_INVALID,
  CT_STATE_BIT_NEW,
  CT_STATE_BIT_RELATED,
  CT_STATE_BIT_UNTRACKED,
  CT_STATUS_DNAT,
  CT_STATUS_SNAT,
  FIB_TYPE_ANYCAST,
  FIB_TYPE_BLACKHOLE,
  FIB_TYPE_BROADCAST,
  FIB_TYPE_LOCAL,
  FIB_TYPE_MULTICAST,
  FIB_TYPE_PROHIBIT,
  FIB_TYPE_UNICAST,
  FIB_TYPE_UNREACHABLE,
  PAYLOAD_TRANSPORT,
  payloadBase,
  payloadBytes,
  payloadOffset,
  SELECT_CT_DIRECTION,
  SELECT_CT_L3PROTO,
  SELECT_CT_L4PROTO,
  SELECT_CT_MARK,
  SELECT_CT_ORIGINAL_DADDR4,
  SELECT_CT_ORIGINAL_DADDR6,
  SELECT_CT_ORIGINAL_DPORT,
  SELECT_CT_ORIGINAL_SADDR4,
  SELECT_CT_ORIGINAL_SADDR6,
  SELECT_CT_ORIGINAL_SPORT,
  SELECT_CT_REPLY_DADDR4,
  SELECT_CT_REPLY_DADDR6,
  SELECT_CT_REPLY_DPORT,
  SELECT_CT_REPLY_SADDR4,
  SELECT_CT_REPLY_SADDR6,
  SELECT_CT_REPLY_SPORT,
  SELECT_CT_STATE,
  SELECT_CT_STATUS,
  SELECT_DADDR_OWNER,
  SELECT_DADDR4,
  SELECT_DADDR6,
  SELECT_DPORT,
  SELECT_FIB_DADDR_IIF_TYPE,
  SELECT_FIB_DADDR_OIF,
  SELECT_FIB_DADDR_TYPE,
  SELECT_FIB_SADDR_IIF_OIF,
  SELECT_FIB_SADDR_IIF_TYPE,
  SELECT_FIB_SADDR_OIF,
  SELECT_FIB_SADDR_TYPE,
  SELECT_IIF,
  SELECT_IIF_CLASS,
  SELECT_L4PROTO,
  SELECT_LENGTH,
  SELECT_MARK,
  SELECT_NFPROTO,
  SELECT_OIF,
  SELECT_OIF_CLASS,
  SELECT_PAYLOAD,
  SELECT_PKTTYPE,
  SELECT_PROTOCOL,
  SELECT_SADDR_OWNER,
  SELECT_SADDR4,
  SELECT_SADDR6,
  SELECT_SPORT,
  selectorKind,
} from '../tables/nft-rules.ts';
import {
  ADDRTYPE_ANYCAST,
  ADDRTYPE_BLACKHOLE,
  ADDRTYPE_BROADCAST,
  ADDRTYPE_LOCAL,
  ADDRTYPE_MULTICAST,
  ADDRTYPE_PROHIBIT,
  ADDRTYPE_UNREACHABLE,
  IFACE_LOOPBACK,
  TUPLE_ORIG_DST,
  TUPLE_ORIG_SRC,
  TUPLE_REPL_DST,
  TUPLE_REPL_SRC,
} from '../tables/rule-list.ts';
import { type Burst, FRAG_LATER, frameOffset } from '../wire/burst.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, isGroupFrame } from '../wire/ethernet.ts';
import { destinationAddressType, sourceAddressType } from './address-type.ts';
import { connmarkOf } from './connmark.ts';
import type { Datapath } from './datapath.ts';
import { addressDevice, findDestinationRoute, findSourceRoute, interfacesOf, routeDevice } from './interface.ts';
import { FLOW_IN, FLOW_IN_DEVICE, FLOW_OUT, FLOW_OUT_DEVICE } from './netfilter-scratch.ts';
import { interfaceOf } from './node-steps.ts';
import { OWNER_NODE, ownerBit, ownerIndex, ownerKind } from './owner.ts';
import { CT_STATE_ESTABLISHED, CT_STATE_NEW, CT_STATE_RELATED, CT_STATE_REPLY, CT_STATE_UNTRACKED } from './record.ts';
import { findDestinationOwner, findRoute, findSourceOwner, ROUTE_HOST, routeKind } from './route.ts';
import { hasPorts } from './rule-match.ts';
import { flowStatus, hasFlow, isReply, tuplePort, tupleWord } from './rule-match-flow.ts';
import { conntrackOf } from './translate.ts';

const NFPROTO_IPV4 = 2;
const NFPROTO_IPV6 = 10;

const PKTTYPE_BROADCAST = 1;
const PKTTYPE_MULTICAST = 2;

/**
 * Reads a field into `registers[at]`, an IPv6 address into four of them.
 * @param selector SELECT_… or `payloadSelector`
 * @returns false if the packet has no such field
 */
export function loadField(
  dp: Datapath,
  b: Burst,
  s: number,
  selector: number,
  registers: Int32Array,
  at: number,
): boolean {
  switch (selectorKind(selector)) {
    // Those that every packet meets come first.
    case SELECT_CT_STATE:
      registers[at] = stateBit(b.ctState[s]);
      return true;
    case SELECT_DADDR4:
      registers[at] = b.dst0[s];
      return b.family[s] === 4;
    case SELECT_L4PROTO:
      registers[at] = b.proto[s];
      return true;
    case SELECT_DPORT:
      registers[at] = b.dport[s];
      return hasPorts(b, s) || loadBytes(b, s, PAYLOAD_TRANSPORT, 2, 2, registers, at);
    case SELECT_SADDR4:
      registers[at] = b.src0[s];
      return b.family[s] === 4;
    case SELECT_MARK:
      registers[at] = b.mark[s];
      return true;
    case SELECT_DADDR6:
      registers[at] = b.dst0[s];
      registers[at + 1] = b.dst1[s];
      registers[at + 2] = b.dst2[s];
      registers[at + 3] = b.dst3[s];
      return b.family[s] === 6;
    case SELECT_SADDR6:
      registers[at] = b.src0[s];
      registers[at + 1] = b.src1[s];
      registers[at + 2] = b.src2[s];
      registers[at + 3] = b.src3[s];
      return b.family[s] === 6;
    case SELECT_NFPROTO:
      registers[at] = b.family[s] === 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
      return true;
    case SELECT_SPORT:
      registers[at] = b.sport[s];
      return hasPorts(b, s) || loadBytes(b, s, PAYLOAD_TRANSPORT, 0, 2, registers, at);
    case SELECT_IIF_CLASS:
      registers[at] = dp.ports.scratch.flow[FLOW_IN];
      return true;
    case SELECT_OIF_CLASS:
      registers[at] = dp.ports.scratch.flow[FLOW_OUT];
      return true;
    case SELECT_PAYLOAD:
      return loadBytes(b, s, payloadBase(selector), payloadOffset(selector), payloadBytes(selector), registers, at);
    case SELECT_PROTOCOL:
      registers[at] = b.family[s] === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
      return true;
    case SELECT_LENGTH:
      registers[at] = b.end[s] - b.l3[s];
      return true;
    case SELECT_PKTTYPE:
      registers[at] = packetType(b, s);
      return true;
    case SELECT_SADDR_OWNER:
      registers[at] = ownerBit(findSourceOwner(dp, b, s));
      return true;
    case SELECT_DADDR_OWNER:
      registers[at] = ownerBit(findDestinationOwner(dp, b, s));
      return true;
  }
  return loadPlace(dp, b, s, selector, registers, at) || loadFlow(dp, b, s, selector, registers, at);
}

// ---- the packet -------------------------------------------------------------------------------------------------

/** Reads 1, 2 or 4 bytes of a header as a number. */
function loadBytes(
  b: Burst,
  s: number,
  base: number,
  offset: number,
  bytes: number,
  registers: Int32Array,
  at: number,
): boolean {
  if (base === PAYLOAD_TRANSPORT && b.frag[s] === FRAG_LATER) return false;
  const from = (base === PAYLOAD_TRANSPORT ? b.l4[s] : b.l3[s]) + offset;
  if (from + bytes > b.end[s]) return false;
  if (bytes === 1) registers[at] = b.view.getUint8(from);
  else if (bytes === 2) registers[at] = b.view.getUint16(from);
  else registers[at] = b.view.getInt32(from);
  return true;
}

function packetType(b: Burst, s: number): number {
  const frame = frameOffset(b, s);
  if (!isGroupFrame(b.view, frame)) return 0;
  return b.view.getUint16(frame) === 0xffff && b.view.getInt32(frame + 2) === -1
    ? PKTTYPE_BROADCAST
    : PKTTYPE_MULTICAST;
}

// ---- interfaces and routes --------------------------------------------------------------------------------------

function loadPlace(dp: Datapath, b: Burst, s: number, selector: number, registers: Int32Array, at: number): boolean {
  switch (selector) {
    case SELECT_IIF:
      registers[at] = interfaceNumber(dp, b, s, dp.ports.scratch.flow[FLOW_IN_DEVICE]);
      return true;
    case SELECT_OIF:
      registers[at] = interfaceNumber(dp, b, s, dp.ports.scratch.flow[FLOW_OUT_DEVICE]);
      return true;
    case SELECT_FIB_SADDR_TYPE:
      registers[at] = fibType(sourceAddressType(dp, b, s));
      return true;
    case SELECT_FIB_DADDR_TYPE:
      registers[at] = fibType(destinationAddressType(dp, b, s));
      return true;
    case SELECT_FIB_SADDR_IIF_TYPE:
      registers[at] = typeOnInterface(dp, b, s, fibType(sourceAddressType(dp, b, s)), true);
      return true;
    case SELECT_FIB_DADDR_IIF_TYPE:
      registers[at] = typeOnInterface(dp, b, s, fibType(destinationAddressType(dp, b, s)), false);
      return true;
    case SELECT_FIB_SADDR_OIF:
      registers[at] = sourceInterface(dp, b, s, false);
      return true;
    case SELECT_FIB_SADDR_IIF_OIF:
      registers[at] = sourceInterface(dp, b, s, true);
      return true;
    case SELECT_FIB_DADDR_OIF:
      registers[at] = destinationInterface(dp, b, s);
      return true;
  }
  return false;
}

/** A number of interface.ts as rules compare it: one more, 0 for none, and on nodes whose interfaces have no numbers. */
function interfaceNumber(dp: Datapath, b: Burst, s: number, device: number): number {
  return interfacesOf(dp, b, s) === null ? 0 : device + 1;
}

function fibType(addressType: number): number {
  switch (addressType) {
    case ADDRTYPE_LOCAL:
      return FIB_TYPE_LOCAL;
    case ADDRTYPE_BROADCAST:
      return FIB_TYPE_BROADCAST;
    case ADDRTYPE_ANYCAST:
      return FIB_TYPE_ANYCAST;
    case ADDRTYPE_MULTICAST:
      return FIB_TYPE_MULTICAST;
    case ADDRTYPE_BLACKHOLE:
      return FIB_TYPE_BLACKHOLE;
    case ADDRTYPE_UNREACHABLE:
      return FIB_TYPE_UNREACHABLE;
    case ADDRTYPE_PROHIBIT:
      return FIB_TYPE_PROHIBIT;
  }
  return FIB_TYPE_UNICAST;
}

/** The type of an address as one interface sees it: what another interface holds is unicast there. */
function typeOnInterface(dp: Datapath, b: Burst, s: number, type: number, isSource: boolean): number {
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null || type === FIB_TYPE_UNICAST) return type;
  const row = isSource ? findSourceRoute(dp, interfaces, b, s) : findDestinationRoute(dp, interfaces, b, s);
  return addressDevice(interfaces, row) === dp.ports.scratch.flow[FLOW_IN_DEVICE] ? type : FIB_TYPE_UNICAST;
}

/**
 * The interface of the route back to the source, 0 for none and for the node's own addresses; what came in by lo leads
 * back to it. Where interfaces have no numbers every way back is that by which the frame came.
 */
function sourceInterface(dp: Datapath, b: Burst, s: number, asCame: boolean): number {
  const flow = dp.ports.scratch.flow;
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null) {
    if (flow[FLOW_IN] === IFACE_LOOPBACK) return IFACE_LOOPBACK;
    return isOwnNode(findSourceOwner(dp, b, s), b.node[s]) ? 0 : flow[FLOW_IN];
  }
  if (flow[FLOW_IN] === IFACE_LOOPBACK) return flow[FLOW_IN_DEVICE] + 1;
  const device = routeDevice(interfaces, findSourceRoute(dp, interfaces, b, s));
  return asCame && device !== flow[FLOW_IN_DEVICE] ? 0 : device + 1;
}

function destinationInterface(dp: Datapath, b: Burst, s: number): number {
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces !== null) return routeDevice(interfaces, findDestinationRoute(dp, interfaces, b, s)) + 1;
  const route = findRoute(dp, b, s);
  return routeKind(route) === ROUTE_HOST ? 0 : interfaceOf(route);
}

function isOwnNode(owner: number, node: number): boolean {
  return owner >= 0 && ownerKind(owner) === OWNER_NODE && ownerIndex(owner) === node;
}

// ---- the flow ---------------------------------------------------------------------------------------------------

/** A bit of `ct state`; a packet that conntrack has not seen yet is invalid to the rules, as to the kernel's. */
function stateBit(ctState: number): number {
  switch (ctState) {
    case CT_STATE_NEW:
      return CT_STATE_BIT_NEW;
    case CT_STATE_ESTABLISHED:
    case CT_STATE_REPLY:
      return CT_STATE_BIT_ESTABLISHED;
    case CT_STATE_RELATED:
      return CT_STATE_BIT_RELATED;
    case CT_STATE_UNTRACKED:
      return CT_STATE_BIT_UNTRACKED;
  }
  return CT_STATE_BIT_INVALID;
}

function loadFlow(dp: Datapath, b: Burst, s: number, selector: number, registers: Int32Array, at: number): boolean {
  if (!hasFlow(b, s)) return false;
  switch (selector) {
    case SELECT_CT_STATUS:
      registers[at] = flowStatus(dp, b, s) | natStatus(dp, b, s);
      return true;
    case SELECT_CT_DIRECTION:
      registers[at] = isReply(dp, b, s) ? 1 : 0;
      return true;
    case SELECT_CT_MARK:
      registers[at] = connmarkOf(dp, b, s);
      return true;
    case SELECT_CT_L3PROTO:
      registers[at] = b.family[s] === 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
      return true;
    case SELECT_CT_L4PROTO:
      registers[at] = flowProto(dp, b, s);
      return true;
    case SELECT_CT_ORIGINAL_SADDR4:
      return loadTuple4(dp, b, s, TUPLE_ORIG_SRC, registers, at);
    case SELECT_CT_ORIGINAL_DADDR4:
      return loadTuple4(dp, b, s, TUPLE_ORIG_DST, registers, at);
    case SELECT_CT_REPLY_SADDR4:
      return loadTuple4(dp, b, s, TUPLE_REPL_SRC, registers, at);
    case SELECT_CT_REPLY_DADDR4:
      return loadTuple4(dp, b, s, TUPLE_REPL_DST, registers, at);
    case SELECT_CT_ORIGINAL_SADDR6:
      return loadTuple6(dp, b, s, TUPLE_ORIG_SRC, registers, at);
    case SELECT_CT_ORIGINAL_DADDR6:
      return loadTuple6(dp, b, s, TUPLE_ORIG_DST, registers, at);
    case SELECT_CT_REPLY_SADDR6:
      return loadTuple6(dp, b, s, TUPLE_REPL_SRC, registers, at);
    case SELECT_CT_REPLY_DADDR6:
      return loadTuple6(dp, b, s, TUPLE_REPL_DST, registers, at);
    case SELECT_CT_ORIGINAL_SPORT:
      registers[at] = tuplePort(dp, b, s, TUPLE_ORIG_SRC);
      return true;
    case SELECT_CT_ORIGINAL_DPORT:
      registers[at] = tuplePort(dp, b, s, TUPLE_ORIG_DST);
      return true;
    case SELECT_CT_REPLY_SPORT:
      registers[at] = tuplePort(dp, b, s, TUPLE_REPL_SRC);
      return true;
    case SELECT_CT_REPLY_DPORT:
      registers[at] = tuplePort(dp, b, s, TUPLE_REPL_DST);
      return true;
  }
  return false;
}

function loadTuple4(dp: Datapath, b: Burst, s: number, which: number, registers: Int32Array, at: number): boolean {
  registers[at] = tupleWord(dp, b, s, which, 0);
  return b.family[s] === 4;
}

function loadTuple6(dp: Datapath, b: Burst, s: number, which: number, registers: Int32Array, at: number): boolean {
  if (b.family[s] !== 6) return false;
  for (let i = 0; i < 4; i++) registers[at + i] = tupleWord(dp, b, s, which, i);
  return true;
}

/** Protocol of the flow: not that of an ICMP error about it. */
function flowProto(dp: Datapath, b: Burst, s: number): number {
  return b.ct[s] === -1 ? b.proto[s] : ctProto(conntrackOf(dp, b, s), b.ct[s]);
}

/** Which sides of the flow are translated, ports included (nf_nat_setup_info sets the bits if the tuple changes). */
function natStatus(dp: Datapath, b: Burst, s: number): number {
  let source = tuplePort(dp, b, s, TUPLE_ORIG_SRC) ^ tuplePort(dp, b, s, TUPLE_REPL_DST);
  let destination = tuplePort(dp, b, s, TUPLE_ORIG_DST) ^ tuplePort(dp, b, s, TUPLE_REPL_SRC);
  const count = b.family[s] === 4 ? 1 : 4;
  for (let i = 0; i < count; i++) {
    source |= tupleWord(dp, b, s, TUPLE_ORIG_SRC, i) ^ tupleWord(dp, b, s, TUPLE_REPL_DST, i);
    destination |= tupleWord(dp, b, s, TUPLE_ORIG_DST, i) ^ tupleWord(dp, b, s, TUPLE_REPL_SRC, i);
  }
  return (source !== 0 ? CT_STATUS_SNAT : 0) | (destination !== 0 ? CT_STATUS_DNAT : 0);
}
