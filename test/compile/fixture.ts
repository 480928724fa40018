/**
 * Small completed clusters made of plain objects, for the tests of the compile: what is left out takes the API's default.
 */

import type { Cluster } from '../../control/src/cluster/cluster.ts';
import type { DatapathConfig } from '../../control/src/model/datapath.ts';
import { resolveDatapath } from '../../control/src/model/datapath.ts';
import type { Endpoint, EndpointPort, EndpointSlice } from '../../control/src/model/endpoint-slice.ts';
import type { Node } from '../../control/src/model/node.ts';
import type { LoadBalancerIngress, Service, ServicePort } from '../../control/src/model/service.ts';

export function makeCluster(parts: {
  nodes?: Node[];
  services?: Service[];
  endpointSlices?: EndpointSlice[];
}): Cluster {
  return {
    namespaces: [],
    nodes: parts.nodes ?? [makeNode('node-1', ['192.168.0.1', '2001:db8::1'])],
    pods: [],
    services: parts.services ?? [],
    endpointSlices: parts.endpointSlices ?? [],
    networkPolicies: [],
    clusterNetworkPolicies: [],
    adminNetworkPolicies: [],
    baselineAdminNetworkPolicies: [],
    unmodelled: [],
    unmodelledPolicies: [],
    warnings: [],
    defaults: { kubeProxy: {}, ebpf: {}, taken: [] },
  };
}

export function makeNode(name: string, addresses: string[], more: { zone?: string; podCIDRs?: string[] } = {}): Node {
  const podCIDRs = more.podCIDRs ?? [];
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      namespace: '',
      labels: more.zone === undefined ? {} : { 'topology.kubernetes.io/zone': more.zone },
    },
    spec: { podCIDR: podCIDRs[0] ?? '', podCIDRs },
    status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) },
  };
}

export interface ServiceParts extends Partial<Omit<Service['spec'], 'ports'>> {
  ports?: Partial<ServicePort>[];
  ingress?: Partial<LoadBalancerIngress>[];
  labels?: Record<string, string>;
}

/** A Service `ns/name`; its ClusterIPs are those of `clusterIPs`. */
export function makeService(path: string, parts: ServiceParts): Service {
  const [namespace, name] = path.split('/');
  const { ports, ingress, labels, ...spec } = parts;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: namespace!, name: name!, labels },
    spec: {
      type: 'ClusterIP',
      clusterIP: spec.clusterIPs?.[0] ?? '',
      clusterIPs: [],
      ipFamilies: [],
      externalIPs: [],
      loadBalancerIP: '',
      loadBalancerSourceRanges: [],
      allocateLoadBalancerNodePorts: true,
      externalName: '',
      externalTrafficPolicy: 'Cluster',
      internalTrafficPolicy: 'Cluster',
      healthCheckNodePort: 0,
      publishNotReadyAddresses: false,
      sessionAffinity: 'None',
      ...spec,
      ports: (ports ?? []).map((port) => ({ name: '', protocol: 'TCP', port: 80, nodePort: 0, ...port })),
    },
    status: {
      loadBalancer: { ingress: (ingress ?? []).map((entry) => ({ ip: '', hostname: '', ipMode: 'VIP', ...entry })) },
    },
  };
}

export type EndpointParts = Partial<Endpoint> & { address?: string };

/** A slice of the Service `ns/name`. */
export function makeSlice(
  path: string,
  ports: Partial<EndpointPort>[],
  endpoints: EndpointParts[],
  more: { name?: string; addressType?: EndpointSlice['addressType']; labels?: Record<string, string> } = {},
): EndpointSlice {
  const [namespace, service] = path.split('/');
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      namespace: namespace!,
      name: more.name ?? `${service}-abcde`,
      labels: { 'kubernetes.io/service-name': service!, ...more.labels },
    },
    addressType: more.addressType ?? 'IPv4',
    endpoints: endpoints.map(({ address, ...endpoint }) => ({
      addresses: address === undefined ? [] : [address],
      conditions: {},
      ...endpoint,
    })),
    ports: ports.map((port) => ({ name: '', protocol: 'TCP', ...port })),
  };
}

export function kubeProxyConfig(options: Partial<DatapathConfig['kubeProxy']> = {}): DatapathConfig {
  return resolveDatapath({ kubeProxy: options });
}
