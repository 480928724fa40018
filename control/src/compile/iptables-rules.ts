/**
 * The rules of the iptables mode as data: tables, chains, matches, targets, and the fields that each rule comes from.
 *
 * A rule is what `iptables-save` prints and what the engine's rule list encodes; both are made from it and nothing else
 * (`iptables-text.ts`, `iptables-encode.ts`). Chains are shared by identity between nodes whose rules are equal. The
 * header (addresses, interface, protocol) is apart from the matches, as in the kernel, which checks it first.
 */

import type { Address, Prefix } from '../model/address.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import { type Origin, originOf } from '../model/origin.ts';
import type { Protocol } from '../model/port.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import { endpointAddressOrigin, endpointPortOrigin, type ServiceEndpoint } from './service-ports.ts';

/** In the order in which `iptables-legacy-save` prints them on a node where kube-proxy loaded them. */
export const TABLE_NAMES = ['filter', 'nat', 'mangle'] as const;
/** kube-proxy writes no rule to raw and security; real nodes have some. */
export type TableName = (typeof TABLE_NAMES)[number] | 'raw' | 'security';

/** kube-proxy's mark for packets that leave with the node's address: bit 14. */
export const MASQUERADE_MARK = 0x4000;

/** A source or destination of the header. A prefix of length 0 that is not inverted is no match at all. */
export interface AddressMatch {
  readonly prefix: Prefix;
  readonly invert: boolean;
}

export interface InterfaceMatch {
  /** Name, or prefix with '+'. */
  readonly name: string;
  readonly invert: boolean;
}

export type ConntrackState = 'INVALID' | 'NEW' | 'RELATED' | 'ESTABLISHED' | 'DNAT';

export type Match =
  | { readonly kind: 'comment'; readonly text: string }
  /** `-m tcp --dport N`; null: the module alone, which kube-proxy writes before a DNAT. */
  | { readonly kind: 'port'; readonly protocol: Protocol; readonly port: number | null }
  /** Destination ports, first to last of each, one of which must hold; at least one, at most 15 slots of multiport. */
  | {
      readonly kind: 'ports';
      readonly protocol: Protocol;
      readonly ranges: readonly (readonly [first: number, last: number])[];
    }
  /** A type of ICMPv6, of any code. Stands first: it names its protocol. */
  | { readonly kind: 'icmp6'; readonly type: number }
  | { readonly kind: 'addrtype'; readonly side: 'src' | 'dst'; readonly invert: boolean }
  | { readonly kind: 'conntrack'; readonly states: readonly ConntrackState[]; readonly invert: boolean }
  /** Of a known flow, and against the direction of its first packet. */
  | { readonly kind: 'reply' }
  /** Masquerade mark set (or not). */
  | { readonly kind: 'mark'; readonly invert: boolean }
  /** `threshold` of 2^31. */
  | { readonly kind: 'statistic'; readonly threshold: number }
  /** `seconds` 0: --set; else --rcheck with --reap. */
  | { readonly kind: 'recent'; readonly list: string; readonly seconds: number }
  | { readonly kind: 'nfacct'; readonly counter: string }
  /** A set of the CNI: what owns the address (OWNER_BIT_…). */
  | {
      readonly kind: 'owner';
      readonly side: 'src' | 'dst';
      readonly set: string;
      readonly bits: number;
      readonly invert: boolean;
    }
  /** An ipset that holds the packet's addresses and ports, one side a dimension. */
  | {
      readonly kind: 'set';
      readonly set: string;
      readonly sides: readonly ('src' | 'dst')[];
      readonly invert: boolean;
    }
  /** The packet belongs to a connection of this virtual server. */
  | { readonly kind: 'ipvs'; readonly protocol: Protocol; readonly address: Address; readonly port: number }
  /** `! --physdev-is-in`: it came by no port of a bridge that netfilter sees. Nothing here is such a bridge. */
  | { readonly kind: 'not-bridged' }
  /** A match of a dump in the engine's words (ruleset/iptables-match.ts). */
  | EncodedMatch;

export interface EncodedMatch {
  readonly kind: 'encoded';
  /** MATCH_… of the engine's rule list. */
  readonly op: number;
  readonly invert: boolean;
  readonly operands: readonly number[];
  /** The match remembers: its list's name and how many ids it takes; the first id stands before the operands. */
  readonly list: { readonly name: string; readonly ids: number } | null;
}

export type Target =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'reject' }
  /** DROP by a policy: the reason is `policy-denied`. */
  | { readonly kind: 'deny' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }
  /** A target of a dump in the engine's words: TARGET_… and its arguments. */
  | { readonly kind: 'encoded'; readonly target: number; readonly args: readonly number[] }
  /** --set-xmark value/mask. */
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number }
  | { readonly kind: 'dnat'; readonly address: Address; readonly port: number; readonly text: string }
  | { readonly kind: 'masquerade'; readonly outbound: boolean; readonly randomFully: boolean };

/** What a rule comes from: a field of an object, an endpoint of a slice, or an option of the datapath configuration. */
export type Source =
  | { readonly object: KubernetesObject; readonly field: string }
  | { readonly endpoint: ServiceEndpoint }
  | { readonly option: string }
  /** A line of a dump. */
  | { readonly file: string; readonly line: number };

export interface Rule {
  readonly table: TableName;
  readonly chain: string;
  readonly source: AddressMatch | null;
  readonly destination: AddressMatch | null;
  readonly inInterface: InterfaceMatch | null;
  readonly protocol: Protocol | null;
  readonly matches: readonly Match[];
  /** Null: the rule only carries a comment. */
  readonly target: Target | null;
  /** At least one; the first decided that the rule exists. */
  readonly sources: readonly Source[];
  /** The line as a dump has it; null for a rule that was made. */
  readonly text: string | null;
  /** What a packet that takes the rule's target was judged to be by policies; null where it is not a judgement. */
  readonly judgement: Judgement | null;
}

export interface Chain {
  readonly table: TableName;
  readonly name: string;
  readonly rules: readonly Rule[];
}

/** The optional parts of a rule's header. */
export interface Header {
  readonly source?: AddressMatch;
  readonly destination?: AddressMatch;
  readonly inInterface?: InterfaceMatch;
  readonly protocol?: Protocol;
}

export function makeRule(
  table: TableName,
  chain: string,
  header: Header,
  matches: readonly Match[],
  target: Target | null,
  sources: readonly Source[],
  judgement: Judgement | null = null,
): Rule {
  return {
    table,
    chain,
    source: header.source ?? null,
    destination: header.destination ?? null,
    inInterface: header.inInterface ?? null,
    protocol: header.protocol ?? null,
    matches,
    target,
    sources,
    text: null,
    judgement,
  };
}

export function comment(text: string): Match {
  return { kind: 'comment', text };
}

export function jump(chain: string): Target {
  return { kind: 'jump', chain };
}

/** The match on one address. */
export function hostMatch(address: Address): AddressMatch {
  return { prefix: hostPrefix(address), invert: false };
}

export function hostPrefix(address: Address): Prefix {
  const length = address.family === 4 ? 32 : 128;
  const { family, words, text } = address;
  return { family, words, length, text: `${text}/${length}`, hostBits: false };
}

/** All fields that a rule comes from, the deciding one first. Positions in files are looked up here, not before. */
export function ruleOrigins(rule: Rule): Origin[] {
  return sourceOrigins(rule.sources);
}

/** The same of any other row. */
export function sourceOrigins(sources: readonly Source[]): Origin[] {
  const origins: Origin[] = [];
  for (const source of sources) {
    if ('object' in source) origins.push(originOf(source.object, source.field));
    else if ('endpoint' in source) {
      origins.push(endpointAddressOrigin(source.endpoint), endpointPortOrigin(source.endpoint));
    } else if ('line' in source) {
      origins.push({
        kind: 'Ruleset',
        namespace: '',
        name: 'dump',
        field: '',
        file: source.file,
        line: source.line,
      });
    } else origins.push({ kind: 'Datapath', namespace: '', name: 'configuration', field: source.option });
  }
  return origins;
}
