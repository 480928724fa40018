/**
 * What a toy gets wrong (FACTS §5), where it takes more than one Service of the matrix to show: through documents, with
 * the small controllers at work.
 */

import { describe, it } from 'vitest';
import { holds } from './run-document.ts';

const node = (name: string, address: string, zone = 'a', more: readonly object[] = []): object => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'topology.kubernetes.io/zone': zone } },
  spec: { podCIDR: `10.244.${name.slice(-1)}.0/24` },
  status: { addresses: [{ type: 'InternalIP', address }, ...more] },
});
const pod = (name: string, n: number, host: number, more: object = {}, status: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, labels: { app: name.split('-')[0] }, ...more },
  spec: {
    nodeName: `node-${n}`,
    containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8000 + host }] }],
  },
  status: { podIP: `10.244.${n}.${host}`, ...status },
});
const service = (name: string, spec: object, more: object = {}, status: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, ...more },
  spec: { ports: [{ port: 80 }], selector: { app: name }, ...spec },
  status,
});
const slice = (of: string, name: string, rest: object): object => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, labels: { 'kubernetes.io/service-name': of } },
  addressType: 'IPv4',
  ...rest,
});

const NODES = [node('node-1', '192.168.0.1'), node('node-2', '192.168.0.2', 'b')];
const CLIENTS = [pod('client-0', 1, 200), pod('client-1', 2, 200)];
const CLUSTER = [...NODES, ...CLIENTS];
const UNREADY = { conditions: [{ type: 'Ready', status: 'False' }] };
const READY = { conditions: [{ type: 'Ready', status: 'True' }] };
const DELETED = { deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 30 };

describe('endpoints', () => {
  it('follow named target ports pod by pod', () => {
    holds(
      [
        ...CLUSTER,
        pod('web-0', 1, 10),
        pod('web-1', 2, 11),
        service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80, targetPort: 'http' }] }),
      ],
      [{ from: 'pod/client-0', to: 'svc/web:80', expect: { backends: ['10.244.1.10:8010', '10.244.2.11:8011'] } }],
    );
  });

  it('leave pods out that are not ready, unless publishNotReadyAddresses', () => {
    const pods = [pod('web-0', 1, 10, {}, UNREADY), pod('web-1', 2, 11, {}, READY)];
    holds(
      [
        ...CLUSTER,
        ...pods,
        service('web', { clusterIP: '10.96.0.10' }),
        service('all', { clusterIP: '10.96.0.11', selector: { app: 'web' }, publishNotReadyAddresses: true }),
      ],
      [
        { from: 'pod/client-0', to: 'svc/web:80', expect: { backends: ['10.244.2.11:80'] } },
        { from: 'pod/client-0', to: 'svc/all:80', expect: { backends: ['10.244.1.10:80', '10.244.2.11:80'] } },
      ],
    );
  });

  it('that terminate serve when nothing else is ready', () => {
    const web = service('web', { clusterIP: '10.96.0.10' });
    const leaving = pod('web-0', 1, 10, { ...DELETED, labels: { app: 'web' } }, READY);
    holds(
      [...CLUSTER, leaving, web],
      [{ from: 'pod/client-0', to: 'svc/web:80', expect: { backends: ['10.244.1.10:80'] } }],
    );
    holds(
      [...CLUSTER, leaving, pod('web-1', 2, 11), web],
      [{ from: 'pod/client-0', to: 'svc/web:80', expect: { backends: ['10.244.2.11:80'] } }],
    );
    const gone = pod('web-0', 1, 10, { ...DELETED, labels: { app: 'web' } }, UNREADY);
    holds(
      [...CLUSTER, gone, web],
      [{ from: 'pod/client-0', to: 'svc/web:80', expect: { verdict: 'rejected', backends: [] } }],
    );
  });

  it('leave ended pods out', () => {
    holds(
      [
        ...CLUSTER,
        pod('web-0', 1, 10, {}, { phase: 'Succeeded' }),
        pod('web-1', 2, 11, {}, { phase: 'Failed' }),
        service('web', { clusterIP: '10.96.0.10' }),
      ],
      [
        { from: 'pod/client-0', to: 'svc/web:80', expect: { verdict: 'rejected' } },
        { from: 'pod/client-0', to: '10.244.1.10:80', expect: { verdict: 'forwarded' } },
      ],
    );
  });

  it('come from the slices as they are: one name with several numbers, null ports, no node, other protocols', () => {
    holds(
      [
        ...CLUSTER,
        service('db', {
          clusterIP: '10.96.0.20',
          selector: undefined,
          ports: [{ name: 'sql', port: 5432, targetPort: 9 }],
        }),
        slice('db', 'db-1', { ports: [{ name: 'sql', port: 15432 }], endpoints: [{ addresses: ['10.244.1.50'] }] }),
        slice('db', 'db-2', { ports: [{ name: 'sql', port: 25432 }], endpoints: [{ addresses: ['010.244.001.051'] }] }),
        slice('db', 'db-3', { ports: [{ name: 'sql', port: null }], endpoints: [{ addresses: ['10.244.1.52'] }] }),
        slice('db', 'db-4', {
          ports: [{ name: 'sql', port: 5432, protocol: 'UDP' }],
          endpoints: [{ addresses: ['10.244.1.53'] }],
        }),
        slice('db', 'db-5', { ports: [{ name: 'other', port: 5432 }], endpoints: [{ addresses: ['10.244.1.54'] }] }),
      ],
      [{ from: 'pod/client-0', to: 'svc/db:sql', expect: { backends: ['10.244.1.50:15432', '10.244.1.51:25432'] } }],
    );
  });

  it('of Endpoints objects are mirrored', () => {
    holds(
      [
        ...CLUSTER,
        service('old', { clusterIP: '10.96.0.21', selector: undefined }),
        {
          apiVersion: 'v1',
          kind: 'Endpoints',
          metadata: { name: 'old' },
          subsets: [
            { addresses: [{ ip: '203.0.113.40' }], notReadyAddresses: [{ ip: '203.0.113.41' }], ports: [{ port: 81 }] },
          ],
        },
      ],
      [
        {
          from: 'pod/client-0',
          to: 'svc/old:80',
          expect: { verdict: 'forwarded', translated: true, backends: ['203.0.113.40:81'] },
        },
      ],
    );
  });

  it('stay in the zone with trafficDistribution, where every zone has some', () => {
    for (const trafficDistribution of ['PreferClose', 'PreferSameZone']) {
      holds(
        [
          ...CLUSTER,
          pod('web-0', 1, 10),
          pod('web-1', 2, 11),
          service('web', { clusterIP: '10.96.0.10', trafficDistribution }),
        ],
        [
          { from: 'pod/client-0', to: 'svc/web:80', expect: { backends: ['10.244.1.10:80'] } },
          { from: 'pod/client-1', to: 'svc/web:80', expect: { backends: ['10.244.2.11:80'] } },
        ],
      );
    }
  });
});

describe('Services', () => {
  it('keep TCP and UDP of one port apart', () => {
    const ports = [
      { name: 'dns', port: 53, protocol: 'UDP', targetPort: 1053 },
      { name: 'dns-tcp', port: 53, protocol: 'TCP', targetPort: 2053 },
    ];
    holds(
      [...CLUSTER, pod('dns-0', 1, 10), service('dns', { clusterIP: '10.96.0.53', ports })],
      [
        { from: 'pod/client-0', to: 'svc/dns:53', protocol: 'UDP', expect: { backends: ['10.244.1.10:1053'] } },
        { from: 'pod/client-0', to: 'svc/dns:53', protocol: 'TCP', expect: { backends: ['10.244.1.10:2053'] } },
        {
          from: 'pod/client-0',
          to: 'svc/dns:53',
          protocol: 'SCTP',
          expect: { verdict: 'forwarded', translated: false },
          differs: {
            nftables: { verdict: 'rejected', translated: false },
            ipvs: { verdict: 'rejected', reason: 'rule-reject', translated: false },
          },
        },
      ],
    );
  });

  it('that are headless or external names are skipped, whatever else they say', () => {
    holds(
      [
        ...CLUSTER,
        pod('web-0', 1, 10),
        service('none', { clusterIP: 'None', selector: { app: 'web' }, externalIPs: ['203.0.113.60'] }),
        service('name', {
          type: 'ExternalName',
          externalName: 'a.example',
          clusterIP: '10.96.0.61',
          externalIPs: ['203.0.113.61'],
        }),
      ],
      [
        { from: 'pod/client-0', to: '203.0.113.60:80', expect: { verdict: 'forwarded', translated: false } },
        { from: 'pod/client-0', to: '203.0.113.61:80', expect: { verdict: 'forwarded', translated: false } },
        {
          from: 'pod/client-0',
          to: '10.96.0.61:80',
          expect: { verdict: 'forwarded', translated: false },
          differs: { nftables: { verdict: 'dropped', reason: 'rule-drop', translated: false } },
        },
      ],
    );
  });

  it('have a nodePort whatever their type', () => {
    holds(
      [
        ...CLUSTER,
        pod('web-0', 1, 10),
        service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80, nodePort: 30080 }] }),
      ],
      [{ from: '203.0.113.9', to: 'node/node-1:30080', expect: { verdict: 'delivered', translated: true } }],
    );
  });

  it('share an address by port', () => {
    const spec = (port: number): object => ({
      type: 'LoadBalancer',
      ports: [{ port }],
      allocateLoadBalancerNodePorts: false,
    });
    const status = { loadBalancer: { ingress: [{ ip: '198.51.100.7' }] } };
    holds(
      [
        ...CLUSTER,
        pod('a-0', 1, 10),
        pod('b-0', 1, 11),
        service('a', spec(80), {}, status),
        service('b', spec(81), {}, status),
      ],
      [
        { from: '203.0.113.9', to: '198.51.100.7:80', expect: { backends: ['10.244.1.10:80'] } },
        { from: '203.0.113.9', to: '198.51.100.7:81', expect: { backends: ['10.244.1.11:81'] } },
        {
          from: '203.0.113.9',
          to: '198.51.100.7:82',
          expect: { verdict: 'forwarded', translated: false },
          differs: { ipvs: { verdict: 'rejected', reason: 'rule-reject', translated: false } },
        },
      ],
    );
  });

  it('serve an external IP that a node owns, at that node', () => {
    holds(
      [...CLUSTER, pod('web-0', 1, 10), service('web', { externalIPs: ['192.168.0.2'] })],
      [
        {
          from: '203.0.113.9',
          to: '192.168.0.2:80',
          expect: { verdict: 'delivered', translated: true, backends: ['10.244.1.10:80'] },
          // node-1 holds the address too and takes what comes from it for martian.
          differs: { ipvs: { verdict: 'dropped', reason: 'martian', backends: ['10.244.1.10:80'] } },
        },
        { from: '203.0.113.9', to: '192.168.0.2:22', expect: { verdict: 'delivered', translated: false } },
        {
          from: 'node/node-2',
          to: '192.168.0.2:80',
          expect: { verdict: 'delivered', translated: true },
          differs: { ipvs: { verdict: 'dropped', reason: 'martian', translated: true } },
        },
      ],
    );
  });

  it('answer load balancer traffic from the address itself where the node is in range', () => {
    const status = { loadBalancer: { ingress: [{ ip: '198.51.100.7' }] } };
    const balanced = (range: string): object[] => [
      ...CLUSTER,
      pod('web-0', 1, 10),
      service('web', { type: 'LoadBalancer', loadBalancerSourceRanges: [range] }, {}, status),
    ];
    const probe = { from: '198.51.100.7', node: 'node-1', to: '198.51.100.7:80' };
    for (const mode of ['iptables', 'nftables'] as const) {
      holds(balanced(' 192.168.0.0/24 '), [{ ...probe, expect: { verdict: 'delivered' } }], {}, mode);
      holds(balanced('203.0.113.0/24'), [{ ...probe, expect: { verdict: 'dropped', reason: 'rule-drop' } }], {}, mode);
    }
    // The node holds the address: nobody may speak from it outside.
    holds(balanced('192.168.0.0/24'), [{ ...probe, expect: { verdict: 'dropped', reason: 'martian' } }], {}, 'ipvs');
    holds(
      balanced('203.0.113.0/24'),
      [{ ...probe, expect: { verdict: 'dropped', reason: 'not-in-source-range' } }],
      {},
      'ebpf',
    );
  });

  it('open their health-check nodePort on every address, whatever nodePortAddresses say', () => {
    const status = { loadBalancer: { ingress: [{ ip: '198.51.100.7' }] } };
    holds(
      [
        ...CLUSTER,
        pod('web-0', 1, 10),
        service(
          'web',
          { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 32000 },
          {},
          status,
        ),
      ],
      [{ from: '203.0.113.9', to: 'node/node-2:32000', expect: { verdict: 'delivered', translated: false } }],
      { kubeProxy: { nodePortAddresses: ['192.168.0.1/32'] } },
    );
  });

  it('listen with their nodePort on every address of a node', () => {
    const two = node('node-1', '192.168.0.1', 'a', [
      { type: 'ExternalIP', address: '203.0.113.200' },
      { type: 'Hostname', address: 'node-1' },
    ]);
    holds(
      [two, pod('web-0', 1, 10), service('web', { type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] })],
      [
        {
          from: '203.0.113.9',
          to: '203.0.113.200:30080',
          expect: { verdict: 'delivered', translated: true },
          differs: { nftables: { verdict: 'delivered', translated: false } },
        },
        { from: '203.0.113.9', to: '192.168.0.1:30080', expect: { verdict: 'delivered', translated: true } },
        {
          from: '127.0.0.1',
          node: 'node-1',
          to: '127.0.0.1:30080',
          expect: { verdict: 'delivered', translated: true },
          differs: {
            nftables: { verdict: 'delivered', translated: false },
            ipvs: { verdict: 'delivered', translated: false },
          },
        },
      ],
    );
  });

  it('keep every backend possible for a fresh client of session affinity', () => {
    const spec = {
      clusterIP: '10.96.0.10',
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 10 } },
    };
    holds(
      [...CLUSTER, pod('web-0', 1, 10), pod('web-1', 2, 11), pod('web-2', 2, 12), service('web', spec)],
      [
        {
          from: 'pod/client-0',
          to: 'svc/web:80',
          expect: { backends: ['10.244.1.10:80', '10.244.2.11:80', '10.244.2.12:80'] },
        },
      ],
    );
  });

  it('masquerade a pod that meets itself through rules, on that branch only', () => {
    const objects = [...CLUSTER, pod('web-0', 1, 10), pod('web-1', 2, 11), service('web', { clusterIP: '10.96.0.10' })];
    for (const mode of ['iptables', 'nftables', 'ipvs'] as const) {
      holds(
        objects,
        [{ from: 'pod/web-0', to: 'svc/web:80', expect: { verdict: 'delivered', masquerade: true } }],
        {},
        mode,
      );
    }
    holds(objects, [{ from: 'pod/client-0', to: 'svc/web:80', expect: { masquerade: false } }]);
  });
});
