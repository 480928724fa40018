/**
 * Backends and selections of the ebpf mode, collected before their tables are sized.
 *
 * A *set* belongs to a service port and a traffic policy: the backends of a node that has nothing of its own, and the
 * nodes and zones where it is another list. What a node uses is decided by endpoint-selection.ts for every mode alike; this
 * file only asks it for the nodes and zones that can matter, so 5,000 nodes are asked about no port that treats them
 * alike.
 */
import { SEL_BY_NODE, SEL_BY_ZONE, zoneKey } from '@flatpath/engine/programs/ebpf-image';
import { type EndpointSelection, type NodeTopology, selectEndpoints } from './endpoint-selection.ts';
import type { ServiceEndpoint, ServicePortInfo } from './service-ports.ts';

/** A node of the image's node part. */
export interface CompiledNode extends NodeTopology {
  /** Position in `cluster.nodes`. */
  readonly index: number;
}

export type Policy = 'cluster' | 'local';

/** A backend: an `ip:port` with a protocol, whichever ports use it. */
export interface BackendEntry {
  readonly endpoint: ServiceEndpoint;
  readonly protocol: number;
}

/** A list of backends that some nodes use for a port. */
export interface SelectionEntry {
  readonly port: ServicePortInfo;
  readonly policy: Policy;
  readonly endpoints: readonly ServiceEndpoint[];
  /** Indices into `Selections.backends`, in the order of `endpoints`. */
  readonly backends: readonly number[];
  readonly hasRing: boolean;
  /** SEL_BY_… bits: other lists exist for some nodes. Only in a set's own row. */
  differs: number;
}

/** A node selection: what the nodes of `node` (an index, or `zoneKey`) use instead of the set's own list. */
export interface Override {
  readonly set: number;
  readonly node: number;
  readonly selection: number;
}

/** No node and no zone has this name: stands for all that a port does not name. */
const NOBODY: NodeTopology = { name: '\0', zone: '\0' };

export class Selections {
  readonly backends: BackendEntry[] = [];
  readonly selections: SelectionEntry[] = [];
  readonly overrides: Override[] = [];
  /** Entries of all lists together. */
  listEntries = 0;
  private readonly backendNumbers = new Map<string, number>();
  private readonly nodes: ReadonlyMap<string, CompiledNode>;
  private readonly zones: ReadonlyMap<string, number>;

  /**
   * @param nodes those of the node part, by name
   * @param zones numbers of the cluster's zones, by name
   */
  constructor(nodes: ReadonlyMap<string, CompiledNode>, zones: ReadonlyMap<string, number>) {
    this.nodes = nodes;
    this.zones = zones;
  }

  /** Adds the set of a port's endpoints under a traffic policy; answers its number. */
  addSet(port: ServicePortInfo, policy: Policy, hasRing: boolean): number {
    const usual = selectEndpoints(port, NOBODY)[policy];
    const set = this.addSelection(port, policy, usual, hasRing);
    if (port.endpoints.length === 0) return set;

    const byZone = new Map<string, EndpointSelection[Policy]>();
    for (const zone of hintedZones(port)) {
      const number = this.zones.get(zone);
      if (number === undefined) continue;
      const list = selectEndpoints(port, { name: NOBODY.name, zone })[policy];
      byZone.set(zone, list);
      if (!isSameList(list, usual)) this.override(set, zoneKey(number), list, hasRing, SEL_BY_ZONE);
    }
    for (const name of namedNodes(port, policy)) {
      const node = this.nodes.get(name);
      if (node === undefined) continue;
      const list = selectEndpoints(port, node)[policy];
      if (!isSameList(list, byZone.get(node.zone) ?? usual)) this.override(set, node.index, list, hasRing, SEL_BY_NODE);
    }
    return set;
  }

  private override(set: number, node: number, list: readonly ServiceEndpoint[], hasRing: boolean, bit: number): void {
    const own = this.selections[set]!;
    own.differs |= bit;
    this.overrides.push({ set, node, selection: this.addSelection(own.port, own.policy, list, hasRing) });
  }

  private addSelection(
    port: ServicePortInfo,
    policy: Policy,
    endpoints: readonly ServiceEndpoint[],
    hasRing: boolean,
  ): number {
    const backends = endpoints.map((endpoint) => this.backendNumber(endpoint, port.protocolNumber));
    this.listEntries += backends.length;
    this.selections.push({ port, policy, endpoints, backends, hasRing: hasRing && backends.length > 0, differs: 0 });
    return this.selections.length - 1;
  }

  private backendNumber(endpoint: ServiceEndpoint, protocol: number): number {
    const key = `${protocol} ${endpoint.text}`;
    let number = this.backendNumbers.get(key);
    if (number === undefined) {
      number = this.backends.length;
      this.backends.push({ endpoint, protocol });
      this.backendNumbers.set(key, number);
    }
    return number;
  }
}

/** Nodes for which a port's list may be their own: endpoints of policy Local, node hints, one address on several nodes. */
function namedNodes(port: ServicePortInfo, policy: Policy): Set<string> {
  const names = new Set<string>();
  for (const endpoint of port.endpoints) {
    if (policy === 'local' || endpoint.duplicates.length > 0) names.add(endpoint.nodeName);
    for (const hint of endpoint.nodeHints) names.add(hint);
    for (const duplicate of endpoint.duplicates) {
      names.add(duplicate.nodeName);
      for (const hint of duplicate.nodeHints) names.add(hint);
    }
  }
  return names;
}

function hintedZones(port: ServicePortInfo): Set<string> {
  const zones = new Set<string>();
  for (const endpoint of port.endpoints) {
    for (const zone of endpoint.zoneHints) zones.add(zone);
    for (const duplicate of endpoint.duplicates) for (const zone of duplicate.zoneHints) zones.add(zone);
  }
  return zones;
}

function isSameList(a: readonly ServiceEndpoint[], b: readonly ServiceEndpoint[]): boolean {
  if (a === b) return true;
  return a.length === b.length && a.every((endpoint, i) => endpoint === b[i]);
}
