/**
 * The event ring: what the recorder of a trace writes while a program runs, and the script that choice points read.
 *
 * An event is a run of words in `words`:
 *
 *     e+0  event code | size in words << 8
 *     e+1… operands, listed at each EVENT_… of programs/record.ts
 *
 * When the ring is full further events are counted in `lost` and not written. The fast path never writes here: it asks
 * `on` first. One thread owns a ring; it is not shared.
 *
 * Choice points: the n-th choice point of a run (0, 1, …) takes `script[n]` (0 beyond its end) and notes in
 * `options[n]` how many ways it could have gone; `points` counts them. An odometer over `options` therefore visits
 * every branch of the packet's path by running it again.
 */

export const MAX_CHOICE_POINTS = 16_384;

export interface EventRing {
  on: boolean;
  used: number;
  lost: number;
  readonly words: Int32Array;
  points: number;
  readonly script: Int32Array;
  readonly options: Int32Array;
}

/** @param capacity words; a packet over two nodes takes a few hundred */
export function createEventRing(capacity: number): EventRing {
  return {
    on: false,
    used: 0,
    lost: 0,
    words: new Int32Array(capacity),
    points: 0,
    script: new Int32Array(MAX_CHOICE_POINTS),
    options: new Int32Array(MAX_CHOICE_POINTS),
  };
}

/** Forgets all events and choice points of the last run; the script stays. */
export function resetEventRing(ring: EventRing): void {
  ring.used = 0;
  ring.lost = 0;
  ring.points = 0;
}

/** Reserves an event of `operands` words; answers the index of its first operand, or -1 when the ring is full. */
export function beginEvent(ring: EventRing, code: number, operands: number): number {
  const at = ring.used;
  if (at + operands + 1 > ring.words.length) {
    ring.lost++;
    return -1;
  }
  ring.words[at] = code | ((operands + 1) << 8);
  ring.used = at + operands + 1;
  return at + 1;
}

/**
 * A forced choice point: takes the script's answer and notes the number of options.
 * Beyond MAX_CHOICE_POINTS the last option is taken, so that a walk always ends.
 */
export function takeChoice(ring: EventRing, options: number): number {
  const point = ring.points;
  if (point >= MAX_CHOICE_POINTS) return options - 1;
  ring.points = point + 1;
  ring.options[point] = options;
  const taken = ring.script[point];
  return taken < options ? taken : options - 1;
}

/**
 * Moves the script to the next branch not yet visited, given the choice points of the run just made.
 * @returns false when every branch has been visited
 */
export function nextBranch(ring: EventRing): boolean {
  for (let point = ring.points - 1; point >= 0; point--) {
    if (ring.script[point] + 1 < ring.options[point]) {
      ring.script[point]++;
      ring.script.fill(0, point + 1, ring.points);
      return true;
    }
    ring.script[point] = 0;
  }
  return false;
}
