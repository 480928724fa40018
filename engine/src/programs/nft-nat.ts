/**
 * The nat statements of nftables: their registers, read and handed to the steps that iptables' targets use too
 * (netfilter-nat.ts, rule-target-nat.ts). Ports and addresses that a statement does not name stay as they are.
 */
import { NAT_FLAG_OUTBOUND, NAT_FLAG_PERSISTENT, NAT_FLAG_RANDOM, NAT_FLAG_RANDOM_FULLY } from '../tables/nft-rules.ts';
import {
  MASQUERADE_OUTBOUND,
  MASQUERADE_PORTS,
  MASQUERADE_RANDOM,
  MASQUERADE_RANDOM_FULLY,
  RANGE_ADDRESS,
  RANGE_PERSISTENT,
  RANGE_PORTS,
  RANGE_RANDOM,
  RULE_HEAD,
} from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { applyMasquerade } from './netfilter-nat.ts';
import { applyDnatRange, applyRedirect, applySnatRange } from './rule-target-nat.ts';

/** EXPR_DNAT at word `e`. */
export function applyNftDnat(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  ruleId: number,
  registers: Int32Array,
): number {
  return applyDnatRange(dp, b, s, readTarget(dp, b, s, words, e, ruleId, registers), 0);
}

/** EXPR_SNAT at word `e`. */
export function applyNftSnat(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  ruleId: number,
  registers: Int32Array,
): number {
  return applySnatRange(dp, b, s, readTarget(dp, b, s, words, e, ruleId, registers), 0);
}

/** EXPR_MASQUERADE at word `e`. */
export function applyNftMasquerade(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  registers: Int32Array,
): number {
  const given = words[e + 3];
  let flags = 0;
  if ((given & NAT_FLAG_RANDOM) !== 0) flags |= MASQUERADE_RANDOM;
  if ((given & NAT_FLAG_RANDOM_FULLY) !== 0) flags |= MASQUERADE_RANDOM_FULLY;
  if ((given & NAT_FLAG_OUTBOUND) !== 0) flags |= MASQUERADE_OUTBOUND;
  if (words[e + 1] === -1) return applyMasquerade(dp, b, s, flags, 0, 0);
  return applyMasquerade(dp, b, s, flags | MASQUERADE_PORTS, registers[words[e + 1]], registers[words[e + 2]]);
}

/** EXPR_REDIRECT at word `e`. */
export function applyNftRedirect(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  ruleId: number,
  registers: Int32Array,
): number {
  const target = dp.nftables!.scratch.target;
  target[3] = ruleId;
  target[RULE_HEAD] = rangeFlags(words[e + 3]) | readPorts(target, registers, words[e + 1], words[e + 2]);
  return applyRedirect(dp, b, s, target, 0);
}

/** The target that a dnat or snat statement stands for, in scratch. */
function readTarget(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  ruleId: number,
  registers: Int32Array,
): Int32Array {
  const target = dp.nftables!.scratch.target;
  const first = words[e + 1];
  const last = words[e + 2];
  let flags = rangeFlags(words[e + 5]) | readPorts(target, registers, words[e + 3], words[e + 4]);
  if (first !== -1) {
    const count = b.family[s] === 4 ? 1 : 4;
    for (let i = 0; i < count; i++) {
      target[RULE_HEAD + 4 + i] = registers[first + i];
      target[RULE_HEAD + 8 + i] = registers[last + i];
    }
    flags |= RANGE_ADDRESS;
  }
  target[3] = ruleId;
  target[RULE_HEAD] = flags;
  return target;
}

function readPorts(target: Int32Array, registers: Int32Array, first: number, last: number): number {
  if (first === -1) return 0;
  target[RULE_HEAD + 1] = registers[first];
  target[RULE_HEAD + 2] = registers[last];
  return RANGE_PORTS;
}

/** nf_tables has one flag for the source port's and for the port range's randomness; both take any port of the range. */
function rangeFlags(given: number): number {
  return (
    ((given & (NAT_FLAG_RANDOM | NAT_FLAG_RANDOM_FULLY)) !== 0 ? RANGE_RANDOM : 0) |
    ((given & NAT_FLAG_PERSISTENT) !== 0 ? RANGE_PERSISTENT : 0)
  );
}
