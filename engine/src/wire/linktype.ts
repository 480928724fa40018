/**
 * Link-layer types of captures, and packets of other links as Ethernet frames (numbers: tcpdump.org/linktypes.html).
 *
 * Guarantees: an Ethernet packet comes back as it is; of another link a copy with a made Ethernet header in place of
 * its own (MACs 0, but for a source that a cooked capture knows). A packet shorter than its link header becomes an empty
 * frame, which `parseFrame` counts as unsupported. Refuses: other links, by `isKnownLinkType`.
 */

import { ETHERNET_BYTES, ETHERNET_SRC, ETHERNET_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from './ethernet.ts';

export const LINKTYPE_NULL = 0;
export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101;
export const LINKTYPE_LOOP = 108;
export const LINKTYPE_LINUX_SLL = 113;
export const LINKTYPE_IPV4 = 228;
export const LINKTYPE_IPV6 = 229;
export const LINKTYPE_LINUX_SLL2 = 276;
/** What libpcap calls DLT_RAW inside programs; some writers let it slip into files. */
const LINKTYPE_RAW_BSD = 12;

const NULL_BYTES = 4;
const SLL_BYTES = 16;
const SLL2_BYTES = 20;
const MAC_BYTES = 6;
/** Reserved ethertype (RFC 1701 §A): stands for what is neither IPv4 nor IPv6. */
const ETHERTYPE_RESERVED = 0xffff;
const BSD_INET = 2;
/** AF_INET6 of Linux, the BSDs and macOS. */
const INET6_FAMILIES: readonly number[] = [10, 24, 28, 30];

export function isKnownLinkType(type: number): boolean {
  return (
    type === LINKTYPE_ETHERNET ||
    type === LINKTYPE_NULL ||
    type === LINKTYPE_LOOP ||
    type === LINKTYPE_RAW ||
    type === LINKTYPE_RAW_BSD ||
    type === LINKTYPE_IPV4 ||
    type === LINKTYPE_IPV6 ||
    type === LINKTYPE_LINUX_SLL ||
    type === LINKTYPE_LINUX_SLL2
  );
}

/** A captured packet as an Ethernet frame. `type` must be known. */
export function toEthernet(packet: Uint8Array, type: number): Uint8Array {
  switch (type) {
    case LINKTYPE_ETHERNET:
      return packet;
    case LINKTYPE_NULL:
    case LINKTYPE_LOOP:
      return packet.length < NULL_BYTES ? new Uint8Array(0) : reframe(packet, NULL_BYTES, nullEtherType(packet));
    case LINKTYPE_LINUX_SLL: {
      if (packet.length < SLL_BYTES) return new Uint8Array(0);
      const frame = reframe(packet, SLL_BYTES, (packet[14] << 8) | packet[15]);
      if (((packet[4] << 8) | packet[5]) === MAC_BYTES) frame.set(packet.subarray(6, 12), ETHERNET_SRC);
      return frame;
    }
    case LINKTYPE_LINUX_SLL2: {
      if (packet.length < SLL2_BYTES) return new Uint8Array(0);
      const frame = reframe(packet, SLL2_BYTES, (packet[0] << 8) | packet[1]);
      if (packet[11] === MAC_BYTES) frame.set(packet.subarray(12, 18), ETHERNET_SRC);
      return frame;
    }
    case LINKTYPE_IPV4:
      return reframe(packet, 0, ETHERTYPE_IPV4);
    case LINKTYPE_IPV6:
      return reframe(packet, 0, ETHERTYPE_IPV6);
    default:
      return reframe(packet, 0, packet.length > 0 && packet[0] >>> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
  }
}

/** The family stands in the byte order of the machine that captured, which may not be that of the file. */
function nullEtherType(packet: Uint8Array): number {
  const family = packet[0] === 0 && packet[1] === 0 ? (packet[2] << 8) | packet[3] : (packet[1] << 8) | packet[0];
  if (family === BSD_INET) return ETHERTYPE_IPV4;
  return INET6_FAMILIES.includes(family) ? ETHERTYPE_IPV6 : ETHERTYPE_RESERVED;
}

function reframe(packet: Uint8Array, linkBytes: number, etherType: number): Uint8Array {
  const frame = new Uint8Array(ETHERNET_BYTES + packet.length - linkBytes);
  frame[ETHERNET_TYPE] = etherType >>> 8;
  frame[ETHERNET_TYPE + 1] = etherType & 255;
  frame.set(packet.subarray(linkBytes), ETHERNET_BYTES);
  return frame;
}
