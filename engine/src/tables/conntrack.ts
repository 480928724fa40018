/**
 * Connection tracking: both directions of every flow, found by the tuple that a packet carries.
 *
 * The memory is drawn in conntrack-slots.ts. What to know here:
 * - A slot is a word offset in `ct.words`, one direction of a flow, and **a position only until the next insert, remove,
 *   sweep, eviction or clear in its shard**. Finding never moves or frees anything.
 * - The x… fields are the tuple that a packet of this direction carries after translation.
 * - A flow has expired when both its directions have: it is a miss, holds no tuple, and an insert may take its place.
 *   A packet prolongs its own direction (`ctTouch`); a state with a shorter life must be written to both.
 * - State and flags are equal in both directions; the table knows nothing of their meaning.
 * - Each direction may have own words (`ctOwn`), of which the first is the connection's mark and the rest are a program's:
 *   they are 0 in a new flow and move with their slot.
 * - A table refuses at the limit of a shard. Whom to throw out is the mode's choice (conntrack-aging.ts).
 * - A flow that is its own reverse (source = target with one port, or an echo to oneself) has one slot, its own peer.
 */
import {
  CONTROL_FLOWS,
  CONTROL_WORDS,
  type Conntrack,
  CT_FLOW_FLAGS,
  CT_REPLY,
  CT_USED,
  closeSlot,
  ctPeer,
  EXPIRY4,
  EXPIRY6,
  FLAGS_MASK,
  freeSlot,
  hash4,
  hash6,
  locate4,
  locate6,
  META4,
  PROTO_SHIFT,
  STATE_MASK,
  STATE_SHIFT,
  swapPorts,
  ZONE_SHIFT,
} from './conntrack-slots.ts';

// One address for callers: the layout is a file of its own only for its length.
export {
  attachConntrack,
  type Conntrack,
  CT_ASSURED,
  CT_MODE_1,
  CT_MODE_2,
  CT_MODE_3,
  CT_OWN_WORDS,
  CT_REPLY,
  CT_SEEN_REPLY,
  CT_USED,
  createConntrack,
  ctPeer,
} from './conntrack-slots.ts';

/** Own word of a slot that holds the connection's mark, equal in both directions; the others are the program's. */
const OWN_MARK = 0;

/** Answers of ctInsert: the shard is at its limit; one of the two tuples belongs to a living flow. */
export const CT_FULL = -1;
export const CT_CLASH = -2;

/** Zones are numbered from 0 to here, this excluded. */
export const CT_ZONES = 1 << 13;

/** Hash of an IPv4 tuple in a zone, for `ctFindHashed4` and conntrack-aging.ts. Signed 32-bit word. */
export function ctHash4(zone: number, proto: number, src: number, dst: number, ports: number): number {
  return hash4((zone << ZONE_SHIFT) | (proto << PROTO_SHIFT), src, dst, ports);
}

/** Hash of an IPv6 tuple in a zone. */
export function ctHash6(
  zone: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
): number {
  return hash6((zone << ZONE_SHIFT) | (proto << PROTO_SHIFT), s0, s1, s2, s3, d0, d1, d2, d3, ports);
}

/** Where the search for a hash begins, as a word offset: what to touch before many lookups. */
export function ctHome(ct: Conntrack, shard: number, hash: number): number {
  return ct.slotsAt + shard * ct.partitionWords + (hash & ct.mask) * ct.slotWords + ct.metaAt;
}

/** 1 if a direction of the flow of this slot has not expired at `nowMs`, else 0. */
export function ctAlive(ct: Conntrack, shard: number, slot: number, nowMs: number): number {
  const words = ct.words;
  // The difference of two u32 as a signed word: right as long as they are less than 2^31 ms apart.
  if (((words[slot + ct.expiryAt] - nowMs) | 0) > 0) return 1;
  return ((words[ctPeer(ct, shard, slot) + ct.expiryAt] - nowMs) | 0) > 0 ? 1 : 0;
}

/** As `ctFind4`, with the hash that `ctHash4` gave for the same tuple. */
export function ctFindHashed4(
  ct: Conntrack,
  shard: number,
  hash: number,
  zone: number,
  proto: number,
  src: number,
  dst: number,
  ports: number,
  nowMs: number,
): number {
  const at = locate4(ct, shard, hash, (zone << ZONE_SHIFT) | (proto << PROTO_SHIFT), src, dst, ports);
  if (at === -1 || ((ct.words[at + EXPIRY4] - nowMs) | 0) > 0) return at;
  return ctAlive(ct, shard, at, nowMs) === 1 ? at : -1;
}

/** As `ctFind6`, with the hash that `ctHash6` gave for the same tuple. */
export function ctFindHashed6(
  ct: Conntrack,
  shard: number,
  hash: number,
  zone: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  nowMs: number,
): number {
  const key = (zone << ZONE_SHIFT) | (proto << PROTO_SHIFT);
  const at = locate6(ct, shard, hash, key, s0, s1, s2, s3, d0, d1, d2, d3, ports);
  if (at === -1 || ((ct.words[at + EXPIRY6] - nowMs) | 0) > 0) return at;
  return ctAlive(ct, shard, at, nowMs) === 1 ? at : -1;
}

/**
 * Finds the direction that a packet belongs to.
 * @param zone the node, 0 to CT_ZONES - 1
 * @param src,dst,ports as the lanes of a burst hold them; ports = sport << 16 | dport
 * @param nowMs virtual time
 * @returns the slot, a word offset in `ct.words`; -1 if there is no living flow
 */
export function ctFind4(
  ct: Conntrack,
  shard: number,
  zone: number,
  proto: number,
  src: number,
  dst: number,
  ports: number,
  nowMs: number,
): number {
  const hash = ctHash4(zone, proto, src, dst, ports);
  return ctFindHashed4(ct, shard, hash, zone, proto, src, dst, ports, nowMs);
}

/** IPv6 of `ctFind4`. */
export function ctFind6(
  ct: Conntrack,
  shard: number,
  zone: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  nowMs: number,
): number {
  const hash = ctHash6(zone, proto, s0, s1, s2, s3, d0, d1, d2, d3, ports);
  return ctFindHashed6(ct, shard, hash, zone, proto, s0, s1, s2, s3, d0, d1, d2, d3, ports, nowMs);
}

/** 1 if a living flow of the zone holds this tuple in either direction (a port that must not be given out), else 0. */
export function ctTaken4(
  ct: Conntrack,
  shard: number,
  zone: number,
  proto: number,
  src: number,
  dst: number,
  ports: number,
  nowMs: number,
): number {
  return ctFind4(ct, shard, zone, proto, src, dst, ports, nowMs) === -1 ? 0 : 1;
}

/** IPv6 of `ctTaken4`. */
export function ctTaken6(
  ct: Conntrack,
  shard: number,
  zone: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  nowMs: number,
): number {
  return ctFind6(ct, shard, zone, proto, s0, s1, s2, s3, d0, d1, d2, d3, ports, nowMs) === -1 ? 0 : 1;
}

// ---- changing ---------------------------------------------------------------------------------------------------

/**
 * Makes a flow: both directions, or nothing.
 * @param src,dst,ports the tuple as the first packet came
 * @param xsrc,xdst,xports the tuple as it leaves
 * @param state 0 to 15
 * @param flags CT_SEEN_REPLY, CT_ASSURED, CT_MODE_*
 * @param expiryMs virtual time at which both directions expire
 * @returns the slot of the original direction; CT_FULL; CT_CLASH if a living flow holds the tuple or its reply's
 */
export function ctInsert4(
  ct: Conntrack,
  shard: number,
  zone: number,
  proto: number,
  src: number,
  dst: number,
  ports: number,
  xsrc: number,
  xdst: number,
  xports: number,
  state: number,
  flags: number,
  expiryMs: number,
  nowMs: number,
): number {
  const words = ct.words;
  const key = (zone << ZONE_SHIFT) | (proto << PROTO_SHIFT);
  const hash = hash4(key, src, dst, ports);
  if (makeWay(ct, shard, locate4(ct, shard, hash, key, src, dst, ports), nowMs) === 0) return CT_CLASH;
  const replyPorts = swapPorts(xports);
  const replyHash = hash4(key, xdst, xsrc, replyPorts);
  if (makeWay(ct, shard, locate4(ct, shard, replyHash, key, xdst, xsrc, replyPorts), nowMs) === 0) return CT_CLASH;
  const flowsAt = ct.controlAt + shard * CONTROL_WORDS + CONTROL_FLOWS;
  if (words[flowsAt] >= ct.limit) return CT_FULL;
  words[flowsAt]++;

  const meta = key | (state << STATE_SHIFT) | (flags & CT_FLOW_FLAGS) | CT_USED;
  const at = freeSlot(ct, shard, hash);
  words[at] = src;
  words[at + 1] = dst;
  words[at + 2] = ports;
  words[at + META4] = meta;
  words[at + 4] = xsrc;
  words[at + 5] = xdst;
  words[at + 6] = xports;
  words[at + EXPIRY4] = expiryMs;
  if (((src ^ xdst) | (dst ^ xsrc) | (ports ^ replyPorts)) === 0) return at;
  const reply = freeSlot(ct, shard, replyHash);
  words[reply] = xdst;
  words[reply + 1] = xsrc;
  words[reply + 2] = replyPorts;
  words[reply + META4] = meta | CT_REPLY;
  words[reply + 4] = dst;
  words[reply + 5] = src;
  words[reply + 6] = swapPorts(ports);
  words[reply + EXPIRY4] = expiryMs;
  return at;
}

/** IPv6 of `ctInsert4`. */
export function ctInsert6(
  ct: Conntrack,
  shard: number,
  zone: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  xs0: number,
  xs1: number,
  xs2: number,
  xs3: number,
  xd0: number,
  xd1: number,
  xd2: number,
  xd3: number,
  xports: number,
  state: number,
  flags: number,
  expiryMs: number,
  nowMs: number,
): number {
  const key = (zone << ZONE_SHIFT) | (proto << PROTO_SHIFT);
  const hash = hash6(key, s0, s1, s2, s3, d0, d1, d2, d3, ports);
  const same = locate6(ct, shard, hash, key, s0, s1, s2, s3, d0, d1, d2, d3, ports);
  if (makeWay(ct, shard, same, nowMs) === 0) return CT_CLASH;
  const replyPorts = swapPorts(xports);
  const replyHash = hash6(key, xd0, xd1, xd2, xd3, xs0, xs1, xs2, xs3, replyPorts);
  const other = locate6(ct, shard, replyHash, key, xd0, xd1, xd2, xd3, xs0, xs1, xs2, xs3, replyPorts);
  if (makeWay(ct, shard, other, nowMs) === 0) return CT_CLASH;
  const flowsAt = ct.controlAt + shard * CONTROL_WORDS + CONTROL_FLOWS;
  if (ct.words[flowsAt] >= ct.limit) return CT_FULL;
  ct.words[flowsAt]++;

  const meta = key | (state << STATE_SHIFT) | (flags & CT_FLOW_FLAGS) | CT_USED;
  const at = freeSlot(ct, shard, hash);
  write6(ct.words, at, s0, s1, s2, s3, d0, d1, d2, d3, ports, meta);
  write6(ct.words, at + 10, xs0, xs1, xs2, xs3, xd0, xd1, xd2, xd3, xports, expiryMs);
  const source = (s0 ^ xd0) | (s1 ^ xd1) | (s2 ^ xd2) | (s3 ^ xd3);
  const destination = (d0 ^ xs0) | (d1 ^ xs1) | (d2 ^ xs2) | (d3 ^ xs3);
  if ((source | destination | (ports ^ replyPorts)) === 0) return at;
  const reply = freeSlot(ct, shard, replyHash);
  write6(ct.words, reply, xd0, xd1, xd2, xd3, xs0, xs1, xs2, xs3, replyPorts, meta | CT_REPLY);
  write6(ct.words, reply + 10, d0, d1, d2, d3, s0, s1, s2, s3, swapPorts(ports), expiryMs);
  return at;
}

/** Half an IPv6 slot: two addresses, ports, and the word behind them (meta or expiry). */
function write6(
  words: Int32Array,
  at: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  b0: number,
  b1: number,
  b2: number,
  b3: number,
  ports: number,
  last: number,
): void {
  words[at] = a0;
  words[at + 1] = a1;
  words[at + 2] = a2;
  words[at + 3] = a3;
  words[at + 4] = b0;
  words[at + 5] = b1;
  words[at + 6] = b2;
  words[at + 7] = b3;
  words[at + 8] = ports;
  words[at + 9] = last;
}

/** Frees a tuple that an expired flow still holds. 1 if the tuple is free now, 0 if its flow lives. */
function makeWay(ct: Conntrack, shard: number, slot: number, nowMs: number): number {
  if (slot === -1) return 1;
  if (ctAlive(ct, shard, slot, nowMs) === 1) return 0;
  ctRemove(ct, shard, slot);
  return 1;
}

/** Removes a flow, both directions. */
export function ctRemove(ct: Conntrack, shard: number, slot: number): void {
  const peer = ctPeer(ct, shard, slot);
  const moved = closeSlot(ct, shard, slot, peer);
  if (peer !== slot) closeSlot(ct, shard, moved, moved);
  ct.words[ct.controlAt + shard * CONTROL_WORDS + CONTROL_FLOWS]--;
}

/** Sets when this direction expires, in ms of virtual time. */
export function ctTouch(ct: Conntrack, slot: number, expiryMs: number): void {
  ct.words[slot + ct.expiryAt] = expiryMs;
}

/** Sets the state, 0 to 15, of both directions. */
export function ctSetState(ct: Conntrack, slot: number, peer: number, state: number): void {
  const words = ct.words;
  const metaAt = ct.metaAt;
  words[slot + metaAt] = (words[slot + metaAt] & ~STATE_MASK) | (state << STATE_SHIFT);
  words[peer + metaAt] = (words[peer + metaAt] & ~STATE_MASK) | (state << STATE_SHIFT);
}

/** Sets flags (CT_SEEN_REPLY, CT_ASSURED, CT_MODE_*) in both directions; those already set stay. */
export function ctSetFlags(ct: Conntrack, slot: number, peer: number, flags: number): void {
  const words = ct.words;
  words[slot + ct.metaAt] |= flags & CT_FLOW_FLAGS;
  words[peer + ct.metaAt] |= flags & CT_FLOW_FLAGS;
}

/** Sets the connection's mark (CONNMARK, `ct mark`) in both directions; the table must have own words. */
export function ctSetMark(ct: Conntrack, slot: number, peer: number, mark: number): void {
  ct.words[slot + ct.ownAt + OWN_MARK] = mark;
  ct.words[peer + ct.ownAt + OWN_MARK] = mark;
}

/** Forgets everything; shards without flows cost nothing. Only while no other thread uses the table. */
export function ctClear(ct: Conntrack): void {
  for (let shard = 0; shard < ct.shards; shard++) {
    const control = ct.controlAt + shard * CONTROL_WORDS;
    const first = ct.slotsAt + shard * ct.partitionWords;
    if (ct.words[control + CONTROL_FLOWS] !== 0) ct.words.fill(0, first, first + ct.partitionWords);
    ct.words.fill(0, control, control + CONTROL_WORDS);
  }
}

// ---- reading ----------------------------------------------------------------------------------------------------

export function ctState(ct: Conntrack, slot: number): number {
  return (ct.words[slot + ct.metaAt] & STATE_MASK) >>> STATE_SHIFT;
}

export function ctFlags(ct: Conntrack, slot: number): number {
  return ct.words[slot + ct.metaAt] & FLAGS_MASK;
}

export function ctZone(ct: Conntrack, slot: number): number {
  return ct.words[slot + ct.metaAt] >>> ZONE_SHIFT;
}

export function ctProto(ct: Conntrack, slot: number): number {
  return (ct.words[slot + ct.metaAt] >>> PROTO_SHIFT) & 255;
}

/** Virtual time, u32 ms, at which this direction expires. */
export function ctExpiry(ct: Conntrack, slot: number): number {
  return ct.words[slot + ct.expiryAt] >>> 0;
}

/** Word `i` of the source address before translation; IPv4: i = 0. */
export function ctSrc(ct: Conntrack, slot: number, i: number): number {
  return ct.words[slot + i];
}

export function ctDst(ct: Conntrack, slot: number, i: number): number {
  return ct.words[slot + ct.addressWords + i];
}

/** sport << 16 | dport before translation. */
export function ctPorts(ct: Conntrack, slot: number): number {
  return ct.words[slot + ct.metaAt - 1];
}

/** Word `i` of the source address after translation; IPv4: i = 0. */
export function ctXSrc(ct: Conntrack, slot: number, i: number): number {
  return ct.words[slot + ct.metaAt + 1 + i];
}

export function ctXDst(ct: Conntrack, slot: number, i: number): number {
  return ct.words[slot + ct.metaAt + 1 + ct.addressWords + i];
}

/** sport << 16 | dport after translation. */
export function ctXPorts(ct: Conntrack, slot: number): number {
  return ct.words[slot + ct.expiryAt - 1];
}

/** Where a direction's own words begin in `ct.words`: CT_OWN_WORDS of them in a table that has any. */
export function ctOwn(ct: Conntrack, slot: number): number {
  return slot + ct.ownAt;
}

/** The connection's mark; 0 until one is set. The table must have own words. */
export function ctMark(ct: Conntrack, slot: number): number {
  return ct.words[slot + ct.ownAt + OWN_MARK];
}

/** Flows of a shard, the expired ones that still hold a slot included. */
export function ctFlows(ct: Conntrack, shard: number): number {
  return ct.words[ct.controlAt + shard * CONTROL_WORDS + CONTROL_FLOWS];
}

/** The shard that a slot lies in. */
export function ctShard(ct: Conntrack, slot: number): number {
  return Math.trunc((slot - ct.slotsAt) / ct.partitionWords);
}

/**
 * Walks the flows, for dumps: the original direction of each, expired ones included.
 * @param cursor -1 at first, then the last answer; the table must not change between
 * @returns the next slot, -1 at the end
 */
export function ctNext(ct: Conntrack, cursor: number): number {
  const words = ct.words;
  let at = cursor === -1 ? ct.slotsAt : cursor + ct.slotWords;
  for (; at < words.length; at += ct.slotWords) {
    if ((words[at + ct.metaAt] & (CT_USED | CT_REPLY)) === CT_USED) return at;
  }
  return -1;
}
