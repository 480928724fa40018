/**
 * What nft prints as a value, as a value: names, numbers, addresses, prefixes and ranges of a datatype.
 *
 * Text and JSON write values in different ways (`10.0.0.0/8` is a word or `{"prefix": …}`); both come here as `RawValue`,
 * and what a word means follows from the datatype that it is compared with or stored in. Canonical: a prefix of full
 * length is an address, a range of one value that value, flags their sum.
 */

import type { NftDatatype, NftValue } from '../compile/nft-ruleset.ts';
import {
  NFT_ADDRTYPE,
  NFT_CT_DIR,
  NFT_CT_STATE,
  NFT_CT_STATUS,
  NFT_PKTTYPE,
  NFT_TCP_FLAG,
} from '../compile/nft-ruleset.ts';
import { type Address, formatWords, makePrefix, parseAddress, type Words } from '../model/address.ts';
import { parsePort, parseProtocol } from './port-names.ts';

/** A value as written. */
export type RawValue =
  /** A bare word: name, number, address, and in text also a prefix or range. */
  | { readonly kind: 'word'; readonly text: string }
  /** Between quotes. */
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'prefix'; readonly address: RawValue; readonly length: number }
  | { readonly kind: 'range'; readonly from: RawValue; readonly to: RawValue }
  /** `established,related`. */
  | { readonly kind: 'flags'; readonly items: readonly RawValue[] }
  | { readonly kind: 'concat'; readonly parts: readonly RawValue[] }
  /** `*`, the catch-all element. */
  | { readonly kind: 'any' };

/** Something that flatpath does not understand; the message says what, the caller where. */
export class NftUnclear extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NftUnclear';
  }
}

type Names = Readonly<Record<string, number>>;

const ICMP_TYPES: Names = {
  'echo-reply': 0,
  'destination-unreachable': 3,
  'source-quench': 4,
  redirect: 5,
  'echo-request': 8,
  'router-advertisement': 9,
  'router-solicitation': 10,
  'time-exceeded': 11,
  'parameter-problem': 12,
  'timestamp-request': 13,
  'timestamp-reply': 14,
  'info-request': 15,
  'info-reply': 16,
  'address-mask-request': 17,
  'address-mask-reply': 18,
};
const ICMP_CODES: Names = {
  'net-unreachable': 0,
  'host-unreachable': 1,
  'prot-unreachable': 2,
  'port-unreachable': 3,
  'frag-needed': 4,
  'net-prohibited': 9,
  'host-prohibited': 10,
  'admin-prohibited': 13,
};
const ICMPV6_TYPES: Names = {
  'destination-unreachable': 1,
  'packet-too-big': 2,
  'time-exceeded': 3,
  'parameter-problem': 4,
  'echo-request': 128,
  'echo-reply': 129,
  'mld-listener-query': 130,
  'mld-listener-report': 131,
  'mld-listener-done': 132,
  'mld-listener-reduction': 132,
  'nd-router-solicit': 133,
  'nd-router-advert': 134,
  'nd-neighbor-solicit': 135,
  'nd-neighbor-advert': 136,
  'nd-redirect': 137,
  'router-renumbering': 138,
  'ind-neighbor-solicit': 141,
  'ind-neighbor-advert': 142,
  'mld2-listener-report': 143,
};
const ICMPV6_CODES: Names = {
  'no-route': 0,
  'admin-prohibited': 1,
  'addr-unreachable': 3,
  'port-unreachable': 4,
  'policy-fail': 5,
  'reject-route': 6,
};
const ICMPX_CODES: Names = { 'no-route': 0, 'port-unreachable': 1, 'host-unreachable': 2, 'admin-prohibited': 3 };

/** `nft -n` 1.0.6 prints the numbers in the order of the bytes on a little-endian machine; there is no type 8. */
const ETHER_TYPES: Names = {
  ip: 0x0800,
  arp: 0x0806,
  ip6: 0x86dd,
  '8021q': 0x8100,
  '8021ad': 0x88a8,
  '8': 0x0800,
  '0x0008': 0x0800,
  '1544': 0x0806,
  '0x0608': 0x0806,
  '56710': 0x86dd,
  '0xdd86': 0x86dd,
};

/** Names of a datatype's numbers, and the highest number. Ports and protocols have tables of their own. */
const NUMBERS: Readonly<Partial<Record<NftDatatype, { readonly names: Names; readonly highest: number }>>> = {
  mark: { names: {}, highest: 0xffffffff },
  nf_proto: { names: { ipv4: 2, ipv6: 10 }, highest: 0xff },
  ether_type: { names: ETHER_TYPES, highest: 0xffff },
  icmp_type: { names: ICMP_TYPES, highest: 0xff },
  icmp_code: { names: ICMP_CODES, highest: 0xff },
  icmpv6_type: { names: ICMPV6_TYPES, highest: 0xff },
  icmpv6_code: { names: ICMPV6_CODES, highest: 0xff },
  tcp_flag: { names: NFT_TCP_FLAG, highest: 0xff },
  ct_state: { names: NFT_CT_STATE, highest: 0xffffffff },
  ct_status: { names: NFT_CT_STATUS, highest: 0xffffffff },
  ct_dir: { names: NFT_CT_DIR, highest: 1 },
  fib_addrtype: { names: NFT_ADDRTYPE, highest: 0xff },
  pkt_type: { names: NFT_PKTTYPE, highest: 0xff },
  integer: { names: {}, highest: 0xffffffff },
};

/** Code names of `reject with icmp … / icmpv6 … / icmpx …`. */
export const REJECT_CODES = { icmp: ICMP_CODES, icmpv6: ICMPV6_CODES, icmpx: ICMPX_CODES } as const;

/** Words of `type …` in a set, and what flatpath calls them. */
const SET_TYPES: Readonly<Record<string, NftDatatype>> = {
  ipv4_addr: 'ipv4_addr',
  ipv6_addr: 'ipv6_addr',
  inet_proto: 'inet_proto',
  inet_service: 'inet_service',
  mark: 'mark',
  ifname: 'ifname',
  iface_index: 'ifname',
  nf_proto: 'nf_proto',
  ether_type: 'ether_type',
  icmp_type: 'icmp_type',
  icmp_code: 'icmp_code',
  icmpv6_type: 'icmpv6_type',
  icmpv6_code: 'icmpv6_code',
  tcp_flag: 'tcp_flag',
  ct_state: 'ct_state',
  ct_status: 'ct_status',
  ct_dir: 'ct_dir',
  fib_addrtype: 'fib_addrtype',
  pkt_type: 'pkt_type',
};

/**
 * The datatype of a name in `type …`.
 * @throws NftUnclear for one that flatpath has no packets for (`ether_addr`, `uid` …)
 */
export function setDatatype(name: string): NftDatatype {
  if (!Object.hasOwn(SET_TYPES, name)) throw new NftUnclear(`flatpath does not know the type '${name}'`);
  return SET_TYPES[name]!;
}

/** Datatypes whose values are bits, compared with operator `in`. */
export function isFlagType(datatype: NftDatatype | undefined): boolean {
  return datatype === 'ct_state' || datatype === 'ct_status' || datatype === 'tcp_flag';
}

/**
 * A value of the given datatypes, more than one for a concatenation.
 * @throws NftUnclear if the text is no value of them
 */
export function readValue(raw: RawValue, datatypes: readonly NftDatatype[]): NftValue {
  if (raw.kind === 'any') return raw;
  if (datatypes.length === 1 && raw.kind !== 'concat') return readSingle(raw, datatypes[0]!);
  if (raw.kind !== 'concat' || raw.parts.length !== datatypes.length) {
    throw new NftUnclear(`${rawText(raw)} is not a key of ${datatypes.length} parts`);
  }
  return { kind: 'concat', parts: raw.parts.map((part, i) => readSingle(part, datatypes[i]!)) };
}

/** A value as nft would print it, for messages. */
export function rawText(raw: RawValue): string {
  switch (raw.kind) {
    case 'word':
      return raw.text;
    case 'string':
      return `"${raw.text}"`;
    case 'prefix':
      return `${rawText(raw.address)}/${raw.length}`;
    case 'range':
      return `${rawText(raw.from)}-${rawText(raw.to)}`;
    case 'flags':
      return raw.items.map(rawText).join(',');
    case 'concat':
      return raw.parts.map(rawText).join(' . ');
    case 'any':
      return '*';
  }
}

function readSingle(raw: RawValue, datatype: NftDatatype): NftValue {
  switch (raw.kind) {
    case 'any':
      return raw;
    case 'flags':
      return { kind: 'number', value: raw.items.reduce((bits, item) => (bits | readNumber(item, datatype)) >>> 0, 0) };
    case 'range':
      return rangeOf(readSingle(raw.from, datatype), readSingle(raw.to, datatype));
    case 'prefix':
      return readPrefix(raw.address, raw.length, datatype);
    case 'concat':
      throw new NftUnclear(`${rawText(raw)} has more parts than what it is compared with`);
    case 'word':
    case 'string':
      return readText(raw, datatype);
  }
}

function readText(raw: Extract<RawValue, { text: string }>, datatype: NftDatatype): NftValue {
  const { text } = raw;
  if (datatype === 'ifname') return { kind: 'name', name: text };
  const number = isAddressType(datatype) ? null : numberOf(text, datatype);
  if (number !== null) return { kind: 'number', value: number };
  const dash = text.indexOf('-');
  if (dash > 0) {
    const from: RawValue = { kind: 'word', text: text.slice(0, dash) };
    const to: RawValue = { kind: 'word', text: text.slice(dash + 1) };
    return rangeOf(readSingle(from, datatype), readSingle(to, datatype));
  }
  const slash = text.indexOf('/');
  if (slash > 0 && /^\d{1,3}$/.test(text.slice(slash + 1))) {
    return readPrefix({ kind: 'word', text: text.slice(0, slash) }, Number(text.slice(slash + 1)), datatype);
  }
  if (!isAddressType(datatype)) throw new NftUnclear(`'${text}' is no value of type ${datatype}`);
  return { kind: 'address', address: readAddress(text, datatype) };
}

function readNumber(raw: RawValue, datatype: NftDatatype): number {
  const number = raw.kind === 'word' || raw.kind === 'string' ? numberOf(raw.text, datatype) : null;
  if (number === null) throw new NftUnclear(`'${rawText(raw)}' is no value of type ${datatype}`);
  return number;
}

function isAddressType(datatype: NftDatatype): boolean {
  return datatype === 'ipv4_addr' || datatype === 'ipv6_addr';
}

function numberOf(text: string, datatype: NftDatatype): number | null {
  if (datatype === 'inet_service') return parsePort(text);
  if (datatype === 'inet_proto') return parseProtocol(text);
  const known = NUMBERS[datatype];
  if (known === undefined) return null;
  if (Object.hasOwn(known.names, text)) return known.names[text]!;
  return parseNumber(text, known.highest);
}

/** Decimal or `0x…`, up to `highest`; null otherwise. */
export function parseNumber(text: string, highest: number): number | null {
  if (!/^(?:\d{1,10}|0x[0-9a-fA-F]{1,8})$/.test(text)) return null;
  const value = Number(text);
  return value <= highest ? value : null;
}

/**
 * An address of the datatype's family.
 * @throws NftUnclear if it is none
 */
export function readAddress(text: string, datatype: NftDatatype): Address {
  const address = parseAddress(text);
  const isV6 = datatype === 'ipv6_addr';
  if (address === null || isV6 !== text.includes(':')) {
    throw new NftUnclear(`'${text}' is no ${isV6 ? 'IPv6' : 'IPv4'} address`);
  }
  // An IPv4-mapped address is an IPv6 address here: that is what stands in the packet.
  if (address.family === 6 || !isV6) return address;
  const words: Words = [0, 0, 0xffff, address.words[0]];
  return { family: 6, words, text: formatWords(6, words) };
}

function readPrefix(raw: RawValue, length: number, datatype: NftDatatype): NftValue {
  if (raw.kind !== 'word' && raw.kind !== 'string') throw new NftUnclear(`${rawText(raw)} is no address`);
  if (!isAddressType(datatype)) throw new NftUnclear(`'${raw.text}/${length}' is no value of type ${datatype}`);
  const address = readAddress(raw.text, datatype);
  const bits = address.family === 4 ? 32 : 128;
  if (length > bits) throw new NftUnclear(`'${raw.text}/${length}' has a length beyond ${bits}`);
  if (length === bits) return { kind: 'address', address };
  return { kind: 'prefix', prefix: makePrefix(address.family, address.words, length) };
}

function rangeOf(from: NftValue, to: NftValue): NftValue {
  if (from.kind === 'number' && to.kind === 'number' && from.value === to.value) return from;
  if (from.kind === 'address' && to.kind === 'address' && from.address.text === to.address.text) return from;
  const known = from.kind === to.kind && (from.kind === 'number' || from.kind === 'address');
  if (!known) throw new NftUnclear('a range needs two numbers or two addresses');
  return { kind: 'range', from, to };
}
