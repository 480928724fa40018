/**
 * The schedulers of IPVS that look at cursors, loads and hashes: rr, wrr, lc, wlc, sed, nq, fo, ovf, sh, dh, mh.
 * Those with a cache per destination (lblc, lblcr) are in ipvs-locality.ts.
 *
 * Each answers the row of the real server that a new connection goes to, -1 if none can take it. The algorithms are those
 * of linux net/netfilter/ipvs/ip_vs_*.c: which of two equal servers wins follows the order of the list. A server of weight
 * 0 is quiesced, an overloaded one is passed over. The overhead of lc and wlc counts an active connection as 256
 * inactive ones.
 *
 * Cursors across images: rr goes on behind the server that it chose last, wherever that stands now, and where it is gone
 * behind the place that it had; wrr begins at the head again (ip_vs_wrr_dest_changed). When several servers change in one
 * image the kernel, which sees one change after the other, may stand elsewhere; an update that changes nothing is not seen.
 */
import { destinationBucket, foldAddress, MH_RING, maglevBucket, SH_RING, sourceBucket } from '../tables/ipvs-rings.ts';
import {
  RS_ID,
  RS_WEIGHT,
  realWord,
  serverWord,
  VS_COUNT,
  VS_FALLBACK,
  VS_FIRST,
  VS_FLAGS,
  VS_GCD,
  VS_HASH_PORT,
  VS_ID,
  VS_LIST,
  VS_MAX_WEIGHT,
  VS_RING,
} from '../tables/ipvs-services.ts';
import { isSharedMerged, sharedFind, sharedRegister, sharedSet } from '../tables/ipvs-shared.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { WRR_POSITION, WRR_WEIGHT } from './ipvs-image.ts';
import { activeOf, inactiveOf, isClosed, isOverloaded } from './ipvs-load.ts';
import { SHARED_CURSOR, setKey } from './ipvs-state.ts';

// ---- cursors ----------------------------------------------------------------------------------------------------

/** Round robin: the next open server behind the last one. */
export function scheduleRoundRobin(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  const count = serverWord(services, row, VS_COUNT);
  const first = serverWord(services, row, VS_FIRST);
  const cursor = readCursor(dp, b, s, row);
  let position = -1;
  if (cursor !== -1) {
    position = cursorPosition(dp, cursor);
    if (isListChanged(dp, row, cursor)) position = findPosition(dp, row, cursor);
  }
  let turns = isStaggered(dp, cursor) ? b.shard[s] % Math.max(1, count) : 0;
  for (; turns >= 0; turns--) {
    let next = position;
    let looked = 0;
    do {
      next = next + 1 >= count ? 0 : next + 1;
      looked++;
    } while (looked <= count && isClosedAt(dp, b, s, first, count, next));
    if (looked > count) {
      writeCursor(dp, b, s, row, position, 0);
      return -1;
    }
    position = next;
  }
  writeCursor(dp, b, s, row, position, 0);
  return first + position;
}

function isClosedAt(dp: Datapath, b: Burst, s: number, first: number, count: number, position: number): boolean {
  return position >= count || isClosed(dp.ipvsState!, dp.ipvs!.services, b.shard[s], b.node[s], first + position);
}

/** Where the cursor's server stands now; the place before its own where it is gone; the head stays the head. */
function findPosition(dp: Datapath, row: number, cursor: number): number {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const count = serverWord(services, row, VS_COUNT);
  if (cursorPosition(dp, cursor) === -1) return -1;
  const id = sharedRegister(dp.ipvsState!.shared, cursor, 1);
  for (let position = 0; position < count; position++) {
    if (realWord(services, first + position, RS_ID) === id) return position;
  }
  return Math.min(cursorPosition(dp, cursor), count) - 1;
}

/**
 * Weighted round robin: passes over the list with a falling minimum weight, from the largest down by the common divisor.
 * A service that has just been made begins with minimum 1, because its servers came one by one.
 */
export function scheduleWeightedRoundRobin(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  const step = serverWord(services, row, VS_GCD);
  const most = serverWord(services, row, VS_MAX_WEIGHT) - (step - 1);
  const cursor = readCursor(dp, b, s, row);
  let position = -1;
  let weight = 1;
  if (cursor !== -1) {
    position = cursorPosition(dp, cursor);
    weight = sharedRegister(dp.ipvsState!.shared, cursor, 0) & 0xffff;
    if (isListChanged(dp, row, cursor)) {
      position = -1;
      if (weight > most || weight === 0) weight = most;
      else if (step > 1) weight = Math.trunc(weight / step) * step + 1;
    }
  }
  let turns = isStaggered(dp, cursor) ? b.shard[s] : 0;
  let found = most === 0 ? -1 : 0;
  for (; turns >= 0 && found !== -1; turns--) {
    found = turnWeighted(dp, b, s, row, position, weight, most, step);
    position = dp.ipvs!.scratch.words[WRR_POSITION];
    weight = dp.ipvs!.scratch.words[WRR_WEIGHT];
  }
  writeCursor(dp, b, s, row, position, weight);
  return found === -1 ? -1 : serverWord(services, row, VS_FIRST) + position;
}

/** One turn from a position (-1: the head) and minimum weight; 0, or -1 if no server is open. */
function turnWeighted(
  dp: Datapath,
  b: Burst,
  s: number,
  row: number,
  position: number,
  weight: number,
  most: number,
  step: number,
): number {
  const services = dp.ipvs!.services;
  const out = dp.ipvs!.scratch.words;
  const first = serverWord(services, row, VS_FIRST);
  const count = serverWord(services, row, VS_COUNT);
  const last = position;
  let stop = -1;
  let isLastPass = false;
  let hasRestarted = false;
  out[WRR_WEIGHT] = weight;
  for (;;) {
    for (position++; position < count; position++) {
      const isHeavy = realWord(services, first + position, RS_WEIGHT) >= weight;
      if (isHeavy && !isOverloaded(dp.ipvsState!, services, b.shard[s], b.node[s], first + position)) {
        out[WRR_POSITION] = position;
        out[WRR_WEIGHT] = weight;
        return 0;
      }
      if (position === stop) {
        out[WRR_POSITION] = position;
        out[WRR_WEIGHT] = weight;
        return -1;
      }
    }
    position = -1;
    weight -= step;
    if (weight <= 0) {
      weight = most;
      if (isLastPass || last === -1) {
        out[WRR_POSITION] = -1;
        out[WRR_WEIGHT] = weight;
        return -1;
      }
      hasRestarted = true;
    }
    isLastPass = weight <= step;
    if (isLastPass && hasRestarted && last !== -1) stop = last;
  }
}

function readCursor(dp: Datapath, b: Burst, s: number, row: number): number {
  const state = dp.ipvsState!;
  setKey(state.key, SHARED_CURSOR, b.node[s], serverWord(dp.ipvs!.services, row, VS_ID), 0, 0, 0, 0, 0);
  return sharedFind(state.shared, b.shard[s], state.key);
}

/** Position of a cursor in its list, -1 for the head. */
function cursorPosition(dp: Datapath, cursor: number): number {
  return (sharedRegister(dp.ipvsState!.shared, cursor, 0) >>> 16) - 1;
}

/** True if the list is not the one that the cursor was left in. */
function isListChanged(dp: Datapath, row: number, cursor: number): boolean {
  return sharedRegister(dp.ipvsState!.shared, cursor, 2) !== serverWord(dp.ipvs!.services, row, VS_LIST);
}

/** True if the shard uses the cursor for the first time since the tick and shares it with others. */
function isStaggered(dp: Datapath, cursor: number): boolean {
  const shared = dp.ipvsState!.shared;
  return shared.shards > 1 && (cursor === -1 || isSharedMerged(shared, cursor));
}

function writeCursor(dp: Datapath, b: Burst, s: number, row: number, position: number, weight: number): void {
  const state = dp.ipvsState!;
  const services = dp.ipvs!.services;
  setKey(state.key, SHARED_CURSOR, b.node[s], serverWord(services, row, VS_ID), 0, 0, 0, 0, 0);
  const id = position === -1 ? -1 : realWord(services, serverWord(services, row, VS_FIRST) + position, RS_ID);
  const word = ((position + 1) << 16) | weight;
  const list = serverWord(services, row, VS_LIST);
  sharedSet(state.shared, b.shard[s], state.key, word, id, list, true, 0, b.timeMs[s]);
}

// ---- loads ------------------------------------------------------------------------------------------------------

/** Least connections, whatever the weights. */
export function scheduleLeast(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  let least = -1;
  let lowest = 0;
  for (let real = first; real < end; real++) {
    if (isClosed(dp.ipvsState!, services, b.shard[s], b.node[s], real)) continue;
    const load = overheadOf(dp, b, s, real);
    if (least === -1 || load < lowest) {
      least = real;
      lowest = load;
    }
  }
  return least;
}

/** Weighted least connections: overhead / weight. */
export function scheduleWeightedLeast(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  let least = -1;
  let lowest = 0;
  for (let real = first; real < end; real++) {
    if (isClosed(dp.ipvsState!, services, b.shard[s], b.node[s], real)) continue;
    const load = overheadOf(dp, b, s, real);
    const weight = realWord(services, real, RS_WEIGHT);
    if (least === -1 || lowest * weight > load * realWord(services, least, RS_WEIGHT)) {
      least = real;
      lowest = load;
    }
  }
  return least;
}

/**
 * Shortest expected delay: (active connections + 1) / weight.
 * @param neverQueue nq: the first idle server, whatever its weight, before any such reckoning
 */
export function scheduleShortestDelay(dp: Datapath, b: Burst, s: number, row: number, neverQueue: boolean): number {
  const state = dp.ipvsState!;
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  let least = -1;
  let lowest = 0;
  for (let real = first; real < end; real++) {
    if (isClosed(state, services, b.shard[s], b.node[s], real)) continue;
    const active = activeOf(state, b.shard[s], b.node[s], realWord(services, real, RS_ID));
    if (neverQueue && active === 0) return real;
    const weight = realWord(services, real, RS_WEIGHT);
    if (least === -1 || lowest * weight > (active + 1) * realWord(services, least, RS_WEIGHT)) {
      least = real;
      lowest = active + 1;
    }
  }
  return least;
}

/**
 * The heaviest server.
 * @param overflow ovf: of those whose active connections do not exceed their weight; otherwise fo
 */
export function scheduleHeaviest(dp: Datapath, b: Burst, s: number, row: number, overflow: boolean): number {
  const state = dp.ipvsState!;
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  let heaviest = -1;
  let most = 0;
  for (let real = first; real < end; real++) {
    if (isClosed(state, services, b.shard[s], b.node[s], real)) continue;
    const weight = realWord(services, real, RS_WEIGHT);
    if (weight <= most) continue;
    if (overflow && activeOf(state, b.shard[s], b.node[s], realWord(services, real, RS_ID)) > weight) continue;
    heaviest = real;
    most = weight;
  }
  return heaviest;
}

/** Active connections count 256 times. */
export function overheadOf(dp: Datapath, b: Burst, s: number, real: number): number {
  const state = dp.ipvsState!;
  const id = realWord(dp.ipvs!.services, real, RS_ID);
  return activeOf(state, b.shard[s], b.node[s], id) * 256 + inactiveOf(state, b.shard[s], b.node[s], id);
}

// ---- hashes -----------------------------------------------------------------------------------------------------

/** Source hashing. Without the fallback a client whose server is closed gets none. */
export function scheduleSourceHash(dp: Datapath, b: Burst, s: number, row: number): number {
  const flags = serverWord(dp.ipvs!.services, row, VS_FLAGS);
  const word = foldAddress(b.family[s], b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
  const port = (flags & VS_HASH_PORT) !== 0 ? b.sport[s] : 0;
  const home = sourceBucket(word, port, 0);
  const real = ringServer(dp, row, home);
  if (real === -1 || !isClosed(dp.ipvsState!, dp.ipvs!.services, b.shard[s], b.node[s], real)) return real;
  if ((flags & VS_FALLBACK) === 0) return -1;
  for (let offset = 0; offset < SH_RING; offset++) {
    const other = ringServer(dp, row, sourceBucket(word, port, (offset + home) % SH_RING));
    if (other === -1 || !isClosed(dp.ipvsState!, dp.ipvs!.services, b.shard[s], b.node[s], other)) return other;
  }
  return -1;
}

/** Destination hashing. */
export function scheduleDestinationHash(dp: Datapath, b: Burst, s: number, row: number): number {
  const word = foldAddress(b.family[s], b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
  const real = ringServer(dp, row, destinationBucket(word));
  if (real === -1 || isClosed(dp.ipvsState!, dp.ipvs!.services, b.shard[s], b.node[s], real)) return -1;
  return real;
}

/** Maglev hashing of the source. Without the fallback a client whose server is closed gets none. */
export function scheduleMaglev(dp: Datapath, b: Burst, s: number, row: number): number {
  const flags = serverWord(dp.ipvs!.services, row, VS_FLAGS);
  const word = foldAddress(b.family[s], b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
  const port = (flags & VS_HASH_PORT) !== 0 ? b.sport[s] : 0;
  const home = maglevBucket(word, port, 0);
  const real = ringServer(dp, row, home);
  if (real === -1 || !isClosed(dp.ipvsState!, dp.ipvs!.services, b.shard[s], b.node[s], real)) return real;
  if ((flags & VS_FALLBACK) === 0) return -1;
  for (let offset = 0; offset < MH_RING; offset++) {
    const other = ringServer(dp, row, maglevBucket(word, port, (offset + home) % MH_RING));
    if (other === -1 || !isClosed(dp.ipvsState!, dp.ipvs!.services, b.shard[s], b.node[s], other)) return other;
  }
  return -1;
}

function ringServer(dp: Datapath, row: number, bucket: number): number {
  const services = dp.ipvs!.services;
  const position = services.words[serverWord(services, row, VS_RING) + bucket];
  return position === -1 ? -1 : serverWord(services, row, VS_FIRST) + position;
}
