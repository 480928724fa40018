/**
 * How flows leave the connection table when nobody closes them: time (`ctSweep`), and room (`ctEvictOldest` as an LRU
 * map of the kernel does it, `ctEarlyDrop` as netfilter does it). Which of the two a full table uses is the mode's choice.
 *
 * All look at one shard only, and only at slots in an order that the flows themselves fix: the outcome depends on the
 * packets of the shard, never on workers. All move slots (see conntrack-slots.ts). The owner of the shard calls them.
 *
 * What differs from the real systems: the kernel's LRU map keeps lists with a reference bit over the whole map, this is
 * the oldest of EVICTION_SAMPLE flows near the newcomer's home; netfilter empties the first of eight buckets that
 * holds an unassured flow, this takes the first such flow among EARLY_DROP_SLOTS slots, which is what eight buckets of
 * a full table hold.
 */
import { CT_ASSURED, ctAlive, ctPeer, ctRemove, ctState } from './conntrack.ts';
import { CONTROL_CURSOR, CONTROL_FLOWS, CONTROL_WORDS, type Conntrack } from './conntrack-slots.ts';

const EVICTION_SAMPLE = 8;
const EARLY_DROP_SLOTS = 16;

/**
 * Frees expired flows, a piece of the shard at a time; the next call goes on where this one ended.
 * @param budget slots to look at
 * @returns flows freed
 */
export function ctSweep(ct: Conntrack, shard: number, nowMs: number, budget: number): number {
  const words = ct.words;
  const control = ct.controlAt + shard * CONTROL_WORDS;
  const first = ct.slotsAt + shard * ct.partitionWords;
  let i = words[control + CONTROL_CURSOR];
  let freed = 0;
  for (let n = 0; n < budget && words[control + CONTROL_FLOWS] > 0; n++) {
    const at = first + i * ct.slotWords;
    if (words[at + ct.metaAt] !== 0 && ctAlive(ct, shard, at, nowMs) === 0) {
      ctRemove(ct, shard, at);
      freed++;
      // The run moved back: whatever stands at `i` now has not been seen.
    } else {
      i = (i + 1) & ct.mask;
    }
  }
  words[control + CONTROL_CURSOR] = i;
  return freed;
}

/** How long ago the flow carried a packet, in ms, as its expiry and the life of its state tell. */
function idleTime(ct: Conntrack, shard: number, slot: number, lifetimeMs: Int32Array, nowMs: number): number {
  const now = nowMs + lifetimeMs[ctState(ct, slot)];
  const own = (now - ct.words[slot + ct.expiryAt]) | 0;
  const other = (now - ct.words[ctPeer(ct, shard, slot) + ct.expiryAt]) | 0;
  return Math.min(own, other);
}

/**
 * Makes room for one flow: removes an expired flow, else the one idle longest, of a small sample.
 * @param hash of the newcomer's tuple (`ctHash4`, `ctHash6`): the sample starts at its home
 * @param lifetimeMs per state (16 lanes): what the program adds to the time of a packet to get the expiry
 * @returns 1 if a flow was removed; 0 if the shard is empty
 */
export function ctEvictOldest(
  ct: Conntrack,
  shard: number,
  hash: number,
  lifetimeMs: Int32Array,
  nowMs: number,
): number {
  const words = ct.words;
  const first = ct.slotsAt + shard * ct.partitionWords;
  let oldest = -1;
  let longest = 0;
  let seen = 0;
  let i = hash & ct.mask;
  for (let n = 0; n <= ct.mask && seen < EVICTION_SAMPLE; n++) {
    const at = first + i * ct.slotWords;
    i = (i + 1) & ct.mask;
    if (words[at + ct.metaAt] === 0) continue;
    seen++;
    if (ctAlive(ct, shard, at, nowMs) === 0) {
      oldest = at;
      break;
    }
    const idle = idleTime(ct, shard, at, lifetimeMs, nowMs);
    if (oldest === -1 || idle > longest) {
      oldest = at;
      longest = idle;
    }
  }
  if (oldest === -1) return 0;
  ctRemove(ct, shard, oldest);
  return 1;
}

/**
 * Makes room for one flow as netfilter does when the table is full: an expired flow goes, or one that has not yet been
 * assured (CT_ASSURED). Assured flows are never thrown out.
 * @param hash of the newcomer's tuple: the search starts at its home
 * @returns 1 if a flow was removed; 0 if the newcomer must be refused
 */
export function ctEarlyDrop(ct: Conntrack, shard: number, hash: number, nowMs: number): number {
  const words = ct.words;
  const first = ct.slotsAt + shard * ct.partitionWords;
  let seen = 0;
  let i = hash & ct.mask;
  for (let n = 0; n <= ct.mask && seen < EARLY_DROP_SLOTS; n++) {
    const at = first + i * ct.slotWords;
    i = (i + 1) & ct.mask;
    const meta = words[at + ct.metaAt];
    if (meta === 0) continue;
    seen++;
    if ((meta & CT_ASSURED) === 0 || ctAlive(ct, shard, at, nowMs) === 0) {
      ctRemove(ct, shard, at);
      return 1;
    }
  }
  return 0;
}
