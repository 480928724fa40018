/**
 * The resident task: what a worker does from the beginning of a run to its end, without leaving its loop.
 *
 * Breath after breath; at ticks it meets the others (crew.ts). It never turns its event loop: it reads its port with
 * `receiveMessageOnPort` at borders, and what it says goes through the port. Counters are its own and are published to
 * shared memory every few breaths and at every tick, all of them at once.
 *
 * A replacement (`resume`) takes over the shards of a worker that died: it goes on from the counters published last,
 * counts what the dead one had taken since then as lost (dropped, worker-lost), forgets the connections of its shards,
 * whose memory may be half written, and goes on with the breath after the last one begun. Conservation holds throughout.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { COUNT_ENTERED, COUNTERS, countOf } from '../programs/count.ts';
import { endDueConnections } from '../programs/ipvs-connection.ts';
import { forgetIpvsShard, tickIpvsState } from '../programs/ipvs-state.ts';
import { masqueradeTick } from '../programs/masquerade.ts';
import { VERDICT_DROPPED } from '../programs/verdict.ts';
import { affinityMerge } from '../tables/affinity.ts';
import type { Conntrack } from '../tables/conntrack.ts';
import { ctSweep } from '../tables/conntrack-aging.ts';
import { CONTROL_WORDS } from '../tables/conntrack-slots.ts';
import { attachCounters, type Counters, publishCounters, readCounters } from '../tables/counters.ts';
import { FLOW_STATE, FLOW_WORDS } from '../traffic/flow.ts';
import { countSetup, countWindow, WINDOW_PACKETS } from '../traffic/generate.ts';
import { SHARDS } from '../traffic/shard.ts';
import {
  STATION_BREATHS,
  STATION_COUNTS,
  STATION_DIGEST_HIGH,
  STATION_DIGEST_LOW,
  STATION_PACKETS,
  type Station,
} from '../traffic/station.ts';
import type { Traffic } from '../traffic/stream.ts';
import { REASON_WORKER_LOST } from '../wire/reason.ts';
import { breathe, breatheSetup } from './breath.ts';
import {
  adoptedByTick,
  arrive,
  attachCrew,
  awaitAll,
  awaitRelease,
  type Crew,
  hasToLeave,
  isReleased,
  lastBreath,
  lastBreathOf,
  noteBreath,
  noteEpoch,
  release,
} from './crew.ts';
import { breathTime, isTick, type Plan, planRun } from './plan.ts';
import { changeImage, type ImageParts, type StateParts } from './transfer.ts';

/** Lanes of what a worker publishes: the datapath's counters, then the station's. */
export const TOTALS = COUNTERS + STATION_COUNTS;

const PUBLISH_EVERY = 16;
/** Slots per shard and family that a tick looks at for expired flows. */
const SWEEP_SLOTS = 64;

/** What all threads of a run are given when they begin. */
export interface ThreadData {
  readonly workers: number;
  readonly traffic: Traffic;
  readonly state: StateParts;
  readonly image: ImageParts;
}

export interface ResidentTask {
  readonly worker: number;
  /** The image to begin with where it is another than the thread's first; images sent through the port follow it. */
  readonly image: ImageParts | null;
  /** Number of the image to begin with. */
  readonly epoch: number;
  /** Images that hold from a breath on, in order. */
  readonly updates: readonly { readonly breath: number; readonly image: ImageParts }[];
  readonly crew: SharedArrayBuffer;
  /** Counters published during the set-up, and during the run proper. */
  readonly setupCounts: SharedArrayBuffer;
  readonly runCounts: SharedArrayBuffer;
  readonly port: MessagePort;
  readonly resume: boolean;
}

/** Sent to a worker through its port. */
export interface ImageMessage {
  readonly epoch: number;
  readonly image: ImageParts;
}

/** Said by a worker through its port; `at` is wall time in ms. */
export type ResidentMessage =
  | { readonly kind: 'adopted'; readonly epoch: number }
  | { readonly kind: 'started'; readonly at: number }
  | { readonly kind: 'ended'; readonly at: number; readonly breaths: number }
  | { readonly kind: 'recovered'; readonly frames: number; readonly flows: number };

interface Resident {
  readonly task: ResidentTask;
  readonly plan: Plan;
  readonly crew: Crew;
  /** TOTALS lanes; the datapath and the station count in views of it. */
  readonly totals: Float64Array;
  readonly setupCounts: Counters;
  readonly runCounts: Counters;
  measuring: boolean;
  epoch: number;
  nextUpdate: number;
}

/**
 * Runs the task to its end; blocks the thread.
 * @param st the thread's station; task.worker's from here on
 * @param totals TOTALS lanes that the station and its datapath count in
 */
export function runResident(st: Station, totals: Float64Array, task: ResidentTask): void {
  const r = createResident(st, totals, task);
  const { plan, crew } = r;
  const { traffic } = st;
  let breath = task.resume ? recover(r, st) : 0;
  if (task.resume && breath > 0 && isTick(plan, breath) && !tick(r, st, breath)) return;
  while (breath < lastBreath(crew)) {
    if (hasToLeave(crew)) return;
    takeUpdates(r, st, breath);
    noteBreath(crew, task.worker, breath);
    const startMs = breathTime(plan, breath);
    if (breath < plan.setupBreaths) {
      const first = breath * WINDOW_PACKETS;
      breatheSetup(st, first, Math.min(WINDOW_PACKETS, traffic.flows.count - first), startMs);
    } else {
      const window = breath - plan.setupBreaths;
      const count = Math.min(WINDOW_PACKETS, traffic.packets - window * WINDOW_PACKETS);
      breathe(st, window, count, startMs, plan.stepMs);
    }
    breath++;
    st.counts[STATION_BREATHS] = breath;
    if (isTick(plan, breath)) {
      if (!tick(r, st, breath)) return;
    } else if (breath % PUBLISH_EVERY === 0) publish(r, st);
  }
  say(r, { kind: 'ended', at: wallTime(), breaths: breath });
}

function createResident(st: Station, totals: Float64Array, task: ResidentTask): Resident {
  st.worker = task.worker;
  if (task.image !== null) changeImage(st.dp, task.image);
  const crew = attachCrew(task.crew);
  noteEpoch(crew, task.worker, task.epoch);
  return {
    task,
    plan: planRun(st.traffic),
    crew,
    totals,
    setupCounts: attachCounters(task.setupCounts),
    runCounts: attachCounters(task.runCounts),
    measuring: false,
    epoch: task.epoch,
    nextUpdate: 0,
  };
}

function say(r: Resident, message: ResidentMessage): void {
  r.task.port.postMessage(message);
}

function wallTime(): number {
  return performance.timeOrigin + performance.now();
}

function publish(r: Resident, st: Station): void {
  const { counts, digestLow, digestHigh } = st;
  counts[STATION_DIGEST_LOW] = digestLow >>> 0;
  counts[STATION_DIGEST_HIGH] = digestHigh >>> 0;
  publishCounters(r.measuring ? r.runCounts : r.setupCounts, r.task.worker, r.totals);
}

/** The tick after `breaths` breaths; false when the worker has to leave. */
function tick(r: Resident, st: Station, breaths: number): boolean {
  const { crew, plan } = r;
  const { worker } = r.task;
  const nowMs = Math.floor(breathTime(plan, breaths)) | 0;
  publish(r, st);
  for (let shard = 0; shard < SHARDS; shard++) {
    if (st.owner[shard] !== worker) continue;
    ctSweep(st.dp.conntrack4, shard, nowMs, SWEEP_SLOTS);
    ctSweep(st.dp.conntrack6, shard, nowMs, SWEEP_SLOTS);
    if (st.dp.ipvsState !== null) endDueConnections(st.dp, shard, nowMs);
  }
  arrive(crew, worker, breaths);
  if (worker === 0) {
    if (!isReleased(crew, breaths)) {
      if (!awaitAll(crew, breaths)) return false;
      affinityMerge(st.dp.affinity);
      if (st.dp.ipvsState !== null) tickIpvsState(st.dp.ipvsState, nowMs);
      masqueradeTick(st.dp, nowMs);
      release(crew, breaths);
    }
  } else if (!awaitRelease(crew, breaths)) return false;
  if (breaths === plan.setupBreaths && !r.measuring) beginMeasuring(r, st, breaths);
  const epoch = adoptedByTick(crew);
  if (epoch > r.epoch) takeImage(r, st, epoch);
  return true;
}

/** The set-up's counters stay where they were published; the run proper counts from zero. */
function beginMeasuring(r: Resident, st: Station, breaths: number): void {
  r.totals.fill(0);
  st.digestLow = 0;
  st.digestHigh = 0;
  st.counts[STATION_BREATHS] = breaths;
  r.measuring = true;
  publish(r, st);
  if (r.task.worker === 0) say(r, { kind: 'started', at: wallTime() });
}

/** Takes the images up to `epoch` out of the port; they were posted before the epoch was announced. */
function takeImage(r: Resident, st: Station, epoch: number): void {
  while (r.epoch < epoch) {
    const received: { message: ImageMessage } | undefined = receiveMessageOnPort(r.task.port);
    if (received === undefined) throw new Error(`image ${epoch} was announced, but the port is empty`);
    r.epoch = received.message.epoch;
    changeImage(st.dp, received.message.image);
  }
  noteEpoch(r.crew, r.task.worker, r.epoch);
  say(r, { kind: 'adopted', epoch: r.epoch });
}

function takeUpdates(r: Resident, st: Station, breath: number): void {
  const { updates } = r.task;
  while (r.nextUpdate < updates.length && updates[r.nextUpdate].breath <= breath) {
    changeImage(st.dp, updates[r.nextUpdate++].image);
  }
}

// ---- a replacement ----------------------------------------------------------------------------------------------

/** Takes over from a dead worker; answers the breath to go on with. */
function recover(r: Resident, station: Station): number {
  const { totals, crew, plan } = r;
  const { traffic } = station;
  const { worker } = r.task;
  readCounters(r.runCounts, worker, totals);
  r.measuring = station.counts[STATION_BREATHS] > 0;
  if (!r.measuring) readCounters(r.setupCounts, worker, totals);
  station.digestLow = station.counts[STATION_DIGEST_LOW] | 0;
  station.digestHigh = station.counts[STATION_DIGEST_HIGH] | 0;
  const published = station.counts[STATION_BREATHS];
  const begun = lastBreathOf(crew, worker);
  let frames = 0;
  for (let breath = published; breath <= begun; breath++) {
    if (breath < plan.setupBreaths) {
      const first = breath * WINDOW_PACKETS;
      frames += countSetup(station, first, Math.min(WINDOW_PACKETS, traffic.flows.count - first));
    } else {
      const window = breath - plan.setupBreaths;
      frames += countWindow(station, window, Math.min(WINDOW_PACKETS, traffic.packets - window * WINDOW_PACKETS));
    }
  }
  totals[COUNT_ENTERED] += frames;
  totals[countOf(VERDICT_DROPPED, REASON_WORKER_LOST)] += frames;
  station.counts[STATION_PACKETS] += frames;
  const next = Math.max(published, begun + 1);
  station.counts[STATION_BREATHS] = next;
  const flows = forgetFlows(station);
  publish(r, station);
  say(r, { kind: 'recovered', frames, flows });
  return next;
}

/** Clears the station's shards and ends its flows' connections; answers how many stood. */
function forgetFlows(st: Station): number {
  for (let shard = 0; shard < SHARDS; shard++) {
    if (st.owner[shard] !== st.worker) continue;
    clearShard(st.dp.conntrack4, shard);
    clearShard(st.dp.conntrack6, shard);
    if (st.dp.ipvsState !== null) forgetIpvsShard(st.dp.ipvsState, shard);
  }
  const flows = st.traffic.flows;
  let stood = 0;
  for (let flow = 0; flow < flows.count; flow++) {
    const state = flow * FLOW_WORDS + FLOW_STATE;
    if (st.owner[flows.shards[flow]] !== st.worker || flows.words[state] === 0) continue;
    flows.words[state] = 0;
    stood++;
  }
  return stood;
}

function clearShard(ct: Conntrack, shard: number): void {
  const control = ct.controlAt + shard * CONTROL_WORDS;
  const slots = ct.slotsAt + shard * ct.partitionWords;
  ct.words.fill(0, control, control + CONTROL_WORDS);
  ct.words.fill(0, slots, slots + ct.partitionWords);
}
