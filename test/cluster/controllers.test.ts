import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { resolveClusterCidr } from '../../control/src/cluster/cluster-cidr.ts';
import { completeCluster } from '../../control/src/cluster/complete.ts';
import { readInput } from '../../control/src/cluster/load.ts';
import { inPrefix, parseAddress, parsePrefix } from '../../control/src/model/address.ts';
import { describeOrigin, originOf } from '../../control/src/model/origin.ts';
import { deployment, linesOf, loadObjects, node, pod, service, warningsOf } from './support.ts';

const names = (cluster: Cluster): string[] => cluster.pods.map(({ metadata }) => metadata.name);
const workload = (kind: string, name: string, spec: object, apiVersion = 'apps/v1'): object => ({
  apiVersion,
  kind,
  metadata: { name, namespace: 'shop' },
  spec: { template: { metadata: { labels: { app: name } } }, ...spec },
});

describe('workloads', () => {
  it('become pods with the names that a cluster would give', () => {
    const { cluster } = loadObjects([
      deployment('web', 2),
      workload('StatefulSet', 'db', { replicas: 3, serviceName: 'db' }),
      workload('StatefulSet', 'late', { replicas: 1, ordinals: { start: 5 } }),
      workload('ReplicaSet', 'old', { replicas: 1 }),
      workload('DaemonSet', 'log', {}),
      workload('Job', 'once', {}, 'batch/v1'),
      workload(
        'CronJob',
        'tick',
        { jobTemplate: { spec: { template: { metadata: { labels: { app: 'tick' } } } } } },
        'batch/v1',
      ),
    ]);
    const patterns = [
      /^web-[a-z0-9]{10}-[a-z0-9]{5}$/,
      /^db-[012]$/,
      /^late-5$/,
      /^old-[a-z0-9]{5}$/,
      /^log-[a-z0-9]{5}$/,
      /^once-[a-z0-9]{5}$/,
      /^tick-1-[a-z0-9]{5}$/,
    ];
    expect(patterns.map((pattern) => names(cluster).filter((name) => pattern.test(name)).length)).toEqual([
      2, 3, 1, 1, 3, 1, 1,
    ]);
    expect(cluster.pods).toHaveLength(12);
    const db = cluster.pods.find(({ metadata }) => metadata.name === 'db-1')!;
    expect(db.spec).toMatchObject({ hostname: 'db-1', subdomain: 'db' });
    expect(db.metadata.labels).toEqual({
      app: 'db',
      'statefulset.kubernetes.io/pod-name': 'db-1',
      'apps.kubernetes.io/pod-index': '1',
    });
    expect(
      new Set(cluster.pods.filter(({ metadata }) => metadata.name.startsWith('log')).map(({ spec }) => spec.nodeName))
        .size,
    ).toBe(3);
  });

  it('have one replica by default, and none where 0 is written', () => {
    expect(names(loadObjects([deployment('a', undefined), deployment('b', 0)]).cluster)).toHaveLength(1);
    const job = (spec: object): object => workload('Job', 'j', spec, 'batch/v1');
    const count = (spec: object): number => loadObjects([job(spec)]).cluster.pods.length;
    expect(
      [{}, { parallelism: 3 }, { parallelism: 3, completions: 2 }, { parallelism: 0 }, { suspend: true }].map(count),
    ).toEqual([1, 3, 2, 0, 0]);
    const ended = { ...job({}), status: { conditions: [{ type: 'Complete', status: 'True' }] } };
    expect(loadObjects([ended]).cluster.pods).toHaveLength(0);
  });

  it('keep their pods’ names whatever else is there', () => {
    const few = names(loadObjects([deployment('web', 2)]).cluster);
    const many = names(loadObjects([deployment('web', 3), deployment('a', 2), node('x')]).cluster);
    for (const name of few) expect(many).toContain(name);
  });

  it('make none where their pods are given', () => {
    const owned = (name: string, kind: string, owner: string): object => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'shop', labels: {}, ownerReferences: [{ kind, name: owner }] },
    });
    expect(names(loadObjects([deployment('web', 3), owned('web-abc-x', 'ReplicaSet', 'web-abc')]).cluster)).toEqual([
      'web-abc-x',
    ]);
    const { cluster } = loadObjects([deployment('web', 3), pod('mine', { app: 'web' })]);
    expect(names(cluster)).toEqual(['mine']);
    expect(cluster.pods[0]!.metadata.ownerReferences).toEqual([{ kind: 'Deployment', name: 'web', controller: true }]);
    expect(names(loadObjects([deployment('web', 1), owned('x', 'ReplicaSet', 'webby-abc')]).cluster)).toHaveLength(2);
    const set = workload('StatefulSet', 'db', { replicas: 2 });
    expect(names(loadObjects([set, owned('db-0', 'StatefulSet', 'db')]).cluster)).toEqual(['db-0']);
    const ownedSet = workload('ReplicaSet', 'web-abc', {});
    Object.assign(Reflect.get(ownedSet, 'metadata'), { ownerReferences: [{ kind: 'Deployment', name: 'web' }] });
    expect(names(loadObjects([deployment('web', 2), ownedSet]).cluster)).toHaveLength(2);
  });

  it('show a CronJob while it runs', () => {
    const cron = workload('CronJob', 'tick', { jobTemplate: { spec: { template: {} } } }, 'batch/v1');
    const done = pod('tick-28-x', {}, {}, { phase: 'Succeeded' });
    Object.assign(Reflect.get(done, 'metadata'), { ownerReferences: [{ kind: 'Job', name: 'tick-28' }] });
    expect(names(loadObjects([cron, done]).cluster)).toHaveLength(2);
    const running = pod('tick-29-x', {});
    Object.assign(Reflect.get(running, 'metadata'), { ownerReferences: [{ kind: 'Job', name: 'tick-29' }] });
    expect(names(loadObjects([cron, running]).cluster)).toEqual(['tick-29-x']);
    Object.assign(Reflect.get(cron, 'spec'), { suspend: true });
    expect(names(loadObjects([cron]).cluster)).toEqual([]);
  });
});

describe('nodes', () => {
  it('are three where nobody names one', () => {
    const { cluster } = loadObjects([pod('a', {})]);
    expect(cluster.nodes.map(({ metadata, status }) => [metadata.name, status.addresses[0]!.address])).toEqual([
      ['node-1', '198.18.0.1'],
      ['node-2', '198.18.0.2'],
      ['node-3', '198.18.0.3'],
    ]);
  });

  it('are made where pods, slices or Endpoints name them, with the zone that a slice tells', () => {
    const { cluster } = loadObjects([
      pod('a', {}, { nodeName: 'b' }),
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: 's' },
        addressType: 'IPv4',
        endpoints: [{ addresses: ['10.0.0.1'], nodeName: 'a', zone: 'z' }],
      },
      {
        apiVersion: 'v1',
        kind: 'Endpoints',
        metadata: { name: 'e' },
        subsets: [{ addresses: [{ ip: '10.0.0.1', nodeName: 'c' }] }],
      },
    ]);
    expect(
      cluster.nodes.map(({ metadata }) => [metadata.name, metadata.labels?.['topology.kubernetes.io/zone']]),
    ).toEqual([
      ['a', 'z'],
      ['b', undefined],
      ['c', undefined],
    ]);
  });

  it('get addresses that nothing names', () => {
    const { cluster } = loadObjects(
      [
        service('a', { externalIPs: ['198.18.0.1'] }),
        service('b', { type: 'LoadBalancer', loadBalancerSourceRanges: ['198.18.0.2/31', '0.0.0.0/0', '198.0.0.0/8'] }),
        node('given', {}, '198.18.0.5'),
        node('x'),
        node('y'),
        node('z'),
      ],
      { reserved: ['198.18.0.4', '198.18.0.6/32', '::/0', 'nonsense'] },
    );
    const addresses = cluster.nodes.map(({ status }) => status.addresses[0]!.address);
    expect(addresses).toEqual(['198.18.0.5', '198.18.0.7', '198.18.0.8', '198.18.0.9']);
  });
});

describe('scheduling', () => {
  it('spreads given pods by name and workloads evenly', () => {
    const { cluster } = loadObjects(['c', 'a', 'b', 'd'].map((name) => pod(name, {})));
    expect(cluster.pods.map(({ spec }) => spec.nodeName)).toEqual(['node-1', 'node-2', 'node-3', 'node-1']);
    const spread = loadObjects([deployment('web', 6)]).cluster.pods.map(({ spec }) => spec.nodeName);
    expect(spread.sort()).toEqual(['node-1', 'node-1', 'node-2', 'node-2', 'node-3', 'node-3']);
  });

  it('respects nodeName, nodeSelector and node affinity', () => {
    const affinity = (expression: object): object => ({
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [expression] }] },
        },
      },
    });
    const nodes = [
      node('a', {}, undefined, { disk: 'ssd' }),
      node('b', {}, undefined, { disk: 'hdd', cores: '8' }),
      node('c'),
    ];
    const on = (spec: object): string => loadObjects([...nodes, pod('p', {}, spec)]).cluster.pods[0]!.spec.nodeName;
    expect(on({ nodeName: 'c' })).toBe('c');
    expect(on({ nodeSelector: { disk: 'hdd' } })).toBe('b');
    expect(on({ nodeSelector: { disk: 'hdd', 'kubernetes.io/os': 'linux' } })).toBe('b');
    expect(on({ nodeSelector: { 'kubernetes.io/hostname': 'c' } })).toBe('c');
    expect(on(affinity({ key: 'disk', operator: 'NotIn', values: ['ssd'] }))).toBe('b');
    expect(on(affinity({ key: 'disk', operator: 'DoesNotExist' }))).toBe('c');
    expect(on(affinity({ key: 'cores', operator: 'Gt', values: ['4'] }))).toBe('b');
    const set = workload('DaemonSet', 'log', { template: { spec: { nodeSelector: { disk: 'ssd' } } } });
    expect(loadObjects([...nodes, set]).cluster.pods.map(({ spec }) => spec.nodeName)).toEqual(['a']);
    expect(loadObjects([set]).cluster.pods).toHaveLength(3);
  });

  it('warns where no node fits, and takes any', () => {
    const result = loadObjects([node('a'), deployment('web', 3, { spec: { nodeSelector: { gpu: 'yes' } } })]);
    expect(result.cluster.pods.map(({ spec }) => spec.nodeName)).toEqual(['a', 'a', 'a']);
    expect(warningsOf(result)).toEqual([
      'Deployment shop/web spec.template.spec.nodeSelector: no node has the labels that it asks for; any node is taken',
    ]);
  });
});

describe('pod addresses', () => {
  it('come from the node’s block, and the gateway stays free', () => {
    const { cluster } = loadObjects([
      pod('a', {}, { nodeName: 'n1' }),
      pod('b', {}, { nodeName: 'n1' }),
      pod('c', {}, { nodeName: 'n2' }),
    ]);
    expect(cluster.pods.map(({ status }) => status.podIP)).toEqual(['10.244.1.2', '10.244.1.3', '10.244.2.2']);
    expect(cluster.nodes.map(({ spec }) => spec.podCIDR)).toEqual(['10.244.1.0/24', '10.244.2.0/24']);
    expect(cluster.pods[0]!.status.hostIP).toBe('198.18.0.1');
  });

  it('take a CIDR only when a pod needs an address', () => {
    const { cluster } = loadObjects([
      pod('a', {}, { nodeName: 'n1' }, { podIP: '10.50.0.5' }),
      pod('b', {}, { nodeName: 'n2', hostNetwork: true }),
      pod('c', {}, { nodeName: 'n3' }, { phase: 'Succeeded' }),
      pod('d', {}, { nodeName: 'n4' }),
    ]);
    expect(cluster.nodes.map(({ spec }) => spec.podCIDRs)).toEqual([[], [], [], ['10.244.4.0/24']]);
  });

  it('skip what others have', () => {
    const { cluster } = loadObjects(
      [
        node('n1', { podCIDR: '10.244.1.0/24' }, '192.0.2.1'),
        node('n2', { podCIDR: '10.244.3.0/24' }, '192.0.2.2'),
        pod('a', {}, { nodeName: 'n1' }, { podIP: '10.244.1.3' }),
        pod('b', {}, { nodeName: 'n1' }),
        pod('c', {}, { nodeName: 'n1' }),
        pod('d', {}, { nodeName: 'n3' }),
      ],
      { reserved: ['10.244.1.2'] },
    );
    expect(cluster.pods.map(({ status }) => status.podIP)).toEqual([
      '10.244.1.3',
      '10.244.1.4',
      '10.244.1.5',
      '10.244.4.2',
    ]);
  });

  it('join the block in which the node’s given pods lie', () => {
    const { cluster } = loadObjects([
      pod('a', {}, { nodeName: 'n1' }, { podIP: '10.42.7.9' }),
      pod('b', {}, { nodeName: 'n1' }),
      pod('c', {}, { nodeName: 'n2' }, { podIP: '10.42.8.9' }),
    ]);
    expect(cluster.nodes[0]!.spec.podCIDRs).toEqual(['10.42.7.0/24']);
    expect(cluster.pods[1]!.status.podIP).toBe('10.42.7.2');
  });

  it('grow the block where a node has more pods, and go on behind 256 nodes', () => {
    const many = loadObjects([deployment('web', 2000)]).cluster;
    expect(new Set(many.pods.map(({ status }) => status.podIP)).size).toBe(2000);
    expect(many.nodes.map(({ spec }) => parsePrefix(spec.podCIDR)!.length)).toEqual([22, 22, 22]);
    const wide = loadObjects(Array.from({ length: 300 }, (_, i) => pod(`p${i}`, {}, { nodeName: `n${i}` }))).cluster;
    expect(new Set(wide.nodes.map(({ spec }) => spec.podCIDR)).size).toBe(300);
  });

  it('come from a configured range, in blocks that fit it', () => {
    const pods = ['n1', 'n2', 'n3'].map((name) => pod(name, {}, { nodeName: name }));
    const cidrs = (clusterCIDR: string[]): string[] =>
      loadObjects(pods, { clusterCIDR }).cluster.nodes.map(({ spec }) => spec.podCIDR);
    expect(cidrs(['10.1.0.0/16'])).toEqual(['10.1.1.0/24', '10.1.2.0/24', '10.1.3.0/24']);
    expect(cidrs(['10.1.0.0/24']).sort()).toEqual(['10.1.0.128/26', '10.1.0.192/26', '10.1.0.64/26']);
    expect(cidrs(['fd00:1::/48', '10.1.0.0/16'])[0]).toBe('10.1.1.0/24');
  });

  it('are of both families where the cluster has both', () => {
    const { cluster } = loadObjects([pod('a', {}), service('s', { ipFamilyPolicy: 'RequireDualStack' })]);
    expect(cluster.pods[0]!.status.podIPs).toEqual([{ ip: '10.244.1.2' }, { ip: 'fd00:10:244:1::2' }]);
    expect(cluster.nodes[0]!.status.addresses.map(({ address }) => address)).toEqual(['198.18.0.1', 'fd00:f1a7::1']);
    const only6 = loadObjects([pod('a', {}), service('s', { ipFamilies: ['IPv6'] })]).cluster;
    expect(only6.pods[0]!.status.podIPs).toEqual([{ ip: 'fd00:10:244:1::2' }]);
    const given = loadObjects([
      node('n1', { podCIDRs: ['fd00:9::/64', '10.9.0.0/24'] }, '192.0.2.1'),
      pod('a', {}),
    ]).cluster;
    expect(given.pods[0]!.status.podIPs).toEqual([{ ip: 'fd00:9::2' }, { ip: '10.9.0.2' }]);
  });
});

describe('Services', () => {
  const spec = (object: object, others: object[] = []): Cluster['services'][number]['spec'] => {
    const { cluster } = loadObjects([object, ...others]);
    return cluster.services.find(({ metadata }) => metadata.name === 'a')!.spec;
  };

  it('get ClusterIPs from the upper band, the lower one when that is full', () => {
    const services = Array.from({ length: 254 }, (_, i) => service(`s${i}`));
    const { cluster } = loadObjects(services, { serviceCIDRs: ['10.5.0.0/24'] });
    const addresses = cluster.services.map(({ spec: { clusterIP } }) => parseAddress(clusterIP)!);
    expect(addresses.every((address) => inPrefix(address, parsePrefix('10.5.0.0/24')!))).toBe(true);
    expect(new Set(addresses.map(({ text }) => text)).size).toBe(254);
    const few = loadObjects(services.slice(0, 200), { serviceCIDRs: ['10.5.0.0/24'] }).cluster;
    expect(few.services.every(({ spec: { clusterIP } }) => (parseAddress(clusterIP)!.words[0] & 255) >= 16)).toBe(true);
    expect(linesOf(() => loadObjects([...services, service('s254')], { serviceCIDRs: ['10.5.0.0/24'] }))).toEqual([
      expect.stringMatching(/^Service shop\/s\d+ spec\.clusterIP: no IPv4 address is left in kubeProxy\.serviceCIDRs$/),
    ]);
  });

  it('keep their ClusterIP when others come and go', () => {
    const alone = spec(service('a'));
    expect(spec(service('a'), [service('0'), service('b'), deployment('web', 2)]).clusterIP).toBe(alone.clusterIP);
  });

  it('get families as the API server defaults them', () => {
    expect(spec(service('a'))).toMatchObject({ ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' });
    expect(spec(service('a', { ipFamilyPolicy: 'PreferDualStack' }))).toMatchObject({ ipFamilies: ['IPv4', 'IPv6'] });
    const single = node('n1', { podCIDR: '10.0.0.0/24' }, '192.0.2.1');
    expect(spec(service('a', { ipFamilyPolicy: 'PreferDualStack' }), [single]).ipFamilies).toEqual(['IPv4']);
    expect(spec(service('a', { ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv6'] })).ipFamilies).toEqual([
      'IPv6',
      'IPv4',
    ]);
    expect(spec(service('a', { clusterIP: 'fd00:10:96::9' }))).toMatchObject({
      ipFamilies: ['IPv6'],
      clusterIPs: ['fd00:10:96::9'],
    });
    const dual = spec(service('a', { clusterIP: '10.96.0.9', ipFamilyPolicy: 'RequireDualStack' }));
    expect(dual.clusterIPs).toEqual(['10.96.0.9', expect.stringMatching(/^fd00:10:96::/)]);
    const node6 = node('n1', { podCIDR: 'fd00:9::/64' }, 'fd00::1');
    expect(spec(service('a'), [node6]).ipFamilies).toEqual(['IPv6']);
    expect(
      spec(service('a', { clusterIP: 'None', selector: undefined }), [
        service('b', { ipFamilyPolicy: 'RequireDualStack' }),
      ]).ipFamilies,
    ).toEqual(['IPv4', 'IPv6']);
  });

  it('get nodePorts from the upper band, and health-check ports', () => {
    const lb = spec(
      service('a', {
        type: 'LoadBalancer',
        externalTrafficPolicy: 'Local',
        ports: [
          { port: 80, name: 'a' },
          { port: 443, name: 'b' },
        ],
      }),
    );
    const ports = [...lb.ports.map(({ nodePort }) => nodePort), lb.healthCheckNodePort];
    expect(new Set(ports).size).toBe(3);
    expect(ports.every((port) => port >= 30_086 && port <= 32_767)).toBe(true);
    expect(spec(service('a', { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false })).ports[0]!.nodePort).toBe(
      0,
    );
    expect(spec(service('a', { type: 'LoadBalancer' })).healthCheckNodePort).toBe(0);
    expect(spec(service('a')).ports[0]!.nodePort).toBe(0);
  });

  it('get LoadBalancer addresses where status has none', () => {
    const ingress = (more: object, status?: object): string[] => {
      const { cluster } = loadObjects([
        service('a', { type: 'LoadBalancer', ...more }, status === undefined ? {} : { status }),
      ]);
      return cluster.services[0]!.status.loadBalancer.ingress.map(({ ip, hostname }) => ip + hostname);
    };
    expect(ingress({})).toEqual([expect.stringMatching(/^198\.19\./)]);
    expect(ingress({ ipFamilyPolicy: 'RequireDualStack' })).toEqual([
      expect.stringMatching(/^198\.19\./),
      expect.stringMatching(/^fd00:f1a7:1::/),
    ]);
    expect(ingress({ loadBalancerIP: '203.0.113.9' })).toEqual(['203.0.113.9']);
    expect(ingress({}, { loadBalancer: { ingress: [{ ip: '203.0.113.8' }] } })).toEqual(['203.0.113.8']);
    expect(ingress({}, { loadBalancer: { ingress: [{ hostname: 'lb.example.com' }] } })).toEqual(['lb.example.com']);
    expect(loadObjects([service('a', { type: 'NodePort' })]).cluster.services[0]!.status.loadBalancer.ingress).toEqual(
      [],
    );
  });
});

describe('EndpointSlices', () => {
  const web = (name: string, container: object[], more: object = {}, status?: object): object =>
    pod(name, { app: 'web' }, { containers: container, ...more }, status);

  it('resolve named ports pod by pod, by name and protocol, sidecars too', () => {
    const result = loadObjects([
      service('web', {
        ports: [
          { name: 'dns', port: 53, protocol: 'UDP', targetPort: 'dns' },
          { name: 'tcp', port: 80, targetPort: 'http' },
        ],
      }),
      web('a', [
        {
          ports: [
            { name: 'dns', containerPort: 1053 },
            { name: 'dns', containerPort: 5353, protocol: 'UDP' },
          ],
        },
        { ports: [{ name: 'http', containerPort: 8080 }] },
      ]),
      web('b', [{ ports: [{ name: 'dns', containerPort: 6363, protocol: 'UDP' }] }]),
      web('c', [], {
        initContainers: [
          { ports: [{ name: 'http', containerPort: 1 }] },
          { restartPolicy: 'Always', ports: [{ name: 'http', containerPort: 9090 }] },
        ],
      }),
    ]);
    const got = result.cluster.endpointSlices.map((slice) => [
      slice.endpoints.map(({ targetRef }) => targetRef!.name).join(),
      slice.ports.map(({ name, port }) => `${name}=${port}`).join(),
    ]);
    expect(got.sort()).toEqual([
      ['a', 'dns=5353,tcp=8080'],
      ['b', 'dns=6363'],
      ['c', 'tcp=9090'],
    ]);
    expect(warningsOf(result)).toEqual([]);
    expect(
      warningsOf(loadObjects([service('web', { ports: [{ port: 80, targetPort: 'nope' }] }), web('a', [])])),
    ).toEqual([
      'Service shop/web spec.ports[0].targetPort: none of the 1 selected pods has a TCP container port named "nope"',
    ]);
  });

  it('tell ready, serving and terminating', () => {
    const deleted = web('c', []);
    Object.assign(Reflect.get(deleted, 'metadata'), { deletionTimestamp: '2025-01-01T00:00:00Z' });
    const notReady = web('b', [], {}, { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] });
    const conditions = (more: object): unknown[] =>
      loadObjects([service('web', more), web('a', []), notReady, deleted]).cluster.endpointSlices[0]!.endpoints.map(
        (endpoint) => Object.values(endpoint.conditions).map(Number).join(''),
      );
    expect(conditions({})).toEqual(['110', '000', '011']);
    expect(conditions({ publishNotReadyAddresses: true })).toEqual(['110', '100', '111']);
  });

  it('hold at most 100 endpoints, one family each, and the Service’s labels', () => {
    const labelled = service('web', { ipFamilyPolicy: 'RequireDualStack', clusterIP: 'None' });
    Object.assign(Reflect.get(labelled, 'metadata'), { labels: { team: 'x', 'kubernetes.io/service-name': 'y' } });
    const { cluster } = loadObjects([labelled, deployment('web', 250)]);
    expect(cluster.endpointSlices.map(({ endpoints, addressType }) => [endpoints.length, addressType]).sort()).toEqual([
      [100, 'IPv4'],
      [100, 'IPv4'],
      [100, 'IPv6'],
      [100, 'IPv6'],
      [50, 'IPv4'],
      [50, 'IPv6'],
    ]);
    expect(cluster.endpointSlices[0]!.metadata.labels).toEqual({
      team: 'x',
      'service.kubernetes.io/headless': '',
      'kubernetes.io/service-name': 'web',
      'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
    });
    expect(new Set(cluster.endpointSlices.map(({ metadata }) => metadata.name)).size).toBe(6);
  });

  it('are not computed where any is given, or without a selector', () => {
    const given = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'x', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      endpoints: [],
    };
    const { cluster } = loadObjects([
      service('web'),
      service('ext', { selector: undefined }),
      deployment('web', 2),
      given,
    ]);
    expect(cluster.endpointSlices.map(({ metadata }) => metadata.name)).toEqual(['x']);
    expect(loadObjects([service('none')]).cluster.endpointSlices[0]).toMatchObject({ endpoints: [], ports: [] });
  });

  it('mirror Endpoints, family by family', () => {
    const endpoints = (more: object = {}): object => ({
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'web', namespace: 'shop', ...more },
      subsets: [
        {
          addresses: [{ ip: '010.9.0.1', nodeName: 'n1' }, { ip: 'fd00::9' }],
          notReadyAddresses: [{ ip: '10.9.0.2' }],
          ports: [{ port: 8080 }],
        },
      ],
    });
    const { cluster } = loadObjects([service('web', { selector: undefined }), endpoints()]);
    expect(cluster.endpointSlices).toHaveLength(2);
    const v4 = cluster.endpointSlices.find(({ addressType }) => addressType === 'IPv4')!;
    expect(
      v4.endpoints.map(({ addresses, conditions, nodeName }) => [addresses[0], conditions.ready, nodeName]),
    ).toEqual([
      ['10.9.0.1', true, 'n1'],
      ['10.9.0.2', false, undefined],
    ]);
    expect(describeOrigin(originOf(v4, 'endpoints[1].addresses[0]'))).toBe(
      'Endpoints shop/web subsets[0].notReadyAddresses[0]',
    );
    expect(loadObjects([endpoints()]).cluster.endpointSlices).toEqual([]);
    const skipped = endpoints({ labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } });
    expect(loadObjects([service('web', { selector: undefined }), skipped]).cluster.endpointSlices).toEqual([]);
  });
});

describe('topology hints', () => {
  const zone = (name: string, z: string, cpu?: string): object => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'topology.kubernetes.io/zone': z } },
    status: cpu === undefined ? {} : { allocatable: { cpu } },
  });
  const nodes = [zone('a', 'za'), zone('b', 'zb'), zone('c', 'zc')];
  const pods = (...on: string[]): object[] => on.map((name, i) => pod(`p${i}`, { app: 'web' }, { nodeName: name }));
  const hints = (spec: object, objects: object[], annotations: object = {}): string[] => {
    const object = service('web', spec);
    Object.assign(Reflect.get(object, 'metadata'), { annotations });
    const { cluster } = loadObjects([object, ...objects]);
    return cluster.endpointSlices[0]!.endpoints.map((endpoint) =>
      [endpoint.hints?.forZones?.map(({ name }) => name), endpoint.hints?.forNodes?.map(({ name }) => name)]
        .filter(Boolean)
        .join('+'),
    );
  };
  const auto = { 'service.kubernetes.io/topology-mode': 'Auto' };

  it('follow trafficDistribution', () => {
    const some = [...nodes, ...pods('a', 'b')];
    expect(hints({}, some)).toEqual(['', '']);
    expect(hints({ trafficDistribution: 'PreferClose' }, some)).toEqual(['za', 'zb']);
    expect(hints({ trafficDistribution: 'PreferSameZone' }, some)).toEqual(['za', 'zb']);
    expect(hints({ trafficDistribution: 'PreferSameNode' }, some)).toEqual(['za+a', 'zb+b']);
    expect(hints({ trafficDistribution: 'PreferSameNode' }, [node('x'), ...pods('x')])).toEqual(['x']);
    const unready = pod('p9', { app: 'web' }, { nodeName: 'a' }, { phase: 'Pending' });
    expect(hints({ trafficDistribution: 'PreferClose' }, [...some, unready])).toEqual(['za', 'zb', '']);
  });

  it('share endpoints out by CPU in mode Auto, and are withdrawn on overload', () => {
    expect(hints({}, [...nodes, ...pods('a', 'b', 'c')], auto)).toEqual(['za', 'zb', 'zc']);
    // 11 endpoints over three equal zones: each needs at least ceil(3.67 / 1.2) = 4, together 12.
    const eleven = [...nodes, ...pods(...'aaaabbbbccc'.split(''))];
    expect(hints({}, eleven, auto)).toEqual(Array(11).fill(''));
    expect(hints({}, [...nodes, ...pods('a', 'b')], auto)).toEqual(['', '']);
    expect(hints({}, [zone('a', 'za'), ...pods('a', 'a', 'a')], auto)).toEqual(['', '', '']);
    const uneven = [...nodes, ...pods('a', 'a', 'a', 'a', 'b', 'c')];
    expect(hints({}, uneven, auto).sort()).toEqual(['za', 'za', 'zb', 'zb', 'zc', 'zc']);
    const weighted = [zone('a', 'za', '3'), zone('b', 'zb', '1000m'), ...pods('a', 'a', 'b', 'b')];
    expect(hints({}, weighted, auto).sort()).toEqual(['za', 'za', 'za', 'zb']);
    expect(hints({}, [zone('a', 'za', '3'), zone('b', 'zb'), ...pods('a', 'b')], auto)).toEqual(['', '']);
    const both = { trafficDistribution: 'PreferSameNode' };
    expect(hints(both, [...nodes, ...pods('a', 'b', 'c')], auto)).toEqual(['za', 'zb', 'zc']);
    expect(
      hints({}, [...nodes, ...pods('a', 'b', 'c')], {
        ...auto,
        'service.kubernetes.io/topology-aware-hints': 'Disabled',
      }),
    ).toEqual(['', '', '']);
  });
});

describe('clusterCIDR', () => {
  const resolve = (objects: object[], configured: string[] = []): (string | undefined)[] => {
    const { prefixes, warnings } = resolveClusterCidr(loadObjects(objects).cluster, configured);
    return [...prefixes.map(({ text }) => text), ...warnings.map(({ message }) => message.slice(0, 30))];
  };
  const usual6 = 'fd00:10:244::/56';

  it('is what the user set', () => {
    expect(resolve([], ['10.1.0.0/16'])).toEqual(['10.1.0.0/16']);
  });

  it('is the usual one where that holds everything', () => {
    expect(resolve([])).toEqual(['10.244.0.0/16', usual6]);
    expect(resolve([pod('a', {}), node('n', { podCIDR: '10.244.9.0/24' }, '10.244.200.1')])).toEqual([
      '10.244.0.0/16',
      usual6,
    ]);
    expect(resolve([pod('h', {}, { hostNetwork: true }), node('n', {}, '192.0.2.1')])).toEqual([
      '10.244.0.0/16',
      usual6,
    ]);
  });

  it('is the smallest prefix around the pod CIDRs, else around the pods', () => {
    const nodes = [
      node('a', { podCIDR: '10.42.0.0/24' }, '192.0.2.1'),
      node('b', { podCIDR: '10.42.5.0/24' }, '192.0.2.2'),
    ];
    expect(resolve([...nodes, pod('p', {}, { nodeName: 'a' }, { podIP: '10.99.0.1' })])).toEqual([
      '10.42.0.0/21',
      usual6,
    ]);
    const pods = [pod('a', {}, {}, { podIP: '10.50.0.9' }), pod('b', {}, {}, { podIP: '10.50.0.12' })];
    expect(resolve(pods)).toEqual(['10.50.0.8/29', usual6]);
    expect(resolve([pod('a', {}, {}, { podIP: 'fd00:9::1' })])).toEqual(['10.244.0.0/16', 'fd00:9::1/128']);
  });

  it('is none, with a warning, where a node lies in it', () => {
    const pods = [
      pod('a', {}, { nodeName: 'n' }, { podIP: '10.0.0.9' }),
      pod('b', {}, { nodeName: 'n' }, { podIP: '10.0.0.200' }),
    ];
    expect(resolve([...pods, node('n', {}, '10.0.0.100')])).toEqual([usual6, 'clusterCIDR for IPv4 is unknow']);
  });
});

describe('defaults from ConfigMaps', () => {
  const configMap = (name: string, data: object): object => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'kube-system' },
    data,
  });
  const kubeProxy = (text: string): object =>
    configMap('kube-proxy', {
      'config.conf': `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n${text}`,
      'kubeconfig.conf': 'x',
    });

  it('are read from kube-proxy', () => {
    const { cluster } = loadObjects([
      kubeProxy(
        'mode: ipvs\nclusterCIDR: 10.42.0.0/16,fd00:42::/56\nnodePortAddresses: [192.0.2.0/24]\niptables: {masqueradeAll: true, localhostNodePorts: false}\nconntrack: {tcpBeLiberal: true}\n' +
          'ipvs: {scheduler: lc}\ndetectLocalMode: NodeCIDR\ndetectLocal: {bridgeInterface: cni0, interfaceNamePrefix: ""}\n',
      ),
      pod('a', {}, { nodeName: 'n' }),
    ]);
    expect(cluster.defaults).toMatchObject({
      modes: ['ipvs'],
      kubeProxy: {
        clusterCIDR: ['10.42.0.0/16', 'fd00:42::/56'],
        nodePortAddresses: ['192.0.2.0/24'],
        masqueradeAll: true,
        tcpBeLiberal: true,
        localhostNodePorts: false,
        ipvsScheduler: 'lc',
        detectLocalMode: 'NodeCIDR',
        bridgeInterface: 'cni0',
      },
    });
    expect(cluster.defaults.taken.map(({ option, value }) => `${option} ${value}`)).toContain('mode ipvs');
    expect(describeOrigin(cluster.defaults.taken[0]!.origin)).toBe(
      'ConfigMap kube-system/kube-proxy data["config.conf"]',
    );
    expect(cluster.pods[0]!.status.podIP).toBe('10.42.1.2');
    expect(loadObjects([kubeProxy('mode: ""\nclusterCIDR: ""\n')]).cluster.defaults).toMatchObject({
      modes: ['iptables'],
    });
  });

  it('are read from Cilium, which wins where it replaces kube-proxy', () => {
    const cilium = configMap('cilium-config', {
      'kube-proxy-replacement': 'true',
      'bpf-lb-algorithm': 'maglev',
      'bpf-lb-maglev-table-size': '65521',
      'bpf-lb-mode': 'dsr',
      'bpf-lb-sock': 'false',
      'enable-sctp': 'true',
      'bpf-lb-external-clusterip': 'false',
    });
    expect(loadObjects([cilium, kubeProxy('mode: iptables')]).cluster.defaults).toMatchObject({
      modes: ['ebpf'],
      ebpf: {
        algorithm: 'maglev',
        maglevTableSize: 65521,
        loadBalancerMode: 'dsr',
        socketLB: false,
        sctp: true,
        externalClusterIP: false,
      },
    });
    expect(loadObjects([configMap('cilium-config', { 'kube-proxy-replacement': 'false' })]).cluster.defaults).toEqual({
      taken: [],
    });
  });

  it('are warnings where they cannot be read', () => {
    expect(warningsOf(loadObjects([kubeProxy('mode: kernelspace\nclusterCIDR: x\n')]))).toEqual([
      'ConfigMap kube-system/kube-proxy data["config.conf"]: mode "kernelspace" is unknown and is ignored',
      'ConfigMap kube-system/kube-proxy data["config.conf"]: clusterCIDR x holds no prefix and is ignored',
    ]);
    expect(warningsOf(loadObjects([kubeProxy('a: [')]))).toHaveLength(1);
    expect(warningsOf(loadObjects([kubeProxy('a: &a [1]\nb: *a')]))).toHaveLength(1);
    expect(warningsOf(loadObjects([configMap('cilium-config', { 'bpf-lb-mode': 'hybrid' })]))).toEqual([
      'ConfigMap kube-system/cilium-config data.bpf-lb-mode: hybrid is not modelled; snat is used',
    ]);
  });
});

it('completing changes nothing in the store', () => {
  const input = readInput([], {
    objects: [
      deployment('web', 2),
      service('web', { type: 'LoadBalancer' }),
      pod('a', { app: 'web' }),
      node('n1'),
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'x' } },
    ],
  });
  const before = JSON.stringify(
    input.store.list('Service').concat(input.store.list('Pod') as never, input.store.list('Node') as never),
  );
  const first = JSON.stringify(completeCluster(input.store));
  expect(JSON.stringify(completeCluster(input.store))).toBe(first);
  expect(
    JSON.stringify(
      input.store.list('Service').concat(input.store.list('Pod') as never, input.store.list('Node') as never),
    ),
  ).toBe(before);
  input.store.delete('Pod', 'shop', 'a');
  expect(completeCluster(input.store).pods).toHaveLength(2);
});
