/** A small cluster for policies, and what resolving them answers, in names. */

import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { describeProblem } from '../../control/src/cluster/problem.ts';
import { type PolicyModel, type PolicySubjects, resolvePolicies } from '../../control/src/policy/policy-model.ts';
import type { Direction, JudgementOrder, PolicyPeer, PolicyPort } from '../../control/src/policy/policy-rules.ts';
import { policyProfile } from '../../control/src/policy/profile.ts';
import { loadObjects } from '../cluster/support.ts';

/** prod: web, db; dev: web, db; other: bare; and a hostNetwork pod that no policy sees. */
export const CAST = [
  namespace('prod', { env: 'prod' }),
  namespace('dev', { env: 'dev' }),
  node('n1', { zone: 'a' }),
  node('n2', { zone: 'b' }),
  pod('prod', 'web', { app: 'web' }),
  pod('prod', 'db', { app: 'db' }),
  pod('dev', 'web', { app: 'web' }),
  pod('dev', 'db', { app: 'db', tier: 'data' }),
  pod('other', 'bare', {}),
  pod('prod', 'host', { app: 'web' }, { hostNetwork: true }),
];

export function namespace(name: string, labels: Record<string, string>): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

function node(name: string, labels: Record<string, string>): object {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
}

export function pod(ns: string, name: string, labels: Record<string, string>, spec: object = {}): object {
  const metadata = { name, namespace: ns, labels };
  return { apiVersion: 'v1', kind: 'Pod', metadata, spec: { nodeName: 'n1', ...spec } };
}

export function networkPolicy(spec: object, name = 'p', ns = 'prod'): object {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace: ns }, spec };
}

export function clusterNetworkPolicy(name: string, spec: object): object {
  return { apiVersion: 'policy.networking.k8s.io/v1alpha2', kind: 'ClusterNetworkPolicy', metadata: { name }, spec };
}

export function adminNetworkPolicy(name: string, spec: object): object {
  return { apiVersion: 'policy.networking.k8s.io/v1alpha1', kind: 'AdminNetworkPolicy', metadata: { name }, spec };
}

export function baselineAdminNetworkPolicy(spec: object): object {
  const metadata = { name: 'default' };
  return { apiVersion: 'policy.networking.k8s.io/v1alpha1', kind: 'BaselineAdminNetworkPolicy', metadata, spec };
}

export class Resolved {
  readonly cluster: Cluster;
  readonly subjects: PolicySubjects;
  readonly model: PolicyModel;

  constructor(objects: readonly unknown[]) {
    this.cluster = loadObjects(objects).cluster;
    const pods = this.cluster.pods.filter(({ spec }) => !spec.hostNetwork);
    this.subjects = { endpoints: pods.map((each) => ({ pod: each })), nodes: this.cluster.nodes };
    this.model = resolvePolicies(this.cluster, this.subjects, policyProfile('kubernetes'));
  }

  /** 'prod/web' */
  nameOf(endpoint: number): string {
    const { namespace: ns, name } = this.subjects.endpoints[endpoint]!.pod.metadata;
    return `${ns}/${name}`;
  }

  selected(direction: Direction): string[] {
    return this.model[direction].flatMap((order, number) => (order === null ? [] : [this.nameOf(number)]));
  }

  order(direction: Direction, name: string): JudgementOrder | null {
    return this.model[direction][this.subjects.endpoints.findIndex((_pod, number) => this.nameOf(number) === name)]!;
  }

  /** Each rule as 'spec.ingress[0].from[1] accept dev/web,prod/web TCP/80-90'. */
  rules(): string[] {
    return this.model.rules.map(
      ({ peerField, action, peer, ports }) =>
        `${peerField} ${action} ${this.peer(peer)} ${ports === null ? '*' : ports.map(portText).join(',')}`,
    );
  }

  peer(peer: PolicyPeer): string {
    switch (peer.kind) {
      case 'any':
        return 'any';
      case 'pods':
        return `{${peer.endpoints.map((endpoint) => this.nameOf(endpoint)).join(' ')}}`;
      case 'nodes':
        return `nodes{${peer.nodes.map((number) => this.subjects.nodes[number]!.metadata.name).join(' ')}}`;
      case 'block':
        return [peer.prefix.text, ...peer.except.map(({ text }) => `-${text}`)].join('');
    }
  }

  warnings(): string[] {
    return this.model.warnings.map(describeProblem);
  }
}

function portText(port: PolicyPort): string {
  if (port.kind === 'named') return `${port.protocol ?? 'any'}/${port.name}`;
  return `${port.protocol}/${port.first === port.last ? port.first : `${port.first}-${port.last}`}`;
}
