/**
 * What an nftables expression asks a packet for, as the engine's selector: per family, since a list of rules holds what
 * the packets of one family meet.
 */

import {
  PAYLOAD_NETWORK,
  PAYLOAD_TRANSPORT,
  payloadSelector,
  SELECT_CT_DIRECTION,
  SELECT_CT_L3PROTO,
  SELECT_CT_L4PROTO,
  SELECT_CT_MARK,
  SELECT_CT_ORIGINAL_DADDR4,
  SELECT_CT_ORIGINAL_DADDR6,
  SELECT_CT_ORIGINAL_DPORT,
  SELECT_CT_ORIGINAL_SADDR4,
  SELECT_CT_ORIGINAL_SADDR6,
  SELECT_CT_ORIGINAL_SPORT,
  SELECT_CT_REPLY_DADDR4,
  SELECT_CT_REPLY_DADDR6,
  SELECT_CT_REPLY_DPORT,
  SELECT_CT_REPLY_SADDR4,
  SELECT_CT_REPLY_SADDR6,
  SELECT_CT_REPLY_SPORT,
  SELECT_CT_STATE,
  SELECT_CT_STATUS,
  SELECT_DADDR4,
  SELECT_DADDR6,
  SELECT_DPORT,
  SELECT_FIB_DADDR_IIF_TYPE,
  SELECT_FIB_DADDR_OIF,
  SELECT_FIB_DADDR_TYPE,
  SELECT_FIB_SADDR_IIF_OIF,
  SELECT_FIB_SADDR_IIF_TYPE,
  SELECT_FIB_SADDR_OIF,
  SELECT_FIB_SADDR_TYPE,
  SELECT_IIF,
  SELECT_IIF_CLASS,
  SELECT_L4PROTO,
  SELECT_LENGTH,
  SELECT_MARK,
  SELECT_NFPROTO,
  SELECT_OIF,
  SELECT_OIF_CLASS,
  SELECT_PKTTYPE,
  SELECT_PROTOCOL,
  SELECT_SADDR4,
  SELECT_SADDR6,
  SELECT_SPORT,
} from '@flatpath/engine/tables/nft-rules';
import { IFACE_LOOPBACK, IFACE_POD } from '@flatpath/engine/tables/rule-list';
import type { Family } from '../model/address.ts';
import type { NftExpression, NftMetaKey, NftPayloadField } from './nft-ruleset.ts';

/** The interfaces of a node by name; without them only classes of interfaces are known. */
export interface NftInterfaces {
  /**
   * Numbers of the interfaces that a name, or a pattern with a trailing `*`, stands for, in the order of names.
   * @returns first and last; the first above the last where there is none
   */
  range(name: string): readonly [number, number];
}

/** Stands for a field that no packet of the family has. */
export const NO_FIELD = 0;

const PROTO_ICMP = 1;
const PROTO_TCP = 6;
const PROTO_UDP = 17;
const PROTO_ICMPV6 = 58;
const PROTO_SCTP = 132;

const BYTE = (base: number, offset: number) => payloadSelector(base, offset, 1);
const WORD = (base: number, offset: number) => payloadSelector(base, offset, 2);
const LONG = (base: number, offset: number) => payloadSelector(base, offset, 4);
const ofBoth = (selector: number): readonly [number, number] => [selector, selector];

/** Selectors in a list of IPv4, then of IPv6. */
const PAYLOADS: Readonly<Record<NftPayloadField, readonly [number, number]>> = {
  'ip saddr': [SELECT_SADDR4, NO_FIELD],
  'ip daddr': [SELECT_DADDR4, NO_FIELD],
  'ip protocol': [SELECT_L4PROTO, NO_FIELD],
  'ip6 saddr': [NO_FIELD, SELECT_SADDR6],
  'ip6 daddr': [NO_FIELD, SELECT_DADDR6],
  // The first header behind the fixed one, whatever it is.
  'ip6 nexthdr': [NO_FIELD, BYTE(PAYLOAD_NETWORK, 6)],
  'th sport': [SELECT_SPORT, SELECT_SPORT],
  'th dport': [SELECT_DPORT, SELECT_DPORT],
  'tcp sport': [SELECT_SPORT, SELECT_SPORT],
  'tcp dport': [SELECT_DPORT, SELECT_DPORT],
  'tcp flags': [BYTE(PAYLOAD_TRANSPORT, 13), BYTE(PAYLOAD_TRANSPORT, 13)],
  'udp sport': [SELECT_SPORT, SELECT_SPORT],
  'udp dport': [SELECT_DPORT, SELECT_DPORT],
  'sctp sport': [SELECT_SPORT, SELECT_SPORT],
  'sctp dport': [SELECT_DPORT, SELECT_DPORT],
  'icmp type': [BYTE(PAYLOAD_TRANSPORT, 0), BYTE(PAYLOAD_TRANSPORT, 0)],
  'icmp code': [BYTE(PAYLOAD_TRANSPORT, 1), BYTE(PAYLOAD_TRANSPORT, 1)],
  'icmpv6 type': [BYTE(PAYLOAD_TRANSPORT, 0), BYTE(PAYLOAD_TRANSPORT, 0)],
  'icmpv6 code': [BYTE(PAYLOAD_TRANSPORT, 1), BYTE(PAYLOAD_TRANSPORT, 1)],
  'ip length': [WORD(PAYLOAD_NETWORK, 2), NO_FIELD],
  'ip id': [WORD(PAYLOAD_NETWORK, 4), NO_FIELD],
  'ip frag-off': [WORD(PAYLOAD_NETWORK, 6), NO_FIELD],
  'ip ttl': [BYTE(PAYLOAD_NETWORK, 8), NO_FIELD],
  'ip6 length': [NO_FIELD, WORD(PAYLOAD_NETWORK, 4)],
  'ip6 hoplimit': [NO_FIELD, BYTE(PAYLOAD_NETWORK, 7)],
  'tcp sequence': ofBoth(LONG(PAYLOAD_TRANSPORT, 4)),
  'tcp ackseq': ofBoth(LONG(PAYLOAD_TRANSPORT, 8)),
  'tcp window': ofBoth(WORD(PAYLOAD_TRANSPORT, 14)),
  'udp length': ofBoth(WORD(PAYLOAD_TRANSPORT, 4)),
};
const PROTOCOLS: Readonly<Record<string, number>> = {
  tcp: PROTO_TCP,
  udp: PROTO_UDP,
  sctp: PROTO_SCTP,
  icmp: PROTO_ICMP,
  icmpv6: PROTO_ICMPV6,
};
const METAS: Readonly<Record<NftMetaKey, number>> = {
  l4proto: SELECT_L4PROTO,
  nfproto: SELECT_NFPROTO,
  protocol: SELECT_PROTOCOL,
  mark: SELECT_MARK,
  iif: SELECT_IIF,
  oif: SELECT_OIF,
  iifname: SELECT_IIF,
  oifname: SELECT_OIF,
  pkttype: SELECT_PKTTYPE,
  length: SELECT_LENGTH,
};
/** By key, or by direction and key: in a list of IPv4, then of IPv6. */
const CTS: Readonly<Record<string, readonly [number, number]>> = {
  state: [SELECT_CT_STATE, SELECT_CT_STATE],
  status: [SELECT_CT_STATUS, SELECT_CT_STATUS],
  direction: [SELECT_CT_DIRECTION, SELECT_CT_DIRECTION],
  mark: [SELECT_CT_MARK, SELECT_CT_MARK],
  l3proto: [SELECT_CT_L3PROTO, SELECT_CT_L3PROTO],
  protocol: [SELECT_CT_L4PROTO, SELECT_CT_L4PROTO],
  'original l3proto': [SELECT_CT_L3PROTO, SELECT_CT_L3PROTO],
  'original protocol': [SELECT_CT_L4PROTO, SELECT_CT_L4PROTO],
  'original ip saddr': [SELECT_CT_ORIGINAL_SADDR4, NO_FIELD],
  'original ip daddr': [SELECT_CT_ORIGINAL_DADDR4, NO_FIELD],
  'original ip6 saddr': [NO_FIELD, SELECT_CT_ORIGINAL_SADDR6],
  'original ip6 daddr': [NO_FIELD, SELECT_CT_ORIGINAL_DADDR6],
  'original proto-src': [SELECT_CT_ORIGINAL_SPORT, SELECT_CT_ORIGINAL_SPORT],
  'original proto-dst': [SELECT_CT_ORIGINAL_DPORT, SELECT_CT_ORIGINAL_DPORT],
  'reply l3proto': [SELECT_CT_L3PROTO, SELECT_CT_L3PROTO],
  'reply protocol': [SELECT_CT_L4PROTO, SELECT_CT_L4PROTO],
  'reply ip saddr': [SELECT_CT_REPLY_SADDR4, NO_FIELD],
  'reply ip daddr': [SELECT_CT_REPLY_DADDR4, NO_FIELD],
  'reply ip6 saddr': [NO_FIELD, SELECT_CT_REPLY_SADDR6],
  'reply ip6 daddr': [NO_FIELD, SELECT_CT_REPLY_DADDR6],
  'reply proto-src': [SELECT_CT_REPLY_SPORT, SELECT_CT_REPLY_SPORT],
  'reply proto-dst': [SELECT_CT_REPLY_DPORT, SELECT_CT_REPLY_DPORT],
};
const FIBS: Readonly<Record<string, number>> = {
  'saddr type': SELECT_FIB_SADDR_TYPE,
  'daddr type': SELECT_FIB_DADDR_TYPE,
  'saddr . iif type': SELECT_FIB_SADDR_IIF_TYPE,
  'daddr . iif type': SELECT_FIB_DADDR_IIF_TYPE,
  'saddr oif': SELECT_FIB_SADDR_OIF,
  'saddr . iif oif': SELECT_FIB_SADDR_IIF_OIF,
  'daddr oif': SELECT_FIB_DADDR_OIF,
  // No route depends on a mark here.
  'saddr . mark type': SELECT_FIB_SADDR_TYPE,
  'daddr . mark type': SELECT_FIB_DADDR_TYPE,
  'saddr . mark oif': SELECT_FIB_SADDR_OIF,
  'saddr . mark . iif oif': SELECT_FIB_SADDR_IIF_OIF,
};

/** The selector of a field; NO_FIELD where no packet of the family has it, null where the engine has none. */
export function selectorOf(expression: NftExpression, family: Family): number | null {
  const column = family === 4 ? 0 : 1;
  switch (expression.kind) {
    case 'payload':
      return PAYLOADS[expression.field][column];
    case 'meta':
      return METAS[expression.key];
    case 'ct':
      return (
        CTS[expression.direction === null ? expression.key : `${expression.direction} ${expression.key}`]?.[column] ??
        null
      );
    case 'fib':
      return FIBS[`${expression.by.join(' . ')} ${expression.result.replace('oifname', 'oif')}`] ?? null;
    default:
      return null;
  }
}

/** The protocol that nft asks for before it reads the field; 0 where it asks for none. */
export function protocolOf(expression: NftExpression): number {
  if (expression.kind !== 'payload') return 0;
  return PROTOCOLS[expression.field.slice(0, expression.field.indexOf(' '))] ?? 0;
}

/**
 * Where only classes of interfaces are known: the selector of the class and the classes (IFACE_…) that a name stands for.
 * `lo` is loopback; bridge and interface prefix name the pods' side of the node. Null for what is no interface.
 */
export function classOfInterface(
  expression: NftExpression,
  name: string,
): { readonly selector: number; readonly classes: number } | null {
  if (expression.kind !== 'meta') return null;
  const selector = METAS[expression.key];
  const classes = name === 'lo' ? IFACE_LOOPBACK : IFACE_POD;
  if (selector === SELECT_IIF) return { selector: SELECT_IIF_CLASS, classes };
  return selector === SELECT_OIF ? { selector: SELECT_OIF_CLASS, classes } : null;
}
