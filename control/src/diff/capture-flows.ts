/**
 * A capture (pcap, pcapng) as recorded flows: the connections that its packets belong to.
 *
 * Who opened a connection is told by its first packet: SYN without ACK, INIT, an echo request. Where the capture began
 * in the middle of it, a SYN-ACK or INIT ACK tells; else the first packet's sender is the client, unless its port is a
 * server's and the other an ephemeral one. Refuses damaged captures; packets that carry no connection are counted.
 */

import { type Burst, CAPTURE_SLOT_BYTES, createBurst, FRAG_LATER, frameOffset } from '@flatpath/engine/wire/burst';
import { readCapture } from '@flatpath/engine/wire/capture';
import { CaptureError } from '@flatpath/engine/wire/capture-record';
import { ICMP4_ECHO, ICMP4_ECHO_REPLY, PROTO_ICMP } from '@flatpath/engine/wire/icmp4';
import { ICMP6_ECHO, ICMP6_ECHO_REPLY, PROTO_ICMPV6 } from '@flatpath/engine/wire/icmp6';
import { parseFrame } from '@flatpath/engine/wire/parse';
import { PROTO_SCTP, SCTP_INIT, SCTP_INIT_ACK } from '@flatpath/engine/wire/sctp';
import { PROTO_TCP, TCP_ACK, TCP_SYN } from '@flatpath/engine/wire/tcp';
import { PROTO_UDP } from '@flatpath/engine/wire/udp';
import { type Address, type Family, formatWords, type Words } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';
import { endAt, FlowBook, type Recording, RecordingError } from './recorded-flow.ts';

/** Linux' ephemeral ports begin here; servers are below. */
const FIRST_EPHEMERAL = 32_768;
const NAMES: Readonly<Record<number, Protocol>> = {
  [PROTO_TCP]: 'TCP',
  [PROTO_UDP]: 'UDP',
  [PROTO_SCTP]: 'SCTP',
  [PROTO_ICMP]: 'ICMP',
  [PROTO_ICMPV6]: 'ICMP',
};

interface Packet {
  readonly protocol: Protocol;
  readonly src: Address;
  readonly dst: Address;
  readonly sport: number;
  readonly dport: number;
  /** 1: its sender opens or is the client for certain, -1: its receiver is, 0: not known. */
  readonly direction: number;
}

/** @throws RecordingError where the capture is damaged */
export function readCaptureFlows(file: string, bytes: Uint8Array): Recording {
  const book = new FlowBook();
  const burst = createBurst(1, CAPTURE_SLOT_BYTES);
  const connections = new Map<string, { packet: Packet; isCertain: boolean }>();
  try {
    for (const { data, originalLength } of readCapture(bytes)) {
      const packet = readPacket(burst, data, originalLength, book);
      if (packet !== null) note(connections, packet);
    }
  } catch (error) {
    if (!(error instanceof CaptureError)) throw error;
    throw new RecordingError(`${file}: ${error.message}`);
  }
  for (const { packet } of connections.values()) {
    const { protocol, src, dst, sport, dport } = packet;
    const port = protocol === 'ICMP' ? 0 : dport;
    book.add({ source: endAt(src), target: endAt(dst), protocol, port }, sport);
  }
  return book.close(file, 'capture');
}

/** Keeps the packet that tells best who opened its connection, turned so that the client is the source. */
function note(connections: Map<string, { packet: Packet; isCertain: boolean }>, packet: Packet): void {
  const isCertain = packet.direction !== 0;
  const isReply = isCertain ? packet.direction < 0 : isServerPort(packet);
  const asked = isReply ? turn(packet) : packet;
  const known = connections.get(keyOf(asked)) ?? connections.get(keyOf(turn(asked)));
  if (known === undefined) connections.set(keyOf(asked), { packet: asked, isCertain });
  else if (isCertain && !known.isCertain) {
    known.packet = asked;
    known.isCertain = true;
  }
}

function isServerPort({ protocol, sport, dport }: Packet): boolean {
  return protocol !== 'ICMP' && sport < FIRST_EPHEMERAL && dport >= FIRST_EPHEMERAL;
}

function turn({ protocol, src, dst, sport, dport, direction }: Packet): Packet {
  return { protocol, src: dst, dst: src, sport: dport, dport: sport, direction: -direction };
}

function keyOf({ protocol, src, dst, sport, dport }: Packet): string {
  return `${protocol} ${src.text} ${sport} ${dst.text} ${dport}`;
}

/** Null for a packet that belongs to no connection, which is counted where it says something. */
function readPacket(b: Burst, frame: Uint8Array, length: number, book: FlowBook): Packet | null {
  const at = frameOffset(b, 0);
  if (length > b.slotBytes - at) return skip(book, 'frames too large for Ethernet');
  b.bytes.set(frame, at);
  // A capture may keep the first bytes of a packet only; its headers are enough here.
  b.bytes.fill(0, at + frame.length, at + length);
  b.len[0] = length;
  if (parseFrame(b, 0) < 0) return skip(book, b.family[0] === 0 ? 'frames without an IP packet' : 'damaged packets');
  if (b.frag[0] === FRAG_LATER) return null;
  const protocol = NAMES[b.proto[0]!];
  if (protocol === undefined) return skip(book, `IP protocol ${b.proto[0]}`);
  const direction = directionOf(b);
  if (direction === null) return skip(book, 'ICMP other than echo');
  const family: Family = b.family[0] === 6 ? 6 : 4;
  return {
    protocol,
    src: addressOf(family, [b.src0[0]!, b.src1[0]!, b.src2[0]!, b.src3[0]!]),
    dst: addressOf(family, [b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!]),
    sport: b.sport[0]!,
    dport: b.dport[0]!,
    direction,
  };
}

/** Null for ICMP that no connection is made of. */
function directionOf(b: Burst): number | null {
  const info = b.info[0]!;
  switch (b.proto[0]) {
    case PROTO_TCP:
      if ((info & TCP_SYN) === 0) return 0;
      return (info & TCP_ACK) === 0 ? 1 : -1;
    case PROTO_SCTP:
      return info === SCTP_INIT ? 1 : info === SCTP_INIT_ACK ? -1 : 0;
    case PROTO_ICMP:
      return echoDirection(info >> 8, ICMP4_ECHO, ICMP4_ECHO_REPLY);
    case PROTO_ICMPV6:
      return echoDirection(info >> 8, ICMP6_ECHO, ICMP6_ECHO_REPLY);
    default:
      return 0;
  }
}

function echoDirection(type: number, request: number, reply: number): number | null {
  if (type === request) return 1;
  return type === reply ? -1 : null;
}

function addressOf(family: Family, words: Words): Address {
  return { family, words, text: formatWords(family, words) };
}

function skip(book: FlowBook, why: string): null {
  book.skip(why);
  return null;
}
