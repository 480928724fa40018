/**
 * What kube-proxy in ipvs mode has programmed on a node, in one family, once its first sync is through: virtual servers,
 * ipsets, the iptables rules beside them, and the addresses of kube-ipvs0.
 *
 * Every address of a Service is bound to kube-ipvs0 unless the node has it on another interface. NodePorts listen on the
 * node's own addresses, never on loopback. Two Services that share an address and port: the first by name has it
 * (kube-proxy takes whichever its map yields last).
 *
 * A source range of length 0 lets everybody in, so the load balancer's addresses are not filtered: ipset cannot store
 * such a prefix (kubernetes#132719, fixed by #132722).
 * Source: kubernetes pkg/proxy/ipvs/proxier.go (syncProxyRules), netlink_linux.go, 1.34.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type Address, type Family, inPrefix } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import type { Node } from '../model/node.ts';
import { type EndpointSelection, isLocalEndpoint, selectEndpoints } from './endpoint-selection.ts';
import type { Ipset } from './ipset.ts';
import { LOOPBACK_PREFIX, type NodeView, NodeViews } from './iptables-node.ts';
import type { Chain, Source } from './iptables-rules.ts';
import { type BarredVip, ipvsChains } from './ipvs-chains.ts';
import {
  IPVS_SCHEDULERS,
  type IpvsRuleset,
  type IpvsScheduler,
  type VirtualServer,
  virtualKey,
} from './ipvs-ruleset.ts';
import {
  addressPart,
  type KeyedElement,
  type KubeSet,
  keyedElement,
  nodePortSet,
  portPart,
  prefixPart,
  SetContents,
} from './ipvs-sets.ts';
import { VirtualServerMaker } from './ipvs-virtual-servers.ts';
import { listServicePorts, type ServiceEndpoint, type ServicePortInfo, type ServiceVip } from './service-ports.ts';
import { nodeAddresses } from './topology.ts';

/** Makes the rulesets of one family for the nodes of a cluster; nodes that are alike share what is equal. */
export class KubeProxyIpvs {
  private readonly family: Family;
  private readonly masqueradeAll: boolean;
  private readonly ports: readonly ServicePortInfo[];
  private readonly views: NodeViews;
  private readonly servers: VirtualServerMaker;
  private readonly elements = new ElementMaker();
  private readonly sets = new Map<string, Ipset[]>();
  private readonly chains = new Map<string, readonly Chain[]>();

  /** @throws RangeError for a scheduler that the kernel does not have */
  constructor(cluster: Cluster, config: DatapathConfig, family: Family) {
    this.family = family;
    this.masqueradeAll = config.kubeProxy.masqueradeAll;
    this.ports = listServicePorts(cluster, family);
    this.views = new NodeViews(cluster, config, family);
    this.servers = new VirtualServerMaker(checkScheduler(config.kubeProxy.ipvsScheduler));
  }

  nodeRuleset(node: Node): IpvsRuleset {
    const { family, ports, servers, elements } = this;
    const view = this.views.view(node);
    const work = new NodeWork(node, view, family, servers, elements);
    for (const port of ports) work.addPort(port);
    const sets = work.contents.build(family).map((set) => this.internSet(set));
    return {
      family,
      virtualServers: [...work.virtualServers.values()],
      sets,
      chains: this.chainsOf(view, work),
      boundAddresses: [...work.bound.values()],
    };
  }

  /** The set made before that has the very same elements, or this one. */
  private internSet(set: Ipset): Ipset {
    const made = this.sets.get(set.name) ?? [];
    const same = made.find(
      ({ elements }) =>
        elements.length === set.elements.length && elements.every((element, i) => element === set.elements[i]),
    );
    if (same !== undefined) return same;
    made.push(set);
    this.sets.set(set.name, made);
    return set;
  }

  /** The chains depend on which sets have elements, on how local pods are told, and on who is barred. */
  private chainsOf({ detector }: NodeView, { contents, barred }: NodeWork): readonly Chain[] {
    const from = detector === null ? '' : (detector.prefix?.text ?? detector.interfaceName!);
    const vips = barred.map(({ port, vip }) => `${vip.address.text} ${port.protocol} ${port.port}`);
    const key = `${contents.filled().join(',')} ${from} ${vips.join(',')}`;
    let chains = this.chains.get(key);
    if (chains === undefined) {
      const { family, masqueradeAll } = this;
      chains = ipvsChains({ family, contents, detector, masqueradeAll, barred });
      this.chains.set(key, chains);
    }
    return chains;
  }
}

/** What a set's element is made for: elements are objects that nodes share, so that equal sets are found by identity. */
class ElementMaker {
  private readonly made = new Map<string, KeyedElement>();

  of(key: string, make: () => KeyedElement): KeyedElement {
    let element = this.made.get(key);
    if (element === undefined) {
      element = make();
      this.made.set(key, element);
    }
    return element;
  }
}

/** One node's making: what service ports put into its sets, virtual servers and addresses. */
class NodeWork {
  readonly contents = new SetContents();
  readonly virtualServers = new Map<string, VirtualServer>();
  readonly bound = new Map<string, Address>();
  readonly barred: BarredVip[] = [];
  private readonly view: NodeView;
  private readonly servers: VirtualServerMaker;
  private readonly elements: ElementMaker;
  /** Addresses of the node's other interfaces. */
  private readonly own: ReadonlySet<string>;
  private readonly nodePortIPs: readonly Address[];

  constructor(node: Node, view: NodeView, family: Family, servers: VirtualServerMaker, elements: ElementMaker) {
    this.view = view;
    this.servers = servers;
    this.elements = elements;
    const own = nodeAddresses(node).filter((address) => address.family === family);
    this.own = new Set(own.map(({ text }) => text));
    const listening = view.nodePortIPs ?? own;
    this.nodePortIPs = listening.filter(
      (address, i) =>
        !inPrefix(address, LOOPBACK_PREFIX[family]) && listening.findIndex(({ text }) => text === address.text) === i,
    );
  }

  addPort(port: ServicePortInfo): void {
    const selection = selectEndpoints(port, this.view.topology);
    for (const endpoint of port.endpoints) this.addLoopback(port, endpoint);
    this.add('KUBE-CLUSTER-IP', port, port.clusterIP);
    this.bind(port, port.clusterIP);
    this.listen(port, port.clusterIP, port.internalPolicyLocal, selection);
    for (const vip of port.externalIPs) {
      this.add(port.externalPolicyLocal ? 'KUBE-EXTERNAL-IP-LOCAL' : 'KUBE-EXTERNAL-IP', port, vip);
      this.bind(port, vip);
      this.listen(port, vip, port.externalPolicyLocal, selection);
    }
    for (const vip of port.loadBalancerVIPs) {
      this.add('KUBE-LOAD-BALANCER', port, vip);
      if (port.externalPolicyLocal) this.add('KUBE-LOAD-BALANCER-LOCAL', port, vip);
      this.restrict(port, vip);
      this.bind(port, vip);
      this.listen(port, vip, port.externalPolicyLocal, selection);
    }
    // As kube-proxy: without an address to listen on, the port's health check is not reached either.
    if (port.nodePort !== 0 && !this.addNodePort(port, selection)) return;
    this.addHealthCheck(port);
  }

  /** An endpoint of this node, whatever its state, that may speak to itself through the Service. */
  private addLoopback(port: ServicePortInfo, endpoint: ServiceEndpoint): void {
    const own = [endpoint, ...endpoint.duplicates].find((one) => isLocalEndpoint(one, this.view.topology.name));
    if (own === undefined) return;
    const key = `loopback ${port.protocol} ${own.text} ${own.slice.metadata.namespace}/${own.slice.metadata.name}`;
    const element = this.elements.of(key, () =>
      keyedElement(
        [addressPart(own.address), portPart(port.protocol, own.port), addressPart(own.address)],
        [{ endpoint: own }],
      ),
    );
    this.contents.add('KUBE-LOOP-BACK', element);
  }

  private add(set: KubeSet, port: ServicePortInfo, vip: ServiceVip): void {
    const element = this.elements.of(`vip ${portKey(port)} ${vip.field}`, () =>
      keyedElement([addressPart(vip.address), portPart(port.protocol, port.port)], vipSources(port, vip)),
    );
    this.contents.add(set, element);
  }

  private bind(port: ServicePortInfo, vip: ServiceVip): void {
    const { address } = vip;
    if (this.own.has(address.text)) return;
    if (!this.bound.has(address.text)) this.bound.set(address.text, address);
    const element = this.elements.of(`bound ${portKey(port)} ${vip.field}`, () =>
      keyedElement([addressPart(address)], [{ object: port.service, field: vip.field }]),
    );
    this.contents.add('KUBE-IPVS-IPS', element);
  }

  private listen(port: ServicePortInfo, vip: ServiceVip, local: boolean, selection: EndpointSelection): void {
    this.put(this.servers.make(port, vip.address, vip.field, local, selection));
  }

  private put(server: VirtualServer): void {
    const key = virtualKey(server.virtual);
    if (!this.virtualServers.has(key)) this.virtualServers.set(key, server);
  }

  /** loadBalancerSourceRanges. */
  private restrict(port: ServicePortInfo, vip: ServiceVip): void {
    const { sourceRanges } = port;
    if (sourceRanges.length === 0 || sourceRanges.some(({ prefix }) => prefix.length === 0)) return;
    this.add('KUBE-LOAD-BALANCER-FW', port, vip);
    const { protocol } = port;
    for (const { prefix, field } of sourceRanges) {
      const element = this.elements.of(`range ${portKey(port)} ${vip.field} ${field}`, () =>
        keyedElement(
          [addressPart(vip.address), portPart(protocol, port.port), prefixPart(prefix)],
          [{ object: port.service, field }, ...vipSources(port, vip)],
        ),
      );
      this.contents.add('KUBE-LOAD-BALANCER-SOURCE-CIDR', element);
    }
    if (!sourceRanges.some(({ prefix }) => inPrefix(this.view.nodeIP, prefix))) {
      this.barred.push({ port, vip });
      return;
    }
    // Where the node holds the balancer's address, its own packets to it carry that address as their source.
    const element = this.elements.of(`self ${portKey(port)} ${vip.field}`, () =>
      keyedElement(
        [addressPart(vip.address), portPart(protocol, port.port), addressPart(vip.address)],
        [...vipSources(port, vip), { object: port.service, field: 'spec.loadBalancerSourceRanges' }],
      ),
    );
    this.contents.add('KUBE-LOAD-BALANCER-SOURCE-IP', element);
  }

  private addNodePort(port: ServicePortInfo, selection: EndpointSelection): boolean {
    if (this.nodePortIPs.length === 0) return false;
    const { protocol, nodePort, externalPolicyLocal } = port;
    const sources: Source[] = [{ object: port.service, field: `spec.ports[${port.portIndex}].nodePort` }];
    const addresses = protocol === 'SCTP' ? this.nodePortIPs : [null];
    for (const address of addresses) {
      const element = this.elements.of(`nodePort ${portKey(port)} ${address?.text ?? ''}`, () =>
        address === null
          ? keyedElement([portPart(null, nodePort)], sources)
          : keyedElement([addressPart(address), portPart(protocol, nodePort)], sources),
      );
      this.contents.add(nodePortSet(protocol, false), element);
      if (externalPolicyLocal) this.contents.add(nodePortSet(protocol, true), element);
    }
    for (const address of this.nodePortIPs) {
      this.put(this.servers.make(port, address, null, externalPolicyLocal, selection));
    }
    return true;
  }

  private addHealthCheck(port: ServicePortInfo): void {
    if (port.healthCheckNodePort === 0) return;
    const element = this.elements.of(`health ${portKey(port)}`, () =>
      keyedElement(
        [portPart(null, port.healthCheckNodePort)],
        [{ object: port.service, field: 'spec.healthCheckNodePort' }],
      ),
    );
    this.contents.add('KUBE-HEALTH-CHECK-NODE-PORT', element);
  }
}

/** A service port among all of its family. */
function portKey({ key, protocol, portIndex }: ServicePortInfo): string {
  return `${key} ${protocol} ${portIndex}`;
}

function vipSources(port: ServicePortInfo, vip: ServiceVip): Source[] {
  return [
    { object: port.service, field: vip.field },
    { object: port.service, field: `spec.ports[${port.portIndex}].port` },
  ];
}

function checkScheduler(name: string): IpvsScheduler {
  const scheduler = IPVS_SCHEDULERS.find((known) => known === name);
  if (scheduler === undefined) {
    throw new RangeError(`kubeProxy.ipvsScheduler: '${name}' is not one of ${IPVS_SCHEDULERS.join(', ')}`);
  }
  return scheduler;
}
