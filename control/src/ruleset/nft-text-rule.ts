/**
 * One rule of nftables in text: its statements from left to right.
 *
 * A statement that is not understood ends the reading: the rule keeps what stands before it, then never matches
 * (`unknown`), and the caller is told. So a rule has the effects it has before that place and none behind it.
 */

import {
  datatypesOf,
  type NftExpression,
  type NftNatFlag,
  type NftPorts,
  type NftRule,
  type NftStatement,
  type NftValue,
} from '../compile/nft-ruleset.ts';
import {
  durationOf,
  mapReference,
  matchOf,
  natDatatype,
  natDatatypes,
  natFlags,
  portsOf,
  rejectOf,
  xtOf,
} from './nft-build.ts';
import { NftCursor } from './nft-cursor.ts';
import {
  readElementOptions,
  readExpression,
  readLookup,
  readMap,
  readOperator,
  readRight,
  readVerdict,
  skipCounter,
  skipLast,
  type TextContext,
} from './nft-text-expression.ts';
import type { Token } from './nft-tokens.ts';
import { NftUnclear, type RawValue, readValue } from './nft-values.ts';

/** A rule, and what of it is not understood. */
export interface ReadRule {
  readonly rule: NftRule;
  readonly unclear: { readonly text: string; readonly message: string } | null;
}

/** Reads the tokens from `from` to before `stop` as one rule. `text` is the dump, for quoting. */
export function readTextRule(
  text: string,
  tokens: readonly Token[],
  from: number,
  stop: number,
  context: TextContext,
): ReadRule {
  const cursor = new NftCursor(tokens, from, stop);
  const statements: NftStatement[] = [];
  const sources = [{ file: context.file, line: tokens[from]!.line }];
  let comment: string | null = null;
  let begun = from;
  try {
    while (!cursor.isDone) {
      begun = cursor.at;
      if (cursor.take('comment')) comment = cursor.word('a comment');
      else statements.push(readStatement(cursor, context, text));
    }
  } catch (error) {
    if (!(error instanceof NftUnclear)) throw error;
    const rest = quote(text, tokens, begun, stop);
    statements.push({ kind: 'unknown', text: rest });
    return {
      rule: { statements, comment: trailingComment(tokens, begun, stop), sources, judgement: null },
      unclear: { text: rest, message: error.message },
    };
  }
  return { rule: { statements, comment, sources, judgement: null }, unclear: null };
}

/** The text of some tokens, on one line. */
function quote(text: string, tokens: readonly Token[], from: number, stop: number): string {
  const last = tokens[Math.max(from, stop - 1)]!;
  return text.slice(tokens[from]!.start, last.stop).replace(/\s+/g, ' ');
}

function trailingComment(tokens: readonly Token[], from: number, stop: number): string | null {
  const keyword = stop - 2 >= from ? tokens[stop - 2]! : null;
  const comment = tokens[stop - 1]!;
  return keyword?.kind === 'word' && keyword.text === 'comment' && comment.kind === 'string' ? comment.text : null;
}

function readStatement(cursor: NftCursor, context: TextContext, text: string): NftStatement {
  const from = cursor.token.start;
  const written = (end: NftCursor): string => text.slice(from, endOf(end)).replace(/\s+/g, ' ').trim();
  const verdict = readVerdict(cursor);
  if (verdict !== null) return { kind: 'verdict', verdict };
  switch (cursor.peek()) {
    case 'counter':
      cursor.at++;
      if (cursor.take('name')) cursor.word('the name of a counter');
      else skipCounter(cursor);
      return { kind: 'counter' };
    case 'last':
      cursor.at++;
      skipLast(cursor);
      return { kind: 'counter' };
    case 'notrack':
      cursor.at++;
      return { kind: 'notrack' };
    case 'log':
      cursor.at++;
      skipLog(cursor);
      return { kind: 'log', text: written(cursor) };
    case 'limit':
      cursor.at++;
      return { kind: skipLimit(cursor) ? 'exceeded' : 'limit', text: written(cursor) };
    case 'quota':
      cursor.at++;
      return { kind: skipQuota(cursor) ? 'exceeded' : 'limit', text: written(cursor) };
    case 'reject':
      cursor.at++;
      return readReject(cursor, context);
    case 'masquerade':
    case 'redirect':
      return readRedirection(cursor);
    case 'dnat':
    case 'snat':
      return readNat(cursor, context);
    case 'add':
    case 'update':
    case 'delete':
    case 'set':
    case 'meter':
      return readDynamic(cursor, context, written);
    case 'flow':
      // A flow in the fast path of the kernel goes where it went.
      cursor.at += 2;
      cursor.expect('@');
      cursor.word('the name of a flowtable');
      return { kind: 'ignored', text: written(cursor) };
    case 'xt': {
      const kind = cursor.peek(1);
      cursor.at += 2;
      return xtOf(kind, cursor.word('the name of an extension'), written(cursor));
    }
    case 'tcp':
      if (cursor.peek(1) === 'option' && cursor.peek(4) === 'set') return readIgnored(cursor, 5, written);
      break;
    case 'ip':
    case 'ip6':
      if (cursor.peek(1) === 'dscp' && cursor.peek(2) === 'set') return readIgnored(cursor, 3, written);
      break;
    case 'meta':
      if (cursor.peek(2) === 'set' && IGNORED_META.has(cursor.peek(1))) return readIgnored(cursor, 3, written);
      break;
    case 'ct':
      if (cursor.peek(1) === 'count') return readCount(cursor, written);
      if (cursor.peek(2) === 'set' && IGNORED_CT.has(cursor.peek(1))) return readIgnored(cursor, 3, written);
      break;
  }
  return readComparison(cursor, context);
}

/** What changes nothing about where a packet goes. */
const IGNORED_META = new Set(['priority', 'nftrace', 'pkttype', 'broute']);
const IGNORED_CT = new Set(['helper', 'timeout', 'event', 'expectation', 'label']);

function endOf(cursor: NftCursor): number {
  return cursor.previous.stop;
}

/** `meta priority set 1:2`, `tcp option maxseg size set rt mtu`: a value of one or two words. */
function readIgnored(cursor: NftCursor, words: number, written: (end: NftCursor) => string): NftStatement {
  cursor.at += words;
  if (cursor.word('a value') === 'rt') cursor.word('a key of rt');
  if (cursor.take(':')) cursor.word('a value');
  return { kind: 'ignored', text: written(cursor) };
}

function readCount(cursor: NftCursor, written: (end: NftCursor) => string): NftStatement {
  cursor.at += 2;
  const isOver = cursor.take('over');
  cursor.number('a number of connections');
  return { kind: isOver ? 'exceeded' : 'limit', text: written(cursor) };
}

/** @returns true for one that must be exceeded */
function skipLimit(cursor: NftCursor): boolean {
  if (cursor.take('name')) {
    cursor.word('the name of a limit');
    return false;
  }
  cursor.expect('rate');
  const isOver = cursor.take('over');
  const amount = cursor.word('a rate');
  if (!amount.includes('/')) {
    const unit = cursor.word('a unit');
    if (!unit.includes('/')) throw new NftUnclear(`'${amount} ${unit}' is no rate`);
  }
  if (cursor.take('burst')) {
    cursor.word('a burst');
    cursor.word('a unit');
  }
  return isOver;
}

function skipQuota(cursor: NftCursor): boolean {
  if (cursor.take('name')) {
    cursor.word('the name of a quota');
    return false;
  }
  const isOver = cursor.take('over');
  cursor.take('until');
  cursor.word('an amount');
  cursor.word('a unit');
  if (cursor.take('used')) {
    cursor.word('an amount');
    cursor.word('a unit');
  }
  return isOver;
}

const LOG_OPTIONS = new Set(['prefix', 'level', 'group', 'snaplen', 'queue-threshold']);

function skipLog(cursor: NftCursor): void {
  for (;;) {
    if (cursor.take('flags')) {
      do {
        const flag = cursor.word('a flag of log');
        if (flag === 'tcp' || flag === 'ip') cursor.word('a flag of log');
      } while (cursor.take(','));
    } else if (LOG_OPTIONS.has(cursor.peek())) {
      cursor.at++;
      cursor.word('a value of log');
    } else return;
  }
}

function readReject(cursor: NftCursor, { family }: TextContext): NftStatement {
  if (!cursor.take('with')) return rejectOf(null, null, family);
  if (cursor.take('tcp')) {
    cursor.expect('reset');
    return rejectOf('tcp reset', null, family);
  }
  const type = cursor.word('a kind of answer');
  cursor.take('type');
  return rejectOf(type, cursor.word('a code'), family);
}

// ---- address translation ----------------------------------------------------------------------------------------

function readRedirection(cursor: NftCursor): NftStatement {
  const kind = cursor.take('masquerade') ? 'masquerade' : 'redirect';
  if (kind === 'redirect') cursor.expect('redirect');
  let ports: NftPorts | null = null;
  if (cursor.take('to')) {
    const text = cursor.glued('a port');
    if (!text.startsWith(':')) throw new NftUnclear(`'${text}' is no port`);
    ports = portsOf(text.slice(1));
  }
  return { kind, flags: readNatFlags(cursor), ports };
}

function readNatFlags(cursor: NftCursor): NftNatFlag[] {
  const words: string[] = [];
  if (!/^(?:random|fully-random|persistent)$/.test(cursor.peek())) return [];
  do words.push(cursor.word('a flag'));
  while (cursor.take(','));
  return natFlags(words);
}

function readNat(cursor: NftCursor, context: TextContext): NftStatement {
  const kind = cursor.take('dnat') ? 'dnat' : 'snat';
  if (kind === 'snat') cursor.expect('snat');
  const family = cursor.take('ip') ? 'ip' : cursor.take('ip6') ? 'ip6' : null;
  if (cursor.take('addr')) {
    cursor.expect('.');
    cursor.expect('port');
  }
  if (cursor.peek() === 'prefix' || cursor.peek() === 'interval') {
    throw new NftUnclear(`flatpath does not know '${kind} ${cursor.peek()}'`);
  }
  cursor.expect('to');
  const written = family === 'ip6' || (family === null && context.family === 'ip6');
  if (isTarget(cursor)) {
    const target = splitTarget(cursor.glued('an address'));
    const address = target.address === '' ? null : natAddress(target.address, family, context);
    const ports = target.ports === null ? null : portsOf(target.ports);
    return { kind, family, address, ports, flags: readNatFlags(cursor) };
  }
  const datatype = written ? 'ipv6_addr' : 'ipv4_addr';
  const address: NftExpression = readLookup(cursor, context, (map) => natDatatypes(datatype, map));
  if (address.kind !== 'lookup') throw new NftUnclear(`flatpath does not know addresses made of '${address.kind}'`);
  // `map { … }:8080`
  const ports = cursor.peek().startsWith(':') ? portsOf(cursor.glued('a port').slice(1)) : null;
  return { kind, family, address, ports, flags: readNatFlags(cursor) };
}

/** An address and port as such, not an expression that finds them. */
function isTarget(cursor: NftCursor): boolean {
  const { kind, text } = cursor.token;
  return text === ':' || (kind === 'word' && /^[[:0-9]|^[0-9a-fA-F]+:/.test(text));
}

/** `10.0.0.1:80`, `10.0.0.1-10.0.0.9:80-90`, `[fd00::1]:80`, `fd00::1`, `:80`. */
function splitTarget(text: string): { readonly address: string; readonly ports: string | null } {
  if (text.startsWith('[')) {
    const close = text.lastIndexOf(']');
    const address = text.slice(0, close + 1).replace(/[[\]]/g, '');
    const rest = text.slice(close + 1);
    if (close < 0 || (rest !== '' && !rest.startsWith(':'))) throw new NftUnclear(`'${text}' is no address and port`);
    return { address, ports: rest === '' ? null : rest.slice(1) };
  }
  const colon = text.indexOf(':');
  if (colon < 0) return { address: text, ports: null };
  // More than one colon is an IPv6 address without a port.
  if (colon > 0 && text.indexOf(':', colon + 1) >= 0) return { address: text, ports: null };
  return { address: text.slice(0, colon), ports: text.slice(colon + 1) };
}

function natAddress(text: string, family: 'ip' | 'ip6' | null, context: TextContext): NftValue {
  const raw: RawValue = { kind: 'word', text };
  return readValue(raw, [natDatatype(family, context.family, text)]);
}

// ---- sets that packets write --------------------------------------------------------------------------------------

/** `update @set { KEY timeout 30s }`, the older `set update KEY @set` and `meter name { KEY limit … }`. */
function readDynamic(cursor: NftCursor, context: TextContext, written: (end: NftCursor) => string): NftStatement {
  if (cursor.take('meter')) {
    cursor.word('the name of a meter');
    if (cursor.take('size')) cursor.word('a size');
    cursor.expect('{');
    readExpression(cursor, context);
    return { kind: readStateful(cursor) ? 'exceeded' : 'limit', text: written(cursor) };
  }
  const isOld = cursor.take('set');
  const operation = cursor.word('add, update or delete');
  if (operation !== 'add' && operation !== 'update' && operation !== 'delete') {
    throw new NftUnclear(`'${operation}' does nothing to a set`);
  }
  let set = '';
  if (!isOld) {
    cursor.expect('@');
    set = cursor.word('the name of a set');
    cursor.expect('{');
  }
  const key = readExpression(cursor, context);
  const { timeoutSeconds } = readElementOptions(cursor);
  if (cursor.peek() === ':') throw new NftUnclear('flatpath does not know maps that packets write');
  if (isOld) {
    cursor.expect('@');
    set = cursor.word('the name of a set');
  } else if (cursor.peek() !== '}') {
    const isOver = readStateful(cursor);
    if (isOver) return { kind: 'exceeded', text: written(cursor) };
  } else cursor.expect('}');
  return { kind: 'dynset', operation, set, key, timeoutSeconds };
}

/** A rate or count kept for each key, up to the closing brace. @returns true for one that must be exceeded */
function readStateful(cursor: NftCursor): boolean {
  let isOver = false;
  while (!cursor.take('}')) {
    if (cursor.take('limit')) isOver = skipLimit(cursor) || isOver;
    else if (cursor.take('quota')) isOver = skipQuota(cursor) || isOver;
    else if (cursor.take('counter')) skipCounter(cursor);
    else if (cursor.take('timeout')) durationOf(cursor.word('a timeout'));
    else if (cursor.take('ct')) {
      cursor.expect('count');
      isOver = cursor.take('over') || isOver;
      cursor.number('a number of connections');
    } else throw new NftUnclear(`flatpath does not know '${cursor.token.text}' in a set that packets write`);
  }
  return isOver;
}

// ---- comparisons --------------------------------------------------------------------------------------------------

/** `KEY [operator] VALUE`, `KEY vmap …`, `meta mark set …`. */
function readComparison(cursor: NftCursor, context: TextContext): NftStatement {
  const left = readExpression(cursor, context);
  if (cursor.take('vmap')) {
    return { kind: 'vmap', key: left, map: mapReference(readMap(cursor, context, false), left, null) };
  }
  if (cursor.take('set')) return readAssignment(cursor, context, left);
  const operator = readOperator(cursor);
  const right = readRight(cursor, context);
  if (!cursor.take('/')) return matchOf(left, operator, right);
  // `tcp flags syn / fin,syn,rst,ack`: of these flags exactly those.
  const mask = readRight(cursor, context);
  if (isMap(mask) || isMap(right)) throw new NftUnclear('a mask of flags is no set');
  const masked = readValue(mask, datatypesOf(left));
  if (masked.kind !== 'number') throw new NftUnclear('a mask of flags is no range');
  return matchOf({ kind: 'bitwise', operator: 'and', left, right: masked }, operator ?? '==', right);
}

function isMap(right: RawValue | { readonly kind: 'elements' | 'named' }): right is { kind: 'elements' | 'named' } {
  return right.kind === 'elements' || right.kind === 'named';
}

function readAssignment(cursor: NftCursor, context: TextContext, left: NftExpression): NftStatement {
  const target = left.kind === 'meta' && left.key === 'mark' ? 'meta mark' : null;
  const ctTarget = left.kind === 'ct' && left.key === 'mark' && left.direction === null ? 'ct mark' : target;
  if (ctTarget === null) throw new NftUnclear('flatpath does not know how to set this field');
  if (/^(?:\d|0x)/.test(cursor.peek())) {
    const value = readValue({ kind: 'word', text: cursor.word('a mark') }, ['mark']);
    return { kind: 'set', target: ctTarget, value };
  }
  return { kind: 'set', target: ctTarget, value: readLookup(cursor, context, () => ['mark']) };
}
