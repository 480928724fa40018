/**
 * The nftables mode's compile: cluster -> the engine's rules of one family, and what its rules, sets and elements mean.
 *
 * Beside kube-proxy's table stands that of the policies, and the CNI's outbound masquerade, which runs but is no part of
 * what `render --as nft` prints.
 */

import type { NftRules } from '@flatpath/engine/tables/nft-rules';
import type { Cluster } from '../cluster/cluster.ts';
import type { Family } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import type { Origin } from '../model/origin.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import { findNode } from './iptables-kube-proxy.ts';
import { outboundTable } from './nft-base.ts';
import { NftEncoder, NftStampNumbers, type UnencodableRule } from './nft-encode.ts';
import type { NftInterfaces } from './nft-fields.ts';
import { NftKubeProxyRules } from './nft-kube-proxy.ts';
import { NftPolicyRules } from './nft-policy.ts';
import type { NftBase } from './nft-ruleset.ts';
import { deviceRange, type NodeRuleset, rulesetOf } from './node-ruleset.ts';
import type { PolicedCluster } from './policy-node.ts';

/** What is known of an encoded rule. */
export interface NftRuleInfo {
  /** Family and name: 'ip kube-proxy'. */
  readonly table: string;
  readonly chain: string;
  /** As `nft list ruleset` prints it. */
  readonly text: string;
  /** The field that decided that the rule exists, or its line in a dump; null where nothing is known. */
  readonly origin: Origin | null;
  /** Other fields that the rule's values come from. */
  readonly further: readonly Origin[];
}

export interface NftChainInfo {
  /** Family and name: 'ip kube-proxy'. */
  readonly table: string;
  readonly name: string;
  /** Null: a regular chain. */
  readonly base: NftBase | null;
}

/** What is known of an element of a set, map or verdict map. */
export interface NftElementInfo {
  /** Key, comment and value as nft prints them. */
  readonly text: string;
  readonly origin: Origin | null;
  readonly further: readonly Origin[];
}

export interface CompiledNft {
  readonly rules: NftRules;
  /** Rule ids are 0 … ruleCount-1. */
  readonly ruleCount: number;
  /** Rules that the engine cannot run; none of kube-proxy's. */
  readonly unencodable: readonly UnencodableRule[];
  /** Throws a RangeError for an id that there is not; so do the others. */
  rule(id: number): NftRuleInfo;
  /** What a packet that this rule ends or lets go was judged to be by policies; null where the rule is not a judgement. */
  judgementOf(id: number): Judgement | null;
  chain(id: number): NftChainInfo;
  /** `@name`, or words for a set that stands in a rule. */
  setName(id: number): string;
  element(id: number): NftElementInfo;
}

/** The interfaces of a ruleset's node by name; null where it has classes only. */
function rulesetInterfaces({ interfaces, interfaceNames }: NodeRuleset): NftInterfaces | null {
  if (interfaces === null) return null;
  return { range: (name) => deviceRange(interfaceNames, name, '*') };
}

/** Both families' rules; they share the numbers of stamps. */
export interface CompiledNftables {
  readonly family4: CompiledNft;
  readonly family6: CompiledNft;
  /** Numbers of stamps (sets that packets write, counters) are below this. */
  readonly stamps: number;
}

/**
 * Compiles the rules of both families for some nodes.
 * @param nodeNames nodes to compile; the others' rows of the directory are -1. A row is a node's position in `cluster.nodes`
 * @param ruleset the node whose rules were read from dumps
 * @param policed the policies of the pods; null for none
 * @throws RangeError for a node that the cluster does not have
 */
export function compileNftables(
  cluster: Cluster,
  config: DatapathConfig,
  nodeNames: readonly string[],
  ruleset: NodeRuleset | null = null,
  policed: PolicedCluster | null = null,
): CompiledNftables {
  const stamps = new NftStampNumbers();
  const compile = (family: Family): CompiledNft => {
    const encoder = new NftEncoder(family, stamps);
    const source = new NftKubeProxyRules(cluster, config, family);
    const policies = policed === null ? null : new NftPolicyRules(policed, family);
    const cni = config.pods.masqueradeOutbound ? [outboundTable(family)] : [];
    for (const name of nodeNames) {
      const node = findNode(cluster, name);
      const index = cluster.nodes.indexOf(node);
      const own = rulesetOf(ruleset, index);
      if (own !== null) {
        encoder.addNode(index, own.tables, rulesetInterfaces(own));
        continue;
      }
      const policy = policies?.table(index) ?? null;
      encoder.addNode(index, [source.table(node), ...(policy === null ? [] : [policy]), ...cni], null);
    }
    return encoder.finish(cluster.nodes.length);
  };
  const family4 = compile(4);
  const family6 = compile(6);
  return { family4, family6, stamps: stamps.count };
}
