/**
 * Translation: a conntrack entry's NAT applied to the frame, and the NAT of a new flow decided by a program.
 *
 * A frame is translated in two halves, as the kernel's hooks do it: its destination before routing, its source behind.
 * In the reply direction the halves undo each other: the entry's slot of either direction says what the frame carries
 * afterwards, so one rule serves both. ICMP queries have an identifier in place of ports; it belongs to the querying
 * side: the source half of the query, the destination half of the reply.
 *
 * Guarantees: bytes, lanes and checksums agree afterwards; lane `nat` and the recorder know what happened. Nothing is
 * written when nothing changes. Refuses (-REASON_FRAGMENT_UNSUPPORTED): a new port in the first fragment of an SCTP
 * datagram, whose CRC nobody can compute from a part.
 */
import { type Conntrack, CT_MODE_1, CT_REPLY, ctFlags, ctXDst, ctXPorts, ctXSrc } from '../tables/conntrack.ts';
import { type Burst, FRAG_FIRST } from '../wire/burst.ts';
import {
  innerTuple,
  TUPLE_DPORT,
  TUPLE_DST,
  TUPLE_PROTO,
  TUPLE_SPORT,
  TUPLE_SRC,
  translateIcmpError,
} from '../wire/quote.ts';
import { REASON_FRAGMENT_UNSUPPORTED } from '../wire/reason.ts';
import { rewriteDestination4, rewriteDestination6, rewriteSource4, rewriteSource6 } from '../wire/rewrite.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import type { Datapath } from './datapath.ts';
import { isIcmp } from './flow-key.ts';
import { EVENT_NAT, record1, recordTuple } from './record.ts';
import { NAT_DESTINATION, NAT_OUTBOUND, NAT_REVERSE, NAT_SOURCE } from './verdict.ts';

/** Flag of an entry: its source was rewritten by the CNI's outbound masquerade, not for a Service. */
export const CT_NAT_OUTBOUND = CT_MODE_1;

/** The connection table of the frame's family. */
export function conntrackOf(dp: Datapath, b: Burst, s: number): Conntrack {
  return b.family[s] === 4 ? dp.conntrack4 : dp.conntrack6;
}

/**
 * Translates the frame's destination as the entry in lane `ct` says. To be called before routing.
 * @returns 0, or minus a drop reason
 */
export function translateDestination(dp: Datapath, b: Burst, s: number): number {
  const ct = conntrackOf(dp, b, s);
  const slot = b.ct[s];
  const reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  let port = ctXPorts(ct, slot) & 0xffff;
  // A query's identifier is not the destination's to change.
  if (!reply && isIcmp(b.proto[s])) port = b.dport[s];
  const flag = reply ? NAT_REVERSE : NAT_DESTINATION;
  if (b.family[s] === 4) return setDestination(dp, b, s, ctXDst(ct, slot, 0), 0, 0, 0, port, flag);
  return setDestination(
    dp,
    b,
    s,
    ctXDst(ct, slot, 0),
    ctXDst(ct, slot, 1),
    ctXDst(ct, slot, 2),
    ctXDst(ct, slot, 3),
    port,
    flag,
  );
}

/**
 * Translates the frame's source as the entry in lane `ct` says. To be called behind routing.
 * @returns 0, or minus a drop reason
 */
export function translateSource(dp: Datapath, b: Burst, s: number): number {
  const ct = conntrackOf(dp, b, s);
  const slot = b.ct[s];
  const flags = ctFlags(ct, slot);
  const reply = (flags & CT_REPLY) !== 0;
  let port = ctXPorts(ct, slot) >>> 16;
  if (reply && isIcmp(b.proto[s])) port = b.sport[s];
  const flag = reply ? NAT_REVERSE : (flags & CT_NAT_OUTBOUND) !== 0 ? NAT_OUTBOUND : NAT_SOURCE;
  if (b.family[s] === 4) return setSource(dp, b, s, ctXSrc(ct, slot, 0), 0, 0, 0, port, flag);
  return setSource(
    dp,
    b,
    s,
    ctXSrc(ct, slot, 0),
    ctXSrc(ct, slot, 1),
    ctXSrc(ct, slot, 2),
    ctXSrc(ct, slot, 3),
    port,
    flag,
  );
}

/**
 * Gives the frame a destination.
 * @param port host order; for ICMP queries and replies the identifier; ignored where the protocol has none
 * @param flag NAT_* to be noted if anything changes
 * @returns 0, or minus a drop reason
 */
export function setDestination(
  dp: Datapath,
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
  flag: number,
): number {
  const samePort = b.dport[s] === port;
  if (samePort && b.dst0[s] === a0 && b.dst1[s] === a1 && b.dst2[s] === a2 && b.dst3[s] === a3) return 0;
  if (!samePort && b.frag[s] === FRAG_FIRST && b.proto[s] === PROTO_SCTP) return -REASON_FRAGMENT_UNSUPPORTED;
  if (b.family[s] === 4) rewriteDestination4(b, s, a0, port);
  else rewriteDestination6(b, s, a0, a1, a2, a3, port);
  noteNat(dp, b, s, flag);
  return 0;
}

/** Gives the frame a source; as `setDestination`. */
export function setSource(
  dp: Datapath,
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
  flag: number,
): number {
  const samePort = b.sport[s] === port;
  if (samePort && b.src0[s] === a0 && b.src1[s] === a1 && b.src2[s] === a2 && b.src3[s] === a3) return 0;
  if (!samePort && b.frag[s] === FRAG_FIRST && b.proto[s] === PROTO_SCTP) return -REASON_FRAGMENT_UNSUPPORTED;
  if (b.family[s] === 4) rewriteSource4(b, s, a0, port);
  else rewriteSource6(b, s, a0, a1, a2, a3, port);
  noteNat(dp, b, s, flag);
  return 0;
}

function noteNat(dp: Datapath, b: Burst, s: number, flag: number): void {
  b.nat[s] |= flag;
  if (!dp.ring.on) return;
  record1(dp.ring, EVENT_NAT, flag);
  recordTuple(dp.ring, b, s);
}

// ---- ICMP errors ------------------------------------------------------------------------------------------------

/**
 * Translates an ICMP error's destination, and the source of the packet it quotes, as the entry in lane `ct` says: the
 * slot is of the direction in which the error travels, the reverse of the quoted packet's.
 * @returns 0, or minus a drop reason
 */
export function translateErrorDestination(dp: Datapath, b: Burst, s: number): number {
  const ct = conntrackOf(dp, b, s);
  const slot = b.ct[s];
  const inner = dp.ports.scratch.inner;
  const outer = dp.ports.scratch.outer;
  const read = readError(b, s, inner, outer);
  if (read < 0) return read;
  const reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  let changed = 0;
  for (let i = 0; i < ct.addressWords; i++) {
    const word = ctXDst(ct, slot, i);
    changed |= inner[TUPLE_SRC + i] ^ word;
    inner[TUPLE_SRC + i] = word;
    outer[TUPLE_DST + i] = word;
  }
  const port = ctXPorts(ct, slot) & 0xffff;
  // Of a quoted query the identifier stands in the source port; a quoted reply has nothing to change on this side.
  if (reply || !isIcmp(inner[TUPLE_PROTO])) {
    changed |= inner[TUPLE_SPORT] ^ port;
    inner[TUPLE_SPORT] = port;
  }
  if (changed === 0) return 0;
  return finishError(dp, b, s, inner, outer, reply ? NAT_REVERSE : NAT_DESTINATION);
}

/**
 * Translates the destination of the packet that an ICMP error quotes; where that changes, the error itself takes the
 * translated address as its source, whoever sent it, as the kernel does (nf_nat_icmp_reply_translation).
 * @returns 0, or minus a drop reason
 */
export function translateErrorSource(dp: Datapath, b: Burst, s: number): number {
  const ct = conntrackOf(dp, b, s);
  const slot = b.ct[s];
  const inner = dp.ports.scratch.inner;
  const outer = dp.ports.scratch.outer;
  const read = readError(b, s, inner, outer);
  if (read < 0) return read;
  const flags = ctFlags(ct, slot);
  const reply = (flags & CT_REPLY) !== 0;
  let changed = 0;
  for (let i = 0; i < ct.addressWords; i++) {
    changed |= inner[TUPLE_DST + i] ^ ctXSrc(ct, slot, i);
    inner[TUPLE_DST + i] = ctXSrc(ct, slot, i);
  }
  const port = ctXPorts(ct, slot) >>> 16;
  if (!isIcmp(inner[TUPLE_PROTO])) {
    changed |= inner[TUPLE_DPORT] ^ port;
    inner[TUPLE_DPORT] = port;
  } else if (!reply) {
    changed |= inner[TUPLE_SPORT] ^ port;
    inner[TUPLE_SPORT] = port;
  }
  if (changed === 0) return 0;
  for (let i = 0; i < ct.addressWords; i++) outer[TUPLE_SRC + i] = ctXSrc(ct, slot, i);
  const flag = reply ? NAT_REVERSE : (flags & CT_NAT_OUTBOUND) !== 0 ? NAT_OUTBOUND : NAT_SOURCE;
  return finishError(dp, b, s, inner, outer, flag);
}

/** Reads the quoted tuple into `inner` and the error's own addresses into `outer`. */
function readError(b: Burst, s: number, inner: Int32Array, outer: Int32Array): number {
  outer[TUPLE_SRC] = b.src0[s];
  outer[TUPLE_SRC + 1] = b.src1[s];
  outer[TUPLE_SRC + 2] = b.src2[s];
  outer[TUPLE_SRC + 3] = b.src3[s];
  outer[TUPLE_DST] = b.dst0[s];
  outer[TUPLE_DST + 1] = b.dst1[s];
  outer[TUPLE_DST + 2] = b.dst2[s];
  outer[TUPLE_DST + 3] = b.dst3[s];
  return innerTuple(b, s, inner);
}

function finishError(dp: Datapath, b: Burst, s: number, inner: Int32Array, outer: Int32Array, flag: number): number {
  const done = translateIcmpError(b, s, inner, outer);
  if (done < 0) return done;
  noteNat(dp, b, s, flag);
  return 0;
}
