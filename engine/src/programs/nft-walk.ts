/**
 * The nftables interpreter: runs the base chains of a hook's stage, rule by rule, as nft_do_chain does.
 *
 * 1. A rule's expressions run in order; the first that does not hold ends the rule and the next rule begins.
 * 2. ACCEPT ends the base chain, and the next base chain of the hook begins; DROP and REJECT end the frame.
 * 3. JUMP comes back behind the rule when the chain ends or RETURNs, GOTO does not; the end of the base chain, also by
 *    RETURN, is its policy.
 * 4. A nat statement accepts and is the last word of the stage: what the flow's first packet got is the flow's.
 *
 * Every rule that is looked at counts (COUNT_RULES), every search in a set or map (COUNT_LOOKUPS).
 * Refuses, with -REASON_RULE_LOOP: jumps deeper than JUMP_STACK and walks of more than MAX_JUMPS jumps, which the kernel
 * refuses when rules are loaded.
 */
import {
  BASE_WORDS,
  EXPR_BITWISE,
  EXPR_COMPARE,
  EXPR_DNAT,
  EXPR_DYNAMIC,
  EXPR_IMMEDIATE,
  EXPR_INCREMENT,
  EXPR_JHASH,
  EXPR_LOAD,
  EXPR_LOOKUP,
  EXPR_MAP,
  EXPR_MASQUERADE,
  EXPR_MATCH,
  EXPR_NOTRACK,
  EXPR_RANDOM,
  EXPR_RANGE,
  EXPR_REDIRECT,
  EXPR_REJECT,
  EXPR_SET_CT_MARK,
  EXPR_SET_MARK,
  EXPR_SHIFT,
  EXPR_SNAT,
  EXPR_SYMHASH,
  EXPR_VERDICT,
  EXPR_VERDICT_MAP,
  NFT_ACCEPT,
  NFT_CONTINUE,
  NFT_DENY,
  NFT_DROP,
  NFT_GOTO,
  NFT_JUMP,
  NFT_RETURN,
  type NftRules,
  REGISTERS,
  STAGES,
} from '../tables/nft-rules.ts';
import { findNftElement, SET_ID, SET_STAMPS, SET_VALUE_WORDS } from '../tables/nft-sets.ts';
import { HOOKS } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { REASON_CHAIN_POLICY, REASON_POLICY_DENIED, REASON_RULE_DROP, REASON_RULE_LOOP } from '../wire/reason.ts';
import { setConnmark } from './connmark.ts';
import { COUNT_LOOKUPS, COUNT_RULES } from './count.ts';
import type { Datapath } from './datapath.ts';
import { FLOW_HOOK } from './netfilter-scratch.ts';
import { holdsComparison, holdsRange, maskRegisters, shiftRegister } from './nft-compare.ts';
import { ADDED_NONE, ADDED_PRESENT, changeElement, findAdded } from './nft-dynamic.ts';
import { loadField } from './nft-field.ts';
import { applyNftDnat, applyNftMasquerade, applyNftRedirect, applyNftSnat } from './nft-nat.ts';
import { drawHash, drawIncrement, drawRandom, drawSymmetric } from './nft-number.ts';
import { ELEMENT_ADDED, JUMP_STACK } from './nftables-image.ts';
import { rejectFrame } from './node-steps.ts';
import {
  CT_STATE_NONE,
  CT_STATE_UNTRACKED,
  EVENT_BASE_CHAIN,
  EVENT_MAP,
  EVENT_POLICY,
  EVENT_RULE,
  record2,
  record3,
} from './record.ts';

/** More jumps than any walk makes that ends. */
const MAX_JUMPS = 1 << 20;

/** What a rule comes to, beside 0 (the next one), VERDICT_REJECTED and drop reasons: kind << 24 | chain id. */
const RULE_ACCEPT = 1 << 24;
const RULE_RETURN = 2 << 24;
const RULE_JUMP = 3 << 24;
const RULE_GOTO = 4 << 24;
/** A nat statement was carried out. */
const RULE_TRANSLATED = 5 << 24;
const CHAIN_MASK = 0xffffff;

/**
 * Runs the base chains of a hook's stage for the frame's node.
 * @param hook HOOK_…
 * @param stage STAGE_…
 * @returns 0 to go on, VERDICT_REJECTED (lane `reason` is set), or minus a drop reason
 */
export function walkStage(dp: Datapath, b: Burst, s: number, rules: NftRules, hook: number, stage: number): number {
  const at = (rules.rows[b.node[s]] * HOOKS + hook) * STAGES + stage;
  const end = rules.stages[at + 1];
  dp.ports.scratch.flow[FLOW_HOOK] = hook;
  for (let entry = rules.stages[at]; entry < end; entry++) {
    const chain = rules.bases[entry * BASE_WORDS];
    if (dp.ring.on) record2(dp.ring, EVENT_BASE_CHAIN, chain, hook);
    const step = walkChain(dp, b, s, rules, chain);
    if (step === RULE_ACCEPT) continue;
    if (step === RULE_TRANSLATED) return 0;
    if (step !== RULE_RETURN) return step;
    const policy = rules.bases[entry * BASE_WORDS + 2];
    if (dp.ring.on) record3(dp.ring, EVENT_POLICY, hook, chain, policy);
    if (policy === NFT_DROP) return -REASON_CHAIN_POLICY;
  }
  return 0;
}

/** Runs a base chain: RULE_ACCEPT, RULE_TRANSLATED, RULE_RETURN at its end, or a step that ends the frame. */
function walkChain(dp: Datapath, b: Burst, s: number, rules: NftRules, base: number): number {
  const words = rules.words;
  const starts = rules.starts;
  const stack = dp.nftables!.scratch.stack;
  const row = rules.rows[b.node[s]] * rules.chains;
  let r = starts[row + base];
  let depth = 0;
  let jumps = 0;
  let walked = 0;
  let step = RULE_RETURN;
  for (;;) {
    const size = r === -1 ? 0 : words[r];
    if (size === 0) {
      if (depth === 0) break;
      r = stack[--depth];
      continue;
    }
    walked++;
    const answer = runRule(dp, b, s, rules, r, size, walked);
    if (answer === 0) {
      r += size;
      continue;
    }
    const kind = answer & ~CHAIN_MASK;
    if (kind === RULE_JUMP || kind === RULE_GOTO) {
      if ((kind === RULE_JUMP && depth === JUMP_STACK) || ++jumps > MAX_JUMPS) {
        step = -REASON_RULE_LOOP;
        break;
      }
      if (kind === RULE_JUMP) stack[depth++] = r + size;
      r = starts[row + (answer & CHAIN_MASK)];
    } else if (kind === RULE_RETURN) {
      if (depth === 0) break;
      r = stack[--depth];
    } else {
      step = answer;
      break;
    }
  }
  dp.counters[COUNT_RULES] += walked;
  return step;
}

/** Runs the rule at word `r`; 0 if the next rule follows. */
function runRule(dp: Datapath, b: Burst, s: number, rules: NftRules, r: number, size: number, walked: number): number {
  const words = rules.words;
  const registers = dp.nftables!.scratch.registers;
  const end = r + size;
  const ruleId = words[r + 1];
  // The recorder hears of the rule once, when all that it asks has held: before its first effect, or at its end.
  let untold = dp.ring.on;
  for (let e = r + 2; e < end; e += words[e] >>> 8) {
    switch (words[e] & 0xff) {
      // What most rules are made of comes first.
      case EXPR_MATCH:
        if (!loadField(dp, b, s, words[e + 1], registers, REGISTERS)) return 0;
        registers[REGISTERS] &= words[e + 3];
        if (!holdsComparison(words[e + 2], registers, REGISTERS, words, e + 4, 1)) return 0;
        continue;
      case EXPR_LOAD:
        if (!loadField(dp, b, s, words[e + 1], registers, words[e + 2])) return 0;
        continue;
      case EXPR_VERDICT:
        if (untold) record2(dp.ring, EVENT_RULE, ruleId, walked);
        untold = false;
        if (words[e + 1] === NFT_CONTINUE) continue;
        return answerOf(words[e + 1], words[e + 2]);
      case EXPR_VERDICT_MAP: {
        const at = findElement(dp, b, s, rules, words[e + 1], words[e + 2]);
        if (at < 0) return 0;
        const verdict = rules.sets[at + 1];
        if (untold) record2(dp.ring, EVENT_RULE, ruleId, walked);
        untold = false;
        if (verdict === NFT_CONTINUE) continue;
        return answerOf(verdict, rules.sets[at + 2]);
      }
      case EXPR_LOOKUP:
        if ((findElement(dp, b, s, rules, words[e + 1], words[e + 2]) === -1) !== (words[e + 3] === 1)) return 0;
        continue;
      case EXPR_IMMEDIATE:
        for (let i = (words[e] >>> 8) - 3; i >= 0; i--) registers[words[e + 1] + i] = words[e + 2 + i];
        continue;
      case EXPR_BITWISE:
        maskRegisters(registers, words, e);
        continue;
      case EXPR_SHIFT:
        shiftRegister(registers, words[e + 1], words[e + 2]);
        continue;
      case EXPR_COMPARE:
        if (!holdsComparison(words[e + 1], registers, words[e + 2], words, e + 3, (words[e] >>> 8) - 3)) return 0;
        continue;
      case EXPR_RANGE:
        if (!holdsRange(registers, words, e)) return 0;
        continue;
      case EXPR_MAP: {
        const at = findElement(dp, b, s, rules, words[e + 1], words[e + 2]);
        if (at < 0) return 0;
        copyValue(rules, words[e + 1], b.node[s], at, registers, words[e + 3]);
        continue;
      }
      case EXPR_RANDOM:
        registers[words[e + 3]] = drawRandom(dp, b, s, words, e, ruleId, e - r);
        continue;
      case EXPR_INCREMENT:
        registers[words[e + 3]] = drawIncrement(dp, b, s, words, e, ruleId);
        continue;
      case EXPR_JHASH:
        registers[words[e + 3]] = drawHash(dp, b, s, words, e, ruleId, registers);
        continue;
      case EXPR_SYMHASH:
        registers[words[e + 3]] = drawSymmetric(dp, b, s, words, e, ruleId);
        continue;
      default: {
        if (untold) record2(dp.ring, EVENT_RULE, ruleId, walked);
        untold = false;
        const answer = runStatement(dp, b, s, rules, e, ruleId, registers);
        if (answer === HELD) continue;
        return answer;
      }
    }
  }
  if (untold) record2(dp.ring, EVENT_RULE, ruleId, walked);
  return 0;
}

/** Answer of `runStatement`: the rule goes on. */
const HELD = 6 << 24;

/** What has an effect; HELD to go on in the rule, 0 to go on with the next one. */
function runStatement(
  dp: Datapath,
  b: Burst,
  s: number,
  rules: NftRules,
  e: number,
  ruleId: number,
  registers: Int32Array,
): number {
  const words = rules.words;
  switch (words[e] & 0xff) {
    case EXPR_SET_MARK:
      b.mark[s] = registers[words[e + 1]];
      return HELD;
    case EXPR_SET_CT_MARK:
      setConnmark(dp, b, s, registers[words[e + 1]]);
      return HELD;
    case EXPR_DYNAMIC: {
      const t = setStart(rules, words[e + 2], b.node[s]);
      if (t === -1) return 0;
      dp.counters[COUNT_LOOKUPS]++;
      return changeElement(dp, b, s, rules.sets, t, registers, words[e + 3], words[e + 1], words[e + 4]) ? HELD : 0;
    }
    case EXPR_NOTRACK:
      // Too late where conntrack has seen the packet.
      if (b.ctState[s] === CT_STATE_NONE) b.ctState[s] = CT_STATE_UNTRACKED;
      return HELD;
    case EXPR_REJECT:
      return rejectFrame(dp, b, s, words[e + 1]);
    case EXPR_DNAT:
      return translated(applyNftDnat(dp, b, s, words, e, ruleId, registers));
    case EXPR_SNAT:
      return translated(applyNftSnat(dp, b, s, words, e, ruleId, registers));
    case EXPR_MASQUERADE:
      return translated(applyNftMasquerade(dp, b, s, words, e, registers));
    case EXPR_REDIRECT:
      return translated(applyNftRedirect(dp, b, s, words, e, ruleId, registers));
  }
  // EXPR_NEVER, and what a newer compiler may write.
  return 0;
}

function translated(step: number): number {
  return step === 0 ? RULE_TRANSLATED : step;
}

function answerOf(verdict: number, chain: number): number {
  switch (verdict) {
    case NFT_ACCEPT:
      return RULE_ACCEPT;
    case NFT_JUMP:
      return RULE_JUMP | chain;
    case NFT_GOTO:
      return RULE_GOTO | chain;
    case NFT_RETURN:
      return RULE_RETURN;
    case NFT_DENY:
      return -REASON_POLICY_DENIED;
  }
  return -REASON_RULE_DROP;
}

// ---- sets -------------------------------------------------------------------------------------------------------

/** Where a set begins: a named one as the node's directory says, -1 if the node has none. */
function setStart(rules: NftRules, set: number, node: number): number {
  return set < 0 ? -1 - set : rules.setStarts[rules.rows[node] * rules.setCount + set];
}

/** Searches the key in the register `at`: where the element's words are, ELEMENT_ADDED, or -1. */
function findElement(dp: Datapath, b: Burst, s: number, rules: NftRules, set: number, at: number): number {
  const t = setStart(rules, set, b.node[s]);
  if (t === -1) return -1;
  const sets = rules.sets;
  const registers = dp.nftables!.scratch.registers;
  dp.counters[COUNT_LOOKUPS]++;
  let found = -1;
  const added = sets[t + SET_STAMPS] === -1 ? ADDED_NONE : findAdded(dp, b, s, sets, t, registers, at);
  if (added === ADDED_NONE) found = findNftElement(sets, t, registers, at);
  else if (added === ADDED_PRESENT) found = ELEMENT_ADDED;
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, sets[t + SET_ID], found >= 0 ? sets[found] : found);
  return found;
}

/** Puts the value of the element whose words are at `at` into registers. */
function copyValue(rules: NftRules, set: number, node: number, at: number, registers: Int32Array, to: number): void {
  const count = rules.sets[setStart(rules, set, node) + SET_VALUE_WORDS];
  for (let i = 0; i < count; i++) registers[to + i] = rules.sets[at + 1 + i];
}
