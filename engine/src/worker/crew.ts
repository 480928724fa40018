/**
 * The crew: the shared words by which the workers of a run meet, stop, and change images.
 *
 * Memory, in words; one 64-byte line for the run, then one per worker:
 *
 *     0 ORDER     RUN, STOP (all end at the next tick) or LEAVE (each ends at once); written by the main thread
 *     1 EPOCH     images sent to the workers so far; written by the main thread
 *     2 RELEASED  breaths after which the last tick was over; written by worker 0
 *     3 ADOPT     epoch that all take up at this tick; written by worker 0 before RELEASED
 *     4 LAST      breaths after which the run ends; written by worker 0 before RELEASED
 *
 *     w+0 ARRIVED breaths after which the worker came to a tick
 *     w+1 BREATH  breath in progress or last finished, -1 before the first: what a replacement has to account for
 *     w+2 EPOCH   image that the worker has taken up
 *
 * A breath's number counts windows of the set-up and of the run together. A *tick* follows certain breaths: all workers
 * arrive, worker 0 merges what flows share, and all go on. Waiting is done in slices that look at ORDER, so nobody waits
 * for ever: a worker that died is replaced, and its replacement arrives in its place; or the run is told to leave.
 */
export const ORDER_RUN = 0;
export const ORDER_STOP = 1;
export const ORDER_LEAVE = 2;

const LINE = 16;
const ORDER = 0;
const EPOCH = 1;
const RELEASED = 2;
const ADOPT = 3;
const LAST = 4;
const ARRIVED = 0;
const BREATH = 1;
const WORKER_EPOCH = 2;

const WAIT_SLICE_MS = 50;

export interface Crew {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly workers: number;
}

/** @param breaths breaths of the whole run, at most 2^31 - 1 */
export function createCrew(workers: number, breaths: number): Crew {
  const crew = attachCrew(new SharedArrayBuffer((1 + workers) * LINE * 4));
  crew.words[LAST] = breaths;
  for (let w = 0; w < workers; w++) crew.words[line(w) + BREATH] = -1;
  return crew;
}

export function attachCrew(buffer: SharedArrayBuffer): Crew {
  const words = new Int32Array(buffer);
  return { buffer, words, workers: words.length / LINE - 1 };
}

function line(worker: number): number {
  return (1 + worker) * LINE;
}

// ---- main thread ------------------------------------------------------------------------------------------------

/** Orders can only become stronger: RUN, STOP, LEAVE. */
export function giveOrder(crew: Crew, order: number): void {
  if (Atomics.load(crew.words, ORDER) < order) Atomics.store(crew.words, ORDER, order);
  Atomics.notify(crew.words, RELEASED);
  for (let w = 0; w < crew.workers; w++) Atomics.notify(crew.words, line(w) + ARRIVED);
}

/** Says that image `epoch` lies in every worker's port. */
export function announceImage(crew: Crew, epoch: number): void {
  Atomics.store(crew.words, EPOCH, epoch);
}

/** The image that the last tick took up. */
export function adoptedByTick(crew: Crew): number {
  return Atomics.load(crew.words, ADOPT);
}

/** The oldest image that a worker still uses. */
export function oldestEpoch(crew: Crew): number {
  let oldest = Atomics.load(crew.words, line(0) + WORKER_EPOCH);
  for (let w = 1; w < crew.workers; w++) {
    oldest = Math.min(oldest, Atomics.load(crew.words, line(w) + WORKER_EPOCH));
  }
  return oldest;
}

// ---- workers ----------------------------------------------------------------------------------------------------

export function hasToLeave(crew: Crew): boolean {
  return Atomics.load(crew.words, ORDER) === ORDER_LEAVE;
}

/** Notes the breath that begins; a plain store: only a replacement reads it, after the writer is gone. */
export function noteBreath(crew: Crew, worker: number, breath: number): void {
  crew.words[line(worker) + BREATH] = breath;
}

export function lastBreathOf(crew: Crew, worker: number): number {
  return crew.words[line(worker) + BREATH];
}

export function noteEpoch(crew: Crew, worker: number, epoch: number): void {
  Atomics.store(crew.words, line(worker) + WORKER_EPOCH, epoch);
}

/** Breaths after which the run ends, as the last tick fixed it. */
export function lastBreath(crew: Crew): number {
  return Atomics.load(crew.words, LAST);
}

/** Comes to the tick after `breaths` breaths. */
export function arrive(crew: Crew, worker: number, breaths: number): void {
  Atomics.store(crew.words, line(worker) + ARRIVED, breaths);
  if (worker !== 0) Atomics.notify(crew.words, line(worker) + ARRIVED);
}

/** Worker 0 waits until all have arrived; false when it has to leave instead. */
export function awaitAll(crew: Crew, breaths: number): boolean {
  for (let w = 1; w < crew.workers; w++) {
    for (;;) {
      const arrived = Atomics.load(crew.words, line(w) + ARRIVED);
      if (arrived >= breaths) break;
      if (hasToLeave(crew)) return false;
      Atomics.wait(crew.words, line(w) + ARRIVED, arrived, WAIT_SLICE_MS);
    }
  }
  return true;
}

/** True when this tick is already over: only a replacement of worker 0 can meet that. */
export function isReleased(crew: Crew, breaths: number): boolean {
  return Atomics.load(crew.words, RELEASED) >= breaths;
}

/** Worker 0 ends the tick: fixes image and end for everybody, and lets them go. */
export function release(crew: Crew, breaths: number): void {
  const words = crew.words;
  Atomics.store(words, ADOPT, Atomics.load(words, EPOCH));
  if (Atomics.load(words, ORDER) === ORDER_STOP) Atomics.store(words, LAST, breaths);
  Atomics.store(words, RELEASED, breaths);
  Atomics.notify(words, RELEASED);
}

/** The others wait for the end of the tick; false when they have to leave instead. */
export function awaitRelease(crew: Crew, breaths: number): boolean {
  for (;;) {
    const released = Atomics.load(crew.words, RELEASED);
    if (released >= breaths) return true;
    if (hasToLeave(crew)) return false;
    Atomics.wait(crew.words, RELEASED, released, WAIT_SLICE_MS);
  }
}
