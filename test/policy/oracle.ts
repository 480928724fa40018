/**
 * Policies judged from the raw objects, by the letter of the APIs and as slowly as they read: for every packet every policy
 * is looked at again, every selector matched again, every address parsed again.
 *
 * Sources: the API documentation of NetworkPolicy v1 (k8s.io/api/networking/v1), ClusterNetworkPolicy v1alpha2 and
 * AdminNetworkPolicy and BaselineAdminNetworkPolicy v1alpha1 (network-policy-api), FACTS §1.9. Nothing is shared with what is
 * tested. It says what one end of a packet's way answers; which packet that end sees is the business of way.ts.
 */

import { isInside } from '../conformance/oracle.ts';
import type { ClusterObjects, KubeObject } from './random-cluster.ts';

export type Profile = 'kubernetes' | 'cilium' | 'calico';
export type Direction = 'ingress' | 'egress';

/** A packet as it is at the pod's end that judges it. */
export interface End {
  readonly direction: Direction;
  readonly pod: PodFacts;
  /** The other end: source of what comes in, destination of what goes out. */
  readonly peer: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  /** Destination port; 0 for ICMP. */
  readonly port: number;
}

export interface Opinion {
  readonly allowed: boolean;
  /** Every `Kind namespace/name field` that may be named as the one that decided; empty where no rule did. */
  readonly by: readonly string[];
  /** A policy speaks about the pod and the direction at all. */
  readonly selected: boolean;
}

export interface PodFacts {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly node: string;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}

type Labels = Readonly<Record<string, string>>;

interface Selector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}
interface PodsAndNamespaces {
  readonly namespaceSelector?: Selector;
  readonly podSelector?: Selector;
}
interface NetworkPeer extends PodsAndNamespaces {
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}
interface NetworkPort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}
interface NetworkRule {
  readonly from?: readonly NetworkPeer[] | null;
  readonly to?: readonly NetworkPeer[] | null;
  readonly ports?: readonly NetworkPort[] | null;
}
interface NetworkSpec {
  readonly podSelector: Selector;
  readonly policyTypes?: readonly string[];
  readonly ingress?: readonly NetworkRule[] | null;
  readonly egress?: readonly NetworkRule[] | null;
}
interface ClusterPeer {
  readonly namespaces?: Selector;
  readonly pods?: PodsAndNamespaces;
  readonly nodes?: Selector;
  readonly networks?: readonly string[];
}
interface Range {
  readonly start: number;
  readonly end: number;
}
interface ClusterPort {
  readonly portNumber?: { readonly protocol: string; readonly port: number };
  readonly portRange?: Range & { readonly protocol: string };
  readonly namedPort?: string;
  readonly destinationNamedPort?: string;
  readonly tcp?: { readonly destinationPort: { readonly number?: number; readonly range?: Range } };
  readonly udp?: ClusterPort['tcp'];
  readonly sctp?: ClusterPort['tcp'];
}
interface ClusterRule {
  readonly action: 'Accept' | 'Allow' | 'Deny' | 'Pass';
  readonly from?: readonly ClusterPeer[];
  readonly to?: readonly ClusterPeer[];
  readonly ports?: readonly ClusterPort[];
  readonly protocols?: readonly ClusterPort[];
}
interface ClusterSpec {
  readonly tier?: 'Admin' | 'Baseline';
  readonly priority?: number;
  readonly subject: ClusterPeer;
  readonly ingress?: readonly ClusterRule[];
  readonly egress?: readonly ClusterRule[];
}
interface RawPort {
  readonly name?: string;
  readonly protocol?: string;
  readonly containerPort: number;
}
interface RawContainer {
  readonly restartPolicy?: string;
  readonly ports?: readonly RawPort[];
}
interface RawPod {
  readonly spec: {
    readonly nodeName: string;
    readonly hostNetwork?: boolean;
    readonly containers: readonly RawContainer[];
    readonly initContainers?: readonly RawContainer[];
  };
  readonly status: { readonly phase: string; readonly podIPs: readonly { readonly ip: string }[] };
}
interface RawNode {
  readonly status: { readonly addresses: readonly { readonly address: string }[] };
}

/** The facts of a cluster and its policies, and the judge of both. */
export class PolicyOracle {
  /** Pods that policies speak about: with an address of their own, and still there. */
  readonly pods: readonly PodFacts[];
  private readonly namespaces: readonly KubeObject[];
  private readonly nodes: readonly { readonly name: string; readonly labels: Labels; readonly addresses: string[] }[];
  private readonly policies: readonly KubeObject[];
  readonly profile: Profile;

  constructor(cluster: ClusterObjects, policies: readonly KubeObject[], profile: Profile) {
    this.pods = cluster.pods.flatMap(podFacts);
    this.namespaces = cluster.namespaces;
    this.nodes = cluster.nodes.map((node) => ({
      name: node.metadata.name,
      labels: node.metadata.labels ?? {},
      addresses: (node as unknown as RawNode).status.addresses.map(({ address }) => address),
    }));
    this.policies = policies;
    this.profile = profile;
  }

  podAt(address: string): PodFacts | null {
    return this.pods.find(({ addresses }) => addresses.includes(address)) ?? null;
  }

  nodeAt(address: string): string | null {
    return this.nodes.find(({ addresses }) => addresses.includes(address))?.name ?? null;
  }

  /**
   * Admin tier, then NetworkPolicies, then, only where none of these isolates the direction, the Baseline tier.
   * What is always allowed (own node, itself, replies) never comes here.
   */
  judge(end: End): Opinion {
    const admin = this.clusterPolicies('Admin').filter((own) => this.hasSubject(own, end));
    const baseline = this.clusterPolicies('Baseline').filter((own) => this.hasSubject(own, end));
    const network = this.policies.filter((own) => own.kind === 'NetworkPolicy' && this.isolates(own, end));
    const selected = admin.length + network.length + baseline.length > 0;

    const first = this.firstRule(admin, end);
    if (first !== null && first.action !== 'Pass') return { allowed: first.action !== 'Deny', by: first.by, selected };
    if (network.length > 0) {
      const by = network.flatMap((own) => this.acceptingPeers(own, end));
      return { allowed: by.length > 0, by, selected };
    }
    const last = this.firstRule(baseline, end);
    if (last !== null && last.action !== 'Pass') return { allowed: last.action !== 'Deny', by: last.by, selected };
    return { allowed: true, by: [], selected };
  }

  // ---- NetworkPolicy ---------------------------------------------------------------------------------------------

  private isolates(policy: KubeObject, { pod, direction }: End): boolean {
    const spec = policy['spec'] as NetworkSpec;
    if (policy.metadata.namespace !== pod.namespace || !matches(spec.podSelector, pod.labels)) return false;
    const types = spec.policyTypes ?? [];
    if (types.length > 0) return types.includes(direction === 'ingress' ? 'Ingress' : 'Egress');
    return direction === 'ingress' || (spec.egress ?? []).length > 0;
  }

  /** Rules add up: every peer of every rule that lets the packet pass. */
  private acceptingPeers(policy: KubeObject, end: End): string[] {
    const spec = policy['spec'] as NetworkSpec;
    const found: string[] = [];
    (spec[end.direction] ?? []).forEach((rule, index) => {
      const ports = rule.ports ?? [];
      if (ports.length > 0 && !ports.some((port) => this.hasNetworkPort(port, end))) return;
      const side = end.direction === 'ingress' ? 'from' : 'to';
      const peers = rule[side] ?? [];
      const field = `spec.${end.direction}[${index}]`;
      if (peers.length === 0) found.push(`${nameOf(policy)} ${field}`);
      peers.forEach((peer, position) => {
        const isIn =
          peer.ipBlock === undefined
            ? this.isPodOf(peer, policy.metadata.namespace!, end.peer)
            : this.isInBlock(end.peer, peer.ipBlock.cidr, peer.ipBlock.except ?? []);
        if (isIn) found.push(`${nameOf(policy)} ${field}.${side}[${position}]`);
      });
    });
    return found;
  }

  private hasNetworkPort({ protocol = 'TCP', port, endPort }: NetworkPort, end: End): boolean {
    if (typeof port === 'string') return this.hasNamedPort(port, protocol, end);
    if (protocol !== end.protocol) return false;
    if (port === undefined) return true;
    return end.port >= port && end.port <= (endPort ?? port);
  }

  // ---- policies of the cluster -----------------------------------------------------------------------------------

  /** In the order in which they are asked. */
  private clusterPolicies(tier: 'Admin' | 'Baseline'): KubeObject[] {
    const specOf = (own: KubeObject) => own['spec'] as ClusterSpec;
    const kinds = tier === 'Admin' ? ['AdminNetworkPolicy'] : ['BaselineAdminNetworkPolicy'];
    const own = this.policies.filter(
      (policy) =>
        kinds.includes(policy.kind) || (policy.kind === 'ClusterNetworkPolicy' && specOf(policy).tier === tier),
    );
    // The older Baseline policy has no priority: it is asked after the others. Equal ones: by kind, then by name.
    const rank = (policy: KubeObject) =>
      policy.kind === 'BaselineAdminNetworkPolicy' ? Number.POSITIVE_INFINITY : specOf(policy).priority!;
    const name = (policy: KubeObject) => `${policy.kind} ${policy.metadata.name}`;
    return own.sort((a, b) => {
      if (rank(a) !== rank(b)) return rank(a) < rank(b) ? -1 : 1;
      return name(a) < name(b) ? -1 : 1;
    });
  }

  private hasSubject(policy: KubeObject, end: End): boolean {
    const spec = policy['spec'] as ClusterSpec;
    if ((spec[end.direction] ?? []).length === 0) return false;
    return this.isNamedPeer(spec.subject, end.pod.addresses[0]!);
  }

  /** The first rule of the first policy that has one for this packet; every peer of it that matches. */
  private firstRule(policies: readonly KubeObject[], end: End): { action: string; by: string[] } | null {
    for (const policy of policies) {
      const rules = (policy['spec'] as ClusterSpec)[end.direction] ?? [];
      for (const [index, rule] of rules.entries()) {
        const ports = rule.ports ?? rule.protocols ?? [];
        if (ports.length > 0 && !ports.some((port) => this.hasClusterPort(port, end))) continue;
        const side = end.direction === 'ingress' ? 'from' : 'to';
        const by = (rule[side] ?? []).flatMap((peer, position) =>
          this.fieldsOf(peer, end.peer).map(
            (field) => `${nameOf(policy)} spec.${end.direction}[${index}].${side}[${position}]${field}`,
          ),
        );
        if (by.length > 0) return { action: rule.action, by };
      }
    }
    return null;
  }

  /** What of a peer matches an address: '' for the peer as such, of several networks those that hold it. */
  private fieldsOf(peer: ClusterPeer, address: string): string[] {
    if (peer.networks !== undefined) {
      return peer.networks.flatMap((cidr, index) => (this.isInBlock(address, cidr, []) ? [`.networks[${index}]`] : []));
    }
    const { nodes } = peer;
    const isPeer =
      nodes === undefined
        ? this.isNamedPeer(peer, address)
        : this.nodes.some((own) => own.addresses.includes(address) && matches(nodes, own.labels));
    return isPeer ? [''] : [];
  }

  /** `namespaces` or `pods`, of a subject or a peer. */
  private isNamedPeer({ namespaces, pods }: ClusterPeer, address: string): boolean {
    const pod = this.podAt(address);
    if (pod === null) return false;
    if (namespaces !== undefined) return matches(namespaces, this.namespaceLabels(pod.namespace));
    return (
      matches(pods!.namespaceSelector!, this.namespaceLabels(pod.namespace)) && matches(pods!.podSelector!, pod.labels)
    );
  }

  private hasClusterPort(port: ClusterPort, end: End): boolean {
    const name = port.namedPort ?? port.destinationNamedPort;
    if (name !== undefined) return this.hasNamedPort(name, null, end);
    if (port.portNumber !== undefined)
      return port.portNumber.protocol === end.protocol && port.portNumber.port === end.port;
    if (port.portRange !== undefined) {
      const { protocol, start, end: last } = port.portRange;
      return protocol === end.protocol && end.port >= start && end.port <= last;
    }
    const own = end.protocol === 'TCP' ? port.tcp : end.protocol === 'UDP' ? port.udp : undefined;
    const destination = (end.protocol === 'SCTP' ? port.sctp : own)?.destinationPort;
    if (destination === undefined) return false;
    if (destination.number !== undefined) return destination.number === end.port;
    return end.port >= destination.range!.start && end.port <= destination.range!.end;
  }

  // ---- peers and ports of both -----------------------------------------------------------------------------------

  /** A podSelector alone means the policy's own namespace, a namespaceSelector alone all pods there, both mean both. */
  private isPodOf({ namespaceSelector, podSelector }: PodsAndNamespaces, home: string, address: string): boolean {
    const pod = this.podAt(address);
    if (pod === null) return false;
    const inNamespace =
      namespaceSelector === undefined
        ? pod.namespace === home
        : matches(namespaceSelector, this.namespaceLabels(pod.namespace));
    return inNamespace && (podSelector === undefined || matches(podSelector, pod.labels));
  }

  private isInBlock(address: string, cidr: string, except: readonly string[]): boolean {
    if (this.profile === 'cilium' && (this.podAt(address) !== null || this.nodeAt(address) !== null)) return false;
    return isInside(address, cidr) && !except.some((prefix) => isInside(address, prefix));
  }

  /** A name means what the pod that gets the packet calls so. */
  private hasNamedPort(name: string, protocol: string | null, end: End): boolean {
    if (protocol !== null && protocol !== end.protocol) return false;
    const target = end.direction === 'ingress' ? end.pod : this.podAt(end.peer);
    if (target === null) return false;
    return target.ports.some((own) => own.name === name && own.protocol === end.protocol && own.port === end.port);
  }

  private namespaceLabels(name: string): Labels {
    const found = this.namespaces.find((own) => own.metadata.name === name);
    return { ...found?.metadata.labels, 'kubernetes.io/metadata.name': name };
  }
}

function nameOf({ kind, metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace === undefined ? '' : `${metadata.namespace}/`}${metadata.name}`;
}

function podFacts(object: KubeObject): PodFacts[] {
  const { spec, status } = object as unknown as RawPod;
  if (spec.hostNetwork === true || status.phase === 'Succeeded' || status.phase === 'Failed') return [];
  const staying = (spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [
    {
      name: object.metadata.name,
      namespace: object.metadata.namespace!,
      labels: object.metadata.labels ?? {},
      node: spec.nodeName,
      addresses: status.podIPs.map(({ ip }) => ip),
      ports: [...spec.containers, ...staying].flatMap(({ ports }) =>
        (ports ?? []).map((own) => ({
          name: own.name ?? '',
          protocol: own.protocol ?? 'TCP',
          port: own.containerPort,
        })),
      ),
    },
  ];
}

function matches({ matchLabels = {}, matchExpressions = [] }: Selector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(matchLabels)) if (labels[key] !== value) return false;
  for (const { key, operator, values = [] } of matchExpressions) {
    const value = labels[key];
    if (operator === 'In' && (value === undefined || !values.includes(value))) return false;
    if (operator === 'NotIn' && value !== undefined && values.includes(value)) return false;
    if (operator === 'Exists' && value === undefined) return false;
    if (operator === 'DoesNotExist' && value !== undefined) return false;
  }
  return true;
}
