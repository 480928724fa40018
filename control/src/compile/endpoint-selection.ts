/**
 * Endpoint selection: which endpoints of a service port a node uses, by readiness, traffic policy and topology.
 *
 * The rules of kube-proxy's CategorizeEndpoints (kubernetes pkg/proxy/topology.go), the same in every mode:
 *
 *  1. Cluster endpoints are the ready ones that the topology mode lets through; without any, the serving and
 *     terminating ones, wherever they are.
 *  2. Topology: every ready endpoint has node hints and one names this node -> those that name it; else every ready
 *     endpoint has zone hints and one names this node's zone -> those that name it; else all. Endpoints that are not
 *     ready have no say.
 *  3. Local endpoints are this node's ready ones; without any, its serving and terminating ones. Hints do not matter.
 *  4. A service port has endpoints at all when some node could use one of them.
 *
 * A selection depends on the node only through what it is local to and hinted for, so nodes that are alike share one
 * object: compare selections by identity.
 */

import type { ServiceEndpoint, ServicePortInfo } from './service-ports.ts';

/** What a selection knows of a node. */
export interface NodeTopology {
  readonly name: string;
  /** Label `topology.kubernetes.io/zone`, '' without it. */
  readonly zone: string;
}

export interface EndpointSelection {
  /** Usable under traffic policy Cluster; empty where no traffic of the port goes by that policy. */
  readonly cluster: readonly ServiceEndpoint[];
  /** Usable under traffic policy Local; empty where no traffic of the port goes by that policy. */
  readonly local: readonly ServiceEndpoint[];
  /** The union of both, sorted by `text`. */
  readonly reachable: readonly ServiceEndpoint[];
  /** Some node of the cluster can use one of the port's endpoints. False means REJECT; true and none here, DROP. */
  readonly hasAny: boolean;
}

/** Stands for every node or zone that a port does not name. */
const OTHER = '\0';

const NOTHING: readonly ServiceEndpoint[] = [];
const NO_ENDPOINTS: EndpointSelection = { cluster: NOTHING, local: NOTHING, reachable: NOTHING, hasAny: false };

/** What makes nodes differ for a port, and the selections made so far. */
interface Choices {
  /** Nodes whose name matters: local or hinted endpoints. Null: the name of no node matters. */
  readonly nodes: ReadonlySet<string> | null;
  /** Zones that are hinted. Null: zones do not matter. */
  readonly zones: ReadonlySet<string> | null;
  readonly made: Map<string, EndpointSelection>;
}

const choices = new WeakMap<ServicePortInfo, Choices>();

/** The endpoints that `node` uses for a port. */
export function selectEndpoints(port: ServicePortInfo, node: NodeTopology): EndpointSelection {
  if (port.endpoints.length === 0) return NO_ENDPOINTS;
  let known = choices.get(port);
  if (known === undefined) {
    known = findChoices(port);
    choices.set(port, known);
  }
  const name = known.nodes?.has(node.name) ? node.name : OTHER;
  const zone = known.zones?.has(node.zone) ? node.zone : OTHER;
  const key = `${name} ${zone}`;
  let selection = known.made.get(key);
  if (selection === undefined) {
    selection = categorizeEndpoints(port, { name, zone });
    known.made.set(key, selection);
  }
  return selection;
}

/** True for an endpoint on the node: what policy Local and health-check nodePorts count. */
export function isLocalEndpoint(endpoint: ServiceEndpoint, nodeName: string): boolean {
  return endpoint.nodeName !== '' && endpoint.nodeName === nodeName;
}

/** Number of ready endpoints on the node: what a health-check nodePort answers for. */
export function countLocalReady(port: ServicePortInfo, nodeName: string): number {
  let count = 0;
  for (const endpoint of asSeenBy(port.endpoints, nodeName)) {
    if (endpoint.ready && isLocalEndpoint(endpoint, nodeName)) count++;
  }
  return count;
}

function findChoices(port: ServicePortInfo): Choices {
  const nodes = new Set<string>();
  const zones = new Set<string>();
  for (const endpoint of port.endpoints) {
    if (port.usesLocalEndpoints || endpoint.duplicates.length > 0) nodes.add(endpoint.nodeName);
    for (const duplicate of endpoint.duplicates) {
      nodes.add(duplicate.nodeName);
      for (const node of duplicate.nodeHints) nodes.add(node);
      for (const zone of duplicate.zoneHints) zones.add(zone);
    }
    for (const node of endpoint.nodeHints) nodes.add(node);
    for (const zone of endpoint.zoneHints) zones.add(zone);
  }
  return { nodes: nodes.size > 0 ? nodes : null, zones: zones.size > 0 ? zones : null, made: new Map() };
}

/** The endpoints with every duplicate decided: a node takes the last entry that is its own, else the first. */
function asSeenBy(endpoints: readonly ServiceEndpoint[], nodeName: string): readonly ServiceEndpoint[] {
  if (!endpoints.some((endpoint) => endpoint.duplicates.length > 0)) return endpoints;
  return endpoints.map((endpoint) => {
    const own = endpoint.duplicates.findLast((duplicate) => isLocalEndpoint(duplicate, nodeName));
    return own ?? endpoint;
  });
}

type TopologyMode = 'none' | 'same-node' | 'same-zone';

function categorizeEndpoints(port: ServicePortInfo, node: NodeTopology): EndpointSelection {
  const endpoints = asSeenBy(port.endpoints, node.name);
  let cluster = NOTHING;
  let mode: TopologyMode = 'none';
  let hasAny = false;
  if (port.usesClusterEndpoints) {
    mode = topologyMode(endpoints, node);
    cluster = endpoints.filter((endpoint) => endpoint.ready && isAvailable(endpoint, mode, node));
    if (cluster.length === 0) cluster = endpoints.filter(isDraining);
    hasAny = cluster.length > 0;
  }
  if (!port.usesLocalEndpoints) return { cluster, local: NOTHING, reachable: cluster, hasAny };

  hasAny ||= endpoints.some((endpoint) => endpoint.ready || isDraining(endpoint));
  const onNode = endpoints.filter((endpoint) => isLocalEndpoint(endpoint, node.name));
  let local = onNode.filter((endpoint) => endpoint.ready);
  if (local.length === 0) local = onNode.filter(isDraining);
  if (!port.usesClusterEndpoints) return { cluster, local, reachable: local, hasAny };

  // Endpoints that drain here, or that hints keep from the cluster list, are in the local list only.
  const both = new Set([...cluster, ...local]);
  const reachable = both.size === cluster.length ? cluster : endpoints.filter((endpoint) => both.has(endpoint));
  return { cluster, local, reachable, hasAny };
}

/** Not ready, but able to finish what it has: used when nothing is ready. */
function isDraining(endpoint: ServiceEndpoint): boolean {
  return endpoint.serving && endpoint.terminating;
}

function topologyMode(endpoints: readonly ServiceEndpoint[], node: NodeTopology): TopologyMode {
  const ready = endpoints.filter((endpoint) => endpoint.ready);
  if (ready.length === 0) return 'none';
  if (
    ready.every((endpoint) => endpoint.nodeHints.length > 0) &&
    ready.some((endpoint) => endpoint.nodeHints.includes(node.name))
  ) {
    return 'same-node';
  }
  if (
    ready.every((endpoint) => endpoint.zoneHints.length > 0) &&
    ready.some((endpoint) => endpoint.zoneHints.includes(node.zone))
  ) {
    return 'same-zone';
  }
  return 'none';
}

function isAvailable(endpoint: ServiceEndpoint, mode: TopologyMode, node: NodeTopology): boolean {
  if (mode === 'same-node') return endpoint.nodeHints.includes(node.name);
  if (mode === 'same-zone') return endpoint.zoneHints.includes(node.zone);
  return true;
}
