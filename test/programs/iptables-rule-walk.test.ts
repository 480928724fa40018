import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNT_RULES } from '../../engine/src/programs/count.ts';
import { FLOW_IN, FLOW_OUT } from '../../engine/src/programs/netfilter-scratch.ts';
import { OWNER_BIT_NODE, OWNER_BIT_NONE, OWNER_BIT_POD } from '../../engine/src/programs/owner.ts';
import { walkHook } from '../../engine/src/programs/rule-walk.ts';
import { resetEventRing } from '../../engine/src/tables/event-ring.ts';
import {
  ADDRTYPE_LOCAL,
  ADDRTYPE_MULTICAST,
  ADDRTYPE_UNICAST,
  CTSTATE_ESTABLISHED,
  CTSTATE_INVALID,
  CTSTATE_NEW,
  CTSTATE_RELATED,
  CTSTATE_UNTRACKED,
  HOOK_FORWARD,
  IFACE_LOOPBACK,
  IFACE_POD,
  IFACE_UPLINK,
  MATCH_CTSTATE,
  MATCH_DPORT,
  MATCH_DST_OWNER,
  MATCH_DST_TYPE,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_ICMP,
  MATCH_IN_IFACE,
  MATCH_MARK,
  MATCH_OUT_IFACE,
  MATCH_PROTO,
  MATCH_SPORT,
  MATCH_SRC_OWNER,
  MATCH_SRC_TYPE,
  MATCH_SRC4,
  MATCH_SRC6,
  MATCH_STATISTIC,
  MATCH_TCP_FLAGS,
  TABLE_FILTER,
  TARGET_ACCEPT,
  TARGET_CONTINUE,
  TARGET_DROP,
  TARGET_GOTO,
  TARGET_JUMP,
  TARGET_MARK,
  TARGET_RETURN,
} from '../../engine/src/tables/rule-list.ts';
import { type AddressWords, buildFrame, type FrameFields } from '../../engine/src/wire/build.ts';
import { createBurst, frameOffset } from '../../engine/src/wire/burst.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { REASON_CHAIN_POLICY, REASON_RULE_DROP, REASON_RULE_LOOP } from '../../engine/src/wire/reason.ts';
import { runs } from '../tables/runs.ts';
import { client, nodeOne, nodeTwo, podOne, podTwo, words } from './addresses.ts';
import { buildDatapath, frame } from './fixture.ts';
import { accept, go, jump, type Match, mark, match, not, type Rule, ruleList, setMark } from './rules.ts';

// ---- the oracle: recursion over the rules as they were written -------------------------------------------------------

interface Packet {
  readonly family: number;
  readonly src: AddressWords;
  readonly dst: AddressWords;
  readonly proto: number;
  readonly sport: number;
  readonly dport: number;
  readonly info: number;
  readonly ctState: number;
  readonly incoming: number;
  readonly outgoing: number;
}

const OWNERS: Readonly<Record<string, number>> = {
  [podOne[4]]: OWNER_BIT_POD,
  [podOne[6]]: OWNER_BIT_POD,
  [podTwo[4]]: OWNER_BIT_POD,
  [podTwo[6]]: OWNER_BIT_POD,
  [nodeOne[4]]: OWNER_BIT_NODE,
  [nodeOne[6]]: OWNER_BIT_NODE,
  [nodeTwo[4]]: OWNER_BIT_NODE,
  [nodeTwo[6]]: OWNER_BIT_NODE,
};
const ADDRESSES4 = [podOne[4], podTwo[4], nodeOne[4], nodeTwo[4], client[4], '127.0.0.1', '224.0.0.1'];
const ADDRESSES6 = [podOne[6], podTwo[6], nodeOne[6], nodeTwo[6], client[6], '::1', 'ff02::1'];
const textOf = (w: AddressWords) =>
  [...ADDRESSES4, ...ADDRESSES6].find((text) => words(text).every((word, i) => word === w[i]))!;
const ownerOf = (w: AddressWords) => OWNERS[textOf(w)] ?? OWNER_BIT_NONE;
function typeOf(w: AddressWords): number {
  const text = textOf(w);
  if (text === '127.0.0.1' || text === '::1' || text === nodeOne[4] || text === nodeOne[6]) return ADDRTYPE_LOCAL;
  return text === '224.0.0.1' || text === 'ff02::1' ? ADDRTYPE_MULTICAST : ADDRTYPE_UNICAST;
}
/** Each kind of type that IPv6 is asked must fit: group, unicast (local ones too), and what the node has of it. */
function holdsType(w: AddressWords, types: number): boolean {
  const type = typeOf(w);
  if (!textOf(w).includes(':')) return (type & types) !== 0;
  if ((types & ADDRTYPE_MULTICAST) !== 0 && type !== ADDRTYPE_MULTICAST) return false;
  if ((types & ADDRTYPE_UNICAST) !== 0 && type === ADDRTYPE_MULTICAST) return false;
  const others = types & ~(ADDRTYPE_MULTICAST | ADDRTYPE_UNICAST);
  return others === 0 || (type & others) !== 0;
}
const CT_BITS = [
  CTSTATE_INVALID,
  CTSTATE_NEW,
  CTSTATE_ESTABLISHED,
  CTSTATE_ESTABLISHED,
  CTSTATE_RELATED,
  CTSTATE_INVALID,
  CTSTATE_UNTRACKED,
];

class Oracle {
  mark = 0;
  walked = 0;
  private point = 0;
  private readonly chains: Readonly<Record<string, readonly Rule[]>>;
  private readonly packet: Packet;
  private readonly script: readonly number[];

  constructor(chains: Readonly<Record<string, readonly Rule[]>>, packet: Packet, script: readonly number[]) {
    this.chains = chains;
    this.packet = packet;
    this.script = script;
  }

  /** 'accept', 'drop', 'return' or 'end'. */
  walk(chain: string): string {
    for (const rule of this.chains[chain]!) {
      this.walked++;
      if (!rule.matches.every((m) => this.holds(m))) continue;
      switch (rule.target) {
        case TARGET_ACCEPT:
          return 'accept';
        case TARGET_DROP:
          return 'drop';
        case TARGET_RETURN:
          return 'return';
        case TARGET_GOTO:
          return this.walk(rule.chain!);
        case TARGET_MARK:
          this.mark = (this.mark & ~rule.args[1]!) ^ rule.args[0]!;
          break;
        case TARGET_JUMP: {
          const ended = this.walk(rule.chain!);
          if (ended === 'accept' || ended === 'drop') return ended;
        }
      }
    }
    return 'end';
  }

  private holds(m: Match): boolean {
    const p = this.packet;
    const [a = 0, b = 0, c = 0] = m.operands;
    const within = (w: AddressWords, family: number) =>
      p.family === family &&
      w.every(
        (word, i) => i >= m.operands.length / 2 || (word & m.operands[m.operands.length / 2 + i]!) === m.operands[i],
      );
    const hasPorts = p.proto === 6 || p.proto === 17 || p.proto === 132;
    switch (m.op) {
      case MATCH_SRC4:
        return within(p.src, 4) !== m.invert;
      case MATCH_DST4:
        return within(p.dst, 4) !== m.invert;
      case MATCH_SRC6:
        return within(p.src, 6) !== m.invert;
      case MATCH_DST6:
        return within(p.dst, 6) !== m.invert;
      case MATCH_PROTO:
        return (p.proto === a) !== m.invert;
      case MATCH_SPORT:
        return hasPorts && (p.sport >= a && p.sport <= b) !== m.invert;
      case MATCH_DPORT:
        return hasPorts && (p.dport >= a && p.dport <= b) !== m.invert;
      case MATCH_MARK:
        return ((this.mark & b) === a) !== m.invert;
      case MATCH_CTSTATE:
        return ((CT_BITS[p.ctState]! & a) !== 0) !== m.invert;
      case MATCH_SRC_TYPE:
        return holdsType(p.src, a) !== m.invert;
      case MATCH_DST_TYPE:
        return holdsType(p.dst, a) !== m.invert;
      case MATCH_SRC_OWNER:
        return ((ownerOf(p.src) & a) !== 0) !== m.invert;
      case MATCH_DST_OWNER:
        return ((ownerOf(p.dst) & a) !== 0) !== m.invert;
      case MATCH_IN_IFACE:
        return ((p.incoming & a) !== 0) !== m.invert;
      case MATCH_OUT_IFACE:
        return ((p.outgoing & a) !== 0) !== m.invert;
      case MATCH_TCP_FLAGS:
        return (p.proto === 6 && (p.info & a) === b) !== m.invert;
      case MATCH_ICMP:
        return (
          ((p.proto === 1 || p.proto === 58) && p.info >>> 8 === a && (p.info & 255) >= b && (p.info & 255) <= c) !==
          m.invert
        );
      case MATCH_STATISTIC: {
        if (a >>> 0 === 0x80000000) return !m.invert;
        if (a === 0) return m.invert;
        return (Math.min(this.script[this.point++] ?? 0, 1) === 0) !== m.invert;
      }
    }
    throw new Error(`the oracle does not know match ${m.op}`);
  }
}

// ---- what is drawn ---------------------------------------------------------------------------------------------------

const address = fc.constantFrom(...ADDRESSES4, ...ADDRESSES6);
const prefixMatch = fc
  .record({ text: address, bits: fc.nat(128), source: fc.boolean() })
  .map(({ text, bits, source }) => {
    const w = words(text);
    const four = !text.includes(':');
    const mask = (n: number) => (n <= 0 ? 0 : n >= 32 ? -1 : -1 << (32 - n));
    if (four) {
      const m = mask(bits % 33);
      return match(source ? MATCH_SRC4 : MATCH_DST4, w[0] & m, m);
    }
    const masks = [0, 1, 2, 3].map((i) => mask(bits - 32 * i));
    return match(source ? MATCH_SRC6 : MATCH_DST6, ...w.map((word, i) => word & masks[i]!), ...masks);
  });
const bitSet = (max: number) => fc.integer({ min: 1, max });
const anyMatch: fc.Arbitrary<Match> = fc
  .tuple(
    fc.oneof(
      { weight: 4, arbitrary: prefixMatch },
      fc.constantFrom(1, 6, 17, 58, 132).map((p) => match(MATCH_PROTO, p)),
      fc
        .tuple(fc.constantFrom(MATCH_SPORT, MATCH_DPORT), fc.nat(100), fc.nat(100))
        .map(([op, a, n]) => match(op, a, a + n)),
      fc.tuple(fc.nat(3), fc.nat(3)).map(([v, m]) => match(MATCH_MARK, v & m, m)),
      bitSet(31).map((bits) => match(MATCH_CTSTATE, bits)),
      fc.tuple(fc.constantFrom(MATCH_SRC_TYPE, MATCH_DST_TYPE), bitSet(15)).map(([op, bits]) => match(op, bits)),
      fc.tuple(fc.constantFrom(MATCH_SRC_OWNER, MATCH_DST_OWNER), bitSet(63)).map(([op, bits]) => match(op, bits)),
      fc.tuple(fc.constantFrom(MATCH_IN_IFACE, MATCH_OUT_IFACE), bitSet(7)).map(([op, bits]) => match(op, bits)),
      fc.tuple(fc.nat(63), fc.nat(63)).map(([m, v]) => match(MATCH_TCP_FLAGS, m, m & v)),
      fc.tuple(fc.constantFrom(0, 8, 128), fc.nat(3), fc.nat(3)).map(([t, f, n]) => match(MATCH_ICMP, t, f, f + n)),
      fc.constantFrom(0, 0x40000000, 0x80000000 | 0).map((t) => match(MATCH_STATISTIC, t)),
    ),
    fc.boolean(),
  )
  .map(([m, invert]) => (invert ? not(m) : m));

const CHAINS = ['base', 'c1', 'c2', 'c3', 'c4'];
const chainsOf = fc.tuple(
  ...CHAINS.map((_, i) => {
    // Jumps lead to later chains only: loops are refused elsewhere.
    const later = CHAINS.slice(i + 1);
    const targets = [TARGET_CONTINUE, TARGET_ACCEPT, TARGET_DROP, TARGET_RETURN, TARGET_MARK, TARGET_MARK];
    const target = fc.constantFrom(...targets, ...(later.length > 0 ? [TARGET_JUMP, TARGET_JUMP, TARGET_GOTO] : []));
    const rule = fc.tuple(target, fc.nat(), fc.nat(3), fc.nat(3), fc.array(anyMatch, { maxLength: 3 }));
    return fc.array(
      rule.map(([t, pick, value, mask, matches]): Rule => {
        const jumps = t === TARGET_JUMP || t === TARGET_GOTO;
        return {
          target: t,
          args: t === TARGET_MARK ? [value, mask] : [],
          chain: jumps ? later[pick % later.length]! : null,
          matches,
        };
      }),
      { maxLength: 5 },
    );
  }),
);

const port = fc.nat(200);
const packetOf = fc
  .record({
    four: fc.boolean(),
    from: fc.nat(6),
    to: fc.nat(6),
    kind: fc.constantFrom('tcp', 'udp', 'icmp', 'other'),
    sport: port,
    dport: port,
    flags: fc.nat(255),
    ctState: fc.nat(6),
    incoming: fc.constantFrom(0, IFACE_LOOPBACK, IFACE_UPLINK, IFACE_POD),
    outgoing: fc.constantFrom(0, IFACE_LOOPBACK, IFACE_UPLINK, IFACE_POD),
  })
  .map((p) => {
    const list = p.four ? ADDRESSES4 : ADDRESSES6;
    const from = list[p.from]!;
    const to = list[p.to]!;
    const l4 = (): FrameFields['l4'] => {
      if (p.kind === 'tcp') return { protocol: 'tcp', sport: p.sport, dport: p.dport, flags: p.flags };
      if (p.kind === 'udp') return { protocol: 'udp', sport: p.sport, dport: p.dport };
      if (p.kind === 'icmp') return { protocol: p.four ? 'icmp' : 'icmpv6', type: p.four ? 8 : 128, code: p.flags & 3 };
      return { protocol: 47 };
    };
    return { ...p, from, to, fields: frame(from, to, l4(), new Uint8Array(8)) };
  });

describe('the rule interpreter', () => {
  it('agrees with a recursive one over random chains and packets', () => {
    fc.assert(
      fc.property(
        chainsOf,
        packetOf,
        fc.boolean(),
        fc.array(fc.nat(1), { maxLength: 20 }),
        (bodies, p, closed, script) => {
          const chains = Object.fromEntries(CHAINS.map((name, i) => [name, bodies[i]!]));
          const policy = closed ? TARGET_DROP : TARGET_ACCEPT;
          const rules = ruleList(2, chains, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'base', policy }]);
          const dp = buildDatapath({ rules4: rules, rules6: rules });
          const b = createBurst(1);
          const bytes = buildFrame(p.fields);
          b.bytes.set(bytes, frameOffset(b, 0));
          b.len[0] = bytes.length;
          expect(parseFrame(b, 0)).toBe(0);
          b.ctState[0] = p.ctState;
          b.ct[0] = -1;
          b.choice[0] = 0;
          dp.ports.scratch.flow[FLOW_IN] = p.incoming;
          dp.ports.scratch.flow[FLOW_OUT] = p.outgoing;
          resetEventRing(dp.ring);
          dp.ring.script.set(script);

          const oracle = new Oracle(
            chains,
            {
              family: p.four ? 4 : 6,
              src: words(p.from),
              dst: words(p.to),
              proto: b.proto[0]!,
              sport: b.sport[0]!,
              dport: b.dport[0]!,
              info: b.info[0]!,
              ctState: p.ctState,
              incoming: p.incoming,
              outgoing: p.outgoing,
            },
            script,
          );
          const ended = oracle.walk('base');
          const expected =
            ended === 'accept' ? 0 : ended === 'drop' ? -REASON_RULE_DROP : closed ? -REASON_CHAIN_POLICY : 0;
          expect(walkHook(dp, b, 0, rules, HOOK_FORWARD, TABLE_FILTER)).toBe(expected);
          expect(b.mark[0]).toBe(oracle.mark);
          expect(dp.counters[COUNT_RULES]).toBe(oracle.walked);
        },
      ),
      runs(600),
    );
  });

  const walkBase = (chains: Record<string, readonly Rule[]>): { step: number; mark: number } => {
    const rules = ruleList(2, chains, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'base' }]);
    const dp = buildDatapath({ rules4: rules });
    const b = createBurst(1);
    const bytes = buildFrame(frame(podOne[4], podTwo[4], { protocol: 'udp', sport: 1, dport: 2 }));
    b.bytes.set(bytes, frameOffset(b, 0));
    b.len[0] = bytes.length;
    parseFrame(b, 0);
    return { step: walkHook(dp, b, 0, rules, HOOK_FORWARD, TABLE_FILTER), mark: b.mark[0]! };
  };

  it('refuses a chain that jumps to itself', () => {
    expect(walkBase({ base: [jump('base')] }).step).toBe(-REASON_RULE_LOOP);
  });

  it('refuses chains that go to each other for ever', () => {
    expect(walkBase({ base: [go('other')], other: [go('base')] }).step).toBe(-REASON_RULE_LOOP);
  });

  it('jumps as deep as the stack and comes back', () => {
    const chains: Record<string, Rule[]> = { base: [jump('c0'), setMark(4)] };
    for (let i = 0; i < 62; i++) chains[`c${i}`] = [jump(`c${i + 1}`), setMark(1)];
    chains['c62'] = [setMark(2)];
    expect(walkBase(chains)).toEqual({ step: 0, mark: 7 });
  });

  it('does not come back from a goto', () => {
    expect(walkBase({ base: [jump('a'), setMark(1)], a: [go('b'), setMark(2)], b: [setMark(4)] })).toEqual({
      step: 0,
      mark: 5,
    });
  });

  it('matches a mark that an earlier rule of the walk set', () => {
    expect(walkBase({ base: [setMark(1), accept(mark(1)), setMark(2)] })).toEqual({ step: 0, mark: 1 });
  });
});
