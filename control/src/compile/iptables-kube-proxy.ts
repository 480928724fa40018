/**
 * All rules of the iptables mode, node by node: what kube-proxy has written once its first sync is through.
 *
 * Nodes whose rules are equal share chains by identity, so that a cluster costs its differences and not its nodes.
 * In a large cluster (more than 1,000 endpoints in a family) endpoint rules carry no comments, as kube-proxy's do not.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { Family } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import type { Node } from '../model/node.ts';
import { fixedChains, sharedChains } from './iptables-base.ts';
import { type NodeView, NodeViews } from './iptables-node.ts';
import type { Chain } from './iptables-rules.ts';
import { ServiceRuleMaker, type ServiceRules } from './iptables-service.ts';
import { countEndpoints, listServicePorts, type ServicePortInfo } from './service-ports.ts';

/** More endpoints than this, and kube-proxy saves memory over readability. */
export const LARGE_CLUSTER_ENDPOINTS = 1000;

/** What kube-proxy finds out about a node's kernel rather than being configured with. */
export interface KernelOptions {
  /** nf_conntrack_tcp_be_liberal is set: KUBE-FORWARD drops no INVALID packets. */
  readonly tcpBeLiberal: boolean;
  /** The nfacct subsystem is there: two rules count by it. */
  readonly nfacct: boolean;
}

/** What kube-proxy finds on a node whose kernel is set as the configuration says. */
export function kernelOptions(config: DatapathConfig): KernelOptions {
  return { tcpBeLiberal: config.kubeProxy.tcpBeLiberal, nfacct: false };
}

export interface NodeRules {
  /** Base, fixed and shared chains; a chain of the latter two may be empty. */
  readonly common: readonly Chain[];
  /** One entry a service port. */
  readonly services: readonly ServiceRules[];
}

/** Makes kube-proxy's rules of one family for the nodes of a cluster. */
export class KubeProxyRules {
  readonly family: Family;
  private readonly kernel: KernelOptions;
  private readonly ports: readonly ServicePortInfo[];
  private readonly views: NodeViews;
  private readonly maker: ServiceRuleMaker;
  private readonly fixed = new Map<boolean, readonly Chain[]>();
  private readonly shared = new Map<string, Chain[]>();
  private readonly commons = new Map<string, readonly Chain[]>();

  constructor(cluster: Cluster, config: DatapathConfig, family: Family, kernel: KernelOptions) {
    this.family = family;
    this.kernel = kernel;
    this.ports = listServicePorts(cluster, family);
    this.views = new NodeViews(cluster, config, family);
    this.maker = new ServiceRuleMaker({
      masqueradeAll: config.kubeProxy.masqueradeAll,
      endpointComments: countEndpoints(this.ports) <= LARGE_CLUSTER_ENDPOINTS,
      nfacct: kernel.nfacct,
    });
  }

  nodeRules(node: Node): NodeRules {
    const view = this.views.view(node);
    const services = this.ports.map((port) => this.maker.rulesOf(port, view));
    const listening = view.nodePortIPs?.map((address) => address.text).join(',') ?? 'all';
    const key = `${listening} ${view.localhostNodePorts} ${services.map((rules) => rules.serial).join(',')}`;
    let common = this.commons.get(key);
    if (common === undefined) {
      const shared = sharedChains(services, view, this.family).map((chain) => this.intern(chain));
      common = [...this.fixedOf(view), ...shared];
      this.commons.set(key, common);
    }
    return { common, services };
  }

  /** The chain made before that has the very same rules, or this one. */
  private intern(chain: Chain): Chain {
    const key = `${chain.table} ${chain.name}`;
    const made = this.shared.get(key) ?? [];
    const same = made.find(
      ({ rules }) => rules.length === chain.rules.length && rules.every((rule, i) => rule === chain.rules[i]),
    );
    if (same !== undefined) return same;
    made.push(chain);
    this.shared.set(key, made);
    return chain;
  }

  /** The fixed chains differ between nodes by nothing but localhost's nodePorts. */
  private fixedOf(view: NodeView): readonly Chain[] {
    let chains = this.fixed.get(view.localhostNodePorts);
    if (chains === undefined) {
      chains = fixedChains(view.localhostNodePorts, this.kernel);
      this.fixed.set(view.localhostNodePorts, chains);
    }
    return chains;
  }
}

/** The node of that name. Throws a RangeError for a name that the cluster does not have. */
export function findNode(cluster: Cluster, name: string): Node {
  const node = cluster.nodes.find((candidate) => candidate.metadata.name === name);
  if (node === undefined) throw new RangeError(`the cluster has no node '${name}'`);
  return node;
}
