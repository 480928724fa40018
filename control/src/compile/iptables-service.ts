/**
 * The rules that kube-proxy writes for one service port on one node: its lines in the shared chains and its own chains.
 *
 *     KUBE-SERVICES (nat)    clusterIP:port -> KUBE-SVC, or KUBE-SVL under internalTrafficPolicy Local
 *                            externalIP:port -> KUBE-EXT; load balancer IP:port -> KUBE-EXT, or KUBE-FW with source ranges
 *     KUBE-NODEPORTS (nat)   nodePort -> KUBE-EXT
 *     KUBE-EXT               policy Cluster: masquerade, KUBE-SVC. Policy Local: pods and the node itself take the short
 *                            cut to KUBE-SVC, the rest goes to KUBE-SVL
 *     KUBE-FW                source ranges -> KUBE-EXT; who falls through dies in KUBE-PROXY-FIREWALL (filter)
 *     KUBE-SVC, KUBE-SVL     masquerade rule (ClusterIP traffic), affinity rules, one rule an endpoint -> KUBE-SEP
 *     KUBE-SEP               hairpin mark, affinity note, DNAT
 *
 * No endpoint anywhere: no nat rules, REJECT in filter. None on this node under a Local policy: DROP in filter.
 * Source: kubernetes pkg/proxy/iptables/proxier.go (syncProxyRules, writeServiceToEndpointRules), 1.34.
 */

import type { Address } from '../model/address.ts';
import { inPrefix } from '../model/address.ts';
import { type EndpointSelection, selectEndpoints } from './endpoint-selection.ts';
import { endpointChainName, servicePortHash } from './iptables-names.ts';
import { LOOPBACK_PREFIX, type LocalDetector, type NodeView } from './iptables-node.ts';
import {
  type Chain,
  comment,
  type Header,
  hostMatch,
  jump,
  type Match,
  makeRule,
  type Rule,
  type Source,
  type TableName,
  type Target,
} from './iptables-rules.ts';
import type { ServiceEndpoint, ServicePortInfo, ServiceVip } from './service-ports.ts';

const MARK_MASQ = jump('KUBE-MARK-MASQ');
/** The header of a rule that matches every packet. */
const ANY: Header = {};
const NFACCT_LOCALHOST_NODE_PORTS = 'localhost_nps_accepted_pkts';

/** All rules of a service port on a node. Nodes whose rules are equal share the object. */
export interface ServiceRules {
  /** Position among all that were made: equal serials mean equal rules. */
  readonly serial: number;
  readonly natServices: readonly Rule[];
  readonly natNodePorts: readonly Rule[];
  readonly filterServices: readonly Rule[];
  readonly filterExternalServices: readonly Rule[];
  readonly filterFirewall: readonly Rule[];
  readonly filterNodePorts: readonly Rule[];
  /** KUBE-EXT, KUBE-FW, KUBE-SVC, KUBE-SVL, KUBE-SEP. */
  readonly chains: readonly Chain[];
}

/** Switches that hold for all service ports. */
export interface ServiceRuleOptions {
  readonly masqueradeAll: boolean;
  /** Off in large clusters, where kube-proxy leaves the comments of endpoint rules out. */
  readonly endpointComments: boolean;
  readonly nfacct: boolean;
}

interface Variant {
  readonly selection: EndpointSelection;
  readonly detector: LocalDetector | null;
  readonly allowFromNode: boolean;
  readonly localhostNodePorts: boolean;
  readonly rules: ServiceRules;
}

/** Makes the rules of service ports and remembers them, so that nodes that are alike share them. */
export class ServiceRuleMaker {
  private readonly options: ServiceRuleOptions;
  private readonly variants = new Map<ServicePortInfo, Variant[]>();
  private readonly endpointChains = new Map<ServiceEndpoint, Chain>();
  private made = 0;

  constructor(options: ServiceRuleOptions) {
    this.options = options;
  }

  rulesOf(port: ServicePortInfo, view: NodeView): ServiceRules {
    const selection = selectEndpoints(port, view.topology);
    const { detector, localhostNodePorts } = view;
    const allowFromNode = port.sourceRanges.some(({ prefix }) => inPrefix(view.nodeIP, prefix));
    let variants = this.variants.get(port);
    if (variants === undefined) {
      variants = [];
      this.variants.set(port, variants);
    }
    for (const variant of variants) {
      if (
        variant.selection === selection &&
        variant.detector === detector &&
        variant.allowFromNode === allowFromNode &&
        variant.localhostNodePorts === localhostNodePorts
      ) {
        return variant.rules;
      }
    }
    const work = new ServicePortWork(port, selection, view, allowFromNode, this.options, this.endpointChains);
    const rules = work.make(this.made++);
    variants.push({ selection, detector, allowFromNode, localhostNodePorts, rules });
    return rules;
  }
}

/** One making of one port's rules: what its steps share. */
class ServicePortWork {
  private readonly port: ServicePortInfo;
  private readonly selection: EndpointSelection;
  private readonly view: NodeView;
  private readonly allowFromNode: boolean;
  private readonly options: ServiceRuleOptions;
  private readonly endpointChains: Map<ServiceEndpoint, Chain>;

  private readonly clusterChain: string;
  private readonly localChain: string;
  private readonly externalChain: string;
  private readonly firewallChain: string;
  /** The matches that all endpoint chains of the port have in common. */
  private readonly keyComment: readonly Match[];
  private readonly module: Match;
  private readonly keyAndModule: readonly Match[];
  private readonly hasInternal: boolean;
  private readonly hasExternal: boolean;

  private readonly natServices: Rule[] = [];
  private readonly natNodePorts: Rule[] = [];
  private readonly filterServices: Rule[] = [];
  private readonly filterExternalServices: Rule[] = [];
  private readonly filterFirewall: Rule[] = [];
  private readonly filterNodePorts: Rule[] = [];
  private readonly chains: Chain[] = [];

  constructor(
    port: ServicePortInfo,
    selection: EndpointSelection,
    view: NodeView,
    allowFromNode: boolean,
    options: ServiceRuleOptions,
    endpointChains: Map<ServiceEndpoint, Chain>,
  ) {
    this.port = port;
    this.selection = selection;
    this.view = view;
    this.allowFromNode = allowFromNode;
    this.options = options;
    this.endpointChains = endpointChains;
    const hash = servicePortHash(port.key, port.protocol);
    this.clusterChain = `KUBE-SVC-${hash}`;
    this.localChain = `KUBE-SVL-${hash}`;
    this.externalChain = `KUBE-EXT-${hash}`;
    this.firewallChain = `KUBE-FW-${hash}`;
    this.keyComment = options.endpointComments ? [comment(port.key)] : [];
    this.module = { kind: 'port', protocol: port.protocol, port: null };
    this.keyAndModule = [...this.keyComment, this.module];
    const { hasAny, local } = selection;
    this.hasInternal = hasAny && !(port.internalPolicyLocal && local.length === 0);
    this.hasExternal = hasAny && !(port.externalPolicyLocal && local.length === 0);
  }

  make(serial: number): ServiceRules {
    const { port, selection } = this;
    const usesFirewall = selection.hasAny && port.loadBalancerVIPs.length > 0 && port.sourceRanges.length > 0;
    this.captureClusterIP();
    this.captureExternalIPs();
    this.captureLoadBalancer(usesFirewall);
    this.captureNodePort();
    this.acceptHealthCheck();
    if (selection.hasAny && port.externallyAccessible) this.pushChain(this.externalChain, this.externalRules());
    if (usesFirewall) this.pushChain(this.firewallChain, this.firewallRules());
    if (selection.cluster.length > 0) this.pushPolicyChain(this.clusterChain, selection.cluster);
    if (selection.local.length > 0) this.pushPolicyChain(this.localChain, selection.local);
    for (const endpoint of selection.reachable) this.chains.push(this.endpointChain(endpoint));
    const { natServices, natNodePorts, filterServices, filterExternalServices, chains } = this;
    const { filterFirewall, filterNodePorts } = this;
    return {
      serial,
      natServices,
      natNodePorts,
      filterServices,
      filterExternalServices,
      filterFirewall,
      filterNodePorts,
      chains,
    };
  }

  private captureClusterIP(): void {
    const { port } = this;
    const sources = this.vipSources(port.clusterIP);
    if (this.hasInternal) {
      this.natServices.push(
        this.vipRule('nat', 'KUBE-SERVICES', 'cluster IP', port.clusterIP, jump(this.internalChain()), sources),
      );
    } else {
      const why = this.refusal('spec.internalTrafficPolicy');
      this.filterServices.push(
        this.vipRule('filter', 'KUBE-SERVICES', why.words, port.clusterIP, why.target, [...why.sources, ...sources]),
      );
    }
  }

  private captureExternalIPs(): void {
    for (const vip of this.port.externalIPs) {
      if (this.selection.hasAny) {
        const sources = this.vipSources(vip);
        this.natServices.push(
          this.vipRule('nat', 'KUBE-SERVICES', 'external IP', vip, jump(this.externalChain), sources),
        );
      }
      this.refuseExternal(vip);
    }
  }

  private captureLoadBalancer(usesFirewall: boolean): void {
    const { port } = this;
    for (const vip of port.loadBalancerVIPs) {
      const sources = this.vipSources(vip);
      if (this.selection.hasAny) {
        const target = jump(usesFirewall ? this.firewallChain : this.externalChain);
        this.natServices.push(this.vipRule('nat', 'KUBE-SERVICES', 'loadbalancer IP', vip, target, sources));
      }
      if (usesFirewall) {
        const words = `traffic not accepted by ${this.firewallChain}`;
        const ranges = this.field('spec.loadBalancerSourceRanges');
        this.filterFirewall.push(
          this.vipRule('filter', 'KUBE-PROXY-FIREWALL', words, vip, { kind: 'drop' }, [ranges, ...sources]),
        );
      }
    }
    for (const vip of port.loadBalancerVIPs) this.refuseExternal(vip);
  }

  /** The filter rule for an external address that traffic from outside has no endpoint for. */
  private refuseExternal(vip: ServiceVip): void {
    if (this.hasExternal) return;
    const why = this.refusal('spec.externalTrafficPolicy');
    const sources = [...why.sources, ...this.vipSources(vip)];
    this.filterExternalServices.push(
      this.vipRule('filter', 'KUBE-EXTERNAL-SERVICES', why.words, vip, why.target, sources),
    );
  }

  private captureNodePort(): void {
    const { port } = this;
    if (port.nodePort === 0) return;
    const { protocol } = port;
    const sources = [this.field(`spec.ports[${port.portIndex}].nodePort`)];
    const listen: Match = { kind: 'port', protocol, port: port.nodePort };
    if (this.selection.hasAny) {
      if (this.options.nfacct && this.view.localhostNodePorts) {
        const loopback = { prefix: LOOPBACK_PREFIX[4], invert: false };
        const counted: Match = { kind: 'nfacct', counter: NFACCT_LOCALHOST_NODE_PORTS };
        this.natNodePorts.push(
          makeRule(
            'nat',
            'KUBE-NODEPORTS',
            { destination: loopback, protocol },
            [comment(port.key), listen, counted],
            jump(this.externalChain),
            sources,
          ),
        );
      }
      this.natNodePorts.push(
        makeRule('nat', 'KUBE-NODEPORTS', { protocol }, [comment(port.key), listen], jump(this.externalChain), sources),
      );
    }
    if (this.hasExternal) return;
    const why = this.refusal('spec.externalTrafficPolicy');
    const toNode: Match = { kind: 'addrtype', side: 'dst', invert: false };
    this.filterExternalServices.push(
      makeRule(
        'filter',
        'KUBE-EXTERNAL-SERVICES',
        { protocol },
        [comment(`${port.key} ${why.words}`), toNode, listen],
        why.target,
        [...why.sources, ...sources],
      ),
    );
  }

  private acceptHealthCheck(): void {
    const { healthCheckNodePort, key } = this.port;
    if (healthCheckNodePort === 0) return;
    this.filterNodePorts.push(
      makeRule(
        'filter',
        'KUBE-NODEPORTS',
        { protocol: 'TCP' },
        [comment(`${key} health check node port`), { kind: 'port', protocol: 'TCP', port: healthCheckNodePort }],
        { kind: 'accept' },
        [this.field('spec.healthCheckNodePort')],
      ),
    );
  }

  private externalRules(): Rule[] {
    const { port, externalChain: chain } = this;
    const { detector } = this.view;
    const sources = [this.field('spec.externalTrafficPolicy')];
    const say = (words: string) => comment(words.replace('%', port.key));
    const fromNode: Match = { kind: 'addrtype', side: 'src', invert: false };
    const rules: Rule[] = [];
    if (!port.externalPolicyLocal) {
      // The endpoint may be on another node: the reply must come back through this one.
      const words = [say('masquerade traffic for % external destinations')];
      rules.push(makeRule('nat', chain, ANY, words, MARK_MASQ, sources));
    } else {
      if (detector !== null) {
        const words = [say('pod traffic for % external destinations')];
        const bothSources: Source[] = [...sources, { option: 'kubeProxy.detectLocalMode' }];
        rules.push(makeRule('nat', chain, isLocal(detector, false), words, jump(this.clusterChain), bothSources));
      }
      const mark = [say('masquerade LOCAL traffic for % external destinations'), fromNode];
      rules.push(makeRule('nat', chain, ANY, mark, MARK_MASQ, sources));
      const route = [say('route LOCAL traffic for % external destinations'), fromNode];
      rules.push(makeRule('nat', chain, ANY, route, jump(this.clusterChain), sources));
    }
    if (this.hasExternal) {
      const policyChain = port.externalPolicyLocal ? this.localChain : this.clusterChain;
      rules.push(makeRule('nat', chain, ANY, [], jump(policyChain), sources));
    }
    return rules;
  }

  private firewallRules(): Rule[] {
    const { port, firewallChain: chain } = this;
    const words = [comment(`${port.key} loadbalancer IP`)];
    const rules: Rule[] = [];
    for (const { prefix, field } of port.sourceRanges) {
      const header: Header = { source: { prefix, invert: false } };
      rules.push(makeRule('nat', chain, header, words, jump(this.externalChain), [this.field(field)]));
    }
    if (this.allowFromNode) {
      // Where the node holds the balancer's address, its own packets to it carry that address as their source.
      for (const vip of port.loadBalancerVIPs) {
        const sources = [this.field(vip.field), this.field('spec.loadBalancerSourceRanges')];
        const header: Header = { source: hostMatch(vip.address) };
        rules.push(makeRule('nat', chain, header, words, jump(this.externalChain), sources));
      }
    }
    const last = [comment(`other traffic to ${port.key} will be dropped by KUBE-PROXY-FIREWALL`)];
    rules.push(makeRule('nat', chain, ANY, last, null, [this.field('spec.loadBalancerSourceRanges')]));
    return rules;
  }

  private pushPolicyChain(chain: string, endpoints: readonly ServiceEndpoint[]): void {
    const { port } = this;
    const rules: Rule[] = [];
    if (chain === this.internalChain() && this.hasInternal) this.pushMasquerade(chain, rules);
    if (port.affinitySeconds > 0) {
      for (const endpoint of endpoints) {
        const { name } = this.endpointChain(endpoint);
        const recent: Match = { kind: 'recent', list: name, seconds: port.affinitySeconds };
        const sources = [this.field('spec.sessionAffinity'), { endpoint }];
        rules.push(makeRule('nat', chain, ANY, [...this.endpointComment(endpoint), recent], jump(name), sources));
      }
    }
    for (let i = 0; i < endpoints.length; i++) {
      const endpoint = endpoints[i]!;
      const matches = this.endpointComment(endpoint);
      const left = endpoints.length - i;
      if (left > 1) matches.push(oneIn(left));
      rules.push(makeRule('nat', chain, ANY, matches, jump(this.endpointChain(endpoint).name), [{ endpoint }]));
    }
    this.pushChain(chain, rules);
  }

  /** ClusterIP traffic that is to leave with the node's address: all, or what does not come from a local pod. */
  private pushMasquerade(chain: string, rules: Rule[]): void {
    const { port } = this;
    const { detector } = this.view;
    const { masqueradeAll } = this.options;
    if (!masqueradeAll && detector === null) return;
    const from = masqueradeAll || detector === null ? {} : isLocal(detector, true);
    const option: Source = { option: masqueradeAll ? 'kubeProxy.masqueradeAll' : 'kubeProxy.detectLocalMode' };
    const sources = [option, ...this.vipSources(port.clusterIP)];
    rules.push(this.vipRule('nat', chain, 'cluster IP', port.clusterIP, MARK_MASQ, sources, from));
  }

  private endpointChain(endpoint: ServiceEndpoint): Chain {
    let chain = this.endpointChains.get(endpoint);
    if (chain === undefined) {
      const { key, protocol } = this.port;
      const name = endpointChainName(key, protocol, endpoint.text);
      chain = { table: 'nat', name, rules: this.endpointRules(name, endpoint) };
      this.endpointChains.set(endpoint, chain);
    }
    return chain;
  }

  private endpointRules(chain: string, endpoint: ServiceEndpoint): Rule[] {
    const { protocol, affinitySeconds } = this.port;
    const { address, port, text } = endpoint;
    const itself: Header = { source: hostMatch(address) };
    const sources: readonly Source[] = [{ endpoint }];
    const noted = affinitySeconds > 0;
    const dnat = noted
      ? [...this.keyComment, { kind: 'recent', list: chain, seconds: 0 } as const, this.module]
      : this.keyAndModule;
    const dnatSources = noted ? [...sources, this.field('spec.sessionAffinity')] : sources;
    return [
      makeRule('nat', chain, itself, this.keyComment, MARK_MASQ, sources),
      makeRule('nat', chain, { protocol }, dnat, { kind: 'dnat', address, port, text }, dnatSources),
    ];
  }

  private internalChain(): string {
    return this.port.internalPolicyLocal ? this.localChain : this.clusterChain;
  }

  private endpointComment(endpoint: ServiceEndpoint): Match[] {
    return this.options.endpointComments ? [comment(`${this.port.key} -> ${endpoint.text}`)] : [];
  }

  /** Why traffic is refused: nobody serves the port anywhere (REJECT), or nobody does here (DROP). */
  private refusal(policyField: string): { words: string; target: Target; sources: Source[] } {
    if (!this.selection.hasAny) return { words: 'has no endpoints', target: { kind: 'reject' }, sources: [] };
    return { words: 'has no local endpoints', target: { kind: 'drop' }, sources: [this.field(policyField)] };
  }

  private vipRule(
    table: TableName,
    chain: string,
    words: string,
    vip: { readonly address: Address },
    target: Target,
    sources: readonly Source[],
    from: Header = {},
  ): Rule {
    const { key, protocol, port } = this.port;
    const header: Header = { ...from, destination: hostMatch(vip.address), protocol };
    return makeRule(
      table,
      chain,
      header,
      [comment(`${key} ${words}`), { kind: 'port', protocol, port }],
      target,
      sources,
    );
  }

  private vipSources(vip: ServiceVip): Source[] {
    return [this.field(vip.field), this.field(`spec.ports[${this.port.portIndex}].port`)];
  }

  private field(field: string): Source {
    return { object: this.port.service, field };
  }

  private pushChain(name: string, rules: readonly Rule[]): void {
    this.chains.push({ table: 'nat', name, rules });
  }
}

function isLocal(detector: LocalDetector, invert: boolean): Header {
  if (detector.prefix !== null) return { source: { prefix: detector.prefix, invert } };
  return { inInterface: { name: detector.interfaceName!, invert } };
}

const chances: Match[] = [];

/** Probability 1/n as kube-proxy writes it (ten decimals) and iptables rounds it (to 2^-31). */
function oneIn(n: number): Match {
  let match = chances[n];
  if (match === undefined) {
    match = { kind: 'statistic', threshold: Math.round(Number((1 / n).toFixed(10)) * 0x8000_0000) };
    chances[n] = match;
  }
  return match;
}
