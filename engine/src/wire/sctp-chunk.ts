/**
 * Values of the SCTP chunks that open an association and carry data (RFC 9260 §3.3), for frames made by hand. Cold.
 *
 * Guarantees: the fixed parameters stand where the RFC has them. Refuses nothing; other chunks are given as bytes.
 */

import type { SctpChunk } from './build.ts';
import { SCTP_DATA, SCTP_INIT, SCTP_INIT_ACK } from './sctp.ts';

/** DATA flags: this chunk begins and ends its message. */
const WHOLE_MESSAGE = 3;

/**
 * INIT, or INIT ACK (whose state cookie parameter the receiver demands: 4 bytes of it are written).
 * @param tag the tag that the peer must put into its packets, not 0
 * @param window receive window in bytes
 */
export function initChunk(
  kind: 'init' | 'init-ack',
  tag: number,
  window: number,
  outStreams: number,
  inStreams: number,
  tsn: number,
): SctpChunk {
  const isAck = kind === 'init-ack';
  const value = new Uint8Array(isAck ? 24 : 16);
  const view = new DataView(value.buffer);
  view.setUint32(0, tag);
  view.setUint32(4, window);
  view.setUint16(8, outStreams);
  view.setUint16(10, inStreams);
  view.setUint32(12, tsn);
  if (isAck) {
    view.setUint16(16, 7);
    view.setUint16(18, 8);
    view.setUint32(20, tag);
  }
  return { type: isAck ? SCTP_INIT_ACK : SCTP_INIT, value };
}

/** DATA with a whole message. `protocolId` is the payload protocol identifier, 0 for none. */
export function dataChunk(
  tsn: number,
  stream: number,
  sequence: number,
  protocolId: number,
  message: Uint8Array,
): SctpChunk {
  const value = new Uint8Array(12 + message.length);
  const view = new DataView(value.buffer);
  view.setUint32(0, tsn);
  view.setUint16(4, stream);
  view.setUint16(6, sequence);
  view.setUint32(8, protocolId);
  value.set(message, 12);
  return { type: SCTP_DATA, flags: WHOLE_MESSAGE, value };
}
