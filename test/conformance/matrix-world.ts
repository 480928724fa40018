/**
 * The systematic world: a Service for every protocol × traffic policies × layout of endpoints, each with a ClusterIP, an
 * external IP, a load balancer's address and a nodePort in both families, and the questions that everybody asks.
 */

import type { Question } from './run-world.ts';
import {
  DEFAULT_OPTIONS,
  endpoint,
  type World,
  type WorldEndpoint,
  type WorldFamily,
  type WorldOptions,
  type WorldPod,
  type WorldProtocol,
  type WorldService,
} from './world.ts';

export const PROTOCOLS: readonly WorldProtocol[] = ['TCP', 'UDP', 'SCTP'];
export const FAMILIES: readonly WorldFamily[] = [4, 6];
const NODES = ['node-1', 'node-2'];

/** `net` of `address(4, 'pod', n)` and so on; every kind of address in both families. */
const NETS = {
  pod1: ['10.244.1.', 'fd00:10:244:1::'],
  pod2: ['10.244.2.', 'fd00:10:244:2::'],
  node: ['192.168.0.', 'fd00:168::'],
  cluster: ['10.96.1.', 'fd00:10:96::'],
  external: ['203.0.113.', '2001:db8:113::'],
  balancer: ['198.51.100.', '2001:db8:100::'],
  client: ['192.0.2.', '2001:db8:2::'],
} as const;

export function address(family: WorldFamily, net: keyof typeof NETS, host: number): string {
  const [v4, v6] = NETS[net];
  return family === 4 ? `${v4}${host}` : `${v6}${host.toString(16)}`;
}

export const WORLD_NODES = NODES.map((name, i) => ({
  name,
  zone: `zone-${i + 1}`,
  addresses: FAMILIES.map((family) => address(family, 'node', i + 1)),
  podCIDRs: [`10.244.${i + 1}.0/24`, `fd00:10:244:${i + 1}::/64`],
}));

function pod(name: string, net: 'pod1' | 'pod2', host: number): WorldPod {
  const node = net === 'pod1' ? 'node-1' : 'node-2';
  return { name, node, addresses: FAMILIES.map((family) => address(family, net, host)), hostNetwork: false };
}

/** client-1 and client-2 serve nothing; self-1 is an endpoint of the layout `self`. */
export const WORLD_PODS: readonly WorldPod[] = [
  pod('client-1', 'pod1', 2),
  pod('client-2', 'pod2', 2),
  pod('self-1', 'pod1', 3),
  ...[10, 11].map((host) => pod(`one-${host}`, 'pod1', host)),
  ...[10, 11].map((host) => pod(`two-${host}`, 'pod2', host)),
  { name: 'host-1', node: 'node-1', addresses: WORLD_NODES[0]!.addresses, hostNetwork: true },
];

type Layout = (family: WorldFamily) => WorldEndpoint[];
const near = (family: WorldFamily, host: number, more: Partial<WorldEndpoint> = {}): WorldEndpoint =>
  endpoint(address(family, 'pod1', host), 'node-1', more);
const far = (family: WorldFamily, host: number, more: Partial<WorldEndpoint> = {}): WorldEndpoint =>
  endpoint(address(family, 'pod2', host), 'node-2', more);
const DRAINING = { ready: false, serving: true, terminating: true };
const UNREADY = { ready: false, serving: false, terminating: false };

export const LAYOUTS: Readonly<Record<string, Layout>> = {
  both: (family) => [near(family, 10), near(family, 11), far(family, 10)],
  remote: (family) => [far(family, 10), far(family, 11)],
  none: () => [],
  unready: (family) => [near(family, 10, UNREADY), far(family, 10, UNREADY)],
  'serving but unready': (family) => [near(family, 10, { ...UNREADY, serving: true })],
  'only remote draining': (family) => [near(family, 10, UNREADY), far(family, 10, DRAINING)],
  'local draining, remote ready': (family) => [near(family, 10, DRAINING), far(family, 10)],
  'both draining': (family) => [near(family, 10, DRAINING), far(family, 10, DRAINING)],
  'terminating, not serving': (family) => [near(family, 10, { ready: false, serving: false, terminating: true })],
  self: (family) => [near(family, 3)],
  'no node name': (family) => [endpoint(address(family, 'pod1', 10), null)],
  'zone hints': (family) => [near(family, 10, { zones: ['zone-1'] }), far(family, 10, { zones: ['zone-2'] })],
  'half hinted': (family) => [near(family, 10, { zones: ['zone-1'] }), far(family, 10)],
  'hints of another zone': (family) => [
    near(family, 10, { zones: ['zone-9'] }),
    far(family, 10, { zones: ['zone-9'] }),
  ],
  'node hints': (family) => [near(family, 10, { nodes: ['node-1'] }), far(family, 10, { nodes: ['node-2'] })],
  'node hints of another': (family) => [
    near(family, 10, { nodes: ['node-2'] }),
    far(family, 10, { nodes: ['node-2'] }),
  ],
  'hinted draining': (family) => [
    near(family, 10, { ...DRAINING, zones: ['zone-2'] }),
    far(family, 10, { ...DRAINING, zones: ['zone-2'] }),
  ],
  'unready without hint': (family) => [
    near(family, 10, { zones: ['zone-1'] }),
    far(family, 10, { zones: ['zone-2'] }),
    far(family, 11, UNREADY),
  ],
  'ready left out': (family) => [near(family, 10, { ready: null, serving: null })],
  'host network': (family) => [
    endpoint(address(family, 'node', 1), 'node-1'),
    endpoint(address(family, 'node', 2), 'node-2'),
  ],
  outside: (family) => [endpoint(address(family, 'client', 99), null)],
  'address of no pod': (family) => [endpoint(address(family, 'pod2', 77), 'node-2')],
};

/** A Service that can be reached in every way. `index` numbers its addresses and ports; at most 250. */
export function reachableService(
  index: number,
  protocol: WorldProtocol,
  layout: Layout,
  more: Partial<WorldService>,
): WorldService {
  const targetPort = index % 2 === 0 ? 80 : 8080;
  return {
    name: `svc-${index}`,
    type: 'LoadBalancer',
    clusterIPs: FAMILIES.map((family) => address(family, 'cluster', index)),
    ports: [{ name: 'p', protocol, port: 80, nodePort: 30_000 + index }],
    externalIPs: FAMILIES.map((family) => address(family, 'external', index)),
    ingress: FAMILIES.map((family) => ({ ip: address(family, 'balancer', index), proxy: false })),
    sourceRanges: [],
    internalLocal: false,
    externalLocal: false,
    affinity: false,
    slices: FAMILIES.map((family) => ({
      family,
      ports: [{ name: 'p', protocol, port: targetPort }],
      endpoints: layout(family),
    })),
    ...more,
  };
}

export function worldOf(services: readonly WorldService[], options: Partial<WorldOptions> = {}): World {
  return { nodes: WORLD_NODES, pods: WORLD_PODS, services, options: { ...DEFAULT_OPTIONS, ...options } };
}

/** Everybody who may ask, in a family: address and node of entry. */
function askers(family: WorldFamily): [string, string][] {
  return [
    [address(family, 'pod1', 2), 'node-1'],
    [address(family, 'pod2', 2), 'node-2'],
    [address(family, 'pod1', 3), 'node-1'],
    [address(family, 'pod1', 200), 'node-1'],
    [address(family, 'node', 1), 'node-1'],
    [address(family, 'node', 2), 'node-2'],
    [address(family, 'client', 5), 'node-1'],
    [address(family, 'client', 5), 'node-2'],
    [family === 4 ? '127.0.0.1' : '::1', 'node-1'],
  ];
}

/** Everybody's questions about one Service: each of its frontends, on every node, and a port that it does not serve. */
export function questionsAbout(service: WorldService): Question[] {
  const { protocol, port, nodePort } = service.ports[0]!;
  const questions: Question[] = [];
  for (const family of FAMILIES) {
    const loopback = family === 4 ? '127.0.0.1' : '::1';
    const ofFamily = (text: string): boolean => text.includes(':') === (family === 6);
    const vips = [...service.clusterIPs, ...service.externalIPs, ...service.ingress.map(({ ip }) => ip)].filter(
      ofFamily,
    );
    for (const [from, node] of askers(family)) {
      for (const to of vips) questions.push({ from, node, to, port, protocol });
      if (vips.length > 0) questions.push({ from, node, to: vips[0]!, port: port + 1, protocol });
      if (nodePort === 0) continue;
      questions.push({ from, node, to: address(family, 'node', 1), port: nodePort, protocol });
      questions.push({ from, node, to: address(family, 'node', 2), port: nodePort, protocol });
      // What is loopback to a pod never leaves it.
      const isHost = from === loopback || from.startsWith(address(family, 'node', 1).slice(0, -1));
      if (isHost) questions.push({ from, node, to: loopback, port: nodePort, protocol });
    }
  }
  return questions;
}
