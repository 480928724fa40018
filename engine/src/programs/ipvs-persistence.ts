/**
 * Persistence: a client (or a network of clients) stays with its real server (linux ip_vs_core.c, ip_vs_sched_persist).
 *
 * 1. A client's stay is renewed by each new connection for the virtual server's timeout, not by packets.
 * 2. It does not end while connections stand under it: its timer is then wound up again for a minute, and from then on
 *    new connections renew it for a minute only.
 * 3. A client whose real server is gone, or has weight 0 (expire_quiescent_template), is scheduled anew.
 *
 * What differs: connections of an earlier stay with another real server count as standing under the present one.
 */
import {
  findReal,
  RS_ID,
  RS_WEIGHT,
  realWord,
  serverWord,
  VS_ID,
  VS_NETMASK,
  VS_TIMEOUT_MS,
} from '../tables/ipvs-services.ts';
import {
  isSharedLive,
  sharedAdd,
  sharedExpiry,
  sharedFind,
  sharedRegister,
  sharedSet,
  sharedSum,
} from '../tables/ipvs-shared.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { IPVS_EXPIRE_QUIESCENT } from './ipvs-image.ts';
import { type IpvsState, SUM_CONTROLLED, setClientKey, setConnectionClientKey } from './ipvs-state.ts';

/** How long a timer is wound up again that came up while connections stand. */
const REWIND_MS = 60_000;

/** The real server (row) that the frame's client stays with at a virtual server; -1 for none. Renews the stay. */
export function findStay(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  const state = dp.ipvsState!;
  const shard = b.shard[s];
  const now = b.timeMs[s];
  dp.counters[COUNT_LOOKUPS]++;
  setStayKey(dp, b, s, row);
  const at = sharedFind(state.shared, shard, state.key);
  if (at === -1) return -1;
  const isLive = isSharedLive(state.shared, at, now);
  if (!isLive && sharedSum(state.shared, shard, state.key, SUM_CONTROLLED) <= 0) return -1;
  const id = sharedRegister(state.shared, at, 0);
  const real = findReal(services, row, id);
  if (real === -1) return -1;
  if (realWord(services, real, RS_WEIGHT) === 0 && (dp.ipvs!.options & IPVS_EXPIRE_QUIESCENT) !== 0) return -1;
  const timeout = isLive ? sharedRegister(state.shared, at, 1) : REWIND_MS;
  sharedSet(state.shared, shard, state.key, id, timeout, 0, false, now + timeout, now);
  return real;
}

/** The frame's client stays with a real server (row) from now on. */
export function beginStay(dp: Datapath, b: Burst, s: number, row: number, real: number): void {
  const services = dp.ipvs!.services;
  const state = dp.ipvsState!;
  const timeout = serverWord(services, row, VS_TIMEOUT_MS);
  const now = b.timeMs[s];
  setStayKey(dp, b, s, row);
  const id = realWord(services, real, RS_ID);
  sharedSet(state.shared, b.shard[s], state.key, id, timeout, 0, false, now + timeout, now);
}

function setStayKey(dp: Datapath, b: Burst, s: number, row: number): void {
  const services = dp.ipvs!.services;
  const length = serverWord(services, row, VS_NETMASK);
  const id = serverWord(services, row, VS_ID);
  setClientKey(dp.ipvsState!.key, b.node[s], id, length, b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
}

/** A connection stands under its client's stay. */
export function addControlled(state: IpvsState, shard: number, at: number, nowMs: number): void {
  setConnectionClientKey(state.connections, at, state.key);
  sharedAdd(state.shared, shard, state.key, SUM_CONTROLLED, 1, nowMs);
}

/** A connection that stood under its client's stay ends. */
export function releaseControlled(state: IpvsState, shard: number, at: number, endMs: number): void {
  const shared = state.shared;
  setConnectionClientKey(state.connections, at, state.key);
  sharedAdd(shared, shard, state.key, SUM_CONTROLLED, -1, endMs);
  if (sharedSum(shared, shard, state.key, SUM_CONTROLLED) > 0) return;
  const stay = sharedFind(shared, shard, state.key);
  if (stay === -1 || isSharedLive(shared, stay, endMs)) return;
  // The timer came up before, and every minute since: the stay ends when it comes up next.
  const late = (endMs - sharedExpiry(shared, stay)) | 0;
  const rewinds = Math.max(1, Math.ceil(late / REWIND_MS));
  const expiry = sharedExpiry(shared, stay) + rewinds * REWIND_MS;
  sharedSet(shared, shard, state.key, sharedRegister(shared, stay, 0), REWIND_MS, 0, false, expiry, endMs);
}
