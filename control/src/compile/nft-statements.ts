/**
 * The statements that kube-proxy's nftables rules are made of, as data. Those that never differ are made once and shared.
 */

import type { Address, Family, Prefix } from '../model/address.ts';
import type { Protocol } from '../model/port.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import { mergePrefixes } from './nft-intervals.ts';
import type {
  NftExpression,
  NftMapReference,
  NftMetaKey,
  NftRule,
  NftSource,
  NftStatement,
  NftValue,
  NftVerdict,
} from './nft-ruleset.ts';
import { PROTOCOL_NUMBER } from './service-ports.ts';

type Side = 'saddr' | 'daddr';

const ADDRESSES: Readonly<Record<Family, Readonly<Record<Side, NftExpression>>>> = {
  4: { saddr: { kind: 'payload', field: 'ip saddr' }, daddr: { kind: 'payload', field: 'ip daddr' } },
  6: { saddr: { kind: 'payload', field: 'ip6 saddr' }, daddr: { kind: 'payload', field: 'ip6 daddr' } },
};
/** `meta l4proto`. */
export const L4_PROTOCOL: NftExpression = { kind: 'meta', key: 'l4proto' };
const MARK: NftExpression = { kind: 'meta', key: 'mark' };
const DESTINATION_PORT: NftExpression = { kind: 'payload', field: 'th dport' };

/** `meta l4proto . th dport`. */
export const PROTOCOL_AND_PORT: NftExpression = { kind: 'concat', parts: [L4_PROTOCOL, DESTINATION_PORT] };

/** `ip daddr . meta l4proto . th dport`. */
export const ADDRESS_PROTOCOL_PORT: Readonly<Record<Family, NftExpression>> = {
  4: { kind: 'concat', parts: [ADDRESSES[4].daddr, L4_PROTOCOL, DESTINATION_PORT] },
  6: { kind: 'concat', parts: [ADDRESSES[6].daddr, L4_PROTOCOL, DESTINATION_PORT] },
};

export const ACCEPT: NftStatement = { kind: 'verdict', verdict: { kind: 'accept' } };
export const DROP: NftStatement = { kind: 'verdict', verdict: { kind: 'drop' } };
/** `drop` by a network policy. */
export const DENY: NftStatement = { kind: 'deny' };
export const RETURN: NftStatement = { kind: 'verdict', verdict: { kind: 'return' } };
export const MASQUERADE_FULLY_RANDOM: NftStatement = { kind: 'masquerade', flags: ['fully-random'], ports: null };
/** `ct state new`. */
export const STATE_NEW: NftStatement = {
  kind: 'match',
  left: { kind: 'ct', key: 'state', direction: null },
  operator: 'in',
  right: { kind: 'number', value: 8 },
};

/** `reject` alone: port unreachable, in a table of one family. */
export const REJECT: Readonly<Record<Family, NftStatement>> = {
  4: { kind: 'reject', with: { type: 'icmp', code: 3 } },
  6: { kind: 'reject', with: { type: 'icmpv6', code: 4 } },
};

export function makeNftRule(
  statements: readonly NftStatement[],
  sources: readonly NftSource[],
  comment: string | null = null,
  judgement: Judgement | null = null,
): NftRule {
  return { statements, comment, sources, judgement };
}

export function verdictOf(verdict: NftVerdict): NftStatement {
  return { kind: 'verdict', verdict };
}

export function addressExpression(family: Family, side: Side): NftExpression {
  return ADDRESSES[family][side];
}

/** `ip saddr 10.0.0.1`. */
export function isAddress(side: Side, address: Address): NftStatement {
  return { kind: 'match', left: ADDRESSES[address.family][side], operator: '==', right: { kind: 'address', address } };
}

/** `ip saddr 10.0.0.0/8`, or with `!=`; of full length it is an address. */
export function isInPrefix(side: Side, prefix: Prefix, invert: boolean): NftStatement {
  return matchOf(ADDRESSES[prefix.family][side], invert ? '!=' : '==', mergePrefixes([prefix], prefix.family)[0]!);
}

/** `ip daddr { … }` or `ip saddr != { … }`; a single value stands without braces. */
export function isAmong(family: Family, side: Side, values: readonly NftValue[], invert: boolean): NftStatement {
  return matchOf(ADDRESSES[family][side], invert ? '!=' : '==', valuesOf(values));
}

/** `ip daddr @name`. */
export function isInSet(family: Family, side: Side, name: string): NftStatement {
  return matchOf(ADDRESSES[family][side], '==', { kind: 'named', name });
}

/** `ip daddr != @name`. */
export function isNotInSet(family: Family, side: Side, name: string): NftStatement {
  return matchOf(ADDRESSES[family][side], '!=', { kind: 'named', name });
}

/** `KEY @name`. */
export function isMember(key: NftExpression, name: string): NftStatement {
  return matchOf(key, '==', { kind: 'named', name });
}

/** `KEY value`, `KEY first-last` or `KEY { … }`: one of the values, which are sorted and overlap nowhere. */
export function isOneOf(key: NftExpression, values: readonly NftValue[]): NftStatement {
  return matchOf(key, '==', valuesOf(values));
}

/** `fib saddr type local`. */
export function isLocalAddress(side: Side): NftStatement {
  return matchOf({ kind: 'fib', by: [side], result: 'type' }, '==', { kind: 'number', value: 2 });
}

/** `iifname "cni0"` or `iifname != "veth*"`. */
export function isInterface(key: NftMetaKey, name: string, invert: boolean): NftStatement {
  return matchOf({ kind: 'meta', key }, invert ? '!=' : '==', { kind: 'name', name });
}

/** `meta l4proto tcp`. */
export function isProtocol(protocol: Protocol): NftStatement {
  return PROTOCOL_MATCHES[protocol];
}

/** `KEY vmap @name`. */
export function lookUp(key: NftExpression, name: string): NftStatement {
  return { kind: 'vmap', key, map: { kind: 'named', name } };
}

/** `meta mark & BITS == 0`. */
export function isMarkClear(bits: number): NftStatement {
  const masked: NftExpression = {
    kind: 'bitwise',
    operator: 'and',
    left: MARK,
    right: { kind: 'number', value: bits },
  };
  return matchOf(masked, '==', { kind: 'number', value: 0 });
}

/** `meta mark set meta mark | BITS`, or `^ BITS`. */
export function setMark(operator: 'or' | 'xor', bits: number): NftStatement {
  const value: NftExpression = { kind: 'bitwise', operator, left: MARK, right: { kind: 'number', value: bits } };
  return { kind: 'set', target: 'meta mark', value };
}

/** The value of a protocol in keys. */
export function protocolValue(protocol: Protocol): NftValue {
  return PROTOCOL_VALUES[protocol];
}

/** A single value stands without braces. */
function valuesOf(values: readonly NftValue[]): NftValue | NftMapReference {
  if (values.length === 1) return values[0]!;
  return { kind: 'elements', elements: values.map((key) => elementOf(key)) };
}

function elementOf(key: NftValue) {
  return { key, value: null, comment: null, timeoutSeconds: null, sources: [] };
}

function matchOf(left: NftExpression, operator: '==' | '!=', right: NftValue | NftMapReference): NftStatement {
  return { kind: 'match', left, operator, right };
}

const numberOf = (value: number): NftValue => ({ kind: 'number', value });
const PROTOCOL_VALUES: Readonly<Record<Protocol, NftValue>> = {
  TCP: numberOf(PROTOCOL_NUMBER.TCP),
  UDP: numberOf(PROTOCOL_NUMBER.UDP),
  SCTP: numberOf(PROTOCOL_NUMBER.SCTP),
};
const PROTOCOL_MATCHES: Readonly<Record<Protocol, NftStatement>> = {
  TCP: matchOf(L4_PROTOCOL, '==', PROTOCOL_VALUES.TCP),
  UDP: matchOf(L4_PROTOCOL, '==', PROTOCOL_VALUES.UDP),
  SCTP: matchOf(L4_PROTOCOL, '==', PROTOCOL_VALUES.SCTP),
};
