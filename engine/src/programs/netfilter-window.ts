/**
 * TCP windows as netfilter's conntrack tracks them: whether a segment can belong to its connection by its numbers.
 *
 * What is known of a connection, in the own words of its two slots (tables/conntrack.ts) or, until the first frame has
 * passed, in `scratch.tcp`, 8 words a direction, the original first. Per direction:
 *
 *     +1 end      highest sequence number sent + 1        +2 maxend   highest that the other end's window allows
 *     +3 maxwin   largest window the sender has told      +4 maxack   highest number it acknowledged
 *     +5 flags    WINDOW_…, scale << 8
 *
 * and of the last segment that counted, half in either:
 *
 *     original +6 last sequence number   +7 last acknowledgment
 *     reply    +6 its end                +7 window | kind << 16 | direction << 19 | repetitions << 20 | scale << 22 | LAST_…
 *
 * Word +0 is the connection's mark. A segment fits when (linux nf_conntrack_proto_tcp.c, after van Rooij):
 *
 *  1. seq <= sender's maxend                          not beyond the receiver's window
 *  2. ack (or the highest SACK edge) <= receiver's end     acknowledges nothing that was not sent
 *  3. end >= sender's end - receiver's maxwin         not data from long ago
 *  4. ack >= receiver's end - max(sender's maxwin, 66000)
 *
 * 1 and 2 failing is INVALID, 3 and 4 failing is passed over without effect. One that goes beyond 1 by no more than a
 * window is passed over too, and remembered. With be_liberal, or on a connection that was picked up, all of them pass.
 */
import type { Burst } from '../wire/burst.ts';
import {
  getTcpHeaderBytes,
  TCP_ACK,
  TCP_ACK_SEQ,
  TCP_BYTES,
  TCP_FIN,
  TCP_RST,
  TCP_SEQ,
  TCP_SYN,
  TCP_WINDOW,
} from '../wire/tcp.ts';
import { TCP_SYN_RECV, TCP_SYN_SENT } from './netfilter-states.ts';

export const W_END = 1;
export const W_MAXEND = 2;
export const W_MAXWIN = 3;
export const W_MAXACK = 4;
export const W_FLAGS = 5;
/** Of the original direction's words. */
export const W_LAST_SEQ = 6;
export const W_LAST_ACK = 7;
/** Of the reply direction's words. */
export const W_LAST_END = 6;
export const W_LAST = 7;

export const WINDOW_SCALE = 1;
export const WINDOW_SACK = 2;
/** This end was the first to close. */
export const WINDOW_CLOSE_INIT = 4;
/** The connection was picked up in its middle: its scale is unknown. */
export const WINDOW_LIBERAL = 8;
/** Data that nobody has acknowledged. */
export const WINDOW_UNACKED = 16;
/** maxack is known. */
export const WINDOW_MAXACK = 32;
const FLAG_BITS = 0xff;
const SCALE_SHIFT = 8;

const LAST_WIN_BITS = 0xffff;
const LAST_KIND_SHIFT = 16;
const LAST_REPLY = 1 << 19;
const LAST_RETRANS_SHIFT = 20;
const LAST_SCALE_SHIFT = 22;
const LAST_FLAGS_SHIFT = 26;
/** The ignored SYN's options, as WINDOW_SCALE and WINDOW_SACK. */
export const LAST_SCALE = WINDOW_SCALE << LAST_FLAGS_SHIFT;
export const LAST_SACK = WINDOW_SACK << LAST_FLAGS_SHIFT;
/** The ignored SYN may be answered by a challenge (RFC 5961), which must not be taken for the last ACK. */
export const LAST_CHALLENGE = 1 << 28;
/** Both ends sent a SYN. */
export const LAST_SIMULTANEOUS = 1 << 29;

/** nf_conntrack_tcp_max_retrans: so many repetitions of one segment shorten the connection's life. */
export const MAX_RETRANS = 3;

const MAX_ACK_WINDOW = 66_000;
const MAX_SCALE = 14;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_WINDOW = 3;
const OPTION_SACK_PERMITTED = 4;
const OPTION_SACK = 5;

// Answers of `checkWindow`.
export const WINDOW_FITS = 0;
export const WINDOW_IGNORED = 1;
export const WINDOW_INVALID = 2;

/** True if `a` comes before `b` on the circle of sequence numbers. */
export function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Sequence number behind the segment: SYN and FIN take one each. */
export function segmentEnd(b: Burst, s: number): number {
  const l4 = b.l4[s];
  const flags = b.info[s];
  const data = b.end[s] - l4 - getTcpHeaderBytes(b.view, l4);
  return (b.view.getInt32(l4 + TCP_SEQ) + data + ((flags & TCP_SYN) >>> 1) + (flags & TCP_FIN)) | 0;
}

// ---- the last segment -------------------------------------------------------------------------------------------

/** Kind (SEGMENT_… of netfilter-tcp.ts) of the last segment that counted. */
export function lastKind(words: Int32Array, rep: number): number {
  return (words[rep + W_LAST] >>> LAST_KIND_SHIFT) & 7;
}

/** 1 if the last segment that counted was of the reply direction. */
export function lastReply(words: Int32Array, rep: number): number {
  return (words[rep + W_LAST] & LAST_REPLY) === 0 ? 0 : 1;
}

/** Window of the last plain ACK or ignored segment, unscaled. */
export function lastWindow(words: Int32Array, rep: number): number {
  return words[rep + W_LAST] & LAST_WIN_BITS;
}

export function lastRetrans(words: Int32Array, rep: number): number {
  return (words[rep + W_LAST] >>> LAST_RETRANS_SHIFT) & 3;
}

/** Scale that the ignored SYN offered. */
export function lastScale(words: Int32Array, rep: number): number {
  return (words[rep + W_LAST] >>> LAST_SCALE_SHIFT) & 15;
}

export function setLastKind(words: Int32Array, rep: number, kind: number, reply: number): void {
  const kept = words[rep + W_LAST] & ~((7 << LAST_KIND_SHIFT) | LAST_REPLY);
  words[rep + W_LAST] = kept | (kind << LAST_KIND_SHIFT) | (reply === 0 ? 0 : LAST_REPLY);
}

export function setLastWindow(words: Int32Array, rep: number, win: number): void {
  words[rep + W_LAST] = (words[rep + W_LAST] & ~LAST_WIN_BITS) | win;
}

/** Notes the options of an ignored SYN. */
export function setLastOptions(words: Int32Array, rep: number, options: number, challenge: boolean): void {
  const kept = words[rep + W_LAST] & ~((15 << LAST_SCALE_SHIFT) | (15 << LAST_FLAGS_SHIFT));
  const flags = (options & (WINDOW_SCALE | WINDOW_SACK)) << LAST_FLAGS_SHIFT;
  const scale = (options & WINDOW_SCALE) === 0 ? 0 : options >>> SCALE_SHIFT;
  words[rep + W_LAST] = kept | flags | (scale << LAST_SCALE_SHIFT) | (challenge ? LAST_CHALLENGE : 0);
}

function setRetrans(words: Int32Array, rep: number, count: number): void {
  words[rep + W_LAST] = (words[rep + W_LAST] & ~(3 << LAST_RETRANS_SHIFT)) | (count << LAST_RETRANS_SHIFT);
}

// ---- beginning --------------------------------------------------------------------------------------------------

/**
 * What the first segment of a connection tells.
 * @param pickedUp true for a segment other than SYN: the connection's history is lost
 * @param none kind that stands for no last segment
 */
export function beginWindow(
  words: Int32Array,
  orig: number,
  rep: number,
  b: Burst,
  s: number,
  pickedUp: boolean,
  none: number,
): void {
  for (let i = 1; i <= W_LAST; i++) {
    words[orig + i] = 0;
    words[rep + i] = 0;
  }
  const end = segmentEnd(b, s);
  const win = b.view.getUint16(b.l4[s] + TCP_WINDOW);
  const maxwin = win === 0 ? 1 : win;
  words[orig + W_END] = end;
  words[orig + W_MAXWIN] = maxwin;
  words[orig + W_MAXEND] = pickedUp ? (end + maxwin) | 0 : end;
  if (pickedUp) {
    words[orig + W_FLAGS] = WINDOW_SACK | WINDOW_LIBERAL;
    words[rep + W_FLAGS] = WINDOW_SACK | WINDOW_LIBERAL;
  } else words[orig + W_FLAGS] = readOptions(b, s, 0);
  setLastKind(words, rep, none, 0);
}

/** The direction forgets its numbers: its next segment starts it anew. */
export function resetWindow(words: Int32Array, at: number): void {
  words[at + W_END] = 0;
  words[at + W_MAXEND] = 0;
  words[at + W_MAXWIN] = 0;
  words[at + W_MAXACK] = 0;
  words[at + W_FLAGS] &= WINDOW_LIBERAL;
}

/** A SYN or SYN/ACK says where its sender starts. */
function beginSender(
  words: Int32Array,
  sender: number,
  receiver: number,
  reply: number,
  end: number,
  win: number,
  b: Burst,
  s: number,
): void {
  words[sender + W_END] = end;
  words[sender + W_MAXEND] = end;
  words[sender + W_MAXWIN] = win === 0 ? 1 : win;
  words[sender + W_FLAGS] = readOptions(b, s, words[sender + W_FLAGS]);
  // RFC 7323 §2.2: windows are scaled only where both ends said so.
  if (reply !== 0 && (words[sender + W_FLAGS] & words[receiver + W_FLAGS] & WINDOW_SCALE) === 0) {
    words[sender + W_FLAGS] &= FLAG_BITS;
    words[receiver + W_FLAGS] &= FLAG_BITS;
  }
}

// ---- the check --------------------------------------------------------------------------------------------------

/**
 * Judges a segment and learns from it.
 * @param sender,receiver where the words of its direction and of the other one begin
 * @param orig,rep the same two by direction
 * @param reply 1 in the reply direction
 * @param isAck true for a plain ACK, whose repetitions count
 * @param state of the connection before the segment
 * @param liberal nf_conntrack_tcp_be_liberal
 * @returns WINDOW_FITS, WINDOW_IGNORED or WINDOW_INVALID
 */
export function checkWindow(
  words: Int32Array,
  sender: number,
  receiver: number,
  orig: number,
  rep: number,
  reply: number,
  isAck: boolean,
  state: number,
  liberal: boolean,
  b: Burst,
  s: number,
): number {
  const view = b.view;
  const l4 = b.l4[s];
  const flags = b.info[s];
  const rawWindow = view.getUint16(l4 + TCP_WINDOW);
  let seq = view.getInt32(l4 + TCP_SEQ);
  let ack = view.getInt32(l4 + TCP_ACK_SEQ);
  let end = segmentEnd(b, s);
  let sack = (words[receiver + W_FLAGS] & WINDOW_SACK) === 0 ? ack : highestSack(b, s, ack);
  const isSyn = (flags & TCP_SYN) !== 0;
  const hasAck = (flags & TCP_ACK) !== 0;

  if (words[sender + W_MAXWIN] === 0) {
    if (isSyn) {
      beginSender(words, sender, receiver, reply, end, rawWindow, b, s);
      if (!hasAck) return WINDOW_FITS;
    } else {
      const scaled = rawWindow << (words[sender + W_FLAGS] >>> SCALE_SHIFT);
      words[sender + W_END] = end;
      words[sender + W_MAXWIN] = scaled === 0 ? 1 : scaled;
      words[sender + W_MAXEND] = end + words[sender + W_MAXWIN];
      if (words[receiver + W_MAXWIN] === 0) {
        words[receiver + W_END] = sack;
        words[receiver + W_MAXEND] = sack;
      } else if (sack === ((words[receiver + W_END] + 1) | 0)) {
        // Most likely the answer to a keep-alive, which carries one byte that was sent before.
        words[receiver + W_END]++;
      }
    }
  } else if (isSyn && isBefore(words[sender + W_END], end) && (state === TCP_SYN_SENT || state === TCP_SYN_RECV)) {
    beginSender(words, sender, receiver, reply, end, rawWindow, b, s);
    if (reply !== 0 && !hasAck) return WINDOW_FITS;
  }

  // Without ACK, or with the ACK of 0 that some stacks send with RST, there is nothing to compare.
  if (!hasAck || (ack === 0 && (flags & TCP_RST) !== 0)) {
    ack = words[receiver + W_END];
    sack = ack;
  }
  if (seq === 0 && (flags & TCP_RST) !== 0 && state === TCP_SYN_SENT) {
    seq = words[sender + W_END];
    end = seq;
  }

  const passes = liberal || (words[sender + W_FLAGS] & WINDOW_LIBERAL) !== 0;
  const receiverWindow = words[receiver + W_MAXWIN];
  const isAckSeen = isBefore(sack, words[receiver + W_END] + 1);
  const isRecent = isBefore(words[sender + W_END] - receiverWindow - 1, end);
  const isAckRecent = isBefore(words[receiver + W_END] - ackWindow(words, sender) - 1, sack);
  if (!isBefore(seq, words[sender + W_MAXEND] + 1)) {
    const beyond = (end - words[sender + W_MAXEND] + 1) >>> 0;
    if (receiverWindow === 0 || !isRecent || !isAckRecent || !isAckSeen || beyond > receiverWindow >>> 0) {
      return passes ? WINDOW_FITS : WINDOW_INVALID;
    }
    // A sender that does not keep to the window: should the segment arrive, its ACK must not look like a wrong one.
    words[sender + W_END] = end;
    words[sender + W_FLAGS] |= WINDOW_UNACKED;
    return passes ? WINDOW_FITS : WINDOW_IGNORED;
  }
  if (!isAckSeen) return passes ? WINDOW_FITS : WINDOW_INVALID;
  if ((receiverWindow !== 0 && !isRecent) || !isAckRecent) return passes ? WINDOW_FITS : WINDOW_IGNORED;

  learn(
    words,
    sender,
    receiver,
    ack,
    sack,
    end,
    isSyn ? rawWindow : rawWindow << (words[sender + W_FLAGS] >>> SCALE_SHIFT),
    hasAck,
  );
  if (isAck) countRepetition(words, orig, rep, reply, seq, ack, end, rawWindow);
  return WINDOW_FITS;
}

function ackWindow(words: Int32Array, sender: number): number {
  const maxwin = words[sender + W_MAXWIN];
  return maxwin >>> 0 > MAX_ACK_WINDOW ? maxwin : MAX_ACK_WINDOW;
}

/** Takes over what a fitting segment says. */
function learn(
  words: Int32Array,
  sender: number,
  receiver: number,
  ack: number,
  sack: number,
  end: number,
  win: number,
  hasAck: boolean,
): void {
  const seen = (win + (sack - ack)) | 0;
  if (words[sender + W_MAXWIN] >>> 0 < seen >>> 0) words[sender + W_MAXWIN] = seen;
  if (isBefore(words[sender + W_END], end)) {
    words[sender + W_END] = end;
    words[sender + W_FLAGS] |= WINDOW_UNACKED;
  }
  if (hasAck && ((words[sender + W_FLAGS] & WINDOW_MAXACK) === 0 || isBefore(words[sender + W_MAXACK], ack))) {
    words[sender + W_MAXACK] = ack;
    words[sender + W_FLAGS] |= WINDOW_MAXACK;
  }
  if (words[receiver + W_MAXWIN] !== 0 && isBefore(words[sender + W_MAXEND], end)) {
    words[receiver + W_MAXWIN] += end - words[sender + W_MAXEND];
  }
  const edge = (sack + win) | 0;
  if (isBefore(words[receiver + W_MAXEND] - 1, edge)) words[receiver + W_MAXEND] = win === 0 ? edge + 1 : edge;
  if (ack === words[receiver + W_END]) words[receiver + W_FLAGS] &= ~WINDOW_UNACKED;
}

function countRepetition(
  words: Int32Array,
  orig: number,
  rep: number,
  reply: number,
  seq: number,
  ack: number,
  end: number,
  win: number,
): void {
  const isSame =
    lastReply(words, rep) === reply &&
    words[orig + W_LAST_SEQ] === seq &&
    words[orig + W_LAST_ACK] === ack &&
    words[rep + W_LAST_END] === end &&
    lastWindow(words, rep) === win;
  if (isSame) {
    const count = lastRetrans(words, rep);
    if (count < MAX_RETRANS) setRetrans(words, rep, count + 1);
    return;
  }
  words[orig + W_LAST_SEQ] = seq;
  words[orig + W_LAST_ACK] = ack;
  words[rep + W_LAST_END] = end;
  setLastWindow(words, rep, win);
  setRetrans(words, rep, 0);
  setLastKind(words, rep, lastKind(words, rep), reply);
}

// ---- options ----------------------------------------------------------------------------------------------------

/**
 * Scale and flags that a SYN's options offer, `scale << 8 | flags`.
 * @param before the direction's own, which stand where the segment has no options at all
 */
export function readOptions(b: Burst, s: number, before: number): number {
  const view = b.view;
  let at = b.l4[s] + TCP_BYTES;
  const end = b.l4[s] + getTcpHeaderBytes(view, b.l4[s]);
  if (at === end) return before;
  let flags = before & WINDOW_LIBERAL;
  while (at < end) {
    const option = view.getUint8(at);
    if (option === OPTION_END) break;
    if (option === OPTION_NOP) {
      at++;
      continue;
    }
    if (end - at < 2) break;
    const size = view.getUint8(at + 1);
    if (size < 2 || size > end - at) break;
    if (option === OPTION_SACK_PERMITTED && size === 2) flags |= WINDOW_SACK;
    else if (option === OPTION_WINDOW && size === 3) {
      const scale = view.getUint8(at + 2);
      flags = (flags & FLAG_BITS) | WINDOW_SCALE | (Math.min(scale, MAX_SCALE) << SCALE_SHIFT);
    }
    at += size;
  }
  return flags;
}

/** The highest right edge of a selective acknowledgment, or `ack` where none is higher. */
function highestSack(b: Burst, s: number, ack: number): number {
  const view = b.view;
  let at = b.l4[s] + TCP_BYTES;
  const end = b.l4[s] + getTcpHeaderBytes(view, b.l4[s]);
  let highest = ack;
  while (at < end) {
    const option = view.getUint8(at);
    if (option === OPTION_END) break;
    if (option === OPTION_NOP) {
      at++;
      continue;
    }
    if (end - at < 2) break;
    const size = view.getUint8(at + 1);
    if (size < 2 || size > end - at) break;
    if (option === OPTION_SACK && size >= 10 && ((size - 2) & 7) === 0) {
      for (let block = at + 2; block < at + size; block += 8) {
        const edge = view.getInt32(block + 4);
        if (isBefore(highest, edge)) highest = edge;
      }
      break;
    }
    at += size;
  }
  return highest;
}
