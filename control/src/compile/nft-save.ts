/**
 * A ruleset as text that `nft -f` loads and that `nft list ruleset` prints back: for a node, what kube-proxy has written,
 * one table a family, and the tables of the policies of its pods. Sets stand in the order in which kube-proxy makes them,
 * Services by name, so that the text depends on the cluster only.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import { findNode } from './iptables-kube-proxy.ts';
import { NftKubeProxyRules } from './nft-kube-proxy.ts';
import { NftPolicyRules } from './nft-policy.ts';
import type { NftRuleset } from './nft-ruleset.ts';
import { nftChainLines, nftSetLines } from './nft-text.ts';
import type { PolicedCluster } from './policy-node.ts';

/**
 * The text of a node's rules in both families, ending in a newline.
 * @param policed the policies of the pods; null for kube-proxy's rules alone
 * @throws RangeError for a node that the cluster does not have
 */
export function renderNft(
  cluster: Cluster,
  config: DatapathConfig,
  nodeName: string,
  policed: PolicedCluster | null = null,
): string {
  const node = findNode(cluster, nodeName);
  const families = [4, 6] as const;
  const tables = families.map((family) => new NftKubeProxyRules(cluster, config, family).table(node));
  if (policed === null) return formatNft({ tables });
  const policies = families.map((family) => new NftPolicyRules(policed, family).table(cluster.nodes.indexOf(node)));
  return formatNft({ tables: [...tables, ...policies.filter((table) => table !== null)] });
}

/** The text of a ruleset, ending in a newline. */
export function formatNft(ruleset: NftRuleset): string {
  const lines: string[] = [];
  for (const { family, name, comment, sets, chains } of ruleset.tables) {
    lines.push(`table ${family} ${name} {`);
    if (comment !== null) lines.push(`\tcomment "${comment}"`);
    const blocks = [...sets.map(nftSetLines), ...chains.map((chain) => nftChainLines(chain, family))];
    blocks.forEach((block, i) => {
      if (i > 0) lines.push('');
      for (const line of block) lines.push(line);
    });
    lines.push('}');
  }
  return `${lines.join('\n')}\n`;
}
