/**
 * The matches of a dump's rule in the engine's words: the header, and what looks at the packet alone. Matches on
 * connections, memory and the node are in `iptables-match-state.ts`.
 *
 * A match that says nothing (`-m tcp`, a comment) is none; what no packet can satisfy is MATCH_NEVER. What looks like
 * one match may be several: all of a module's options must hold.
 */

import {
  CHUNKS_ALL,
  CHUNKS_ANY,
  CHUNKS_ONLY,
  MATCH_DPORT,
  MATCH_DST_RANGE4,
  MATCH_DST_RANGE6,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_ICMP,
  MATCH_LENGTH,
  MATCH_MAC,
  MATCH_MARK,
  MATCH_MULTIPORT,
  MATCH_PACKET_TYPE,
  MATCH_PROTO,
  MATCH_SCTP_CHUNKS,
  MATCH_SPORT,
  MATCH_SRC_RANGE4,
  MATCH_SRC_RANGE6,
  MATCH_SRC4,
  MATCH_SRC6,
  MATCH_TCP_FLAGS,
  MATCH_TCP_MSS,
  MATCH_TCP_OPTION,
  MATCH_TOS,
  MATCH_TTL,
  PACKET_BROADCAST,
  PACKET_MULTICAST,
  PACKET_UNICAST,
  PORTS_DST,
  PORTS_SRC,
} from '@flatpath/engine/tables/rule-list';
import type { Match } from '../compile/iptables-rules.ts';
import { readIcmpType } from './icmp-names.ts';
import { stateMatches } from './iptables-match-state.ts';
import { type Given, type GivenModule, type GivenRule, NotUnderstoodRule } from './iptables-rule.ts';
import { constant, encoded, interfaceMatch, type RuleContext } from './rule-context.ts';
import {
  readBits,
  readMark,
  readMasked,
  readNumber,
  readPorts,
  readProtocol,
  readRange,
  readWords,
  wordsOf,
} from './rule-values.ts';

/** All matches of a rule, the header's first, as the kernel checks them. */
export function ruleMatches(rule: GivenRule, context: RuleContext): Match[] {
  const matches: Match[] = [];
  for (const option of ['source', 'destination', 'in', 'out', 'protocol', 'fragment']) {
    for (const given of rule.header) {
      if (given.option === option) matches.push(...headerMatches(given, context));
    }
  }
  for (const module of rule.matches) matches.push(...moduleMatches(module, context));
  return matches;
}

function headerMatches({ option, invert, values: [text = ''] }: Given, context: RuleContext): Match[] {
  const { family } = context;
  switch (option) {
    case 'source':
    case 'destination': {
      const { words, mask } = readMasked(text, family);
      if (mask.every((word) => word === 0)) return constant(!invert);
      const source = option === 'source';
      const op = family === 4 ? (source ? MATCH_SRC4 : MATCH_DST4) : source ? MATCH_SRC6 : MATCH_DST6;
      return [encoded(op, invert, [...wordsOf(family, words), ...wordsOf(family, mask)])];
    }
    case 'in':
    case 'out':
      return interfaceMatch(context, option, text, invert);
    case 'protocol': {
      const number = readProtocol(text);
      return number === 0 ? constant(!invert) : [encoded(MATCH_PROTO, invert, [number])];
    }
    default:
      // Conntrack gathers fragments before any rule is asked, so that none sees a later one.
      return constant(invert);
  }
}

function moduleMatches(module: GivenModule, context: RuleContext): Match[] {
  return module.options.length === 0 && PLAIN.has(module.name)
    ? []
    : (packetMatches(module, context) ?? stateMatches(module, context));
}

/** Modules that may stand without an option and say nothing then. */
const PLAIN = new Set(['tcp', 'udp', 'sctp', 'icmp', 'icmp6', 'icmpv6', 'comment', 'nfacct']);

/** Null for a module of `iptables-match-state.ts`. */
function packetMatches({ name, options }: GivenModule, context: RuleContext): Match[] | null {
  switch (name) {
    case 'tcp':
    case 'udp':
    case 'sctp':
      return options.flatMap(transportMatches);
    case 'icmp':
    case 'icmp6':
    case 'icmpv6':
      return options.flatMap(({ invert, values: [text = ''] }) => {
        const type = readIcmpType(text, context.family);
        if (type === null) return constant(!invert);
        return [encoded(MATCH_ICMP, invert, [type.type, type.first, type.last])];
      });
    case 'multiport':
      return options.map(({ option, invert, values: [text = ''] }) => {
        const sides = option === 'sports' ? PORTS_SRC : option === 'dports' ? PORTS_DST : PORTS_SRC | PORTS_DST;
        const pairs = text.split(',').flatMap((ports) => {
          const { first, last } = readPorts(ports);
          return [first, last];
        });
        return encoded(MATCH_MULTIPORT, invert, [sides, ...pairs]);
      });
    case 'mark':
      return options.map(({ invert, values: [text = ''] }) => {
        const { value, mask } = readMark(text);
        return encoded(MATCH_MARK, invert, [value, mask]);
      });
    case 'comment':
    case 'nfacct':
      return [];
    case 'length':
      return options.map(({ invert, values: [text = ''] }) => {
        const { first, last } = readRange(text, 0xffff);
        return encoded(MATCH_LENGTH, invert, [first, last]);
      });
    case 'ttl':
    case 'hl':
      return options.map(({ option, invert, values: [text = ''] }) => {
        const value = readNumber(text, 255);
        if (option.endsWith('-lt')) return encoded(MATCH_TTL, invert, [0, value - 1]);
        return encoded(MATCH_TTL, invert, option.endsWith('-gt') ? [value + 1, 255] : [value, value]);
      });
    case 'tos':
      return options.map(({ invert, values: [text = ''] }) => {
        const { value, mask, hasMask } = readMark(TOS_NAMES[text] ?? text);
        return encoded(MATCH_TOS, invert, [value & 255, hasMask ? mask & 255 : text in TOS_NAMES ? 0x3f : 255]);
      });
    case 'dscp':
      return options.map(({ option, invert, values: [text = ''] }) => {
        const value = option === 'dscp' ? readNumber(text, 63) : dscpClass(text);
        return encoded(MATCH_TOS, invert, [value << 2, 0xfc]);
      });
    case 'pkttype':
      return options.map(({ invert, values: [text = ''] }) =>
        encoded(MATCH_PACKET_TYPE, invert, [readBits(text.toLowerCase(), PACKET_TYPES, 'a packet type')]),
      );
    case 'mac':
      return options.map(({ invert, values: [text = ''] }) => encoded(MATCH_MAC, invert, readMac(text)));
    case 'iprange':
      return options.map((given) => addressRange(given, context));
    case 'tcpmss':
      return options.map(({ invert, values: [text = ''] }) => {
        const { first, last } = readRange(text, 0xffff);
        return encoded(MATCH_TCP_MSS, invert, [first, last]);
      });
    default:
      return null;
  }
}

function transportMatches({ option, invert, values: [text = '', more = ''] }: Given): Match[] {
  switch (option) {
    case 'sport':
    case 'dport': {
      const { first, last } = readPorts(text);
      return [encoded(option === 'sport' ? MATCH_SPORT : MATCH_DPORT, invert, [first, last])];
    }
    case 'tcp-flags':
      return [encoded(MATCH_TCP_FLAGS, invert, [tcpFlags(text), tcpFlags(more)])];
    case 'syn':
      return [encoded(MATCH_TCP_FLAGS, invert, [tcpFlags('FIN,SYN,RST,ACK'), tcpFlags('SYN')])];
    case 'tcp-option':
      return [encoded(MATCH_TCP_OPTION, invert, [readNumber(text, 255)])];
    default:
      return [encoded(MATCH_SCTP_CHUNKS, invert, [readChunksMode(text), ...readChunks(more)])];
  }
}

const TCP_FLAG_BITS: Readonly<Record<string, number>> = {
  FIN: 1,
  SYN: 2,
  RST: 4,
  PSH: 8,
  ACK: 16,
  URG: 32,
  ALL: 63,
  NONE: 0,
};

function tcpFlags(text: string): number {
  return readBits(text.toUpperCase(), TCP_FLAG_BITS, 'a TCP flag');
}

function readChunksMode(text: string): number {
  const modes: Readonly<Record<string, number>> = { all: CHUNKS_ALL, any: CHUNKS_ANY, only: CHUNKS_ONLY };
  if (!Object.hasOwn(modes, text)) throw new NotUnderstoodRule(text, 'is not all, any or only');
  return modes[text]!;
}

const CHUNK_TYPES: Readonly<Record<string, number>> = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  SACK: 3,
  HEARTBEAT: 4,
  HEARTBEAT_ACK: 5,
  ABORT: 6,
  SHUTDOWN: 7,
  SHUTDOWN_ACK: 8,
  ERROR: 9,
  COOKIE_ECHO: 10,
  COOKIE_ACK: 11,
  ECN_ECNE: 12,
  ECN_CWR: 13,
  SHUTDOWN_COMPLETE: 14,
  I_DATA: 64,
  RE_CONFIG: 130,
  PAD: 132,
  ASCONF: 193,
  ASCONF_ACK: 128,
  FORWARD_TSN: 192,
  I_FORWARD_TSN: 194,
};

/** Eight words, a bit a chunk type. */
function readChunks(text: string): number[] {
  const words = new Array<number>(8).fill(text === 'ALL' ? -1 : 0);
  if (text === 'ALL' || text === 'NONE') return words;
  for (const name of text.split(',')) {
    const type = Object.hasOwn(CHUNK_TYPES, name) ? CHUNK_TYPES[name]! : null;
    // `DATA:be` asks the chunk's flags too.
    if (type === null) throw new NotUnderstoodRule(text, `'${name}' is not a chunk type that flatpath knows`);
    words[type >>> 5]! |= 1 << (type & 31);
  }
  return words;
}

const TOS_NAMES: Readonly<Record<string, string>> = {
  'Minimize-Delay': '0x10',
  'Maximize-Throughput': '0x08',
  'Maximize-Reliability': '0x04',
  'Minimize-Cost': '0x02',
  'Normal-Service': '0x00',
};

/** CS0 … CS7, AF11 … AF43, EF, BE. */
function dscpClass(text: string): number {
  const name = text.toUpperCase();
  const assured = /^AF([1-4])([1-3])$/.exec(name);
  if (assured !== null) return Number(assured[1]) * 8 + Number(assured[2]) * 2;
  const selector = /^CS([0-7])$/.exec(name);
  if (selector !== null) return Number(selector[1]) * 8;
  if (name === 'EF') return 46;
  if (name === 'BE') return 0;
  throw new NotUnderstoodRule(text, 'is not a class of DSCP');
}

const PACKET_TYPES: Readonly<Record<string, number>> = {
  unicast: PACKET_UNICAST,
  broadcast: PACKET_BROADCAST,
  multicast: PACKET_MULTICAST,
};

function readMac(text: string): [number, number] {
  if (!/^(?:[0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}$/.test(text))
    throw new NotUnderstoodRule(text, 'is not a MAC address');
  const bytes = text.split(':').map((part) => Number.parseInt(part, 16));
  return [(bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!, (bytes[4]! << 8) | bytes[5]!];
}

function addressRange({ option, invert, values: [text = ''] }: Given, { family }: RuleContext): Match {
  const [low = '', high = low] = text.split('-', 2);
  const source = option === 'src-range';
  const op =
    family === 4 ? (source ? MATCH_SRC_RANGE4 : MATCH_DST_RANGE4) : source ? MATCH_SRC_RANGE6 : MATCH_DST_RANGE6;
  const operands = [...wordsOf(family, readWords(low, family)), ...wordsOf(family, readWords(high, family))];
  return encoded(op, invert, operands);
}
