import { describe, expect, it } from 'vitest';
import {
  countEndpoints,
  endpointAddressOrigin,
  endpointPortOrigin,
  listServicePorts,
  type ServicePortInfo,
  servicePortOrigin,
} from '../../control/src/compile/service-ports.ts';
import type { EndpointSlice } from '../../control/src/model/endpoint-slice.ts';
import { makeCluster, makeService, makeSlice, type ServiceParts } from './fixture.ts';

function portsOf(parts: ServiceParts, slices: EndpointSlice[] = [], family: 4 | 6 = 4): readonly ServicePortInfo[] {
  const service = makeService('ns/svc', { clusterIPs: ['10.96.0.1'], ports: [{}], ...parts });
  return listServicePorts(makeCluster({ services: [service], endpointSlices: slices }), family);
}

const onlyPort = (parts: ServiceParts, slices: EndpointSlice[] = []) => portsOf(parts, slices)[0]!;
const texts = (vips: readonly { address: { text: string } }[]) => vips.map((vip) => vip.address.text);
const endpointTexts = (slices: EndpointSlice[], parts: ServiceParts = {}) =>
  onlyPort(parts, slices).endpoints.map((endpoint) => endpoint.text);

describe('service ports', () => {
  it('are one for each port and family that has a ClusterIP', () => {
    const parts: ServiceParts = {
      clusterIPs: ['10.96.0.1', 'fd00::1'],
      ports: [
        { name: 'http', port: 80 },
        { name: 'dns', protocol: 'UDP', port: 53 },
      ],
    };
    expect(portsOf(parts).map((port) => [port.key, port.protocol, port.port, port.clusterIP.address.text])).toEqual([
      ['ns/svc:http', 'TCP', 80, '10.96.0.1'],
      ['ns/svc:dns', 'UDP', 53, '10.96.0.1'],
    ]);
    expect(portsOf(parts, [], 6).map((port) => port.clusterIP)).toMatchObject([
      { address: { text: 'fd00::1' }, field: 'spec.clusterIPs[1]' },
      { address: { text: 'fd00::1' } },
    ]);
    expect(portsOf({ externalIPs: ['2001:db8::1'] }, [], 6)).toEqual([]);
  });

  it('leave the port out of the key of an unnamed port', () => {
    expect(onlyPort({}).key).toBe('ns/svc');
  });

  it.each([
    ['headless', { clusterIPs: ['None'] }],
    ['headless with a nodePort', { clusterIPs: ['None'], ports: [{ nodePort: 30000 }] }],
    ['ExternalName with a stray ClusterIP', { type: 'ExternalName' as const, externalName: 'example.org' }],
    ['of another proxy', { labels: { 'service.kubernetes.io/service-proxy-name': 'mine' } }],
  ])('skip a Service that is %s', (_, parts) => {
    expect(portsOf(parts)).toEqual([]);
  });

  it('read addresses of their family, leading zeros as decimal', () => {
    const port = onlyPort({ externalIPs: ['203.0.113.010', '2001:db8::1'] });
    expect(texts(port.externalIPs)).toEqual(['203.0.113.10']);
    expect(port.externalIPs[0]!.field).toBe('spec.externalIPs[0]');
  });

  it('leave load balancer addresses of ipMode Proxy alone', () => {
    const port = onlyPort({
      type: 'LoadBalancer',
      ingress: [{ ip: '203.0.113.1', ipMode: 'Proxy' }, { hostname: 'lb.example.org' }, { ip: '203.0.113.2' }],
    });
    expect(port.loadBalancerVIPs).toMatchObject([
      { address: { text: '203.0.113.2' }, field: 'status.loadBalancer.ingress[2].ip' },
    ]);
  });

  it('trim source ranges and keep those of the family', () => {
    const port = onlyPort({ loadBalancerSourceRanges: [' 10.0.0.0/8 ', '2001:db8::/32', '192.168.0.7/24'] });
    expect(port.sourceRanges.map(({ prefix, field }) => [prefix.text, field])).toEqual([
      ['10.0.0.0/8', 'spec.loadBalancerSourceRanges[0]'],
      ['192.168.0.0/24', 'spec.loadBalancerSourceRanges[2]'],
    ]);
  });

  it('count a nodePort whatever the type', () => {
    const port = onlyPort({ ports: [{ nodePort: 30080 }] });
    expect(port).toMatchObject({ nodePort: 30080, externallyAccessible: true, usesClusterEndpoints: true });
  });

  it('heed externalTrafficPolicy only where the type or externalIPs make the Service external', () => {
    const stray = onlyPort({ externalTrafficPolicy: 'Local', ports: [{ nodePort: 30080 }] });
    expect(stray.externalPolicyLocal).toBe(false);
    const withIP = onlyPort({ externalTrafficPolicy: 'Local', externalIPs: ['203.0.113.1'] });
    expect(withIP).toMatchObject({ externalPolicyLocal: true, usesLocalEndpoints: true, usesClusterEndpoints: true });
    const unreachable = onlyPort({ externalTrafficPolicy: 'Local', type: 'LoadBalancer' });
    expect(unreachable).toMatchObject({ externalPolicyLocal: true, usesLocalEndpoints: false });
  });

  it('use local endpoints alone under internalTrafficPolicy Local without external addresses', () => {
    const port = onlyPort({ internalTrafficPolicy: 'Local' });
    expect(port).toMatchObject({ usesClusterEndpoints: false, usesLocalEndpoints: true });
  });

  it('have a health check nodePort only as LoadBalancer under externalTrafficPolicy Local', () => {
    const parts: ServiceParts = { healthCheckNodePort: 31000, externalTrafficPolicy: 'Local' };
    expect(onlyPort({ ...parts, type: 'LoadBalancer' }).healthCheckNodePort).toBe(31000);
    expect(onlyPort({ ...parts, type: 'NodePort' }).healthCheckNodePort).toBe(0);
    expect(onlyPort({ ...parts, type: 'LoadBalancer', externalTrafficPolicy: 'Cluster' }).healthCheckNodePort).toBe(0);
  });

  it('keep a client for three hours unless told otherwise', () => {
    expect(onlyPort({}).affinitySeconds).toBe(0);
    expect(onlyPort({ sessionAffinity: 'ClientIP' }).affinitySeconds).toBe(10_800);
    const timeout = { sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } };
    expect(onlyPort({ sessionAffinity: 'ClientIP', ...timeout }).affinitySeconds).toBe(60);
  });

  it('name the fields that they come from', () => {
    const slice = makeSlice('ns/svc', [{ port: 8080 }], [{}, { address: '10.244.0.1' }]);
    const port = onlyPort({}, [slice]);
    expect(servicePortOrigin(port, port.clusterIP.field)).toMatchObject({ kind: 'Service', field: 'spec.clusterIP' });
    const [endpoint] = port.endpoints;
    expect(endpointAddressOrigin(endpoint!)).toMatchObject({
      kind: 'EndpointSlice',
      name: 'svc-abcde',
      field: 'endpoints[1].addresses[0]',
    });
    expect(endpointPortOrigin(endpoint!).field).toBe('ports[0].port');
  });

  it('are worked out once per cluster', () => {
    const cluster = makeCluster({ services: [makeService('a/b', { clusterIPs: ['10.96.0.1'], ports: [{}] })] });
    expect(listServicePorts(cluster, 4)).toBe(listServicePorts(cluster, 4));
  });
});

describe('endpoints of a service port', () => {
  it('come from all slices of the Service, by port name and protocol, with the port number of the slice', () => {
    const slices = [
      makeSlice('ns/svc', [{ name: 'http', port: 8080 }], [{ address: '10.244.0.2' }], { name: 'a' }),
      makeSlice('ns/svc', [{ name: 'http', port: 9090 }], [{ address: '10.244.0.1' }], { name: 'b' }),
      makeSlice('ns/svc', [{ name: 'http', port: 53, protocol: 'UDP' }], [{ address: '10.244.0.3' }], { name: 'c' }),
      makeSlice('ns/svc', [{ name: 'other', port: 53 }], [{ address: '10.244.0.4' }], { name: 'd' }),
      makeSlice('ns/other', [{ name: 'http', port: 53 }], [{ address: '10.244.0.5' }], { name: 'e' }),
      makeSlice('other/svc', [{ name: 'http', port: 53 }], [{ address: '10.244.0.6' }], { name: 'f' }),
    ];
    const parts: ServiceParts = { ports: [{ name: 'http', port: 80, targetPort: 1234 }] };
    expect(endpointTexts(slices, parts)).toEqual(['10.244.0.1:9090', '10.244.0.2:8080']);
  });

  it('are sorted by their text, not by number', () => {
    const addresses = ['10.244.0.9', '10.244.0.10', '10.244.0.100'];
    const slice = makeSlice(
      'ns/svc',
      [{ port: 80 }],
      addresses.map((address) => ({ address })),
    );
    expect(endpointTexts([slice])).toEqual(['10.244.0.100:80', '10.244.0.10:80', '10.244.0.9:80'].sort());
  });

  it('are not made from a port without a number, an endpoint without an address, or a slice of another proxy', () => {
    const one = [{ address: '10.244.0.1' }];
    expect(endpointTexts([makeSlice('ns/svc', [{}], one)])).toEqual([]);
    expect(endpointTexts([makeSlice('ns/svc', [{ port: 80 }], [{}])])).toEqual([]);
    const labels = { 'service.kubernetes.io/service-proxy-name': 'mine' };
    expect(endpointTexts([makeSlice('ns/svc', [{ port: 80 }], one, { labels })])).toEqual([]);
  });

  it('use the first address only, and only slices of the family', () => {
    const two = [{ addresses: ['10.244.0.1', '10.244.0.2'] }];
    expect(endpointTexts([makeSlice('ns/svc', [{ port: 80 }], two)])).toEqual(['10.244.0.1:80']);
    expect(endpointTexts([makeSlice('ns/svc', [{ port: 80 }], two, { addressType: 'FQDN' })])).toEqual([]);
    expect(endpointTexts([makeSlice('ns/svc', [{ port: 80 }], two, { addressType: 'IPv6' })])).toEqual([]);
  });

  it('write IPv6 addresses canonically in brackets', () => {
    const slice = makeSlice('ns/svc', [{ port: 80 }], [{ address: '2001:DB8:0:0::1' }], { addressType: 'IPv6' });
    const [port] = portsOf({ clusterIPs: ['fd00::1'] }, [slice], 6);
    expect(port!.endpoints.map((endpoint) => endpoint.text)).toEqual(['[2001:db8::1]:80']);
  });

  it('read missing conditions as ready, serving and not terminating', () => {
    const conditions = [{}, { ready: false }, { ready: false, terminating: true }, { serving: false }];
    const slice = makeSlice(
      'ns/svc',
      [{ port: 80 }],
      conditions.map((given, i) => ({ address: `10.244.0.${i}`, conditions: given })),
    );
    const read = onlyPort({}, [slice]).endpoints.map(({ ready, serving, terminating }) => [
      ready,
      serving,
      terminating,
    ]);
    expect(read).toEqual([
      [true, true, false],
      [false, true, false],
      [false, true, true],
      [true, false, false],
    ]);
  });

  it('are one for each ip:port, the others kept as duplicates in the order met', () => {
    const slices = [
      makeSlice('ns/svc', [{ port: 80 }], [{ address: '10.244.0.1', nodeName: 'node-1' }], { name: 'a' }),
      makeSlice('ns/svc', [{ port: 80 }], [{ address: '10.244.0.1', nodeName: 'node-2' }], { name: 'b' }),
    ];
    const port = onlyPort({}, slices);
    expect(port.endpoints.map((endpoint) => endpoint.nodeName)).toEqual(['node-1']);
    expect(port.endpoints[0]!.duplicates.map((endpoint) => endpoint.nodeName)).toEqual(['node-2']);
    expect(countEndpoints([port])).toBe(1);
  });

  it('may have several numbers under one port name', () => {
    const slice = makeSlice('ns/svc', [{ port: 80 }, { port: 81 }], [{ address: '10.244.0.1' }]);
    expect(endpointTexts([slice])).toEqual(['10.244.0.1:80', '10.244.0.1:81']);
  });
});
