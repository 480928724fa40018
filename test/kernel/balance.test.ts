/**
 * Balanced choices: over many new flows the kernel's random rules and flatpath's hash both spread them evenly over the
 * backends, and alike. Chi-square; a fair choice fails once in a million runs.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Mode } from '../../control/src/model/datapath.ts';
import { address, reachableService, worldOf } from '../conformance/matrix-world.ts';
import { endpoint, type WorldFamily } from '../conformance/world.ts';
import type { Flow, Place } from './case.ts';
import { FlatpathNode } from './flatpath-node.ts';
import { Conversation, findMark, markBytes } from './forge.ts';
import { modelOf } from './model.ts';
import { NodeNamespace, sysctls } from './node-namespace.ts';
import { hex, viewPacket } from './packet-view.ts';
import { JUDGED_MODES, routesLoopback, rulesetOf } from './ruleset.ts';
import { canJudge } from './tools.ts';

const FLOWS = 3000;
const BATCH = 500;
/** Upper tail of the normal distribution that one in a million lies beyond. */
const ONE_IN_A_MILLION = 4.753;
const CLIENT: Place = { kind: 'pod', pod: 'client-1' };

const available = canJudge();
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-balance-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Services of so many backends each, all on the other node, so that nothing is masqueraded. */
const SIZES = [2, 3, 7, 40];

function flowTo(service: number, family: WorldFamily, id: number): Flow {
  return {
    id,
    features: [],
    family,
    protocol: 'udp',
    from: CLIENT,
    source: address(family, 'pod1', 2),
    destination: address(family, 'cluster', service + 1),
    sport: 10_000 + id,
    dport: 80,
    ttl: 64,
    tos: 0,
    label: 0,
    dress: 'plain',
    steps: [{ kind: 'packet', from: 'client', form: 'datagram' }],
  };
}

/** How many packets reached each destination; a packet that went elsewhere than to the other node counts as lost. */
function tally(packets: readonly Uint8Array[], backends: number, family: WorldFamily): number[] {
  const counts = new Array<number>(backends).fill(0);
  for (const packet of packets) {
    const { destination } = viewPacket(packet)!;
    const host = family === 4 ? Number(destination.split('.')[3]) : Number.parseInt(destination.slice(-4), 16);
    expect(host).toBeGreaterThanOrEqual(10);
    expect(host).toBeLessThan(10 + backends);
    counts[host - 10]!++;
  }
  return counts;
}

/** Pearson's statistic of some counts against what was expected. */
function chiSquare(counts: readonly number[], expected: (at: number) => number): number {
  return counts.reduce((sum, count, at) => sum + (count - expected(at)) ** 2 / expected(at), 0);
}

/** What the statistic exceeds once in a million times (Wilson and Hilferty's approximation). */
function limitOf(freedom: number): number {
  const spread = 2 / (9 * freedom);
  return freedom * (1 - spread + ONE_IN_A_MILLION * Math.sqrt(spread)) ** 3;
}

describe.runIf(available).each(JUDGED_MODES)('%s', (mode: Mode) => {
  it('spreads new flows over the backends as the kernel does', { timeout: 600_000 }, async () => {
    const world = worldOf(
      SIZES.map((size, i) =>
        reachableService(i + 1, 'UDP', () => [], {
          slices: ([4, 6] as const).map((family) => ({
            family,
            ports: [{ name: 'p', protocol: 'UDP', port: 8080 }],
            endpoints: Array.from({ length: size }, (_, host) =>
              endpoint(address(family, 'pod2', 10 + host), 'node-2'),
            ),
          })),
        }),
      ),
    );
    const model = modelOf({ world, tcpBeLiberal: false, policies: [], profile: 'kubernetes' });
    const settings = sysctls(routesLoopback(mode, model), false);
    const space = await NodeNamespace.make(world, folder, settings, rulesetOf(mode, model));
    const node = new FlatpathNode(model, mode, SIZES.length * FLOWS);
    try {
      for (const [service, size] of SIZES.entries()) {
        for (const family of [4, 6] as const) {
          const flows = Array.from({ length: FLOWS }, (_, id) => flowTo(service, family, id));
          const packets = flows.map(
            (flow) => new Conversation(flow).packets({ kind: 'packet', from: 'client', form: 'datagram' }, flow)[0]!,
          );
          const out: Uint8Array[] = [];
          for (let at = 0; at < packets.length; at += BATCH)
            out.push(...(await space.pass(packets.slice(at, at + BATCH), CLIENT)));
          expect(new Set(out.map(findMark)).size, `packets of ${hex(markBytes(0))}…`).toBe(FLOWS);
          const kernel = tally(out, size, family);
          const flatpath = tally(
            packets.map((packet) => node.sendByHash(packet, CLIENT, 100).outgoing[0]!.packet),
            size,
            family,
          );
          const words = `${size} backends over IPv${family}: kernel ${kernel}, flatpath ${flatpath}`;
          const even = () => FLOWS / size;
          expect(chiSquare(kernel, even), words).toBeLessThan(limitOf(size - 1));
          expect(chiSquare(flatpath, even), words).toBeLessThan(limitOf(size - 1));
          // The two samples against what they have in common.
          const common = (at: number) => (kernel[at]! + flatpath[at]!) / 2;
          const apart = chiSquare(kernel, common) + chiSquare(flatpath, common);
          expect(apart, words).toBeLessThan(limitOf(size - 1));
        }
      }
    } finally {
      await space.remove();
    }
  });
});
