/** The ebpf mode's maps as compiled: sharing between nodes, rows and origins, and the maps as text. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { type CompiledEbpf, compileEbpf } from '../../control/src/compile/ebpf.ts';
import { renderEbpf } from '../../control/src/compile/ebpf-render.ts';
import { selectEndpoints } from '../../control/src/compile/endpoint-selection.ts';
import { parseAddress } from '../../control/src/model/address.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import { zoneOf } from '../../control/src/model/node.ts';
import {
  attachEbpfImage,
  ebpfImageParts,
  FE_AFFINITY_ID,
  FE_AFFINITY_MS,
  FE_EXTERNAL,
  FE_FLAGS,
  FE_HAS_RANGES,
  FE_INTERNAL,
  FE_ROW,
  frontendPort,
  MAP_BACKENDS,
  MAP_FRONTENDS,
  MAP_SELECTIONS,
  MAP_SOURCE_RANGES,
  SEL_BY_NODE,
  SEL_BY_ZONE,
  SEL_COUNT,
  SEL_DIFFERS,
  SEL_FIRST,
  SEL_RING,
  SEL_RING_SIZE,
  SEL_WORDS,
  zoneKey,
} from '../../engine/src/programs/ebpf-image.ts';
import { listEntry } from '../../engine/src/tables/backends.ts';
import { hashFind2, hashFind5, rowValue } from '../../engine/src/tables/hash-table.ts';
import { makeCluster, makeNode, makeService, makeSlice } from './fixture.ts';
import { randomCluster, seeded } from './random-cluster.ts';

const config = (input: DatapathInput = {}) => resolveDatapath(input);
const namesOf = (cluster: Cluster) => cluster.nodes.map((node) => node.metadata.name);

function find(compiled: CompiledEbpf, address: string, port: number, protocol = 6): number {
  const { family, words } = parseAddress(address)!;
  const [a0, a1, a2, a3] = words;
  return hashFind5(compiled.image.frontends, a0, a1, a2, a3, frontendPort(family, port, protocol));
}

/** `ip:port`s of a frontend on a node, looked up as the program does it. */
function backendsOn(compiled: CompiledEbpf, row: number, lane: number, node: number): string[] {
  return listOf(compiled, rowValue(compiled.image.frontends, row, lane), node);
}

/** `ip:port`s of a set on a node. */
function listOf(compiled: CompiledEbpf, set: number, node: number): string[] {
  const { image, backends } = compiled;
  const differs = image.selections[set * SEL_WORDS + SEL_DIFFERS]!;
  let found = (differs & SEL_BY_NODE) === 0 ? -1 : hashFind2(image.nodeSelections, set, node);
  if (found < 0 && (differs & SEL_BY_ZONE) !== 0) {
    found = hashFind2(image.nodeSelections, set, zoneKey(image.nodeZone[node]!));
  }
  const at = (found < 0 ? set : rowValue(image.nodeSelections, found, 0)) * SEL_WORDS;
  const first = image.selections[at + SEL_FIRST]!;
  return Array.from(
    { length: image.selections[at + SEL_COUNT]! },
    (_, i) => backends[listEntry(image.backends, first, i)]!.endpoint.text,
  );
}

const SHOP = () =>
  makeCluster({
    nodes: [makeNode('node-1', ['192.168.0.1', '2001:db8::1']), makeNode('node-2', ['192.168.0.2'])],
    services: [
      makeService('shop/cart', {
        type: 'LoadBalancer',
        clusterIPs: ['10.96.0.10'],
        externalIPs: ['198.18.7.7'],
        externalTrafficPolicy: 'Local',
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
        loadBalancerSourceRanges: ['198.51.100.0/24', '203.0.113.0/25'],
        ingress: [{ ip: '203.0.113.100' }],
        ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
      }),
      makeService('shop/dns', { clusterIPs: ['10.96.0.11'], ports: [{ port: 53, protocol: 'UDP' }] }),
    ],
    endpointSlices: [
      makeSlice(
        'shop/cart',
        [{ name: 'http', port: 8080 }],
        [
          { address: '10.244.0.7', nodeName: 'node-1' },
          { address: '10.244.1.7', nodeName: 'node-2' },
        ],
      ),
    ],
  });

describe('compileEbpf', () => {
  it('makes a frontend of every address, and one of a nodePort', () => {
    const compiled = compileEbpf(SHOP(), config(), ['node-1', 'node-2']);
    for (const [address, port, kind] of [
      ['10.96.0.10', 80, 'ClusterIP'],
      ['198.18.7.7', 80, 'ExternalIPs'],
      ['203.0.113.100', 80, 'LoadBalancer'],
      ['0.0.0.0', 30_080, 'NodePort'],
    ] as const) {
      const row = find(compiled, address, port);
      expect(row).toBeGreaterThanOrEqual(0);
      expect(compiled.frontends[rowValue(compiled.image.frontends, row, FE_ROW)]!.kind).toBe(kind);
      expect(rowValue(compiled.image.frontends, row, FE_AFFINITY_MS)).toBe(60_000);
      const hasRanges = (rowValue(compiled.image.frontends, row, FE_FLAGS) & FE_HAS_RANGES) !== 0;
      expect(hasRanges).toBe(kind === 'LoadBalancer');
    }
    expect(find(compiled, '10.96.0.10', 81)).toBe(-1);
    expect(find(compiled, '10.96.0.11', 53)).toBe(-1);
    expect(find(compiled, '10.96.0.11', 53, 17)).toBeGreaterThanOrEqual(0);
  });

  it('keeps an IPv4 frontend apart from an IPv6 one of the same first word', () => {
    const cluster = makeCluster({
      services: [
        makeService('a/four', { clusterIPs: ['10.96.0.10'], ports: [{ port: 80 }] }),
        makeService('a/six', { clusterIPs: ['a60:a::'], ports: [{ port: 80 }] }),
      ],
    });
    const compiled = compileEbpf(cluster, config(), ['node-1']);
    expect(find(compiled, '10.96.0.10', 80)).not.toBe(find(compiled, 'a60:a::', 80));
  });

  it('gives each address and node what the policies say', () => {
    const compiled = compileEbpf(SHOP(), config(), ['node-1', 'node-2']);
    const nodePort = find(compiled, '0.0.0.0', 30_080);
    expect(backendsOn(compiled, nodePort, FE_EXTERNAL, 0)).toEqual(['10.244.0.7:8080']);
    expect(backendsOn(compiled, nodePort, FE_EXTERNAL, 1)).toEqual(['10.244.1.7:8080']);
    expect(backendsOn(compiled, nodePort, FE_INTERNAL, 1)).toHaveLength(2);
    expect(backendsOn(compiled, find(compiled, '10.96.0.10', 80), FE_EXTERNAL, 0)).toHaveLength(2);
  });

  it('lets the first Service by name have an address that two want', () => {
    const cluster = makeCluster({
      services: ['b/late', 'a/early']
        .sort()
        .map((path, i) =>
          makeService(path, { clusterIPs: [`10.96.0.${i + 1}`], externalIPs: ['198.18.7.7'], ports: [{ port: 80 }] }),
        ),
    });
    const compiled = compileEbpf(cluster, config(), ['node-1']);
    const row = rowValue(compiled.image.frontends, find(compiled, '198.18.7.7', 80), FE_ROW);
    expect(compiled.frontends[row]!.port.key).toBe('a/early');
  });

  it('says where every row came from', () => {
    const compiled = compileEbpf(SHOP(), config(), ['node-1']);
    const row = rowValue(compiled.image.frontends, find(compiled, '203.0.113.100', 80), FE_ROW);
    const frontend = compiled.describeRow(MAP_FRONTENDS, row);
    expect(frontend.text).toBe('203.0.113.100:80/TCP (LoadBalancer of shop/cart:http)');
    expect(frontend.origin).toMatchObject({ name: 'cart', field: 'status.loadBalancer.ingress[0].ip' });
    expect(compiled.describeChooser(row)).toEqual(frontend);
    expect(compiled.describeRow(MAP_BACKENDS, 0)).toMatchObject({
      text: '10.244.0.7:8080/TCP on node-1',
      origin: { kind: 'EndpointSlice', field: 'endpoints[0].addresses[0]' },
    });
    expect(compiled.describeRow(MAP_SOURCE_RANGES, 1)).toMatchObject({
      text: '203.0.113.0/25',
      origin: { field: 'spec.loadBalancerSourceRanges[1]' },
    });
    expect(
      compiled.describeRow(
        MAP_SELECTIONS,
        rowValue(compiled.image.frontends, find(compiled, '0.0.0.0', 30_080), FE_EXTERNAL),
      ),
    ).toMatchObject({ text: '0 backends, traffic policy Local', origin: { field: 'spec.externalTrafficPolicy' } });
  });

  it('keeps an affinity id through a change of the cluster', () => {
    const cluster = SHOP();
    const smaller = { ...cluster, services: cluster.services.slice(0, 1), endpointSlices: [] };
    const id = (compiled: CompiledEbpf) =>
      rowValue(compiled.image.frontends, find(compiled, '10.96.0.10', 80), FE_AFFINITY_ID);
    expect(id(compileEbpf(smaller, config(), ['node-1']))).toBe(id(compileEbpf(cluster, config(), ['node-2'])));
  });

  it('builds rings where the outside may come in, and only for Maglev', () => {
    const rings = (input: DatapathInput) => {
      const { image } = compileEbpf(SHOP(), config(input), ['node-1', 'node-2']);
      const sizes: number[] = [];
      for (let at = 0; at < image.selections.length; at += SEL_WORDS) {
        if (image.selections[at + SEL_RING]! >= 0) sizes.push(image.selections[at + SEL_RING_SIZE]!);
      }
      return sizes;
    };
    expect(rings({})).toEqual([]);
    expect(rings({ ebpf: { algorithm: 'maglev' } })).toEqual([251, 251]);
    expect(rings({ ebpf: { algorithm: 'maglev', maglevTableSize: 1021 } })).toEqual([1021, 1021]);
    expect(rings({ ebpf: { algorithm: 'maglev', externalClusterIP: true } })).toHaveLength(3);
    expect(() => rings({ ebpf: { algorithm: 'maglev', maglevTableSize: 1000 } })).toThrow(RangeError);
  });

  it('is attached again from its parts', () => {
    const compiled = compileEbpf(SHOP(), config({ ebpf: { algorithm: 'maglev' } }), ['node-1']);
    const again = attachEbpfImage(structuredClone(ebpfImageParts(compiled.image)));
    expect(again.options).toBe(compiled.image.options);
    expect(backendsOn({ ...compiled, image: again }, find(compiled, '10.96.0.10', 80), FE_INTERNAL, 0)).toHaveLength(2);
  });

  it('agrees with the endpoint selection of every node, whatever the cluster', () => {
    fc.assert(
      fc.property(randomCluster, (cluster) => {
        const compiled = compileEbpf(cluster, config(), namesOf(cluster));
        for (const frontend of compiled.frontends) {
          const { port, kind } = frontend;
          cluster.nodes.forEach((node, index) => {
            const wanted = selectEndpoints(port, { name: node.metadata.name, zone: zoneOf(node) });
            const isLocal = kind === 'ClusterIP' ? port.internalPolicyLocal : port.externalPolicyLocal;
            const external = isLocal ? wanted.local : wanted.cluster;
            const internal = kind === 'ClusterIP' && port.internalPolicyLocal ? wanted.local : wanted.cluster;
            expect(listOf(compiled, frontend.external, index)).toEqual(external.map((endpoint) => endpoint.text));
            expect(listOf(compiled, frontend.internal, index)).toEqual(internal.map((endpoint) => endpoint.text));
          });
        }
      }),
      seeded(60),
    );
  });
});

describe('a big cluster', () => {
  it('costs what differs, not nodes times Services', () => {
    const nodes = Array.from({ length: 5000 }, (_, i) =>
      makeNode(`node-${i}`, [`192.168.${i >> 8}.${i & 255}`], { zone: `zone-${i % 3}` }),
    );
    const services = Array.from({ length: 200 }, (_, i) =>
      makeService(`ns/svc-${i}`, {
        clusterIPs: [`10.96.${i >> 8}.${i & 255}`],
        externalTrafficPolicy: 'Local',
        type: 'NodePort',
        ports: [{ port: 80, nodePort: 30_000 + i }],
      }),
    );
    const endpointSlices = services.map((service, i) =>
      makeSlice(
        `ns/${service.metadata.name}`,
        [{ port: 8080 }],
        Array.from({ length: 5 }, (_, k) => ({
          address: `10.${k}.${i >> 8}.${i & 255}`,
          nodeName: `node-${i * 5 + k}`,
        })),
      ),
    );
    const cluster = makeCluster({ nodes, services, endpointSlices });
    const compiled = compileEbpf(cluster, config(), namesOf(cluster));
    // Two sets a Service, and a list of one for each node that has a backend.
    expect(compiled.selections).toHaveLength(200 * (2 + 5));
    const few = compileEbpf(cluster, config(), ['node-3']);
    expect(few.selections).toHaveLength(200 * 2 + 1);
  });
});

/** Columns are padded to their widest cell; one blank says the same. */
const squeeze = (text: string): string => text.replace(/ {2,}/g, ' ');

describe('renderEbpf', () => {
  it('prints the maps of a node', () => {
    const text = renderEbpf(SHOP(), config({ ebpf: { algorithm: 'maglev' } }), 'node-1');
    expect(squeeze(text)).toBe(
      squeeze(`# cilium-dbg config --all
bpf-lb-sock                 true
bpf-lb-mode                 snat
bpf-lb-external-clusterip   false
enable-sctp                 true
enable-ipv4-masquerade      true

# cilium-dbg bpf lb list
SERVICE ADDRESS              BACKEND ADDRESS (REVNAT_ID) (SLOT)
10.96.0.10:80/TCP (0)        0.0.0.0:0 (1) (0) [ClusterIP, sessionAffinity, non-routable]
10.96.0.10:80/TCP (1)        10.244.0.7:8080/TCP (1) (1)
10.96.0.10:80/TCP (2)        10.244.1.7:8080/TCP (1) (2)
198.18.7.7:80/TCP (0)        0.0.0.0:0 (2) (0) [ExternalIPs, Local, two-scopes, sessionAffinity]
198.18.7.7:80/TCP (1)        10.244.0.7:8080/TCP (2) (1)
198.18.7.7:80/TCP/i (0)      0.0.0.0:0 (2) (0) [ExternalIPs, Local, two-scopes, sessionAffinity]
198.18.7.7:80/TCP/i (1)      10.244.0.7:8080/TCP (2) (1)
198.18.7.7:80/TCP/i (2)      10.244.1.7:8080/TCP (2) (2)
203.0.113.100:80/TCP (0)     0.0.0.0:0 (3) (0) [LoadBalancer, Local, two-scopes, sessionAffinity, check source-range]
203.0.113.100:80/TCP (1)     10.244.0.7:8080/TCP (3) (1)
203.0.113.100:80/TCP/i (0)   0.0.0.0:0 (3) (0) [LoadBalancer, Local, two-scopes, sessionAffinity, check source-range]
203.0.113.100:80/TCP/i (1)   10.244.0.7:8080/TCP (3) (1)
203.0.113.100:80/TCP/i (2)   10.244.1.7:8080/TCP (3) (2)
0.0.0.0:30080/TCP (0)        0.0.0.0:0 (4) (0) [NodePort, Local, two-scopes, sessionAffinity]
0.0.0.0:30080/TCP (1)        10.244.0.7:8080/TCP (4) (1)
0.0.0.0:30080/TCP/i (0)      0.0.0.0:0 (4) (0) [NodePort, Local, two-scopes, sessionAffinity]
0.0.0.0:30080/TCP/i (1)      10.244.0.7:8080/TCP (4) (1)
0.0.0.0:30080/TCP/i (2)      10.244.1.7:8080/TCP (4) (2)
192.168.0.1:30080/TCP (0)    0.0.0.0:0 (4) (0) [NodePort, Local, two-scopes, sessionAffinity]
192.168.0.1:30080/TCP (1)    10.244.0.7:8080/TCP (4) (1)
192.168.0.1:30080/TCP/i (0)  0.0.0.0:0 (4) (0) [NodePort, Local, two-scopes, sessionAffinity]
192.168.0.1:30080/TCP/i (1)  10.244.0.7:8080/TCP (4) (1)
192.168.0.1:30080/TCP/i (2)  10.244.1.7:8080/TCP (4) (2)
10.96.0.11:53/UDP (0)        0.0.0.0:0 (5) (0) [ClusterIP, non-routable]

# cilium-dbg bpf lb list --backends
ID   BACKEND ADDRESS       STATE
1    10.244.0.7:8080/TCP   active
2    10.244.1.7:8080/TCP   active

# cilium-dbg bpf lb list --revnat
1   10.96.0.10:80/TCP
2   198.18.7.7:80/TCP
3   203.0.113.100:80/TCP
4   0.0.0.0:30080/TCP
5   10.96.0.11:53/UDP

# cilium-dbg bpf lb list --source-ranges
SOURCE RANGE      REVNAT_ID
198.51.100.0/24   3
203.0.113.0/25    3

# cilium-dbg bpf lb maglev list
REVNAT_ID   SIZE   PLACES
2           251    10.244.0.7:8080/TCP 251
3           251    10.244.0.7:8080/TCP 251
4           251    10.244.0.7:8080/TCP 251

# cilium-dbg bpf lb affinity list
REVNAT_ID   TIMEOUT   CLIENTS
1           60s       0
2           60s       0
3           60s       0
4           60s       0

# cilium-dbg bpf ipcache list
IP PREFIX/ADDRESS   IDENTITY
192.168.0.1/32      identity=1 (host)
2001:db8::1/128     identity=1 (host)
192.168.0.2/32      identity=6 (remote-node)
0.0.0.0/0           identity=2 (world)
::/0                identity=2 (world)

# cilium-dbg bpf ct list global

# cilium-dbg bpf nat list
`),
    );
  });

  it('prints the same bytes again, for any cluster', () => {
    fc.assert(
      fc.property(randomCluster, (cluster) => {
        const [name] = namesOf(cluster);
        expect(renderEbpf(cluster, config(), name!)).toBe(renderEbpf(cluster, config(), name!));
      }),
      seeded(10),
    );
  });
});
