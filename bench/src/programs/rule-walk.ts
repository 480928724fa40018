/**
 * The rule interpreter over KUBE-SERVICES, encoded as the compiler encodes it: a frame that is for no Service, of both
 * families, over 1,000 rules (which stay in a core's caches) and 10,000; and one that is for the last Service.
 *
 * Prints nanoseconds a rule, the least of several rounds and the median. The goal is at most 3 for rules that do not match.
 */
import { performance } from 'node:perf_hooks';
import { COUNT_RULES, COUNTERS } from '@flatpath/engine/programs/count';
import { type Datapath, MODE_IPTABLES } from '@flatpath/engine/programs/datapath';
import { createActive } from '@flatpath/engine/programs/flow-lookup';
import { createMasqueradePorts } from '@flatpath/engine/programs/masquerade';
import { walkHook } from '@flatpath/engine/programs/rule-walk';
import { createAffinity } from '@flatpath/engine/tables/affinity';
import { createConntrack } from '@flatpath/engine/tables/conntrack';
import { createEventRing } from '@flatpath/engine/tables/event-ring';
import { createLpm4 } from '@flatpath/engine/tables/lpm4';
import { createLpm6 } from '@flatpath/engine/tables/lpm6';
import {
  HOOK_PREROUTING,
  HOOKS,
  MATCH_DPORT,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_PROTO,
  RULE_TABLES,
  type RuleList,
  RuleListBuilder,
  TABLE_NAT,
  TARGET_ACCEPT,
  TARGET_JUMP,
  TARGET_RETURN,
} from '@flatpath/engine/tables/rule-list';
import { buildFrame } from '@flatpath/engine/wire/build';
import { createBurst, frameOffset } from '@flatpath/engine/wire/burst';
import { parseFrame } from '@flatpath/engine/wire/parse';

const TCP = 6;
const ROUNDS = 15;
/** Rules that a round walks: some milliseconds. */
const ROUND_RULES = 4_000_000;
const SERVICES4 = 0x0a600000;
const SERVICES6 = [0xfd000010 | 0, 0x00960000, 0, 0] as const;

/** PREROUTING of the nat table is KUBE-SERVICES itself: one rule a Service, and a chain that they all jump to. */
function makeRules(family: 4 | 6, services: number): RuleList {
  const builder = new RuleListBuilder();
  const main = builder.beginBody();
  for (let id = 0; id < services; id++) {
    builder.rule(TARGET_JUMP, id, [1]);
    if (family === 4) builder.match(MATCH_DST4, false, [SERVICES4 + id, -1]);
    else builder.match(MATCH_DST6, false, [SERVICES6[0], SERVICES6[1], 0, id, -1, -1, -1, -1]);
    builder.match(MATCH_PROTO, false, [TCP]);
    builder.match(MATCH_DPORT, false, [80, 80]);
  }
  builder.endBody();
  const service = builder.beginBody();
  builder.rule(TARGET_RETURN, services, []);
  builder.endBody();
  const bases = new Array<number>(HOOKS * RULE_TABLES).fill(-1);
  bases[HOOK_PREROUTING * RULE_TABLES + TABLE_NAT] = 0;
  return builder.build(2, [0], [main, service], bases, new Array<number>(bases.length).fill(TARGET_ACCEPT));
}

function makeDatapath(rules4: RuleList, rules6: RuleList): Datapath {
  const words = (count: number) => new Int32Array(new SharedArrayBuffer(count * 4));
  return {
    mode: MODE_IPTABLES,
    topology: {
      nodes: 1,
      owners4: createLpm4(8),
      owners6: createLpm6(8),
      endpointNode: words(0),
      endpointAddress4: words(0),
      endpointAddress6: words(0),
      nodeAddress4: words(1),
      nodeAddress6: words(4),
      interfaces: null,
    },
    compiledNodes: Int32Array.of(1),
    iptables: {
      rules4,
      rules6,
      conntrackMax: 8,
      tcpBeLiberal: false,
      routeLocalnet: false,
      recentLists: 0,
      sets: null,
    },
    nftables: null,
    ipvs: null,
    ebpf: null,
    conntrack4: createConntrack(4, 8, 1),
    conntrack6: createConntrack(6, 8, 1),
    affinity: createAffinity(8, 1, 8, 0, 0),
    ports: createMasqueradePorts(1),
    ipvsState: null,
    counters: new Float64Array(COUNTERS),
    ring: createEventRing(64),
    active: createActive(),
    answers: createBurst(1),
    answerCount: 0,
  };
}

/** Nanoseconds a rule of each round, sorted. */
function measure(family: 4 | 6, services: number, target: number): number[] {
  const dp = makeDatapath(makeRules(4, services), makeRules(6, services));
  const rules = family === 4 ? dp.iptables!.rules4 : dp.iptables!.rules6;
  const b = createBurst(1);
  const l4 = { protocol: 'tcp', sport: 40_000, dport: 80 } as const;
  const bytes =
    family === 4
      ? buildFrame({ ip: { family, src: [0x0af40001, 0, 0, 0], dst: [SERVICES4 + target, 0, 0, 0] }, l4 })
      : buildFrame({ ip: { family, src: [1, 2, 3, 4], dst: [SERVICES6[0], SERVICES6[1], 0, target] }, l4 });
  b.bytes.set(bytes, frameOffset(b, 0));
  b.len[0] = bytes.length;
  parseFrame(b, 0);
  const walks = Math.ceil(ROUND_RULES / services);
  const times: number[] = [];
  // The first rounds warm up.
  for (let round = -3; round < ROUNDS; round++) {
    dp.counters[COUNT_RULES] = 0;
    const start = performance.now();
    for (let i = 0; i < walks; i++) walkHook(dp, b, 0, rules, HOOK_PREROUTING, TABLE_NAT);
    const ms = performance.now() - start;
    if (round >= 0) times.push((ms * 1_000_000) / dp.counters[COUNT_RULES]!);
  }
  return times.sort((a, b) => a - b);
}

export default function (): void {
  const rows = [];
  for (const family of [4, 6] as const) {
    for (const services of [1000, 10_000]) {
      for (const [what, target] of [
        ['no rule matches', services + 5],
        ['the last one matches', services - 1],
      ] as const) {
        const times = measure(family, services, target);
        rows.push({
          walk: `IPv${family}, ${services} rules, ${what}`,
          'ns/rule, least': times[0]!.toFixed(2),
          'ns/rule, median': times[ROUNDS >> 1]!.toFixed(2),
        });
      }
    }
  }
  console.table(rows);
}
