/**
 * Whom a recorded flow's ends are, over both sides: by name where the recording has one, else by the address that a side
 * gives to somebody. What nobody has stays an address.
 *
 * Pods that a rollout has renamed are found by their workload, the name that a ReplicaSet's pods have, or their labels. The
 * same end is looked up by name on each side, so it does not matter that addresses were made there.
 */

import { ENTRY_HOST, ENTRY_POD } from '@flatpath/engine/wire/burst';
import { podAddresses } from '../compile/topology.ts';
import { type Address, type Family, parseAddress } from '../model/address.ts';
import { hasLabels } from '../model/label-selector.ts';
import type { Pod } from '../model/pod.ts';
import type { Service } from '../model/service.ts';
import { locateSource, type Source } from '../probe/connection.ts';
import { type Workload, workloadId, workloadOf } from '../reach/workload.ts';
import type { RecordedEnd } from './recorded-flow.ts';
import type { SideView } from './side-view.ts';

export type FlowEnd =
  | { readonly kind: 'pod'; readonly namespace: string; readonly name: string; readonly workload: Workload }
  | { readonly kind: 'node'; readonly name: string }
  /** `address` is an external or load-balancer address, null for the ClusterIP. */
  | { readonly kind: 'service'; readonly namespace: string; readonly name: string; readonly address: Address | null }
  | { readonly kind: 'address'; readonly address: Address };

/** What a pod's name has behind its workload's: a ReplicaSet's hash and the pod's own letters, or the latter alone. */
const POD_SUFFIXES = [/-[a-z0-9]{1,10}-[a-z0-9]{5}$/, /-[a-z0-9]{5}$/, /-\d+$/];

/** Ends of flows in two sides; the first that knows one tells who it is. */
export class FlowEnds {
  private readonly lookups: readonly Lookup[];
  private readonly known = new Map<RecordedEnd, FlowEnd | null>();

  constructor(views: readonly SideView[]) {
    this.lookups = views.map((view) => new Lookup(view));
  }

  /** Null where neither a name nor an address leads to anybody. */
  identify(end: RecordedEnd): FlowEnd | null {
    let found = this.known.get(end);
    if (found === undefined) {
      found = this.find(end);
      this.known.set(end, found);
    }
    return found;
  }

  private find(end: RecordedEnd): FlowEnd | null {
    // Each way of knowing is tried on both sides before the next, weaker one.
    for (const way of WAYS) {
      for (const lookup of this.lookups) {
        const found = way(lookup, end);
        if (found !== null) return found;
      }
    }
    return end.address === null ? null : { kind: 'address', address: end.address };
  }
}

const WAYS: readonly ((lookup: Lookup, end: RecordedEnd) => FlowEnd | null)[] = [
  (lookup, { namespace, pod }) => (pod === '' ? null : lookup.podNamed(namespace, pod)),
  (lookup, { namespace, service, address }) => (service === '' ? null : lookup.service(namespace, service, address)),
  (lookup, { namespace, workload }) => (workload === null ? null : lookup.workload(namespace, workload)),
  (lookup, { namespace, pod }) => (pod === '' ? null : lookup.podRenamed(namespace, pod)),
  (lookup, { namespace, labels }) => (labels === null || namespace === '' ? null : lookup.labelled(namespace, labels)),
  (lookup, { pod, node }) => (pod !== '' || node === '' ? null : lookup.node(node)),
  (lookup, { pod, address }) => (pod !== '' || address === null ? null : lookup.owner(address)),
];

/** Whom a side knows. */
class Lookup {
  private readonly view: SideView;
  private readonly pods = new Map<string, Pod>();
  /** The first pod of each workload, by 'namespace/name'. */
  private readonly workloads = new Map<string, Pod>();
  private readonly services = new Map<string, Service>();
  private readonly serviceByAddress = new Map<string, { service: Service; isClusterIp: boolean }>();

  constructor(view: SideView) {
    this.view = view;
    const { cluster } = view.model;
    for (const pod of cluster.pods) {
      if (podAddresses(pod).length === 0) continue;
      const { namespace, name } = pod.metadata;
      this.pods.set(`${namespace}/${name}`, pod);
      const workload = workloadOf(pod);
      if (!this.workloads.has(`${namespace}/${workload.name}`)) {
        this.workloads.set(`${namespace}/${workload.name}`, pod);
      }
    }
    for (const service of cluster.services) {
      const { spec, status, metadata } = service;
      this.services.set(`${metadata.namespace}/${metadata.name}`, service);
      const others = [...spec.externalIPs, ...status.loadBalancer.ingress.map(({ ip }) => ip)];
      for (const text of others) this.serviceByAddress.set(text, { service, isClusterIp: false });
      for (const text of spec.clusterIPs) this.serviceByAddress.set(text, { service, isClusterIp: true });
    }
  }

  podNamed(namespace: string, name: string): FlowEnd | null {
    return this.endOf(this.pods.get(`${namespace}/${name}`));
  }

  podRenamed(namespace: string, name: string): FlowEnd | null {
    for (const suffix of POD_SUFFIXES) {
      if (!suffix.test(name)) continue;
      const found = this.endOf(this.workloads.get(`${namespace}/${name.replace(suffix, '')}`));
      if (found !== null) return found;
    }
    return null;
  }

  workload(namespace: string, { name }: { readonly name: string }): FlowEnd | null {
    return this.endOf(this.workloads.get(`${namespace}/${name}`));
  }

  labelled(namespace: string, labels: Readonly<Record<string, string>>): FlowEnd | null {
    for (const pod of this.pods.values()) {
      if (pod.metadata.namespace === namespace && hasLabels(pod.metadata.labels, labels)) return this.endOf(pod);
    }
    return null;
  }

  service(namespace: string, name: string, address: Address | null): FlowEnd | null {
    const service = this.services.get(`${namespace}/${name}`);
    if (service === undefined) return null;
    const at = address === null ? undefined : this.serviceByAddress.get(address.text);
    const isOther = at !== undefined && at.service === service && !at.isClusterIp;
    return { kind: 'service', namespace, name, address: isOther ? address : null };
  }

  node(name: string): FlowEnd | null {
    return this.view.model.topology.nodeIndex.has(name) ? { kind: 'node', name } : null;
  }

  owner(address: Address): FlowEnd | null {
    const { topology } = this.view.model;
    const node = topology.nodeByAddress.get(address.text);
    if (node !== undefined) return { kind: 'node', name: topology.nodes[node]!.metadata.name };
    const endpoint = topology.endpointByAddress.get(address.text);
    if (endpoint !== undefined) return this.endOf(topology.endpoints[endpoint]!.pod);
    const served = this.serviceByAddress.get(address.text);
    if (served === undefined) return null;
    const { namespace, name } = served.service.metadata;
    return this.service(namespace, name, address);
  }

  private endOf(pod: Pod | undefined): FlowEnd | null {
    if (pod === undefined) return null;
    const { namespace, name } = pod.metadata;
    // On the host's network its packets are the node's.
    if (pod.spec.hostNetwork) return { kind: 'node', name: pod.spec.nodeName };
    return { kind: 'pod', namespace, name, workload: workloadOf(pod) };
  }
}

/** Where ends are on one side. */
export class FlowPlaces {
  private readonly view: SideView;
  /** Endpoint numbers by 'namespace/name' of the pod, and the first of each workload by id. */
  private readonly pods = new Map<string, number>();
  private readonly workloads = new Map<string, number>();
  private readonly services: ReadonlyMap<string, Service>;

  constructor(view: SideView) {
    this.view = view;
    view.model.topology.endpoints.forEach(({ pod }, endpoint) => {
      this.pods.set(`${pod.metadata.namespace}/${pod.metadata.name}`, endpoint);
      const id = nameOf(workloadOf(pod));
      if (!this.workloads.has(id)) this.workloads.set(id, endpoint);
    });
    const { services } = view.model.cluster;
    this.services = new Map(services.map((service) => [nameOf(service.metadata), service]));
  }

  /** The addresses that an end is asked at; empty where the side does not have it. */
  targetsOf(end: FlowEnd): readonly Address[] {
    const { parties, model } = this.view;
    switch (end.kind) {
      case 'address':
        return [end.address];
      case 'pod': {
        const endpoint = this.endpointOf(end);
        return endpoint === null ? [] : model.topology.endpoints[endpoint]!.addresses;
      }
      case 'node': {
        const node = model.topology.nodeIndex.get(end.name);
        if (node === undefined) return [];
        return FAMILIES.map((family) => parties.addressOf(parties.pods + node, family)).filter((own) => own !== null);
      }
      case 'service': {
        const service = this.services.get(nameOf(end));
        if (service === undefined) return [];
        return end.address === null ? clusterIps(service) : [end.address];
      }
    }
  }

  /** Where an end sends from, toward an address; null where the side does not have it or it sends nothing. */
  sourceOf(end: FlowEnd, target: Address): Source | null {
    const { parties, model } = this.view;
    switch (end.kind) {
      case 'address':
        return locateSource(model, end.address, target, null);
      case 'pod': {
        const endpoint = this.endpointOf(end);
        const address = endpoint === null ? null : parties.addressOf(endpoint, target.family);
        if (endpoint === null || address === null) return null;
        return { node: parties.nodeOf(endpoint), entry: ENTRY_POD, endpoint, address };
      }
      case 'node': {
        const node = model.topology.nodeIndex.get(end.name);
        const address = node === undefined ? null : parties.addressOf(parties.pods + node, target.family);
        return node === undefined || address === null ? null : { node, entry: ENTRY_HOST, endpoint: -1, address };
      }
      case 'service':
        return null;
    }
  }

  private endpointOf({ namespace, name, workload }: Extract<FlowEnd, { kind: 'pod' }>): number | null {
    return this.pods.get(`${namespace}/${name}`) ?? this.workloads.get(nameOf(workload)) ?? null;
  }
}

/** 'deploy/shop/cart', 'node/worker-1', 'svc/shop/cart', '203.0.113.7'. */
export function describeEnd(end: FlowEnd): string {
  switch (end.kind) {
    case 'pod':
      return workloadId(end.workload);
    case 'node':
      return `node/${end.name}`;
    case 'service': {
      const id = `svc/${end.namespace}/${end.name}`;
      return end.address === null ? id : `${id} at ${end.address.text}`;
    }
    case 'address':
      return end.address.text;
  }
}

const FAMILIES: readonly Family[] = [4, 6];

function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

function clusterIps({ spec }: Service): Address[] {
  return spec.clusterIPs.map((text) => parseAddress(text)).filter((address) => address !== null);
}
