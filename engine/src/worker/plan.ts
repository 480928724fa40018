/**
 * The plan of a run: how breaths, packet numbers, virtual time and ticks belong together. All workers compute the same.
 *
 *     breath     0 … setup-1              set-up: flows 255 b … 255 b + 254 open, at 1,000 flows a virtual millisecond
 *                setup … total-1          packet numbers 255 w … 255 w + 254 of window w = breath - setup
 *     time       packet k at setupMs + k × stepMs; frames that it causes have its time
 *     tick       after the last breath of the set-up and of the run, and after every `breathsPerTick` breaths of either
 */
import { WINDOW_PACKETS } from '../traffic/generate.ts';
import type { Traffic } from '../traffic/stream.ts';

/** Virtual time between two ticks, where the rate allows it. */
const TICK_MS = 100;
/** A tick merges what up to so many breaths left behind, whatever the rate. */
const MOST_BREATHS_PER_TICK = 512;
const SETUP_BREATHS_PER_TICK = 64;
const SETUP_FLOWS_PER_MS = 1000;

export interface Plan {
  readonly setupBreaths: number;
  readonly totalBreaths: number;
  readonly breathsPerTick: number;
  readonly setupMs: number;
  readonly stepMs: number;
}

/** @throws RangeError if the run has more than 2^31 - 1 breaths */
export function planRun(traffic: Traffic): Plan {
  const stepMs = 1000 / traffic.packetsPerSecond;
  const setupBreaths = Math.ceil(traffic.flows.count / WINDOW_PACKETS);
  const totalBreaths = setupBreaths + Math.ceil(traffic.packets / WINDOW_PACKETS);
  if (totalBreaths > 0x7fffffff) throw new RangeError(`${traffic.packets} packets are more than a run can number`);
  const wanted = Math.round(TICK_MS / (stepMs * WINDOW_PACKETS));
  return {
    setupBreaths,
    totalBreaths,
    breathsPerTick: Math.min(MOST_BREATHS_PER_TICK, Math.max(1, wanted)),
    setupMs: Math.ceil(traffic.flows.count / SETUP_FLOWS_PER_MS),
    stepMs,
  };
}

/** True when a tick follows after `breaths` breaths. */
export function isTick(plan: Plan, breaths: number): boolean {
  if (breaths === plan.setupBreaths || breaths === plan.totalBreaths) return true;
  if (breaths < plan.setupBreaths) return breaths % SETUP_BREATHS_PER_TICK === 0;
  return (breaths - plan.setupBreaths) % plan.breathsPerTick === 0;
}

/** Virtual time at which a breath begins, in ms, fractions included. */
export function breathTime(plan: Plan, breath: number): number {
  if (breath < plan.setupBreaths) return Math.floor((breath * WINDOW_PACKETS) / SETUP_FLOWS_PER_MS);
  return plan.setupMs + (breath - plan.setupBreaths) * WINDOW_PACKETS * plan.stepMs;
}

/** The first breath of the run proper that begins at `ms` after the set-up, or later. */
export function breathAt(plan: Plan, ms: number): number {
  return plan.setupBreaths + Math.max(0, Math.ceil(ms / (WINDOW_PACKETS * plan.stepMs)));
}
