/**
 * The packet that an ICMP error quotes: reading its 5-tuple, and translating it together with the error around it
 * (RELATED traffic), so that the sender recognises its own packet and every checksum stays right.
 *
 * A *tuple* is an Int32Array of TUPLE_WORDS:
 *
 *     0 family   1 protocol   2–5 source   6–9 destination (host-order words)   10 source port   11 destination port
 *
 * ports as in the lanes: the identifier twice for ICMP queries, 0 for what has none.
 *
 * Guarantees: nothing outside the error's own packet is read or written, whatever the quote says of its length.
 * Refuses: what is not an ICMP error, a quote without its IP header and ports, a quote of the other family, a quote of
 * a later fragment (it names no flow). The quote's own checksums are updated where they are
 * quoted in full.
 */

import { type Burst, FRAG_FIRST, FRAG_LATER, FRAG_NONE } from './burst.ts';
import { applyDelta, delta16, delta32 } from './checksum.ts';
import { updateCrc32c } from './crc32c.ts';
import { hasIcmp4Identifier, ICMP_BYTES, ICMP_CHECKSUM, ICMP_ID, isIcmp4Error, PROTO_ICMP } from './icmp4.ts';
import { hasIcmp6Identifier, isIcmp6Error, PROTO_ICMPV6 } from './icmp6.ts';
import {
  getIpv4Checksum,
  getIpv4FragmentOffset,
  getIpv4HeaderBytes,
  getIpv4Protocol,
  getIpv4TotalLength,
  getIpv4Version,
  hasIpv4MoreFragments,
  IPV4_BYTES,
  IPV4_DST,
  IPV4_SRC,
  setIpv4Checksum,
} from './ipv4.ts';
import {
  finalDestinationOffset,
  getIpv6PayloadLength,
  getIpv6Version,
  IPV6_BYTES,
  IPV6_DST,
  IPV6_SRC,
  packWalk,
  setIpv6Address,
  walkBytes,
  walkExtensionHeaders,
  walkFrag,
  walkProto,
} from './ipv6.ts';
import {
  REASON_CT_TRUNCATED,
  REASON_FRAGMENT_UNSUPPORTED,
  REASON_INVALID_PACKET,
  REASON_UNKNOWN_L4,
} from './reason.ts';
import { rewriteIcmp4Id } from './rewrite.ts';
import { getSctpChecksum, PROTO_SCTP, SCTP_BYTES, SCTP_CHECKSUM, setSctpChecksum } from './sctp.ts';
import { PROTO_TCP, TCP_CHECKSUM } from './tcp.ts';
import { getUdpChecksum, PROTO_UDP, setUdpChecksum, UDP_BYTES } from './udp.ts';

export const TUPLE_FAMILY = 0;
export const TUPLE_PROTO = 1;
export const TUPLE_SRC = 2;
export const TUPLE_DST = 6;
export const TUPLE_SPORT = 10;
export const TUPLE_DPORT = 11;
export const TUPLE_WORDS = 12;

/** Bytes of a transport header that must be quoted: the ports, or an ICMP header up to its identifier. */
const PORT_BYTES = 4;
const IDENTIFIER_BYTES = ICMP_ID + 2;

/**
 * Reads the tuple of the packet that the ICMP error in a slot quotes, as it was sent: its source is usually the
 * error's destination.
 * @param out a tuple, see the top of the file; left alone on refusal
 * @returns 0, or a negative reason: REASON_UNKNOWN_L4 not an ICMP error, REASON_INVALID_PACKET a quoted IP header that
 *   lies, REASON_INVALID_EXTENSION_HEADER, REASON_CT_TRUNCATED no ports, REASON_FRAGMENT_UNSUPPORTED a later fragment
 */
export function innerTuple(b: Burst, s: number, out: Int32Array): number {
  const walk = findQuote(b, s);
  if (walk < 0) return walk;
  const view = b.view;
  const family = b.family[s];
  const l3 = b.l4[s] + ICMP_BYTES;
  const l4 = l3 + walkBytes(walk);
  const proto = walkProto(walk);
  out[TUPLE_FAMILY] = family;
  out[TUPLE_PROTO] = proto;
  const words = family === 4 ? 1 : 4;
  const src = l3 + (family === 4 ? IPV4_SRC : IPV6_SRC);
  for (let i = 0; i < 4; i++) {
    out[TUPLE_SRC + i] = i < words ? view.getInt32(src + i * 4) : 0;
    out[TUPLE_DST + i] = i < words ? view.getInt32(src + (words + i) * 4) : 0;
  }
  if (hasPorts(proto)) {
    out[TUPLE_SPORT] = view.getUint16(l4);
    out[TUPLE_DPORT] = view.getUint16(l4 + 2);
  } else {
    const id = isQuery(family, proto, view, l4) ? view.getUint16(l4 + ICMP_ID) : 0;
    out[TUPLE_SPORT] = id;
    out[TUPLE_DPORT] = id;
  }
  return 0;
}

/**
 * Translates an ICMP error and the packet it quotes; every lane of the outer header follows.
 * @param inner the tuple that the quoted packet is to show; family and protocol are not looked at, and of a query's
 *   ports the source port is the identifier
 * @param outer a tuple of which the addresses become those of the error itself
 * @returns 0, or a negative reason as `innerTuple` (nothing is written then)
 */
export function translateIcmpError(b: Burst, s: number, inner: Int32Array, outer: Int32Array): number {
  const walk = findQuote(b, s);
  if (walk < 0) return walk;
  const view = b.view;
  const icmp = b.l4[s];
  const l3 = icmp + ICMP_BYTES;
  const l4 = l3 + walkBytes(walk);
  const changed =
    b.family[s] === 4 ? translateQuote4(b, s, l3, l4, walk, inner) : translateQuote6(b, s, l3, l4, walk, inner);
  const outerDelta = b.family[s] === 4 ? readdress4(b, s, outer) : readdress6(b, s, outer);
  const old = view.getUint16(icmp + ICMP_CHECKSUM);
  view.setUint16(icmp + ICMP_CHECKSUM, applyDelta(old, changed + outerDelta));
  return 0;
}

/** Finds the quoted packet's transport header: a walk as of ipv6.ts for either family, or a negative reason. */
function findQuote(b: Burst, s: number): number {
  const view = b.view;
  const family = b.family[s];
  const type = b.info[s] >>> 8;
  if (b.frag[s] === FRAG_LATER) return -REASON_UNKNOWN_L4;
  if (b.proto[s] !== (family === 4 ? PROTO_ICMP : PROTO_ICMPV6)) return -REASON_UNKNOWN_L4;
  if (!(family === 4 ? isIcmp4Error(type) : isIcmp6Error(type))) return -REASON_UNKNOWN_L4;
  const l3 = b.l4[s] + ICMP_BYTES;
  const end = b.end[s];
  let walk = 0;
  if (family === 4) {
    if (end - l3 < IPV4_BYTES || getIpv4Version(view, l3) !== 4) return -REASON_INVALID_PACKET;
    const header = getIpv4HeaderBytes(view, l3);
    if (header < IPV4_BYTES || getIpv4TotalLength(view, l3) < header) return -REASON_INVALID_PACKET;
    const more = hasIpv4MoreFragments(view, l3) ? FRAG_FIRST : FRAG_NONE;
    walk = packWalk(header, getIpv4FragmentOffset(view, l3) > 0 ? FRAG_LATER : more, getIpv4Protocol(view, l3));
  } else {
    if (end - l3 < IPV6_BYTES || getIpv6Version(view, l3) !== 6) return -REASON_INVALID_PACKET;
    walk = walkExtensionHeaders(view, l3, end);
    if (walk < 0) return walk;
  }
  if (walkFrag(walk) === FRAG_LATER) return -REASON_FRAGMENT_UNSUPPORTED;
  const available = end - l3 - walkBytes(walk);
  const proto = walkProto(walk);
  if (hasPorts(proto)) return available < PORT_BYTES ? -REASON_CT_TRUNCATED : walk;
  const isIcmp = proto === (family === 4 ? PROTO_ICMP : PROTO_ICMPV6);
  return available < (isIcmp ? IDENTIFIER_BYTES : 0) ? -REASON_CT_TRUNCATED : walk;
}

function hasPorts(proto: number): boolean {
  return proto === PROTO_TCP || proto === PROTO_UDP || proto === PROTO_SCTP;
}

/** True for an ICMP message with an identifier, of the protocol that belongs to the family. */
function isQuery(family: number, proto: number, view: DataView, l4: number): boolean {
  if (family === 4) return proto === PROTO_ICMP && hasIcmp4Identifier(view.getUint8(l4));
  return proto === PROTO_ICMPV6 && hasIcmp6Identifier(view.getUint8(l4));
}

/** Rewrites the quoted IPv4 header and what follows; returns the delta for the checksum around it. */
function translateQuote4(b: Burst, s: number, l3: number, l4: number, walk: number, inner: Int32Array): number {
  const view = b.view;
  const src = inner[TUPLE_SRC];
  const dst = inner[TUPLE_DST];
  const addresses = delta32(view.getInt32(l3 + IPV4_SRC), src) + delta32(view.getInt32(l3 + IPV4_DST), dst);
  view.setInt32(l3 + IPV4_SRC, src);
  view.setInt32(l3 + IPV4_DST, dst);
  const old = getIpv4Checksum(view, l3);
  const sum = applyDelta(old, addresses);
  setIpv4Checksum(view, l3, sum);
  const length = getIpv4TotalLength(view, l3) - (l4 - l3);
  return addresses + delta16(old, sum) + translateQuoteL4(b, s, 4, l4, length, walk, addresses, inner);
}

/** Rewrites the quoted IPv6 header and what follows; returns the delta for the checksum around it. */
function translateQuote6(b: Burst, s: number, l3: number, l4: number, walk: number, inner: Int32Array): number {
  const source = replaceAddress6(b.view, l3 + IPV6_SRC, inner, TUPLE_SRC);
  const destination = replaceAddress6(b.view, l3 + IPV6_DST, inner, TUPLE_DST);
  const counts = finalDestinationOffset(b.view, l3, l4) === l3 + IPV6_DST;
  const pseudo = counts ? source + destination : source;
  const length = getIpv6PayloadLength(b.view, l3) + IPV6_BYTES - (l4 - l3);
  return source + destination + translateQuoteL4(b, s, 6, l4, length, walk, pseudo, inner);
}

/** Writes four words of a tuple over the address at `off`; returns the delta. */
function replaceAddress6(view: DataView, off: number, tuple: Int32Array, at: number): number {
  const delta =
    delta32(view.getInt32(off), tuple[at]) +
    delta32(view.getInt32(off + 4), tuple[at + 1]) +
    delta32(view.getInt32(off + 8), tuple[at + 2]) +
    delta32(view.getInt32(off + 12), tuple[at + 3]);
  setIpv6Address(view, off, tuple[at], tuple[at + 1], tuple[at + 2], tuple[at + 3]);
  return delta;
}

/**
 * Rewrites the quoted ports and, where it is quoted, their checksum.
 * @param length bytes of the quoted packet from its transport header on, when it was whole
 * @param pseudo delta of the addresses in its pseudo header
 */
function translateQuoteL4(
  b: Burst,
  s: number,
  family: number,
  l4: number,
  length: number,
  walk: number,
  pseudo: number,
  inner: Int32Array,
): number {
  const view = b.view;
  const proto = walkProto(walk);
  const available = b.end[s] - l4;
  if (!hasPorts(proto)) return translateQuoteIcmp(b, s, family, proto, l4, pseudo, inner);
  const oldPorts = view.getInt32(l4);
  const newPorts = (inner[TUPLE_SPORT] << 16) | (inner[TUPLE_DPORT] & 0xffff);
  const ports = delta32(oldPorts, newPorts);
  view.setInt32(l4, newPorts);
  if (proto === PROTO_TCP && available >= TCP_CHECKSUM + 2) {
    return ports + replaceSum(view, l4 + TCP_CHECKSUM, pseudo + ports);
  }
  if (proto === PROTO_UDP && available >= UDP_BYTES) {
    const old = getUdpChecksum(view, l4);
    if (old === 0) return ports;
    setUdpChecksum(view, l4, applyDelta(old, pseudo + ports));
    return ports + delta16(old, getUdpChecksum(view, l4));
  }
  // The CRC of a quoted packet can follow although its data is cut off: only the length counts. A fragment's is unknown.
  if (proto === PROTO_SCTP && available >= SCTP_BYTES && length >= SCTP_BYTES && walkFrag(walk) === FRAG_NONE) {
    const old = view.getInt32(l4 + SCTP_CHECKSUM);
    setSctpChecksum(view, l4, updateCrc32c(getSctpChecksum(view, l4), oldPorts, newPorts, length - 4));
    return ports + delta32(old, view.getInt32(l4 + SCTP_CHECKSUM));
  }
  return ports;
}

function translateQuoteIcmp(
  b: Burst,
  s: number,
  family: number,
  proto: number,
  l4: number,
  pseudo: number,
  inner: Int32Array,
): number {
  const view = b.view;
  const id = inner[TUPLE_SPORT];
  if (family === 4) {
    if (!isQuery(4, proto, view, l4)) return 0;
    const old = view.getUint16(l4 + ICMP_ID);
    const oldSum = view.getUint16(l4 + ICMP_CHECKSUM);
    rewriteIcmp4Id(b, l4, b.end[s], id);
    return delta16(old, id) + delta16(oldSum, view.getUint16(l4 + ICMP_CHECKSUM));
  }
  if (proto !== PROTO_ICMPV6) return 0;
  let delta = 0;
  if (isQuery(6, proto, view, l4)) {
    delta = delta16(view.getUint16(l4 + ICMP_ID), id);
    view.setUint16(l4 + ICMP_ID, id);
  }
  return delta + replaceSum(view, l4 + ICMP_CHECKSUM, pseudo + delta);
}

/** Applies a delta to the checksum at `off`; returns what that changes for a checksum around it. */
function replaceSum(view: DataView, off: number, delta: number): number {
  const old = view.getUint16(off);
  const sum = applyDelta(old, delta);
  view.setUint16(off, sum);
  return delta16(old, sum);
}

/** Readdresses the error itself; ICMPv4 has no pseudo header, so its checksum does not change. */
function readdress4(b: Burst, s: number, outer: Int32Array): number {
  const view = b.view;
  const l3 = b.l3[s];
  const src = outer[TUPLE_SRC];
  const dst = outer[TUPLE_DST];
  const delta = delta32(b.src0[s], src) + delta32(b.dst0[s], dst);
  view.setInt32(l3 + IPV4_SRC, src);
  view.setInt32(l3 + IPV4_DST, dst);
  setIpv4Checksum(view, l3, applyDelta(getIpv4Checksum(view, l3), delta));
  b.src0[s] = src;
  b.dst0[s] = dst;
  return 0;
}

/** Readdresses the error itself; returns the delta of its pseudo header. */
function readdress6(b: Burst, s: number, outer: Int32Array): number {
  const l3 = b.l3[s];
  const source = replaceAddress6(b.view, l3 + IPV6_SRC, outer, TUPLE_SRC);
  const destination = replaceAddress6(b.view, l3 + IPV6_DST, outer, TUPLE_DST);
  b.src0[s] = outer[TUPLE_SRC];
  b.src1[s] = outer[TUPLE_SRC + 1];
  b.src2[s] = outer[TUPLE_SRC + 2];
  b.src3[s] = outer[TUPLE_SRC + 3];
  b.dst0[s] = outer[TUPLE_DST];
  b.dst1[s] = outer[TUPLE_DST + 1];
  b.dst2[s] = outer[TUPLE_DST + 2];
  b.dst3[s] = outer[TUPLE_DST + 3];
  const counts = finalDestinationOffset(b.view, l3, b.l4[s]) === l3 + IPV6_DST;
  return counts ? source + destination : source;
}
