/**
 * The load of real servers as their schedulers see it: counts of active and inactive connections, and overload.
 *
 * A connection begins inactive and is active while its TCP or SCTP connection is established (UDP never is). A real
 * server with an upper threshold is overloaded from it on and stays so until the connections fall below the lower
 * threshold, or below three quarters of the upper where there is none (linux ip_vs_conn.c).
 * Counts are of one node, kept by RS_ID, and outlive images: a real server that drains keeps its connections.
 */
import { type IpvsServices, RS_ID, RS_LOWER, RS_UPPER, RS_WEIGHT, realWord } from '../tables/ipvs-services.ts';
import { sharedAdd, sharedFind, sharedRegister, sharedSet, sharedSum } from '../tables/ipvs-shared.ts';
import { type IpvsState, SHARED_REAL, SUM_ACTIVE, SUM_INACTIVE, setKey } from './ipvs-state.ts';

/** Active connections of the real server with this RS_ID on a node. */
export function activeOf(state: IpvsState, shard: number, node: number, id: number): number {
  setKey(state.key, SHARED_REAL, node, id, 0, 0, 0, 0, 0);
  return sharedSum(state.shared, shard, state.key, SUM_ACTIVE);
}

/** Inactive connections of the real server with this RS_ID on a node. */
export function inactiveOf(state: IpvsState, shard: number, node: number, id: number): number {
  setKey(state.key, SHARED_REAL, node, id, 0, 0, 0, 0, 0);
  return sharedSum(state.shared, shard, state.key, SUM_INACTIVE);
}

/** True if a new connection must not go to this real server: weight 0, or overloaded. */
export function isClosed(state: IpvsState, services: IpvsServices, shard: number, node: number, real: number): boolean {
  return realWord(services, real, RS_WEIGHT) === 0 || isOverloaded(state, services, shard, node, real);
}

/** True if the real server has more connections than its threshold allows. */
export function isOverloaded(
  state: IpvsState,
  services: IpvsServices,
  shard: number,
  node: number,
  real: number,
): boolean {
  if (realWord(services, real, RS_UPPER) === 0) return false;
  setKey(state.key, SHARED_REAL, node, realWord(services, real, RS_ID), 0, 0, 0, 0, 0);
  const at = sharedFind(state.shared, shard, state.key);
  return at !== -1 && sharedRegister(state.shared, at, 1) !== 0;
}

/** Counts a connection that began, inactive. */
export function countBegin(
  state: IpvsState,
  services: IpvsServices,
  shard: number,
  node: number,
  real: number,
  nowMs: number,
): void {
  const id = realWord(services, real, RS_ID);
  setKey(state.key, SHARED_REAL, node, id, 0, 0, 0, 0, 0);
  sharedAdd(state.shared, shard, state.key, SUM_INACTIVE, 1, nowMs);
  const upper = realWord(services, real, RS_UPPER);
  if (upper === 0 || totalOf(state, shard) < upper) return;
  sharedSet(state.shared, shard, state.key, realWord(services, real, RS_LOWER), upper, 0, true, 0, nowMs);
}

/** Counts a connection of the real server with this RS_ID that changed between active and inactive. */
export function countChange(
  state: IpvsState,
  shard: number,
  node: number,
  id: number,
  active: boolean,
  nowMs: number,
): void {
  setKey(state.key, SHARED_REAL, node, id, 0, 0, 0, 0, 0);
  sharedAdd(state.shared, shard, state.key, SUM_ACTIVE, active ? 1 : -1, nowMs);
  sharedAdd(state.shared, shard, state.key, SUM_INACTIVE, active ? -1 : 1, nowMs);
}

/** Counts a connection of the real server with this RS_ID that ended. */
export function countEnd(
  state: IpvsState,
  shard: number,
  node: number,
  id: number,
  inactive: boolean,
  nowMs: number,
): void {
  const shared = state.shared;
  const key = state.key;
  setKey(key, SHARED_REAL, node, id, 0, 0, 0, 0, 0);
  sharedAdd(shared, shard, key, inactive ? SUM_INACTIVE : SUM_ACTIVE, -1, nowMs);
  const at = sharedFind(shared, shard, key);
  if (at === -1) return;
  const lower = sharedRegister(shared, at, 0);
  const upper = sharedRegister(shared, at, 1);
  if (upper === 0) return;
  const total = totalOf(state, shard);
  const relieved = lower !== 0 ? total < lower : total * 4 < upper * 3;
  if (relieved) sharedSet(shared, shard, key, 0, 0, 0, false, nowMs, nowMs);
}

/** All connections of the real server whose key is set. */
function totalOf(state: IpvsState, shard: number): number {
  return (
    sharedSum(state.shared, shard, state.key, SUM_ACTIVE) + sharedSum(state.shared, shard, state.key, SUM_INACTIVE)
  );
}
