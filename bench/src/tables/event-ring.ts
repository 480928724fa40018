/** Event ring: a burst of events of four words, and of forced choices. The fast path pays for neither. */
import {
  beginEvent,
  createEventRing,
  nextBranch,
  resetEventRing,
  takeChoice,
} from '@flatpath/engine/tables/event-ring';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'event ring', time: 200, warmupTime: 50 });
  addBaseline(bench, indices(1, 65536, 65536));
  const ring = createEventRing(1 << 14);
  bench.add('events of four words', () => {
    resetEventRing(ring);
    for (let i = 0; i < BURST; i++) {
      const at = beginEvent(ring, 4, 3);
      if (at >= 0) ring.words[at] = i;
    }
    sink[0] ^= ring.used;
  });
  bench.add('choices of four, and the step to the next branch', () => {
    resetEventRing(ring);
    let taken = 0;
    for (let i = 0; i < BURST; i++) taken += takeChoice(ring, 4);
    if (!nextBranch(ring)) ring.script.fill(0);
    sink[0] ^= taken;
  });
  return bench;
}
