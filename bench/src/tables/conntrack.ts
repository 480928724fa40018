/**
 * Conntrack, in bursts: finding among 65,536 flows (4 MiB of slots, as the throughput scenario has) and among 1,024, IPv4
 * and IPv6, independent and dependent; a miss; making and removing a flow; evicting from a full shard. Slots as the ebpf
 * mode has them, without own words.
 */
import {
  type Conntrack,
  createConntrack,
  ctFind4,
  ctFind6,
  ctFindHashed4,
  ctHash4,
  ctInsert4,
  ctInsert6,
  ctRemove,
  ctTouch,
} from '@flatpath/engine/tables/conntrack';
import { ctEvictOldest } from '@flatpath/engine/tables/conntrack-aging';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const TCP = 6;
const DST = 0x0a600a0a;
const LATER = 1 << 30;

const source = (n: number) => 0x0af40000 + (n >> 6);
const ports = (n: number) => ((32768 + (n & 63)) << 16) | 443;

function filled4(flows: number, shards: number): Conntrack {
  const ct = createConntrack(4, 2 * flows, shards, 0);
  for (let n = 0; n < flows; n++) {
    const shard = n & (shards - 1);
    ctInsert4(ct, shard, 0, TCP, source(n), DST, ports(n), source(n), DST + 1, ports(n), 1, 0, LATER, 0);
  }
  return ct;
}

function filled6(flows: number): Conntrack {
  const ct = createConntrack(6, 2 * flows, 256, 0);
  const d = 0xfd000000 | 0;
  for (let n = 0; n < flows; n++) {
    const s3 = source(n);
    const p = ports(n);
    ctInsert6(ct, n & 255, 0, TCP, d, 16, 0, s3, d, 150, 0, DST, p, d, 16, 0, s3, d, 150, 0, 7, p, 1, 0, LATER, 0);
  }
  return ct;
}

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'conntrack', time: 200, warmupTime: 50 });
  for (const flows of [1024, 65536]) {
    const ct = filled4(flows, 256);
    const picks = indices(1, 65536, flows);
    if (flows === 1024) addBaseline(bench, picks);
    let at = 0;
    bench.add(`find, IPv4, ${flows} flows`, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) {
        const n = picks[(at + i) & 65535];
        sum += ctFind4(ct, n & 255, 0, TCP, source(n), DST, ports(n), 1);
      }
      at += BURST;
      sink[0] ^= sum;
    });
    const hashes = new Int32Array(BURST);
    bench.add(`hash the burst, then find and touch, IPv4, ${flows} flows`, () => {
      for (let i = 0; i < BURST; i++) {
        const n = picks[(at + i) & 65535];
        hashes[i] = ctHash4(0, TCP, source(n), DST, ports(n));
      }
      for (let i = 0; i < BURST; i++) {
        const n = picks[(at + i) & 65535];
        ctTouch(ct, ctFindHashed4(ct, n & 255, hashes[i], 0, TCP, source(n), DST, ports(n), 1), LATER);
      }
      at += BURST;
    });
    bench.add(`find, each flow chosen by the last answer, IPv4, ${flows} flows`, () => {
      let n = picks[at & 65535];
      for (let i = 0; i < BURST; i++) {
        n = (n + (ctFind4(ct, n & 255, 0, TCP, source(n), DST, ports(n), 1) >> 3)) & (flows - 1);
      }
      at += BURST;
      sink[0] ^= n;
    });
    bench.add(`miss, IPv4, ${flows} flows`, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) {
        const n = picks[(at + i) & 65535];
        sum += ctFind4(ct, n & 255, 0, 17, source(n), DST, ports(n), 1);
      }
      at += BURST;
      sink[0] ^= sum;
    });
    const ct6 = filled6(flows);
    const d = 0xfd000000 | 0;
    bench.add(`find, IPv6, ${flows} flows`, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) {
        const n = picks[(at + i) & 65535];
        sum += ctFind6(ct6, n & 255, 0, TCP, d, 16, 0, source(n), d, 150, 0, DST, ports(n), 1);
      }
      at += BURST;
      sink[0] ^= sum;
    });
  }

  const churn = filled4(65536, 256);
  let made = 65536;
  bench.add('insert and remove, IPv4, 65536 flows', () => {
    for (let i = 0; i < BURST; i++, made++) {
      const shard = made & 255;
      const src = source(made);
      const slot = ctInsert4(churn, shard, 0, TCP, src, DST, ports(made), src, DST + 1, ports(made), 0, 0, LATER, 0);
      ctRemove(churn, shard, slot);
    }
  });

  const full = createConntrack(4, 16384, 1, 0);
  const lifetimes = new Int32Array(16).fill(1000);
  let flood = 0;
  const add = (): number =>
    ctInsert4(
      full,
      0,
      0,
      TCP,
      source(flood),
      DST,
      ports(flood),
      source(flood),
      DST,
      ports(flood),
      0,
      0,
      1000 + flood,
      flood,
    );
  for (; flood < 16384; flood++) add();
  bench.add('evict and insert, IPv4, full shard', () => {
    for (let i = 0; i < BURST; i++, flood++) {
      ctEvictOldest(full, 0, ctHash4(0, TCP, source(flood), DST, ports(flood)), lifetimes, flood - 100);
      add();
    }
  });
  return bench;
}
