/**
 * SCTP common header and the head of its chunks (RFC 9260).
 *
 *     +0 source port   +2 destination port   +4 verification tag   +8 CRC32c, least significant byte first
 *     +12 chunks: type, flags, length (2, without padding), value, padded to 4 bytes
 *
 * The CRC covers the whole SCTP packet with its own field as 0, and no address. Refuses nothing: `parseFrame` asks for
 * the common header and one chunk head.
 */

import { crc32cUpdate, crc32cZeros } from './crc32c.ts';

export const PROTO_SCTP = 132;
export const SCTP_BYTES = 12;
export const SCTP_SRC_PORT = 0;
export const SCTP_DST_PORT = 2;
export const SCTP_TAG = 4;
export const SCTP_CHECKSUM = 8;
export const SCTP_CHUNK = 12;
export const SCTP_CHUNK_HEAD_BYTES = 4;
export const SCTP_CHUNK_LENGTH = 2;

export const SCTP_DATA = 0;
export const SCTP_INIT = 1;
export const SCTP_INIT_ACK = 2;
export const SCTP_SACK = 3;
export const SCTP_HEARTBEAT = 4;
export const SCTP_HEARTBEAT_ACK = 5;
export const SCTP_ABORT = 6;
export const SCTP_SHUTDOWN = 7;
export const SCTP_SHUTDOWN_ACK = 8;
export const SCTP_ERROR = 9;
export const SCTP_COOKIE_ECHO = 10;
export const SCTP_COOKIE_ACK = 11;
export const SCTP_SHUTDOWN_COMPLETE = 14;

const CHUNK_NAMES: Readonly<Record<number, string>> = {
  [SCTP_DATA]: 'DATA',
  [SCTP_INIT]: 'INIT',
  [SCTP_INIT_ACK]: 'INIT-ACK',
  [SCTP_SACK]: 'SACK',
  [SCTP_HEARTBEAT]: 'HEARTBEAT',
  [SCTP_HEARTBEAT_ACK]: 'HEARTBEAT-ACK',
  [SCTP_ABORT]: 'ABORT',
  [SCTP_SHUTDOWN]: 'SHUTDOWN',
  [SCTP_SHUTDOWN_ACK]: 'SHUTDOWN-ACK',
  [SCTP_ERROR]: 'ERROR',
  [SCTP_COOKIE_ECHO]: 'COOKIE-ECHO',
  [SCTP_COOKIE_ACK]: 'COOKIE-ACK',
  [SCTP_SHUTDOWN_COMPLETE]: 'SHUTDOWN-COMPLETE',
};

/** Verification tag, unsigned. */
export function getSctpTag(view: DataView, l4: number): number {
  return view.getUint32(l4 + SCTP_TAG);
}

/** The CRC as the signed 32-bit integer that `sctpChecksum` computes. */
export function getSctpChecksum(view: DataView, l4: number): number {
  return view.getInt32(l4 + SCTP_CHECKSUM, true);
}

export function setSctpChecksum(view: DataView, l4: number, crc: number): void {
  view.setInt32(l4 + SCTP_CHECKSUM, crc, true);
}

/** CRC32c of the SCTP packet of `length` bytes at `l4`, its own field counted as 0; a signed 32-bit integer. */
export function sctpChecksum(bytes: Uint8Array, l4: number, length: number): number {
  const head = crc32cUpdate(-1, bytes, l4, SCTP_CHECKSUM);
  return ~crc32cUpdate(crc32cZeros(head, 4), bytes, l4 + SCTP_BYTES, length - SCTP_BYTES);
}

/** Writes a common header with CRC 0. */
export function writeSctp(view: DataView, l4: number, sport: number, dport: number, tag: number): void {
  view.setUint16(l4 + SCTP_SRC_PORT, sport);
  view.setUint16(l4 + SCTP_DST_PORT, dport);
  view.setUint32(l4 + SCTP_TAG, tag);
  view.setUint32(l4 + SCTP_CHECKSUM, 0);
}

/** `INIT`, `DATA`, … or `chunk 200`. */
export function sctpChunkName(type: number): string {
  return CHUNK_NAMES[type] ?? `chunk ${type}`;
}

/** `SCTP 5000 > 5001 INIT tag 0`, the first chunk only. */
export function formatSctp(view: DataView, l4: number): string {
  const ports = `${view.getUint16(l4 + SCTP_SRC_PORT)} > ${view.getUint16(l4 + SCTP_DST_PORT)}`;
  return `SCTP ${ports} ${sctpChunkName(view.getUint8(l4 + SCTP_CHUNK))} tag ${getSctpTag(view, l4)}`;
}
