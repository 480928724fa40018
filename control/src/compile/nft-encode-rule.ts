/**
 * Statements of nftables rules as the engine's expressions (engine tables/nft-rules.ts), for the packets of one family.
 *
 * What nft adds of itself is added here too: `tcp dport` asks for the protocol first, `icmp type` likewise. A field of
 * the other family never holds. Counters, logs and limits have no expression. What the engine has no field for
 * (`fib saddr . mark type`, an interface where names are not known) throws `NftUnencodable`; the rule's encoder decides.
 */

import { OWNER_BIT_NONE } from '@flatpath/engine/programs/owner';
import {
  COMPARE_EQUAL,
  COMPARE_GREATER,
  COMPARE_GREATER_EQUAL,
  COMPARE_LESS,
  COMPARE_LESS_EQUAL,
  COMPARE_NOT_EQUAL,
  DYNAMIC_ADD,
  DYNAMIC_DELETE,
  DYNAMIC_UPDATE,
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
  EXPR_NEVER,
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
  NAT_FLAG_OUTBOUND,
  NAT_FLAG_PERSISTENT,
  NAT_FLAG_RANDOM,
  NAT_FLAG_RANDOM_FULLY,
  NFT_DENY,
  SELECT_DADDR_OWNER,
  SELECT_L4PROTO,
  SELECT_SADDR_OWNER,
  selectorWords,
} from '@flatpath/engine/tables/nft-rules';
import {
  REJECT_ADMIN_PROHIBITED,
  REJECT_HOST_PROHIBITED,
  REJECT_HOST_UNREACHABLE,
  REJECT_NET_PROHIBITED,
  REJECT_NET_UNREACHABLE,
  REJECT_POLICY_FAIL,
  REJECT_PORT_UNREACHABLE,
  REJECT_PROTO_UNREACHABLE,
  REJECT_ROUTE,
  REJECT_TCP_RESET,
} from '@flatpath/engine/tables/rule-list';
import type { Family } from '../model/address.ts';
import {
  hashBytes,
  hashWords,
  isVerdict,
  keyBounds,
  maskWords,
  NftUnencodable,
  valueWordsOf,
  verdictWords,
} from './nft-encode-value.ts';
import { classOfInterface, type NftInterfaces, NO_FIELD, protocolOf, selectorOf } from './nft-fields.ts';
import {
  datatypesOf,
  type NftDatatype,
  type NftExpression,
  type NftMapReference,
  type NftNatFlag,
  type NftOperator,
  type NftPorts,
  type NftReject,
  type NftStatement,
  type NftValue,
} from './nft-ruleset.ts';

/** What the statements of a table refer to by name. */
export interface NftScope {
  readonly family: Family;
  readonly interfaces: NftInterfaces | null;
  chainId(name: string): number;
  /** Number of a named set. Throws NftUnencodable where there is none. */
  setNumber(name: string): number;
  /** Words of a value of a named map. */
  valueWords(name: string): number;
  /** Writes anonymous elements; answers the operand. */
  anonymousSet(map: NftMapReference & { kind: 'elements' }, key: readonly NftDatatype[]): number;
  /** Number of the counter of a `numgen inc`. */
  nextCounter(): number;
}

const COMPARES: Readonly<Record<Exclude<NftOperator, 'in' | '!in'>, number>> = {
  '==': COMPARE_EQUAL,
  '!=': COMPARE_NOT_EQUAL,
  '<': COMPARE_LESS,
  '>': COMPARE_GREATER,
  '<=': COMPARE_LESS_EQUAL,
  '>=': COMPARE_GREATER_EQUAL,
};
const NAT_FLAGS: Readonly<Record<NftNatFlag, number>> = {
  random: NAT_FLAG_RANDOM,
  'fully-random': NAT_FLAG_RANDOM_FULLY,
  persistent: NAT_FLAG_PERSISTENT,
};
const DYNAMIC = { add: DYNAMIC_ADD, update: DYNAMIC_UPDATE, delete: DYNAMIC_DELETE } as const;
const REJECT_KINDS: Readonly<Record<NftReject['type'], Readonly<Record<number, number>>>> = {
  icmp: {
    0: REJECT_NET_UNREACHABLE,
    1: REJECT_HOST_UNREACHABLE,
    2: REJECT_PROTO_UNREACHABLE,
    3: REJECT_PORT_UNREACHABLE,
    9: REJECT_NET_PROHIBITED,
    10: REJECT_HOST_PROHIBITED,
    13: REJECT_ADMIN_PROHIBITED,
  },
  icmpv6: {
    0: REJECT_NET_UNREACHABLE,
    1: REJECT_ADMIN_PROHIBITED,
    3: REJECT_HOST_UNREACHABLE,
    4: REJECT_PORT_UNREACHABLE,
    5: REJECT_POLICY_FAIL,
    6: REJECT_ROUTE,
  },
  icmpx: {
    0: REJECT_NET_UNREACHABLE,
    1: REJECT_PORT_UNREACHABLE,
    2: REJECT_HOST_UNREACHABLE,
    3: REJECT_ADMIN_PROHIBITED,
  },
  'tcp-reset': { 0: REJECT_TCP_RESET },
};

/** The family whose packets an ICMP error of that kind belongs to. */
const REJECT_FAMILY: Readonly<Record<NftReject['type'], Family | null>> = {
  icmp: 4,
  icmpv6: 6,
  icmpx: null,
  'tcp-reset': null,
};
const PROTO_TCP = 6;

/** An expression of the engine: its op (EXPR_…) and operands. */
export type EncodedExpression = readonly [number, readonly number[]];

/** That which never holds: a rule of it alone never matches. */
export const NEVER: EncodedExpression = [EXPR_NEVER, []];

/**
 * A rule's statements, up to one that never holds.
 * @throws NftUnencodable if the engine cannot run one of them
 */
export function encodeStatements(statements: readonly NftStatement[], scope: NftScope): readonly EncodedExpression[] {
  const expressions: EncodedExpression[] = [];
  for (const statement of statements) if (!new StatementEncoder(scope, expressions).encode(statement)) break;
  return expressions;
}

class StatementEncoder {
  private readonly scope: NftScope;
  private readonly expressions: EncodedExpression[];
  /** The next free register. */
  private free = 0;

  constructor(scope: NftScope, expressions: EncodedExpression[]) {
    this.scope = scope;
    this.expressions = expressions;
  }

  /** Answers false where nothing behind the statement can be reached. */
  encode(statement: NftStatement): boolean {
    switch (statement.kind) {
      case 'match':
        return this.match(statement.left, statement.operator, statement.right);
      case 'vmap': {
        const key = this.load(statement.key);
        if (key < 0) return this.never();
        this.emit(EXPR_VERDICT_MAP, [this.map(statement.map, datatypesOf(statement.key)), key]);
        return true;
      }
      case 'verdict':
        this.emit(EXPR_VERDICT, verdictWords(statement.verdict, this.scope.chainId));
        return true;
      case 'reject':
        return this.reject(statement.with);
      case 'masquerade':
        this.emit(EXPR_MASQUERADE, [...this.ports(statement.ports), flagBits(statement.flags)]);
        return true;
      case 'outbound-masquerade':
        this.emit(EXPR_MASQUERADE, [-1, -1, NAT_FLAG_RANDOM_FULLY | NAT_FLAG_OUTBOUND]);
        return true;
      case 'redirect':
        this.emit(EXPR_REDIRECT, [...this.ports(statement.ports), flagBits(statement.flags)]);
        return true;
      case 'dnat':
      case 'snat':
        return this.nat(statement);
      case 'set': {
        const register = this.operand(statement.value);
        if (register < 0) return this.never();
        this.emit(statement.target === 'ct mark' ? EXPR_SET_CT_MARK : EXPR_SET_MARK, [register]);
        return true;
      }
      case 'dynset': {
        const key = this.load(statement.key);
        if (key < 0) return this.never();
        const life = statement.timeoutSeconds === null ? -1 : statement.timeoutSeconds * 1000;
        this.emit(EXPR_DYNAMIC, [DYNAMIC[statement.operation], this.scope.setNumber(statement.set), key, life]);
        return true;
      }
      case 'notrack':
        this.emit(EXPR_NOTRACK, []);
        return true;
      case 'deny':
        this.emit(EXPR_VERDICT, [NFT_DENY, -1]);
        return true;
      case 'owner': {
        const selector = statement.side === 'saddr' ? SELECT_SADDR_OWNER : SELECT_DADDR_OWNER;
        // An address without an owner has a bit of its own, so one of the bits is always set.
        const bits = statement.bits & ~OWNER_BIT_NONE;
        this.emit(EXPR_MATCH, [selector, statement.invert ? COMPARE_EQUAL : COMPARE_NOT_EQUAL, bits, 0]);
        return true;
      }
      case 'counter':
      case 'log':
      case 'limit':
      case 'ignored':
        return true;
      case 'exceeded':
      case 'unknown':
        return this.never();
    }
  }

  private emit(op: number, operands: readonly number[]): void {
    this.expressions.push([op, operands]);
  }

  private never(): false {
    this.expressions.push(NEVER);
    return false;
  }

  private match(left: NftExpression, operator: NftOperator, right: NftValue | NftMapReference): boolean {
    const { interfaces } = this.scope;
    if (right.kind === 'named' || right.kind === 'elements') {
      const key = this.load(left);
      if (key < 0) return this.never();
      this.emit(EXPR_LOOKUP, [this.map(right, datatypesOf(left)), key, operator === '!=' ? 1 : 0]);
      return true;
    }
    if (right.kind === 'name' && interfaces === null) return this.matchClass(left, operator, right.name);
    const simple = this.matchWord(left, operator, right);
    if (simple !== null) return simple;
    if (operator === 'in' || operator === '!in') throw new NftUnencodable('bits of more than one word');
    const key = this.load(left);
    if (key < 0) return this.never();
    const bounds = keyBounds(right, interfaces);
    if (bounds === null) throw new NftUnencodable('* is no value to compare with');
    const { first, last } = bounds;
    if (first.every((word, i) => word === last[i])) this.emit(EXPR_COMPARE, [COMPARES[operator], key, ...first]);
    else this.emit(EXPR_RANGE, [operator === '!=' ? 1 : 0, key, ...first, ...last]);
    return true;
  }

  /** A field of one word against a number, an IPv4 address or prefix: one expression. Null where it takes more. */
  private matchWord(left: NftExpression, operator: NftOperator, right: NftValue): boolean | null {
    let field = left;
    let mask = -1;
    if (left.kind === 'bitwise' && left.operator === 'and' && left.right.kind === 'number') {
      field = left.left;
      mask = left.right.value;
    }
    const selector = selectorOf(field, this.scope.family);
    if (selector === null) return null;
    if (selector === NO_FIELD) return this.never();
    if (selectorWords(selector) !== 1) return null;
    let value: number;
    if (right.kind === 'number') value = right.value;
    else if (right.kind === 'address' && right.address.family === 4) value = right.address.words[0];
    else if (right.kind === 'prefix' && right.prefix.family === 4) {
      value = right.prefix.words[0];
      mask &= maskWords(right.prefix)[0]!;
    } else return null;
    this.require(field);
    if (operator === 'in') this.emit(EXPR_MATCH, [selector, COMPARE_NOT_EQUAL, mask & value, 0]);
    else if (operator === '!in') this.emit(EXPR_MATCH, [selector, COMPARE_EQUAL, mask & value, 0]);
    else this.emit(EXPR_MATCH, [selector, COMPARES[operator], mask, value]);
    return true;
  }

  /** An interface where only classes are known: bridge and interface prefix name the pods' side of the node. */
  private matchClass(left: NftExpression, operator: NftOperator, name: string): boolean {
    const known = classOfInterface(left, name);
    if (known === null) throw new NftUnencodable(`the interfaces that "${name}" names are not known`);
    const compare = operator === '!=' ? COMPARE_EQUAL : COMPARE_NOT_EQUAL;
    this.emit(EXPR_MATCH, [known.selector, compare, known.classes, 0]);
    return true;
  }

  /** What nft asks before it reads a field: the protocol that has it. */
  private require(expression: NftExpression): void {
    const protocol = protocolOf(expression);
    if (protocol !== 0) this.emit(EXPR_MATCH, [SELECT_L4PROTO, COMPARE_EQUAL, -1, protocol]);
  }

  /** Puts what an expression asks for into registers; answers the first, -1 where no packet of the family has it. */
  private load(expression: NftExpression): number {
    const at = this.free;
    switch (expression.kind) {
      case 'payload':
      case 'meta':
      case 'ct':
      case 'fib': {
        const selector = selectorOf(expression, this.scope.family);
        if (selector === null) throw new NftUnencodable('the engine has no such field');
        if (selector === NO_FIELD) return -1;
        this.require(expression);
        this.emit(EXPR_LOAD, [selector, at]);
        this.free += selectorWords(selector);
        return at;
      }
      case 'concat': {
        // A field that asks for its protocol uses no register, so the parts lie side by side.
        for (const part of expression.parts) if (this.load(part) < 0) return -1;
        return at;
      }
      case 'numgen': {
        const { mode, modulus, offset } = expression;
        if (mode === 'random') this.emit(EXPR_RANDOM, [modulus, offset, at]);
        else this.emit(EXPR_INCREMENT, [modulus, offset, at, this.scope.nextCounter()]);
        this.free++;
        return at;
      }
      case 'hash':
        return this.hash(expression);
      case 'bitwise':
        return this.bitwise(expression);
      case 'lookup': {
        const key = this.load(expression.key);
        if (key < 0) return -1;
        const value = this.free;
        this.free += this.lookupWords(expression.map);
        this.emit(EXPR_MAP, [this.map(expression.map, datatypesOf(expression.key)), key, value]);
        return value;
      }
    }
  }

  private bitwise({ operator, left, right }: NftExpression & { kind: 'bitwise' }): number {
    const at = this.load(left);
    if (at < 0) return -1;
    const words = valueWordsOf(right);
    if (operator === 'lshift') this.emit(EXPR_SHIFT, [at, words[0]!]);
    else if (operator === 'rshift') this.emit(EXPR_SHIFT, [at, -words[0]!]);
    else {
      const pairs = words.flatMap((word) => {
        if (operator === 'and') return [word, 0];
        return operator === 'or' ? [~word, word] : [-1, word];
      });
      this.emit(EXPR_BITWISE, [at, ...pairs]);
    }
    return at;
  }

  private hash({ key, modulus, seed, offset }: NftExpression & { kind: 'hash' }): number {
    if (key === null) {
      const at = this.free++;
      this.emit(EXPR_SYMHASH, [modulus, offset, at]);
      return at;
    }
    const from = this.load(key);
    if (from < 0) return -1;
    const kinds = datatypesOf(key).flatMap(hashWords);
    const at = this.free++;
    // A single field is hashed in its own length, each of several takes whole registers.
    const length = kinds.length === 1 ? hashBytes(kinds[0]!) : 4 * kinds.length;
    this.emit(EXPR_JHASH, [modulus, offset, at, seed === null ? 0 : 1, seed ?? 0, length, from, ...kinds]);
    return at;
  }

  /** Puts a value, or what an expression asks for, into registers. */
  private operand(operand: NftValue | NftExpression): number {
    switch (operand.kind) {
      case 'number':
      case 'address':
        return this.immediate(valueWordsOf(operand));
      case 'prefix':
      case 'range':
      case 'name':
      case 'any':
        throw new NftUnencodable(`a ${operand.kind} is no single value`);
      case 'concat': {
        const at = this.free;
        for (const part of operand.parts) if (this.operand(part) < 0) return -1;
        return at;
      }
      default:
        return this.load(operand);
    }
  }

  private immediate(words: readonly number[]): number {
    const at = this.free;
    this.emit(EXPR_IMMEDIATE, [at, ...words]);
    this.free += words.length;
    return at;
  }

  private nat({ kind, family, address, ports, flags }: NftStatement & { kind: 'dnat' | 'snat' }): boolean {
    if (family !== null && family !== (this.scope.family === 4 ? 'ip' : 'ip6')) return this.never();
    const op = kind === 'dnat' ? EXPR_DNAT : EXPR_SNAT;
    let first = -1;
    let last = -1;
    let mapped: [number, number] | null = null;
    if (address !== null && (address.kind === 'prefix' || address.kind === 'range')) {
      const bounds = keyBounds(address, null)!;
      first = this.immediate(bounds.first);
      last = this.immediate(bounds.last);
    } else if (address !== null) {
      first = this.operand(address);
      if (first < 0) return this.never();
      last = first;
      const words = this.scope.family === 4 ? 1 : 4;
      // A map may answer with `address . port`.
      if (this.free - first > words && address.kind === 'lookup') mapped = [first + words, first + words];
    }
    this.emit(op, [first, last, ...(mapped ?? this.ports(ports)), flagBits(flags)]);
    return true;
  }

  /** Registers of the first and last port, -1 without. */
  private ports(ports: NftPorts | null): [number, number] {
    if (ports === null) return [-1, -1];
    const first = this.immediate([ports.first]);
    return [first, ports.first === ports.last ? first : this.immediate([ports.last])];
  }

  private reject(reject: NftReject): boolean {
    const family = REJECT_FAMILY[reject.type];
    if (family !== null && family !== this.scope.family) return this.never();
    const kind = REJECT_KINDS[reject.type][reject.code];
    if (kind === undefined) throw new NftUnencodable(`reject with ${reject.type} code ${reject.code}`);
    if (reject.type === 'tcp-reset') this.emit(EXPR_MATCH, [SELECT_L4PROTO, COMPARE_EQUAL, -1, PROTO_TCP]);
    this.emit(EXPR_REJECT, [kind]);
    return true;
  }

  private map(map: NftMapReference, key: readonly NftDatatype[]): number {
    return map.kind === 'named' ? this.scope.setNumber(map.name) : this.scope.anonymousSet(map, key);
  }

  private lookupWords(map: NftMapReference): number {
    if (map.kind === 'named') return this.scope.valueWords(map.name);
    const value = map.elements[0]?.value;
    if (value === undefined || value === null || isVerdict(value)) throw new NftUnencodable('a map without values');
    return valueWordsOf(value).length;
  }
}

function flagBits(flags: readonly NftNatFlag[]): number {
  return flags.reduce((bits, flag) => bits | NAT_FLAGS[flag], 0);
}
