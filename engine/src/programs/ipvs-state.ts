/**
 * The state of the ipvs mode beside conntrack: connections (tables/ipvs-connections.ts) and what they share
 * (tables/ipvs-shared.ts), and the tick at which shards exchange it.
 *
 * Rows of the shared part. Each key begins with its kind and the node:
 *
 *     SHARED_REAL      RS_ID                              sums: active, inactive connections · r0, r1: thresholds, of one that is overloaded
 *     SHARED_CURSOR    VS_ID                              r0: position + 1 << 16 | current weight, r1: RS_ID there, r2: VS_LIST
 *     SHARED_CLIENT    VS_ID, client's network            sum 0: connections under it · r0: RS_ID, r1: timeout in ms
 *     SHARED_CACHE     VS_ID, destination                 r0: RS_ID (lblc), or size of the set, r1: its last change, r2: next number (lblcr)
 *     SHARED_MEMBER    VS_ID, destination, RS_ID          r0: number within its set, 0 for one that was taken out (lblcr)
 *
 * Within a tick a shard sees the counts of the last tick and its own changes since. A round robin that a shard has not
 * used since the tick begins as many turns further on as its number, so that shards do not all begin with one server.
 * With one shard everything is seen at once, as in the kernel.
 */
import {
  attachIpvsConnections,
  CONN_INACTIVE,
  connClear,
  connClearShard,
  connClient,
  connFlags,
  connNext,
  connNode,
  connPersistence,
  connRealServer,
  connVirtualServer,
  createIpvsConnections,
  type IpvsConnections,
} from '../tables/ipvs-connections.ts';
import {
  attachIpvsShared,
  createIpvsShared,
  type IpvsShared,
  SHARED_KEY_WORDS,
  sharedClear,
  sharedForgetShard,
  sharedForgetSums,
  sharedMerge,
  sharedRecount,
  sharedRefused,
} from '../tables/ipvs-shared.ts';

export const SHARED_REAL = 1;
export const SHARED_CURSOR = 2;
const SHARED_CLIENT = 3;
export const SHARED_CACHE = 4;
export const SHARED_MEMBER = 5;

/** Sums of SHARED_REAL. */
export const SUM_ACTIVE = 0;
export const SUM_INACTIVE = 1;
/** Sum of SHARED_CLIENT. */
export const SUM_CONTROLLED = 0;

/** Rows that a shard can write between two ticks: real servers, cursors and clients that it meets in a tick. */
const PENDING_ROWS = 256;
/** Shared rows beside one per connection: real servers and cursors that rest. */
const SPARE_ROWS = 64;

export interface IpvsState {
  readonly connections: IpvsConnections;
  readonly shared: IpvsShared;
  /** A key under construction. Belongs to the thread; nothing in it outlives a call. */
  readonly key: Int32Array;
}

export interface IpvsStateParts {
  readonly connections: SharedArrayBuffer;
  readonly shared: SharedArrayBuffer;
}

/**
 * Makes empty state.
 * @param connections that the table holds before it is full, both families together
 * @param shards a power of two, 1 to 256
 */
export function createIpvsState(connections: number, shards: number): IpvsState {
  return {
    connections: createIpvsConnections(connections, shards),
    shared: createIpvsShared(connections + SPARE_ROWS, shards, PENDING_ROWS),
    key: new Int32Array(SHARED_KEY_WORDS),
  };
}

export function ipvsStateParts(state: IpvsState): IpvsStateParts {
  return { connections: state.connections.buffer, shared: state.shared.buffer };
}

/** @throws TypeError if a buffer does not hold its table */
export function attachIpvsState(parts: IpvsStateParts): IpvsState {
  return {
    connections: attachIpvsConnections(parts.connections),
    shared: attachIpvsShared(parts.shared),
    key: new Int32Array(SHARED_KEY_WORDS),
  };
}

/** Forgets everything; takes time only for what is there. Only while no other thread uses it. */
export function clearIpvsState(state: IpvsState): void {
  connClear(state.connections);
  sharedClear(state.shared);
}

/** Forgets the connections of a shard whose worker died. */
export function forgetIpvsShard(state: IpvsState, shard: number): void {
  connClearShard(state.connections, shard);
  sharedForgetShard(state.shared, shard);
}

/** Writes a key of words that stand for themselves. */
export function setKey(
  key: Int32Array,
  kind: number,
  node: number,
  id: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  second: number,
): void {
  key[0] = (kind << 16) | node;
  key[1] = id;
  key[2] = a0;
  key[3] = a1;
  key[4] = a2;
  key[5] = a3;
  key[6] = second;
}

/** Writes the key of a client's persistence: the first `length` bits of its address. */
export function setClientKey(
  key: Int32Array,
  node: number,
  virtualServer: number,
  length: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): void {
  const m0 = a0 & prefixMask(length);
  const m1 = a1 & prefixMask(length - 32);
  const m2 = a2 & prefixMask(length - 64);
  const m3 = a3 & prefixMask(length - 96);
  setKey(key, SHARED_CLIENT, node, virtualServer, m0, m1, m2, m3, 0);
}

function prefixMask(length: number): number {
  if (length >= 32) return -1;
  return length <= 0 ? 0 : -1 << (32 - length);
}

/**
 * Lets the shards know of each other. For the tick, by one thread while the others wait.
 * A shard that had no room for its writes has miscounted: then all sums are counted anew from the connections.
 */
export function tickIpvsState(state: IpvsState, nowMs: number): void {
  sharedMerge(state.shared, state.key, nowMs);
  if (sharedRefused(state.shared) === 0) return;
  sharedForgetSums(state.shared);
  const { connections, shared, key } = state;
  for (let shard = 0; shard < connections.shards; shard++) {
    for (let at = connNext(connections, shard, -1); at !== -1; at = connNext(connections, shard, at)) {
      const inactive = (connFlags(connections, at) & CONN_INACTIVE) !== 0;
      setKey(key, SHARED_REAL, connNode(connections, at), connRealServer(connections, at), 0, 0, 0, 0, 0);
      sharedRecount(shared, key, inactive ? SUM_INACTIVE : SUM_ACTIVE, 1, nowMs);
      if (connPersistence(connections, at) === -1) continue;
      setConnectionClientKey(connections, at, key);
      sharedRecount(shared, key, SUM_CONTROLLED, 1, nowMs);
    }
  }
}

/** Writes the key of the persistence that a connection stands under. */
export function setConnectionClientKey(connections: IpvsConnections, at: number, key: Int32Array): void {
  setClientKey(
    key,
    connNode(connections, at),
    connVirtualServer(connections, at),
    connPersistence(connections, at),
    connClient(connections, at, 0),
    connClient(connections, at, 1),
    connClient(connections, at, 2),
    connClient(connections, at, 3),
  );
}
