/** The streams of a server: those that run, and the last ones that have ended. */
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  COUNT_BYTES,
  COUNT_ENTERED,
  COUNT_EVICTIONS,
  COUNT_HOPS,
  COUNT_LOOKUPS,
  COUNT_NEW_FLOWS,
  COUNT_RULES,
  COUNTERS,
} from '@flatpath/engine/programs/count';
import {
  STATION_BROKEN,
  STATION_PACKETS,
  STATION_REFUSED,
  STATION_STRAY,
  STATION_VERIFIED,
} from '@flatpath/engine/traffic/station';
import type { TrafficSpec } from '@flatpath/engine/traffic/stream';
import type { ClusterModel } from '../compile/image.ts';
import type { Mode } from '../model/datapath.ts';
import { outcomesOf } from '../traffic/run.ts';
import type { LiveCluster, Publisher } from './live-cluster.ts';
import { LiveStream } from './live-stream.ts';
import { StatusError } from './status.ts';

/** Streams that may run at a time: each has threads and connection tables of its own. */
const MOST_RUNNING = 4;
/** Streams that have ended and can still be read. */
const MOST_ENDED = 64;
const SAMPLE_MS = 1000;

interface Entry {
  readonly id: string;
  readonly name: string;
  readonly stream: LiveStream;
  readonly startedAt: Date;
  endedAt: Date | null;
  /** Of the last second, or of the whole when it has ended. */
  packetsPerSecond: number;
  sampledAt: number;
  sampledPackets: number;
}

export class StreamBook implements Publisher {
  private readonly cluster: LiveCluster;
  private readonly entries = new Map<string, Entry>();
  private readonly timer: NodeJS.Timeout;
  /** Counters of streams that have been forgotten, by mode: sums never go down. */
  private readonly retired = new Map<Mode, Float64Array>();
  private started = 0;

  constructor(cluster: LiveCluster) {
    this.cluster = cluster;
    cluster.addPublisher(this);
    this.timer = setInterval(() => this.sample(), SAMPLE_MS);
    this.timer.unref();
  }

  get all(): LiveStream[] {
    return [...this.entries.values()].map(({ stream }) => stream);
  }

  /** Counters (programs/count.ts) of all streams of a mode since the server started, set-up left out. */
  countersOf(mode: Mode): Float64Array {
    const sum = new Float64Array(COUNTERS);
    const retired = this.retired.get(mode);
    if (retired !== undefined) addTo(sum, retired);
    for (const stream of this.all) if (stream.mode === mode) addTo(sum, stream.read().totals.counters);
    return sum;
  }

  /** @throws StatusError 429 where as many run as may */
  start(name: string, mode: Mode, spec: TrafficSpec, workers: number): object {
    const running = this.all.filter((stream) => !stream.isOver()).length;
    if (running >= MOST_RUNNING) throw new StatusError(429, `${running} streams are running, as many as may`);
    const stream = new LiveStream(this.cluster.model, mode, spec, workers);
    const id = String(++this.started);
    const entry: Entry = {
      id,
      name,
      stream,
      startedAt: new Date(),
      endedAt: null,
      packetsPerSecond: 0,
      sampledAt: performance.now(),
      sampledPackets: 0,
    };
    this.entries.set(id, entry);
    stream.ended.then(() => {
      entry.endedAt = new Date();
      const { totals, wallMs } = stream.read();
      entry.packetsPerSecond = wallMs === 0 ? 0 : (totals.counters[COUNT_ENTERED]! / wallMs) * 1000;
      this.forgetOldest();
    });
    return describe(entry);
  }

  list(): object[] {
    return [...this.entries.values()].map(describe);
  }

  read(id: string): object {
    return describe(this.find(id));
  }

  /** Stops a stream and answers what it has done; one that has ended is forgotten. */
  async stop(id: string): Promise<object> {
    const entry = this.find(id);
    if (entry.stream.isOver()) this.forget(entry);
    else {
      entry.stream.stop();
      await entry.stream.ended;
    }
    return describe(entry);
  }

  /** Says how a stream is doing at once, each second and at its end, as lines made by `format`. */
  watch(id: string, format: (event: object) => string): Readable {
    const entry = this.find(id);
    return Readable.from(
      (async function* () {
        for (;;) {
          const isOver = entry.stream.isOver();
          yield format(describe(entry));
          if (isOver) return;
          const alarm = new AbortController();
          await Promise.race([
            entry.stream.ended,
            sleep(SAMPLE_MS, undefined, { signal: alarm.signal }).catch(() => undefined),
          ]);
          alarm.abort();
        }
      })(),
    );
  }

  prepare(model: ClusterModel): () => Promise<void> {
    const commits = this.all.filter((stream) => !stream.isOver()).map((stream) => stream.prepare(model));
    return async () => {
      await Promise.all(commits.map((commit) => commit()));
    };
  }

  /** Stops everything that runs. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    for (const stream of this.all) stream.stop();
    await Promise.all(this.all.map((stream) => stream.ended));
  }

  private find(id: string): Entry {
    const entry = this.entries.get(id);
    if (entry === undefined) throw new StatusError(404, `stream "${id}" not found`, { name: id, kind: 'streams' });
    return entry;
  }

  private sample(): void {
    const now = performance.now();
    for (const entry of this.entries.values()) {
      if (entry.stream.isOver()) continue;
      const packets = entry.stream.read().totals.counters[COUNT_ENTERED]!;
      entry.packetsPerSecond = ((packets - entry.sampledPackets) / (now - entry.sampledAt)) * 1000;
      entry.sampledAt = now;
      entry.sampledPackets = packets;
    }
  }

  private forgetOldest(): void {
    const ended = [...this.entries.values()].filter(({ stream }) => stream.isOver());
    for (const entry of ended.slice(0, Math.max(0, ended.length - MOST_ENDED))) this.forget(entry);
  }

  private forget({ id, stream }: Entry): void {
    const sum = this.retired.get(stream.mode) ?? new Float64Array(COUNTERS);
    addTo(sum, stream.read().totals.counters);
    this.retired.set(stream.mode, sum);
    this.entries.delete(id);
  }
}

function addTo(sum: Float64Array, counters: Float64Array): void {
  counters.forEach((value, i) => {
    sum[i]! += value;
  });
}

function describe(entry: Entry): object {
  const { id, name, stream, startedAt, endedAt, packetsPerSecond } = entry;
  const { state, totals, lost, reconnects, images, wallMs, virtualMs, digest, error } = stream.read();
  const { counters, station } = totals;
  const packets = counters[COUNT_ENTERED]!;
  const per = (value: number): number => (packets === 0 ? 0 : value / packets);
  return {
    id,
    name,
    mode: stream.mode,
    workers: stream.workers,
    state,
    error,
    startedAt: startedAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
    /** Frames that entered, replies and answers included. */
    packets,
    bytes: counters[COUNT_BYTES]!,
    packetsPerSecond: Math.round(packetsPerSecond),
    /** Packets that the clients sent, and are to send. */
    sent: station[STATION_PACKETS]!,
    wanted: stream.wanted,
    newFlows: counters[COUNT_NEW_FLOWS]!,
    refused: station[STATION_REFUSED]!,
    outcomes: outcomesOf(totals),
    hopsPerPacket: per(counters[COUNT_HOPS]!),
    rulesPerPacket: per(counters[COUNT_RULES]!),
    lookupsPerPacket: per(counters[COUNT_LOOKUPS]!),
    evictions: counters[COUNT_EVICTIONS]!,
    verified: station[STATION_VERIFIED]!,
    broken: station[STATION_BROKEN]!,
    stray: station[STATION_STRAY]!,
    lost,
    reconnects,
    images,
    wallMs,
    virtualMs,
    digest,
  };
}
