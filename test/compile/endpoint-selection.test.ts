import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  countLocalReady,
  type EndpointSelection,
  type NodeTopology,
  selectEndpoints,
} from '../../control/src/compile/endpoint-selection.ts';
import {
  listServicePorts,
  type ServiceEndpoint,
  type ServicePortInfo,
} from '../../control/src/compile/service-ports.ts';
import { type EndpointParts, makeCluster, makeService, makeSlice, type ServiceParts } from './fixture.ts';
import { randomCluster, seeded } from './random-cluster.ts';

const HERE: NodeTopology = { name: 'node-1', zone: 'zone-a' };
const THERE: NodeTopology = { name: 'node-2', zone: 'zone-b' };

/** A port whose endpoints are 10.244.0.1, .2, … in the order given. */
function portOf(endpoints: EndpointParts[], parts: ServiceParts = {}): ServicePortInfo {
  const service = makeService('ns/svc', { clusterIPs: ['10.96.0.1'], ports: [{}], ...parts });
  const slice = makeSlice(
    'ns/svc',
    [{ port: 80 }],
    endpoints.map((endpoint, i) => ({ address: `10.244.0.${i + 1}`, ...endpoint })),
  );
  return listServicePorts(makeCluster({ services: [service], endpointSlices: [slice] }), 4)[0]!;
}

const numbers = (endpoints: readonly ServiceEndpoint[]) =>
  endpoints.map((endpoint) => Number(endpoint.address.text.split('.')[3]));

function view(port: ServicePortInfo, node: NodeTopology) {
  const { cluster, local, reachable, hasAny } = selectEndpoints(port, node);
  return { cluster: numbers(cluster), local: numbers(local), reachable: numbers(reachable), hasAny };
}

const READY = { ready: true };
const GONE = { ready: false, serving: false, terminating: true };
const DRAINING = { ready: false, serving: true, terminating: true };
const SICK = { ready: false, serving: true, terminating: false };
const LOCAL: ServiceParts = { type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ nodePort: 30000 }] };
const zones = (...names: string[]) => ({ hints: { forZones: names.map((name) => ({ name })) } });
const nodes = (...names: string[]) => ({ hints: { forNodes: names.map((name) => ({ name })) } });

describe('endpoint selection', () => {
  it('takes the ready ones; one that serves but is neither ready nor terminating is never used', () => {
    const port = portOf([{ conditions: READY }, { conditions: SICK }, { conditions: DRAINING }]);
    expect(view(port, HERE)).toEqual({ cluster: [1], local: [], reachable: [1], hasAny: true });
    expect(view(portOf([{ conditions: SICK }]), HERE).hasAny).toBe(false);
  });

  it('falls back to serving and terminating ones when none is ready', () => {
    const port = portOf([{ conditions: GONE }, { conditions: SICK }, { conditions: DRAINING }]);
    expect(view(port, HERE)).toEqual({ cluster: [3], local: [], reachable: [3], hasAny: true });
    expect(view(portOf([{ conditions: GONE }]), HERE).hasAny).toBe(false);
  });

  it('decides the fallback for the cluster list and the local list apart', () => {
    const port = portOf([{ conditions: DRAINING, nodeName: 'node-1' }, { nodeName: 'node-2' }], LOCAL);
    expect(view(port, HERE)).toEqual({ cluster: [2], local: [1], reachable: [1, 2], hasAny: true });
    expect(view(port, THERE)).toEqual({ cluster: [2], local: [2], reachable: [2], hasAny: true });
  });

  it('has endpoints elsewhere but none here under a Local policy, a draining one there being enough', () => {
    const port = portOf([{ conditions: DRAINING, nodeName: 'node-2' }], { internalTrafficPolicy: 'Local' });
    expect(view(port, HERE)).toEqual({ cluster: [], local: [], reachable: [], hasAny: true });
    expect(view(port, THERE).local).toEqual([1]);
  });

  it('is local nowhere without a node name', () => {
    const port = portOf([{}], { internalTrafficPolicy: 'Local' });
    expect(view(port, { name: '', zone: '' })).toEqual({ cluster: [], local: [], reachable: [], hasAny: true });
  });

  it('keeps traffic in the zone when every ready endpoint is hinted and one is for it', () => {
    const port = portOf([zones('zone-a'), zones('zone-b'), { ...zones('zone-a'), conditions: GONE }]);
    expect(view(port, HERE).cluster).toEqual([1]);
    expect(view(port, { name: 'node-1', zone: 'zone-c' }).cluster).toEqual([1, 2]);
    expect(view(port, { name: 'node-1', zone: '' }).cluster).toEqual([1, 2]);
    expect(view(portOf([zones('zone-a'), {}]), HERE).cluster).toEqual([1, 2]);
    expect(view(portOf([zones('zone-a'), zones('zone-b'), { conditions: SICK }]), HERE).cluster).toEqual([1]);
  });

  it('keeps traffic on the node before the zone', () => {
    const both = (node: string, zone: string) => ({
      hints: { forNodes: [{ name: node }], forZones: [{ name: zone }] },
    });
    const port = portOf([both('node-1', 'zone-a'), both('node-2', 'zone-a'), both('node-3', 'zone-b')]);
    expect(view(port, HERE).cluster).toEqual([1]);
    expect(view(port, { name: 'node-9', zone: 'zone-a' }).cluster).toEqual([1, 2]);
    expect(view(portOf([nodes('node-1'), nodes('node-2')]), { name: 'node-9', zone: 'zone-a' }).cluster).toEqual([
      1, 2,
    ]);
  });

  it('ignores hints in the local list', () => {
    const port = portOf([{ ...zones('zone-b'), nodeName: 'node-1' }, zones('zone-a')], LOCAL);
    expect(view(port, HERE)).toEqual({ cluster: [2], local: [1], reachable: [1, 2], hasAny: true });
  });

  it('takes the entry of the own node where an address stands twice', () => {
    const slices = ['node-1', 'node-2'].map((nodeName, i) =>
      makeSlice('ns/svc', [{ port: 80 }], [{ address: '10.244.0.1', nodeName, conditions: i === 0 ? READY : SICK }], {
        name: `s${i}`,
      }),
    );
    const service = makeService('ns/svc', { clusterIPs: ['10.96.0.1'], ports: [{}] });
    const [port] = listServicePorts(makeCluster({ services: [service], endpointSlices: slices }), 4);
    expect(view(port!, HERE).cluster).toEqual([1]);
    expect(view(port!, THERE).cluster).toEqual([]);
    expect(view(port!, { name: 'node-3', zone: '' }).cluster).toEqual([1]);
  });

  it('counts ready local endpoints alone for the health check', () => {
    const port = portOf(
      [{ nodeName: 'node-1' }, { nodeName: 'node-1', conditions: DRAINING }, { nodeName: 'node-2' }],
      LOCAL,
    );
    expect(countLocalReady(port, 'node-1')).toBe(1);
    expect(countLocalReady(port, 'node-3')).toBe(0);
  });

  it('is one object for all nodes that are alike', () => {
    const port = portOf([{ nodeName: 'node-1' }, { nodeName: 'node-2' }]);
    expect(selectEndpoints(port, HERE)).toBe(selectEndpoints(port, THERE));
    const local = portOf([{ nodeName: 'node-1' }], LOCAL);
    expect(selectEndpoints(local, HERE)).not.toBe(selectEndpoints(local, THERE));
    expect(selectEndpoints(local, THERE)).toBe(selectEndpoints(local, { name: 'node-3', zone: 'zone-c' }));
  });
});

describe('endpoint selection against a naive evaluator', () => {
  /** One node at a time, straight from the rules, nothing remembered. */
  function naive(port: ServicePortInfo, node: NodeTopology): EndpointSelection {
    const isHere = (e: ServiceEndpoint) => node.name !== '' && e.nodeName === node.name;
    const all = port.endpoints.map((first) => {
      let chosen = first;
      for (const other of first.duplicates) if (isHere(other)) chosen = other;
      return chosen;
    });
    const ready = all.filter((e) => e.ready);
    const drains = (e: ServiceEndpoint) => e.serving && e.terminating;
    let hinted = (_: ServiceEndpoint) => true;
    const byNode = (e: ServiceEndpoint) => e.nodeHints.includes(node.name);
    const byZone = (e: ServiceEndpoint) => e.zoneHints.includes(node.zone);
    if (ready.every((e) => e.nodeHints.length > 0) && ready.some(byNode)) hinted = byNode;
    else if (ready.every((e) => e.zoneHints.length > 0) && ready.some(byZone)) hinted = byZone;

    let cluster = ready.filter(hinted);
    if (cluster.length === 0) cluster = all.filter(drains);
    let local = ready.filter(isHere);
    if (local.length === 0) local = all.filter((e) => isHere(e) && drains(e));
    if (!port.usesClusterEndpoints) cluster = [];
    if (!port.usesLocalEndpoints) local = [];
    return {
      cluster,
      local,
      reachable: all.filter((e) => cluster.includes(e) || local.includes(e)),
      hasAny: ready.length > 0 || all.some(drains),
    };
  }

  it('agrees for every node, whatever the order in which nodes ask', () => {
    const names = ['node-1', 'node-2', 'node-3', 'node-4', ''];
    const asking = fc.array(
      fc.record({ name: fc.constantFrom(...names), zone: fc.constantFrom('', 'zone-a', 'zone-b', 'zone-c') }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(randomCluster, asking, fc.constantFrom(4 as const, 6 as const), (cluster, nodesAsking, family) => {
        for (const port of listServicePorts(cluster, family)) {
          for (const node of nodesAsking) expect(selectEndpoints(port, node)).toEqual(naive(port, node));
        }
      }),
      seeded(300),
    );
  });
});
