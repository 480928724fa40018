/**
 * A datapath in the control thread: an image with connection state of its own, for probes, traces, replay, injection,
 * and for a run to take apart for its workers.
 */

import { COUNTERS } from '@flatpath/engine/programs/count';
import type { Datapath } from '@flatpath/engine/programs/datapath';
import { createActive } from '@flatpath/engine/programs/flow-lookup';
import { activeOf, inactiveOf } from '@flatpath/engine/programs/ipvs-load';
import { clearIpvsState, createIpvsState } from '@flatpath/engine/programs/ipvs-state';
import { createMasqueradePorts } from '@flatpath/engine/programs/masquerade';
import { type Affinity, affinityClear, createAffinity } from '@flatpath/engine/tables/affinity';
import { CT_OWN_WORDS, createConntrack, ctClear } from '@flatpath/engine/tables/conntrack';
import type { EventRing } from '@flatpath/engine/tables/event-ring';
import { createBurst } from '@flatpath/engine/wire/burst';
import { engineMode, type Image } from './image.ts';
import type { IpvsBefore } from './ipvs.ts';

/** Clients that a shard can stamp between two ticks. */
const PENDING_STAMPS = 256;
const MOST_RECENT_LISTS = 1 << 22;
/** xt_recent's ip_list_tot: addresses that one list remembers. */
const RECENT_LIST_STAMPS = 100;
const ANSWERS = 4;

/**
 * @param flows connections that each family's conntrack holds before it is full
 * @param stamps clients that session affinity remembers
 * @param shards 1 for a thread that owns all flows, 256 for a run's workers
 */
export function attachDatapath(image: Image, flows: number, stamps: number, ring: EventRing, shards: number): Datapath {
  // Only netfilter remembers more of a connection than its slot holds.
  const ownWords = image.mode === 'ebpf' ? 0 : CT_OWN_WORDS;
  return {
    mode: engineMode(image.mode),
    topology: image.model.topology.tables,
    compiledNodes: image.compiledNodes,
    iptables: image.iptables,
    nftables: image.nftables,
    ipvs: image.ipvs,
    ebpf: image.ebpf,
    conntrack4: createConntrack(4, flows, shards, ownWords),
    conntrack6: createConntrack(6, flows, shards, ownWords),
    ipvsState: image.ipvs === null ? null : createIpvsState(flows, shards),
    affinity: makeAffinity(stamps, shards, recentLists(image)),
    ports: createMasqueradePorts(shards),
    counters: new Float64Array(COUNTERS),
    ring,
    active: createActive(),
    answers: createBurst(ANSWERS),
    answerCount: 0,
  };
}

/**
 * Ids that the lists of `recent` take in the table, over families and nodes; 0, and then no limit per list, where there
 * are more than a table should count one by one.
 */
function recentLists(image: Image): number {
  const perNode = (image.iptables ?? image.ipvs)?.recentLists ?? 0;
  const lists = perNode * 2 * image.model.cluster.nodes.length;
  return lists > MOST_RECENT_LISTS ? 0 : lists;
}

/** Stamps of `recent` lists have the kernel's limit per list; session affinity of the ebpf mode has none. */
function makeAffinity(stamps: number, shards: number, recentLists: number): Affinity {
  const limit = recentLists > 0 ? RECENT_LIST_STAMPS : 0;
  return createAffinity(stamps, shards, Math.min(stamps, PENDING_STAMPS), recentLists, limit);
}

/** The same connections under another image. */
export function reattachDatapath(dp: Datapath, image: Image): Datapath {
  const { iptables, nftables, ipvs, ebpf, compiledNodes } = image;
  return { ...dp, topology: image.model.topology.tables, compiledNodes, iptables, nftables, ipvs, ebpf };
}

/** What an image of the ipvs mode that replaces another follows: its servers, and who still has connections. Null elsewhere. */
export function ipvsBefore(image: Image, dp: Datapath): IpvsBefore | null {
  const { ipvsState } = dp;
  if (image.servers === null || ipvsState === null) return null;
  return {
    compiled: image.servers,
    // Shards beside the first may hold more until the tick; a real server that drains gets none.
    isIdle: (node, id) => activeOf(ipvsState, 0, node, id) + inactiveOf(ipvsState, 0, node, id) <= 0,
  };
}

/** Back to the state of a datapath that has seen no packet: the next one comes from a fresh client. */
export function forgetConnections(dp: Datapath): void {
  ctClear(dp.conntrack4);
  ctClear(dp.conntrack6);
  affinityClear(dp.affinity);
  if (dp.ipvsState !== null) clearIpvsState(dp.ipvsState);
}
