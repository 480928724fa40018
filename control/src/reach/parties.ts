/**
 * Parties: everybody who sends or receives packets (pods, nodes, regions of the outside), numbered, and put into classes
 * of which no loaded policy, prefix or Service option tells two members apart.
 *
 * Numbers: pods first, by endpoint number, then nodes, then regions of the outside. What tells pods apart beside policies:
 * named ports that a policy names, an address of a Service, being inside the cluster's or the node's own pod range (which
 * decides on masquerading). Where a pod or node *is* tells nobody apart here: that a pair shares a node belongs to the
 * pair.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { ClusterModel } from '../compile/image.ts';
import { Partition } from '../compile/partition.ts';
import { listServicePorts } from '../compile/service-ports.ts';
import { nodeAddresses } from '../compile/topology.ts';
import {
  type Address,
  type Family,
  inPrefix,
  makePrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../model/address.ts';
import { namedPorts } from '../policy/named-ports.ts';
import type { PolicyRule } from '../policy/policy-rules.ts';
import { type OutsideRegion, outsideRegions } from './outside.ts';

const FAMILIES: readonly Family[] = [4, 6];

export type PartyKind = 'pod' | 'node' | 'outside';

export class Parties {
  readonly model: ClusterModel;
  readonly pods: number;
  readonly nodes: number;
  readonly regions: readonly OutsideRegion[];
  readonly count: number;
  /** Class of each party; the classes of pods, nodes and regions are different ones. */
  readonly classOf: Int32Array;
  readonly classCount: number;
  /** First party of each class. */
  readonly firstOf: Int32Array;
  /** Families that any pod of the cluster has an address of; both where there is no pod. */
  readonly families: readonly Family[];
  private readonly addresses: readonly (readonly (Address | null)[])[];
  private readonly places: Int32Array;

  constructor(model: ClusterModel) {
    const { topology } = model;
    this.model = model;
    this.pods = topology.endpoints.length;
    this.nodes = topology.nodes.length;
    const hosts = [
      ...topology.endpoints.map(({ addresses }) => onePerFamily(addresses)),
      ...topology.nodes.map((node) => onePerFamily(nodeAddresses(node))),
    ];
    this.families = FAMILIES.filter((_, slot) => hosts.some((addresses) => addresses[slot] !== null));
    const prefixes = tellingPrefixes(model);
    this.regions = outsideRegions(this.families, prefixes, takenPrefixes(model));
    this.addresses = [...hosts, ...this.regions.map(({ address }) => onePerFamily([address]))];
    this.count = this.addresses.length;
    this.places = this.numberPlaces();
    const partition = this.partition(prefixes);
    this.classOf = partition.classOf;
    this.classCount = partition.count;
    this.firstOf = new Int32Array(this.classCount).fill(-1);
    for (let party = this.count - 1; party >= 0; party--) this.firstOf[this.classOf[party]!] = party;
  }

  kindOf(party: number): PartyKind {
    if (party < this.pods) return 'pod';
    return party < this.pods + this.nodes ? 'node' : 'outside';
  }

  /** The address that a party uses in a family, null if it has none. */
  addressOf(party: number, family: Family): Address | null {
    return this.addresses[party]![family === 4 ? 0 : 1]!;
  }

  /** The node that a pod runs on or that a node is; -1 outside. */
  nodeOf(party: number): number {
    if (party < this.pods) return this.model.topology.endpoints[party]!.node;
    return party < this.pods + this.nodes ? party - this.pods : -1;
  }

  /** The party that owns an address; -1 where no pod or node does. */
  ownerOf(address: Address): number {
    const { endpointByAddress, nodeByAddress } = this.model.topology;
    const node = nodeByAddress.get(address.text);
    if (node !== undefined) return this.pods + node;
    return endpointByAddress.get(address.text) ?? -1;
  }

  /** Equal for pods of which masquerading cannot tell one from another by its address; 0 for nodes and the outside. */
  placeOf(party: number): number {
    return this.places[party]!;
  }

  /** Classes of some parties, each once. */
  classesOf(parties: readonly number[]): number[] {
    return [...new Set(parties.map((party) => this.classOf[party]!))];
  }

  private partition(prefixes: readonly Prefix[]): Partition {
    const { model } = this;
    const { policies, topology } = model;
    const partition = new Partition(this.count);
    const orders = new Map<object | null, number>([[null, 0]]);
    const numberOf = (order: object | null): number => {
      let number = orders.get(order);
      if (number === undefined) {
        number = orders.size;
        orders.set(order, number);
      }
      return number;
    };
    const names = portNames(policies.rules);
    partition.splitBy((party) => {
      const kind = this.kindOf(party);
      if (kind !== 'pod') return kind;
      const { pod } = topology.endpoints[party]!;
      const ports = names.map((name) => namedPorts(pod, name, null).map(({ protocol, port }) => [protocol, port]));
      const { egress, ingress } = policies;
      return JSON.stringify([numberOf(egress[party]!), numberOf(ingress[party]!), this.placeOf(party), ports]);
    });
    const seen = new Set<readonly number[]>();
    for (const { peer } of policies.rules) {
      if (peer.kind === 'pods' && !seen.has(peer.endpoints)) {
        seen.add(peer.endpoints);
        partition.split(peer.endpoints, null);
      } else if (peer.kind === 'nodes' && !seen.has(peer.nodes)) {
        seen.add(peer.nodes);
        partition.split(
          peer.nodes.map((node) => this.pods + node),
          null,
        );
      }
    }
    for (const prefix of prefixes) partition.split(this.partiesIn(prefix), null);
    return partition;
  }

  /** Numbers for where pods' addresses lie, from 1. */
  private numberPlaces(): Int32Array {
    const { clusterCidr, topology, cluster } = this.model;
    const served = servedAddresses(cluster);
    const ranges = topology.nodes.map(({ spec }) => spec.podCIDRs.map((text) => parsePrefix(text)));
    const numbers = new Map<string, number>();
    const places = new Int32Array(this.count);
    topology.endpoints.forEach(({ node, addresses }, party) => {
      const place = addresses.map((address) => [
        address.family,
        clusterCidr.some((prefix) => inPrefix(address, prefix)),
        ranges[node]?.some((prefix) => prefix !== null && inPrefix(address, prefix)) ?? false,
        topology.endpointByAddress.get(address.text) === party && !served.has(address.text) ? '' : address.text,
      ]);
      const text = JSON.stringify(place);
      let number = numbers.get(text);
      if (number === undefined) {
        number = numbers.size + 1;
        numbers.set(text, number);
      }
      places[party] = number;
    });
    return places;
  }

  private partiesIn(prefix: Prefix): number[] {
    const slot = prefix.family === 4 ? 0 : 1;
    const found: number[] = [];
    for (let party = 0; party < this.count; party++) {
      const address = this.addresses[party]![slot]!;
      if (address !== null && inPrefix(address, prefix)) found.push(party);
    }
    return found;
  }
}

function onePerFamily(addresses: readonly Address[]): (Address | null)[] {
  return FAMILIES.map((family) => addresses.find((address) => address.family === family) ?? null);
}

/** Prefixes of policies and of source ranges, each once. */
function tellingPrefixes({ policies, cluster }: ClusterModel): Prefix[] {
  const found = new Map<string, Prefix>();
  for (const { peer } of policies.rules) {
    if (peer.kind !== 'block') continue;
    for (const prefix of [peer.prefix, ...peer.except]) found.set(prefix.text, prefix);
  }
  for (const family of FAMILIES) {
    for (const { sourceRanges } of listServicePorts(cluster, family)) {
      for (const { prefix } of sourceRanges) found.set(prefix.text, prefix);
    }
  }
  return [...found.values()];
}

/** What belongs to the cluster: no address in it stands for the outside. */
function takenPrefixes(model: ClusterModel): Prefix[] {
  const { topology, cluster, clusterCidr, config } = model;
  const taken = new Map<string, Prefix>();
  const add = (prefix: Prefix | null): void => {
    if (prefix !== null) taken.set(prefix.text, prefix);
  };
  const addAddress = (text: string): void => {
    const address = parseAddress(text);
    if (address !== null) add(makePrefix(address.family, address.words, address.family === 4 ? 32 : 128));
  };
  for (const prefix of clusterCidr) add(prefix);
  for (const text of config.kubeProxy.serviceCIDRs) add(parsePrefix(text));
  for (const node of topology.nodes) for (const text of node.spec.podCIDRs) add(parsePrefix(text));
  for (const text of topology.endpointByAddress.keys()) addAddress(text);
  for (const text of topology.nodeByAddress.keys()) addAddress(text);
  for (const { spec, status } of cluster.services) {
    for (const text of [...spec.clusterIPs, ...spec.externalIPs]) addAddress(text);
    for (const { ip } of status.loadBalancer.ingress) addAddress(ip);
  }
  return [...taken.values()];
}

function portNames(rules: readonly PolicyRule[]): string[] {
  const names = new Set<string>();
  for (const { ports } of rules) {
    for (const port of ports ?? []) if (port.kind === 'named') names.add(port.name);
  }
  return [...names];
}

/** Addresses that Services listen at. */
function servedAddresses(cluster: Cluster): Set<string> {
  const served = new Set<string>();
  for (const family of FAMILIES) {
    for (const { clusterIP, externalIPs, loadBalancerVIPs } of listServicePorts(cluster, family)) {
      for (const { address } of [clusterIP, ...externalIPs, ...loadBalancerVIPs]) served.add(address.text);
    }
  }
  return served;
}
