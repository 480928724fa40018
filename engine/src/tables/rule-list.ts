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
 *                      MASQUERADE: flags (MASQUERADE_…); with MASQUERADE_PORTS then first, last port ·
 *                      those of dumps only are listed at each TARGET_…
 *     then matches until r+size, evaluated in order, all must hold:
 *     m+0  op (MATCH_…) | MATCH_INVERT | size in words << 8
 *     m+1… operands, listed at each MATCH_…
 *
 * Directory, a row for each node that was compiled (`rows[node]`, -1 for the others): `starts[row * chains + chain]` is
 * the word at which the node's body of the chain begins, -1 where it has no such chain. Nodes share bodies that are equal.
 * `bases[(row * HOOKS + hook) * RULE_TABLES + table]` is the chain that the hook enters, -1 for none; `policies` beside it is
 * TARGET_ACCEPT or TARGET_DROP.
 *
 * Most rules of a large chain ask for one destination address first (KUBE-SERVICES: a rule a Service). Where a body begins
 * with RUN_LEAST such rules or more, a *run* tells their addresses, so that a walk over rules that do not match reads one
 * word of each: `runs[row * chains + chain]`, -1 for none, is the word behind all bodies at which it begins:
 *
 *     u+0  rules   u+1  the word behind the last of them   u+2… address of each (IPv6: its last word)
 *     then the word of each
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
export const TABLE_SECURITY = 4;
export const RULE_TABLES = 5;

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
/** Arguments: CONNMARK_…, a, b. SET: c = c & ~b ^ a · SAVE: c = c & ~b ^ mark & a · RESTORE: mark = mark & ~a ^ c & b. */
export const TARGET_CONNMARK = 12;
/** Arguments: RANGE_… flags, first, last and base port, four words each of the first and the last address. */
export const TARGET_DNAT_RANGE = 13;
export const TARGET_SNAT_RANGE = 14;
/** Arguments: RANGE_… flags, first, last port: to an address of the incoming interface, of lo for a local process. */
export const TARGET_REDIRECT = 15;
/** Arguments: four address words, four mask words: the masked part of the address changes, source or destination by hook. */
export const TARGET_NETMAP = 16;
/** DROP by a policy. */
export const TARGET_DENY = 17;

export const REJECT_PORT_UNREACHABLE = 0;
export const REJECT_HOST_UNREACHABLE = 1;
export const REJECT_NET_UNREACHABLE = 2;
export const REJECT_PROTO_UNREACHABLE = 3;
export const REJECT_NET_PROHIBITED = 4;
export const REJECT_HOST_PROHIBITED = 5;
export const REJECT_ADMIN_PROHIBITED = 6;
export const REJECT_TCP_RESET = 7;
/** IPv6 only: source address failed policy, reject route to destination. */
export const REJECT_POLICY_FAIL = 8;
export const REJECT_ROUTE = 9;

export const MASQUERADE_RANDOM_FULLY = 1;
/** The CNI's masquerade of pod traffic to the outside, as against a Service's. */
export const MASQUERADE_OUTBOUND = 2;
export const MASQUERADE_PORTS = 4;
/** A port of the range at random, where the source port would do too. */
export const MASQUERADE_RANDOM = 8;

/** An address range is given; without it the address stays. */
export const RANGE_ADDRESS = 1;
/** A port range is given; without it the port stays. */
export const RANGE_PORTS = 2;
/** Any port of the range, also where the frame's own would do. */
export const RANGE_RANDOM = 4;
/** The address depends on the source alone. */
export const RANGE_PERSISTENT = 8;
/** The port is moved by its distance from the base port. */
export const RANGE_OFFSET = 16;

export const CONNMARK_SET = 0;
export const CONNMARK_SAVE = 1;
export const CONNMARK_RESTORE = 2;

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
/** Operands: set id, sides: bit i is set where dimension i of the set is the packet's source (programs/rule-set.ts). */
export const MATCH_SET = 20;
/** Operands: protocol number, port, four address words: the frame is of an IPVS connection to that virtual server (xt_ipvs). */
export const MATCH_IPVS = 21;

/**
 * Matches from here on are of dumps and policies only (programs/rule-match-further.ts) and count their inversion
 * themselves: some are true or false, inverted or not, where there is nothing to ask. Ports, addresses and numbers are first … last.
 */
export const MATCH_FURTHER = 32;
/** False, inverted or not: a rule that cannot be decided. */
export const MATCH_NEVER = 32;
/** Operands: first, last number of an interface (programs/interface.ts). */
export const MATCH_IN_DEVICE = 33;
export const MATCH_OUT_DEVICE = 34;
/** Operands: PORTS_… sides, then pairs of first and last port, one of which must hold. */
export const MATCH_MULTIPORT = 35;
/** Operands: first, last. Bytes of the IP packet; time to live or hop limit. */
export const MATCH_LENGTH = 36;
export const MATCH_TTL = 37;
/** Operands: value, mask of the type of service or traffic class. */
export const MATCH_TOS = 38;
/** Operand: set of PACKET_… bits. */
export const MATCH_PACKET_TYPE = 39;
/** Operands: first four and last two bytes of the sender's MAC address. */
export const MATCH_MAC = 40;
/** Operands: first, last address, one word each or four. */
export const MATCH_SRC_RANGE4 = 41;
export const MATCH_DST_RANGE4 = 42;
export const MATCH_SRC_RANGE6 = 43;
export const MATCH_DST_RANGE6 = 44;
/** Operand: kind of a TCP option that must be there. */
export const MATCH_TCP_OPTION = 45;
/** Operands: first, last maximum segment size; false without the option. */
export const MATCH_TCP_MSS = 46;
/** Operands: CHUNKS_…, eight words with a bit a chunk type. */
export const MATCH_SCTP_CHUNKS = 47;
/** Operands: set of ADDRTYPE_… bits, TYPE_… : of an address, as seen on one interface of the frame. */
export const MATCH_TYPE_ON = 48;
/** Operand: PHYSDEV_…. */
export const MATCH_PHYSDEV = 49;
/** Operand: RPFILTER_… flags. */
export const MATCH_RPFILTER = 50;
/** Operands: the answer for frames of a local process, the answer for all others. */
export const MATCH_PROCESS = 51;
/** Operands: set of CTSTATUS_… bits. This and the next six hold, inverted or not, for a frame without a connection. */
export const MATCH_CTSTATUS = 52;
/** Operand: 0 original, 1 reply. */
export const MATCH_CTDIR = 53;
/** Operand: protocol number. */
export const MATCH_CTPROTO = 54;
/** Operands: TUPLE_…, address and mask, one word each or four. */
export const MATCH_CTADDR4 = 55;
export const MATCH_CTADDR6 = 56;
/** Operands: TUPLE_…, first, last port. */
export const MATCH_CTPORT = 57;
/** Operands: first, last second that the connection has left. */
export const MATCH_CTEXPIRE = 58;
/** Operands: value, mask: (connection's mark & mask) == value. False, inverted or not, without a connection. */
export const MATCH_CONNMARK = 59;
/** Operands: list id, RECENT_… flags, seconds (0: any age), hits, stamps kept (a power of two), four mask words. */
export const MATCH_RECENT_LIST = 60;
/** Operands: list id of the counter, every, packet: of `every` frames number `packet`, counted from 0. */
export const MATCH_NTH = 61;

export const PORTS_SRC = 1;
export const PORTS_DST = 2;

export const PACKET_UNICAST = 1;
export const PACKET_BROADCAST = 2;
export const PACKET_MULTICAST = 4;

export const CHUNKS_ALL = 0;
export const CHUNKS_ANY = 1;
export const CHUNKS_ONLY = 2;

export const TYPE_SRC_IN = 0;
export const TYPE_SRC_OUT = 1;
export const TYPE_DST_IN = 2;
export const TYPE_DST_OUT = 3;

/** Came in by a port of a bridge; leaves by one, bridged; is bridged. */
export const PHYSDEV_IS_IN = 0;
export const PHYSDEV_IS_OUT = 1;
export const PHYSDEV_IS_BRIDGED = 2;

export const RPFILTER_LOOSE = 1;
export const RPFILTER_ACCEPT_LOCAL = 2;

export const CTSTATUS_EXPECTED = 1;
export const CTSTATUS_SEEN_REPLY = 2;
export const CTSTATUS_ASSURED = 4;
export const CTSTATUS_CONFIRMED = 8;

/** Of a connection's two tuples: what its first packet carried, what replies carry. */
export const TUPLE_ORIG_SRC = 0;
export const TUPLE_ORIG_DST = 1;
export const TUPLE_REPL_SRC = 2;
export const TUPLE_REPL_DST = 3;

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
export const ADDRTYPE_ANYCAST = 16;
export const ADDRTYPE_BLACKHOLE = 32;
export const ADDRTYPE_UNREACHABLE = 64;
export const ADDRTYPE_PROHIBIT = 128;
/** ::; IPv4 has no such type. */
export const ADDRTYPE_UNSPEC = 256;

export const RECENT_SET = 1;
export const RECENT_CHECK = 2;
export const RECENT_UPDATE = 4;
export const RECENT_REMOVE = 8;
export const RECENT_REAP = 16;
/** Of MATCH_RECENT_LIST alone: keyed by the destination; the time to live must be that of the last frame. */
export const RECENT_DST = 32;
export const RECENT_TTL = 64;

export const IFACE_LOOPBACK = 1;
export const IFACE_UPLINK = 2;
export const IFACE_POD = 4;

export interface RuleList {
  readonly words: Int32Array;
  /** Chains that exist on any node. */
  readonly chains: number;
  readonly rows: Int32Array;
  readonly starts: Int32Array;
  readonly runs: Int32Array;
  readonly bases: Int32Array;
  readonly policies: Int32Array;
}

/** Appends rules to bodies; the compiler drives it and keeps what belongs to a rule id. */
/** Rules that a run has at least. */
const RUN_LEAST = 16;
/** Words of a run before its addresses. */
export const RUN_HEAD = 2;

const FIRST_DST4 = MATCH_DST4 | (3 << 8);
const FIRST_DST6 = MATCH_DST6 | (9 << 8);

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
    const runs = this.addRuns(starts);
    return {
      words: share(this.words.subarray(0, this.used)),
      chains,
      rows: share(rows),
      starts: share(starts),
      runs: share(runs),
      bases: share(bases),
      policies: share(policies),
    };
  }

  /** Adds the runs of the bodies that have one; for each start its run. */
  private addRuns(starts: ArrayLike<number>): Int32Array {
    const runOf = new Map<number, number>([[-1, -1]]);
    const bodiesEnd = this.used;
    return Int32Array.from(starts, (start) => {
      let run = runOf.get(start);
      if (run === undefined) {
        run = start < bodiesEnd ? this.addRun(start) : -1;
        runOf.set(start, run);
      }
      return run;
    });
  }

  private addRun(start: number): number {
    const rules: number[] = [];
    const addresses: number[] = [];
    let r = start;
    for (; this.words[r]! !== 0; r += this.words[r]!) {
      const address = plainDestination(this.words, r);
      if (address === null) break;
      rules.push(r);
      addresses.push(address);
    }
    if (rules.length < RUN_LEAST) return -1;
    const run = this.used;
    for (const word of [rules.length, r, ...addresses, ...rules]) this.push(word);
    return run;
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

/** The address (IPv6: its last word) that the rule's first match asks for and nothing else; null for any other rule. */
function plainDestination(words: Int32Array, r: number): number | null {
  const m = r + words[r + 2]!;
  if (m >= r + words[r]!) return null;
  if (words[m] === FIRST_DST4) return words[m + 2] === -1 ? words[m + 1]! : null;
  if (words[m] !== FIRST_DST6) return null;
  const isWhole = (words[m + 5]! & words[m + 6]! & words[m + 7]! & words[m + 8]!) === -1;
  return isWhole ? words[m + 4]! : null;
}

function share(from: ArrayLike<number>): Int32Array {
  const words = new Int32Array(new SharedArrayBuffer(from.length * 4));
  words.set(from);
  return words;
}
