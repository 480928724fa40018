/** What shards share in the ipvs mode, and the whole mode against random frames. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNTERS } from '../../engine/src/programs/count.ts';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { endDueConnections } from '../../engine/src/programs/ipvs-connection.ts';
import { activeOf, inactiveOf } from '../../engine/src/programs/ipvs-load.ts';
import {
  attachIpvsState,
  forgetIpvsShard,
  ipvsStateParts,
  tickIpvsState,
} from '../../engine/src/programs/ipvs-state.ts';
import {
  CONN_INACTIVE,
  connCount,
  connFlags,
  connNext,
  connNode,
  connRealServer,
} from '../../engine/src/tables/ipvs-connections.ts';
import {
  countServers,
  RS_ID,
  realWord,
  SCHED_LBLC,
  SCHED_LC,
  SCHED_MH,
  SCHED_NQ,
  SCHED_RR,
  SCHED_WLC,
  SCHED_WRR,
  serverWord,
  VS_COUNT,
  VS_PERSISTENT,
} from '../../engine/src/tables/ipvs-services.ts';
import { HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, TABLE_NAT } from '../../engine/src/tables/rule-list.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../engine/src/wire/tcp.ts';
import { attachDatapath, changeImage, takeImage, takeState } from '../../engine/src/worker/transfer.ts';
import { runs } from '../tables/runs.ts';
import { client, nodeOne, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { type Entry, sendAnswers, sendOne, tcp, udp, unaccounted } from './fixture.ts';
import { buildIpvsDatapath, type IpvsOptions, setIpvs } from './ipvs-fixture.ts';
import { dst, mark, masquerade, ruleList, setMark } from './rules.ts';

const VIP = svcOne[4];
const reals = [
  { address: podTwo[4], port: 8080 },
  { address: podThree[4], port: 8080 },
  { address: nodeOne[4], port: 6443 },
];

function connect(dp: Datapath, shard: number, sport: number, timeMs: number): string {
  const { tuple } = sendOne(dp, { pod: podOne, shard, timeMs }, tcp(podOne[4], sport, VIP, 80, TCP_SYN));
  return tuple.split(' -> ')[1]!;
}

/** Counts of every real server as one shard sees them, against all connections that stand, counted one by one. */
function checkCounts(dp: Datapath): void {
  const state = dp.ipvsState!;
  const { services } = dp.ipvs!;
  const t = state.connections;
  let rows = 0;
  for (let server = 0; server < countServers(services); server++) rows += serverWord(services, server, VS_COUNT);
  for (const node of [0, 1]) {
    for (let real = 0; real < rows; real++) {
      const id = realWord(services, real, RS_ID);
      const want = [0, 0];
      for (let shard = 0; shard < t.shards; shard++) {
        for (let at = connNext(t, shard, -1); at !== -1; at = connNext(t, shard, at)) {
          if (connNode(t, at) !== node || connRealServer(t, at) !== id) continue;
          want[(connFlags(t, at) & CONN_INACTIVE) !== 0 ? 1 : 0]!++;
        }
      }
      expect([activeOf(state, 0, node, id), inactiveOf(state, 0, node, id)]).toEqual(want);
    }
  }
}

describe('shards', () => {
  for (const scheduler of [SCHED_RR, SCHED_WRR]) {
    it(`do not all begin a round robin (${scheduler}) at one server: each connection of a tick goes to another`, () => {
      const dp = buildIpvsDatapath({ shards: 4, flows: 4096, servers: [{ address: VIP, port: 80, scheduler, reals }] });
      const taken = new Map<string, number>();
      for (let tick = 0; tick < 30; tick++) {
        for (let shard = 0; shard < 4; shard++) {
          const real = connect(dp, shard, 1000 + tick * 4 + shard, tick * 100);
          taken.set(real, (taken.get(real) ?? 0) + 1);
        }
        tickIpvsState(dp.ipvsState!, tick * 100 + 99);
      }
      expect([...taken.values()].every((count) => count >= 30 && count <= 50)).toBe(true);
      expect(taken.size).toBe(3);
    });
  }

  it("see each other's connections from the next tick on", () => {
    const dp = buildIpvsDatapath({
      shards: 2,
      flows: 64,
      servers: [{ address: VIP, port: 80, scheduler: SCHED_LC, reals }],
    });
    // The list stands newest first, and a load of 0 is beaten by nobody: shard 1 does not see what shard 0 has taken.
    const first = connect(dp, 0, 1, 0);
    expect(connect(dp, 1, 2, 0)).toBe(first);
    expect(connect(dp, 1, 3, 0)).not.toBe(first);
    tickIpvsState(dp.ipvsState!, 50);
    checkCounts(dp);
    expect(connect(dp, 0, 4, 60)).not.toBe(first);
  });

  it('count everything anew when one had no room for its writes, or its worker died', () => {
    const many = Array.from({ length: 300 }, (_, i) => ({ address: `10.244.1.${i % 250}`, port: 1000 + i }));
    const dp = buildIpvsDatapath({ shards: 2, flows: 2048, servers: [{ address: VIP, port: 80, reals: many }] });
    for (let i = 0; i < 600; i++) connect(dp, 0, 1000 + i, 0);
    for (let i = 0; i < 20; i++) connect(dp, 1, 2000 + i, 0);
    tickIpvsState(dp.ipvsState!, 100);
    checkCounts(dp);
    connect(dp, 1, 3000, 150);
    forgetIpvsShard(dp.ipvsState!, 0);
    expect([connCount(dp.ipvsState!.connections, 0), connCount(dp.ipvsState!.connections, 1)]).toEqual([0, 21]);
    tickIpvsState(dp.ipvsState!, 200);
    checkCounts(dp);
  });

  it('go to a thread and come back: image and state are shared buffers', () => {
    const options: IpvsOptions = { shards: 2, flows: 64, servers: [{ address: VIP, port: 80, reals }] };
    const dp = buildIpvsDatapath(options);
    const other = attachDatapath(takeImage(dp), takeState(dp), new Float64Array(COUNTERS));
    const real = connect(other, 1, 40_000, 0);
    const again = sendOne(dp, { pod: podOne, shard: 1 }, tcp(podOne[4], 40_000, VIP, 80, TCP_ACK));
    expect(again.tuple).toBe(`${podOne[4]}:40000 -> ${real}`);
    setIpvs(dp, { servers: [] });
    changeImage(other, takeImage(dp));
    expect(sendOne(other, { pod: podOne }, tcp(podOne[4], 1, VIP, 80, TCP_SYN)).verdict).toBe('forwarded');
    expect(() => attachIpvsState({ ...ipvsStateParts(dp.ipvsState!), shared: new SharedArrayBuffer(64) })).toThrow(
      'not a table',
    );
  });
});

// ---- random frames --------------------------------------------------------------------------------------------------

const rules = ruleList(2, { POST: [masquerade(0, mark(0x4000))], MARK: [setMark(0x4000, dst(VIP))] }, [
  { hook: HOOK_POSTROUTING, table: TABLE_NAT, chain: 'POST' },
  { hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'MARK' },
  { hook: HOOK_OUTPUT, table: TABLE_NAT, chain: 'MARK' },
]);

const ADDRESSES = [podOne[4], podTwo[4], podThree[4], nodeOne[4], client[4], VIP];
const FLAGS = [TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK, TCP_ACK | TCP_FIN, TCP_RST];
const ENTRIES: readonly Entry[] = [{ pod: podOne }, { pod: podTwo }, { host: 0 }, { uplink: 0 }, { uplink: 1 }];

const sent = fc.record({
  entry: fc.constantFrom(...ENTRIES),
  from: fc.constantFrom(...ADDRESSES),
  to: fc.constantFrom(...ADDRESSES, VIP, VIP),
  sport: fc.constantFrom(80, 8080, 6443, 40_000, 40_001),
  dport: fc.constantFrom(80, 53, 8080, 6443, 40_000, 40_001),
  flags: fc.constantFrom(...FLAGS),
  isUdp: fc.boolean(),
  wait: fc.constantFrom(0, 0, 0, 5, 1000, 61_000, 400_000),
  shard: fc.nat(1),
  change: fc.option(fc.record({ weights: fc.tuple(fc.nat(2), fc.nat(2), fc.nat(2)), keep: fc.nat(3) }), { freq: 12 }),
  tick: fc.boolean(),
});

describe('random frames', () => {
  it('end once each, with right checksums, and leave counts that agree with the connections', () => {
    const scheduler = fc.constantFrom(SCHED_RR, SCHED_WRR, SCHED_WLC, SCHED_NQ, SCHED_MH, SCHED_LBLC);
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2),
        scheduler,
        fc.boolean(),
        fc.array(sent, { maxLength: 80 }),
        (shards, kind, isPersistent, frames) => {
          const servers = (weights: readonly number[], keep: number) => {
            const list = reals.map((real, i) => ({ ...real, weight: weights[i]! })).slice(0, keep);
            const more = isPersistent ? { flags: VS_PERSISTENT, timeoutMs: 30_000 } : {};
            return [
              { address: VIP, port: 80, scheduler: kind, reals: list, ...more },
              { address: VIP, port: 53, proto: 17, scheduler: kind, reals: list, ...more },
            ];
          };
          const options = { shards, flows: 64, rules4: rules };
          const dp = buildIpvsDatapath({ ...options, servers: servers([1, 1, 1], 3) });
          let timeMs = 0;
          for (const { entry, from, to, sport, dport, flags, isUdp, wait, shard, change, tick } of frames) {
            timeMs += wait;
            if (change !== null) setIpvs(dp, { ...options, servers: servers(change.weights, change.keep) });
            const whole = isUdp ? udp(from, sport, to, dport) : tcp(from, sport, to, dport, flags);
            const outcome = sendOne(dp, { ...entry, timeMs, shard: shard % shards }, whole);
            expect(outcome.wrong).toBe(0);
            for (const answer of sendAnswers(dp)) expect(answer.wrong).toBe(0);
            if (tick) tickIpvsState(dp.ipvsState!, timeMs);
          }
          expect(unaccounted(dp)).toBe(0);
          tickIpvsState(dp.ipvsState!, timeMs);
          setIpvs(dp, { ...options, servers: servers([1, 1, 1], 3) });
          checkCounts(dp);
          for (let shard = 0; shard < shards; shard++) endDueConnections(dp, shard, timeMs + 2_000_000);
          tickIpvsState(dp.ipvsState!, timeMs + 2_000_000);
          for (let shard = 0; shard < shards; shard++) expect(connCount(dp.ipvsState!.connections, shard)).toBe(0);
          checkCounts(dp);
        },
      ),
      runs(150),
    );
  });
});
