/**
 * The desired state to a completed cluster: the small controllers, one after the other.
 *
 * Guarantees: the store and its objects are not changed; the same store and options give the same cluster, whatever the
 * order of the input; all conflicts are reported together and no cluster comes out then.
 */

import type { Family } from '../model/address.ts';
import type { EndpointSlice } from '../model/endpoint-slice.ts';
import { serviceNameOf } from '../model/endpoint-slice.ts';
import { NAMESPACE_NAME_LABEL, type Namespace } from '../model/namespace.ts';
import type { Node } from '../model/node.ts';
import { copyOrigin } from '../model/origin.ts';
import type { Pod } from '../model/pod.ts';
import type { Service } from '../model/service.ts';
import type { Cluster, UnmodelledKind } from './cluster.ts';
import { checkNodes, checkPods, checkSlices } from './conflicts.ts';
import { readDefaults } from './defaults.ts';
import { computeEndpointSlices, hasSelector } from './endpoint-slices.ts';
import { isMirrored, mirrorEndpoints } from './endpoints-mirror.ts';
import { detectFamilies } from './families.ts';
import { KIND_NAMES, KINDS } from './kinds.ts';
import { collectNamedAddresses } from './named-addresses.ts';
import { addNodeAddresses, alignPodCidrs, gatherNodes } from './nodes.ts';
import { addPodAddresses } from './pod-addresses.ts';
import { InputError, type Problem, ProblemList } from './problem.ts';
import { schedulePods } from './scheduling.ts';
import { addServiceAddresses } from './service-addresses.ts';
import { type ObjectStore, sortByName } from './store.ts';
import { makeWorkloadPods, type PodGroup } from './workloads.ts';

export interface CompletionOptions {
  /** Ranges of ClusterIPs; empty or absent: the usual 10.96.0.0/12 and fd00:10:96::/112. */
  readonly serviceCIDRs?: readonly string[];
  /** Ranges of pod addresses; empty or absent: what the cluster's kube-proxy says, else the usual ones. */
  readonly clusterCIDR?: readonly string[];
  /** Addresses and prefixes that no made object may get, such as those that probes name. */
  readonly reserved?: readonly string[];
  /** Families of the cluster; absent: found out from the objects. */
  readonly families?: readonly Family[];
}

/** What the loader knows beside the objects. */
export interface InputFacts {
  readonly isDump?: boolean;
  /** Warnings of reading, to stand before those of completing. */
  readonly warnings?: readonly Problem[];
}

/**
 * Completes a cluster.
 *
 * @throws InputError with every conflict between the objects
 */
export function completeCluster(store: ObjectStore, options: CompletionOptions & InputFacts = {}): Cluster {
  const problems = new ProblemList();
  const defaults = readDefaults(store, problems);
  const families = options.families ?? detectFamilies(store);
  const named = collectNamedAddresses(store, options.reserved ?? []);
  const clusterCIDR = firstFilled(options.clusterCIDR, defaults.kubeProxy?.clusterCIDR);

  const nodesGiven = store.list('Node').length > 0;
  const nodes = gatherNodes(store);
  alignPodCidrs(nodes);
  checkNodes(nodes, problems);
  addNodeAddresses(nodes, families, named);

  const pods = gatherPods(store, nodes, nodesGiven, problems);
  addPodAddresses(pods, nodes, families, clusterCIDR, named, problems);

  const services = store.list('Service').map(copyService);
  addServiceAddresses(services, families, options.serviceCIDRs ?? [], named, problems);

  const endpointSlices = gatherSlices(store, services, pods, nodes, problems);
  const namespaces = gatherNamespaces(store);
  warnPartialDump(store, options.isDump === true, problems);
  if (problems.errors.length > 0) throw new InputError(problems.errors);

  const others = store.unmodelled();
  return {
    namespaces,
    nodes,
    pods,
    services,
    endpointSlices,
    networkPolicies: store.list('NetworkPolicy'),
    clusterNetworkPolicies: store.list('ClusterNetworkPolicy'),
    adminNetworkPolicies: store.list('AdminNetworkPolicy'),
    baselineAdminNetworkPolicies: store.list('BaselineAdminNetworkPolicy'),
    unmodelled: countKinds(others),
    unmodelledPolicies: others.flatMap(({ policy }) => (policy === null ? [] : [policy])).sort(byKindAndName),
    warnings: [...(options.warnings ?? []), ...problems.warnings],
    defaults,
  };
}

function firstFilled(...lists: readonly (readonly string[] | undefined)[]): readonly string[] {
  return lists.find((list) => list !== undefined && list.length > 0) ?? [];
}

/** Given and made pods by name, each with a node; their addresses are still missing. */
function gatherPods(store: ObjectStore, nodes: readonly Node[], nodesGiven: boolean, problems: ProblemList): Pod[] {
  const given = store.list('Pod').map(copyPod);
  checkPods(given, problems);
  const groups: PodGroup[] = [{ owner: null, pods: given }, ...makeWorkloadPods(store, given, nodes, nodesGiven)];
  schedulePods(groups, nodes, nodesGiven, problems);
  const pods = new Map<string, Pod>();
  // Given pods come first and win over a made one of the same name.
  for (const group of groups) {
    for (const pod of group.pods) {
      const key = `${pod.metadata.namespace}/${pod.metadata.name}`;
      if (!pods.has(key)) pods.set(key, pod);
    }
  }
  return sortByName([...pods.values()]);
}

function copyPod(given: Pod): Pod {
  const pod: Pod = {
    ...given,
    metadata: { ...given.metadata },
    spec: { ...given.spec },
    status: { ...given.status },
  };
  copyOrigin(pod, given);
  return pod;
}

function copyService(given: Service): Service {
  const service: Service = { ...given, spec: { ...given.spec } };
  copyOrigin(service, given);
  return service;
}

/** Given slices, and computed or mirrored ones for Services that have none given. */
function gatherSlices(
  store: ObjectStore,
  services: readonly Service[],
  pods: readonly Pod[],
  nodes: readonly Node[],
  problems: ProblemList,
): EndpointSlice[] {
  const slices = store.list('EndpointSlice');
  checkSlices(slices, problems);
  const served = new Set(slices.map((slice) => `${slice.metadata.namespace}/${serviceNameOf(slice)}`));
  const computed: Service[] = [];
  const mirrored: EndpointSlice[] = [];
  for (const service of services) {
    const { namespace, name } = service.metadata;
    if (served.has(`${namespace}/${name}`)) continue;
    const endpoints = store.get('Endpoints', namespace, name);
    if (endpoints !== undefined && isMirrored(endpoints)) mirrored.push(...mirrorEndpoints(endpoints, service, nodes));
    else if (hasSelector(service)) computed.push(service);
  }
  return sortByName([...slices, ...mirrored, ...computeEndpointSlices(computed, pods, nodes, problems)]);
}

/** Given namespaces, and those that objects name. */
function gatherNamespaces(store: ObjectStore): Namespace[] {
  const namespaces = new Map<string, Namespace>();
  for (const given of store.list('Namespace')) {
    const { name } = given.metadata;
    const labels = { ...given.metadata.labels, [NAMESPACE_NAME_LABEL]: name };
    const namespace: Namespace = { ...given, metadata: { ...given.metadata, labels } };
    copyOrigin(namespace, given);
    namespaces.set(name, namespace);
  }
  for (const kind of KIND_NAMES) {
    if (!KINDS[kind].namespaced) continue;
    for (const { metadata } of store.list(kind)) {
      const name = metadata.namespace;
      if (namespaces.has(name)) continue;
      const labels = { [NAMESPACE_NAME_LABEL]: name };
      namespaces.set(name, { apiVersion: 'v1', kind: 'Namespace', metadata: { name, namespace: '', labels } });
    }
  }
  return sortByName([...namespaces.values()]);
}

/** `kubectl get all` and the like leave out what decides where packets go. */
function warnPartialDump(store: ObjectStore, isDump: boolean, problems: ProblemList): void {
  const pods = store.list('Pod');
  if (pods.length === 0 || !(isDump || pods.some(({ metadata }) => metadata.uid !== undefined))) return;
  const elsewhere = (['EndpointSlice', 'NetworkPolicy', 'Node'] as const).some((kind) => store.list(kind).length > 0);
  if (elsewhere) return;
  problems.warnInput(
    'the dump holds Pods but no EndpointSlices, NetworkPolicies or Nodes; `kubectl get all` leaves these out. ' +
      'See the README for the command that dumps everything',
  );
}

function countKinds(others: readonly { readonly apiVersion: string; readonly kind: string }[]): UnmodelledKind[] {
  const counts = new Map<string, UnmodelledKind>();
  for (const { apiVersion, kind } of others) {
    const key = `${apiVersion}/${kind}`;
    counts.set(key, { apiVersion, kind, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return [...counts.values()].sort((a, b) => (`${a.kind}/${a.apiVersion}` < `${b.kind}/${b.apiVersion}` ? -1 : 1));
}

function byKindAndName(
  a: { readonly kind: string; readonly namespace: string; readonly name: string },
  b: { readonly kind: string; readonly namespace: string; readonly name: string },
): number {
  return `${a.kind}/${a.namespace}/${a.name}` < `${b.kind}/${b.namespace}/${b.name}` ? -1 : 1;
}
