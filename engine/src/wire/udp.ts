/**
 * UDP header (RFC 768).
 *
 *     +0 source port   +2 destination port   +4 length   +6 checksum
 *
 * A checksum of 0 says that none was computed: a computed 0 is sent as 0xFFFF, and a rewrite leaves 0 as it is.
 * Accessors are bare: `parseFrame` has checked the 8 bytes and the length. Refuses nothing.
 */

export const PROTO_UDP = 17;
export const UDP_BYTES = 8;
export const UDP_SRC_PORT = 0;
export const UDP_DST_PORT = 2;
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;

/** Length in bytes of header and data, as the header says it. */
export function getUdpLength(view: DataView, l4: number): number {
  return view.getUint16(l4 + UDP_LENGTH);
}

export function getUdpChecksum(view: DataView, l4: number): number {
  return view.getUint16(l4 + UDP_CHECKSUM);
}

/** Writes a computed checksum: 0 becomes 0xFFFF (RFC 768). */
export function setUdpChecksum(view: DataView, l4: number, checksum: number): void {
  view.setUint16(l4 + UDP_CHECKSUM, checksum === 0 ? 0xffff : checksum);
}

/** Writes a header with checksum 0. */
export function writeUdp(view: DataView, l4: number, sport: number, dport: number, length: number): void {
  view.setUint16(l4 + UDP_SRC_PORT, sport);
  view.setUint16(l4 + UDP_DST_PORT, dport);
  view.setUint16(l4 + UDP_LENGTH, length);
  view.setUint16(l4 + UDP_CHECKSUM, 0);
}

/** `UDP 5353 > 53 length 40`. */
export function formatUdp(view: DataView, l4: number): string {
  const ports = `${view.getUint16(l4 + UDP_SRC_PORT)} > ${view.getUint16(l4 + UDP_DST_PORT)}`;
  return `UDP ${ports} length ${getUdpLength(view, l4)}`;
}
