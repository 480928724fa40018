/**
 * What a TCP segment makes of its connection, as netfilter's conntrack decides it (linux nf_conntrack_tcp_packet): the
 * state table first, then the segments whose effect depends on what went before, then the window.
 *
 *  1. A SYN on what is over (TIME_WAIT, CLOSE) begins a new connection if an end had closed, or reset, the old one.
 *  2. Another SYN that does not fit, a repeated SYN/ACK and the ACK that answers an ignored SYN pass without effect, and
 *     are remembered: the receiver knows better, and what it answers tells. A SYN/ACK that acknowledges the ignored SYN
 *     puts conntrack right; an RST that does so ends the entry.
 *  3. An ACK that answers a SYN in LAST_ACK is a challenge (RFC 5961), not the last ACK.
 *  4. An RST must not be older than what its receiver has acknowledged; one that is newer but not exact leaves an
 *     established connection in its state.
 *  5. Everything else must fit the window.
 */
import { CT_ASSURED, CT_SEEN_REPLY } from '../tables/conntrack.ts';
import type { Burst } from '../wire/burst.ts';
import { TCP_ACK_SEQ, TCP_SEQ, TCP_WINDOW } from '../wire/tcp.ts';
import {
  TCP_CLOSE,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  TCP_LAST_ACK,
  TCP_LIFE_MS,
  TCP_RETRANS_MS,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_SYN_SENT2,
  TCP_TIME_WAIT,
  TCP_UNACKNOWLEDGED_MS,
} from './netfilter-states.ts';
import {
  SEGMENT_ACK,
  SEGMENT_RST,
  SEGMENT_SYN,
  SEGMENT_SYNACK,
  TCP_IGNORE,
  TCP_INVALID,
  tcpTransition,
} from './netfilter-tcp.ts';
import {
  checkWindow,
  isBefore,
  LAST_CHALLENGE,
  LAST_SACK,
  LAST_SCALE,
  LAST_SIMULTANEOUS,
  lastKind,
  lastReply,
  lastRetrans,
  lastScale,
  lastWindow,
  MAX_RETRANS,
  readOptions,
  resetWindow,
  segmentEnd,
  setLastKind,
  setLastOptions,
  setLastWindow,
  W_END,
  W_FLAGS,
  W_LAST,
  W_LAST_ACK,
  W_LAST_END,
  W_LAST_SEQ,
  W_MAXACK,
  W_MAXEND,
  W_MAXWIN,
  WINDOW_CLOSE_INIT,
  WINDOW_FITS,
  WINDOW_IGNORED,
  WINDOW_MAXACK,
  WINDOW_SACK,
  WINDOW_SCALE,
  WINDOW_UNACKED,
} from './netfilter-window.ts';

/** The entry is to be deleted and the segment looked at as the first of a new connection. */
export const TCP_REOPEN = 12;
/** INVALID for its numbers; a FIN or RST that both ends send so shortens the entry's life. */
export const TCP_OUT_OF_WINDOW = 13;

/**
 * Judges a segment and writes down what it tells (words as in netfilter-window.ts).
 * @param orig,rep where the words of the two directions begin; equal for a connection to itself, whose windows cannot
 *   be told apart and are not looked at
 * @param reply 1 in the reply direction
 * @param segment SEGMENT_…
 * @param old state before, TCP_NONE for a connection's first segment
 * @param flags CT_SEEN_REPLY and CT_ASSURED of the entry
 * @param liberal nf_conntrack_tcp_be_liberal
 * @returns the new state, TCP_IGNORE, TCP_INVALID, TCP_REOPEN or TCP_OUT_OF_WINDOW
 */
export function judgeSegment(
  words: Int32Array,
  orig: number,
  rep: number,
  reply: number,
  segment: number,
  old: number,
  flags: number,
  liberal: boolean,
  b: Burst,
  s: number,
): number {
  const sender = reply === 0 ? orig : rep;
  const receiver = reply === 0 ? rep : orig;
  let next = tcpTransition(reply, segment, old);
  let from = old;
  let mustFit = true;
  switch (next) {
    case TCP_SYN_SENT:
      if (old < TCP_TIME_WAIT) break;
      if (isOver(words, sender, receiver, rep, reply)) return TCP_REOPEN;
      next = TCP_IGNORE;
      break;
    case TCP_TIME_WAIT:
      if (old === TCP_LAST_ACK && segment === SEGMENT_ACK && isChallenge(words, rep, reply)) {
        words[rep + W_LAST] &= ~LAST_CHALLENGE;
        return TCP_IGNORE;
      }
      break;
    case TCP_SYN_SENT2:
      words[rep + W_LAST] |= LAST_SIMULTANEOUS;
      break;
    case TCP_SYN_RECV:
      // The ACK of a simultaneous open is the last of its handshake.
      if (reply === 1 && segment === SEGMENT_ACK && (words[rep + W_LAST] & LAST_SIMULTANEOUS) !== 0) {
        next = TCP_ESTABLISHED;
      }
      break;
    case TCP_CLOSE:
      if (segment !== SEGMENT_RST) break;
      next = judgeReset(words, orig, rep, receiver, reply, old, flags, b, s);
      if (next === TCP_INVALID) return next;
      mustFit = next >= 0;
      if (next === RESET_ENDS) next = TCP_CLOSE;
      break;
    case TCP_INVALID:
      return TCP_INVALID;
  }
  if (next === TCP_IGNORE) {
    if (!answersIgnoredSyn(words, rep, reply, segment, b, s)) {
      noteIgnored(words, orig, rep, reply, segment, old, b, s);
      return TCP_IGNORE;
    }
    resynchronise(words, orig, rep, sender);
    from = TCP_SYN_SENT;
    next = TCP_SYN_RECV;
  }
  if (mustFit && orig !== rep) {
    const fit = checkWindow(words, sender, receiver, orig, rep, reply, segment === SEGMENT_ACK, old, liberal, b, s);
    if (fit === WINDOW_IGNORED) return TCP_IGNORE;
    if (fit !== WINDOW_FITS) return TCP_OUT_OF_WINDOW;
  }
  setLastKind(words, rep, segment, reply);
  if (from !== next && next === TCP_FIN_WAIT) words[sender + W_FLAGS] |= WINDOW_CLOSE_INIT;
  return next;
}

/**
 * How long the connection lives after a segment that fitted, in ms: its state's time, less where an end seems to be gone.
 */
export function segmentLife(words: Int32Array, orig: number, rep: number, segment: number, state: number): number {
  const life = TCP_LIFE_MS[state];
  if (lastRetrans(words, rep) >= MAX_RETRANS && life > TCP_RETRANS_MS) return TCP_RETRANS_MS;
  if (segment === SEGMENT_RST) return TCP_LIFE_MS[TCP_CLOSE];
  const unacked = ((words[orig + W_FLAGS] | words[rep + W_FLAGS]) & WINDOW_UNACKED) !== 0;
  if (unacked && life > TCP_UNACKNOWLEDGED_MS) return TCP_UNACKNOWLEDGED_MS;
  return lastWindow(words, rep) === 0 && orig !== rep && life > TCP_RETRANS_MS ? TCP_RETRANS_MS : life;
}

/** Rule 1: an end closed the connection, or the sender of this SYN has just reset it. */
function isOver(words: Int32Array, sender: number, receiver: number, rep: number, reply: number): boolean {
  if (((words[sender + W_FLAGS] | words[receiver + W_FLAGS]) & WINDOW_CLOSE_INIT) !== 0) return true;
  return lastReply(words, rep) === reply && lastKind(words, rep) === SEGMENT_RST;
}

/** Rule 3. */
function isChallenge(words: Int32Array, rep: number, reply: number): boolean {
  const expected = (words[rep + W_LAST] & LAST_CHALLENGE) !== 0;
  return expected && lastReply(words, rep) !== reply && lastKind(words, rep) === SEGMENT_SYN;
}

// ---- rule 2: ignored segments -----------------------------------------------------------------------------------

function answersIgnoredSyn(
  words: Int32Array,
  rep: number,
  reply: number,
  segment: number,
  b: Burst,
  s: number,
): boolean {
  if (segment !== SEGMENT_SYNACK || lastKind(words, rep) !== SEGMENT_SYN || lastReply(words, rep) === reply)
    return false;
  return b.view.getInt32(b.l4[s] + TCP_ACK_SEQ) === words[rep + W_LAST_END];
}

/** Takes the ignored SYN for the connection's first segment after all. */
function resynchronise(words: Int32Array, orig: number, rep: number, sender: number): void {
  const other = sender === orig ? rep : orig;
  const win = lastWindow(words, rep);
  const last = words[rep + W_LAST];
  words[other + W_END] = words[rep + W_LAST_END];
  words[other + W_MAXEND] = words[rep + W_LAST_END];
  words[other + W_MAXWIN] = win === 0 ? 1 : win;
  words[other + W_FLAGS] =
    ((last & LAST_SCALE) === 0 ? 0 : WINDOW_SCALE) |
    ((last & LAST_SACK) === 0 ? 0 : WINDOW_SACK) |
    (lastScale(words, rep) << 8);
  words[rep + W_LAST] &= ~LAST_CHALLENGE;
  resetWindow(words, sender);
}

function noteIgnored(
  words: Int32Array,
  orig: number,
  rep: number,
  reply: number,
  segment: number,
  old: number,
  b: Burst,
  s: number,
): void {
  const view = b.view;
  const l4 = b.l4[s];
  setLastKind(words, rep, segment, reply);
  words[orig + W_LAST_SEQ] = view.getInt32(l4 + TCP_SEQ);
  words[rep + W_LAST_END] = segmentEnd(b, s);
  setLastWindow(words, rep, view.getUint16(l4 + TCP_WINDOW));
  if (segment === SEGMENT_SYN && reply === 0) setLastOptions(words, rep, readOptions(b, s, 0), old === TCP_LAST_ACK);
  if (segment === SEGMENT_ACK && reply === 1 && old === TCP_SYN_SENT) {
    words[orig + W_LAST_ACK] = view.getInt32(l4 + TCP_ACK_SEQ);
  }
}

// ---- rule 4: resets ---------------------------------------------------------------------------------------------

/** Answer of `judgeReset`: the connection closes, whatever the window says. */
const RESET_ENDS = -1;

/** TCP_INVALID, RESET_ENDS, or the state that the reset leads to if it fits the window. */
function judgeReset(
  words: Int32Array,
  orig: number,
  rep: number,
  receiver: number,
  reply: number,
  old: number,
  flags: number,
  b: Burst,
  s: number,
): number {
  // In a closing connection the tuple may be in use again: what is remembered is of no use.
  if (old >= TCP_FIN_WAIT && old <= TCP_CLOSE) return RESET_ENDS;
  const seq = b.view.getInt32(b.l4[s] + TCP_SEQ);
  const kind = lastKind(words, rep);
  const isEstablished = old === TCP_ESTABLISHED && (flags & CT_ASSURED) !== 0;
  let next = TCP_CLOSE;
  if (orig !== rep && (words[receiver + W_FLAGS] & WINDOW_MAXACK) !== 0 && kind !== SEGMENT_SYN) {
    const acknowledged = words[receiver + W_MAXACK];
    if (seq === 0 && !isEstablished) return TCP_CLOSE;
    if (isBefore(seq, acknowledged)) return TCP_INVALID;
    if (!isEstablished || seq === acknowledged) return TCP_CLOSE;
    // The reset that follows data of its own sender at once.
    if (kind === SEGMENT_ACK && lastReply(words, rep) === reply && seq === words[rep + W_LAST_END]) return TCP_CLOSE;
    next = old;
  }
  const answersSyn = (flags & CT_SEEN_REPLY) !== 0 && kind === SEGMENT_SYN && lastReply(words, rep) !== reply;
  const answersAck = (flags & CT_ASSURED) === 0 && kind === SEGMENT_ACK;
  if ((answersSyn || answersAck) && b.view.getInt32(b.l4[s] + TCP_ACK_SEQ) === words[rep + W_LAST_END]) {
    return RESET_ENDS;
  }
  if (old === TCP_SYN_SENT && kind === SEGMENT_ACK && lastReply(words, rep) === 1 && seq === words[orig + W_LAST_ACK]) {
    return RESET_ENDS;
  }
  return next;
}
