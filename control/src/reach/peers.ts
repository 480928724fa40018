/**
 * Peers: the rows and columns of a reachability matrix. Pods by workload, nodes that no policy tells apart together, the
 * regions of the outside, and Services (which are columns only).
 */

import type { Service } from '../model/service.ts';
import type { Frontend } from './frontends.ts';
import type { Parties } from './parties.ts';
import { workloadId, workloadOf } from './workload.ts';

export type PeerKind = 'workload' | 'nodes' | 'outside' | 'service';

/** Parties of one class within a peer. */
export interface Unit {
  readonly class: number;
  readonly members: readonly number[];
  /** Members on each node, by node number ascending; of the outside none. */
  readonly nodes: readonly number[];
  readonly counts: readonly number[];
  readonly membersOn: readonly (readonly number[])[];
}

export interface Peer {
  readonly kind: PeerKind;
  /** `deploy/shop/cart`, `node/worker-1`, `nodes`, `203.0.113.0/24`, `outside`, `svc/shop/cart`; unique. */
  readonly id: string;
  readonly namespace: string;
  /** Names of the pods or nodes; empty for the outside and Services. */
  readonly members: readonly string[];
  /** Empty for a Service. */
  readonly units: readonly Unit[];
  /** Of a Service, else empty. */
  readonly frontends: readonly Frontend[];
  readonly service: Service | null;
}

/** In order: workloads by namespace, nodes, the outside, Services. */
export function listPeers(parties: Parties, frontends: readonly Frontend[]): Peer[] {
  return [...workloadPeers(parties), ...nodePeers(parties), ...outsidePeers(parties), ...servicePeers(frontends)];
}

function workloadPeers(parties: Parties): Peer[] {
  const groups = new Map<string, { namespace: string; members: number[] }>();
  parties.model.topology.endpoints.forEach(({ pod }, party) => {
    const workload = workloadOf(pod);
    const id = workloadId(workload);
    const group = groups.get(id);
    if (group === undefined) groups.set(id, { namespace: workload.namespace, members: [party] });
    else group.members.push(party);
  });
  const peers = [...groups].map(([id, { namespace, members }]): Peer => {
    const names = members.map((party) => parties.model.topology.endpoints[party]!.pod.metadata.name);
    return { ...partyPeer('workload', id, parties, members), namespace, members: names };
  });
  return peers.sort((a, b) => compare(a.namespace, b.namespace) || compare(a.id, b.id));
}

function nodePeers(parties: Parties): Peer[] {
  const classes = new Map<number, number[]>();
  for (let node = 0; node < parties.nodes; node++) {
    const party = parties.pods + node;
    const own = classes.get(parties.classOf[party]!);
    if (own === undefined) classes.set(parties.classOf[party]!, [party]);
    else own.push(party);
  }
  return [...classes.values()].map((members) => {
    const names = members.map((party) => parties.model.topology.nodes[party - parties.pods]!.metadata.name);
    const all = members.length === parties.nodes && members.length > 1;
    const id = all ? 'nodes' : members.length === 1 ? `node/${names[0]}` : `nodes/${names[0]}+${names.length - 1}`;
    return { ...partyPeer('nodes', id, parties, members), members: names };
  });
}

/** Regions that nothing tells apart are one peer: the rest of the world in both families. */
function outsidePeers(parties: Parties): Peer[] {
  const first = parties.pods + parties.nodes;
  const rest: number[] = [];
  const peers: Peer[] = [];
  parties.regions.forEach(({ prefix }, i) => {
    if (prefix === null) rest.push(first + i);
    else peers.push(partyPeer('outside', prefix.text, parties, [first + i]));
  });
  return rest.length === 0 ? peers : [...peers, partyPeer('outside', 'outside', parties, rest)];
}

function servicePeers(frontends: readonly Frontend[]): Peer[] {
  const groups = new Map<Service, Frontend[]>();
  for (const frontend of frontends) {
    const own = groups.get(frontend.info.service);
    if (own === undefined) groups.set(frontend.info.service, [frontend]);
    else own.push(frontend);
  }
  return [...groups].map(([service, own]) => {
    const { namespace, name } = service.metadata;
    return {
      kind: 'service',
      id: `svc/${namespace}/${name}`,
      namespace,
      members: [],
      units: [],
      frontends: own,
      service,
    };
  });
}

/** A peer of some pods or nodes that are asked for by themselves. */
export function podPeer(
  id: string,
  kind: PeerKind,
  namespace: string,
  parties: Parties,
  members: readonly number[],
  names: readonly string[],
): Peer {
  return { ...partyPeer(kind, id, parties, members), namespace, members: names };
}

function partyPeer(kind: PeerKind, id: string, parties: Parties, members: readonly number[]): Peer {
  const classes = new Map<number, number[]>();
  for (const party of members) {
    const own = classes.get(parties.classOf[party]!);
    if (own === undefined) classes.set(parties.classOf[party]!, [party]);
    else own.push(party);
  }
  const units = [...classes].map(([number, own]) => makeUnit(number, own, parties));
  return { kind, id, namespace: '', members: [], units, frontends: [], service: null };
}

function makeUnit(number: number, members: readonly number[], parties: Parties): Unit {
  const on = new Map<number, number[]>();
  for (const party of members) {
    const node = parties.nodeOf(party);
    const own = on.get(node);
    if (own === undefined) on.set(node, [party]);
    else own.push(party);
  }
  const nodes = [...on.keys()].filter((node) => node >= 0).sort((a, b) => a - b);
  const membersOn = nodes.map((node) => on.get(node)!);
  return { class: number, members, nodes, counts: membersOn.map((own) => own.length), membersOn };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
