/**
 * A node's state in ipvs mode as text: what `ipvsadm-save -n`, `ipset save` and `iptables-save` print after kube-proxy's
 * sync, of kube-proxy's own and nothing else. The first two hold both families, as the real tools do. Hash seeds, bucket
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

/**
 * What `ipvsadm-restore` reads.
 * @throws RangeError for a node that the cluster does not have, as the others do
 */
export function renderIpvsadm(cluster: Cluster, config: DatapathConfig, nodeName: string): string {
  const servers = bothFamilies(cluster, config, nodeName).flatMap((ruleset) => ruleset.virtualServers);
  return linesText(ipvsadmLines(servers));
}

/** What `ipset restore` reads; it has to be loaded before the rules, which ask the sets. */
export function renderIpset(cluster: Cluster, config: DatapathConfig, nodeName: string): string {
  const sets = bothFamilies(cluster, config, nodeName).flatMap((ruleset) => ruleset.sets);
  return linesText(sets.flatMap(ipsetLines));
}

/** The iptables rules of ipvs mode in one family. */
export function renderIpvsIptables(cluster: Cluster, config: DatapathConfig, nodeName: string, family: Family): string {
  return chainsText(rulesetOf(cluster, config, nodeName, family).chains, family);
}

function bothFamilies(cluster: Cluster, config: DatapathConfig, nodeName: string): IpvsRuleset[] {
  return [rulesetOf(cluster, config, nodeName, 4), rulesetOf(cluster, config, nodeName, 6)];
}

function rulesetOf(cluster: Cluster, config: DatapathConfig, nodeName: string, family: Family): IpvsRuleset {
  return new KubeProxyIpvs(cluster, config, family).nodeRuleset(findNode(cluster, nodeName));
}

function linesText(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
