/**
 * Expressions and statements of nft rules, made of what text and JSON have in common: names of fields, and values as
 * written.
 *
 * Here lies what the two would otherwise each have to know: which fields flatpath has, when a comparison is one of bits,
 * what a set's elements mean under a key. The result is canonical as compile/nft-ruleset.ts describes it. Whatever
 * flatpath has no packets for ends in `NftUnclear`.
 */

import {
  datatypesOf,
  type NftCtKey,
  type NftDatatype,
  type NftElement,
  type NftExpression,
  type NftFamily,
  type NftMapReference,
  type NftMetaKey,
  type NftOperator,
  type NftPayloadField,
  type NftPorts,
  type NftReject,
  type NftSource,
  type NftStatement,
  type NftValue,
  type NftVerdict,
} from '../compile/nft-ruleset.ts';
import { isFlagType, NftUnclear, parseNumber, type RawValue, REJECT_CODES, rawText, readValue } from './nft-values.ts';
import { parsePort } from './port-names.ts';

const PAYLOAD_FIELDS: ReadonlySet<string> = new Set<NftPayloadField>([
  'ip saddr',
  'ip daddr',
  'ip protocol',
  'ip6 saddr',
  'ip6 daddr',
  'ip6 nexthdr',
  'th sport',
  'th dport',
  'tcp sport',
  'tcp dport',
  'tcp flags',
  'udp sport',
  'udp dport',
  'sctp sport',
  'sctp dport',
  'icmp type',
  'icmp code',
  'icmpv6 type',
  'icmpv6 code',
  'ip length',
  'ip id',
  'ip frag-off',
  'ip ttl',
  'ip6 length',
  'ip6 hoplimit',
  'tcp sequence',
  'tcp ackseq',
  'tcp window',
  'udp length',
]);
const META_KEYS: ReadonlySet<string> = new Set<NftMetaKey>([
  'l4proto',
  'nfproto',
  'protocol',
  'mark',
  'iif',
  'oif',
  'iifname',
  'oifname',
  'pkttype',
  'length',
]);
const CT_KEYS: ReadonlySet<string> = new Set<NftCtKey>([
  'state',
  'status',
  'direction',
  'mark',
  'l3proto',
  'protocol',
  'ip saddr',
  'ip daddr',
  'ip6 saddr',
  'ip6 daddr',
  'proto-src',
  'proto-dst',
]);
const FIB_KEYS = ['saddr', 'daddr', 'mark', 'iif', 'oif'] as const;
type FibKey = (typeof FIB_KEYS)[number];

/** Words of `meta random`: 2^32 numbers, each as likely. */
const RANDOM_NUMBERS = 0x1_0000_0000;
/** More branches than this are not gone through one by one. */
const LARGEST_CHANCE = 4096;

/** An element as written. */
export interface RawElement {
  readonly key: RawValue;
  readonly value: RawElementValue;
  readonly comment: string | null;
  readonly timeoutSeconds: number | null;
  readonly source: NftSource;
}

/** Null in a set. */
export type RawElementValue = RawValue | { readonly kind: 'verdict'; readonly verdict: NftVerdict } | null;

/** Elements between braces, or `@name`. */
export type RawMap =
  | { readonly kind: 'elements'; readonly elements: readonly RawElement[] }
  | { readonly kind: 'named'; readonly name: string };

// ---- expressions ------------------------------------------------------------------------------------------------

/** `ip saddr`, `tcp dport`. */
export function payloadOf(protocol: string, field: string): NftExpression {
  const name = `${protocol} ${field}`;
  if (!isPayloadField(name)) throw new NftUnclear(`flatpath does not know the field '${name}'`);
  return { kind: 'payload', field: name };
}

/** `meta KEY`. `random` is a number below 2^32, drawn anew. */
export function metaOf(key: string): NftExpression {
  if (key === 'random') return { kind: 'numgen', mode: 'random', modulus: RANDOM_NUMBERS, offset: 0 };
  if (!isMetaKey(key)) throw new NftUnclear(`flatpath does not know 'meta ${key}'`);
  return { kind: 'meta', key };
}

/** `ct [original|reply] KEY`. `saddr` and `daddr` alone, as iptables' translation has them, are of the table's family. */
export function ctOf(key: string, direction: string | null, family: NftFamily): NftExpression {
  let name = key;
  if (key === 'saddr' || key === 'daddr') {
    if (family === 'inet') throw new NftUnclear(`'ct ${key}' needs a family in a table of family inet`);
    name = `${family} ${key}`;
  }
  if (!isCtKey(name)) throw new NftUnclear(`flatpath does not know 'ct ${key}'`);
  if (direction !== null && direction !== 'original' && direction !== 'reply') {
    throw new NftUnclear(`'${direction}' is no direction`);
  }
  return { kind: 'ct', key: name, direction };
}

/** `fib saddr . iif oif`. */
export function fibOf(by: readonly string[], result: string): NftExpression {
  for (const key of by) {
    if (!isFibKey(key)) throw new NftUnclear(`'${key}' is no key of fib`);
  }
  // `check` asks whether there is a route, as comparing `oif` with 0 does.
  const known = result === 'check' ? 'oif' : result;
  if (known !== 'type' && known !== 'oif' && known !== 'oifname') {
    throw new NftUnclear(`flatpath does not know 'fib … ${result}'`);
  }
  return { kind: 'fib', by: by.filter(isFibKey), result: known };
}

/** `left & right` and its like; of a drawn number the lowest bits are a drawn number too. */
export function bitwiseOf(
  left: NftExpression,
  operator: 'and' | 'or' | 'xor' | 'lshift' | 'rshift',
  right: RawValue,
): NftExpression {
  const datatypes: readonly NftDatatype[] =
    operator === 'lshift' || operator === 'rshift' ? ['integer'] : datatypesOf(left);
  const value = readValue(right, datatypes);
  if (value.kind !== 'number' && value.kind !== 'address') throw new NftUnclear(`${rawText(right)} is no mask`);
  if (left.kind === 'numgen' && operator === 'and' && value.kind === 'number') {
    const modulus = value.value + 1;
    if (left.modulus % modulus === 0 && (modulus & value.value) === 0) return { ...left, modulus };
  }
  return { kind: 'bitwise', operator, left, right: value };
}

// ---- elements ---------------------------------------------------------------------------------------------------

/** Elements under a key of these datatypes. `data`: datatypes of values that are no verdicts, null where unknown. */
export function elementsOf(
  elements: readonly RawElement[],
  key: readonly NftDatatype[],
  data: readonly NftDatatype[] | null,
): NftElement[] {
  return elements.map((element) => ({
    key: readValue(element.key, key),
    value: elementValue(element.value, data),
    comment: element.comment,
    timeoutSeconds: element.timeoutSeconds,
    sources: [element.source],
  }));
}

function elementValue(raw: RawElementValue, data: readonly NftDatatype[] | null): NftVerdict | NftValue | null {
  if (raw === null) return null;
  if (raw.kind === 'verdict') return raw.verdict;
  if (data === null) throw new NftUnclear(`${rawText(raw)} is no verdict`);
  return readValue(raw, data);
}

/** What `KEY vmap` or `KEY map` looks into. */
export function mapReference(map: RawMap, key: NftExpression, data: readonly NftDatatype[] | null): NftMapReference {
  if (map.kind === 'named') return map;
  return { kind: 'elements', elements: elementsOf(map.elements, datatypesOf(key), data) };
}

// ---- statements -------------------------------------------------------------------------------------------------

/**
 * A comparison.
 * @param operator null where none is written: any of the bits of flags, else equality
 */
export function matchOf(left: NftExpression, operator: NftOperator | null, right: RawValue | RawMap): NftStatement {
  const datatypes = datatypesOf(left);
  if (right.kind === 'named') return { kind: 'match', left, operator: setOperator(operator), right };
  if (right.kind === 'elements') {
    const elements = elementsOf(right.elements, datatypes, null);
    const only = elements.length === 1 ? elements[0]!.key : null;
    // A catch-all alone is a set, and so is a concatenation, for nft.
    if (only !== null && only.kind !== 'any' && only.kind !== 'concat')
      return compare(left, setOperator(operator), only);
    return { kind: 'match', left, operator: setOperator(operator), right: { kind: 'elements', elements } };
  }
  if (left.kind === 'fib' && left.result !== 'type') {
    const found = presence(right);
    if (found !== null) return fibMatch(left, operator, found);
  }
  const value = readValue(right, datatypes);
  const isBits =
    isFlagType(datatypes[0]) && datatypes.length === 1 && left.kind !== 'bitwise' && value.kind === 'number';
  return compare(left, operator ?? (isBits ? 'in' : '=='), value);
}

function compare(left: NftExpression, operator: NftOperator, right: NftValue): NftStatement {
  if (left.kind === 'numgen' && right.kind === 'number' && left.modulus > LARGEST_CHANCE) {
    return chance(left, operator, right.value);
  }
  return { kind: 'match', left, operator, right };
}

function setOperator(operator: NftOperator | null): NftOperator {
  if (operator === null || operator === '==') return '==';
  if (operator === '!=' || operator === '!in') return '!=';
  throw new NftUnclear(`a set is compared with == or !=, not ${operator}`);
}

/** `exists` or `missing` of a route, however written; null for an interface's name. */
function presence(right: RawValue): boolean | null {
  const text = rawText(right);
  if (text === 'exists' || text === 'true' || text === '1') return true;
  return text === 'missing' || text === 'false' || text === '0' ? false : null;
}

function fibMatch(left: NftExpression, operator: NftOperator | null, found: boolean): NftStatement {
  if (operator !== null && operator !== '==' && operator !== '!=')
    throw new NftUnclear(`fib is not compared by ${operator}`);
  const differs = operator === '!=' ? !found : found;
  return { kind: 'match', left, operator: differs ? '!=' : '==', right: { kind: 'number', value: 0 } };
}

/** iptables' `statistic --probability` in nft's translation: so many of 2^31. The fraction behind it, if it is small. */
function chance(left: NftExpression & { kind: 'numgen' }, operator: NftOperator, threshold: number): NftStatement {
  const { modulus } = left;
  for (let whole = 1; whole <= LARGEST_CHANCE; whole++) {
    const part = Math.round((threshold / modulus) * whole);
    if (Math.round((part / whole) * modulus) !== threshold) continue;
    return { kind: 'match', left: { ...left, modulus: whole }, operator, right: { kind: 'number', value: part } };
  }
  throw new NftUnclear(`a chance of ${threshold} in ${modulus} has too many branches to go through`);
}

/** `reject with TYPE CODE`; without a type the family's own answer, port unreachable. */
export function rejectOf(type: string | null, code: string | null, family: NftFamily): NftStatement {
  if (type === 'tcp reset') return { kind: 'reject', with: { type: 'tcp-reset', code: 0 } };
  const known = type ?? (family === 'ip' ? 'icmp' : family === 'ip6' ? 'icmpv6' : 'icmpx');
  if (known !== 'icmp' && known !== 'icmpv6' && known !== 'icmpx')
    throw new NftUnclear(`'${known}' is no way to reject`);
  const names: Readonly<Record<string, number>> = REJECT_CODES[known];
  const name = code ?? 'port-unreachable';
  const number = Object.hasOwn(names, name) ? names[name]! : parseNumber(name, 255);
  if (number === null) throw new NftUnclear(`'${name}' is no code of ${known}`);
  const reject: NftReject = { type: known, code: number };
  return { kind: 'reject', with: reject };
}

/**
 * An extension of iptables-nft that nft cannot translate: of all but comments its name does not tell what it does.
 * @param text as written
 */
export function xtOf(kind: string, name: string, text: string): NftStatement {
  if (kind === 'match' && name === 'comment') return { kind: 'ignored', text };
  throw new NftUnclear(`nft tells nothing of the iptables extension '${name}' but its name: iptables-save does`);
}

const NAT_FLAGS = ['random', 'fully-random', 'persistent'] as const;
type NatFlag = (typeof NAT_FLAGS)[number];

/** Flags of a NAT statement, sorted, so that equal ones are equal. */
export function natFlags(words: readonly string[]): NatFlag[] {
  for (const word of words) {
    if (!NAT_FLAGS.some((flag) => flag === word)) throw new NftUnclear(`flatpath does not know the NAT flag '${word}'`);
  }
  return NAT_FLAGS.filter((flag) => words.includes(flag));
}

/** `80` or `80-90`. */
export function portsOf(text: string): NftPorts {
  // Names have dashes too.
  const single = parsePort(text);
  if (single !== null) return { first: single, last: single };
  const dash = text.indexOf('-');
  const first = parsePort(dash < 0 ? text : text.slice(0, dash));
  const last = dash < 0 ? first : parsePort(text.slice(dash + 1));
  if (first === null || last === null || last < first)
    throw new NftUnclear(`'${text}' is no port and no range of ports`);
  return { first, last };
}

/** Datatype of the addresses that a NAT statement writes. */
export function natDatatype(family: 'ip' | 'ip6' | null, table: NftFamily, text: string): NftDatatype {
  const written = family ?? (table === 'inet' ? null : table);
  if (written === null) return text.includes(':') ? 'ipv6_addr' : 'ipv4_addr';
  return written === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
}

/** What a NAT map's values are: addresses, or `address . port`. */
export function natDatatypes(datatype: NftDatatype, map: RawMap): readonly NftDatatype[] {
  const first = map.kind === 'elements' ? map.elements[0]?.value : null;
  return first?.kind === 'concat' ? [datatype, 'inet_service'] : [datatype];
}

// ---- names ------------------------------------------------------------------------------------------------------

function isPayloadField(name: string): name is NftPayloadField {
  return PAYLOAD_FIELDS.has(name);
}

function isMetaKey(name: string): name is NftMetaKey {
  return META_KEYS.has(name);
}

function isCtKey(name: string): name is NftCtKey {
  return CT_KEYS.has(name);
}

function isFibKey(name: string): name is FibKey {
  return FIB_KEYS.some((key) => key === name);
}

const DURATION = /(\d+)(ms|[wdhms])/g;
const SECONDS: Readonly<Record<string, number>> = { w: 604_800, d: 86_400, h: 3600, m: 60, s: 1, ms: 0.001 };

/** `1d2h3m4s500ms` in seconds. */
export function durationOf(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  if (!/^(?:\d+(?:ms|[wdhms]))+$/.test(text)) throw new NftUnclear(`'${text}' is no duration`);
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(DURATION)) seconds += Number(count) * SECONDS[unit!]!;
  return seconds;
}
