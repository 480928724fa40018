/**
 * Frame templates: one per stream and size, copied into a slot word by word and patched with what differs per packet.
 *
 * A template is the image of a slot, its 2 bytes of headroom included, so that it is copied in aligned words:
 *
 *     +2 Ethernet (14)   +16 IPv4 (20) or IPv6 (40)   L4 header   payload
 *
 * with 0 for addresses, ports, checksums and, per protocol: TCP sequence numbers, ICMP identifier and sequence, SCTP tag
 * and TSN. `index` has TEMPLATE_WORDS words for each: where it is, its length, and the sums of all that is fixed, so a
 * checksum costs the sum of the patched fields and one fold, and is exact.
 *
 * SCTP packets end on a 4-byte boundary and carry user data, so their sizes are rounded up.
 *
 * Templates of a stream: TEMPLATE_CLIENT and TEMPLATE_SERVER, headers alone as each side sends them, then one per size.
 * Payload byte i of stream s is `payloadByte(s, i)` whatever the size.
 */

import { DEFAULT_SLOT_BYTES, FRAME_HEADROOM } from '../wire/burst.ts';
import { foldSum, onesSum } from '../wire/checksum.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, setMac } from '../wire/ethernet.ts';
import { ICMP_BYTES, ICMP4_ECHO, PROTO_ICMP } from '../wire/icmp4.ts';
import { ICMP6_ECHO } from '../wire/icmp6.ts';
import { IPV4_BYTES, IPV4_DF, writeIpv4 } from '../wire/ipv4.ts';
import { IPV6_BYTES, writeIpv6 } from '../wire/ipv6.ts';
import { PROTO_SCTP, SCTP_BYTES, SCTP_DATA } from '../wire/sctp.ts';
import { PROTO_TCP, TCP_ACK, TCP_BYTES, TCP_PSH, writeTcp } from '../wire/tcp.ts';
import { PROTO_UDP, UDP_BYTES, writeUdp } from '../wire/udp.ts';
import type { StreamSpec } from './stream.ts';

/** Byte offsets in a slot of what the generator writes. */
export const SLOT_L3 = 16;
export const SLOT_L4_OF_IPV4 = SLOT_L3 + IPV4_BYTES;
export const SLOT_L4_OF_IPV6 = SLOT_L3 + IPV6_BYTES;

export const INITIAL_TTL = 64;
const WINDOW = 64_240;
/** SCTP DATA chunk: head (4), TSN, stream id and sequence, payload protocol id. */
export const SCTP_DATA_BYTES = 16;

const CLIENT_MAC = 0x02_00_00_00_00_01;
const SERVER_MAC = 0x02_00_00_00_00_02;

export const TEMPLATE_CLIENT = 0;
export const TEMPLATE_SERVER = 1;
export const TEMPLATE_SIZES = 2;

export const TEMPLATE_WORDS = 8;
/** Word offset of the image in `words`. */
export const TEMPLATE_AT = 0;
/** Words to copy. */
export const TEMPLATE_COPY = 1;
/** Frame length in bytes. */
export const TEMPLATE_LENGTH = 2;
/** Sum of the IPv4 header but for addresses and checksum; 0 for IPv6. */
export const TEMPLATE_IP_SUM = 3;
/** Folded sum of pseudo header and L4 packet but for addresses and what is patched; 0 for SCTP. */
export const TEMPLATE_L4_SUM = 4;
/** Payload bytes. */
export const TEMPLATE_PAYLOAD = 5;

export interface Templates {
  readonly words: Int32Array;
  readonly index: Int32Array;
}

/** The payload of a stream: not constant, not periodic in 256, the same at each place in every packet. */
export function payloadByte(stream: number, i: number): number {
  return (stream * 59 + i * 7 + (i >>> 8) * 31 + 1) & 255;
}

/** Bytes of the L4 header that stands before the payload. */
export function headerBytes(proto: number): number {
  switch (proto) {
    case PROTO_TCP:
      return TCP_BYTES;
    case PROTO_UDP:
      return UDP_BYTES;
    case PROTO_SCTP:
      return SCTP_BYTES + SCTP_DATA_BYTES;
  }
  return ICMP_BYTES;
}

/**
 * Writes the templates of all streams.
 * @throws RangeError if a size is too small for its headers or too large for a slot
 */
export function createTemplates(streams: readonly StreamSpec[]): Templates {
  const frames: Uint8Array[] = [];
  const rows: number[][] = [];
  let at = 0;
  streams.forEach((stream, s) => {
    const l4 = stream.family === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6;
    const least = l4 - FRAME_HEADROOM + headerBytes(stream.proto);
    const add = (length: number, flags: number, fromServer: boolean) => {
      const slot = new Uint8Array(Math.ceil((length + FRAME_HEADROOM) / 4) * 4);
      const sums = writeTemplate(slot, stream, s, length, flags, fromServer);
      rows.push([at, slot.length / 4, length, sums.ip, sums.l4, length - least, 0, 0]);
      frames.push(slot);
      at += slot.length / 4;
    };
    add(least, 0, false);
    add(least, 0, true);
    for (const { bytes } of stream.sizes) {
      if (!Number.isInteger(bytes) || bytes < least || bytes > DEFAULT_SLOT_BYTES - FRAME_HEADROOM) {
        const most = DEFAULT_SLOT_BYTES - FRAME_HEADROOM;
        throw new RangeError(`stream ${s}: a frame of ${bytes} bytes; ${least} to ${most} are possible`);
      }
      add(stream.proto === PROTO_SCTP ? sctpLength(bytes, least) : bytes, TCP_PSH | TCP_ACK, false);
    }
  });
  const words = new Int32Array(new SharedArrayBuffer(at * 4));
  const index = new Int32Array(new SharedArrayBuffer(rows.length * TEMPLATE_WORDS * 4));
  const bytes = new Uint8Array(words.buffer);
  rows.forEach((row, i) => {
    bytes.set(frames[i], row[TEMPLATE_AT] * 4);
    index.set(row, i * TEMPLATE_WORDS);
  });
  return { words, index };
}

/** Length of a frame whose DATA chunk has at least 4 bytes of user data and no padding. */
function sctpLength(bytes: number, least: number): number {
  return least + Math.max(4, Math.ceil((bytes - least) / 4) * 4);
}

function writeTemplate(
  slot: Uint8Array,
  stream: StreamSpec,
  s: number,
  length: number,
  tcpFlags: number,
  fromServer: boolean,
): { ip: number; l4: number } {
  const view = new DataView(slot.buffer);
  const { family, proto } = stream;
  setMac(view, FRAME_HEADROOM, fromServer ? CLIENT_MAC : SERVER_MAC);
  setMac(view, FRAME_HEADROOM + 6, fromServer ? SERVER_MAC : CLIENT_MAC);
  view.setUint16(FRAME_HEADROOM + 12, family === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
  const ipLength = length - (SLOT_L3 - FRAME_HEADROOM);
  const l4 = family === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6;
  const l4Length = ipLength - (l4 - SLOT_L3);
  if (family === 4) writeIpv4(view, SLOT_L3, 0, ipLength, 0, IPV4_DF, INITIAL_TTL, proto, 0, 0);
  else writeIpv6(view, SLOT_L3, 0, 0, l4Length, proto, INITIAL_TTL);
  if (proto === PROTO_TCP) writeTcp(view, l4, 0, 0, 0, 0, TCP_BYTES, tcpFlags, WINDOW);
  else if (proto === PROTO_UDP) writeUdp(view, l4, 0, 0, l4Length);
  else if (proto === PROTO_SCTP) {
    view.setUint8(l4 + SCTP_BYTES, SCTP_DATA);
    // Flags B and E: the whole message is in this chunk.
    view.setUint8(l4 + SCTP_BYTES + 1, 3);
    view.setUint16(l4 + SCTP_BYTES + 2, l4Length - SCTP_BYTES);
  } else view.setUint8(l4, family === 4 ? ICMP4_ECHO : ICMP6_ECHO);
  const payload = l4 + headerBytes(proto);
  for (let i = 0; payload + i < FRAME_HEADROOM + length; i++) slot[payload + i] = payloadByte(s, i);
  const pseudo = proto === PROTO_ICMP && family === 4 ? 0 : proto + l4Length;
  return {
    ip: family === 4 ? onesSum(slot, SLOT_L3, IPV4_BYTES, 0) : 0,
    l4: proto === PROTO_SCTP ? 0 : foldSum(onesSum(slot, l4, l4Length, pseudo)),
  };
}
