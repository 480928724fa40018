/** Counters: adding in local lanes a burst at a time, publishing 300 counters, summing those of eight workers. */
import { createCounters, publishCounters, readTotals } from '@flatpath/engine/tables/counters';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices } from './workload.ts';

const COUNTERS = 300;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'counters', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, COUNTERS);
  addBaseline(bench, picks);
  const shared = createCounters(COUNTERS, 8);
  const local = new Float64Array(COUNTERS);
  let at = 0;
  bench.add('add', () => {
    for (let i = 0; i < BURST; i++) local[picks[(at + i) & 65535]]++;
    at += BURST;
  });
  bench.add(`publish ${COUNTERS} counters`, () => publishCounters(shared, 3, local));
  const totals = new Float64Array(COUNTERS);
  bench.add(`read the totals of ${shared.workers} workers`, () => readTotals(shared, totals));
  return bench;
}
