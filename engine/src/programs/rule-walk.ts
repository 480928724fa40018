/**
 * The rule interpreter: walks the chains of one hook and table in order, as xt_do_table does.
 *
 * 1. A rule applies when all its matches hold; its target says what follows.
 * 2. ACCEPT, DROP, REJECT and the nat targets end the walk; MARK, CONNMARK, NOTRACK and no target go on with the next rule.
 * 3. JUMP comes back behind the rule when the chain ends or RETURNs, GOTO does not.
 * 4. The end of the base chain is its policy.
 *
 * Cost: a KUBE-SERVICES rule that is for another address is one load and a compare in the chain's run (rule-list.ts), about
 * a nanosecond; three loads and a compare where there is none, because the compiler puts address matches first. Every
 * rule that is looked at counts (COUNT_RULES), in a run too.
 * Refuses: jumps deeper than RULE_STACK, and walks of more than MAX_JUMPS jumps (-REASON_RULE_LOOP); the kernel refuses
 * such rules when they are loaded.
 */
import {
  HOOKS,
  MATCH_DPORT,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_FURTHER,
  MATCH_INVERT,
  MATCH_SPORT,
  RULE_HEAD,
  RULE_TABLES,
  RUN_HEAD,
  type RuleList,
  TARGET_ACCEPT,
  TARGET_CONNMARK,
  TARGET_DENY,
  TARGET_DNAT,
  TARGET_DNAT_RANGE,
  TARGET_DROP,
  TARGET_GOTO,
  TARGET_JUMP,
  TARGET_MARK,
  TARGET_MASQUERADE,
  TARGET_NETMAP,
  TARGET_NOTRACK,
  TARGET_REDIRECT,
  TARGET_REJECT,
  TARGET_RETURN,
  TARGET_SNAT,
  TARGET_SNAT_RANGE,
} from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { REASON_CHAIN_POLICY, REASON_POLICY_DENIED, REASON_RULE_DROP, REASON_RULE_LOOP } from '../wire/reason.ts';
import { applyConnmark } from './connmark.ts';
import { COUNT_RULES } from './count.ts';
import type { Datapath } from './datapath.ts';
import { applyDnat, applyMasquerade, applySnat } from './netfilter-nat.ts';
import { FLOW_HOOK, RULE_STACK } from './netfilter-scratch.ts';
import { rejectFrame } from './node-steps.ts';
import { CT_STATE_UNTRACKED, EVENT_HOOK, EVENT_POLICY, EVENT_RULE, record2, record3 } from './record.ts';
import { hasPorts, holdsMatch } from './rule-match.ts';
import { holdsFurtherMatch } from './rule-match-further.ts';
import { applyDnatRange, applyNetmap, applyRedirect, applySnatRange } from './rule-target-nat.ts';

/** More jumps than any walk makes that ends. */
const MAX_JUMPS = 1 << 20;

const PLAIN_DST4 = MATCH_DST4 | (3 << 8);
const PLAIN_DST6 = MATCH_DST6 | (9 << 8);

/**
 * Walks the base chain of a hook and table for the frame's node.
 * @param hook HOOK_…
 * @param table TABLE_…
 * @returns 0 to go on, VERDICT_REJECTED (lane `reason` is set), or minus a drop reason
 */
export function walkHook(dp: Datapath, b: Burst, s: number, rules: RuleList, hook: number, table: number): number {
  const base = (rules.rows[b.node[s]] * HOOKS + hook) * RULE_TABLES + table;
  const chain = rules.bases[base];
  if (chain === -1 && rules.policies[base] !== TARGET_DROP) return 0;
  dp.ports.scratch.flow[FLOW_HOOK] = hook;
  if (dp.ring.on) record2(dp.ring, EVENT_HOOK, hook, table);
  if (chain !== -1) {
    const step = walkChain(dp, b, s, rules, chain);
    if (step !== WALK_END) return step;
  }
  const policy = rules.policies[base];
  if (dp.ring.on) record3(dp.ring, EVENT_POLICY, hook, table, policy);
  return policy === TARGET_DROP ? -REASON_CHAIN_POLICY : 0;
}

/** Answer of `walkChain`: no rule decided. */
const WALK_END = 1 << 20;

function walkChain(dp: Datapath, b: Burst, s: number, rules: RuleList, chain: number): number {
  const words = rules.words;
  const starts = rules.starts;
  const stack = dp.ports.scratch.stack;
  const runs = rules.runs;
  const row = rules.rows[b.node[s]] * rules.chains;
  // The cheap test of the commonest first match; a list of the other family has no such rule.
  const plainDst4 = b.family[s] === 4 ? PLAIN_DST4 : -1;
  const dst0 = b.dst0[s];
  const dst3 = b.dst3[s];
  const key = b.family[s] === 4 ? dst0 : dst3;
  let r = starts[row + chain];
  let run = runs[row + chain];
  let inRun = 0;
  let depth = 0;
  let jumps = 0;
  let walked = 0;
  let step = WALK_END;
  for (;;) {
    if (run !== -1) {
      const count = words[run];
      const next = findInRun(words, run + RUN_HEAD + inRun, run + RUN_HEAD + count, key) - run - RUN_HEAD;
      walked += next - inRun;
      r = next === count ? words[run + 1] : words[run + RUN_HEAD + count + next];
      inRun = next + 1;
      if (next === count) run = -1;
    }
    const size = r === -1 ? 0 : words[r];
    if (size === 0) {
      if (depth === 0) break;
      r = stack[--depth];
      continue;
    }
    walked++;
    const end = r + size;
    const m = r + words[r + 2];
    if (m < end) {
      const op = words[m];
      if (op === plainDst4) {
        if ((dst0 & words[m + 2]) !== words[m + 1] || !holdRest(dp, b, s, words, m + 3, end, words[r + 3])) {
          r = end;
          continue;
        }
      } else if (op === PLAIN_DST6) {
        if ((dst3 & words[m + 8]) !== words[m + 4] || !holdRest(dp, b, s, words, m, end, words[r + 3])) {
          r = end;
          continue;
        }
      } else if (!holdRest(dp, b, s, words, m, end, words[r + 3])) {
        r = end;
        continue;
      }
    }
    if (dp.ring.on) record2(dp.ring, EVENT_RULE, words[r + 3], walked);
    const target = words[r + 1];
    if (target === TARGET_JUMP || target === TARGET_GOTO) {
      if (target === TARGET_JUMP) {
        if (depth === RULE_STACK) {
          step = -REASON_RULE_LOOP;
          break;
        }
        stack[depth++] = end;
      }
      if (++jumps > MAX_JUMPS) {
        step = -REASON_RULE_LOOP;
        break;
      }
      run = runs[row + words[r + RULE_HEAD]];
      inRun = 0;
      r = starts[row + words[r + RULE_HEAD]];
    } else if (target === TARGET_RETURN) {
      if (depth === 0) break;
      run = -1;
      r = stack[--depth];
    } else {
      step = runTarget(dp, b, s, words, r, target);
      if (step !== WALK_END) break;
      r = end;
    }
  }
  dp.counters[COUNT_RULES] += walked;
  return step;
}

/** Where a run's addresses hold `key` between two words, or `to`: the loop that a walk spends its time in. */
function findInRun(words: Int32Array, from: number, to: number, key: number): number {
  let at = from;
  // Four at a time: the loop itself would cost more than its loads.
  for (; at + 4 <= to; at += 4) {
    if (words[at] === key || words[at + 1] === key || words[at + 2] === key || words[at + 3] === key) break;
  }
  while (at < to && words[at] !== key) at++;
  return at;
}

/** True if the matches from word `m` to `end` all hold, evaluated in order. */
function holdRest(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  m: number,
  end: number,
  ruleId: number,
): boolean {
  while (m < end) {
    const head = words[m];
    const op = head & 0x7f;
    if ((op === MATCH_SPORT || op === MATCH_DPORT) && !hasPorts(b, s)) return false;
    if (op >= MATCH_FURTHER) {
      if (!holdsFurtherMatch(dp, b, s, words, m, ruleId)) return false;
    } else if (holdsMatch(dp, b, s, words, m, ruleId) === ((head & MATCH_INVERT) !== 0)) return false;
    m += head >>> 8;
  }
  return true;
}

/** Targets other than those that change the walk; WALK_END to go on with the next rule. */
function runTarget(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number, target: number): number {
  switch (target) {
    case TARGET_ACCEPT:
      return 0;
    case TARGET_DROP:
      return -REASON_RULE_DROP;
    case TARGET_DENY:
      return -REASON_POLICY_DENIED;
    case TARGET_REJECT:
      return rejectFrame(dp, b, s, words[r + RULE_HEAD]);
    case TARGET_MARK:
      b.mark[s] = (b.mark[s] & ~words[r + RULE_HEAD + 1]) ^ words[r + RULE_HEAD];
      return WALK_END;
    case TARGET_DNAT:
      return applyDnat(dp, b, s, words, r);
    case TARGET_SNAT:
      return applySnat(dp, b, s, words, r);
    case TARGET_MASQUERADE:
      return applyMasquerade(dp, b, s, words[r + RULE_HEAD], words[r + RULE_HEAD + 1], words[r + RULE_HEAD + 2]);
    case TARGET_DNAT_RANGE:
      return applyDnatRange(dp, b, s, words, r);
    case TARGET_SNAT_RANGE:
      return applySnatRange(dp, b, s, words, r);
    case TARGET_REDIRECT:
      return applyRedirect(dp, b, s, words, r);
    case TARGET_NETMAP:
      return applyNetmap(dp, b, s, words, r);
    case TARGET_CONNMARK:
      applyConnmark(dp, b, s, words[r + RULE_HEAD], words[r + RULE_HEAD + 1], words[r + RULE_HEAD + 2]);
      return WALK_END;
    case TARGET_NOTRACK:
      b.ctState[s] = CT_STATE_UNTRACKED;
  }
  return WALK_END;
}
