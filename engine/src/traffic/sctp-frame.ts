/**
 * SCTP frames of a stream: the association's control chunks, written whole, and the patch of a DATA template.
 *
 * An association runs INIT, INIT-ACK, COOKIE-ECHO, COOKIE-ACK; DATA and SACK; SHUTDOWN, SHUTDOWN-ACK, SHUTDOWN-COMPLETE
 * (RFC 9260). Both verification tags are hashes of the flow, so either end knows them without state. The CRC covers the
 * whole packet and is computed for each frame, so SCTP costs more the longer its frames are.
 */
import { mix32 } from '../tables/hash.ts';
import { type Burst, FRAME_HEADROOM } from '../wire/burst.ts';
import { checksum } from '../wire/checksum.ts';
import { IPV4_BYTES, IPV4_CHECKSUM, IPV4_DF, writeIpv4 } from '../wire/ipv4.ts';
import { IPV6_DST, IPV6_SRC, setIpv6Address, writeIpv6 } from '../wire/ipv6.ts';
import {
  PROTO_SCTP,
  SCTP_BYTES,
  SCTP_CHECKSUM,
  SCTP_CHUNK,
  SCTP_COOKIE_ECHO,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SACK,
  SCTP_SHUTDOWN,
  sctpChecksum,
  setSctpChecksum,
  writeSctp,
} from '../wire/sctp.ts';
import type { StreamFacts } from './facts.ts';
import { putTemplate } from './frame.ts';
import type { Station } from './station.ts';
import {
  INITIAL_TTL,
  SLOT_L3,
  SLOT_L4_OF_IPV4,
  SLOT_L4_OF_IPV6,
  TEMPLATE_CLIENT,
  TEMPLATE_SERVER,
} from './template.ts';

const RECEIVE_WINDOW = 106_496;
const STREAMS = 10;
const STATE_COOKIE = 7;
/** Bytes of the TSN field's place behind the chunk's start. */
const DATA_TSN = 4;
const SACK_BYTES = 16;

/** Tag that frames to the client carry. Never 0, which only INIT may carry. */
export function clientTag(flowHash: number): number {
  return mix32(flowHash ^ 0x636c6965) | 1;
}

/** Tag that frames to the server carry. */
export function serverTag(flowHash: number): number {
  return mix32(flowHash ^ 0x73657276) | 1;
}

/** TSN of the DATA chunk that an SCTP packet starts with. */
export function getDataTsn(view: DataView, l4: number): number {
  return view.getInt32(l4 + SCTP_CHUNK + DATA_TSN);
}

/** Patches a DATA template; addresses are already written. */
export function putSctpData(b: Burst, l4: number, end: number, ports: number, tag: number, tsn: number): void {
  const view = b.view;
  view.setInt32(l4, ports);
  view.setInt32(l4 + 4, tag);
  view.setInt32(l4 + SCTP_CHUNK + DATA_TSN, tsn);
  view.setInt32(l4 + SCTP_CHECKSUM, 0);
  setSctpChecksum(view, l4, sctpChecksum(b.bytes, l4, end - l4));
}

/** Bytes of a control chunk. */
function chunkBytes(type: number): number {
  switch (type) {
    case SCTP_INIT:
      return 20;
    case SCTP_INIT_ACK:
      return 28;
    case SCTP_COOKIE_ECHO:
    case SCTP_SHUTDOWN:
      return 8;
    case SCTP_SACK:
      return SACK_BYTES;
  }
  return 4;
}

/**
 * Writes a whole frame with one control chunk into a slot.
 * @param fromServer 1 when the server sends it
 * @param tag verification tag of the packet
 * @param ownTag tag that INIT and INIT-ACK announce; else unused
 * @param tsn initial TSN of INIT and INIT-ACK, cumulative TSN of SACK and SHUTDOWN; else unused
 */
export function writeSctpControl(
  st: Station,
  stream: StreamFacts,
  b: Burst,
  s: number,
  fromServer: number,
  family: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  type: number,
  tag: number,
  ownTag: number,
  tsn: number,
): void {
  const side = fromServer === 1 ? TEMPLATE_SERVER : TEMPLATE_CLIENT;
  putTemplate(st.frames[stream.template + side], b, s);
  const view = b.view;
  const slot = s * b.slotBytes;
  const l3 = slot + SLOT_L3;
  const l4 = slot + (family === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6);
  const bytes = chunkBytes(type);
  const l4Length = SCTP_BYTES + bytes;
  if (family === 4) {
    writeIpv4(view, l3, 0, IPV4_BYTES + l4Length, 0, IPV4_DF, INITIAL_TTL, PROTO_SCTP, s0, d0);
    view.setUint16(l3 + IPV4_CHECKSUM, checksum(b.bytes, l3, IPV4_BYTES, 0));
  } else {
    writeIpv6(view, l3, 0, 0, l4Length, PROTO_SCTP, INITIAL_TTL);
    setIpv6Address(view, l3 + IPV6_SRC, s0, s1, s2, s3);
    setIpv6Address(view, l3 + IPV6_DST, d0, d1, d2, d3);
  }
  writeSctp(view, l4, ports >>> 16, ports & 0xffff, tag);
  const chunk = l4 + SCTP_CHUNK;
  view.setInt32(chunk, (type << 24) | bytes);
  if (type === SCTP_INIT || type === SCTP_INIT_ACK) {
    view.setInt32(chunk + 4, ownTag);
    view.setInt32(chunk + 8, RECEIVE_WINDOW);
    view.setInt32(chunk + 12, (STREAMS << 16) | STREAMS);
    view.setInt32(chunk + 16, tsn);
    if (type === SCTP_INIT_ACK) {
      view.setInt32(chunk + 20, (STATE_COOKIE << 16) | 8);
      view.setInt32(chunk + 24, ownTag ^ tag);
    }
  } else if (type === SCTP_COOKIE_ECHO) view.setInt32(chunk + 4, ownTag ^ tag);
  else if (type === SCTP_SACK || type === SCTP_SHUTDOWN) {
    view.setInt32(chunk + 4, tsn);
    if (type === SCTP_SACK) {
      view.setInt32(chunk + 8, RECEIVE_WINDOW);
      view.setInt32(chunk + 12, 0);
    }
  }
  setSctpChecksum(view, l4, sctpChecksum(b.bytes, l4, l4Length));
  b.len[s] = l4 + l4Length - slot - FRAME_HEADROOM;
}
