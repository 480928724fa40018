/**
 * Whether the kernel's packet is the one that flatpath named, but for what only chance decides: a masqueraded source
 * port (inside its range) and the identification of packets and fragments that the node itself makes.
 *
 * The kernel's packet is made like flatpath's in exactly these fields, checksums moved along with them (RFC 1624), and
 * then every byte has to be the same. A wrong checksum therefore stays wrong and is found.
 */

import {
  checksumAt,
  fragmentHeaderAt,
  moveChecksum,
  type PacketView,
  put16,
  SCTP,
  sctpCrc,
  UDP,
  viewPacket,
} from './packet-view.ts';

/** The port (or ICMP identifier) that a flow was given by each of the two. */
export interface PortPair {
  readonly kernel: number;
  readonly flatpath: number;
}

/** Ports among which the kernel looks for a masqueraded one (nf_nat_core.c, find_best_ips_proto and get_unique_tuple). */
export function portRange(protocol: number, sport: number): readonly [number, number] {
  if (protocol === 1 || protocol === 58) return [0, 65_535];
  if (sport < 512) return [1, 511];
  return sport < 1024 ? [600, 1023] : [1024, 65_535];
}

/** True if the two packets are the same; `isNodeMade` frees the identification of an IPv4 header. */
export function isSamePacket(
  kernel: Uint8Array,
  flatpath: Uint8Array,
  ports: PortPair | null,
  isNodeMade: boolean,
): boolean {
  if (kernel.length !== flatpath.length) return false;
  const own = kernel.slice();
  if (isNodeMade) alignIdentification(own, flatpath);
  alignFragmentNumber(own, flatpath);
  if (ports !== null) alignPorts(own, flatpath, ports);
  return own.every((byte, i) => byte === flatpath[i]);
}

/**
 * The kernel's error about a local process's packet with the other's sum in the quoted transport header. Such a packet has
 * no sum yet, only that of its pseudo header; where it was translated before it was refused, taking the translation back
 * moves this the wrong way, and what is quoted is neither.
 */
export function withQuotedSum(kernel: Uint8Array, flatpath: Uint8Array): Uint8Array {
  const packet = viewPacket(kernel);
  if (packet === null || packet.quote < 0 || kernel.length !== flatpath.length) return kernel;
  const inner = viewPacket(kernel, packet.quote);
  const at = inner === null ? -1 : checksumAt(inner);
  if (at < 0 || at + 2 > packet.end) return kernel;
  const own = kernel.slice();
  replace(own, at, word(flatpath, at), [packet.l4 + 2], flatpath);
  return own;
}

function alignIdentification(own: Uint8Array, like: Uint8Array): void {
  if (own[0]! >>> 4 !== 4) return;
  replace(own, 4, word(like, 4), [10], like);
}

/** Who sends IPv6 fragments numbers them, also a node that puts a datagram together and takes it apart again. */
function alignFragmentNumber(own: Uint8Array, like: Uint8Array): void {
  const at = fragmentHeaderAt(own);
  if (at !== -1 && at === fragmentHeaderAt(like)) own.set(like.subarray(at + 4, at + 8), at + 4);
}

function alignPorts(own: Uint8Array, like: Uint8Array, ports: PortPair): void {
  const packet = viewPacket(own);
  const model = viewPacket(like);
  if (packet === null || model === null || packet.protocol !== model.protocol || packet.l4 !== model.l4) return;
  if (packet.quote < 0) {
    alignTransport(own, packet, like, model, ports, []);
    return;
  }
  const inner = viewPacket(own, packet.quote);
  const innerModel = viewPacket(like, packet.quote);
  if (inner === null || innerModel === null || inner.l4 !== innerModel.l4) return;
  // What changes in the quote moves the checksum of the error that carries it.
  alignTransport(own, inner, like, innerModel, ports, [packet.l4 + 2]);
}

function alignTransport(
  own: Uint8Array,
  packet: PacketView,
  like: Uint8Array,
  model: PacketView,
  ports: PortPair,
  outer: readonly number[],
): void {
  const isQuery = packet.protocol === 1 || packet.protocol === 58;
  const at = isQuery ? packet.l4 + 4 : packet.l4;
  const isSource = packet.sport === ports.kernel && model.sport === ports.flatpath;
  const isDestination = !isQuery && packet.dport === ports.kernel && model.dport === ports.flatpath;
  if (!isSource && !isDestination) return;
  if (packet.protocol === SCTP) alignCrc(own, packet, like, model, outer);
  const sum = checksumAt(packet);
  const hasSum = sum >= 0 && sum + 2 <= packet.end && !(packet.protocol === UDP && word(own, sum) === 0);
  const before = hasSum ? word(own, sum) : 0;
  const sums = hasSum ? [sum, ...outer] : outer;
  if (isSource) replace(own, at, ports.flatpath, sums, like);
  if (isDestination) replace(own, at + 2, ports.flatpath, sums, like);
  if (hasSum) for (const field of outer) move(own, field, before, word(own, sum), like);
}

/** A CRC cannot be moved: right on both sides, or wrong in the same bits, it is taken over. */
function alignCrc(
  own: Uint8Array,
  packet: PacketView,
  like: Uint8Array,
  model: PacketView,
  outer: readonly number[],
): void {
  const at = packet.l4 + 8;
  if (at + 4 > packet.end) return;
  const fault = (bytes: Uint8Array, view: PacketView) =>
    new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true) ^ sctpCrc(bytes, view);
  if (fault(own, packet) !== fault(like, model)) return;
  for (const half of [at, at + 2]) replace(own, half, word(like, half), outer, like);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function replace(own: Uint8Array, at: number, value: number, sums: readonly number[], like: Uint8Array): void {
  const before = word(own, at);
  put16(own, at, value);
  for (const sum of sums) move(own, sum, before, value, like);
}

/** Moves a checksum; of the two ways to write zero the other packet's is taken. */
function move(own: Uint8Array, sum: number, before: number, after: number, like: Uint8Array): void {
  const moved = moveChecksum(word(own, sum), before, after);
  const model = word(like, sum);
  put16(own, sum, moved % 0xffff === 0 && model % 0xffff === 0 ? model : moved);
}
