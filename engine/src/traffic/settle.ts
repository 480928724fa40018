/**
 * Settling: what is noted of every frame that has ended (hot).
 *
 * The *digest* is the sum, modulo 2^32 and in two independent words, of a hash of each ended frame: its tuple, length,
 * checksums, verdict, reason, node, target and tag. A sum does not depend on order, so the digest of a run is the same
 * however its shards were spread over workers, and differs if any frame ended otherwise.
 *
 * One in VERIFY_EVERY frames is verified in full: versions, lengths, all checksums, lanes against bytes, and every byte of
 * a payload against what the generator wrote.
 */
import type { Burst } from '../wire/burst.ts';
import { verifyFrame } from '../wire/checksum.ts';
import { ICMP4_ECHO, ICMP4_ECHO_REPLY, PROTO_ICMP } from '../wire/icmp4.ts';
import { ICMP6_ECHO, ICMP6_ECHO_REPLY, PROTO_ICMPV6 } from '../wire/icmp6.ts';
import { PROTO_SCTP, SCTP_DATA } from '../wire/sctp.ts';
import { getTcpHeaderBytes, PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { STATION_BROKEN, STATION_VERIFIED, type Station, VERIFY_EVERY } from './station.ts';
import { headerBytes, payloadByte } from './template.ts';

/** Settles the first `count` slots of a burst that has run to its end. */
export function settle(st: Station, b: Burst, count: number): void {
  let low = st.digestLow;
  let high = st.digestHigh;
  for (let s = 0; s < count; s++) {
    const hash = hashEnd(b, s);
    low = (low + hash) | 0;
    high = (high + Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)) | 0;
  }
  st.digestLow = low;
  st.digestHigh = high;
  const until = st.untilVerify - count;
  if (until > 0) {
    st.untilVerify = until;
    return;
  }
  st.untilVerify = until + VERIFY_EVERY;
  verifyEnd(st, b, st.untilVerify - VERIFY_EVERY + count - 1);
}

/** Hash of how the frame in a slot ended. */
function hashEnd(b: Burst, s: number): number {
  let h = (b.verdict[s] << 24) ^ (b.reason[s] << 16) ^ b.node[s];
  h = Math.imul(h ^ b.tag[s], 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 15)) + b.src0[s] + Math.imul(b.src3[s], 0x9e3779b1), 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 14)) + b.dst0[s] + Math.imul(b.dst3[s], 0x9e3779b1), 0x27d4eb2f);
  h = Math.imul((h ^ (h >>> 15)) + ((b.sport[s] << 16) | b.dport[s]), 0x165667b1);
  h = Math.imul((h ^ (h >>> 13)) + transportWord(b, s), 0x9e3779b1);
  h = Math.imul((h ^ (h >>> 15)) + b.len[s] + (b.target[s] << 12), 0x85ebca6b);
  return h ^ (h >>> 16);
}

/** The word of the transport header that holds its checksum; 0 for what has none or no whole header. */
function transportWord(b: Burst, s: number): number {
  const l4 = b.l4[s];
  const room = b.end[s] - l4;
  const proto = b.proto[s];
  if (proto === PROTO_TCP) return room >= 20 ? b.view.getInt32(l4 + 16) : 0;
  if (room < 8) return 0;
  if (proto === PROTO_UDP) return b.view.getInt32(l4 + 4);
  if (proto === PROTO_SCTP) return room >= 12 ? b.view.getInt32(l4 + 8) : 0;
  return proto === PROTO_ICMP || proto === PROTO_ICMPV6 ? b.view.getInt32(l4) : 0;
}

/** Verifies the frame in a slot; a frame that `parseFrame` refused has no lanes to verify and counts as broken. */
function verifyEnd(st: Station, b: Burst, s: number): void {
  st.counts[STATION_VERIFIED]++;
  const wrong = b.family[s] === 0 || verifyFrame(b, s) !== 0 || !isPayloadWhole(st, b, s);
  if (wrong) st.counts[STATION_BROKEN]++;
}

/** True when every payload byte is the generator's. */
function isPayloadWhole(st: Station, b: Burst, s: number): boolean {
  const proto = b.proto[s];
  const type = b.info[s] >>> 8;
  if (proto === PROTO_ICMP && type !== ICMP4_ECHO && type !== ICMP4_ECHO_REPLY) return true;
  if (proto === PROTO_ICMPV6 && type !== ICMP6_ECHO && type !== ICMP6_ECHO_REPLY) return true;
  if (proto === PROTO_SCTP && b.info[s] !== SCTP_DATA) return true;
  const header = proto === PROTO_TCP ? getTcpHeaderBytes(b.view, b.l4[s]) : headerBytes(proto);
  const stream = st.traffic.flows.streams[b.tag[s] >>> 1];
  const from = b.l4[s] + header;
  for (let at = from; at < b.end[s]; at++) if (b.bytes[at] !== payloadByte(stream, at - from)) return false;
  return true;
}
