/** Names of ICMP types and codes, as iptables takes them; it prints numbers. */

import type { Family } from '../model/address.ts';
import { NotUnderstoodRule } from './iptables-rule.ts';
import { readNumber } from './rule-values.ts';

export interface IcmpType {
  readonly type: number;
  /** Codes, first to last. */
  readonly first: number;
  readonly last: number;
}

/** A type, or a type and a code. */
const NAMES4: Readonly<Record<string, readonly [number] | readonly [number, number]>> = {
  'echo-reply': [0],
  pong: [0],
  'destination-unreachable': [3],
  'network-unreachable': [3, 0],
  'host-unreachable': [3, 1],
  'protocol-unreachable': [3, 2],
  'port-unreachable': [3, 3],
  'fragmentation-needed': [3, 4],
  'source-route-failed': [3, 5],
  'network-unknown': [3, 6],
  'host-unknown': [3, 7],
  'network-prohibited': [3, 9],
  'host-prohibited': [3, 10],
  'TOS-network-unreachable': [3, 11],
  'TOS-host-unreachable': [3, 12],
  'communication-prohibited': [3, 13],
  'host-precedence-violation': [3, 14],
  'precedence-cutoff': [3, 15],
  'source-quench': [4],
  redirect: [5],
  'network-redirect': [5, 0],
  'host-redirect': [5, 1],
  'TOS-network-redirect': [5, 2],
  'TOS-host-redirect': [5, 3],
  'echo-request': [8],
  ping: [8],
  'router-advertisement': [9],
  'router-solicitation': [10],
  'time-exceeded': [11],
  'ttl-exceeded': [11],
  'ttl-zero-during-transit': [11, 0],
  'ttl-zero-during-reassembly': [11, 1],
  'parameter-problem': [12],
  'ip-header-bad': [12, 0],
  'required-option-missing': [12, 1],
  'timestamp-request': [13],
  'timestamp-reply': [14],
  'address-mask-request': [17],
  'address-mask-reply': [18],
};

const NAMES6: Readonly<Record<string, readonly [number] | readonly [number, number]>> = {
  'destination-unreachable': [1],
  'no-route': [1, 0],
  'communication-prohibited': [1, 1],
  'beyond-scope': [1, 2],
  'address-unreachable': [1, 3],
  'port-unreachable': [1, 4],
  'failed-policy': [1, 5],
  'reject-route': [1, 6],
  'packet-too-big': [2],
  'time-exceeded': [3],
  'ttl-exceeded': [3],
  'ttl-zero-during-transit': [3, 0],
  'ttl-zero-during-reassembly': [3, 1],
  'parameter-problem': [4],
  'bad-header': [4, 0],
  'unknown-header-type': [4, 1],
  'unknown-option': [4, 2],
  'echo-request': [128],
  ping: [128],
  'echo-reply': [129],
  pong: [129],
  'mld-listener-query': [130],
  'mld-listener-report': [131],
  'mld-listener-done': [132],
  'mld-listener-reduction': [132],
  'router-solicitation': [133],
  'router-advertisement': [134],
  'neighbour-solicitation': [135],
  'neighbor-solicitation': [135],
  'neighbour-advertisement': [136],
  'neighbor-advertisement': [136],
  redirect: [137],
};

const ANY_TYPE = 255;

/** `8`, `3/4` or a name; null for `any`. */
export function readIcmpType(text: string, family: Family): IcmpType | null {
  if (family === 4 && text === 'any') return null;
  const names = family === 4 ? NAMES4 : NAMES6;
  const named = Object.hasOwn(names, text) ? names[text]! : null;
  if (named !== null) return typeOf(named[0], named[1] ?? null);
  const [type = '', code] = text.split('/', 2);
  if (!/^\d+$/.test(type)) throw new NotUnderstoodRule(text, 'is not a type of ICMP');
  const number = readNumber(type, 255);
  if (family === 4 && number === ANY_TYPE && code === undefined) return null;
  return typeOf(number, code === undefined ? null : readNumber(code, 255));
}

function typeOf(type: number, code: number | null): IcmpType {
  return { type, first: code ?? 0, last: code ?? 255 };
}
