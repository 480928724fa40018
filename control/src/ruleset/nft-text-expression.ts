/**
 * Expressions, values and elements of nft rules in text: what stands left and right of a comparison, between the braces
 * of a set and after `dnat to`.
 */

import {
  datatypesOf,
  type NftDatatype,
  type NftExpression,
  type NftFamily,
  type NftOperator,
  type NftSource,
  type NftVerdict,
} from '../compile/nft-ruleset.ts';
import {
  bitwiseOf,
  ctOf,
  durationOf,
  fibOf,
  mapReference,
  metaOf,
  payloadOf,
  type RawElement,
  type RawElementValue,
  type RawMap,
} from './nft-build.ts';
import type { NftCursor } from './nft-cursor.ts';
import { NftUnclear, type RawValue } from './nft-values.ts';

/** What a rule's text is read with. */
export interface TextContext {
  readonly family: NftFamily;
  readonly file: string;
}

const BITWISE: Readonly<Record<string, 'and' | 'or' | 'xor' | 'lshift' | 'rshift'>> = {
  '&': 'and',
  and: 'and',
  '|': 'or',
  or: 'or',
  '^': 'xor',
  xor: 'xor',
  '<<': 'lshift',
  lshift: 'lshift',
  '>>': 'rshift',
  rshift: 'rshift',
};
/** How tightly an operator binds. */
const BINDING = { lshift: 4, rshift: 4, and: 3, xor: 2, or: 1 } as const;

const OPERATORS: Readonly<Record<string, NftOperator>> = {
  '==': '==',
  eq: '==',
  '!=': '!=',
  ne: '!=',
  '<': '<',
  lt: '<',
  '>': '>',
  gt: '>',
  '<=': '<=',
  le: '<=',
  '>=': '>=',
  ge: '>=',
  '!': '!in',
};

/** Keys of `meta` that nft also reads without that word. */
const BARE_META = new Set([
  'mark',
  'iif',
  'iifname',
  'iiftype',
  'oif',
  'oifname',
  'oiftype',
  'skuid',
  'skgid',
  'nftrace',
  'rtclassid',
  'ibrname',
  'obrname',
  'pkttype',
  'cpu',
  'iifgroup',
  'oifgroup',
  'cgroup',
]);
const PROTOCOLS = new Set(['ip', 'ip6', 'tcp', 'udp', 'sctp', 'th', 'icmp', 'icmpv6']);
/** Other words that an expression may begin with. */
const UNKNOWN_EXPRESSIONS = new Set([
  '@',
  'ether',
  'vlan',
  'arp',
  'igmp',
  'dccp',
  'udplite',
  'ah',
  'esp',
  'comp',
  'rt',
]);

/** An expression with its operators and parts: `meta mark & 0xff`, `ip saddr . tcp dport`. */
export function readExpression(cursor: NftCursor, context: TextContext): NftExpression {
  const parts = [readMasked(cursor, context)];
  while (cursor.take('.')) parts.push(readMasked(cursor, context));
  return parts.length === 1 ? parts[0]! : { kind: 'concat', parts };
}

function readMasked(cursor: NftCursor, context: TextContext): NftExpression {
  let left = readPrimary(cursor, context);
  let loosest = 5;
  for (;;) {
    const word = cursor.peek();
    const operator = Object.hasOwn(BITWISE, word) ? BITWISE[word]! : null;
    if (operator === null) return left;
    if (BINDING[operator] > loosest) throw new NftUnclear(`'${word}' after a looser operator`);
    loosest = BINDING[operator];
    cursor.at++;
    left = bitwiseOf(left, operator, readMask(cursor));
  }
}

/** `0xff`, `dnat`, `(fin | syn)`. */
function readMask(cursor: NftCursor): RawValue {
  if (!cursor.take('(')) return readFlags(cursor);
  const items = [readValueWord(cursor)];
  while (cursor.take('|') || cursor.take(',')) items.push(readValueWord(cursor));
  cursor.expect(')');
  return items.length === 1 ? items[0]! : { kind: 'flags', items };
}

function readPrimary(cursor: NftCursor, context: TextContext): NftExpression {
  const word = cursor.peek();
  if (cursor.take('(')) {
    const inner = readExpression(cursor, context);
    cursor.expect(')');
    return inner;
  }
  if (PROTOCOLS.has(word)) return payloadOf(cursor.word('a protocol'), cursor.word(`a field of ${word}`));
  if (BARE_META.has(word)) return metaOf(cursor.word('a key'));
  switch (word) {
    case 'meta':
      cursor.at++;
      return metaOf(cursor.word('a key of meta'));
    case 'ct':
      cursor.at++;
      return readCt(cursor, context);
    case 'fib':
      cursor.at++;
      return readFib(cursor);
    case 'numgen':
      cursor.at++;
      return readNumgen(cursor);
    case 'jhash':
    case 'symhash':
      cursor.at++;
      return readHash(cursor, context, word === 'jhash');
  }
  if (cursor.isDone) throw new NftUnclear('an expression is missing');
  throw new NftUnclear(
    UNKNOWN_EXPRESSIONS.has(word)
      ? `flatpath does not know '${word} ${cursor.peek(1)}'`
      : `flatpath does not know '${cursor.token.text}'`,
  );
}

function readCt(cursor: NftCursor, context: TextContext): NftExpression {
  const direction = cursor.take('original') ? 'original' : cursor.take('reply') ? 'reply' : null;
  let key = cursor.word('a key of ct');
  if ((key === 'ip' || key === 'ip6') && (cursor.peek() === 'saddr' || cursor.peek() === 'daddr')) {
    key = `${key} ${cursor.word('a side')}`;
  }
  return ctOf(key, direction, context.family);
}

function readFib(cursor: NftCursor): NftExpression {
  const by = [cursor.word('a key of fib')];
  while (cursor.take('.')) by.push(cursor.word('a key of fib'));
  return fibOf(by, cursor.word('a result of fib'));
}

function readNumgen(cursor: NftCursor): NftExpression {
  const mode = cursor.word('random or inc');
  if (mode !== 'random' && mode !== 'inc') throw new NftUnclear(`'numgen ${mode}' is unknown`);
  const modulus = readModulus(cursor);
  return { kind: 'numgen', mode, modulus, offset: readOffset(cursor) };
}

function readHash(cursor: NftCursor, context: TextContext, isKeyed: boolean): NftExpression {
  const key = isKeyed ? readExpression(cursor, context) : null;
  const modulus = readModulus(cursor);
  const seed = cursor.take('seed') ? cursor.number('a seed') : null;
  return { kind: 'hash', key, modulus, seed, offset: readOffset(cursor) };
}

function readModulus(cursor: NftCursor): number {
  cursor.expect('mod');
  const modulus = cursor.number('a modulus');
  if (modulus === 0) throw new NftUnclear('mod 0 has no numbers');
  return modulus;
}

function readOffset(cursor: NftCursor): number {
  return cursor.take('offset') ? cursor.number('an offset') : 0;
}

// ---- values -----------------------------------------------------------------------------------------------------

/** The operator here, null where none is written. */
export function readOperator(cursor: NftCursor): NftOperator | null {
  const word = cursor.peek();
  if (!Object.hasOwn(OPERATORS, word)) return null;
  cursor.at++;
  return OPERATORS[word]!;
}

/** What an expression is compared with: a value, `@set` or elements between braces. */
export function readRight(cursor: NftCursor, context: TextContext): RawValue | RawMap {
  if (cursor.peek() === '@' || cursor.peek() === '{') return readMap(cursor, context, true);
  return readKey(cursor);
}

/** `@name`, or elements between braces. `isSet`: without values. */
export function readMap(cursor: NftCursor, context: TextContext, isSet: boolean): RawMap {
  if (cursor.take('@')) return { kind: 'named', name: cursor.word('the name of a set') };
  cursor.expect('{');
  return { kind: 'elements', elements: readElements(cursor, context, isSet) };
}

/** A value, in parts where it is a concatenation: `10.0.0.1 . 80-90`. */
function readKey(cursor: NftCursor): RawValue {
  const parts = [readFlags(cursor)];
  while (cursor.take('.')) parts.push(readFlags(cursor));
  return parts.length === 1 ? parts[0]! : { kind: 'concat', parts };
}

/** A word, or several with commas between. */
function readFlags(cursor: NftCursor): RawValue {
  const items = [readValueWord(cursor)];
  // Between braces a comma parts elements, never flags: `readElementKey` reads those.
  while (cursor.take(',')) items.push(readValueWord(cursor));
  return items.length === 1 ? items[0]! : { kind: 'flags', items };
}

function readValueWord(cursor: NftCursor): RawValue {
  const { kind } = cursor.token;
  const text = cursor.word('a value');
  if (kind === 'string') {
    // "08:00"-"10:00"
    if (!cursor.isDone && cursor.token.glued && cursor.token.text.startsWith('-')) {
      throw new NftUnclear('flatpath does not know ranges of times or names');
    }
    return { kind: 'string', text };
  }
  return text === '*' ? { kind: 'any' } : { kind: 'word', text };
}

// ---- elements ---------------------------------------------------------------------------------------------------

const VERDICTS = ['accept', 'drop', 'return', 'continue'] as const;

/** A verdict, if one stands here. */
export function readVerdict(cursor: NftCursor): NftVerdict | null {
  const word = cursor.peek();
  const plain = VERDICTS.find((verdict) => verdict === word);
  if (plain !== undefined) {
    cursor.at++;
    return { kind: plain };
  }
  if (word !== 'jump' && word !== 'goto') return null;
  cursor.at++;
  if (cursor.peek() === '{') throw new NftUnclear('flatpath does not know chains without a name');
  return { kind: word, chain: cursor.word('the name of a chain') };
}

/** Elements up to and with the closing brace. */
export function readElements(cursor: NftCursor, context: TextContext, isSet: boolean): RawElement[] {
  const elements: RawElement[] = [];
  cursor.skipLines();
  while (!cursor.take('}')) {
    elements.push(readElement(cursor, context, isSet));
    cursor.skipLines();
    if (cursor.take(',')) cursor.skipLines();
    else if (cursor.peek() !== '}') cursor.expect('}');
  }
  return elements;
}

function readElement(cursor: NftCursor, { file }: TextContext, isSet: boolean): RawElement {
  const source: NftSource = { file, line: cursor.token.line };
  const parts = [readValueWord(cursor)];
  while (cursor.take('.')) parts.push(readValueWord(cursor));
  const key: RawValue = parts.length === 1 ? parts[0]! : { kind: 'concat', parts };
  const options = readElementOptions(cursor);
  let value: RawElementValue = null;
  if (cursor.take(':')) {
    if (isSet) throw new NftUnclear('an element of a set has no value');
    const verdict = readVerdict(cursor);
    value = verdict === null ? readElementValue(cursor) : { kind: 'verdict', verdict };
  } else if (!isSet) throw new NftUnclear('an element of a map needs a value');
  return { key, value, ...options, source };
}

function readElementValue(cursor: NftCursor): RawValue {
  const parts = [readValueWord(cursor)];
  while (cursor.take('.')) parts.push(readValueWord(cursor));
  return parts.length === 1 ? parts[0]! : { kind: 'concat', parts };
}

interface ElementOptions {
  readonly comment: string | null;
  readonly timeoutSeconds: number | null;
}

/** `timeout 3h expires 2h59m counter packets 0 bytes 0 comment "…"`. What is left of a life is not kept: a dump is a moment. */
export function readElementOptions(cursor: NftCursor): ElementOptions {
  let comment: string | null = null;
  let timeoutSeconds: number | null = null;
  for (;;) {
    if (cursor.take('timeout')) timeoutSeconds = durationOf(cursor.word('a timeout'));
    else if (cursor.take('expires')) cursor.word('a time');
    else if (cursor.take('comment')) comment = cursor.word('a comment');
    else if (cursor.take('counter')) skipCounter(cursor);
    else if (cursor.take('last')) skipLast(cursor);
    else return { comment, timeoutSeconds };
  }
}

/** `packets 1 bytes 60` after `counter`. */
export function skipCounter(cursor: NftCursor): void {
  if (cursor.take('packets')) cursor.word('packets');
  if (cursor.take('bytes')) cursor.word('bytes');
}

/** `used 10s` after `last`. */
export function skipLast(cursor: NftCursor): void {
  if (cursor.take('used')) cursor.word('a time');
}

/** `KEY map …` behind a key, or the key itself. `data`: datatypes of the map's values, by what it holds. */
export function readLookup(
  cursor: NftCursor,
  context: TextContext,
  data: (map: RawMap) => readonly NftDatatype[],
): NftExpression {
  const key = readExpression(cursor, context);
  if (!cursor.take('map')) return key;
  const map = readMap(cursor, context, false);
  return { kind: 'lookup', key, map: mapReference(map, key, data(map)) };
}

/** Datatypes of what `typeof …` names. */
export function readTypeof(cursor: NftCursor, context: TextContext): readonly NftDatatype[] {
  return datatypesOf(readExpression(cursor, context));
}
