/**
 * IPVS connections: client, virtual address and real server of every connection that a virtual server has taken.
 *
 * Why not a flag in the conntrack entry: the two live on different clocks. A UDP connection of IPVS outlives its conntrack
 * entry by minutes and gives the next one the same real server; an IPVS connection has states and counts of its own, and
 * netfilter's entry is removed when it ends. What must be kept (virtual server, real server, an exact timer, the client's
 * persistence) does not fit a conntrack slot, so this is a table of its own with the same shards: one writer each, all of a
 * flow's state in the shard of its lane, no atomics.
 *
 * The memory is drawn in ipvs-connection-slots.ts. What to know here:
 * A slot is a word offset in `words` and stays where it is until its connection is removed. Of connections with one key
 * the newest is found, as in the kernel, which adds at the head of a chain; replies may be ambiguous, as there.
 * Timers are exact: a heap orders the connections by expiry. A packet writes its connection's expiry only; the heap
 * learns of it when the old one comes up. A shorter life is told to the heap at once.
 * Full: an insert answers -1; nothing is thrown out, as in the kernel, which takes memory while there is some.
 */
import {
  CLIENT,
  CLIENT_REST,
  CONTROL_COUNT,
  CONTROL_FREE,
  CONTROL_HEAP,
  CONTROL_USED,
  CONTROL_WORDS,
  controlOf,
  DUE,
  EXPIRY,
  GENERATION,
  HEAP_PLACE,
  hashEnds,
  heapOf,
  type IpvsConnections,
  NEXT_IN,
  NEXT_OUT,
  outHash,
  PERSISTENCE,
  PORTS,
  REAL,
  REAL_PORT_SHIFT,
  REAL_REST,
  RS,
  rise,
  SLOT_WORDS,
  STATE,
  sink,
  slotsOf,
  VIRTUAL,
  VIRTUAL_REST,
  VS,
} from './ipvs-connection-slots.ts';

// One address for callers: the layout is a file of its own only for its length.
export { attachIpvsConnections, createIpvsConnections, type IpvsConnections } from './ipvs-connection-slots.ts';

const STATE_MASK = 0xff;
const FLAGS_SHIFT = 8;

/** Not established: counts as inactive at its real server. */
export const CONN_INACTIVE = 1;

// ---- finding ----------------------------------------------------------------------------------------------------

/**
 * The connection of a packet to a virtual address.
 * @param s0,s1,s2,s3 its source, the client; d0 … its destination, the virtual address; IPv4 is word 0
 * @param ports sport << 16 | dport
 * @returns the slot, -1 if there is none; one that is due is still found
 */
export function connFindIn(
  t: IpvsConnections,
  shard: number,
  node: number,
  family: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
): number {
  const words = t.words;
  const meta = (node << 16) | (proto << 8) | family;
  const first = t.partitionsAt + shard * t.partitionWords;
  let at = words[first + (hashEnds(meta, s0, s1, s2, s3, d0, d1, d2, d3, ports) & t.bucketMask)];
  while (at !== 0) {
    const near =
      (words[at] ^ meta) | (words[at + PORTS] ^ ports) | (words[at + CLIENT] ^ s0) | (words[at + VIRTUAL] ^ d0);
    if (near === 0) {
      if (family === 4) return at;
      if (isRest(words, at + CLIENT_REST, s1, s2, s3) && isRest(words, at + VIRTUAL_REST, d1, d2, d3)) return at;
    }
    at = words[at + NEXT_IN];
  }
  return -1;
}

/**
 * The connection of a packet from a real server.
 * @param s0,s1,s2,s3 its source, the real server; d0 … its destination, the client
 * @param ports sport << 16 | dport
 * @returns the slot, -1 if there is none
 */
export function connFindOut(
  t: IpvsConnections,
  shard: number,
  node: number,
  family: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
): number {
  const words = t.words;
  const meta = (node << 16) | (proto << 8) | family;
  const first = t.partitionsAt + shard * t.partitionWords + t.bucketMask + 1;
  let at = words[first + (hashEnds(meta, s0, s1, s2, s3, d0, d1, d2, d3, ports) & t.bucketMask)];
  while (at !== 0) {
    const near = (words[at] ^ meta) | (words[at + REAL] ^ s0) | (words[at + CLIENT] ^ d0);
    const port = ((words[at + STATE] >>> REAL_PORT_SHIFT) << 16) | (words[at + PORTS] >>> 16);
    if ((near | (port ^ ports)) === 0) {
      if (family === 4) return at;
      if (isRest(words, at + REAL_REST, s1, s2, s3) && isRest(words, at + CLIENT_REST, d1, d2, d3)) return at;
    }
    at = words[at + NEXT_OUT];
  }
  return -1;
}

function isRest(words: Int32Array, at: number, a1: number, a2: number, a3: number): boolean {
  return ((words[at] ^ a1) | (words[at + 1] ^ a2) | (words[at + 2] ^ a3)) === 0;
}

/** Connections of a shard. */
export function connCount(t: IpvsConnections, shard: number): number {
  return t.words[controlOf(shard) + CONTROL_COUNT];
}

/**
 * Walks the connections of a shard, for dumps and recounts.
 * @param cursor -1 at first, then the last answer; the table must not change between
 * @returns the next slot, -1 at the end
 */
export function connNext(t: IpvsConnections, shard: number, cursor: number): number {
  const first = slotsOf(t, shard);
  const end = first + t.words[controlOf(shard) + CONTROL_USED] * SLOT_WORDS;
  for (let at = cursor === -1 ? first : cursor + SLOT_WORDS; at < end; at += SLOT_WORDS) {
    if (t.words[at] !== 0) return at;
  }
  return -1;
}

// ---- making and removing ----------------------------------------------------------------------------------------

/**
 * Makes a connection in state 0, inactive.
 * @param s0 … client, d0 … virtual address, ports client port << 16 | virtual port, r0 … real server
 * @param persistence prefix length by which persistence knows the client, -1 without
 * @param generation number of the image that chose the real server
 * @returns the slot; -1 if the shard is full
 */
export function connInsert(
  t: IpvsConnections,
  shard: number,
  node: number,
  family: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  r0: number,
  r1: number,
  r2: number,
  r3: number,
  realPort: number,
  virtualServer: number,
  realServer: number,
  persistence: number,
  generation: number,
  expiryMs: number,
): number {
  const words = t.words;
  const control = controlOf(shard);
  let at = words[control + CONTROL_FREE];
  if (at !== 0) words[control + CONTROL_FREE] = words[at + NEXT_IN];
  else {
    if (words[control + CONTROL_USED] === t.limit) return -1;
    at = slotsOf(t, shard) + words[control + CONTROL_USED]++ * SLOT_WORDS;
  }
  words[control + CONTROL_COUNT]++;
  const meta = (node << 16) | (proto << 8) | family;
  words[at] = meta;
  words[at + PORTS] = ports;
  words[at + CLIENT] = s0;
  words[at + VIRTUAL] = d0;
  words[at + REAL] = r0;
  words[at + STATE] = (realPort << REAL_PORT_SHIFT) | (CONN_INACTIVE << FLAGS_SHIFT);
  words[at + EXPIRY] = expiryMs;
  words[at + RS] = realServer;
  words[at + VS] = virtualServer;
  writeRest(words, at + CLIENT_REST, s1, s2, s3);
  writeRest(words, at + VIRTUAL_REST, d1, d2, d3);
  writeRest(words, at + REAL_REST, r1, r2, r3);
  words[at + DUE] = expiryMs;
  words[at + PERSISTENCE] = persistence + 1;
  words[at + GENERATION] = generation;
  const first = t.partitionsAt + shard * t.partitionWords;
  const inBucket = first + (hashEnds(meta, s0, s1, s2, s3, d0, d1, d2, d3, ports) & t.bucketMask);
  words[at + NEXT_IN] = words[inBucket];
  words[inBucket] = at;
  const outBucket = first + t.bucketMask + 1 + outHash(t, at);
  words[at + NEXT_OUT] = words[outBucket];
  words[outBucket] = at;
  const place = words[control + CONTROL_HEAP]++;
  rise(t, shard, place, at);
  return at;
}

function writeRest(words: Int32Array, at: number, a1: number, a2: number, a3: number): void {
  words[at] = a1;
  words[at + 1] = a2;
  words[at + 2] = a3;
}

/** Removes a connection. */
export function connRemove(t: IpvsConnections, shard: number, at: number): void {
  const w = t.words;
  const control = controlOf(shard);
  const first = t.partitionsAt + shard * t.partitionWords;
  const inHash = hashEnds(
    w[at],
    w[at + CLIENT],
    w[at + CLIENT_REST],
    w[at + CLIENT_REST + 1],
    w[at + CLIENT_REST + 2],
    w[at + VIRTUAL],
    w[at + VIRTUAL_REST],
    w[at + VIRTUAL_REST + 1],
    w[at + VIRTUAL_REST + 2],
    w[at + PORTS],
  );
  unlink(w, first + (inHash & t.bucketMask), NEXT_IN, at);
  unlink(w, first + t.bucketMask + 1 + outHash(t, at), NEXT_OUT, at);
  const last = --w[control + CONTROL_HEAP];
  const place = w[at + HEAP_PLACE];
  if (place !== last) {
    const moved = w[heapOf(t, shard) + last];
    rise(t, shard, place, moved);
    sink(t, shard, w[moved + HEAP_PLACE], moved);
  }
  w[control + CONTROL_COUNT]--;
  w.fill(0, at, at + SLOT_WORDS);
  w[at + NEXT_IN] = w[control + CONTROL_FREE];
  w[control + CONTROL_FREE] = at;
}

function unlink(words: Int32Array, bucket: number, link: number, at: number): void {
  if (words[bucket] === at) {
    words[bucket] = words[at + link];
    return;
  }
  let before = words[bucket];
  while (words[before + link] !== at) before = words[before + link];
  words[before + link] = words[at + link];
}

/** Forgets everything; shards that were never used cost nothing. Only while no other thread uses the table. */
export function connClear(t: IpvsConnections): void {
  for (let shard = 0; shard < t.shards; shard++) {
    if (t.words[controlOf(shard) + CONTROL_USED] !== 0) connClearShard(t, shard);
  }
}

/** Forgets a shard, whatever its memory holds: its writer may have died in the middle of a change. */
export function connClearShard(t: IpvsConnections, shard: number): void {
  const first = t.partitionsAt + shard * t.partitionWords;
  t.words.fill(0, first, first + t.partitionWords);
  t.words.fill(0, controlOf(shard), controlOf(shard) + CONTROL_WORDS);
}

// ---- time -------------------------------------------------------------------------------------------------------

/**
 * The connection that expired first, to be removed by the caller before he asks again.
 * @returns the slot; -1 if none has expired at `nowMs`
 */
export function connDue(t: IpvsConnections, shard: number, nowMs: number): number {
  const words = t.words;
  const control = controlOf(shard);
  const heap = heapOf(t, shard);
  while (words[control + CONTROL_HEAP] > 0) {
    const at = words[heap];
    if (((words[at + DUE] - nowMs) | 0) > 0) return -1;
    if (words[at + DUE] === words[at + EXPIRY]) return at;
    words[at + DUE] = words[at + EXPIRY];
    sink(t, shard, 0, at);
  }
  return -1;
}

/** Sets when a connection expires, in ms of virtual time. */
export function connTouch(t: IpvsConnections, shard: number, at: number, expiryMs: number): void {
  const words = t.words;
  words[at + EXPIRY] = expiryMs;
  if (((expiryMs - words[at + DUE]) | 0) >= 0) return;
  words[at + DUE] = expiryMs;
  rise(t, shard, words[at + HEAP_PLACE], at);
}

// ---- reading ----------------------------------------------------------------------------------------------------

export function connNode(t: IpvsConnections, at: number): number {
  return t.words[at] >>> 16;
}

export function connProto(t: IpvsConnections, at: number): number {
  return (t.words[at] >>> 8) & 0xff;
}

/** 4 or 6. */
export function connFamily(t: IpvsConnections, at: number): number {
  return t.words[at] & 0xff;
}

/** Client port << 16 | virtual port. */
export function connPorts(t: IpvsConnections, at: number): number {
  return t.words[at + PORTS];
}

/** Word `i` of the client's address. */
export function connClient(t: IpvsConnections, at: number, i: number): number {
  return i === 0 ? t.words[at + CLIENT] : t.words[at + CLIENT_REST - 1 + i];
}

/** Word `i` of the virtual address. */
export function connVirtual(t: IpvsConnections, at: number, i: number): number {
  return i === 0 ? t.words[at + VIRTUAL] : t.words[at + VIRTUAL_REST - 1 + i];
}

/** Word `i` of the real server's address. */
export function connReal(t: IpvsConnections, at: number, i: number): number {
  return i === 0 ? t.words[at + REAL] : t.words[at + REAL_REST - 1 + i];
}

export function connRealPort(t: IpvsConnections, at: number): number {
  return t.words[at + STATE] >>> REAL_PORT_SHIFT;
}

/** RS_ID of its real server. */
export function connRealServer(t: IpvsConnections, at: number): number {
  return t.words[at + RS];
}

/** VS_ID of its virtual server. */
export function connVirtualServer(t: IpvsConnections, at: number): number {
  return t.words[at + VS];
}

/** Prefix length by which persistence knows the client, -1 without persistence. */
export function connPersistence(t: IpvsConnections, at: number): number {
  return t.words[at + PERSISTENCE] - 1;
}

/** Number of the image in which its real server was last known to be there. */
export function connGeneration(t: IpvsConnections, at: number): number {
  return t.words[at + GENERATION];
}

export function connSetGeneration(t: IpvsConnections, at: number, generation: number): void {
  t.words[at + GENERATION] = generation;
}

/** Virtual time, u32 ms, at which it expires. */
export function connExpiry(t: IpvsConnections, at: number): number {
  return t.words[at + EXPIRY] >>> 0;
}

export function connState(t: IpvsConnections, at: number): number {
  return t.words[at + STATE] & STATE_MASK;
}

export function connFlags(t: IpvsConnections, at: number): number {
  return (t.words[at + STATE] >>> FLAGS_SHIFT) & 0xff;
}

export function connSetState(t: IpvsConnections, at: number, state: number, flags: number): void {
  t.words[at + STATE] = (t.words[at + STATE] & ~0xffff) | (flags << FLAGS_SHIFT) | state;
}
