/**
 * nftables rules: chains of rules as flat integers, run statement by statement by the interpreter (programs/nft-walk.ts).
 * One list holds what one family's packets meet: the tables of that family and those of family inet.
 *
 * Bodies (`words`), one chain after the other. A body is a run of rules closed by one word 0:
 *
 *     r+0  size of the rule in words (0: end of chain)
 *     r+1  rule id: what the compiler knows about the rule is found by it (origin, chain, text)
 *     then expressions and statements until r+size, run in order; one that does not hold ends the rule (NFT_BREAK):
 *     e+0  op (EXPR_…) | size in words << 8
 *     e+1… operands, listed at each EXPR_…
 *
 * Expressions work on REGISTERS words that live as long as the rule. A field of a packet or key takes one word, an IPv6
 * address four; numbers stand as numbers, unsigned (ports, marks, protocols), addresses as the lanes of a burst hold
 * them. A concatenation is registers side by side.
 *
 * `sets` holds the sets, maps and verdict maps (nft-sets.ts). An operand *set* is the number of a named set, looked up in
 * the node's directory, or `anonymousSet(start)`.
 *
 * Directory, a row for each node that was compiled (`rows[node]`, -1 for the others). Nodes share bodies and sets that are
 * equal, each by where it begins:
 *
 *     starts[row * chains + chain]      the body of a chain in `words`, -1 where the node has no such chain
 *     setStarts[row * setCount + set]   a named set in `sets`, -1 where the node has none
 *     stages[(row * HOOKS + hook) * STAGES + stage]   first entry in `bases`; the next number is where they end
 *     bases[3 * entry]                  chain id, priority, policy (NFT_ACCEPT or NFT_DROP) of a base chain
 *
 * A hook's base chains stand in the order in which the kernel runs them, cut into stages by the kernel's own hooks:
 *
 *     STAGE_EARLY   priority below -200: before conntrack (PREROUTING, OUTPUT)
 *     STAGE_FIRST   before the nat hook, which is at -100 in PREROUTING and OUTPUT, at 100 in INPUT and POSTROUTING
 *     STAGE_NAT     chains of type nat, whatever their priority: only for a flow's first packet, at the nat hook
 *     STAGE_LAST    behind the nat hook; all chains of FORWARD are here
 *
 * Written by the compiler only, read by all; a change is a new list in a new image.
 */

import { type NftSetElement, type NftSetShape, writeNftSet } from './nft-sets.ts';
import { HOOK_FORWARD, HOOK_OUTPUT, HOOK_PREROUTING, HOOKS } from './rule-list.ts';

export const REGISTERS = 32;

// Verdicts: of EXPR_VERDICT and of a verdict map's elements. ACCEPT and DROP are also a base chain's policy.
export const NFT_CONTINUE = 0;
export const NFT_ACCEPT = 1;
export const NFT_DROP = 2;
export const NFT_RETURN = 3;
export const NFT_JUMP = 4;
export const NFT_GOTO = 5;
/** DROP by a network policy: no statement of nftables, where it is `drop`; the reason differs. */
export const NFT_DENY = 6;

// Expressions and statements. A *selector* is one of SELECT_… below.
/** Never holds: a rule that was not understood. */
export const EXPR_NEVER = 0;
/** Operands: selector of one word, COMPARE_…, mask, value: compares (field & mask) with the value. */
export const EXPR_MATCH = 1;
/** Operands: selector, register. Does not hold where the packet has no such field. */
export const EXPR_LOAD = 2;
/** Operands: register, words that go there. */
export const EXPR_IMMEDIATE = 3;
/** Operands: register, then mask and xor for each word from there on: word = (word & mask) ^ xor. */
export const EXPR_BITWISE = 4;
/** Operands: register, bits: to the left, negative: to the right. */
export const EXPR_SHIFT = 5;
/** Operands: COMPARE_…, register, words: compares the registers from there on, as one number, with the words. */
export const EXPR_COMPARE = 6;
/** Operands: 1 inverted or 0, register, words of the lowest, as many of the highest: between them, as one number. */
export const EXPR_RANGE = 7;
/** Operands: set, register of the key, 1 inverted or 0. */
export const EXPR_LOOKUP = 8;
/** Operands: map, register of the key, register that the value goes to. Does not hold without an element. */
export const EXPR_MAP = 9;
/** Operands: verdict map, register of the key. Without an element the rule goes on behind it. */
export const EXPR_VERDICT_MAP = 10;
/** Operands: DYNAMIC_…, set, register of the key, life in ms (0 for ever, -1 the set's). */
export const EXPR_DYNAMIC = 11;
/** Operands: modulus, offset, register. `numgen random`. A choice point. */
export const EXPR_RANDOM = 12;
/** Operands: modulus, offset, register, counter's number (distinct over both families). `numgen inc`. A choice point. */
export const EXPR_INCREMENT = 13;
/**
 * Operands: modulus, offset, register, 1 seeded or 0, seed, length in bytes, register of the key, then HASH_… for each of
 * its words. `jhash`; the length is the fields' own where there is one, 4 for each of several. A choice point if not
 * seeded.
 */
export const EXPR_JHASH = 14;
/** Operands: modulus, offset, register. `symhash`. A choice point. */
export const EXPR_SYMHASH = 15;
/** Operand: register. */
export const EXPR_SET_MARK = 16;
/** Operand: register. Nothing happens to a packet without a flow. */
export const EXPR_SET_CT_MARK = 17;
/** No operands. */
export const EXPR_NOTRACK = 18;
/** Operands: registers of first address, last address, first port, last port; -1: stays. NAT_FLAG_… */
export const EXPR_DNAT = 19;
export const EXPR_SNAT = 20;
/** Operands: registers of first and last port (-1: the kernel's choice), NAT_FLAG_…. */
export const EXPR_MASQUERADE = 21;
/** Operands: registers of first and last port (-1: port stays), NAT_FLAG_…. */
export const EXPR_REDIRECT = 22;
/** Operand: REJECT_… of rule-list.ts. */
export const EXPR_REJECT = 23;
/** Operands: verdict NFT_…, chain id (-1 where it needs none). */
export const EXPR_VERDICT = 24;

export const COMPARE_EQUAL = 0;
export const COMPARE_NOT_EQUAL = 1;
export const COMPARE_LESS = 2;
export const COMPARE_GREATER = 3;
export const COMPARE_LESS_EQUAL = 4;
export const COMPARE_GREATER_EQUAL = 5;

export const DYNAMIC_ADD = 0;
export const DYNAMIC_UPDATE = 1;
export const DYNAMIC_DELETE = 2;

/** How a word of a hashed key lies in the kernel's registers: bytes in network order, cut to the field, or the CPU's. */
export const HASH_NETWORK32 = 0;
export const HASH_NETWORK16 = 16;
export const HASH_NETWORK8 = 24;
export const HASH_NATIVE = -1;

export const NAT_FLAG_RANDOM = 1;
export const NAT_FLAG_RANDOM_FULLY = 2;
export const NAT_FLAG_PERSISTENT = 4;
/** The CNI's masquerade of pod traffic to the outside, as against a Service's. */
export const NAT_FLAG_OUTBOUND = 8;

// Selectors: what is read from the packet. One word, but for the IPv6 addresses.
export const SELECT_SADDR4 = 1;
export const SELECT_DADDR4 = 2;
export const SELECT_SADDR6 = 3;
export const SELECT_DADDR6 = 4;
/** `meta l4proto`: protocol behind all extension headers. `ip protocol` is the same. */
export const SELECT_L4PROTO = 5;
/** `meta nfproto`: 2 IPv4, 10 IPv6. */
export const SELECT_NFPROTO = 6;
/** `th sport`, `th dport`. With `tcp dport` the compiler puts a match of SELECT_L4PROTO in front. */
export const SELECT_SPORT = 7;
export const SELECT_DPORT = 8;
export const SELECT_MARK = 9;
/** One of CT_STATE_BIT_…. */
export const SELECT_CT_STATE = 10;
/** CT_STATUS_… bits. */
export const SELECT_CT_STATUS = 11;
/** 0 original, 1 reply. */
export const SELECT_CT_DIRECTION = 12;
export const SELECT_CT_MARK = 13;
export const SELECT_CT_L3PROTO = 14;
export const SELECT_CT_L4PROTO = 15;
/** The flow's tuples: `ct original ip saddr`, `ct reply proto-dst` … */
export const SELECT_CT_ORIGINAL_SADDR4 = 16;
export const SELECT_CT_ORIGINAL_DADDR4 = 17;
export const SELECT_CT_ORIGINAL_SADDR6 = 18;
export const SELECT_CT_ORIGINAL_DADDR6 = 19;
export const SELECT_CT_ORIGINAL_SPORT = 20;
export const SELECT_CT_ORIGINAL_DPORT = 21;
export const SELECT_CT_REPLY_SADDR4 = 22;
export const SELECT_CT_REPLY_DADDR4 = 23;
export const SELECT_CT_REPLY_SADDR6 = 24;
export const SELECT_CT_REPLY_DADDR6 = 25;
export const SELECT_CT_REPLY_SPORT = 26;
export const SELECT_CT_REPLY_DPORT = 27;
/** Number of the interface (programs/interface.ts) + 1; 0 where the packet has none at this hook or the node no numbers. */
export const SELECT_IIF = 28;
export const SELECT_OIF = 29;
/** Class of the interface, one of IFACE_… of rule-list.ts: for rules about interfaces that are known by class only. */
export const SELECT_IIF_CLASS = 30;
export const SELECT_OIF_CLASS = 31;
/** FIB_TYPE_…. */
export const SELECT_FIB_SADDR_TYPE = 32;
export const SELECT_FIB_DADDR_TYPE = 33;
/** `fib saddr oif`: interface of the route to the source, as SELECT_IIF; 0 where there is none. */
export const SELECT_FIB_SADDR_OIF = 34;
/** `fib saddr . iif oif`: the same, 0 also where it is not the interface that the packet came in by. */
export const SELECT_FIB_SADDR_IIF_OIF = 35;
/** `meta pkttype`: 0 host, 1 broadcast, 2 multicast. */
export const SELECT_PKTTYPE = 36;
/** `meta protocol`: the Ethernet type. */
export const SELECT_PROTOCOL = 37;
/** `meta length`: bytes of the IP packet. */
export const SELECT_LENGTH = 38;
/** What owns the address: one of OWNER_BIT_… of programs/owner.ts. For what a CNI knows and no real rule can say. */
export const SELECT_SADDR_OWNER = 39;
export const SELECT_DADDR_OWNER = 40;
/** `fib daddr oif`: interface of the route to the destination. */
export const SELECT_FIB_DADDR_OIF = 41;
/** `fib daddr . iif type`: the type on the interface that the packet came in by; another's own address is unicast there. */
export const SELECT_FIB_SADDR_IIF_TYPE = 42;
export const SELECT_FIB_DADDR_IIF_TYPE = 43;
/** Bytes of a header; see `payloadSelector`. */
export const SELECT_PAYLOAD = 44;

export const PAYLOAD_NETWORK = 0;
export const PAYLOAD_TRANSPORT = 1;

/**
 * The selector of bytes of a header: `icmp type` is the first byte of PAYLOAD_TRANSPORT, `ip ttl` byte 8 of
 * PAYLOAD_NETWORK. Read as one number; no such field where the packet is too short or, at the transport, a later fragment.
 * @param offset 0 to 255
 * @param bytes 1, 2 or 4
 */
export function payloadSelector(base: number, offset: number, bytes: number): number {
  return SELECT_PAYLOAD | (base << 8) | (bytes << 12) | (offset << 16);
}

/** The kind of a selector, SELECT_…: what stands beside it in the word are the offset and length of payload bytes. */
export function selectorKind(selector: number): number {
  return selector & 0xff;
}

export function payloadBase(selector: number): number {
  return (selector >>> 8) & 15;
}

export function payloadBytes(selector: number): number {
  return (selector >>> 12) & 15;
}

export function payloadOffset(selector: number): number {
  return selector >>> 16;
}

/** Words that a selector reads. */
export function selectorWords(selector: number): number {
  switch (selector) {
    case SELECT_SADDR6:
    case SELECT_DADDR6:
    case SELECT_CT_ORIGINAL_SADDR6:
    case SELECT_CT_ORIGINAL_DADDR6:
    case SELECT_CT_REPLY_SADDR6:
    case SELECT_CT_REPLY_DADDR6:
      return 4;
  }
  return 1;
}

// `ct state`, `ct status` and address types carry the kernel's own numbers.
export const CT_STATE_BIT_INVALID = 1;
export const CT_STATE_BIT_ESTABLISHED = 2;
export const CT_STATE_BIT_RELATED = 4;
export const CT_STATE_BIT_NEW = 8;
export const CT_STATE_BIT_UNTRACKED = 64;

export const CT_STATUS_SEEN_REPLY = 2;
export const CT_STATUS_ASSURED = 4;
export const CT_STATUS_CONFIRMED = 8;
export const CT_STATUS_SNAT = 16;
export const CT_STATUS_DNAT = 32;

export const FIB_TYPE_UNICAST = 1;
export const FIB_TYPE_LOCAL = 2;
export const FIB_TYPE_BROADCAST = 3;
export const FIB_TYPE_ANYCAST = 4;
export const FIB_TYPE_MULTICAST = 5;
export const FIB_TYPE_BLACKHOLE = 6;
export const FIB_TYPE_UNREACHABLE = 7;
export const FIB_TYPE_PROHIBIT = 8;

export const STAGE_EARLY = 0;
export const STAGE_FIRST = 1;
export const STAGE_NAT = 2;
export const STAGE_LAST = 3;
export const STAGES = 4;

/** Words of an entry of `bases`: chain id, priority, policy. */
export const BASE_WORDS = 3;

const PRIORITY_CONNTRACK = -200;
const PRIORITY_NAT_DESTINATION = -100;
const PRIORITY_NAT_SOURCE = 100;

export interface NftRules {
  readonly words: Int32Array;
  readonly sets: Int32Array;
  /** Chains that exist on any node, base chains included. */
  readonly chains: number;
  /** Named sets and maps that exist on any node. */
  readonly setCount: number;
  readonly rows: Int32Array;
  readonly starts: Int32Array;
  readonly setStarts: Int32Array;
  readonly stages: Int32Array;
  readonly bases: Int32Array;
}

export interface NftBaseChain {
  readonly chain: number;
  readonly hook: number;
  /** Type nat, as against filter and route. */
  readonly nat: boolean;
  readonly priority: number;
  /** NFT_ACCEPT or NFT_DROP. */
  readonly policy: number;
}

/** The operand of an anonymous set, by where the set begins (`NftRulesBuilder.set`). */
export function anonymousSet(start: number): number {
  return -1 - start;
}

interface NodeRow {
  readonly node: number;
  readonly chains: readonly number[];
  readonly sets: readonly number[];
  readonly bases: readonly NftBaseChain[];
}

/** Appends sets, bodies and nodes; the compiler drives it and keeps what belongs to ids. */
export class NftRulesBuilder {
  private readonly words = new Words();
  private readonly sets = new Words();
  private readonly nodes: NodeRow[] = [];
  private ruleAt = -1;

  /**
   * Appends a set, map or verdict map; elements need no order.
   * @returns where it begins: for a node's directory, or for `anonymousSet`
   * @throws RangeError if an element does not fit the shape, or has a key twice
   */
  set(shape: NftSetShape, elements: readonly NftSetElement[]): number {
    return this.sets.append(writeNftSet(shape, elements));
  }

  /** Begins a chain's body; answers its start, for the directory. Its rules may name chains and sets that come later. */
  beginBody(): number {
    return this.words.used;
  }

  /** Closes the body. */
  endBody(): void {
    this.endRule();
    this.words.push(0);
  }

  /** Begins a rule; its expressions and statements follow by `expression`. */
  rule(ruleId: number): void {
    this.endRule();
    this.ruleAt = this.words.used;
    this.words.push(0);
    this.words.push(ruleId);
  }

  /** Adds an expression or statement to the rule begun last. */
  expression(op: number, operands: readonly number[]): void {
    if (this.ruleAt < 0) throw new Error('an expression needs a rule');
    this.words.push(op | ((1 + operands.length) << 8));
    for (const operand of operands) this.words.push(operand);
  }

  /**
   * Says what a node has.
   * @param chains pairs of chain id and start of its body
   * @param sets pairs of a named set's number and its start
   * @param bases its base chains, in the order of their creation
   */
  node(node: number, chains: readonly number[], sets: readonly number[], bases: readonly NftBaseChain[]): void {
    this.nodes.push({ node, chains, sets, bases });
  }

  /**
   * The rules in shared memory.
   * @param nodes nodes of the cluster
   * @param chains one more than the highest chain id
   * @param setCount one more than the highest number of a named set
   */
  build(nodes: number, chains: number, setCount: number): NftRules {
    const rows = new Int32Array(nodes).fill(-1);
    const starts = new Int32Array(this.nodes.length * chains).fill(-1);
    const setStarts = new Int32Array(this.nodes.length * setCount).fill(-1);
    const stages: number[] = [];
    const bases: number[] = [];
    this.nodes.forEach((made, row) => {
      rows[made.node] = row;
      for (let i = 0; i < made.chains.length; i += 2) starts[row * chains + made.chains[i]!] = made.chains[i + 1]!;
      for (let i = 0; i < made.sets.length; i += 2) setStarts[row * setCount + made.sets[i]!] = made.sets[i + 1]!;
      for (let hook = 0; hook < HOOKS; hook++) {
        for (let stage = 0; stage < STAGES; stage++) {
          stages.push(bases.length / BASE_WORDS);
          const here = inKernelOrder(made.bases, hook, stage);
          for (const base of here) bases.push(base.chain, base.priority, base.policy);
        }
      }
    });
    stages.push(bases.length / BASE_WORDS);
    return {
      words: this.words.share(),
      sets: this.sets.share(),
      chains,
      setCount,
      rows: share(rows),
      starts: share(starts),
      setStarts: share(setStarts),
      stages: share(stages),
      bases: share(bases),
    };
  }

  private endRule(): void {
    if (this.ruleAt >= 0) this.words.set(this.ruleAt, this.words.used - this.ruleAt);
    this.ruleAt = -1;
  }
}

/**
 * The base chains of a hook's stage as the kernel runs them: by priority, and of equal ones that which was registered
 * last comes first (nf_hook_entries_grow in net/netfilter/core.c), the kernel's own hooks included. Those of nat are
 * registered with the first chain of type nat, conntrack's with the first rule that asks for it, behind all chains of the
 * file that it stands in.
 */
function inKernelOrder(bases: readonly NftBaseChain[], hook: number, stage: number): NftBaseChain[] {
  const firstNat = bases.findIndex(({ nat }) => nat);
  const here = bases.filter(
    (base, i) => base.hook === hook && stageOf(base, firstNat !== -1 && i > firstNat) === stage,
  );
  return here.reverse().sort((a, b) => a.priority - b.priority);
}

function stageOf({ hook, nat, priority }: NftBaseChain, newerThanNat: boolean): number {
  if (nat) return STAGE_NAT;
  if (hook === HOOK_FORWARD) return STAGE_LAST;
  const early = hook === HOOK_PREROUTING || hook === HOOK_OUTPUT;
  if (early && priority < PRIORITY_CONNTRACK) return STAGE_EARLY;
  const natAt = early ? PRIORITY_NAT_DESTINATION : PRIORITY_NAT_SOURCE;
  return priority < natAt || (priority === natAt && newerThanNat) ? STAGE_FIRST : STAGE_LAST;
}

/** Words that grow. */
class Words {
  used = 0;
  private words = new Int32Array(1024);

  push(word: number): void {
    this.reserve(1);
    this.words[this.used++] = word;
  }

  set(at: number, word: number): void {
    this.words[at] = word;
  }

  append(more: Int32Array): number {
    const at = this.used;
    this.reserve(more.length);
    this.words.set(more, at);
    this.used += more.length;
    return at;
  }

  share(): Int32Array {
    return share(this.words.subarray(0, this.used));
  }

  private reserve(count: number): void {
    if (this.used + count <= this.words.length) return;
    const wider = new Int32Array(Math.max(this.words.length * 2, this.used + count));
    wider.set(this.words.subarray(0, this.used));
    this.words = wider;
  }
}

function share(from: ArrayLike<number>): Int32Array {
  const words = new Int32Array(new SharedArrayBuffer(from.length * 4));
  words.set(from);
  return words;
}
