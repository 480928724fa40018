/**
 * A stream that runs while the cluster may change under it.
 *
 * A new image is taken up at a tick, by all workers at once. Three things are numbered by the compile and have been given
 * to the workers: nodes, the sending pods, and `recent` lists. Where a change numbers one of them anew the run ends at its
 * next tick and goes on, with what is left of its packets, as a run of the new cluster: its clients reconnect. A client
 * whose address is gone from the cluster sends no more; a stream that has lost all of its clients fails.
 */
import { COUNTERS } from '@flatpath/engine/programs/count';
import { STATION_COUNTS, STATION_PACKETS } from '@flatpath/engine/traffic/station';
import type { SourceSpec, StreamSpec, TrafficSpec } from '@flatpath/engine/traffic/stream';
import { ENTRY_POD } from '@flatpath/engine/wire/burst';
import type { RunResult, Totals } from '@flatpath/engine/worker/pool';
import type { ClusterModel } from '../compile/image.ts';
import { formatWords } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import { startTraffic, type TrafficRun } from '../traffic/run.ts';
import type { Publisher } from './live-cluster.ts';
import { affinityKey, nodesKey } from './numbering.ts';

/** From the seed of one part to that of the next: odd, so that none comes twice. */
const NEXT_SEED = 0x9e3779b9;

export type StreamState = 'setting-up' | 'running' | 'done' | 'stopped' | 'failed';

/** What a stream has done; sums over its reconnections, set-up left out. */
export interface StreamReading {
  readonly state: StreamState;
  readonly totals: Totals;
  readonly lost: { readonly workers: number; readonly frames: number; readonly flows: number };
  readonly reconnects: number;
  readonly images: number;
  /** Of the parts that have ended. */
  readonly wallMs: number;
  readonly virtualMs: number;
  /** Of all frames; null before the end, and where clients had to reconnect. */
  readonly digest: string | null;
  readonly error: string | null;
}

/** What runs. It holds threads' memory and a whole cluster, so it is let go at the end. */
interface Part {
  readonly run: TrafficRun;
  readonly spec: TrafficSpec;
  model: ClusterModel;
}

interface Move {
  readonly model: ClusterModel;
  readonly spec: TrafficSpec | null;
  readonly resolve: () => void;
}

export class LiveStream implements Publisher {
  readonly mode: Mode;
  readonly workers: number;
  /** Packets that are to be sent, replies not counted. */
  readonly wanted: number;
  /** Resolves when the stream has come to its end, good or bad. */
  readonly ended: Promise<void>;
  private part: Part | null;
  private state: StreamState = 'setting-up';
  private readonly past: Totals = { counters: new Float64Array(COUNTERS), station: new Float64Array(STATION_COUNTS) };
  private readonly lost = { workers: 0, frames: 0, flows: 0 };
  private reconnects = 0;
  private images = 0;
  private wallMs = 0;
  private virtualMs = 0;
  private digest: string | null = null;
  private error: string | null = null;
  private stopping = false;
  private moves: Move[] = [];

  /** @throws UnresolvedReference for streams that the engine refuses, RangeError for a number of workers out of range */
  constructor(model: ClusterModel, mode: Mode, spec: TrafficSpec, workers: number) {
    this.mode = mode;
    this.workers = workers;
    this.wanted = spec.packets;
    this.part = { model, spec, run: startTraffic(model, mode, spec, workers) };
    this.ended = this.follow(this.part);
  }

  isOver(): boolean {
    return this.state === 'done' || this.state === 'stopped' || this.state === 'failed';
  }

  /** Ends the stream at its next tick. */
  stop(): void {
    if (this.part === null) return;
    this.stopping = true;
    this.part.run.handle.stop();
  }

  read(): StreamReading {
    const { past, lost, reconnects, images, wallMs, virtualMs, digest, error } = this;
    const rest = { lost, reconnects, images, wallMs, virtualMs, digest, error };
    const progress = this.part?.run.handle.progress();
    if (progress === undefined || !progress.measuring) return { state: this.state, totals: past, ...rest };
    return { state: 'running', totals: sum(past, progress.totals), ...rest };
  }

  prepare(model: ClusterModel): () => Promise<void> {
    const { part } = this;
    if (part === null) return () => Promise.resolve();
    const spec = renumber(part.spec, part.model, model);
    const isSame =
      spec !== null &&
      sameSources(part.spec, spec) &&
      nodesKey(part.model) === nodesKey(model) &&
      affinityKey(part.model, this.mode) === affinityKey(model, this.mode);
    const publish = isSame ? part.run.prepare(model) : null;
    return () => {
      // Changes come one after the other, so the part is still the same, or the stream has come to its end.
      if (this.part !== part || this.stopping) return Promise.resolve();
      if (publish !== null) return this.takeUp(part, model, publish);
      return new Promise((resolve) => {
        this.moves.push({ model, spec, resolve });
        part.run.handle.stop();
      });
    };
  }

  private async takeUp(part: Part, model: ClusterModel, publish: () => Promise<void>): Promise<void> {
    await publish();
    part.model = model;
    this.images++;
  }

  private async follow(first: Part): Promise<void> {
    try {
      let part = first;
      while (this.addResult(await part.run.handle.done)) {
        part = this.reconnect();
        this.part = part;
        this.settleMoves();
      }
      this.state = this.stopping ? 'stopped' : 'done';
    } catch (error) {
      this.state = 'failed';
      this.error = error instanceof Error ? error.message : String(error);
    }
    this.part = null;
    this.settleMoves();
  }

  /** Adds a run that has ended; true where another has to follow. */
  private addResult(result: RunResult): boolean {
    for (const lanes of ['counters', 'station'] as const) {
      result.run[lanes].forEach((value, i) => {
        this.past[lanes][i]! += value;
      });
    }
    for (const what of ['workers', 'frames', 'flows'] as const) this.lost[what] += result.lost[what];
    this.wallMs += result.wallMs;
    this.virtualMs += result.virtualMs;
    this.digest = this.reconnects === 0 ? result.digest : null;
    return !this.stopping && this.moves.length > 0 && this.past.station[STATION_PACKETS]! < this.wanted;
  }

  private reconnect(): Part {
    const { model, spec } = this.moves.at(-1)!;
    if (spec === null) throw new Error('none of its clients is in the cluster any more');
    const packets = this.wanted - this.past.station[STATION_PACKETS]!;
    // Another seed, or the new part would repeat the packets of the first.
    const rest = { ...spec, packets, seed: (spec.seed + NEXT_SEED) | 0 };
    this.state = 'setting-up';
    this.digest = null;
    this.reconnects++;
    return { model, spec: rest, run: startTraffic(model, this.mode, rest, this.workers) };
  }

  private settleMoves(): void {
    const moves = this.moves;
    this.moves = [];
    for (const { resolve } of moves) resolve();
  }
}

/** The same clients under the numbers of another model; null where none is left. */
function renumber(spec: TrafficSpec, from: ClusterModel, to: ClusterModel): TrafficSpec | null {
  const streams: StreamSpec[] = [];
  for (const stream of spec.streams) {
    const sources = stream.sources
      .map((source) => renumberSource(stream, source, from, to))
      .filter((source) => source !== null);
    if (sources.length > 0) streams.push({ ...stream, sources });
  }
  return streams.length === 0 ? null : { ...spec, streams };
}

function renumberSource(
  { family }: StreamSpec,
  source: SourceSpec,
  from: ClusterModel,
  to: ClusterModel,
): SourceSpec | null {
  if (source.entry === ENTRY_POD && source.endpoint >= 0) {
    const endpoint = to.topology.endpointByAddress.get(formatWords(family === 6 ? 6 : 4, source.address));
    return endpoint === undefined ? null : { ...source, endpoint, node: to.topology.endpoints[endpoint]!.node };
  }
  const name = from.topology.nodes[source.node]?.metadata.name ?? '';
  const node = to.topology.nodeIndex.get(name);
  return node === undefined ? null : { ...source, node };
}

function sameSources(a: TrafficSpec, b: TrafficSpec): boolean {
  return (
    JSON.stringify(a.streams.map(({ sources }) => sources)) === JSON.stringify(b.streams.map(({ sources }) => sources))
  );
}

function sum(a: Totals, b: Totals): Totals {
  return {
    counters: a.counters.map((value, i) => value + b.counters[i]!),
    station: a.station.map((value, i) => value + b.station[i]!),
  };
}
