/**
 * TCP's states as netfilter's conntrack sees them: a man in the middle who guesses the state of both ends.
 *
 * Guarantees: the flags and transitions of linux nf_conntrack_proto_tcp.c with nf_conntrack_tcp_loose on: a connection may
 * be picked up in its middle by an ACK. What numbers say, and the segments whose effect depends on what went before,
 * is in netfilter-window.ts and netfilter-segment.ts.
 */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/tcp.ts';
import {
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  TCP_LAST_ACK,
  TCP_NONE,
  TCP_STATES,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_SYN_SENT2,
  TCP_TIME_WAIT,
  transitionTable,
} from './netfilter-states.ts';

/** Answers of `tcpTransition` beside a state: the segment passes and changes nothing; it belongs to no connection. */
export const TCP_IGNORE = 10;
export const TCP_INVALID = 11;

/** Kinds of a segment, by its most important flag. */
export const SEGMENT_SYN = 0;
export const SEGMENT_SYNACK = 1;
export const SEGMENT_FIN = 2;
export const SEGMENT_ACK = 3;
export const SEGMENT_RST = 4;
export const SEGMENT_OTHER = 5;
const SEGMENTS = 6;

const STATE_CODES: Readonly<Record<string, number>> = {
  NO: TCP_NONE,
  SS: TCP_SYN_SENT,
  SR: TCP_SYN_RECV,
  ES: TCP_ESTABLISHED,
  FW: TCP_FIN_WAIT,
  CW: TCP_CLOSE_WAIT,
  LA: TCP_LAST_ACK,
  TW: TCP_TIME_WAIT,
  CL: TCP_CLOSE,
  S2: TCP_SYN_SENT2,
  IG: TCP_IGNORE,
  IV: TCP_INVALID,
};

// New state by [direction][segment][old state]; old states in the order of their numbers:
//   NO, SS, SR, ES, FW, CW, LA, TW, CL, S2
const TRANSITIONS = transitionTable(STATE_CODES, [
  // original direction
  'SS SS IG IG IG IG IG SS SS S2', // SYN: opens, repeats, or reopens what was closed
  'IV IV SR IV IV IV IV IV IV SR', // SYN/ACK: only to answer the other end's SYN
  'IV IV FW FW LA LA LA TW CL IV', // FIN
  'ES IV ES ES CW CW TW TW CL IV', // ACK: from NO it picks a connection up
  'IV CL CL CL CL CL CL CL CL CL', // RST
  'IV IV IV IV IV IV IV IV IV IV', // none of these flags
  // reply direction
  'IV S2 IV IV IV IV IV SS IV S2', // SYN: both ends open at once; after TIME_WAIT the roles may change
  'IV SR IG IG IG IG IG IG IG SR', // SYN/ACK: the answer, later a repetition
  'IV IV FW FW LA LA LA TW CL IV', // FIN
  'IV IG SR ES CW CW TW TW CL IG', // ACK
  'IV CL CL CL CL CL CL CL CL CL', // RST
  'IV IV IV IV IV IV IV IV IV IV', // none of these flags
]);

/** Bit f: the flags FIN, SYN, RST, ACK (as bit 3) and URG (as bit 4) may stand together so. PSH, ECE, CWR may always. */
const SOUND_FLAGS =
  (1 << 0x02) |
  (1 << 0x12) |
  (1 << 0x0a) |
  (1 << 0x04) |
  (1 << 0x0c) |
  (1 << 0x09) |
  (1 << 0x19) |
  (1 << 0x08) |
  (1 << 0x18);

/** False for a combination of flags that no TCP sends; such a segment is INVALID before any entry is looked for. */
export function hasSoundFlags(flags: number): boolean {
  const packed = (flags & 0x07) | ((flags & 0x30) >>> 1);
  return ((SOUND_FLAGS >>> packed) & 1) !== 0;
}

/** Kind of a segment with these flags. */
export function segmentOf(flags: number): number {
  if ((flags & TCP_RST) !== 0) return SEGMENT_RST;
  if ((flags & TCP_SYN) !== 0) return (flags & TCP_ACK) !== 0 ? SEGMENT_SYNACK : SEGMENT_SYN;
  if ((flags & TCP_FIN) !== 0) return SEGMENT_FIN;
  return (flags & TCP_ACK) !== 0 ? SEGMENT_ACK : SEGMENT_OTHER;
}

/** State of a connection that this segment begins: SYN_SENT, ESTABLISHED (picked up), or TCP_INVALID. */
export function tcpFirst(flags: number): number {
  return TRANSITIONS[segmentOf(flags) * TCP_STATES + TCP_NONE];
}

/**
 * New state of a connection by the table alone.
 * @param reply 1 in the reply direction, else 0
 * @param segment SEGMENT_…
 * @returns a state, TCP_IGNORE or TCP_INVALID
 */
export function tcpTransition(reply: number, segment: number, state: number): number {
  return TRANSITIONS[(reply * SEGMENTS + segment) * TCP_STATES + state];
}
