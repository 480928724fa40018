/**
 * Policies of other systems: kinds that can change an answer but that flatpath does not model. They are kept by name,
 * with the labels of the pods that they may select as far as those can be read, so that every answer about such a pod
 * can say so. Reading too little here only makes a policy select more.
 */

import type { Origin } from '../model/origin.ts';
import { groupOf } from './kinds.ts';

/** An object that can change an answer but is not modelled. */
export interface UnmodelledPolicy {
  readonly apiVersion: string;
  readonly kind: string;
  /** '' for a policy of the whole cluster. */
  readonly namespace: string;
  readonly name: string;
  /**
   * Labels that a pod must carry to be selected, as far as they could be read; null: unreadable, it may select any pod
   * of its namespace (of the cluster, where namespace is '').
   */
  readonly podLabels: Readonly<Record<string, string>> | null;
  readonly origin: Origin;
}

type SelectorReader = (spec: Record<string, unknown>) => Record<string, string> | null;

const ciliumEndpoints: SelectorReader = (spec) => ciliumLabels(child(spec, 'endpointSelector'));
const unreadable: SelectorReader = () => null;
const workloads: SelectorReader = (spec) => matchLabels(child(spec, 'selector'));
const calico: SelectorReader = (spec) => calicoLabels(spec['selector']);
const pods: SelectorReader = (spec) => matchLabels(child(spec, 'podSelector'));

/** By `group/Kind`. */
const READERS: Readonly<Record<string, SelectorReader>> = {
  'cilium.io/CiliumNetworkPolicy': ciliumEndpoints,
  'cilium.io/CiliumClusterwideNetworkPolicy': ciliumEndpoints,
  'cilium.io/CiliumLocalRedirectPolicy': unreadable,
  'cilium.io/CiliumEgressGatewayPolicy': unreadable,
  'crd.projectcalico.org/NetworkPolicy': calico,
  'crd.projectcalico.org/GlobalNetworkPolicy': calico,
  'projectcalico.org/NetworkPolicy': calico,
  'projectcalico.org/GlobalNetworkPolicy': calico,
  'security.istio.io/AuthorizationPolicy': workloads,
  'security.istio.io/PeerAuthentication': workloads,
  'crd.antrea.io/NetworkPolicy': unreadable,
  'crd.antrea.io/ClusterNetworkPolicy': unreadable,
  'policy.linkerd.io/Server': pods,
  'policy.linkerd.io/AuthorizationPolicy': unreadable,
  'k8s.ovn.org/EgressFirewall': unreadable,
};

/** Kinds without a namespace; an object of any other kind that names none is in `default`. */
const CLUSTER_KINDS = new Set([
  'CiliumClusterwideNetworkPolicy',
  'CiliumEgressGatewayPolicy',
  'GlobalNetworkPolicy',
  'ClusterNetworkPolicy',
]);

/** True for a kind whose objects can change an answer although they are not modelled. */
export function isUnmodelledPolicy(apiVersion: string, kind: string): boolean {
  return Object.hasOwn(READERS, `${groupOf(apiVersion)}/${kind}`);
}

/** @param value the object; `origin` names it and its place */
export function readUnmodelledPolicy(
  apiVersion: string,
  kind: string,
  value: object,
  origin: Origin,
): UnmodelledPolicy {
  const reader = READERS[`${groupOf(apiVersion)}/${kind}`] ?? unreadable;
  const podLabels = reader(child(value, 'spec'));
  // A policy in Istio's root namespace holds for every namespace.
  const given = origin.namespace || 'default';
  const isRoot = groupOf(apiVersion) === 'security.istio.io' && given === 'istio-system';
  const namespace = isRoot || CLUSTER_KINDS.has(kind) ? '' : given;
  return { apiVersion, kind, namespace, name: origin.name, podLabels, origin };
}

function child(value: unknown, key: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return {};
  const part: unknown = Reflect.get(value, key);
  return typeof part === 'object' && part !== null && !Array.isArray(part) ? { ...part } : {};
}

function matchLabels(selector: Record<string, unknown>): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(child(selector, 'matchLabels'))) {
    if (typeof value === 'string') labels[key] = value;
  }
  return labels;
}

/** Cilium writes a label's source before it (`k8s:app`); labels that are no pod's own (namespace, …) are left out. */
function ciliumLabels(selector: Record<string, unknown>): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(matchLabels(selector))) {
    const colon = key.indexOf(':');
    const source = colon < 0 ? 'k8s' : key.slice(0, colon);
    const plain = key.slice(colon + 1);
    if ((source === 'k8s' || source === 'any') && !plain.startsWith('io.')) labels[plain] = value;
  }
  return labels;
}

/** Calico's selectors are expressions; those that only join `key == 'value'` by `&&` can be read. */
function calicoLabels(selector: unknown): Record<string, string> | null {
  if (selector === undefined || selector === '' || selector === 'all()') return {};
  if (typeof selector !== 'string' || selector.length > 4096) return null;
  const labels: Record<string, string> = {};
  for (const term of selector.split('&&')) {
    const match = /^\s*([A-Za-z0-9._/-]+)\s*==\s*(?:'([^']*)'|"([^"]*)")\s*$/.exec(term);
    if (match === null) return null;
    labels[match[1]!] = match[2] ?? match[3] ?? '';
  }
  return labels;
}
