/** What the real tools load for a mode: the text that flatpath renders for the judged node, and the tool for it. */

import type { ClusterModel } from '../../control/src/compile/image.ts';
import { kernelOptions } from '../../control/src/compile/iptables-kube-proxy.ts';
import { renderIptablesSave, renderPolicyIpsets } from '../../control/src/compile/iptables-save.ts';
import { renderNft } from '../../control/src/compile/nft-save.ts';
import { NodePolicyMaker } from '../../control/src/compile/policy-node.ts';
import type { Family } from '../../control/src/model/address.ts';
import type { Mode } from '../../control/src/model/datapath.ts';
import { JUDGED_NODE } from './case.ts';
import type { RulesetPart } from './node-namespace.ts';

/** The modes whose rules a kernel can be given; IPVS is a module that many kernels lack, ebpf has no rules. */
export const JUDGED_MODES: readonly Mode[] = ['iptables', 'nftables'];

export function rulesetOf(mode: Mode, model: ClusterModel): RulesetPart[] {
  const { cluster, config } = model;
  switch (mode) {
    case 'iptables': {
      const own = new NodePolicyMaker(mode, model);
      const text = (family: Family) =>
        renderIptablesSave(cluster, config, JUDGED_NODE, family, kernelOptions(config), own);
      return [
        { command: ['ipset', 'restore'], text: renderPolicyIpsets(cluster, config, JUDGED_NODE, own) },
        { command: ['iptables-legacy-restore'], text: text(4) },
        { command: ['ip6tables-legacy-restore'], text: text(6) },
      ];
    }
    case 'nftables':
      return [{ command: ['nft', '-f', '-'], text: renderNft(cluster, config, JUDGED_NODE, model) }];
    default:
      throw new Error(`no kernel is given the rules of mode '${mode}'`);
  }
}

/** kube-proxy sets net.ipv4.conf.all.route_localnet for nodePorts on 127.0.0.1, which only the iptables mode has. */
export function routesLoopback(mode: Mode, { config }: ClusterModel): boolean {
  return mode === 'iptables' && config.kubeProxy.localhostNodePorts;
}
