/**
 * The iptables mode's compile: cluster -> the engine's rule list of one family, and what its rules mean.
 *
 * The CNI's outbound masquerade is part of what runs, though not of what `iptables-save` prints for kube-proxy.
 */

import type { RuleList } from '@flatpath/engine/tables/rule-list';
import type { Cluster } from '../cluster/cluster.ts';
import type { Family } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import type { Origin } from '../model/origin.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import { IpsetEncoder } from './ipset-encode.ts';
import { outboundMasquerade } from './iptables-base.ts';
import { RuleEncoder } from './iptables-encode.ts';
import { findNode, type KernelOptions, KubeProxyRules, kernelOptions } from './iptables-kube-proxy.ts';
import type { Chain, Rule, TableName } from './iptables-rules.ts';
import { type NodeRuleset, rulesetOf } from './node-ruleset.ts';
import { type NodePolicyMaker, withPolicies } from './policy-node.ts';
import { refusedPlaces } from './policy-services.ts';

/** What is known of an encoded rule. */
export interface RuleInfo {
  readonly table: TableName;
  readonly chain: string;
  /** The `-A` line as `iptables-save` prints it. */
  readonly text: string;
  /** The field that decided that the rule exists. */
  readonly origin: Origin;
  /** Other fields that the rule's values come from. */
  readonly further: readonly Origin[];
}

export interface ChainInfo {
  readonly table: TableName;
  readonly name: string;
}

export interface CompiledRules {
  readonly rules: RuleList;
  /** Rule ids are 0 … ruleCount-1. */
  readonly ruleCount: number;
  /** Throws a RangeError for an id that there is not; so do the others. */
  rule(id: number): RuleInfo;
  /** What a packet that takes the rule's target was judged to be by policies; null where the rule is not a judgement. */
  judgementOf(id: number): Judgement | null;
  chain(id: number): ChainInfo;
  /** Ids of `recent` lists are below this number. */
  readonly recentLists: number;
  /** Name of a `recent` list. */
  recentList(id: number): string;
}

/**
 * Compiles the rules of one family for some nodes.
 * @param nodeNames nodes to compile; the others' rows of the directory are -1. A row is a node's position in `cluster.nodes`
 * @param ruleset the node whose rules were read from dumps; its ipsets are in `sets`
 * @param sets gets the sets that policies ask
 * @param policies of the cluster; null for none
 * @throws RangeError for a node that the cluster does not have
 */
export function compileIptables(
  cluster: Cluster,
  config: DatapathConfig,
  family: Family,
  nodeNames: readonly string[],
  kernel: KernelOptions = kernelOptions(config),
  ruleset: NodeRuleset | null = null,
  sets: IpsetEncoder = new IpsetEncoder(),
  policies: NodePolicyMaker | null = null,
): CompiledRules {
  const encoder = new RuleEncoder(family, (name) => sets.setId(name));
  const source = new KubeProxyRules(cluster, config, family, kernel);
  const outbound = config.pods.masqueradeOutbound ? outboundMasquerade() : null;
  // Nodes that share a chain share its extension too.
  const extended = new Map<Chain, Chain>();
  const guarded = new Map<Chain, Chain>();
  for (const name of nodeNames) {
    const node = findNode(cluster, name);
    const dumped = rulesetOf(ruleset, cluster.nodes.indexOf(node));
    if (dumped !== null) {
      const { chains, dropping } = dumped.iptables[family] ?? { chains: [], dropping: [] };
      encoder.addNode(dumped.node, chains, [], dropping);
      continue;
    }
    const index = cluster.nodes.indexOf(node);
    const { common, services } = source.nodeRules(node);
    const chains = outbound === null ? common : withOutbound(common, outbound, extended);
    const own = policies?.onNode(family, index, () => refusedPlaces(node, family, services)) ?? null;
    for (const set of own?.sets ?? []) sets.add(index, set);
    encoder.addNode(index, withPolicies(chains, own, guarded), services);
  }
  return encoder.finish(cluster.nodes.length);
}

/** The chains of a node with the CNI's rules behind kube-proxy's; `extended` keeps what nodes share. */
export function withOutbound(
  common: readonly Chain[],
  outbound: { jump: Rule; chain: Chain },
  extended: Map<Chain, Chain>,
): Chain[] {
  const chains = common.map((chain) => {
    if (chain.table !== 'nat' || chain.name !== 'POSTROUTING') return chain;
    let longer = extended.get(chain);
    if (longer === undefined) {
      longer = { ...chain, rules: [...chain.rules, outbound.jump] };
      extended.set(chain, longer);
    }
    return longer;
  });
  return [...chains, outbound.chain];
}
