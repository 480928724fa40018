import { describe, expect, it } from 'vitest';
import { NAT_OUTBOUND } from '../../engine/src/programs/verdict.ts';
import {
  COMPARE_EQUAL,
  EXPR_DNAT,
  EXPR_LOAD,
  EXPR_MASQUERADE,
  EXPR_NOTRACK,
  EXPR_REDIRECT,
  EXPR_SET_CT_MARK,
  EXPR_SET_MARK,
  EXPR_SNAT,
  NAT_FLAG_OUTBOUND,
  NAT_FLAG_RANDOM_FULLY,
  NFT_DROP,
  SELECT_CT_MARK,
  SELECT_CT_ORIGINAL_DADDR4,
  SELECT_CT_REPLY_SADDR4,
  SELECT_CT_STATUS,
} from '../../engine/src/tables/nft-rules.ts';
import {
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
} from '../../engine/src/tables/rule-list.ts';
import { client, nodeOne, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { type Outcome, send, sendOne, tcp, udp } from './fixture.ts';
import {
  accept,
  addressWords,
  buildNftDatapath,
  ctState,
  daddr,
  dnat,
  drop,
  immediate,
  markHas,
  masquerade,
  match,
  type NftRule,
  type NftSpec,
  orMark,
  saddr,
} from './nft-fixture.ts';

const SYN = 0x02;
const SYNACK = 0x12;
const NEW = 8;
const UNTRACKED = 64;

const ends = (outcome: Outcome) => `${outcome.verdict} ${outcome.reason}`;

describe('hooks and priorities of the nftables mode', () => {
  const seen = (bit: number): NftRule => orMark(bit);
  const isSvc = daddr(svcOne[4]);
  const isPod = daddr(podTwo[4]);

  it('run around conntrack and nat', () => {
    const chains: NftSpec['chains'] = {
      raw: [
        [ctState(1), ...seen(1)],
        [ctState(NEW), drop],
      ],
      'before-nat': [
        [ctState(NEW), ...isSvc, ...seen(2)],
        [...isPod, drop],
      ],
      nat: [[...isSvc, ...dnat(podTwo[4], 8080)]],
      'after-nat': [
        [ctState(NEW), ...isPod, ...seen(4)],
        [...isSvc, drop],
      ],
      // A chain of type nat keeps to the nat hook, whatever its priority.
      'early-nat': [[ctState(NEW), ...isSvc, ...seen(8)]],
      check: [[markHas(15), accept], [drop]],
    };
    const dp = buildNftDatapath({
      chains,
      bases: [
        { chain: 'after-nat', hook: HOOK_PREROUTING, priority: -99 },
        { chain: 'nat', hook: HOOK_PREROUTING, priority: -100, nat: true },
        { chain: 'early-nat', hook: HOOK_PREROUTING, priority: -400, nat: true },
        { chain: 'before-nat', hook: HOOK_PREROUTING, priority: -110 },
        { chain: 'raw', hook: HOOK_PREROUTING, priority: -300 },
        { chain: 'check', hook: HOOK_POSTROUTING, priority: 101 },
      ],
    });
    const there = sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, svcOne[4], 53));
    // `check` lets it leave the first node, and the second one’s `before-nat` sees what the first one translated.
    expect(ends(there)).toBe('dropped rule-drop');
    expect(there.node).toBe(1);
    expect(there.tuple).toBe(`${podOne[4]}:5000 -> ${podTwo[4]}:8080`);
  });

  it('stop at the first nat chain that translates, and at no other', () => {
    const dp = buildNftDatapath({
      chains: {
        passing: [[accept]],
        first: [[...isSvc, ...dnat(podThree[4], 1)]],
        second: [[...isSvc, ...dnat(podTwo[4], 2)], [drop]],
      },
      bases: [
        { chain: 'second', hook: HOOK_PREROUTING, nat: true, priority: -90 },
        { chain: 'first', hook: HOOK_PREROUTING, nat: true, priority: -100 },
        { chain: 'passing', hook: HOOK_PREROUTING, nat: true, priority: -110 },
      ],
    });
    const there = sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, svcOne[4], 53));
    expect(ends(there)).toBe('delivered none');
    expect(there.tuple).toContain(`-> ${podThree[4]}:1`);
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, podTwo[4], 53)))).toBe('dropped rule-drop');
  });

  it('know notrack only before conntrack', () => {
    const notrack = { op: EXPR_NOTRACK, operands: [] };
    const base = (priority: number): NftSpec => ({
      chains: { raw: [[notrack]], check: [[ctState(UNTRACKED), drop]] },
      bases: [
        { chain: 'raw', hook: HOOK_PREROUTING, priority },
        { chain: 'check', hook: HOOK_FORWARD },
      ],
    });
    const sent = (priority: number) =>
      ends(sendOne(buildNftDatapath(base(priority)), { pod: podOne }, udp(podOne[4], 1, podThree[4], 2)));
    expect(sent(-300)).toBe('dropped rule-drop');
    expect(sent(-201)).toBe('dropped rule-drop');
    expect(sent(-200)).toBe('delivered none');
    expect(sent(-150)).toBe('delivered none');
  });

  it('drop by the policy of one base chain what another accepts', () => {
    const dp = buildNftDatapath({
      chains: { open: [[accept]], closed: [[...saddr(podOne[4]), accept]] },
      bases: [
        { chain: 'open', hook: HOOK_FORWARD, priority: -10 },
        { chain: 'closed', hook: HOOK_FORWARD, policy: NFT_DROP },
      ],
    });
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podThree[4], 2)))).toBe('delivered none');
    expect(ends(sendOne(dp, { pod: podThree }, udp(podThree[4], 1, client[4], 2)))).toBe('dropped chain-policy');
  });

  it('translate and filter what the node sends to itself once', () => {
    const dp = buildNftDatapath({
      chains: {
        nat: [[...isSvc, ...dnat(nodeOne[4], 9090)]],
        input: [[...isSvc, drop], [markHas(1), accept], [drop]],
        prerouting: [[...daddr(nodeOne[4]), ...seen(1)]],
      },
      bases: [
        { chain: 'nat', hook: HOOK_OUTPUT, nat: true, priority: -100 },
        { chain: 'prerouting', hook: HOOK_PREROUTING, priority: -150 },
        { chain: 'input', hook: HOOK_INPUT },
      ],
    });
    const there = sendOne(dp, { host: 0 }, tcp(nodeOne[4], 40000, svcOne[4], 80, SYN));
    expect(ends(there)).toBe('delivered none');
    expect(there.tuple).toBe(`${nodeOne[4]}:40000 -> ${nodeOne[4]}:9090`);
    const back = sendOne(dp, { host: 0 }, tcp(nodeOne[4], 9090, nodeOne[4], 40000, SYNACK));
    expect(back.tuple).toBe(`${svcOne[4]}:80 -> ${nodeOne[4]}:40000`);
  });
});

describe('statements of the nftables mode', () => {
  const post = (rules: readonly NftRule[]): NftSpec => ({
    chains: { post: rules },
    bases: [{ chain: 'post', hook: HOOK_POSTROUTING, nat: true, priority: 100 }],
  });
  const pre = (rules: readonly NftRule[]): NftSpec => ({
    chains: { pre: rules },
    bases: [{ chain: 'pre', hook: HOOK_PREROUTING, nat: true, priority: -100 }],
  });

  it('snat takes an address of a range and a port of another', () => {
    const statement: NftRule = [
      immediate(0, ...addressWords('192.0.2.1')),
      immediate(4, ...addressWords('192.0.2.4')),
      immediate(8, 3000),
      immediate(9, 3003),
      { op: EXPR_SNAT, operands: [0, 4, 8, 9, 0] },
    ];
    const dp = buildNftDatapath(post([statement]));
    const sources = send(
      dp,
      { pod: podOne },
      ...Array.from({ length: 12 }, (_, i) => udp(podOne[4], 5000 + i, client[4], 53)),
    );
    const seen = new Set(sources.map(({ tuple }) => tuple.split(' ')[0]));
    expect(seen.size).toBe(12);
    for (const source of seen) expect(source).toMatch(/^192\.0\.2\.[1-4]:300[0-3]$/);
  });

  it('masquerade keeps to its ports, and drops when they are used up', () => {
    const statement: NftRule = [immediate(8, 3000), immediate(9, 3001), { op: EXPR_MASQUERADE, operands: [8, 9, 0] }];
    const dp = buildNftDatapath(post([statement]));
    const sent = send(
      dp,
      { pod: podOne },
      ...Array.from({ length: 3 }, (_, i) => udp(podOne[4], 5000 + i, client[4], 53)),
    );
    expect(sent.map(ends)).toEqual(['forwarded none', 'forwarded none', 'dropped no-nat-mapping']);
    for (const { tuple } of sent.slice(0, 2)) expect(tuple).toMatch(/^172\.18\.0\.2:300[01] /);
  });

  it('masquerade of the CNI does not count as a Service’s', () => {
    const dp = buildNftDatapath(post([[masquerade(NAT_FLAG_RANDOM_FULLY | NAT_FLAG_OUTBOUND)]]));
    expect(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, client[4], 53)).nat).toBe(NAT_OUTBOUND);
  });

  it('dnat to a port alone keeps the address, redirect takes the node’s', () => {
    const port = [immediate(4, 99), { op: EXPR_DNAT, operands: [-1, -1, 4, 4, 0] }];
    const dp = buildNftDatapath(pre([port]));
    expect(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, podThree[4], 53)).tuple).toContain(`-> ${podThree[4]}:99`);
    const redirect = [immediate(4, 15001), { op: EXPR_REDIRECT, operands: [4, 4, 0] }];
    const there = sendOne(buildNftDatapath(pre([redirect])), { pod: podOne }, udp(podOne[4], 5000, svcOne[4], 53));
    expect(ends(there)).toBe('delivered none');
    expect(there.tuple).toBe(`${podOne[4]}:5000 -> ${nodeOne[4]}:15001`);
  });

  it('ct mark stays with the flow, in both directions', () => {
    const dp = buildNftDatapath({
      chains: {
        save: [[ctState(NEW), immediate(0, 0x77), { op: EXPR_SET_CT_MARK, operands: [0] }]],
        restore: [
          [
            { op: EXPR_LOAD, operands: [SELECT_CT_MARK, 0] },
            { op: EXPR_SET_MARK, operands: [0] },
          ],
          [match(SELECT_CT_MARK, COMPARE_EQUAL, -1, 0x77), ...saddr(podThree[4]), markHas(0x77), drop],
        ],
      },
      bases: [
        { chain: 'save', hook: HOOK_PREROUTING, priority: -150 },
        { chain: 'restore', hook: HOOK_FORWARD },
      ],
    });
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, podThree[4], 53)))).toBe('delivered none');
    expect(ends(sendOne(dp, { pod: podThree }, udp(podThree[4], 53, podOne[4], 5000)))).toBe('dropped rule-drop');
  });

  it('ct fields tell the flow’s tuples and what was translated', () => {
    const original = match(SELECT_CT_ORIGINAL_DADDR4, COMPARE_EQUAL, -1, addressWords(svcOne[4])[0]!);
    const reply = match(SELECT_CT_REPLY_SADDR4, COMPARE_EQUAL, -1, addressWords(podThree[4])[0]!);
    const dnatted = match(SELECT_CT_STATUS, COMPARE_EQUAL, 48, 32);
    const dp = buildNftDatapath({
      chains: {
        pre: [[...daddr(svcOne[4]), ...dnat(podThree[4], 53)]],
        check: [[original, reply, dnatted, accept], [drop]],
      },
      bases: [
        { chain: 'pre', hook: HOOK_PREROUTING, nat: true, priority: -100 },
        { chain: 'check', hook: HOOK_FORWARD },
      ],
    });
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[4], 5000, svcOne[4], 53)))).toBe('delivered none');
    expect(ends(sendOne(dp, { pod: podThree }, udp(podThree[4], 53, podOne[4], 5000)))).toBe('delivered none');
    expect(ends(sendOne(dp, { pod: podOne }, udp(podOne[4], 5001, podThree[4], 53)))).toBe('dropped rule-drop');
  });
});
