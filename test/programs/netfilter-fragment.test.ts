import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNT_FRAGMENTS_LOST } from '../../engine/src/programs/count.ts';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { takeReleased } from '../../engine/src/programs/netfilter-fragment.ts';
import {
  HOOK_FORWARD,
  MATCH_DPORT,
  MATCH_PROTO,
  REJECT_PORT_UNREACHABLE,
  TABLE_FILTER,
} from '../../engine/src/tables/rule-list.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { CAPTURE_SLOT_BYTES, createBurst } from '../../engine/src/wire/burst.ts';
import { runs } from '../tables/runs.ts';
import { client, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import {
  buildDatapath,
  type Entry,
  frame,
  type Outcome,
  readOutcome,
  send,
  sendAnswers,
  sendOne,
  unaccounted,
} from './fixture.ts';
import { kubeRules } from './kube-rules.ts';
import { drop, match, reject, ruleList } from './rules.ts';
import { join, split } from './split.ts';

const S = 1000;
const ends = (outcome: Outcome) => `${outcome.verdict} ${outcome.reason}`;

/** All frames that were sent on from waiting. */
function released(dp: Datapath): Outcome[] {
  const b = createBurst(1, CAPTURE_SLOT_BYTES);
  const out: Outcome[] = [];
  while (takeReleased(dp, 0, b, 0)) out.push(readOutcome(b, 0));
  return out;
}

function kube(): Datapath {
  const dp = buildDatapath({ rules4: kubeRules(4), rules6: kubeRules(6), tcpBeLiberal: false });
  dp.ring.script.fill(0);
  return dp;
}

const payload = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + (i >>> 8)) & 255);
const query = (family: 4 | 6, bytes: number) =>
  buildFrame(frame(podOne[family], svcOne[family], { protocol: 'udp', sport: 5000, dport: 53 }, payload(bytes)));

for (const family of [4, 6] as const) {
  describe(`IPv${family}`, () => {
    it('waits for all of a datagram, then sends its fragments on in order, translated', () => {
      const dp = kube();
      const [a, b, c] = split(query(family, 200), [64, 128], 99);
      expect(ends(sendOne(dp, { pod: podOne, choice: 0 }, b!))).toBe('held none');
      expect(ends(sendOne(dp, { pod: podOne, choice: 0 }, c!))).toBe('held none');
      expect(released(dp)).toEqual([]);
      const first = sendOne(dp, { pod: podOne, choice: 0 }, a!);
      expect(ends(first)).toBe('delivered none');
      expect(first.target).toBe(podTwo.index);
      const others = released(dp);
      expect(others.map((outcome) => [ends(outcome), outcome.target, outcome.node])).toEqual([
        ['delivered none', podTwo.index, first.node],
        ['delivered none', podTwo.index, first.node],
      ]);
      const out = [first, ...others].map(({ bytes }) => bytes);
      expect(out.map((bytes) => bytes.length)).toEqual([a!.length, b!.length, c!.length]);
      // The same datagram in one piece comes out with the same bytes.
      const whole = sendOne(kube(), { pod: podOne, choice: 0 }, join([a!, b!, c!]));
      expect(join(out)).toEqual(whole.bytes);
      expect(whole.wrong).toBe(0);
      expect(unaccounted(dp)).toBe(0);
      // Its reply goes back the other way.
      const answer = { protocol: 'udp', sport: 8053, dport: 5000 } as const;
      const reply = split(buildFrame(frame(podTwo[family], podOne[family], answer, payload(100))), [48], 7);
      const [last] = send(dp, { pod: podTwo }, ...reply).slice(-1);
      expect(last!.tuple).toBe(
        family === 4 ? `${svcOne[4]}:53 -> ${podOne[4]}:5000` : `[${svcOne[6]}]:53 -> [${podOne[6]}]:5000`,
      );
    });

    it('runs the rules for the whole datagram: ports match, and one drop ends it', () => {
      const chains = { FORWARD: [drop(match(MATCH_PROTO, 17), match(MATCH_DPORT, 53, 53))] };
      const rules = ruleList(2, chains, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' }]);
      const dp = buildDatapath({ rules4: rules, rules6: rules });
      const whole = buildFrame(
        frame(podOne[family], podThree[family], { protocol: 'udp', sport: 1, dport: 53 }, payload(64)),
      );
      const [a, b] = split(whole, [16], 5);
      expect(ends(sendOne(dp, { pod: podOne }, a!))).toBe('held none');
      expect(ends(sendOne(dp, { pod: podOne }, b!))).toBe('dropped rule-drop');
      expect(released(dp)).toEqual([]);
      expect(dp.counters[COUNT_FRAGMENTS_LOST]).toBe(0);
      expect(unaccounted(dp)).toBe(0);
    });

    it('refuses a datagram once, quoting it whole', () => {
      const chains = { FORWARD: [reject(REJECT_PORT_UNREACHABLE, match(MATCH_PROTO, 17))] };
      const rules = ruleList(2, chains, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' }]);
      const dp = buildDatapath({ rules4: rules, rules6: rules });
      const whole = buildFrame(
        frame(podOne[family], podThree[family], { protocol: 'udp', sport: 9, dport: 53 }, payload(64)),
      );
      const outcomes = send(dp, { pod: podOne }, ...split(whole, [16, 32], 5));
      expect(outcomes.map(ends)).toEqual(['held none', 'held none', 'rejected rule-reject']);
      const [answer, ...more] = sendAnswers(dp);
      expect(more).toEqual([]);
      expect([answer!.verdict, answer!.wrong]).toEqual(['delivered', 0]);
    });

    it('forgets a datagram that does not come in time', () => {
      const life = family === 4 ? 30 * S : 60 * S;
      const [a, b] = split(query(family, 100), [64], 12);
      const dp = kube();
      sendOne(dp, { pod: podOne, timeMs: 0 }, a!);
      expect(ends(sendOne(dp, { pod: podOne, timeMs: life }, b!))).toBe('held none');
      expect(dp.counters[COUNT_FRAGMENTS_LOST]).toBe(1);
      // The first one again, and it is whole: the second is not older than it looks.
      expect(ends(sendOne(dp, { pod: podOne, timeMs: life + 1, choice: 0 }, a!))).toBe('delivered none');
      const early = kube();
      sendOne(early, { pod: podOne, timeMs: 0 }, a!);
      expect(ends(sendOne(early, { pod: podOne, timeMs: life - 1, choice: 0 }, b!))).toBe('delivered none');
    });

    it('drops all of a datagram whose fragments overlap, and only the repetition of one that came twice', () => {
      const whole = query(family, 200);
      const [a, b, c] = split(whole, [64, 128], 3);
      const dp = kube();
      const sent = [a!, a!, b!, split(whole, [72], 3)[1]!, c!].map((bytes) =>
        ends(sendOne(dp, { pod: podOne }, bytes)),
      );
      expect(sent).toEqual([
        'held none',
        'dropped fragment-duplicate',
        'held none',
        'dropped fragment-overlap',
        'held none',
      ]);
      expect(dp.counters[COUNT_FRAGMENTS_LOST]).toBe(2);
      const other = kube();
      const end = split(whole, [96], 3);
      // Something behind the end.
      expect(send(other, { pod: podOne }, c!, split(query(family, 400), [64, 256], 3)[2]!).map(ends)).toEqual([
        'held none',
        'dropped invalid-packet',
      ]);
      expect(ends(sendOne(other, { pod: podOne }, end[0]!))).toBe('held none');
      expect(unaccounted(dp) + unaccounted(other)).toBe(0);
    });

    it('knows datagrams apart by number, addresses and node', () => {
      const dp = kube();
      const [a, b] = split(query(family, 100), [64], 1);
      const other = split(query(family, 100), [64], 2);
      const stranger = split(
        buildFrame(frame(client[family], svcOne[family], { protocol: 'udp', sport: 5000, dport: 53 }, payload(100))),
        [64],
        1,
      );
      expect(ends(sendOne(dp, { pod: podOne }, a!))).toBe('held none');
      expect(ends(sendOne(dp, { pod: podOne }, other[1]!))).toBe('held none');
      expect(ends(sendOne(dp, { uplink: 0 }, stranger[1]!))).toBe('held none');
      expect(ends(sendOne(dp, { uplink: 1 }, b!))).toBe('held none');
      expect(ends(sendOne(dp, { pod: podOne, choice: 0 }, b!))).toBe('delivered none');
    });

    it('puts the largest datagram together from the smallest fragments, and refuses what it cannot hold', () => {
      const dp = kube();
      const most = family === 4 ? 65_507 : 65_527;
      const pieces = split(
        query(family, most),
        Array.from({ length: 44 }, (_, i) => (i + 1) * 1480),
        8,
      );
      const outcomes = pieces.toReversed().map((piece) => sendOne(dp, { pod: podOne, choice: 0 }, piece));
      expect(ends(outcomes.at(-1)!)).toBe('delivered none');
      const rest = released(dp);
      expect(rest.length).toBe(44);
      expect(join([outcomes.at(-1)!.bytes, ...rest.map(({ bytes }) => bytes)]).length).toBe(query(family, most).length);
      let refused = 0;
      for (let id = 0; id < 300; id++) {
        const step = sendOne(dp, { pod: podOne }, split(query(family, 100), [64], 1000 + id)[0]!);
        if (step.reason === 'fragments-full') refused++;
      }
      expect(refused).toBe(300 - 256);
      expect(unaccounted(dp)).toBe(0);
    });
  });
}

describe('any datagram', () => {
  const kinds = ['udp', 'tcp', 'sctp', 'icmp'] as const;
  it('comes out as if it had never been cut, in any order of its fragments', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4 as const, 6 as const),
        fc.constantFrom(...kinds),
        fc.integer({ min: 24, max: 1400 }),
        fc.array(fc.integer({ min: 1, max: 170 }), { minLength: 1, maxLength: 6 }),
        fc.infiniteStream(fc.nat()),
        (family, kind, bytes, cuts, order) => {
          const l4 =
            kind === 'icmp'
              ? ({
                  protocol: family === 4 ? 'icmp' : 'icmpv6',
                  type: family === 4 ? 8 : 128,
                  id: 77,
                  sequence: 1,
                } as const)
              : kind === 'sctp'
                ? ({ protocol: 'sctp', sport: 5000, dport: 80, chunks: [{ type: 1, value: payload(bytes) }] } as const)
                : kind === 'tcp'
                  ? ({ protocol: 'tcp', sport: 5000, dport: 80, flags: 2, seq: 9 } as const)
                  : ({ protocol: 'udp', sport: 5000, dport: 53 } as const);
          const to = kind === 'icmp' || kind === 'sctp' ? client[family] : svcOne[family];
          const whole = buildFrame(frame(podOne[family], to, l4, kind === 'sctp' ? new Uint8Array(0) : payload(bytes)));
          const length = whole.length - 14 - (family === 4 ? 20 : 40);
          // Of IPv6 the first fragment must hold the whole transport header (RFC 8200 §4.5).
          const least = family === 4 ? 8 : 40;
          const borders = [...new Set(cuts.map((cut) => cut * 8))]
            .filter((at) => at >= least && at < length)
            .sort((a, b) => a - b);
          if (borders.length === 0) return;
          const pieces = split(whole, borders, 4242);
          const expected = sendOne(kube(), { pod: podOne, choice: 0 }, join(pieces));
          const shuffled = pieces
            .map((piece) => ({ piece, key: order.next().value as number }))
            .sort((a, b) => a.key - b.key)
            .map(({ piece }) => piece);
          const dp = kube();
          const entry: Entry = { pod: podOne, choice: 0 };
          const outcomes = shuffled.map((piece) => sendOne(dp, entry, piece));
          const last = outcomes.at(-1)!;
          expect(outcomes.slice(0, -1).every(({ verdict }) => verdict === 'held')).toBe(true);
          expect([last.verdict, last.reason, last.target, last.node]).toEqual([
            expected.verdict,
            expected.reason,
            expected.target,
            expected.node,
          ]);
          const out = [last, ...released(dp)].map((outcome) => outcome.bytes);
          expect(out.length).toBe(pieces.length);
          expect(join(out)).toEqual(expected.bytes);
          expect(unaccounted(dp)).toBe(0);
        },
      ),
      runs(200),
    );
  });
});
