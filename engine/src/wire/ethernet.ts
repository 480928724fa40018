/**
 * Ethernet II with up to two VLAN tags (802.1Q, and 802.1ad outside it).
 *
 *     +0 destination (6)   +6 source (6)   +12 [tag (4)] [tag (4)]   ethertype (2)   then the packet
 *
 * Guarantees: `networkOffset` never reads behind `end`. Refuses (leaves to the caller as an ethertype it does not
 * know): a third tag, 802.3 length fields, everything that is not IP. A MAC address is one 48-bit integer.
 */

import { formatMac } from './address.ts';

export const ETHERNET_BYTES = 14;
export const VLAN_TAG_BYTES = 4;
export const MAX_VLAN_TAGS = 2;

export const ETHERNET_DST = 0;
export const ETHERNET_SRC = 6;
export const ETHERNET_TYPE = 12;

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_QINQ = 0x88a8;

/** True for the ethertype of a VLAN tag. */
export function isVlanType(type: number): boolean {
  return type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ;
}

/**
 * Byte offset of the packet behind the Ethernet header and at most two tags; its ethertype is the 16 bits before it.
 * @returns -1 when the header or a tag is cut off by `end`
 */
export function networkOffset(view: DataView, frame: number, end: number): number {
  let off = frame + ETHERNET_BYTES;
  if (off > end) return -1;
  for (let tags = 0; tags < MAX_VLAN_TAGS && isVlanType(view.getUint16(off - 2)); tags++) {
    off += VLAN_TAG_BYTES;
    if (off > end) return -1;
  }
  return off;
}

/** True when the frame's destination is a group: multicast or broadcast. */
export function isGroupFrame(view: DataView, frame: number): boolean {
  return (view.getUint8(frame + ETHERNET_DST) & 1) !== 0;
}

/** The MAC address at a byte offset, as a 48-bit integer. */
export function getMac(view: DataView, off: number): number {
  return view.getUint16(off) * 0x1_0000_0000 + view.getUint32(off + 2);
}

/** Writes a 48-bit integer as the MAC address at a byte offset. */
export function setMac(view: DataView, off: number, mac: number): void {
  view.setUint16(off, mac / 0x1_0000_0000);
  view.setUint32(off + 2, mac % 0x1_0000_0000);
}

/** `02:00:00:00:00:01 > 02:00:00:00:00:02`, source first. The 14 bytes must be there. */
export function formatEthernet(view: DataView, frame: number): string {
  return `${formatMac(getMac(view, frame + ETHERNET_SRC))} > ${formatMac(getMac(view, frame + ETHERNET_DST))}`;
}
