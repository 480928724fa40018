/**
 * End to end: 65,536 established TCP flows in the ebpf mode, generation and delivery included, on one worker and on two.
 *
 *     node bench/dist/end-to-end.js [--packets N] [--rounds N] [--workers 1,2]
 *
 * A counted packet is a whole frame: written into its slot, parsed, looked up, rewritten where a map says so, and
 * delivered; of every 4,096th all checksums and each payload byte are verified. Each data frame of 128 bytes is answered
 * by the pod it reaches with an ACK, which is counted too. The clients connect to a Service with socket-level balancing.
 * *One node*: clients and backends share it. *Two nodes*: each frame passes both nodes' programs and connection tables.
 */
import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { COUNT_ENTERED } from '@flatpath/engine/programs/count';
import { STATION_BROKEN, STATION_OPENED, STATION_STRAY, STATION_VERIFIED } from '@flatpath/engine/traffic/station';
import { startRun } from '@flatpath/engine/worker/pool';
import { takeImage, takeState } from '@flatpath/engine/worker/transfer';
import { FLOWS, makeDatapath, makeTraffic } from './parts/established-flows.ts';

/** Packets a second of one run. */
async function measure(home: number, workers: number, packets: number): Promise<number> {
  const dp = makeDatapath(home);
  const traffic = makeTraffic(FLOWS, packets);
  const { setup, run, wallMs } = await startRun(
    { traffic, image: takeImage(dp), state: takeState(dp), updates: [] },
    workers,
  ).done;
  const { station } = run;
  if (setup.station[STATION_OPENED] !== FLOWS) throw new Error(`${setup.station[STATION_OPENED]} flows stand`);
  if (station[STATION_STRAY] + station[STATION_BROKEN] > 0 || station[STATION_VERIFIED] === 0) {
    throw new Error(`${station[STATION_STRAY]} replies astray, ${station[STATION_BROKEN]} frames broken`);
  }
  if (run.counters[COUNT_ENTERED] !== packets * 2) throw new Error('a data frame was not answered');
  return (run.counters[COUNT_ENTERED] / wallMs) * 1000;
}

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '4000000' },
    rounds: { type: 'string', default: '5' },
    workers: { type: 'string', default: '1,2' },
  },
});
const rounds = Number(values.rounds);
console.log(`${cpus()[0].model}, ${availableParallelism()} cores, Node ${process.version}`);
console.log(`${FLOWS} TCP flows, ebpf, 128-byte data frames and their ACKs; median of ${rounds} rounds`);
for (const [name, home] of [
  ['one node', 0],
  ['two nodes', 1],
] as const) {
  let single = 0;
  for (const workers of values.workers.split(',').map(Number)) {
    const results: number[] = [];
    for (let round = 0; round < rounds; round++) results.push(await measure(home, workers, Number(values.packets)));
    results.sort((a, b) => a - b);
    const median = results[Math.floor(rounds / 2)];
    if (workers === 1) single = median;
    const range = `${(results[0] / 1e6).toFixed(2)} to ${(results[rounds - 1] / 1e6).toFixed(2)}`;
    const factor = workers > 1 && single > 0 ? `, ${(median / single).toFixed(2)} times one worker` : '';
    const perPacket = ((1e9 / median) * workers).toFixed(0);
    console.log(
      `${name}, ${workers} worker${workers > 1 ? 's' : ''}: ${(median / 1e6).toFixed(2)} M packets/s (${range}), ${perPacket} ns a packet and worker${factor}`,
    );
  }
}
