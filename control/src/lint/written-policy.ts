/**
 * The policies of all kinds in one shape, as they were written: selectors stay selectors, so that rules can be compared
 * whatever pods there are. The policies resolved for pods are in policy/; nothing here judges a packet.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type Prefix, parsePrefix } from '../model/address.ts';
import type { AdminNetworkPolicy } from '../model/admin-network-policy.ts';
import type { AdminPolicyPeer } from '../model/admin-policy-peers.ts';
import type { AdminPolicyPort } from '../model/admin-policy-port.ts';
import type { BaselineAdminNetworkPolicy } from '../model/baseline-admin-network-policy.ts';
import type { ClusterNetworkPolicy, ClusterPolicyProtocol } from '../model/cluster-network-policy.ts';
import type { LabelSelector } from '../model/label-selector.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { NetworkPolicy } from '../model/network-policy.ts';
import type { Protocol } from '../model/port.ts';
import { comparePolicies } from '../policy/ambiguity.ts';
import type { Direction, PolicyAction, PolicyPort, PolicyTier } from '../policy/policy-rules.ts';
import { isolates } from '../policy/resolve-network-policy.ts';

/** Pods by selectors. */
export interface PodScope {
  readonly field: string;
  /** One namespace by name, or those that a selector takes. */
  readonly namespaces: string | LabelSelector;
  readonly pods: LabelSelector;
}

export type WrittenPeer =
  | { readonly kind: 'any'; readonly field: string }
  | { readonly kind: 'pods'; readonly field: string; readonly scope: PodScope }
  | { readonly kind: 'nodes'; readonly field: string; readonly selector: LabelSelector }
  | { readonly kind: 'block'; readonly field: string; readonly prefix: Prefix; readonly except: readonly Prefix[] }
  /** A peer that flatpath does not resolve, such as a domain name. */
  | { readonly kind: 'other'; readonly field: string };

export type WrittenPort = PolicyPort & { readonly field: string };

export interface WrittenRule {
  readonly field: string;
  readonly direction: Direction;
  readonly action: PolicyAction;
  readonly peers: readonly WrittenPeer[];
  /** Null: everything. */
  readonly ports: readonly WrittenPort[] | null;
}

export interface WrittenPolicy {
  readonly policy: KubernetesObject;
  readonly tier: PolicyTier;
  /** 0 for a NetworkPolicy; what has none in the Baseline tier comes last. */
  readonly priority: number;
  readonly subject: PodScope;
  /** Null: the policy says nothing about the direction. */
  readonly ingress: readonly WrittenRule[] | null;
  readonly egress: readonly WrittenRule[] | null;
}

/** All of a cluster, in the order in which a packet meets them. */
export function writtenPolicies(cluster: Cluster): WrittenPolicy[] {
  const older = [...cluster.adminNetworkPolicies, ...cluster.baselineAdminNetworkPolicies];
  const ofCluster = [...cluster.clusterNetworkPolicies.map(clusterPolicy), ...older.map(adminPolicy)];
  const ofTier = (tier: PolicyTier): WrittenPolicy[] => ofCluster.filter((own) => own.tier === tier).sort(byPriority);
  return [...ofTier('admin'), ...cluster.networkPolicies.map(networkPolicy), ...ofTier('baseline')];
}

function byPriority(a: WrittenPolicy, b: WrittenPolicy): number {
  // The one without a number comes last.
  if (a.priority !== b.priority) return a.priority < b.priority ? -1 : 1;
  return comparePolicies(a.policy, b.policy);
}

// ---- NetworkPolicy -----------------------------------------------------------------------------------------------

type NetworkRule = NonNullable<NetworkPolicy['spec']['ingress']>[number];
type NetworkPeer = NonNullable<NetworkRule['from']>[number];
type NetworkPort = NonNullable<NetworkRule['ports']>[number];

function networkPolicy(policy: NetworkPolicy): WrittenPolicy {
  const { spec, metadata } = policy;
  const rule = (direction: Direction, index: number, peers: readonly NetworkPeer[], ports: readonly NetworkPort[]) => {
    const field = `spec.${direction}[${index}]`;
    const list = `${field}.${direction === 'ingress' ? 'from' : 'to'}`;
    return {
      field,
      direction,
      action: 'accept' as const,
      peers:
        peers.length === 0
          ? [{ kind: 'any' as const, field }]
          : peers.map((peer, position) => networkPeer(peer, `${list}[${position}]`, metadata.namespace)),
      ports:
        ports.length === 0 ? null : ports.map((port, position) => networkPort(port, `${field}.ports[${position}]`)),
    };
  };
  return {
    policy,
    tier: 'network',
    priority: 0,
    subject: { field: 'spec.podSelector', namespaces: metadata.namespace, pods: spec.podSelector },
    ingress: isolates(policy, 'ingress')
      ? (spec.ingress ?? []).map(({ from, ports }, index) => rule('ingress', index, from ?? [], ports ?? []))
      : null,
    egress: isolates(policy, 'egress')
      ? (spec.egress ?? []).map(({ to, ports }, index) => rule('egress', index, to ?? [], ports ?? []))
      : null,
  };
}

function networkPeer({ ipBlock, ...selectors }: NetworkPeer, field: string, home: string): WrittenPeer {
  if (ipBlock !== undefined) {
    return block(`${field}.ipBlock`, ipBlock.cidr, ipBlock.except ?? []);
  }
  const namespaces = selectors.namespaceSelector ?? home;
  return { kind: 'pods', field, scope: { field, namespaces, pods: selectors.podSelector ?? {} } };
}

function block(field: string, cidr: string, except: readonly string[]): WrittenPeer {
  return { kind: 'block', field, prefix: parsePrefix(cidr)!, except: except.map((text) => parsePrefix(text)!) };
}

function networkPort({ protocol, port, endPort }: NetworkPort, field: string): WrittenPort {
  if (typeof port === 'string') return { kind: 'named', field, protocol, name: port };
  if (port === undefined) return { kind: 'range', field, protocol, first: 0, last: 65_535 };
  return { kind: 'range', field, protocol, first: port, last: endPort ?? port };
}

// ---- policies of the cluster -------------------------------------------------------------------------------------

function clusterPolicy(policy: ClusterNetworkPolicy): WrittenPolicy {
  const { spec } = policy;
  const tier = spec.tier === 'Admin' ? 'admin' : 'baseline';
  return {
    policy,
    tier,
    priority: spec.priority,
    subject: subjectOf(spec.subject),
    ingress: rulesOf(
      'ingress',
      spec.ingress.map(({ from, ...rule }) => ({ ...rule, peers: from })),
      (rule, field) =>
        rule.protocols?.flatMap((port, position) => clusterPorts(port, `${field}.protocols[${position}]`)),
    ),
    egress: rulesOf(
      'egress',
      spec.egress.map(({ to, ...rule }) => ({ ...rule, peers: to })),
      (rule, field) =>
        rule.protocols?.flatMap((port, position) => clusterPorts(port, `${field}.protocols[${position}]`)),
    ),
  };
}

function adminPolicy(policy: AdminNetworkPolicy | BaselineAdminNetworkPolicy): WrittenPolicy {
  const { spec } = policy;
  const ports = (rule: { ports?: readonly AdminPolicyPort[] }, field: string) =>
    rule.ports?.map((port, position) => adminPort(port, `${field}.ports[${position}]`));
  return {
    policy,
    tier: policy.kind === 'AdminNetworkPolicy' ? 'admin' : 'baseline',
    priority: 'priority' in spec ? spec.priority : Number.POSITIVE_INFINITY,
    subject: subjectOf(spec.subject),
    ingress: rulesOf(
      'ingress',
      spec.ingress.map(({ from, ...rule }) => ({ ...rule, peers: from })),
      ports,
    ),
    egress: rulesOf(
      'egress',
      spec.egress.map(({ to, ...rule }) => ({ ...rule, peers: to })),
      ports,
    ),
  };
}

const ACTIONS = { Accept: 'accept', Allow: 'accept', Deny: 'deny', Pass: 'pass' } as const;

function rulesOf<R extends { action: keyof typeof ACTIONS; peers: readonly AdminPolicyPeer[] }>(
  direction: Direction,
  rules: readonly R[],
  portsOf: (rule: R, field: string) => readonly WrittenPort[] | undefined,
): WrittenRule[] | null {
  if (rules.length === 0) return null;
  return rules.map((rule, index) => {
    const field = `spec.${direction}[${index}]`;
    const list = `${field}.${direction === 'ingress' ? 'from' : 'to'}`;
    const ports = portsOf(rule, field) ?? [];
    return {
      field,
      direction,
      action: ACTIONS[rule.action],
      peers: rule.peers.flatMap((peer, position) => adminPeers(peer, `${list}[${position}]`)),
      ports: ports.length === 0 ? null : ports,
    };
  });
}

function subjectOf(subject: AdminPolicyPeer): PodScope {
  return podScope(subject, 'spec.subject') ?? { field: 'spec.subject', namespaces: {}, pods: {} };
}

function podScope({ namespaces, pods }: AdminPolicyPeer, field: string): PodScope | null {
  if (namespaces !== undefined) return { field: `${field}.namespaces`, namespaces, pods: {} };
  if (pods === undefined) return null;
  return { field: `${field}.pods`, namespaces: pods.namespaceSelector ?? {}, pods: pods.podSelector };
}

function adminPeers(peer: AdminPolicyPeer, field: string): WrittenPeer[] {
  const scope = podScope(peer, field);
  if (scope !== null) return [{ kind: 'pods', field, scope }];
  if (peer.nodes !== undefined) return [{ kind: 'nodes', field: `${field}.nodes`, selector: peer.nodes }];
  if (peer.networks === undefined) return [{ kind: 'other', field }];
  return peer.networks.map((cidr, position) => block(`${field}.networks[${position}]`, cidr, []));
}

function adminPort({ portNumber, portRange, namedPort }: AdminPolicyPort, field: string): WrittenPort {
  if (portNumber !== undefined) {
    const { protocol, port } = portNumber;
    return { kind: 'range', field, protocol, first: port, last: port };
  }
  if (portRange !== undefined) {
    return { kind: 'range', field, protocol: portRange.protocol, first: portRange.start, last: portRange.end };
  }
  return { kind: 'named', field, protocol: null, name: namedPort ?? '' };
}

function clusterPorts(protocols: ClusterPolicyProtocol, field: string): WrittenPort[] {
  const { destinationNamedPort } = protocols;
  if (destinationNamedPort !== undefined) {
    return [{ kind: 'named', field, protocol: null, name: destinationNamedPort }];
  }
  return (['tcp', 'udp', 'sctp'] as const).flatMap((name): WrittenPort[] => {
    const ports = protocols[name]?.destinationPort;
    if (ports === undefined) return [];
    const protocol = name.toUpperCase() as Protocol;
    const first = ports.number ?? ports.range?.start ?? 0;
    return [{ kind: 'range', field, protocol, first, last: ports.number ?? ports.range?.end ?? 65_535 }];
  });
}
