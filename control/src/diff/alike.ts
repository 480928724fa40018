/**
 * Entrances at which nothing changes by itself: the Service, its endpoints, the nodes and the configuration are the same on
 * both sides. What their clients meet can only differ where what they meet at one of the endpoints themselves does.
 *
 * Not so for endpoints that are nodes or nobody's, and for SCTP (a mode may leave it to the Service's address): there
 * an address is judged that is no party's, so their clients are always tried.
 */

import type { ServicePortInfo } from '../compile/service-ports.ts';
import type { Frontend } from '../reach/frontends.ts';
import type { ServiceEntrance } from './service-entrances.ts';
import type { SideView } from './side-view.ts';

/** The endpoints of an entrance that is alike, as parties of the side before. */
export type Backends = ReadonlySet<number>;

export class AlikeEntrances {
  private readonly before: SideView;
  private readonly after: SideView;
  private readonly isSameCluster: boolean;
  private readonly known = new Map<ServiceEntrance, Backends | null>();

  constructor(before: SideView, after: SideView) {
    this.before = before;
    this.after = after;
    this.isSameCluster = settingsOf(before) === settingsOf(after);
  }

  /** Null where an entrance is not alike. */
  backendsOf(entrance: ServiceEntrance): Backends | null {
    if (!this.isSameCluster) return null;
    let backends = this.known.get(entrance);
    if (backends === undefined) {
      backends = this.compare(entrance);
      this.known.set(entrance, backends);
    }
    return backends;
  }

  private compare({ protocol, families }: ServiceEntrance): Backends | null {
    if (protocol === 'SCTP') return null;
    const backends = new Set<number>();
    for (const { before, after } of families) {
      if (before === null || after === null || textOf(before) !== textOf(after)) return null;
      for (const { address } of before.info.endpoints) {
        const owner = this.before.parties.ownerOf(address);
        // At a node's address Services' ports stand beside those of the endpoint.
        if (
          owner < 0 ||
          owner >= this.before.parties.pods ||
          this.nameOf(this.before, owner) !== this.nameOf(this.after, this.after.parties.ownerOf(address))
        ) {
          return null;
        }
        backends.add(owner);
      }
    }
    return backends;
  }

  private nameOf({ model: { topology }, parties }: SideView, party: number): string {
    const pod = topology.endpoints[party]?.pod.metadata;
    if (pod !== undefined) return `pod ${pod.namespace}/${pod.name}`;
    return `node ${topology.nodes[party - parties.pods]?.metadata.name}`;
  }
}

/** Everything beside Services and policies that a Service's answer can depend on. */
function settingsOf({ mode, model }: SideView): string {
  const { config, clusterCidr, topology, policies } = model;
  const nodes = topology.nodes.map(({ metadata, spec, status }) => [
    metadata.name,
    metadata.labels,
    spec,
    status.addresses,
  ]);
  const ranges = clusterCidr.map(({ text }) => text);
  return JSON.stringify([mode, config, ranges, nodes, policies.profile]);
}

function textOf({ kind, address, port, info }: Frontend): string {
  return JSON.stringify([kind, address?.text, port, infoText(info)]);
}

function infoText({ service, endpoints, sourceRanges }: ServicePortInfo): unknown {
  const { spec, status, metadata } = service;
  const told = endpoints.map(({ text, nodeName, ready, serving, terminating, zoneHints, nodeHints, duplicates }) => [
    text,
    nodeName,
    ready,
    serving,
    terminating,
    zoneHints,
    nodeHints,
    duplicates.map((other) => [other.nodeName, other.ready, other.serving, other.terminating, other.zoneHints]),
  ]);
  return [
    spec,
    status.loadBalancer,
    metadata.labels,
    metadata.annotations,
    told,
    sourceRanges.map(({ prefix }) => prefix.text),
  ];
}
