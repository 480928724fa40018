/**
 * Random completed clusters and kube-proxy configurations: every kind of Service, port, policy and endpoint state, in
 * both families, small enough that collisions of addresses, hints and nodes are frequent.
 */

import * as fc from 'fast-check';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import type { DatapathConfig } from '../../control/src/model/datapath.ts';
import type { EndpointSlice } from '../../control/src/model/endpoint-slice.ts';
import type { Service } from '../../control/src/model/service.ts';
import { kubeProxyConfig, makeCluster, makeNode, makeService, makeSlice } from './fixture.ts';

const NODES = ['node-1', 'node-2', 'node-3'];
const ZONES = ['zone-a', 'zone-b'];

const byte = fc.integer({ min: 1, max: 254 });
const address4 = fc.tuple(byte, byte).map(([a, b]) => `10.244.${a}.${b}`);
const group = fc.integer({ min: 0, max: 0xffff });
const address6 = fc
  .array(fc.oneof(fc.constant(0), group), { minLength: 4, maxLength: 4 })
  .map((groups) => `fd00:10:244:0:${groups.map((g) => g.toString(16)).join(':')}`);
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

const endpoint = (address: fc.Arbitrary<string>) =>
  fc.record({
    address,
    nodeName: maybe(fc.constantFrom(...NODES, 'elsewhere')),
    conditions: fc.record({
      ready: maybe(fc.boolean()),
      serving: maybe(fc.boolean()),
      terminating: maybe(fc.boolean()),
    }),
    hints: maybe(
      fc.record({
        forZones: maybe(fc.subarray(ZONES).map((names) => names.map((name) => ({ name })))),
        forNodes: maybe(fc.subarray(NODES).map((names) => names.map((name) => ({ name })))),
      }),
    ),
  });

const portName = fc.constantFrom('', 'p80', 'http', 'dns-tcp');
const protocol = fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const);
const portNumber = fc.integer({ min: 1, max: 65535 });
const policy = fc.constantFrom('Cluster' as const, 'Local' as const);

const ports = fc.uniqueArray(
  fc.record({
    name: portName,
    protocol,
    port: portNumber,
    nodePort: fc.oneof(fc.constant(0), fc.integer({ min: 30000, max: 32767 })),
  }),
  { selector: (port) => port.name, minLength: 1, maxLength: 3 },
);

const externalAddresses = fc.subarray(['203.0.113.1', '203.0.113.2', '2001:db8:1::1', '2001:db8:1::2']);
const ranges = fc.subarray([
  '0.0.0.0/0',
  ' 192.168.0.0/24',
  '203.0.113.0/24 ',
  '198.51.100.7/32',
  '::/0',
  '2001:db8::/32',
  '::102:304/128',
]);

const specs = fc.record({
  type: fc.constantFrom('ClusterIP' as const, 'NodePort' as const, 'LoadBalancer' as const),
  ports,
  externalIPs: externalAddresses,
  ingress: fc.array(
    fc.record({ ip: fc.constantFrom('203.0.113.9', '2001:db8:1::9', ''), ipMode: fc.constantFrom('VIP', 'Proxy') }),
    { maxLength: 2 },
  ),
  loadBalancerSourceRanges: ranges,
  externalTrafficPolicy: policy,
  internalTrafficPolicy: policy,
  healthCheckNodePort: fc.constantFrom(0, 31000),
  sessionAffinity: fc.constantFrom('None' as const, 'ClientIP' as const),
  sessionAffinityConfig: maybe(fc.constant({ clientIP: { timeoutSeconds: 60 } })),
});

interface ServiceWithSlices {
  readonly service: Service;
  readonly slices: EndpointSlice[];
}

const slicesOf = (path: string, index: number) =>
  fc.array(
    fc.boolean().chain((isIPv6) =>
      fc
        .tuple(
          fc.array(fc.record({ name: portName, protocol, port: maybe(fc.constantFrom(80, 8080, 53)) }), {
            minLength: 1,
            maxLength: 4,
          }),
          fc.array(endpoint(isIPv6 ? address6 : address4), { maxLength: 6 }),
        )
        .map(([slicePorts, endpoints]) =>
          makeSlice(path, slicePorts, endpoints, {
            name: `slice-${index}`,
            addressType: isIPv6 ? 'IPv6' : 'IPv4',
          }),
        ),
    ),
    { maxLength: 4 },
  );

const serviceOf = (index: number): fc.Arbitrary<ServiceWithSlices> => {
  const path = `ns${index % 2}/svc${index}`;
  return fc.tuple(specs, slicesOf(path, index), fc.boolean()).map(([spec, slices, dual]) => {
    const clusterIPs = dual ? [`10.96.0.${index + 1}`, `fd00:10:96::${index + 1}`] : [`10.96.0.${index + 1}`];
    return { service: makeService(path, { ...spec, clusterIPs }), slices };
  });
};

export const randomCluster: fc.Arbitrary<Cluster> = fc
  .tuple(fc.nat({ max: 5 }), fc.array(fc.constantFrom('', ...ZONES), { minLength: 3, maxLength: 3 }))
  .chain(([count, zones]) =>
    fc.tuple(...Array.from({ length: count }, (_, index) => serviceOf(index))).map((services) =>
      makeCluster({
        nodes: NODES.map((name, i) =>
          makeNode(name, [`192.168.0.${i + 1}`, `2001:db8::${i + 1}`], {
            zone: zones[i] === '' ? undefined : zones[i],
            podCIDRs: i === 2 ? [] : [`10.244.${i}.0/24`, `fd00:10:244:${i}::/64`],
          }),
        ),
        services: services.map(({ service }) => service),
        endpointSlices: services.flatMap(({ slices }) => slices),
      }),
    ),
  );

export const randomConfig: fc.Arbitrary<DatapathConfig> = fc
  .record({
    detectLocalMode: fc.constantFrom(
      'ClusterCIDR' as const,
      'NodeCIDR' as const,
      'BridgeInterface' as const,
      'InterfaceNamePrefix' as const,
      'None' as const,
    ),
    clusterCIDR: fc.constantFrom<string[][]>([], ['10.244.0.0/16'], ['fd00:10:244::/56', '10.0.0.0/8']),
    masqueradeAll: fc.boolean(),
    localhostNodePorts: fc.boolean(),
    nodePortAddresses: fc.constantFrom<string[][]>(
      [],
      ['primary'],
      ['0.0.0.0/0'],
      ['192.168.0.0/24'],
      ['127.0.0.0/8', '::1/128', '192.168.0.0/16'],
      ['2001:db8::/32'],
    ),
  })
  .map((options) => kubeProxyConfig(options));

/** Options of a property: a fresh seed that is printed on failure, or the one of FLATPATH_SEED. */
export function seeded(runs: number): fc.Parameters<unknown> {
  const given = process.env['FLATPATH_SEED'];
  return { numRuns: runs, ...(given === undefined ? {} : { seed: Number(given) }) };
}
