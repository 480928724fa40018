/**
 * The first packet of a new connection, in slot 0 of a burst: a TCP SYN, an SCTP INIT, a UDP datagram or an ICMP echo
 * request from a fresh client.
 *
 * Two steps, because socket-level balancing translates the destination before the packet exists: `setLanes` says who
 * connects to whom, `writePacket` makes the frame of what the lanes then say.
 */

import { buildFrame, type L4Fields } from '@flatpath/engine/wire/build';
import { type Burst, frameOffset } from '@flatpath/engine/wire/burst';
import { PROTO_ICMP } from '@flatpath/engine/wire/icmp4';
import { PROTO_ICMPV6 } from '@flatpath/engine/wire/icmp6';
import { PROTO_SCTP } from '@flatpath/engine/wire/sctp';
import { initChunk } from '@flatpath/engine/wire/sctp-chunk';
import { PROTO_TCP, TCP_SYN } from '@flatpath/engine/wire/tcp';
import { PROTO_UDP } from '@flatpath/engine/wire/udp';
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

export function setLanes(b: Burst, family: Family, protocol: Protocol, source: Source, target: Target): void {
  b.node[0] = source.node;
  b.entry[0] = source.entry;
  b.endpoint[0] = source.endpoint;
  b.shard[0] = 0;
  b.timeMs[0] = 0;
  b.choice[0] = 0;
  b.flowHash[0] = 0;
  b.tag[0] = 0;
  b.family[0] = family;
  b.proto[0] = protocolNumber(protocol, family);
  [b.src0[0], b.src1[0], b.src2[0], b.src3[0]] = source.address.words;
  [b.dst0[0], b.dst1[0], b.dst2[0], b.dst3[0]] = target.address.words;
  b.sport[0] = CLIENT_PORT;
  b.dport[0] = protocol === 'ICMP' ? CLIENT_PORT : target.port;
  b.mark[0] = 0;
  b.ct[0] = -1;
  b.ctState[0] = 0;
  b.verdict[0] = 0;
  b.reason[0] = 0;
  b.target[0] = -1;
  b.nat[0] = 0;
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
