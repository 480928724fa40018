/**
 * Writing a frame into its slot: a template copied, then patched with what differs (hot).
 *
 * Each `put…` writes its fields and answers or takes the sum of what it wrote, so that every checksum is exact and costs
 * one fold: template sum + addresses + patched words. Bytes and `len` are written here, lanes by the callers.
 */
import { type Burst, FRAME_HEADROOM } from '../wire/burst.ts';
import { foldSum } from '../wire/checksum.ts';
import { ETHERNET_DST, ETHERNET_SRC } from '../wire/ethernet.ts';
import { ICMP_CHECKSUM, ICMP_ID } from '../wire/icmp4.ts';
import { IPV4_CHECKSUM, IPV4_DST, IPV4_SRC, IPV4_TTL } from '../wire/ipv4.ts';
import { IPV6_DST, IPV6_HOP_LIMIT, IPV6_SRC } from '../wire/ipv6.ts';
import { TCP_ACK_SEQ, TCP_CHECKSUM, TCP_OFFSET_FLAGS, TCP_SEQ } from '../wire/tcp.ts';
import { UDP_CHECKSUM } from '../wire/udp.ts';
import type { FrameFacts } from './facts.ts';
import { INITIAL_TTL } from './template.ts';

/** Up to here an unrolled loop is faster than the call of `set`, which costs about 28 ns before the first word (Node 20). */
const SHORT_WORDS = 20;

/** Copies a template into a slot and sets its length. */
export function putTemplate(frame: FrameFacts, b: Burst, s: number): void {
  const base = (s * b.slotBytes) >> 2;
  if (frame.words > SHORT_WORDS) b.words.set(frame.view, base);
  else copyShort(frame.view, 0, b.words, base, frame.words);
  b.len[s] = frame.length;
}

/** Four words a turn: each access of an element loads its array's length and address anew. */
function copyShort(from: Int32Array, at: number, to: Int32Array, base: number, count: number): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    to[base + i] = from[at + i];
    to[base + i + 1] = from[at + i + 1];
    to[base + i + 2] = from[at + i + 2];
    to[base + i + 3] = from[at + i + 3];
  }
  for (; i < count; i++) to[base + i] = from[at + i];
}

/** Sum of the two halves of a word. */
function halves(word: number): number {
  return (word >>> 16) + (word & 0xffff);
}

/** Writes the addresses and the header checksum of an IPv4 template; answers the sum of the addresses. */
export function putIpv4(view: DataView, l3: number, templateSum: number, src: number, dst: number): number {
  view.setInt32(l3 + IPV4_SRC, src);
  view.setInt32(l3 + IPV4_DST, dst);
  const sum = halves(src) + halves(dst);
  view.setUint16(l3 + IPV4_CHECKSUM, ~foldSum(templateSum + sum) & 0xffff);
  return sum;
}

/** Writes the addresses of an IPv6 template; answers their sum. */
export function putIpv6(
  view: DataView,
  l3: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
): number {
  view.setInt32(l3 + IPV6_SRC, s0);
  view.setInt32(l3 + IPV6_SRC + 4, s1);
  view.setInt32(l3 + IPV6_SRC + 8, s2);
  view.setInt32(l3 + IPV6_SRC + 12, s3);
  view.setInt32(l3 + IPV6_DST, d0);
  view.setInt32(l3 + IPV6_DST + 4, d1);
  view.setInt32(l3 + IPV6_DST + 8, d2);
  view.setInt32(l3 + IPV6_DST + 12, d3);
  return halves(s0) + halves(s1) + halves(s2) + halves(s3) + halves(d0) + halves(d1) + halves(d2) + halves(d3);
}

/**
 * Patches a TCP template.
 * @param sum of the template and the addresses
 * @param ports sport << 16 | dport
 * @param flags of a header template; 0 for a data template, which has its own
 */
export function putTcp(
  view: DataView,
  l4: number,
  sum: number,
  ports: number,
  seq: number,
  ackSeq: number,
  flags: number,
): void {
  view.setInt32(l4, ports);
  view.setInt32(l4 + TCP_SEQ, seq);
  view.setInt32(l4 + TCP_ACK_SEQ, ackSeq);
  if (flags !== 0) view.setUint8(l4 + TCP_OFFSET_FLAGS + 1, flags);
  const patched = sum + halves(ports) + halves(seq) + halves(ackSeq) + flags;
  view.setUint16(l4 + TCP_CHECKSUM, ~foldSum(patched) & 0xffff);
}

/** Patches a UDP template. */
export function putUdp(view: DataView, l4: number, sum: number, ports: number): void {
  view.setInt32(l4, ports);
  const checksum = ~foldSum(sum + halves(ports)) & 0xffff;
  view.setUint16(l4 + UDP_CHECKSUM, checksum === 0 ? 0xffff : checksum);
}

/**
 * Patches an ICMP or ICMPv6 echo template.
 * @param sum of the template, and of the addresses for ICMPv6
 * @param word identifier << 16 | sequence
 */
export function putEcho(view: DataView, l4: number, sum: number, word: number): void {
  view.setInt32(l4 + ICMP_ID, word);
  view.setUint16(l4 + ICMP_CHECKSUM, ~foldSum(sum + halves(word)) & 0xffff);
}

/** Copies the frame of a slot to another slot of the same or another burst; bytes and length. */
export function copyFrame(from: Burst, s: number, to: Burst, t: number): void {
  const source = (s * from.slotBytes) >> 2;
  const target = (t * to.slotBytes) >> 2;
  const count = (from.len[s] + FRAME_HEADROOM + 3) >> 2;
  copyShort(from.words, source, to.words, target, count);
  to.len[t] = from.len[s];
}

/**
 * Turns an untagged frame around in its slot: MAC addresses, IP addresses, and a fresh TTL. Transport checksums cover
 * addresses as a sum and stay right.
 */
export function turnAround(b: Burst, s: number, family: number, l3: number): void {
  const view = b.view;
  const frame = s * b.slotBytes + FRAME_HEADROOM;
  const high = view.getUint16(frame + ETHERNET_DST);
  const low = view.getInt32(frame + ETHERNET_DST + 2);
  view.setUint16(frame + ETHERNET_DST, view.getUint16(frame + ETHERNET_SRC));
  view.setInt32(frame + ETHERNET_DST + 2, view.getInt32(frame + ETHERNET_SRC + 2));
  view.setUint16(frame + ETHERNET_SRC, high);
  view.setInt32(frame + ETHERNET_SRC + 2, low);
  if (family === 4) {
    const src = view.getInt32(l3 + IPV4_SRC);
    view.setInt32(l3 + IPV4_SRC, view.getInt32(l3 + IPV4_DST));
    view.setInt32(l3 + IPV4_DST, src);
    const ttl = view.getUint8(l3 + IPV4_TTL);
    view.setUint8(l3 + IPV4_TTL, INITIAL_TTL);
    // RFC 1624 eq. 3 on the word of TTL and protocol; the protocol stays.
    const sum = (~view.getUint16(l3 + IPV4_CHECKSUM) & 0xffff) + (~(ttl << 8) & 0xffff) + (INITIAL_TTL << 8);
    view.setUint16(l3 + IPV4_CHECKSUM, ~foldSum(sum) & 0xffff);
    return;
  }
  for (let i = 0; i < 16; i += 4) {
    const word = view.getInt32(l3 + IPV6_SRC + i);
    view.setInt32(l3 + IPV6_SRC + i, view.getInt32(l3 + IPV6_DST + i));
    view.setInt32(l3 + IPV6_DST + i, word);
  }
  view.setUint8(l3 + IPV6_HOP_LIMIT, INITIAL_TTL);
}
