/**
 * Compiles the policies of a cluster into the ebpf mode's identities and policy maps (programs/ebpf-policy-image.ts).
 *
 *  1. Addresses get identities, identities that no rule tells apart a peer (ebpf-identities.ts).
 *  2. Endpoints that the same policies judge share a map; so do, for named ports of ingress rules, only those that give
 *     the names the same ports.
 *  3. In each map peers that the same rules match share a port map (ebpf-ports.ts). The port map that most peers have is the
 *     map's default; the others get an entry each.
 *
 * Work and size: linear in the rules' matches by peer, not by pod, and in maps × peers.
 */
import {
  decisionWord,
  type EbpfPolicyParts,
  POLICY_JUDGES_HAIRPIN,
  POLICY_JUDGES_OWN_NODE,
  POLICY_KEEPS_FLOWS,
} from '@flatpath/engine/programs/ebpf-policy-image';
import { createLpm4, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6, lpm6Insert } from '@flatpath/engine/tables/lpm6';
import {
  addInterval,
  createPolicyMaps,
  type PolicyMaps,
  policyMapsParts,
  setMapDefault,
  setMapPeer,
  takePortMap,
} from '@flatpath/engine/tables/policy-map';
import type { Cluster } from '../cluster/cluster.ts';
import type { Family } from '../model/address.ts';
import type { Pod } from '../model/pod.ts';
import type { PolicyModel } from '../policy/policy-model.ts';
import type { Judgement, JudgementOrder, PolicyRule } from '../policy/policy-rules.ts';
import type { PolicyProfile } from '../policy/profile.ts';
import { type AddressEntry, Identities, type IdentityEntry } from './ebpf-identities.ts';
import { type NamedPort, namesIn, type OrderedRules, PortLists, PortPainter, resolvedNames } from './ebpf-ports.ts';
import type { IdentityNumbers } from './identity-numbers.ts';
import { IntervalPool } from './interval-pool.ts';
import { Partition } from './partition.ts';
import type { ClusterTopology } from './topology.ts';

export interface CompiledEbpfPolicy {
  readonly parts: EbpfPolicyParts;
  /** By row of the engine's identities. */
  readonly identities: readonly IdentityEntry[];
  readonly addresses: readonly AddressEntry[];
  /** By row of a decision. */
  readonly judgements: readonly Judgement[];
}

/** Policies are the cluster's, whatever nodes an image covers: the images of a model share them. */
const compiled = new WeakMap<PolicyModel, CompiledEbpfPolicy | null>();

/** The policies of a model, compiled once. Null where no policy selects any pod. */
export function ebpfPolicyOf(model: {
  readonly cluster: Cluster;
  readonly topology: ClusterTopology;
  readonly policies: PolicyModel;
  readonly identities: IdentityNumbers;
}): CompiledEbpfPolicy | null {
  const known = compiled.get(model.policies);
  if (known !== undefined) return known;
  const made = compileEbpfPolicy(model.cluster, model.topology, model.policies, model.identities);
  compiled.set(model.policies, made);
  return made;
}

/**
 * @param topology of the cluster, whose endpoints and nodes the policies speak about
 * @returns null where no policy selects any pod
 */
export function compileEbpfPolicy(
  cluster: Cluster,
  topology: ClusterTopology,
  policies: PolicyModel,
  numbers: IdentityNumbers,
): CompiledEbpfPolicy | null {
  const orders = new Set([...policies.ingress, ...policies.egress]);
  orders.delete(null);
  if (orders.size === 0) return null;
  const rules = new Set<PolicyRule>();
  for (const order of orders) if (order !== null) for (const rule of rulesOf(order)) rules.add(rule);
  const lists = new PortLists();
  const identities = new Identities(cluster, topology, [...rules], lists, policies.profile.cidrMatchesCluster, numbers);
  const pods = topology.endpoints.map(({ pod }) => pod);
  const maps = new MapCollector(identities, lists);
  const ingress = policies.ingress.map((order, i) => maps.mapOf(order, pods[i]!));
  const egress = policies.egress.map((order, i) => maps.mapOf(order, pods[i]!));
  const { addresses } = identities;
  return {
    parts: {
      options: optionBits(policies.profile),
      ipcache4: buildIpcache4(addresses),
      ipcache6: buildIpcache6(addresses),
      identities: identities.words().buffer,
      ingress: sharedWords(ingress),
      egress: sharedWords(egress),
      maps: policyMapsParts(buildMaps(maps.maps, maps.portMaps)),
    },
    identities: identities.rows,
    addresses,
    judgements: maps.judgements,
  };
}

export function rulesOf({ admin, network, baseline }: JudgementOrder): PolicyRule[] {
  return [...admin, ...(network?.rules ?? []), ...baseline];
}

function optionBits({ ownNodeEgress, hairpin, establishedFlows }: PolicyProfile): number {
  let bits = 0;
  if (ownNodeEgress === 'judged') bits |= POLICY_JUDGES_OWN_NODE;
  if (hairpin === 'judged') bits |= POLICY_JUDGES_HAIRPIN;
  if (establishedFlows === 'kept') bits |= POLICY_KEEPS_FLOWS;
  return bits;
}

// ---- what there is ----------------------------------------------------------------------------------------------

/** A policy map before its table is sized. */
export interface MapEntries {
  readonly usual: number;
  /** Peers with a port map of their own, each followed by it. */
  readonly peers: readonly number[];
}

interface MapsOfOrder {
  /** Named ports of ingress rules, which each pod resolves for itself. */
  readonly names: readonly NamedPort[];
  /** By what these names mean. */
  readonly maps: Map<string, number>;
}

class MapCollector {
  readonly maps: MapEntries[] = [];
  readonly portMaps = new IntervalPool();
  readonly judgements: Judgement[] = [];
  private readonly identities: Identities;
  private readonly lists: PortLists;
  private readonly known = new Map<JudgementOrder, MapsOfOrder>();
  private readonly rowOfRule = new Map<PolicyRule, number>();
  /** Peers by what named ports of egress rules mean in their pods. */
  private readonly peersByNames: readonly (readonly number[])[];

  constructor(identities: Identities, lists: PortLists) {
    this.identities = identities;
    this.lists = lists;
    const groups = new Map<string, number[]>();
    identities.peers.forEach(({ names }, peer) => {
      const group = groups.get(names);
      if (group === undefined) groups.set(names, [peer]);
      else group.push(peer);
    });
    this.peersByNames = [...groups.values()];
  }

  /** Number of the map that judges a pod, -1 without an order. */
  mapOf(order: JudgementOrder | null, pod: Pod): number {
    if (order === null) return -1;
    let known = this.known.get(order);
    if (known === undefined) {
      known = { names: order.direction === 'ingress' ? namesIn(rulesOf(order), this.lists) : [], maps: new Map() };
      this.known.set(order, known);
    }
    const { names, maps } = known;
    const key = names.length === 0 ? '' : resolvedNames(pod, names);
    let map = maps.get(key);
    if (map === undefined) {
      map = this.maps.push(this.collect(order, pod)) - 1;
      maps.set(key, map);
    }
    return map;
  }

  private collect(order: JudgementOrder, pod: Pod): MapEntries {
    const { peers } = this.identities;
    const classes = new Partition(peers.length);
    const rules = this.orderRules(order);
    const isTarget = order.direction === 'egress' && namesIn(rules.rules, this.lists).length > 0;
    const matched = this.matchRules(rules, isTarget, classes);
    const painters = new Map<string, PortPainter>();
    const portMapOf: number[] = [];
    const counts = new Map<number, number>();
    for (let peer = 0; peer < peers.length; peer++) {
      const peerClass = classes.classOf[peer]!;
      if (portMapOf[peerClass] === undefined) {
        const names = isTarget ? peers[peer]!.names : '';
        let painter = painters.get(names);
        if (painter === undefined) {
          painter = new PortPainter(rules, this.lists, isTarget ? peers[peer]!.pod : pod);
          painters.set(names, painter);
        }
        this.portMaps.begin();
        painter.decide(matched[peerClass]!, this.portMaps.sink);
        portMapOf[peerClass] = this.portMaps.end(this.maps.length);
      }
      const portMap = portMapOf[peerClass];
      counts.set(portMap, (counts.get(portMap) ?? 0) + 1);
    }
    const usual = mostFrequent(counts);
    const own: number[] = [];
    for (let peer = 0; peer < peers.length; peer++) {
      const portMap = portMapOf[classes.classOf[peer]!]!;
      if (portMap !== usual) own.push(peer, portMap);
    }
    return { usual, peers: own };
  }

  private orderRules(order: JudgementOrder): OrderedRules {
    const rules = rulesOf(order);
    return {
      rules,
      admin: order.admin.length,
      decisions: rules.map((rule) => this.decisionOf(rule)),
      otherwise: decisionWord(this.addDefault(order), order.network !== null),
    };
  }

  /** Splits the peers until the same rules match all of a class; answers the positions of these rules by class. */
  private matchRules({ rules }: OrderedRules, isTarget: boolean, classes: Partition): number[][] {
    const matched: number[][] = [[]];
    if (isTarget) {
      for (const group of this.peersByNames) {
        classes.split(group, (from, to) => {
          matched[to] = [...matched[from]!];
        });
      }
    }
    rules.forEach((rule, position) => {
      const peers = this.identities.peersOf(rule.peer);
      if (peers === null) for (const list of matched) list.push(position);
      else {
        classes.split(peers, (from, to) => {
          if (to === from) matched[to]!.push(position);
          else matched[to] = [...matched[from]!, position];
        });
      }
    });
    return matched;
  }

  private decisionOf(rule: PolicyRule): number {
    let row = this.rowOfRule.get(rule);
    if (row === undefined) {
      const { direction, action, policy } = rule;
      const verdict = action === 'deny' ? 'denied' : 'allowed';
      row = this.judgements.push({ direction, verdict, rule, policies: [policy] }) - 1;
      this.rowOfRule.set(rule, row);
    }
    return decisionWord(row, rule.action === 'deny');
  }

  private addDefault({ direction, network, policies }: JudgementOrder): number {
    const judgement: Judgement =
      network === null
        ? { direction, verdict: 'allowed', rule: null, policies }
        : { direction, verdict: 'denied', rule: null, policies: network.isolating };
    return this.judgements.push(judgement) - 1;
  }
}

function mostFrequent(counts: ReadonlyMap<number, number>): number {
  let best = -1;
  for (const [value, count] of counts) if (best < 0 || count > counts.get(best)!) best = value;
  return best;
}

// ---- its tables -------------------------------------------------------------------------------------------------

export function buildMaps(maps: readonly MapEntries[], portMaps: IntervalPool): PolicyMaps {
  let peerEntries = 0;
  for (const { peers } of maps) peerEntries += peers.length / 2;
  const table = createPolicyMaps(maps.length, portMaps.portMaps, portMaps.intervals, peerEntries);
  maps.forEach(({ usual, peers }, map) => {
    setMapDefault(table, map, usual);
    for (let i = 0; i < peers.length; i += 2) setMapPeer(table, map, peers[i]!, peers[i + 1]!);
  });
  for (let i = 0; i < portMaps.portMaps; i++) {
    const portMap = takePortMap(table);
    portMaps.forEach(i, (slot, first, decision) => {
      addInterval(table, portMap, slot, first, decision);
    });
  }
  return table;
}

export function buildIpcache4(addresses: readonly AddressEntry[]): SharedArrayBuffer {
  const table = createLpm4(countFamily(addresses, 4));
  for (const { prefix, identity } of addresses) {
    if (prefix.family === 4) lpm4Insert(table, prefix.words[0], prefix.length, identity);
  }
  return table.buffer;
}

export function buildIpcache6(addresses: readonly AddressEntry[]): SharedArrayBuffer {
  const table = createLpm6(countFamily(addresses, 6));
  for (const { prefix, identity } of addresses) {
    const { family, words, length } = prefix;
    if (family === 6) lpm6Insert(table, words[0], words[1], words[2], words[3], length, identity);
  }
  return table.buffer;
}

function countFamily(addresses: readonly AddressEntry[], family: Family): number {
  return Math.max(addresses.filter(({ prefix }) => prefix.family === family).length, 1);
}

export function sharedWords(values: readonly number[]): SharedArrayBuffer {
  const words = new Int32Array(new SharedArrayBuffer(Math.max(values.length, 1) * 4));
  words.set(values);
  return words.buffer;
}
