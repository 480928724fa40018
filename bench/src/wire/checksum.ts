/** Sums from scratch over frames of three sizes: what incremental updates save, and what SCTP cannot. */
import { checksum } from '@flatpath/engine/wire/checksum';
import { crc32c } from '@flatpath/engine/wire/crc32c';
import { Bench } from 'tinybench';
import { sink } from './workload.ts';

const FRAMES = 256;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'checksum', time: 200, warmupTime: 50 });
  for (const bytes of [64, 512, 1448]) {
    const slab = new Uint8Array(FRAMES * bytes).map((_, i) => i * 31);
    bench.add(`Internet checksum of ${bytes} bytes`, () => {
      let sum = 0;
      for (let s = 0; s < FRAMES; s++) sum += checksum(slab, s * bytes, bytes, 0);
      sink[0] ^= sum;
    });
    bench.add(`CRC32c of ${bytes} bytes`, () => {
      let sum = 0;
      for (let s = 0; s < FRAMES; s++) sum ^= crc32c(slab, s * bytes, bytes);
      sink[0] ^= sum;
    });
  }
  return bench;
}
