/**
 * kube-proxy's rules as the engine's rule list (engine tables/rule-list.ts), for the nodes that are asked for.
 *
 * Addresses, interface and protocol come first in a rule, as the kernel checks a rule's header before its matches; the
 * matches keep their order. Comments and counters are not encoded. Chains that are empty on every node have no body, and
 * a base chain without rules no entry in `bases`.
 *
 * A rule id leads back to text and origins; ids, chain ids and list ids depend on the input alone.
 */

import {
  ADDRTYPE_LOCAL,
  CTSTATE_DNAT,
  CTSTATE_ESTABLISHED,
  CTSTATE_INVALID,
  CTSTATE_NEW,
  CTSTATE_RELATED,
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  HOOKS,
  IFACE_POD,
  MASQUERADE_OUTBOUND,
  MASQUERADE_RANDOM_FULLY,
  MATCH_CTDIR,
  MATCH_CTSTATE,
  MATCH_DPORT,
  MATCH_DST_OWNER,
  MATCH_DST_TYPE,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_ICMP,
  MATCH_IN_IFACE,
  MATCH_IPVS,
  MATCH_MARK,
  MATCH_MULTIPORT,
  MATCH_PROTO,
  MATCH_RECENT,
  MATCH_SET,
  MATCH_SRC_OWNER,
  MATCH_SRC_TYPE,
  MATCH_SRC4,
  MATCH_SRC6,
  MATCH_STATISTIC,
  PORTS_DST,
  RECENT_CHECK,
  RECENT_REAP,
  RECENT_SET,
  REJECT_PORT_UNREACHABLE,
  RULE_TABLES,
  RuleListBuilder,
  TABLE_FILTER,
  TABLE_MANGLE,
  TABLE_NAT,
  TABLE_RAW,
  TABLE_SECURITY,
  TARGET_ACCEPT,
  TARGET_CONTINUE,
  TARGET_DENY,
  TARGET_DNAT,
  TARGET_DROP,
  TARGET_GOTO,
  TARGET_JUMP,
  TARGET_MARK,
  TARGET_MASQUERADE,
  TARGET_REJECT,
  TARGET_RETURN,
} from '@flatpath/engine/tables/rule-list';
import { PROTO_ICMPV6 } from '@flatpath/engine/wire/icmp6';
import type { Family, Prefix } from '../model/address.ts';
import type { ChainInfo, CompiledRules, RuleInfo } from './iptables.ts';
import { BASE_CHAINS } from './iptables-base.ts';
import {
  type AddressMatch,
  type Chain,
  type ConntrackState,
  MASQUERADE_MARK,
  type Match,
  type Rule,
  ruleOrigins,
  type TableName,
} from './iptables-rules.ts';
import type { ServiceRules } from './iptables-service.ts';
import { ruleText } from './iptables-text.ts';
import { PROTOCOL_NUMBER } from './service-ports.ts';

const HOOK_OF: Readonly<Record<string, number>> = {
  PREROUTING: HOOK_PREROUTING,
  INPUT: HOOK_INPUT,
  FORWARD: HOOK_FORWARD,
  OUTPUT: HOOK_OUTPUT,
  POSTROUTING: HOOK_POSTROUTING,
};
const TABLE_OF: Readonly<Record<TableName, number>> = {
  raw: TABLE_RAW,
  mangle: TABLE_MANGLE,
  nat: TABLE_NAT,
  filter: TABLE_FILTER,
  security: TABLE_SECURITY,
};
const STATE_BIT: Readonly<Record<ConntrackState, number>> = {
  INVALID: CTSTATE_INVALID,
  NEW: CTSTATE_NEW,
  ESTABLISHED: CTSTATE_ESTABLISHED,
  RELATED: CTSTATE_RELATED,
  DNAT: CTSTATE_DNAT,
};
const LAST_CODE = 255;
/** Operand of MATCH_CTDIR. */
const DIRECTION_REPLY = 1;
const BASES = HOOKS * RULE_TABLES;

/** One node's part of the directory, before the number of chains is known. */
interface NodeRow {
  readonly node: number;
  /** Pairs of chain id and start. */
  readonly starts: number[];
  readonly bases: readonly number[];
  readonly policies: readonly number[];
}

/** Collects the nodes' chains; bodies that nodes share are written once. */
export class RuleEncoder {
  private readonly family: Family;
  private readonly builder = new RuleListBuilder();
  private readonly listNames: string[] = [];
  private readonly listIds = new Map<string, number>();
  private readonly rules: Rule[] = [];
  private readonly chains: ChainInfo[] = [];
  private readonly chainIds: Readonly<Record<TableName, Map<string, number>>> = {
    raw: new Map(),
    mangle: new Map(),
    nat: new Map(),
    filter: new Map(),
    security: new Map(),
  };
  /** Start of each encoded body. */
  private readonly bodies = new Map<Chain, number>();
  /** Pairs of chain id and start of all chains of a service port. */
  private readonly serviceStarts = new Map<ServiceRules, readonly number[]>();
  private readonly rows: NodeRow[] = [];
  private readonly setId: (name: string) => number;

  /** @param setId number of an ipset by its name; rules of a mode without ipsets ask none */
  constructor(family: Family, setId: (name: string) => number = noSet) {
    this.family = family;
    this.setId = setId;
  }

  /** @param dropping base chains whose policy is DROP; kube-proxy leaves it at ACCEPT */
  addNode(
    node: number,
    common: readonly Chain[],
    services: readonly ServiceRules[],
    dropping: readonly ChainInfo[] = [],
  ): void {
    const starts: number[] = [];
    const bases = new Array<number>(BASES).fill(-1);
    const policies = new Array<number>(BASES).fill(TARGET_ACCEPT);
    for (const { table, name } of dropping) policies[HOOK_OF[name]! * RULE_TABLES + TABLE_OF[table]] = TARGET_DROP;
    for (const chain of common) {
      if (chain.rules.length === 0) continue;
      const id = this.chainId(chain.table, chain.name);
      starts.push(id, this.bodyOf(chain));
      if (BASE_CHAINS[chain.table].includes(chain.name)) {
        bases[HOOK_OF[chain.name]! * RULE_TABLES + TABLE_OF[chain.table]] = id;
      }
    }
    for (const service of services) {
      for (const word of this.startsOf(service)) starts.push(word);
    }
    this.rows.push({ node, starts, bases, policies });
  }

  finish(nodes: number): CompiledRules {
    const { rules, chains, family, listNames } = this;
    const rows = new Int32Array(nodes).fill(-1);
    const starts = new Int32Array(this.rows.length * chains.length).fill(-1);
    const bases = new Int32Array(this.rows.length * BASES).fill(-1);
    const policies = new Int32Array(this.rows.length * BASES);
    this.rows.forEach((made, row) => {
      rows[made.node] = row;
      for (let i = 0; i < made.starts.length; i += 2) {
        starts[row * chains.length + made.starts[i]!] = made.starts[i + 1]!;
      }
      bases.set(made.bases, row * BASES);
      policies.set(made.policies, row * BASES);
    });
    return {
      rules: this.builder.build(chains.length, rows, starts, bases, policies),
      ruleCount: rules.length,
      rule: (id) => describeRule(rules, id, family),
      judgementOf: (id) => known(rules[id], 'rule', id).judgement,
      chain: (id) => known(chains[id], 'chain', id),
      recentLists: listNames.length,
      recentList: (id) => known(listNames[id], 'recent list', id),
    };
  }

  private startsOf(service: ServiceRules): readonly number[] {
    let starts = this.serviceStarts.get(service);
    if (starts === undefined) {
      const made: number[] = [];
      for (const chain of service.chains) made.push(this.chainId(chain.table, chain.name), this.bodyOf(chain));
      this.serviceStarts.set(service, made);
      starts = made;
    }
    return starts;
  }

  private chainId(table: TableName, name: string): number {
    const ids = this.chainIds[table];
    let id = ids.get(name);
    if (id === undefined) {
      id = this.chains.length;
      ids.set(name, id);
      this.chains.push({ table, name });
    }
    return id;
  }

  /** First of the ids that a list takes in the stamp table. */
  private listId(name: string, ids: number): number {
    let id = this.listIds.get(name);
    if (id === undefined) {
      id = this.listNames.length;
      this.listIds.set(name, id);
      for (let i = 0; i < ids; i++) this.listNames.push(name);
    }
    return id;
  }

  private bodyOf(chain: Chain): number {
    let start = this.bodies.get(chain);
    if (start === undefined) {
      start = this.builder.beginBody();
      this.bodies.set(chain, start);
      for (const rule of chain.rules) this.encodeRule(rule);
      this.builder.endBody();
    }
    return start;
  }

  private encodeRule(rule: Rule): void {
    const { builder } = this;
    const id = this.rules.length;
    this.rules.push(rule);
    this.encodeTarget(rule, id);
    if (rule.source !== null) this.encodeAddress(MATCH_SRC4, MATCH_SRC6, rule.source);
    if (rule.destination !== null) this.encodeAddress(MATCH_DST4, MATCH_DST6, rule.destination);
    // Bridge and interface prefix name the pods' side of the node; no other interface carries such a name.
    if (rule.inInterface !== null) builder.match(MATCH_IN_IFACE, rule.inInterface.invert, [IFACE_POD]);
    if (rule.protocol !== null) builder.match(MATCH_PROTO, false, [PROTOCOL_NUMBER[rule.protocol]]);
    for (const match of rule.matches) this.encodeMatch(match);
  }

  private encodeTarget(rule: Rule, id: number): void {
    const { builder } = this;
    const { target } = rule;
    if (target === null) {
      builder.rule(TARGET_CONTINUE, id, []);
      return;
    }
    switch (target.kind) {
      case 'accept':
        builder.rule(TARGET_ACCEPT, id, []);
        return;
      case 'drop':
        builder.rule(TARGET_DROP, id, []);
        return;
      case 'deny':
        builder.rule(TARGET_DENY, id, []);
        return;
      case 'return':
        builder.rule(TARGET_RETURN, id, []);
        return;
      case 'reject':
        builder.rule(TARGET_REJECT, id, [REJECT_PORT_UNREACHABLE]);
        return;
      case 'jump':
        builder.rule(TARGET_JUMP, id, [this.chainId(rule.table, target.chain)]);
        return;
      case 'goto':
        builder.rule(TARGET_GOTO, id, [this.chainId(rule.table, target.chain)]);
        return;
      case 'encoded':
        builder.rule(target.target, id, target.args);
        return;
      case 'mark':
        builder.rule(TARGET_MARK, id, [target.value, target.mask]);
        return;
      case 'dnat':
        builder.rule(TARGET_DNAT, id, [...target.address.words, target.port, target.port]);
        return;
      case 'masquerade':
        builder.rule(TARGET_MASQUERADE, id, [
          (target.randomFully ? MASQUERADE_RANDOM_FULLY : 0) | (target.outbound ? MASQUERADE_OUTBOUND : 0),
        ]);
        return;
    }
  }

  private encodeAddress(op4: number, op6: number, { prefix, invert }: AddressMatch): void {
    if (prefix.length === 0 && !invert) return;
    const mask = maskWords(prefix);
    if (this.family === 4) this.builder.match(op4, invert, [prefix.words[0], mask[0]!]);
    else this.builder.match(op6, invert, [...prefix.words, ...mask]);
  }

  private encodeMatch(match: Match): void {
    const { builder } = this;
    switch (match.kind) {
      case 'comment':
      case 'nfacct':
        return;
      case 'port':
        if (match.port !== null) builder.match(MATCH_DPORT, false, [match.port, match.port]);
        return;
      case 'ports': {
        const { ranges } = match;
        if (ranges.length === 1) builder.match(MATCH_DPORT, false, ranges[0]!);
        else builder.match(MATCH_MULTIPORT, false, [PORTS_DST, ...ranges.flat()]);
        return;
      }
      case 'icmp6':
        builder.match(MATCH_PROTO, false, [PROTO_ICMPV6]);
        builder.match(MATCH_ICMP, false, [match.type, 0, LAST_CODE]);
        return;
      case 'addrtype':
        builder.match(match.side === 'src' ? MATCH_SRC_TYPE : MATCH_DST_TYPE, match.invert, [ADDRTYPE_LOCAL]);
        return;
      case 'conntrack':
        builder.match(MATCH_CTSTATE, match.invert, [match.states.reduce((bits, state) => bits | STATE_BIT[state], 0)]);
        return;
      case 'reply':
        builder.match(MATCH_CTSTATE, false, [CTSTATE_ESTABLISHED]);
        builder.match(MATCH_CTDIR, false, [DIRECTION_REPLY]);
        return;
      case 'mark':
        builder.match(MATCH_MARK, match.invert, [MASQUERADE_MARK, MASQUERADE_MARK]);
        return;
      case 'statistic':
        builder.match(MATCH_STATISTIC, false, [match.threshold]);
        return;
      case 'recent': {
        const flags = match.seconds === 0 ? RECENT_SET : RECENT_CHECK | RECENT_REAP;
        builder.match(MATCH_RECENT, false, [flags, this.listId(match.list, 1), match.seconds]);
        return;
      }
      case 'owner':
        builder.match(match.side === 'src' ? MATCH_SRC_OWNER : MATCH_DST_OWNER, match.invert, [match.bits]);
        return;
      case 'set': {
        const sources = match.sides.reduce((bits, side, i) => bits | (side === 'src' ? 1 << i : 0), 0);
        builder.match(MATCH_SET, match.invert, [this.setId(match.set), sources]);
        return;
      }
      case 'ipvs':
        builder.match(MATCH_IPVS, false, [PROTOCOL_NUMBER[match.protocol], match.port, ...match.address.words]);
        return;
      case 'not-bridged':
        return;
      case 'encoded': {
        const lists = match.list === null ? [] : [this.listId(match.list.name, match.list.ids)];
        builder.match(match.op, match.invert, [...lists, ...match.operands]);
        return;
      }
    }
  }
}

function noSet(name: string): number {
  throw new RangeError(`there is no ipset '${name}'`);
}

function describeRule(rules: readonly Rule[], id: number, family: Family): RuleInfo {
  const rule = known(rules[id], 'rule', id);
  const [origin, ...further] = ruleOrigins(rule);
  if (origin === undefined) throw new Error(`rule ${id} has no origin`);
  return { table: rule.table, chain: rule.chain, text: ruleText(rule, family), origin, further };
}

function known<T>(value: T | undefined, what: string, id: number): T {
  if (value === undefined) throw new RangeError(`there is no ${what} ${id}`);
  return value;
}

function maskWords(prefix: Prefix): number[] {
  const mask: number[] = [];
  for (let word = 0; word < 4; word++) {
    const bits = Math.min(Math.max(prefix.length - word * 32, 0), 32);
    // A shift by 32 would be a shift by 0.
    mask.push(bits === 0 ? 0 : -1 << (32 - bits));
  }
  return mask;
}
