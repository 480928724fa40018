/**
 * The packets of a flow, step by step, as a client, its server and a router between them would send them.
 *
 * Every packet carries its flow's mark, by which what comes out is told apart: in the payload, a TCP option, a chunk or
 * a quoted packet. Sequence numbers, acknowledgements and tags follow the conversation, so that a packet is out of place
 * only where its form says so.
 */

import { parseAddress } from '../../control/src/model/address.ts';
import {
  type AddressWords,
  buildFrame,
  type IcmpFields,
  type L4Fields,
  type SctpChunk,
  type TcpFields,
} from '../../engine/src/wire/build.ts';
import { ETHERNET_BYTES } from '../../engine/src/wire/ethernet.ts';
import { dataChunk, initChunk } from '../../engine/src/wire/sctp-chunk.ts';
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from '../../engine/src/wire/tcp.ts';
import type { ErrorType, Flow, Form, SctpForm, Step } from './case.ts';
import { checksumAt, moveChecksum, put16, SCTP, sumHeader, viewPacket } from './packet-view.ts';

/** Who a packet says it is from and for. */
export interface Ends {
  readonly source: string;
  readonly destination: string;
  readonly sport: number;
  readonly dport: number;
}

const MAGIC = [0x66, 0x4c, 0x61, 0x54];
const MARK_OPTION = 253;
/** Unknown parameter that a receiver skips without a word (RFC 9260 §3.2.1). */
const MARK_PARAMETER = 0x80fe;
const DATA_BYTES = 24;
const FAR_BEYOND = 0x2000_0000;

export function markBytes(mark: number): Uint8Array {
  return Uint8Array.of(...MAGIC, mark >>> 24, (mark >>> 16) & 255, (mark >>> 8) & 255, mark & 255);
}

/** The mark that a packet carries anywhere, -1 for none. */
export function findMark(packet: Uint8Array): number {
  const at = Buffer.from(packet.buffer, packet.byteOffset, packet.length).indexOf(Buffer.from(MAGIC));
  if (at === -1 || at + 8 > packet.length) return -1;
  return new DataView(packet.buffer, packet.byteOffset).getUint32(at + 4);
}

/** The ends of a packet that came out, as its receiver answers them. */
export function reverse(packet: Uint8Array): Ends {
  const view = viewPacket(packet)!;
  return {
    source: textOf(view.destination),
    destination: textOf(view.source),
    sport: view.dport,
    dport: view.sport,
  };
}

/** `viewPacket` writes IPv6 in plain hexadecimal. */
function textOf(address: string): string {
  return address.includes('.') ? address : address.replace(/....(?=.)/g, '$&:');
}

/** A conversation: what both sides have sent so far. One object for the kernel's and flatpath's packets alike. */
export class Conversation {
  readonly flow: Flow;
  private readonly isn: readonly [number, number];
  private next: [number, number];
  private made = 0;
  private readonly tags: readonly [number, number];

  constructor(flow: Flow) {
    this.flow = flow;
    this.isn = [(flow.id * 7_919_003 + 1000) >>> 0, (flow.id * 6_700_417 + 5000) >>> 0];
    this.next = [this.isn[0], this.isn[1]];
    this.tags = [(flow.id * 2_654_435 + 1) >>> 0, (flow.id * 3_266_489 + 7) >>> 0];
  }

  /** A local process's SYN was seen: the kernel chose the number. */
  noteSyn(sequence: number): void {
    this.next[0] = (sequence + 1) >>> 0;
  }

  /**
   * A step's packet between some ends, from its IP header on; in pieces where the flow is cut into fragments. The
   * conversation goes on with `advance`.
   */
  packets(step: Extract<Step, { kind: 'packet' }>, ends: Ends): Uint8Array[] {
    const side = step.from === 'client' ? 0 : 1;
    const { ttl, tos, label, dress } = this.flow;
    const isCut = dress === 'fragments' || dress === 'reordered fragments';
    const { l4, payload } = this.transport(step.form, side, ends, isCut);
    const looks = side === 0 ? { ttl, tos, label } : PLAIN;
    const number = (this.flow.id << 4) | (this.made & 15);
    const built = build(ends, l4, payload, { ...looks, number, hasOptions: dress === 'options', mayBeCut: isCut });
    const packet = step.form === 'bad-checksum' ? spoil(built) : built;
    if (!isCut) return [packet];
    const pieces = cut(packet, number);
    return dress === 'fragments' ? pieces : [pieces[2]!, pieces[0]!, pieces[1]!];
  }

  /** Counts a packet as sent. */
  advance(step: Extract<Step, { kind: 'packet' }>): void {
    this.made++;
    if (this.flow.protocol !== 'tcp') return;
    const side = step.from === 'client' ? 0 : 1;
    switch (step.form) {
      case 'syn':
      case 'syn-ack':
        this.next[side] = (this.isn[side]! + 1) >>> 0;
        return;
      case 'data':
        this.next[side] = (this.next[side]! + DATA_BYTES) >>> 0;
        return;
      case 'fin':
        this.next[side] = (this.next[side]! + 1) >>> 0;
        return;
    }
  }

  private transport(form: Form, side: 0 | 1, ends: Ends, isCut: boolean): { l4: L4Fields; payload: Uint8Array } {
    const own = markBytes(this.flow.id);
    // Every piece carries the mark.
    const mark = isCut ? Uint8Array.from({ length: CUT_BYTES }, (_, i) => own[i % own.length]!) : own;
    const empty = new Uint8Array(0);
    switch (this.flow.protocol) {
      case 'tcp':
        return { l4: this.tcp(form, side, ends), payload: form === 'data' ? filler() : empty };
      case 'udp': {
        const sum = form === 'no-checksum' ? { checksum: 0 } : {};
        return { l4: { protocol: 'udp', sport: ends.sport, dport: ends.dport, ...sum }, payload: mark };
      }
      case 'sctp':
        return { l4: this.sctp(form as SctpForm, side, ends), payload: empty };
      case 'icmp':
        return { l4: this.icmp(form, side, ends), payload: isCut ? mark : Uint8Array.of(...mark, 0, 0, 0, 0) };
      default:
        return { l4: { protocol: this.flow.dport }, payload: Uint8Array.of(0, 0, 8, 0, ...mark) };
    }
  }

  private tcp(form: Form, side: 0 | 1, ends: Ends): TcpFields {
    const options = Uint8Array.of(MARK_OPTION, 10, ...markBytes(this.flow.id), 1, 1);
    const begins = form === 'syn' || form === 'syn-ack' || form === 'syn-fin';
    const seq = begins ? this.isn[side] : this.next[side];
    const acks = form !== 'syn' && form !== 'no-flags' && form !== 'syn-fin' && form !== 'rst';
    return {
      protocol: 'tcp',
      sport: ends.sport,
      dport: ends.dport,
      seq: form === 'out-of-window' ? (seq! + FAR_BEYOND) >>> 0 : seq!,
      ackSeq: acks ? this.next[1 - side]! : 0,
      flags: TCP_FLAGS[form] ?? TCP_ACK,
      options,
    };
  }

  private sctp(form: SctpForm, side: 0 | 1, ends: Ends): Extract<L4Fields, { protocol: 'sctp' }> {
    const own = this.tags[side]!;
    const other = this.tags[1 - side]!;
    const tag = form === 'init' ? 0 : other;
    return { protocol: 'sctp', sport: ends.sport, dport: ends.dport, tag, chunks: [this.chunk(form, own)] };
  }

  private chunk(form: SctpForm, own: number): SctpChunk {
    const mark = markBytes(this.flow.id);
    switch (form) {
      case 'init':
      case 'init-ack': {
        const { type, value } = initChunk(form, own, 65_536, 10, 10, 1);
        return { type, value: Uint8Array.of(...value, MARK_PARAMETER >>> 8, MARK_PARAMETER & 255, 0, 12, ...mark) };
      }
      case 'data':
      case 'bad-checksum':
        return dataChunk(1, 0, 0, 0, mark);
      default:
        return { type: SCTP_TYPES[form], value: mark };
    }
  }

  private icmp(form: Form, side: 0 | 1, ends: Ends): IcmpFields {
    const is4 = this.flow.family === 4;
    let type = is4 ? 8 : 128;
    if (form === 'timestamp') type = side === 0 ? 13 : 14;
    else if (form === 'echo-reply') type = is4 ? 0 : 129;
    return { protocol: is4 ? 'icmp' : 'icmpv6', type, id: side === 0 ? ends.sport : ends.dport, sequence: 1 };
  }
}

const TCP_FLAGS: Readonly<Partial<Record<Form, number>>> = {
  syn: TCP_SYN,
  'syn-ack': TCP_SYN | TCP_ACK,
  data: TCP_PSH | TCP_ACK,
  fin: TCP_FIN | TCP_ACK,
  rst: TCP_RST,
  'no-flags': 0,
  'syn-fin': TCP_SYN | TCP_FIN,
};

const SCTP_TYPES: Readonly<Record<Exclude<SctpForm, 'init' | 'init-ack' | 'data' | 'bad-checksum'>, number>> = {
  sack: 3,
  heartbeat: 4,
  'heartbeat-ack': 5,
  abort: 6,
  shutdown: 7,
  'shutdown-ack': 8,
  'cookie-echo': 10,
  'cookie-ack': 11,
  'shutdown-complete': 14,
};

/** Makes the transport checksum wrong by a constant, so that packets which differ by their ports are equally wrong. */
function spoil(packet: Uint8Array): Uint8Array {
  const view = viewPacket(packet)!;
  const wrong = packet.slice();
  if (view.protocol === SCTP) {
    wrong[view.l4 + 8]! ^= 0xff;
    return wrong;
  }
  const at = checksumAt(view);
  const sum = (wrong[at]! << 8) | wrong[at + 1]!;
  put16(wrong, at, moveChecksum(sum, 0, 0x1111));
  return wrong;
}

function filler(): Uint8Array {
  return new Uint8Array(DATA_BYTES).fill(0x2e);
}

/** An ICMP error about a packet, from its IP header on. */
export function icmpError(error: ErrorType, about: Uint8Array, source: string): Uint8Array {
  const { destination } = reverse(about);
  const is4 = about[0]! >>> 4 === 4;
  const [type, code, rest] = (is4 ? ERRORS4 : ERRORS6)[error];
  const l4 = { protocol: is4 ? 'icmp' : 'icmpv6', type, code, id: 0, sequence: rest } as const;
  return build({ source, destination, sport: 0, dport: 0 }, l4, about, PLAIN);
}

const ERRORS4: Readonly<Record<ErrorType, readonly [number, number, number]>> = {
  'port-unreachable': [3, 3, 0],
  'host-unreachable': [3, 1, 0],
  'too-big': [3, 4, 1400],
  'time-exceeded': [11, 0, 0],
  'parameter-problem': [12, 0, 0],
};
const ERRORS6: Readonly<Record<ErrorType, readonly [number, number, number]>> = {
  'port-unreachable': [1, 4, 0],
  'host-unreachable': [1, 3, 0],
  'too-big': [2, 0, 1400],
  'time-exceeded': [3, 0, 0],
  'parameter-problem': [4, 0, 0],
};

interface Looks {
  readonly ttl: number;
  readonly tos: number;
  readonly label: number;
  readonly number: number;
  readonly hasOptions: boolean;
  readonly mayBeCut: boolean;
}

const PLAIN: Looks = { ttl: 64, tos: 0, label: 0, number: 0x4242, hasOptions: false, mayBeCut: false };
/** Three times "no operation" and the end of the list. */
const OPTIONS = Uint8Array.of(1, 1, 1, 0);

function build(ends: Ends, l4: L4Fields, payload: Uint8Array, looks: Looks): Uint8Array {
  const source = parseAddress(ends.source)!;
  const destination = parseAddress(ends.destination)!;
  const [src, dst] = [source.words as AddressWords, destination.words as AddressWords];
  const { ttl, tos, label, number, hasOptions, mayBeCut } = looks;
  const options = hasOptions ? OPTIONS : new Uint8Array(0);
  const extensions = hasOptions ? [{ kind: 'destination-options' as const }] : [];
  const ip =
    source.family === 4
      ? ({ family: 4, src, dst, ttl, tos, id: number, dontFragment: !mayBeCut, options } as const)
      : ({ family: 6, src, dst, hopLimit: ttl, trafficClass: tos, flowLabel: label, extensions } as const);
  return buildFrame({ ip, l4, payload }).slice(ETHERNET_BYTES);
}

/** The transport part of a packet that is cut; its pieces begin at multiples of eight. */
const CUT_BYTES = 72;
const CUTS = [0, 32, 56, CUT_BYTES + 8];

/** Cuts a packet of CUT_BYTES behind a header of eight into three fragments. */
function cut(packet: Uint8Array, number: number): Uint8Array[] {
  const { family, protocol, l4 } = viewPacket(packet)!;
  return CUTS.slice(1).map((to, i) => {
    const from = CUTS[i]!;
    const isLast = to === packet.length - l4;
    const data = packet.subarray(l4 + from, l4 + to);
    if (family === 4) {
      const piece = Uint8Array.of(...packet.subarray(0, l4), ...data);
      put16(piece, 2, piece.length);
      put16(piece, 6, (from >>> 3) | (isLast ? 0 : 0x2000));
      sumHeader(piece);
      return piece;
    }
    const header = [protocol, 0, from >>> 8, (from & 0xf8) | (isLast ? 0 : 1), 0, 0, number >>> 8, number & 255];
    const piece = Uint8Array.of(...packet.subarray(0, 40), ...header, ...data);
    put16(piece, 4, piece.length - 40);
    piece[6] = 44;
    return piece;
  });
}
