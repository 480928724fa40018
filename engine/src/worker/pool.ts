/**
 * The pool: starts a run on worker threads and holds its reins; everything here happens in the main thread.
 *
 * piscina has as many threads as workers and runs one resident task in each, with a MessagePort of its own to talk through
 * and an AbortSignal to end it by force. A worker that dies is replaced at once (resident.ts says what its replacement
 * does); `RunResult.lost` tells what was lost with it.
 *
 * Results do not depend on the number of workers as long as none dies: images given in `updates` hold from a virtual time;
 * an image given to `swapImage` holds from the next tick, for all workers at once.
 */
import { fileURLToPath } from 'node:url';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { COUNTERS } from '../programs/count.ts';
import { type Counters, createCounters, readTotals } from '../tables/counters.ts';
import { WINDOW_PACKETS } from '../traffic/generate.ts';
import { SHARDS } from '../traffic/shard.ts';
import { STATION_BREATHS, STATION_DIGEST_HIGH, STATION_DIGEST_LOW } from '../traffic/station.ts';
import type { Traffic } from '../traffic/stream.ts';
import { adoptedByTick, announceImage, createCrew, giveOrder, ORDER_LEAVE, ORDER_STOP, oldestEpoch } from './crew.ts';
import { breathAt, planRun } from './plan.ts';
import { type ImageMessage, type ResidentMessage, type ResidentTask, type ThreadData, TOTALS } from './resident.ts';
import { checkImage, type ImageParts, type StateParts } from './transfer.ts';

/** A run gives up after so many deaths: whatever kills its workers will go on doing so. */
const MOST_DEATHS = 32;

export interface RunSpec {
  readonly traffic: Traffic;
  readonly image: ImageParts;
  /** Connection tables, stamps and ports of 256 shards. */
  readonly state: StateParts;
  /** Images that hold from a virtual time on, in ms since the end of the set-up; in order. */
  readonly updates: readonly { readonly fromMs: number; readonly image: ImageParts }[];
}

/** Sums over all workers; `counters` as programs/count.ts, `station` as STATION_… of traffic/station.ts. */
export interface Totals {
  readonly counters: Float64Array;
  readonly station: Float64Array;
}

export interface RunProgress {
  /** False while flows are being set up; `totals` are those of the present phase. */
  readonly measuring: boolean;
  readonly totals: Totals;
}

export interface RunLoss {
  /** Workers that died and were replaced. */
  readonly workers: number;
  /** Packets of the streams whose end is unknown; counted as dropped, worker-lost. */
  readonly frames: number;
  /** Connections that stood in the shards of dead workers. */
  readonly flows: number;
}

export interface RunResult {
  readonly setup: Totals;
  readonly run: Totals;
  /** Order-independent digest of all frames that ended in the run proper, 16 hexadecimal digits. */
  readonly digest: string;
  readonly lost: RunLoss;
  /** Wall time of the run proper, from the tick that ends the set-up to the last worker's last breath. */
  readonly wallMs: number;
  /** Virtual time that the run proper covered. */
  readonly virtualMs: number;
}

export interface RunHandle {
  progress(): RunProgress;
  /** Makes an image hold from the next tick on; resolves when every worker has left the one before. */
  swapImage(image: ImageParts): Promise<void>;
  /** Ends the run at the next tick; `done` resolves with what has been done until then. */
  stop(): void;
  /** Ends the run by force; `done` rejects. */
  abort(): void;
  /** Ends a worker's thread by force, as if it had died, and lets another take over. */
  replaceWorker(worker: number): void;
  readonly done: Promise<RunResult>;
}

interface Member {
  port: MessagePort;
  control: AbortController;
}

/**
 * The task file: worker/thread.ts, compiled and bundled into one module by scripts/bundle-thread.mjs. Sources are never
 * loaded in a thread: run from them, the pool needs the engine to be built. `src/worker` and `dist/worker` both lie two
 * levels below the engine.
 */
function threadFile(): string {
  return fileURLToPath(new URL('../../dist/thread.mjs', import.meta.url));
}

/**
 * Starts a run.
 * @param workers threads, 1 to 256
 * @throws RangeError for another number of workers or too many packets, TypeError for an image that no thread could take up
 */
export function startRun(spec: RunSpec, workers: number): RunHandle {
  if (!Number.isInteger(workers) || workers < 1 || workers > SHARDS) {
    throw new RangeError(`workers must be 1 to ${SHARDS}, not ${workers}`);
  }
  checkImage(spec.image);
  for (const update of spec.updates) checkImage(update.image);
  const plan = planRun(spec.traffic);
  const crew = createCrew(workers, plan.totalBreaths);
  const setupCounts = createCounters(TOTALS, workers);
  const runCounts = createCounters(TOTALS, workers);
  const updates = spec.updates.map(({ fromMs, image }) => ({ breath: breathAt(plan, fromMs), image }));
  const { traffic, image, state } = spec;
  const threadData: ThreadData = { workers, traffic, image, state };
  const pool = new Piscina({
    filename: threadFile(),
    minThreads: workers,
    maxThreads: workers,
    concurrentTasksPerWorker: 1,
    idleTimeout: Infinity,
    workerData: threadData,
  });
  const members: Member[] = [];
  // Images that may still be asked for, by epoch; the first is the one the run began with.
  const images = new Map<number, ImageParts>([[0, spec.image]]);
  const waiting: { epoch: number; resolve: () => void }[] = [];
  const lost = { workers: 0, frames: 0, flows: 0 };
  let epoch = 0;
  let working = workers;
  let startedAt = 0;
  let endedAt = 0;
  let breaths = 0;
  let resolveDone: (result: RunResult) => void;
  let rejectDone: (error: unknown) => void;
  const done = new Promise<RunResult>((resolve, reject) => {
    resolveDone = resolve;
    rejectDone = reject;
  });
  let finished = false;

  const hear = (message: ResidentMessage) => {
    if (message.kind === 'started') startedAt = message.at;
    else if (message.kind === 'recovered') {
      lost.frames += message.frames;
      lost.flows += message.flows;
    } else if (message.kind === 'ended') {
      endedAt = Math.max(endedAt, message.at);
      breaths = Math.max(breaths, message.breaths);
    } else settleSwaps();
  };

  /** Releases images that nobody uses and resolves the swaps that all have made. */
  const settleSwaps = () => {
    const oldest = finished ? epoch : oldestEpoch(crew);
    for (const old of images.keys()) if (old < oldest) images.delete(old);
    for (let i = waiting.length - 1; i >= 0; i--) {
      if (waiting[i].epoch <= oldest) waiting.splice(i, 1)[0].resolve();
    }
  };

  const launch = (worker: number, resume: boolean) => {
    const { port1, port2 } = new MessageChannel();
    const control = new AbortController();
    // A replacement begins with the image of the last tick; later ones wait for it in its port.
    const base = resume ? adoptedByTick(crew) : 0;
    const first = images.get(base);
    if (first === undefined) throw new Error(`image ${base} has been released too early`);
    const task: ResidentTask = {
      worker,
      image: base === 0 ? null : first,
      epoch: base,
      updates,
      crew: crew.buffer,
      setupCounts: setupCounts.buffer,
      runCounts: runCounts.buffer,
      port: port2,
      resume,
    };
    for (const [number, later] of images) if (number > base) sendImage(port1, number, later);
    port1.on('message', hear);
    members[worker] = { port: port1, control };
    pool.run(task, { transferList: [port2], signal: control.signal }).then(
      () => retire(worker),
      (error) => bury(worker, error),
    );
  };

  const retire = (worker: number) => {
    // Messages may still be on their way when the task's end is already known; they are read before the port goes.
    closePort(members[worker].port, hear);
    if (--working === 0) finish();
  };

  const bury = (worker: number, error: unknown) => {
    closePort(members[worker].port, hear);
    if (finished) return;
    if (++lost.workers > MOST_DEATHS) {
      fail(new Error(`${lost.workers} workers died, the last one of: ${String(error)}`, { cause: error }));
      return;
    }
    launch(worker, true);
  };

  const fail = (error: unknown) => {
    if (finished) return;
    finished = true;
    giveOrder(crew, ORDER_LEAVE);
    settleSwaps();
    rejectDone(error);
    void pool.destroy();
  };

  const finish = () => {
    if (finished) return;
    finished = true;
    settleSwaps();
    const run = sumTotals(runCounts);
    const digest = (lane: number) => run.station[lane].toString(16).padStart(8, '0');
    const packets = Math.max(0, breaths - plan.setupBreaths) * WINDOW_PACKETS;
    resolveDone({
      setup: sumTotals(setupCounts),
      run,
      digest: digest(STATION_DIGEST_HIGH) + digest(STATION_DIGEST_LOW),
      lost,
      wallMs: startedAt === 0 ? 0 : endedAt - startedAt,
      virtualMs: Math.min(spec.traffic.packets, packets) * plan.stepMs,
    });
    void pool.destroy();
  };

  for (let worker = 0; worker < workers; worker++) launch(worker, false);

  return {
    progress() {
      const run = sumTotals(runCounts);
      const measuring = run.station[STATION_BREATHS] > 0;
      return { measuring, totals: measuring ? run : sumTotals(setupCounts) };
    },
    swapImage(image) {
      if (image.mode !== spec.image.mode) throw new RangeError('a run keeps its mode');
      checkImage(image);
      if (finished) return Promise.resolve();
      epoch++;
      images.set(epoch, image);
      for (const member of members) sendImage(member.port, epoch, image);
      announceImage(crew, epoch);
      const awaited = epoch;
      return new Promise((resolve) => waiting.push({ epoch: awaited, resolve }));
    },
    stop: () => giveOrder(crew, ORDER_STOP),
    abort: () => fail(new Error('the run was aborted')),
    replaceWorker: (worker) => members[worker].control.abort(),
    done,
  };
}

function sendImage(port: MessagePort, epoch: number, image: ImageParts): void {
  const message: ImageMessage = { epoch, image };
  port.postMessage(message);
}

/** Closes a port after reading what still lies in it. */
function closePort(port: MessagePort, hear: (message: ResidentMessage) => void): void {
  for (;;) {
    const received: { message: ResidentMessage } | undefined = receiveMessageOnPort(port);
    if (received === undefined) break;
    hear(received.message);
  }
  port.close();
}

function sumTotals(shared: Counters): Totals {
  const all = new Float64Array(TOTALS);
  readTotals(shared, all);
  const station = all.slice(COUNTERS);
  station[STATION_DIGEST_LOW] %= 2 ** 32;
  station[STATION_DIGEST_HIGH] %= 2 ** 32;
  return { counters: all.slice(0, COUNTERS), station };
}
