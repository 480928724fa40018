/**
 * Backends, and the list of backends of each service.
 *
 * Memory, in words:
 *
 *     header   capacity and count in backends; parameters: entries of all lists, entries given out, backends ever used,
 *              first free backend + 1
 *     rows     one per backend, 9 words: address words 0 to 3, port, node index, endpoint index (-1: no pod),
 *              flags (the mode's), origin. In a free row word 0 is the next free backend + 1, flags are BACKEND_FREE.
 *     lists    entries, each a backend's index; a service owns the slice (offset, count) and keeps both in its own row
 *
 * A backend keeps its index as long as it exists; freed indices are used again. Lists are given out once, with the
 * headroom that the compiler asks for, and never returned: when they run out, control compiles a new image.
 * Written by one thread while nobody reads (a change goes into the unread copy of an image); read by all.
 */
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  createTable,
  HEADER_WORDS,
  KIND_BACKENDS,
  PARAMETERS_AT,
} from './table-header.ts';

const ENTRIES_AT = PARAMETERS_AT;
const ENTRIES_USED_AT = PARAMETERS_AT + 1;
const USED_AT = PARAMETERS_AT + 2;
const FREE_AT = PARAMETERS_AT + 3;

const ROW_WORDS = 9;
const PORT = 4;
const NODE = 5;
const ENDPOINT = 6;
const FLAGS = 7;
const ORIGIN = 8;

/** Flags of a row that holds no backend; no mode may use this value. */
const BACKEND_FREE = -1;

export interface Backends {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  /** Where entry 0 of the lists is. */
  readonly listsAt: number;
}

/**
 * Makes an empty table.
 * @param capacity most backends
 * @param entries backends of all services' lists together, headroom included
 * @throws RangeError for numbers that are not whole or too small
 */
export function createBackends(capacity: number, entries: number): Backends {
  const words = createTable(KIND_BACKENDS, capacity, capacity * ROW_WORDS + entries);
  words[ENTRIES_AT] = entries;
  return attachBackends(words.buffer);
}

/**
 * Takes a table from another thread.
 * @throws TypeError if the buffer does not hold one
 */
export function attachBackends(buffer: SharedArrayBuffer): Backends {
  const words = attachTable(KIND_BACKENDS, buffer);
  const listsAt = HEADER_WORDS + words[CAPACITY_AT] * ROW_WORDS;
  if (words.length !== listsAt + words[ENTRIES_AT]) {
    throw new TypeError(`a table of ${words[CAPACITY_AT]} backends has not ${words.length} words`);
  }
  return { buffer, words, listsAt };
}

/**
 * Adds a backend. It does not look for an equal one.
 * @param node index of the node it runs on, -1 if unknown
 * @param endpoint endpoint index of its pod, -1 if it has none
 * @param flags the mode's, from 0 on
 * @returns its index; -1 if the table is full
 */
export function addBackend(
  t: Backends,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
  node: number,
  endpoint: number,
  flags: number,
  origin: number,
): number {
  const words = t.words;
  if (words[COUNT_AT] >= words[CAPACITY_AT]) return -1;
  let index = words[FREE_AT] - 1;
  if (index !== -1) words[FREE_AT] = words[HEADER_WORDS + index * ROW_WORDS];
  else index = words[USED_AT]++;
  words[COUNT_AT]++;
  const at = HEADER_WORDS + index * ROW_WORDS;
  words[at] = a0;
  words[at + 1] = a1;
  words[at + 2] = a2;
  words[at + 3] = a3;
  words[at + PORT] = port;
  words[at + NODE] = node;
  words[at + ENDPOINT] = endpoint;
  words[at + FLAGS] = flags;
  words[at + ORIGIN] = origin;
  return index;
}

/** Frees a backend that no list holds any more. 1 if it existed, else 0. */
export function removeBackend(t: Backends, backend: number): number {
  const words = t.words;
  const at = HEADER_WORDS + backend * ROW_WORDS;
  if (backend < 0 || backend >= words[USED_AT] || words[at + FLAGS] === BACKEND_FREE) return 0;
  words.fill(0, at, at + ROW_WORDS);
  words[at] = words[FREE_AT];
  words[at + FLAGS] = BACKEND_FREE;
  words[FREE_AT] = backend + 1;
  words[COUNT_AT]--;
  return 1;
}

/**
 * Gives out a list of `entries` entries, all 0.
 * @returns its offset; -1 if the entries are used up
 */
export function takeList(t: Backends, entries: number): number {
  const words = t.words;
  const offset = words[ENTRIES_USED_AT];
  if (entries < 0 || offset + entries > words[ENTRIES_AT]) return -1;
  words[ENTRIES_USED_AT] = offset + entries;
  return offset;
}

/** Writes entry `i` of the list at `offset`. */
export function setListEntry(t: Backends, offset: number, i: number, backend: number): void {
  t.words[t.listsAt + offset + i] = backend;
}

/** The backend in entry `i` of the list at `offset`. */
export function listEntry(t: Backends, offset: number, i: number): number {
  return t.words[t.listsAt + offset + i];
}

/** Word `i`, 0 to 3, of a backend's address; IPv4 is word 0. */
export function backendAddress(t: Backends, backend: number, i: number): number {
  return t.words[HEADER_WORDS + backend * ROW_WORDS + i];
}

export function backendPort(t: Backends, backend: number): number {
  return t.words[HEADER_WORDS + backend * ROW_WORDS + PORT];
}

export function backendNode(t: Backends, backend: number): number {
  return t.words[HEADER_WORDS + backend * ROW_WORDS + NODE];
}

export function backendEndpoint(t: Backends, backend: number): number {
  return t.words[HEADER_WORDS + backend * ROW_WORDS + ENDPOINT];
}

export function backendFlags(t: Backends, backend: number): number {
  return t.words[HEADER_WORDS + backend * ROW_WORDS + FLAGS];
}

export function setBackendFlags(t: Backends, backend: number, flags: number): void {
  t.words[HEADER_WORDS + backend * ROW_WORDS + FLAGS] = flags;
}

export function backendOrigin(t: Backends, backend: number): number {
  return t.words[HEADER_WORDS + backend * ROW_WORDS + ORIGIN];
}

/** 1 if this index holds a backend, else 0. */
export function isBackend(t: Backends, backend: number): number {
  const inUse = backend >= 0 && backend < t.words[USED_AT];
  return inUse && t.words[HEADER_WORDS + backend * ROW_WORDS + FLAGS] !== BACKEND_FREE ? 1 : 0;
}
