/** References, sources, nodes and answers as DESIGN §7 fixes them. */

import { describe, expect, it } from 'vitest';
import { errorsOf, holds } from './run-document.ts';

const meta = (name: string, namespace = 'shop', more: object = {}): object => ({ name, namespace, ...more });

const node = (name: string, addresses: string[]): object => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  spec: { podCIDRs: [`10.244.${name.slice(-1)}.0/24`, `fd00:10:244:${name.slice(-1)}::/64`] },
  status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) },
});

const pod = (name: string, nodeName: string, ips: string[], more: object = {}, owner: object[] = []): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: meta(name, 'shop', { labels: { app: name.split('-')[0] }, ownerReferences: owner }),
  spec: {
    nodeName,
    containers: [
      {
        name: 'c',
        ports: [
          { name: 'http', containerPort: 8080 },
          { name: 'dns', containerPort: 5353, protocol: 'UDP' },
          { name: 'dns', containerPort: 5354, protocol: 'TCP' },
        ],
      },
    ],
    ...more,
  },
  status: { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
});

const service = (name: string, spec: object): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: meta(name),
  spec,
});

const CLUSTER = [
  node('worker-1', ['192.168.0.1', 'fd00:168::1']),
  node('worker-2', ['192.168.0.2', 'fd00:168::2']),
  pod('web-0', 'worker-1', ['10.244.1.10', 'fd00:10:244:1::10']),
  pod('web-1', 'worker-2', ['10.244.2.10', 'fd00:10:244:2::10']),
  pod('four-0', 'worker-1', ['10.244.1.4']),
  pod('six-0', 'worker-2', ['fd00:10:244:2::6']),
  pod('agent-0', 'worker-2', ['192.168.0.2', 'fd00:168::2'], { hostNetwork: true }),
  service('web', {
    clusterIP: '10.96.0.10',
    clusterIPs: ['10.96.0.10', 'fd00:10:96::10'],
    ipFamilyPolicy: 'RequireDualStack',
    selector: { app: 'web' },
    ports: [
      { name: 'http', port: 80, targetPort: 'http' },
      { name: 'dns', port: 53, targetPort: 'dns', protocol: 'UDP' },
      { name: 'dns-tcp', port: 53, targetPort: 'dns', protocol: 'TCP' },
    ],
  }),
  service('headless', { clusterIP: 'None', selector: { app: 'web' }, ports: [{ name: 'http', port: 8080 }] }),
  service('elsewhere', { type: 'ExternalName', externalName: 'shop.example.com' }),
  service('six', {
    clusterIP: 'fd00:10:96::66',
    ipFamilies: ['IPv6'],
    selector: { app: 'six' },
    ports: [{ port: 80 }],
  }),
];

const WEB4 = ['10.244.1.10:8080', '10.244.2.10:8080'];
const WEB6 = ['[fd00:10:244:1::10]:8080', '[fd00:10:244:2::10]:8080'];
const delivered = { verdict: 'delivered', reason: 'none' };

describe('references', () => {
  it('name a Service by name, number, port name and DNS name', () => {
    const expectation = { ...delivered, translated: true, backends: WEB4, masquerade: false };
    holds(
      CLUSTER,
      [
        'svc/shop/web:80',
        'svc/shop/web:http',
        'web.shop.svc:80',
        'web.shop.svc.cluster.local:http',
        'WEB.Shop.svc.cluster.local.:80',
        '10.96.0.10:80',
      ]
        .map((to) => ({ name: to, from: 'pod/shop/web-9', to, expect: expectation }))
        .map((probe) => ({ ...probe, from: 'pod/shop/four-0' })),
    );
  });

  it('leave the namespace out for default', () => {
    holds(
      [
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { nodeName: 'n', containers: [] } },
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'q' }, spec: { nodeName: 'n', containers: [] } },
      ],
      [{ from: 'pod/p', to: 'pod/q:80', expect: { ...delivered, translated: false, backends: [], masquerade: false } }],
    );
  });

  it('take the family of a literal address, IPv4 between objects that have both, else IPv6', () => {
    holds(CLUSTER, [
      { from: 'pod/shop/web-0', to: 'svc/shop/web:80', expect: { backends: WEB4 } },
      { from: 'pod/shop/web-0', to: '[fd00:10:96::10]:80', expect: { backends: WEB6 } },
      { from: 'fd00:10:244:1::10', to: 'svc/shop/web:80', expect: { backends: WEB6 } },
      { from: 'pod/shop/six-0', to: 'svc/shop/web:80', expect: { backends: WEB6 } },
      { from: 'pod/shop/web-0', to: 'pod/shop/six-0:80', expect: delivered },
      { from: 'pod/shop/web-0', to: 'svc/shop/six:80', expect: { ...delivered, backends: ['[fd00:10:244:2::6]:80'] } },
      { from: '2001:db8::9', to: '[fd00:10:244:2::6]:80', node: 'worker-1', expect: delivered },
    ]);
    for (const error of errorsOf(CLUSTER, { from: 'pod/shop/four-0', to: 'svc/shop/six:80' })) {
      expect(error).toContain('share no address family');
    }
  });

  it('make every ready endpoint of a headless Service a branch', () => {
    holds(CLUSTER, [
      {
        from: 'pod/shop/four-0',
        to: 'svc/shop/headless:8080',
        expect: { ...delivered, translated: false, backends: [] },
      },
      { from: 'pod/shop/four-0', to: 'svc/shop/headless:http', expect: { ...delivered, translated: false } },
    ]);
  });

  it('refuse an ExternalName by its external name', () => {
    for (const error of errorsOf(CLUSTER, { from: 'pod/shop/web-0', to: 'svc/shop/elsewhere:80' })) {
      expect(error).toContain('shop.example.com');
    }
  });

  it('read named ports with their protocol', () => {
    holds(CLUSTER, [
      {
        from: 'pod/shop/four-0',
        to: 'svc/shop/web:dns',
        expect: { backends: ['10.244.1.10:5353', '10.244.2.10:5353'] },
      },
      {
        from: 'pod/shop/four-0',
        to: 'svc/shop/web:dns-tcp',
        expect: { backends: ['10.244.1.10:5354', '10.244.2.10:5354'] },
      },
      {
        from: 'pod/shop/four-0',
        to: 'svc/shop/web:53',
        protocol: 'UDP',
        expect: { backends: ['10.244.1.10:5353', '10.244.2.10:5353'] },
      },
      {
        from: 'pod/shop/four-0',
        to: 'svc/shop/web:53',
        expect: { backends: ['10.244.1.10:5354', '10.244.2.10:5354'] },
      },
      { from: 'pod/shop/four-0', to: 'pod/shop/web-0:dns', expect: delivered },
      { from: 'pod/shop/four-0', to: 'pod/shop/web-0:dns', protocol: 'TCP', expect: delivered },
      {
        from: 'pod/shop/four-0',
        to: 'svc/shop/web:53',
        protocol: 'sctp',
        expect: { verdict: 'forwarded', translated: false },
        differs: {
          nftables: { verdict: 'rejected', translated: false },
          ipvs: { verdict: 'rejected', reason: 'rule-reject', translated: false },
        },
      },
    ]);
  });

  it('take the first pod of a workload by name, and a node by its first InternalIP', () => {
    const workload = (kind: string, name: string): object => ({
      apiVersion: 'apps/v1',
      kind,
      metadata: meta(name),
      spec: {
        replicas: 2,
        serviceName: name,
        selector: { matchLabels: { app: name } },
        template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'c' }] } },
      },
    });
    const objects = [
      ...CLUSTER,
      workload('Deployment', 'api'),
      workload('StatefulSet', 'db'),
      workload('DaemonSet', 'log'),
    ];
    holds(objects, [
      { from: 'deploy/shop/api', to: 'sts/shop/db:5432', expect: delivered },
      { from: 'ds/shop/log', to: 'deploy/shop/api:80', expect: delivered },
      { from: 'pod/shop/db-0', to: 'node/worker-1:22', expect: { ...delivered, translated: false } },
      { from: 'node/worker-1', to: 'svc/shop/web:80', expect: { ...delivered, backends: WEB4 } },
    ]);
  });

  it.each([
    ['pod/shop/nobody', 'svc/shop/web:80', 'nobody'],
    ['pod/shop/web-0', 'svc/shop/none:80', 'none'],
    ['pod/shop/web-0', 'svc/shop/web', 'needs a port'],
    ['pod/shop/web-0', 'svc/shop/web:https', 'https'],
    ['pod/shop/web-0', 'pod/shop/web-1:https', 'https'],
    ['pod/shop/web-0', '10.96.0.10:99999', '99999'],
    ['pod/shop/web-0', '10.96.0.300:80', '10.96.0.300'],
    ['svc/shop/web', 'pod/shop/web-0:80', 'sends nothing'],
    ['pod/shop/web-0', 'node/worker-9:80', 'worker-9'],
    ['house/web', 'svc/shop/web:80', 'house'],
    ['', 'svc/shop/web:80', 'not a reference'],
  ])('say what is wrong: %s to %s', (from, to, word) => {
    for (const error of errorsOf(CLUSTER, { from, to })) expect(error).toContain(word);
  });

  it('refuse a node that does not exist', () => {
    for (const error of errorsOf(CLUSTER, { from: '203.0.113.9', to: '10.96.0.10:80', node: 'worker-7' })) {
      expect(error).toContain('worker-7');
    }
  });
});

describe('sources', () => {
  it('are a pod by reference or by address, without masquerade', () => {
    holds(CLUSTER, [
      { from: 'pod/shop/four-0', to: 'svc/shop/web:80', expect: { masquerade: false } },
      { from: '10.244.1.4', to: 'svc/shop/web:80', expect: { masquerade: false } },
    ]);
  });

  it('are a local process of the node for hostNetwork pods, nodes and addresses of nodes', () => {
    for (const from of ['pod/shop/agent-0', 'node/worker-2', '192.168.0.2']) {
      holds(
        CLUSTER,
        [{ from, to: 'svc/shop/web:80', expect: { ...delivered, masquerade: true, backends: WEB4 } }],
        {},
        'iptables',
      );
      holds(
        CLUSTER,
        [{ from, to: 'svc/shop/web:80', expect: { ...delivered, masquerade: false, backends: WEB4 } }],
        {},
        'ebpf',
      );
    }
  });

  it('are the node itself for a loopback address', () => {
    holds(CLUSTER, [
      { from: '127.0.0.1', node: 'worker-1', to: '127.0.0.1:22', expect: { ...delivered, translated: false } },
      { from: '127.0.0.1', node: 'worker-1', to: 'svc/shop/web:80', expect: { ...delivered, backends: WEB4 } },
      { from: '::1', node: 'worker-2', to: '[fd00:10:96::10]:80', expect: { ...delivered, backends: WEB6 } },
    ]);
  });

  it('are an unlisted pod inside the cluster CIDR, with no check of the source', () => {
    holds(CLUSTER, [
      { from: '10.244.1.200', node: 'worker-1', to: 'svc/shop/web:80', expect: { ...delivered, masquerade: false } },
      { from: '10.244.9.9', node: 'worker-2', to: 'svc/shop/web:80', expect: { ...delivered, masquerade: false } },
    ]);
  });

  it('are no unlisted pod where local pods are not detected', () => {
    const datapath = { kubeProxy: { detectLocalMode: 'None' } };
    holds(
      CLUSTER,
      [
        {
          from: '10.244.1.200',
          node: 'worker-1',
          to: 'svc/shop/web:80',
          expect: { verdict: 'dropped', reason: 'is-cluster-ip' },
        },
      ],
      datapath,
      'ebpf',
    );
  });

  it('come in by the uplink from everywhere else, at the node of the target or the first', () => {
    holds(
      CLUSTER,
      [{ from: '203.0.113.9', to: 'svc/shop/web:80', expect: { ...delivered, masquerade: true } }],
      {},
      'iptables',
    );
    holds(
      CLUSTER,
      [{ from: '203.0.113.9', to: 'svc/shop/web:80', expect: { verdict: 'dropped', reason: 'is-cluster-ip' } }],
      {},
      'ebpf',
    );
    holds(CLUSTER, [
      { from: '203.0.113.9', to: 'pod/shop/web-1:80', expect: { ...delivered, translated: false, masquerade: false } },
      { from: '203.0.113.9', to: 'node/worker-2:22', expect: { ...delivered, translated: false } },
    ]);
  });

  it('may equal their target, and may be an endpoint for which no Pod exists', () => {
    const slice = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'ghost-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'ghost' } },
      addressType: 'IPv4',
      ports: [{ port: 80 }],
      endpoints: [{ addresses: ['10.244.1.99'], nodeName: 'worker-1' }],
    };
    const ghost = service('ghost', { clusterIP: '10.96.0.99', ports: [{ port: 80 }] });
    holds(
      [...CLUSTER, slice, ghost],
      [
        {
          from: '10.244.1.99',
          to: '10.96.0.99:80',
          node: 'worker-1',
          expect: { translated: true, backends: ['10.244.1.99:80'], verdict: 'forwarded' },
        },
        { from: 'pod/shop/web-0', to: 'pod/shop/web-0:80', expect: delivered },
        { from: 'node/worker-1', to: 'node/worker-1:22', expect: delivered },
      ],
    );
  });
});

describe('answers', () => {
  it('say forwarded toward addresses that nobody owns, also inside a pod CIDR', () => {
    holds(CLUSTER, [
      {
        from: 'pod/shop/web-0',
        to: '203.0.113.7:443',
        expect: { verdict: 'forwarded', reason: 'none', translated: false, backends: [], masquerade: false },
      },
      { from: 'pod/shop/web-0', to: '10.244.2.222:80', expect: { verdict: 'forwarded' } },
      { from: 'pod/shop/web-0', to: '10.244.77.1:80', expect: { verdict: 'forwarded' } },
    ]);
  });

  it('let pods, nodes and ICMP take every port', () => {
    holds(CLUSTER, [
      { from: 'pod/shop/web-0', to: 'pod/shop/web-1:1', expect: delivered },
      { from: 'pod/shop/web-0', to: 'pod/shop/web-1:65535', protocol: 'SCTP', expect: delivered },
      { from: 'pod/shop/web-0', to: 'pod/shop/web-1', protocol: 'ICMP', expect: delivered },
      { from: 'pod/shop/six-0', to: 'pod/shop/web-1', protocol: 'icmp', expect: delivered },
    ]);
  });
});
