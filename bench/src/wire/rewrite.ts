/** Rewrites: a destination and a source per frame, as a DNAT and a masquerade would write them. */
import { BURST_FRAMES } from '@flatpath/engine/wire/burst';
import { decrementTtl, rewriteDestination4, rewriteDestination6, rewriteSource4 } from '@flatpath/engine/wire/rewrite';
import { Bench } from 'tinybench';
import { fillBurst, frameOf, sink } from './workload.ts';

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'rewrite', time: 200, warmupTime: 50 });
  const tcp4 = fillBurst((n) => frameOf(4, 'tcp', n));
  const udp6 = fillBurst((n) => frameOf(6, 'udp', n));
  const sctp4 = fillBurst((n) => frameOf(4, 'sctp', n));
  let at = 0;
  bench.add('destination, TCP over IPv4', () => {
    at++;
    for (let s = 0; s < BURST_FRAMES; s++) rewriteDestination4(tcp4, s, 0x0af40100 + at, 8080 + s);
  });
  bench.add('destination and source, TCP over IPv4', () => {
    at++;
    for (let s = 0; s < BURST_FRAMES; s++) {
      rewriteDestination4(tcp4, s, 0x0af40100 + at, 8080 + s);
      rewriteSource4(tcp4, s, 0xc6120001, (at + s) & 0xffff);
    }
  });
  bench.add('destination, UDP over IPv6', () => {
    at++;
    for (let s = 0; s < BURST_FRAMES; s++) rewriteDestination6(udp6, s, 0xfd001024, 0, 1, at, 8080 + s);
  });
  bench.add('destination, SCTP over IPv4 of 44 bytes', () => {
    at++;
    for (let s = 0; s < BURST_FRAMES; s++) rewriteDestination4(sctp4, s, 0x0af40100, (at + s) & 0xffff);
  });
  bench.add('time to live', () => {
    let sum = 0;
    for (let s = 0; s < BURST_FRAMES; s++) {
      sum += decrementTtl(tcp4, s);
      // Back to 64 before it expires; the checksum no longer matters here.
      tcp4.view.setUint8(tcp4.l3[s] + 8, 64);
    }
    sink[0] ^= sum;
  });
  return bench;
}
