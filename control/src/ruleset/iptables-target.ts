/**
 * The target of a dump's rule in the engine's words. Targets that change nothing which an answer shows (LOG, counters,
 * header fields) let the walk go on; those whose change stays unseen are named.
 */

import {
  CONNMARK_RESTORE,
  CONNMARK_SAVE,
  CONNMARK_SET,
  MASQUERADE_PORTS,
  MASQUERADE_RANDOM,
  MASQUERADE_RANDOM_FULLY,
  RANGE_ADDRESS,
  RANGE_OFFSET,
  RANGE_PERSISTENT,
  RANGE_PORTS,
  RANGE_RANDOM,
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
  TARGET_CONNMARK,
  TARGET_DNAT,
  TARGET_DNAT_RANGE,
  TARGET_MASQUERADE,
  TARGET_NETMAP,
  TARGET_NOTRACK,
  TARGET_REDIRECT,
  TARGET_REJECT,
  TARGET_SNAT,
  TARGET_SNAT_RANGE,
} from '@flatpath/engine/tables/rule-list';
import type { Target } from '../compile/iptables-rules.ts';
import type { Family, Words } from '../model/address.ts';
import { type Given, type GivenTarget, hasOption, NotUnderstoodRule, optionValue } from './iptables-rule.ts';
import { type RuleContext, requirePlace } from './rule-context.ts';
import { readMark, readMasked, readPorts, readWords } from './rule-values.ts';

/** The target, null where the rule only lets the walk go on. */
export function ruleTarget(given: GivenTarget | null, context: RuleContext): Target | null {
  if (given === null) return null;
  const { name, options, isGoto } = given;
  switch (name) {
    case 'ACCEPT':
      return { kind: 'accept' };
    case 'DROP':
      return { kind: 'drop' };
    case 'RETURN':
      return { kind: 'return' };
    case 'REJECT':
      return { kind: 'encoded', target: TARGET_REJECT, args: [rejectKind(options, context.family)] };
    case 'MARK':
      return markTarget(options);
    case 'CONNMARK':
      return connmarkTarget(options);
    case 'CT':
      return connectionTarget(options, context);
    case 'NOTRACK':
      return { kind: 'encoded', target: TARGET_NOTRACK, args: [] };
    case 'DNAT':
      return natTarget(options, 'to-destination', TARGET_DNAT, TARGET_DNAT_RANGE, context);
    case 'SNAT':
      return natTarget(options, 'to-source', TARGET_SNAT, TARGET_SNAT_RANGE, context);
    case 'MASQUERADE':
      return masqueradeTarget(options, context);
    case 'REDIRECT':
      return redirectTarget(options, context);
    case 'NETMAP': {
      const { words, mask } = readMasked(optionValue(options, 'to') ?? '', context.family);
      return { kind: 'encoded', target: TARGET_NETMAP, args: [...words, ...mask] };
    }
    case 'LOG':
    case 'NFLOG':
    case 'TRACE':
    case 'AUDIT':
    case 'CLASSIFY':
    case 'CHECKSUM':
    case 'SECMARK':
    case 'CONNSECMARK':
      return null;
    case 'TCPMSS':
    case 'TOS':
    case 'DSCP':
    case 'TTL':
    case 'HL':
    case 'ECN':
      context.assume(`-j ${name}`, 'the header field that it changes stays as it is');
      return null;
    case 'SET':
      context.assume('-j SET', 'sets stay as they were saved');
      return null;
    default:
      return { kind: isGoto ? 'goto' : 'jump', chain: name };
  }
}

// ---- REJECT -----------------------------------------------------------------------------------------------------------

const REJECTS: Readonly<Record<Family, Readonly<Record<string, number>>>> = {
  4: {
    'icmp-net-unreachable': REJECT_NET_UNREACHABLE,
    'icmp-host-unreachable': REJECT_HOST_UNREACHABLE,
    'icmp-port-unreachable': REJECT_PORT_UNREACHABLE,
    'icmp-proto-unreachable': REJECT_PROTO_UNREACHABLE,
    'icmp-net-prohibited': REJECT_NET_PROHIBITED,
    'icmp-host-prohibited': REJECT_HOST_PROHIBITED,
    'icmp-admin-prohibited': REJECT_ADMIN_PROHIBITED,
    'net-unreach': REJECT_NET_UNREACHABLE,
    'host-unreach': REJECT_HOST_UNREACHABLE,
    'port-unreach': REJECT_PORT_UNREACHABLE,
    'proto-unreach': REJECT_PROTO_UNREACHABLE,
    'net-prohib': REJECT_NET_PROHIBITED,
    'host-prohib': REJECT_HOST_PROHIBITED,
    'admin-prohib': REJECT_ADMIN_PROHIBITED,
    'tcp-reset': REJECT_TCP_RESET,
    'tcp-rst': REJECT_TCP_RESET,
  },
  6: {
    'icmp6-no-route': REJECT_NET_UNREACHABLE,
    'icmp6-adm-prohibited': REJECT_ADMIN_PROHIBITED,
    'icmp6-addr-unreachable': REJECT_HOST_UNREACHABLE,
    'icmp6-port-unreachable': REJECT_PORT_UNREACHABLE,
    'icmp6-policy-fail': REJECT_POLICY_FAIL,
    'icmp6-reject-route': REJECT_ROUTE,
    'no-route': REJECT_NET_UNREACHABLE,
    'adm-prohibited': REJECT_ADMIN_PROHIBITED,
    'addr-unreach': REJECT_HOST_UNREACHABLE,
    'port-unreach': REJECT_PORT_UNREACHABLE,
    'policy-fail': REJECT_POLICY_FAIL,
    'reject-route': REJECT_ROUTE,
    'tcp-reset': REJECT_TCP_RESET,
  },
};

function rejectKind(options: readonly Given[], family: Family): number {
  const text = optionValue(options, 'reject-with');
  if (text === null) return REJECT_PORT_UNREACHABLE;
  const kinds = REJECTS[family];
  if (!Object.hasOwn(kinds, text)) throw new NotUnderstoodRule(`--reject-with ${text}`, 'is not a kind of refusal');
  return kinds[text]!;
}

// ---- marks ------------------------------------------------------------------------------------------------------------

/** `new = old & ~mask ^ value`, whatever way it was written. */
function readMarkChange(options: readonly Given[]): { value: number; mask: number } | null {
  for (const { option, values } of options) {
    const text = values[0] ?? '';
    if (!/^(set-xmark|set-mark|and-mark|or-mark|xor-mark)$/.test(option)) continue;
    const { value, mask } = readMark(text);
    switch (option) {
      case 'set-xmark':
        return { value, mask };
      case 'set-mark':
        return { value, mask: mask | value };
      case 'and-mark':
        return { value: 0, mask: ~value };
      case 'or-mark':
        return { value, mask: value };
      default:
        return { value, mask: 0 };
    }
  }
  return null;
}

function markTarget(options: readonly Given[]): Target {
  const change = readMarkChange(options);
  if (change === null) throw new NotUnderstoodRule('-j MARK', 'says no mark');
  // As the header of iptables-save prints masks: unsigned.
  return { kind: 'mark', value: change.value >>> 0, mask: change.mask >>> 0 };
}

function connmarkTarget(options: readonly Given[]): Target {
  const encode = (how: number, x: number, y: number): Target => ({
    kind: 'encoded',
    target: TARGET_CONNMARK,
    args: [how, x, y],
  });
  const change = readMarkChange(options);
  if (change !== null) return encode(CONNMARK_SET, change.value, change.mask);
  const readMask = (option: string): number => {
    const text = optionValue(options, option) ?? optionValue(options, 'mask');
    return text === null ? -1 : readMark(text).value;
  };
  const nfmask = readMask('nfmask');
  const ctmask = readMask('ctmask');
  if (hasOption(options, 'save-mark')) return encode(CONNMARK_SAVE, nfmask, ctmask);
  if (hasOption(options, 'restore-mark')) return encode(CONNMARK_RESTORE, nfmask, ctmask);
  throw new NotUnderstoodRule('-j CONNMARK', 'says neither a mark nor save or restore');
}

function connectionTarget(options: readonly Given[], context: RuleContext): Target | null {
  if (hasOption(options, 'notrack')) return { kind: 'encoded', target: TARGET_NOTRACK, args: [] };
  for (const option of ['zone', 'zone-orig', 'zone-reply']) {
    if (hasOption(options, option)) throw new NotUnderstoodRule(`--${option}`, 'a node is one conntrack zone here');
  }
  if (hasOption(options, 'helper')) context.assume('-j CT --helper', 'no helper expects connections');
  if (hasOption(options, 'timeout')) context.assume('-j CT --timeout', 'timeouts are the defaults');
  return null;
}

// ---- nat --------------------------------------------------------------------------------------------------------------

interface NatRange {
  readonly low: Words | null;
  readonly high: Words;
  /** -1: the port stays. */
  readonly first: number;
  readonly last: number;
  /** -1: none. */
  readonly base: number;
}

const NO_WORDS: Words = [0, 0, 0, 0];

/** `a`, `a-b`, `a:p`, `a-b:p-q/base`, `:p`, IPv6 in brackets where ports follow. */
function readNatRange(text: string, family: Family): NatRange {
  const { addresses, ports } = splitNatRange(text, family);
  const [low, high = low] = addresses === '' ? [] : addresses.split('-', 2);
  let first = -1;
  let last = -1;
  let base = -1;
  if (ports !== null) {
    const [span = '', from] = ports.split('/', 2);
    ({ first, last } = readPorts(span, '-'));
    if (from !== undefined) base = readPorts(from).first;
  }
  return {
    low: low === undefined ? null : readWords(bare(low), family),
    high: high === undefined ? NO_WORDS : readWords(bare(high), family),
    first,
    last,
    base,
  };
}

function splitNatRange(text: string, family: Family): { addresses: string; ports: string | null } {
  const at = family === 4 ? text.indexOf(':') : text.lastIndexOf(']:') + (text.includes(']:') ? 1 : 0);
  if (family === 6 && !text.includes(']:')) {
    // `:80` alone, or an address without a port.
    return /^:\d/.test(text) && !text.slice(1).includes(':')
      ? { addresses: '', ports: text.slice(1) }
      : { addresses: text, ports: null };
  }
  return at < 0 ? { addresses: text, ports: null } : { addresses: text.slice(0, at), ports: text.slice(at + 1) };
}

function bare(text: string): string {
  return text.replace(/^\[/, '').replace(/\]$/, '');
}

function natTarget(
  options: readonly Given[],
  option: string,
  plain: number,
  ranged: number,
  { family }: RuleContext,
): Target {
  const text = optionValue(options, option);
  if (text === null) throw new NotUnderstoodRule(`--${option}`, 'is missing');
  const { low, high, first, last, base } = readNatRange(text, family);
  const isRandom = hasOption(options, 'random') || hasOption(options, 'random-fully');
  const keepsPort = first === last && !(ranged === TARGET_SNAT_RANGE && isRandom);
  const isOne = low?.every((word, i) => word === high[i]) ?? false;
  if (low !== null && isOne && keepsPort && base < 0)
    return { kind: 'encoded', target: plain, args: [...low, first, last] };
  const flags =
    (low === null ? 0 : RANGE_ADDRESS) |
    (first < 0 ? 0 : RANGE_PORTS) |
    (isRandom ? RANGE_RANDOM : 0) |
    (hasOption(options, 'persistent') ? RANGE_PERSISTENT : 0) |
    (base < 0 ? 0 : RANGE_OFFSET);
  if (low !== null && family === 6 && (low[0] !== high[0] || low[1] !== high[1] || low[2] !== high[2])) {
    throw new NotUnderstoodRule(text, 'a range of more than 2^32 addresses');
  }
  return {
    kind: 'encoded',
    target: ranged,
    args: [flags, Math.max(first, 0), Math.max(last, 0), Math.max(base, 0), ...(low ?? NO_WORDS), ...high],
  };
}

function masqueradeTarget(options: readonly Given[], context: RuleContext): Target {
  requirePlace(context, '-j MASQUERADE');
  const ports = optionValue(options, 'to-ports');
  const flags =
    (hasOption(options, 'random-fully') ? MASQUERADE_RANDOM_FULLY : 0) |
    (hasOption(options, 'random') ? MASQUERADE_RANDOM : 0);
  if (ports === null) return { kind: 'encoded', target: TARGET_MASQUERADE, args: [flags] };
  const { first, last } = readPorts(ports, '-');
  return { kind: 'encoded', target: TARGET_MASQUERADE, args: [flags | MASQUERADE_PORTS, first, last] };
}

function redirectTarget(options: readonly Given[], context: RuleContext): Target {
  requirePlace(context, '-j REDIRECT');
  const ports = optionValue(options, 'to-ports');
  const random = hasOption(options, 'random') ? RANGE_RANDOM : 0;
  if (ports === null) return { kind: 'encoded', target: TARGET_REDIRECT, args: [random, 0, 0] };
  const { first, last } = readPorts(ports, '-');
  return { kind: 'encoded', target: TARGET_REDIRECT, args: [random | RANGE_PORTS, first, last] };
}
