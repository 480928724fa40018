/**
 * The first packet of a new connection: a TCP SYN, an SCTP INIT, a UDP datagram or an ICMP echo request from a fresh
 * client.
 *
 * Two steps, because socket-level balancing translates the destination before the packet exists: `setLanes` says who
 * connects to whom, `writePacket` makes the frame of what the lanes then say (in slot 0; reach/first-packets.ts makes many).
 */

import { buildFrame, type L4Fields } from '@flatpath/engine/wire/build';
import { type Burst, ENTRY_HOST, frameOffset } from '@flatpath/engine/wire/burst';
import { PROTO_ICMP } from '@flatpath/engine/wire/icmp4';
import { PROTO_ICMPV6 } from '@flatpath/engine/wire/icmp6';
import { PROTO_SCTP } from '@flatpath/engine/wire/sctp';
import { initChunk } from '@flatpath/engine/wire/sctp-chunk';
import { PROTO_TCP, TCP_SYN } from '@flatpath/engine/wire/tcp';
import { PROTO_UDP } from '@flatpath/engine/wire/udp';
import type { ClusterModel, Image } from '../compile/image.ts';
import type { Family } from '../model/address.ts';
import type { Source, Target } from './connection.ts';
import type { Protocol } from './reference.ts';

/** A port in the middle of Linux' ephemeral range (32768 to 60999). */
export const CLIENT_PORT = 40_000;

export function protocolNumber(protocol: Protocol, family: Family): number {
  switch (protocol) {
    case 'TCP':
      return PROTO_TCP;
    case 'UDP':
      return PROTO_UDP;
    case 'SCTP':
      return PROTO_SCTP;
    case 'ICMP':
      return family === 4 ? PROTO_ICMP : PROTO_ICMPV6;
  }
}

/**
 * Describes a first packet in a slot, before its frame exists: socket-level balancing may still change it.
 * @param source,target of one family
 * @param clientPort of ICMP the identifier
 */
export function setLanes(
  b: Burst,
  s: number,
  protocol: Protocol,
  source: Source,
  target: Target,
  clientPort: number,
): void {
  const { family, words: src } = source.address;
  const dst = target.address.words;
  b.node[s] = source.node;
  b.entry[s] = source.entry;
  b.endpoint[s] = source.endpoint;
  b.shard[s] = 0;
  b.timeMs[s] = 0;
  b.choice[s] = 0;
  b.flowHash[s] = 0;
  b.unverified[s] = 0;
  b.tag[s] = 0;
  b.family[s] = family;
  b.proto[s] = protocolNumber(protocol, family);
  b.src0[s] = src[0];
  b.src1[s] = src[1];
  b.src2[s] = src[2];
  b.src3[s] = src[3];
  b.dst0[s] = dst[0];
  b.dst1[s] = dst[1];
  b.dst2[s] = dst[2];
  b.dst3[s] = dst[3];
  b.sport[s] = clientPort;
  b.dport[s] = protocol === 'ICMP' ? clientPort : target.port;
  b.mark[s] = 0;
  b.ct[s] = -1;
  b.ctState[s] = 0;
  b.verdict[s] = 0;
  b.reason[s] = 0;
  b.target[s] = -1;
  b.nat[s] = 0;
}

/** A local process that connects to an address of kube-ipvs0 has it as its source too, as to any address of its node. */
export function sourceToward(image: Image, source: Source, target: Target): Source {
  const isBound = source.entry === ENTRY_HOST && image.servers?.isBound(source.node, target.address) === true;
  return isBound ? { ...source, address: target.address } : source;
}

/** What a pod sends to an address of its own stays in the pod: no interface, no node sees it. */
export function keepsToItself({ topology }: ClusterModel, source: Source, target: Target): boolean {
  return source.endpoint >= 0 && topology.endpointByAddress.get(target.address.text) === source.endpoint;
}

/** Writes the frame that the lanes describe. */
export function writePacket(b: Burst): void {
  const src = [b.src0[0]!, b.src1[0]!, b.src2[0]!, b.src3[0]!] as const;
  const dst = [b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!] as const;
  const frame = buildFrame({
    ip: b.family[0] === 4 ? { family: 4, src, dst, dontFragment: true } : { family: 6, src, dst },
    l4: transport(b),
  });
  b.bytes.set(frame, frameOffset(b, 0));
  b.len[0] = frame.length;
}

function transport(b: Burst): L4Fields {
  const sport = b.sport[0]!;
  const dport = b.dport[0]!;
  switch (b.proto[0]) {
    case PROTO_TCP:
      return { protocol: 'tcp', sport, dport, flags: TCP_SYN, seq: 1, window: 64_240 };
    case PROTO_UDP:
      return { protocol: 'udp', sport, dport };
    case PROTO_SCTP:
      return { protocol: 'sctp', sport, dport, chunks: [initChunk('init', 1, 65_536, 10, 10, 1)] };
    case PROTO_ICMPV6:
      return { protocol: 'icmpv6', type: 128, id: sport, sequence: 1 };
    default:
      return { protocol: 'icmp', type: 8, id: sport, sequence: 1 };
  }
}
