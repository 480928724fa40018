/**
 * Identities of the ebpf mode: who every address is for the policies, and which of them no rule tells apart.
 *
 *  1. A pod's identity is the number of its label set: its labels and its namespace's, without those that Cilium leaves out
 *     by default (pkg/labelsfilter/filter.go), except where a loaded selector tells pods apart by them.
 *  2. A node is `remote-node` (6), to its own pods `host` (1). An address outside is that of the longest CIDR that a policy
 *     names (numbers from 2^24 on), else `world` (2).
 *  3. Where CIDRs match the cluster's own addresses, such an address is told apart by the longest CIDR that holds it too:
 *     one number, several rows.
 *  4. Rows that every rule treats alike share a *peer*, the number that policy maps are asked with.
 */
import { ID_NODE, ID_PEER, ID_WORDS } from '@flatpath/engine/programs/ebpf-policy-image';
import { createLpm4, type Lpm4, lpm4Find, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6, type Lpm6, lpm6Find, lpm6Insert } from '@flatpath/engine/tables/lpm6';
import type { Cluster } from '../cluster/cluster.ts';
import {
  type Address,
  type Family,
  inPrefix,
  makePrefix,
  type Prefix,
  parseAddress,
  type Words,
} from '../model/address.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { Pod } from '../model/pod.ts';
import { blockText, type PolicyPeer, type PolicyRule } from '../policy/policy-rules.ts';
import { namesIn, type PortLists, resolvedNames } from './ebpf-ports.ts';
import { LabelSets } from './identity-labels.ts';
import type { IdentityNumbers } from './identity-numbers.ts';
import { Partition } from './partition.ts';
import type { ClusterTopology } from './topology.ts';

export const IDENTITY_HOST = 1;
const NUMBER_WORLD = 2;
export const IDENTITY_REMOTE_NODE = 6;

/** A row of the identities. */
export interface IdentityEntry {
  readonly kind: 'world' | 'cidr' | 'node' | 'pod';
  readonly number: number;
  /** As Cilium writes them, in order. */
  readonly labels: readonly string[];
  /** The longest CIDR of a policy that holds the addresses of this row; null for none. */
  readonly prefix: Prefix | null;
  readonly peer: number;
  /** Position of the node whose addresses these are, -1 for others. */
  readonly node: number;
  /** What gives the addresses of this row their identity; null for the world. */
  readonly source: { readonly object: KubernetesObject; readonly field: string } | null;
}

/** An entry of the ipcache. */
export interface AddressEntry {
  readonly prefix: Prefix;
  /** Row of the identity. */
  readonly identity: number;
}

/** Identities that no rule tells apart. */
interface PeerMembers {
  /** A pod that has it: named ports mean the same in all of them. Null where it is no pod's. */
  readonly pod: Pod | null;
  /** What its pod makes of the named ports of egress rules; '' where it is no pod's. */
  readonly names: string;
}

type Block = Extract<PolicyPeer, { kind: 'block' }>;

const NO_PREFIX = -1;

/** All identities of a cluster under its rules. */
export class Identities {
  readonly rows: IdentityEntry[] = [];
  readonly addresses: AddressEntry[] = [];
  /** By number. */
  readonly peers: PeerMembers[] = [];
  private readonly topology: ClusterTopology;
  private readonly numbers: IdentityNumbers;
  private readonly rules: readonly PolicyRule[];
  private readonly podClasses: Partition;
  private readonly nodeClasses: Partition;
  private readonly prefixes: PolicyPrefixes;
  /** What named ports of egress rules mean in each endpoint. */
  private readonly names: readonly string[];
  private readonly peerNumbers = new Map<string, number>();
  private readonly peersOfPodClass: number[][] = [];
  private readonly peersOfNodeClass: number[][] = [];
  /** By the first prefix of a group, from NO_PREFIX on. */
  private readonly peersOfGroup: readonly number[][];
  private readonly matched = new Map<PolicyPeer, readonly number[] | null>();
  /** Of blocks by their text: many rules name the same one. */
  private readonly matchedBlocks = new Map<string, readonly number[]>();

  /**
   * @param rules all rules that judge some pod
   * @param cidrMatchesCluster of the profile
   */
  constructor(
    cluster: Cluster,
    topology: ClusterTopology,
    rules: readonly PolicyRule[],
    lists: PortLists,
    cidrMatchesCluster: boolean,
    numbers: IdentityNumbers,
  ) {
    this.topology = topology;
    this.numbers = numbers;
    this.rules = rules;
    this.podClasses = new Partition(topology.endpoints.length);
    this.nodeClasses = new Partition(topology.nodes.length);
    this.prefixes = new PolicyPrefixes(rules);
    this.peersOfGroup = [NO_PREFIX, ...this.prefixes.list].map(() => []);
    this.names = this.splitClasses(lists);
    this.addOutside();
    this.addNodes(cidrMatchesCluster);
    this.addPods(new LabelSets(cluster.namespaces), cidrMatchesCluster);
  }

  /** The identity rows as the engine reads them. */
  words(): Int32Array<SharedArrayBuffer> {
    const words = new Int32Array(new SharedArrayBuffer(this.rows.length * ID_WORDS * 4));
    this.rows.forEach(({ peer, node }, row) => {
      words[row * ID_WORDS + ID_PEER] = peer;
      words[row * ID_WORDS + ID_NODE] = node;
    });
    return words;
  }

  /** Numbers of the peers that a rule's peer matches; null for everybody. */
  peersOf(peer: PolicyPeer): readonly number[] | null {
    let found = this.matched.get(peer);
    if (found === undefined) {
      found = this.findPeers(peer);
      this.matched.set(peer, found);
    }
    return found;
  }

  private findPeers(peer: PolicyPeer): readonly number[] | null {
    switch (peer.kind) {
      case 'any':
        return null;
      case 'pods':
        return collect(peer.endpoints, this.podClasses.classOf, this.peersOfPodClass);
      case 'nodes':
        return collect(peer.nodes, this.nodeClasses.classOf, this.peersOfNodeClass);
      case 'block': {
        const text = blockText(peer);
        const known = this.matchedBlocks.get(text) ?? this.peersOfBlock(peer);
        this.matchedBlocks.set(text, known);
        return known;
      }
    }
  }

  private peersOfBlock(block: Block): readonly number[] {
    return this.prefixes.heldBy(block).flatMap((cover) => this.peersOfGroup[cover + 1]!);
  }

  /** Tells apart the pods and nodes that some rule tells apart; answers what named ports mean in each pod. */
  private splitClasses(lists: PortLists): string[] {
    const split = new Set<readonly number[]>();
    for (const { peer } of this.rules) {
      if (peer.kind === 'pods' && !split.has(peer.endpoints)) {
        this.podClasses.split(peer.endpoints, null);
        split.add(peer.endpoints);
      } else if (peer.kind === 'nodes' && !split.has(peer.nodes)) {
        this.nodeClasses.split(peer.nodes, null);
        split.add(peer.nodes);
      }
    }
    const names = namesIn(
      this.rules.filter(({ direction }) => direction === 'egress'),
      lists,
    );
    const { endpoints } = this.topology;
    if (names.length === 0) return endpoints.map(() => '');
    const resolved = endpoints.map(({ pod }) => resolvedNames(pod, names));
    for (const members of groupBy(resolved).values()) this.podClasses.split(members, null);
    return resolved;
  }

  private addOutside(): void {
    const outside = { prefix: null, node: -1, source: null };
    this.addRow(
      { kind: 'world', number: NUMBER_WORLD, labels: ['reserved:world'], ...outside },
      this.outsidePeer(NO_PREFIX),
    );
    this.prefixes.list.forEach((prefix, i) => {
      const number = this.numbers.numberOf('cidr', prefix.text);
      const source = this.prefixes.sources[i]!;
      const labels = [`cidr:${prefix.text}`, 'reserved:world'];
      const row = this.addRow({ kind: 'cidr', number, labels, prefix, node: -1, source }, this.outsidePeer(i));
      this.addresses.push({ prefix, identity: row });
    });
  }

  private addNodes(cidrMatchesCluster: boolean): void {
    const { nodes, nodeByAddress } = this.topology;
    const rows = new Map<string, number>();
    for (const [text, node] of nodeByAddress) {
      const prefix = hostPrefix(parseAddress(text)!);
      const cover = cidrMatchesCluster ? this.prefixes.coverOf(prefix) : NO_PREFIX;
      const key = `${node} ${cover}`;
      let row = rows.get(key);
      if (row === undefined) {
        const nodeClass = this.nodeClasses.classOf[node]!;
        const peer = this.peerNumber(`node ${nodeClass}`, cover, null, '', listAt(this.peersOfNodeClass, nodeClass));
        row = this.addRow(
          {
            kind: 'node',
            number: IDENTITY_REMOTE_NODE,
            labels: ['reserved:remote-node'],
            prefix: this.prefixes.list[cover] ?? null,
            node,
            source: { object: nodes[node]!, field: 'status.addresses' },
          },
          peer,
        );
        rows.set(key, row);
      }
      this.addresses.push({ prefix, identity: row });
    }
  }

  private addPods(labelSets: LabelSets, cidrMatchesCluster: boolean): void {
    const { endpoints, endpointByAddress, nodeByAddress } = this.topology;
    const { classOf } = this.podClasses;
    const labelsOf = labelSets.distinguish(
      endpoints.map(({ pod }) => pod),
      classOf,
    );
    const rows = new Map<string, number>();
    endpoints.forEach(({ pod, addresses }, endpoint) => {
      const podClass = classOf[endpoint]!;
      const { key: labelKey, labels } = labelsOf[endpoint]!;
      for (const address of addresses) {
        if (endpointByAddress.get(address.text) !== endpoint || nodeByAddress.has(address.text)) continue;
        const prefix = hostPrefix(address);
        const cover = cidrMatchesCluster ? this.prefixes.coverOf(prefix) : NO_PREFIX;
        const key = `${podClass} ${cover} ${labelKey}`;
        let row = rows.get(key);
        if (row === undefined) {
          const ofClass = listAt(this.peersOfPodClass, podClass);
          row = this.addRow(
            {
              kind: 'pod',
              number: this.numbers.numberOf('cluster', labelKey),
              labels,
              prefix: this.prefixes.list[cover] ?? null,
              node: -1,
              source: { object: pod, field: 'metadata.labels' },
            },
            this.peerNumber(`pod ${podClass}`, cover, pod, this.names[endpoint]!, ofClass),
          );
          rows.set(key, row);
        }
        this.addresses.push({ prefix, identity: row });
      }
    });
  }

  private outsidePeer(cover: number): number {
    return this.peerNumber('outside', cover, null, '', []);
  }

  /** @param ofClass peers of the class of pods or nodes, where a new one is noted */
  private peerNumber(kind: string, cover: number, pod: Pod | null, names: string, ofClass: number[]): number {
    const key = `${kind} ${this.prefixes.groupOf(cover)}`;
    let number = this.peerNumbers.get(key);
    if (number === undefined) {
      number = this.peers.push({ pod, names }) - 1;
      this.peerNumbers.set(key, number);
      ofClass.push(number);
      this.peersOfGroup[this.prefixes.groupOf(cover) + 1]!.push(number);
    }
    return number;
  }

  private addRow(parts: Omit<IdentityEntry, 'peer'>, peer: number): number {
    return this.rows.push({ ...parts, peer }) - 1;
  }
}

interface Source {
  readonly object: KubernetesObject;
  readonly field: string;
}

/** The CIDRs of all rules, exceptions too. An address's longest one says which of the others hold it. */
class PolicyPrefixes {
  /** In the order of addresses, shorter ones first: what a prefix holds follows it. */
  readonly list: readonly Prefix[];
  /** The rule's peer that names each of them first. */
  readonly sources: readonly Source[];
  private readonly positions: ReadonlyMap<string, number>;
  /** First prefix that the same blocks hold, NO_PREFIX where none does. */
  private readonly groups: readonly number[];
  private readonly table4: Lpm4;
  private readonly table6: Lpm6;

  constructor(rules: readonly PolicyRule[]) {
    const blocks = new Map<string, Block>();
    const found = new Map<string, { prefix: Prefix; source: Source }>();
    for (const { peer, policy, peerField } of rules) {
      if (peer.kind !== 'block') continue;
      blocks.set(blockKey(peer), peer);
      for (const given of [peer.prefix, ...peer.except]) {
        const prefix = makePrefix(given.family, given.words, given.length);
        if (!found.has(prefix.text)) found.set(prefix.text, { prefix, source: { object: policy, field: peerField } });
      }
    }
    const sorted = [...found.values()].sort((a, b) => comparePrefixes(a.prefix, b.prefix));
    this.list = sorted.map(({ prefix }) => prefix);
    this.sources = sorted.map(({ source }) => source);
    this.positions = new Map(this.list.map(({ text }, i) => [text, i]));
    this.groups = this.groupPrefixes([...blocks.values()]);
    this.table4 = createLpm4(this.count(4));
    this.table6 = createLpm6(this.count(6));
    this.list.forEach(({ family, words, length }, i) => {
      if (family === 4) lpm4Insert(this.table4, words[0], length, i);
      else lpm6Insert(this.table6, words[0], words[1], words[2], words[3], length, i);
    });
  }

  /** Number of the longest prefix that holds a host's address; NO_PREFIX for none. */
  coverOf({ family, words }: Pick<Address, 'family' | 'words'>): number {
    if (family === 4) return lpm4Find(this.table4, words[0]);
    return lpm6Find(this.table6, words[0], words[1], words[2], words[3]);
  }

  /** The number that stands for all prefixes that the same blocks hold. */
  groupOf(cover: number): number {
    return cover === NO_PREFIX ? NO_PREFIX : this.groups[cover]!;
  }

  /** The prefixes whose own addresses (those that no longer one holds) a block matches. */
  heldBy({ prefix, except }: Block): number[] {
    const held: number[] = [];
    for (let i = this.positions.get(prefix.text)!; i < this.list.length && inPrefix(this.list[i]!, prefix); i++) {
      const candidate = this.list[i]!;
      if (!except.some((other) => candidate.length >= other.length && inPrefix(candidate, other))) held.push(i);
    }
    return held;
  }

  private groupPrefixes(blocks: readonly Block[]): number[] {
    const groups = new Partition(this.list.length);
    const isHeld = new Uint8Array(this.list.length);
    for (const block of blocks) {
      const held = this.heldBy(block);
      groups.split(held, null);
      for (const i of held) isHeld[i] = 1;
    }
    const first = new Map<number, number>();
    return this.list.map((_, i) => {
      if (isHeld[i] === 0) return NO_PREFIX;
      const group = groups.classOf[i]!;
      if (!first.has(group)) first.set(group, i);
      return first.get(group)!;
    });
  }

  private count(family: Family): number {
    return Math.max(this.list.filter((prefix) => prefix.family === family).length, 1);
  }
}

/** By family and address, then shorter ones first. */
function comparePrefixes(a: Prefix, b: Prefix): number {
  if (a.family !== b.family) return a.family - b.family;
  for (let word = 0; word < 4; word++) {
    const difference = (a.words[word]! >>> 0) - (b.words[word]! >>> 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function hostPrefix({ family, words }: { family: Family; words: Words }): Prefix {
  return makePrefix(family, words, family === 4 ? 32 : 128);
}

function blockKey({ prefix, except }: Block): string {
  return [prefix, ...except].map(({ text }) => text).join(' ');
}

/** Peers of all classes that have a member in the list. */
function collect(members: readonly number[], classOf: Int32Array, peers: readonly (readonly number[])[]): number[] {
  const found: number[] = [];
  for (const memberClass of new Set(members.map((member) => classOf[member]!))) {
    found.push(...(peers[memberClass] ?? []));
  }
  return found;
}

function groupBy(values: readonly string[]): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  values.forEach((value, i) => {
    const group = groups.get(value);
    if (group === undefined) groups.set(value, [i]);
    else group.push(i);
  });
  return groups;
}

function listAt(lists: number[][], index: number): number[] {
  lists[index] ??= [];
  return lists[index];
}
