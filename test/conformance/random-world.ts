/** Random Services and options of a world, and everything that may be asked of them. */

import fc from 'fast-check';
import { address, FAMILIES, PROTOCOLS, questionsAbout, WORLD_NODES } from './matrix-world.ts';
import type { Question } from './run-world.ts';
import { DEFAULT_OPTIONS, type WorldEndpoint, type WorldOptions, type WorldService, type WorldSlice } from './world.ts';

/** A seed that every run has and a fresh one, part of the test's name, or FLATPATH_SEED alone. */
export const seeds: readonly number[] =
  process.env['FLATPATH_SEED'] === undefined
    ? [2_026, Math.floor(Math.random() * 2 ** 31)]
    : [Number(process.env['FLATPATH_SEED'])];
if (process.env['FLATPATH_SEED'] === undefined) console.log(`random clusters: FLATPATH_SEED=${seeds[1]}`);

const condition = fc.constantFrom(true, true, true, false, null);
const zones = fc.constantFrom<string[][]>([], [], ['zone-1'], ['zone-2'], ['zone-1', 'zone-2'], ['zone-9']);
const nodes = fc.constantFrom<string[][]>([], [], [], ['node-1'], ['node-2']);

/** Endpoints of one family; each address once, so that the last word on it is clear. */
const endpoints = (family: 4 | 6): fc.Arbitrary<WorldEndpoint[]> =>
  fc.uniqueArray(
    fc.record<WorldEndpoint>({
      address: fc.oneof(
        fc.integer({ min: 10, max: 11 }).map((host) => address(family, 'pod1', host)),
        fc.integer({ min: 10, max: 11 }).map((host) => address(family, 'pod2', host)),
        fc.constant(address(family, 'pod1', 2)),
        fc.constant(address(family, 'pod2', 77)),
        fc.constant(address(family, 'client', 99)),
        fc.integer({ min: 1, max: 2 }).map((host) => address(family, 'node', host)),
      ),
      node: fc.constantFrom('node-1', 'node-2', null),
      ready: condition,
      serving: condition,
      terminating: fc.boolean(),
      zones,
      nodes,
    }),
    { maxLength: 5, selector: (own) => own.address },
  );

/** Any Service; `index` numbers its addresses and ports. */
export const randomService = (index: number): fc.Arbitrary<WorldService> =>
  fc
    .record({
      protocol: fc.constantFrom(...PROTOCOLS),
      type: fc.constantFrom('ClusterIP' as const, 'NodePort' as const, 'LoadBalancer' as const),
      families: fc.constantFrom([4, 6] as const, [6, 4] as const, [4] as const, [6] as const),
      slicePorts: fc.array(fc.constantFrom(8080, 80, 9090, null), { minLength: 1, maxLength: 2 }),
      otherName: fc.boolean(),
      endpoints4: endpoints(4),
      endpoints6: endpoints(6),
      ranges: fc.subarray(['192.0.2.0/24', '10.244.0.0/16', '192.168.0.1/32', '2001:db8:2::/64', ' fd00:168::/64']),
      proxy: fc.boolean(),
      external: fc.boolean(),
      nodeOwned: fc.integer({ min: 0, max: 7 }),
      nodePort: fc.boolean(),
      internalLocal: fc.boolean(),
      externalLocal: fc.boolean(),
      affinity: fc.boolean(),
    })
    .map((drawn) => {
      const { protocol, families } = drawn;
      const slices: WorldSlice[] = FAMILIES.flatMap((family) =>
        drawn.slicePorts.map((port, i) => ({
          family,
          ports: [{ name: 'p', protocol, port }, ...(drawn.otherName ? [{ name: 'other', protocol, port: 7070 }] : [])],
          // Two slices share no address, or one port of an endpoint would be named twice.
          endpoints: (family === 4 ? drawn.endpoints4 : drawn.endpoints6).filter(
            (_, e) => e % drawn.slicePorts.length === i,
          ),
        })),
      );
      const externalIPs = drawn.external ? FAMILIES.map((family) => address(family, 'external', index)) : [];
      // One external IP may be an address of node-2.
      if (drawn.nodeOwned === 0) externalIPs.push(address(4, 'node', 2));
      return {
        name: `svc-${index}`,
        type: drawn.type,
        clusterIPs: families.map((family) => address(family, 'cluster', index)),
        ports: [{ name: 'p', protocol, port: 80 + index, nodePort: drawn.nodePort ? 30_000 + index : 0 }],
        externalIPs,
        ingress: FAMILIES.map((family) => ({ ip: address(family, 'balancer', index), proxy: drawn.proxy })),
        sourceRanges: drawn.ranges,
        internalLocal: drawn.internalLocal,
        externalLocal: drawn.externalLocal,
        affinity: drawn.affinity,
        slices,
      };
    });

export const randomOptions: fc.Arbitrary<Partial<WorldOptions>> = fc.record<WorldOptions>({
  detectLocalMode: fc.constantFrom(
    'ClusterCIDR',
    'ClusterCIDR',
    'NodeCIDR',
    'BridgeInterface',
    'InterfaceNamePrefix',
    'None',
  ),
  clusterCIDR: fc.constantFrom(DEFAULT_OPTIONS.clusterCIDR, ['10.244.0.0/16'], ['10.244.1.0/24', 'fd00:10:244:1::/64']),
  masqueradeAll: fc.boolean(),
  nodePortAddresses: fc.subarray(['192.168.0.2/32', 'fd00:168::/64', '127.0.0.0/8'], { maxLength: 2 }),
  localhostNodePorts: fc.boolean(),
  socketLB: fc.boolean(),
  loadBalancerMode: fc.constantFrom('snat', 'dsr'),
  externalClusterIP: fc.boolean(),
  algorithm: fc.constantFrom('random', 'maglev'),
});

/** Everything that may be asked of the Services, and their addresses at ports of other Services. */
export function allQuestions(services: readonly WorldService[]): Question[] {
  const foreign = services.flatMap((own) =>
    WORLD_NODES.map(
      ({ name }): Question => ({
        from: address(4, 'client', 5),
        node: name,
        to: own.clusterIPs.find((ip) => !ip.includes(':')) ?? address(4, 'external', 200),
        port: 30_000,
        protocol: 'TCP',
      }),
    ),
  );
  return [...services.flatMap(questionsAbout), ...foreign];
}
