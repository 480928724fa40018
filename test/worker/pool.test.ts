/** Runs on real threads: the same result for any number of workers, images that change, workers that die. */
import { beforeAll, describe, expect, it } from 'vitest';
import { COUNT_ENTERED, countOf } from '../../engine/src/programs/count.ts';
import { type Datapath, MODE_EBPF, MODE_IPTABLES } from '../../engine/src/programs/datapath.ts';
import { VERDICT_DROPPED, VERDICT_REJECTED } from '../../engine/src/programs/verdict.ts';
import {
  ctDst,
  ctExpiry,
  ctFlags,
  ctNext,
  ctPorts,
  ctProto,
  ctShard,
  ctSrc,
  ctState,
  ctXDst,
  ctXPorts,
  ctXSrc,
  ctZone,
} from '../../engine/src/tables/conntrack.ts';
import { compileTraffic } from '../../engine/src/traffic/compile.ts';
import { STATION_BROKEN, STATION_PACKETS, STATION_STRAY } from '../../engine/src/traffic/station.ts';
import type { StreamSpec } from '../../engine/src/traffic/stream.ts';
import { RESPOND_ECHO, RESPOND_NONE } from '../../engine/src/traffic/stream.ts';
import { REASON_WORKER_LOST } from '../../engine/src/wire/reason.ts';
import { startRun } from '../../engine/src/worker/pool.ts';
import { takeImage, takeState } from '../../engine/src/worker/transfer.ts';
import { makeDatapath, type ServiceSpec, service } from '../traffic/small-cluster.ts';
import { endsOf, fromHost, fromOutside, fromPod, stream, toService } from '../traffic/streams.ts';
import { buildEngine } from './built.ts';

beforeAll(buildEngine);

const UDP = 17;
const SCTP = 132;

const services: ServiceSpec[] = [
  service(1),
  service(2, { proto: UDP, port: 53, targetPort: 53, affinityMs: 10_000 }),
  service(3, { proto: SCTP, targetPort: 80 }),
  service(4, { masquerade: true }),
  service(5, { backends: [] }),
  service(6, { backends: [], reset: true }),
];

/** Everything at once: all protocols, both families, affinity, masquerade, rejections, ICMP, clients outside. */
function mixedStreams(): StreamSpec[] {
  const streams: StreamSpec[] = [];
  for (const family of [4, 6]) {
    const pods = [0, 3, 9, 17].map((pod) => fromPod(pod, family));
    const outside = [1, 2, 3].map((n) => fromOutside(n - 1, n, family));
    const to = (i: number) => [toService(services[i], family)];
    streams.push(
      stream({ family, sources: pods, destinations: to(0), flows: 700, newFlows: 0.05, weight: 6 }),
      stream({ family, proto: UDP, sources: pods, destinations: to(1), newFlows: 0.2, respond: RESPOND_ECHO }),
      stream({ family, proto: SCTP, sources: pods, destinations: to(2), newFlows: 0.1 }),
      stream({ family, sources: outside, destinations: to(3), flows: 600, skew: 1.1, newFlows: 0.1, weight: 3 }),
      stream({ family, sources: pods, destinations: to(4), flows: 50 }),
      stream({ family, sources: pods, destinations: to(5), flows: 50 }),
      stream({ family, sources: outside, destinations: to(3), newFlows: 1, respond: RESPOND_NONE }),
      stream({
        family,
        proto: family === 4 ? 1 : 58,
        sources: [fromHost(0, family), ...pods],
        destinations: [{ ...fromPod(20, family), port: 0 }],
        sizes: [{ bytes: 98, weight: 1 }],
      }),
    );
  }
  return streams;
}

function dumpConntrack(dp: Datapath): string[] {
  const rows: string[] = [];
  for (const ct of [dp.conntrack4, dp.conntrack6]) {
    const words = [0, 1, 2, 3].slice(0, ct.addressWords);
    for (let slot = ctNext(ct, -1); slot !== -1; slot = ctNext(ct, slot)) {
      const addresses = words.flatMap((i) => [
        ctSrc(ct, slot, i),
        ctDst(ct, slot, i),
        ctXSrc(ct, slot, i),
        ctXDst(ct, slot, i),
      ]);
      const rest = [ctPorts(ct, slot), ctXPorts(ct, slot), ctProto(ct, slot), ctState(ct, slot), ctFlags(ct, slot)];
      rows.push([ctShard(ct, slot), ctZone(ct, slot), ctExpiry(ct, slot), ...addresses, ...rest].join(' '));
    }
  }
  return rows.sort();
}

async function run(mode: number, workers: number, packets: number) {
  const traffic = compileTraffic({ seed: 42, packets, packetsPerSecond: 50_000, streams: mixedStreams() });
  const dp = makeDatapath(mode, services);
  const handle = startRun({ traffic, image: takeImage(dp), state: takeState(dp), updates: [] }, workers);
  const result = await handle.done;
  return { result, conntrack: dumpConntrack(dp), flows: Array.from(traffic.flows.words) };
}

describe.each([
  ['iptables', MODE_IPTABLES],
  ['ebpf', MODE_EBPF],
])('a run in %s', (_, mode) => {
  it('ends the same with 1, 2, 3 and 8 workers: counters, digest, connections, flows', async () => {
    const one = await run(mode, 1, 60_000);
    expect(one.result.run.station[STATION_PACKETS]).toBe(60_000);
    expect(one.result.run.station[STATION_STRAY]).toBe(0);
    expect(one.result.run.station[STATION_BROKEN]).toBe(0);
    expect(endsOf(one.result.run.counters)).toBe(one.result.run.counters[COUNT_ENTERED]);
    expect(one.result.run.counters[COUNT_ENTERED]).toBeGreaterThan(100_000);
    for (const workers of [2, 3, 8]) {
      const many = await run(mode, workers, 60_000);
      expect(many.result.run.counters).toEqual(one.result.run.counters);
      expect(many.result.setup.counters).toEqual(one.result.setup.counters);
      expect(many.result.digest).toBe(one.result.digest);
      expect(many.conntrack).toEqual(one.conntrack);
      expect(many.flows).toEqual(one.flows);
      expect(many.result.lost).toEqual({ workers: 0, frames: 0, flows: 0 });
    }
  });
});
void VERDICT_DROPPED;
void VERDICT_REJECTED;
void countOf;
void REASON_WORKER_LOST;
