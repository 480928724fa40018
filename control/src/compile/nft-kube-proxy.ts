/**
 * All rules of the nftables mode, node by node: what kube-proxy has written once its first sync is through.
 *
 * Nodes share chains and sets by identity where they are equal, so that a cluster costs its differences and not its
 * nodes. Where two Services claim one key (an external address and port), the first by name has it, as in the other
 * modes; kube-proxy takes them in no particular order.
 *
 * Unlike in the iptables mode nodePorts listen on the node's primary addresses unless configured, and never on loopback.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type Family, type Prefix, parsePrefix } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import type { Node } from '../model/node.ts';
import { type NodeView, NodeViews } from './iptables-node.ts';
import { KUBE_PROXY_COMMENT, KUBE_PROXY_TABLE, nftFixedChains, nftSharedSet, nodePortIPsSet } from './nft-base.ts';
import type { NftChain, NftElement, NftSet, NftTable } from './nft-ruleset.ts';
import { NftServiceMaker, type NftServiceRules, SHARED_SETS, type SharedSet } from './nft-service.ts';
import { listServicePorts, type ServicePortInfo } from './service-ports.ts';

/** What all nodes with the same services and nodePort addresses have in common. */
interface Common {
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

/** Makes kube-proxy's table of one family for the nodes of a cluster. */
export class NftKubeProxyRules {
  private readonly family: Family;
  private readonly serviceCIDRs: readonly Prefix[];
  private readonly ports: readonly ServicePortInfo[];
  private readonly views: NodeViews;
  private readonly maker: NftServiceMaker;
  private readonly fixed = new Map<string, Common>();
  private readonly shared = new Map<SharedSet, NftSet[]>();
  private readonly tables = new Map<string, NftTable>();

  constructor(cluster: Cluster, config: DatapathConfig, family: Family) {
    this.family = family;
    this.serviceCIDRs = config.kubeProxy.serviceCIDRs
      .map(parsePrefix)
      .filter((prefix) => prefix !== null)
      .filter((prefix) => prefix.family === family);
    this.ports = listServicePorts(cluster, family);
    this.views = new NodeViews(cluster, withDefaults(config), family);
    this.maker = new NftServiceMaker(config.kubeProxy.masqueradeAll);
  }

  /** The node's table; nodes without a difference share it. */
  table(node: Node): NftTable {
    const view = this.views.view(node);
    const services = this.ports.map((port) => this.maker.rulesOf(port, view));
    const key = `${listening(view)} ${services.map((rules) => rules.serial).join(',')}`;
    let table = this.tables.get(key);
    if (table === undefined) {
      table = this.makeTable(view, services);
      this.tables.set(key, table);
    }
    return table;
  }

  private makeTable(view: NodeView, services: readonly NftServiceRules[]): NftTable {
    const common = this.fixedOf(view);
    const sets: NftSet[] = SHARED_SETS.map((name) => this.sharedSet(name, services));
    sets.splice(1, 0, ...common.sets);
    const chains = [...common.chains];
    for (const service of services) {
      for (const set of service.sets) sets.push(set);
      for (const chain of service.chains) chains.push(chain);
    }
    const family = this.family === 4 ? 'ip' : 'ip6';
    return { family, name: KUBE_PROXY_TABLE, comment: KUBE_PROXY_COMMENT, sets, chains };
  }

  private sharedSet(name: SharedSet, services: readonly NftServiceRules[]): NftSet {
    const written = new Map<string, NftElement>();
    for (const service of services) {
      for (const [key, element] of service.elements[name]) {
        if (!written.has(key)) written.set(key, element);
      }
    }
    const elements = [...written.values()];
    const made = this.shared.get(name) ?? [];
    const same = made.find(
      (set) => set.elements.length === elements.length && set.elements.every((element, i) => element === elements[i]),
    );
    if (same !== undefined) return same;
    const set = nftSharedSet(name, elements, this.family);
    made.push(set);
    this.shared.set(name, made);
    return set;
  }

  /** The fixed chains differ between nodes only by whether nodePorts listen everywhere, their set by the addresses. */
  private fixedOf(view: NodeView): Common {
    const key = listening(view);
    let common = this.fixed.get(key);
    if (common === undefined) {
      const { family, serviceCIDRs } = this;
      const { nodePortIPs } = view;
      const alike = [...this.fixed.entries()].find(([other]) => (other === 'all') === (key === 'all'));
      const chains = alike?.[1].chains ?? nftFixedChains({ family, nodePortIPs, serviceCIDRs });
      common = { sets: nodePortIPs === null ? [] : [nodePortIPsSet(nodePortIPs, family)], chains };
      this.fixed.set(key, common);
    }
    return common;
  }
}

function listening(view: NodeView): string {
  return view.nodePortIPs?.map((address) => address.text).join(',') ?? 'all';
}

/** kube-proxy's defaults of this mode: nodePorts on primary addresses, none on loopback. */
function withDefaults(config: DatapathConfig): DatapathConfig {
  const { kubeProxy } = config;
  const nodePortAddresses = kubeProxy.nodePortAddresses.length === 0 ? ['primary'] : kubeProxy.nodePortAddresses;
  return { ...config, kubeProxy: { ...kubeProxy, nodePortAddresses, localhostNodePorts: false } };
}
