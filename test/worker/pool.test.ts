/** Runs on real threads: the same result for any number of workers, images that change, workers that die. */
import { MessageChannel } from 'node:worker_threads';
import { beforeAll, describe, expect, it } from 'vitest';
import { COUNT_ENTERED, COUNTERS, countOf } from '../../engine/src/programs/count.ts';
import { type Datapath, MODE_EBPF, MODE_IPTABLES } from '../../engine/src/programs/datapath.ts';
import { VERDICT_DROPPED } from '../../engine/src/programs/verdict.ts';
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
import { createCounters, readTotals } from '../../engine/src/tables/counters.ts';
import { compileTraffic } from '../../engine/src/traffic/compile.ts';
import { WINDOW_PACKETS } from '../../engine/src/traffic/generate.ts';
import { createStation, STATION_BROKEN, STATION_PACKETS, STATION_STRAY } from '../../engine/src/traffic/station.ts';
import type { StreamSpec } from '../../engine/src/traffic/stream.ts';
import { RESPOND_ECHO, RESPOND_NONE } from '../../engine/src/traffic/stream.ts';
import { REASON_WORKER_LOST } from '../../engine/src/wire/reason.ts';
import { createCrew } from '../../engine/src/worker/crew.ts';
import { planRun } from '../../engine/src/worker/plan.ts';
import { type RunHandle, startRun } from '../../engine/src/worker/pool.ts';
import { runResident, TOTALS } from '../../engine/src/worker/resident.ts';
import { attachDatapath, takeImage, takeState } from '../../engine/src/worker/transfer.ts';
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

/** The same run in this thread, by the sources as they are: functions of the bundle are specialised. */
function runFromSources(mode: number, packets: number) {
  const traffic = compileTraffic({ seed: 42, packets, packetsPerSecond: 50_000, streams: mixedStreams() });
  const dp = makeDatapath(mode, services);
  const totals = new Float64Array(TOTALS);
  const own = attachDatapath(takeImage(dp), takeState(dp), totals.subarray(0, COUNTERS));
  const runCounts = createCounters(TOTALS, 1);
  const { port1, port2 } = new MessageChannel();
  runResident(createStation(traffic, own, 0, 1, totals.subarray(COUNTERS)), totals, {
    worker: 0,
    image: null,
    epoch: 0,
    updates: [],
    crew: createCrew(1, planRun(traffic).totalBreaths).buffer,
    setupCounts: createCounters(TOTALS, 1).buffer,
    runCounts: runCounts.buffer,
    port: port2,
    resume: false,
  });
  port1.close();
  readTotals(runCounts, totals);
  return { totals: Array.from(totals), conntrack: dumpConntrack(dp), flows: Array.from(traffic.flows.words) };
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

  it('ends in a thread, specialised, as by the sources', async () => {
    const { result, conntrack, flows } = await run(mode, 1, 30_000);
    const plain = runFromSources(mode, 30_000);
    const { counters, station } = result.run;
    expect(plain.totals).toEqual([...counters, ...station]);
    expect(plain.conntrack).toEqual(conntrack);
    expect(plain.flows).toEqual(flows);
  });
});

/** Resolves when a run has counted so many packets in its measured phase. */
async function reached(handle: RunHandle, packets: number): Promise<void> {
  for (;;) {
    const { measuring, totals } = handle.progress();
    if (measuring && totals.station[STATION_PACKETS] >= packets) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** New connections to one Service whose backends a second image replaces. */
function oneService() {
  const before = [service(1, { backends: [1, 2] })];
  const after = [service(1, { backends: [11, 19] })];
  const streams = [
    stream({ sources: [fromPod(0, 4)], destinations: [toService(before[0], 4)], flows: 500, newFlows: 0.2 }),
  ];
  return { before, after, streams };
}

describe('an image that changes', () => {
  const scheduled = async (workers: number, fromMs: number) => {
    const { before, after, streams } = oneService();
    const traffic = compileTraffic({ seed: 1, packets: 50_000, packetsPerSecond: 100_000, streams });
    const dp = makeDatapath(MODE_EBPF, before);
    const updates = [{ fromMs, image: takeImage(makeDatapath(MODE_EBPF, after)) }];
    const result = await startRun({ traffic, image: takeImage(dp), state: takeState(dp), updates }, workers).done;
    return { result, conntrack: dumpConntrack(dp) };
  };

  it('at a virtual time gives the same result for any number of workers', async () => {
    const one = await scheduled(1, 250);
    const three = await scheduled(3, 250);
    expect(three.result.digest).toBe(one.result.digest);
    expect(three.conntrack).toEqual(one.conntrack);
    expect(one.result.run.station[STATION_STRAY]).toBe(0);
    const later = await scheduled(2, 300);
    expect(later.result.digest).not.toBe(one.result.digest);
    const targets = (rows: string[]) => new Set(rows.map((row) => row.split(' ')[4]));
    // Both backends of either image got connections.
    expect(targets(one.conntrack).size).toBe(4);
  });

  it('while traffic runs is taken up by all, and nothing is lost or goes astray', async () => {
    const { before, after, streams } = oneService();
    const traffic = compileTraffic({ seed: 1, packets: 2 ** 32, packetsPerSecond: 1_000_000, streams });
    const dp = makeDatapath(MODE_IPTABLES, before);
    const handle = startRun({ traffic, image: takeImage(dp), state: takeState(dp), updates: [] }, 2);
    await reached(handle, 50_000);
    await handle.swapImage(takeImage(makeDatapath(MODE_IPTABLES, after)));
    await reached(handle, handle.progress().totals.station[STATION_PACKETS] + 50_000);
    await handle.swapImage(takeImage(makeDatapath(MODE_IPTABLES, before)));
    handle.stop();
    const result = await handle.done;
    expect(endsOf(result.run.counters)).toBe(result.run.counters[COUNT_ENTERED]);
    expect(result.run.station[STATION_STRAY]).toBe(0);
    expect(result.run.station[STATION_BROKEN]).toBe(0);
    // Everybody stopped after the same window.
    expect(result.run.station[STATION_PACKETS] % WINDOW_PACKETS).toBe(0);
    expect(result.lost.workers).toBe(0);
    await handle.swapImage(takeImage(dp));
  });

  it('is refused before any worker sees it when it cannot be taken up', async () => {
    const { before, streams } = oneService();
    const traffic = compileTraffic({ seed: 1, packets: 2 ** 32, packetsPerSecond: 1_000_000, streams });
    const dp = makeDatapath(MODE_EBPF, before);
    const image = takeImage(dp);
    const handle = startRun({ traffic, image, state: takeState(dp), updates: [] }, 1);
    expect(() => handle.swapImage(takeImage(makeDatapath(MODE_IPTABLES, before)))).toThrow('keeps its mode');
    expect(() => handle.swapImage({ ...image, ebpf: null })).toThrow('no maps');
    handle.abort();
    await expect(handle.done).rejects.toThrow('aborted');
  });
});

describe('a worker that dies', () => {
  it.each([1, 2, 3])('is replaced, and what was lost is counted (%i workers)', async (workers) => {
    const traffic = compileTraffic({ seed: 3, packets: 2 ** 32, packetsPerSecond: 1_000_000, streams: mixedStreams() });
    const dp = makeDatapath(MODE_EBPF, services);
    const handle = startRun({ traffic, image: takeImage(dp), state: takeState(dp), updates: [] }, workers);
    await reached(handle, 30_000);
    handle.replaceWorker(workers - 1);
    await reached(handle, handle.progress().totals.station[STATION_PACKETS] + 50_000);
    handle.replaceWorker(0);
    await reached(handle, handle.progress().totals.station[STATION_PACKETS] + 50_000);
    handle.stop();
    const { run, lost } = await handle.done;
    expect(lost.workers).toBe(2);
    expect(lost.flows).toBeGreaterThan(0);
    expect(run.counters[countOf(VERDICT_DROPPED, REASON_WORKER_LOST)]).toBe(lost.frames);
    expect(endsOf(run.counters)).toBe(run.counters[COUNT_ENTERED]);
    expect(run.station[STATION_BROKEN]).toBe(0);
    // No packet number was skipped: each was sent, refused, or counted as lost.
    expect(run.station[STATION_PACKETS] % WINDOW_PACKETS).toBe(0);
  });

  it('again and again ends the run with the reason', async () => {
    const { before, after, streams } = oneService();
    const traffic = compileTraffic({ seed: 1, packets: 100_000, packetsPerSecond: 100_000, streams });
    const dp = makeDatapath(MODE_EBPF, before);
    const image = takeImage(makeDatapath(MODE_EBPF, after));
    const run = { traffic, image: takeImage(dp), state: takeState(dp), updates: [{ fromMs: 100, image }] };
    const handle = startRun(run, 2);
    // Damage that no check at the start can see.
    new Int32Array(image.topology.owners4)[0] = 0;
    await expect(handle.done).rejects.toThrow(/workers died.*wrong magic/);
  });
});

it('refuses a number of workers that cannot share 256 shards', () => {
  const { before, streams } = oneService();
  const traffic = compileTraffic({ seed: 1, packets: 1, packetsPerSecond: 1, streams });
  const dp = makeDatapath(MODE_EBPF, before);
  const spec = { traffic, image: takeImage(dp), state: takeState(dp), updates: [] };
  expect(() => startRun(spec, 0)).toThrow(RangeError);
  expect(() => startRun(spec, 257)).toThrow(RangeError);
});
