/**
 * The kinds that flatpath models: which API serves each, whether it lives in a namespace, and its schema.
 *
 * A kind of the same name in a group of somebody else's (Knative's Service, Calico's NetworkPolicy) is not this kind.
 */

import type { TSchema } from '@sinclair/typebox';
import { type AdminNetworkPolicy, AdminNetworkPolicySchema } from '../model/admin-network-policy.ts';
import {
  type BaselineAdminNetworkPolicy,
  BaselineAdminNetworkPolicySchema,
} from '../model/baseline-admin-network-policy.ts';
import { type ClusterNetworkPolicy, ClusterNetworkPolicySchema } from '../model/cluster-network-policy.ts';
import { type ConfigMap, ConfigMapSchema } from '../model/config-map.ts';
import { type CronJob, CronJobSchema } from '../model/cron-job.ts';
import { type DaemonSet, DaemonSetSchema } from '../model/daemon-set.ts';
import { type Deployment, DeploymentSchema } from '../model/deployment.ts';
import { type EndpointSlice, EndpointSliceSchema } from '../model/endpoint-slice.ts';
import { type Endpoints, EndpointsSchema } from '../model/endpoints.ts';
import { type Job, JobSchema } from '../model/job.ts';
import { type Namespace, NamespaceSchema } from '../model/namespace.ts';
import { type NetworkPolicy, NetworkPolicySchema } from '../model/network-policy.ts';
import { type Node, NodeSchema } from '../model/node.ts';
import { type Pod, PodSchema } from '../model/pod.ts';
import { type ReplicaSet, ReplicaSetSchema } from '../model/replica-set.ts';
import { type Service, ServiceSchema } from '../model/service.ts';
import { type StatefulSet, StatefulSetSchema } from '../model/stateful-set.ts';

export interface KindTypes {
  Namespace: Namespace;
  Node: Node;
  Pod: Pod;
  Service: Service;
  Endpoints: Endpoints;
  EndpointSlice: EndpointSlice;
  NetworkPolicy: NetworkPolicy;
  ClusterNetworkPolicy: ClusterNetworkPolicy;
  AdminNetworkPolicy: AdminNetworkPolicy;
  BaselineAdminNetworkPolicy: BaselineAdminNetworkPolicy;
  ConfigMap: ConfigMap;
  Deployment: Deployment;
  ReplicaSet: ReplicaSet;
  StatefulSet: StatefulSet;
  DaemonSet: DaemonSet;
  Job: Job;
  CronJob: CronJob;
}
export type KindName = keyof KindTypes;
export type ModelledObject = KindTypes[KindName];

export interface KindEntry {
  /** '' for core. */
  readonly group: string;
  readonly version: string;
  /** As in the API's resource paths. */
  readonly plural: string;
  readonly namespaced: boolean;
  readonly schema: TSchema;
  /** Other versions of the same shape; objects of them are read as `version`. */
  readonly alsoRead?: readonly string[];
}

export const KINDS: Readonly<Record<KindName, KindEntry>> = {
  Namespace: { group: '', version: 'v1', plural: 'namespaces', namespaced: false, schema: NamespaceSchema },
  Node: { group: '', version: 'v1', plural: 'nodes', namespaced: false, schema: NodeSchema },
  Pod: { group: '', version: 'v1', plural: 'pods', namespaced: true, schema: PodSchema },
  Service: { group: '', version: 'v1', plural: 'services', namespaced: true, schema: ServiceSchema },
  Endpoints: { group: '', version: 'v1', plural: 'endpoints', namespaced: true, schema: EndpointsSchema },
  EndpointSlice: {
    group: 'discovery.k8s.io',
    version: 'v1',
    plural: 'endpointslices',
    namespaced: true,
    schema: EndpointSliceSchema,
  },
  NetworkPolicy: {
    group: 'networking.k8s.io',
    version: 'v1',
    plural: 'networkpolicies',
    namespaced: true,
    schema: NetworkPolicySchema,
  },
  ClusterNetworkPolicy: {
    group: 'policy.networking.k8s.io',
    version: 'v1alpha2',
    plural: 'clusternetworkpolicies',
    namespaced: false,
    schema: ClusterNetworkPolicySchema,
    alsoRead: ['v1beta1'],
  },
  AdminNetworkPolicy: {
    group: 'policy.networking.k8s.io',
    version: 'v1alpha1',
    plural: 'adminnetworkpolicies',
    namespaced: false,
    schema: AdminNetworkPolicySchema,
  },
  BaselineAdminNetworkPolicy: {
    group: 'policy.networking.k8s.io',
    version: 'v1alpha1',
    plural: 'baselineadminnetworkpolicies',
    namespaced: false,
    schema: BaselineAdminNetworkPolicySchema,
  },
  ConfigMap: { group: '', version: 'v1', plural: 'configmaps', namespaced: true, schema: ConfigMapSchema },
  Deployment: { group: 'apps', version: 'v1', plural: 'deployments', namespaced: true, schema: DeploymentSchema },
  ReplicaSet: { group: 'apps', version: 'v1', plural: 'replicasets', namespaced: true, schema: ReplicaSetSchema },
  StatefulSet: { group: 'apps', version: 'v1', plural: 'statefulsets', namespaced: true, schema: StatefulSetSchema },
  DaemonSet: { group: 'apps', version: 'v1', plural: 'daemonsets', namespaced: true, schema: DaemonSetSchema },
  Job: { group: 'batch', version: 'v1', plural: 'jobs', namespaced: true, schema: JobSchema },
  CronJob: { group: 'batch', version: 'v1', plural: 'cronjobs', namespaced: true, schema: CronJobSchema },
};

export const KIND_NAMES = Object.keys(KINDS) as KindName[];

/** 'v1', 'apps/v1', … */
export function apiVersionOf(entry: KindEntry): string {
  return entry.group === '' ? entry.version : `${entry.group}/${entry.version}`;
}

/** Group of an apiVersion, '' for core. */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

export type KindMatch =
  | { readonly status: 'modelled'; readonly kind: KindName }
  | { readonly status: 'unmodelled' }
  | { readonly status: 'wrong'; readonly field: 'apiVersion' | 'kind'; readonly message: string };

/**
 * Finds the modelled kind behind apiVersion and kind. A modelled kind's name in an unknown version, or in a group that
 * only Kubernetes itself could serve, is wrong; in a group of somebody else's it is another kind.
 */
export function matchKind(apiVersion: string, kind: string): KindMatch {
  if (!isKindName(kind)) {
    const meant = KIND_NAMES.find((name) => name.toLowerCase() === kind.toLowerCase());
    if (meant === undefined || apiVersionOf(KINDS[meant]) !== apiVersion) return { status: 'unmodelled' };
    return { status: 'wrong', field: 'kind', message: `${kind} is written ${meant}` };
  }
  const entry = KINDS[kind];
  const expected = apiVersionOf(entry);
  if (apiVersion === expected) return { status: 'modelled', kind };
  if (entry.alsoRead?.some((version) => apiVersion === `${entry.group}/${version}`))
    return { status: 'modelled', kind };
  const group = groupOf(apiVersion);
  if (group !== entry.group && isForeignGroup(group)) return { status: 'unmodelled' };
  return {
    status: 'wrong',
    field: 'apiVersion',
    message: `${apiVersion} is not an apiVersion of ${kind} (${expected})`,
  };
}

function isKindName(kind: string): kind is KindName {
  return Object.hasOwn(KINDS, kind);
}

/** Groups of custom resources are domain names; those below k8s.io, x-k8s.io excepted, belong to Kubernetes. */
function isForeignGroup(group: string): boolean {
  if (!group.includes('.')) return false;
  return group.endsWith('x-k8s.io') || !/(^|\.)k8s(\.io)?$/.test(group);
}
