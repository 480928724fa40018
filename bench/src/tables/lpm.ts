/**
 * Both prefix tables, in bursts, over a cluster's addresses: 100 nodes with a prefix each, 10,000 pods, Services, the
 * default route. Pods are looked up as packets name them; then addresses that nothing but the default route covers.
 */
import { createLpm4, lpm4Find, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6, lpm6Find, lpm6Insert } from '@flatpath/engine/tables/lpm6';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink, words } from './workload.ts';

const NODES = 100;
const PODS = 10_000;

/** Pod n is the (n / 100)-th of node n mod 100. */
const pod = (n: number) => 0x0af40000 + ((n % NODES) << 8) + 2 + Math.trunc(n / NODES);

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'lpm', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, PODS);
  addBaseline(bench, picks);
  const next = words(2);
  const anywhere = Int32Array.from({ length: 65536 }, () => next() | 0xc0000000);
  const pods = picks.map(pod);

  for (const rootBits of [4, 8, 16]) {
    const t = createLpm4(PODS + 2 * NODES + 2, rootBits);
    lpm4Insert(t, 0, 0, 1);
    lpm4Insert(t, 0x0a600000, 12, 2);
    for (let n = 0; n < NODES; n++) {
      lpm4Insert(t, 0x0af40000 + (n << 8), 24, 3);
      lpm4Insert(t, 0xc6120000 + n, 32, 4);
    }
    for (let n = 0; n < PODS; n++) lpm4Insert(t, pod(n), 32, 5);
    for (const [what, lane] of [
      ['pods', pods],
      ['outside', anywhere],
    ] as const) {
      let at = 0;
      bench.add(`IPv4, ${what}, root of ${rootBits} bits`, () => {
        let sum = 0;
        for (let i = 0; i < BURST; i++) sum += lpm4Find(t, lane[(at + i) & 65535]);
        at += BURST;
        sink[0] ^= sum;
      });
    }
    let last = 0;
    bench.add(`IPv4, pods, each chosen by the last answer, root of ${rootBits} bits`, () => {
      for (let i = 0; i < BURST; i++) last = (last + lpm4Find(t, pods[last])) & 65535;
      sink[0] ^= last;
    });
  }

  const t6 = createLpm6(PODS + 2 * NODES + 2);
  lpm6Insert(t6, 0, 0, 0, 0, 0, 1);
  lpm6Insert(t6, 0xfd000010 | 0, 0x00960000, 0, 0, 112, 2);
  for (let n = 0; n < NODES; n++) {
    lpm6Insert(t6, 0xfd000010 | 0, 0x02440000 + n, 0, 0, 64, 3);
    lpm6Insert(t6, 0xfd00f1a7 | 0, 0, 0, n + 1, 128, 4);
  }
  for (let n = 0; n < PODS; n++) {
    lpm6Insert(t6, 0xfd000010 | 0, 0x02440000 + (n % NODES), 0, 2 + Math.trunc(n / NODES), 128, 5);
  }
  let at = 0;
  bench.add('IPv6, pods', () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const n = picks[(at + i) & 65535];
      sum += lpm6Find(t6, 0xfd000010 | 0, 0x02440000 + (n % NODES), 0, 2 + Math.trunc(n / NODES));
    }
    at += BURST;
    sink[0] ^= sum;
  });
  bench.add('IPv6, outside', () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) sum += lpm6Find(t6, 0x20010db8, anywhere[(at + i) & 65535], 0, 1);
    at += BURST;
    sink[0] ^= sum;
  });
  return bench;
}
