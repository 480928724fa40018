/**
 * The cluster-wide policies, resolved: ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy.
 *
 *   1. The subject's namespaces, or namespaces and pods, are selected by labels; hostNetwork pods never.
 *   2. A direction without rules is left alone. Rules are tried as written; the first that matches decides.
 *   3. Peers add up; `networks` is one peer for each CIDR. `domainNames` matches nothing: names are not looked up here,
 *      and it can be accepted only, so that this fails closed.
 *   4. No ports or protocols: everything, ICMP too. A named port means whatever protocol the pod gives it.
 */

import { parsePrefix } from '../model/address.ts';
import type { AdminNetworkPolicy } from '../model/admin-network-policy.ts';
import type { AdminPolicyPeer, AdminPolicySubject } from '../model/admin-policy-peers.ts';
import type { AdminPolicyPort } from '../model/admin-policy-port.ts';
import type { BaselineAdminNetworkPolicy } from '../model/baseline-admin-network-policy.ts';
import type { ClusterNetworkPolicy, ClusterPolicyProtocol } from '../model/cluster-network-policy.ts';
import type { NodeIndex } from './node-index.ts';
import type { PodIndex } from './pod-index.ts';
import type { Direction, PolicyAction, PolicyPort, PolicyRule, PolicyTier } from './policy-rules.ts';
import type { FieldPeer, ResolvedPolicy, RuleList } from './resolved-policy.ts';

/** What selectors are resolved in, and where the rules go. */
export interface AdminPolicyContext {
  readonly pods: PodIndex;
  readonly nodes: NodeIndex;
  readonly rules: RuleList;
}

interface AdminRule {
  readonly action: 'Accept' | 'Allow' | 'Deny' | 'Pass';
  readonly peers: readonly AdminPolicyPeer[];
  readonly ports: readonly PolicyPort[] | null;
}

interface AdminPolicyView {
  readonly policy: ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy;
  readonly tier: PolicyTier;
  readonly priority: number;
  readonly ingress: readonly AdminRule[];
  readonly egress: readonly AdminRule[];
}

const ACTIONS: Readonly<Record<AdminRule['action'], PolicyAction>> = {
  Accept: 'accept',
  Allow: 'accept',
  Deny: 'deny',
  Pass: 'pass',
};

export function resolveClusterNetworkPolicy(policy: ClusterNetworkPolicy, context: AdminPolicyContext): ResolvedPolicy {
  const { tier, priority, ingress, egress } = policy.spec;
  const ports = (protocols: readonly ClusterPolicyProtocol[] | undefined): PolicyPort[] | null =>
    protocols === undefined ? null : protocols.map(resolveProtocol);
  return resolve(
    {
      policy,
      tier: tier === 'Admin' ? 'admin' : 'baseline',
      priority,
      ingress: ingress.map(({ action, from, protocols }) => ({ action, peers: from, ports: ports(protocols) })),
      egress: egress.map(({ action, to, protocols }) => ({ action, peers: to, ports: ports(protocols) })),
    },
    context,
  );
}

export function resolveAdminNetworkPolicy(
  policy: AdminNetworkPolicy | BaselineAdminNetworkPolicy,
  context: AdminPolicyContext,
): ResolvedPolicy {
  const { ingress, egress } = policy.spec;
  const ports = (given: readonly AdminPolicyPort[] | undefined): PolicyPort[] | null =>
    given === undefined ? null : given.map(resolvePort);
  const view = {
    policy,
    ingress: ingress.map((rule) => ({ action: rule.action, peers: rule.from, ports: ports(rule.ports) })),
    egress: egress.map((rule) => ({ action: rule.action, peers: rule.to, ports: ports(rule.ports) })),
  };
  return policy.kind === 'AdminNetworkPolicy'
    ? resolve({ ...view, tier: 'admin', priority: policy.spec.priority }, context)
    : resolve({ ...view, tier: 'baseline', priority: 0 }, context);
}

function resolve(view: AdminPolicyView, context: AdminPolicyContext): ResolvedPolicy {
  const { policy, tier } = view;
  return {
    policy,
    tier,
    endpoints: selectPods(policy.spec.subject, context.pods),
    ingress: resolveRules(view, 'ingress', context),
    egress: resolveRules(view, 'egress', context),
  };
}

function resolveRules(view: AdminPolicyView, direction: Direction, context: AdminPolicyContext): PolicyRule[] | null {
  const { policy, tier, priority } = view;
  const rules = view[direction];
  if (rules.length === 0) return null;
  return rules.flatMap(({ action, peers, ports }, index) => {
    const field = `spec.${direction}[${index}]`;
    const list = `${field}.${direction === 'ingress' ? 'from' : 'to'}`;
    return context.rules.add(
      { policy, tier, priority, direction, action: ACTIONS[action], field, ports },
      peers.flatMap((peer, position) => resolvePeer(peer, `${list}[${position}]`, context)),
    );
  });
}

function resolvePeer(peer: AdminPolicyPeer, field: string, { pods, nodes }: AdminPolicyContext): FieldPeer[] {
  if (peer.nodes !== undefined) return [{ field, peer: { kind: 'nodes', nodes: nodes.select(peer.nodes) } }];
  if (peer.networks !== undefined) {
    return peer.networks.map((text, index) => ({
      field: `${field}.networks[${index}]`,
      peer: { kind: 'block', prefix: parsePrefix(text)!, except: [] },
    }));
  }
  if (peer.domainNames !== undefined) return [];
  return [{ field, peer: { kind: 'pods', endpoints: selectPods(peer, pods) } }];
}

/** The pods of a subject, or of a peer that names pods or namespaces. */
function selectPods(selected: AdminPolicySubject, index: PodIndex): readonly number[] {
  const { namespaces, pods } = selected;
  return pods === undefined
    ? index.select(namespaces!, {})
    : index.select(pods.namespaceSelector ?? {}, pods.podSelector);
}

function resolveProtocol({ tcp, udp, sctp, destinationNamedPort }: ClusterPolicyProtocol): PolicyPort {
  if (destinationNamedPort !== undefined) return { kind: 'named', protocol: null, name: destinationNamedPort };
  const { number, range } = (tcp ?? udp ?? sctp)!.destinationPort;
  const protocol = tcp !== undefined ? 'TCP' : udp !== undefined ? 'UDP' : 'SCTP';
  return range === undefined
    ? { kind: 'range', protocol, first: number!, last: number! }
    : { kind: 'range', protocol, first: range.start, last: range.end };
}

function resolvePort({ portNumber, portRange, namedPort }: AdminPolicyPort): PolicyPort {
  if (portNumber !== undefined) {
    const { protocol, port } = portNumber;
    return { kind: 'range', protocol, first: port, last: port };
  }
  if (portRange !== undefined) {
    const { protocol, start, end } = portRange;
    return { kind: 'range', protocol, first: start, last: end };
  }
  return { kind: 'named', protocol: null, name: namedPort! };
}
