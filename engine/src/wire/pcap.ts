/**
 * The pcap file format: a reader for both byte orders, microseconds and nanoseconds, and a writer.
 *
 *     file     magic (4)  version 2.4 (2, 2)  zone, sigfigs (4, 4)  snapshot length (4)  link type (4)
 *     record   seconds (4)  micro- or nanoseconds (4)  captured bytes (4)  bytes on the wire (4)  the packet
 *
 * Guarantees: every packet before the damage is yielded, then CaptureError is thrown; nothing is allocated from a
 * length in the file. Refuses: other versions, unknown link types, records that claim more than their file, the
 * snapshot length or the packet holds.
 */

import {
  CaptureError,
  type CaptureRecord,
  type ClaimedLengths,
  checkLengths,
  MAX_CAPTURED_BYTES,
  makeRecord,
} from './capture-record.ts';
import { isKnownLinkType, LINKTYPE_ETHERNET } from './linktype.ts';

export const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;
export const PCAP_MAGIC_NANOSECONDS = 0xa1b23c4d;
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
/** The link type's field also says how long a frame check sequence is; the type is in its low 16 bits. */
const LINK_TYPE_MASK = 0xffff;

/** True if the bytes begin with the magic number of a pcap file, in either byte order. */
export function isPcap(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && magicOf(new DataView(bytes.buffer, bytes.byteOffset, 4)) !== 0;
}

/** 0, or the magic number; negative where the file is little-endian. */
function magicOf(view: DataView): number {
  for (const magic of [PCAP_MAGIC_MICROSECONDS, PCAP_MAGIC_NANOSECONDS]) {
    if (view.getUint32(0) === magic) return magic;
    if (view.getUint32(0, true) === magic) return -magic;
  }
  return 0;
}

/** Reads a pcap file. @throws CaptureError at the first damage, after all packets before it */
export function* readPcap(bytes: Uint8Array): Generator<CaptureRecord, void, undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isPcap(bytes)) throw new CaptureError('this is not a pcap file', 0, 1);
  if (bytes.length < FILE_HEADER_BYTES) {
    throw new CaptureError(`a file header of ${FILE_HEADER_BYTES} bytes expected, ${bytes.length} are there`, 0, 1);
  }
  const magic = magicOf(view);
  const little = magic < 0;
  const nanoseconds = Math.abs(magic) === PCAP_MAGIC_NANOSECONDS;
  const fraction = nanoseconds ? 1_000_000_000 : 1_000_000;
  const major = view.getUint16(4, little);
  const minor = view.getUint16(6, little);
  if (major !== 2 || minor !== 4) throw new CaptureError(`version 2.4 expected, ${major}.${minor} found`, 4, 1);
  const snapLength = view.getUint32(16, little);
  const linkType = view.getUint32(20, little) & LINK_TYPE_MASK;
  if (!isKnownLinkType(linkType)) throw new CaptureError(`link type ${linkType} is not one that can be read`, 20, 1);

  let off = FILE_HEADER_BYTES;
  for (let packet = 1; off < bytes.length; packet++) {
    const dataOffset = off + RECORD_HEADER_BYTES;
    if (dataOffset > bytes.length) {
      const there = bytes.length - off;
      throw new CaptureError(
        `a record header of ${RECORD_HEADER_BYTES} bytes expected, ${there} are there`,
        off,
        packet,
      );
    }
    const part = view.getUint32(off + 4, little);
    const claimed: ClaimedLengths = {
      captured: view.getUint32(off + 8, little),
      original: view.getUint32(off + 12, little),
      snapLength,
      offset: off,
      dataOffset,
      dataEnd: bytes.length,
      packet,
    };
    checkLengths(claimed);
    if (part >= fraction) throw new CaptureError(`${part} is more than a second's fraction`, off + 4, packet);
    const seconds = view.getUint32(off, little);
    yield makeRecord(bytes, claimed, linkType, seconds, nanoseconds ? part : part * 1000, 0);
    off = dataOffset + claimed.captured;
  }
}

/** Writes one record: whole seconds and nanoseconds since 1970, the frame, and its length on the wire in bytes. */
export type PcapRecordWriter = (
  seconds: number,
  nanoseconds: number,
  frame: Uint8Array,
  originalLength: number,
) => void;

/**
 * Starts a pcap file of Ethernet frames: hands its header to `write`, and answers the function that writes records.
 * @param write takes the file's bytes piece by piece, in order; each piece is its own to keep
 */
export function pcapWriter(
  resolution: 'microseconds' | 'nanoseconds',
  write: (piece: Uint8Array) => void,
): PcapRecordWriter {
  const header = new DataView(new ArrayBuffer(FILE_HEADER_BYTES));
  header.setUint32(0, resolution === 'nanoseconds' ? PCAP_MAGIC_NANOSECONDS : PCAP_MAGIC_MICROSECONDS, true);
  header.setUint16(4, 2, true);
  header.setUint16(6, 4, true);
  header.setUint32(16, MAX_CAPTURED_BYTES, true);
  header.setUint32(20, LINKTYPE_ETHERNET, true);
  write(new Uint8Array(header.buffer));
  return (seconds, nanoseconds, frame, originalLength) => {
    const piece = new Uint8Array(RECORD_HEADER_BYTES + frame.length);
    const view = new DataView(piece.buffer);
    view.setUint32(0, seconds, true);
    view.setUint32(4, resolution === 'nanoseconds' ? nanoseconds : Math.trunc(nanoseconds / 1000), true);
    view.setUint32(8, frame.length, true);
    view.setUint32(12, originalLength, true);
    piece.set(frame, RECORD_HEADER_BYTES);
    write(piece);
  };
}
