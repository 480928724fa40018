/**
 * The image of the nftables mode: one list of rules and sets a family (tables/nft-rules.ts), and the kernel's settings.
 *
 * The lists are written by the compiler only and read by all; a change is a new image. What packets add to sets, and the
 * counters of `numgen inc`, are stamps of the datapath's affinity table and outlive the image. Set ids, element ids, rule
 * ids and chain ids lead back to what the compiler knows. The scratch belongs to the thread.
 *
 * Recorder: EVENT_BASE_CHAIN (chain id, hook), EVENT_POLICY (hook, chain id, policy), EVENT_RULE when the first statement
 * with an effect, or the end, of a rule is reached, EVENT_MAP (set id, element id; -1 no element, ELEMENT_ADDED one that a
 * packet added), EVENT_CHOICE (rule id, modulus, number before the offset is added).
 */
import { type NftRules, REGISTERS } from '../tables/nft-rules.ts';
import { RULE_HEAD } from '../tables/rule-list.ts';
import type { KernelSettings } from './datapath.ts';

/** Row of EVENT_MAP: an element that a packet has added. */
export const ELEMENT_ADDED = -2;

/** Words of a nat statement's target: RULE_HEAD and the arguments of TARGET_DNAT_RANGE. */
const TARGET_WORDS = RULE_HEAD + 12;

/** Jumps may be this deep (NFT_JUMP_STACK_SIZE); the kernel refuses deeper ones when they are loaded. */
export const JUMP_STACK = 16;

/** Working memory of one thread; registers live as long as a rule, the stack as long as the walk of a base chain. */
export interface NftScratch {
  /** REGISTERS words, and behind them the one of EXPR_MATCH. */
  readonly registers: Int32Array;
  readonly stack: Int32Array;
  /** A nat statement, as rule-target-nat.ts reads a target. */
  readonly target: Int32Array;
}

export interface NftablesImage extends KernelSettings {
  readonly rules4: NftRules;
  readonly rules6: NftRules;
  readonly scratch: NftScratch;
}

/** What another thread needs to attach a list: numbers and shared buffers only. */
export interface NftRulesParts {
  readonly words: SharedArrayBuffer;
  readonly sets: SharedArrayBuffer;
  readonly chains: number;
  readonly setCount: number;
  readonly rows: SharedArrayBuffer;
  readonly starts: SharedArrayBuffer;
  readonly setStarts: SharedArrayBuffer;
  readonly stages: SharedArrayBuffer;
  readonly bases: SharedArrayBuffer;
}

export interface NftablesImageParts {
  readonly settings: KernelSettings;
  readonly rules4: NftRulesParts;
  readonly rules6: NftRulesParts;
}

/** An image of lists that this thread has; to be used where the image is compiled. */
export function makeNftablesImage(rules4: NftRules, rules6: NftRules, settings: KernelSettings): NftablesImage {
  return {
    ...settings,
    rules4,
    rules6,
    scratch: {
      registers: new Int32Array(REGISTERS + 1),
      stack: new Int32Array(JUMP_STACK),
      target: new Int32Array(TARGET_WORDS),
    },
  };
}

/** Builds an image over its buffers in another thread. */
export function attachNftablesImage(parts: NftablesImageParts): NftablesImage {
  return makeNftablesImage(attachRules(parts.rules4), attachRules(parts.rules6), parts.settings);
}

/** Takes an image apart for `attachNftablesImage`. */
export function nftablesImageParts(image: NftablesImage): NftablesImageParts {
  const { rules4, rules6, scratch: _, ...settings } = image;
  return { settings, rules4: takeRules(rules4), rules6: takeRules(rules6) };
}

function takeRules(rules: NftRules): NftRulesParts {
  return {
    words: sharedBuffer(rules.words),
    sets: sharedBuffer(rules.sets),
    chains: rules.chains,
    setCount: rules.setCount,
    rows: sharedBuffer(rules.rows),
    starts: sharedBuffer(rules.starts),
    setStarts: sharedBuffer(rules.setStarts),
    stages: sharedBuffer(rules.stages),
    bases: sharedBuffer(rules.bases),
  };
}

function attachRules(parts: NftRulesParts): NftRules {
  return {
    words: new Int32Array(parts.words),
    sets: new Int32Array(parts.sets),
    chains: parts.chains,
    setCount: parts.setCount,
    rows: new Int32Array(parts.rows),
    starts: new Int32Array(parts.starts),
    setStarts: new Int32Array(parts.setStarts),
    stages: new Int32Array(parts.stages),
    bases: new Int32Array(parts.bases),
  };
}

function sharedBuffer(words: Int32Array): SharedArrayBuffer {
  if (!(words.buffer instanceof SharedArrayBuffer)) throw new TypeError('an image lives in SharedArrayBuffers');
  return words.buffer;
}
