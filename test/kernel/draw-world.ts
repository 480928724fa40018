/**
 * Random small clusters. One Service of each, and the options, follow the case's turn, so that a run of many cases meets
 * every layout of endpoints and every option; the rest is drawn.
 */

import { address, LAYOUTS, WORLD_NODES, WORLD_PODS } from '../conformance/matrix-world.ts';
import {
  DEFAULT_OPTIONS,
  type World,
  type WorldEndpoint,
  type WorldFamily,
  type WorldOptions,
  type WorldPort,
  type WorldProtocol,
  type WorldService,
  type WorldSlice,
} from '../conformance/world.ts';
import type { Random } from './random.ts';

export const FAMILIES: readonly WorldFamily[] = [4, 6];
/** An address of the judged node beside its first. */
export const SECOND_ADDRESS = '192.168.7.1';

const RANGES = ['192.0.2.0/29', '10.244.0.0/16', '192.168.0.1/32', '2001:db8:2::/125', ' fd00:168::/64', '0.0.0.0/0'];
const LAYOUT_NAMES = Object.keys(LAYOUTS);
const NODE_PORT_ADDRESSES: readonly (readonly string[])[] = [
  [],
  ['192.168.0.0/24', 'fd00:168::/64'],
  ['0.0.0.0/0', '::/0'],
  ['127.0.0.0/8', '192.168.7.0/24'],
  [],
  ['primary'],
];
const LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix', 'None'] as const;

/** A cluster whose first node is the judged one; its first Service can be reached in every way. */
export function drawWorld(random: Random, turn: number): World {
  const first = drawService(random, 1, LAYOUT_NAMES[turn % LAYOUT_NAMES.length]!, true);
  const others = Array.from({ length: random.between(1, 4) }, (_, i) =>
    drawService(random, i + 2, random.oneIn(2) ? 'both' : random.pick(LAYOUT_NAMES), false),
  );
  const nodes = WORLD_NODES.map((node, i) =>
    i === 0 && turn % 2 === 1 ? { ...node, addresses: [...node.addresses, SECOND_ADDRESS] } : node,
  );
  return { nodes, pods: WORLD_PODS, services: [first, ...others], options: drawOptions(turn) };
}

function drawService(random: Random, index: number, layout: string, isOpen: boolean): WorldService {
  const families = isOpen ? FAMILIES : random.pick<readonly WorldFamily[]>([FAMILIES, FAMILIES, [4], [6]]);
  const type = isOpen ? 'LoadBalancer' : random.pick(['LoadBalancer', 'NodePort', 'ClusterIP'] as const);
  const ports = drawPorts(random, index, type !== 'ClusterIP');
  const externalIPs = isOpen || random.oneIn(2) ? families.map((family) => address(family, 'external', index)) : [];
  if (random.oneIn(12)) externalIPs.push(address(4, 'node', 2));
  return {
    name: `svc-${index}`,
    type,
    clusterIPs: families.map((family) => address(family, 'cluster', index)),
    ports,
    externalIPs,
    ingress:
      type === 'LoadBalancer'
        ? families.map((family) => ({ ip: address(family, 'balancer', index), proxy: random.oneIn(8) }))
        : [],
    sourceRanges: type === 'LoadBalancer' && random.oneIn(3) ? random.some(RANGES, 2) : [],
    internalLocal: random.oneIn(4),
    externalLocal: random.oneIn(3),
    affinity: random.oneIn(4),
    slices: families.flatMap((family) => drawSlices(random, family, ports, LAYOUTS[layout]!(family))),
  };
}

function drawPorts(random: Random, index: number, hasNodePort: boolean): WorldPort[] {
  const count = random.oneIn(3) ? 2 : 1;
  return Array.from({ length: count }, (_, i) => ({
    name: count === 1 && random.oneIn(2) ? '' : `p${i}`,
    protocol: random.pick<WorldProtocol>(['TCP', 'TCP', 'UDP', 'UDP', 'SCTP']),
    port: 80 + i,
    nodePort: hasNodePort ? 30_000 + index * 10 + i : 0,
  }));
}

function drawSlices(
  random: Random,
  family: WorldFamily,
  ports: readonly WorldPort[],
  endpoints: readonly WorldEndpoint[],
): WorldSlice[] {
  const target = random.pick([0, 8080]);
  const own = ports.map(({ name, protocol, port }) => ({ name, protocol, port: target === 0 ? port : target + port }));
  return [{ family, ports: own, endpoints }];
}

function drawOptions(turn: number): WorldOptions {
  return {
    ...DEFAULT_OPTIONS,
    detectLocalMode: LOCAL_MODES[turn % LOCAL_MODES.length]!,
    masqueradeAll: turn % 7 === 3,
    nodePortAddresses: NODE_PORT_ADDRESSES[turn % NODE_PORT_ADDRESSES.length]!,
    localhostNodePorts: turn % 4 !== 2,
  };
}
