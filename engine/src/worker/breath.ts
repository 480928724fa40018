/**
 * The breath: the worker's loop body (hot). One window of packet numbers in, everything that it causes out.
 *
 *     send -> runBurst -> settle -> answers and replies as the next wave -> … until nothing follows
 *          -> the connections that new ones replaced are closed, wave by wave
 *
 * All of a window's frames make their first journey before any answer sets out, so within a shard the order of events is
 * that of packet numbers and waves, whatever other shards the worker has. No frame outlives its breath: between two
 * breaths nothing is in flight, which is where images change, counters are published and workers meet.
 */
import { COUNT_ANSWERS } from '../programs/count.ts';
import { runBurst } from '../programs/journey.ts';
import { copyFrame } from '../traffic/frame.ts';
import { sendSetup, sendWindow } from '../traffic/generate.ts';
import { follow } from '../traffic/respond.ts';
import { settle } from '../traffic/settle.ts';
import type { Station } from '../traffic/station.ts';
import { closingBurst, threadBurst } from '../traffic/thread-burst.ts';
import type { Burst } from '../wire/burst.ts';

/** Sends the station's share of a window and all that follows. Parameters as `sendWindow`. */
export function breathe(st: Station, window: number, count: number, startMs: number, stepMs: number): void {
  finish(st, sendWindow(st, window, count, startMs, stepMs));
}

/** Sets up the station's flows among `count` flows from `first` on, at virtual time `timeMs`. */
export function breatheSetup(st: Station, first: number, count: number, timeMs: number): void {
  st.settingUp = 1;
  st.timeMs = timeMs;
  finish(st, sendSetup(st, first, count));
  st.settingUp = 0;
}

function finish(st: Station, frames: number): void {
  runWaves(st, threadBurst, frames);
  const closing = st.closingCount;
  st.closingCount = 0;
  runWaves(st, closingBurst, closing);
}

function runWaves(st: Station, b: Burst, frames: number): void {
  const dp = st.dp;
  let count = frames;
  while (count > 0) {
    dp.answerCount = 0;
    runBurst(dp, b, count);
    settle(st, b, count);
    let next = 0;
    for (let s = 0; s < count; s++) next += follow(st, b, s, next);
    next = takeAnswers(st, b, next);
    dp.counters[COUNT_ANSWERS] += next;
    count = next;
  }
}

/** Appends the answers of rejecting nodes to the next wave; a rejected frame has no other answer, so there is room. */
function takeAnswers(st: Station, b: Burst, next: number): number {
  const dp = st.dp;
  const from = dp.answers;
  for (let a = 0; a < dp.answerCount; a++, next++) {
    copyFrame(from, a, b, next);
    b.node[next] = from.node[a];
    b.entry[next] = from.entry[a];
    b.endpoint[next] = from.endpoint[a];
    b.shard[next] = from.shard[a];
    b.timeMs[next] = from.timeMs[a];
    b.flowHash[next] = from.flowHash[a];
    b.tag[next] = from.tag[a] ^ 1;
  }
  return next;
}
