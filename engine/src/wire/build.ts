/**
 * Makes a frame from a plain description: for tests, injected packets and the templates of streams. Cold.
 *
 * Guarantees: every length, offset, next-header number and checksum that the description leaves out is right, also in
 * fragments of the description's own making (no transport checksum can be known there, so it is taken over the data
 * that is present). Every one that it names is written as named, which is how wrong frames are made.
 * Refuses: with RangeError, what has no place in the headers (options longer than 40 bytes, a datagram beyond 65,535).
 */

import { checksum, foldSum, onesSum, pseudoSum } from './checksum.ts';
import {
  ETHERNET_BYTES,
  ETHERNET_DST,
  ETHERNET_SRC,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ETHERTYPE_VLAN,
  setMac,
  VLAN_TAG_BYTES,
} from './ethernet.ts';
import { buildExtensionHeaders, type ExtensionHeader } from './extension-header.ts';
import { ICMP_BYTES, ICMP_CHECKSUM, ICMP_ID, ICMP_SEQUENCE, PROTO_ICMP } from './icmp4.ts';
import { PROTO_ICMPV6 } from './icmp6.ts';
import { IPV4_BYTES, IPV4_DF, IPV4_MF, setIpv4Checksum, writeIpv4 } from './ipv4.ts';
import { IPV6_BYTES, IPV6_DST, IPV6_SRC, setIpv6Address, writeIpv6 } from './ipv6.ts';
import { PROTO_SCTP, SCTP_BYTES, SCTP_CHUNK_HEAD_BYTES, sctpChecksum, setSctpChecksum, writeSctp } from './sctp.ts';
import { PROTO_TCP, TCP_ACK, TCP_BYTES, TCP_CHECKSUM, TCP_URGENT, writeTcp } from './tcp.ts';
import { PROTO_UDP, setUdpChecksum, UDP_BYTES, UDP_CHECKSUM, writeUdp } from './udp.ts';

/** An address as the lanes keep it: host-order words, of which IPv4 uses the first. */
export type AddressWords = readonly [number, number, number, number];

export interface VlanTag {
  /** VLAN identifier, 0 … 4095. */
  readonly id: number;
  /** Priority, 0 … 7. */
  readonly priority?: number;
  /** ETHERTYPE_VLAN unless named; ETHERTYPE_QINQ for an outer service tag. */
  readonly type?: number;
}

export interface EthernetFields {
  /** MAC addresses as 48-bit integers; 02:00:00:00:00:02 and 02:00:00:00:00:01 unless named. */
  readonly dst?: number;
  readonly src?: number;
  /** Outermost first. */
  readonly vlan?: readonly VlanTag[];
  readonly type?: number;
  /** Zero bytes behind the packet, as short frames carry them. */
  readonly padding?: number;
}

export interface Ipv4Fields {
  readonly family: 4;
  readonly src: AddressWords;
  readonly dst: AddressWords;
  readonly tos?: number;
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset?: number;
  readonly ttl?: number;
  readonly protocol?: number;
  /** Raw options, padded with zeros to a multiple of 4. */
  readonly options?: Uint8Array;
  readonly totalLength?: number;
  readonly checksum?: number;
}

export interface Ipv6Fields {
  readonly family: 6;
  readonly src: AddressWords;
  readonly dst: AddressWords;
  readonly trafficClass?: number;
  readonly flowLabel?: number;
  readonly hopLimit?: number;
  readonly extensions?: readonly ExtensionHeader[];
  /** Next header of the fixed header. */
  readonly nextHeader?: number;
  readonly payloadLength?: number;
}

export interface TcpFields {
  readonly protocol: 'tcp';
  readonly sport: number;
  readonly dport: number;
  readonly seq?: number;
  readonly ackSeq?: number;
  /** Flags byte; ACK unless named. */
  readonly flags?: number;
  readonly window?: number;
  readonly urgent?: number;
  /** Raw options, padded with zeros to a multiple of 4. */
  readonly options?: Uint8Array;
  /** Header length in bytes, a multiple of 4. */
  readonly headerBytes?: number;
  readonly checksum?: number;
}

export interface UdpFields {
  readonly protocol: 'udp';
  readonly sport: number;
  readonly dport: number;
  readonly length?: number;
  readonly checksum?: number;
}

export interface SctpChunk {
  readonly type: number;
  readonly flags?: number;
  readonly value: Uint8Array;
  readonly length?: number;
}

export interface SctpFields {
  readonly protocol: 'sctp';
  readonly sport: number;
  readonly dport: number;
  readonly tag?: number;
  readonly chunks: readonly SctpChunk[];
  readonly checksum?: number;
}

export interface IcmpFields {
  readonly protocol: 'icmp' | 'icmpv6';
  readonly type: number;
  readonly code?: number;
  /** Bytes 4 and 5 of the message: the identifier of a query. */
  readonly id?: number;
  /** Bytes 6 and 7: the sequence of a query, the MTU of some errors. */
  readonly sequence?: number;
  readonly checksum?: number;
}

/** Anything else: the payload follows the IP header. */
export interface RawFields {
  readonly protocol: number;
}

export type L4Fields = TcpFields | UdpFields | SctpFields | IcmpFields | RawFields;

export interface FrameFields {
  readonly ethernet?: EthernetFields;
  readonly ip: Ipv4Fields | Ipv6Fields;
  readonly l4: L4Fields;
  /** What follows the transport header; of SCTP, what follows the chunks. */
  readonly payload?: Uint8Array;
}

const DEFAULT_DST = 0x0200_0000_0002;
const DEFAULT_SRC = 0x0200_0000_0001;
const DEFAULT_TTL = 64;
const DEFAULT_WINDOW = 64_240;
const MAX_DATAGRAM = 65_535;
const EMPTY = new Uint8Array(0);

const PROTOCOL_NUMBERS = {
  tcp: PROTO_TCP,
  udp: PROTO_UDP,
  sctp: PROTO_SCTP,
  icmp: PROTO_ICMP,
  icmpv6: PROTO_ICMPV6,
} as const;

/** The frame that a description describes. @throws RangeError when it does not fit into the headers */
export function buildFrame(fields: FrameFields): Uint8Array {
  const { ip, l4, ethernet = {}, payload = EMPTY } = fields;
  const proto = typeof l4.protocol === 'number' ? l4.protocol : PROTOCOL_NUMBERS[l4.protocol];
  const options = ip.family === 4 ? padded(ip.options, 'IPv4') : EMPTY;
  const extensions = buildExtensionHeaders(ip.family === 6 ? (ip.extensions ?? []) : [], proto);
  const l4Head = l4HeadBytes(l4);
  const link = ETHERNET_BYTES + (ethernet.vlan?.length ?? 0) * VLAN_TAG_BYTES;
  const network = ip.family === 4 ? IPV4_BYTES + options.length : IPV6_BYTES + extensions.bytes.length;
  const l4Bytes = l4Head + payload.length;
  const datagram = ip.family === 4 ? network + l4Bytes : network - IPV6_BYTES + l4Bytes;
  if (datagram > MAX_DATAGRAM) throw new RangeError(`a datagram of ${datagram} bytes is longer than ${MAX_DATAGRAM}`);

  const bytes = new Uint8Array(link + network + l4Bytes + (ethernet.padding ?? 0));
  const view = new DataView(bytes.buffer);
  writeEthernet(view, ethernet, ip.family === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
  if (ip.family === 4) {
    writeIpv4Fields(bytes, view, link, ip, options, datagram, proto);
  } else {
    const flow = ip.flowLabel ?? 0;
    const first = ip.nextHeader ?? extensions.first;
    writeIpv6(view, link, ip.trafficClass ?? 0, flow, ip.payloadLength ?? datagram, first, ip.hopLimit ?? DEFAULT_TTL);
    setIpv6Address(view, link + IPV6_SRC, ...ip.src);
    setIpv6Address(view, link + IPV6_DST, ...ip.dst);
    bytes.set(extensions.bytes, link + IPV6_BYTES);
  }
  const at = link + network;
  bytes.set(payload, at + l4Head);
  writeL4(bytes, view, ip.family, link, at, l4, l4Bytes);
  return bytes;
}

function padded(options: Uint8Array | undefined, of: string): Uint8Array {
  if (options === undefined) return EMPTY;
  if (options.length > 40) throw new RangeError(`${of} options take at most 40 bytes, not ${options.length}`);
  const whole = new Uint8Array((options.length + 3) & ~3);
  whole.set(options);
  return whole;
}

function l4HeadBytes(l4: L4Fields): number {
  switch (l4.protocol) {
    case 'tcp':
      return TCP_BYTES + padded(l4.options, 'TCP').length;
    case 'udp':
      return UDP_BYTES;
    case 'sctp':
      return l4.chunks.reduce((sum, chunk) => sum + chunkBytes(chunk), SCTP_BYTES);
    case 'icmp':
    case 'icmpv6':
      return ICMP_BYTES;
    default:
      return 0;
  }
}

/** Bytes of a chunk with its padding. */
function chunkBytes(chunk: SctpChunk): number {
  return (SCTP_CHUNK_HEAD_BYTES + chunk.value.length + 3) & ~3;
}

function writeEthernet(view: DataView, fields: EthernetFields, type: number): void {
  setMac(view, ETHERNET_DST, fields.dst ?? DEFAULT_DST);
  setMac(view, ETHERNET_SRC, fields.src ?? DEFAULT_SRC);
  let off = ETHERNET_BYTES - 2;
  for (const tag of fields.vlan ?? []) {
    view.setUint16(off, tag.type ?? ETHERTYPE_VLAN);
    view.setUint16(off + 2, ((tag.priority ?? 0) << 13) | tag.id);
    off += VLAN_TAG_BYTES;
  }
  view.setUint16(off, fields.type ?? type);
}

function writeIpv4Fields(
  bytes: Uint8Array,
  view: DataView,
  l3: number,
  ip: Ipv4Fields,
  options: Uint8Array,
  total: number,
  proto: number,
): void {
  const fragment =
    (ip.dontFragment === true ? IPV4_DF : 0) |
    (ip.moreFragments === true ? IPV4_MF : 0) |
    ((ip.fragmentOffset ?? 0) >>> 3);
  const ttl = ip.ttl ?? DEFAULT_TTL;
  const length = ip.totalLength ?? total;
  writeIpv4(view, l3, ip.tos ?? 0, length, ip.id ?? 0, fragment, ttl, ip.protocol ?? proto, ip.src[0], ip.dst[0]);
  view.setUint8(l3, 0x40 | ((IPV4_BYTES + options.length) >>> 2));
  bytes.set(options, l3 + IPV4_BYTES);
  setIpv4Checksum(view, l3, ip.checksum ?? checksum(bytes, l3, IPV4_BYTES + options.length, 0));
}

function writeL4(
  bytes: Uint8Array,
  view: DataView,
  family: number,
  l3: number,
  at: number,
  l4: L4Fields,
  length: number,
): void {
  const sum = (proto: number, bytesCovered: number) =>
    ~foldSum(onesSum(bytes, at, bytesCovered, pseudoSum(view, family, l3, at, proto, bytesCovered))) & 0xffff;
  switch (l4.protocol) {
    case 'tcp': {
      const options = padded(l4.options, 'TCP');
      const header = l4.headerBytes ?? TCP_BYTES + options.length;
      const window = l4.window ?? DEFAULT_WINDOW;
      writeTcp(view, at, l4.sport, l4.dport, l4.seq ?? 0, l4.ackSeq ?? 0, header, l4.flags ?? TCP_ACK, window);
      view.setUint16(at + TCP_URGENT, l4.urgent ?? 0);
      bytes.set(options, at + TCP_BYTES);
      view.setUint16(at + TCP_CHECKSUM, l4.checksum ?? sum(PROTO_TCP, length));
      return;
    }
    case 'udp':
      writeUdp(view, at, l4.sport, l4.dport, l4.length ?? length);
      if (l4.checksum === undefined) setUdpChecksum(view, at, sum(PROTO_UDP, length));
      else view.setUint16(at + UDP_CHECKSUM, l4.checksum);
      return;
    case 'sctp': {
      writeSctp(view, at, l4.sport, l4.dport, l4.tag ?? 0);
      let off = at + SCTP_BYTES;
      for (const chunk of l4.chunks) {
        view.setUint8(off, chunk.type);
        view.setUint8(off + 1, chunk.flags ?? 0);
        view.setUint16(off + 2, chunk.length ?? SCTP_CHUNK_HEAD_BYTES + chunk.value.length);
        bytes.set(chunk.value, off + SCTP_CHUNK_HEAD_BYTES);
        off += chunkBytes(chunk);
      }
      setSctpChecksum(view, at, l4.checksum ?? sctpChecksum(bytes, at, length));
      return;
    }
    case 'icmp':
    case 'icmpv6':
      view.setUint16(at, (l4.type << 8) | (l4.code ?? 0));
      view.setUint16(at + ICMP_ID, l4.id ?? 0);
      view.setUint16(at + ICMP_SEQUENCE, l4.sequence ?? 0);
      view.setUint16(
        at + ICMP_CHECKSUM,
        l4.checksum ?? (l4.protocol === 'icmp' ? checksum(bytes, at, length, 0) : sum(PROTO_ICMPV6, length)),
      );
      return;
  }
}
