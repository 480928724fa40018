/** Statements of libnftables-json: the items of a rule's `expr`. */

import type {
  NftExpression,
  NftNatFlag,
  NftOperator,
  NftPorts,
  NftStatement,
  NftValue,
} from '../compile/nft-ruleset.ts';
import { mapReference, matchOf, natDatatype, natDatatypes, natFlags, portsOf, rejectOf, xtOf } from './nft-build.ts';
import {
  isJsonMap,
  isObject,
  type JsonContext,
  type JsonObject,
  jsonExpression,
  jsonLookup,
  jsonMap,
  jsonValue,
  jsonVerdict,
  kindOf,
  numberIn,
  quoteJson,
  textIn,
  textsIn,
} from './nft-json-expression.ts';
import { NftUnclear, rawText, readValue } from './nft-values.ts';

const OPERATORS: Readonly<Record<string, NftOperator>> = {
  '==': '==',
  '!=': '!=',
  '<': '<',
  '>': '>',
  '<=': '<=',
  '>=': '>=',
  in: 'in',
  '!': '!in',
};

/** Fields whose change moves no packet elsewhere. */
const IGNORED_KEYS = new Set([
  'meta priority',
  'meta nftrace',
  'meta pkttype',
  'ct label',
  'ct event',
  'ip dscp',
  'ip6 dscp',
]);

/**
 * One statement.
 * @throws NftUnclear for one that flatpath does not understand
 */
export function jsonStatement(value: unknown, context: JsonContext): NftStatement {
  const verdict = jsonVerdict(value);
  if (verdict !== null) return { kind: 'verdict', verdict };
  const { kind, body } = kindOf(value);
  const text = quoteJson(value);
  switch (kind) {
    case 'match':
      return readMatch(body, context);
    case 'vmap': {
      if (!isObject(body)) throw new NftUnclear("'vmap' needs a key and data");
      const key = jsonExpression(body['key'], context);
      return { kind, key, map: mapReference(jsonMap(body['data'], context), key, null) };
    }
    case 'counter':
    case 'last':
      return { kind: 'counter' };
    case 'notrack':
      return { kind };
    case 'log':
      return { kind, text };
    case 'limit':
    case 'quota':
      return { kind: isInverted(body) ? 'exceeded' : 'limit', text };
    case 'ct count':
      return { kind: isInverted(body) ? 'exceeded' : 'limit', text };
    case 'flow':
    case 'ct helper':
    case 'ct timeout':
    case 'ct expectation':
      return { kind: 'ignored', text };
    case 'mangle':
      return readMangle(body, text, context);
    case 'reject':
      return readReject(body, context);
    case 'masquerade':
    case 'redirect':
      return { kind, flags: flagsOf(body), ports: readPorts(isObject(body) ? body['port'] : undefined) };
    case 'dnat':
    case 'snat':
      return readNat(kind, body, context);
    case 'set':
      return readDynamic(body, context);
    case 'xt':
      return xtOf(textIn(body, 'type'), textIn(body, 'name'), text);
  }
  throw new NftUnclear(`flatpath does not know the statement ${kind === '' ? quoteJson(value) : `'${kind}'`}`);
}

function isInverted(body: unknown): boolean {
  return isObject(body) && body['inv'] === true;
}

function readMatch(body: unknown, context: JsonContext): NftStatement {
  if (!isObject(body)) throw new NftUnclear("'match' needs an operator and two sides");
  const written = textIn(body, 'op');
  if (!Object.hasOwn(OPERATORS, written)) throw new NftUnclear(`'${written}' is no operator`);
  const operator = OPERATORS[written]!;
  const left = jsonExpression(body['left'], context);
  const right = body['right'];
  if (isJsonMap(right)) return matchOf(left, operator === 'in' ? '==' : operator, jsonMap(right, context));
  return matchOf(left, operator, jsonValue(right));
}

function readMangle(body: unknown, text: string, context: JsonContext): NftStatement {
  if (!isObject(body)) throw new NftUnclear("'mangle' needs a key and a value");
  if (isIgnored(body['key'])) return { kind: 'ignored', text };
  const key = jsonExpression(body['key'], context);
  const target =
    key.kind === 'meta' && key.key === 'mark'
      ? 'meta mark'
      : key.kind === 'ct' && key.key === 'mark' && key.direction === null
        ? 'ct mark'
        : null;
  if (target === null) throw new NftUnclear('flatpath does not know how to set this field');
  const { value } = body;
  if (!isObject(value)) return { kind: 'set', target, value: readValue(jsonValue(value), ['mark']) };
  return { kind: 'set', target, value: jsonLookup(value, context, () => ['mark']) };
}

function isIgnored(key: unknown): boolean {
  const { kind, body } = kindOf(key);
  if (kind === 'tcp option') return true;
  if (!isObject(body)) return false;
  const [group, field] = kind === 'payload' ? [body['protocol'], body['field']] : [kind, body['key']];
  return IGNORED_KEYS.has(`${String(group)} ${String(field)}`);
}

function readReject(body: unknown, { family }: JsonContext): NftStatement {
  if (!isObject(body)) return rejectOf(null, null, family);
  const type = body['type'] === undefined ? null : textIn(body, 'type');
  const code = body['expr'] === undefined ? null : rawText(jsonValue(body['expr']));
  return rejectOf(type, code, family);
}

function flagsOf(body: unknown): NftNatFlag[] {
  return natFlags(textsIn(body, 'flags'));
}

function readPorts(value: unknown): NftPorts | null {
  return value === undefined ? null : portsOf(rawText(jsonValue(value)));
}

function readNat(kind: 'dnat' | 'snat', body: unknown, context: JsonContext): NftStatement {
  if (!isObject(body)) throw new NftUnclear(`'${kind}' needs an address or a port`);
  const family = natFamily(body);
  const flags = flagsOf(body);
  const ports = readPorts(body['port']);
  return { kind, family, address: natAddress(body['addr'], family, context), ports, flags };
}

function natFamily(body: JsonObject): 'ip' | 'ip6' | null {
  const { family } = body;
  if (family === undefined) return null;
  if (family !== 'ip' && family !== 'ip6') throw new NftUnclear(`${quoteJson(family)} is no family`);
  return family;
}

function natAddress(
  value: unknown,
  family: 'ip' | 'ip6' | null,
  context: JsonContext,
): NftValue | NftExpression | null {
  if (value === undefined) return null;
  if (kindOf(value).kind === 'map') {
    const isV6 = family === 'ip6' || (family === null && context.family === 'ip6');
    return jsonLookup(value, context, (map) => natDatatypes(isV6 ? 'ipv6_addr' : 'ipv4_addr', map));
  }
  const raw = jsonValue(value);
  return readValue(raw, [natDatatype(family, context.family, rawText(raw))]);
}

function readDynamic(body: unknown, context: JsonContext): NftStatement {
  const operation = textIn(body, 'op');
  if (operation !== 'add' && operation !== 'update' && operation !== 'delete') {
    throw new NftUnclear(`'${operation}' does nothing to a set`);
  }
  if (!isObject(body)) throw new NftUnclear("'set' needs an element");
  for (const statement of Array.isArray(body['stmt']) ? body['stmt'] : []) {
    const inner = jsonStatement(statement, context);
    if (inner.kind === 'exceeded') return inner;
  }
  const { kind, body: element } = kindOf(body['elem']);
  const isElement = kind === 'elem' && isObject(element);
  const key = jsonExpression(isElement ? element['val'] : body['elem'], context);
  const timeoutSeconds = isElement && element['timeout'] !== undefined ? numberIn(element, 'timeout') : null;
  return { kind: 'dynset', operation, set: textIn(body, 'set').replace(/^@/, ''), key, timeoutSeconds };
}
