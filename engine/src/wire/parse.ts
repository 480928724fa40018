/**
 * Reads a frame's headers once and fills the header lanes; every later step reads lanes.
 *
 * Guarantees: any bytes are safe. Nothing outside [frame, frame + len) is read, nothing is thrown, the work is bounded,
 * and on every return l3 <= l4 <= end lie inside the frame's slot. A plain IPv4 or IPv6 frame is a straight line of
 * reads. After a refusal the lanes hold what had been read: nothing for a refused Ethernet or IP header (family 0), the
 * IP part and no ports for a refused transport header.
 * Refuses: cut-off or lying headers, wrong IPv4 header checksums, what is not IP. Transport checksums cost a pass over
 * the data and are left to `verifyL4`.
 */

import { type Burst, FRAG_FIRST, FRAG_LATER, FRAG_NONE, FRAME_HEADROOM } from './burst.ts';
import { onesSum } from './checksum.ts';
import { ETHERNET_BYTES, ETHERNET_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, networkOffset } from './ethernet.ts';
import { hasIcmp4Identifier, ICMP_BYTES, ICMP_ID, PROTO_ICMP } from './icmp4.ts';
import { hasIcmp6Identifier, PROTO_ICMPV6 } from './icmp6.ts';
import { checkIpv4Options, IPV4_BYTES, IPV4_MF, IPV4_OFFSET_MASK } from './ipv4.ts';
import {
  FRAGMENT_FIELD,
  FRAGMENT_HEADER_BYTES,
  IPV6_BYTES,
  isExtensionHeader,
  walkBytes,
  walkExtensionHeaders,
  walkFrag,
  walkProto,
} from './ipv6.ts';
import {
  REASON_CT_TRUNCATED,
  REASON_FRAME_TOO_LARGE,
  REASON_INVALID_PACKET,
  REASON_L3_CHECKSUM,
  REASON_UNSUPPORTED_L2,
  REASON_UNSUPPORTED_L3,
} from './reason.ts';
import { PROTO_SCTP, SCTP_BYTES, SCTP_CHUNK, SCTP_CHUNK_HEAD_BYTES, SCTP_CHUNK_LENGTH } from './sctp.ts';
import { PROTO_TCP, TCP_BYTES, TCP_OFFSET_FLAGS } from './tcp.ts';
import { PROTO_UDP, UDP_BYTES, UDP_LENGTH } from './udp.ts';

export { verifyL4 } from './checksum.ts';

const MAX_DATAGRAM = 65_535;

/**
 * Parses the frame of a slot; its `len` lane must be set.
 * @returns 0, or the negative number of the reason why the frame cannot be carried
 */
export function parseFrame(burst: Burst, slot: number): number {
  const frame = slot * burst.slotBytes + FRAME_HEADROOM;
  const length = burst.len[slot];
  if (length < ETHERNET_BYTES) return refuse(burst, slot, frame, -REASON_UNSUPPORTED_L2);
  if (length > burst.slotBytes - FRAME_HEADROOM) return refuse(burst, slot, frame, -REASON_FRAME_TOO_LARGE);
  const limit = frame + length;
  let l3 = frame + ETHERNET_BYTES;
  let type = burst.view.getUint16(frame + ETHERNET_TYPE);
  if (type === ETHERTYPE_IPV4) return parseIpv4(burst, slot, l3, limit);
  if (type === ETHERTYPE_IPV6) return parseIpv6(burst, slot, l3, limit);
  l3 = networkOffset(burst.view, frame, limit);
  if (l3 < 0) return refuse(burst, slot, frame, -REASON_UNSUPPORTED_L2);
  type = burst.view.getUint16(l3 - 2);
  if (type === ETHERTYPE_IPV4) return parseIpv4(burst, slot, l3, limit);
  if (type === ETHERTYPE_IPV6) return parseIpv6(burst, slot, l3, limit);
  return refuse(burst, slot, frame, -REASON_UNSUPPORTED_L3);
}

function parseIpv4(burst: Burst, slot: number, l3: number, limit: number): number {
  if (limit - l3 < IPV4_BYTES) return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
  const view = burst.view;
  const w0 = view.getInt32(l3);
  const w1 = view.getInt32(l3 + 4);
  const w2 = view.getInt32(l3 + 8);
  const src = view.getInt32(l3 + 12);
  const dst = view.getInt32(l3 + 16);
  const header = (w0 >>> 22) & 0x3c;
  const total = w0 & 0xffff;
  const l4 = l3 + header;
  const end = l3 + total;
  if (w0 >>> 28 !== 4 || header < IPV4_BYTES || total < header || end > limit) {
    return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
  }
  let sum =
    (w0 >>> 16) +
    (w0 & 0xffff) +
    (w1 >>> 16) +
    (w1 & 0xffff) +
    (w2 >>> 16) +
    (w2 & 0xffff) +
    (src >>> 16) +
    (src & 0xffff) +
    (dst >>> 16) +
    (dst & 0xffff);
  if (header > IPV4_BYTES) sum = onesSum(burst.bytes, l3 + IPV4_BYTES, header - IPV4_BYTES, sum);
  // At most 30 halves: the first fold leaves less than 0xFFFF + 30, so a right sum is 0xFFFF exactly.
  if ((sum & 0xffff) + (sum >>> 16) !== 0xffff) return refuse(burst, slot, l3, -REASON_L3_CHECKSUM);
  if (header > IPV4_BYTES && checkIpv4Options(view, l3 + IPV4_BYTES, l4) < 0) {
    return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
  }
  let frag = FRAG_NONE;
  if ((w1 & (IPV4_MF | IPV4_OFFSET_MASK)) !== 0) {
    const offset = (w1 & IPV4_OFFSET_MASK) << 3;
    if (offset + total > MAX_DATAGRAM) return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
    frag = offset === 0 ? FRAG_FIRST : FRAG_LATER;
  }
  const proto = (w2 >>> 16) & 255;
  burst.src0[slot] = src;
  burst.src1[slot] = 0;
  burst.src2[slot] = 0;
  burst.src3[slot] = 0;
  burst.dst0[slot] = dst;
  burst.dst1[slot] = 0;
  burst.dst2[slot] = 0;
  burst.dst3[slot] = 0;
  burst.family[slot] = 4;
  burst.l3[slot] = l3;
  burst.l4[slot] = l4;
  burst.end[slot] = end;
  burst.proto[slot] = proto;
  burst.frag[slot] = frag;
  return parseL4(burst, slot, 4, proto, frag, l4, end);
}

function parseIpv6(burst: Burst, slot: number, l3: number, limit: number): number {
  if (limit - l3 < IPV6_BYTES) return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
  const view = burst.view;
  const w1 = view.getInt32(l3 + 4);
  const end = l3 + IPV6_BYTES + (w1 >>> 16);
  if (view.getUint8(l3) >>> 4 !== 6 || end > limit) return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
  let l4 = l3 + IPV6_BYTES;
  let proto = (w1 >>> 8) & 255;
  let frag = FRAG_NONE;
  if (isExtensionHeader(proto)) {
    const walk = walkExtensionHeaders(view, l3, end);
    if (walk < 0) return refuse(burst, slot, l3, walk);
    l4 = l3 + walkBytes(walk);
    proto = walkProto(walk);
    frag = walkFrag(walk);
    if (frag !== FRAG_NONE && !isFragmentSound(view, l4, end, frag)) {
      return refuse(burst, slot, l3, -REASON_INVALID_PACKET);
    }
  }
  burst.src0[slot] = view.getInt32(l3 + 8);
  burst.src1[slot] = view.getInt32(l3 + 12);
  burst.src2[slot] = view.getInt32(l3 + 16);
  burst.src3[slot] = view.getInt32(l3 + 20);
  burst.dst0[slot] = view.getInt32(l3 + 24);
  burst.dst1[slot] = view.getInt32(l3 + 28);
  burst.dst2[slot] = view.getInt32(l3 + 32);
  burst.dst3[slot] = view.getInt32(l3 + 36);
  burst.family[slot] = 6;
  burst.l3[slot] = l3;
  burst.l4[slot] = l4;
  burst.end[slot] = end;
  burst.proto[slot] = proto;
  burst.frag[slot] = frag;
  return parseL4(burst, slot, 6, proto, frag, l4, end);
}

/** RFC 8200 §4.5: only the last fragment's length may be odd to 8, and no datagram grows beyond 65,535 bytes. */
function isFragmentSound(view: DataView, l4: number, end: number, frag: number): boolean {
  if (frag === FRAG_FIRST) return ((end - l4) & 7) === 0;
  const field = view.getUint16(l4 - FRAGMENT_HEADER_BYTES + FRAGMENT_FIELD);
  if ((field & 1) !== 0 && ((end - l4) & 7) !== 0) return false;
  return (field & 0xfff8) + end - l4 <= MAX_DATAGRAM;
}

function parseL4(
  burst: Burst,
  slot: number,
  family: number,
  proto: number,
  frag: number,
  l4: number,
  end: number,
): number {
  const view = burst.view;
  const available = end - l4;
  let ports = 0;
  let info = 0;
  if (frag !== FRAG_LATER) {
    if (proto === PROTO_TCP) {
      if (available < TCP_BYTES) return refuseL4(burst, slot);
      const word = view.getUint16(l4 + TCP_OFFSET_FLAGS);
      const header = (word >>> 12) << 2;
      if (header < TCP_BYTES || header > available) return refuseL4(burst, slot);
      ports = view.getInt32(l4);
      info = word & 255;
    } else if (proto === PROTO_UDP) {
      if (available < UDP_BYTES) return refuseL4(burst, slot);
      const length = view.getUint16(l4 + UDP_LENGTH);
      // A first fragment carries the length of the whole datagram.
      if (length < UDP_BYTES || (length > available && frag === FRAG_NONE)) return refuseL4(burst, slot);
      ports = view.getInt32(l4);
    } else if (proto === PROTO_SCTP) {
      if (available < SCTP_BYTES + SCTP_CHUNK_HEAD_BYTES) return refuseL4(burst, slot);
      if (view.getUint16(l4 + SCTP_CHUNK + SCTP_CHUNK_LENGTH) < SCTP_CHUNK_HEAD_BYTES) return refuseL4(burst, slot);
      ports = view.getInt32(l4);
      info = view.getUint8(l4 + SCTP_CHUNK);
    } else if (proto === (family === 4 ? PROTO_ICMP : PROTO_ICMPV6)) {
      if (available < ICMP_BYTES) return refuseL4(burst, slot);
      info = view.getUint16(l4);
      if (family === 4 ? hasIcmp4Identifier(info >>> 8) : hasIcmp6Identifier(info >>> 8)) {
        ports = view.getUint16(l4 + ICMP_ID);
        ports |= ports << 16;
      }
    }
  }
  burst.sport[slot] = ports >>> 16;
  burst.dport[slot] = ports & 0xffff;
  burst.info[slot] = info;
  return 0;
}

/** Leaves the IP lanes as they are and clears those of the transport header. */
function refuseL4(burst: Burst, slot: number): number {
  burst.sport[slot] = 0;
  burst.dport[slot] = 0;
  burst.info[slot] = 0;
  return -REASON_CT_TRUNCATED;
}

/** Clears the header lanes; `at` is where reading stopped. */
function refuse(burst: Burst, slot: number, at: number, reason: number): number {
  burst.l3[slot] = at;
  burst.l4[slot] = at;
  burst.end[slot] = at;
  burst.family[slot] = 0;
  burst.proto[slot] = 0;
  burst.frag[slot] = FRAG_NONE;
  burst.src0[slot] = 0;
  burst.src1[slot] = 0;
  burst.src2[slot] = 0;
  burst.src3[slot] = 0;
  burst.dst0[slot] = 0;
  burst.dst1[slot] = 0;
  burst.dst2[slot] = 0;
  burst.dst3[slot] = 0;
  burst.sport[slot] = 0;
  burst.dport[slot] = 0;
  burst.info[slot] = 0;
  return reason;
}
