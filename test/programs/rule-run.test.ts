import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNT_RULES } from '../../engine/src/programs/count.ts';
import { HOOK_FORWARD, type RuleList, TABLE_FILTER } from '../../engine/src/tables/rule-list.ts';
import { runs } from '../tables/runs.ts';
import { podOne, podThree, podTwo } from './addresses.ts';
import { buildDatapath, sendOne, udp } from './fixture.ts';
import {
  accept,
  back,
  dport,
  drop,
  dst,
  go,
  jump,
  type Match,
  proto,
  type Rule,
  ruleList,
  setMark,
  src,
} from './rules.ts';

/** The same rules, walked one by one. */
function withoutRuns(rules: RuleList): RuleList {
  return { ...rules, runs: new Int32Array(rules.runs.length).fill(-1) };
}

describe('a run of rules that ask for an address first', () => {
  it('changes nothing but the time that it takes', () => {
    const family = fc.constantFrom(4 as const, 6 as const);
    const rule = fc.record({
      to: fc.nat(3),
      port: fc.option(fc.constantFrom(53, 54), { nil: null }),
      target: fc.constantFrom('mark', 'mark', 'mark', 'accept', 'drop', 'return', 'jump', 'goto'),
    });
    let found = 0;
    fc.assert(
      fc.property(family, fc.array(rule, { minLength: 10, maxLength: 80 }), rule, (own, rules, inner) => {
        const far = own === 4 ? '203.0.113.9' : '2001:db8:113::9';
        const addresses = [podTwo[own], podThree[own], far, own === 4 ? '203.0.113.8' : '2001:db8:113:9::9'];
        const write = ({ to, port, target }: typeof inner): Rule => {
          const matches: Match[] = [dst(addresses[to]!), proto(17), ...(port === null ? [] : [dport(port)])];
          switch (target) {
            case 'accept':
              return accept(...matches);
            case 'drop':
              return drop(...matches);
            case 'return':
              return back(...matches);
            case 'jump':
              return jump('SUB', ...matches);
            case 'goto':
              return go('SUB', ...matches);
          }
          return setMark(1, ...matches);
        };
        // Most rules are for somebody else, as in KUBE-SERVICES.
        const chains = {
          MAIN: [...rules.map((one, i) => write(i % 5 === 0 ? one : { ...one, to: 2 + (one.to & 1) })), drop(src(far))],
          SUB: [write({ ...inner, target: 'mark' }), back(dport(53)), setMark(2)],
        };
        const list = ruleList(2, chains, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'MAIN' }]);
        if (list.runs.some((run) => run !== -1)) found++;
        const outcomes = [list, withoutRuns(list)].map((rules4) => {
          const dp = buildDatapath({ rules4, rules6: rules4 });
          return [podTwo, podThree].map((to) => {
            const exit = sendOne(dp, { pod: podOne }, udp(podOne[own], 5000, to[own], 53));
            return [exit.verdict, exit.reason, exit.target, dp.counters[COUNT_RULES]];
          });
        });
        expect(outcomes[0]).toEqual(outcomes[1]);
      }),
      runs(200),
    );
    expect(found).toBeGreaterThan(20);
  });

  it('begins at a chain’s first rule, with sixteen rules at least and whole addresses', () => {
    const plain = Array.from({ length: 20 }, (_, i) => accept(dst(`10.0.0.${i + 1}`)));
    const base = [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'A' }];
    const has = (rules: Rule[]): boolean => ruleList(1, { A: rules }, base).runs[0] !== -1;
    expect(has(plain)).toBe(true);
    expect(has(plain.slice(0, 15))).toBe(false);
    expect(has([accept(), ...plain])).toBe(false);
    expect(has([...plain.slice(0, 10), accept(dst('10.1.0.0', 16)), ...plain.slice(10)])).toBe(false);
    expect(has([...plain.slice(0, 16), drop()])).toBe(true);
  });
});
