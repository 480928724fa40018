/**
 * IPv4 header (RFC 791).
 *
 *     +0 version, ihl   +1 tos          +2 total length
 *     +4 identification                 +6 flags, fragment offset
 *     +8 ttl            +9 protocol     +10 header checksum
 *     +12 source        +16 destination +20 options, up to 40 bytes
 *
 * Accessors are bare: bounds are checked once, by `parseFrame`. Refuses malformed options and every source route, as
 * Linux does by default (accept_source_route is 0): behind one, the destination is not the one of the L4 checksum.
 */

import { formatAddress } from './address.ts';
import { REASON_INVALID_PACKET } from './reason.ts';

export const IPV4_BYTES = 20;
export const IPV4_TOS = 1;
export const IPV4_TOTAL_LENGTH = 2;
export const IPV4_ID = 4;
export const IPV4_FRAGMENT = 6;
export const IPV4_TTL = 8;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
export const IPV4_SRC = 12;
export const IPV4_DST = 16;

export const IPV4_DF = 0x4000;
export const IPV4_MF = 0x2000;
/** The fragment offset inside its 16-bit field, in units of 8 bytes. */
export const IPV4_OFFSET_MASK = 0x1fff;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_LOOSE_SOURCE_ROUTE = 131;
const OPTION_STRICT_SOURCE_ROUTE = 137;

/** Checks the options in [off, end): 0, or -REASON_INVALID_PACKET for a lying length or a source route. */
export function checkIpv4Options(view: DataView, off: number, end: number): number {
  while (off < end) {
    const type = view.getUint8(off);
    if (type === OPTION_END) return 0;
    if (type === OPTION_NOP) {
      off++;
      continue;
    }
    if (type === OPTION_LOOSE_SOURCE_ROUTE || type === OPTION_STRICT_SOURCE_ROUTE) return -REASON_INVALID_PACKET;
    if (off + 1 === end) return -REASON_INVALID_PACKET;
    const length = view.getUint8(off + 1);
    if (length < 2 || off + length > end) return -REASON_INVALID_PACKET;
    off += length;
  }
  return 0;
}

/** True for an address that names one host: not 0.0.0.0, multicast, class E or broadcast. */
export function isUnicast4(address: number): boolean {
  return address !== 0 && address >>> 29 !== 7;
}

export function getIpv4Version(view: DataView, l3: number): number {
  return view.getUint8(l3) >>> 4;
}

/** Header length in bytes, options included. */
export function getIpv4HeaderBytes(view: DataView, l3: number): number {
  return (view.getUint8(l3) & 15) << 2;
}

export function getIpv4Tos(view: DataView, l3: number): number {
  return view.getUint8(l3 + IPV4_TOS);
}

/** Length in bytes of header and data together. */
export function getIpv4TotalLength(view: DataView, l3: number): number {
  return view.getUint16(l3 + IPV4_TOTAL_LENGTH);
}

export function getIpv4Id(view: DataView, l3: number): number {
  return view.getUint16(l3 + IPV4_ID);
}

export function hasIpv4DontFragment(view: DataView, l3: number): boolean {
  return (view.getUint16(l3 + IPV4_FRAGMENT) & IPV4_DF) !== 0;
}

export function hasIpv4MoreFragments(view: DataView, l3: number): boolean {
  return (view.getUint16(l3 + IPV4_FRAGMENT) & IPV4_MF) !== 0;
}

/** Where this fragment's data stands in the datagram, in bytes. */
export function getIpv4FragmentOffset(view: DataView, l3: number): number {
  return (view.getUint16(l3 + IPV4_FRAGMENT) & IPV4_OFFSET_MASK) << 3;
}

export function getIpv4Ttl(view: DataView, l3: number): number {
  return view.getUint8(l3 + IPV4_TTL);
}

export function getIpv4Protocol(view: DataView, l3: number): number {
  return view.getUint8(l3 + IPV4_PROTOCOL);
}

export function getIpv4Checksum(view: DataView, l3: number): number {
  return view.getUint16(l3 + IPV4_CHECKSUM);
}

/** Source as a signed host-order word, as the lanes keep it. */
export function getIpv4Source(view: DataView, l3: number): number {
  return view.getInt32(l3 + IPV4_SRC);
}

/** Destination as a signed host-order word, as the lanes keep it. */
export function getIpv4Destination(view: DataView, l3: number): number {
  return view.getInt32(l3 + IPV4_DST);
}

export function setIpv4Checksum(view: DataView, l3: number, checksum: number): void {
  view.setUint16(l3 + IPV4_CHECKSUM, checksum);
}

/**
 * Writes a header without options and with checksum 0.
 * @param fragment the whole 16-bit field: flags and offset in units of 8 bytes
 */
export function writeIpv4(
  view: DataView,
  l3: number,
  tos: number,
  totalLength: number,
  id: number,
  fragment: number,
  ttl: number,
  protocol: number,
  src: number,
  dst: number,
): void {
  view.setUint16(l3, 0x4500 | tos);
  view.setUint16(l3 + IPV4_TOTAL_LENGTH, totalLength);
  view.setUint16(l3 + IPV4_ID, id);
  view.setUint16(l3 + IPV4_FRAGMENT, fragment);
  view.setUint8(l3 + IPV4_TTL, ttl);
  view.setUint8(l3 + IPV4_PROTOCOL, protocol);
  view.setUint16(l3 + IPV4_CHECKSUM, 0);
  view.setInt32(l3 + IPV4_SRC, src);
  view.setInt32(l3 + IPV4_DST, dst);
}

/** `10.0.0.1 > 10.0.0.2 ttl 64 length 60`, with the fragment's place where it is one. */
export function formatIpv4(view: DataView, l3: number): string {
  const src = formatAddress(4, getIpv4Source(view, l3), 0, 0, 0);
  const dst = formatAddress(4, getIpv4Destination(view, l3), 0, 0, 0);
  const offset = getIpv4FragmentOffset(view, l3);
  const more = hasIpv4MoreFragments(view, l3);
  const fragment = more || offset > 0 ? ` fragment ${getIpv4Id(view, l3)} at ${offset}${more ? '+' : ''}` : '';
  return `${src} > ${dst} ttl ${getIpv4Ttl(view, l3)} length ${getIpv4TotalLength(view, l3)}${fragment}`;
}
