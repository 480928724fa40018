/**
 * The structure of a node's policies in ebpf mode: what each of its pods answers to every address, without the numbers of
 * maps, peers and identities that a compile hands out.
 */
import { type EbpfPolicy, ID_NODE, ID_PEER, ID_WORDS, isDenied } from '@flatpath/engine/programs/ebpf-policy-image';
import {
  findPortMap,
  firstInterval,
  intervalDecision,
  intervalStart,
  type PolicyMaps,
  SLOT_OTHER,
} from '@flatpath/engine/tables/policy-map';
import type { AddressEntry } from '../compile/ebpf-identities.ts';
import type { ClusterTopology } from '../compile/topology.ts';

/** Whom a node's policies are about. */
export interface PolicySubjects {
  /** Entries of the ipcache. */
  readonly addresses: readonly AddressEntry[];
  /** The node's pods by their addresses, and their numbers in the image. */
  readonly endpoints: readonly { readonly name: string; readonly number: number }[];
}

/** The subjects of a compiled cluster on one of its nodes. */
export function policySubjects(
  addresses: readonly AddressEntry[],
  topology: ClusterTopology,
  node: number,
): PolicySubjects {
  const endpoints = topology.endpoints.flatMap((endpoint, number) =>
    endpoint.node === node ? [{ name: endpoint.addresses.map(({ text }) => text).join(','), number }] : [],
  );
  return { addresses, endpoints };
}

/** The structure as lines: options, pods, then every address with what each map of the node answers to it. */
export function describeEbpfPolicy(policy: EbpfPolicy, node: number, subjects: PolicySubjects): string[] {
  const mapNumbers = new Map<number, number>();
  const nameMap = (map: number): string => {
    if (map === -1) return '-';
    if (!mapNumbers.has(map)) mapNumbers.set(map, mapNumbers.size);
    return `${mapNumbers.get(map)}`;
  };
  const endpoints = [...subjects.endpoints].sort((a, b) => (a.name < b.name ? -1 : 1));
  const pods = endpoints.map(
    ({ name, number }) => `pod ${name} ${nameMap(policy.ingress[number]!)} ${nameMap(policy.egress[number]!)}`,
  );
  const maps = [...mapNumbers.keys()];
  const answers = new Map<number, string>();
  const describePeer = (peer: number): string => {
    let answer = answers.get(peer);
    if (answer === undefined) {
      answer = maps.map((map) => describePortMap(policy.maps, findPortMap(policy.maps, map, peer))).join(' | ');
      answers.set(peer, answer);
    }
    return answer;
  };
  const addresses = withWorld(subjects.addresses).map(({ prefix, identity }) => {
    const isOwn = policy.identities[identity * ID_WORDS + ID_NODE] === node;
    return `${prefix.text}${isOwn ? ' host' : ''}: ${describePeer(policy.identities[identity * ID_WORDS + ID_PEER]!)}`;
  });
  return [`policy options ${policy.options}`, ...pods, ...addresses.sort()];
}

/** Row 0 answers for what no entry holds: an entry of its own makes two ipcaches comparable. */
function withWorld(
  addresses: readonly AddressEntry[],
): readonly { readonly prefix: { readonly text: string }; readonly identity: number }[] {
  const texts = new Set(addresses.map(({ prefix }) => prefix.text));
  const missing = ['0.0.0.0/0', '::/0'].filter((text) => !texts.has(text));
  // The last of two entries of one prefix is the one that the table holds.
  const last = new Map(addresses.map((entry) => [entry.prefix.text, entry]));
  return [...last.values(), ...missing.map((text) => ({ prefix: { text }, identity: 0 }))];
}

function describePortMap(maps: PolicyMaps, portMap: number): string {
  const slots: string[] = [];
  for (let slot = 0; slot <= SLOT_OTHER; slot++) {
    const parts: string[] = [];
    let verdict = '';
    for (let i = firstInterval(maps, portMap, slot); i < firstInterval(maps, portMap, slot + 1); i++) {
      const next = isDenied(intervalDecision(maps, i)) ? 'deny' : 'allow';
      if (next !== verdict) parts.push(`${intervalStart(maps, i)} ${next}`);
      verdict = next;
    }
    slots.push(parts.join(', '));
  }
  return slots.join('; ');
}
