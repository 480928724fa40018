/**
 * Ports for source NAT: which port a masqueraded flow gets, so that its replies name it alone.
 *
 * A port is free for a destination when no flow of the node holds the reply tuple (destination -> address, port). The
 * kernel looks through one table; here every flow lives in its shard, and a shard sees its own flows only. So:
 * - Of S shards, shard w hands out the ports that are w modulo S: no two shards can hand out one port.
 * - A shard that has none left for a destination drops the packet (REASON_NO_NAT_MAPPING) and leaves a *wish*.
 * - At a tick, when all workers have met, `masqueradeTick` turns wishes into loans: free ports of other shards, in a
 *   fixed order, for that one destination. A lent port is marked, and its own class passes over it for that destination
 *   until it comes home. In the end exhaustion means the whole range.
 * Wishes and loans follow from packets and ticks, never from which worker ran a shard: results do not depend on workers.
 *
 * Memory, in words:
 *
 *     0 magic   1 shards   2 words of the buffer   3 pools in use
 *     wishes   WISHES rows per shard, written by the shard, taken and cleared at the tick:
 *       +0  1: in use   +1  zone << 9 | proto << 1 | (1: IPv6)   +2–5  destination   +6  low half of its ports word
 *       +7–10  address to masquerade with   +11  first port << 16 | last port   +12  time of the last refusal in ms
 *     pools    POOLS pools, only if S > 1; written at the tick only, read by all:
 *       +0–12   as a wish: the destination whose ports are lent (range and time unused)
 *       +13     head of each shard's list of borrowed ports, S words: port + 1, 0 none
 *       +13+S   a word per port: 0 with its own class, else (holder + 1) << 17 | next in the holder's list + 1
 *
 * Not seen across shards: a port that a flow keeps unmasqueraded (the node's own connection from that address and port
 * to that destination). The kernel would move one of the two; here both go, each with its shard.
 * The kernel gives up after 240 tries (nf_nat_l4proto_unique_tuple); this looks at every port, but when there was none,
 * not again for that destination within the same millisecond.
 */
import { type Conntrack, ctTaken4, ctTaken6 } from '../tables/conntrack.ts';
import { mix32 } from '../tables/hash.ts';
import type { Burst } from '../wire/burst.ts';
import { REASON_NO_NAT_MAPPING } from '../wire/reason.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { flowPorts } from './flow-key.ts';
import { createFragmentState, type FragmentState } from './fragment-state.ts';
import { createNetfilterScratch, type NetfilterScratch } from './netfilter-scratch.ts';

const MAGIC = 0x504d5046;
const HEAD_WORDS = 16;
const SHARDS_AT = 1;
const WORDS_AT = 2;
const POOLS_USED_AT = 3;

/** Destinations per shard that may wait for ports until the next tick; further ones wait for the tick after. */
const WISHES = 4;
/** Destinations whose ports can be lent at one time. */
const POOLS = 8;
/** Ports that one wish gets at one tick. */
const LOAN = 64;
const PORTS = 65_536;

const ROW_KEY = 1;
const ROW_DST = 2;
const ROW_LOW = 6;
const ROW_ADDRESS = 7;
const ROW_RANGE = 11;
const ROW_TIME = 12;
const ROW_WORDS = 13;

/**
 * Primes above any number of ports: a walk in such steps sees every port of a range once. Walks that start close to each
 * other part at once; single steps would pile up to runs and cost fourteen times as many looks to fill a range.
 */
const STEPS = Int32Array.of(
  65537,
  69653,
  73727,
  77839,
  81919,
  86011,
  90107,
  94201,
  98297,
  102397,
  106487,
  110563,
  114659,
  118747,
  122839,
  126943,
);

const NEXT_BITS = 17;
const NEXT_MASK = (1 << NEXT_BITS) - 1;

export interface MasqueradePorts {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  /** Shards of the conntrack tables: 1 … 256. */
  readonly shards: number;
  readonly poolsAt: number;
  readonly poolWords: number;
  /** The row that the present frame asks for; scratch of this file. */
  readonly wanted: Int32Array;
  /** Rows of the wishes that one pool serves at a tick, and what each has got; scratch of this file. */
  readonly wishers: Int32Array;
  readonly loans: Int32Array;
  /** Scratch and fragments of the netfilter programs: thread-local state that lives as long as this. */
  readonly scratch: NetfilterScratch;
  readonly fragments: FragmentState;
}

/**
 * Makes the state of source NAT for conntrack tables of so many shards.
 * @param shards 1 … 256
 */
export function createMasqueradePorts(shards: number): MasqueradePorts {
  if (!Number.isInteger(shards) || shards < 1 || shards > 256) {
    throw new RangeError(`shards must be a whole number from 1 to 256, not ${shards}`);
  }
  const words = new Int32Array(new SharedArrayBuffer(totalWords(shards) * 4));
  words[0] = MAGIC;
  words[SHARDS_AT] = shards;
  words[WORDS_AT] = words.length;
  return attachMasqueradePorts(words.buffer);
}

/**
 * Takes the state from another thread, or a copy of it.
 * @throws TypeError if the buffer does not hold one
 */
export function attachMasqueradePorts(buffer: SharedArrayBuffer): MasqueradePorts {
  const words = new Int32Array(buffer);
  if (words.length < HEAD_WORDS || words[0] !== MAGIC) throw new TypeError('not masquerade ports: wrong magic number');
  const shards = words[SHARDS_AT];
  if (words[WORDS_AT] !== words.length || words.length !== totalWords(shards)) {
    throw new TypeError(`masquerade ports of ${shards} shards have not ${words.length} words`);
  }
  return {
    buffer,
    words,
    shards,
    poolsAt: HEAD_WORDS + shards * WISHES * ROW_WORDS,
    poolWords: ROW_WORDS + shards + PORTS,
    wanted: new Int32Array(ROW_WORDS),
    wishers: new Int32Array(shards * WISHES),
    loans: new Int32Array(shards * WISHES),
    scratch: createNetfilterScratch(),
    fragments: createFragmentState(shards),
  };
}

function totalWords(shards: number): number {
  const pools = shards > 1 ? POOLS * (ROW_WORDS + shards + PORTS) : 0;
  return HEAD_WORDS + shards * WISHES * ROW_WORDS + pools;
}

// ---- a frame asks -----------------------------------------------------------------------------------------------

/**
 * A port (or ICMP identifier) with which the frame's source can become the address a0 … a3: its reply tuple is free.
 * The frame must carry its final destination.
 * @param first,last the range to choose from, 0 … 65535
 * @param keep port to prefer, if this shard may hand it out and it is free; -1 for none
 * @returns the port, or -REASON_NO_NAT_MAPPING
 */
export function allocatePort(
  dp: Datapath,
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  first: number,
  last: number,
  keep: number,
): number {
  const ports = dp.ports;
  const shard = b.shard[s];
  const now = b.timeMs[s];
  const row = ports.wanted;
  row[ROW_KEY] = (b.node[s] << 9) | (b.proto[s] << 1) | (b.family[s] === 6 ? 1 : 0);
  row[ROW_DST] = b.dst0[s];
  row[ROW_DST + 1] = b.dst1[s];
  row[ROW_DST + 2] = b.dst2[s];
  row[ROW_DST + 3] = b.dst3[s];
  row[ROW_LOW] = flowPorts(b, s) & 0xffff;
  row[ROW_ADDRESS] = a0;
  row[ROW_ADDRESS + 1] = a1;
  row[ROW_ADDRESS + 2] = a2;
  row[ROW_ADDRESS + 3] = a3;
  row[ROW_RANGE] = (first << 16) | last;
  const wish = findWish(ports, shard);
  if (wish !== -1 && ports.words[wish + ROW_TIME] === now) return -REASON_NO_NAT_MAPPING;
  const port = searchPort(dp, shard, b.flowHash[s], first, last, keep, now);
  if (port !== -1) return port;
  leaveWish(ports, shard, wish, now);
  return -REASON_NO_NAT_MAPPING;
}

/** A free port of the shard for the wanted row; -1 for none. */
function searchPort(
  dp: Datapath,
  shard: number,
  flowHash: number,
  first: number,
  last: number,
  keep: number,
  now: number,
): number {
  const ports = dp.ports;
  const shards = ports.shards;
  const words = ports.words;
  const row = ports.wanted;
  const ct = (row[ROW_KEY] & 1) === 1 ? dp.conntrack6 : dp.conntrack4;
  const pool = words[POOLS_USED_AT] === 0 ? -1 : findPool(ports, row, 0);
  const marks = pool + ROW_WORDS + shards;
  if (keep >= first && keep <= last && keep % shards === shard && (pool === -1 || words[marks + keep] === 0)) {
    dp.counters[COUNT_LOOKUPS]++;
    if (isFree(ct, shard, row, 0, keep, now)) return keep;
  }
  const lowest = first + ((shard - (first % shards) + shards) % shards);
  const count = lowest > last ? 0 : Math.trunc((last - lowest) / shards) + 1;
  const hash = mix32(flowHash ^ 0x6d617371);
  const step = count === 0 ? 0 : STEPS[hash & 15] % count;
  let at = count === 0 ? 0 : (hash >>> 4) % count;
  for (let i = 0; i < count; i++) {
    const port = lowest + at * shards;
    at += step;
    if (at >= count) at -= count;
    if (pool !== -1 && words[marks + port] !== 0) continue;
    dp.counters[COUNT_LOOKUPS]++;
    if (isFree(ct, shard, row, 0, port, now)) return port;
  }
  if (pool === -1) return -1;
  for (let next = words[pool + ROW_WORDS + shard]; next !== 0; next = words[marks + next - 1] & NEXT_MASK) {
    const port = next - 1;
    if (port < first || port > last) continue;
    dp.counters[COUNT_LOOKUPS]++;
    if (isFree(ct, shard, row, 0, port, now)) return port;
  }
  return -1;
}

/** True when no flow of the shard holds the reply tuple of a row with this port. */
function isFree(ct: Conntrack, shard: number, rows: Int32Array, at: number, port: number, now: number): boolean {
  const key = rows[at + ROW_KEY];
  const zone = key >>> 9;
  const proto = (key >>> 1) & 255;
  const ports = (rows[at + ROW_LOW] << 16) | port;
  if ((key & 1) === 0) {
    return ctTaken4(ct, shard, zone, proto, rows[at + ROW_DST], rows[at + ROW_ADDRESS], ports, now) === 0;
  }
  return (
    ctTaken6(
      ct,
      shard,
      zone,
      proto,
      rows[at + ROW_DST],
      rows[at + ROW_DST + 1],
      rows[at + ROW_DST + 2],
      rows[at + ROW_DST + 3],
      rows[at + ROW_ADDRESS],
      rows[at + ROW_ADDRESS + 1],
      rows[at + ROW_ADDRESS + 2],
      rows[at + ROW_ADDRESS + 3],
      ports,
      now,
    ) === 0
  );
}

/** The shard's wish for the wanted row and range, -1 for none. */
function findWish(ports: MasqueradePorts, shard: number): number {
  const words = ports.words;
  let at = HEAD_WORDS + shard * WISHES * ROW_WORDS;
  for (let i = 0; i < WISHES; i++, at += ROW_WORDS) {
    if (words[at] === 0) return -1;
    if (words[at + ROW_RANGE] === ports.wanted[ROW_RANGE] && isSameRow(words, at, ports.wanted, 0)) return at;
  }
  return -1;
}

/** Notes that the wanted row was refused now; when all rows of the shard are taken the wish is lost until a tick. */
function leaveWish(ports: MasqueradePorts, shard: number, wish: number, now: number): void {
  const words = ports.words;
  if (wish !== -1) {
    words[wish + ROW_TIME] = now;
    return;
  }
  let at = HEAD_WORDS + shard * WISHES * ROW_WORDS;
  for (let i = 0; i < WISHES; i++, at += ROW_WORDS) {
    if (words[at] !== 0) continue;
    for (let k = ROW_KEY; k <= ROW_RANGE; k++) words[at + k] = ports.wanted[k];
    words[at] = 1;
    words[at + ROW_TIME] = now;
    return;
  }
}

/** True when two rows name one destination and address; ranges may differ. */
function isSameRow(a: Int32Array, at: number, b: Int32Array, bt: number): boolean {
  for (let k = ROW_KEY; k < ROW_RANGE; k++) if (a[at + k] !== b[bt + k]) return false;
  return true;
}

/** The pool of a row's destination, -1 for none. */
function findPool(ports: MasqueradePorts, rows: Int32Array, row: number): number {
  const words = ports.words;
  let at = ports.poolsAt;
  for (let i = 0; i < POOLS; i++, at += ports.poolWords) {
    if (words[at] === 1 && isSameRow(words, at, rows, row)) return at;
  }
  return -1;
}

// ---- the tick ---------------------------------------------------------------------------------------------------

/**
 * Turns the wishes since the last tick into loans. Called by the thread that owns the tick, while no other runs.
 * @param nowMs virtual time of the tick
 */
export function masqueradeTick(dp: Datapath, nowMs: number): void {
  const ports = dp.ports;
  const words = ports.words;
  if (ports.shards > 1) {
    for (let at = HEAD_WORDS; at < ports.poolsAt; at += ROW_WORDS) {
      if (words[at] === 1 && findPool(ports, words, at) === -1) makePool(dp, at, nowMs);
    }
    if (words[POOLS_USED_AT] > 0) {
      for (let i = 0; i < POOLS; i++) {
        const pool = ports.poolsAt + i * ports.poolWords;
        if (words[pool] === 1) servePool(dp, pool, nowMs);
      }
    }
  }
  words.fill(0, HEAD_WORDS, ports.poolsAt);
}

/** Gives a wish's destination a pool: an unused one, or one whose lent ports are all free again. */
function makePool(dp: Datapath, wish: number, nowMs: number): void {
  const ports = dp.ports;
  const words = ports.words;
  for (let i = 0; i < POOLS; i++) {
    const pool = ports.poolsAt + i * ports.poolWords;
    if (words[pool] === 1) {
      if (hasUsedLoans(dp, pool, nowMs)) continue;
      words.fill(0, pool, pool + ports.poolWords);
      words[POOLS_USED_AT]--;
    }
    words[pool] = 1;
    for (let k = ROW_KEY; k < ROW_RANGE; k++) words[pool + k] = words[wish + k];
    words[POOLS_USED_AT]++;
    return;
  }
}

function hasUsedLoans(dp: Datapath, pool: number, nowMs: number): boolean {
  const ports = dp.ports;
  const words = ports.words;
  const ct = (words[pool + ROW_KEY] & 1) === 1 ? dp.conntrack6 : dp.conntrack4;
  const marks = pool + ROW_WORDS + ports.shards;
  for (let port = 0; port < PORTS; port++) {
    const mark = words[marks + port];
    if (mark !== 0 && !isFree(ct, (mark >>> NEXT_BITS) - 1, words, pool, port, nowMs)) return true;
  }
  return false;
}

/**
 * One pass over the ports from the highest down: each one that is free where it is goes to the next wisher in turn.
 * Wishers stand in the order of their shards.
 */
function servePool(dp: Datapath, pool: number, nowMs: number): void {
  const ports = dp.ports;
  const words = ports.words;
  const shards = ports.shards;
  const ct = (words[pool + ROW_KEY] & 1) === 1 ? dp.conntrack6 : dp.conntrack4;
  let wishers = 0;
  for (let at = HEAD_WORDS; at < ports.poolsAt; at += ROW_WORDS) {
    if (words[at] !== 1 || !isSameRow(words, at, words, pool)) continue;
    ports.wishers[wishers] = at;
    ports.loans[wishers++] = 0;
  }
  let open = wishers;
  let turn = 0;
  for (let port = PORTS - 1; port >= 0 && open > 0; port--) {
    const mark = words[pool + ROW_WORDS + shards + port];
    const holder = mark === 0 ? port % shards : (mark >>> NEXT_BITS) - 1;
    const taker = nextTaker(ports, wishers, turn, port, holder);
    if (taker === -1 || !isFree(ct, holder, words, pool, port, nowMs)) continue;
    lendPort(ports, pool, port, holder, shardOfWish(ports.wishers[taker]));
    if (++ports.loans[taker] === LOAN) open--;
    turn = taker + 1 === wishers ? 0 : taker + 1;
  }
}

function shardOfWish(at: number): number {
  return Math.trunc((at - HEAD_WORDS) / (WISHES * ROW_WORDS));
}

/** The next wisher in turn that can use a port of this holder; -1 for none. */
function nextTaker(ports: MasqueradePorts, wishers: number, turn: number, port: number, holder: number): number {
  for (let i = 0; i < wishers; i++) {
    const taker = turn + i < wishers ? turn + i : turn + i - wishers;
    const at = ports.wishers[taker];
    const range = ports.words[at + ROW_RANGE];
    if (ports.loans[taker] === LOAN || shardOfWish(at) === holder) continue;
    if (port >= range >>> 16 && port <= (range & 0xffff)) return taker;
  }
  return -1;
}

/** Moves a port from its holder to a shard; to its own class it comes home unmarked. */
function lendPort(ports: MasqueradePorts, pool: number, port: number, holder: number, to: number): void {
  const words = ports.words;
  const heads = pool + ROW_WORDS;
  const marks = heads + ports.shards;
  if (words[marks + port] !== 0) {
    let link = heads + holder;
    while ((words[link] & NEXT_MASK) !== port + 1) link = marks + (words[link] & NEXT_MASK) - 1;
    words[link] = (words[link] & ~NEXT_MASK) | (words[marks + port] & NEXT_MASK);
    words[marks + port] = 0;
  }
  if (port % ports.shards === to) return;
  words[marks + port] = ((to + 1) << NEXT_BITS) | words[heads + to];
  words[heads + to] = port + 1;
}
