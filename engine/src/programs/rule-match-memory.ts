/**
 * Matches that remember: `recent` with every option, and `statistic --mode nth`. Both live in the stamp table
 * (tables/affinity.ts), so that shards see each other's writes from the next tick on.
 *
 * A list of `recent` with n stamps an address takes 1 + n list ids, n a power of two:
 *
 *     id         value = time to live << 18 | next stamp to write << 9 | stamps written (never 0; 0: removed)
 *     id + 1 + k time of stamp k
 *
 * A counter of `nth` takes one id and the address 0: its value counts matches of the rule's other matches. Every shard
 * counts on from the last tick; one thread that owns all shards counts as the kernel does.
 * Source: linux net/netfilter/xt_recent.c and xt_statistic.c for what is matched and when.
 */
import { affinityFind, affinityMerge, affinitySet } from '../tables/affinity.ts';
import { takeChoice } from '../tables/event-ring.ts';
import { RECENT_CHECK, RECENT_DST, RECENT_REMOVE, RECENT_SET, RECENT_TTL, RECENT_UPDATE } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { FLOW_OUT } from './netfilter-scratch.ts';
import { EVENT_CHOICE, record3 } from './record.ts';
import { recentListId } from './rule-match.ts';

const FOREVER_MS = 0x7fffffff;
const WRITTEN = 511;
const NEXT_SHIFT = 9;
const TTL_SHIFT = 18;
const STAMPED = 1;

/** MATCH_RECENT_LIST at word `m`, its inversion counted. */
export function holdsRecentList(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  m: number,
  invert: boolean,
): boolean {
  const list = words[m + 1];
  const flags = words[m + 2];
  const stamps = words[m + 5];
  const dst = (flags & RECENT_DST) !== 0;
  const a0 = (dst ? b.dst0[s] : b.src0[s]) & words[m + 6];
  const a1 = (dst ? b.dst1[s] : b.src1[s]) & words[m + 7];
  const a2 = (dst ? b.dst2[s] : b.src2[s]) & words[m + 8];
  const a3 = (dst ? b.dst3[s] : b.src3[s]) & words[m + 9];
  // As seen before forwarding: behind it the time to live is one less.
  const hops = b.bytes[b.l3[s] + (b.family[s] === 4 ? 8 : 7)] + (dp.ports.scratch.flow[FLOW_OUT] !== 0 ? 1 : 0);
  dp.counters[COUNT_LOOKUPS]++;
  let entry = affinityFind(dp.affinity, b.shard[s], idOf(dp, b, s, list), a0, a1, a2, a3, b.timeMs[s], FOREVER_MS);
  if (entry <= 0 || ((flags & RECENT_TTL) !== 0 && entry >>> TTL_SHIFT !== hops)) {
    if ((flags & RECENT_SET) === 0) return invert;
    entry = 0;
  }
  let holds = invert;
  if ((flags & RECENT_SET) !== 0) holds = !invert;
  else if ((flags & RECENT_REMOVE) !== 0) {
    stamp(dp, b, s, list, a0, a1, a2, a3, 0);
    return !invert;
  } else if ((flags & (RECENT_CHECK | RECENT_UPDATE)) !== 0) {
    const hits = countHits(dp, b, s, list, entry & WRITTEN, words[m + 3], a0, a1, a2, a3);
    if (hits > 0 && hits >= words[m + 4]) holds = !invert;
  }
  if ((flags & RECENT_SET) !== 0 || ((flags & RECENT_UPDATE) !== 0 && holds)) {
    const next = (entry >>> NEXT_SHIFT) & WRITTEN;
    const written = Math.max(entry & WRITTEN, next + 1);
    const following = (next + 1) & (stamps - 1);
    stamp(dp, b, s, list + 1 + next, a0, a1, a2, a3, STAMPED);
    stamp(dp, b, s, list, a0, a1, a2, a3, (hops << TTL_SHIFT) | (following << NEXT_SHIFT) | written);
  }
  return holds;
}

/** Stamps of the last `seconds`, all of them for 0. */
function countHits(
  dp: Datapath,
  b: Burst,
  s: number,
  list: number,
  written: number,
  seconds: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
): number {
  const age = seconds === 0 ? FOREVER_MS : seconds * 1000;
  let hits = 0;
  for (let k = 0; k < written; k++) {
    const id = idOf(dp, b, s, list + 1 + k);
    if (affinityFind(dp.affinity, b.shard[s], id, a0, a1, a2, a3, b.timeMs[s], age) === STAMPED) hits++;
  }
  return hits;
}

/** True for one of `every` frames, at first for number `packet` from 0; of the two ways of a choice point the first is the match. */
export function holdsNth(
  dp: Datapath,
  b: Burst,
  s: number,
  list: number,
  every: number,
  packet: number,
  ruleId: number,
): boolean {
  if (every <= 1) return true;
  let taken = 0;
  if (b.choice[s] >= 0) taken = takeChoice(dp.ring, 2);
  else {
    const found = affinityFind(dp.affinity, b.shard[s], idOf(dp, b, s, list), 0, 0, 0, 0, b.timeMs[s], FOREVER_MS);
    const count = found < 0 ? every - 1 - packet : found;
    const next = count === every - 1 ? 0 : count + 1;
    stamp(dp, b, s, list, 0, 0, 0, 0, next);
    taken = next === 0 ? 0 : 1;
  }
  if (dp.ring.on) record3(dp.ring, EVENT_CHOICE, ruleId, 2, taken);
  return taken === 0;
}

function idOf(dp: Datapath, b: Burst, s: number, list: number): number {
  return recentListId(list, b.family[s], dp.topology.nodes, b.node[s]);
}

function stamp(
  dp: Datapath,
  b: Burst,
  s: number,
  list: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  value: number,
): void {
  affinitySet(dp.affinity, b.shard[s], idOf(dp, b, s, list), a0, a1, a2, a3, value, b.timeMs[s]);
  // A table of one shard has nobody to wait for: its lists are then as full and as old as the kernel's.
  if (dp.affinity.shards === 1) affinityMerge(dp.affinity);
}
