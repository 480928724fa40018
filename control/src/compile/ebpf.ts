/**
 * Compiles a cluster's Services into the maps of the ebpf mode: one image for all nodes, both families.
 *
 *  1. Every ClusterIP, external IP and load balancer address of a service port is a frontend; a nodePort is one frontend
 *     with the address of all zeros. Of two frontends with one key the first Service by name has it.
 *  2. From outside a frontend uses externalTrafficPolicy (a ClusterIP internalTrafficPolicy); from pods and the host a
 *     ClusterIP uses internalTrafficPolicy, everything else all endpoints of the cluster.
 *  3. Rings are built for frontends that can be reached from outside, if the algorithm is Maglev.
 *  4. Topology hints are followed as kube-proxy follows them (Cilium: loadBalancer.serviceTopology).
 *
 * Policies are compiled beside it (ebpf-policy.ts).
 */

import {
  attachEbpfImage,
  EBPF_DSR,
  EBPF_EXTERNAL_CLUSTER_IP,
  EBPF_MASQUERADE,
  EBPF_NODE_PORT_RANGES,
  EBPF_SCTP,
  EBPF_SOCKET_LB,
  type EbpfImage,
  FE_AFFINITY_ID,
  FE_AFFINITY_MS,
  FE_EXTERNAL,
  FE_FLAGS,
  FE_HAS_BACKENDS,
  FE_HAS_RANGES,
  FE_INTERNAL,
  FE_IS_CLUSTER_IP,
  FE_IS_EXTERNAL_IP,
  FE_IS_LOAD_BALANCER,
  FE_IS_NODE_PORT,
  FE_RANGE,
  FE_RANGES,
  FE_ROW,
  FRONTEND_KEY_WORDS,
  FRONTEND_WORDS,
  frontendPort,
  RANGE_WORDS,
  SEL_COUNT,
  SEL_DIFFERS,
  SEL_FIRST,
  SEL_RING,
  SEL_RING_SIZE,
  SEL_WORDS,
} from '@flatpath/engine/programs/ebpf-image';
import { addBackend, type Backends, createBackends, setListEntry, takeList } from '@flatpath/engine/tables/backends';
import { mix32 } from '@flatpath/engine/tables/hash';
import {
  createHashTable,
  type HashTable,
  hashFind5,
  hashInsert2,
  hashInsert5,
  setRowValue,
} from '@flatpath/engine/tables/hash-table';
import { createLpm4, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6, lpm6Insert } from '@flatpath/engine/tables/lpm6';
import { buildRing, createMaglev, type Maglev, RING_SEED, ringSize, takeRing } from '@flatpath/engine/tables/maglev';
import type { Cluster } from '../cluster/cluster.ts';
import { type Address, type Family, type Prefix, parseAddressOrPrefix, type Words } from '../model/address.ts';
import { type DatapathConfig, isPrimaryOnly } from '../model/datapath.ts';
import { type Node, zoneOf } from '../model/node.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import type { CompiledEbpfPolicy } from './ebpf-policy.ts';
import {
  describeEbpfChooser,
  describeEbpfRow,
  type EbpfEntries,
  type EbpfRowText,
  ebpfMapName,
  type FrontendEntry,
  type FrontendKind,
  type RangeEntry,
} from './ebpf-rows.ts';
import { type BackendEntry, type CompiledNode, type SelectionEntry, Selections } from './ebpf-selections.ts';
import { selectEndpoints } from './endpoint-selection.ts';
import { listServicePorts, type ServicePortInfo } from './service-ports.ts';
import { nodeAddresses } from './topology.ts';

export interface CompiledEbpf extends EbpfEntries {
  readonly image: EbpfImage;
  /** Name of a map by its MAP_… number. */
  mapName(map: number): string;
  /** Text and origin of an EVENT_MAP row of 0 or more. */
  describeRow(map: number, row: number): EbpfRowText;
  /** Text and origin of the frontend that made an EVENT_CHOICE. */
  describeChooser(row: number): EbpfRowText;
  /** The judgement of a MAP_POLICY row. */
  judgementOf(row: number): Judgement | null;
}

export const KIND_FLAGS: Readonly<Record<FrontendKind, number>> = {
  ClusterIP: FE_IS_CLUSTER_IP,
  NodePort: FE_IS_NODE_PORT,
  ExternalIPs: FE_IS_EXTERNAL_IP,
  LoadBalancer: FE_IS_LOAD_BALANCER,
};

const ANY_ADDRESS: Words = [0, 0, 0, 0];
const FAMILIES: readonly Family[] = [4, 6];

/**
 * Compiles the maps of a cluster.
 * @param nodeNames nodes that the node part covers; nodes of a frame are positions in `cluster.nodes`
 * @param policy of the same cluster; null: no policy selects any pod
 * @throws RangeError for a maglevTableSize that is not allowed
 */
export function compileEbpf(
  cluster: Cluster,
  config: DatapathConfig,
  nodeNames: readonly string[],
  policy: CompiledEbpfPolicy | null = null,
): CompiledEbpf {
  const zones = numberZones(cluster);
  const collected = collectFrontends(cluster, config, new Selections(compiledNodes(cluster, nodeNames), zones));
  const { frontends, ranges, selections } = collected;
  const backends = createBackends(Math.max(selections.backends.length, 1), selections.listEntries);
  const nodeIndex = new Map(cluster.nodes.map((node, index) => [node.metadata.name, index]));
  for (const { endpoint, protocol } of selections.backends) writeBackend(backends, endpoint, protocol, nodeIndex);
  const rings = createRings(selections.selections, config);
  const image = attachEbpfImage({
    options: optionBits(config),
    frontends: buildFrontends(frontends, ranges).buffer,
    selections: buildSelections(selections.selections, backends, rings, config).buffer,
    nodeSelections: buildNodeSelections(selections).buffer,
    nodeZone: sharedWords(cluster.nodes.map((node) => zones.get(zoneOf(node)) ?? -1)).buffer,
    backends: backends.buffer,
    rings: rings.buffer,
    sourceRanges: buildRanges(ranges.map(({ range }) => range.prefix)).buffer,
    ...buildNodePortRanges(nodePortPrefixes(cluster, config)),
    policy: policy === null ? null : policy.parts,
  });
  const entries = { frontends, backends: selections.backends, selections: selections.selections, ranges, policy };
  return {
    ...entries,
    image,
    mapName: ebpfMapName,
    describeRow: (map, row) => describeEbpfRow(entries, cluster, map, row),
    describeChooser: (row) => describeEbpfChooser(entries, row),
    judgementOf: (row) => policy?.judgements[row] ?? null,
  };
}

// ---- what there is ----------------------------------------------------------------------------------------------

interface Collected {
  readonly frontends: FrontendEntry[];
  readonly ranges: RangeEntry[];
  readonly selections: Selections;
}

function collectFrontends(cluster: Cluster, config: DatapathConfig, selections: Selections): Collected {
  const collected: Collected = { frontends: [], ranges: [], selections };
  const isMaglev = config.ebpf.algorithm === 'maglev';
  for (const family of FAMILIES) {
    for (const port of listServicePorts(cluster, family)) {
      collectPort(collected, port, isMaglev, config.ebpf.externalClusterIP);
    }
  }
  return collected;
}

function collectPort(collected: Collected, port: ServicePortInfo, isMaglev: boolean, clusterIPOutside: boolean): void {
  const { selections } = collected;
  const sets: { cluster?: number; local?: number } = {};
  const internalPolicy = port.internalPolicyLocal ? 'local' : 'cluster';
  const externalPolicy = port.externalPolicyLocal ? 'local' : 'cluster';
  const setOf = (policy: 'cluster' | 'local'): number => {
    const outside =
      (port.externallyAccessible && policy === externalPolicy) || (clusterIPOutside && policy === internalPolicy);
    sets[policy] ??= selections.addSet(port, policy, isMaglev && outside);
    return sets[policy];
  };
  const add = (kind: FrontendKind, words: Words, portNumber: number, field: string): void => {
    const isClusterIP = kind === 'ClusterIP';
    const external = setOf(isClusterIP ? internalPolicy : externalPolicy);
    const internal = setOf(isClusterIP ? internalPolicy : 'cluster');
    collected.frontends.push({ port, kind, words, portNumber, field, external, internal });
  };

  add('ClusterIP', port.clusterIP.address.words, port.port, port.clusterIP.field);
  for (const vip of port.externalIPs) add('ExternalIPs', vip.address.words, port.port, vip.field);
  for (const vip of port.loadBalancerVIPs) add('LoadBalancer', vip.address.words, port.port, vip.field);
  if (port.nodePort !== 0) add('NodePort', ANY_ADDRESS, port.nodePort, `spec.ports[${port.portIndex}].nodePort`);
  if (port.loadBalancerVIPs.length > 0) {
    for (const range of port.sourceRanges) collected.ranges.push({ port, range });
  }
}

/** Zones of all nodes by name; a node without the label has none. */
function numberZones(cluster: Cluster): Map<string, number> {
  const zones = new Map<string, number>();
  for (const node of cluster.nodes) {
    const zone = zoneOf(node);
    if (zone !== '' && !zones.has(zone)) zones.set(zone, zones.size);
  }
  return zones;
}

function compiledNodes(cluster: Cluster, nodeNames: readonly string[]): Map<string, CompiledNode> {
  const wanted = new Set(nodeNames);
  const nodes = new Map<string, CompiledNode>();
  cluster.nodes.forEach((node, index) => {
    const { name } = node.metadata;
    if (!wanted.has(name)) return;
    nodes.set(name, { name, zone: zoneOf(node), index });
  });
  return nodes;
}

function optionBits(config: DatapathConfig): number {
  const { ebpf, pods, kubeProxy } = config;
  let bits = 0;
  if (ebpf.socketLB) bits |= EBPF_SOCKET_LB;
  if (ebpf.loadBalancerMode === 'dsr') bits |= EBPF_DSR;
  if (ebpf.externalClusterIP) bits |= EBPF_EXTERNAL_CLUSTER_IP;
  if (ebpf.sctp) bits |= EBPF_SCTP;
  if (pods.masqueradeOutbound) bits |= EBPF_MASQUERADE;
  if (kubeProxy.nodePortAddresses.length > 0) bits |= EBPF_NODE_PORT_RANGES;
  return bits;
}

// ---- its tables -------------------------------------------------------------------------------------------------

function buildFrontends(frontends: readonly FrontendEntry[], ranges: readonly RangeEntry[]): HashTable {
  const table = createHashTable(FRONTEND_KEY_WORDS, FRONTEND_WORDS, Math.max(frontends.length, 1));
  const firstRange = new Map<ServicePortInfo, number>();
  ranges.forEach(({ port }, i) => {
    if (!firstRange.has(port)) firstRange.set(port, i);
  });
  frontends.forEach((frontend, i) => {
    const { port, words } = frontend;
    const key = frontendPort(port.family, frontend.portNumber, port.protocolNumber);
    if (hashFind5(table, words[0], words[1], words[2], words[3], key) >= 0) return;
    const row = hashInsert5(table, words[0], words[1], words[2], words[3], key);
    const range = frontend.kind === 'LoadBalancer' ? firstRange.get(port) : undefined;
    let flags = KIND_FLAGS[frontend.kind];
    if (range !== undefined) flags |= FE_HAS_RANGES;
    if (hasBackends(port)) flags |= FE_HAS_BACKENDS;
    setRowValue(table, row, FE_ROW, i);
    setRowValue(table, row, FE_FLAGS, flags);
    setRowValue(table, row, FE_EXTERNAL, frontend.external);
    setRowValue(table, row, FE_INTERNAL, frontend.internal);
    setRowValue(table, row, FE_AFFINITY_MS, port.affinitySeconds * 1000);
    setRowValue(table, row, FE_AFFINITY_ID, frontendId(words, key));
    setRowValue(table, row, FE_RANGE, range ?? 0);
    setRowValue(table, row, FE_RANGES, range === undefined ? 0 : port.sourceRanges.length);
  });
  return table;
}

/** Some node can use an endpoint of the port. Every node's selection says the same; one that has none itself is asked. */
function hasBackends(port: ServicePortInfo): boolean {
  return selectEndpoints(port, { name: '\0', zone: '\0' }).hasAny;
}

function writeBackend(
  backends: Backends,
  endpoint: BackendEntry['endpoint'],
  protocol: number,
  nodeIndex: ReadonlyMap<string, number>,
): void {
  addBackendRow(backends, endpoint.address, endpoint.port, protocol, nodeIndex.get(endpoint.nodeName) ?? -1);
}

/** Adds a backend; its flags are a hash of what it is, the same in every image. */
export function addBackendRow(
  backends: Backends,
  { family, words }: Pick<Address, 'family' | 'words'>,
  port: number,
  protocol: number,
  node: number,
): void {
  const identity = hashWords([...words, frontendPort(family, port, protocol)]);
  addBackend(backends, words[0], words[1], words[2], words[3], port, node, -1, identity, 0);
}

function createRings(selections: readonly SelectionEntry[], config: DatapathConfig): Maglev {
  let entries = 0;
  for (const { hasRing, backends } of selections) {
    if (hasRing) entries += ringSize(backends.length, config.ebpf.maglevTableSize);
  }
  return createMaglev(Math.max(entries, 1));
}

function buildSelections(
  selections: readonly SelectionEntry[],
  backends: Backends,
  rings: Maglev,
  config: DatapathConfig,
): Int32Array<SharedArrayBuffer> {
  const words = new Int32Array(new SharedArrayBuffer(Math.max(selections.length, 1) * SEL_WORDS * 4));
  selections.forEach((selection, i) => {
    const first = takeList(backends, selection.backends.length);
    for (let entry = 0; entry < selection.backends.length; entry++) {
      setListEntry(backends, first, entry, selection.backends[entry]!);
    }
    const at = i * SEL_WORDS;
    words[at + SEL_FIRST] = first;
    words[at + SEL_COUNT] = selection.backends.length;
    words[at + SEL_RING] = -1;
    words[at + SEL_DIFFERS] = selection.differs;
    if (!selection.hasRing) return;
    const size = ringSize(selection.backends.length, config.ebpf.maglevTableSize);
    const ring = takeRing(rings, size);
    buildRing(rings, ring, size, ringNames(selection), null, RING_SEED);
    words[at + SEL_RING] = ring;
    words[at + SEL_RING_SIZE] = size;
  });
  return words;
}

function ringNames(selection: SelectionEntry): string[] {
  return selection.endpoints.map(({ text, ready }) => ringName(`${text}/${selection.port.protocol}`, ready));
}

/** A backend (`10.244.1.7:8080/TCP`, IPv6 in brackets) as Cilium names it for its rings. */
export function ringName(backend: string, isReady: boolean): string {
  return `[${backend},State:${isReady ? 'active' : 'terminating'}]`;
}

function buildNodeSelections(selections: Selections): HashTable {
  const table = createHashTable(2, 1, Math.max(selections.overrides.length, 1));
  for (const { set, node, selection } of selections.overrides) {
    setRowValue(table, hashInsert2(table, set, node), 0, selection);
  }
  return table;
}

export function buildRanges(ranges: readonly Prefix[]): Int32Array<SharedArrayBuffer> {
  const words = new Int32Array(new SharedArrayBuffer(Math.max(ranges.length, 1) * RANGE_WORDS * 4));
  ranges.forEach((prefix, i) => {
    words.set(prefix.words, i * RANGE_WORDS);
    for (let word = 0; word < 4; word++) words[i * RANGE_WORDS + 4 + word] = maskWord(prefix, word);
  });
  return words;
}

/** Words of an IPv4 prefix beyond the first must not be compared: they are 0 in every address. */
function maskWord(prefix: Prefix, word: number): number {
  const bits = prefix.length - word * 32;
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}

/** Prefixes of the node addresses that serve nodePorts; none: all addresses do. */
export function nodePortPrefixes(cluster: Cluster, config: DatapathConfig): Prefix[] {
  const { nodePortAddresses } = config.kubeProxy;
  const texts = isPrimaryOnly(nodePortAddresses) ? cluster.nodes.flatMap(primaryAddresses) : nodePortAddresses;
  return texts.map(parseAddressOrPrefix).filter((prefix): prefix is Prefix => prefix !== null);
}

/** A node's first address of each family. */
function primaryAddresses(node: Node): string[] {
  const own = nodeAddresses(node);
  return own.filter(({ family }, i) => own.findIndex((other) => other.family === family) === i).map(({ text }) => text);
}

/** A family of which no prefix is given is served on all of its addresses, as kube-proxy does it. */
export function buildNodePortRanges(prefixes: readonly Prefix[]): {
  nodePortRanges4: SharedArrayBuffer;
  nodePortRanges6: SharedArrayBuffer;
} {
  const own4 = prefixes.filter((prefix) => prefix.family === 4);
  const own6 = prefixes.filter((prefix) => prefix.family === 6);
  const ranges4 = createLpm4(Math.max(own4.length, 1), 4);
  const ranges6 = createLpm6(Math.max(own6.length, 1), 4);
  if (own4.length === 0) lpm4Insert(ranges4, 0, 0, 0);
  if (own6.length === 0) lpm6Insert(ranges6, 0, 0, 0, 0, 0, 0);
  for (const { words, length } of own4) lpm4Insert(ranges4, words[0], length, 0);
  for (const { words, length } of own6) lpm6Insert(ranges6, words[0], words[1], words[2], words[3], length, 0);
  return { nodePortRanges4: ranges4.buffer, nodePortRanges6: ranges6.buffer };
}

/** The frontend's FE_AFFINITY_ID: a hash of its key, the same in every image. */
export function frontendId(words: Words, key: number): number {
  return hashWords([...words, key]);
}

/** 0 to 2^31 - 1. */
function hashWords(words: readonly number[]): number {
  let hash = 0;
  for (const word of words) hash = mix32((Math.imul(hash, 31) + word) | 0);
  return hash & 0x7fffffff;
}

function sharedWords(values: readonly number[]): Int32Array<SharedArrayBuffer> {
  const words = new Int32Array(new SharedArrayBuffer(Math.max(values.length, 1) * 4));
  words.set(values);
  return words;
}
