/**
 * The rules of one real node, as they were read from its dumps (room `ruleset`): what stands in an image in place of the
 * rules that kube-proxy would write for that node. Other nodes of the cluster keep kube-proxy's.
 */

import type { Interfaces } from '@flatpath/engine/programs/interface';
import type { Family } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import type { Ipset } from './ipset.ts';
import type { ChainInfo } from './iptables.ts';
import type { Chain } from './iptables-rules.ts';
import type { VirtualServer } from './ipvs-ruleset.ts';
import type { NftTable } from './nft-ruleset.ts';

/** iptables rules of one family. */
export interface FamilyChains {
  readonly chains: readonly Chain[];
  /** Base chains whose policy is DROP. */
  readonly dropping: readonly ChainInfo[];
}

export interface NodeRuleset {
  /** Position of the node in its cluster. */
  readonly node: number;
  readonly mode: Mode;
  /** Null: no dump of this family was given. */
  readonly iptables: Readonly<Record<Family, FamilyChains | null>>;
  readonly sets: readonly Ipset[];
  readonly virtualServers: readonly VirtualServer[];
  /** Tables of nftables, in the order of their creation. */
  readonly tables: readonly NftTable[];
  /** The node's interfaces and routes by number; null where only manifests tell of the node. */
  readonly interfaces: Interfaces | null;
  /** Names of the interfaces by number. */
  readonly interfaceNames: readonly string[];
  /** net.ipv4.conf.all.route_localnet, as far as the rules tell. */
  readonly routeLocalnet: boolean;
}

/** The ruleset of a node, if it is the one whose dumps were read. */
export function rulesetOf(ruleset: NodeRuleset | null, node: number): NodeRuleset | null {
  return ruleset !== null && ruleset.node === node ? ruleset : null;
}

/**
 * Numbers of the interfaces that a pattern names, first … last; an empty range where there is none.
 * @param names in their order
 * @param wildcard the sign that ends a pattern: `+` of iptables, `*` of nftables
 */
export function deviceRange(names: readonly string[], pattern: string, wildcard: '+' | '*'): [number, number] {
  const prefix = pattern.endsWith(wildcard) ? pattern.slice(0, -1) : null;
  const fits = (name: string): boolean => (prefix === null ? name === pattern : name.startsWith(prefix));
  const first = names.findIndex(fits);
  if (first < 0) return [0, -1];
  let last = first;
  while (last + 1 < names.length && fits(names[last + 1]!)) last++;
  return [first, last];
}
