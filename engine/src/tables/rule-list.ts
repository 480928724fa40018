/**
 * Rule lists: chains of rules as flat integers, walked in order by the rule interpreter.
 *
 * Bodies (`words`), one chain after the other. A body is a run of rules closed by one word 0:
 *
 *     r+0  size of the rule in words (0: end of chain)
 *     r+1  target (TARGET_…)
 *     r+2  offset from r of the first match; the words r+4 … are the target's arguments
 *     r+3  rule id: what the compiler knows about the rule is found by it (origin, chain, text)
 *     r+4… arguments:  JUMP, GOTO: chain id · MARK: value, mask (new = old & ~mask ^ value) · REJECT: REJECT_… ·
 *                      DNAT, SNAT: address words 0-3, first port, last port (-1: port stays) ·
 *                      MASQUERADE: flags (MASQUERADE_RANDOM_FULLY, MASQUERADE_OUTBOUND)
 *     then matches until r+size, evaluated in order, all must hold:
 *     m+0  op (MATCH_…) | MATCH_INVERT | size in words << 8
 *     m+1… operands, listed at each MATCH_…
 *
 * Directory, a row for each node that was compiled (`rows[node]`, -1 for the others): `starts[row * chains + chain]` is
 * the word at which the node's body of the chain begins, -1 where it has no such chain. Nodes share bodies that are equal.
 * `bases[row * 20 + hook * 4 + table]` is the chain that the hook enters, -1 for none; `policies` beside it is
 * TARGET_ACCEPT or TARGET_DROP.
 *
 * Written by the compiler only, read by all; a change is a new rule list in a new image.
 */

export const HOOK_PREROUTING = 0;
export const HOOK_INPUT = 1;
export const HOOK_FORWARD = 2;
export const HOOK_OUTPUT = 3;
export const HOOK_POSTROUTING = 4;
export const HOOKS = 5;

export const TABLE_RAW = 0;
export const TABLE_MANGLE = 1;
export const TABLE_NAT = 2;
export const TABLE_FILTER = 3;
export const RULE_TABLES = 4;

/** No target: the rule's matches may have effects, the walk goes on. */
export const TARGET_CONTINUE = 0;
export const TARGET_ACCEPT = 1;
export const TARGET_DROP = 2;
export const TARGET_RETURN = 3;
export const TARGET_JUMP = 4;
export const TARGET_GOTO = 5;
export const TARGET_REJECT = 6;
export const TARGET_MARK = 7;
export const TARGET_DNAT = 8;
export const TARGET_SNAT = 9;
export const TARGET_MASQUERADE = 10;
export const TARGET_NOTRACK = 11;

export const REJECT_PORT_UNREACHABLE = 0;
export const REJECT_HOST_UNREACHABLE = 1;
export const REJECT_NET_UNREACHABLE = 2;
export const REJECT_PROTO_UNREACHABLE = 3;
export const REJECT_NET_PROHIBITED = 4;
export const REJECT_HOST_PROHIBITED = 5;
export const REJECT_ADMIN_PROHIBITED = 6;
export const REJECT_TCP_RESET = 7;

export const MASQUERADE_RANDOM_FULLY = 1;
/** The CNI's masquerade of pod traffic to the outside, as against a Service's. */
export const MASQUERADE_OUTBOUND = 2;

/** Words in front of a rule's target arguments. */
export const RULE_HEAD = 4;

export const MATCH_INVERT = 0x80;
/** Operands: address, mask. */
export const MATCH_SRC4 = 1;
export const MATCH_DST4 = 2;
/** Operands: four address words, four mask words. */
export const MATCH_SRC6 = 3;
export const MATCH_DST6 = 4;
/** Operand: protocol number. */
export const MATCH_PROTO = 5;
/** Operands: first, last port. False for a protocol without ports and for later fragments, inverted or not. */
export const MATCH_SPORT = 6;
export const MATCH_DPORT = 7;
/** Operands: value, mask: (mark & mask) == value. */
export const MATCH_MARK = 8;
/** Operand: set of CTSTATE_… bits. */
export const MATCH_CTSTATE = 9;
/** Operand: set of ADDRTYPE_… bits. */
export const MATCH_SRC_TYPE = 10;
export const MATCH_DST_TYPE = 11;
/** Operand: threshold of 2^31: matches when a 31-bit random number is below it. A choice point. */
export const MATCH_STATISTIC = 12;
/** Operands: RECENT_… flags, list id, seconds (0: any age). Keyed by the source address. */
export const MATCH_RECENT = 13;
/** Operand: set of IFACE_… bits: the class of the interface that the packet came in by or leaves by. */
export const MATCH_IN_IFACE = 14;
export const MATCH_OUT_IFACE = 15;
/** Operand: set of OWNER_BIT_… bits: what owns the address (compiled from sets such as an ip-masq-agent's). */
export const MATCH_SRC_OWNER = 16;
export const MATCH_DST_OWNER = 17;
/** Operands: mask, value of the TCP flags byte. */
export const MATCH_TCP_FLAGS = 18;
/** Operands: type, first code, last code. */
export const MATCH_ICMP = 19;

export const CTSTATE_INVALID = 1;
export const CTSTATE_NEW = 2;
export const CTSTATE_ESTABLISHED = 4;
export const CTSTATE_RELATED = 8;
export const CTSTATE_UNTRACKED = 16;
export const CTSTATE_SNAT = 32;
export const CTSTATE_DNAT = 64;

export const ADDRTYPE_LOCAL = 1;
export const ADDRTYPE_UNICAST = 2;
export const ADDRTYPE_BROADCAST = 4;
export const ADDRTYPE_MULTICAST = 8;

export const RECENT_SET = 1;
export const RECENT_CHECK = 2;
export const RECENT_UPDATE = 4;
export const RECENT_REMOVE = 8;
export const RECENT_REAP = 16;

export const IFACE_LOOPBACK = 1;
export const IFACE_UPLINK = 2;
export const IFACE_POD = 4;

export interface RuleList {
  readonly words: Int32Array;
  /** Chains that exist on any node. */
  readonly chains: number;
  readonly rows: Int32Array;
  readonly starts: Int32Array;
  readonly bases: Int32Array;
  readonly policies: Int32Array;
}

/** Appends rules to bodies; the compiler drives it and keeps what belongs to a rule id. */
export class RuleListBuilder {
  private words = new Int32Array(1024);
  private used = 0;
  private ruleAt = -1;
  private matching = false;

  /** Begins a chain's body; answers its start, for the directory. */
  beginBody(): number {
    return this.used;
  }

  /** Closes the body. */
  endBody(): void {
    this.endRule();
    this.push(0);
  }

  /** Begins a rule; its matches follow by `match`. */
  rule(target: number, ruleId: number, args: readonly number[]): void {
    this.endRule();
    this.ruleAt = this.used;
    this.push(0);
    this.push(target);
    this.push(RULE_HEAD + args.length);
    this.push(ruleId);
    for (const arg of args) this.push(arg);
    this.matching = true;
  }

  /** Adds a match to the rule begun last. */
  match(op: number, invert: boolean, operands: readonly number[]): void {
    if (!this.matching) throw new Error('a match needs a rule');
    this.push(op | (invert ? MATCH_INVERT : 0) | ((1 + operands.length) << 8));
    for (const operand of operands) this.push(operand);
  }

  /**
   * The rule list in shared memory.
   * @param rows row of each node, -1 for none
   * @param starts `chains` entries a row
   * @param bases HOOKS × RULE_TABLES chain ids a row; `policies` likewise
   */
  build(
    chains: number,
    rows: ArrayLike<number>,
    starts: ArrayLike<number>,
    bases: ArrayLike<number>,
    policies: ArrayLike<number>,
  ): RuleList {
    return {
      words: share(this.words.subarray(0, this.used)),
      chains,
      rows: share(rows),
      starts: share(starts),
      bases: share(bases),
      policies: share(policies),
    };
  }

  private endRule(): void {
    if (this.ruleAt >= 0) this.words[this.ruleAt] = this.used - this.ruleAt;
    this.ruleAt = -1;
    this.matching = false;
  }

  private push(word: number): void {
    if (this.used === this.words.length) {
      const wider = new Int32Array(this.words.length * 2);
      wider.set(this.words);
      this.words = wider;
    }
    this.words[this.used++] = word;
  }
}

function share(from: ArrayLike<number>): Int32Array {
  const words = new Int32Array(new SharedArrayBuffer(from.length * 4));
  words.set(from);
  return words;
}
