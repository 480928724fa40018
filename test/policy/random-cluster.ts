/**
 * Random clusters for policies: namespaces, nodes, pods and Services as plain Kubernetes objects, small enough that the
 * few labels, ports and addresses in use meet often.
 *
 * Nothing of flatpath is read here: what a test asks and what the oracle answers come from the same raw objects.
 */

import fc from 'fast-check';

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly [key: string]: unknown;
}

export type Transport = 'TCP' | 'UDP' | 'SCTP';

export interface PodPort {
  readonly name: string;
  readonly protocol: Transport;
  readonly port: number;
}

/** A pod in the tests' own words; `podObject` says the same to Kubernetes. */
export interface DrawnPod {
  readonly name: string;
  readonly namespace: string;
  /** Number of its node, from 1. */
  readonly node: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly PodPort[];
  /** The last ports belong to a sidecar (an init container that stays). */
  readonly sidecarPorts: number;
  readonly hostNetwork: boolean;
  readonly families: readonly (4 | 6)[];
  readonly ended: boolean;
}

export interface ClusterObjects {
  readonly nodes: readonly KubeObject[];
  readonly namespaces: readonly KubeObject[];
  readonly pods: readonly KubeObject[];
  readonly services: readonly KubeObject[];
}

export const NODES = [1, 2, 3] as const;
/** `ghost` has no Namespace object: the pods alone say that it exists. */
export const NAMESPACES = ['default', 'shop', 'data', 'ghost'] as const;
export const APPS = ['web', 'db', 'dns'] as const;
export const TIERS = ['front', 'back'] as const;
export const PORT_NAMES = ['http', 'dns', 'metrics', 'nobody'] as const;
export const PORTS = [53, 80, 8080, 9090] as const;
export const TRANSPORTS: readonly Transport[] = ['TCP', 'UDP', 'SCTP'];
/** Clients outside the cluster. */
export const CLIENTS = ['203.0.113.5', '203.0.113.77', '2001:db8:5::5', '2001:db8:5::77'] as const;

export const nodeName = (node: number): string => `node-${node}`;
export const nodeAddress = (node: number, family: 4 | 6): string =>
  family === 4 ? `192.168.0.${node}` : `fd00:168::${node}`;
export const podAddress = (node: number, host: number, family: 4 | 6): string =>
  family === 4 ? `10.244.${node}.${host}` : `fd00:10:244:${node}::${host.toString(16)}`;
/** Host number of addresses that lie in a pod CIDR and belong to no pod. */
export const UNLISTED_HOST = 99;

/** Most live together, or policies would seldom speak about two pods that speak to each other. */
export const someNamespace = fc.constantFrom(...NAMESPACES, 'shop' as const, 'shop' as const);

const labels: fc.Arbitrary<Record<string, string>> = fc
  .record({
    app: fc.option(fc.constantFrom(...APPS), { freq: 6 }),
    tier: fc.option(fc.constantFrom(...TIERS), { freq: 3 }),
  })
  .map(({ app, tier }) => ({ ...(app === null ? {} : { app }), ...(tier === null ? {} : { tier }) }));

const podPort: fc.Arbitrary<PodPort> = fc.constantFrom<PodPort>(
  { name: 'http', protocol: 'TCP', port: 80 },
  { name: 'http', protocol: 'TCP', port: 8080 },
  { name: 'http', protocol: 'UDP', port: 8080 },
  { name: 'dns', protocol: 'UDP', port: 53 },
  { name: 'dns', protocol: 'TCP', port: 53 },
  { name: 'metrics', protocol: 'TCP', port: 9090 },
  { name: 'metrics', protocol: 'SCTP', port: 9090 },
);

const pod = fc.record<Omit<DrawnPod, 'name'>>({
  namespace: someNamespace,
  node: fc.constantFrom(...NODES),
  labels,
  ports: fc.uniqueArray(podPort, { maxLength: 4, selector: ({ protocol, port }) => `${protocol} ${port}` }),
  sidecarPorts: fc.constantFrom(0, 0, 1),
  hostNetwork: fc.constantFrom(false, false, false, false, true),
  families: fc.constantFrom<(4 | 6)[]>([4, 6], [4, 6], [4], [6]),
  ended: fc.constantFrom(false, false, false, false, false, false, false, true),
});

/** Pods by the names `pod-1`, …; every one an address of its own, or its node's. */
export const randomPods = (count: { min: number; max: number }): fc.Arbitrary<DrawnPod[]> =>
  fc
    .array(pod, { minLength: count.min, maxLength: count.max })
    .map((drawn) => drawn.map((own, index) => ({ ...own, name: `pod-${index + 1}` })));

export const addressesOf = (own: DrawnPod): string[] => {
  const host = Number(own.name.slice('pod-'.length)) + 1;
  return own.families.map((family) =>
    own.hostNetwork ? nodeAddress(own.node, family) : podAddress(own.node, host, family),
  );
};

/** Each port in a container of its own, so that a name may come back with another protocol or number. */
export function podObject(own: DrawnPod): KubeObject {
  const addresses = addressesOf(own);
  const containers = own.ports.map(({ name, protocol, port }, index) => ({
    name: `c${index}`,
    ports: [{ name, protocol, containerPort: port }],
  }));
  const sidecars = containers.splice(containers.length - Math.min(own.sidecarPorts, containers.length));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: own.name, namespace: own.namespace, labels: own.labels },
    spec: {
      nodeName: nodeName(own.node),
      hostNetwork: own.hostNetwork,
      containers: [{ name: 'main' }, ...containers],
      initContainers: [
        // One that ends before the pod runs: its port is nobody's.
        { name: 'setup', ports: [{ name: 'nobody', containerPort: 80 }] },
        ...sidecars.map((container) => ({ ...container, restartPolicy: 'Always' })),
      ],
    },
    status: {
      phase: own.ended ? 'Succeeded' : 'Running',
      podIP: addresses[0],
      podIPs: addresses.map((ip) => ({ ip })),
    },
  };
}

const namespaceLabels = fc.tuple(
  ...NAMESPACES.slice(0, 3).map(() =>
    fc.record({
      env: fc.option(fc.constantFrom('prod', 'dev'), { freq: 4 }),
      team: fc.option(fc.constantFrom('a', 'b'), { freq: 2 }),
    }),
  ),
);

const nodeLabels = fc.tuple(
  ...NODES.map(() =>
    fc.record({ role: fc.constantFrom('edge', 'worker', 'worker'), zone: fc.constantFrom('z1', 'z2') }),
  ),
);

const present = (drawn: Readonly<Record<string, string | null>>): Record<string, string> =>
  Object.fromEntries(Object.entries(drawn).flatMap(([key, value]) => (value === null ? [] : [[key, value]])));

/** What Services need to know of a cluster is their number alone: selectors are of the labels in use. */
const service = (index: number): fc.Arbitrary<KubeObject[]> =>
  fc
    .record({
      namespace: someNamespace,
      type: fc.constantFrom('ClusterIP', 'ClusterIP', 'NodePort', 'LoadBalancer'),
      selector: fc.constantFrom<Record<string, string> | null>(
        { app: 'web' },
        { app: 'db' },
        { app: 'dns' },
        { tier: 'front' },
        null,
      ),
      families: fc.constantFrom<(4 | 6)[]>([4, 6], [4, 6], [6, 4], [4], [6]),
      protocol: fc.constantFrom<Transport>('TCP', 'TCP', 'UDP', 'SCTP'),
      targetPort: fc.constantFrom<number | string>('http', 'dns', 8080, 80),
      port: fc.constantFrom(80, 8080),
      internalLocal: fc.constantFrom(false, false, true),
      externalLocal: fc.boolean(),
      externalIPs: fc.constantFrom(false, false, true),
      ranges: fc.constantFrom<string[]>([], [], ['203.0.113.0/26', '10.244.0.0/16', '2001:db8:5::/124']),
    })
    .map((drawn) => serviceObjects(index, drawn));

interface DrawnService {
  readonly namespace: string;
  readonly type: string;
  readonly selector: Readonly<Record<string, string>> | null;
  readonly families: readonly (4 | 6)[];
  readonly protocol: Transport;
  readonly targetPort: number | string;
  readonly port: number;
  readonly internalLocal: boolean;
  readonly externalLocal: boolean;
  readonly externalIPs: boolean;
  readonly ranges: readonly string[];
}

export const clusterIp = (index: number, family: 4 | 6): string =>
  family === 4 ? `10.96.0.${index + 10}` : `fd00:10:96::${(index + 10).toString(16)}`;

/** A Service; without a selector a slice by hand leads out of the cluster and to a node. */
function serviceObjects(index: number, drawn: DrawnService): KubeObject[] {
  const { namespace, families, protocol } = drawn;
  const name = `svc-${index}`;
  const outward = drawn.type !== 'ClusterIP' || drawn.externalIPs;
  const own: KubeObject = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: {
      type: drawn.type,
      clusterIP: clusterIp(index, families[0]!),
      clusterIPs: families.map((family) => clusterIp(index, family)),
      ipFamilies: families.map((family) => `IPv${family}`),
      ipFamilyPolicy: families.length > 1 ? 'RequireDualStack' : 'SingleStack',
      ...(drawn.selector === null ? {} : { selector: drawn.selector }),
      ports: [
        {
          name: 'p',
          protocol,
          port: drawn.port,
          targetPort: drawn.targetPort,
          ...(drawn.type === 'ClusterIP' ? {} : { nodePort: 30_000 + index }),
        },
      ],
      internalTrafficPolicy: drawn.internalLocal ? 'Local' : 'Cluster',
      ...(outward ? { externalTrafficPolicy: drawn.externalLocal ? 'Local' : 'Cluster' } : {}),
      ...(drawn.externalIPs
        ? { externalIPs: families.map((family) => (family === 4 ? `198.51.100.${index}` : `2001:db8:e::${index}`)) }
        : {}),
      ...(drawn.type === 'LoadBalancer' ? { loadBalancerSourceRanges: drawn.ranges } : {}),
    },
    ...(drawn.type === 'LoadBalancer'
      ? {
          status: {
            loadBalancer: {
              ingress: families.map((family) => ({
                ip: family === 4 ? `198.51.100.${index + 100}` : `2001:db8:f::${index}`,
              })),
            },
          },
        }
      : {}),
  };
  if (drawn.selector !== null) return [own];
  const slices = families.map(
    (family): KubeObject => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-v${family}`, namespace, labels: { 'kubernetes.io/service-name': name } },
      addressType: `IPv${family}`,
      ports: [{ name: 'p', protocol, port: 8080 }],
      endpoints: [
        { addresses: [family === 4 ? '203.0.113.200' : '2001:db8:5::200'], conditions: { ready: true } },
        { addresses: [nodeAddress(2, family)], conditions: { ready: true }, nodeName: nodeName(2) },
        { addresses: [podAddress(1, UNLISTED_HOST, family)], conditions: { ready: true }, nodeName: nodeName(1) },
      ],
    }),
  );
  return [own, ...slices];
}

/** Nodes, namespaces, pods and Services, without a policy. */
export const randomObjects = (
  pods: { min: number; max: number } = { min: 3, max: 7 },
  services = 3,
): fc.Arbitrary<ClusterObjects> =>
  fc
    .record({
      nodeLabels,
      namespaceLabels,
      pods: randomPods(pods),
      services: fc.tuple(...Array.from({ length: services }, (_, index) => service(index + 1))),
    })
    .map((drawn) => ({
      nodes: NODES.map((node, index) => ({
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: nodeName(node), labels: drawn.nodeLabels[index]! },
        spec: {
          podCIDR: `10.244.${node}.0/24`,
          podCIDRs: [`10.244.${node}.0/24`, `fd00:10:244:${node}::/64`],
        },
        status: { addresses: ([4, 6] as const).map((f) => ({ type: 'InternalIP', address: nodeAddress(node, f) })) },
      })),
      namespaces: drawn.namespaceLabels.map((own, index) => ({
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: NAMESPACES[index]!, labels: present(own) },
      })),
      pods: drawn.pods.map(podObject),
      services: drawn.services.flat(),
    }));
