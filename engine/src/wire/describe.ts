/**
 * A frame as plain values, for JSON and for people. Cold.
 *
 * Guarantees: any bytes get an answer and nothing is thrown. It reads with `parseFrame`, so it never sees a frame
 * otherwise than the datapath does; what that refuses is described up to the header that was refused, with the reason.
 */

import { formatAddress, formatMac } from './address.ts';
import { createBurst, FRAG_FIRST, FRAG_LATER, FRAME_HEADROOM, frameOffset } from './burst.ts';
import { BAD_IP, BAD_L4, verifyFrame } from './checksum.ts';
import {
  ETHERNET_BYTES,
  ETHERNET_DST,
  ETHERNET_SRC,
  ETHERNET_TYPE,
  formatEthernet,
  getMac,
  networkOffset,
  VLAN_TAG_BYTES,
} from './ethernet.ts';
import { formatIcmp4, ICMP_CODE, ICMP_ID, ICMP_SEQUENCE, ICMP_TYPE, PROTO_ICMP } from './icmp4.ts';
import { formatIcmp6, PROTO_ICMPV6 } from './icmp6.ts';
import {
  formatIpv4,
  getIpv4FragmentOffset,
  getIpv4Id,
  getIpv4Tos,
  getIpv4TotalLength,
  getIpv4Ttl,
  hasIpv4DontFragment,
  hasIpv4MoreFragments,
} from './ipv4.ts';
import {
  formatIpv6,
  getIpv6FlowLabel,
  getIpv6HopLimit,
  getIpv6NextHeader,
  getIpv6PayloadLength,
  getIpv6TrafficClass,
} from './ipv6.ts';
import { parseFrame } from './parse.ts';
import { reasonName } from './reason.ts';
import { formatSctp, getSctpTag, PROTO_SCTP, SCTP_CHUNK, sctpChunkName } from './sctp.ts';
import { formatTcp, getTcpAckSeq, getTcpFlags, getTcpSeq, getTcpWindow, PROTO_TCP, tcpFlagNames } from './tcp.ts';
import { formatUdp, getUdpLength, PROTO_UDP } from './udp.ts';

export interface EthernetDescription {
  readonly dst: string;
  readonly src: string;
  readonly vlan: readonly { readonly id: number; readonly priority: number }[];
  readonly type: number;
}

export interface IpDescription {
  readonly family: 4 | 6;
  readonly src: string;
  readonly dst: string;
  /** Time to live or hop limit. */
  readonly ttl: number;
  /** Type of service or traffic class. */
  readonly tos: number;
  /** IPv4: total length; IPv6: payload length. In bytes. */
  readonly length: number;
  /** IPv4 only. */
  readonly id: number | null;
  readonly dontFragment: boolean;
  readonly fragment: 'none' | 'first' | 'later';
  readonly moreFragments: boolean;
  /** IPv4 only: offset of the fragment's data in bytes. */
  readonly fragmentOffset: number | null;
  /** IPv6 only. */
  readonly flowLabel: number | null;
  /** IPv6 only: next header of the fixed header. */
  readonly nextHeader: number | null;
  readonly headerBytes: number;
  readonly checksumOk: boolean;
}

export interface L4Description {
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'icmp' | 'icmpv6' | 'other';
  readonly number: number;
  /** TCP, UDP, SCTP. */
  readonly sport: number | null;
  readonly dport: number | null;
  /** TCP: names of the set flags; null elsewhere, as are the next three. */
  readonly flags: readonly string[] | null;
  readonly seq: number | null;
  readonly ackSeq: number | null;
  readonly window: number | null;
  /** UDP: length of header and data. */
  readonly length: number | null;
  /** SCTP: verification tag, and the name of the first chunk. */
  readonly tag: number | null;
  readonly chunk: string | null;
  /** ICMP: type, code, and the two halves of the second word. */
  readonly type: number | null;
  readonly code: number | null;
  readonly id: number | null;
  readonly sequence: number | null;
  readonly checksumOk: boolean;
}

export interface FrameDescription {
  /** Bytes of the frame. */
  readonly length: number;
  readonly ethernet: EthernetDescription | null;
  readonly ip: IpDescription | null;
  readonly l4: L4Description | null;
  /** Name of the reason why the frame would be refused, or null. */
  readonly problem: string | null;
  /** One line for people. */
  readonly summary: string;
}

interface Opened {
  readonly burst: ReturnType<typeof createBurst>;
  readonly view: DataView;
  readonly frame: number;
}

/** Describes a frame. Any bytes will do. */
export function describeFrame(bytes: Uint8Array): FrameDescription {
  // An odd multiple of 64 that takes the frame and its headroom.
  const slotBytes = 128 * Math.ceil((bytes.length + FRAME_HEADROOM) / 128) + 64;
  const burst = createBurst(1, slotBytes);
  const frame = frameOffset(burst, 0);
  burst.bytes.set(bytes, frame);
  burst.len[0] = bytes.length;
  const opened = { burst, view: burst.view, frame };
  const parsed = parseFrame(burst, 0);
  const verified = parsed === 0 ? verifyFrame(burst, 0) : BAD_IP | BAD_L4;
  const problem = parsed === 0 ? null : reasonName(-parsed);
  const family = burst.family[0];
  return {
    length: bytes.length,
    ethernet: bytes.length < ETHERNET_BYTES ? null : describeEthernet(opened, frame + bytes.length),
    ip: family === 0 ? null : describeIp(opened, parsed !== 0 || (verified & BAD_IP) === 0),
    l4: parsed !== 0 || burst.frag[0] === FRAG_LATER ? null : describeL4(opened, (verified & BAD_L4) === 0),
    problem,
    summary: summarise(opened, bytes.length, problem),
  };
}

function describeEthernet({ view, frame }: Opened, end: number): EthernetDescription {
  // A tag that is cut off is no tag: the type is then the tag's own.
  const l3 = networkOffset(view, frame, end);
  const vlan: { id: number; priority: number }[] = [];
  for (let off = frame + ETHERNET_BYTES; off < l3; off += VLAN_TAG_BYTES) {
    const control = view.getUint16(off);
    vlan.push({ id: control & 0xfff, priority: control >>> 13 });
  }
  return {
    dst: formatMac(getMac(view, frame + ETHERNET_DST)),
    src: formatMac(getMac(view, frame + ETHERNET_SRC)),
    vlan,
    type: view.getUint16(l3 < 0 ? frame + ETHERNET_TYPE : l3 - 2),
  };
}

function describeIp({ burst: b, view }: Opened, checksumOk: boolean): IpDescription {
  const l3 = b.l3[0];
  const family = b.family[0] === 4 ? 4 : 6;
  const is4 = family === 4;
  const frag = b.frag[0];
  return {
    family,
    src: formatAddress(family, b.src0[0], b.src1[0], b.src2[0], b.src3[0]),
    dst: formatAddress(family, b.dst0[0], b.dst1[0], b.dst2[0], b.dst3[0]),
    ttl: is4 ? getIpv4Ttl(view, l3) : getIpv6HopLimit(view, l3),
    tos: is4 ? getIpv4Tos(view, l3) : getIpv6TrafficClass(view, l3),
    length: is4 ? getIpv4TotalLength(view, l3) : getIpv6PayloadLength(view, l3),
    id: is4 ? getIpv4Id(view, l3) : null,
    dontFragment: is4 && hasIpv4DontFragment(view, l3),
    fragment: frag === FRAG_FIRST ? 'first' : frag === FRAG_LATER ? 'later' : 'none',
    moreFragments: is4 ? hasIpv4MoreFragments(view, l3) : frag === FRAG_FIRST,
    fragmentOffset: is4 ? getIpv4FragmentOffset(view, l3) : null,
    flowLabel: is4 ? null : getIpv6FlowLabel(view, l3),
    nextHeader: is4 ? null : getIpv6NextHeader(view, l3),
    headerBytes: b.l4[0] - l3,
    checksumOk,
  };
}

function describeL4({ burst: b, view }: Opened, checksumOk: boolean): L4Description {
  const l4 = b.l4[0];
  const number = b.proto[0];
  const protocol = protocolOf(b.family[0], number);
  const isTcp = protocol === 'tcp';
  const isSctp = protocol === 'sctp';
  const isIcmp = protocol === 'icmp' || protocol === 'icmpv6';
  const hasPorts = isTcp || isSctp || protocol === 'udp';
  return {
    protocol,
    number,
    sport: hasPorts ? b.sport[0] : null,
    dport: hasPorts ? b.dport[0] : null,
    flags: isTcp ? tcpFlagNames(getTcpFlags(view, l4)) : null,
    seq: isTcp ? getTcpSeq(view, l4) : null,
    ackSeq: isTcp ? getTcpAckSeq(view, l4) : null,
    window: isTcp ? getTcpWindow(view, l4) : null,
    length: protocol === 'udp' ? getUdpLength(view, l4) : null,
    tag: isSctp ? getSctpTag(view, l4) : null,
    chunk: isSctp ? sctpChunkName(view.getUint8(l4 + SCTP_CHUNK)) : null,
    type: isIcmp ? view.getUint8(l4 + ICMP_TYPE) : null,
    code: isIcmp ? view.getUint8(l4 + ICMP_CODE) : null,
    id: isIcmp ? view.getUint16(l4 + ICMP_ID) : null,
    sequence: isIcmp ? view.getUint16(l4 + ICMP_SEQUENCE) : null,
    checksumOk,
  };
}

function protocolOf(family: number, number: number): L4Description['protocol'] {
  if (number === PROTO_TCP) return 'tcp';
  if (number === PROTO_UDP) return 'udp';
  if (number === PROTO_SCTP) return 'sctp';
  if (number === PROTO_ICMP && family === 4) return 'icmp';
  if (number === PROTO_ICMPV6 && family === 6) return 'icmpv6';
  return 'other';
}

function summarise({ burst: b, view, frame }: Opened, length: number, problem: string | null): string {
  const refused = problem === null ? '' : ` (${problem})`;
  if (length < ETHERNET_BYTES) return `${length} bytes${refused}`;
  if (b.family[0] === 0) return `${formatEthernet(view, frame)}${refused}`;
  const ip = b.family[0] === 4 ? formatIpv4(view, b.l3[0]) : formatIpv6(view, b.l3[0]);
  if (problem !== null || b.frag[0] === FRAG_LATER) return `${ip}${refused}`;
  const l4 = b.l4[0];
  switch (protocolOf(b.family[0], b.proto[0])) {
    case 'tcp':
      return `${ip} ${formatTcp(view, l4)}`;
    case 'udp':
      return `${ip} ${formatUdp(view, l4)}`;
    case 'sctp':
      return `${ip} ${formatSctp(view, l4)}`;
    case 'icmp':
      return `${ip} ${formatIcmp4(view, l4)}`;
    case 'icmpv6':
      return `${ip} ${formatIcmp6(view, l4)}`;
    case 'other':
      return `${ip} protocol ${b.proto[0]}`;
  }
}
