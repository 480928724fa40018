/** Rule list: building 10,000 rules as KUBE-SERVICES has them, and stepping over a burst of them by their sizes. */
import { MATCH_DPORT, MATCH_DST4, MATCH_PROTO, RuleListBuilder, TARGET_JUMP } from '@flatpath/engine/tables/rule-list';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const RULES = 10_000;

function build() {
  const builder = new RuleListBuilder();
  const start = builder.beginBody();
  for (let id = 0; id < RULES; id++) {
    builder.rule(TARGET_JUMP, id, [1 + id]);
    builder.match(MATCH_DST4, false, [0x0a600000 + id, -1]);
    builder.match(MATCH_PROTO, false, [6]);
    builder.match(MATCH_DPORT, false, [80, 80]);
  }
  builder.endBody();
  return builder.build(1, [0], [start], [0], [1]);
}

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'rule list', time: 200, warmupTime: 50 });
  addBaseline(bench, indices(1, 65536, 65536));
  const { words } = build();
  let r = 0;
  bench.add('step over rules', () => {
    let seen = 0;
    for (let i = 0; i < BURST; i++) {
      const size = words[r];
      if (size === 0) r = 0;
      else {
        seen += words[r + words[r + 2] + 1];
        r += size;
      }
    }
    sink[0] ^= seen;
  });
  bench.add(`build ${RULES} rules`, () => {
    sink[0] ^= build().words.length;
  });
  return bench;
}
