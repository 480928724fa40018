/**
 * Answers that refuse a frame: ICMP errors and TCP resets, built into another slot from the frame they answer.
 *
 * Rules, those of Linux (icmp_send, icmp6_send, nf_reject):
 * 1. No error answers an error, a later fragment, a frame to a group, or a source that is not one host.
 * 2. ICMPv4 quotes what fits into 576 bytes, ICMPv6 what fits into 1,280, counted from the IP header on.
 * 3. A reset answers no reset, no fragment and no segment with a wrong checksum. If the segment has ACK, the reset
 *    takes its acknowledgment as sequence; else it has sequence 0 and acknowledges the segment (RFC 9293 §3.10.7.1).
 * 4. Errors keep the type of service and take precedence 0xC0 over IPv4; time to live and hop limit are 64.
 *
 * The answered frame must have passed `parseFrame`; the slots must differ. Only the answer's bytes and its `len` lane
 * are written: it is parsed like any other frame. MAC addresses change sides, VLAN tags stay. REJECT rules also ask
 * `verifyL4` before an ICMP error; expired frames are answered whatever their checksum says, so it is not asked here.
 */

import { type Burst, FRAG_LATER, FRAG_NONE, frameOffset } from './burst.ts';
import { checksum, pseudoSum4, pseudoSum6, verifyL4 } from './checksum.ts';
import { ETHERNET_DST, ETHERNET_SRC, isGroupFrame } from './ethernet.ts';
import { ICMP_BYTES, ICMP_CHECKSUM, ICMP4_LAST_KNOWN_TYPE, isIcmp4Error, PROTO_ICMP } from './icmp4.ts';
import { ICMP6_REDIRECT, isIcmp6Error, PROTO_ICMPV6 } from './icmp6.ts';
import { getIpv4Id, getIpv4Tos, IPV4_BYTES, IPV4_DF, isUnicast4, setIpv4Checksum, writeIpv4 } from './ipv4.ts';
import { IPV6_BYTES, IPV6_DST, IPV6_SRC, isUnicast6, setIpv6Address, writeIpv6 } from './ipv6.ts';
import {
  getTcpAckSeq,
  getTcpHeaderBytes,
  getTcpSeq,
  PROTO_TCP,
  TCP_ACK,
  TCP_BYTES,
  TCP_CHECKSUM,
  TCP_FIN,
  TCP_RST,
  TCP_SYN,
  writeTcp,
} from './tcp.ts';

const ICMP4_MAX_BYTES = 576;
const ICMP6_MAX_BYTES = 1280;
const ANSWER_TTL = 64;
const TOS_MASK = 0x1e;
const TOS_INTERNETWORK_CONTROL = 0xc0;

/**
 * Builds an ICMP error about the IPv4 frame in slot `from` into slot `to`.
 * @param src address that sends the error, a host-order word
 * @returns the answer's length in bytes (also in `len[to]`), or 0 when no answer may be sent or none fits the slot
 */
export function writeIcmp4Error(b: Burst, from: number, to: number, type: number, code: number, src: number): number {
  if (b.family[from] !== 4 || !mayAnswer(b, from)) return 0;
  if (b.proto[from] === PROTO_ICMP) {
    const answered = b.info[from] >>> 8;
    if (isIcmp4Error(answered) || answered > ICMP4_LAST_KNOWN_TYPE) return 0;
  }
  const view = b.view;
  const old3 = b.l3[from];
  const l3 = frameOffset(b, to) + old3 - frameOffset(b, from);
  const l4 = l3 + IPV4_BYTES;
  const quote = quoteBytes(b, from, to, l4 + ICMP_BYTES, ICMP4_MAX_BYTES - IPV4_BYTES - ICMP_BYTES);
  if (quote === 0) return 0;
  const tos = (getIpv4Tos(view, old3) & TOS_MASK) | TOS_INTERNETWORK_CONTROL;
  const total = IPV4_BYTES + ICMP_BYTES + quote;
  writeLink(b, from, to);
  // The kernel numbers its errors from a counter; the answered packet's number keeps runs alike.
  writeIpv4(view, l3, tos, total, getIpv4Id(view, old3), 0, ANSWER_TTL, PROTO_ICMP, src, b.src0[from]);
  setIpv4Checksum(view, l3, checksum(b.bytes, l3, IPV4_BYTES, 0));
  writeQuote(b, old3, l4, type, code, quote);
  view.setUint16(l4 + ICMP_CHECKSUM, checksum(b.bytes, l4, ICMP_BYTES + quote, 0));
  return finish(b, to, l3 + total);
}

/**
 * Builds an ICMPv6 error about the IPv6 frame in slot `from` into slot `to`; `s0` to `s3` is the address that sends it.
 * @returns the answer's length in bytes (also in `len[to]`), or 0 when no answer may be sent or none fits the slot
 */
export function writeIcmp6Error(
  b: Burst,
  from: number,
  to: number,
  type: number,
  code: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
): number {
  if (b.family[from] !== 6 || !mayAnswer(b, from)) return 0;
  if (b.proto[from] === PROTO_ICMPV6) {
    const answered = b.info[from] >>> 8;
    if (isIcmp6Error(answered) || answered === ICMP6_REDIRECT) return 0;
  }
  const view = b.view;
  const old3 = b.l3[from];
  const l3 = frameOffset(b, to) + old3 - frameOffset(b, from);
  const l4 = l3 + IPV6_BYTES;
  const quote = quoteBytes(b, from, to, l4 + ICMP_BYTES, ICMP6_MAX_BYTES - IPV6_BYTES - ICMP_BYTES);
  if (quote === 0) return 0;
  const length = ICMP_BYTES + quote;
  writeLink(b, from, to);
  writeIpv6(view, l3, 0, 0, length, PROTO_ICMPV6, ANSWER_TTL);
  setIpv6Address(view, l3 + IPV6_SRC, s0, s1, s2, s3);
  setIpv6Address(view, l3 + IPV6_DST, b.src0[from], b.src1[from], b.src2[from], b.src3[from]);
  writeQuote(b, old3, l4, type, code, quote);
  view.setUint16(l4 + ICMP_CHECKSUM, checksum(b.bytes, l4, length, pseudoSum6(view, l3, PROTO_ICMPV6, length)));
  return finish(b, to, l4 + length);
}

/**
 * Builds the TCP reset that answers the segment in slot `from` into slot `to`.
 * @returns the answer's length in bytes (also in `len[to]`), or 0 when no answer may be sent or it does not fit the slot
 */
export function writeTcpReset(b: Burst, from: number, to: number): number {
  if (b.proto[from] !== PROTO_TCP || b.frag[from] !== FRAG_NONE || !mayAnswer(b, from)) return 0;
  const flags = b.info[from];
  if ((flags & TCP_RST) !== 0 || verifyL4(b, from) === 0) return 0;
  const view = b.view;
  const old4 = b.l4[from];
  const l3 = frameOffset(b, to) + b.l3[from] - frameOffset(b, from);
  const l4 = l3 + (b.family[from] === 4 ? IPV4_BYTES : IPV6_BYTES);
  if (l4 + TCP_BYTES > (to + 1) * b.slotBytes) return 0;
  writeLink(b, from, to);
  let sum = 0;
  if (b.family[from] === 4) {
    const total = IPV4_BYTES + TCP_BYTES;
    writeIpv4(view, l3, 0, total, 0, IPV4_DF, ANSWER_TTL, PROTO_TCP, b.dst0[from], b.src0[from]);
    setIpv4Checksum(view, l3, checksum(b.bytes, l3, IPV4_BYTES, 0));
    sum = pseudoSum4(view, l3, PROTO_TCP, TCP_BYTES);
  } else {
    writeIpv6(view, l3, 0, 0, TCP_BYTES, PROTO_TCP, ANSWER_TTL);
    setIpv6Address(view, l3 + IPV6_SRC, b.dst0[from], b.dst1[from], b.dst2[from], b.dst3[from]);
    setIpv6Address(view, l3 + IPV6_DST, b.src0[from], b.src1[from], b.src2[from], b.src3[from]);
    sum = pseudoSum6(view, l3, PROTO_TCP, TCP_BYTES);
  }
  let seq = getTcpAckSeq(view, old4);
  let ackSeq = 0;
  let answer = TCP_RST;
  if ((flags & TCP_ACK) === 0) {
    const data = b.end[from] - old4 - getTcpHeaderBytes(view, old4);
    // SYN and FIN each take a sequence number.
    ackSeq = getTcpSeq(view, old4) + data + ((flags & TCP_SYN) === 0 ? 0 : 1) + ((flags & TCP_FIN) === 0 ? 0 : 1);
    seq = 0;
    answer = TCP_RST | TCP_ACK;
  }
  writeTcp(view, l4, b.dport[from], b.sport[from], seq, ackSeq, TCP_BYTES, answer, 0);
  view.setUint16(l4 + TCP_CHECKSUM, checksum(b.bytes, l4, TCP_BYTES, sum));
  return finish(b, to, l4 + TCP_BYTES);
}

/** Rule 1, but for what is an error of ICMP's own. */
function mayAnswer(b: Burst, s: number): boolean {
  if (b.frag[s] === FRAG_LATER || isGroupFrame(b.view, frameOffset(b, s))) return false;
  if (b.family[s] === 4) return isUnicast4(b.src0[s]) && isUnicast4(b.dst0[s]);
  return (
    isUnicast6(b.src0[s], b.src1[s], b.src2[s], b.src3[s]) && isUnicast6(b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s])
  );
}

/** Bytes to quote at `at`: the packet, cut to `most` and to the slot; 0 if less than its headers and ports fit. */
function quoteBytes(b: Burst, from: number, to: number, at: number, most: number): number {
  const room = (to + 1) * b.slotBytes - at;
  let quote = b.end[from] - b.l3[from];
  if (quote > most) quote = most;
  if (quote <= room) return quote;
  return room < b.l4[from] + ICMP_BYTES - b.l3[from] ? 0 : room;
}

/** Copies the link header with its addresses turned around. */
function writeLink(b: Burst, from: number, to: number): void {
  const view = b.view;
  const a = frameOffset(b, from);
  const z = frameOffset(b, to);
  b.bytes.copyWithin(z, a, b.l3[from]);
  view.setUint16(z + ETHERNET_DST, view.getUint16(a + ETHERNET_SRC));
  view.setUint32(z + ETHERNET_DST + 2, view.getUint32(a + ETHERNET_SRC + 2));
  view.setUint16(z + ETHERNET_SRC, view.getUint16(a + ETHERNET_DST));
  view.setUint32(z + ETHERNET_SRC + 2, view.getUint32(a + ETHERNET_DST + 2));
}

/** Writes the ICMP header with checksum 0 and the quote behind it. */
function writeQuote(b: Burst, old3: number, l4: number, type: number, code: number, quote: number): void {
  b.view.setUint16(l4, (type << 8) | code);
  b.view.setUint16(l4 + ICMP_CHECKSUM, 0);
  b.view.setUint32(l4 + 4, 0);
  b.bytes.copyWithin(l4 + ICMP_BYTES, old3, old3 + quote);
}

function finish(b: Burst, to: number, end: number): number {
  const length = end - frameOffset(b, to);
  b.len[to] = length;
  return length;
}
