/**
 * Rules, elements, sets and chains of nftables as `nft list ruleset` (1.0.6) spells them, but for priorities, which are
 * numbers: nft 1.0.6 refuses names such as `dstnat` in forward and output chains.
 */

import type { Words } from '../model/address.ts';
import {
  datatypesOf,
  NFT_ADDRTYPE,
  NFT_CT_DIR,
  NFT_CT_STATE,
  NFT_CT_STATUS,
  NFT_PKTTYPE,
  NFT_TCP_FLAG,
  type NftChain,
  type NftDatatype,
  type NftElement,
  type NftExpression,
  type NftFamily,
  type NftMapReference,
  type NftPorts,
  type NftReject,
  type NftRule,
  type NftSet,
  type NftStatement,
  type NftValue,
  type NftVerdict,
} from './nft-ruleset.ts';

const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  2: 'igmp',
  6: 'tcp',
  17: 'udp',
  33: 'dccp',
  47: 'gre',
  50: 'esp',
  51: 'ah',
  58: 'ipv6-icmp',
  132: 'sctp',
  136: 'udplite',
};
const NF_PROTOCOLS: Readonly<Record<number, string>> = { 2: 'ipv4', 10: 'ipv6' };
const ETHER_TYPES: Readonly<Record<number, string>> = { 2048: 'ip', 34525: 'ip6', 2054: 'arp' };
const BIT_NAMES: Partial<Record<NftDatatype, ReadonlyMap<number, string>>> = {
  ct_state: namesOf(NFT_CT_STATE),
  ct_status: namesOf(NFT_CT_STATUS),
  tcp_flag: namesOf(NFT_TCP_FLAG),
};
const VALUE_NAMES: Partial<Record<NftDatatype, ReadonlyMap<number, string>>> = {
  ct_dir: namesOf(NFT_CT_DIR),
  fib_addrtype: namesOf(NFT_ADDRTYPE),
  pkt_type: namesOf(NFT_PKTTYPE),
};
const BITWISE = { and: '&', or: '|', xor: '^', lshift: '<<', rshift: '>>' } as const;
const REJECT_NAMES: Readonly<Record<NftReject['type'], readonly string[]>> = {
  icmp: [
    'net-unreachable',
    'host-unreachable',
    'prot-unreachable',
    'port-unreachable',
    '',
    '',
    '',
    '',
    '',
    'net-prohibited',
    'host-prohibited',
    '',
    '',
    'admin-prohibited',
  ],
  icmpv6: ['no-route', 'admin-prohibited', '', 'addr-unreachable', 'port-unreachable', 'policy-fail', 'reject-route'],
  icmpx: ['no-route', 'port-unreachable', 'host-unreachable', 'admin-prohibited'],
  'tcp-reset': [],
};
/** What `reject` alone means in a table. */
const PLAIN_REJECT: Readonly<Record<NftFamily, NftReject>> = {
  ip: { type: 'icmp', code: 3 },
  ip6: { type: 'icmpv6', code: 4 },
  inet: { type: 'icmpx', code: 1 },
};

/** A rule as it stands in its chain, comment included. */
export function nftRuleText(rule: NftRule, family: NftFamily): string {
  const words = rule.statements.map((statement) => statementText(statement, family));
  if (rule.comment !== null) words.push(`comment "${rule.comment}"`);
  return words.join(' ');
}

/** An element as it stands in its set: key, comment and value. */
export function nftElementText(element: NftElement, set: NftSet): string {
  return elementText(element, set.key, set.data === 'verdict' ? [] : (set.data ?? []));
}

/** The lines of a set or map, indented as in its table. */
export function nftSetLines(set: NftSet): string[] {
  const lines = [`\t${set.data === null ? 'set' : 'map'} ${set.name} {`];
  const data = set.data === null ? '' : ` : ${set.data === 'verdict' ? 'verdict' : set.data.join(' . ')}`;
  lines.push(`\t\ttype ${set.key.join(' . ')}${data}`);
  if (set.size !== null) lines.push(`\t\tsize ${set.size}`);
  if (set.flags.length > 0) lines.push(`\t\tflags ${set.flags.join(',')}`);
  if (set.timeoutSeconds !== null) lines.push(`\t\ttimeout ${durationText(set.timeoutSeconds)}`);
  if (set.autoMerge) lines.push('\t\tauto-merge');
  if (set.comment !== null) lines.push(`\t\tcomment "${set.comment}"`);
  const last = set.elements.length - 1;
  set.elements.forEach((element, i) => {
    const text = nftElementText(element, set);
    lines.push(`${i === 0 ? '\t\telements = { ' : '\t\t\t     '}${text}${i === last ? ' }' : ','}`);
  });
  lines.push('\t}');
  return lines;
}

/** The lines of a chain, indented as in its table. */
export function nftChainLines(chain: NftChain, family: NftFamily): string[] {
  const lines = [`\tchain ${chain.name} {`];
  if (chain.comment !== null) lines.push(`\t\tcomment "${chain.comment}"`);
  if (chain.base !== null) {
    const { type, hook, priority, policy } = chain.base;
    lines.push(`\t\ttype ${type} hook ${hook} priority ${priority}; policy ${policy};`);
  }
  for (const rule of chain.rules) lines.push(`\t\t${nftRuleText(rule, family)}`);
  lines.push('\t}');
  return lines;
}

/** `accept`, `goto service-…`. */
export function nftVerdictText(verdict: NftVerdict): string {
  return verdict.kind === 'jump' || verdict.kind === 'goto' ? `${verdict.kind} ${verdict.chain}` : verdict.kind;
}

function statementText(statement: NftStatement, family: NftFamily): string {
  switch (statement.kind) {
    case 'match':
      return matchText(statement.left, statement.operator, statement.right);
    case 'vmap':
      return `${expressionText(statement.key)} vmap ${mapText(statement.map, datatypesOf(statement.key))}`;
    case 'verdict':
      return nftVerdictText(statement.verdict);
    case 'reject':
      return rejectText(statement.with, family);
    case 'masquerade':
    case 'redirect': {
      const ports = statement.ports === null ? '' : ` to :${portsText(statement.ports)}`;
      return [`${statement.kind}${ports}`, ...flagsText(statement.flags)].join(' ');
    }
    case 'dnat':
    case 'snat':
      return natText(statement);
    case 'set':
      return `${statement.target} set ${operandText(statement.value, ['mark'])}`;
    case 'dynset': {
      const timeout = statement.timeoutSeconds === null ? '' : ` timeout ${durationText(statement.timeoutSeconds)}`;
      return `${statement.operation} @${statement.set} { ${expressionText(statement.key)}${timeout} }`;
    }
    case 'log':
    case 'limit':
    case 'ignored':
    case 'exceeded':
    case 'unknown':
      return statement.text;
    case 'owner': {
      const layer = family === 'ip6' ? 'ip6' : 'ip';
      return `${layer} ${statement.side} ${statement.invert ? '!= ' : ''}@${statement.set}`;
    }
    case 'deny':
      return 'drop';
    case 'outbound-masquerade':
      return 'masquerade fully-random';
    case 'notrack':
    case 'counter':
      return statement.kind;
  }
}

function matchText(left: NftExpression, operator: string, right: NftValue | NftMapReference): string {
  const types = datatypesOf(left);
  const sign = operator === '==' || operator === 'in' ? '' : `${operator === '!in' ? '!' : operator} `;
  const value =
    right.kind === 'named' || right.kind === 'elements' ? mapText(right, types) : valueText(right, types, false);
  if (left.kind === 'bitwise' && left.operator === 'and' && types[0] === 'tcp_flag' && operator !== 'in') {
    return `${expressionText(left.left)} ${sign}${value} / ${valueText(left.right, types, false)}`;
  }
  // `a & b c` would read as `a & (b c)`.
  return `${expressionText(left)} ${left.kind === 'bitwise' && sign === '' ? '== ' : sign}${value}`;
}

function expressionText(expression: NftExpression): string {
  switch (expression.kind) {
    case 'payload':
      return expression.field;
    case 'meta':
      return expression.key === 'iif' || expression.key === 'oif' || expression.key.endsWith('name')
        ? expression.key
        : `meta ${expression.key}`;
    case 'ct':
      return `ct ${expression.direction === null ? '' : `${expression.direction} `}${expression.key}`;
    case 'fib':
      return `fib ${expression.by.join(' . ')} ${expression.result}`;
    case 'numgen':
      return `numgen ${expression.mode} mod ${expression.modulus}${offsetText(expression.offset)}`;
    case 'hash': {
      const of = expression.key === null ? 'symhash' : `jhash ${expressionText(expression.key)}`;
      const seed = expression.seed === null ? '' : ` seed 0x${expression.seed.toString(16)}`;
      return `${of} mod ${expression.modulus}${seed}${offsetText(expression.offset)}`;
    }
    case 'bitwise': {
      const types = expression.operator.endsWith('shift') ? INTEGER : datatypesOf(expression.left);
      return `${expressionText(expression.left)} ${BITWISE[expression.operator]} ${valueText(expression.right, types, false)}`;
    }
    case 'concat':
      return expression.parts.map(expressionText).join(' . ');
    case 'lookup':
      return `${expressionText(expression.key)} map ${mapText(expression.map, datatypesOf(expression.key))}`;
  }
}

const INTEGER: readonly NftDatatype[] = ['integer'];

function offsetText(offset: number): string {
  return offset === 0 ? '' : ` offset ${offset}`;
}

function mapText(map: NftMapReference, key: readonly NftDatatype[]): string {
  if (map.kind === 'named') return `@${map.name}`;
  return `{ ${map.elements.map((element) => elementText(element, key, INTEGER)).join(', ')} }`;
}

function elementText(element: NftElement, key: readonly NftDatatype[], data: readonly NftDatatype[]): string {
  let text = valueText(element.key, key, false);
  if (element.timeoutSeconds !== null) text += ` timeout ${durationText(element.timeoutSeconds)}`;
  if (element.comment !== null) text += ` comment "${element.comment}"`;
  if (element.value !== null) {
    text += ` : ${isVerdict(element.value) ? nftVerdictText(element.value) : valueText(element.value, data, false)}`;
  }
  return text;
}

function isVerdict(value: NftVerdict | NftValue): value is NftVerdict {
  switch (value.kind) {
    case 'accept':
    case 'drop':
    case 'return':
    case 'continue':
    case 'jump':
    case 'goto':
      return true;
  }
  return false;
}

function isExpression(operand: NftValue | NftExpression): operand is NftExpression {
  switch (operand.kind) {
    case 'number':
    case 'address':
    case 'prefix':
    case 'range':
    case 'name':
    case 'any':
      return false;
    case 'concat':
      return operand.parts.some(isExpression);
  }
  return true;
}

function operandText(operand: NftValue | NftExpression, types: readonly NftDatatype[]): string {
  return isExpression(operand) ? expressionText(operand) : valueText(operand, types, false);
}

/** @param bracketed an IPv6 address that a port follows */
function valueText(value: NftValue, types: readonly NftDatatype[], bracketed: boolean): string {
  switch (value.kind) {
    case 'number':
      return numberText(value.value, types[0] ?? 'integer');
    case 'address': {
      const text = addressText(value.address);
      return bracketed && value.address.family === 6 ? `[${text}]` : text;
    }
    case 'prefix':
      return `${addressText(value.prefix)}/${value.prefix.length}`;
    case 'range':
      return `${valueText(value.from, types, bracketed)}-${valueText(value.to, types, bracketed)}`;
    case 'name':
      return `"${value.name}"`;
    case 'concat':
      return value.parts.map((part, i) => valueText(part, types.slice(i, i + 1), false)).join(' . ');
    case 'any':
      return '*';
  }
}

function numberText(value: number, type: NftDatatype): string {
  const bits = BIT_NAMES[type];
  if (bits !== undefined) return bitsText(value, bits);
  const name = VALUE_NAMES[type]?.get(value);
  if (name !== undefined) return name;
  switch (type) {
    case 'mark':
      return `0x${value.toString(16).padStart(8, '0')}`;
    case 'inet_proto':
      return PROTOCOLS[value] ?? String(value);
    case 'nf_proto':
      return NF_PROTOCOLS[value] ?? String(value);
    case 'ether_type':
      return ETHER_TYPES[value] ?? String(value);
    default:
      return String(value);
  }
}

function bitsText(value: number, names: ReadonlyMap<number, string>): string {
  const found: string[] = [];
  let rest = value;
  for (const [bit, name] of names) {
    if ((rest & bit) === 0) continue;
    found.push(name);
    rest &= ~bit;
  }
  return rest === 0 && found.length > 0 ? found.join(',') : `0x${value.toString(16)}`;
}

/** The C library writes the last 32 bits dotted where zeros, or zeros and `ffff`, are all that stands before them. */
function addressText(of: { readonly family: 4 | 6; readonly words: Words; readonly text: string }): string {
  const [w0, w1, w2, w3] = of.words;
  if (of.family === 6 && (w0 | w1) === 0) {
    const dotted = `${w3 >>> 24}.${(w3 >>> 16) & 255}.${(w3 >>> 8) & 255}.${w3 & 255}`;
    if (w2 === 0 && w3 >>> 16 !== 0) return `::${dotted}`;
    if (w2 === 0xffff) return `::ffff:${dotted}`;
  }
  const slash = of.text.indexOf('/');
  return slash < 0 ? of.text : of.text.slice(0, slash);
}

function natText(statement: NftStatement & { kind: 'dnat' | 'snat' }): string {
  const { kind, family, address, ports, flags } = statement;
  const words: string[] = [kind];
  if (family !== null) words.push(family);
  let target = '';
  if (address !== null) {
    target = isExpression(address) ? expressionText(address) : valueText(address, [], ports !== null);
  }
  if (ports !== null) target += `:${portsText(ports)}`;
  words.push('to', target, ...flagsText(flags));
  return words.join(' ');
}

function portsText({ first, last }: NftPorts): string {
  return first === last ? String(first) : `${first}-${last}`;
}

function flagsText(flags: readonly string[]): string[] {
  return flags.length === 0 ? [] : [flags.join(',')];
}

function rejectText(reject: NftReject, family: NftFamily): string {
  if (reject.type === 'tcp-reset') return 'reject with tcp reset';
  const plain = PLAIN_REJECT[family];
  if (plain.type === reject.type && plain.code === reject.code) return 'reject';
  const name = REJECT_NAMES[reject.type][reject.code] ?? '';
  return `reject with ${reject.type} ${name === '' ? reject.code : name}`;
}

/** `3h`, `1m30s`: the largest units first, none that is zero. */
function durationText(seconds: number): string {
  let text = '';
  let rest = seconds;
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text === '' ? '0s' : text;
}

/** Values to names, in the order of the values; of two names of one value the first. */
function namesOf(values: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const [name, value] of Object.entries(values)) if (!names.has(value)) names.set(value, name);
  return names;
}
