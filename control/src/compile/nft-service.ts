/**
 * What kube-proxy writes into nftables for one service port on one node: elements of the shared sets and maps, chains of
 * its own, affinity sets.
 *
 *     cluster-ips            clusterIP: live, so that its other ports are rejected
 *     service-ips            clusterIP, externalIPs, load balancer IPs . protocol . port -> service-, local- or external-
 *     service-nodeports      protocol . nodePort -> external-
 *     no-endpoint-services   the same keys, where nobody serves them -> reject-chain, or nobody does here -> drop
 *     no-endpoint-nodeports  likewise for nodePorts
 *     firewall-ips           load balancer IPs with source ranges -> firewall-, before any translation
 *     external-              policy Cluster: masquerade, service-. Policy Local: pods and the node itself take the short
 *                            cut to service-, the rest goes to local-
 *     firewall-              drops who is not in the ranges
 *     service-, local-       masquerade rule (ClusterIP traffic), affinity rules, one numgen over all endpoint- chains
 *     endpoint-              hairpin mark, affinity note, DNAT
 *
 * Unlike in the iptables mode the firewall stands whether there are endpoints or not, and a service has no chain where it
 * has no endpoint. Source: kubernetes pkg/proxy/nftables/proxier.go (syncProxyRules), 1.34.
 */

import { type Address, inPrefix } from '../model/address.ts';
import { type EndpointSelection, selectEndpoints } from './endpoint-selection.ts';
import type { LocalDetector, NodeView } from './iptables-node.ts';
import { hostPrefix } from './iptables-rules.ts';
import { mergePrefixes } from './nft-intervals.ts';
import { endpointBase, nftComment, servicePortBase } from './nft-names.ts';
import type {
  NftChain,
  NftElement,
  NftRule,
  NftSet,
  NftSource,
  NftStatement,
  NftValue,
  NftVerdict,
} from './nft-ruleset.ts';
import {
  addressExpression,
  DROP,
  isAddress,
  isAmong,
  isInPrefix,
  isInSet,
  isInterface,
  isLocalAddress,
  isProtocol,
  makeNftRule,
  protocolValue,
  verdictOf,
} from './nft-statements.ts';
import { nftVerdictText } from './nft-text.ts';
import type { ServiceEndpoint, ServicePortInfo, ServiceVip } from './service-ports.ts';

export const MARK_FOR_MASQUERADE: NftVerdict = { kind: 'jump', chain: 'mark-for-masquerade' };
const JUMP_MARK = verdictOf(MARK_FOR_MASQUERADE);
const REJECT_VERDICT: NftVerdict = { kind: 'goto', chain: 'reject-chain' };
const DROP_VERDICT: NftVerdict = { kind: 'drop' };
/** What the kernel makes the size of a dynamic set that is declared without one. */
const DYNAMIC_SET_SIZE = 65_535;

/** The shared sets and maps that service ports write elements into. */
export const SHARED_SETS = [
  'cluster-ips',
  'no-endpoint-services',
  'no-endpoint-nodeports',
  'firewall-ips',
  'service-ips',
  'service-nodeports',
] as const;
export type SharedSet = (typeof SHARED_SETS)[number];

/** All that a service port has in a node's table. Nodes whose rules are equal share the object. */
export interface NftServiceRules {
  /** Position among all that were made: equal serials mean equal rules. */
  readonly serial: number;
  /** By key in nft's words: of equal keys the last written counts, as in kube-proxy. */
  readonly elements: Readonly<Record<SharedSet, ReadonlyMap<string, NftElement>>>;
  readonly chains: readonly NftChain[];
  readonly sets: readonly NftSet[];
}

interface Variant {
  readonly selection: EndpointSelection;
  readonly detector: LocalDetector | null;
  readonly allowFromNode: boolean;
  readonly rules: NftServiceRules;
}

interface EndpointParts {
  readonly chain: NftChain;
  readonly affinity: NftSet | null;
}

/** What variants of one port's rules have in common where they are equal, by what they are made of. */
interface PortParts {
  readonly elements: Map<string, NftElement>;
  readonly chains: Map<string, NftChain>;
  readonly endpoints: Map<ServiceEndpoint, EndpointParts>;
}

/** Makes the rules of service ports and remembers them, so that nodes that are alike share them. */
export class NftServiceMaker {
  private readonly masqueradeAll: boolean;
  private readonly variants = new Map<ServicePortInfo, Variant[]>();
  private readonly parts = new Map<ServicePortInfo, PortParts>();
  private made = 0;

  constructor(masqueradeAll: boolean) {
    this.masqueradeAll = masqueradeAll;
  }

  rulesOf(port: ServicePortInfo, view: NodeView): NftServiceRules {
    const selection = selectEndpoints(port, view.topology);
    const { detector } = view;
    const allowFromNode = port.sourceRanges.some(({ prefix }) => inPrefix(view.nodeIP, prefix));
    let variants = this.variants.get(port);
    if (variants === undefined) {
      variants = [];
      this.variants.set(port, variants);
    }
    for (const variant of variants) {
      if (variant.selection === selection && variant.detector === detector && variant.allowFromNode === allowFromNode) {
        return variant.rules;
      }
    }
    const parts = this.parts.get(port) ?? { elements: new Map(), chains: new Map(), endpoints: new Map() };
    this.parts.set(port, parts);
    const work = new ServicePortWork(port, selection, detector, allowFromNode, this.masqueradeAll, parts);
    const rules = work.make(this.made++);
    variants.push({ selection, detector, allowFromNode, rules });
    return rules;
  }
}

/** One making of one port's rules: what its steps share. */
class ServicePortWork {
  private readonly port: ServicePortInfo;
  private readonly selection: EndpointSelection;
  private readonly detector: LocalDetector | null;
  private readonly allowFromNode: boolean;
  private readonly masqueradeAll: boolean;
  private readonly parts: PortParts;

  private readonly clusterChain: string;
  private readonly localChain: string;
  private readonly externalChain: string;
  private readonly firewallChain: string;
  private readonly hasInternal: boolean;
  private readonly hasExternal: boolean;

  private readonly elements: Record<SharedSet, Map<string, NftElement>> = {
    'cluster-ips': new Map(),
    'no-endpoint-services': new Map(),
    'no-endpoint-nodeports': new Map(),
    'firewall-ips': new Map(),
    'service-ips': new Map(),
    'service-nodeports': new Map(),
  };
  private readonly chains: NftChain[] = [];
  private readonly sets: NftSet[] = [];

  constructor(
    port: ServicePortInfo,
    selection: EndpointSelection,
    detector: LocalDetector | null,
    allowFromNode: boolean,
    masqueradeAll: boolean,
    parts: PortParts,
  ) {
    this.port = port;
    this.selection = selection;
    this.detector = detector;
    this.allowFromNode = allowFromNode;
    this.masqueradeAll = masqueradeAll;
    this.parts = parts;
    const base = servicePortBase(port);
    this.clusterChain = `service-${base}`;
    this.localChain = `local-${base}`;
    this.externalChain = `external-${base}`;
    this.firewallChain = `firewall-${base}`;
    const { hasAny, local } = selection;
    this.hasInternal = hasAny && !(port.internalPolicyLocal && local.length === 0);
    this.hasExternal = hasAny && !(port.externalPolicyLocal && local.length === 0);
  }

  make(serial: number): NftServiceRules {
    const { port, selection, elements, chains, sets } = this;
    const usesFirewall = port.loadBalancerVIPs.length > 0 && port.sourceRanges.length > 0;
    this.captureClusterIP();
    for (const vip of port.externalIPs) this.captureExternal(vip);
    for (const vip of port.loadBalancerVIPs) {
      this.captureExternal(vip);
      if (usesFirewall) this.guard(vip);
    }
    if (port.nodePort !== 0) this.captureNodePort();
    const detected = detectorText(this.detector);
    if (selection.hasAny && port.externallyAccessible) {
      this.pushChain(this.externalChain, `${this.hasExternal} ${detected}`, () => this.externalRules());
    }
    if (usesFirewall) this.pushChain(this.firewallChain, `${this.allowFromNode}`, () => [this.firewallRule()]);
    if (selection.cluster.length > 0) this.pushPolicyChain(this.clusterChain, selection.cluster);
    if (selection.local.length > 0) this.pushPolicyChain(this.localChain, selection.local);
    for (const endpoint of selection.reachable) {
      const { chain, affinity } = this.endpointParts(endpoint);
      chains.push(chain);
      if (affinity !== null) sets.push(affinity);
    }
    return { serial, elements, chains, sets };
  }

  private captureClusterIP(): void {
    const { clusterIP } = this.port;
    const live = this.field(clusterIP.field);
    this.put('cluster-ips', clusterIP.address.text, { kind: 'address', address: clusterIP.address }, null, null, [
      live,
    ]);
    const sources = this.vipSources(clusterIP);
    if (this.hasInternal) this.putVip('service-ips', clusterIP, { kind: 'goto', chain: this.internalChain() }, sources);
    else this.refuse('no-endpoint-services', clusterIP, 'spec.internalTrafficPolicy', sources);
  }

  private captureExternal(vip: ServiceVip): void {
    const sources = this.vipSources(vip);
    if (this.selection.hasAny) {
      this.putVip('service-ips', vip, { kind: 'goto', chain: this.externalChain }, sources);
    }
    if (!this.hasExternal) this.refuse('no-endpoint-services', vip, 'spec.externalTrafficPolicy', sources);
  }

  private guard(vip: ServiceVip): void {
    const sources = [this.field('spec.loadBalancerSourceRanges'), ...this.vipSources(vip)];
    this.putVip('firewall-ips', vip, { kind: 'goto', chain: this.firewallChain }, sources);
  }

  private captureNodePort(): void {
    const { port } = this;
    const sources = [this.field(`spec.ports[${port.portIndex}].nodePort`)];
    const text = `${port.protocol} . ${port.nodePort}`;
    const key: NftValue = {
      kind: 'concat',
      parts: [protocolValue(port.protocol), { kind: 'number', value: port.nodePort }],
    };
    if (this.selection.hasAny) {
      this.put('service-nodeports', text, key, { kind: 'goto', chain: this.externalChain }, null, sources);
    }
    if (this.hasExternal) return;
    const why = this.refusal('spec.externalTrafficPolicy');
    this.put('no-endpoint-nodeports', text, key, why.verdict, this.keyComment(), [...why.sources, ...sources]);
  }

  /** Why traffic is refused: nobody serves the port anywhere (reject), or nobody does here (drop). */
  private refusal(policyField: string): { verdict: NftVerdict; sources: NftSource[] } {
    if (!this.selection.hasAny) return { verdict: REJECT_VERDICT, sources: [] };
    return { verdict: DROP_VERDICT, sources: [this.field(policyField)] };
  }

  private refuse(set: SharedSet, vip: ServiceVip, policyField: string, sources: readonly NftSource[]): void {
    const why = this.refusal(policyField);
    this.put(set, this.vipText(vip), this.vipKey(vip), why.verdict, this.keyComment(), [...why.sources, ...sources]);
  }

  private putVip(set: SharedSet, vip: ServiceVip, verdict: NftVerdict, sources: readonly NftSource[]): void {
    this.put(set, this.vipText(vip), this.vipKey(vip), verdict, null, sources);
  }

  private put(
    set: SharedSet,
    text: string,
    key: NftValue,
    value: NftVerdict | null,
    comment: string | null,
    sources: readonly NftSource[],
  ): void {
    const known = `${set} ${text} ${value === null ? '' : nftVerdictText(value)}`;
    let element = this.parts.elements.get(known);
    if (element === undefined) {
      element = { key, value, comment, timeoutSeconds: null, sources };
      this.parts.elements.set(known, element);
    }
    this.elements[set].set(text, element);
  }

  private vipText(vip: ServiceVip): string {
    return `${vip.address.text} . ${this.port.protocol} . ${this.port.port}`;
  }

  private vipKey({ address }: { readonly address: Address }): NftValue {
    const { protocol, port } = this.port;
    return {
      kind: 'concat',
      parts: [{ kind: 'address', address }, protocolValue(protocol), { kind: 'number', value: port }],
    };
  }

  private keyComment(): string {
    return nftComment(this.port.key);
  }

  private externalRules(): NftRule[] {
    const { port, detector } = this;
    const sources = [this.field('spec.externalTrafficPolicy')];
    const toCluster = verdictOf({ kind: 'goto', chain: this.clusterChain });
    const rules: NftRule[] = [];
    if (!port.externalPolicyLocal) {
      // The endpoint may be on another node: the reply must come back through this one.
      rules.push(makeNftRule([JUMP_MARK], sources));
    } else {
      if (detector !== null) {
        const bothSources: NftSource[] = [...sources, { option: 'kubeProxy.detectLocalMode' }];
        rules.push(makeNftRule([isLocal(detector, false), toCluster], bothSources, 'short-circuit pod traffic'));
      }
      const fromNode = isLocalAddress('saddr');
      rules.push(makeNftRule([fromNode, JUMP_MARK], sources, 'masquerade local traffic'));
      rules.push(makeNftRule([fromNode, toCluster], sources, 'short-circuit local traffic'));
    }
    if (this.hasExternal) {
      const chain = port.externalPolicyLocal ? this.localChain : this.clusterChain;
      rules.push(makeNftRule([verdictOf({ kind: 'goto', chain })], sources));
    }
    return rules;
  }

  private firewallRule(): NftRule {
    const { port, allowFromNode } = this;
    const allowed = port.sourceRanges.map(({ prefix }) => prefix);
    const sources = port.sourceRanges.map(({ field }) => this.field(field));
    if (allowFromNode) {
      // Where the node holds the balancer's address, its own packets to it carry that address as their source.
      for (const vip of port.loadBalancerVIPs) {
        allowed.push(hostPrefix(vip.address));
        sources.push(this.field(vip.field));
      }
    }
    return makeNftRule([isAmong(port.family, 'saddr', mergePrefixes(allowed, port.family), true), DROP], sources);
  }

  private pushPolicyChain(chain: string, endpoints: readonly ServiceEndpoint[]): void {
    const masquerades = chain === this.internalChain() && this.hasInternal;
    const made = `${masquerades ? detectorText(this.detector) : ''} ${endpoints.map(({ text }) => text).join(' ')}`;
    this.pushChain(chain, made, () => this.policyRules(masquerades, endpoints));
  }

  private policyRules(masquerades: boolean, endpoints: readonly ServiceEndpoint[]): NftRule[] {
    const { port } = this;
    const rules: NftRule[] = [];
    if (masquerades) this.pushMasquerade(rules);
    if (port.affinitySeconds > 0) {
      for (const endpoint of endpoints) {
        const parts = this.endpointParts(endpoint);
        const known = isInSet(port.family, 'saddr', parts.affinity!.name);
        const sources = [this.field('spec.sessionAffinity'), { endpoint }];
        rules.push(makeNftRule([known, verdictOf({ kind: 'goto', chain: parts.chain.name })], sources));
      }
    }
    const elements = endpoints.map((endpoint, i): NftElement => {
      const value: NftVerdict = { kind: 'goto', chain: this.endpointParts(endpoint).chain.name };
      return { key: { kind: 'number', value: i }, value, comment: null, timeoutSeconds: null, sources: [{ endpoint }] };
    });
    const balance: NftStatement = {
      kind: 'vmap',
      key: { kind: 'numgen', mode: 'random', modulus: endpoints.length, offset: 0 },
      map: { kind: 'elements', elements },
    };
    rules.push(makeNftRule([balance], [this.field(`spec.ports[${port.portIndex}]`)]));
    return rules;
  }

  /** ClusterIP traffic that is to leave with the node's address: all, or what does not come from a local pod. */
  private pushMasquerade(rules: NftRule[]): void {
    const { port, detector, masqueradeAll } = this;
    if (!masqueradeAll && detector === null) return;
    const toClusterIP = isAddress('daddr', port.clusterIP.address);
    const option: NftSource = { option: masqueradeAll ? 'kubeProxy.masqueradeAll' : 'kubeProxy.detectLocalMode' };
    const sources = [option, ...this.vipSources(port.clusterIP)];
    const matches = masqueradeAll || detector === null ? [toClusterIP] : [toClusterIP, isLocal(detector, true)];
    rules.push(makeNftRule([...matches, JUMP_MARK], sources));
  }

  private endpointParts(endpoint: ServiceEndpoint): EndpointParts {
    let parts = this.parts.endpoints.get(endpoint);
    if (parts === undefined) {
      parts = this.makeEndpointParts(endpoint);
      this.parts.endpoints.set(endpoint, parts);
    }
    return parts;
  }

  private makeEndpointParts(endpoint: ServiceEndpoint): EndpointParts {
    const { port } = this;
    const { family, protocol, affinitySeconds } = port;
    const sources: readonly NftSource[] = [{ endpoint }];
    const base = endpointBase(port, endpoint);
    const rules = [makeNftRule([isAddress('saddr', endpoint.address), JUMP_MARK], sources)];
    let affinity: NftSet | null = null;
    if (affinitySeconds > 0) {
      const affinitySources = [this.field('spec.sessionAffinity'), ...sources];
      affinity = {
        name: `affinity-${base}`,
        key: [family === 4 ? 'ipv4_addr' : 'ipv6_addr'],
        data: null,
        flags: ['dynamic', 'timeout'],
        timeoutSeconds: affinitySeconds,
        size: DYNAMIC_SET_SIZE,
        autoMerge: false,
        comment: null,
        elements: [],
        sources: affinitySources,
      };
      const note: NftStatement = {
        kind: 'dynset',
        operation: 'update',
        set: affinity.name,
        key: addressExpression(family, 'saddr'),
        timeoutSeconds: null,
      };
      rules.push(makeNftRule([note], affinitySources));
    }
    const translate: NftStatement = {
      kind: 'dnat',
      family: null,
      address: { kind: 'address', address: endpoint.address },
      ports: { first: endpoint.port, last: endpoint.port },
      flags: [],
    };
    rules.push(makeNftRule([isProtocol(protocol), translate], sources));
    return { chain: { name: `endpoint-${base}`, base: null, comment: null, rules, sources }, affinity };
  }

  private internalChain(): string {
    return this.port.internalPolicyLocal ? this.localChain : this.clusterChain;
  }

  private vipSources(vip: ServiceVip): NftSource[] {
    return [this.field(vip.field), this.field(`spec.ports[${this.port.portIndex}].port`)];
  }

  private field(field: string): NftSource {
    return { object: this.port.service, field };
  }

  /** @param madeOf what the rules depend on beside the port: equal words mean equal rules */
  private pushChain(name: string, madeOf: string, rules: () => readonly NftRule[]): void {
    const known = `${name} ${madeOf}`;
    let chain = this.parts.chains.get(known);
    if (chain === undefined) {
      const sources = [this.field(`spec.ports[${this.port.portIndex}]`)];
      chain = { name, base: null, comment: null, rules: rules(), sources };
      this.parts.chains.set(known, chain);
    }
    this.chains.push(chain);
  }
}

function detectorText(detector: LocalDetector | null): string {
  return detector === null ? 'none' : (detector.prefix?.text ?? detector.interfaceName!);
}

function isLocal(detector: LocalDetector, invert: boolean): NftStatement {
  if (detector.prefix !== null) return isInPrefix('saddr', detector.prefix, invert);
  return isInterface('iifname', detector.interfaceName!.replace(/\+$/, '*'), invert);
}
