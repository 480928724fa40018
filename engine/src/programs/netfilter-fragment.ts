/**
 * Fragments in the modes of the kernel: conntrack puts a datagram together before anything else sees it (priority -400),
 * the rules run once on the whole of it, and the node sends it out again in the pieces that it came in.
 *
 *     gatherFragment     a piece waits (VERDICT_HELD), is refused, or makes the datagram whole
 *     releaseFragments   behind the node's program: the pieces take over what became of the datagram
 *
 * Guarantees: addresses, TTL, TOS and every byte of the data are those of the translated datagram, checksums right; the
 * pieces keep their borders and numbers and lose "do not fragment", as in the kernel. They leave in the order of their
 * places, first the one in the frame's own slot, the others as ended frames that wait for `takeReleased`. A frame is counted
 * when it comes and once more when it is sent on from waiting, so packets in equal packets out by verdict.
 * Refuses: overlapping or contradicting pieces, and the datagram with them; repeated ones; more than the store holds.
 * Incomplete datagrams go after 30 s (IPv4) or 60 s (IPv6) in silence; the kernel sends a time exceeded to the sender if
 * the datagram was for the node itself. A datagram that crosses nodes stays whole: the next node would but gather it again.
 */
import {
  addPiece,
  datagramLength,
  detachPiece,
  dropDatagram,
  expireDatagrams,
  type Fragments,
  findDatagram,
  findPiece,
  firstPiece,
  freePiece,
  getPieceOwn,
  handPiece,
  nextPiece,
  openDatagram,
  PIECE_COMPLETES,
  PIECE_CONTRADICTS,
  PIECE_HELD,
  PIECE_OVERLAPS,
  PIECE_REFUSED,
  pieceData,
  pieceFrame,
  pieceFrom,
  pieceL3,
  pieceTo,
  readPiece,
  removePiece,
  setPieceOwn,
  takeHanded,
  writePiece,
} from '../tables/fragments.ts';
import { type Burst, FRAG_FIRST, FRAME_HEADROOM, frameOffset } from '../wire/burst.ts';
import { checksum } from '../wire/checksum.ts';
import {
  getIpv4FragmentOffset,
  getIpv4HeaderBytes,
  hasIpv4MoreFragments,
  IPV4_DF,
  IPV4_DST,
  IPV4_FRAGMENT,
  IPV4_SRC,
  IPV4_TOS,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  setIpv4Checksum,
} from '../wire/ipv4.ts';
import {
  FRAGMENT_FIELD,
  FRAGMENT_HEADER_BYTES,
  findFragmentHeader,
  IPV6_BYTES,
  IPV6_DST,
  IPV6_HOP_LIMIT,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SRC,
  setIpv6Address,
} from '../wire/ipv6.ts';
import { parseFrame } from '../wire/parse.ts';
import {
  REASON_FRAGMENT_DUPLICATE,
  REASON_FRAGMENT_OVERLAP,
  REASON_FRAGMENTS_FULL,
  REASON_FRAME_TOO_LARGE,
  REASON_INVALID_PACKET,
  REASON_NODE_NOT_COMPILED,
} from '../wire/reason.ts';
import { COUNT_BYTES, COUNT_ENTERED, COUNT_FRAGMENTS_LOST, countOf } from './count.ts';
import type { Datapath } from './datapath.ts';
import { hashFlow } from './flow-lookup.ts';
import { datagramNumber, fragmentKey } from './fragment-key.ts';
import { heldFragments, wholeDatagram } from './fragment-state.ts';
import { recordTuple } from './record.ts';
import { VERDICT_DELIVERED, VERDICT_FORWARDED, VERDICT_HELD } from './verdict.ts';

/** net.ipv4.ipfrag_time and net.netfilter.nf_conntrack_frag6_timeout. */
const LIFE4_MS = 30_000;
const LIFE6_MS = 60_000;
const MAX_DATAGRAM = 65_535;

/** Answer of `gatherFragment`: the datagram is whole, in slot 0 of `dp.ports.fragments.whole`. */
export const DATAGRAM_WHOLE = 0;

// What a piece keeps: its tag and flow hash; once it has passed, its node, and `verdict << 24 | endpoint + 1`.
const OWN_TAG = 0;
const OWN_HASH = 1;
const OWN_NODE = 2;
const OWN_END = 3;

/**
 * Takes in a fragment at its node.
 * @returns DATAGRAM_WHOLE, VERDICT_HELD, or minus a drop reason
 */
export function gatherFragment(dp: Datapath, b: Burst, s: number): number {
  const f = heldFragments(dp.ports.fragments);
  const shard = b.shard[s];
  dp.counters[COUNT_FRAGMENTS_LOST] += expireDatagrams(f, shard, b.timeMs[s], LIFE4_MS, LIFE6_MS);
  const data = dataOf(b, s);
  const from = placeOf(b, s);
  const isLast = !hasMore(b, s);
  // What a piece in the middle has beyond a multiple of eight is cut off (ip_fragment.c); of IPv6 it was refused.
  const to = isLast ? from + b.end[s] - data : (from + b.end[s] - data) & -8;
  if (to <= from) return -REASON_INVALID_PACKET;
  let row = rowOf(f, b, s);
  if (row === -1) row = openRow(f, b, s);
  if (row === -1) return -REASON_FRAGMENTS_FULL;
  const step = addPiece(f, shard, row, from, to, isLast, b.bytes, frameOffset(b, s), b.l3[s], data);
  switch (step) {
    case PIECE_HELD:
    case PIECE_COMPLETES:
      break;
    case PIECE_REFUSED:
      return -REASON_FRAGMENTS_FULL;
    case PIECE_OVERLAPS:
      dp.counters[COUNT_FRAGMENTS_LOST] += dropDatagram(f, shard, row);
      return -REASON_FRAGMENT_OVERLAP;
    case PIECE_CONTRADICTS:
      dp.counters[COUNT_FRAGMENTS_LOST] += dropDatagram(f, shard, row);
      return -REASON_INVALID_PACKET;
    default:
      return -REASON_FRAGMENT_DUPLICATE;
  }
  const piece = findPiece(f, row, from);
  setPieceOwn(f, piece, OWN_TAG, b.tag[s]);
  setPieceOwn(f, piece, OWN_HASH, b.flowHash[s]);
  if (step === PIECE_HELD) return VERDICT_HELD;
  const whole = assemble(dp, f, row, b, s);
  // The piece that came last is counted by its own verdict, the others have been.
  if (whole !== DATAGRAM_WHOLE) dropDatagram(f, shard, row);
  return whole;
}

function rowOf(f: Fragments, b: Burst, s: number): number {
  return findDatagram(
    f,
    b.shard[s],
    fragmentKey(b, s),
    datagramNumber(b, s),
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
  );
}

function openRow(f: Fragments, b: Burst, s: number): number {
  return openDatagram(
    f,
    b.shard[s],
    fragmentKey(b, s),
    datagramNumber(b, s),
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    b.timeMs[s],
  );
}

/** Where the fragment's data begins: behind the IPv4 header, or behind the IPv6 fragment header. */
function dataOf(b: Burst, s: number): number {
  const l3 = b.l3[s];
  if (b.family[s] === 4) return l3 + getIpv4HeaderBytes(b.view, l3);
  return l3 + (findFragmentHeader(b.view, l3) & 0xffff) + FRAGMENT_HEADER_BYTES;
}

/** Place of its data in the datagram. */
function placeOf(b: Burst, s: number): number {
  if (b.frag[s] === FRAG_FIRST) return 0;
  if (b.family[s] === 4) return getIpv4FragmentOffset(b.view, b.l3[s]);
  return b.view.getUint16(dataOf(b, s) - FRAGMENT_HEADER_BYTES + FRAGMENT_FIELD) & 0xfff8;
}

function hasMore(b: Burst, s: number): boolean {
  if (b.family[s] === 4) return hasIpv4MoreFragments(b.view, b.l3[s]);
  return (b.view.getUint16(dataOf(b, s) - FRAGMENT_HEADER_BYTES + FRAGMENT_FIELD) & 1) !== 0;
}

// ---- the datagram -----------------------------------------------------------------------------------------------

/** Puts the datagram of a row together, with the lanes of the frame that completed it. DATAGRAM_WHOLE, or a reason. */
function assemble(dp: Datapath, f: Fragments, row: number, b: Burst, s: number): number {
  const whole = wholeDatagram(dp.ports.fragments);
  const frame = frameOffset(whole, 0);
  const first = firstPiece(f, row);
  const l3 = frame + pieceL3(f, first);
  const length = datagramLength(f, row);
  readPiece(f, first, 0, pieceData(f, first), whole.bytes, frame);
  const data = b.family[s] === 4 ? joinHeader4(whole, l3, length) : joinHeader6(whole, l3, length);
  if (data < 0) return data;
  dp.ports.fragments.dataAt = data;
  let marks = 0;
  for (let piece = first; piece !== 0; piece = nextPiece(f, piece)) {
    if (pieceFrame(f, piece) > b.slotBytes - FRAME_HEADROOM) return -REASON_FRAME_TOO_LARGE;
    const from = pieceFrom(f, piece);
    readPiece(f, piece, pieceData(f, piece), pieceTo(f, piece) - from, whole.bytes, data + from);
    marks |= 1 << congestionOf(f, piece, whole, b.family[s]);
  }
  if (!joinCongestion(whole, l3, b.family[s], marks)) return -REASON_INVALID_PACKET;
  if (b.family[s] === 4) sumHeader(whole, l3, data - l3);
  whole.len[0] = data + length - frame;
  whole.node[0] = b.node[s];
  whole.entry[0] = b.entry[s];
  whole.endpoint[0] = b.endpoint[s];
  whole.shard[0] = b.shard[s];
  whole.timeMs[0] = b.timeMs[s];
  whole.choice[0] = b.choice[s];
  whole.flowHash[0] = getPieceOwn(f, first, OWN_HASH);
  whole.unverified[0] = b.unverified[s];
  whole.tag[0] = b.tag[s];
  whole.mark[0] = 0;
  whole.ct[0] = -1;
  whole.ctState[0] = 0;
  whole.verdict[0] = b.verdict[s];
  whole.reason[0] = 0;
  whole.target[0] = -1;
  whole.nat[0] = b.nat[s];
  const parsed = parseFrame(whole, 0);
  if (parsed < 0) return parsed;
  hashFlow(whole, 0);
  if (dp.ring.on) recordTuple(dp.ring, whole, 0);
  return DATAGRAM_WHOLE;
}

/** Makes the first piece's header that of the datagram; where its data is to begin, or minus a reason. */
function joinHeader4(whole: Burst, l3: number, length: number): number {
  const view = whole.view;
  const header = getIpv4HeaderBytes(view, l3);
  if (header + length > MAX_DATAGRAM) return -REASON_INVALID_PACKET;
  view.setUint16(l3 + IPV4_TOTAL_LENGTH, header + length);
  view.setUint16(l3 + IPV4_FRAGMENT, view.getUint16(l3 + IPV4_FRAGMENT) & IPV4_DF);
  return l3 + header;
}

/** IPv6: the fragment header goes, and what named it names what it named. */
function joinHeader6(whole: Burst, l3: number, length: number): number {
  const view = whole.view;
  const found = findFragmentHeader(view, l3);
  const at = found & 0xffff;
  const payload = at - IPV6_BYTES + length;
  if (payload > MAX_DATAGRAM) return -REASON_INVALID_PACKET;
  view.setUint8(l3 + (found >>> 16), view.getUint8(l3 + at));
  view.setUint16(l3 + IPV6_PAYLOAD_LENGTH, payload);
  return l3 + at;
}

/** The congestion field (RFC 3168) of a piece: 0 not capable, 1 and 2 capable, 3 congestion met. */
function congestionOf(f: Fragments, piece: number, whole: Burst, family: number): number {
  const at = frameOffset(whole, 1);
  readPiece(f, piece, pieceL3(f, piece) + 1, 1, whole.bytes, at);
  return family === 4 ? whole.bytes[at] & 3 : (whole.bytes[at] >>> 4) & 3;
}

/**
 * Congestion that one piece met the datagram has met; pieces that are capable and others that are not do not belong together
 * (RFC 3168 §5.3).
 * @param marks bit c: a piece says c
 * @returns false for those that do not
 */
function joinCongestion(whole: Burst, l3: number, family: number, marks: number): boolean {
  if ((marks & 1) !== 0) return marks === 1;
  if ((marks & 8) !== 0) whole.bytes[l3 + 1] |= family === 4 ? 3 : 0x30;
  return true;
}

function sumHeader(b: Burst, l3: number, header: number): void {
  setIpv4Checksum(b.view, l3, 0);
  setIpv4Checksum(b.view, l3, checksum(b.bytes, l3, header, 0));
}

// ---- the pieces go on -------------------------------------------------------------------------------------------

/**
 * Gives the pieces of the datagram that the frame in slot `s` completed what became of it.
 * @param step what the program answered for the datagram: a verdict or minus a drop reason
 * @returns the same, for the frame, which is the first piece now where the datagram goes on
 */
export function releaseFragments(dp: Datapath, b: Burst, s: number, step: number): number {
  const f = heldFragments(dp.ports.fragments);
  const whole = wholeDatagram(dp.ports.fragments);
  const shard = b.shard[s];
  const row = rowOf(f, b, s);
  if (step === -REASON_NODE_NOT_COMPILED) {
    // The frame comes again when the node is compiled, and completes the datagram once more.
    removePiece(f, shard, row, placeOf(b, s));
    b.node[s] = whole.node[0];
    return step;
  }
  b.node[s] = whole.node[0];
  b.reason[s] = whole.reason[0];
  b.target[s] = whole.target[0];
  b.nat[s] = whole.nat[0];
  b.mark[s] = whole.mark[0];
  b.ctState[s] = whole.ctState[0];
  if (step !== VERDICT_DELIVERED && step !== VERDICT_FORWARDED) {
    dropDatagram(f, shard, row);
    return step;
  }
  let isFirst = true;
  for (let piece = detachPiece(f, row); piece !== 0; piece = detachPiece(f, row)) {
    const length = rebuildPiece(f, piece, whole, dp.ports.fragments.dataAt);
    writePiece(f, piece, 0, length, whole.bytes, frameOffset(whole, 1));
    if (isFirst) {
      readPiece(f, piece, 0, length, b.bytes, frameOffset(b, s));
      b.len[s] = length;
      b.tag[s] = getPieceOwn(f, piece, OWN_TAG);
      parseFrame(b, s);
      freePiece(f, shard, piece);
      isFirst = false;
      continue;
    }
    setPieceOwn(f, piece, OWN_NODE, b.node[s]);
    setPieceOwn(f, piece, OWN_END, (step << 24) | (b.target[s] + 1));
    handPiece(f, shard, piece);
    dp.counters[COUNT_ENTERED]++;
    dp.counters[COUNT_BYTES] += length;
    dp.counters[countOf(step, 0)]++;
  }
  return step;
}

/** Writes a piece's frame, as the translated datagram has it, into slot 1 of `whole`; its length. */
function rebuildPiece(f: Fragments, piece: number, whole: Burst, dataAt: number): number {
  const view = whole.view;
  const frame = frameOffset(whole, 1);
  const data = frame + pieceData(f, piece);
  const l3 = frame + pieceL3(f, piece);
  const from = pieceFrom(f, piece);
  const count = pieceTo(f, piece) - from;
  readPiece(f, piece, 0, pieceData(f, piece), whole.bytes, frame);
  const old = whole.l3[0];
  if (whole.family[0] === 4) {
    const header = getIpv4HeaderBytes(view, l3);
    view.setUint8(l3 + IPV4_TOS, view.getUint8(old + IPV4_TOS));
    view.setUint8(l3 + IPV4_TTL, view.getUint8(old + IPV4_TTL));
    view.setUint16(l3 + IPV4_TOTAL_LENGTH, header + count);
    // Whoever may fragment it is told so: the kernel's fast path clears "do not fragment" in every piece.
    view.setUint16(l3 + IPV4_FRAGMENT, view.getUint16(l3 + IPV4_FRAGMENT) & ~IPV4_DF);
    view.setInt32(l3 + IPV4_SRC, whole.src0[0]);
    view.setInt32(l3 + IPV4_DST, whole.dst0[0]);
    sumHeader(whole, l3, header);
  } else {
    // Version, traffic class and flow label.
    view.setInt32(l3, view.getInt32(old));
    view.setUint8(l3 + IPV6_HOP_LIMIT, view.getUint8(old + IPV6_HOP_LIMIT));
    setIpv6Address(view, l3 + IPV6_SRC, whole.src0[0], whole.src1[0], whole.src2[0], whole.src3[0]);
    setIpv6Address(view, l3 + IPV6_DST, whole.dst0[0], whole.dst1[0], whole.dst2[0], whole.dst3[0]);
  }
  whole.bytes.copyWithin(data, dataAt + from, dataAt + from + count);
  return pieceData(f, piece) + count;
}

/**
 * Takes a frame that was sent on from waiting, the one that has waited longest: its bytes and length, and how it ended in
 * lanes `node`, `verdict`, `reason`, `target` and `tag`. It is counted already. Whoever sends fragments into a datapath takes
 * them, after each burst.
 * @param s slot that takes it, as large as the slots that the fragments came in
 * @returns true if there was one
 */
export function takeReleased(dp: Datapath, shard: number, b: Burst, s: number): boolean {
  const f = dp.ports.fragments.held;
  if (f === null) return false;
  const piece = takeHanded(f, shard);
  if (piece === 0) return false;
  const length = pieceFrame(f, piece);
  const end = getPieceOwn(f, piece, OWN_END);
  readPiece(f, piece, 0, length, b.bytes, frameOffset(b, s));
  b.len[s] = length;
  b.node[s] = getPieceOwn(f, piece, OWN_NODE);
  b.tag[s] = getPieceOwn(f, piece, OWN_TAG);
  b.verdict[s] = end >>> 24;
  b.target[s] = (end & 0xffffff) - 1;
  b.reason[s] = 0;
  parseFrame(b, s);
  freePiece(f, shard, piece);
  return true;
}
