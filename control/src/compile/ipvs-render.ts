/**
 * A node's state in ipvs mode as text: what `ipvsadm-save -n`, `ipset save` and `iptables-save` print after kube-proxy's
 * sync, of kube-proxy's own, of policies where they are asked for, and nothing else. The first two hold both families, as the real tools do. Hash seeds, bucket
 * sizes and counters are left out, so that the text depends on the cluster only.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { Family } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import { ipsetLines } from './ipset-text.ts';
import { findNode } from './iptables-kube-proxy.ts';
import { chainsText } from './iptables-save.ts';
import { KubeProxyIpvs } from './ipvs-kube-proxy.ts';
import type { IpvsRuleset } from './ipvs-ruleset.ts';
import { ipvsadmLines } from './ipvs-text.ts';
import type { NodePolicyMaker } from './policy-node.ts';
import { withPolicySets } from './policy-services.ts';

const FAMILIES: readonly Family[] = [4, 6];

/**
 * What `ipvsadm-restore` reads.
 * @throws RangeError for a node that the cluster does not have, as the others do
 */
export function renderIpvsadm(cluster: Cluster, config: DatapathConfig, nodeName: string): string {
  const servers = bothFamilies(cluster, config, nodeName, null).flatMap((ruleset) => ruleset.virtualServers);
  return linesText(ipvsadmLines(servers));
}

/**
 * What `ipset restore` reads; it has to be loaded before the rules, which ask the sets.
 * @param policies of the cluster; null for kube-proxy alone
 */
export function renderIpset(
  cluster: Cluster,
  config: DatapathConfig,
  nodeName: string,
  policies: NodePolicyMaker | null = null,
): string {
  const sets = bothFamilies(cluster, config, nodeName, policies).flatMap((ruleset) => ruleset.sets);
  return linesText(sets.flatMap(ipsetLines));
}

/**
 * The iptables rules of ipvs mode in one family.
 * @param policies of the cluster; null for kube-proxy alone
 */
export function renderIpvsIptables(
  cluster: Cluster,
  config: DatapathConfig,
  nodeName: string,
  family: Family,
  policies: NodePolicyMaker | null = null,
): string {
  return chainsText(rulesetOf(cluster, config, nodeName, family, policies).chains, family);
}

function bothFamilies(
  cluster: Cluster,
  config: DatapathConfig,
  nodeName: string,
  policies: NodePolicyMaker | null,
): IpvsRuleset[] {
  return FAMILIES.map((family) => rulesetOf(cluster, config, nodeName, family, policies));
}

function rulesetOf(
  cluster: Cluster,
  config: DatapathConfig,
  nodeName: string,
  family: Family,
  policies: NodePolicyMaker | null,
): IpvsRuleset {
  const node = findNode(cluster, nodeName);
  const ruleset = new KubeProxyIpvs(cluster, config, family).nodeRuleset(node);
  return withPolicySets(ruleset, cluster.nodes.indexOf(node), policies, new Map());
}

function linesText(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
