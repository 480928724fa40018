import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachIpvsConnections,
  CONN_INACTIVE,
  connClear,
  connClient,
  connCount,
  connDue,
  connExpiry,
  connFamily,
  connFindIn,
  connFindOut,
  connFlags,
  connGeneration,
  connInsert,
  connNext,
  connNode,
  connPersistence,
  connPorts,
  connProto,
  connReal,
  connRealPort,
  connRealServer,
  connRemove,
  connSetGeneration,
  connSetState,
  connState,
  connTouch,
  connVirtual,
  connVirtualServer,
  createIpvsConnections,
  type IpvsConnections,
} from '../../engine/src/tables/ipvs-connections.ts';
import { runs } from './runs.ts';

type Words = readonly [number, number, number, number];

interface Connection {
  readonly node: number;
  readonly family: 4 | 6;
  readonly proto: number;
  readonly client: Words;
  readonly virtual: Words;
  readonly real: Words;
  readonly ports: number;
  readonly realPort: number;
  readonly id: number;
}

function insert(t: IpvsConnections, shard: number, c: Connection, persistence: number, expiryMs: number): number {
  const { node, family, proto, client, virtual, real, ports, realPort, id } = c;
  return connInsert(
    t,
    shard,
    node,
    family,
    proto,
    client[0],
    client[1],
    client[2],
    client[3],
    virtual[0],
    virtual[1],
    virtual[2],
    virtual[3],
    ports,
    real[0],
    real[1],
    real[2],
    real[3],
    realPort,
    id,
    id + 1000,
    persistence,
    7,
    expiryMs,
  );
}

function findIn(
  t: IpvsConnections,
  shard: number,
  { node, family, proto, client, virtual, ports }: Connection,
): number {
  const [s0, s1, s2, s3] = client;
  const [d0, d1, d2, d3] = virtual;
  return connFindIn(t, shard, node, family, proto, s0, s1, s2, s3, d0, d1, d2, d3, ports);
}

function findOut(t: IpvsConnections, shard: number, c: Connection): number {
  const { node, family, proto, client, real, ports, realPort } = c;
  const [s0, s1, s2, s3] = real;
  const [d0, d1, d2, d3] = client;
  return connFindOut(t, shard, node, family, proto, s0, s1, s2, s3, d0, d1, d2, d3, (realPort << 16) | (ports >>> 16));
}

/** Few values, so that keys meet and chains grow. */
const connection = fc
  .record({
    node: fc.nat(2),
    family: fc.constantFrom(4 as const, 6 as const),
    proto: fc.constantFrom(6, 17),
    host: fc.nat(3),
    vip: fc.nat(2),
    server: fc.nat(2),
    port: fc.nat(2),
    realPort: fc.constantFrom(80, 65_535),
    id: fc.nat(50),
  })
  .map(({ host, vip, server, port, family, ...rest }): Connection => {
    const word = (kind: number, n: number): Words => (family === 4 ? [kind + n, 0, 0, 0] : [kind, n, -1, n]);
    return {
      ...rest,
      family,
      client: word(-0x100, host),
      virtual: word(0x0a600000, vip),
      real: word(0x0af40000, server),
      ports: ((40_000 + port) << 16) | 80,
    };
  });

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('insert' as const), c: connection, life: fc.nat(400) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('touch' as const), n: fc.nat(), life: fc.nat(400) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), n: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), by: fc.nat(120) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('find' as const), c: connection }) },
);

interface Held {
  readonly c: Connection;
  readonly at: number;
  expiry: number;
}

describe('IPVS connections', () => {
  it('are found by their newest, keep their place, and expire to the millisecond, as in a list', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.constantFrom(0, 0x7fffff00, -0x80), (steps, begin) => {
        const t = attachIpvsConnections(createIpvsConnections(24, 2).buffer);
        const shard = 1;
        let now = begin | 0;
        // Newest first, as chains are.
        let held: Held[] = [];
        const expire = () => {
          const due = held.filter(({ expiry }) => ((expiry - now) | 0) <= 0);
          let last = -1 << 30;
          for (let at = connDue(t, shard, now); at !== -1; at = connDue(t, shard, now)) {
            const one = due.find((h) => h.at === at);
            expect(one).toBeDefined();
            expect((one!.expiry - begin) | 0).toBeGreaterThanOrEqual(last);
            last = (one!.expiry - begin) | 0;
            held = held.filter((h) => h !== one);
            connRemove(t, shard, at);
          }
          expect(held.filter(({ expiry }) => ((expiry - now) | 0) <= 0)).toEqual([]);
        };
        for (const s of steps) {
          if (s.kind === 'insert') {
            const at = insert(t, shard, s.c, -1, (now + s.life) | 0);
            if (held.length === 12) expect(at).toBe(-1);
            else held.unshift({ c: s.c, at, expiry: (now + s.life) | 0 });
          } else if (s.kind === 'wait') {
            now = (now + s.by) | 0;
            expire();
          } else if (s.kind === 'find') {
            const same = (a: Connection, b: Connection) =>
              a.node === b.node && a.proto === b.proto && a.family === b.family && a.ports === b.ports;
            const isIn = (h: Held) =>
              same(h.c, s.c) && h.c.client[0] === s.c.client[0] && h.c.client[1] === s.c.client[1];
            const byIn = held.find((h) => isIn(h) && `${h.c.virtual}` === `${s.c.virtual}`);
            expect(findIn(t, shard, s.c)).toBe(byIn?.at ?? -1);
            const byOut = held.find((h) => isIn(h) && `${h.c.real}` === `${s.c.real}` && h.c.realPort === s.c.realPort);
            expect(findOut(t, shard, s.c)).toBe(byOut?.at ?? -1);
            expect(findIn(t, 0, s.c)).toBe(-1);
          } else if (held.length > 0) {
            const one = held[s.n % held.length]!;
            if (s.kind === 'touch') {
              one.expiry = (now + s.life) | 0;
              connTouch(t, shard, one.at, one.expiry);
            } else {
              connRemove(t, shard, one.at);
              held = held.filter((h) => h !== one);
            }
          }
          expect(connCount(t, shard)).toBe(held.length);
          for (const { c, at, expiry } of held) {
            expect(connExpiry(t, at)).toBe(expiry >>> 0);
            expect([connNode(t, at), connProto(t, at), connFamily(t, at)]).toEqual([c.node, c.proto, c.family]);
            expect([0, 1, 2, 3].map((i) => connClient(t, at, i))).toEqual([...c.client]);
            expect([0, 1, 2, 3].map((i) => connVirtual(t, at, i))).toEqual([...c.virtual]);
            expect([0, 1, 2, 3].map((i) => connReal(t, at, i))).toEqual([...c.real]);
            expect([connPorts(t, at), connRealPort(t, at)]).toEqual([c.ports, c.realPort]);
            expect([connVirtualServer(t, at), connRealServer(t, at)]).toEqual([c.id, c.id + 1000]);
          }
        }
        const walked: number[] = [];
        for (let at = connNext(t, shard, -1); at !== -1; at = connNext(t, shard, at)) walked.push(at);
        expect(walked).toEqual(held.map(({ at }) => at).sort((a, b) => a - b));
        connClear(t);
        expect(connCount(t, shard)).toBe(0);
        expect(connNext(t, shard, -1)).toBe(-1);
      }),
      runs(150),
    );
  });

  it('keep state, flags, persistence and generation without touching the real port', () => {
    const t = createIpvsConnections(2, 1);
    const c: Connection = {
      node: 8191,
      family: 4,
      proto: 132,
      client: [-1, 0, 0, 0],
      virtual: [2, 0, 0, 0],
      real: [3, 0, 0, 0],
      ports: -1,
      realPort: 65_535,
      id: 0x7fffffff - 1000,
    };
    const at = insert(t, 0, c, 0, 100);
    expect([connState(t, at), connFlags(t, at), connPersistence(t, at)]).toEqual([0, CONN_INACTIVE, 0]);
    connSetState(t, at, 13, 0);
    connSetGeneration(t, at, -5);
    expect([connState(t, at), connFlags(t, at), connRealPort(t, at), connGeneration(t, at)]).toEqual([
      13, 0, 65_535, -5,
    ]);
    expect([connNode(t, at), connProto(t, at)]).toEqual([8191, 132]);
  });

  it('refuse what cannot be', () => {
    expect(() => createIpvsConnections(16, 3)).toThrow('power of two');
    expect(() => attachIpvsConnections(new SharedArrayBuffer(64))).toThrow('not a table');
  });
});
