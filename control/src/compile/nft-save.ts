/**
 * A ruleset as text that `nft -f` loads and that `nft list ruleset` prints back: for a node, what kube-proxy has written
 * and nothing else, one table a family. Sets stand in the order in which kube-proxy makes them, Services by name, so
 * that the text depends on the cluster only.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import { findNode } from './iptables-kube-proxy.ts';
import { NftKubeProxyRules } from './nft-kube-proxy.ts';
import type { NftRuleset } from './nft-ruleset.ts';
import { nftChainLines, nftSetLines } from './nft-text.ts';

/**
 * The text of kube-proxy's rules on a node in both families, ending in a newline.
 * @throws RangeError for a node that the cluster does not have
 */
export function renderNft(cluster: Cluster, config: DatapathConfig, nodeName: string): string {
  const node = findNode(cluster, nodeName);
  const tables = ([4, 6] as const).map((family) => new NftKubeProxyRules(cluster, config, family).table(node));
  return formatNft({ tables });
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
