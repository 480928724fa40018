/**
 * What an SCTP packet makes of its association, as netfilter's conntrack decides it (linux nf_conntrack_proto_sctp.c):
 * its chunks one by one, each with the packet's verification tag.
 *
 *  1. COOKIE-ECHO and COOKIE-ACK come first, INIT, INIT-ACK and SHUTDOWN-COMPLETE alone (RFC 9260 §6.10).
 *  2. No association begins with ABORT, SHUTDOWN-COMPLETE or COOKIE-ACK, nor with a chunk that changes no state.
 *  3. The tag has to be the one that its receiver announced. INIT carries 0; ABORT and SHUTDOWN-COMPLETE with the T bit
 *     carry the other end's; SHUTDOWN-ACK any. HEARTBEAT teaches a tag that is not known yet, and its answer confirms one
 *     that does not fit, which is how a second path is learnt.
 *  4. INIT and INIT-ACK announce tags. Of two INITs that cross, each INIT-ACK has to announce what its sender's INIT did.
 *
 * Memory: own words of the entry's slots (tables/conntrack-slots.ts), apart even where both directions are one slot:
 *
 *     original slot   +1 tag of packets in the original direction   +2 ASSOCIATION_… flags
 *     reply slot      +6 tag of packets in the reply direction
 *
 * Guarantees: nothing is read behind the packet. A packet that does not fit is INVALID; what chunks before the misfit
 * have changed stays, as in the kernel.
 */
import type { Burst } from '../wire/burst.ts';
import {
  SCTP_ABORT,
  SCTP_BYTES,
  SCTP_CHUNK_HEAD_BYTES,
  SCTP_CHUNK_LENGTH,
  SCTP_COOKIE_ACK,
  SCTP_COOKIE_ECHO,
  SCTP_DATA,
  SCTP_HEARTBEAT,
  SCTP_HEARTBEAT_ACK,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SHUTDOWN_ACK,
  SCTP_SHUTDOWN_COMPLETE,
  SCTP_TAG,
} from '../wire/sctp.ts';
import { SCTP_INVALID, sctpTransition } from './netfilter-sctp.ts';
import { SCTP_CLOSED, SCTP_NONE } from './netfilter-states.ts';

/** Answer bits of `judgeAssociation`, beside the state. */
export const SCTP_STATE_BITS = 15;
/** The packet is INVALID. */
export const SCTP_MISFIT = 16;
/** It passes and prolongs nothing. */
export const SCTP_KEEPS_TIME = 32;

const TAG_ORIGINAL = 1;
const FLAGS = 2;
const TAG_REPLY = 6;

const ASSOCIATION_INIT_ORIGINAL = 1;
const ASSOCIATION_INIT_REPLY = 2;
const ASSOCIATION_HEARTBEAT_FAILED = 4;
const ASSOCIATION_LAST_REPLY = 8;

/** Chunk flag: the tag is the other end's own. */
const CHUNK_T = 1;
/** Fixed parameters of INIT and INIT-ACK: the tag that they announce, window, streams, TSN. */
const INIT_BYTES = 16;

const BEGINS_NOTHING = (1 << SCTP_ABORT) | (1 << SCTP_SHUTDOWN_COMPLETE) | (1 << SCTP_COOKIE_ACK);
/** Chunks whose tags have rules of their own. */
const OWN_TAG_RULE =
  (1 << SCTP_INIT) |
  (1 << SCTP_SHUTDOWN_COMPLETE) |
  (1 << SCTP_COOKIE_ECHO) |
  (1 << SCTP_ABORT) |
  (1 << SCTP_SHUTDOWN_ACK) |
  (1 << SCTP_HEARTBEAT) |
  (1 << SCTP_HEARTBEAT_ACK);

/**
 * Judges a packet and notes what it tells.
 * @param words where the own words are; `orig` and `rep` the places of both directions'
 * @param reply 1 for a packet of the reply direction, else 0
 * @param old state of the association; SCTP_NONE: the packet begins one
 * @returns the new state with SCTP_MISFIT or SCTP_KEEPS_TIME
 */
export function judgeAssociation(
  words: Int32Array,
  orig: number,
  rep: number,
  reply: number,
  old: number,
  b: Burst,
  s: number,
): number {
  const chunks = listChunks(b, s);
  if (chunks === MALFORMED) return old | SCTP_MISFIT;
  const view = b.view;
  const tag = view.getInt32(b.l4[s] + SCTP_TAG);
  if (old === SCTP_NONE && (chunks & BEGINS_NOTHING) !== 0) return old | SCTP_MISFIT;
  if (old === SCTP_NONE && !beginAssociation(words, orig, rep, tag, b, s)) return old | SCTP_MISFIT;
  const expected = reply === 0 ? orig + TAG_ORIGINAL : rep + TAG_REPLY;
  const announced = reply === 0 ? rep + TAG_REPLY : orig + TAG_ORIGINAL;
  if ((chunks & OWN_TAG_RULE) === 0 && tag !== words[expected]) return old | SCTP_MISFIT;
  let state = old;
  let kept = 0;
  for (let at = b.l4[s] + SCTP_BYTES; at + SCTP_CHUNK_HEAD_BYTES <= b.end[s]; at += chunkSpan(view, at)) {
    const type = view.getUint8(at);
    switch (type) {
      case SCTP_INIT:
        if (tag !== 0) return state | SCTP_MISFIT;
        break;
      case SCTP_ABORT:
      case SCTP_SHUTDOWN_COMPLETE:
        if (tag !== words[(view.getUint8(at + 1) & CHUNK_T) === 0 ? expected : announced]) return state | SCTP_MISFIT;
        break;
      case SCTP_COOKIE_ECHO:
        if (tag !== words[expected]) return state | SCTP_MISFIT;
        break;
      case SCTP_COOKIE_ACK:
        words[orig + FLAGS] &= ~(ASSOCIATION_INIT_ORIGINAL | ASSOCIATION_INIT_REPLY);
        break;
      case SCTP_HEARTBEAT:
      case SCTP_HEARTBEAT_ACK: {
        const mayLearn = kept === 0 && (chunks & (1 << SCTP_DATA)) === 0;
        const heard = judgeHeartbeat(words, orig, expected, announced, reply, type, tag, mayLearn);
        if (heard === HEARTBEAT_MISFITS) return state | SCTP_MISFIT;
        if (heard === HEARTBEAT_FITS) break;
        kept = SCTP_KEEPS_TIME;
        continue;
      }
    }
    const next = sctpTransition(reply, type, state);
    if (next === SCTP_INVALID) return state | SCTP_MISFIT;
    if (type === SCTP_INIT || type === SCTP_INIT_ACK) {
      if (at + SCTP_CHUNK_HEAD_BYTES + INIT_BYTES > b.end[s]) return state | SCTP_MISFIT;
      const own = view.getInt32(at + SCTP_CHUNK_HEAD_BYTES);
      if (type === SCTP_INIT) {
        noteInit(words, orig, reply);
        // A repeated INIT must not keep a closed association's entry, and its translation, for ever.
        if (old !== SCTP_NONE && next === SCTP_CLOSED && state === SCTP_CLOSED) kept = SCTP_KEEPS_TIME;
      } else if (!mayAnnounce(words[orig + FLAGS], words[announced], reply, own)) return state | SCTP_MISFIT;
      words[announced] = own;
    }
    state = next;
  }
  return state | kept;
}

const HEARTBEAT_FITS = 0;
/** Its tag is not the known one: it passes, changes no state, and waits for its answer. */
const HEARTBEAT_WAITS = 1;
const HEARTBEAT_MISFITS = 2;

/** Rule 3 for HEARTBEAT and HEARTBEAT-ACK; `mayLearn` is false where the packet has a misfit already, or data. */
function judgeHeartbeat(
  words: Int32Array,
  orig: number,
  expected: number,
  announced: number,
  reply: number,
  type: number,
  tag: number,
  mayLearn: boolean,
): number {
  const flags = words[orig + FLAGS];
  if (words[expected] === 0) {
    words[expected] = tag;
    return HEARTBEAT_FITS;
  }
  if (tag === words[expected]) {
    words[orig + FLAGS] = flags & ~ASSOCIATION_HEARTBEAT_FAILED;
    return HEARTBEAT_FITS;
  }
  if (!mayLearn) return HEARTBEAT_MISFITS;
  if (type === SCTP_HEARTBEAT) {
    const last = reply === 0 ? 0 : ASSOCIATION_LAST_REPLY;
    words[orig + FLAGS] = (flags & ~ASSOCIATION_LAST_REPLY) | ASSOCIATION_HEARTBEAT_FAILED | last;
    return HEARTBEAT_WAITS;
  }
  const last = (flags & ASSOCIATION_LAST_REPLY) === 0 ? 0 : 1;
  if ((flags & ASSOCIATION_HEARTBEAT_FAILED) === 0 || last === reply) return HEARTBEAT_MISFITS;
  words[orig + FLAGS] = flags & ~ASSOCIATION_HEARTBEAT_FAILED;
  words[expected] = tag;
  words[announced] = 0;
  return HEARTBEAT_FITS;
}

const MALFORMED = -1;

/** The types of the packet's chunks below 32, a bit each; MALFORMED where they may not stand together. */
function listChunks(b: Burst, s: number): number {
  const view = b.view;
  let types = 0;
  let count = 0;
  let isAlone = false;
  for (let at = b.l4[s] + SCTP_BYTES; at + SCTP_CHUNK_HEAD_BYTES <= b.end[s]; at += chunkSpan(view, at)) {
    const type = view.getUint8(at);
    if (type === SCTP_INIT || type === SCTP_INIT_ACK || type === SCTP_SHUTDOWN_COMPLETE) isAlone = true;
    const isFirst = isAlone || type === SCTP_COOKIE_ACK || type === SCTP_COOKIE_ECHO;
    if ((isFirst && count !== 0) || view.getUint16(at + SCTP_CHUNK_LENGTH) === 0) return MALFORMED;
    if (type < 32) types |= 1 << type;
    count++;
  }
  return count === 0 ? MALFORMED : types;
}

/** Bytes to the next chunk; the length is not 0 (`listChunks`). */
function chunkSpan(view: DataView, at: number): number {
  return (view.getUint16(at + SCTP_CHUNK_LENGTH) + 3) & ~3;
}

/** Notes the tags that a first packet tells; false if no association begins so. */
function beginAssociation(words: Int32Array, orig: number, rep: number, tag: number, b: Burst, s: number): boolean {
  const view = b.view;
  words[orig + TAG_ORIGINAL] = 0;
  words[orig + FLAGS] = 0;
  words[rep + TAG_REPLY] = 0;
  for (let at = b.l4[s] + SCTP_BYTES; at + SCTP_CHUNK_HEAD_BYTES <= b.end[s]; at += chunkSpan(view, at)) {
    const type = view.getUint8(at);
    const next = sctpTransition(0, type, SCTP_NONE);
    if (next === SCTP_NONE || next === SCTP_INVALID) return false;
    if (type === SCTP_INIT) {
      if (tag !== 0 || at + SCTP_CHUNK_HEAD_BYTES + INIT_BYTES > b.end[s]) return false;
      words[rep + TAG_REPLY] = view.getInt32(at + SCTP_CHUNK_HEAD_BYTES);
    } else if (type === SCTP_HEARTBEAT) words[orig + TAG_ORIGINAL] = tag;
    else words[rep + TAG_REPLY] = tag;
  }
  return true;
}

function noteInit(words: Int32Array, orig: number, reply: number): void {
  const both = ASSOCIATION_INIT_ORIGINAL | ASSOCIATION_INIT_REPLY;
  const own = reply === 0 ? ASSOCIATION_INIT_ORIGINAL : ASSOCIATION_INIT_REPLY;
  let flags = words[orig + FLAGS];
  if ((flags & both) === both) flags &= ~both;
  words[orig + FLAGS] = flags | own;
}

/** True if an INIT-ACK of this direction may announce the tag, given the one that is known. */
function mayAnnounce(flags: number, known: number, reply: number, announced: number): boolean {
  const both = ASSOCIATION_INIT_ORIGINAL | ASSOCIATION_INIT_REPLY;
  const other = reply === 0 ? ASSOCIATION_INIT_REPLY : ASSOCIATION_INIT_ORIGINAL;
  if (known === announced) return true;
  if ((flags & other) === 0 && known !== 0) return false;
  return (flags & both) !== both;
}
