import { describe, expect, it } from 'vitest';
import { attachMasqueradePorts, createMasqueradePorts, masqueradeTick } from '../../engine/src/programs/masquerade.ts';
import { NAT_OUTBOUND, NAT_SOURCE } from '../../engine/src/programs/verdict.ts';
import {
  HOOK_POSTROUTING,
  MASQUERADE_OUTBOUND,
  MASQUERADE_RANDOM_FULLY,
  TABLE_NAT,
} from '../../engine/src/tables/rule-list.ts';
import { client, nodeOne, podOne, podThree } from './addresses.ts';
import { buildDatapath, type DatapathOptions, frame, type Outcome, send, sendOne, tcp, udp } from './fixture.ts';
import { masquerade, type Rule, ruleList, snat } from './rules.ts';

const SYN = 0x02;
const RANDOM = MASQUERADE_RANDOM_FULLY;

function nat(rule: Rule, options: DatapathOptions = {}): ReturnType<typeof buildDatapath> {
  const rules = ruleList(2, { POST: [rule] }, [{ hook: HOOK_POSTROUTING, table: TABLE_NAT, chain: 'POST' }]);
  return buildDatapath({ ...options, rules4: rules, rules6: rules });
}
const portOf = (out: Outcome) => Number(out.tuple.split(' ')[0]!.split(':').pop());

describe('masquerade', () => {
  it('gives every one of the 64,512 ports once, then drops, and reclaims at expiry', () => {
    const dp = nat(masquerade(RANDOM), { flows: 66_000 });
    const ports = new Set<number>();
    for (let sport = 1024; sport < 65_536; sport += 256) {
      const frames = Array.from({ length: 256 }, (_, i) => udp(podOne[4], sport + i, client[4], 53, ''));
      for (const out of send(dp, { pod: podOne, flowHash: sport }, ...frames)) ports.add(portOf(out));
    }
    expect(ports.size).toBe(64_512);
    expect(Math.min(...ports)).toBe(1024);
    const refused = sendOne(dp, { pod: podThree }, udp(podThree[4], 5000, client[4], 53));
    expect(`${refused.verdict} ${refused.reason}`).toBe('dropped no-nat-mapping');
    // Another destination has all ports of its own.
    expect(sendOne(dp, { pod: podThree }, udp(podThree[4], 5000, client[4], 54)).verdict).toBe('forwarded');
    const later = sendOne(dp, { pod: podThree, timeMs: 30_000 }, udp(podThree[4], 5000, client[4], 53));
    expect(later.verdict).toBe('forwarded');
  });

  it('keeps low ports low, as the kernel’s ranges say', () => {
    const dp = nat(masquerade(RANDOM));
    for (let i = 0; i < 40; i++) {
      const low = portOf(sendOne(dp, { pod: podOne, flowHash: i * 77 }, udp(podOne[4], 100 + i, client[4], 53)));
      expect(low).toBeGreaterThanOrEqual(1);
      expect(low).toBeLessThanOrEqual(511);
      const system = portOf(sendOne(dp, { pod: podOne, flowHash: i * 77 }, udp(podOne[4], 512 + i, client[4], 53)));
      expect(system).toBeGreaterThanOrEqual(600);
      expect(system).toBeLessThanOrEqual(1023);
    }
  });

  it('keeps the source port if it is free and random-fully was not asked for', () => {
    const dp = nat(masquerade(0));
    expect(portOf(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, client[4], 53)))).toBe(5000);
    expect(portOf(sendOne(dp, { pod: podThree }, udp(podThree[4], 5000, client[4], 53)))).not.toBe(5000);
  });

  it('tells the CNI’s masquerade from a Service’s, in both directions of the flow’s life', () => {
    const dp = nat(masquerade(RANDOM | MASQUERADE_OUTBOUND));
    const first = sendOne(dp, { pod: podOne }, tcp(podOne[4], 5000, client[4], 443, SYN));
    expect(first.nat).toBe(NAT_OUTBOUND);
    expect(sendOne(dp, { pod: podOne }, tcp(podOne[4], 5000, client[4], 443, SYN)).nat).toBe(NAT_OUTBOUND);
    const service = nat(masquerade(RANDOM));
    expect(sendOne(service, { pod: podOne }, tcp(podOne[4], 5000, client[4], 443, SYN)).nat).toBe(NAT_SOURCE);
  });

  it('gives ICMP queries an identifier, and the reply its own back', () => {
    for (const family of [4, 6] as const) {
      const dp = nat(masquerade(RANDOM));
      const echo = (from: string, to: string, type: number, id: number) =>
        frame(from, to, { protocol: family === 4 ? 'icmp' : 'icmpv6', type, id }, new Uint8Array(8));
      const there = sendOne(dp, { pod: podOne }, echo(podOne[family], client[family], family === 4 ? 8 : 128, 77));
      expect(there.wrong).toBe(0);
      const id = portOf(there);
      const back = sendOne(dp, { uplink: 0 }, echo(client[family], nodeOne[family], family === 4 ? 0 : 129, id));
      expect(back.verdict).toBe('delivered');
      expect(back.target).toBe(podOne.index);
      expect(portOf(back)).toBe(77);
      expect(back.wrong).toBe(0);
    }
  });

  it('drops where the node has no address of the family', () => {
    const dp = nat(masquerade(RANDOM));
    dp.topology.nodeAddress4[0] = 0;
    expect(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, client[4], 53)).reason).toBe('no-nat-mapping');
  });
});

describe('shards', () => {
  const out = (dp: ReturnType<typeof buildDatapath>, shard: number, sport: number, timeMs = 0) =>
    sendOne(dp, { pod: podOne, shard, timeMs, flowHash: sport * 2654435761 }, udp(podOne[4], sport, client[4], 53));
  let sport = 10_000;
  /** Sends new flows of a shard until one is refused; the ports that they got. */
  const fill = (dp: ReturnType<typeof buildDatapath>, shard: number, timeMs = 0): number[] => {
    const got: number[] = [];
    for (;;) {
      const one = out(dp, shard, sport++, timeMs);
      if (one.verdict !== 'forwarded') return got;
      got.push(portOf(one));
    }
  };

  it('hand out their own residues, and borrow at a tick until the whole range is gone', () => {
    const dp = nat(snat(nodeOne[4], 2000, 2199), { shards: 4, flows: 4096 });
    const own = fill(dp, 1);
    expect(own).toHaveLength(50);
    expect(own.every((port) => port % 4 === 1)).toBe(true);
    expect(out(dp, 1, 60_000).reason).toBe('no-nat-mapping');
    masqueradeTick(dp, 1);
    const borrowed = fill(dp, 1, 1);
    expect(borrowed).toHaveLength(64);
    masqueradeTick(dp, 2);
    const more = fill(dp, 1, 2);
    expect(more).toHaveLength(64);
    masqueradeTick(dp, 3);
    const last = fill(dp, 1, 3);
    const all = [...own, ...borrowed, ...more, ...last];
    expect(new Set(all).size).toBe(all.length);
    expect(all).toHaveLength(200);
    // The lenders have nothing left, and say so.
    expect(fill(dp, 2, 4)).toHaveLength(0);
    masqueradeTick(dp, 5);
    expect(fill(dp, 2, 5)).toHaveLength(0);
    // Half a minute later all flows have expired, and what is lent comes home at a tick.
    expect(fill(dp, 2, 40_000)).toHaveLength(0);
    masqueradeTick(dp, 40_001);
    expect(fill(dp, 2, 40_001).length).toBeGreaterThanOrEqual(50);
  });

  it('never give one port twice, and owners pass over what they lent', () => {
    const dp = nat(snat(nodeOne[4], 3000, 3399), { shards: 4, flows: 4096 });
    fill(dp, 0);
    const first = fill(dp, 0, 1);
    expect(first).toHaveLength(0);
    masqueradeTick(dp, 2);
    const all: number[] = [];
    for (const shard of [3, 2, 1, 0]) all.push(...fill(dp, shard, 3));
    for (let tick = 4; tick < 9; tick++) {
      masqueradeTick(dp, tick);
      for (const shard of [1, 3, 0, 2]) all.push(...fill(dp, shard, tick));
    }
    expect(new Set(all).size).toBe(all.length);
    expect(all).toHaveLength(300);
  });

  it('get the same ports whatever the order in which they run between ticks', () => {
    const run = (orders: number[][]): string => {
      const dp = nat(snat(nodeOne[4], 3000, 3199), { shards: 4, flows: 4096 });
      const got: string[] = [];
      orders.forEach((order, tick) => {
        for (const shard of order) {
          for (let i = 0; i < 40; i++) {
            const one = out(dp, shard, 10_000 + tick * 200 + shard * 40 + i, tick);
            got.push(`${tick} ${shard} ${i} ${one.reason} ${portOf(one)}`);
          }
        }
        masqueradeTick(dp, tick);
      });
      return got.sort().join('\n');
    };
    const forwards = run([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ]);
    expect(
      run([
        [3, 1, 0, 2],
        [2, 3, 1, 0],
        [1, 0, 3, 2],
      ]),
    ).toBe(forwards);
  });

  it('lend in both families and keep destinations apart', () => {
    const dp = nat(snat(nodeOne[6], 2000, 2007), { shards: 2, flows: 4096 });
    const to = (dport: number, sport: number, timeMs: number) =>
      sendOne(dp, { pod: podOne, shard: 0, timeMs }, udp(podOne[6], sport, client[6], dport));
    for (let i = 0; i < 4; i++) expect(to(53, 5000 + i, 0).verdict).toBe('forwarded');
    expect(to(53, 6000, 0).reason).toBe('no-nat-mapping');
    masqueradeTick(dp, 1);
    const more = to(53, 6001, 1);
    expect(portOf(more) % 2).toBe(1);
    // Of the other destination nothing is lent: shard 0 still has its own four.
    for (let i = 0; i < 4; i++) expect(portOf(to(54, 7000 + i, 1)) % 2).toBe(0);
    expect(to(54, 7010, 1).reason).toBe('no-nat-mapping');
  });
});

describe('the state', () => {
  it('is taken up by another thread, and refused when it is something else', () => {
    const ports = createMasqueradePorts(4);
    expect(attachMasqueradePorts(ports.buffer).shards).toBe(4);
    expect(() => createMasqueradePorts(0)).toThrow(RangeError);
    expect(() => attachMasqueradePorts(new SharedArrayBuffer(64))).toThrow('wrong magic number');
    const cut = new SharedArrayBuffer(ports.buffer.byteLength - 4);
    new Int32Array(cut).set(ports.words.subarray(0, cut.byteLength / 4));
    expect(() => attachMasqueradePorts(cut)).toThrow('words');
  });
});
