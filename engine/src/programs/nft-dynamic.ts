/**
 * What packets write into an nftables ruleset: elements of dynamic sets, and the counters of `numgen inc`.
 *
 * Both are stamps of the datapath's affinity table, so a shard sees its own at once and those of others from the next tick
 * on, whatever the number of workers; with one shard everything is as in the kernel. Every node has its own.
 *
 *     an element   id = list × nodes + node, key = the set's key of up to four words; value:
 *                  0 removed · FOREVER · else the virtual time in ms at which it expires, 31 bits, never 0 or FOREVER
 *     a counter    id = -1 - (counter × nodes + node), key = the shard; value: the number it gave last
 *
 * The compiled elements of a set stay where they are; a stamp covers the element of its key. An element is gone from the
 * moment at which its life ends. Lives above MAX_LIFE_MS (12 days) are for ever.
 * A shard that has no room for a stamp until the next tick behaves as a full set: the statement does not hold.
 */
import { affinityFind, affinityMerge, affinitySet } from '../tables/affinity.ts';
import { DYNAMIC_ADD, DYNAMIC_DELETE } from '../tables/nft-rules.ts';
import { findNftElement, SET_KEY_WORDS, SET_LIFE_MS, SET_STAMPS } from '../tables/nft-sets.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';

const ANY_AGE = 0x7fffffff;
const REMOVED = 0;
const FOREVER = 0x7fffffff;
const TIME_MASK = 0x7fffffff;
const MAX_LIFE_MS = 0x3fffffff;

/** Answers of `findAdded`. */
export const ADDED_NONE = -1;
export const ADDED_REMOVED = 0;
export const ADDED_PRESENT = 1;

/**
 * What packets have made of the key in `registers[at]` and behind it.
 * @param t where the set begins in `sets`
 * @returns ADDED_PRESENT, ADDED_REMOVED, or ADDED_NONE: no packet has touched it, or what was added has expired
 */
export function findAdded(
  dp: Datapath,
  b: Burst,
  s: number,
  sets: Int32Array,
  t: number,
  registers: Int32Array,
  at: number,
): number {
  const words = sets[t + SET_KEY_WORDS];
  const value = affinityFind(
    dp.affinity,
    b.shard[s],
    sets[t + SET_STAMPS] * dp.topology.nodes + b.node[s],
    registers[at],
    words > 1 ? registers[at + 1] : 0,
    words > 2 ? registers[at + 2] : 0,
    words > 3 ? registers[at + 3] : 0,
    b.timeMs[s],
    ANY_AGE,
  );
  if (value === -1) return ADDED_NONE;
  if (value === REMOVED) return ADDED_REMOVED;
  return value === FOREVER || isBefore(b.timeMs[s], value) ? ADDED_PRESENT : ADDED_NONE;
}

/**
 * `add @set { … }`, `update`, `delete`: an update gives the element its whole life again, an add only makes what is not
 * there.
 * @param how DYNAMIC_…
 * @param lifeMs of the element; 0 for ever, -1 the set's
 * @returns false where the kernel's statement would not hold
 */
export function changeElement(
  dp: Datapath,
  b: Burst,
  s: number,
  sets: Int32Array,
  t: number,
  registers: Int32Array,
  at: number,
  how: number,
  lifeMs: number,
): boolean {
  if (sets[t + SET_STAMPS] === -1) return false;
  const added = findAdded(dp, b, s, sets, t, registers, at);
  const compiled = added === ADDED_NONE && findNftElement(sets, t, registers, at) !== -1;
  const present = added === ADDED_PRESENT || compiled;
  if (how === DYNAMIC_DELETE) return present && stampElement(dp, b, s, sets, t, registers, at, REMOVED);
  // An element of the ruleset itself has no life to renew.
  if (compiled || (present && how === DYNAMIC_ADD)) return true;
  const life = lifeMs === -1 ? sets[t + SET_LIFE_MS] : lifeMs;
  return stampElement(dp, b, s, sets, t, registers, at, expiryOf(b.timeMs[s], life));
}

/** The next number of a counter below `modulus`: 0, 1, … and again. */
export function nextNumber(dp: Datapath, b: Burst, s: number, counter: number, modulus: number): number {
  const id = -1 - (counter * dp.topology.nodes + b.node[s]);
  const shard = b.shard[s];
  const last = affinityFind(dp.affinity, shard, id, shard, 0, 0, 0, b.timeMs[s], ANY_AGE);
  const next = last + 1 < modulus ? last + 1 : 0;
  affinitySet(dp.affinity, shard, id, shard, 0, 0, 0, next, b.timeMs[s]);
  if (dp.affinity.shards === 1) affinityMerge(dp.affinity);
  return next;
}

function stampElement(
  dp: Datapath,
  b: Burst,
  s: number,
  sets: Int32Array,
  t: number,
  registers: Int32Array,
  at: number,
  value: number,
): boolean {
  const words = sets[t + SET_KEY_WORDS];
  const written = affinitySet(
    dp.affinity,
    b.shard[s],
    sets[t + SET_STAMPS] * dp.topology.nodes + b.node[s],
    registers[at],
    words > 1 ? registers[at + 1] : 0,
    words > 2 ? registers[at + 2] : 0,
    words > 3 ? registers[at + 3] : 0,
    value,
    b.timeMs[s],
  );
  // A table of one shard has nobody to wait for.
  if (dp.affinity.shards === 1) affinityMerge(dp.affinity);
  return written === 0;
}

function expiryOf(nowMs: number, lifeMs: number): number {
  if (lifeMs === 0 || lifeMs > MAX_LIFE_MS) return FOREVER;
  const expiry = (nowMs + lifeMs) & TIME_MASK;
  return expiry === REMOVED || expiry === FOREVER ? 1 : expiry;
}

/** True if a moment of 31 bits lies ahead, by less than MAX_LIFE_MS. */
function isBefore(nowMs: number, expiry: number): boolean {
  const left = (expiry - nowMs) & TIME_MASK;
  return left !== 0 && left <= MAX_LIFE_MS;
}
