/**
 * A node's eBPF maps as text, one section per map, headed by the command that lists the map on a real node.
 *
 * Guarantees: read from the very tables that packets meet, so what is printed is what decides; the same cluster and
 * configuration print the same bytes. Ids are positions, from 1 on; a real node hands out others.
 *
 *     config --all            the options that decide how the maps are used
 *     bpf lb list             a line per frontend (slot 0: its flags) and one per backend slot; `/i` marks the internal
 *                             scope of a frontend whose pods and host use other backends than the outside does;
 *                             `elsewhere`: none here, but other nodes have backends, so packets are not rejected
 *     bpf lb maglev list      how many places each backend has in a frontend's ring, not the ring itself
 *     bpf ipcache list        pods without an identity: identities come with policy (ebpf-policy-render.ts)
 *     bpf ct list, nat list   empty: a rendered node has seen no packet
 */
import {
  EBPF_DSR,
  EBPF_EXTERNAL_CLUSTER_IP,
  EBPF_MASQUERADE,
  EBPF_NODE_PORT_RANGES,
  EBPF_SCTP,
  EBPF_SOCKET_LB,
  type EbpfImage,
  FE_AFFINITY_MS,
  FE_FLAGS,
  FE_HAS_BACKENDS,
  FE_HAS_RANGES,
  FE_ROW,
  SEL_BY_NODE,
  SEL_BY_ZONE,
  SEL_COUNT,
  SEL_DIFFERS,
  SEL_FIRST,
  SEL_RING,
  SEL_RING_SIZE,
  SEL_WORDS,
  zoneKey,
} from '@flatpath/engine/programs/ebpf-image';
import { listEntry } from '@flatpath/engine/tables/backends';
import { hashFind2, nextRow, rowValue } from '@flatpath/engine/tables/hash-table';
import { lpm4Find } from '@flatpath/engine/tables/lpm4';
import { lpm6Find } from '@flatpath/engine/tables/lpm6';
import type { Cluster } from '../cluster/cluster.ts';
import type { Address, Prefix } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import { hasEnded } from '../model/pod.ts';
import { type CompiledEbpf, compileEbpf, nodePortPrefixes } from './ebpf.ts';
import { ebpfPolicyOf } from './ebpf-policy.ts';
import { renderEbpfPolicy } from './ebpf-policy-render.ts';
import { type FrontendEntry, formatBackend, formatFrontend } from './ebpf-rows.ts';
import type { ClusterModel } from './image.ts';
import { nodeAddresses, podAddresses } from './topology.ts';

/** A frontend as one node serves it. */
interface ServedFrontend {
  readonly entry: FrontendEntry;
  /** Position in `CompiledEbpf.frontends`, and the table's row. */
  readonly row: number;
  readonly at: number;
  /** Address and port as text; one line set for each. */
  readonly addresses: readonly string[];
  readonly external: number;
  readonly internal: number;
}

type Line = readonly string[];

/**
 * The maps of a node.
 * @param nodeName a node of the cluster
 * @param model of the cluster, for its policies; null leaves them out
 * @returns text that ends with a line feed
 */
export function renderEbpf(
  cluster: Cluster,
  config: DatapathConfig,
  nodeName: string,
  model: ClusterModel | null = null,
): string {
  const maps = compileEbpf(cluster, config, [nodeName]);
  const node = cluster.nodes.findIndex(({ metadata }) => metadata.name === nodeName);
  const own = nodeAddresses(cluster.nodes[node]!);
  const served = serveFrontends(maps, node, own);
  const policy = model && ebpfPolicyOf(model);
  const policyText = model && policy && renderEbpfPolicy(policy, model.topology, node);
  const sections: [string, Line[]][] = [
    ['config --all', [...optionLines(maps.image, nodePortPrefixes(cluster, config)), ...(policyText?.options ?? [])]],
    ['bpf lb list', serviceLines(maps, served)],
    ['bpf lb list --backends', backendLines(maps)],
    ['bpf lb list --revnat', served.map(({ entry, row }) => [`${row + 1}`, revnatAddress(entry)])],
    ['bpf lb list --source-ranges', rangeLines(maps, served)],
    ['bpf lb maglev list', maglevLines(maps, served)],
    ['bpf lb affinity list', affinityLines(maps, served)],
    ...(policyText?.sections ?? [['bpf ipcache list', ipcacheLines(cluster, node)] satisfies [string, Line[]]]),
    ['bpf ct list global', []],
    ['bpf nat list', []],
  ];
  return sections.map(([command, lines]) => `# cilium-dbg ${command}\n${alignColumns(lines)}`).join('\n');
}

/** Frontends that the table holds, in the order in which they were compiled. */
function serveFrontends({ image, frontends }: CompiledEbpf, node: number, own: readonly Address[]): ServedFrontend[] {
  const served: ServedFrontend[] = [];
  const rows: [number, number][] = [];
  for (let at = nextRow(image.frontends, -1); at >= 0; at = nextRow(image.frontends, at)) {
    rows.push([rowValue(image.frontends, at, FE_ROW), at]);
  }
  rows.sort(([a], [b]) => a - b);
  for (const [row, at] of rows) {
    const entry = frontends[row]!;
    served.push({
      entry,
      row,
      at,
      addresses: frontendAddresses(image, entry, own),
      external: selectionOf(image, entry.external, node),
      internal: selectionOf(image, entry.internal, node),
    });
  }
  return served;
}

/** A nodePort is listed for the address of all zeros and for each address of the node that serves it. */
function frontendAddresses(image: EbpfImage, entry: FrontendEntry, own: readonly Address[]): string[] {
  const { port, words, portNumber, kind } = entry;
  const texts = [formatFrontend(port.family, words, portNumber, port.protocol)];
  if (kind !== 'NodePort') return texts;
  for (const address of own) {
    if (address.family !== port.family || !servesNodePorts(image, address)) continue;
    texts.push(formatFrontend(port.family, address.words, portNumber, port.protocol));
  }
  return texts;
}

function servesNodePorts(image: EbpfImage, { family, words }: Address): boolean {
  if ((image.options & EBPF_NODE_PORT_RANGES) === 0) return true;
  if (family === 4) return lpm4Find(image.nodePortRanges4, words[0]) >= 0;
  return lpm6Find(image.nodePortRanges6, words[0], words[1], words[2], words[3]) >= 0;
}

/** The selection that a node uses of a set, as the program finds it. */
function selectionOf(image: EbpfImage, set: number, node: number): number {
  const differs = selectionWord(image, set, SEL_DIFFERS);
  let found = -1;
  if ((differs & SEL_BY_NODE) !== 0) found = hashFind2(image.nodeSelections, set, node);
  if (found < 0 && (differs & SEL_BY_ZONE) !== 0) {
    found = hashFind2(image.nodeSelections, set, zoneKey(image.nodeZone[node]!));
  }
  return found < 0 ? set : rowValue(image.nodeSelections, found, 0);
}

function selectionWord(image: EbpfImage, selection: number, word: number): number {
  return image.selections[selection * SEL_WORDS + word]!;
}

function selectionBackends(image: EbpfImage, selection: number): number[] {
  const first = selectionWord(image, selection, SEL_FIRST);
  const count = selectionWord(image, selection, SEL_COUNT);
  return Array.from({ length: count }, (_, i) => listEntry(image.backends, first, i));
}

// ---- sections ---------------------------------------------------------------------------------------------------

/** Names as in Cilium's ConfigMap. */
function optionLines({ options }: EbpfImage, nodePorts: readonly Prefix[]): Line[] {
  const isOn = (bit: number): string => ((options & bit) === 0 ? 'false' : 'true');
  const lines: Line[] = [
    ['bpf-lb-sock', isOn(EBPF_SOCKET_LB)],
    ['bpf-lb-mode', (options & EBPF_DSR) === 0 ? 'snat' : 'dsr'],
    ['bpf-lb-external-clusterip', isOn(EBPF_EXTERNAL_CLUSTER_IP)],
    ['enable-sctp', isOn(EBPF_SCTP)],
    ['enable-ipv4-masquerade', isOn(EBPF_MASQUERADE)],
  ];
  if ((options & EBPF_NODE_PORT_RANGES) === 0) return lines;
  return [...lines, ['nodeport-addresses', nodePorts.map(({ text }) => text).join(',')]];
}

function serviceLines(maps: CompiledEbpf, served: readonly ServedFrontend[]): Line[] {
  const lines: Line[] = [['SERVICE ADDRESS', 'BACKEND ADDRESS (REVNAT_ID) (SLOT)']];
  for (const frontend of served) {
    const twoScopes = frontend.external !== frontend.internal;
    for (const address of frontend.addresses) {
      lines.push(...scopeLines(maps, frontend, address, frontend.external, twoScopes));
      if (twoScopes) lines.push(...scopeLines(maps, frontend, `${address}/i`, frontend.internal, twoScopes));
    }
  }
  return lines;
}

function scopeLines(
  maps: CompiledEbpf,
  frontend: ServedFrontend,
  address: string,
  selection: number,
  twoScopes: boolean,
): Line[] {
  const { entry, row } = frontend;
  const nothing = entry.port.family === 4 ? '0.0.0.0:0' : '[::]:0';
  const lines: Line[] = [
    [`${address} (0)`, `${nothing} (${row + 1}) (0) [${flagNames(maps.image, frontend, twoScopes)}]`],
  ];
  selectionBackends(maps.image, selection).forEach((backend, i) => {
    lines.push([`${address} (${i + 1})`, `${formatBackend(maps.backends[backend]!)} (${row + 1}) (${i + 1})`]);
  });
  return lines;
}

function flagNames(image: EbpfImage, frontend: ServedFrontend, twoScopes: boolean): string {
  const { entry, at, external, internal } = frontend;
  const { kind, port } = entry;
  const names: string[] = [kind];
  if (kind === 'ClusterIP') {
    if (port.internalPolicyLocal) names.push('InternalLocal');
  } else if (port.externalPolicyLocal) names.push('Local');
  if (twoScopes) names.push('two-scopes');
  if (isServedElsewhere(image, at, external, internal)) names.push('elsewhere');
  if (port.affinitySeconds > 0) names.push('sessionAffinity');
  if (hasRanges(image, at)) names.push('check source-range');
  if (kind === 'ClusterIP') names.push('non-routable');
  return names.join(', ');
}

function isServedElsewhere(image: EbpfImage, at: number, external: number, internal: number): boolean {
  const count = selectionWord(image, external, SEL_COUNT) + selectionWord(image, internal, SEL_COUNT);
  return count === 0 && (rowValue(image.frontends, at, FE_FLAGS) & FE_HAS_BACKENDS) !== 0;
}

function hasRanges(image: EbpfImage, at: number): boolean {
  return (rowValue(image.frontends, at, FE_FLAGS) & FE_HAS_RANGES) !== 0;
}

function backendLines({ backends }: CompiledEbpf): Line[] {
  const lines: Line[] = [['ID', 'BACKEND ADDRESS', 'STATE']];
  backends.forEach((backend, i) => {
    lines.push([`${i + 1}`, formatBackend(backend), backend.endpoint.ready ? 'active' : 'terminating']);
  });
  return lines;
}

function revnatAddress({ port, words, portNumber }: FrontendEntry): string {
  return formatFrontend(port.family, words, portNumber, port.protocol);
}

function rangeLines({ image }: CompiledEbpf, served: readonly ServedFrontend[]): Line[] {
  const lines: Line[] = [['SOURCE RANGE', 'REVNAT_ID']];
  for (const { entry, row, at } of served) {
    if (!hasRanges(image, at)) continue;
    for (const { prefix } of entry.port.sourceRanges) lines.push([prefix.text, `${row + 1}`]);
  }
  return lines;
}

function maglevLines({ image, backends }: CompiledEbpf, served: readonly ServedFrontend[]): Line[] {
  const lines: Line[] = [['REVNAT_ID', 'SIZE', 'PLACES']];
  for (const { row, external } of served) {
    const ring = selectionWord(image, external, SEL_RING);
    if (ring < 0) continue;
    const size = selectionWord(image, external, SEL_RING_SIZE);
    const list = selectionBackends(image, external);
    const places = new Array<number>(list.length).fill(0);
    for (let i = 0; i < size; i++) places[image.rings.entries[ring + i]!]!++;
    const shares = list.map((backend, i) => `${formatBackend(backends[backend]!)} ${places[i]}`);
    lines.push([`${row + 1}`, `${size}`, shares.join(', ')]);
  }
  return lines;
}

function affinityLines({ image }: CompiledEbpf, served: readonly ServedFrontend[]): Line[] {
  const lines: Line[] = [['REVNAT_ID', 'TIMEOUT', 'CLIENTS']];
  for (const { row, at } of served) {
    const ms = rowValue(image.frontends, at, FE_AFFINITY_MS);
    if (ms > 0) lines.push([`${row + 1}`, `${ms / 1000}s`, '0']);
  }
  return lines;
}

function ipcacheLines(cluster: Cluster, self: number): Line[] {
  const lines: Line[] = [['IP PREFIX/ADDRESS', 'IDENTITY']];
  const nodeIndex = new Map(cluster.nodes.map((node, index) => [node.metadata.name, index]));
  const endpointOf = (index: number): string => {
    const first = nodeAddresses(cluster.nodes[index]!)[0];
    return index === self || first === undefined ? '0.0.0.0' : first.text;
  };
  cluster.nodes.forEach((node, index) => {
    const identity = index === self ? 'identity=1 (host)' : 'identity=6 (remote-node)';
    for (const address of nodeAddresses(node)) lines.push([hostPrefix(address), identity]);
  });
  for (const pod of cluster.pods) {
    if (pod.spec.hostNetwork || hasEnded(pod)) continue;
    const index = nodeIndex.get(pod.spec.nodeName) ?? 0;
    for (const address of podAddresses(pod)) {
      lines.push([
        hostPrefix(address),
        `tunnelendpoint=${endpointOf(index)} ${pod.metadata.namespace}/${pod.metadata.name}`,
      ]);
    }
  }
  lines.push(['0.0.0.0/0', 'identity=2 (world)'], ['::/0', 'identity=2 (world)']);
  return lines;
}

function hostPrefix(address: Address): string {
  return `${address.text}/${address.family === 4 ? 32 : 128}`;
}

/** Columns three spaces apart; the last is not padded. */
function alignColumns(lines: readonly Line[]): string {
  const widths: number[] = [];
  for (const line of lines) {
    line.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  let text = '';
  for (const line of lines) {
    text += `${line.map((cell, i) => (i === line.length - 1 ? cell : cell.padEnd(widths[i]!))).join('   ')}\n`;
  }
  return text;
}
