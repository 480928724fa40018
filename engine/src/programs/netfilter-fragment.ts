/**
 * Later fragments: whose datagram a fragment without ports belongs to.
 *
 * The kernel puts a datagram together before conntrack and takes it apart again behind it. Here the first fragment runs
 * the rules for the whole datagram and leaves its ports under (node, addresses, protocol, datagram number); later ones
 * take them from there, follow the first one's conntrack entry and match no port of a rule. So a datagram that the
 * rules let through passes whole, and one whose first fragment was dropped, or comes later, is dropped fragment by
 * fragment (the caller's REASON_FRAGMENT_FIRST_MISSING); the kernel would wait for the first one.
 *
 * Memory, ROWS rows of 15 words per shard, taken in turn, so that a datagram lives until ROWS newer ones have begun:
 *
 *     0 node << 8 | IPv4 protocol, + 1 (0 = free)   1 datagram number   2–5 source   6–9 destination
 *     10 sport << 16 | dport   11 transport protocol   12 lane `info`   13 time in ms
 *     14 (of row 0) the row that is taken next
 *
 * Local to the thread that owns the shard.
 */
import type { Burst } from '../wire/burst.ts';
import { getIpv4Id } from '../wire/ipv4.ts';
import { IPV6_AUTHENTICATION, IPV6_BYTES, IPV6_FRAGMENT, IPV6_NEXT_HEADER } from '../wire/ipv6.ts';
import { isIcmp } from './flow-key.ts';

const ROWS = 16;
const ROW_WORDS = 15;
const ROW_ID = 1;
const ROW_SRC = 2;
const ROW_DST = 6;
const ROW_PORTS = 10;
const ROW_PROTO = 11;
const ROW_INFO = 12;
const ROW_TIME = 13;
const ROW_CURSOR = 14;

/** Byte offset of the datagram number in an IPv6 fragment header. */
const FRAGMENT_NUMBER = 4;

/** net.ipv4.ipfrag_time and net.ipv6.ip6frag_time: how long the kernel waits for the rest of a datagram. */
const LIFE4_MS = 30_000;
const LIFE6_MS = 60_000;

export interface Fragments {
  readonly words: Int32Array;
}

export function createFragments(shards: number): Fragments {
  return { words: new Int32Array(shards * ROWS * ROW_WORDS) };
}

/** Remembers the ports of a first fragment as its lanes hold them on arrival. */
export function noteFirstFragment(f: Fragments, b: Burst, s: number): void {
  const words = f.words;
  const first = b.shard[s] * ROWS * ROW_WORDS;
  const turn = words[first + ROW_CURSOR];
  const at = first + turn * ROW_WORDS;
  words[first + ROW_CURSOR] = turn + 1 === ROWS ? 0 : turn + 1;
  words[at] = fragmentKey(b, s);
  words[at + ROW_ID] = datagramNumber(b, s);
  words[at + ROW_SRC] = b.src0[s];
  words[at + ROW_SRC + 1] = b.src1[s];
  words[at + ROW_SRC + 2] = b.src2[s];
  words[at + ROW_SRC + 3] = b.src3[s];
  words[at + ROW_DST] = b.dst0[s];
  words[at + ROW_DST + 1] = b.dst1[s];
  words[at + ROW_DST + 2] = b.dst2[s];
  words[at + ROW_DST + 3] = b.dst3[s];
  words[at + ROW_PORTS] = (b.sport[s] << 16) | b.dport[s];
  words[at + ROW_PROTO] = b.proto[s];
  words[at + ROW_INFO] = b.info[s];
  words[at + ROW_TIME] = b.timeMs[s];
}

/**
 * Gives a later fragment's lanes the ports and the transport protocol of its datagram.
 * @returns 0, or -1 if the first fragment was not seen
 */
export function recallFirstFragment(f: Fragments, b: Burst, s: number): number {
  const words = f.words;
  const key = fragmentKey(b, s);
  const id = datagramNumber(b, s);
  const life = b.family[s] === 4 ? LIFE4_MS : LIFE6_MS;
  let at = b.shard[s] * ROWS * ROW_WORDS;
  for (let i = 0; i < ROWS; i++, at += ROW_WORDS) {
    if (words[at] !== key || words[at + ROW_ID] !== id || !isSamePath(words, at, b, s)) continue;
    if (((b.timeMs[s] - words[at + ROW_TIME]) | 0) > life) continue;
    // Extension headers of IPv6 may stand behind the fragment header, where a later fragment cannot name the protocol.
    b.proto[s] = words[at + ROW_PROTO];
    b.sport[s] = words[at + ROW_PORTS] >>> 16;
    b.dport[s] = words[at + ROW_PORTS] & 0xffff;
    // An ICMP message's type is part of its flow's key (flow-key.ts).
    if (isIcmp(b.proto[s])) b.info[s] = words[at + ROW_INFO];
    return 0;
  }
  return -1;
}

function fragmentKey(b: Burst, s: number): number {
  return ((b.node[s] << 8) | (b.family[s] === 4 ? b.proto[s] : 0)) + 1;
}

function isSamePath(words: Int32Array, at: number, b: Burst, s: number): boolean {
  return (
    words[at + ROW_SRC] === b.src0[s] &&
    words[at + ROW_SRC + 1] === b.src1[s] &&
    words[at + ROW_SRC + 2] === b.src2[s] &&
    words[at + ROW_SRC + 3] === b.src3[s] &&
    words[at + ROW_DST] === b.dst0[s] &&
    words[at + ROW_DST + 1] === b.dst1[s] &&
    words[at + ROW_DST + 2] === b.dst2[s] &&
    words[at + ROW_DST + 3] === b.dst3[s]
  );
}

/** The number that all fragments of a datagram carry: of the IPv4 header, or of the IPv6 fragment header. */
function datagramNumber(b: Burst, s: number): number {
  const view = b.view;
  const l3 = b.l3[s];
  if (b.family[s] === 4) return getIpv4Id(view, l3);
  // `parseFrame` has walked these headers, so the fragment header is there.
  let next = view.getUint8(l3 + IPV6_NEXT_HEADER);
  let off = l3 + IPV6_BYTES;
  while (next !== IPV6_FRAGMENT) {
    // An authentication header counts 4-byte units minus two, the others 8-byte units minus one.
    const units = view.getUint8(off + 1);
    const bytes = next === IPV6_AUTHENTICATION ? (units + 2) << 2 : (units + 1) << 3;
    next = view.getUint8(off);
    off += bytes;
  }
  return view.getInt32(off + FRAGMENT_NUMBER);
}
