/**
 * The matches of real nodes' rules that kube-proxy does not write: MATCH_FURTHER and above of tables/rule-list.ts.
 *
 * One dispatch for what looks at the packet alone; connections, addresses of the node and memory have files of their own
 * (rule-match-flow.ts, rule-match-place.ts, rule-match-memory.ts). Each answer counts the match's inversion, because the
 * kernel's matches differ in what they answer where there is nothing to ask: false, or true, inverted or not.
 */
import {
  CHUNKS_ALL,
  CHUNKS_ANY,
  MATCH_CONNMARK,
  MATCH_CTADDR4,
  MATCH_CTADDR6,
  MATCH_CTDIR,
  MATCH_CTEXPIRE,
  MATCH_CTPORT,
  MATCH_CTPROTO,
  MATCH_CTSTATUS,
  MATCH_DST_RANGE4,
  MATCH_DST_RANGE6,
  MATCH_IN_DEVICE,
  MATCH_INVERT,
  MATCH_LENGTH,
  MATCH_MAC,
  MATCH_MULTIPORT,
  MATCH_NTH,
  MATCH_OUT_DEVICE,
  MATCH_PACKET_TYPE,
  MATCH_PHYSDEV,
  MATCH_PROCESS,
  MATCH_RECENT_LIST,
  MATCH_RPFILTER,
  MATCH_SCTP_CHUNKS,
  MATCH_SRC_RANGE4,
  MATCH_SRC_RANGE6,
  MATCH_TCP_MSS,
  MATCH_TCP_OPTION,
  MATCH_TOS,
  MATCH_TTL,
  MATCH_TYPE_ON,
  PACKET_BROADCAST,
  PACKET_MULTICAST,
  PACKET_UNICAST,
  PORTS_DST,
  PORTS_SRC,
} from '../tables/rule-list.ts';
import { type Burst, ENTRY_HOST, FRAG_LATER, frameOffset } from '../wire/burst.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { getTcpHeaderBytes, PROTO_TCP, TCP_BYTES } from '../wire/tcp.ts';
import type { Datapath } from './datapath.ts';
import { FLOW_IN, FLOW_IN_DEVICE, FLOW_OUT_DEVICE } from './netfilter-scratch.ts';
import { hasPorts } from './rule-match.ts';
import { holdsConnmark, holdsFlow } from './rule-match-flow.ts';
import { holdsNth, holdsRecentList } from './rule-match-memory.ts';
import { holdsBridge, holdsReversePath, holdsTypeOn } from './rule-match-place.ts';

const SCTP_HEADER_BYTES = 12;
const CHUNK_HEADER_BYTES = 4;
const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const MSS_OPTION_BYTES = 4;

/** True if the frame satisfies the match at word `m`, its inversion counted. */
export function holdsFurtherMatch(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  m: number,
  ruleId: number,
): boolean {
  const op = words[m] & 0x7f;
  const invert = (words[m] & MATCH_INVERT) !== 0;
  switch (op) {
    case MATCH_IN_DEVICE:
      return isWithin(dp.ports.scratch.flow[FLOW_IN_DEVICE], words, m) !== invert;
    case MATCH_OUT_DEVICE:
      return isWithin(dp.ports.scratch.flow[FLOW_OUT_DEVICE], words, m) !== invert;
    case MATCH_MULTIPORT:
      return hasPorts(b, s) && holdsMultiport(b, s, words, m) !== invert;
    case MATCH_LENGTH:
      return isWithin(b.end[s] - b.l3[s], words, m) !== invert;
    case MATCH_TTL:
      return isWithin(b.bytes[b.l3[s] + (b.family[s] === 4 ? 8 : 7)], words, m) !== invert;
    case MATCH_TOS:
      return ((typeOfService(b, s) & words[m + 2]) === words[m + 1]) !== invert;
    case MATCH_PACKET_TYPE:
      return ((packetType(b, s) & words[m + 1]) !== 0) !== invert;
    case MATCH_MAC:
      return dp.ports.scratch.flow[FLOW_IN] !== 0 && isFromMac(b, s, words[m + 1], words[m + 2]) !== invert;
    case MATCH_SRC_RANGE4:
      return (b.family[s] === 4 && isInRange4(b.src0[s], words, m)) !== invert;
    case MATCH_DST_RANGE4:
      return (b.family[s] === 4 && isInRange4(b.dst0[s], words, m)) !== invert;
    case MATCH_SRC_RANGE6:
      return (b.family[s] === 6 && isInRange6(b.src0[s], b.src1[s], b.src2[s], b.src3[s], words, m)) !== invert;
    case MATCH_DST_RANGE6:
      return (b.family[s] === 6 && isInRange6(b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], words, m)) !== invert;
    case MATCH_TCP_OPTION:
      return isWholeTcp(b, s) && (findTcpOption(b, s, words[m + 1]) !== -1) !== invert;
    case MATCH_TCP_MSS:
      return isWholeTcp(b, s) && isWithin(segmentSize(b, s), words, m) !== invert;
    case MATCH_SCTP_CHUNKS:
      return b.proto[s] === PROTO_SCTP && b.frag[s] !== FRAG_LATER && holdsChunks(b, s, words, m) !== invert;
    case MATCH_TYPE_ON:
      return holdsTypeOn(dp, b, s, words[m + 1], words[m + 2]) !== invert;
    case MATCH_PHYSDEV:
      return holdsBridge(dp, b, s, words[m + 1]) !== invert;
    case MATCH_RPFILTER:
      return holdsReversePath(dp, b, s, words[m + 1]) !== invert;
    case MATCH_PROCESS:
      return words[b.entry[s] === ENTRY_HOST ? m + 1 : m + 2] !== 0;
    case MATCH_CTSTATUS:
    case MATCH_CTDIR:
    case MATCH_CTPROTO:
    case MATCH_CTADDR4:
    case MATCH_CTADDR6:
    case MATCH_CTPORT:
    case MATCH_CTEXPIRE:
      return holdsFlow(dp, b, s, words, m, op, invert);
    case MATCH_CONNMARK:
      return holdsConnmark(dp, b, s, words[m + 1], words[m + 2], invert);
    case MATCH_RECENT_LIST:
      return holdsRecentList(dp, b, s, words, m, invert);
    case MATCH_NTH:
      return holdsNth(dp, b, s, words[m + 1], words[m + 2], words[m + 3], ruleId) !== invert;
  }
  return false;
}

/** True if the value lies between the match's first two operands. */
function isWithin(value: number, words: Int32Array, m: number): boolean {
  return value >= words[m + 1] && value <= words[m + 2];
}

function holdsMultiport(b: Burst, s: number, words: Int32Array, m: number): boolean {
  const end = m + (words[m] >>> 8);
  const sides = words[m + 1];
  const sport = (sides & PORTS_SRC) !== 0 ? b.sport[s] : -1;
  const dport = (sides & PORTS_DST) !== 0 ? b.dport[s] : -1;
  for (let at = m + 2; at < end; at += 2) {
    const first = words[at];
    const last = words[at + 1];
    if ((sport >= first && sport <= last) || (dport >= first && dport <= last)) return true;
  }
  return false;
}

function typeOfService(b: Burst, s: number): number {
  const l3 = b.l3[s];
  if (b.family[s] === 4) return b.bytes[l3 + 1];
  return ((b.bytes[l3] & 15) << 4) | (b.bytes[l3 + 1] >>> 4);
}

function packetType(b: Burst, s: number): number {
  if (b.family[s] === 6) return b.dst0[s] >>> 24 === 0xff ? PACKET_MULTICAST : PACKET_UNICAST;
  if (b.dst0[s] === -1) return PACKET_BROADCAST;
  return b.dst0[s] >>> 28 === 0xe ? PACKET_MULTICAST : PACKET_UNICAST;
}

function isFromMac(b: Burst, s: number, high: number, low: number): boolean {
  const at = frameOffset(b, s) + 6;
  return b.view.getInt32(at) === high && b.view.getUint16(at + 4) === low;
}

function isInRange4(address: number, words: Int32Array, m: number): boolean {
  return address >>> 0 >= words[m + 1] >>> 0 && address >>> 0 <= words[m + 2] >>> 0;
}

function isInRange6(a0: number, a1: number, a2: number, a3: number, words: Int32Array, m: number): boolean {
  return compare6(a0, a1, a2, a3, words, m + 1) >= 0 && compare6(a0, a1, a2, a3, words, m + 5) <= 0;
}

/** Below, equal or above zero as the address is below, equal to or above the one at word `at`. */
function compare6(a0: number, a1: number, a2: number, a3: number, words: Int32Array, at: number): number {
  if (a0 !== words[at]) return (a0 >>> 0) - (words[at] >>> 0);
  if (a1 !== words[at + 1]) return (a1 >>> 0) - (words[at + 1] >>> 0);
  if (a2 !== words[at + 2]) return (a2 >>> 0) - (words[at + 2] >>> 0);
  return (a3 >>> 0) - (words[at + 3] >>> 0);
}

function isWholeTcp(b: Burst, s: number): boolean {
  return b.proto[s] === PROTO_TCP && b.frag[s] !== FRAG_LATER;
}

/** Byte offset in the slab of a TCP option; -1 if the segment lacks it. */
function findTcpOption(b: Burst, s: number, kind: number): number {
  let at = b.l4[s] + TCP_BYTES;
  const end = Math.min(b.l4[s] + getTcpHeaderBytes(b.view, b.l4[s]), b.end[s]);
  while (at < end) {
    const found = b.bytes[at];
    if (found === kind) return at;
    if (found === OPTION_END) return -1;
    if (found === OPTION_NOP) at++;
    else {
      if (at + 1 >= end || b.bytes[at + 1] < 2) return -1;
      at += b.bytes[at + 1];
    }
  }
  return -1;
}

/** The maximum segment size that the segment announces, -1 where it does not. */
function segmentSize(b: Burst, s: number): number {
  const at = findTcpOption(b, s, OPTION_MSS);
  return at === -1 || at + MSS_OPTION_BYTES > b.end[s] ? -1 : b.view.getUint16(at + 2);
}

/** All of the types are there, any of them is, or only such are. */
function holdsChunks(b: Burst, s: number, words: Int32Array, m: number): boolean {
  const how = words[m + 1];
  const end = b.end[s];
  const set = m + 2;
  let any = false;
  let only = true;
  let found = 0;
  let wanted = 0;
  for (let type = 0; type < 256; type++) {
    if ((words[set + (type >>> 5)] & (1 << (type & 31))) === 0) continue;
    wanted++;
    if (hasChunk(b, b.l4[s] + SCTP_HEADER_BYTES, end, type)) found++;
  }
  for (let at = b.l4[s] + SCTP_HEADER_BYTES; at + CHUNK_HEADER_BYTES <= end; at = nextChunk(b, at)) {
    const type = b.bytes[at];
    if ((words[set + (type >>> 5)] & (1 << (type & 31))) !== 0) any = true;
    else only = false;
  }
  if (how === CHUNKS_ANY) return any;
  return how === CHUNKS_ALL ? found === wanted : only;
}

function hasChunk(b: Burst, from: number, end: number, type: number): boolean {
  for (let at = from; at + CHUNK_HEADER_BYTES <= end; at = nextChunk(b, at)) if (b.bytes[at] === type) return true;
  return false;
}

/** Where the next chunk begins; a length that lies still moves on by a header. */
function nextChunk(b: Burst, at: number): number {
  return at + Math.max(CHUNK_HEADER_BYTES, (b.view.getUint16(at + 2) + 3) & ~3);
}
