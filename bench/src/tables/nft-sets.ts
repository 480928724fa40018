/** nftables sets, in bursts: the frontends of 10,000 Services (address . protocol . port), a node's ranges, both families. */
import { findNftElement, writeNftSet } from '@flatpath/engine/tables/nft-sets';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const SERVICES = 10_000;
const RANGES = 1_000;
const TCP = 6;
const PORT = 443;

const shape = { id: 0, valueWords: 2, stamps: -1, lifeMs: 0 };

function frontends(address: (n: number) => number[]): Int32Array {
  const fields = [address(0).length, 1, 1];
  return writeNftSet(
    { ...shape, fields },
    Array.from({ length: SERVICES }, (_, n) => ({
      id: n,
      first: [...address(n), TCP, PORT],
      last: null,
      value: [5, n],
    })),
  );
}

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'nftables sets', time: 200, warmupTime: 50 });
  const picks = indices(1, 65536, SERVICES);
  addBaseline(bench, picks);
  const four = frontends((n) => [0x0a600000 + n]);
  const six = frontends((n) => [0xfd000010 | 0, 0x96, 0, n]);
  const ranges = writeNftSet(
    { ...shape, fields: [1] },
    Array.from({ length: RANGES }, (_, n) => ({
      id: n,
      first: [0x0a600000 + n * 16],
      last: [0x0a600007 + n * 16],
      value: [1, -1],
    })),
  );
  const key = new Int32Array(8);
  let at = 0;
  for (const [what, offset] of [
    ['hit', 0],
    ['miss', 1 << 20],
  ] as const) {
    bench.add(`IPv4 frontend, ${what}`, () => {
      let sum = 0;
      key[1] = TCP;
      key[2] = PORT;
      for (let i = 0; i < BURST; i++) {
        key[0] = 0x0a600000 + offset + picks[(at + i) & 65535];
        sum += findNftElement(four, 0, key, 0);
      }
      at += BURST;
      sink[0] ^= sum;
    });
    bench.add(`IPv6 frontend, ${what}`, () => {
      let sum = 0;
      key[0] = 0xfd000010 | 0;
      key[1] = 0x96;
      key[2] = 0;
      key[4] = TCP;
      key[5] = PORT;
      for (let i = 0; i < BURST; i++) {
        key[3] = offset + picks[(at + i) & 65535];
        sum += findNftElement(six, 0, key, 0);
      }
      at += BURST;
      sink[0] ^= sum;
    });
  }
  bench.add(`one of ${RANGES} ranges, or between them`, () => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      key[0] = 0x0a600000 + picks[(at + i) & 65535];
      sum += findNftElement(ranges, 0, key, 0);
    }
    at += BURST;
    sink[0] ^= sum;
  });
  return bench;
}
