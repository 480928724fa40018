/** Maglev: choosing for a burst of packets over 1,000 rings, and building one ring of 10 and of 160 backends. */
import {
  buildRing,
  createMaglev,
  maglevFind,
  PACKET_SEED4,
  packetSlot4,
  RING_SEED,
  ringSize,
  takeRing,
} from '@flatpath/engine/tables/maglev';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const RINGS = 1000;

const names = (count: number) =>
  Array.from({ length: count }, (_, n) => `[10.244.${n >> 8}.${n & 255}:8080/TCP,State:active]`);

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'maglev', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, RINGS);
  addBaseline(bench, picks);
  const size = ringSize(10, 0);
  const t = createMaglev(RINGS * size);
  for (let n = 0; n < RINGS; n++) buildRing(t, takeRing(t, size), size, names(10), null, RING_SEED);
  let at = 0;
  bench.add('slot and backend, IPv4', () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const n = picks[(at + i) & 65535];
      sum += maglevFind(t, n * size, size, packetSlot4(0x0af40000 + i, (at << 16) | 443, 6, PACKET_SEED4, size));
    }
    at += BURST;
    sink[0] ^= sum;
  });
  for (const backends of [10, 160]) {
    const list = names(backends);
    const ring = createMaglev(ringSize(backends, 0));
    bench.add(`build one ring, ${backends} backends, ${ringSize(backends, 0)} places`, () => {
      buildRing(ring, 0, ringSize(backends, 0), list, null, RING_SEED);
    });
  }
  return bench;
}
