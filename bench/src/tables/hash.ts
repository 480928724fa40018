/** The hash functions, in bursts over flows in sequence; and murmur3 over backend names, one per iteration. */
import { hashTuple4, hashTuple6, jhash3, mix32 } from '@flatpath/engine/tables/hash';
import { murmur3x64_128 } from '@flatpath/engine/tables/murmur3';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'hash', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, 1 << 30);
  addBaseline(bench, picks);
  let at = 0;
  const functions: Record<string, (n: number) => number> = {
    mix32: (n) => mix32(n),
    hashTuple4: (n) => hashTuple4(1, n, 0x0a600001, (n << 16) | 443, 6),
    hashTuple6: (n) => hashTuple6(1, 0xfd000000 | 0, 0, 0, n, 0xfd000000 | 0, 150, 0, 1, (n << 16) | 443, 6),
    jhash3: (n) => jhash3(n, (n << 16) | 443, 6, 7),
  };
  for (const [name, hash] of Object.entries(functions)) {
    bench.add(name, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) sum ^= hash(picks[(at + i) & 65535]);
      at += BURST;
      sink[0] ^= sum;
    });
  }
  const name = new TextEncoder().encode('[10.244.17.99:8080/TCP,State:active]');
  const out = new Int32Array(4);
  bench.add(`murmur3x64_128, ${name.length} bytes, one call`, () => {
    name[10] = 0x30 + (at++ & 7);
    murmur3x64_128(name, 7, out);
    sink[0] ^= out[0];
  });
  return bench;
}
