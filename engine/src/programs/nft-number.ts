/**
 * Numbers that nftables makes up: `numgen random` and `inc`, `jhash`, `symhash`; most often the key of a map that picks a
 * backend.
 *
 * Each is a choice point with as many ways as its modulus: a probe's script decides, else the flow's hash, or the counter
 * of `inc`. Only a seeded jhash is none, because it tells the same of a packet on every machine: it is the kernel's, bit
 * for bit. The recorder hears the number before its offset is added.
 */
import { takeChoice } from '../tables/event-ring.ts';
import { jhash, mix32 } from '../tables/hash.ts';
import { HASH_NATIVE } from '../tables/nft-rules.ts';
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';
import { nextNumber } from './nft-dynamic.ts';
import { EVENT_CHOICE, record3 } from './record.ts';

/** EXPR_RANDOM at word `e`; `salt` keeps several of one rule apart. */
export function drawRandom(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  ruleId: number,
  salt: number,
): number {
  const hash = mix32(b.flowHash[s] ^ Math.imul(ruleId + 1, 0x9e3779b1) ^ (salt << 16));
  return draw(dp, b, s, words[e + 1], hash, ruleId) + words[e + 2];
}

/** EXPR_INCREMENT at word `e`. A probe leaves the counter alone. */
export function drawIncrement(dp: Datapath, b: Burst, s: number, words: Int32Array, e: number, ruleId: number): number {
  const modulus = words[e + 1];
  const taken = b.choice[s] >= 0 ? takeChoice(dp.ring, modulus) : nextNumber(dp, b, s, words[e + 4], modulus);
  if (dp.ring.on) record3(dp.ring, EVENT_CHOICE, ruleId, modulus, taken);
  return taken + words[e + 2];
}

/** EXPR_JHASH at word `e`. The key's registers are overwritten. */
export function drawHash(
  dp: Datapath,
  b: Burst,
  s: number,
  words: Int32Array,
  e: number,
  ruleId: number,
  registers: Int32Array,
): number {
  const key = words[e + 7];
  const count = (words[e] >>> 8) - 8;
  for (let i = 0; i < count; i++) registers[key + i] = asInRegister(registers[key + i], words[e + 8 + i]);
  const hash = jhash(registers, key, count, words[e + 6], words[e + 5]);
  if (words[e + 4] === 1) return scale(hash, words[e + 1]) + words[e + 2];
  return draw(dp, b, s, words[e + 1], mix32(hash ^ ruleId), ruleId) + words[e + 2];
}

/** EXPR_SYMHASH at word `e`: one number for both directions of a flow. */
export function drawSymmetric(dp: Datapath, b: Burst, s: number, words: Int32Array, e: number, ruleId: number): number {
  return draw(dp, b, s, words[e + 1], mix32(b.flowHash[s] ^ 0x73796d68), ruleId) + words[e + 2];
}

function draw(dp: Datapath, b: Burst, s: number, modulus: number, hash: number, ruleId: number): number {
  const taken = b.choice[s] >= 0 ? takeChoice(dp.ring, modulus) : scale(hash, modulus);
  if (dp.ring.on) record3(dp.ring, EVENT_CHOICE, ruleId, modulus, taken);
  return taken;
}

/** The kernel's reciprocal_scale: hash × modulus / 2^32, exactly. */
function scale(hash: number, modulus: number): number {
  const high = (hash >>> 16) * modulus;
  return Math.trunc((high + Math.trunc(((hash & 0xffff) * modulus) / 65_536)) / 65_536);
}

/** A word as a little-endian CPU reads it from a register that holds the field. */
function asInRegister(word: number, order: number): number {
  if (order === HASH_NATIVE) return word;
  const wide = word << order;
  return (wide << 24) | ((wide & 0xff00) << 8) | ((wide >>> 8) & 0xff00) | (wide >>> 24);
}
