import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNT_LOOKUPS, COUNT_RULES } from '../../engine/src/programs/count.ts';
import { walkStage } from '../../engine/src/programs/nft-walk.ts';
import { resetEventRing } from '../../engine/src/tables/event-ring.ts';
import {
  COMPARE_EQUAL,
  EXPR_BITWISE,
  EXPR_COMPARE,
  EXPR_IMMEDIATE,
  EXPR_LOAD,
  EXPR_LOOKUP,
  EXPR_MAP,
  EXPR_MATCH,
  EXPR_NEVER,
  EXPR_RANDOM,
  EXPR_RANGE,
  EXPR_SET_MARK,
  EXPR_SHIFT,
  EXPR_VERDICT,
  EXPR_VERDICT_MAP,
  NFT_ACCEPT,
  NFT_CONTINUE,
  NFT_DENY,
  NFT_DROP,
  NFT_GOTO,
  NFT_JUMP,
  NFT_RETURN,
  payloadSelector,
  SELECT_CT_STATE,
  SELECT_DADDR4,
  SELECT_DADDR6,
  SELECT_DPORT,
  SELECT_L4PROTO,
  SELECT_LENGTH,
  SELECT_MARK,
  SELECT_NFPROTO,
  SELECT_PROTOCOL,
  SELECT_SADDR4,
  SELECT_SADDR6,
  SELECT_SPORT,
  STAGE_LAST,
  selectorWords,
} from '../../engine/src/tables/nft-rules.ts';
import { HOOK_FORWARD } from '../../engine/src/tables/rule-list.ts';
import { buildFrame, type L4Fields } from '../../engine/src/wire/build.ts';
import { type Burst, createBurst, frameOffset } from '../../engine/src/wire/burst.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import {
  REASON_CHAIN_POLICY,
  REASON_POLICY_DENIED,
  REASON_RULE_DROP,
  REASON_RULE_LOOP,
} from '../../engine/src/wire/reason.ts';
import { runs } from '../tables/runs.ts';
import { client, podOne, podTwo, svcOne, words } from './addresses.ts';
import { frame } from './fixture.ts';
import {
  accept,
  back,
  buildNftDatapath,
  dport,
  drop,
  type ElementSpec,
  goOn,
  goto,
  jump,
  l4proto,
  load,
  markHas,
  type NftRule,
  type NftSpec,
  orMark,
  type SetSpec,
  type Statement,
  verdict,
  vmap,
} from './nft-fixture.ts';
import { NftOracle } from './nft-oracle.ts';

// ---- what is drawn ---------------------------------------------------------------------------------------------------

const ADDRESSES4 = [podOne[4], podTwo[4], svcOne[4], client[4]];
const ADDRESSES6 = [podOne[6], podTwo[6], svcOne[6], client[6]];
const TTL = payloadSelector(0, 8, 1);
const TCP_FLAGS = payloadSelector(1, 13, 1);
const L4_WORD = payloadSelector(1, 0, 4);
const BEHIND = payloadSelector(1, 60, 2);
const SINGLE = [
  SELECT_SADDR4,
  SELECT_DADDR4,
  SELECT_L4PROTO,
  SELECT_NFPROTO,
  SELECT_SPORT,
  SELECT_DPORT,
  SELECT_MARK,
  SELECT_CT_STATE,
  SELECT_PROTOCOL,
  SELECT_LENGTH,
  TTL,
  TCP_FLAGS,
  L4_WORD,
  BEHIND,
];
const WIDE = [SELECT_SADDR6, SELECT_DADDR6];
const selector = fc.constantFrom(...SINGLE, ...SINGLE, ...WIDE);

/** Values that fields have, so that comparisons sometimes hold. */
function wordsFor(chosen: number): fc.Arbitrary<number[]> {
  switch (chosen) {
    case SELECT_SADDR4:
    case SELECT_DADDR4:
      return fc.constantFrom(...ADDRESSES4).map((text) => [words(text)[0]]);
    case SELECT_SADDR6:
    case SELECT_DADDR6:
      return fc.constantFrom(...ADDRESSES6).map((text) => [...words(text)]);
    case SELECT_L4PROTO:
      return fc.constantFrom([6], [17], [1], [58]);
    case SELECT_NFPROTO:
      return fc.constantFrom([2], [10]);
    case SELECT_CT_STATE:
      return fc.constantFrom([1], [2], [4], [8], [64]);
    case SELECT_PROTOCOL:
      return fc.constantFrom([0x0800], [0x86dd]);
    case SELECT_LENGTH:
      return fc.integer({ min: 30, max: 80 }).map((n) => [n]);
    case TTL:
      return fc.constantFrom([64], [63]);
    default:
      return fc.nat(8).map((n) => [n]);
  }
}

const op = (code: number, ...operands: Statement['operands']): Statement => ({ op: code, operands });
const comparison = fc.constantFrom(0, 1, 2, 3, 4, 5);
const maskWord = fc.constantFrom(-1, -1, -1, 0xff, 3, -256, 0);

const CHAINS = ['base', 'c1', 'c2', 'c3'];

function verdictOf(later: readonly string[]): fc.Arbitrary<{ verdict: number; chain?: string }> {
  const plain = fc.constantFrom(NFT_ACCEPT, NFT_DROP, NFT_RETURN, NFT_CONTINUE).map((verdict) => ({ verdict }));
  if (later.length === 0) return plain;
  const moving = fc
    .tuple(fc.constantFrom(NFT_JUMP, NFT_GOTO), fc.constantFrom(...later))
    .map(([verdict, chain]) => ({ verdict, chain }));
  return fc.oneof({ weight: 1, arbitrary: plain }, { weight: 2, arbitrary: moving });
}

/** Disjoint elements: what overlaps is the sets' own business (nft-sets.test.ts). */
function setOf(
  selectors: readonly number[],
  data: number | 'verdict',
  later: readonly string[],
): fc.Arbitrary<SetSpec> {
  const key = fc.tuple(...selectors.map(wordsFor)).map((fields) => fields.flat());
  const element = fc.record({
    first: key,
    verdict: verdictOf(later),
    value: fc.array(fc.nat(5), { minLength: 2, maxLength: 2 }),
    wide: fc.boolean(),
    catchAll: fc.nat(9).map((n) => n === 0),
  });
  return fc.uniqueArray(element, { maxLength: 5, selector: ({ first }) => first.join() }).map((drawn) => ({
    fields: selectors.map(selectorWords),
    data,
    elements: drawn
      .filter(({ catchAll }, i) => !catchAll || drawn.findIndex((other) => other.catchAll) === i)
      .map(
        ({ first, verdict, value, wide, catchAll }): ElementSpec => ({
          first: catchAll ? null : first,
          // A range of one key makes the set one of ranges.
          ...(wide && !catchAll ? { last: first } : {}),
          ...(data === 'verdict' ? verdict : { value: value.slice(0, data) }),
        }),
      ),
  }));
}

function statementsOf(later: readonly string[]): fc.Arbitrary<readonly Statement[]> {
  const keySelectors = fc.array(selector, { minLength: 1, maxLength: 3 });
  const fused = fc
    .constantFrom(...SINGLE)
    .chain((chosen) =>
      fc
        .tuple(comparison, maskWord, wordsFor(chosen))
        .map(([compare, mask, value]) => [op(EXPR_MATCH, chosen, compare, mask, value[0]! & mask)]),
    );
  const compared = selector.chain((chosen) =>
    fc
      .tuple(comparison, wordsFor(chosen), fc.array(fc.tuple(maskWord, fc.nat(1)), { minLength: 4, maxLength: 4 }))
      .map(([compare, value, masks]) => [
        op(EXPR_LOAD, chosen, 2),
        op(EXPR_BITWISE, 2, ...masks.slice(0, value.length).flat()),
        op(EXPR_COMPARE, compare, 2, ...value),
      ]),
  );
  const ranged = selector.chain((chosen) =>
    fc
      .tuple(fc.nat(1), wordsFor(chosen), wordsFor(chosen))
      .map(([inverted, a, b]) => [op(EXPR_LOAD, chosen, 5), op(EXPR_RANGE, inverted, 5, ...a, ...b)]),
  );
  const shifted = fc
    .tuple(fc.constantFrom(SELECT_DADDR4, SELECT_SPORT, L4_WORD), fc.integer({ min: -31, max: 31 }), fc.nat(3))
    .map(([chosen, bits, value]) => [
      op(EXPR_LOAD, chosen, 0),
      op(EXPR_SHIFT, 0, bits),
      op(EXPR_COMPARE, COMPARE_EQUAL, 0, value),
    ]);
  const looked = keySelectors.chain((chosen) =>
    fc
      .tuple(setOf(chosen, 0, later), fc.nat(1))
      .map(([set, inverted]) => [...load(...chosen), op(EXPR_LOOKUP, { set }, 0, inverted)]),
  );
  const mapped = keySelectors.chain((chosen) =>
    setOf(chosen, 2, later).map((set) => [...load(...chosen), op(EXPR_MAP, { set }, 0, 20), op(EXPR_SET_MARK, 21)]),
  );
  const decided = keySelectors.chain((chosen) =>
    setOf(chosen, 'verdict', later).map((set) => [...load(...chosen), op(EXPR_VERDICT_MAP, { set }, 0)]),
  );
  const balanced = fc
    .tuple(fc.integer({ min: 1, max: 4 }), fc.nat(2))
    .chain(([modulus, offset]) =>
      setOf([SELECT_MARK], 'verdict', later).map((set) => [
        op(EXPR_RANDOM, modulus, offset, 0),
        op(EXPR_VERDICT_MAP, { set }, 0),
      ]),
    );
  const marked = fc
    .tuple(maskWord, fc.nat(3))
    .map(([mask, xor]) => [op(EXPR_LOAD, SELECT_MARK, 0), op(EXPR_BITWISE, 0, mask, xor), op(EXPR_SET_MARK, 0)]);
  const given = fc.nat(3).map((mark) => [op(EXPR_IMMEDIATE, 9, mark), op(EXPR_SET_MARK, 9)]);
  const ended = verdictOf(later).map(({ verdict, chain }) => [
    op(EXPR_VERDICT, verdict, chain === undefined ? -1 : { chain }),
  ]);
  const never = fc.constant([op(EXPR_NEVER)]);
  return fc
    .array(
      fc.oneof(
        { weight: 3, arbitrary: fused },
        { weight: 2, arbitrary: compared },
        ranged,
        shifted,
        looked,
        mapped,
        { weight: 2, arbitrary: decided },
        balanced,
        { weight: 2, arbitrary: marked },
        given,
        { weight: 2, arbitrary: ended },
        { weight: 1, arbitrary: never },
      ),
      { maxLength: 3 },
    )
    .map((parts) => parts.flat());
}

const chainsOf = fc.tuple(
  ...CHAINS.map((_, i) => fc.array(statementsOf(CHAINS.slice(i + 1)), { maxLength: 5 })),
) satisfies fc.Arbitrary<(readonly NftRule[])[]>;

const packetOf = fc.record({
  four: fc.boolean(),
  from: fc.nat(3),
  to: fc.nat(3),
  kind: fc.constantFrom('tcp', 'udp', 'icmp', 'other'),
  sport: fc.nat(8),
  dport: fc.nat(8),
  flags: fc.nat(8),
  ctState: fc.nat(6),
});
type Packet = typeof packetOf extends fc.Arbitrary<infer P> ? P : never;

function l4Of(p: Packet): L4Fields {
  if (p.kind === 'tcp') return { protocol: 'tcp', sport: p.sport, dport: p.dport, flags: p.flags };
  if (p.kind === 'udp') return { protocol: 'udp', sport: p.sport, dport: p.dport };
  if (p.kind === 'icmp') return { protocol: p.four ? 'icmp' : 'icmpv6', type: p.four ? 8 : 128, code: p.flags };
  return { protocol: 47 };
}

const CT_BITS = [1, 8, 2, 2, 4, 1, 64];
const PROTOCOLS = { tcp: 6, udp: 17, icmp: 0, other: 47 };

/** The packet's fields from its description and its bytes. */
function fieldsOf(p: Packet, bytes: Uint8Array): Map<number, readonly number[]> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const l3 = 14;
  const l4 = l3 + (p.four ? 20 : 40);
  const at = (offset: number, count: number): number[] | null => {
    if (offset + count > bytes.length) return null;
    if (count === 1) return [view.getUint8(offset)];
    return [count === 2 ? view.getUint16(offset) : view.getInt32(offset)];
  };
  const from = words((p.four ? ADDRESSES4 : ADDRESSES6)[p.from]!);
  const to = words((p.four ? ADDRESSES4 : ADDRESSES6)[p.to]!);
  const proto = PROTOCOLS[p.kind as keyof typeof PROTOCOLS];
  const all: [number, readonly number[] | null][] = [
    [p.four ? SELECT_SADDR4 : SELECT_SADDR6, p.four ? [from[0]] : [...from]],
    [p.four ? SELECT_DADDR4 : SELECT_DADDR6, p.four ? [to[0]] : [...to]],
    [SELECT_L4PROTO, [proto === 0 ? (p.four ? 1 : 58) : proto]],
    [SELECT_NFPROTO, [p.four ? 2 : 10]],
    [SELECT_SPORT, at(l4, 2)],
    [SELECT_DPORT, at(l4 + 2, 2)],
    [SELECT_CT_STATE, [CT_BITS[p.ctState]!]],
    [SELECT_PROTOCOL, [p.four ? 0x0800 : 0x86dd]],
    [SELECT_LENGTH, [bytes.length - l3]],
    [TTL, at(l3 + 8, 1)],
    [TCP_FLAGS, at(l4 + 13, 1)],
    [L4_WORD, at(l4, 4)],
    [BEHIND, at(l4 + 60, 2)],
  ];
  return new Map(all.filter((entry): entry is [number, readonly number[]] => entry[1] !== null));
}

function oneFrame(bytes: Uint8Array): Burst {
  const b = createBurst(1);
  b.bytes.set(bytes, frameOffset(b, 0));
  b.len[0] = bytes.length;
  expect(parseFrame(b, 0)).toBe(0);
  b.ct[0] = -1;
  return b;
}

describe('the nftables interpreter', () => {
  it('agrees with a recursive one over random rulesets and packets', () => {
    fc.assert(
      fc.property(
        chainsOf,
        fc.array(packetOf, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        fc.array(fc.nat(4), { maxLength: 12 }),
        (bodies, packets, closed, script) => {
          const chains = Object.fromEntries(CHAINS.map((name, i) => [name, bodies[i]!]));
          const policy = closed ? NFT_DROP : NFT_ACCEPT;
          const spec: NftSpec = { chains, bases: [{ chain: 'base', hook: HOOK_FORWARD, policy }] };
          const dp = buildNftDatapath(spec, spec);
          for (const p of packets) {
            const list = p.four ? ADDRESSES4 : ADDRESSES6;
            const bytes = buildFrame(frame(list[p.from]!, list[p.to]!, l4Of(p), new Uint8Array(p.flags)));
            const b = oneFrame(bytes);
            b.ctState[0] = p.ctState;
            b.choice[0] = 0;
            resetEventRing(dp.ring);
            dp.ring.script.fill(0);
            dp.ring.script.set(script);
            dp.counters.fill(0);
            const oracle = new NftOracle(spec, fieldsOf(p, bytes), script);
            const ended = oracle.walk('base');
            const passes = ended === 'accept' || (ended !== 'drop' && !closed);
            const expected = passes ? 0 : ended === 'drop' ? -REASON_RULE_DROP : -REASON_CHAIN_POLICY;
            const rules = p.four ? dp.nftables!.rules4 : dp.nftables!.rules6;
            expect(walkStage(dp, b, 0, rules, HOOK_FORWARD, STAGE_LAST)).toBe(expected);
            expect(b.mark[0]! | 0).toBe(oracle.mark | 0);
            expect(dp.counters[COUNT_RULES]).toBe(oracle.walked);
            expect(dp.counters[COUNT_LOOKUPS]).toBe(oracle.lookups);
          }
        },
      ),
      runs(500),
    );
  });

  const walkBase = (chains: Record<string, readonly NftRule[]>, l4: L4Fields = UDP): { step: number; mark: number } => {
    const dp = buildNftDatapath({ chains, bases: [{ chain: 'base', hook: HOOK_FORWARD }] });
    const b = oneFrame(buildFrame(frame(podOne[4], podTwo[4], l4)));
    return { step: walkStage(dp, b, 0, dp.nftables!.rules4, HOOK_FORWARD, STAGE_LAST), mark: b.mark[0]! };
  };
  const UDP: L4Fields = { protocol: 'udp', sport: 1, dport: 2 };

  it('refuses chains that never end', () => {
    expect(walkBase({ base: [[jump('base')]] }).step).toBe(-REASON_RULE_LOOP);
    expect(walkBase({ base: [[goto('other')]], other: [[goto('base')]] }).step).toBe(-REASON_RULE_LOOP);
  });

  it('jumps sixteen deep and comes back', () => {
    const chains: Record<string, NftRule[]> = { base: [[jump('c0')], orMark(4)] };
    for (let i = 0; i < 15; i++) chains[`c${i}`] = [[jump(`c${i + 1}`)], orMark(1)];
    chains['c15'] = [orMark(2)];
    expect(walkBase(chains)).toEqual({ step: 0, mark: 7 });
    chains['c15'] = [[jump('c16')]];
    chains['c16'] = [];
    expect(walkBase(chains).step).toBe(-REASON_RULE_LOOP);
  });

  it('does not come back from a goto, and goes on behind a continue', () => {
    const chains = { base: [[jump('a')], orMark(1)], a: [[goto('b')], orMark(2)], b: [[goOn, ...orMark(4)]] };
    expect(walkBase(chains)).toEqual({ step: 0, mark: 5 });
  });

  it('keeps what a rule did before it ceased to hold', () => {
    expect(
      walkBase({
        base: [
          [...orMark(1), l4proto(6), ...orMark(2)],
          [markHas(1), ...orMark(4)],
        ],
      }).mark,
    ).toBe(5);
  });

  it('reads the ports of what has none as the bytes that are there', () => {
    const ping: L4Fields = { protocol: 'icmp', type: 8, code: 0 };
    // An echo request begins 08 00: `th sport` is 2048 of any protocol.
    const sport = { op: EXPR_MATCH, operands: [SELECT_SPORT, COMPARE_EQUAL, -1, 0x0800] };
    expect(walkBase({ base: [[sport, drop]] }, ping).step).toBe(-REASON_RULE_DROP);
    expect(walkBase({ base: [[l4proto(17), sport, drop]] }, ping).step).toBe(0);
  });

  it('runs base chains by priority, of equal ones the last first, and goes on behind an accept', () => {
    const chains = {
      late: [orMark(0x300), [accept]],
      early: [[...orMark(1), accept], orMark(0xff)],
      second: [[markHas(1), ...orMark(2)]],
      first: [[...orMark(4)]],
      target: [orMark(0x1000)],
    };
    const dp = buildNftDatapath({
      chains,
      bases: [
        { chain: 'late', hook: HOOK_FORWARD, priority: 300 },
        { chain: 'second', hook: HOOK_FORWARD, priority: -5 },
        { chain: 'first', hook: HOOK_FORWARD, priority: -5 },
        { chain: 'early', hook: HOOK_FORWARD, priority: -300 },
      ],
    });
    const b = oneFrame(buildFrame(frame(podOne[4], podTwo[4], UDP)));
    const { rules4 } = dp.nftables!;
    expect(walkStage(dp, b, 0, rules4, HOOK_FORWARD, STAGE_LAST)).toBe(0);
    expect(b.mark[0]).toBe(0x307);
    const order = Array.from({ length: 4 }, (_, i) => Object.keys(chains)[rules4.bases[3 * i]!]);
    expect(order).toEqual(['early', 'first', 'second', 'late']);
  });

  it('ends what a network policy denies with a reason of its own, without asking another chain', () => {
    const chains = { base: [[jump('pod')], [goOn]], pod: [[dport(53), back], [verdict(NFT_DENY)]], late: [[drop]] };
    const bases = [
      { chain: 'base', hook: HOOK_FORWARD },
      { chain: 'late', hook: HOOK_FORWARD, priority: 1 },
    ];
    const reasonOf = (port: number) => {
      const dp = buildNftDatapath({ chains, bases });
      const b = oneFrame(buildFrame(frame(podOne[4], podTwo[4], { protocol: 'udp', sport: 1, dport: port })));
      return walkStage(dp, b, 0, dp.nftables!.rules4, HOOK_FORWARD, STAGE_LAST);
    };
    expect(reasonOf(54)).toBe(-REASON_POLICY_DENIED);
    expect(reasonOf(53)).toBe(-REASON_RULE_DROP);
  });

  it('takes the policy where a verdict map has no element', () => {
    const services: SetSpec = { fields: [1, 1], data: 'verdict', elements: [{ first: [17, 53], verdict: NFT_ACCEPT }] };
    const rule = [...load(SELECT_L4PROTO, SELECT_DPORT), vmap(services)];
    const policyOf = (port: number) => {
      const base = { chain: 'base', hook: HOOK_FORWARD, policy: NFT_DROP };
      const dp = buildNftDatapath({ chains: { base: [rule, [dport(99), drop]] }, bases: [base] });
      const b = oneFrame(buildFrame(frame(podOne[4], podTwo[4], { protocol: 'udp', sport: 1, dport: port })));
      return walkStage(dp, b, 0, dp.nftables!.rules4, HOOK_FORWARD, STAGE_LAST);
    };
    expect(policyOf(53)).toBe(0);
    expect(policyOf(99)).toBe(-REASON_RULE_DROP);
    expect(policyOf(54)).toBe(-REASON_CHAIN_POLICY);
  });
});
