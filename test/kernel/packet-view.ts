/**
 * IP packets as the judge reads them, apart from the engine's own parser and checksums, so that the two can disagree.
 *
 * Guarantees: never reads behind the packet; what is not there is absent. Bytes start at the IP header.
 */

export const ICMP4 = 1;
export const IGMP = 2;
export const TCP = 6;
export const UDP = 17;
export const ICMP6 = 58;
export const SCTP = 132;

export interface PacketView {
  readonly family: 4 | 6;
  /** Protocol behind all extension headers. */
  readonly protocol: number;
  readonly source: string;
  readonly destination: string;
  /** Where the transport header starts, and where the packet ends. */
  readonly l4: number;
  readonly end: number;
  /** Ports, or the identifier of an ICMP query twice; 0 where there is none. */
  readonly sport: number;
  readonly dport: number;
  readonly isLaterFragment: boolean;
  /** Where the quoted packet of an ICMP error starts, else -1. */
  readonly quote: number;
}

const EXTENSIONS = new Set([0, 43, 60, 51, 44, 135]);
const QUERIES4 = new Set([0, 8, 13, 14, 15, 16, 17, 18]);
const ERRORS4 = new Set([3, 4, 5, 11, 12]);

function view16(bytes: Uint8Array, at: number): number {
  return at + 2 <= bytes.length ? (bytes[at]! << 8) | bytes[at + 1]! : 0;
}

/** The packet that starts at `from`; null where there is no whole IP header. */
export function viewPacket(bytes: Uint8Array, from = 0): PacketView | null {
  const family = (bytes[from] ?? 0) >>> 4;
  if (family === 4) return bytes.length < from + 20 ? null : view4(bytes, from);
  if (family === 6) return bytes.length < from + 40 ? null : view6(bytes, from);
  return null;
}

function view4(bytes: Uint8Array, from: number): PacketView {
  const l4 = from + (bytes[from]! & 15) * 4;
  const end = Math.min(bytes.length, from + view16(bytes, from + 2));
  const protocol = bytes[from + 9]!;
  const isLaterFragment = (view16(bytes, from + 6) & 0x1fff) !== 0;
  const source = [...bytes.subarray(from + 12, from + 16)].join('.');
  const destination = [...bytes.subarray(from + 16, from + 20)].join('.');
  return { family: 4, source, destination, ...transport(bytes, 4, protocol, l4, end, isLaterFragment) };
}

function view6(bytes: Uint8Array, from: number): PacketView {
  const end = Math.min(bytes.length, from + 40 + view16(bytes, from + 4));
  let protocol = bytes[from + 6]!;
  let l4 = from + 40;
  let isLaterFragment = false;
  while (EXTENSIONS.has(protocol) && l4 + 8 <= end) {
    const next = bytes[l4]!;
    if (protocol === 44) {
      isLaterFragment ||= (view16(bytes, l4 + 2) & 0xfff8) !== 0;
      l4 += 8;
    } else l4 += protocol === 51 ? (bytes[l4 + 1]! + 2) * 4 : (bytes[l4 + 1]! + 1) * 8;
    protocol = next;
    if (isLaterFragment) break;
  }
  const source = hex(bytes.subarray(from + 8, from + 24));
  const destination = hex(bytes.subarray(from + 24, from + 40));
  return { family: 6, source, destination, ...transport(bytes, 6, protocol, l4, end, isLaterFragment) };
}

function transport(
  bytes: Uint8Array,
  family: 4 | 6,
  protocol: number,
  l4: number,
  end: number,
  isLaterFragment: boolean,
): Omit<PacketView, 'family' | 'source' | 'destination'> {
  const view = { protocol, l4, end, sport: 0, dport: 0, isLaterFragment, quote: -1 };
  if (isLaterFragment || l4 + 8 > end) return view;
  if (protocol === TCP || protocol === UDP || protocol === SCTP) {
    return { ...view, sport: view16(bytes, l4), dport: view16(bytes, l4 + 2) };
  }
  const type = bytes[l4]!;
  if (family === 4 ? protocol === ICMP4 && ERRORS4.has(type) : protocol === ICMP6 && type < 128) {
    return { ...view, quote: l4 + 8 };
  }
  if (family === 4 ? protocol === ICMP4 && QUERIES4.has(type) : protocol === ICMP6 && (type === 128 || type === 129)) {
    const id = view16(bytes, l4 + 4);
    return { ...view, sport: id, dport: id };
  }
  return view;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** Neighbour discovery and group reports, which a node sends without any packet of ours. */
export function isNeighbourTalk(packet: Uint8Array): boolean {
  const view = viewPacket(packet);
  if (view === null) return false;
  if (view.protocol === IGMP) return true;
  if (view.protocol !== ICMP6) return false;
  const type = packet[view.l4]!;
  return (type >= 130 && type <= 136) || type === 143;
}

// ---- checksums ----------------------------------------------------------------------------------------------------

/** The ones' complement sum of 16-bit words, an odd last byte padded with zero. */
function ones(bytes: Uint8Array, from: number, to: number, sum: number): number {
  for (let i = from; i < to; i += 2) sum += (bytes[i]! << 8) | (i + 1 < to ? bytes[i + 1]! : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

function pseudo(bytes: Uint8Array, from: number, packet: PacketView): number {
  const length = packet.end - packet.l4;
  const addresses = packet.family === 4 ? ones(bytes, from + 12, from + 20, 0) : ones(bytes, from + 8, from + 40, 0);
  return ones(bytes, 0, 0, addresses + packet.protocol + length);
}

/** Where the transport's 16-bit checksum is, -1 for a protocol without one (SCTP has one of 32 bits). */
export function checksumAt(packet: PacketView): number {
  switch (packet.protocol) {
    case TCP:
      return packet.l4 + 16;
    case UDP:
      return packet.l4 + 6;
    case ICMP4:
    case ICMP6:
      return packet.l4 + 2;
  }
  return -1;
}

/**
 * Completes what the kernel leaves to a network card: a local process's packet that never meets one carries the sum of
 * its pseudo header where its checksum belongs. A field that is not exactly that sum stays as it is, right or wrong.
 */
export function completeChecksum(bytes: Uint8Array, from = 0): Uint8Array {
  const packet = viewPacket(bytes, from);
  if (packet === null || packet.isLaterFragment) return bytes;
  if (packet.quote >= 0) return completeQuote(bytes, from, packet);
  if (packet.protocol !== TCP && packet.protocol !== UDP) return bytes;
  const at = checksumAt(packet);
  if (at + 2 > packet.end || view16(bytes, at) !== pseudo(bytes, from, packet)) return bytes;
  const whole = bytes.slice();
  put16(whole, at, 0);
  const sum = ~ones(whole, packet.l4, packet.end, pseudo(bytes, from, packet)) & 0xffff;
  put16(whole, at, sum === 0 && packet.protocol === UDP ? 0xffff : sum);
  return whole;
}

/** The quoted packet in an ICMP error; the error's own checksum follows. */
function completeQuote(bytes: Uint8Array, from: number, packet: PacketView): Uint8Array {
  const inner = completeChecksum(bytes, packet.quote);
  if (inner === bytes) return bytes;
  put16(inner, packet.l4 + 2, 0);
  const start = packet.family === 4 ? 0 : pseudo(inner, from, packet);
  put16(inner, packet.l4 + 2, ~ones(inner, packet.l4, packet.end, start) & 0xffff);
  return inner;
}

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 255;
}

/** RFC 1624 equation 3. */
export function moveChecksum(sum: number, before: number, after: number): number {
  let moved = (~sum & 0xffff) + (~before & 0xffff) + after;
  while (moved > 0xffff) moved = (moved & 0xffff) + (moved >>> 16);
  return ~moved & 0xffff;
}

/** CRC32c bit by bit (RFC 9260 appendix A). */
export function crc32c(bytes: Uint8Array, from: number, to: number): number {
  let crc = -1;
  for (let i = from; i < to; i++) {
    crc ^= bytes[i]!;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** The CRC of an SCTP packet as it should be, over the packet with a zeroed field. */
export function sctpCrc(bytes: Uint8Array, packet: PacketView): number {
  const copy = bytes.slice(packet.l4, packet.end);
  copy.fill(0, 8, 12);
  return crc32c(copy, 0, copy.length);
}

/** Writes the checksum of an IPv4 header. */
export function sumHeader(bytes: Uint8Array): void {
  put16(bytes, 10, 0);
  put16(bytes, 10, ~ones(bytes, 0, (bytes[0]! & 15) * 4, 0) & 0xffff);
}

// ---- fragments ----------------------------------------------------------------------------------------------------

/** A fragment's header: where it is (-1: the IPv4 header), the datagram's number, the place of the data, more to come. */
interface Piece {
  readonly packet: Uint8Array;
  readonly headerAt: number;
  readonly key: string;
  readonly data: Uint8Array;
  readonly from: number;
  readonly isLast: boolean;
}

/** Where the IPv6 fragment header of a packet is; -1 for none. Only headers that come before it are passed. */
export function fragmentHeaderAt(packet: Uint8Array): number {
  if (packet[0]! >>> 4 !== 6) return -1;
  let next = packet[6]!;
  for (let at = 40; at + 8 <= packet.length; ) {
    if (next === 44) return at;
    if (next !== 0 && next !== 43 && next !== 60) return -1;
    next = packet[at]!;
    at += (packet[at + 1]! + 1) * 8;
  }
  return -1;
}

function readPiece(packet: Uint8Array): Piece | null {
  if (packet[0]! >>> 4 === 4) {
    const field = view16(packet, 6);
    if ((field & 0x3fff) === 0) return null;
    const header = (packet[0]! & 15) * 4;
    const key = hex(packet.subarray(4, 6)) + hex(packet.subarray(9, 10)) + hex(packet.subarray(12, 20));
    const data = packet.subarray(header, view16(packet, 2));
    return { packet, headerAt: -1, key, data, from: (field & 0x1fff) * 8, isLast: (field & 0x2000) === 0 };
  }
  const at = fragmentHeaderAt(packet);
  if (at === -1) return null;
  const field = view16(packet, at + 2);
  const key = hex(packet.subarray(at + 4, at + 8)) + hex(packet.subarray(8, 40));
  return { packet, headerAt: at, key, data: packet.subarray(at + 8), from: field & 0xfff8, isLast: (field & 1) === 0 };
}

/** The packets with every complete set of fragments put together, in the place of its first one. */
export function reassemble(packets: readonly Uint8Array[]): Uint8Array[] {
  const sets = new Map<string, Piece[]>();
  const order: (Uint8Array | string)[] = [];
  for (const packet of packets) {
    const piece = readPiece(packet);
    if (piece === null) order.push(packet);
    else if (sets.has(piece.key)) sets.get(piece.key)!.push(piece);
    else {
      sets.set(piece.key, [piece]);
      order.push(piece.key);
    }
  }
  return order.flatMap((one) => (typeof one === 'string' ? joinPieces(sets.get(one)!) : [one]));
}

function joinPieces(pieces: readonly Piece[]): Uint8Array[] {
  const sorted = [...pieces].sort((a, b) => a.from - b.from);
  let length = 0;
  for (const { from, data } of sorted) {
    if (from !== length) return pieces.map(({ packet }) => packet);
    length += data.length;
  }
  if (!sorted.at(-1)!.isLast) return pieces.map(({ packet }) => packet);
  const { packet, headerAt } = sorted[0]!;
  const data = Buffer.concat(sorted.map((piece) => piece.data));
  if (headerAt === -1) {
    const whole = Uint8Array.of(...packet.subarray(0, (packet[0]! & 15) * 4), ...data);
    put16(whole, 2, whole.length);
    put16(whole, 6, 0);
    sumHeader(whole);
    return [whole];
  }
  const whole = Uint8Array.of(...packet.subarray(0, headerAt), ...data);
  put16(whole, 4, whole.length - 40);
  // The header that named the fragment header names what that one named.
  let named = 6;
  for (let at = 40; at < headerAt; at += (packet[at + 1]! + 1) * 8) named = at;
  whole[named] = packet[headerAt]!;
  return [whole];
}
