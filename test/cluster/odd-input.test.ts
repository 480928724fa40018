/** What is odd but valid: everything that DESIGN says is accepted must load, with a warning where it is odd. */

import { describe, expect, it } from 'vitest';
import { deployment, loadObjects, loadText, node, pod, service, warningsOf } from './support.ts';

const slice = (name: string, more: object): object => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ port: 80 }],
  ...more,
});

describe('accepted', () => {
  it('fields that flatpath does not use are never required', () => {
    const { cluster, warnings } = loadObjects([
      { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' }, spec: { containers: [{}] } },
      { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'b' } },
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'c' }, spec: { template: {} } },
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'd' } },
      { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'e' }, spec: {} },
    ]);
    expect(warnings).toEqual([]);
    expect(cluster.pods).toHaveLength(3);
  });

  it('null is absent, everywhere', () => {
    const { cluster, warnings } = loadText(`
apiVersion: v1
kind: Service
metadata: {name: a, namespace: null, labels: null, annotations: ~}
spec:
  clusterIP:
  type: null
  selector:
  ports: [{port: 80, targetPort: null, nodePort: null, protocol: null, name: null}]
status: null
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app:}}
spec: null
status: {podIP: null, podIPs: null, conditions: null}
`);
    expect(warnings).toEqual([]);
    expect(cluster.services[0]!.spec).toMatchObject({
      type: 'ClusterIP',
      ports: [{ port: 80, protocol: 'TCP', nodePort: 0 }],
    });
    expect(cluster.pods[0]!.status.podIP).not.toBe('');
  });

  it('makes missing Namespaces, with the label that the API server sets', () => {
    const { cluster } = loadObjects([
      pod('a', {}),
      deployment('d', 0),
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'x' } },
    ]);
    expect(cluster.namespaces.map(({ metadata }) => [metadata.name, metadata.labels])).toEqual([
      ['shop', { 'kubernetes.io/metadata.name': 'shop' }],
      ['x', { 'kubernetes.io/metadata.name': 'x' }],
    ]);
  });

  it('nodePorts and ClusterIPs outside their ranges, with a warning', () => {
    const services = [
      service('a', { clusterIP: '172.20.0.10', type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] }),
      service('b', { clusterIP: '172.20.0.11' }),
    ];
    const result = loadObjects(services, { serviceCIDRs: ['10.96.0.0/12'] });
    expect(warningsOf(result)).toEqual([
      '172.20.0.10 of Service shop/a and 1 more ClusterIPs outside kubeProxy.serviceCIDRs 10.96.0.0/12',
      'Service shop/a spec.ports[0].nodePort: 80 is outside the usual range 30000 to 32767',
    ]);
    expect(result.cluster.services[0]!.spec.ports[0]!.nodePort).toBe(80);
    expect(warningsOf(loadObjects([services[1]!]))).toEqual([]);
  });

  it('leading zeros in addresses and prefix lengths are decimal', () => {
    const result = loadObjects([
      service('a', { clusterIP: '010.096.000.010', externalIPs: ['192.000.002.1'] }),
      pod('p', { app: 'a' }, { nodeName: 'n1' }, { podIP: '010.244.001.008' }),
      node('n1', { podCIDR: '10.244.001.0/024' }, '192.0.2.09'),
    ]);
    expect(result.cluster.services[0]!.spec.clusterIPs).toEqual(['10.96.0.10']);
    expect(result.cluster.pods[0]!.status.podIP).toBe('10.244.1.8');
    expect(result.cluster.nodes[0]!.spec.podCIDRs).toEqual(['10.244.1.0/24']);
    expect(result.cluster.endpointSlices[0]!.endpoints[0]!.addresses).toEqual(['10.244.1.8']);
    expect(warningsOf(result)).toContain(
      'Service shop/a spec.clusterIP: "010.096.000.010" has leading zeros; it is read as 10.96.0.10',
    );
  });

  it('network addresses as hosts', () => {
    const { cluster } = loadObjects([
      pod('p', {}, {}, { podIP: '10.244.1.0' }),
      service('a', { clusterIP: '10.96.0.0' }),
    ]);
    expect(cluster.pods[0]!.status.podIP).toBe('10.244.1.0');
  });

  it('EndpointSlices for which no Pod exists, and an address twice in slices', () => {
    const result = loadObjects([
      service('web'),
      slice('a', {
        endpoints: [{ addresses: ['10.9.0.1'] }, { addresses: ['10.9.0.1'] }, { addresses: ['10.9.0.2', '10.9.0.3'] }],
      }),
      slice('b', { endpoints: [{ addresses: ['10.9.0.1'] }] }),
      slice('c', { endpoints: [{ addresses: ['10.9.0.1'] }], ports: [{ port: 81 }] }),
    ]);
    expect(result.cluster.endpointSlices.map(({ metadata }) => metadata.name)).toEqual(['a', 'b', 'c']);
    expect(warningsOf(result)).toEqual([
      'EndpointSlice shop/a endpoints[2].addresses: holds 2 addresses; only the first is used, as kube-proxy does',
      'EndpointSlice shop/a endpoints[1].addresses[0]: 10.9.0.1 stands twice in this slice',
      'EndpointSlice shop/b endpoints[0].addresses[0]: 10.9.0.1 stands twice for Service web, first in EndpointSlice shop/a',
    ]);
  });

  it('a null slice port, conditions and nodeName left out', () => {
    const { cluster } = loadText(
      'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: web}}\n' +
        'addressType: IPv4\nendpoints: [{addresses: [10.9.0.1], conditions: {ready: null}}]\nports: [{name: http, port: null}]\n',
    );
    expect(cluster.endpointSlices[0]).toMatchObject({
      endpoints: [{ addresses: ['10.9.0.1'], conditions: {} }],
      ports: [{ name: 'http', protocol: 'TCP' }],
    });
    expect(cluster.endpointSlices[0]!.ports[0]).not.toHaveProperty('port');
  });

  it('externalIPs that a node owns, hostNetwork pods on a node’s address', () => {
    const result = loadObjects([
      node('n1', {}, '192.0.2.1'),
      service('a', { externalIPs: ['192.0.2.1'] }),
      pod('h', { app: 'a' }, { hostNetwork: true, nodeName: 'n1' }),
      pod('i', { app: 'a' }, { hostNetwork: true, nodeName: 'n1' }, { podIP: '192.0.2.1' }),
    ]);
    expect(warningsOf(result)).toEqual([]);
    expect(result.cluster.pods.map(({ status }) => status.podIP)).toEqual(['192.0.2.1', '192.0.2.1']);
  });

  it('ExternalName and headless Services with a stray clusterIP or nodePort', () => {
    const result = loadObjects([
      service('a', { type: 'ExternalName', externalName: 'db.example.com', clusterIP: '10.96.0.9', ports: [] }),
      service('b', { clusterIP: 'None', ports: [{ port: 80, nodePort: 30080 }] }),
      service('c', { type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] }),
      service('d', { clusterIP: '10.96.0.9' }),
      service('e', { clusterIP: 'None', type: 'NodePort' }),
    ]);
    expect(warningsOf(result)).toEqual([
      'Service shop/a spec.clusterIP: has no effect: an ExternalName Service has no address',
      'Service shop/b spec.ports[0].nodePort: has no effect: the Service has no address',
      'Service shop/e spec.clusterIP: "None" makes this NodePort Service headless: it has no address of its own',
    ]);
  });

  it('empty labels and empty selectors', () => {
    const { cluster } = loadObjects([
      pod('a', {}),
      pod('b', { app: '' }),
      service('s', { selector: { app: '' } }),
      service('t', { selector: {} }),
    ]);
    expect(cluster.endpointSlices).toHaveLength(1);
    expect(cluster.endpointSlices[0]!.endpoints.map(({ targetRef }) => targetRef!.name)).toEqual(['b']);
  });

  it('Succeeded and Failed pods own no address', () => {
    const { cluster } = loadObjects([
      pod('a', { app: 'web' }, {}, { phase: 'Succeeded', podIP: '10.244.1.5' }),
      pod('b', { app: 'web' }, {}, { phase: 'Failed', podIP: '10.244.1.5' }),
      pod('c', { app: 'web' }, {}, { phase: 'Running', podIP: '10.244.1.5' }),
      service('web'),
    ]);
    expect(cluster.pods.map(({ status }) => status.podIP)).toEqual(['', '', '10.244.1.5']);
    expect(cluster.endpointSlices[0]!.endpoints).toHaveLength(1);
    expect(cluster.warnings).toEqual([]);
  });

  it('a Pod without status is ready, one that says otherwise is not', () => {
    const status = (ready: string): object => ({ phase: 'Running', conditions: [{ type: 'Ready', status: ready }] });
    const { cluster } = loadObjects([
      pod('a', { app: 'web' }),
      pod('b', { app: 'web' }, {}, status('True')),
      pod('c', { app: 'web' }, {}, status('False')),
      pod('d', { app: 'web' }, {}, { phase: 'Pending' }),
      pod('e', { app: 'web' }, {}, { phase: 'Running' }),
      service('web'),
    ]);
    expect(cluster.endpointSlices[0]!.endpoints.map(({ conditions }) => conditions.ready)).toEqual([
      true,
      true,
      false,
      false,
      true,
    ]);
  });

  it('two running pods with one address, with a warning', () => {
    const result = loadObjects([pod('a', {}, {}, { podIP: '10.244.1.5' }), pod('b', {}, {}, { podIP: '10.244.1.5' })]);
    expect(warningsOf(result)).toEqual([
      'Pod shop/b status.podIP: 10.244.1.5 is also the address of Pod shop/a, which keeps it',
    ]);
  });

  it('spaces in loadBalancerSourceRanges, host bits in prefixes', () => {
    const result = loadObjects([
      service('a', { type: 'LoadBalancer', loadBalancerSourceRanges: [' 10.0.0.0/8 ', '192.0.2.1/24'] }),
    ]);
    expect(warningsOf(result)).toEqual([
      'Service shop/a spec.loadBalancerSourceRanges[1]: "192.0.2.1/24" has bits behind its length; it is read as 192.0.2.0/24',
    ]);
  });

  it('an object twice: the last wins', () => {
    const { cluster } = loadObjects([
      service('web', { ports: [{ port: 1 }], clusterIP: '10.96.0.7' }),
      service('web', { ports: [{ port: 2 }], clusterIP: '10.96.0.7' }),
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'x' } },
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'x' } },
    ]);
    expect(cluster.services.map(({ spec }) => spec.ports[0]!.port)).toEqual([2]);
    expect(cluster.unmodelled).toEqual([{ apiVersion: 'v1', kind: 'Secret', count: 1 }]);
    const files = {
      'a.yaml': JSON.stringify(service('web')),
      'b.yaml': JSON.stringify(service('web', { ports: [{ port: 3 }] })),
    };
    expect(loadText(files).cluster.services[0]!.spec.ports[0]!.port).toBe(3);
  });

  it('generateName', () => {
    const job = { apiVersion: 'batch/v1', kind: 'Job', metadata: { generateName: 'once-' }, spec: { template: {} } };
    expect(loadObjects([job]).cluster.pods[0]!.metadata.name).toMatch(/^once-[a-z0-9]{5}-[a-z0-9]{5}$/);
  });
});

describe('kinds that are not modelled', () => {
  it('are counted and named; those of other groups with a modelled name too', () => {
    const custom = (apiVersion: string, kind: string, name: string): object => ({
      apiVersion,
      kind,
      metadata: { name },
    });
    const { cluster } = loadObjects([
      custom('v1', 'Secret', 'a'),
      custom('v1', 'Secret', 'b'),
      custom('serving.knative.dev/v1', 'Service', 'a'),
      custom('apps.kruise.io/v1alpha1', 'StatefulSet', 'a'),
      custom('cluster.x-k8s.io/v1beta1', 'Node', 'a'),
      custom('example.com/v1', 'AllowList', 'a'),
    ]);
    expect(cluster.unmodelled).toEqual([
      { apiVersion: 'example.com/v1', kind: 'AllowList', count: 1 },
      { apiVersion: 'cluster.x-k8s.io/v1beta1', kind: 'Node', count: 1 },
      { apiVersion: 'v1', kind: 'Secret', count: 2 },
      { apiVersion: 'serving.knative.dev/v1', kind: 'Service', count: 1 },
      { apiVersion: 'apps.kruise.io/v1alpha1', kind: 'StatefulSet', count: 1 },
    ]);
    expect(cluster.services).toEqual([]);
  });

  it('that can change an answer are kept apart, with the pods they may select', () => {
    const policy = (apiVersion: string, kind: string, namespace: string | undefined, spec: object): object => ({
      apiVersion,
      kind,
      metadata: { name: 'p', namespace },
      spec,
    });
    const { cluster } = loadObjects([
      policy('cilium.io/v2', 'CiliumNetworkPolicy', 'shop', {
        endpointSelector: { matchLabels: { 'k8s:app': 'web', 'k8s:io.kubernetes.pod.namespace': 'shop', tier: 'x' } },
      }),
      policy('cilium.io/v2', 'CiliumClusterwideNetworkPolicy', undefined, { nodeSelector: {} }),
      policy('crd.projectcalico.org/v1', 'NetworkPolicy', 'shop', { selector: 'app == \'web\' && tier == "db"' }),
      policy('projectcalico.org/v3', 'GlobalNetworkPolicy', undefined, { selector: "has(app) || app in {'a'}" }),
      policy('security.istio.io/v1', 'AuthorizationPolicy', 'istio-system', {
        selector: { matchLabels: { app: 'web' } },
      }),
      policy('crd.antrea.io/v1beta1', 'ClusterNetworkPolicy', undefined, { tier: 'securityops', priority: 5 }),
    ]);
    expect(cluster.unmodelledPolicies.map(({ kind, namespace, podLabels }) => [kind, namespace, podLabels])).toEqual([
      ['AuthorizationPolicy', '', { app: 'web' }],
      ['CiliumClusterwideNetworkPolicy', '', {}],
      ['CiliumNetworkPolicy', 'shop', { app: 'web', tier: 'x' }],
      ['ClusterNetworkPolicy', '', null],
      ['GlobalNetworkPolicy', '', null],
      ['NetworkPolicy', 'shop', { app: 'web', tier: 'db' }],
    ]);
    expect(cluster.networkPolicies).toEqual([]);
    expect(cluster.unmodelled).toHaveLength(6);
  });
});
