/**
 * The pcapng file format, reading only (draft-ietf-opsawg-pcapng).
 *
 *     block   type (4)  total length (4)  body, padded to 4  total length again (4)
 *     read    section header, interface description, enhanced, simple and obsolete packet; all others are skipped
 *
 * Sections may differ in byte order, and each has its own interfaces. Guarantees: every packet before the damage is
 * yielded, then CaptureError is thrown; nothing is allocated from a length in the file. Refuses: a block length below
 * 12, not a multiple of 4, not repeated or beyond the file; packets of unknown interfaces or links; lying lengths;
 * more than MAX_CAPTURE_INTERFACES in a section.
 */

import {
  CaptureError,
  type CaptureRecord,
  type ClaimedLengths,
  checkLengths,
  MAX_CAPTURE_INTERFACES,
  makeRecord,
} from './capture-record.ts';
import { isKnownLinkType } from './linktype.ts';

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const OBSOLETE_PACKET = 2;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

const BLOCK_MIN_BYTES = 12;
const SECTION_MIN_BYTES = 28;
const INTERFACE_MIN_BYTES = 20;
const SIMPLE_MIN_BYTES = 16;
/** Enhanced and obsolete packet blocks have their packets at the same offset. */
const PACKET_MIN_BYTES = 32;
const PACKET_DATA = 28;
const SIMPLE_DATA = 12;

const OPTION_END = 0;
const OPTION_TIME_RESOLUTION = 9;
const OPTION_TIME_OFFSET = 14;
const DEFAULT_RESOLUTION = 6;
/** Finest units that divide a second here: 10^-15 and 2^-50, so that a remainder stays exact in a double. */
const MAX_DECIMAL = 15;
const MAX_BINARY = 50;
const NANOSECONDS = 1_000_000_000;

interface CaptureInterface {
  /** Number through all sections. */
  readonly id: number;
  readonly linkType: number;
  readonly snapLength: number;
  /** Timestamp units in a second. */
  readonly unitsPerSecond: number;
  /** Seconds to add to every timestamp. */
  readonly offsetSeconds: number;
}

interface Section {
  readonly little: boolean;
  readonly interfaces: CaptureInterface[];
}

interface Block {
  readonly type: number;
  readonly start: number;
  readonly length: number;
  /** Number of the packet that comes next, from 1. */
  readonly packet: number;
}

/** True if the bytes begin with a section header. */
export function isPcapng(bytes: Uint8Array): boolean {
  // The block type reads the same in both byte orders.
  return bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) === SECTION_HEADER;
}

/** Reads a pcapng file. @throws CaptureError at the first damage, after all packets before it */
export function* readPcapng(bytes: Uint8Array): Generator<CaptureRecord, void, undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isPcapng(bytes)) throw new CaptureError('this is not a pcapng file', 0, 1);
  let section: Section = { little: true, interfaces: [] };
  let interfaces = 0;
  let packet = 1;
  for (let start = 0; start < bytes.length; ) {
    if (bytes.length - start < BLOCK_MIN_BYTES) {
      throw new CaptureError(`a block expected, ${bytes.length - start} bytes are there`, start, packet);
    }
    if (view.getUint32(start) === SECTION_HEADER) section = { little: byteOrder(view, start, packet), interfaces: [] };
    const block = readBlock(view, start, section.little, packet);
    switch (block.type) {
      case SECTION_HEADER:
        checkSection(view, block, section);
        break;
      case INTERFACE_DESCRIPTION:
        section.interfaces.push(readInterface(view, block, section, interfaces++));
        break;
      case ENHANCED_PACKET:
      case OBSOLETE_PACKET:
        yield readPacket(bytes, view, block, section);
        packet++;
        break;
      case SIMPLE_PACKET:
        yield readSimplePacket(bytes, view, block, section);
        packet++;
        break;
    }
    start += block.length;
  }
}

/** True for little-endian. */
function byteOrder(view: DataView, start: number, packet: number): boolean {
  if (view.getUint32(start + 8) === BYTE_ORDER_MAGIC) return false;
  if (view.getUint32(start + 8, true) === BYTE_ORDER_MAGIC) return true;
  throw new CaptureError('the section header has no byte-order magic', start + 8, packet);
}

function readBlock(view: DataView, start: number, little: boolean, packet: number): Block {
  const type = view.getUint32(start, little);
  const length = view.getUint32(start + 4, little);
  if (length < BLOCK_MIN_BYTES || length % 4 !== 0) {
    throw new CaptureError(
      `a block is ${BLOCK_MIN_BYTES} bytes or more and a multiple of 4, not ${length}`,
      start + 4,
      packet,
    );
  }
  if (length > view.byteLength - start) {
    throw new CaptureError(`a block of ${length} bytes expected, ${view.byteLength - start} are there`, start, packet);
  }
  const trailer = view.getUint32(start + length - 4, little);
  if (trailer !== length) {
    throw new CaptureError(`the block ends with length ${trailer}, not ${length}`, start + length - 4, packet);
  }
  return { type, start, length, packet };
}

function needBytes(block: Block, bytes: number, of: string): void {
  if (block.length >= bytes) return;
  throw new CaptureError(`${of} takes at least ${bytes} bytes, not ${block.length}`, block.start, block.packet);
}

function checkSection(view: DataView, block: Block, section: Section): void {
  needBytes(block, SECTION_MIN_BYTES, 'a section header');
  const major = view.getUint16(block.start + 12, section.little);
  if (major !== 1) throw new CaptureError(`version 1 expected, ${major} found`, block.start + 12, block.packet);
}

function readInterface(view: DataView, block: Block, section: Section, id: number): CaptureInterface {
  needBytes(block, INTERFACE_MIN_BYTES, 'an interface description');
  if (section.interfaces.length === MAX_CAPTURE_INTERFACES) {
    throw new CaptureError(`more than ${MAX_CAPTURE_INTERFACES} interfaces in a section`, block.start, block.packet);
  }
  const { little } = section;
  let unitsPerSecond = 10 ** DEFAULT_RESOLUTION;
  let offsetSeconds = 0;
  const end = block.start + block.length - 4;
  for (let off = block.start + 16; end - off >= 4; ) {
    const code = view.getUint16(off, little);
    const length = view.getUint16(off + 2, little);
    if (code === OPTION_END) break;
    if (length > end - off - 4) {
      throw new CaptureError(`an option of ${length} bytes, ${end - off - 4} are there`, off, block.packet);
    }
    if (code === OPTION_TIME_RESOLUTION && length === 1) {
      unitsPerSecond = readResolution(view.getUint8(off + 4), off, block.packet);
    }
    if (code === OPTION_TIME_OFFSET && length === 8) {
      const high = view.getInt32(off + (little ? 8 : 4), little);
      offsetSeconds = high * 0x1_0000_0000 + view.getUint32(off + (little ? 4 : 8), little);
    }
    off += 4 + ((length + 3) & ~3);
  }
  return {
    id,
    linkType: view.getUint16(block.start + 8, little),
    snapLength: view.getUint32(block.start + 12, little),
    unitsPerSecond,
    offsetSeconds,
  };
}

/** if_tsresol: a negative power of 10, or of 2 where the top bit is set. */
function readResolution(value: number, offset: number, packet: number): number {
  const power = value & 127;
  const binary = value > 127;
  if (power > (binary ? MAX_BINARY : MAX_DECIMAL)) {
    throw new CaptureError(`timestamps in units of ${binary ? 2 : 10}^-${power} s are too fine`, offset, packet);
  }
  return (binary ? 2 : 10) ** power;
}

function findInterface(section: Section, index: number, block: Block): CaptureInterface {
  const found = section.interfaces[index];
  if (found === undefined) {
    const known = section.interfaces.length;
    throw new CaptureError(`interface ${index} of a section that describes ${known}`, block.start + 8, block.packet);
  }
  if (!isKnownLinkType(found.linkType)) {
    throw new CaptureError(`link type ${found.linkType} is not one that can be read`, block.start, block.packet);
  }
  return found;
}

function readPacket(bytes: Uint8Array, view: DataView, block: Block, section: Section): CaptureRecord {
  needBytes(block, PACKET_MIN_BYTES, 'a packet block');
  const { little } = section;
  const { start, packet } = block;
  // The obsolete block has a 16-bit interface number, and a drop count in the place of its other half.
  const index = block.type === ENHANCED_PACKET ? view.getUint32(start + 8, little) : view.getUint16(start + 8, little);
  const found = findInterface(section, index, block);
  const claimed: ClaimedLengths = {
    captured: view.getUint32(start + 20, little),
    original: view.getUint32(start + 24, little),
    snapLength: found.snapLength,
    offset: start,
    dataOffset: start + PACKET_DATA,
    dataEnd: start + block.length - 4,
    packet,
  };
  checkLengths(claimed);
  const time = splitTime(view.getUint32(start + 12, little), view.getUint32(start + 16, little), found.unitsPerSecond);
  return makeRecord(bytes, claimed, found.linkType, time.seconds + found.offsetSeconds, time.nanoseconds, found.id);
}

/** A simple packet has neither a time nor a captured length: that is what the snapshot length leaves of the packet. */
function readSimplePacket(bytes: Uint8Array, view: DataView, block: Block, section: Section): CaptureRecord {
  needBytes(block, SIMPLE_MIN_BYTES, 'a simple packet block');
  const found = findInterface(section, 0, block);
  const original = view.getUint32(block.start + 8, section.little);
  const claimed: ClaimedLengths = {
    captured: found.snapLength > 0 ? Math.min(original, found.snapLength) : original,
    original,
    snapLength: found.snapLength,
    offset: block.start,
    dataOffset: block.start + SIMPLE_DATA,
    dataEnd: block.start + block.length - 4,
    packet: block.packet,
  };
  checkLengths(claimed);
  return makeRecord(bytes, claimed, found.linkType, 0, 0, found.id);
}

/** A 64-bit count of units as seconds and nanoseconds, by long division: it has more bits than a double. */
function splitTime(high: number, low: number, unitsPerSecond: number): { seconds: number; nanoseconds: number } {
  let seconds = 0;
  let rest = 0;
  for (let bit = 63; bit >= 0; bit--) {
    const word = bit >= 32 ? high : low;
    rest = rest * 2 + ((word >>> (bit & 31)) & 1);
    seconds *= 2;
    if (rest >= unitsPerSecond) {
      rest -= unitsPerSecond;
      seconds++;
    }
  }
  return { seconds, nanoseconds: toNanoseconds(rest, unitsPerSecond) };
}

/** A part of a second in nanoseconds, rounded down; exact for every decimal unit. */
function toNanoseconds(units: number, unitsPerSecond: number): number {
  if (NANOSECONDS % unitsPerSecond === 0) return units * (NANOSECONDS / unitsPerSecond);
  if (unitsPerSecond % NANOSECONDS === 0) return Math.floor(units / (unitsPerSecond / NANOSECONDS));
  return Math.floor((units / unitsPerSecond) * NANOSECONDS);
}
