/** What a user asks to see: peers by reference and by namespace. */

import { inPrefix } from '../model/address.ts';
import { findPods, findService, parseReference, type Reference, UnresolvedReference } from '../probe/reference.ts';
import type { PortFilter } from './filter-ports.ts';
import type { Parties } from './parties.ts';
import { type Peer, podPeer } from './peers.ts';
import type { Reachability } from './reachability.ts';

export interface ReachFilter {
  /** References to sources and targets; empty: all. */
  readonly from: readonly string[];
  readonly to: readonly string[];
  /** Pairs of which one end is in one of them; empty: all. */
  readonly namespaces: readonly string[];
  /** Empty: all. */
  readonly ports: readonly PortFilter[];
}

export interface Selection {
  readonly sources: readonly Peer[];
  readonly targets: readonly Peer[];
  keeps(source: Peer, target: Peer): boolean;
}

/** @throws UnresolvedReference for a reference or namespace that names nobody */
export function selectPeers(reach: Reachability, { from, to, namespaces }: ReachFilter): Selection {
  const { peers, model } = reach;
  for (const name of namespaces) {
    if (model.cluster.namespaces.some(({ metadata }) => metadata.name === name)) continue;
    const names = model.cluster.namespaces.slice(0, 8).map(({ metadata }) => metadata.name);
    throw new UnresolvedReference(`namespace '${name}' does not exist; there is ${names.join(', ')}`);
  }
  const all = peers.filter(({ kind }) => kind !== 'service');
  const sources = from.length === 0 ? all : from.flatMap((text) => findPeers(reach, text, true));
  const targets = to.length === 0 ? peers : to.flatMap((text) => findPeers(reach, text, false));
  const isIn = ({ namespace }: Peer): boolean => namespaces.includes(namespace);
  const keeps = (source: Peer, target: Peer): boolean => namespaces.length === 0 || isIn(source) || isIn(target);
  return {
    sources: [...new Set(sources)].filter((source) => targets.some((target) => keeps(source, target))),
    targets: [...new Set(targets)].filter((target) => sources.some((source) => keeps(source, target))),
    keeps,
  };
}

function findPeers({ peers, parties, model }: Reachability, text: string, isSource: boolean): Peer[] {
  if (text === 'outside') return peers.filter(({ kind }) => kind === 'outside');
  if (text === 'nodes') return peers.filter(({ kind }) => kind === 'nodes');
  const reference = parseReference(text);
  switch (reference.kind) {
    case 'svc': {
      if (isSource) throw new UnresolvedReference(`'${text}': a Service sends nothing`);
      const service = findService(model.cluster, reference);
      const peer = peers.find((candidate) => candidate.service === service);
      if (peer !== undefined) return [peer];
      throw new UnresolvedReference(`'${text}' has no address of its own: name the pods behind it`);
    }
    case 'node': {
      const node = model.topology.nodeIndex.get(reference.name);
      if (node === undefined) throw new UnresolvedReference(`'${text}': there is no such node`);
      return [podPeer(`node/${reference.name}`, 'nodes', '', parties, [parties.pods + node], [reference.name])];
    }
    case 'address':
      return [addressPeer(peers, parties, reference)];
    default:
      return [workloadPeer(peers, parties, reference)];
  }
}

function workloadPeer(peers: readonly Peer[], parties: Parties, reference: Reference): Peer {
  const { endpoints } = parties.model.topology;
  const pods = findPods(parties.model.cluster, reference);
  const members = endpoints.flatMap(({ pod }, party) => (pods.includes(pod) ? [party] : []));
  if (members.length === 0) {
    const why = pods.length === 0 ? 'does not exist' : 'has no pod with an address of its own';
    throw new UnresolvedReference(`'${reference.text}' ${why}`);
  }
  const id = `${reference.kind}/${reference.namespace}/${reference.name}`;
  const whole = peers.find((peer) => peer.id === id && peer.members.length === members.length);
  if (whole !== undefined) return whole;
  const names = members.map((party) => endpoints[party]!.pod.metadata.name);
  return podPeer(id, 'workload', reference.namespace, parties, members, names);
}

/** The pod or node that owns an address; else the region of the outside that holds it. */
function addressPeer(peers: readonly Peer[], parties: Parties, { text, address }: Reference): Peer {
  const owner = parties.ownerOf(address!);
  if (owner >= 0) {
    const isPod = parties.kindOf(owner) === 'pod';
    const pod = isPod ? parties.model.topology.endpoints[owner]!.pod : null;
    const name = pod?.metadata.name ?? parties.model.topology.nodes[owner - parties.pods]!.metadata.name;
    const id = pod === null ? `node/${name}` : `pod/${pod.metadata.namespace}/${name}`;
    return podPeer(id, isPod ? 'workload' : 'nodes', pod?.metadata.namespace ?? '', parties, [owner], [name]);
  }
  let best = -1;
  let length = -1;
  parties.regions.forEach(({ family, prefix }, i) => {
    if (family !== address!.family || (prefix !== null && !inPrefix(address!, prefix))) return;
    if ((prefix?.length ?? 0) <= length) return;
    length = prefix?.length ?? 0;
    best = parties.pods + parties.nodes + i;
  });
  const found = peers.find(({ units }) => units.some(({ members }) => members.includes(best)));
  if (found === undefined) throw new UnresolvedReference(`'${text}' is neither in the cluster nor outside`);
  return found;
}
