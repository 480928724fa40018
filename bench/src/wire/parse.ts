/** parseFrame: a burst of one kind, and of a mix; beside it what verifying a frame in full costs. */
import { BURST_FRAMES, type Burst } from '@flatpath/engine/wire/burst';
import { verifyFrame } from '@flatpath/engine/wire/checksum';
import { parseFrame } from '@flatpath/engine/wire/parse';
import { Bench } from 'tinybench';
import { fillBurst, frameOf, sink } from './workload.ts';

const MIX = ['tcp', 'tcp', 'udp', 'sctp'] as const;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'parse', time: 200, warmupTime: 50 });
  const bursts: readonly [string, Burst][] = [
    ['a mix of families and protocols', fillBurst((n) => frameOf((n & 1) === 0 ? 4 : 6, MIX[(n >>> 1) & 3], n))],
    ['TCP over IPv4', fillBurst((n) => frameOf(4, 'tcp', n))],
    ['UDP over IPv6', fillBurst((n) => frameOf(6, 'udp', n))],
  ];
  for (const [name, burst] of bursts) {
    bench.add(`parse ${name}`, () => {
      let sum = 0;
      for (let s = 0; s < BURST_FRAMES; s++) sum += parseFrame(burst, s) + burst.sport[s];
      sink[0] ^= sum;
    });
  }
  const [, mix] = bursts[0];
  bench.add('verify a mix in full', () => {
    let sum = 0;
    for (let s = 0; s < BURST_FRAMES; s++) sum += verifyFrame(mix, s);
    sink[0] ^= sum;
  });
  return bench;
}
