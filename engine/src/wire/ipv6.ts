/**
 * IPv6 header and its extension headers (RFC 8200).
 *
 *     +0 version, traffic class, flow label   +4 payload length   +6 next header   +7 hop limit
 *     +8 source (16)   +24 destination (16)   +40 extension headers, then the transport header
 *
 * Walks hop-by-hop, routing, fragment, authentication, destination options and mobility headers, at most eight.
 * Guarantees: the walk stays before `end` and ends. Refuses: more headers, a header that is cut off, a second fragment
 * header, a routing header with segments left that lies about its length or whose type is not 0, 2 or 4. Jumbograms
 * are not read; the Home Address option is not followed.
 */

import { formatAddress } from './address.ts';
import { FRAG_FIRST, FRAG_LATER, FRAG_NONE } from './burst.ts';
import { REASON_INVALID_EXTENSION_HEADER } from './reason.ts';

export const IPV6_BYTES = 40;
export const IPV6_PAYLOAD_LENGTH = 4;
export const IPV6_NEXT_HEADER = 6;
export const IPV6_HOP_LIMIT = 7;
export const IPV6_SRC = 8;
export const IPV6_DST = 24;

export const IPV6_HOP_BY_HOP = 0;
export const IPV6_ROUTING = 43;
export const IPV6_FRAGMENT = 44;
export const IPV6_AUTHENTICATION = 51;
export const IPV6_DESTINATION_OPTIONS = 60;
export const IPV6_MOBILITY = 135;

export const MAX_EXTENSION_HEADERS = 8;
export const FRAGMENT_HEADER_BYTES = 8;
/** Byte offset of the 16-bit field with offset and M flag inside a fragment header. */
export const FRAGMENT_FIELD = 2;
/** Byte offset of the datagram's number there. */
export const FRAGMENT_NUMBER = 4;

const ROUTING_SOURCE_ROUTE = 0;
const ROUTING_HOME_ADDRESS = 2;
const ROUTING_SEGMENTS = 4;

/** True for the header numbers that the walk steps over. */
export function isExtensionHeader(next: number): boolean {
  return (
    next === IPV6_HOP_BY_HOP ||
    next === IPV6_ROUTING ||
    next === IPV6_FRAGMENT ||
    next === IPV6_AUTHENTICATION ||
    next === IPV6_DESTINATION_OPTIONS ||
    next === IPV6_MOBILITY
  );
}

/** Length in bytes of the extension header `next` at `off`; two bytes must be readable there. */
function extensionBytes(view: DataView, off: number, next: number): number {
  if (next === IPV6_FRAGMENT) return FRAGMENT_HEADER_BYTES;
  // An authentication header counts 4-byte units minus two (RFC 4302 §2.2), the others 8-byte units minus one.
  if (next === IPV6_AUTHENTICATION) return (view.getUint8(off + 1) + 2) << 2;
  return (view.getUint8(off + 1) + 1) << 3;
}

/** True when a routing header either has no segments left or one of the known shapes. */
function isRoutingSound(view: DataView, off: number): boolean {
  const left = view.getUint8(off + 3);
  if (left === 0) return true;
  const units = view.getUint8(off + 1);
  if (left * 2 > units) return false;
  const type = view.getUint8(off + 2);
  if (type === ROUTING_SEGMENTS) return true;
  return (type === ROUTING_SOURCE_ROUTE || type === ROUTING_HOME_ADDRESS) && (units & 1) === 0;
}

/**
 * Walks from the fixed header at `l3` to the transport header; the fixed header must lie before `end`.
 * A later fragment stops the walk: what follows is data, and its protocol is the one its fragment header names.
 * @returns a walk to be read with `walkProto`, `walkFrag` and `walkBytes`, or -REASON_INVALID_EXTENSION_HEADER
 */
export function walkExtensionHeaders(view: DataView, l3: number, end: number): number {
  let next = view.getUint8(l3 + IPV6_NEXT_HEADER);
  let off = l3 + IPV6_BYTES;
  let frag = FRAG_NONE;
  let fragmentHeaders = 0;
  for (let count = 0; frag !== FRAG_LATER && isExtensionHeader(next); count++) {
    if (count === MAX_EXTENSION_HEADERS || end - off < 8) return -REASON_INVALID_EXTENSION_HEADER;
    const bytes = extensionBytes(view, off, next);
    if (end - off < bytes) return -REASON_INVALID_EXTENSION_HEADER;
    if (next === IPV6_ROUTING && !isRoutingSound(view, off)) return -REASON_INVALID_EXTENSION_HEADER;
    if (next === IPV6_FRAGMENT) {
      if (fragmentHeaders++ > 0) return -REASON_INVALID_EXTENSION_HEADER;
      const field = view.getUint16(off + FRAGMENT_FIELD);
      // Offset 0 and no more to come: an atomic fragment (RFC 6946) is a whole packet.
      if ((field & 0xfff8) !== 0) frag = FRAG_LATER;
      else if ((field & 1) !== 0) frag = FRAG_FIRST;
    }
    next = view.getUint8(off);
    off += bytes;
  }
  return packWalk(off - l3, frag, next);
}

/** Packs what a walk found: header bytes in bits 10 and up, fragment state in bits 8 and 9, protocol below. */
export function packWalk(headerBytes: number, frag: number, proto: number): number {
  return (headerBytes << 10) | (frag << 8) | proto;
}

export function walkProto(walk: number): number {
  return walk & 255;
}

export function walkFrag(walk: number): number {
  return (walk >>> 8) & 3;
}

/** Bytes from the IP header to the transport header. */
export function walkBytes(walk: number): number {
  return walk >>> 10;
}

/**
 * Byte offset of the address that stands for the destination in the pseudo header: that of the fixed header, or the
 * last stop of a routing header with segments left (RFC 8200 §8.1). The headers up to `l4` must have been walked.
 */
export function finalDestinationOffset(view: DataView, l3: number, l4: number): number {
  let found = l3 + IPV6_DST;
  let next = view.getUint8(l3 + IPV6_NEXT_HEADER);
  let off = l3 + IPV6_BYTES;
  while (off < l4) {
    if (next === IPV6_ROUTING && view.getUint8(off + 3) !== 0) {
      // Segment routing lists its stops backwards, the older types forwards.
      found = view.getUint8(off + 2) === ROUTING_SEGMENTS ? off + 8 : off + (view.getUint8(off + 1) << 3) - 8;
    }
    const bytes = extensionBytes(view, off, next);
    next = view.getUint8(off);
    off += bytes;
  }
  return found;
}

/**
 * Finds the fragment header of a fragment; its headers must have been walked.
 * @returns its place behind the IP header in bytes, and above 16 bits that of the field that names it
 */
export function findFragmentHeader(view: DataView, l3: number): number {
  let named = IPV6_NEXT_HEADER;
  let at = IPV6_BYTES;
  while (view.getUint8(l3 + named) !== IPV6_FRAGMENT) {
    const bytes = extensionBytes(view, l3 + at, view.getUint8(l3 + named));
    named = at;
    at += bytes;
  }
  return (named << 16) | at;
}

/** True for an address that names one host: not `::` and not ff00::/8. */
export function isUnicast6(w0: number, w1: number, w2: number, w3: number): boolean {
  return w0 >>> 24 !== 0xff && (w0 | w1 | w2 | w3) !== 0;
}

export function getIpv6Version(view: DataView, l3: number): number {
  return view.getUint8(l3) >>> 4;
}

export function getIpv6TrafficClass(view: DataView, l3: number): number {
  return (view.getUint16(l3) >>> 4) & 255;
}

export function getIpv6FlowLabel(view: DataView, l3: number): number {
  return view.getUint32(l3) & 0xfffff;
}

/** Bytes behind the fixed header, extension headers included. */
export function getIpv6PayloadLength(view: DataView, l3: number): number {
  return view.getUint16(l3 + IPV6_PAYLOAD_LENGTH);
}

export function getIpv6NextHeader(view: DataView, l3: number): number {
  return view.getUint8(l3 + IPV6_NEXT_HEADER);
}

export function getIpv6HopLimit(view: DataView, l3: number): number {
  return view.getUint8(l3 + IPV6_HOP_LIMIT);
}

/** Writes four host-order words as the address at a byte offset. */
export function setIpv6Address(view: DataView, off: number, w0: number, w1: number, w2: number, w3: number): void {
  view.setInt32(off, w0);
  view.setInt32(off + 4, w1);
  view.setInt32(off + 8, w2);
  view.setInt32(off + 12, w3);
}

/** Writes the first 8 bytes of a header; addresses follow by `setIpv6Address`. */
export function writeIpv6(
  view: DataView,
  l3: number,
  trafficClass: number,
  flowLabel: number,
  payloadLength: number,
  nextHeader: number,
  hopLimit: number,
): void {
  view.setInt32(l3, (6 << 28) | (trafficClass << 20) | flowLabel);
  view.setUint16(l3 + IPV6_PAYLOAD_LENGTH, payloadLength);
  view.setUint8(l3 + IPV6_NEXT_HEADER, nextHeader);
  view.setUint8(l3 + IPV6_HOP_LIMIT, hopLimit);
}

/** The address at a byte offset, as text. */
export function formatIpv6AddressAt(view: DataView, off: number): string {
  return formatAddress(6, view.getInt32(off), view.getInt32(off + 4), view.getInt32(off + 8), view.getInt32(off + 12));
}

/** `2001:db8::1 > 2001:db8::2 hop limit 64 length 60`, the length of the payload. */
export function formatIpv6(view: DataView, l3: number): string {
  const src = formatIpv6AddressAt(view, l3 + IPV6_SRC);
  const dst = formatIpv6AddressAt(view, l3 + IPV6_DST);
  return `${src} > ${dst} hop limit ${getIpv6HopLimit(view, l3)} length ${getIpv6PayloadLength(view, l3)}`;
}
