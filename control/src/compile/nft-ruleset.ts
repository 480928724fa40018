/**
 * An nftables ruleset as data: tables, chains, rules, sets and maps, and the fields or dump lines that each comes from.
 *
 * One shape for kube-proxy's own rules (`nft-*.ts`) and for what `nft list ruleset` prints on a real node; text, JSON
 * and the engine's rules are made from it and nothing else. It is canonical, so that equal rules are equal trees:
 *
 *  - numbers are numbers (ports, protocols, marks, ICMP types, states): names such as `tcp` or `new` are a matter of
 *    text and follow from the datatype of what they are compared with (`datatypeOf`);
 *  - an anonymous set of one element that is compared with is that element, as nft itself holds it; a verdict map or a
 *    map keeps its braces;
 *  - a prefix of full length is an address;
 *  - `mark` alone is `meta mark`, `ct state` and other flag fields compare with operator `in` (any of the bits).
 *
 * Tables of the families arp, bridge and netdev are not part of it. Chains and sets are shared by identity between
 * nodes where they are equal.
 */

import type { Address, Prefix } from '../model/address.ts';
import { type Origin, originOf } from '../model/origin.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import type { Source } from './iptables-rules.ts';
import { endpointAddressOrigin, endpointPortOrigin } from './service-ports.ts';

export type NftFamily = 'ip' | 'ip6' | 'inet';
export type NftHook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
export type NftChainType = 'filter' | 'nat' | 'route';

/** The type of a key, of a value, or of what a packet is asked for. */
export type NftDatatype =
  | 'ipv4_addr'
  | 'ipv6_addr'
  | 'inet_proto'
  | 'inet_service'
  | 'mark'
  | 'ifname'
  | 'nf_proto'
  | 'ether_type'
  | 'icmp_type'
  | 'icmp_code'
  | 'icmpv6_type'
  | 'icmpv6_code'
  | 'tcp_flag'
  | 'ct_state'
  | 'ct_status'
  | 'ct_dir'
  | 'fib_addrtype'
  | 'pkt_type'
  | 'integer';

/** Where a rule, an element or a set comes from: the cluster's objects and options, or a place in a dump. */
export type NftSource = Source | NftJsonPlace;

/** A part of `nft -j list ruleset`, which is one line unless somebody made it more. */
export interface NftJsonPlace {
  readonly file: string;
  /** 1-based line of the object. */
  readonly line: number;
  /** 'nftables[12].rule'. */
  readonly path: string;
}

/** A value: what stands in sets, in rules' right-hand sides, in NAT targets. */
export type NftValue =
  /** Ports, protocols, marks, ICMP types and codes, flag bits, address types (NFT_ADDRTYPE). Unsigned. */
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'address'; readonly address: Address }
  | { readonly kind: 'prefix'; readonly prefix: Prefix }
  /** Both ends belong to it; numbers or addresses. */
  | { readonly kind: 'range'; readonly from: NftValue; readonly to: NftValue }
  /** An interface name; a trailing `*` stands for any rest. */
  | { readonly kind: 'name'; readonly name: string }
  /** The parts of a concatenated key; intervals may stand inside. */
  | { readonly kind: 'concat'; readonly parts: readonly NftValue[] }
  /** `*`, the catch-all element. */
  | { readonly kind: 'any' };

export type NftPayloadField =
  | 'ip saddr'
  | 'ip daddr'
  | 'ip protocol'
  | 'ip6 saddr'
  | 'ip6 daddr'
  | 'ip6 nexthdr'
  | 'th sport'
  | 'th dport'
  | 'tcp sport'
  | 'tcp dport'
  | 'tcp flags'
  | 'udp sport'
  | 'udp dport'
  | 'sctp sport'
  | 'sctp dport'
  | 'icmp type'
  | 'icmp code'
  | 'icmpv6 type'
  | 'icmpv6 code'
  // Fields of real dumps that kube-proxy never asks for.
  | 'ip length'
  | 'ip id'
  | 'ip frag-off'
  | 'ip ttl'
  | 'ip6 length'
  | 'ip6 hoplimit'
  | 'tcp sequence'
  | 'tcp ackseq'
  | 'tcp window'
  | 'udp length';

export type NftMetaKey =
  | 'l4proto'
  | 'nfproto'
  | 'protocol'
  | 'mark'
  | 'iif'
  | 'oif'
  | 'iifname'
  | 'oifname'
  | 'pkttype'
  | 'length';

export type NftCtKey =
  | 'state'
  | 'status'
  | 'direction'
  | 'mark'
  | 'l3proto'
  | 'protocol'
  | 'ip saddr'
  | 'ip daddr'
  | 'ip6 saddr'
  | 'ip6 daddr'
  | 'proto-src'
  | 'proto-dst';

/** What a packet or the machine is asked for. */
export type NftExpression =
  | { readonly kind: 'payload'; readonly field: NftPayloadField }
  | { readonly kind: 'meta'; readonly key: NftMetaKey }
  /** `direction` null: of the packet itself (state, mark …). */
  | { readonly kind: 'ct'; readonly key: NftCtKey; readonly direction: 'original' | 'reply' | null }
  /** `fib saddr . iif oif missing`: `by` in the order written; result `oif missing` is `oif` compared with 0. */
  | {
      readonly kind: 'fib';
      readonly by: readonly ('saddr' | 'daddr' | 'mark' | 'iif' | 'oif')[];
      readonly result: 'type' | 'oif' | 'oifname';
    }
  | { readonly kind: 'numgen'; readonly mode: 'random' | 'inc'; readonly modulus: number; readonly offset: number }
  /** `jhash KEY mod N`; `symhash mod N` has no key. */
  | {
      readonly kind: 'hash';
      readonly key: NftExpression | null;
      readonly modulus: number;
      readonly seed: number | null;
      readonly offset: number;
    }
  | {
      readonly kind: 'bitwise';
      readonly operator: 'and' | 'or' | 'xor' | 'lshift' | 'rshift';
      readonly left: NftExpression;
      /** A number, or an address where addresses are masked. */
      readonly right: NftValue;
    }
  | { readonly kind: 'concat'; readonly parts: readonly NftExpression[] }
  /** `KEY map { … }` or `KEY map @name`: the value that the key finds. */
  | { readonly kind: 'lookup'; readonly key: NftExpression; readonly map: NftMapReference };

/** Anonymous elements, or the name of a set or map of the same table. */
export type NftMapReference =
  | { readonly kind: 'named'; readonly name: string }
  | { readonly kind: 'elements'; readonly elements: readonly NftElement[] };

export type NftOperator = '==' | '!=' | '<' | '>' | '<=' | '>=' | 'in' | '!in';

export type NftVerdict =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'continue' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

/** Statements of a rule, run from left to right; a match that does not hold ends the rule. */
export type NftStatement =
  /** `in` and `!in`: a bit of `right` is set, or none is. `right` with elements: member of them (`==`) or not (`!=`). */
  | {
      readonly kind: 'match';
      readonly left: NftExpression;
      readonly operator: NftOperator;
      readonly right: NftValue | NftMapReference;
    }
  | { readonly kind: 'vmap'; readonly key: NftExpression; readonly map: NftMapReference }
  | { readonly kind: 'verdict'; readonly verdict: NftVerdict }
  | { readonly kind: 'reject'; readonly with: NftReject }
  | { readonly kind: 'masquerade'; readonly flags: readonly NftNatFlag[]; readonly ports: NftPorts | null }
  | { readonly kind: 'redirect'; readonly flags: readonly NftNatFlag[]; readonly ports: NftPorts | null }
  | {
      readonly kind: 'dnat' | 'snat';
      /** Written only where the table does not tell (`dnat ip to`). */
      readonly family: 'ip' | 'ip6' | null;
      /** An address, a range of addresses, a prefix, or a lookup (whose value may be `address . port`). */
      readonly address: NftValue | NftExpression | null;
      readonly ports: NftPorts | null;
      readonly flags: readonly NftNatFlag[];
    }
  /** `meta mark set …`, `ct mark set …`: a value, or an expression over what was there. */
  | { readonly kind: 'set'; readonly target: 'meta mark' | 'ct mark'; readonly value: NftValue | NftExpression }
  /** `update @set { KEY timeout … }`: the packet writes into a dynamic set. */
  | {
      readonly kind: 'dynset';
      readonly operation: 'add' | 'update' | 'delete';
      readonly set: string;
      readonly key: NftExpression;
      readonly timeoutSeconds: number | null;
    }
  | { readonly kind: 'notrack' | 'counter' }
  /** Always true here: logs are not kept, rates not measured, priority, DSCP, MSS and trace not followed. As written. */
  | { readonly kind: 'log' | 'limit' | 'ignored'; readonly text: string }
  /** `limit rate over …`, `ct count over …`: true beyond a rate, a quota or a number, which nothing here exceeds. */
  | { readonly kind: 'exceeded'; readonly text: string }
  /** What a CNI knows of addresses and no real rule can say (OWNER_BIT_…); no dump holds it. `set` is its name in text. */
  | {
      readonly kind: 'owner';
      readonly side: 'saddr' | 'daddr';
      readonly set: string;
      readonly bits: number;
      readonly invert: boolean;
    }
  /** The CNI's masquerade of what leaves the cluster; no dump holds it. */
  | { readonly kind: 'outbound-masquerade' }
  /** `drop` by a network policy, which ends with a reason of its own; no dump holds it. */
  | { readonly kind: 'deny' }
  /** Not understood, taken only leniently: never matches. */
  | { readonly kind: 'unknown'; readonly text: string };

export interface NftReject {
  readonly type: 'icmp' | 'icmpv6' | 'icmpx' | 'tcp-reset';
  /** Of the type's own numbering (icmpx: 0 no-route, 1 port-unreachable, 2 host-unreachable, 3 admin-prohibited); 0 for a reset. */
  readonly code: number;
}

export type NftNatFlag = 'random' | 'fully-random' | 'persistent';

/** A port, or both ends of a range. */
export interface NftPorts {
  readonly first: number;
  readonly last: number;
}

export interface NftElement {
  readonly key: NftValue;
  /** Null in a set. */
  readonly value: NftVerdict | NftValue | null;
  readonly comment: string | null;
  /** Null: that of its set. */
  readonly timeoutSeconds: number | null;
  readonly sources: readonly NftSource[];
}

export interface NftRule {
  readonly statements: readonly NftStatement[];
  readonly comment: string | null;
  readonly sources: readonly NftSource[];
  /** What a packet that this rule ends or lets go was judged to be by policies; null where it is not a judgement. */
  readonly judgement: Judgement | null;
}

export interface NftBase {
  readonly type: NftChainType;
  readonly hook: NftHook;
  readonly priority: number;
  readonly policy: 'accept' | 'drop';
}

export interface NftChain {
  readonly name: string;
  /** Null: a regular chain, run when a rule jumps to it. */
  readonly base: NftBase | null;
  readonly comment: string | null;
  readonly rules: readonly NftRule[];
  readonly sources: readonly NftSource[];
}

export type NftSetFlag = 'constant' | 'interval' | 'dynamic' | 'timeout';

/** A named set, map (`data` of a value) or verdict map (`data` 'verdict'). */
export interface NftSet {
  readonly name: string;
  /** More than one: a concatenated key. */
  readonly key: readonly NftDatatype[];
  readonly data: 'verdict' | readonly NftDatatype[] | null;
  readonly flags: readonly NftSetFlag[];
  /** Null: elements stay. */
  readonly timeoutSeconds: number | null;
  readonly size: number | null;
  readonly autoMerge: boolean;
  readonly comment: string | null;
  readonly elements: readonly NftElement[];
  readonly sources: readonly NftSource[];
}

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
  readonly comment: string | null;
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

export interface NftRuleset {
  readonly tables: readonly NftTable[];
}

/** Numbers of `ct state` (bits), `ct status` (bits), `ct direction`, `fib … type` and `pkttype` as the kernel has them. */
export const NFT_CT_STATE = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
export const NFT_CT_STATUS = {
  expected: 1,
  'seen-reply': 2,
  assured: 4,
  confirmed: 8,
  snat: 16,
  dnat: 32,
  dying: 512,
} as const;
export const NFT_CT_DIR = { original: 0, reply: 1 } as const;
export const NFT_ADDRTYPE = {
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const;
export const NFT_PKTTYPE = { host: 0, unicast: 0, broadcast: 1, multicast: 2, other: 3 } as const;
export const NFT_TCP_FLAG = {
  fin: 1,
  syn: 2,
  rst: 4,
  psh: 8,
  ack: 16,
  urg: 32,
  ecn: 64,
  cwr: 128,
} as const;

const PAYLOAD_TYPES: Readonly<Record<NftPayloadField, NftDatatype>> = {
  'ip saddr': 'ipv4_addr',
  'ip daddr': 'ipv4_addr',
  'ip protocol': 'inet_proto',
  'ip6 saddr': 'ipv6_addr',
  'ip6 daddr': 'ipv6_addr',
  'ip6 nexthdr': 'inet_proto',
  'th sport': 'inet_service',
  'th dport': 'inet_service',
  'tcp sport': 'inet_service',
  'tcp dport': 'inet_service',
  'tcp flags': 'tcp_flag',
  'udp sport': 'inet_service',
  'udp dport': 'inet_service',
  'sctp sport': 'inet_service',
  'sctp dport': 'inet_service',
  'icmp type': 'icmp_type',
  'icmp code': 'icmp_code',
  'icmpv6 type': 'icmpv6_type',
  'icmpv6 code': 'icmpv6_code',
  'ip length': 'integer',
  'ip id': 'integer',
  'ip frag-off': 'integer',
  'ip ttl': 'integer',
  'ip6 length': 'integer',
  'ip6 hoplimit': 'integer',
  'tcp sequence': 'integer',
  'tcp ackseq': 'integer',
  'tcp window': 'integer',
  'udp length': 'integer',
};
const META_TYPES: Readonly<Record<NftMetaKey, NftDatatype>> = {
  l4proto: 'inet_proto',
  nfproto: 'nf_proto',
  protocol: 'ether_type',
  mark: 'mark',
  iif: 'ifname',
  oif: 'ifname',
  iifname: 'ifname',
  oifname: 'ifname',
  pkttype: 'pkt_type',
  length: 'integer',
};
const CT_TYPES: Readonly<Record<NftCtKey, NftDatatype>> = {
  state: 'ct_state',
  status: 'ct_status',
  direction: 'ct_dir',
  mark: 'mark',
  l3proto: 'nf_proto',
  protocol: 'inet_proto',
  'ip saddr': 'ipv4_addr',
  'ip daddr': 'ipv4_addr',
  'ip6 saddr': 'ipv6_addr',
  'ip6 daddr': 'ipv6_addr',
  'proto-src': 'inet_service',
  'proto-dst': 'inet_service',
};

/**
 * The datatypes of what an expression asks for, one for each part of a concatenation. `integer` for a lookup, whose
 * value's type its map tells.
 */
export function datatypesOf(expression: NftExpression): readonly NftDatatype[] {
  if (expression.kind === 'concat') return expression.parts.flatMap(datatypesOf);
  return [datatypeOf(expression)];
}

function datatypeOf(expression: NftExpression): NftDatatype {
  switch (expression.kind) {
    case 'payload':
      return PAYLOAD_TYPES[expression.field];
    case 'meta':
      return META_TYPES[expression.key];
    case 'ct':
      return CT_TYPES[expression.key];
    case 'fib':
      return expression.result === 'type' ? 'fib_addrtype' : 'ifname';
    case 'bitwise':
      return datatypeOf(expression.left);
    default:
      return 'integer';
  }
}

/** All fields or lines that something comes from, the deciding one first. */
export function nftOrigins(sources: readonly NftSource[]): Origin[] {
  const origins: Origin[] = [];
  for (const source of sources) {
    if ('file' in source) {
      const { file, line } = source;
      const field = 'path' in source ? source.path : '';
      origins.push({ kind: 'Ruleset', namespace: '', name: 'nft', field, file, line });
    } else if ('object' in source) origins.push(originOf(source.object, source.field));
    else if ('endpoint' in source) {
      origins.push(endpointAddressOrigin(source.endpoint), endpointPortOrigin(source.endpoint));
    } else origins.push({ kind: 'Datapath', namespace: '', name: 'configuration', field: source.option });
  }
  return origins;
}
