import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { EVENT_CHOICE, EVENT_CONNTRACK, EVENT_HOOK, EVENT_NAT, EVENT_RULE } from '../../engine/src/programs/record.ts';
import { NAT_DESTINATION, NAT_SOURCE } from '../../engine/src/programs/verdict.ts';
import { ctFlows } from '../../engine/src/tables/conntrack.ts';
import { resetEventRing } from '../../engine/src/tables/event-ring.ts';
import {
  CTSTATE_DNAT,
  CTSTATE_ESTABLISHED,
  CTSTATE_RELATED,
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  RECENT_CHECK,
  RECENT_REAP,
  RECENT_REMOVE,
  RECENT_SET,
  RECENT_UPDATE,
  REJECT_ADMIN_PROHIBITED,
  REJECT_TCP_RESET,
  RULE_TABLES,
  TABLE_FILTER,
  TABLE_NAT,
} from '../../engine/src/tables/rule-list.ts';
import { buildFrame, type FrameFields } from '../../engine/src/wire/build.ts';
import { runs } from '../tables/runs.ts';
import { client, nodeOne, nodeTwo, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import {
  buildDatapath,
  type Entry,
  frame,
  type Outcome,
  send,
  sendAnswers,
  sendOne,
  tcp,
  udp,
  unaccounted,
} from './fixture.ts';
import { kubeRules } from './kube-rules.ts';
import {
  accept,
  ctstate,
  dnat,
  dport,
  drop,
  dst,
  jump,
  masquerade,
  not,
  proto,
  recent,
  reject,
  ruleList,
  src,
  statistic,
} from './rules.ts';

const SYN = 0x02;
const ACK = 0x10;
const S = 1000;
const ends = (outcome: Outcome) => `${outcome.verdict} ${outcome.reason}`;

describe('session affinity', () => {
  const AFFINE = 60;
  const rules = () =>
    ruleList(
      2,
      {
        PREROUTING: [jump('SVC', dst(svcOne[4]), proto(6), dport(80))],
        SVC: [
          jump('SEP-TWO', recent(RECENT_CHECK | RECENT_REAP, 0, AFFINE)),
          jump('SEP-THREE', recent(RECENT_CHECK | RECENT_REAP, 1, AFFINE)),
          jump('SEP-TWO', statistic(0.5)),
          jump('SEP-THREE'),
        ],
        'SEP-TWO': [dnat(podTwo[4], 8080, proto(6), recent(RECENT_SET, 0))],
        'SEP-THREE': [dnat(podThree[4], 8080, proto(6), recent(RECENT_SET, 1))],
      },
      [{ hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'PREROUTING' }],
    );
  const connect = (
    dp: Datapath,
    from: typeof podOne | typeof podThree,
    sport: number,
    choice: number,
    timeMs: number,
  ) => {
    resetEventRing(dp.ring);
    dp.ring.script.fill(choice);
    return sendOne(dp, { pod: from, choice: 0, timeMs }, tcp(from[4], sport, svcOne[4], 80, SYN));
  };

  it('keeps a client at its endpoint until the timeout, counted from its last connection', () => {
    const dp = buildDatapath({ rules4: rules() });
    expect(connect(dp, podOne, 1000, 1, 0).target).toBe(podThree.index);
    expect(connect(dp, podOne, 1001, 0, 30 * S).target).toBe(podThree.index);
    expect(connect(dp, podOne, 1002, 0, 90 * S).target).toBe(podThree.index);
    expect(connect(dp, podOne, 1003, 0, 150 * S + 1).target).toBe(podTwo.index);
  });

  it('is by client, and by node', () => {
    const dp = buildDatapath({ rules4: rules() });
    expect(connect(dp, podOne, 1000, 1, 0).target).toBe(podThree.index);
    expect(connect(dp, podThree, 1000, 0, 0).target).toBe(podTwo.index);
    resetEventRing(dp.ring);
    dp.ring.script.fill(0);
    const elsewhere = sendOne(dp, { uplink: 1, choice: 0 }, tcp(podOne[4], 1001, svcOne[4], 80, SYN));
    expect(elsewhere.target).toBe(podTwo.index);
  });

  it('remembers the hundred newest clients of an endpoint, as xt_recent does', () => {
    const dp = buildDatapath({ rules4: rules() });
    const from = (i: number) => `203.0.113.${i}`;
    const outside = (i: number, choice: number, sport: number) => {
      resetEventRing(dp.ring);
      dp.ring.script.fill(choice);
      return sendOne(dp, { uplink: 0, choice: 0, timeMs: i }, tcp(from(i), sport, svcOne[4], 80, SYN)).target;
    };
    for (let i = 0; i < 101; i++) expect(outside(i, 1, 1000)).toBe(podThree.index);
    // The first one was forgotten, and by coming again throws out the second.
    expect(outside(100, 0, 1001)).toBe(podThree.index);
    expect(outside(2, 0, 1001)).toBe(podThree.index);
    expect(outside(0, 0, 1001)).toBe(podTwo.index);
  });

  it('updates and removes what a rule asks to', () => {
    const list = (flags: number) =>
      ruleList(2, { IN: [accept(recent(flags, 0, 10)), drop()] }, [
        { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'IN' },
      ]);
    const stamp = ruleList(2, { IN: [accept(recent(RECENT_SET, 0))] }, [
      { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'IN' },
    ]);
    const dp = buildDatapath({ rules4: stamp });
    const at = (rules: typeof stamp, timeMs: number) => {
      const other = { ...dp, iptables: { ...dp.iptables!, rules4: rules } };
      return sendOne(other, { pod: podOne, timeMs }, udp(podOne[4], 1000 + timeMs, podTwo[4], 53)).verdict;
    };
    expect(at(list(RECENT_CHECK), 0)).toBe('dropped');
    expect(at(stamp, 0)).toBe('delivered');
    expect(at(list(RECENT_UPDATE), 10 * S)).toBe('delivered');
    expect(at(list(RECENT_CHECK), 20 * S)).toBe('delivered');
    expect(at(list(RECENT_REMOVE), 21 * S)).toBe('delivered');
    expect(at(list(RECENT_CHECK), 21 * S)).toBe('dropped');
  });
});

describe('martians', () => {
  it('do not come in from outside', () => {
    const dp = buildDatapath();
    const cases: [Entry, string, string][] = [
      [{ uplink: 0 }, '127.0.0.1', nodeOne[4]],
      [{ uplink: 0 }, client[4], '127.0.0.1'],
      [{ pod: podOne }, podOne[4], '127.0.0.1'],
      [{ uplink: 0 }, nodeOne[4], podOne[4]],
      [{ uplink: 0 }, '224.0.0.5', podOne[4]],
      [{ uplink: 0 }, '255.255.255.255', podOne[4]],
      [{ uplink: 0 }, '0.0.0.1', podOne[4]],
      [{ pod: podOne }, podOne[4], '0.0.0.0'],
      [{ pod: podOne }, podOne[4], '239.1.1.1'],
      [{ uplink: 0 }, '::1', nodeOne[6]],
      [{ uplink: 0 }, client[6], '::1'],
      [{ uplink: 0 }, 'ff02::1', nodeOne[6]],
      [{ pod: podOne }, podOne[6], 'ff05::2'],
    ];
    for (const [entry, from, to] of cases) {
      expect(`${from} ${ends(sendOne(dp, entry, udp(from, 1, to, 2)))}`).toBe(`${from} dropped martian`);
    }
    expect(ctFlows(dp.conntrack4, 0) + ctFlows(dp.conntrack6, 0)).toBe(0);
  });

  it('are not the groups and broadcasts that every host listens to', () => {
    const dp = buildDatapath();
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[4], 1, '255.255.255.255', 67)))).toBe('delivered none');
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[6], 1, 'ff02::1', 2)))).toBe('delivered none');
  });

  it('are let in by route_localnet, and then the firewall decides', () => {
    const firewall = ruleList(
      2,
      {
        IN: [
          drop(
            dst('127.0.0.0', 8),
            not(src('127.0.0.0', 8)),
            not(ctstate(CTSTATE_RELATED | CTSTATE_ESTABLISHED | CTSTATE_DNAT)),
          ),
        ],
      },
      [{ hook: HOOK_INPUT, table: TABLE_FILTER, chain: 'IN' }],
    );
    const dp = buildDatapath({ rules4: firewall, routeLocalnet: true });
    expect(ends(sendOne(dp, { uplink: 0 }, udp(client[4], 1, '127.0.0.1', 53)))).toBe('dropped rule-drop');
  });
});

describe('a nodePort on 127.0.0.1', () => {
  const chains = {
    OUTPUT: [dnat(podTwo[4], 8080, dst('127.0.0.0', 8), proto(6), dport(30080))],
    POSTROUTING: [masquerade()],
  };
  const rules = ruleList(2, chains, [
    { hook: HOOK_OUTPUT, table: TABLE_NAT, chain: 'OUTPUT' },
    { hook: HOOK_POSTROUTING, table: TABLE_NAT, chain: 'POSTROUTING' },
  ]);

  it('reaches a pod of another node and comes back to 127.0.0.1', () => {
    const dp = buildDatapath({ rules4: rules, routeLocalnet: true });
    const there = sendOne(dp, { host: 0 }, tcp('127.0.0.1', 40000, '127.0.0.1', 30080, SYN));
    expect(there.target).toBe(podTwo.index);
    expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
    const port = Number(there.tuple.split(' ')[0]!.split(':').pop());
    const back = sendOne(dp, { uplink: 0 }, tcp(podTwo[4], 8080, nodeOne[4], port, SYN | ACK));
    expect(ends(back)).toBe('delivered none');
    expect(back.tuple).toBe('127.0.0.1:30080 -> 127.0.0.1:40000');
    expect(back.wrong).toBe(0);
  });

  it('loses the reply without route_localnet', () => {
    const dp = buildDatapath({ rules4: rules });
    const there = sendOne(dp, { host: 0 }, tcp('127.0.0.1', 40000, '127.0.0.1', 30080, SYN));
    const port = Number(there.tuple.split(' ')[0]!.split(':').pop());
    const back = sendOne(dp, { uplink: 0 }, tcp(podTwo[4], 8080, nodeOne[4], port, SYN | ACK));
    expect(ends(back)).toBe('dropped martian');
  });
});

describe('answers', () => {
  const forward = (kind: number) =>
    ruleList(2, { FORWARD: [reject(kind)] }, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' }]);

  it('are a reset where the rule asks for one, from the address that the client spoke to', () => {
    const chains = { PRE: [dnat(podThree[4], 8080, dst(svcOne[4]))], FORWARD: [reject(REJECT_TCP_RESET, proto(6))] };
    const rules = ruleList(2, chains, [
      { hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'PRE' },
      { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' },
    ]);
    const dp = buildDatapath({ rules4: rules });
    expect(ends(sendOne(dp, { pod: podOne }, tcp(podOne[4], 40000, svcOne[4], 80, SYN)))).toBe('rejected rule-reject');
    const [answer] = sendAnswers(dp);
    expect(answer!.tuple).toBe(`${svcOne[4]}:80 -> ${podOne[4]}:40000`);
    expect(ends(answer!)).toBe('delivered none');
    expect(answer!.wrong).toBe(0);
    // RST and ACK, acknowledging the SYN.
    expect(answer!.bytes[14 + 20 + 13]).toBe(0x14);
    expect(new DataView(answer!.bytes.buffer).getUint32(14 + 20 + 8)).toBe(1001);
  });

  it('carry the type and code of their kind', () => {
    const dp = buildDatapath({ rules4: forward(REJECT_ADMIN_PROHIBITED), rules6: forward(REJECT_ADMIN_PROHIBITED) });
    sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podThree[4], 2));
    sendOne(dp, { pod: podOne }, udp(podOne[6], 1, podThree[6], 2));
    const [four, six] = sendAnswers(dp);
    expect([four!.bytes[34], four!.bytes[35]]).toEqual([3, 13]);
    expect([six!.bytes[54], six!.bytes[55]]).toEqual([1, 1]);
  });

  it('are not sent for what is itself an answer, nor beyond their room', () => {
    const dp = buildDatapath({ rules4: forward(REJECT_ADMIN_PROHIBITED) });
    const quoted = buildFrame(udp(podThree[4], 1, podOne[4], 2)).subarray(14);
    const error = frame(podOne[4], podThree[4], { protocol: 'icmp', type: 3, code: 3 }, quoted);
    expect(ends(sendOne(dp, { pod: podOne }, error))).toBe('rejected rule-reject');
    expect(dp.answerCount).toBe(0);
    const frames = Array.from({ length: 20 }, (_, i) => udp(podOne[4], 100 + i, podThree[4], 2));
    expect(send(dp, { pod: podOne }, ...frames).every((out) => out.verdict === 'rejected')).toBe(true);
    expect(dp.answerCount).toBe(dp.answers.slots - 1);
    sendAnswers(dp);
    expect(unaccounted(dp)).toBe(0);
  });

  it('of another node come back translated on the client’s', () => {
    const chains = {
      PRE: [dnat(podTwo[4], 8080, dst(svcOne[4]))],
      FORWARD: [reject(0, dst(podTwo[4]), src(podOne[4]))],
    };
    const bases = [
      { hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'PRE' },
      { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' },
    ];
    const both = ruleList(2, chains, bases);
    // Only the second node has the filter rule.
    both.bases[HOOK_FORWARD * RULE_TABLES + TABLE_FILTER] = -1;
    const dp = buildDatapath({ rules4: both });
    expect(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, svcOne[4], 53)).node).toBe(nodeTwo.index);
    const [answer] = sendAnswers(dp);
    expect(ends(answer!)).toBe('delivered none');
    expect(answer!.target).toBe(podOne.index);
    expect(answer!.tuple).toBe(`${svcOne[4]}:0 -> ${podOne[4]}:0`);
    expect(answer!.wrong).toBe(0);
  });
});

describe('the recorder', () => {
  it('tells the story of a packet and changes nothing', () => {
    const quiet = buildDatapath({ rules4: kubeRules(4) });
    const told = buildDatapath({ rules4: kubeRules(4) });
    told.ring.on = true;
    const syn = tcp(podOne[4], 40000, svcOne[4], 80, SYN);
    const a = sendOne(quiet, { pod: podOne }, syn);
    const b = sendOne(told, { pod: podOne }, syn);
    expect(b).toEqual(a);
    const codes = new Map<number, number>();
    for (let at = 0; at < told.ring.used; at += told.ring.words[at]! >>> 8) {
      const code = told.ring.words[at]! & 255;
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    const nodes = a.target === podTwo.index ? 2 : 1;
    expect(codes.get(EVENT_CONNTRACK)).toBe(nodes);
    expect(codes.get(EVENT_NAT)).toBe(1);
    expect(codes.get(EVENT_CHOICE)).toBe(1);
    expect(codes.get(EVENT_RULE)).toBeGreaterThan(3);
    expect(codes.get(EVENT_HOOK)).toBeGreaterThan(2);
  });
});

describe('random frames', () => {
  const addresses4 = [podOne[4], podTwo[4], podThree[4], nodeOne[4], nodeTwo[4], svcOne[4], client[4], '127.0.0.1'];
  const addresses6 = [podOne[6], podTwo[6], podThree[6], nodeOne[6], nodeTwo[6], svcOne[6], client[6], '::1'];
  const port = fc.constantFrom(53, 80, 81, 8080, 8053, 30080, 30081, 40000, 40001, 500);
  const drawn = fc.record({
    four: fc.boolean(),
    from: fc.nat(7),
    to: fc.nat(7),
    kind: fc.constantFrom('tcp', 'udp', 'sctp', 'icmp', 'gre'),
    sport: port,
    dport: port,
    flags: fc.constantFrom(0x02, 0x12, 0x10, 0x11, 0x14, 0x04, 0x18, 0),
    type: fc.constantFrom(0, 8, 128, 129, 135, 13),
    chunk: fc.constantFrom(0, 1, 2, 4, 6, 7, 10, 11, 14),
    ttl: fc.constantFrom(1, 2, 64),
    entry: fc.nat(7),
    waitMs: fc.constantFrom(0, 1, 1500, 31_000),
    hash: fc.integer(),
  });
  type Drawn = typeof drawn extends fc.Arbitrary<infer T> ? T : never;
  const entryOf = (d: Drawn): Entry =>
    [
      { pod: podOne },
      { pod: podTwo },
      { pod: podThree },
      { pod: { index: -1, node: 1 } },
      { host: 0 },
      { host: 1 },
      { uplink: 0 },
      { uplink: 1 },
    ][d.entry]!;
  const fieldsOf = (d: Drawn): FrameFields => {
    const list = d.four ? addresses4 : addresses6;
    const made = frame(list[d.from]!, list[d.to]!, l4Of(d), new Uint8Array(12));
    return { ...made, ip: made.ip.family === 4 ? { ...made.ip, ttl: d.ttl } : { ...made.ip, hopLimit: d.ttl } };
  };
  const l4Of = (d: Drawn): FrameFields['l4'] => {
    switch (d.kind) {
      case 'tcp':
        return { protocol: 'tcp', sport: d.sport, dport: d.dport, flags: d.flags };
      case 'udp':
        return { protocol: 'udp', sport: d.sport, dport: d.dport };
      case 'sctp':
        return {
          protocol: 'sctp',
          sport: d.sport,
          dport: d.dport,
          chunks: [{ type: d.chunk, value: new Uint8Array(8) }],
        };
      case 'icmp':
        return { protocol: d.four ? 'icmp' : 'icmpv6', type: d.type, id: d.sport };
    }
    return { protocol: 47 };
  };

  it('end once, with right checksums, and none is left over', () => {
    fc.assert(
      fc.property(fc.array(drawn, { minLength: 1, maxLength: 60 }), (packets) => {
        const dp = buildDatapath({ rules4: kubeRules(4), rules6: kubeRules(6), flows: 16, routeLocalnet: true });
        let timeMs = 0;
        for (const d of packets) {
          timeMs += d.waitMs;
          const out = sendOne(dp, { ...entryOf(d), timeMs, flowHash: d.hash }, fieldsOf(d));
          expect(out.wrong).toBe(0);
          for (const answer of sendAnswers(dp)) expect(answer.wrong).toBe(0);
        }
        expect(unaccounted(dp)).toBe(0);
        expect(dp.ring.used).toBe(0);
      }),
      runs(150),
    );
  });

  it('of any bytes end once', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(drawn, fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 6 })), { maxLength: 30 }),
        (packets) => {
          const dp = buildDatapath({ rules4: kubeRules(4), rules6: kubeRules(6), flows: 16 });
          for (const [d, changes] of packets) {
            const bytes = buildFrame(fieldsOf(d));
            for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
            sendOne(dp, { ...entryOf(d), flowHash: d.hash }, bytes);
            sendAnswers(dp);
          }
          expect(unaccounted(dp)).toBe(0);
        },
      ),
      runs(150),
    );
  });
});
