/**
 * ipsets as data: named sets of addresses, ports and their combinations that rules ask by name (`-m set`).
 *
 * One shape for the sets that kube-proxy keeps in ipvs mode (`ipvs-*.ts`) and for those of a real node's `ipset save`;
 * the text and the engine's tables are made from it and nothing else. A host is a prefix of full length. Parts of an
 * element stand in the order of the type: of `hash:ip,port,net` an address, a port, a prefix.
 *
 * Refused by the kernel and so never here: a prefix of length 0 (`hash:net` and its kin store none).
 */

import type { Family, Prefix } from '../model/address.ts';
import type { Source } from './iptables-rules.ts';

/** The types that rules can ask. A dimension is `ip` (host or network), `net` or `port`. */
export const IPSET_TYPES = [
  'bitmap:port',
  'hash:ip',
  'hash:net',
  'hash:ip,port',
  'hash:net,port',
  'hash:ip,port,ip',
  'hash:ip,port,net',
] as const;
export type IpsetType = (typeof IPSET_TYPES)[number];

export type IpsetPart =
  | { readonly kind: 'prefix'; readonly prefix: Prefix }
  /** `protocol` is the IANA number; null in bitmap:port, which stores none. `first` to `last`, both belong to it. */
  | { readonly kind: 'port'; readonly protocol: number | null; readonly first: number; readonly last: number };

export interface IpsetElement {
  readonly parts: readonly IpsetPart[];
  /** `nomatch`: what it covers is not in the set, although a wider element covers it. */
  readonly nomatch: boolean;
  /** At least one; the first decided that the element exists. */
  readonly sources: readonly Source[];
}

export interface Ipset {
  /** At most 31 characters. */
  readonly name: string;
  readonly type: IpsetType;
  /** Family of the addresses; of bitmap:port that of the rules that ask it. */
  readonly family: Family;
  /** Ports that a bitmap:port can hold. */
  readonly range: { readonly first: number; readonly last: number } | null;
  readonly elements: readonly IpsetElement[];
}

/** The dimensions of a type, in order. */
export function dimensionsOf(type: IpsetType): readonly string[] {
  return type.slice(type.indexOf(':') + 1).split(',');
}
