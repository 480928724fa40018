/**
 * Expressions, values and elements of libnftables-json (schema version 1), the JSON of `nft -j list ruleset`.
 *
 * JSON says by its shape what text says by words: an object of one key is an expression or a value of that kind, a list
 * is flags, a string that begins with `@` a set. What a plain string or number means follows from the datatype, as in
 * text.
 */

import {
  datatypesOf,
  type NftDatatype,
  type NftExpression,
  type NftFamily,
  type NftJsonPlace,
  type NftVerdict,
} from '../compile/nft-ruleset.ts';
import { bitwiseOf, ctOf, fibOf, mapReference, metaOf, payloadOf, type RawElement, type RawMap } from './nft-build.ts';
import { NftUnclear, type RawValue, setDatatype } from './nft-values.ts';

/** What a rule's JSON is read with. */
export interface JsonContext {
  readonly family: NftFamily;
  readonly source: NftJsonPlace;
}

export type JsonObject = { readonly [key: string]: unknown };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The kind of an object of one key, and what it holds; '' for anything else. */
export function kindOf(value: unknown): { readonly kind: string; readonly body: unknown } {
  if (!isObject(value)) return { kind: '', body: value };
  const keys = Object.keys(value);
  return keys.length === 1 ? { kind: keys[0]!, body: value[keys[0]!] } : { kind: '', body: value };
}

/** JSON as text, cut to a line's length, for messages. */
export function quoteJson(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

/** A property that is text. */
export function textIn(object: unknown, key: string): string {
  const value = isObject(object) ? object[key] : undefined;
  if (typeof value !== 'string') throw new NftUnclear(`'${key}' is missing or no text`);
  return value;
}

/** A property that is a number. */
export function numberIn(object: unknown, key: string): number {
  const value = isObject(object) ? object[key] : undefined;
  if (typeof value !== 'number' || !Number.isInteger(value)) throw new NftUnclear(`'${key}' is missing or no number`);
  return value;
}

/** A property that is text or a list of it; none where it is missing. */
export function textsIn(object: unknown, key: string): string[] {
  const value = isObject(object) ? object[key] : undefined;
  if (value === undefined) return [];
  const list = Array.isArray(value) ? value : [value];
  return list.map((item) => {
    if (typeof item !== 'string') throw new NftUnclear(`'${key}' is no text`);
    return item;
  });
}

const BITWISE = { '&': 'and', '|': 'or', '^': 'xor', '<<': 'lshift', '>>': 'rshift' } as const;

function isBitwise(kind: string): kind is keyof typeof BITWISE {
  return Object.hasOwn(BITWISE, kind);
}

/** An expression: what a packet is asked for. */
export function jsonExpression(value: unknown, context: JsonContext): NftExpression {
  const { kind, body } = kindOf(value);
  if (isBitwise(kind)) {
    if (!Array.isArray(body) || body.length < 2) throw new NftUnclear(`'${kind}' needs two operands`);
    const first = jsonExpression(body[0], context);
    return body
      .slice(1)
      .reduce((left: NftExpression, right) => bitwiseOf(left, BITWISE[kind], jsonValue(right)), first);
  }
  switch (kind) {
    case 'payload':
      if (isObject(body) && body['base'] !== undefined)
        throw new NftUnclear('flatpath does not know bytes without a name');
      return payloadOf(textIn(body, 'protocol'), textIn(body, 'field'));
    case 'meta':
      return metaOf(textIn(body, 'key'));
    case 'ct':
      return jsonCt(body, context);
    case 'fib':
      return fibOf(textsIn(body, 'flags'), textIn(body, 'result'));
    case 'numgen': {
      const mode = textIn(body, 'mode');
      if (mode !== 'random' && mode !== 'inc') throw new NftUnclear(`'numgen ${mode}' is unknown`);
      return { kind: 'numgen', mode, modulus: numberIn(body, 'mod'), offset: optionalNumber(body, 'offset') ?? 0 };
    }
    case 'jhash':
    case 'symhash': {
      const key = kind === 'jhash' ? jsonExpression(isObject(body) ? body['expr'] : null, context) : null;
      const seed = optionalNumber(body, 'seed');
      return { kind: 'hash', key, modulus: numberIn(body, 'mod'), seed, offset: optionalNumber(body, 'offset') ?? 0 };
    }
    case 'concat':
      if (!Array.isArray(body)) throw new NftUnclear("'concat' needs a list");
      return { kind: 'concat', parts: body.map((part) => jsonExpression(part, context)) };
  }
  throw new NftUnclear(`flatpath does not know ${kind === '' ? quoteJson(value) : `'${kind}'`}`);
}

function jsonCt(body: unknown, context: JsonContext): NftExpression {
  const direction = isObject(body) && typeof body['dir'] === 'string' ? body['dir'] : null;
  const family = isObject(body) && typeof body['family'] === 'string' ? `${body['family']} ` : '';
  return ctOf(`${family}${textIn(body, 'key')}`, direction, context.family);
}

function optionalNumber(object: unknown, key: string): number | null {
  return isObject(object) && object[key] !== undefined ? numberIn(object, key) : null;
}

/** A key, or a key and what it finds in a map. `data`: datatypes of the map's values, by what it holds. */
export function jsonLookup(
  value: unknown,
  context: JsonContext,
  data: (map: RawMap) => readonly NftDatatype[],
): NftExpression {
  const { kind, body } = kindOf(value);
  if (kind !== 'map') return jsonExpression(value, context);
  if (!isObject(body)) throw new NftUnclear("'map' needs a key and data");
  const key = jsonExpression(body['key'], context);
  const map = jsonMap(body['data'], context);
  return { kind: 'lookup', key, map: mapReference(map, key, data(map)) };
}

// ---- values -------------------------------------------------------------------------------------------------------

/** A value as written. */
export function jsonValue(value: unknown): RawValue {
  if (typeof value === 'string') return value === '*' ? { kind: 'any' } : { kind: 'word', text: value };
  if (typeof value === 'number' || typeof value === 'boolean') return { kind: 'word', text: String(value) };
  if (Array.isArray(value)) return { kind: 'flags', items: value.map(jsonValue) };
  const { kind, body } = kindOf(value);
  switch (kind) {
    case 'prefix':
      return { kind, address: jsonValue(isObject(body) ? body['addr'] : null), length: numberIn(body, 'len') };
    case 'range':
      if (!Array.isArray(body)) throw new NftUnclear("'range' needs a list");
      // A single port in a NAT statement is a range of one.
      if (body.length === 1) return jsonValue(body[0]);
      return { kind, from: jsonValue(body[0]), to: jsonValue(body[1]) };
    case 'concat':
      if (!Array.isArray(body)) throw new NftUnclear("'concat' needs a list");
      return { kind, parts: body.map(jsonValue) };
    case '|':
      if (!Array.isArray(body)) throw new NftUnclear("'|' needs a list");
      return { kind: 'flags', items: body.map(jsonValue) };
  }
  throw new NftUnclear(`${quoteJson(value)} is no value that flatpath knows`);
}

/** `"@name"`, or `{"set": [ … ]}`. */
export function jsonMap(value: unknown, context: JsonContext): RawMap {
  if (typeof value === 'string' && value.startsWith('@')) return { kind: 'named', name: value.slice(1) };
  const { kind, body } = kindOf(value);
  if (kind !== 'set') throw new NftUnclear(`${quoteJson(value)} is no set`);
  return { kind: 'elements', elements: jsonElements(body, context) };
}

/** True for what `jsonMap` reads. */
export function isJsonMap(value: unknown): boolean {
  return (typeof value === 'string' && value.startsWith('@')) || kindOf(value).kind === 'set';
}

/** Elements of a set, or pairs of a map. */
export function jsonElements(value: unknown, context: JsonContext): RawElement[] {
  const list = Array.isArray(value) ? value : [value];
  return list.map((item: unknown) => jsonElement(item, context));
}

function jsonElement(item: unknown, { source }: JsonContext): RawElement {
  if (Array.isArray(item) && item.length === 2)
    return { ...jsonKey(item[0], source), value: jsonElementValue(item[1]) };
  return { ...jsonKey(item, source), value: null };
}

function jsonKey(value: unknown, source: NftJsonPlace): Omit<RawElement, 'value'> {
  const { kind, body } = kindOf(value);
  if (kind !== 'elem' || !isObject(body)) return { key: jsonValue(value), comment: null, timeoutSeconds: null, source };
  const comment = body['comment'] === undefined ? null : textIn(body, 'comment');
  return { key: jsonValue(body['val']), comment, timeoutSeconds: optionalNumber(body, 'timeout'), source };
}

function jsonElementValue(value: unknown): RawElement['value'] {
  const verdict = jsonVerdict(value);
  return verdict === null ? jsonValue(value) : { kind: 'verdict', verdict };
}

/** `{"drop": null}`, `{"goto": {"target": "x"}}`; null for anything else. */
export function jsonVerdict(value: unknown): NftVerdict | null {
  const { kind, body } = kindOf(value);
  switch (kind) {
    case 'accept':
    case 'drop':
    case 'return':
    case 'continue':
      return { kind };
    case 'jump':
    case 'goto':
      return { kind, chain: textIn(body, 'target') };
  }
  return null;
}

/** Datatypes of a set's key or a map's value: a name, a list of names, or expressions behind `typeof`. */
export function jsonTypes(value: unknown, context: JsonContext): readonly NftDatatype[] {
  if (typeof value === 'string') return [setDatatype(value)];
  if (Array.isArray(value)) return value.flatMap((part) => jsonTypes(part, context));
  const { kind, body } = kindOf(value);
  if (kind !== 'typeof') throw new NftUnclear(`${quoteJson(value)} is no type`);
  return datatypesOf(jsonExpression(body, context));
}
