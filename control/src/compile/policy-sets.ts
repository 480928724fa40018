/**
 * Peers of policies and named ports as ipsets, in one family: what a rule asks instead of a match for each address.
 *
 *     POLICY-PODS-<hash>   hash:ip       pods of a peer            POLICY-NODES-<hash>  hash:ip  addresses of nodes
 *     POLICY-NETS-<hash>   hash:net      a block, what it excepts as nomatch
 *     POLICY-PORTS-<hash>  hash:ip,port  a named port, resolved in the pods that it may lead to
 *     POLICY-CLUSTER       hash:ip       all pods and nodes, where blocks do not match these
 *
 * The hash is of the content, so equal contents are one set on every node, whoever asks for it; the first rule that needed
 * it is the origin of its elements. IPv6 sets carry `POLICY-6-`, as kube-proxy's carry `KUBE-6-`. An address belongs to
 * the owner that the topology gives it: of two pods with one address the first, and a node's before any pod's.
 * A peer that no address of the family can match is null: its rule is left out.
 */

import type { Address, Family, Prefix } from '../model/address.ts';
import { inPrefix, makePrefix } from '../model/address.ts';
import { namedPorts, type ResolvedPort } from '../policy/named-ports.ts';
import type { PolicyPeer, PolicyPort, PolicyRule } from '../policy/policy-rules.ts';
import type { PolicyProfile } from '../policy/profile.ts';
import type { Ipset, IpsetElement, IpsetType } from './ipset.ts';
import { elementText } from './ipset-text.ts';
import { shortHash } from './iptables-names.ts';
import type { AddressMatch, Match, Source } from './iptables-rules.ts';
import { addressPart, portPart, prefixPart } from './ipvs-sets.ts';
import { type ClusterTopology, nodeAddresses } from './topology.ts';

export type Side = 'src' | 'dst';

/** How a rule matches a peer. */
export interface PeerMatch {
  /** Null: any address. */
  readonly address: AddressMatch | null;
  readonly matches: readonly Match[];
  readonly sets: readonly Ipset[];
}

type NamedPort = Extract<PolicyPort, { kind: 'named' }>;
type Block = Extract<PolicyPeer, { kind: 'block' }>;

/** An endpoint's ports of one name. */
interface NamedEndpoint {
  readonly endpoint: number;
  readonly ports: readonly ResolvedPort[];
}

const ANYBODY: PeerMatch = { address: null, matches: [], sets: [] };

/** Name of a set of flatpath's own in a family. */
export function policySetName(kind: string, family: Family): string {
  return family === 4 ? `POLICY-${kind}` : `POLICY-6-${kind}`;
}

/** Makes the sets of one family and remembers them. */
export class PolicySets {
  private readonly family: Family;
  private readonly topology: ClusterTopology;
  private readonly profile: PolicyProfile;
  /** By name. */
  private readonly made = new Map<string, Ipset>();
  private readonly podElements = new Map<number, IpsetElement | null>();
  /** By what they are made of: many rules name the same pods. */
  private readonly peerSets = new Map<string, Ipset | null>();
  private readonly named = new Map<string, readonly NamedEndpoint[]>();
  private cluster: Ipset | null = null;

  constructor(family: Family, topology: ClusterTopology, profile: PolicyProfile) {
    this.family = family;
    this.topology = topology;
    this.profile = profile;
  }

  /** The address of the family that is the pod's own; null where it has none. */
  podAddress(endpoint: number): Address | null {
    const { topology, family } = this;
    const address = topology.endpoints[endpoint]!.addresses.find((one) => one.family === family);
    if (address === undefined || topology.endpointByAddress.get(address.text) !== endpoint) return null;
    return topology.nodeByAddress.has(address.text) ? null : address;
  }

  /** Addresses of the family that are the node's. */
  nodeAddresses(node: number): Address[] {
    const { topology, family } = this;
    const isOwn = (address: Address, i: number, all: readonly Address[]): boolean =>
      address.family === family &&
      topology.nodeByAddress.get(address.text) === node &&
      all.findIndex(({ text }) => text === address.text) === i;
    return nodeAddresses(topology.nodes[node]!).filter(isOwn);
  }

  /** How the rule's peer is matched; null where nothing matches it. */
  matchPeer(rule: PolicyRule, side: Side): PeerMatch | null {
    const { peer } = rule;
    switch (peer.kind) {
      case 'any':
        return ANYBODY;
      case 'pods':
        return asked(
          this.once(peerKey(peer), () => this.setOfPods(peer.endpoints)),
          side,
        );
      case 'nodes':
        return asked(
          this.once(peerKey(peer), () => this.setOfNodes(peer.nodes)),
          side,
        );
      case 'block':
        return peer.prefix.family === this.family ? this.matchBlock(rule, peer, side) : null;
    }
  }

  /** The rule's destinations that have a named port, each with its ports; null where there is none. */
  matchNamedPort(rule: PolicyRule, port: NamedPort): PeerMatch | null {
    const set = this.once(`${port.protocol ?? ''} ${port.name} ${peerKey(rule.peer)}`, () =>
      this.setOfNamed(rule.peer, port),
    );
    if (set === null) return null;
    const match: Match = { kind: 'set', set: set.name, sides: ['dst', 'dst'], invert: false };
    return { address: null, matches: [match], sets: [set] };
  }

  /** A set of the node's own: its name says what it is, each node has its content. */
  nodeSet(kind: string, type: IpsetType, elements: readonly IpsetElement[]): Ipset {
    return { name: policySetName(kind, this.family), type, family: this.family, range: null, elements };
  }

  podElement(endpoint: number): IpsetElement | null {
    let element = this.podElements.get(endpoint);
    if (element === undefined) {
      const address = this.podAddress(endpoint);
      const sources: Source[] = [{ object: this.topology.endpoints[endpoint]!.pod, field: 'status.podIP' }];
      element = address === null ? null : { parts: [addressPart(address)], nomatch: false, sources };
      this.podElements.set(endpoint, element);
    }
    return element;
  }

  // ---- peers ------------------------------------------------------------------------------------------------------

  private setOfPods(endpoints: readonly number[]): Ipset | null {
    const elements = endpoints.map((endpoint) => this.podElement(endpoint)).filter((element) => element !== null);
    return this.shared('PODS', 'hash:ip', elements);
  }

  private setOfNodes(nodes: readonly number[]): Ipset | null {
    return this.shared(
      'NODES',
      'hash:ip',
      nodes.flatMap((node) => this.nodeElements(node)),
    );
  }

  private nodeElements(node: number): IpsetElement[] {
    const sources: Source[] = [{ object: this.topology.nodes[node]!, field: 'status.addresses' }];
    return this.nodeAddresses(node).map((address) => ({ parts: [addressPart(address)], nomatch: false, sources }));
  }

  private matchBlock(rule: PolicyRule, { prefix, except }: Block, side: Side): PeerMatch | null {
    const own = except.filter((one) => one.family === prefix.family && inPrefix(one, prefix));
    if (except.some((one) => one.length <= prefix.length && inPrefix(prefix, one))) return null;
    const whole: AddressMatch | null = prefix.length === 0 ? null : { prefix, invert: false };
    const plain: PeerMatch | null =
      own.length === 0 ? { address: whole, matches: [], sets: [] } : asked(this.setOfBlock(rule, prefix, own), side);
    if (plain === null || this.profile.cidrMatchesCluster) return plain;
    const cluster = this.clusterSet();
    const outside: Match = { kind: 'set', set: cluster.name, sides: [side], invert: true };
    return { ...plain, matches: [...plain.matches, outside], sets: [...plain.sets, cluster] };
  }

  private setOfBlock(rule: PolicyRule, prefix: Prefix, except: readonly Prefix[]): Ipset | null {
    const sources: Source[] = [{ object: rule.policy, field: rule.peerField }];
    const kept = storable(prefix).filter(
      (part) => !except.some((one) => inPrefix(part, one) && one.length <= part.length),
    );
    const cut = except.filter((one, i) => except.findIndex(({ text }) => text === one.text) === i);
    const elements = [
      ...kept.map((part) => ({ parts: [prefixPart(part)], nomatch: false, sources })),
      ...cut.map((part) => ({ parts: [prefixPart(part)], nomatch: true, sources })),
    ];
    return kept.length === 0 ? null : this.shared('NETS', 'hash:net', elements);
  }

  /** Everything that the cluster owns. */
  private clusterSet(): Ipset {
    if (this.cluster === null) {
      const { endpoints, nodes } = this.topology;
      const pods = endpoints.map((_endpoint, number) => this.podElement(number)).filter((element) => element !== null);
      this.cluster = this.nodeSet('CLUSTER', 'hash:ip', [
        ...nodes.flatMap((_node, number) => this.nodeElements(number)),
        ...pods,
      ]);
    }
    return this.cluster;
  }

  // ---- named ports ------------------------------------------------------------------------------------------------

  private setOfNamed(peer: PolicyPeer, port: NamedPort): Ipset | null {
    const isPeer = this.podsOf(peer);
    const elements: IpsetElement[] = [];
    for (const { endpoint, ports } of this.namedEndpoints(port)) {
      const address = this.podAddress(endpoint);
      if (address === null || !isPeer(endpoint, address)) continue;
      const sources: Source[] = [{ object: this.topology.endpoints[endpoint]!.pod, field: 'spec.containers' }];
      for (const { protocol, port: number } of ports) {
        elements.push({ parts: [addressPart(address), portPart(protocol, number)], nomatch: false, sources });
      }
    }
    return this.shared('PORTS', 'hash:ip,port', elements);
  }

  private namedEndpoints({ name, protocol }: NamedPort): readonly NamedEndpoint[] {
    const key = `${protocol ?? ''} ${name}`;
    let found = this.named.get(key);
    if (found === undefined) {
      found = this.topology.endpoints
        .map(({ pod }, endpoint) => ({ endpoint, ports: namedPorts(pod, name, protocol) }))
        .filter(({ ports }) => ports.length > 0);
      this.named.set(key, found);
    }
    return found;
  }

  /** Which pods a peer matches: a named port is a pod's, whatever else the peer matches. */
  private podsOf(peer: PolicyPeer): (endpoint: number, address: Address) => boolean {
    switch (peer.kind) {
      case 'any':
        return () => true;
      case 'pods': {
        const endpoints = new Set(peer.endpoints);
        return (endpoint) => endpoints.has(endpoint);
      }
      case 'nodes':
        return () => false;
      case 'block': {
        if (!this.profile.cidrMatchesCluster) return () => false;
        const { prefix, except } = peer;
        return (_endpoint, address) => inPrefix(address, prefix) && !except.some((one) => inPrefix(address, one));
      }
    }
  }

  private once(key: string, make: () => Ipset | null): Ipset | null {
    let set = this.peerSets.get(key);
    if (set === undefined) {
      set = make();
      this.peerSets.set(key, set);
    }
    return set;
  }

  /** The set of this content; null for none. */
  private shared(kind: string, type: IpsetType, elements: readonly IpsetElement[]): Ipset | null {
    if (elements.length === 0) return null;
    const set: Ipset = { name: '', type, family: this.family, range: null, elements };
    const content = elements.map((element) => `${elementText(set, element)}${element.nomatch ? ' !' : ''}`).sort();
    const name = `${policySetName(kind, this.family)}-${shortHash(content.join(' '))}`;
    let made = this.made.get(name);
    if (made === undefined) {
      made = { ...set, name };
      this.made.set(name, made);
    }
    return made;
  }
}

/** What a peer is, as text; blocks only where a named port asks. */
function peerKey(peer: PolicyPeer): string {
  switch (peer.kind) {
    case 'any':
      return 'any';
    case 'pods':
      return `pods ${peer.endpoints.join()}`;
    case 'nodes':
      return `nodes ${peer.nodes.join()}`;
    case 'block':
      return `block ${[peer.prefix, ...peer.except].map(({ text }) => text).join()}`;
  }
}

function asked(set: Ipset | null, side: Side): PeerMatch | null {
  if (set === null) return null;
  return { address: null, matches: [{ kind: 'set', set: set.name, sides: [side], invert: false }], sets: [set] };
}

/** The prefix as ipsets can store it: one of length 0 as its two halves. */
function storable(prefix: Prefix): Prefix[] {
  if (prefix.length > 0) return [prefix];
  const { family } = prefix;
  return [makePrefix(family, [0, 0, 0, 0], 1), makePrefix(family, [-0x8000_0000, 0, 0, 0], 1)];
}
