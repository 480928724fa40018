/**
 * Finding a frame's flow on its node (hot), and foreseeing where it stands: for all frames of a hop before the first one
 * is run, so that their trips to memory overlap.
 *
 * A table of 65,536 flows is larger than a core's caches, and a frame's program is longer than what a core executes
 * ahead of a miss: found one by one, every flow costs a whole trip to memory. The first pass only hashes; the second is a
 * loop so short that some twenty of its loads are on their way at once. (32 MiB of table, 255 frames: 100 ns a frame
 * found one by one, 12 ns touched ahead.)
 *
 * Lane `hash` holds each frame's hash afterwards, for the lookup to come. Scratch, behind the active frames of
 * `Datapath.active`: word offsets of IPv4 homes, of IPv6 homes, and a word that keeps the loads from being dropped.
 */
import { ctFindHashed4, ctFindHashed6, ctHash4, ctHash6, ctHome } from '../tables/conntrack.ts';
import { BURST_FRAMES, type Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { flowPorts } from './flow-key.ts';

const HOMES4 = BURST_FRAMES;
const HOMES6 = 2 * BURST_FRAMES;
const SINK = 3 * BURST_FRAMES;

/** Scratch for `Datapath.active`: the frames of the present hop, and what foresight needs. */
export function createActive(): Int32Array {
  return new Int32Array(SINK + 1);
}

/** Hashes the frame's tuple in its node's zone into lane `hash`; again whenever its ports become known later. */
export function hashFlow(b: Burst, s: number): void {
  const ports = flowPorts(b, s);
  b.hash[s] =
    b.family[s] === 4
      ? ctHash4(b.node[s], b.proto[s], b.src0[s], b.dst0[s], ports)
      : ctHash6(
          b.node[s],
          b.proto[s],
          b.src0[s],
          b.src1[s],
          b.src2[s],
          b.src3[s],
          b.dst0[s],
          b.dst1[s],
          b.dst2[s],
          b.dst3[s],
          ports,
        );
}

/** Hashes and touches the flows of the first `going` active frames. */
export function foreseeFlows(dp: Datapath, b: Burst, going: number): void {
  const scratch = dp.active;
  const ct4 = dp.conntrack4;
  const ct6 = dp.conntrack6;
  let end4 = HOMES4;
  let end6 = HOMES6;
  for (let i = 0; i < going; i++) {
    const s = scratch[i];
    hashFlow(b, s);
    if (b.family[s] === 4) scratch[end4++] = ctHome(ct4, b.shard[s], b.hash[s]);
    else scratch[end6++] = ctHome(ct6, b.shard[s], b.hash[s]);
  }
  scratch[SINK] = touch(ct4.words, scratch, HOMES4, end4) ^ touch(ct6.words, scratch, HOMES6, end6);
}

function touch(words: Int32Array, homes: Int32Array, from: number, to: number): number {
  let seen = 0;
  for (let i = from; i < to; i++) seen ^= words[homes[i]];
  return seen;
}

/** The frame's flow on its node by lane `hash`: its slot, or -1. */
export function findFlow(dp: Datapath, b: Burst, s: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  const ports = flowPorts(b, s);
  if (b.family[s] === 4) {
    return ctFindHashed4(
      dp.conntrack4,
      b.shard[s],
      b.hash[s],
      b.node[s],
      b.proto[s],
      b.src0[s],
      b.dst0[s],
      ports,
      b.timeMs[s],
    );
  }
  return ctFindHashed6(
    dp.conntrack6,
    b.shard[s],
    b.hash[s],
    b.node[s],
    b.proto[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    ports,
    b.timeMs[s],
  );
}
