/**
 * One thread's breaths, without a pool: nanoseconds per packet, as a module that other benchmarks bundle and run.
 *
 *     node breath.mjs FLOWS    prints the fastest of its rounds, in ns a packet (a data frame or its ACK)
 *
 * The fastest and not the median, because what it is compared with runs in a process of its own on the same noisy machine.
 */

import { WINDOW_PACKETS } from '@flatpath/engine/traffic/generate';
import { createStation, STATION_COUNTS } from '@flatpath/engine/traffic/station';
import { breathe, breatheSetup } from '@flatpath/engine/worker/breath';
import { makeDatapath, makeTraffic } from './established-flows.ts';

const ROUNDS = 10;
const WINDOWS = 1500;

const flows = Number(process.argv[2]);
const datapath = makeDatapath(0);
const station = createStation(makeTraffic(flows, 1e9), datapath, 0, 1, new Float64Array(STATION_COUNTS));

for (let first = 0; first < flows; first += WINDOW_PACKETS) {
  breatheSetup(station, first, Math.min(WINDOW_PACKETS, flows - first), 0);
}
let fastest = Infinity;
for (let round = 0; round < ROUNDS; round++) {
  const from = performance.now();
  for (let window = 0; window < WINDOWS; window++) breathe(station, round * WINDOWS + window, WINDOW_PACKETS, 0, 0);
  fastest = Math.min(fastest, performance.now() - from);
}
// The station's datapath is a constant by its own name too, for the bundle.
if (station.dp !== datapath) throw new Error('the station has another datapath');
console.log((fastest * 1e6) / (WINDOWS * WINDOW_PACKETS * 2));
