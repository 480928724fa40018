/** Sampling against the weights themselves, and what a stream may not be. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileTraffic } from '../../engine/src/traffic/compile.ts';
import { flowPorts } from '../../engine/src/traffic/flow.ts';
import {
  buildAlias,
  drawAlias,
  drawUniform,
  packetHash,
  windowHash,
  zipfWeights,
} from '../../engine/src/traffic/sample.ts';
import { shardOfTuple4 } from '../../engine/src/traffic/shard.ts';
import { PEER_ADDRESS, PEER_WORDS, type StreamSpec } from '../../engine/src/traffic/stream.ts';
import { service } from './small-cluster.ts';
import { fromPod, stream, toService } from './streams.ts';

const seed = Number(process.env.FLATPATH_SEED) || undefined;

describe('an alias table', () => {
  it('gives every choice its exact share: limits and aliases add up to the weights', () => {
    const weights = fc.array(fc.nat(1000), { minLength: 1, maxLength: 50 }).filter((all) => all.some((w) => w > 0));
    fc.assert(
      fc.property(weights, fc.nat(20), (all, base) => {
        const limit = new Int32Array(base + all.length);
        const alias = new Int32Array(base + all.length);
        buildAlias(all, limit, alias, base);
        const share = new Float64Array(all.length);
        for (let i = 0; i < all.length; i++) {
          const own = (limit[base + i] >>> 0) / 2 ** 32;
          share[i] += own / all.length;
          share[alias[base + i]] += (1 - own) / all.length;
        }
        const total = all.reduce((sum, w) => sum + w, 0);
        for (let i = 0; i < all.length; i++) {
          expect(Math.abs(share[i] - all[i] / total)).toBeLessThan(1e-8);
          if (all[i] === 0) expect(share[i]).toBeLessThan(1e-9);
        }
      }),
      { seed },
    );
  });

  it('draws a Zipf distribution from packet hashes', () => {
    const flows = 100;
    const weights = zipfWeights(flows, 1.2);
    const limit = new Int32Array(flows);
    const alias = new Int32Array(flows);
    buildAlias(weights, limit, alias, 0);
    const counts = new Float64Array(flows);
    const packets = 400_000;
    for (let k = 0; k < packets; k++) {
      counts[drawAlias(limit, alias, 0, flows, packetHash(windowHash(11, Math.floor(k / 255)), k % 255))]++;
    }
    const total = weights.reduce((sum, w) => sum + w, 0);
    for (let i = 0; i < flows; i++) {
      const expected = (packets * weights[i]) / total;
      expect(Math.abs(counts[i] - expected)).toBeLessThan(6 * Math.sqrt(expected));
    }
  });

  it.each([[[]], [[0, 0]], [[-1, 2]], [[Number.NaN]], [[Infinity]]])('refuses the weights %j', (weights) => {
    expect(() => buildAlias(weights, new Int32Array(9), new Int32Array(9), 0)).toThrow(RangeError);
  });
});

it('a uniform draw stays below n for every hash', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1 << 24 }), fc.integer(), (n, hash) => {
      const drawn = drawUniform(n, hash);
      expect(drawn).toBeGreaterThanOrEqual(0);
      expect(drawn).toBeLessThan(n);
    }),
    { seed },
  );
  expect(drawUniform(1 << 24, -1)).toBe((1 << 24) - 1);
});

describe('compiled streams', () => {
  const valid = stream({
    sources: [fromPod(0, 4), fromPod(1, 4)],
    destinations: [toService(service(1), 4)],
    flows: 1000,
  });
  const compile = (changes: Partial<StreamSpec>) =>
    compileTraffic({ seed: 1, packets: 1, packetsPerSecond: 1, streams: [{ ...valid, ...changes }] });

  it('never give two flows of a pair one port, and keep a flow in its shard through all generations', () => {
    const { flows, words, peers } = compile({ portFirst: 2000, portCount: 3000 });
    const used = new Map<string, number>();
    for (let flow = 0; flow < flows.count; flow++) {
      for (let generation = 0; generation < 12; generation++) {
        const ports = flowPorts(flows.words, flow, generation, words, 0, peers);
        const source = flow % 2;
        const key = `${source}/${ports >>> 16}`;
        expect(used.get(key) ?? flow).toBe(flow);
        used.set(key, flow);
        expect(ports >>> 16).toBeGreaterThanOrEqual(2000);
        expect(ports >>> 16).toBeLessThan(5000);
        const address = peers[source * PEER_WORDS + PEER_ADDRESS];
        const target = peers[2 * PEER_WORDS + PEER_ADDRESS];
        expect(shardOfTuple4(address, target, ports >>> 16, ports & 0xffff, 6)).toBe(flows.shards[flow]);
      }
    }
  });

  it.each<[string, Partial<StreamSpec>]>([
    ['family', { family: 5 }],
    ['protocol', { proto: 47 }],
    ['protocol', { proto: 58 }],
    ['no source', { sources: [] }],
    ['no destination', { destinations: [] }],
    ['flows', { flows: 0 }],
    ['source ports', { portFirst: 0 }],
    ['end beyond', { portFirst: 65_000, portCount: 600 }],
    ['500 flows from one source to one destination, but 499', { portCount: 499 }],
    ['share of new flows', { newFlows: 1.1 }],
    ['skew', { skew: -1 }],
    ['no packet size', { sizes: [] }],
    ['a frame of 53 bytes', { sizes: [{ bytes: 53, weight: 1 }] }],
    ['a frame of 3000 bytes', { sizes: [{ bytes: 3000, weight: 1 }] }],
  ])('refuse what no client could send: %s', (message, changes) => {
    expect(() => compile(changes)).toThrow(message);
    expect(() => compile(changes)).toThrow(RangeError);
  });
});
