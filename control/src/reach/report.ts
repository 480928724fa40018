/**
 * A reachability matrix as people and programs get it: what was asked, the peers, the distinct cells, and for each source
 * the number of its cell toward each target.
 *
 * Complete: every port of every protocol of every pair is in some row of its cell. The same input gives the same report.
 */

import type { ClusterModel } from '../compile/image.ts';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { JudgementOrder } from '../policy/policy-rules.ts';
import { type CellAnswer, type CellRow, Cells, type Outcome } from './cells.ts';
import { type ReachFilter, type Selection, selectPeers } from './filter.ts';
import { restrictRows } from './filter-ports.ts';
import type { Peer } from './peers.ts';
import type { Reachability } from './reachability.ts';

export interface PolicyName {
  readonly kind: string;
  /** '' for a policy of the whole cluster. */
  readonly namespace: string;
  readonly name: string;
}

/** Where a port of a Service leads. */
export interface LeadsTo {
  /** Id of a workload or node peer; the address itself where it is nobody's. */
  readonly peer: string;
  readonly port: number;
  readonly endpoints: number;
}

export interface ServicePortReport {
  readonly name: string;
  readonly protocol: string;
  readonly port: number;
  readonly nodePort: number | null;
  readonly leadsTo: readonly LeadsTo[];
}

export interface PeerReport {
  readonly id: string;
  readonly kind: Peer['kind'];
  readonly namespace: string;
  /** Pods of a workload, nodes of a node peer. */
  readonly members: readonly string[];
  /** Positions in `policies` of those that isolate some of the pods. */
  readonly isolatedBy: { readonly ingress: readonly number[]; readonly egress: readonly number[] };
  readonly ports: readonly ServicePortReport[];
}

export interface OutcomeReport {
  readonly verdict: string;
  readonly reason: string;
  /** Pairs that fare so; left out where all do. */
  readonly pairs?: number;
  /** True where a Service sends it to several backends and some of them are reached. */
  readonly partly?: true;
  /** The pod's direction whose policies denied it. */
  readonly denied?: 'ingress' | 'egress';
  /** Position in `policies` of the one whose rule denied, and the rule's field; left out where no rule matched. */
  readonly policy?: number;
  readonly field?: string;
}

export interface RowReport {
  /** Left out where both families are alike. */
  readonly family?: 4 | 6;
  readonly via?: string;
  readonly protocol: string;
  readonly first: number;
  readonly last: number;
  readonly outcomes: readonly OutcomeReport[];
}

export interface ReachReport {
  readonly version: 1;
  readonly mode: Mode;
  readonly profile: string;
  readonly counts: {
    readonly pods: number;
    readonly nodes: number;
    readonly services: number;
    readonly policies: number;
    readonly packets: number;
  };
  readonly policies: readonly PolicyName[];
  readonly peers: readonly PeerReport[];
  /** Positions in `peers`. */
  readonly sources: readonly number[];
  readonly targets: readonly number[];
  readonly cells: readonly (readonly RowReport[])[];
  /** Of each source, of each target: position in `cells`; -1 where the filter leaves the pair out. */
  readonly matrix: readonly Int32Array[];
}

/** The mode where none is asked for: the cluster's own where its ConfigMaps tell and this build runs it, else ebpf. */
export function reachMode(model: ClusterModel): Mode {
  const own = model.cluster.defaults.modes?.[0];
  return own !== undefined && BUILT_MODES.includes(own) ? own : 'ebpf';
}

/** Makes a report, a step for each source, so that a caller can show progress or let others have their turn. */
export function* reportSteps(reach: Reachability, filter: ReachFilter): Generator<void, ReachReport> {
  const selection = selectPeers(reach, filter);
  const policies = new PolicyList();
  const cells = new Cells();
  /** By the number of the cell that it was made of. */
  const restricted: (CellAnswer | undefined)[] = [];
  const matrix: Int32Array[] = [];
  for (const { source, cells: own } of reach.rows(selection.sources, selection.targets)) {
    const row = new Int32Array(own.length).fill(-1);
    for (let i = 0; i < own.length; i++) {
      if (!selection.keeps(source, selection.targets[i]!)) continue;
      const cell = own[i]!;
      let shown = restricted[cell.number];
      if (shown === undefined) {
        shown = cells.add(restrictRows(cell.rows, filter.ports));
        restricted[cell.number] = shown;
      }
      row[i] = shown.number;
    }
    matrix.push(row);
    yield;
  }
  return {
    ...describePeers(reach, selection, policies),
    cells: cells.all.map(({ rows }) => rows.map((row) => describeRow(row, policies))),
    policies: policies.names,
    matrix,
  };
}

function describePeers(
  reach: Reachability,
  { sources, targets }: Selection,
  policies: PolicyList,
): Omit<ReachReport, 'cells' | 'matrix' | 'policies'> {
  const { model, mode, evaluator, parties } = reach;
  const peers = [...new Set([...sources, ...targets])];
  const positions = new Map(peers.map((peer, i) => [peer, i]));
  const named = new PeerNames(reach);
  return {
    version: 1,
    mode,
    profile: model.policies.profile.name,
    counts: {
      pods: parties.pods,
      nodes: parties.nodes,
      services: model.cluster.services.length,
      policies: countPolicies(model),
      packets: evaluator.packets,
    },
    peers: peers.map((peer) => describePeer(peer, reach, policies, named)),
    sources: sources.map((peer) => positions.get(peer)!),
    targets: targets.map((peer) => positions.get(peer)!),
  };
}

/** Policies that select a pod, and those whose rules nobody is under. */
function countPolicies({ policies }: ClusterModel): number {
  const found = new Set(policies.rules.map(({ policy }) => policy));
  for (const order of new Set([...policies.ingress, ...policies.egress])) {
    for (const policy of order?.policies ?? []) found.add(policy);
  }
  return found.size;
}

function describePeer(peer: Peer, reach: Reachability, policies: PolicyList, named: PeerNames): PeerReport {
  const { id, kind, namespace, members } = peer;
  const isolating = (direction: 'ingress' | 'egress'): number[] => {
    const found = new Set<KubernetesObject>();
    for (const unit of peer.units) {
      const order: JudgementOrder | null = reach.rules.orderOf(direction, unit.class);
      for (const policy of order?.network?.isolating ?? []) found.add(policy);
    }
    return [...found].map((policy) => policies.numberOf(policy));
  };
  return {
    id,
    kind,
    namespace,
    members,
    isolatedBy: { ingress: isolating('ingress'), egress: isolating('egress') },
    ports: describePorts(peer, named),
  };
}

function describePorts({ frontends }: Peer, named: PeerNames): ServicePortReport[] {
  const ports = new Map<number, ServicePortReport>();
  for (const { info } of frontends) {
    if (ports.has(info.portIndex)) continue;
    const { name } = info.service.spec.ports[info.portIndex]!;
    const leads = new Map<string, LeadsTo>();
    for (const { address, port } of info.endpoints) {
      const peer = named.of(address.text);
      const key = `${peer} ${port}`;
      leads.set(key, { peer, port, endpoints: (leads.get(key)?.endpoints ?? 0) + 1 });
    }
    const { protocol, port, nodePort } = info;
    ports.set(info.portIndex, {
      name,
      protocol,
      port,
      nodePort: nodePort === 0 ? null : nodePort,
      leadsTo: [...leads.values()],
    });
  }
  return [...ports.values()];
}

/** Which peer an address belongs to. */
class PeerNames {
  private readonly reach: Reachability;
  private readonly ids = new Map<number, string>();

  constructor(reach: Reachability) {
    this.reach = reach;
    for (const { id, units } of reach.peers) {
      for (const { members } of units) for (const party of members) this.ids.set(party, id);
    }
  }

  of(address: string): string {
    const { endpointByAddress, nodeByAddress } = this.reach.model.topology;
    const node = nodeByAddress.get(address);
    const party = node === undefined ? endpointByAddress.get(address) : this.reach.parties.pods + node;
    return (party === undefined ? undefined : this.ids.get(party)) ?? address;
  }
}

function describeRow({ family, via, protocol, first, last, outcomes }: CellRow, policies: PolicyList): RowReport {
  return {
    ...(family !== 0 && { family }),
    ...(via !== null && { via }),
    protocol,
    first,
    last,
    outcomes: outcomes.map((outcome) => describeOutcome(outcome, policies)),
  };
}

function describeOutcome({ verdict, reason, pairs, partly, denial }: Outcome, policies: PolicyList): OutcomeReport {
  return {
    verdict,
    reason,
    ...(pairs !== null && { pairs }),
    ...(partly && { partly }),
    ...(denial !== null && { denied: denial.direction }),
    ...(denial !== null &&
      denial.rule !== null && { policy: policies.numberOf(denial.rule.policy), field: denial.rule.field }),
  };
}

class PolicyList {
  readonly names: PolicyName[] = [];
  private readonly numbers = new Map<KubernetesObject, number>();

  numberOf(policy: KubernetesObject): number {
    let number = this.numbers.get(policy);
    if (number === undefined) {
      const { kind, metadata } = policy;
      number = this.names.length;
      this.names.push({ kind, namespace: metadata.namespace, name: metadata.name });
      this.numbers.set(policy, number);
    }
    return number;
  }
}
