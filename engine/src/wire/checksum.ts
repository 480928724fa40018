/**
 * The Internet checksum: sums from scratch (RFC 1071), updates of one (RFC 1624), and the check of a whole frame.
 *
 * A *sum* is running and unfolded; it stays below 2^32 as long as no more than 128 KiB go into it. A *delta* is the
 * sum that a changed field adds to a checksum's complement, so several changes cost one fold.
 * Guarantees: an update never writes -0 (0xFFFF): what it covers is never all zeros. Two callers need a rule of their
 * own, UDP (0 means none, see udp.ts) and ICMPv4 (may be all zeros, see rewrite.ts). SCTP has a CRC, see sctp.ts.
 */

import { type Burst, FRAG_LATER, FRAG_NONE } from './burst.ts';
import { ICMP_BYTES, PROTO_ICMP } from './icmp4.ts';
import { PROTO_ICMPV6 } from './icmp6.ts';
import {
  getIpv4Destination,
  getIpv4HeaderBytes,
  getIpv4Source,
  getIpv4TotalLength,
  getIpv4Version,
  IPV4_SRC,
} from './ipv4.ts';
import {
  finalDestinationOffset,
  getIpv6PayloadLength,
  getIpv6Version,
  IPV6_BYTES,
  IPV6_DST,
  IPV6_SRC,
} from './ipv6.ts';
import { getSctpChecksum, PROTO_SCTP, SCTP_BYTES, sctpChecksum } from './sctp.ts';
import { getTcpHeaderBytes, PROTO_TCP, TCP_BYTES } from './tcp.ts';
import { getUdpChecksum, getUdpLength, PROTO_UDP, UDP_BYTES } from './udp.ts';

/** Bits of `verifyFrame`. */
export const BAD_IP = 1;
export const BAD_L4 = 2;

/** Adds `len` bytes as big-endian 16-bit words to a running sum; an odd last byte counts as the high half. */
export function onesSum(bytes: Uint8Array, off: number, len: number, sum: number): number {
  const end = off + len;
  for (; end - off >= 8; off += 8) {
    sum +=
      ((bytes[off] + bytes[off + 2] + bytes[off + 4] + bytes[off + 6]) << 8) +
      bytes[off + 1] +
      bytes[off + 3] +
      bytes[off + 5] +
      bytes[off + 7];
  }
  for (; end - off >= 2; off += 2) sum += (bytes[off] << 8) + bytes[off + 1];
  if (off < end) sum += bytes[off] << 8;
  return sum;
}

/** A running sum as 16 bits, carries added back in; 0 only if nothing but zeros was summed. */
export function foldSum(sum: number): number {
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/** The checksum of `len` bytes on top of a running sum: the complement of the folded sum. */
export function checksum(bytes: Uint8Array, off: number, len: number, sum: number): number {
  return ~foldSum(onesSum(bytes, off, len, sum)) & 0xffff;
}

/** Sum of `count` 32-bit words at a byte offset. */
function wordsSum(view: DataView, off: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += view.getUint16(off + i * 4) + view.getUint16(off + i * 4 + 2);
  return sum;
}

/** Running sum of the IPv4 pseudo header; `l4len` is the length of L4 header and data in bytes. */
export function pseudoSum4(view: DataView, l3: number, proto: number, l4len: number): number {
  return wordsSum(view, l3 + IPV4_SRC, 2) + proto + l4len;
}

/** Running sum of the IPv6 pseudo header (RFC 8200 §8.1) with the destination of the fixed header. */
export function pseudoSum6(view: DataView, l3: number, proto: number, l4len: number): number {
  return wordsSum(view, l3 + IPV6_SRC, 8) + proto + l4len;
}

/** What replacing a 16-bit field adds: ~m + m' of RFC 1624 eq. 3. */
export function delta16(old16: number, new16: number): number {
  return (~old16 & 0xffff) + new16;
}

/** What replacing a 32-bit field adds; the field stands on an even offset. Words may be signed or unsigned. */
export function delta32(old32: number, new32: number): number {
  return (~old32 >>> 16) + (~old32 & 0xffff) + (new32 >>> 16) + (new32 & 0xffff);
}

/** A checksum after changes that add `delta` in all (RFC 1624 eq. 3); -0 is returned as 0. */
export function applyDelta(hc: number, delta: number): number {
  const updated = ~foldSum((~hc & 0xffff) + delta) & 0xffff;
  return updated === 0xffff ? 0 : updated;
}

/** A checksum after one 16-bit field changed. */
export function updateChecksum16(hc: number, old16: number, new16: number): number {
  return applyDelta(hc, delta16(old16, new16));
}

/** A checksum after one 32-bit field changed. */
export function updateChecksum32(hc: number, old32: number, new32: number): number {
  return applyDelta(hc, delta32(old32, new32));
}

/**
 * Verifies the transport checksum of a parsed frame.
 * A fragment cannot be judged and passes, so does a protocol without a checksum that we know, and UDP over IPv4 that
 * sent none; UDP over IPv6 must send one (RFC 8200 §8.1).
 * @returns 1 ok, 0 bad
 */
export function verifyL4(burst: Burst, slot: number): number {
  if (burst.frag[slot] !== FRAG_NONE) return 1;
  const view = burst.view;
  const bytes = burst.bytes;
  const family = burst.family[slot];
  const proto = burst.proto[slot];
  const l4 = burst.l4[slot];
  let length = burst.end[slot] - l4;
  if (proto === PROTO_SCTP) return sctpChecksum(bytes, l4, length) === getSctpChecksum(view, l4) ? 1 : 0;
  if (proto === PROTO_ICMP && family === 4) return foldSum(onesSum(bytes, l4, length, 0)) === 0xffff ? 1 : 0;
  if (proto === PROTO_UDP) {
    if (getUdpChecksum(view, l4) === 0) return family === 4 ? 1 : 0;
    length = getUdpLength(view, l4);
  } else if (proto !== PROTO_TCP && !(proto === PROTO_ICMPV6 && family === 6)) {
    return 1;
  }
  const sum = pseudoSum(view, family, burst.l3[slot], l4, proto, length);
  return foldSum(onesSum(bytes, l4, length, sum)) === 0xffff ? 1 : 0;
}

/** The pseudo header's sum for either family, with the final destination of a routing header. */
export function pseudoSum(
  view: DataView,
  family: number,
  l3: number,
  l4: number,
  proto: number,
  l4len: number,
): number {
  if (family === 4) return pseudoSum4(view, l3, proto, l4len);
  if (l4 - l3 === IPV6_BYTES) return pseudoSum6(view, l3, proto, l4len);
  return wordsSum(view, l3 + IPV6_SRC, 4) + wordsSum(view, finalDestinationOffset(view, l3, l4), 4) + proto + l4len;
}

/**
 * Verifies a parsed frame in full, after whatever rewrote it: versions, lengths, checksums, and that the lanes still
 * say what the bytes say.
 * @returns 0 when all is right, else BAD_IP, BAD_L4 or both
 */
export function verifyFrame(burst: Burst, slot: number): number {
  const ip = burst.family[slot] === 4 ? isIpv4Right(burst, slot) : isIpv6Right(burst, slot);
  const l4 = isL4Right(burst, slot) && verifyL4(burst, slot) === 1;
  return (ip ? 0 : BAD_IP) | (l4 ? 0 : BAD_L4);
}

function isIpv4Right(burst: Burst, slot: number): boolean {
  const view = burst.view;
  const l3 = burst.l3[slot];
  const header = getIpv4HeaderBytes(view, l3);
  return (
    getIpv4Version(view, l3) === 4 &&
    burst.l4[slot] === l3 + header &&
    burst.end[slot] === l3 + getIpv4TotalLength(view, l3) &&
    foldSum(onesSum(burst.bytes, l3, header, 0)) === 0xffff &&
    burst.src0[slot] === getIpv4Source(view, l3) &&
    burst.dst0[slot] === getIpv4Destination(view, l3)
  );
}

function isIpv6Right(burst: Burst, slot: number): boolean {
  const view = burst.view;
  const l3 = burst.l3[slot];
  const src = l3 + IPV6_SRC;
  const dst = l3 + IPV6_DST;
  return (
    getIpv6Version(view, l3) === 6 &&
    burst.end[slot] === l3 + IPV6_BYTES + getIpv6PayloadLength(view, l3) &&
    burst.src0[slot] === view.getInt32(src) &&
    burst.src1[slot] === view.getInt32(src + 4) &&
    burst.src2[slot] === view.getInt32(src + 8) &&
    burst.src3[slot] === view.getInt32(src + 12) &&
    burst.dst0[slot] === view.getInt32(dst) &&
    burst.dst1[slot] === view.getInt32(dst + 4) &&
    burst.dst2[slot] === view.getInt32(dst + 8) &&
    burst.dst3[slot] === view.getInt32(dst + 12)
  );
}

function isL4Right(burst: Burst, slot: number): boolean {
  if (burst.frag[slot] === FRAG_LATER) return true;
  const view = burst.view;
  const l4 = burst.l4[slot];
  const available = burst.end[slot] - l4;
  const proto = burst.proto[slot];
  if (proto === PROTO_TCP) {
    const header = available < TCP_BYTES ? 0 : getTcpHeaderBytes(view, l4);
    return header >= TCP_BYTES && header <= available && havePortsStayed(burst, slot);
  }
  if (proto === PROTO_UDP) {
    const length = available < UDP_BYTES ? 0 : getUdpLength(view, l4);
    const whole = burst.frag[slot] === FRAG_NONE;
    return length >= UDP_BYTES && (!whole || length <= available) && havePortsStayed(burst, slot);
  }
  if (proto === PROTO_SCTP) return available >= SCTP_BYTES && havePortsStayed(burst, slot);
  const icmp = burst.family[slot] === 4 ? PROTO_ICMP : PROTO_ICMPV6;
  return proto !== icmp || available >= ICMP_BYTES;
}

function havePortsStayed(burst: Burst, slot: number): boolean {
  const l4 = burst.l4[slot];
  return burst.sport[slot] === burst.view.getUint16(l4) && burst.dport[slot] === burst.view.getUint16(l4 + 2);
}
