/**
 * A node's identities and policy maps as text; nothing of it where no policy selects any pod of the cluster.
 *
 *     endpoint list       the node's pods and the maps that judge their two directions, `-` for none
 *     identity list       the label set of every identity number
 *     bpf ipcache list    address or CIDR -> identity, and its peer: identities that no rule tells apart share one
 *     bpf policy get      the maps, a block of lines for the peers that a map treats alike; `*` are all others. A line
 *                         without ports (ANY) is for what the lines above it leave; the last column lists the peers
 */
import {
  IDENTITY_WORLD,
  isDenied,
  judgementRow,
  POLICY_JUDGES_HAIRPIN,
  POLICY_JUDGES_OWN_NODE,
  POLICY_KEEPS_FLOWS,
} from '@flatpath/engine/programs/ebpf-policy-image';
import { nextRow, rowKey, rowValue } from '@flatpath/engine/tables/hash-table';
import {
  attachPolicyMaps,
  firstInterval,
  intervalDecision,
  intervalStart,
  mapDefault,
  PORT_SLOTS,
  type PolicyMaps,
  SLOT_OTHER,
} from '@flatpath/engine/tables/policy-map';
import { IDENTITY_HOST } from './ebpf-identities.ts';
import type { CompiledEbpfPolicy } from './ebpf-policy.ts';
import { judgementReason } from './ebpf-rows.ts';
import type { ClusterTopology } from './topology.ts';

type Line = readonly string[];

const SLOT_NAMES = ['TCP', 'UDP', 'SCTP'];
const LAST_PORT = 65_535;

/** Sections of a node, and lines of its options. */
export interface PolicyText {
  readonly options: Line[];
  readonly sections: [string, Line[]][];
}

/** @param node position of the node in the topology */
export function renderEbpfPolicy(policy: CompiledEbpfPolicy, topology: ClusterTopology, node: number): PolicyText {
  const ingress = new Int32Array(policy.parts.ingress);
  const egress = new Int32Array(policy.parts.egress);
  const local = topology.endpoints.flatMap((endpoint, i) => (endpoint.node === node ? [i] : []));
  const used = new Map<number, string>();
  for (const i of local) {
    if (ingress[i] !== -1) used.set(ingress[i]!, 'ingress');
    if (egress[i] !== -1) used.set(egress[i]!, 'egress');
  }
  const endpoints = local.map((i) => {
    const { pod, addresses } = topology.endpoints[i]!;
    const ips = addresses.map(({ text }) => text).join(',');
    const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
    return [`${i + 1}`, mapText(ingress[i]!), mapText(egress[i]!), ips, name];
  });
  return {
    options: optionLines(policy.parts.options),
    sections: [
      ['endpoint list', [['ENDPOINT', 'INGRESS', 'EGRESS', 'IPS', 'POD'], ...endpoints]],
      ['identity list', identityLines(policy)],
      ['bpf ipcache list', ipcacheLines(policy, topology, node)],
      ['bpf policy get --all', policyLines(policy, used)],
    ],
  };
}

function mapText(map: number): string {
  return map === -1 ? '-' : `${map + 1}`;
}

function optionLines(options: number): Line[] {
  const judged = (bit: number): string => ((options & bit) === 0 ? 'allowed' : 'judged');
  return [
    ['policy-own-node', judged(POLICY_JUDGES_OWN_NODE)],
    ['policy-hairpin', judged(POLICY_JUDGES_HAIRPIN)],
    ['policy-known-flows', (options & POLICY_KEEPS_FLOWS) === 0 ? 'judged' : 'allowed'],
  ];
}

function identityLines({ identities }: CompiledEbpfPolicy): Line[] {
  const byNumber = new Map<number, string>([[IDENTITY_HOST, 'reserved:host']]);
  for (const { number, labels } of identities) byNumber.set(number, labels.join(' '));
  const sorted = [...byNumber].sort(([a], [b]) => a - b);
  return [['ID', 'LABELS'], ...sorted.map(([number, labels]) => [`${number}`, labels])];
}

function ipcacheLines({ identities, addresses }: CompiledEbpfPolicy, topology: ClusterTopology, self: number): Line[] {
  const lines: Line[] = [['IP PREFIX/ADDRESS', 'IDENTITY', 'PEER', 'NODE OR POD']];
  // A CIDR of a policy may be the very address of a pod or node, whose entry comes behind it.
  const last = new Map(addresses.map((entry) => [entry.prefix.text, entry]));
  for (const { prefix, identity } of last.values()) {
    const { kind, number, node, peer } = identities[identity]!;
    const ownNumber = node === self ? IDENTITY_HOST : number;
    const address = prefix.text.slice(0, prefix.text.lastIndexOf('/'));
    const pod = kind === 'pod' ? topology.endpoints[topology.endpointByAddress.get(address)!]!.pod.metadata : null;
    const owner = pod === null ? (topology.nodes[node]?.metadata.name ?? '-') : `${pod.namespace}/${pod.name}`;
    lines.push([prefix.text, `${ownNumber}`, `${peer}`, owner]);
  }
  const world = identities[IDENTITY_WORLD]!;
  for (const text of ['0.0.0.0/0', '::/0']) {
    if (last.has(text)) continue;
    lines.push([text, `${world.number}`, `${world.peer}`, '-']);
  }
  return lines;
}

/** @param used maps of the node's pods, and their directions */
function policyLines(policy: CompiledEbpfPolicy, used: ReadonlyMap<number, string>): Line[] {
  const lines: Line[] = [['MAP', 'DIRECTION', 'POLICY', 'PORT/PROTO', 'BY', 'PEERS']];
  const maps = attachPolicyMaps(policy.parts.maps);
  const peersOf = collectPeers(maps, used);
  for (const [map, direction] of [...used].sort(([a], [b]) => a - b)) {
    const groups = [...peersOf.get(map)!].sort(([, a], [, b]) => a[0]! - b[0]!);
    for (const [portMap, peers] of groups) {
      lines.push(...portLines(policy, maps, portMap, `${map + 1}`, direction, peers.join(',')));
    }
    lines.push(...portLines(policy, maps, mapDefault(maps, map), `${map + 1}`, direction, '*'));
  }
  return lines;
}

/** Peers of each port map that is not a map's default, ascending. */
function collectPeers(maps: PolicyMaps, used: ReadonlyMap<number, string>): Map<number, Map<number, number[]>> {
  const found = new Map<number, Map<number, number[]>>();
  for (const map of used.keys()) found.set(map, new Map());
  for (let row = nextRow(maps.peers, -1); row >= 0; row = nextRow(maps.peers, row)) {
    const groups = found.get(rowKey(maps.peers, row, 0));
    if (groups === undefined) continue;
    const portMap = rowValue(maps.peers, row, 0);
    const peers = groups.get(portMap);
    if (peers === undefined) groups.set(portMap, [rowKey(maps.peers, row, 1)]);
    else peers.push(rowKey(maps.peers, row, 1));
  }
  for (const groups of found.values()) for (const peers of groups.values()) peers.sort((a, b) => a - b);
  return found;
}

/** What differs from what has no ports, then that. */
function portLines(
  { judgements }: CompiledEbpfPolicy,
  maps: PolicyMaps,
  portMap: number,
  map: string,
  direction: string,
  peers: string,
): Line[] {
  const lines: Line[] = [];
  const add = (decision: number, ports: string): void => {
    const verdict = isDenied(decision) ? 'Deny' : 'Allow';
    lines.push([map, direction, verdict, ports, judgementReason(judgements[judgementRow(decision)]!), peers]);
  };
  const other = intervalDecision(maps, firstInterval(maps, portMap, SLOT_OTHER));
  for (let slot = 0; slot < PORT_SLOTS; slot++) {
    const end = firstInterval(maps, portMap, slot + 1);
    for (let i = firstInterval(maps, portMap, slot); i < end; i++) {
      const decision = intervalDecision(maps, i);
      const last = i + 1 < end ? intervalStart(maps, i + 1) - 1 : LAST_PORT;
      if (decision !== other) add(decision, `${rangeText(intervalStart(maps, i), last)}/${SLOT_NAMES[slot]}`);
    }
  }
  add(other, 'ANY');
  return lines;
}

function rangeText(first: number, last: number): string {
  if (first === 0 && last === LAST_PORT) return 'ANY';
  return first === last ? `${first}` : `${first}-${last}`;
}
