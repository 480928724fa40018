/**
 * NAT on the bytes: addresses, ports and identifiers change in the frame, in its lanes and in every checksum that
 * covers them, incrementally (RFC 1624), so that a wrong checksum stays wrong and a right one right.
 *
 * Rules:
 * 1. A later fragment has no transport header: its addresses change, and the IPv4 header checksum.
 * 2. UDP checksum 0 (none) stays 0; a computed 0 is written as 0xFFFF.
 * 3. SCTP's CRC covers ports and no addresses: a new port has it computed again over the packet, addresses leave it.
 * 4. ICMP queries: the port is the identifier, whichever side is rewritten. ICMPv4 covers no addresses, ICMPv6 does.
 * 5. IPv6 behind a routing header with segments left: the pseudo header has the last stop, so the fixed header's
 *    destination is rewritten without touching the transport checksum.
 * 6. Other protocols: addresses only; the port is not looked at.
 *
 * The frame must have passed `parseFrame`. Refuses nothing but what `translateIcmpError` and `innerTuple` say; the
 * port of a first SCTP fragment is written with a CRC that nobody can compute from it: callers reassemble or drop.
 */

import { type Burst, FRAG_LATER, FRAG_NONE } from './burst.ts';
import { applyDelta, delta16, delta32, onesSum, updateChecksum16 } from './checksum.ts';
import { hasIcmp4Identifier, ICMP_CHECKSUM, ICMP_ID, PROTO_ICMP } from './icmp4.ts';
import { hasIcmp6Identifier, PROTO_ICMPV6 } from './icmp6.ts';
import { getIpv4Checksum, IPV4_DST, IPV4_SRC, IPV4_TTL, setIpv4Checksum } from './ipv4.ts';
import { finalDestinationOffset, IPV6_BYTES, IPV6_DST, IPV6_HOP_LIMIT, IPV6_SRC, setIpv6Address } from './ipv6.ts';
import { PROTO_SCTP, SCTP_DST_PORT, SCTP_SRC_PORT, sctpChecksum, setSctpChecksum } from './sctp.ts';
import { PROTO_TCP, TCP_CHECKSUM } from './tcp.ts';
import { getUdpChecksum, PROTO_UDP, setUdpChecksum } from './udp.ts';

/** Gives the frame a new IPv4 source and source port (host order; the identifier for ICMP queries). */
export function rewriteSource4(b: Burst, s: number, addr: number, port: number): void {
  const l3 = b.l3[s];
  const delta = delta32(b.src0[s], addr);
  b.src0[s] = addr;
  b.view.setInt32(l3 + IPV4_SRC, addr);
  setIpv4Checksum(b.view, l3, applyDelta(getIpv4Checksum(b.view, l3), delta));
  if (b.frag[s] !== FRAG_LATER) rewritePort(b, s, delta, SCTP_SRC_PORT, port);
}

/** Gives the frame a new IPv4 destination and destination port (host order; the identifier for ICMP queries). */
export function rewriteDestination4(b: Burst, s: number, addr: number, port: number): void {
  const l3 = b.l3[s];
  const delta = delta32(b.dst0[s], addr);
  b.dst0[s] = addr;
  b.view.setInt32(l3 + IPV4_DST, addr);
  setIpv4Checksum(b.view, l3, applyDelta(getIpv4Checksum(b.view, l3), delta));
  if (b.frag[s] !== FRAG_LATER) rewritePort(b, s, delta, SCTP_DST_PORT, port);
}

/** Gives the frame a new IPv6 source (four host-order words) and source port. */
export function rewriteSource6(
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
): void {
  const delta = delta32(b.src0[s], a0) + delta32(b.src1[s], a1) + delta32(b.src2[s], a2) + delta32(b.src3[s], a3);
  b.src0[s] = a0;
  b.src1[s] = a1;
  b.src2[s] = a2;
  b.src3[s] = a3;
  setIpv6Address(b.view, b.l3[s] + IPV6_SRC, a0, a1, a2, a3);
  if (b.frag[s] !== FRAG_LATER) rewritePort(b, s, delta, SCTP_SRC_PORT, port);
}

/** Gives the frame a new IPv6 destination (four host-order words) and destination port. */
export function rewriteDestination6(
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
): void {
  const l3 = b.l3[s];
  let delta = delta32(b.dst0[s], a0) + delta32(b.dst1[s], a1) + delta32(b.dst2[s], a2) + delta32(b.dst3[s], a3);
  b.dst0[s] = a0;
  b.dst1[s] = a1;
  b.dst2[s] = a2;
  b.dst3[s] = a3;
  setIpv6Address(b.view, l3 + IPV6_DST, a0, a1, a2, a3);
  if (b.frag[s] === FRAG_LATER) return;
  if (hasOtherFinalDestination(b.view, l3, b.l4[s])) delta = 0;
  rewritePort(b, s, delta, SCTP_DST_PORT, port);
}

/**
 * Takes one from the time to live or the hop limit.
 * @returns the new value; 0 when it was 1 or less, and then nothing is written: the frame has expired
 */
export function decrementTtl(b: Burst, s: number): number {
  const view = b.view;
  const l3 = b.l3[s];
  if (b.family[s] === 6) {
    const limit = view.getUint8(l3 + IPV6_HOP_LIMIT);
    if (limit <= 1) return 0;
    view.setUint8(l3 + IPV6_HOP_LIMIT, limit - 1);
    return limit - 1;
  }
  const word = view.getUint16(l3 + IPV4_TTL);
  if (word < 0x200) return 0;
  view.setUint16(l3 + IPV4_TTL, word - 0x100);
  setIpv4Checksum(view, l3, updateChecksum16(getIpv4Checksum(view, l3), word, word - 0x100));
  return (word >>> 8) - 1;
}

/** True when a routing header keeps the fixed header's destination out of the pseudo header. */
function hasOtherFinalDestination(view: DataView, l3: number, l4: number): boolean {
  return l4 - l3 !== IPV6_BYTES && finalDestinationOffset(view, l3, l4) !== l3 + IPV6_DST;
}

/** The transport half of a rewrite: the port at `portOff`, and what `addressDelta` does to the checksum. */
function rewritePort(b: Burst, s: number, addressDelta: number, portOff: number, port: number): void {
  const view = b.view;
  const proto = b.proto[s];
  const l4 = b.l4[s];
  if (proto === PROTO_TCP) {
    const delta = addressDelta + delta16(view.getUint16(l4 + portOff), port);
    view.setUint16(l4 + portOff, port);
    view.setUint16(l4 + TCP_CHECKSUM, applyDelta(view.getUint16(l4 + TCP_CHECKSUM), delta));
  } else if (proto === PROTO_UDP) {
    const old = getUdpChecksum(view, l4);
    if (old !== 0)
      setUdpChecksum(view, l4, applyDelta(old, addressDelta + delta16(view.getUint16(l4 + portOff), port)));
    view.setUint16(l4 + portOff, port);
  } else if (proto === PROTO_SCTP) {
    if (view.getUint16(l4 + portOff) === port) return;
    view.setUint16(l4 + portOff, port);
    if (b.frag[s] === FRAG_NONE) setSctpChecksum(view, l4, sctpChecksum(b.bytes, l4, b.end[s] - l4));
  } else {
    rewriteIcmp(b, s, addressDelta, port);
    return;
  }
  if (portOff === SCTP_SRC_PORT) b.sport[s] = port;
  else b.dport[s] = port;
}

function rewriteIcmp(b: Burst, s: number, addressDelta: number, id: number): void {
  const view = b.view;
  const proto = b.proto[s];
  const l4 = b.l4[s];
  const type = b.info[s] >>> 8;
  if (b.family[s] === 4) {
    if (proto !== PROTO_ICMP || !hasIcmp4Identifier(type)) return;
    rewriteIcmp4Id(b, l4, b.end[s], id);
  } else {
    if (proto !== PROTO_ICMPV6) return;
    let delta = addressDelta;
    const hasId = hasIcmp6Identifier(type);
    if (hasId) {
      delta += delta16(view.getUint16(l4 + ICMP_ID), id);
      view.setUint16(l4 + ICMP_ID, id);
    }
    view.setUint16(l4 + ICMP_CHECKSUM, applyDelta(view.getUint16(l4 + ICMP_CHECKSUM), delta));
    if (!hasId) return;
  }
  b.sport[s] = id;
  b.dport[s] = id;
}

/** Gives the ICMPv4 query at `l4`, of which the bytes up to `end` are there, another identifier. */
export function rewriteIcmp4Id(b: Burst, l4: number, end: number, id: number): void {
  const view = b.view;
  const old = view.getUint16(l4 + ICMP_ID);
  if (old === id) return;
  let sum = updateChecksum16(view.getUint16(l4 + ICMP_CHECKSUM), old, id);
  view.setUint16(l4 + ICMP_ID, id);
  view.setUint16(l4 + ICMP_CHECKSUM, 0);
  // Without a pseudo header a message may be all zeros, and then its checksum is -0 in truth: an echo reply with
  // identifier and sequence 0 and an empty body. The update cannot know; one look at the message in 65,536 can.
  if (sum === 0 && onesSum(b.bytes, l4, end - l4, 0) === 0) sum = 0xffff;
  view.setUint16(l4 + ICMP_CHECKSUM, sum);
}
