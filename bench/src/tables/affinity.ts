/** Affinity: a burst of lookups and of writes over 10,000 stamps; a merge per tick of 256 writes and after each write. */
import { affinityFind, affinityMerge, affinitySet, createAffinity } from '@flatpath/engine/tables/affinity';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const STAMPS = 10_000;
const TIMEOUT_MS = 10_800_000;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'affinity', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, STAMPS);
  addBaseline(bench, picks);
  const t = createAffinity(65536, 256, 256, 0, 0);
  for (let n = 0; n < STAMPS; n++) {
    affinitySet(t, n & 255, n % 100, 0x0af40000 + n, 0, 0, 0, n & 7, 1);
    if ((n & 1023) === 1023) affinityMerge(t);
  }
  affinityMerge(t);
  let at = 0;
  bench.add('find', () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const n = picks[(at + i) & 65535];
      sum += affinityFind(t, n & 255, n % 100, 0x0af40000 + n, 0, 0, 0, 1, TIMEOUT_MS);
    }
    at += BURST;
    sink[0] ^= sum;
  });
  bench.add('set and one merge', () => {
    for (let i = 0; i < BURST; i++) {
      const n = picks[(at + i) & 65535];
      affinitySet(t, n & 255, n % 100, 0x0af40000 + n, 0, 0, 0, n & 7, 1);
    }
    at += BURST;
    sink[0] ^= affinityMerge(t);
  });
  const single = createAffinity(65536, 1, 8, 100, 100);
  bench.add('set and merge each, one shard, lists of 100', () => {
    for (let i = 0; i < BURST; i++) {
      const n = picks[(at + i) & 65535];
      affinitySet(single, 0, n % 100, 0x0af40000 + n, 0, 0, 0, 1, 1);
      affinityMerge(single);
    }
    at += BURST;
  });
  return bench;
}
