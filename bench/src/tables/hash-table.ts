/** The hash table, in bursts: frontends of 10,000 Services (IPv4: two words, IPv6: five), hits and misses. */
import { createHashTable, hashFind2, hashFind5, hashInsert2, hashInsert5 } from '@flatpath/engine/tables/hash-table';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const SERVICES = 10_000;
const HTTPS_TCP = (443 << 8) | 6;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'hash table', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, SERVICES);
  addBaseline(bench, picks);
  const t2 = createHashTable(2, 4, SERVICES);
  const t5 = createHashTable(5, 4, SERVICES);
  for (let n = 0; n < SERVICES; n++) {
    hashInsert2(t2, 0x0a600000 + n, HTTPS_TCP);
    hashInsert5(t5, 0xfd000010 | 0, 0x96, 0, n, HTTPS_TCP);
  }
  let at = 0;
  for (const [what, offset] of [
    ['hit', 0],
    ['miss', 1 << 20],
  ] as const) {
    bench.add(`IPv4, ${what}`, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) sum += hashFind2(t2, 0x0a600000 + offset + picks[(at + i) & 65535], HTTPS_TCP);
      at += BURST;
      sink[0] ^= sum;
    });
    bench.add(`IPv6, ${what}`, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) {
        sum += hashFind5(t5, 0xfd000010 | 0, 0x96, 0, offset + picks[(at + i) & 65535], HTTPS_TCP);
      }
      at += BURST;
      sink[0] ^= sum;
    });
  }
  return bench;
}
