/**
 * Policy maps: (map, peer, protocol, port) -> decision, in two lookups however many rules a map was made from.
 *
 * Memory: two tables.
 *
 *     words    header (capacity = intervals, count = intervals in use; parameters: maps, port maps, port maps in use), then
 *       maps        one word each: the port map of every peer that has no entry
 *       port maps   PORT_MAP_WORDS each: interval at which slot 0 begins, 1, 2, 3, and at which slot 3 ends
 *       intervals   two words each: first port, decision; in the order of port maps, slots and ports, the first one
 *                   of a slot at port 0
 *     peers    (map, peer) -> port map                                     (hash-table.ts)
 *
 * A *peer* is whom the frame comes from or goes to, by a number that its address has; a *slot* is a protocol: 0 to 2 have
 * ports, 3 is everything without. A decision is the caller's word. The first lookup is a hash, the second a binary search
 * among the intervals of a port map's slot, at most 17 steps and as a rule two to five. (Ports as entries of the hash
 * took 50 times the memory where rules name ranges.)
 *
 * Written by the compiler while nobody reads, entries once and never again; read by all.
 */
import {
  attachHashTable,
  createHashTable,
  type HashTable,
  hashFind2,
  hashInsert2,
  rowValue,
  setRowValue,
} from './hash-table.ts';
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  createTable,
  HEADER_WORDS,
  KIND_POLICY_MAP,
  PARAMETERS_AT,
} from './table-header.ts';

const MAPS_AT = PARAMETERS_AT;
const PORT_MAPS_AT = PARAMETERS_AT + 1;
const USED_PORT_MAPS_AT = PARAMETERS_AT + 2;

/** Slots with ports come first. */
export const PORT_SLOTS = 3;
export const SLOT_OTHER = 3;
const PORT_MAP_WORDS = 5;

export interface PolicyMaps {
  readonly words: Int32Array<SharedArrayBuffer>;
  /** Word of port map 0, and of interval 0. */
  readonly portMapsAt: number;
  readonly intervalsAt: number;
  readonly peers: HashTable;
}

/** What another thread needs to attach them. */
export interface PolicyMapsParts {
  readonly words: SharedArrayBuffer;
  readonly peers: SharedArrayBuffer;
}

/**
 * Makes maps without entries; a port map holds nothing until `addInterval`.
 * @param intervals,peerEntries most of all maps together
 * @throws RangeError for numbers that are not whole ones
 */
export function createPolicyMaps(maps: number, portMaps: number, intervals: number, peerEntries: number): PolicyMaps {
  const capacity = Math.max(intervals, 1);
  const words = createTable(KIND_POLICY_MAP, capacity, maps + portMaps * PORT_MAP_WORDS + capacity * 2);
  words[MAPS_AT] = maps;
  words[PORT_MAPS_AT] = portMaps;
  const peers = createHashTable(2, 1, Math.max(peerEntries, 1));
  return viewOf(words, maps, portMaps, peers);
}

/**
 * Takes maps from another thread.
 * @throws TypeError if a buffer does not hold its table
 */
export function attachPolicyMaps(parts: PolicyMapsParts): PolicyMaps {
  const words = attachTable(KIND_POLICY_MAP, parts.words);
  const maps = words[MAPS_AT];
  const portMaps = words[PORT_MAPS_AT];
  if (words.length !== HEADER_WORDS + maps + portMaps * PORT_MAP_WORDS + words[CAPACITY_AT] * 2) {
    throw new TypeError(`${maps} policy maps and ${portMaps} port maps do not take ${words.length} words`);
  }
  const peers = attachHashTable(parts.peers);
  if (peers.keyWords !== 2 || peers.valueWords !== 1) {
    throw new TypeError('entries of policy maps have two key words and one value word');
  }
  return viewOf(words, maps, portMaps, peers);
}

function viewOf(words: Int32Array<SharedArrayBuffer>, maps: number, portMaps: number, peers: HashTable): PolicyMaps {
  const portMapsAt = HEADER_WORDS + maps;
  return { words, portMapsAt, intervalsAt: portMapsAt + portMaps * PORT_MAP_WORDS, peers };
}

/** Takes maps apart for `attachPolicyMaps`. */
export function policyMapsParts(p: PolicyMaps): PolicyMapsParts {
  return { words: p.words.buffer, peers: p.peers.buffer };
}

/** How many maps and port maps there are. */
export function countMaps(p: PolicyMaps): number {
  return p.words[MAPS_AT];
}

export function countPortMaps(p: PolicyMaps): number {
  return p.words[PORT_MAPS_AT];
}

/** Gives all peers without an entry of their own a port map. */
export function setMapDefault(p: PolicyMaps, map: number, portMap: number): void {
  p.words[HEADER_WORDS + map] = portMap;
}

export function mapDefault(p: PolicyMaps, map: number): number {
  return p.words[HEADER_WORDS + map];
}

/** Gives a peer a port map of its own. 0, or -1 if the entries are full. */
export function setMapPeer(p: PolicyMaps, map: number, peer: number, portMap: number): number {
  const row = hashInsert2(p.peers, map, peer);
  if (row < 0) return -1;
  setRowValue(p.peers, row, 0, portMap);
  return 0;
}

/** The next port map, to be filled before the one behind it; -1 if there is none left. */
export function takePortMap(p: PolicyMaps): number {
  const words = p.words;
  const portMap = words[USED_PORT_MAPS_AT];
  if (portMap >= words[PORT_MAPS_AT]) return -1;
  words[USED_PORT_MAPS_AT] = portMap + 1;
  const at = p.portMapsAt + portMap * PORT_MAP_WORDS;
  words.fill(words[COUNT_AT], at, at + PORT_MAP_WORDS);
  return portMap;
}

/**
 * Decides the ports of a slot from `first` on, up to the next interval. Every slot needs one, the first from port 0 on.
 * @param portMap the one that was taken last
 * @param slot no lower than the last call's
 * @returns 0, or -1 if there is no room for another
 */
export function addInterval(p: PolicyMaps, portMap: number, slot: number, first: number, decision: number): number {
  const words = p.words;
  const interval = words[COUNT_AT];
  if (interval >= words[CAPACITY_AT]) return -1;
  words[COUNT_AT] = interval + 1;
  words[p.intervalsAt + 2 * interval] = first;
  words[p.intervalsAt + 2 * interval + 1] = decision;
  const at = p.portMapsAt + portMap * PORT_MAP_WORDS;
  words.fill(interval + 1, at + slot + 1, at + PORT_MAP_WORDS);
  return 0;
}

/** First interval of a port map's slot; slot 4 is where slot 3 ends. For dumps. */
export function firstInterval(p: PolicyMaps, portMap: number, slot: number): number {
  return p.words[p.portMapsAt + portMap * PORT_MAP_WORDS + slot];
}

export function intervalStart(p: PolicyMaps, interval: number): number {
  return p.words[p.intervalsAt + 2 * interval];
}

export function intervalDecision(p: PolicyMaps, interval: number): number {
  return p.words[p.intervalsAt + 2 * interval + 1];
}

/** The port map that a map has for a peer: one hash lookup. */
export function findPortMap(p: PolicyMaps, map: number, peer: number): number {
  const row = hashFind2(p.peers, map, peer);
  return row < 0 ? p.words[HEADER_WORDS + map] : rowValue(p.peers, row, 0);
}

/**
 * The decision of a port map.
 * @param slot 0 to 3
 * @param port 0 to 65535; in slot 3 any
 */
export function findDecision(p: PolicyMaps, portMap: number, slot: number, port: number): number {
  const words = p.words;
  const at = p.portMapsAt + portMap * PORT_MAP_WORDS + slot;
  let low = words[at];
  let left = words[at + 1] - low;
  while (left > 1) {
    const half = left >> 1;
    if (words[p.intervalsAt + 2 * (low + half)] <= port) {
      low += half;
      left -= half;
    } else left = half;
  }
  return words[p.intervalsAt + 2 * low + 1];
}
