/**
 * Random packets through the ebpf mode: every frame ends once, right in its bytes, and its reply finds its way back to
 * the very address and port that the client spoke to.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNT_ENTERED, countOf } from '../../engine/src/programs/count.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { ctFlows } from '../../engine/src/tables/conntrack.ts';
import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK, frameOffset } from '../../engine/src/wire/burst.ts';
import { makeWorld, type Outcome, type Packet, reply, send, service, slices, type World } from './ebpf-fixture.ts';

const SEED = process.env['FLATPATH_SEED'];
const runs = (numRuns: number) => ({ numRuns, ...(SEED === undefined ? {} : { seed: Number(SEED) }) });

const PODS4 = { client: '10.244.0.10', 'web-1': '10.244.0.11', 'web-2': '10.244.1.12', 'web-3': '10.244.2.13' };
const PODS6 = {
  client: 'fd00:10:244::10',
  'web-1': 'fd00:10:244::11',
  'web-2': 'fd00:10:244:1::12',
  'web-3': 'fd00:10:244:2::13',
};

function objects(): object[] {
  return [
    service('web', 10, [{ port: 80, nodePort: 30_080 }], { externalIPs: ['198.18.7.7', '2001:db8:7::7'] }),
    ...slices('web', [{ port: 8080 }], ['client', 'web-1', 'web-2', 'web-3']),
    service('dns', 11, [{ port: 53, nodePort: 30_053, protocol: 'UDP' }], { externalTrafficPolicy: 'Local' }),
    ...slices('dns', [{ port: 5353, protocol: 'UDP' }], ['web-1', 'web-2', 'web-3']),
    service('sig', 12, [{ port: 30_036, nodePort: 30_036, protocol: 'SCTP' }]),
    ...slices('sig', [{ port: 30_036, protocol: 'SCTP' }], ['web-1', 'web-2']),
    service('none', 13, [{ port: 80, nodePort: 30_081 }]),
  ];
}

const options = fc.record({
  socketLB: fc.boolean(),
  algorithm: fc.constantFrom('random' as const, 'maglev' as const),
  loadBalancerMode: fc.constantFrom('snat' as const, 'dsr' as const),
  externalClusterIP: fc.boolean(),
});

const protocol = fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const);
const port = fc.constantFrom(80, 53, 30_080, 30_053, 30_036, 30_081, 8080, 9999);

const packet: fc.Arbitrary<Packet> = fc.boolean().chain((v6) => {
  const pods = v6 ? PODS6 : PODS4;
  const from = fc.oneof(
    fc.constantFrom(...(Object.keys(pods) as (keyof typeof pods)[])).map((name) => ({ from: name, src: pods[name] })),
    fc.constant({ from: 'outside', src: v6 ? '2001:db8:ffff::7' : '203.0.113.7' }),
    fc.constant({ from: 'outside', src: v6 ? '2001:db8:ffff::8' : '203.0.113.8' }),
    fc.constant({ from: 'host', src: v6 ? '2001:db8::1' : '192.168.0.1' }),
    fc.constant({ from: 'unlisted', src: v6 ? 'fd00:10:244::77' : '10.244.0.77' }),
  );
  const dst = fc.constantFrom(
    ...(v6
      ? ['fd00:10:96::10', 'fd00:10:96::11', 'fd00:10:96::12', 'fd00:10:96::13', '2001:db8:7::7', '2001:db8::1']
      : ['10.96.0.10', '10.96.0.11', '10.96.0.12', '10.96.0.13', '198.18.7.7', '192.168.0.1']),
    ...(v6 ? ['2001:db8::2', '2001:db8::3', '2001:db8:eeee::1'] : ['192.168.0.2', '192.168.0.3', '192.0.2.1']),
    ...Object.values(pods),
  );
  return fc
    .record({
      sender: from,
      dst,
      dport: port,
      sport: fc.integer({ min: 1024, max: 1100 }),
      protocol,
      flowHash: fc.integer(),
      bytes: fc.nat({ max: 60 }),
    })
    .map(({ sender, bytes, ...rest }) => ({ ...sender, ...rest, payload: new Uint8Array(bytes) }));
});

/** A client of its own for each packet, so that no two of them share a tuple. */
const withOwnPort = (packets: Packet[]): Packet[] => packets.map((one, i) => ({ ...one, sport: 2000 + i }));

describe('random packets', () => {
  it('end right, and their replies return to where they came from', () => {
    fc.assert(
      fc.property(options, fc.array(packet, { minLength: 1, maxLength: 25 }), (ebpf, packets) => {
        const world = makeWorld(objects(), { datapath: { ebpf } });
        withOwnPort(packets).forEach((one, i) => {
          const out = send(world, { ...one, timeMs: i * 10 });
          expect(out.wrong).toBe(0);
          if (out.verdict === 'dropped' || out.verdict === 'rejected') return;
          checkReply(one, reply(world, out, { protocol: one.protocol, timeMs: i * 10 + 5 }), out);
        });
      }),
      runs(40),
    );
  });

  it('are counted once each, whatever bytes they are', () => {
    fc.assert(
      fc.property(options, fc.array(fc.uint8Array({ maxLength: 120 }), { maxLength: 40 }), (ebpf, frames) => {
        const world = makeWorld(objects(), { datapath: { ebpf }, flows: 8 });
        for (const [i, bytes] of frames.entries()) sendBytes(world, bytes, i);
        const { counters } = world.dp;
        let ended = 0;
        for (let verdict = 1; verdict <= 4; verdict++) {
          for (let reason = 0; reason < 256; reason++) ended += counters[countOf(verdict, reason)]!;
        }
        expect(ended).toBe(counters[COUNT_ENTERED]);
        expect(ended).toBe(frames.length);
        expect(ctFlows(world.dp.conntrack4, 0)).toBeLessThanOrEqual(8);
      }),
      runs(40),
    );
  });
});

function checkReply(sent: Packet, back: Outcome, out: Outcome): void {
  expect(back.wrong).toBe(0);
  expect(['delivered', 'forwarded']).toContain(back.verdict);
  expect({ src: back.src, sport: back.sport }).toEqual({ src: sent.dst, sport: sent.dport });
  expect({ dst: back.dst, dport: back.dport }).toEqual({ dst: sent.src, dport: sent.sport });
  expect(back.pod).toBe(sent.from in PODS4 ? sent.from : null);
  expect(out.family).toBe(back.family);
}

/** Mutated headers: an IPv4 or IPv6 beginning in front of noise, from any entry. */
function sendBytes({ dp, burst: b }: World, bytes: Uint8Array, i: number): void {
  const frame = new Uint8Array(54 + bytes.length);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...(i % 2 === 0 ? [8, 0, 0x45] : [0x86, 0xdd, 0x60])]);
  frame.set(bytes, 15);
  b.bytes.set(frame, frameOffset(b, 0));
  b.len[0] = frame.length;
  b.node[0] = i % 3;
  b.entry[0] = [ENTRY_POD, ENTRY_HOST, ENTRY_UPLINK][i % 3]!;
  b.endpoint[0] = -1;
  b.shard[0] = 0;
  b.timeMs[0] = i;
  b.choice[0] = -1;
  b.flowHash[0] = i;
  b.reason[0] = 0;
  runBurst(dp, b, 1);
}
