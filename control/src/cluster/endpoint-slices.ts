/**
 * EndpointSlices of Services with a selector, as the EndpointSlice controller keeps them.
 *
 * Per family of the Service, pods that resolve its ports to the same numbers share slices of at most 100 endpoints. A
 * named targetPort is looked up pod by pod (name and protocol; containers first, then sidecars); a port that a pod lacks
 * is missing from that pod's slice. Ready, serving and terminating follow the pod; publishNotReadyAddresses makes ready
 * what is not. Succeeded and Failed pods, and pods without an address of the family, back nothing.
 */

import { parseAddress } from '../model/address.ts';
import {
  type Endpoint,
  type EndpointPort,
  type EndpointSlice,
  MANAGED_BY_LABEL,
  SERVICE_NAME_LABEL,
} from '../model/endpoint-slice.ts';
import { hasLabels } from '../model/label-selector.ts';
import { type Node, zoneOf } from '../model/node.ts';
import { setDerived } from '../model/origin.ts';
import { hasEnded, isPodReady, type Pod } from '../model/pod.ts';
import type { IPFamily, Service, ServicePort } from '../model/service.ts';
import { nameHash } from './name-hash.ts';
import type { ProblemList } from './problem.ts';
import { addHints } from './topology-hints.ts';

/** Endpoints of one slice that the controller makes. */
const ENDPOINTS_PER_SLICE = 100;
const HEADLESS_LABEL = 'service.kubernetes.io/headless';
const RESERVED_LABELS = [HEADLESS_LABEL, SERVICE_NAME_LABEL, MANAGED_BY_LABEL];

/**
 * Computes the slices of the given Services.
 *
 * @param services those with a selector and no given endpoints
 * @param pods completed, by name
 */
export function computeEndpointSlices(
  services: readonly Service[],
  pods: readonly Pod[],
  nodes: readonly Node[],
  problems: ProblemList,
): EndpointSlice[] {
  const index = new PodIndex(pods);
  const zones = new Map(nodes.map((node) => [node.metadata.name, zoneOf(node)]));
  const slices: EndpointSlice[] = [];
  for (const service of services) {
    const selected = index.select(service.metadata.namespace, service.spec.selector ?? {});
    warnUnresolvedPorts(service, selected, problems);
    for (const family of service.spec.ipFamilies) {
      const made = sliceFamily(service, selected, family, zones);
      addHints(service, made, nodes);
      slices.push(...made);
    }
  }
  return slices;
}

/** True for a Service whose endpoints its selector decides. */
export function hasSelector({ spec }: Service): boolean {
  return spec.type !== 'ExternalName' && spec.selector !== undefined && Object.keys(spec.selector).length > 0;
}

/** An empty slice of a Service, named and labelled as a controller does. */
export function makeSlice(
  service: Service,
  addressType: IPFamily,
  ports: readonly EndpointPort[],
  managedBy: string,
  number: number,
): EndpointSlice {
  const { name, namespace, labels } = service.metadata;
  const sliceLabels: Record<string, string> = {};
  for (const [key, value] of Object.entries(labels ?? {})) if (!RESERVED_LABELS.includes(key)) sliceLabels[key] = value;
  if (service.spec.clusterIP === 'None') sliceLabels[HEADLESS_LABEL] = '';
  sliceLabels[SERVICE_NAME_LABEL] = name;
  sliceLabels[MANAGED_BY_LABEL] = managedBy;
  const key = `EndpointSlice/${namespace}/${name}/${addressType}/${number}/${managedBy}`;
  const slice: EndpointSlice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-${nameHash(key, 5)}`, namespace, labels: sliceLabels },
    addressType,
    endpoints: [],
    ports: [...ports],
  };
  setDerived(slice, service, service.spec.selector === undefined ? '' : 'spec.selector');
  return slice;
}

/** The number behind a Service's targetPort in a pod, or null where the pod has no port of that name. */
export function resolveTargetPort(port: ServicePort, pod: Pod): number | null {
  const { targetPort, protocol } = port;
  if (targetPort === undefined || targetPort === 0 || targetPort === '') return port.port;
  if (typeof targetPort === 'number') return targetPort;
  for (const container of pod.spec.containers) {
    for (const candidate of container.ports) {
      if (candidate.name === targetPort && candidate.protocol === protocol) return candidate.containerPort;
    }
  }
  for (const container of pod.spec.initContainers) {
    if (container.restartPolicy !== 'Always') continue;
    for (const candidate of container.ports) {
      if (candidate.name === targetPort && candidate.protocol === protocol) return candidate.containerPort;
    }
  }
  return null;
}

interface PortGroup {
  readonly ports: EndpointPort[];
  readonly endpoints: Endpoint[];
}

function sliceFamily(
  service: Service,
  pods: readonly Pod[],
  family: IPFamily,
  zones: ReadonlyMap<string, string>,
): EndpointSlice[] {
  const groups = new Map<string, PortGroup>();
  for (const pod of pods) {
    const address = addressOf(pod, family);
    if (address === null) continue;
    const numbers = service.spec.ports.map((port) => resolveTargetPort(port, pod));
    const key = numbers.join();
    let group = groups.get(key);
    if (group === undefined) {
      group = { ports: endpointPorts(service, numbers), endpoints: [] };
      groups.set(key, group);
    }
    group.endpoints.push(makeEndpoint(service, pod, address, zones.get(pod.spec.nodeName) ?? ''));
  }
  const slices: EndpointSlice[] = [];
  for (const { ports, endpoints } of groups.values()) {
    for (let start = 0; start < endpoints.length; start += ENDPOINTS_PER_SLICE) {
      const slice = makeSlice(service, family, ports, 'endpointslice-controller.k8s.io', slices.length);
      slice.endpoints = endpoints.slice(start, start + ENDPOINTS_PER_SLICE);
      slices.push(slice);
    }
  }
  if (slices.length === 0) slices.push(makeSlice(service, family, [], 'endpointslice-controller.k8s.io', 0));
  return slices;
}

function endpointPorts(service: Service, numbers: readonly (number | null)[]): EndpointPort[] {
  const ports: EndpointPort[] = [];
  service.spec.ports.forEach(({ name, protocol }, index) => {
    const number = numbers[index];
    if (number === null || number === undefined) return;
    const port = { name, protocol, port: number };
    setDerived(port, service, `spec.ports[${index}].targetPort`);
    ports.push(port);
  });
  return ports;
}

function makeEndpoint(service: Service, pod: Pod, address: string, zone: string): Endpoint {
  const serving = isPodReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const { name, namespace } = pod.metadata;
  const endpoint: Endpoint = {
    addresses: [address],
    conditions: {
      ready: service.spec.publishNotReadyAddresses || (serving && !terminating),
      serving,
      terminating,
    },
    nodeName: pod.spec.nodeName,
    targetRef: { kind: 'Pod', namespace, name },
  };
  if (zone !== '') endpoint.zone = zone;
  if (pod.spec.hostname !== '' && pod.spec.subdomain === service.metadata.name) endpoint.hostname = pod.spec.hostname;
  setDerived(endpoint, pod, 'status.podIP');
  return endpoint;
}

function addressOf(pod: Pod, family: IPFamily): string | null {
  const wanted = family === 'IPv4' ? 4 : 6;
  for (const { ip } of pod.status.podIPs) if (parseAddress(ip)?.family === wanted) return ip;
  return null;
}

/** A name that no pod knows is almost always a mistake; real clusters say nothing and serve nothing. */
function warnUnresolvedPorts(service: Service, pods: readonly Pod[], problems: ProblemList): void {
  if (pods.length === 0) return;
  service.spec.ports.forEach((port, index) => {
    if (typeof port.targetPort !== 'string' || port.targetPort === '') return;
    if (pods.some((pod) => resolveTargetPort(port, pod) !== null)) return;
    problems.warn(
      service,
      `spec.ports[${index}].targetPort`,
      `none of the ${pods.length} selected pods has a ${port.protocol} container port named "${port.targetPort}"`,
    );
  });
}

/** Pods by namespace and label, so that 10,000 Services need not look at every pod each. */
class PodIndex {
  readonly #byLabel = new Map<string, Pod[]>();

  constructor(pods: readonly Pod[]) {
    for (const pod of pods) {
      if (hasEnded(pod)) continue;
      for (const [key, value] of Object.entries(pod.metadata.labels ?? {})) {
        const indexKey = `${pod.metadata.namespace}/${key}=${value}`;
        const list = this.#byLabel.get(indexKey);
        if (list === undefined) this.#byLabel.set(indexKey, [pod]);
        else list.push(pod);
      }
    }
  }

  /** Pods of a namespace with all of the labels (at least one), by name. */
  select(namespace: string, labels: Readonly<Record<string, string>>): Pod[] {
    let fewest: readonly Pod[] | null = null;
    for (const [key, value] of Object.entries(labels)) {
      const list = this.#byLabel.get(`${namespace}/${key}=${value}`) ?? [];
      if (fewest === null || list.length < fewest.length) fewest = list;
    }
    return (fewest ?? []).filter((pod) => hasLabels(pod.metadata.labels, labels));
  }
}
