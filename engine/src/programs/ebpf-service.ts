/**
 * Services of the ebpf mode: which frontend a destination is, and which backend a connection gets.
 *
 * A frontend is found (cilium: bpf/lib/lb.h, bpf/bpf_sock.c)
 *  1. by destination address, port and protocol;
 *  2. else as a nodePort, by port and protocol, where a node owns the destination: this node for frames from the uplink,
 *     any node for pods and hosts, and a loopback address for sockets of the host.
 * A backend is chosen
 *  1. from the selection of this node: of the external set for frames from the uplink, else of the internal one;
 *  2. the one the client stays with, if the frontend has session affinity and the selection still holds it;
 *  3. else by the ring (Maglev, frames from the uplink only) or by a hash of the flow, every backend alike.
 * An affinity stamp holds the backend by what it is (a hash of address and port), not by its place in an image, and
 * belongs to one frontend on one node, as Cilium's maps do.
 */
import { affinityFind, affinitySet } from '../tables/affinity.ts';
import { backendAddress, backendFlags, backendPort, listEntry } from '../tables/backends.ts';
import { takeChoice } from '../tables/event-ring.ts';
import { mix32 } from '../tables/hash.ts';
import { hashFind2, hashFind5, rowValue } from '../tables/hash-table.ts';
import { lpm4Find } from '../tables/lpm4.ts';
import { lpm6Find } from '../tables/lpm6.ts';
import { maglevFind, PACKET_SEED4, PACKET_SEED6, packetSlot4, packetSlot6 } from '../tables/maglev.ts';
import { type Burst, ENTRY_HOST, ENTRY_UPLINK } from '../wire/burst.ts';
import { COUNT_CHOICES, COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import {
  EBPF_NODE_PORT_RANGES,
  type EbpfImage,
  FE_AFFINITY_ID,
  FE_AFFINITY_MS,
  FE_EXTERNAL,
  FE_INTERNAL,
  FE_RANGE,
  FE_RANGES,
  FE_ROW,
  frontendPort,
  MAP_AFFINITY,
  MAP_BACKENDS,
  MAP_FRONTENDS,
  MAP_MAGLEV,
  MAP_SELECTIONS,
  MAP_SOURCE_RANGES,
  RANGE_WORDS,
  SEL_BY_NODE,
  SEL_BY_ZONE,
  SEL_COUNT,
  SEL_DIFFERS,
  SEL_FIRST,
  SEL_RING,
  SEL_RING_SIZE,
  SEL_WORDS,
  zoneKey,
} from './ebpf-image.ts';
import { OWNER_NODE, ownerIndex, ownerKind } from './owner.ts';
import { EVENT_CHOICE, EVENT_MAP, record2, record3 } from './record.ts';
import { findDestinationOwner, isLoopbackDestination } from './route.ts';

/** Where the asker sees nodePorts (`findFrontend`). */
export const NODE_PORTS_OWN = 1;
export const NODE_PORTS_ANY = 2;
export const NODE_PORTS_LOOPBACK = 3;

/**
 * The frontend that the frame's destination is.
 * @param nodePorts NODE_PORTS_…: this node's addresses; any node's; any node's and loopback addresses
 * @returns a row of the frontends, -1 for none
 */
export function findFrontend(dp: Datapath, image: EbpfImage, b: Burst, s: number, nodePorts: number): number {
  const key = frontendPort(b.family[s], b.dport[s], b.proto[s]);
  dp.counters[COUNT_LOOKUPS]++;
  let row = hashFind5(image.frontends, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], key);
  if (row < 0) {
    // Most ports are no nodePorts: ask for the port before asking whose address it is.
    dp.counters[COUNT_LOOKUPS]++;
    row = hashFind5(image.frontends, 0, 0, 0, 0, key);
    if (row >= 0 && !servesNodePorts(dp, image, b, s, nodePorts)) row = -1;
  }
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_FRONTENDS, row < 0 ? -1 : rowValue(image.frontends, row, FE_ROW));
  return row;
}

function servesNodePorts(dp: Datapath, image: EbpfImage, b: Burst, s: number, nodePorts: number): boolean {
  if (nodePorts === NODE_PORTS_LOOPBACK && isLoopbackDestination(b, s)) return true;
  const owner = findDestinationOwner(dp, b, s);
  if (owner < 0 || ownerKind(owner) !== OWNER_NODE) return false;
  if (nodePorts === NODE_PORTS_OWN && ownerIndex(owner) !== b.node[s]) return false;
  if ((image.options & EBPF_NODE_PORT_RANGES) === 0) return true;
  dp.counters[COUNT_LOOKUPS]++;
  if (b.family[s] === 4) return lpm4Find(image.nodePortRanges4, b.dst0[s]) >= 0;
  return lpm6Find(image.nodePortRanges6, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]) >= 0;
}

/** True where the frame's source is in one of the frontend's source ranges. */
export function isInSourceRange(dp: Datapath, image: EbpfImage, b: Burst, s: number, frontend: number): boolean {
  dp.counters[COUNT_LOOKUPS]++;
  const ranges = image.sourceRanges;
  const first = rowValue(image.frontends, frontend, FE_RANGE);
  const count = rowValue(image.frontends, frontend, FE_RANGES);
  let found = -1;
  for (let i = 0; i < count && found < 0; i++) {
    const at = (first + i) * RANGE_WORDS;
    if (
      ((b.src0[s] ^ ranges[at]) & ranges[at + 4]) === 0 &&
      ((b.src1[s] ^ ranges[at + 1]) & ranges[at + 5]) === 0 &&
      ((b.src2[s] ^ ranges[at + 2]) & ranges[at + 6]) === 0 &&
      ((b.src3[s] ^ ranges[at + 3]) & ranges[at + 7]) === 0
    ) {
      found = first + i;
    }
  }
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_SOURCE_RANGES, found);
  return found >= 0;
}

/** The selection of a set on the frame's node, as a row number. */
function findSelection(dp: Datapath, image: EbpfImage, b: Burst, s: number, set: number): number {
  const differs = image.selections[set * SEL_WORDS + SEL_DIFFERS];
  let selection = set;
  if (differs !== 0) {
    let row = -1;
    if ((differs & SEL_BY_NODE) !== 0) {
      dp.counters[COUNT_LOOKUPS]++;
      row = hashFind2(image.nodeSelections, set, b.node[s]);
    }
    if (row < 0 && (differs & SEL_BY_ZONE) !== 0) {
      dp.counters[COUNT_LOOKUPS]++;
      row = hashFind2(image.nodeSelections, set, zoneKey(image.nodeZone[b.node[s]]));
    }
    if (row >= 0) selection = rowValue(image.nodeSelections, row, 0);
  }
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_SELECTIONS, selection);
  return selection;
}

/**
 * The backend for a new connection to a frontend.
 * @returns index of the backend, -1 where this node has none
 */
export function selectBackend(dp: Datapath, image: EbpfImage, b: Burst, s: number, frontend: number): number {
  const fromOutside = b.entry[s] === ENTRY_UPLINK;
  const set = rowValue(image.frontends, frontend, fromOutside ? FE_EXTERNAL : FE_INTERNAL);
  const selection = findSelection(dp, image, b, s, set) * SEL_WORDS;
  const first = image.selections[selection + SEL_FIRST];
  const count = image.selections[selection + SEL_COUNT];
  if (count === 0) return -1;
  dp.counters[COUNT_CHOICES]++;
  const timeoutMs = rowValue(image.frontends, frontend, FE_AFFINITY_MS);
  let backend = timeoutMs === 0 ? -1 : findAffine(dp, image, b, s, frontend, first, count, timeoutMs);
  if (backend < 0) {
    const ring = fromOutside ? image.selections[selection + SEL_RING] : -1;
    const ringSize = image.selections[selection + SEL_RING_SIZE];
    const taken = chooseEntry(dp, image, b, s, frontend, count, ring, ringSize);
    backend = listEntry(image.backends, first, taken);
    if (dp.ring.on) {
      record3(dp.ring, EVENT_CHOICE, rowValue(image.frontends, frontend, FE_ROW), count, taken);
    }
  }
  if (timeoutMs !== 0) keepAffine(dp, image, b, s, frontend, backend);
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_BACKENDS, backend);
  return backend;
}

/** True where the selection for this frame still holds the backend of this address and port. */
export function isSelected(
  dp: Datapath,
  image: EbpfImage,
  b: Burst,
  s: number,
  frontend: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
): boolean {
  const set = rowValue(image.frontends, frontend, b.entry[s] === ENTRY_UPLINK ? FE_EXTERNAL : FE_INTERNAL);
  const selection = findSelection(dp, image, b, s, set) * SEL_WORDS;
  const first = image.selections[selection + SEL_FIRST];
  const count = image.selections[selection + SEL_COUNT];
  const backends = image.backends;
  for (let i = 0; i < count; i++) {
    const backend = listEntry(backends, first, i);
    if (
      backendPort(backends, backend) === port &&
      backendAddress(backends, backend, 0) === a0 &&
      backendAddress(backends, backend, 1) === a1 &&
      backendAddress(backends, backend, 2) === a2 &&
      backendAddress(backends, backend, 3) === a3
    ) {
      return true;
    }
  }
  return false;
}

/** Entry of the list that the choice lane, the ring or the flow's hash picks. */
function chooseEntry(
  dp: Datapath,
  image: EbpfImage,
  b: Burst,
  s: number,
  frontend: number,
  count: number,
  ring: number,
  ringSize: number,
): number {
  if (b.choice[s] >= 0) return takeChoice(dp.ring, count);
  if (ring >= 0) {
    dp.counters[COUNT_LOOKUPS]++;
    const place = packetPlace(image, b, s, frontend, ringSize);
    if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_MAGLEV, place);
    return maglevFind(image.rings, ring, ringSize, place);
  }
  const hash = mix32(b.flowHash[s] ^ rowValue(image.frontends, frontend, FE_AFFINITY_ID)) >>> 0;
  return Math.trunc((hash * count) / 0x1_0000_0000);
}

/** Place of the frame in a ring; with session affinity the source port does not count (cilium: bpf/lib/lb.h). */
function packetPlace(image: EbpfImage, b: Burst, s: number, frontend: number, ringSize: number): number {
  const affine = rowValue(image.frontends, frontend, FE_AFFINITY_MS) !== 0;
  const ports = ((affine ? 0 : b.sport[s]) << 16) | b.dport[s];
  if (b.family[s] === 4) return packetSlot4(b.src0[s], ports, b.proto[s], PACKET_SEED4, ringSize);
  return packetSlot6(b.src0[s], b.src1[s], b.src2[s], b.src3[s], ports, b.proto[s], PACKET_SEED6, ringSize);
}

/** Affinity id of a frontend on the frame's node. */
function affinityId(image: EbpfImage, b: Burst, s: number, frontend: number): number {
  return mix32(rowValue(image.frontends, frontend, FE_AFFINITY_ID) + Math.imul(b.node[s], 0x9e3779b1)) & 0x7fffffff;
}

/** The backend that the client stays with, if the list still holds it; else -1. */
function findAffine(
  dp: Datapath,
  image: EbpfImage,
  b: Burst,
  s: number,
  frontend: number,
  first: number,
  count: number,
  timeoutMs: number,
): number {
  dp.counters[COUNT_LOOKUPS]++;
  const id = affinityId(image, b, s, frontend);
  // Cilium's range is half open: a stamp of exactly the timeout's age is too old.
  const age = timeoutMs - 1;
  const now = b.timeMs[s];
  // A host's sockets share their network namespace, whatever address they speak from.
  const kept =
    b.entry[s] === ENTRY_HOST
      ? affinityFind(dp.affinity, b.shard[s], id, 0, 0, 0, 0, now, age)
      : affinityFind(dp.affinity, b.shard[s], id, b.src0[s], b.src1[s], b.src2[s], b.src3[s], now, age);
  let found = -1;
  for (let i = 0; kept >= 0 && found < 0 && i < count; i++) {
    const backend = listEntry(image.backends, first, i);
    if (backendFlags(image.backends, backend) === kept) found = backend;
  }
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_AFFINITY, found);
  return found;
}

function keepAffine(dp: Datapath, image: EbpfImage, b: Burst, s: number, frontend: number, backend: number): void {
  const id = affinityId(image, b, s, frontend);
  const value = backendFlags(image.backends, backend);
  const now = b.timeMs[s];
  if (b.entry[s] === ENTRY_HOST) affinitySet(dp.affinity, b.shard[s], id, 0, 0, 0, 0, value, now);
  else affinitySet(dp.affinity, b.shard[s], id, b.src0[s], b.src1[s], b.src2[s], b.src3[s], value, now);
}
