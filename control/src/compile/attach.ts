/**
 * A datapath in the control thread: an image with connection state of its own, for probes, traces, replay, injection.
 */

import { COUNTERS } from '@flatpath/engine/programs/count';
import type { Datapath } from '@flatpath/engine/programs/datapath';
import { createActive } from '@flatpath/engine/programs/journey';
import { createMasqueradePorts } from '@flatpath/engine/programs/masquerade';
import { clearAffinity, createAffinity } from '@flatpath/engine/tables/affinity';
import { createConntrack, ctClear } from '@flatpath/engine/tables/conntrack';
import type { EventRing } from '@flatpath/engine/tables/event-ring';
import { createBurst } from '@flatpath/engine/wire/burst';
import { engineMode, type Image } from './image.ts';

/** One thread, all flows: a single shard. */
const SHARDS = 1;
const AFFINITY_STAMPS = 4096;
const PENDING_STAMPS = 16;
/** xt_recent's ip_list_tot: addresses that one list remembers. */
const RECENT_LIST_STAMPS = 100;
const ANSWERS = 4;

/** @param flows connections that each family's conntrack holds before it is full */
export function attachDatapath(image: Image, flows: number, ring: EventRing): Datapath {
  return {
    mode: engineMode(image.mode),
    topology: image.model.topology.tables,
    compiledNodes: image.compiledNodes,
    iptables: image.iptables,
    ebpf: image.ebpf,
    conntrack4: createConntrack(4, flows, SHARDS),
    conntrack6: createConntrack(6, flows, SHARDS),
    affinity: createAffinity(AFFINITY_STAMPS, SHARDS, PENDING_STAMPS, image.recentLists, RECENT_LIST_STAMPS),
    ports: createMasqueradePorts(SHARDS),
    counters: new Float64Array(COUNTERS),
    ring,
    active: createActive(),
    answers: createBurst(ANSWERS),
    answerCount: 0,
  };
}

/** The same connections under another image. */
export function reattachDatapath(dp: Datapath, image: Image): Datapath {
  const { iptables, ebpf, compiledNodes } = image;
  return { ...dp, topology: image.model.topology.tables, compiledNodes, iptables, ebpf };
}

/** Back to the state of a datapath that has seen no packet: the next one comes from a fresh client. */
export function forgetConnections(dp: Datapath): void {
  ctClear(dp.conntrack4);
  ctClear(dp.conntrack6);
  clearAffinity(dp.affinity);
}
