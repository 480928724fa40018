/**
 * Locality-based schedulers: one destination address stays with one real server (lblc) or a set of them (lblcr), so that
 * caches behind IPVS stay warm (linux ip_vs_lblc.c, ip_vs_lblcr.c).
 *
 * 1. lblc: a known destination keeps its server unless that is gone, quiesced, or crowded: more active connections than
 *    its weight while another server has less than half of its own. Else the least loaded by weight, which is remembered.
 * 2. lblcr: of the destination's set the least loaded; a crowded one calls the least loaded of all into the set. A set of
 *    several that has not changed for a day loses its most loaded member at its next use.
 * 3. A destination that has not been used for a day is forgotten.
 *
 * What differs: the kernel looks for forgotten destinations every half hour, this forgets them to the moment, and it keeps
 * them in the room of ipvs-shared.ts instead of 16,384 a service. Members of a set that are gone leave before others.
 */
import {
  findReal,
  RS_ID,
  RS_WEIGHT,
  realWord,
  serverWord,
  VS_COUNT,
  VS_FIRST,
  VS_ID,
} from '../tables/ipvs-services.ts';
import { isSharedLive, sharedFind, sharedRegister, sharedSet } from '../tables/ipvs-shared.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { activeOf, isClosed } from './ipvs-load.ts';
import { overheadOf, scheduleWeightedLeast } from './ipvs-schedulers.ts';
import { SHARED_CACHE, SHARED_MEMBER, setKey } from './ipvs-state.ts';

/** net.ipv4.vs.lblc_expiration and lblcr_expiration. */
const DAY_MS = 86_400_000;

export function scheduleLocality(dp: Datapath, b: Burst, s: number, row: number): number {
  const state = dp.ipvsState!;
  const services = dp.ipvs!.services;
  const shard = b.shard[s];
  const now = b.timeMs[s];
  setCacheKey(dp, b, s, row, SHARED_CACHE, 0);
  const at = sharedFind(state.shared, shard, state.key);
  let real = -1;
  if (at !== -1 && isSharedLive(state.shared, at, now)) {
    real = findReal(services, row, sharedRegister(state.shared, at, 0));
    if (real !== -1 && (realWord(services, real, RS_WEIGHT) === 0 || isCrowded(dp, b, s, row, real))) real = -1;
  }
  if (real === -1) real = scheduleWeightedLeast(dp, b, s, row);
  if (real === -1) return -1;
  setCacheKey(dp, b, s, row, SHARED_CACHE, 0);
  sharedSet(state.shared, shard, state.key, realWord(services, real, RS_ID), 0, 0, false, now + DAY_MS, now);
  return real;
}

export function scheduleReplicatedLocality(dp: Datapath, b: Burst, s: number, row: number): number {
  const state = dp.ipvsState!;
  const shard = b.shard[s];
  const now = b.timeMs[s];
  setCacheKey(dp, b, s, row, SHARED_CACHE, 0);
  const at = sharedFind(state.shared, shard, state.key);
  if (at === -1 || !isSharedLive(state.shared, at, now)) {
    const real = scheduleWeightedLeast(dp, b, s, row);
    if (real === -1) return -1;
    addMember(dp, b, s, row, real, 1);
    writeSet(dp, b, s, row, 1, now, 2);
    return real;
  }
  let size = sharedRegister(state.shared, at, 0);
  let changed = sharedRegister(state.shared, at, 1);
  let number = sharedRegister(state.shared, at, 2);
  let real = findMember(dp, b, s, row, false);
  if (size > 1 && ((now - changed) | 0) > DAY_MS) {
    const most = countMembers(dp, b, s, row) < size ? -1 : findMember(dp, b, s, row, true);
    if (most !== -1) dropMember(dp, b, s, row, most);
    size--;
    changed = now;
  }
  if (real === -1 || isCrowded(dp, b, s, row, real)) {
    real = scheduleWeightedLeast(dp, b, s, row);
    if (real !== -1 && memberNumber(dp, b, s, row, real) === 0) {
      addMember(dp, b, s, row, real, number++);
      size++;
      changed = now;
    }
  }
  prolongMembers(dp, b, s, row);
  writeSet(dp, b, s, row, size, changed, number);
  return real;
}

/** True if the real server has more active connections than its weight while another has less than half of its own. */
function isCrowded(dp: Datapath, b: Burst, s: number, row: number, real: number): boolean {
  const services = dp.ipvs!.services;
  if (activeAt(dp, b, s, real) <= realWord(services, real, RS_WEIGHT)) return false;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  for (let other = first; other < end; other++) {
    if (activeAt(dp, b, s, other) * 2 < realWord(services, other, RS_WEIGHT)) return true;
  }
  return false;
}

function activeAt(dp: Datapath, b: Burst, s: number, real: number): number {
  return activeOf(dp.ipvsState!, b.shard[s], b.node[s], realWord(dp.ipvs!.services, real, RS_ID));
}

// ---- sets of lblcr ----------------------------------------------------------------------------------------------

/** The least loaded open member of the set, or the most loaded one of any weight above 0; of equals the newest. */
function findMember(dp: Datapath, b: Burst, s: number, row: number, most: boolean): number {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  let best = -1;
  let bestLoad = 0;
  let bestNumber = 0;
  for (let real = first; real < end; real++) {
    const number = memberNumber(dp, b, s, row, real);
    if (number === 0) continue;
    if (most && realWord(services, real, RS_WEIGHT) === 0) continue;
    if (!most && isClosed(dp.ipvsState!, services, b.shard[s], b.node[s], real)) continue;
    const load = overheadOf(dp, b, s, real);
    let gap = 0;
    if (best !== -1) gap = bestLoad * realWord(services, real, RS_WEIGHT) - load * realWord(services, best, RS_WEIGHT);
    if (most) gap = -gap;
    if (best !== -1 && (gap < 0 || (gap === 0 && number < bestNumber))) continue;
    best = real;
    bestLoad = load;
    bestNumber = number;
  }
  return best;
}

/** Members of the set that are still there. */
function countMembers(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  let count = 0;
  for (let real = first; real < end; real++) if (memberNumber(dp, b, s, row, real) !== 0) count++;
  return count;
}

/** Number of a real server within its destination's set, the higher the newer; 0 if it is no member. */
function memberNumber(dp: Datapath, b: Burst, s: number, row: number, real: number): number {
  const state = dp.ipvsState!;
  setCacheKey(dp, b, s, row, SHARED_MEMBER, realWord(dp.ipvs!.services, real, RS_ID));
  const at = sharedFind(state.shared, b.shard[s], state.key);
  return at !== -1 && isSharedLive(state.shared, at, b.timeMs[s]) ? sharedRegister(state.shared, at, 0) : 0;
}

function addMember(dp: Datapath, b: Burst, s: number, row: number, real: number, number: number): void {
  const state = dp.ipvsState!;
  const now = b.timeMs[s];
  setCacheKey(dp, b, s, row, SHARED_MEMBER, realWord(dp.ipvs!.services, real, RS_ID));
  sharedSet(state.shared, b.shard[s], state.key, number, 0, 0, false, now + DAY_MS, now);
}

function dropMember(dp: Datapath, b: Burst, s: number, row: number, real: number): void {
  const state = dp.ipvsState!;
  const now = b.timeMs[s];
  setCacheKey(dp, b, s, row, SHARED_MEMBER, realWord(dp.ipvs!.services, real, RS_ID));
  sharedSet(state.shared, b.shard[s], state.key, 0, 0, 0, false, now, now);
}

/** Members live as long as their set. */
function prolongMembers(dp: Datapath, b: Burst, s: number, row: number): void {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = first + serverWord(services, row, VS_COUNT);
  for (let real = first; real < end; real++) {
    const number = memberNumber(dp, b, s, row, real);
    if (number !== 0) addMember(dp, b, s, row, real, number);
  }
}

function writeSet(dp: Datapath, b: Burst, s: number, row: number, size: number, changed: number, number: number): void {
  const state = dp.ipvsState!;
  const now = b.timeMs[s];
  setCacheKey(dp, b, s, row, SHARED_CACHE, 0);
  sharedSet(state.shared, b.shard[s], state.key, size, changed, number, false, now + DAY_MS, now);
}

function setCacheKey(dp: Datapath, b: Burst, s: number, row: number, kind: number, second: number): void {
  const id = serverWord(dp.ipvs!.services, row, VS_ID);
  setKey(dp.ipvsState!.key, kind, b.node[s], id, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], second);
}
