/** Backends: from a service's list to address, port and node of one backend, in bursts over 100,000 backends. */
import {
  addBackend,
  backendAddress,
  backendNode,
  backendPort,
  createBackends,
  listEntry,
  setListEntry,
  takeList,
} from '@flatpath/engine/tables/backends';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const BACKENDS = 100_000;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'backends', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, BACKENDS);
  addBaseline(bench, picks);
  const t = createBackends(BACKENDS, BACKENDS);
  const list = takeList(t, BACKENDS);
  for (let n = 0; n < BACKENDS; n++) {
    setListEntry(t, list, n, addBackend(t, 0x0af40000 + n, 0, 0, 0, 8080, n % 100, n, 0, n));
  }
  let at = 0;
  bench.add('entry, address, port, node', () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const backend = listEntry(t, list, picks[(at + i) & 65535]);
      sum += backendAddress(t, backend, 0) + backendPort(t, backend) + backendNode(t, backend);
    }
    at += BURST;
    sink[0] ^= sum;
  });
  return bench;
}
