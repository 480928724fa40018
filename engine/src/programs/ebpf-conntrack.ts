/**
 * Connection tracking of the ebpf mode: Cilium's states and lifetimes over the shared connection table.
 *
 * TCP (cilium: bpf/lib/conntrack.h; lifetimes of FACTS §1.6):
 *  1. A flow of which only segments with SYN were seen lives 60 s; any other segment opens it for 8,000 s.
 *  2. FIN closes one direction, RST both. With both closed the flow lives 10 s more and no segment prolongs it.
 *  3. A SYN without ACK on a flow that has begun to close opens it again.
 *  4. There is no other check: a segment without a flow begins one, flags and sequence numbers are not judged.
 * Everything else lives 60 s after its last packet. Either direction prolongs the flow.
 *
 * The maps are LRU maps: a full shard gives up a flow that has been idle long, and a tuple that is taken is taken over
 * (a map update overwrites), so a new flow is refused only where that does not help (-REASON_CT_INSERT_FAILED).
 */
import {
  type Conntrack,
  CT_ASSURED,
  CT_CLASH,
  CT_FULL,
  CT_MODE_2,
  CT_MODE_3,
  CT_REPLY,
  ctFind4,
  ctFind6,
  ctFlags,
  ctHash4,
  ctHash6,
  ctInsert4,
  ctInsert6,
  ctPeer,
  ctRemove,
  ctSetState,
  ctState,
  ctTouch,
} from '../tables/conntrack.ts';
import { ctEvictOldest } from '../tables/conntrack-aging.ts';
import type { Burst } from '../wire/burst.ts';
import { REASON_CT_INSERT_FAILED } from '../wire/reason.ts';
import { PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/tcp.ts';
import { COUNT_EVICTIONS, COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { flowPorts } from './flow-key.ts';
import { CT_STATE_ESTABLISHED, CT_STATE_NEW, CT_STATE_REPLY, EVENT_CONNTRACK, record3 } from './record.ts';
import { conntrackOf } from './translate.ts';

/** TCP: SYN seen, nothing else. */
export const EBPF_CT_SYN = 1;
export const EBPF_CT_OPEN = 2;
/** FIN of the original direction seen, or of the reply direction. */
export const EBPF_CT_FIN_ORIGINAL = 3;
export const EBPF_CT_FIN_REPLY = 4;
export const EBPF_CT_CLOSED = 5;
/** Not TCP. */
export const EBPF_CT_ANY = 6;

const SYN_MS = 60_000;
const OPEN_MS = 8_000_000;
const CLOSED_MS = 10_000;
const ANY_MS = 60_000;

/** Life of each state in ms from its last packet on. */
export const EBPF_LIFETIME_MS = new Int32Array(16);
EBPF_LIFETIME_MS[EBPF_CT_SYN] = SYN_MS;
EBPF_LIFETIME_MS[EBPF_CT_OPEN] = OPEN_MS;
EBPF_LIFETIME_MS[EBPF_CT_FIN_ORIGINAL] = OPEN_MS;
EBPF_LIFETIME_MS[EBPF_CT_FIN_REPLY] = OPEN_MS;
EBPF_LIFETIME_MS[EBPF_CT_CLOSED] = CLOSED_MS;
EBPF_LIFETIME_MS[EBPF_CT_ANY] = ANY_MS;

/** Flag of a flow: its frames are translated. CT_MODE_1 is CT_NAT_OUTBOUND of translate.ts. */
export const EBPF_CT_TRANSLATED = CT_MODE_2;
/**
 * Flag of a flow that was balanced to another node with Direct Server Return. On the balancing node its frames tell the
 * backend's node about the frontend; there it holds the frontend, and its forward frames come translated already.
 */
export const EBPF_CT_DSR = CT_MODE_3;
/**
 * Flag of a flow that another node entered here (EBPF_CT_DSR): the pod's policies have let a frame of it pass. The table
 * knows it as netfilter's ASSURED, which an LRU map does not ask for.
 */
export const EBPF_CT_ALLOWED = CT_ASSURED;

/** Layout of `EbpfScratch.original`: source, destination, ports word (flow-key.ts). */
const ORIGINAL_DST = 4;
const ORIGINAL_PORTS = 8;

/** Tries to make room or way for one new flow. */
const INSERT_TRIES = 4;

/** The flow of which the frame, as it is now, would be a reply's reverse: the slot of the opposite direction, or -1. */
export function findReverseFlow(dp: Datapath, b: Burst, s: number, zone: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  const ports = flowPorts(b, s);
  const reverse = (ports << 16) | (ports >>> 16);
  if (b.family[s] === 4) {
    return ctFind4(dp.conntrack4, b.shard[s], zone, b.proto[s], b.dst0[s], b.src0[s], reverse, b.timeMs[s]);
  }
  return ctFind6(
    dp.conntrack6,
    b.shard[s],
    zone,
    b.proto[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    reverse,
    b.timeMs[s],
  );
}

/**
 * Counts the frame to its flow: state and time. `slot` is the frame's direction; lanes `ct` and `ctState` follow.
 * Never moves slots.
 */
export function passFlow(dp: Datapath, b: Burst, s: number, ct: Conntrack, slot: number): void {
  const reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  const state = ctState(ct, slot);
  const now = b.timeMs[s];
  b.ct[s] = slot;
  b.ctState[s] = reply ? CT_STATE_REPLY : CT_STATE_ESTABLISHED;
  if (state === EBPF_CT_ANY) ctTouch(ct, slot, now + ANY_MS);
  else if (state === EBPF_CT_OPEN && (b.info[s] & (TCP_SYN | TCP_FIN | TCP_RST)) === 0)
    ctTouch(ct, slot, now + OPEN_MS);
  else passSegment(ct, b.shard[s], slot, state, b.info[s], reply, now);
  if (dp.ring.on) record3(dp.ring, EVENT_CONNTRACK, b.ctState[s], ctState(ct, slot), reply ? 1 : 0);
}

/** A segment that may change its flow's state. */
function passSegment(
  ct: Conntrack,
  shard: number,
  slot: number,
  state: number,
  info: number,
  reply: boolean,
  now: number,
): void {
  const next = nextState(state, info, reply);
  const expiry = now + EBPF_LIFETIME_MS[next];
  if (next !== state) {
    const peer = ctPeer(ct, shard, slot);
    ctSetState(ct, slot, peer, next);
    // A shorter life holds for both directions; a longer one may be found in either.
    ctTouch(ct, peer, expiry);
    ctTouch(ct, slot, expiry);
  } else if (next !== EBPF_CT_CLOSED) ctTouch(ct, slot, expiry);
}

function nextState(state: number, info: number, reply: boolean): number {
  if ((info & TCP_RST) !== 0) return EBPF_CT_CLOSED;
  if ((info & (TCP_SYN | TCP_ACK)) === TCP_SYN) return state >= EBPF_CT_FIN_ORIGINAL ? EBPF_CT_SYN : state;
  if ((info & TCP_SYN) !== 0) return state;
  if ((info & TCP_FIN) === 0) return state === EBPF_CT_SYN ? EBPF_CT_OPEN : state;
  if (state === EBPF_CT_CLOSED) return state;
  if (reply) return state === EBPF_CT_FIN_ORIGINAL ? EBPF_CT_CLOSED : EBPF_CT_FIN_REPLY;
  return state === EBPF_CT_FIN_REPLY ? EBPF_CT_CLOSED : EBPF_CT_FIN_ORIGINAL;
}

/** Keeps the frame's tuple for `insertFlow`, before anything is rewritten. */
export function keepTuple(b: Burst, s: number, original: Int32Array): void {
  original[0] = b.src0[s];
  original[1] = b.src1[s];
  original[2] = b.src2[s];
  original[3] = b.src3[s];
  original[ORIGINAL_DST] = b.dst0[s];
  original[ORIGINAL_DST + 1] = b.dst1[s];
  original[ORIGINAL_DST + 2] = b.dst2[s];
  original[ORIGINAL_DST + 3] = b.dst3[s];
  original[ORIGINAL_PORTS] = flowPorts(b, s);
}

/**
 * Enters a flow into a zone: it came as `original` and leaves as the frame is now. Moves slots of the shard.
 * @param flags CT_NAT_OUTBOUND, EBPF_CT_…
 * @returns the slot of the original direction, or -REASON_CT_INSERT_FAILED
 */
export function insertFlow(
  dp: Datapath,
  b: Burst,
  s: number,
  zone: number,
  original: Int32Array,
  flags: number,
): number {
  const state = firstState(b.proto[s], b.info[s]);
  let slot = tryInsert(dp, b, s, zone, original, state, flags);
  for (let i = 0; slot < 0 && i < INSERT_TRIES; i++) {
    if (slot === CT_FULL && evictFlow(dp, b, s, zone, original) === 0) break;
    if (slot === CT_CLASH) removeClash(dp, b, s, zone, original);
    slot = tryInsert(dp, b, s, zone, original, state, flags);
  }
  return slot < 0 ? -REASON_CT_INSERT_FAILED : slot;
}

/** Enters the flow that the frame begins on its own node; lanes `ct` and `ctState` follow. As `insertFlow`. */
export function beginFlow(dp: Datapath, b: Burst, s: number, original: Int32Array, flags: number): number {
  const slot = insertFlow(dp, b, s, b.node[s], original, flags);
  if (slot < 0) return slot;
  b.ct[s] = slot;
  b.ctState[s] = CT_STATE_NEW;
  if (dp.ring.on) record3(dp.ring, EVENT_CONNTRACK, CT_STATE_NEW, ctState(conntrackOf(dp, b, s), slot), 0);
  return slot;
}

function firstState(proto: number, info: number): number {
  if (proto !== PROTO_TCP) return EBPF_CT_ANY;
  if ((info & (TCP_RST | TCP_FIN)) !== 0) return EBPF_CT_CLOSED;
  return (info & TCP_SYN) !== 0 ? EBPF_CT_SYN : EBPF_CT_OPEN;
}

function tryInsert(
  dp: Datapath,
  b: Burst,
  s: number,
  zone: number,
  original: Int32Array,
  state: number,
  flags: number,
): number {
  const now = b.timeMs[s];
  const expiry = now + EBPF_LIFETIME_MS[state];
  const ports = flowPorts(b, s);
  if (b.family[s] === 4) {
    return ctInsert4(
      dp.conntrack4,
      b.shard[s],
      zone,
      b.proto[s],
      original[0],
      original[ORIGINAL_DST],
      original[ORIGINAL_PORTS],
      b.src0[s],
      b.dst0[s],
      ports,
      state,
      flags,
      expiry,
      now,
    );
  }
  return ctInsert6(
    dp.conntrack6,
    b.shard[s],
    zone,
    b.proto[s],
    original[0],
    original[1],
    original[2],
    original[3],
    original[ORIGINAL_DST],
    original[ORIGINAL_DST + 1],
    original[ORIGINAL_DST + 2],
    original[ORIGINAL_DST + 3],
    original[ORIGINAL_PORTS],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    ports,
    state,
    flags,
    expiry,
    now,
  );
}

function evictFlow(dp: Datapath, b: Burst, s: number, zone: number, original: Int32Array): number {
  const proto = b.proto[s];
  const ports = original[ORIGINAL_PORTS];
  const hash =
    b.family[s] === 4
      ? ctHash4(zone, proto, original[0], original[ORIGINAL_DST], ports)
      : ctHash6(
          zone,
          proto,
          original[0],
          original[1],
          original[2],
          original[3],
          original[ORIGINAL_DST],
          original[ORIGINAL_DST + 1],
          original[ORIGINAL_DST + 2],
          original[ORIGINAL_DST + 3],
          ports,
        );
  const evicted = ctEvictOldest(conntrackOf(dp, b, s), b.shard[s], hash, EBPF_LIFETIME_MS, b.timeMs[s]);
  dp.counters[COUNT_EVICTIONS] += evicted;
  return evicted;
}

/** Removes the flow that holds the new flow's tuple, else the one that holds its reply's. */
function removeClash(dp: Datapath, b: Burst, s: number, zone: number, original: Int32Array): void {
  const ct = conntrackOf(dp, b, s);
  const shard = b.shard[s];
  const proto = b.proto[s];
  const ports = original[ORIGINAL_PORTS];
  dp.counters[COUNT_LOOKUPS]++;
  const own =
    b.family[s] === 4
      ? ctFind4(ct, shard, zone, proto, original[0], original[ORIGINAL_DST], ports, b.timeMs[s])
      : ctFind6(
          ct,
          shard,
          zone,
          proto,
          original[0],
          original[1],
          original[2],
          original[3],
          original[ORIGINAL_DST],
          original[ORIGINAL_DST + 1],
          original[ORIGINAL_DST + 2],
          original[ORIGINAL_DST + 3],
          ports,
          b.timeMs[s],
        );
  if (own >= 0) {
    ctRemove(ct, shard, own);
    return;
  }
  const reply = findReverseFlow(dp, b, s, zone);
  if (reply >= 0) ctRemove(ct, shard, reply);
}
