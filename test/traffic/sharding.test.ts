/**
 * The argument of docs/sharding.md on a model small enough to see through: two nodes, a DNAT on the first, a masquerade
 * with ports divided by shard, the connection table with 256 partitions, and nothing else of the engine.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Conntrack, createConntrack, ctFind4, ctInsert4, ctTaken4 } from '../../engine/src/tables/conntrack.ts';
import { findShard, SHARDS, shardOfTuple4, shardOfTuple6 } from '../../engine/src/traffic/shard.ts';
import { createBurst } from '../../engine/src/wire/burst.ts';

const seed = Number(process.env.FLATPATH_SEED) || undefined;
const TCP = 6;
const LIFE = 60_000;

interface Flow {
  client: number;
  sport: number;
  vip: number;
  backend: number;
  masquerade: boolean;
}

const address = (net: number, host: number) => (net << 24) | (host & 0xffff);
const NODE_ADDRESS = address(172, 1);

const flow: fc.Arbitrary<Flow> = fc.record({
  client: fc.integer({ min: 1, max: 40 }).map((n) => address(10, n)),
  sport: fc.integer({ min: 1024, max: 65_535 }),
  vip: fc.integer({ min: 1, max: 20 }).map((n) => address(11, n)),
  backend: fc.integer({ min: 1, max: 30 }).map((n) => address(12, n)),
  masquerade: fc.boolean(),
});

const ports = (sport: number, dport: number) => (sport << 16) | dport;

/** A masquerade port that is congruent to the shard and free toward the backend. */
function freePort(ct: Conntrack, shard: number, backend: number): number {
  for (let port = 1024 + shard; port < 65_536; port += SHARDS) {
    if (ctTaken4(ct, shard, 0, TCP, backend, NODE_ADDRESS, ports(80, port), 0) === 0) return port;
  }
  return -1;
}

/** Sends the first packet through node 0 (DNAT, masquerade) and node 1; answers the tuple that the backend sees. */
function send(ct: Conntrack, lane: number, f: Flow): { src: number; sport: number } | null {
  const src = f.masquerade ? NODE_ADDRESS : f.client;
  const sport = f.masquerade ? freePort(ct, lane, f.backend) : f.sport;
  const first = ports(f.sport, 80);
  const then = ports(sport, 80);
  if (ctInsert4(ct, lane, 0, TCP, f.client, f.vip, first, src, f.backend, then, 1, 0, LIFE, 0) < 0) return null;
  if (ctInsert4(ct, lane, 1, TCP, src, f.backend, then, src, f.backend, then, 1, 0, LIFE, 0) < 0) return null;
  return { src, sport };
}

describe('a flow finds its shard', () => {
  it('by the carried lane on both nodes, and by findShard without it; no masqueraded tuple is given twice', () => {
    fc.assert(
      fc.property(fc.array(flow, { minLength: 1, maxLength: 60 }), (flows) => {
        const ct = createConntrack(4, 256 * 256, SHARDS);
        const tracked = { conntrack4: ct, conntrack6: createConntrack(6, 256, SHARDS) };
        const b = createBurst(1, 192);
        const given = new Set<string>();
        for (const f of flows) {
          const lane = shardOfTuple4(f.client, f.vip, f.sport, 80, TCP);
          const seen = send(ct, lane, f);
          if (seen === null) continue;
          // The reply enters on node 1 with the reverse of what the backend saw.
          const reply = ports(80, seen.sport);
          expect(ctFind4(ct, lane, 1, TCP, f.backend, seen.src, reply, 1)).toBeGreaterThanOrEqual(0);
          expect(ctFind4(ct, lane, 0, TCP, f.backend, seen.src, reply, 1)).toBeGreaterThanOrEqual(0);
          if (f.masquerade) {
            const key = `${f.backend}:${seen.sport}`;
            expect(given.has(key)).toBe(false);
            given.add(key);
          }
          b.family[0] = 4;
          b.proto[0] = TCP;
          b.src0[0] = f.backend;
          b.dst0[0] = seen.src;
          b.sport[0] = 80;
          b.dport[0] = seen.sport;
          for (const node of [0, 1]) {
            b.node[0] = node;
            const found = findShard(tracked, b, 0);
            // Flows of different shards may share a reply tuple when none is masqueraded: any of their shards is right.
            expect(ctFind4(ct, found, node, TCP, f.backend, seen.src, reply, 1)).toBeGreaterThanOrEqual(0);
            if (f.masquerade) expect(found).toBe(lane);
          }
        }
      }),
      { seed, numRuns: 40 },
    );
  });

  it('would be lost by hashing the translated reply', () => {
    let lost = 0;
    const flows = 20_000;
    for (let i = 0; i < flows; i++) {
      const client = address(10, i % 97);
      const lane = shardOfTuple4(client, address(11, i % 13), 1024 + i, 80, TCP);
      if (shardOfTuple4(address(12, i % 31), client, 80, 1024 + i, TCP) !== lane) lost++;
    }
    expect(lost / flows).toBeGreaterThan(0.98);
  });
});

describe('the shard of a tuple', () => {
  it('stays when the source port grows by 256, in both families', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer(),
        fc.integer({ min: 0, max: 65_279 }),
        fc.nat(65_535),
        (a, d, sport, dport) => {
          expect(shardOfTuple4(a, d, sport + 256, dport, TCP)).toBe(shardOfTuple4(a, d, sport, dport, TCP));
          expect(shardOfTuple6(1, 2, 3, a, 4, 5, 6, d, sport + 256, dport, TCP)).toBe(
            shardOfTuple6(1, 2, 3, a, 4, 5, 6, d, sport, dport, TCP),
          );
        },
      ),
      { seed },
    );
  });

  it('spreads clients with one port each evenly', () => {
    const counts = new Int32Array(SHARDS);
    const clients = 256 * 200;
    for (let i = 0; i < clients; i++) counts[shardOfTuple4(address(10, i), address(11, 1), 40_000, 443, TCP)]++;
    // 200 expected a shard, standard deviation 14: six of them are far beyond chance.
    expect(Math.max(...counts)).toBeLessThan(290);
    expect(Math.min(...counts)).toBeGreaterThan(110);
  });
});
