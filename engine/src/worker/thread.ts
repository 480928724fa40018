/**
 * What piscina runs in a thread, bundled into dist/thread.mjs: one call is one resident task.
 *
 * Datapath and station are made when the thread begins and are constants of the module, for which the bundle's functions
 * are specialised (scripts/specialise.mjs).
 */
import { workerData } from 'node:worker_threads';
import { COUNTERS } from '../programs/count.ts';
import { SHARDS } from '../traffic/shard.ts';
import { createStation } from '../traffic/station.ts';
import { type ResidentTask, runResident, type ThreadData, TOTALS } from './resident.ts';
import { attachDatapath } from './transfer.ts';

const { traffic, image, state, workers }: ThreadData = workerData;
const totals = new Float64Array(TOTALS);
const datapath = attachDatapath(image, state, totals.subarray(0, COUNTERS));
if (
  datapath.conntrack4.shards !== SHARDS ||
  datapath.conntrack6.shards !== SHARDS ||
  datapath.affinity.shards !== SHARDS
) {
  throw new TypeError(`a run needs connection state of ${SHARDS} shards`);
}
const station = createStation(traffic, datapath, 0, workers, totals.subarray(COUNTERS));

export default function runThread(task: ResidentTask): void {
  runResident(station, totals, task);
}
