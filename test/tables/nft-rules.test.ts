import { describe, expect, it } from 'vitest';
import {
  BASE_WORDS,
  EXPR_IMMEDIATE,
  EXPR_VERDICT,
  NFT_ACCEPT,
  NFT_DROP,
  type NftBaseChain,
  NftRulesBuilder,
  PAYLOAD_TRANSPORT,
  payloadBase,
  payloadBytes,
  payloadOffset,
  payloadSelector,
  SELECT_PAYLOAD,
  STAGES,
  selectorKind,
} from '../../engine/src/tables/nft-rules.ts';
import {
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  HOOKS,
} from '../../engine/src/tables/rule-list.ts';

describe('nftables rules', () => {
  it('lie as the picture says', () => {
    const builder = new NftRulesBuilder();
    const empty = builder.beginBody();
    builder.endBody();
    const body = builder.beginBody();
    builder.rule(70);
    builder.expression(EXPR_IMMEDIATE, [3, 11, 12]);
    builder.expression(EXPR_VERDICT, [NFT_ACCEPT, -1]);
    builder.rule(71);
    builder.endBody();
    builder.node(2, [0, body, 3, empty], [1, 40], []);
    builder.node(0, [3, body], [], []);
    const rules = builder.build(4, 4, 2);
    expect([...rules.words]).toEqual([
      0,
      9,
      70,
      EXPR_IMMEDIATE | (4 << 8),
      3,
      11,
      12,
      EXPR_VERDICT | (3 << 8),
      1,
      -1,
      2,
      71,
      0,
    ]);
    expect([...rules.rows]).toEqual([1, -1, 0, -1]);
    expect([...rules.starts]).toEqual([body, -1, -1, empty, -1, -1, -1, body]);
    expect([...rules.setStarts]).toEqual([-1, 40, -1, -1]);
    expect(rules.words.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(rules.stages.length).toBe(2 * HOOKS * STAGES + 1);
    expect([...rules.stages].every((at) => at === 0)).toBe(true);
  });

  it('refuse an expression without a rule', () => {
    const builder = new NftRulesBuilder();
    expect(() => builder.expression(EXPR_VERDICT, [NFT_DROP, -1])).toThrow('needs a rule');
  });

  it('append sets one behind the other', () => {
    const builder = new NftRulesBuilder();
    const shape = { id: 0, fields: [1], valueWords: 0, stamps: -1, lifeMs: 0 };
    expect(builder.set(shape, [])).toBe(0);
    const second = builder.set({ ...shape, id: 9 }, [{ id: 4, first: [1], last: null, value: [] }]);
    expect(second).toBeGreaterThan(0);
    expect(builder.build(1, 0, 0).sets[second + 1]).toBe(9);
  });
});

describe('the stages of a hook', () => {
  const base = (chain: number, hook: number, priority: number, nat = false): NftBaseChain => ({
    chain,
    hook,
    priority,
    nat,
    policy: NFT_ACCEPT,
  });
  /** Chain ids by stage. */
  function stagesOf(hook: number, bases: readonly NftBaseChain[]): number[][] {
    const builder = new NftRulesBuilder();
    builder.node(0, [], [], bases);
    const { stages, bases: entries } = builder.build(1, 100, 0);
    return Array.from({ length: STAGES }, (_, stage) => {
      const [from, to] = [stages[hook * STAGES + stage]!, stages[hook * STAGES + stage + 1]!];
      return Array.from({ length: to - from }, (_, i) => entries[(from + i) * BASE_WORDS]!);
    });
  }

  it('are cut by the kernel’s own hooks', () => {
    for (const hook of [HOOK_PREROUTING, HOOK_OUTPUT]) {
      const drawn = [-99, -101, -200, -201, -300, 0, -150].map((priority, i) => base(i, hook, priority));
      expect(stagesOf(hook, [...drawn, base(7, hook, -100, true), base(8, hook, 50, true)])).toEqual([
        [4, 3],
        [2, 6, 1],
        [7, 8],
        [0, 5],
      ]);
    }
    for (const hook of [HOOK_INPUT, HOOK_POSTROUTING]) {
      const drawn = [-300, 99, 101].map((priority, i) => base(i, hook, priority));
      expect(stagesOf(hook, [...drawn, base(7, hook, 300, true)])).toEqual([[], [0, 1], [7], [2]]);
    }
    expect(stagesOf(HOOK_FORWARD, [base(1, HOOK_FORWARD, 300), base(2, HOOK_FORWARD, -300)])).toEqual([
      [],
      [],
      [],
      [2, 1],
    ]);
  });

  // Seen with nft 1.0.6 on Linux 6.18: two chains of priority 0, two nat chains of -100, and `ct state` at -200.
  it('begin with the chain that was made last where priorities are equal', () => {
    const twins = [base(1, HOOK_OUTPUT, 0), base(2, HOOK_OUTPUT, 0), base(3, HOOK_OUTPUT, 0)];
    expect(stagesOf(HOOK_OUTPUT, twins)[3]).toEqual([3, 2, 1]);
    const nats = [base(1, HOOK_OUTPUT, -100, true), base(2, HOOK_OUTPUT, -100, true)];
    expect(stagesOf(HOOK_OUTPUT, nats)[2]).toEqual([2, 1]);
    expect(stagesOf(HOOK_OUTPUT, [base(1, HOOK_OUTPUT, -200)])).toEqual([[], [1], [], []]);
  });

  it('count the nat hook among them from the first nat chain on, whatever hook that is for', () => {
    const nat = base(9, HOOK_PREROUTING, -100, true);
    expect(stagesOf(HOOK_POSTROUTING, [base(1, HOOK_POSTROUTING, 100), nat, base(2, HOOK_POSTROUTING, 100)])).toEqual([
      [],
      [2],
      [],
      [1],
    ]);
  });
});

describe('a payload selector', () => {
  it('carries base, offset and length', () => {
    const selector = payloadSelector(PAYLOAD_TRANSPORT, 255, 4);
    expect(selectorKind(selector)).toBe(SELECT_PAYLOAD);
    expect(payloadBase(selector)).toBe(PAYLOAD_TRANSPORT);
    expect(payloadBytes(selector)).toBe(4);
    expect(payloadOffset(selector)).toBe(255);
  });
});
