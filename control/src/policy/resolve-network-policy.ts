/**
 * networking.k8s.io/v1 NetworkPolicy, resolved.
 *
 *   1. `policyTypes` left out or empty: Ingress, and Egress too where there is an egress rule.
 *   2. A direction that is not among the types is left open by this policy, whatever rules it has.
 *   3. Rules add up; peers of a rule add up; the two selectors of one peer must both match.
 *   4. No or empty `from`, `to`: everybody. No or empty `ports`: everything.
 *   5. A podSelector alone looks into the policy's own namespace; a namespaceSelector alone takes all pods of its own.
 */

import { parsePrefix } from '../model/address.ts';
import type { NetworkPolicy } from '../model/network-policy.ts';
import type { PodIndex } from './pod-index.ts';
import type { Direction, PolicyPeer, PolicyPort, PolicyRule } from './policy-rules.ts';
import { ANY_PORT, type FieldPeer, type ResolvedPolicy, type RuleList } from './resolved-policy.ts';

type Rule = NonNullable<NetworkPolicy['spec']['ingress']>[number];
type Peer = NonNullable<Rule['from']>[number];
type Port = NonNullable<Rule['ports']>[number];

/** Adds the policy's rules to `rules`. */
export function resolveNetworkPolicy(policy: NetworkPolicy, pods: PodIndex, rules: RuleList): ResolvedPolicy {
  const { spec, metadata } = policy;
  const resolve = (
    direction: Direction,
    index: number,
    peers: readonly Peer[],
    ports: readonly Port[],
  ): PolicyRule[] => {
    const field = `spec.${direction}[${index}]`;
    const shared = { policy, tier: 'network', priority: 0, direction, action: 'accept', field } as const;
    const list = `${field}.${direction === 'ingress' ? 'from' : 'to'}`;
    return rules.add(
      { ...shared, ports: ports.length === 0 ? null : ports.map(resolvePort) },
      peers.length === 0 ? [{ field, peer: { kind: 'any' } }] : resolvePeers(peers, list, metadata.namespace, pods),
    );
  };
  return {
    policy,
    tier: 'network',
    endpoints: pods.selectIn(metadata.namespace, spec.podSelector),
    ingress: isolates(policy, 'ingress')
      ? (spec.ingress ?? []).flatMap(({ from, ports }, index) => resolve('ingress', index, from ?? [], ports ?? []))
      : null,
    egress: isolates(policy, 'egress')
      ? (spec.egress ?? []).flatMap(({ to, ports }, index) => resolve('egress', index, to ?? [], ports ?? []))
      : null,
  };
}

/** True where the policy closes the direction for the pods that it selects. */
export function isolates({ spec }: NetworkPolicy, direction: Direction): boolean {
  const types = spec.policyTypes ?? [];
  if (types.length > 0) return types.includes(direction === 'ingress' ? 'Ingress' : 'Egress');
  return direction === 'ingress' || (spec.egress ?? []).length > 0;
}

function resolvePeers(peers: readonly Peer[], list: string, namespace: string, pods: PodIndex): FieldPeer[] {
  return peers.map((peer, index) => ({ field: `${list}[${index}]`, peer: resolvePeer(peer, namespace, pods) }));
}

function resolvePeer({ podSelector, namespaceSelector, ipBlock }: Peer, namespace: string, pods: PodIndex): PolicyPeer {
  if (ipBlock !== undefined) {
    const except = (ipBlock.except ?? []).map((text) => parsePrefix(text)!);
    return { kind: 'block', prefix: parsePrefix(ipBlock.cidr)!, except };
  }
  const endpoints =
    namespaceSelector === undefined
      ? pods.selectIn(namespace, podSelector ?? {})
      : pods.select(namespaceSelector, podSelector ?? {});
  return { kind: 'pods', endpoints };
}

function resolvePort({ protocol, port, endPort }: Port): PolicyPort {
  if (port === undefined) return { kind: 'range', protocol, ...ANY_PORT };
  if (typeof port === 'string') return { kind: 'named', protocol, name: port };
  return { kind: 'range', protocol, first: port, last: endPort ?? port };
}
