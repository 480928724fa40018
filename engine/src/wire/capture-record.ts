/**
 * What the readers of capture files share: the record they yield, the error they end with, and the limits that keep a
 * lying file harmless. Nothing is ever allocated from a length that a file claims: records are views of the file.
 */

import { toEthernet } from './linktype.ts';

/** No packet is longer than this, in bytes: the largest snapshot length that capture tools use. */
export const MAX_CAPTURED_BYTES = 262_144;
export const MAX_CAPTURE_PACKETS = 100_000_000;
export const MAX_CAPTURE_INTERFACES = 4_096;

/** A packet of a capture file, as an Ethernet frame. */
export interface CaptureRecord {
  /** Time since 1970: whole seconds, and nanoseconds 0 … 999,999,999. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** The captured bytes; a view of the file where that is Ethernet, else a copy with a made header. */
  readonly data: Uint8Array;
  /** Length in bytes on the wire, counted with the made header; more than `data` holds if the capture cut it off. */
  readonly originalLength: number;
  /** Number of the interface, counted through all sections; 0 in a pcap file. */
  readonly interfaceId: number;
}

/** A capture file that is damaged or lies. Everything before `packet` has been read and is good. */
export class CaptureError extends Error {
  /** Byte offset in the file. */
  readonly offset: number;
  /** Number of the packet that could not be read, from 1. */
  readonly packet: number;

  constructor(message: string, offset: number, packet: number) {
    super(`byte ${offset}, packet ${packet}: ${message}`);
    this.name = 'CaptureError';
    this.offset = offset;
    this.packet = packet;
  }
}

/** The lengths that a packet record claims, and where. */
export interface ClaimedLengths {
  readonly captured: number;
  readonly original: number;
  /** The interface's limit in bytes; 0 for none. */
  readonly snapLength: number;
  /** Byte offset of the record in the file. */
  readonly offset: number;
  /** Byte offset of the packet's bytes. */
  readonly dataOffset: number;
  /** Byte offset where the space for them ends. */
  readonly dataEnd: number;
  /** Number of the packet, from 1. */
  readonly packet: number;
}

/** Checks what a record claims before a byte of it is touched. @throws CaptureError */
export function checkLengths(claimed: ClaimedLengths): void {
  const { captured, original, snapLength, offset, dataOffset, dataEnd, packet } = claimed;
  const fail = (message: string) => {
    throw new CaptureError(message, offset, packet);
  };
  if (packet > MAX_CAPTURE_PACKETS) fail(`more than ${MAX_CAPTURE_PACKETS} packets`);
  if (captured > MAX_CAPTURED_BYTES) fail(`${captured} captured bytes are more than ${MAX_CAPTURED_BYTES}`);
  if (captured > original) fail(`${captured} bytes captured of a packet of ${original}`);
  if (snapLength > 0 && captured > snapLength)
    fail(`${captured} bytes captured with a snapshot length of ${snapLength}`);
  if (captured > dataEnd - dataOffset) {
    fail(`${captured} bytes of packet expected, ${Math.max(0, dataEnd - dataOffset)} are there`);
  }
}

/** Makes the record of a packet whose lengths have been checked. */
export function makeRecord(
  bytes: Uint8Array,
  claimed: ClaimedLengths,
  linkType: number,
  seconds: number,
  nanoseconds: number,
  interfaceId: number,
): CaptureRecord {
  const raw = bytes.subarray(claimed.dataOffset, claimed.dataOffset + claimed.captured);
  const data = toEthernet(raw, linkType);
  const originalLength = Math.max(data.length, claimed.original + data.length - raw.length);
  return { seconds, nanoseconds, data, originalLength, interfaceId };
}
