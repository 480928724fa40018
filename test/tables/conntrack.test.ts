/**
 * Conntrack against a Map and a fake clock: random operations over shards, zones, families and capacities, with few
 * addresses and ports so that clashes, full shards and wrapped runs are the rule. The clock begins before its u32 wraps.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachConntrack,
  type Conntrack,
  CT_ASSURED,
  CT_CLASH,
  CT_FULL,
  CT_MODE_3,
  CT_REPLY,
  CT_SEEN_REPLY,
  CT_USED,
  createConntrack,
  ctClear,
  ctDst,
  ctExpiry,
  ctFind4,
  ctFind6,
  ctFindHashed4,
  ctFindHashed6,
  ctFlags,
  ctFlows,
  ctHash4,
  ctHash6,
  ctInsert4,
  ctInsert6,
  ctNext,
  ctPeer,
  ctPorts,
  ctProto,
  ctRemove,
  ctSetFlags,
  ctSetState,
  ctShard,
  ctSrc,
  ctState,
  ctTaken4,
  ctTaken6,
  ctTouch,
  ctXDst,
  ctXPorts,
  ctXSrc,
  ctZone,
} from '../../engine/src/tables/conntrack.ts';
import { ctSweep } from '../../engine/src/tables/conntrack-aging.ts';
import { runs } from './runs.ts';

type Address = readonly [number, number, number, number];

interface Tuple {
  readonly src: Address;
  readonly dst: Address;
  readonly ports: number;
}

interface Flow {
  readonly shard: number;
  readonly zone: number;
  readonly proto: number;
  readonly key: Tuple;
  readonly x: Tuple;
  state: number;
  flags: number;
  /** Of the original and of the reply direction; the same number for a flow that is its own reverse. */
  expiry: [number, number];
}

/** IPv4 addresses have zeros behind their word; IPv6 ones differ in every word. */
function address(family: number, n: number): Address {
  const word = [0x0a000001, 0x0a000002, -1062731775, 0x0a000101][n & 3]!;
  return family === 4 ? [word, 0, 0, 0] : [-2, n >> 1, word ^ n, n];
}

function reverse(t: Tuple): Tuple {
  return { src: t.dst, dst: t.src, ports: (t.ports << 16) | (t.ports >>> 16) };
}

function name(shard: number, zone: number, proto: number, t: Tuple): string {
  return `${shard}/${zone}/${proto}/${t.src}>${t.dst}:${t.ports}`;
}

function isBefore(nowMs: number, expiryMs: number): boolean {
  return ((expiryMs - nowMs) | 0) > 0;
}

class Oracle {
  readonly byTuple = new Map<string, Flow>();
  readonly flows = new Set<Flow>();
  readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  alive(flow: Flow, nowMs: number): boolean {
    return isBefore(nowMs, flow.expiry[0]) || isBefore(nowMs, flow.expiry[1]);
  }

  /** The flow of a tuple, living or not, and the direction that the tuple is. */
  locate(shard: number, zone: number, proto: number, t: Tuple): { flow: Flow; direction: 0 | 1 } | undefined {
    const key = name(shard, zone, proto, t);
    const flow = this.byTuple.get(key);
    if (flow === undefined) return undefined;
    return { flow, direction: name(shard, zone, proto, flow.key) === key ? 0 : 1 };
  }

  insert(flow: Flow, nowMs: number): number {
    const keys = [flow.key, reverse(flow.x)].map((t) => name(flow.shard, flow.zone, flow.proto, t));
    for (const key of keys) {
      const holder = this.byTuple.get(key);
      if (holder === undefined) continue;
      if (this.alive(holder, nowMs)) return CT_CLASH;
      this.remove(holder);
    }
    if (this.count(flow.shard) >= this.limit) return CT_FULL;
    for (const key of keys) this.byTuple.set(key, flow);
    this.flows.add(flow);
    return 0;
  }

  remove(flow: Flow): void {
    for (const t of [flow.key, reverse(flow.x)]) this.byTuple.delete(name(flow.shard, flow.zone, flow.proto, t));
    this.flows.delete(flow);
  }

  count(shard: number): number {
    return [...this.flows].filter((flow) => flow.shard === shard).length;
  }
}

// The two families behind one face.

function find(ct: Conntrack, shard: number, zone: number, proto: number, t: Tuple, nowMs: number): number {
  return ct.family === 4
    ? ctFind4(ct, shard, zone, proto, t.src[0], t.dst[0], t.ports, nowMs)
    : ctFind6(ct, shard, zone, proto, ...t.src, ...t.dst, t.ports, nowMs);
}

function findHashed(ct: Conntrack, shard: number, zone: number, proto: number, t: Tuple, nowMs: number): number {
  if (ct.family === 4) {
    const hash = ctHash4(zone, proto, t.src[0], t.dst[0], t.ports);
    return ctFindHashed4(ct, shard, hash, zone, proto, t.src[0], t.dst[0], t.ports, nowMs);
  }
  const hash = ctHash6(zone, proto, ...t.src, ...t.dst, t.ports);
  return ctFindHashed6(ct, shard, hash, zone, proto, ...t.src, ...t.dst, t.ports, nowMs);
}

function taken(ct: Conntrack, shard: number, zone: number, proto: number, t: Tuple, nowMs: number): number {
  return ct.family === 4
    ? ctTaken4(ct, shard, zone, proto, t.src[0], t.dst[0], t.ports, nowMs)
    : ctTaken6(ct, shard, zone, proto, ...t.src, ...t.dst, t.ports, nowMs);
}

function insert(ct: Conntrack, f: Flow, nowMs: number): number {
  const expiry = f.expiry[0];
  return ct.family === 4
    ? ctInsert4(
        ct,
        f.shard,
        f.zone,
        f.proto,
        f.key.src[0],
        f.key.dst[0],
        f.key.ports,
        f.x.src[0],
        f.x.dst[0],
        f.x.ports,
        f.state,
        f.flags,
        expiry,
        nowMs,
      )
    : ctInsert6(
        ct,
        f.shard,
        f.zone,
        f.proto,
        ...f.key.src,
        ...f.key.dst,
        f.key.ports,
        ...f.x.src,
        ...f.x.dst,
        f.x.ports,
        f.state,
        f.flags,
        expiry,
        nowMs,
      );
}

function readTuple(ct: Conntrack, slot: number): Tuple {
  const word = (i: number) => (ct.family === 4 && i > 0 ? 0 : 1);
  const read = (get: (ct: Conntrack, slot: number, i: number) => number): Address =>
    [0, 1, 2, 3].map((i) => (word(i) === 1 ? get(ct, slot, i) : 0)) as unknown as Address;
  return { src: read(ctSrc), dst: read(ctDst), ports: ctPorts(ct, slot) };
}

function readX(ct: Conntrack, slot: number): Tuple {
  const read = (get: (ct: Conntrack, slot: number, i: number) => number): Address =>
    [0, 1, 2, 3].map((i) => (ct.family === 4 && i > 0 ? 0 : get(ct, slot, i))) as unknown as Address;
  return { src: read(ctXSrc), dst: read(ctXDst), ports: ctXPorts(ct, slot) };
}

function expectSlot(ct: Conntrack, slot: number, flow: Flow, direction: 0 | 1): void {
  const selfReverse = name(0, 0, 0, flow.key) === name(0, 0, 0, reverse(flow.x));
  expect(readTuple(ct, slot)).toEqual(direction === 0 ? flow.key : reverse(flow.x));
  expect(readX(ct, slot)).toEqual(direction === 0 ? flow.x : reverse(flow.key));
  expect([ctZone(ct, slot), ctProto(ct, slot), ctState(ct, slot)]).toEqual([flow.zone, flow.proto, flow.state]);
  expect(ctFlags(ct, slot)).toBe(CT_USED | flow.flags | (direction === 1 ? CT_REPLY : 0));
  expect(ctExpiry(ct, slot)).toBe(flow.expiry[selfReverse ? 0 : direction] >>> 0);
  expect(ctShard(ct, slot)).toBe(flow.shard);
  const peer = ctPeer(ct, flow.shard, slot);
  expect(ctPeer(ct, flow.shard, peer)).toBe(slot);
  expect(peer === slot).toBe(selfReverse);
}

/** The table holds exactly the flows of the oracle, every slot can be found, and the counts are right. */
function expectSame(ct: Conntrack, oracle: Oracle): void {
  let seen = 0;
  for (let slot = ctNext(ct, -1); slot !== -1; slot = ctNext(ct, slot)) {
    const at = oracle.locate(ctShard(ct, slot), ctZone(ct, slot), ctProto(ct, slot), readTuple(ct, slot));
    expect(at?.direction).toBe(0);
    expectSlot(ct, slot, at!.flow, 0);
    const peer = ctPeer(ct, at!.flow.shard, slot);
    if (peer !== slot) expectSlot(ct, peer, at!.flow, 1);
    seen++;
  }
  expect(seen).toBe(oracle.flows.size);
  for (let shard = 0; shard < ct.shards; shard++) expect(ctFlows(ct, shard)).toBe(oracle.count(shard));
}

interface Operation {
  readonly kind: number;
  readonly shard: number;
  readonly zone: number;
  readonly proto: number;
  readonly src: number;
  readonly dst: number;
  readonly ports: number;
  readonly nat: number;
  readonly amount: number;
}

const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.nat(15),
  shard: fc.nat(255),
  zone: fc.constantFrom(0, 1, 8191),
  proto: fc.constantFrom(1, 6, 17, 132, 255),
  src: fc.nat(3),
  dst: fc.nat(3),
  ports: fc.constantFrom(0x00500050, 0x80000050 | 0, 0x00508000, -1),
  nat: fc.nat(7),
  amount: fc.nat(400),
});

function run(ct: Conntrack, oracle: Oracle, operations: Operation[]): void {
  let nowMs = 0xffffff00;
  for (const op of operations) {
    const shard = op.shard & (ct.shards - 1);
    const key: Tuple = { src: address(ct.family, op.src), dst: address(ct.family, op.dst), ports: op.ports };
    const x: Tuple = {
      src: (op.nat & 1) === 1 ? address(ct.family, op.dst + 1) : key.src,
      dst: (op.nat & 2) === 2 ? address(ct.family, op.src + 2) : key.dst,
      ports: (op.nat & 4) === 4 ? op.ports ^ ((op.amount & 3) << 16) : op.ports,
    };
    const held = oracle.locate(shard, op.zone, op.proto, key);
    const living = held !== undefined && oracle.alive(held.flow, nowMs) ? held : undefined;
    const slot = find(ct, shard, op.zone, op.proto, key, nowMs);
    expect(slot !== -1).toBe(living !== undefined);
    expect(findHashed(ct, shard, op.zone, op.proto, key, nowMs)).toBe(slot);
    expect(taken(ct, shard, op.zone, op.proto, key, nowMs)).toBe(slot === -1 ? 0 : 1);
    if (living !== undefined) expectSlot(ct, slot, living.flow, living.direction);
    if (op.kind < 6) {
      const expiry = nowMs + op.amount;
      const flow: Flow = {
        shard,
        zone: op.zone,
        proto: op.proto,
        key,
        x,
        state: op.amount & 15,
        flags: (op.amount & 1) === 1 ? CT_MODE_3 : 0,
        expiry: [expiry, expiry],
      };
      const expected = oracle.insert(flow, nowMs);
      const made = insert(ct, flow, nowMs);
      if (expected === 0) expectSlot(ct, made, flow, 0);
      else expect(made).toBe(expected);
    } else if (op.kind < 9 && living !== undefined) {
      ctTouch(ct, slot, nowMs + op.amount);
      if (ctPeer(ct, shard, slot) === slot) living.flow.expiry = [nowMs + op.amount, nowMs + op.amount];
      else living.flow.expiry[living.direction] = nowMs + op.amount;
    } else if (op.kind === 9 && living !== undefined) {
      ctSetState(ct, slot, ctPeer(ct, shard, slot), op.amount & 15);
      living.flow.state = op.amount & 15;
    } else if (op.kind === 10 && living !== undefined) {
      const flags = [CT_SEEN_REPLY, CT_ASSURED, CT_MODE_3, CT_SEEN_REPLY | CT_ASSURED][op.amount & 3]!;
      // The table's own bits cannot be set.
      ctSetFlags(ct, slot, ctPeer(ct, shard, slot), flags | CT_REPLY);
      living.flow.flags |= flags;
    } else if (op.kind === 11 && living !== undefined) {
      ctRemove(ct, shard, slot);
      oracle.remove(living.flow);
    } else if (op.kind === 12) {
      const before = ctFlows(ct, shard);
      const freed = ctSweep(ct, shard, nowMs, op.amount);
      expect(ctFlows(ct, shard)).toBe(before - freed);
      const left = new Set<string>();
      for (let at = ctNext(ct, -1); at !== -1; at = ctNext(ct, at)) {
        left.add(name(ctShard(ct, at), ctZone(ct, at), ctProto(ct, at), readTuple(ct, at)));
      }
      for (const flow of [...oracle.flows]) {
        if (left.has(name(flow.shard, flow.zone, flow.proto, flow.key))) continue;
        expect(oracle.alive(flow, nowMs)).toBe(false);
        expect(flow.shard).toBe(shard);
        oracle.remove(flow);
      }
    } else if (op.kind === 13 && op.amount < 40) {
      ctClear(ct);
      oracle.byTuple.clear();
      oracle.flows.clear();
    } else if (op.kind > 12) {
      nowMs = (nowMs + op.amount) >>> 0;
    }
  }
  expectSame(ct, oracle);
  // A sweep over every slot leaves no expired flow.
  for (let shard = 0; shard < ct.shards; shard++) ctSweep(ct, shard, nowMs, 4 * (ct.mask + 1));
  for (const flow of [...oracle.flows]) if (!oracle.alive(flow, nowMs)) oracle.remove(flow);
  expectSame(ct, oracle);
}

describe('conntrack against a Map', () => {
  it('agrees after random operations', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4, 6),
        fc.constantFrom(8, 9, 20, 64, 4096),
        fc.constantFrom(1, 2, 8, 256),
        fc.array(operation, { maxLength: 150, size: 'max' }),
        (family, capacity, shards, operations) => {
          const ct = createConntrack(family, capacity, shards);
          expect(ct.limit).toBe(Math.ceil(capacity / shards));
          run(ct, new Oracle(ct.limit), operations);
        },
      ),
      runs(120),
    );
  });

  it('agrees where all flows crowd into one shard at its limit', () => {
    fc.assert(
      fc.property(fc.constantFrom(4, 6), fc.array(operation, { maxLength: 400, size: 'max' }), (family, operations) => {
        const ct = createConntrack(family, 12, 1);
        run(
          ct,
          new Oracle(12),
          operations.map((op) => ({ ...op, zone: 1, proto: 6 })),
        );
      }),
      runs(40),
    );
  });

  it('takes its capacity in flows and frees all of it', () => {
    for (const family of [4, 6]) {
      const ct = createConntrack(family, 3000, 1);
      const flow = (n: number): Flow => {
        const key = { src: address(family, 0), dst: address(family, 1), ports: (n << 16) | 80 };
        return { shard: 0, zone: 5, proto: 6, key, x: key, state: 0, flags: 0, expiry: [1000, 1000] };
      };
      for (let n = 0; n < 3000; n++) expect(insert(ct, flow(n), 0)).toBeGreaterThan(0);
      expect(insert(ct, flow(3000), 0)).toBe(CT_FULL);
      for (let n = 2999; n >= 0; n -= 3) ctRemove(ct, 0, find(ct, 0, 5, 6, flow(n).key, 0));
      for (let n = 0; n < 3000; n++) expect(find(ct, 0, 5, 6, flow(n).key, 0) === -1).toBe(n % 3 === 2);
      expect(ctFlows(ct, 0)).toBe(2000);
      ctClear(ct);
      expect(ctFlows(ct, 0)).toBe(0);
      expect(ctNext(ct, -1)).toBe(-1);
    }
  });
});

describe('conntrack', () => {
  it('keeps a translated flow findable from both sides', () => {
    const ct = createConntrack(4, 16, 1);
    const client = 0x0af40105;
    const vip = 0x0a600a0a;
    const backend = 0x0af40207;
    const slot = ctInsert4(
      ct,
      0,
      3,
      6,
      client,
      vip,
      (40000 << 16) | 80,
      client,
      backend,
      (40000 << 16) | 8080,
      2,
      0,
      500,
      0,
    );
    const reply = ctFind4(ct, 0, 3, 6, backend, client, (8080 << 16) | 40000, 499);
    expect(ctFlags(ct, reply) & CT_REPLY).toBe(CT_REPLY);
    expect(ctPeer(ct, 0, reply)).toBe(slot);
    expect([ctXSrc(ct, reply, 0), ctXDst(ct, reply, 0), ctXPorts(ct, reply)]).toEqual([
      vip,
      client,
      (80 << 16) | 40000,
    ]);
    expect(ctFind4(ct, 0, 3, 6, backend, client, (8080 << 16) | 40000, 500)).toBe(-1);
    expect(ctFind4(ct, 0, 4, 6, client, vip, (40000 << 16) | 80, 0)).toBe(-1);
  });

  it('keeps a flow alive by either direction', () => {
    const ct = createConntrack(4, 16, 1);
    const slot = ctInsert4(ct, 0, 0, 17, 1, 2, 3, 1, 2, 3, 0, 0, 30, 0);
    ctTouch(ct, slot, 90);
    const reply = ctFind4(ct, 0, 0, 17, 2, 1, 3 << 16, 60);
    expect(reply).toBe(ctPeer(ct, 0, slot));
    expect(ctTaken4(ct, 0, 0, 17, 2, 1, 3 << 16, 89)).toBe(1);
    expect(ctTaken4(ct, 0, 0, 17, 2, 1, 3 << 16, 90)).toBe(0);
  });

  it('refuses a second flow with the same reply, and gives the tuple out again when the first has expired', () => {
    const ct = createConntrack(4, 16, 1);
    expect(ctInsert4(ct, 0, 0, 6, 1, 9, 7, 5, 9, 7, 0, 0, 100, 0)).toBeGreaterThan(0);
    expect(ctInsert4(ct, 0, 0, 6, 2, 9, 7, 5, 9, 7, 0, 0, 100, 0)).toBe(CT_CLASH);
    expect(ctFlows(ct, 0)).toBe(1);
    expect(ctFind4(ct, 0, 0, 6, 2, 9, 7, 0)).toBe(-1);
    expect(ctInsert4(ct, 0, 1, 6, 2, 9, 7, 5, 9, 7, 0, 0, 100, 0)).toBeGreaterThan(0);
    expect(ctInsert4(ct, 0, 0, 6, 2, 9, 7, 5, 9, 7, 0, 0, 200, 100)).toBeGreaterThan(0);
    expect(ctFind4(ct, 0, 0, 6, 1, 9, 7, 100)).toBe(-1);
    expect(ctFlows(ct, 0)).toBe(2);
  });

  it('is shared through its buffer', () => {
    const ct = createConntrack(6, 16, 4);
    const slot = ctInsert6(ct, 3, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0, 100, 0);
    const other = attachConntrack(ct.buffer);
    expect(ctFind6(other, 3, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0)).toBe(slot);
    expect(ctFind6(other, 2, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0)).toBe(-1);
  });

  it('refuses impossible shapes', () => {
    expect(() => createConntrack(5, 16, 1)).toThrow('family must be 4 or 6, not 5');
    for (const shards of [0, 3, 512, 1.5]) expect(() => createConntrack(4, 16, shards)).toThrow(RangeError);
  });
});
