/**
 * A small cluster in the tests' own words, and the Kubernetes objects that say the same.
 *
 * The oracles read a `World`, flatpath reads the objects: nothing that flatpath computes reaches an oracle. EndpointSlices
 * are always given, so that readiness, nodes, hints and ports are exactly what a test wrote.
 */

export type WorldFamily = 4 | 6;
export type WorldProtocol = 'TCP' | 'UDP' | 'SCTP';

export interface WorldNode {
  readonly name: string;
  readonly zone: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
}

export interface WorldPod {
  readonly name: string;
  readonly node: string;
  /** Of a hostNetwork pod those of its node. */
  readonly addresses: readonly string[];
  readonly hostNetwork: boolean;
}

export interface WorldEndpoint {
  readonly address: string;
  readonly node: string | null;
  /** Null: the condition is left out. */
  readonly ready: boolean | null;
  readonly serving: boolean | null;
  readonly terminating: boolean;
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}

export interface WorldSlice {
  readonly family: WorldFamily;
  readonly ports: readonly {
    readonly name: string;
    readonly protocol: WorldProtocol;
    readonly port: number | null;
  }[];
  readonly endpoints: readonly WorldEndpoint[];
}

export interface WorldPort {
  readonly name: string;
  readonly protocol: WorldProtocol;
  readonly port: number;
  /** 0: none. */
  readonly nodePort: number;
}

export interface WorldService {
  readonly name: string;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  /** Empty: headless. */
  readonly clusterIPs: readonly string[];
  readonly ports: readonly WorldPort[];
  readonly externalIPs: readonly string[];
  readonly ingress: readonly { readonly ip: string; readonly proxy: boolean }[];
  readonly sourceRanges: readonly string[];
  readonly internalLocal: boolean;
  readonly externalLocal: boolean;
  readonly affinity: boolean;
  readonly slices: readonly WorldSlice[];
}

export interface WorldOptions {
  readonly detectLocalMode: 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix' | 'None';
  readonly clusterCIDR: readonly string[];
  readonly masqueradeAll: boolean;
  readonly nodePortAddresses: readonly string[];
  readonly localhostNodePorts: boolean;
  readonly socketLB: boolean;
  readonly loadBalancerMode: 'snat' | 'dsr';
  readonly externalClusterIP: boolean;
  readonly algorithm: 'random' | 'maglev';
}

export interface World {
  readonly nodes: readonly WorldNode[];
  readonly pods: readonly WorldPod[];
  readonly services: readonly WorldService[];
  readonly options: WorldOptions;
}

export const DEFAULT_OPTIONS: WorldOptions = {
  detectLocalMode: 'ClusterCIDR',
  clusterCIDR: ['10.244.0.0/16', 'fd00:10:244::/56'],
  masqueradeAll: false,
  nodePortAddresses: [],
  localhostNodePorts: true,
  socketLB: true,
  loadBalancerMode: 'snat',
  externalClusterIP: false,
  algorithm: 'random',
};

export function endpoint(address: string, node: string | null, more: Partial<WorldEndpoint> = {}): WorldEndpoint {
  return { address, node, ready: true, serving: true, terminating: false, zones: [], nodes: [], ...more };
}

export function service(name: string, more: Partial<WorldService> = {}): WorldService {
  return {
    name,
    type: 'ClusterIP',
    clusterIPs: [],
    ports: [{ name: '', protocol: 'TCP', port: 80, nodePort: 0 }],
    externalIPs: [],
    ingress: [],
    sourceRanges: [],
    internalLocal: false,
    externalLocal: false,
    affinity: false,
    slices: [],
    ...more,
  };
}

export function familyOf(address: string): WorldFamily {
  return address.includes(':') ? 6 : 4;
}

/** The Kubernetes objects of a world. */
export function objectsOf(world: World): object[] {
  return [
    ...world.nodes.map(nodeObject),
    ...world.pods.map(podObject),
    ...world.services.flatMap((own) => [
      serviceObject(own),
      ...own.slices.map((slice, i) => sliceObject(own, slice, i)),
    ]),
  ];
}

/** The `datapath` block of a world. */
export function datapathOf({ options }: World): object {
  return {
    kubeProxy: {
      detectLocalMode: options.detectLocalMode,
      clusterCIDR: options.clusterCIDR,
      masqueradeAll: options.masqueradeAll,
      nodePortAddresses: options.nodePortAddresses,
      localhostNodePorts: options.localhostNodePorts,
    },
    ebpf: {
      socketLB: options.socketLB,
      loadBalancerMode: options.loadBalancerMode,
      externalClusterIP: options.externalClusterIP,
      algorithm: options.algorithm,
    },
  };
}

function nodeObject(node: WorldNode): object {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: node.name, labels: { 'topology.kubernetes.io/zone': node.zone } },
    spec: { podCIDR: node.podCIDRs[0], podCIDRs: node.podCIDRs },
    status: { addresses: node.addresses.map((address) => ({ type: 'InternalIP', address })) },
  };
}

function podObject(pod: WorldPod): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: pod.name, namespace: 'default' },
    spec: { nodeName: pod.node, hostNetwork: pod.hostNetwork, containers: [{ name: 'c' }] },
    status: { phase: 'Running', podIP: pod.addresses[0], podIPs: pod.addresses.map((ip) => ({ ip })) },
  };
}

function serviceObject(own: WorldService): object {
  const families = own.clusterIPs.map((ip) => (familyOf(ip) === 4 ? 'IPv4' : 'IPv6'));
  const external = own.type !== 'ClusterIP' || own.externalIPs.length > 0;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: own.name, namespace: 'default' },
    spec: {
      type: own.type,
      clusterIP: own.clusterIPs[0] ?? 'None',
      clusterIPs: own.clusterIPs.length > 0 ? own.clusterIPs : ['None'],
      ...(families.length > 0 ? { ipFamilies: families } : {}),
      ipFamilyPolicy: families.length > 1 ? 'RequireDualStack' : 'SingleStack',
      ports: own.ports.map(({ nodePort, name, ...port }) => ({
        ...port,
        ...(name === '' ? {} : { name }),
        ...(nodePort === 0 ? {} : { nodePort }),
      })),
      externalIPs: own.externalIPs,
      ...(own.sourceRanges.length > 0 ? { loadBalancerSourceRanges: own.sourceRanges } : {}),
      internalTrafficPolicy: own.internalLocal ? 'Local' : 'Cluster',
      ...(external ? { externalTrafficPolicy: own.externalLocal ? 'Local' : 'Cluster' } : {}),
      sessionAffinity: own.affinity ? 'ClientIP' : 'None',
    },
    status: {
      loadBalancer: {
        ingress: own.ingress.map(({ ip, proxy }) => ({ ip, ipMode: proxy ? 'Proxy' : 'VIP' })),
      },
    },
  };
}

function sliceObject(own: WorldService, slice: WorldSlice, index: number): object {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${own.name}-${index}`,
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': own.name },
    },
    addressType: slice.family === 4 ? 'IPv4' : 'IPv6',
    ports: slice.ports,
    endpoints: slice.endpoints.map((from) => ({
      addresses: [from.address],
      conditions: { ready: from.ready, serving: from.serving, terminating: from.terminating },
      ...(from.node === null ? {} : { nodeName: from.node }),
      ...(from.zones.length + from.nodes.length === 0
        ? {}
        : {
            hints: {
              forZones: from.zones.map((name) => ({ name })),
              forNodes: from.nodes.map((name) => ({ name })),
            },
          }),
    })),
  };
}
