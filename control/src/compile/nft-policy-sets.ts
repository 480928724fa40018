/**
 * What policies match packets by, in one family of nftables: peers and ports as statements, and the named sets that these
 * ask.
 *
 *     pods-…       addresses of the pods that a selector takes, each with the pod's name
 *     nodes-…      addresses of nodes
 *     ports-…      address . protocol . port: a container port's name, resolved in every pod that can be meant
 *     cluster-…    all addresses of pods and nodes, for profiles whose CIDRs do not match these
 *
 * Sets of equal content are one set. What no packet of the family can match (a selector that takes nobody, a CIDR of the
 * other family, a port name that nobody has) is no match: its rule is left out. Addresses are those that the topology gives
 * to a pod or node: of two pods with one address the first by name has it, and no pod has a node's.
 */

import { type Address, type Family, inPrefix } from '../model/address.ts';
import { namedPorts } from '../policy/named-ports.ts';
import type { PolicyModel } from '../policy/policy-model.ts';
import type { Direction, JudgementOrder, PolicyPeer, PolicyPort, PolicyRule } from '../policy/policy-rules.ts';
import { mergePrefixes } from './nft-intervals.ts';
import { nftComment } from './nft-names.ts';
import { contentName } from './nft-policy-names.ts';
import { isDestinationPort } from './nft-policy-ports.ts';
import type { NftDatatype, NftElement, NftSet, NftSource, NftStatement } from './nft-ruleset.ts';
import {
  ADDRESS_PROTOCOL_PORT,
  addressExpression,
  isAmong,
  isInPrefix,
  isMember,
  isNotInSet,
  protocolValue,
} from './nft-statements.ts';
import { type ClusterTopology, nodeAddresses } from './topology.ts';

/** One way in which a rule matches: all statements hold. `sets` are those that they ask. */
export interface PolicyMatch {
  readonly statements: readonly NftStatement[];
  readonly sets: readonly NftSet[];
}

type NamedPort = PolicyPort & { readonly kind: 'named' };

/** Makes the matches of rules and keeps the sets that they share. */
export class NftPolicySets {
  private readonly topology: ClusterTopology;
  private readonly policies: PolicyModel;
  private readonly family: Family;
  private readonly addressType: NftDatatype;
  /** By endpoint number; null: none in this family, or it belongs to another. */
  private readonly addresses: readonly (Address | null)[];
  private readonly everyPod: readonly number[];
  /** Lists of endpoints are shared by identity, so most sets are found without a look at their content. */
  private readonly podSets = new Map<readonly number[], NftSet | null>();
  /** By the pods that are meant and the names. */
  private readonly portSets = new Map<readonly number[], Map<string, NftSet | null>>();
  private readonly subjects = new Map<JudgementOrder, readonly number[]>();
  /** By name, which follows from content. */
  private readonly sets = new Map<string, NftSet>();
  private readonly podElements = new Map<number, NftElement>();
  private cluster: NftSet | null = null;

  constructor(topology: ClusterTopology, policies: PolicyModel, family: Family) {
    this.topology = topology;
    this.policies = policies;
    this.family = family;
    this.addressType = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    this.everyPod = topology.endpoints.map((_endpoint, number) => number);
    this.addresses = topology.endpoints.map((endpoint, number) => {
      const address = endpoint.addresses.find((own) => own.family === family);
      if (address === undefined || topology.endpointByAddress.get(address.text) !== number) return null;
      return topology.nodeByAddress.has(address.text) ? null : address;
    });
  }

  /** The address by which a pod is known in this family; null where it has none of its own. */
  addressOf(endpoint: number): Address | null {
    return this.addresses[endpoint]!;
  }

  /** `default/web-0`. */
  podName(endpoint: number): string {
    const { namespace, name } = this.topology.endpoints[endpoint]!.pod.metadata;
    return `${namespace}/${name}`;
  }

  /**
   * The ways in which a rule matches packets of the family; any of them suffices, none where it never does.
   * @param order that the rule belongs to: its pods are those that an ingress rule's port names are resolved in
   */
  matches(rule: PolicyRule, order: JudgementOrder): PolicyMatch[] {
    const { ports, direction, peer } = rule;
    const ofPeer = this.peerMatch(peer, direction);
    if (ofPeer === null) return [];
    if (ports === null) return [ofPeer];
    const found: PolicyMatch[] = [];
    const numbered = isDestinationPort(ports);
    if (numbered !== null) found.push({ statements: [...ofPeer.statements, numbered], sets: ofPeer.sets });
    const named = ports.filter((port) => port.kind === 'named');
    const byName = named.length === 0 ? null : this.namedMatch(named, rule, ofPeer, order);
    if (byName !== null) found.push(byName);
    return found;
  }

  /** Null where no packet of the family comes from or goes to the peer. */
  private peerMatch(peer: PolicyPeer, direction: Direction): PolicyMatch | null {
    const side = direction === 'ingress' ? 'saddr' : 'daddr';
    switch (peer.kind) {
      case 'any':
        return { statements: [], sets: [] };
      case 'block':
        return this.blockMatch(peer, side);
      case 'pods':
      case 'nodes': {
        const set = peer.kind === 'pods' ? this.podSet(peer.endpoints) : this.nodeSet(peer.nodes);
        if (set === null) return null;
        return { statements: [isMember(addressExpression(this.family, side), set.name)], sets: [set] };
      }
    }
  }

  private blockMatch({ prefix, except }: PolicyPeer & { kind: 'block' }, side: 'saddr' | 'daddr'): PolicyMatch | null {
    const { family } = this;
    if (prefix.family !== family) return null;
    const statements = prefix.length === 0 ? [] : [isInPrefix(side, prefix, false)];
    const cut = mergePrefixes(
      except.filter((hole) => hole.family === family),
      family,
    );
    // Two halves, say: nothing is left of the block.
    if (cut.some((hole) => hole.kind === 'prefix' && hole.prefix.length <= prefix.length)) return null;
    if (cut.length > 0) statements.push(isAmong(family, side, cut, true));
    if (this.policies.profile.cidrMatchesCluster) return { statements, sets: [] };
    this.cluster ??= this.clusterSet();
    const { cluster } = this;
    if (cluster === null) return { statements, sets: [] };
    return { statements: [...statements, isNotInSet(family, side, cluster.name)], sets: [cluster] };
  }

  /** Ports by name: in egress the set holds the pods of the peer, in ingress it is asked beside the peer. */
  private namedMatch(
    ports: readonly NamedPort[],
    { direction, peer }: PolicyRule,
    ofPeer: PolicyMatch,
    order: JudgementOrder,
  ): PolicyMatch | null {
    const isEgress = direction === 'egress';
    const set = this.portSet(isEgress ? this.podsOf(peer) : this.subjectsOf(order), ports);
    if (set === null) return null;
    const asked = isMember(ADDRESS_PROTOCOL_PORT[this.family], set.name);
    if (isEgress) return { statements: [asked], sets: [set] };
    return { statements: [...ofPeer.statements, asked], sets: [...ofPeer.sets, set] };
  }

  /** The pods among a peer: nobody else has ports with names. */
  private podsOf(peer: PolicyPeer): readonly number[] {
    switch (peer.kind) {
      case 'any':
        return this.everyPod;
      case 'pods':
        return peer.endpoints;
      case 'nodes':
        return [];
      case 'block':
        if (!this.policies.profile.cidrMatchesCluster) return [];
        return this.everyPod.filter((endpoint) => {
          const address = this.addresses[endpoint]!;
          if (address === null || !inPrefix(address, peer.prefix)) return false;
          return !peer.except.some((hole) => inPrefix(address, hole));
        });
    }
  }

  private subjectsOf(order: JudgementOrder): readonly number[] {
    let subjects = this.subjects.get(order);
    if (subjects === undefined) {
      subjects = this.everyPod.filter((endpoint) => this.policies.ingress[endpoint] === order);
      this.subjects.set(order, subjects);
    }
    return subjects;
  }

  private podSet(endpoints: readonly number[]): NftSet | null {
    let set = this.podSets.get(endpoints);
    if (set === undefined) {
      set = this.setOf('pods', [this.addressType], this.podElementsOf(endpoints));
      this.podSets.set(endpoints, set);
    }
    return set;
  }

  private nodeSet(nodes: readonly number[]): NftSet | null {
    return this.setOf('nodes', [this.addressType], this.nodeElementsOf(nodes));
  }

  private clusterSet(): NftSet | null {
    const nodes = this.topology.nodes.map((_node, number) => number);
    const elements = [...this.podElementsOf(this.everyPod), ...this.nodeElementsOf(nodes)];
    return this.setOf('cluster', [this.addressType], elements);
  }

  private podElementsOf(endpoints: readonly number[]): NftElement[] {
    const elements: NftElement[] = [];
    for (const endpoint of endpoints) {
      const address = this.addresses[endpoint]!;
      if (address === null) continue;
      let element = this.podElements.get(endpoint);
      if (element === undefined) {
        const { pod } = this.topology.endpoints[endpoint]!;
        const sources = [{ object: pod, field: 'metadata.labels' }];
        element = elementOf({ kind: 'address', address }, this.podName(endpoint), sources);
        this.podElements.set(endpoint, element);
      }
      elements.push(element);
    }
    return elements;
  }

  private nodeElementsOf(nodes: readonly number[]): NftElement[] {
    const elements = new Map<string, NftElement>();
    for (const number of nodes) {
      const node = this.topology.nodes[number]!;
      const sources = [{ object: node, field: 'metadata.labels' }];
      for (const address of nodeAddresses(node)) {
        if (address.family !== this.family || this.topology.nodeByAddress.get(address.text) !== number) continue;
        elements.set(address.text, elementOf({ kind: 'address', address }, node.metadata.name, sources));
      }
    }
    return [...elements.values()];
  }

  private portSet(endpoints: readonly number[], ports: readonly NamedPort[]): NftSet | null {
    const made = this.portSets.get(endpoints) ?? new Map<string, NftSet | null>();
    this.portSets.set(endpoints, made);
    const key = ports.map(({ name, protocol }) => `${name}/${protocol}`).join(' ');
    let set = made.get(key);
    if (set === undefined) {
      const type: readonly NftDatatype[] = [this.addressType, 'inet_proto', 'inet_service'];
      set = this.setOf('ports', type, this.portElementsOf(endpoints, ports));
      made.set(key, set);
    }
    return set;
  }

  private portElementsOf(endpoints: readonly number[], ports: readonly NamedPort[]): NftElement[] {
    const elements = new Map<string, NftElement>();
    for (const endpoint of endpoints) {
      const address = this.addresses[endpoint]!;
      if (address === null) continue;
      const { pod } = this.topology.endpoints[endpoint]!;
      for (const { name, protocol: asked } of ports) {
        for (const { protocol, port } of namedPorts(pod, name, asked)) {
          const key = `${address.text} ${protocol} ${port}`;
          if (elements.has(key)) continue;
          const parts = [
            { kind: 'address', address },
            protocolValue(protocol),
            { kind: 'number', value: port },
          ] as const;
          const sources = [{ object: pod, field: 'spec.containers' }];
          elements.set(key, elementOf({ kind: 'concat', parts }, `${this.podName(endpoint)} ${name}`, sources));
        }
      }
    }
    return [...elements.values()];
  }

  /** The set with these elements, one however often it is asked for; null without any. */
  private setOf(prefix: string, key: readonly NftDatatype[], elements: readonly NftElement[]): NftSet | null {
    if (elements.length === 0) return null;
    const name = contentName(prefix, elements.map(keyText).join('\n'));
    let set = this.sets.get(name);
    if (set === undefined) {
      set = makePolicySet(name, key, null, elements);
      this.sets.set(name, set);
    }
    return set;
  }
}

/** A set, or a verdict map, that packets do not write. */
export function makePolicySet(
  name: string,
  key: readonly NftDatatype[],
  data: 'verdict' | null,
  elements: readonly NftElement[],
): NftSet {
  return {
    name,
    key,
    data,
    flags: [],
    timeoutSeconds: null,
    size: null,
    autoMerge: false,
    comment: null,
    elements,
    sources: [],
  };
}

function elementOf(key: NftElement['key'], comment: string, sources: readonly NftSource[]): NftElement {
  return { key, value: null, comment: nftComment(comment), timeoutSeconds: null, sources };
}

/** Tells two keys of one type apart. */
function keyText({ key }: NftElement): string {
  return key.kind === 'concat' ? key.parts.map(valueText).join(' ') : valueText(key);
}

function valueText(value: NftElement['key']): string {
  if (value.kind === 'address') return value.address.text;
  return value.kind === 'number' ? String(value.value) : '';
}
