/**
 * Counters: each worker adds in lanes of its own (a plain Float64Array, exact up to 2^53) and now and then publishes all
 * of them; readers sum what the workers have published. Adding costs no atomic operation and shares no cache line.
 *
 * Memory, in bytes:
 *
 *     header   64; capacity = counters, count = workers
 *     worker   one block each, whole 64-byte lines:
 *       +0     epoch (int32): the number of publications; the rest of its line is unused
 *       +64    copy 0: one float64 a counter, padded to whole lines
 *       …      copy 1
 *
 * Publication e goes into copy e mod 2 and then into the epoch; readers read the copy that the epoch names. A reader is
 * disturbed only if its worker publishes twice while it copies; it sees that by the epoch and copies again. It never
 * makes a worker wait and never sees half of a publication: sums that hold in a worker hold in what is read.
 * Each block has one writer. A worker that takes over a block begins with `readCounters` of it, so that nothing published
 * is lost.
 */
import { attachTable, CAPACITY_AT, COUNT_AT, createTable, HEADER_WORDS, KIND_COUNTERS } from './table-header.ts';

const LINE_BYTES = 64;

export interface Counters {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly lanes: Float64Array;
  readonly counters: number;
  readonly workers: number;
  /** Bytes of a copy and of a worker's block. */
  readonly copyBytes: number;
  readonly blockBytes: number;
}

/**
 * Makes the shared region.
 * @param counters number of counters
 * @param workers number of workers that publish
 * @throws RangeError if a number is not a whole one from 1 on
 */
export function createCounters(counters: number, workers: number): Counters {
  if (!Number.isInteger(workers) || workers < 1) {
    throw new RangeError(`counters need a whole number of workers from 1 on, not ${workers}`);
  }
  const blockBytes = LINE_BYTES + 2 * Math.ceil((counters * 8) / LINE_BYTES) * LINE_BYTES;
  const words = createTable(KIND_COUNTERS, counters, (workers * blockBytes) / 4);
  words[COUNT_AT] = workers;
  return attachCounters(words.buffer);
}

/**
 * Takes the shared region from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachCounters(buffer: SharedArrayBuffer): Counters {
  const words = attachTable(KIND_COUNTERS, buffer);
  const counters = words[CAPACITY_AT];
  const workers = words[COUNT_AT];
  const copyBytes = Math.ceil((counters * 8) / LINE_BYTES) * LINE_BYTES;
  const blockBytes = LINE_BYTES + 2 * copyBytes;
  if (buffer.byteLength !== HEADER_WORDS * 4 + workers * blockBytes) {
    throw new TypeError(`${counters} counters of ${workers} workers do not take ${buffer.byteLength} bytes`);
  }
  return { buffer, words, lanes: new Float64Array(buffer), counters, workers, copyBytes, blockBytes };
}

/** Publishes all lanes of a worker. Per burst or less often; one atomic operation. */
export function publishCounters(shared: Counters, worker: number, local: Float64Array): void {
  const block = HEADER_WORDS * 4 + worker * shared.blockBytes;
  // Only this worker writes the epoch: its own plain read is exact.
  const epoch = (shared.words[block >> 2] + 1) | 0;
  const copy = (block + LINE_BYTES + (epoch & 1) * shared.copyBytes) >> 3;
  const lanes = shared.lanes;
  for (let i = 0; i < shared.counters; i++) lanes[copy + i] = local[i];
  Atomics.store(shared.words, block >> 2, epoch);
}

/**
 * Copies what a worker has last published.
 * @param out one lane a counter
 */
export function readCounters(shared: Counters, worker: number, out: Float64Array): void {
  const block = HEADER_WORDS * 4 + worker * shared.blockBytes;
  for (;;) {
    const epoch = Atomics.load(shared.words, block >> 2);
    const copy = (block + LINE_BYTES + (epoch & 1) * shared.copyBytes) >> 3;
    for (let i = 0; i < shared.counters; i++) out[i] = shared.lanes[copy + i];
    // Adding 0 and not a load: what was read above may not be read later than this.
    if (Atomics.add(shared.words, block >> 2, 0) === epoch) return;
  }
}

/**
 * Sums what all workers have last published.
 * @param out one lane a counter; overwritten
 */
export function readTotals(shared: Counters, out: Float64Array): void {
  const one = new Float64Array(shared.counters);
  out.fill(0);
  for (let worker = 0; worker < shared.workers; worker++) {
    readCounters(shared, worker, one);
    for (let i = 0; i < shared.counters; i++) out[i] += one[i];
  }
}
