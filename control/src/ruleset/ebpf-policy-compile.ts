/**
 * The policy part of a node's dumped maps (ebpf-policy-text.ts) as the engine's image. Endpoints are numbered as the dump
 * lists them, and the node itself is node 0; decisions lead to no rule, because a dump's words about it are not read.
 */
import {
  decisionWord,
  type EbpfPolicyParts,
  ID_NODE,
  ID_PEER,
  ID_WORDS,
  POLICY_JUDGES_HAIRPIN,
  POLICY_JUDGES_OWN_NODE,
  POLICY_KEEPS_FLOWS,
} from '@flatpath/engine/programs/ebpf-policy-image';
import { PORT_SLOTS, policyMapsParts, SLOT_OTHER } from '@flatpath/engine/tables/policy-map';
import type { AddressEntry } from '../compile/ebpf-identities.ts';
import { buildIpcache4, buildIpcache6, buildMaps, type MapEntries, sharedWords } from '../compile/ebpf-policy.ts';
import { IntervalPool } from '../compile/interval-pool.ts';
import type { PolicySubjects } from './ebpf-policy-structure.ts';
import type { DumpedAddress, DumpedEndpoint, DumpedGroup, DumpedPorts } from './ebpf-policy-text.ts';

export interface EbpfPolicyDump {
  /** By name, as Cilium's ConfigMap has them; the policy's are this project's own. */
  readonly options: ReadonlyMap<string, string>;
  readonly endpoints: readonly DumpedEndpoint[];
  readonly addresses: readonly DumpedAddress[];
  readonly groups: readonly DumpedGroup[];
}

/** @returns null for a dump without policies */
export function compileEbpfPolicyDump(dump: EbpfPolicyDump): EbpfPolicyParts | null {
  if (!hasPolicies(dump)) return null;
  const { addresses, identities } = numberIdentities(dump.addresses);
  const numbers = [...new Set(dump.groups.map(({ map }) => map))];
  const portMaps = new IntervalPool();
  const maps = numbers.map((number, i) => collectMap(dump.groups, number, i, portMaps));
  const mapOf = (number: number | null): number => (number === null ? -1 : numbers.indexOf(number));
  return {
    options: optionBits(dump.options),
    ipcache4: buildIpcache4(addresses),
    ipcache6: buildIpcache6(addresses),
    identities: sharedWords(identities),
    ingress: sharedWords(dump.endpoints.map(({ ingress }) => mapOf(ingress))),
    egress: sharedWords(dump.endpoints.map(({ egress }) => mapOf(egress))),
    maps: policyMapsParts(buildMaps(maps, portMaps)),
  };
}

/** Whom a dump's policies are about, for the structure of its image. */
export function dumpedSubjects(dump: EbpfPolicyDump): PolicySubjects {
  const endpoints = dump.endpoints.map(({ name }, number) => ({ name, number }));
  return { addresses: numberIdentities(dump.addresses).addresses, endpoints };
}

function hasPolicies({ options }: EbpfPolicyDump): boolean {
  return options.has('policy-known-flows');
}

function optionBits(options: ReadonlyMap<string, string>): number {
  let bits = 0;
  if (options.get('policy-own-node') === 'judged') bits |= POLICY_JUDGES_OWN_NODE;
  if (options.get('policy-hairpin') === 'judged') bits |= POLICY_JUDGES_HAIRPIN;
  if (options.get('policy-known-flows') === 'allowed') bits |= POLICY_KEEPS_FLOWS;
  return bits;
}

/** Rows of identities, one a peer and another where it is the node itself; row 0 is never found, as the dump has /0. */
function numberIdentities(given: readonly DumpedAddress[]): { addresses: AddressEntry[]; identities: number[] } {
  const identities: number[] = [];
  const addRow = (peer: number, node: number): number => {
    const row = identities.length / ID_WORDS;
    identities[row * ID_WORDS + ID_PEER] = peer;
    identities[row * ID_WORDS + ID_NODE] = node;
    return row;
  };
  addRow(0, -1);
  const rows = new Map<string, number>();
  const addresses = given.map(({ prefix, peer, isHost }) => {
    const key = `${peer} ${isHost}`;
    let identity = rows.get(key);
    if (identity === undefined) {
      identity = addRow(peer, isHost ? 0 : -1);
      rows.set(key, identity);
    }
    return { prefix, identity };
  });
  return { addresses, identities };
}

function collectMap(groups: readonly DumpedGroup[], number: number, map: number, portMaps: IntervalPool): MapEntries {
  let usual = -1;
  const own: number[] = [];
  for (const { map: of, peers, ports } of groups) {
    if (of !== number) continue;
    portMaps.begin();
    for (let slot = 0; slot < PORT_SLOTS + 1; slot++) addSlot(ports, slot, portMaps);
    const portMap = portMaps.end(map);
    if (peers === null) usual = portMap;
    else for (const peer of peers) own.push(peer, portMap);
  }
  return { usual, peers: own };
}

/** The ranges of a slot, and between them what the line without ports says. */
function addSlot(ports: readonly DumpedPorts[], slot: number, portMaps: IntervalPool): void {
  const rest = decisionWord(0, ports.find((line) => line.slot === null)?.denied ?? true);
  const ranges = ports.filter((line) => line.slot === slot && slot !== SLOT_OTHER);
  let next = 0;
  for (const { first, last, denied } of ranges.sort((a, b) => a.first - b.first)) {
    if (first > next) portMaps.sink(slot, next, rest);
    portMaps.sink(slot, first, decisionWord(0, denied));
    next = last + 1;
  }
  if (next <= 65_535) portMaps.sink(slot, next, rest);
}
