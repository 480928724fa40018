/** What answers say beside the packet's end: policies that nothing here enforces; and what references and options stand for. */

import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { modelCluster } from '../../control/src/compile/image.ts';
import { BUILT_MODES, type DatapathInput, type Mode, resolveDatapath } from '../../control/src/model/datapath.ts';
import { checkDatapath } from '../../control/src/model/datapath-check.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { describePolicy, listNotEnforced } from '../../control/src/probe/not-enforced.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { runProbe } from '../../control/src/probe/suite.ts';
import { traceConnection, traceReport } from '../../control/src/probe/trace-report.ts';

const pod = (namespace: string, name: string, nodeName: string, ip: string, port = 8080) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { app: name.replace(/-.*/, '') } },
  spec: { nodeName, containers: [{ ports: [{ name: 'http', containerPort: port }] }] },
  status: { podIP: ip },
});
const service = (namespace: string, name: string, app: string, spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace },
  spec: { selector: { app }, ports: [{ name: 'http', port: 80, targetPort: 'http', nodePort: 0 }], ...spec },
});
const policy = (apiVersion: string, kind: string, namespace: string, name: string, spec: object) => ({
  apiVersion,
  kind,
  metadata: namespace === '' ? { name } : { name, namespace },
  spec,
});

const PODS = [
  pod('shop', 'client', 'n1', '10.244.0.2'),
  pod('shop', 'web-0', 'n1', '10.244.0.3'),
  pod('shop', 'web-1', 'n2', '10.244.1.3', 9090),
  pod('other', 'lone', 'n2', '10.244.1.4'),
];

function modelOf(objects: readonly unknown[], datapath: DatapathInput = {}) {
  const { cluster } = loadCluster([], { objects });
  return modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
}

describe('policies that are not enforced', () => {
  const model = modelOf([
    ...PODS,
    service('shop', 'web', 'web'),
    policy('networking.k8s.io/v1', 'NetworkPolicy', 'shop', 'web-only', {
      podSelector: { matchLabels: { app: 'web' } },
    }),
    policy('networking.k8s.io/v1', 'NetworkPolicy', 'other', 'deny-all', { podSelector: {} }),
    policy('cilium.io/v2', 'CiliumNetworkPolicy', 'shop', 'clients', {
      endpointSelector: { matchLabels: { 'k8s:app': 'client' } },
    }),
    policy('projectcalico.org/v3', 'GlobalNetworkPolicy', '', 'lones', { selector: "app == 'lone'" }),
    policy('security.istio.io/v1', 'AuthorizationPolicy', 'shop', 'nobody', {
      selector: { matchLabels: { app: 'nobody' } },
    }),
  ]);
  const named = (mode: Mode, from: string, to: string): string[] =>
    runProbe(new Simulator(model, mode), { from, to }).notEnforced.map(describePolicy);

  it('are named in every answer about the pods that they may select, and in no other', () => {
    for (const mode of BUILT_MODES) {
      expect(named(mode, 'pod/shop/client', 'svc/shop/web:80')).toEqual(['CiliumNetworkPolicy shop/clients']);
      expect(named(mode, '203.0.113.1', 'pod/shop/web-0:8080')).toEqual([]);
      expect(named(mode, '203.0.113.1', 'pod/other/lone:1')).toEqual(['GlobalNetworkPolicy lones']);
      expect(named(mode, 'node/n1', '203.0.113.1:80')).toEqual([]);
    }
    expect(listNotEnforced(model).map(describePolicy).sort()).toEqual([
      'AuthorizationPolicy shop/nobody',
      'CiliumNetworkPolicy shop/clients',
      'GlobalNetworkPolicy lones',
    ]);
  });

  it('stand in the JSON of a trace', () => {
    const request = { from: 'pod/shop/client', to: 'pod/other/lone:1' };
    const report = traceReport(request, [traceConnection(model, 'ebpf', resolveConnection(model, request))]);
    expect(report.traces[0]!.notEnforced.map(({ name }) => name)).toEqual(['clients', 'lones']);
  });
});

describe('a headless Service by a port name', () => {
  it("reaches each endpoint on that endpoint's own number", () => {
    const model = modelOf([...PODS, service('shop', 'all', 'web', { clusterIP: 'None' })]);
    const targets = (to: string): string[] =>
      resolveConnection(model, { from: 'pod/shop/client', to })
        .targets.map(({ address, port }) => `${address.text}:${port}`)
        .sort();
    expect(targets('svc/shop/all:http')).toEqual(['10.244.0.3:8080', '10.244.1.3:9090']);
    expect(targets('svc/shop/all:80')).toEqual(['10.244.0.3:80', '10.244.1.3:80']);
  });
});

describe('nodePortAddresses primary', () => {
  const objects = [
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'n1' },
      status: {
        addresses: [
          { type: 'InternalIP', address: '192.168.0.1' },
          { type: 'ExternalIP', address: '203.0.113.7' },
        ],
      },
    },
    pod('shop', 'web-0', 'n1', '10.244.0.3'),
    service('shop', 'web', 'web', {
      type: 'NodePort',
      ports: [{ name: 'http', port: 80, targetPort: 'http', nodePort: 30_080 }],
    }),
  ];

  it("serves nodePorts on the node's first address only, in every mode", () => {
    const model = modelOf(objects, { kubeProxy: { nodePortAddresses: ['primary'] } });
    for (const mode of BUILT_MODES) {
      const simulator = new Simulator(model, mode);
      const isServed = (to: string): boolean => runProbe(simulator, { from: '198.51.100.1', to }).actual.translated;
      expect([mode, isServed('192.168.0.1:30080'), isServed('203.0.113.7:30080')]).toEqual([mode, true, false]);
    }
  });

  it('stands alone', () => {
    const { problems } = checkDatapath({ kubeProxy: { nodePortAddresses: ['primary', '10.0.0.0/8'] } });
    expect(problems).toEqual(["kubeProxy.nodePortAddresses: 'primary' stands alone"]);
    const conf = 'kind: KubeProxyConfiguration\nnodePortAddresses: [primary, 10.0.0.0/8]\n';
    const metadata = { name: 'kube-proxy', namespace: 'kube-system' };
    const model = modelOf([{ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'config.conf': conf } }]);
    expect(model.config.kubeProxy.nodePortAddresses).toEqual([]);
    expect(model.cluster.warnings.map(({ message }) => message)).toContainEqual(
      expect.stringContaining('nodePortAddresses'),
    );
  });
});
