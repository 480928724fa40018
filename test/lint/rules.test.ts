/** Every rule of lint: what it finds, in its words, and what it leaves alone. */

import { describe, expect, it } from 'vitest';
import { clusterPolicy, linesOf, lint, namespace, type PodParts, pod, policy, service } from './support.ts';

const web = (parts: PodParts = {}): object => pod('web', { app: 'web' }, parts);
const api = (parts: PodParts = {}): object => pod('api', { app: 'api' }, parts);
const shop = [namespace('shop', { env: 'prod' }), web(), api()];
const app = (name: string): object => ({ podSelector: { matchLabels: { app: name } } });

function find(rule: string, objects: readonly object[]): string[] {
  return linesOf(lint(objects), rule);
}

describe('selector-empty', () => {
  it('names what the label is instead', () => {
    expect(find('selector-empty', [...shop, policy('np', app('wbe'))])).toEqual([
      'warning NetworkPolicy shop/np spec.podSelector: no pod of namespace shop has app=wbe: the policy is about nobody',
    ]);
    const finding = lint([...shop, policy('np', app('wbe'))]).find(({ rule }) => rule === 'selector-empty');
    expect(finding!.advice).toBe('app is api, web there; correct the selector, or the labels of the pods');
  });

  it('sees peers, namespaces, nodes and Services', () => {
    const lines = find('selector-empty', [
      ...shop,
      policy('np', { ingress: [{ from: [app('db'), { namespaceSelector: { matchLabels: { env: 'dev' } } }] }] }),
      clusterPolicy('cnp', 1, { egress: [{ action: 'Deny', to: [{ nodes: { matchLabels: { role: 'edge' } } }] }] }),
      service('db', { app: 'db' }, [{ port: 80 }]),
    ]);
    expect(lines).toEqual([
      'warning ClusterNetworkPolicy cnp spec.egress[0].to[0].nodes: no node has role=edge',
      'warning NetworkPolicy shop/np spec.ingress[0].from[0]: no pod of namespace shop has app=db: the peer is nobody',
      'warning NetworkPolicy shop/np spec.ingress[0].from[1]: no namespace has env=dev: the peer is nobody',
      'warning Service shop/db spec.selector: no pod of namespace shop has app=db: the Service has no endpoints',
    ]);
  });

  it('takes a namespace that is not in the input for a note', () => {
    const peer = { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'ingress' } } };
    expect(find('selector-empty', [...shop, policy('np', { ingress: [{ from: [peer] }] })])).toEqual([
      'info NetworkPolicy shop/np spec.ingress[0].from[0]: namespace ingress is not in the input: the peer is nobody',
    ]);
    const lines = find('empty-namespace', [
      ...shop,
      namespace('ingress'),
      policy('np', { ingress: [{ from: [peer] }] }),
    ]);
    expect(lines).toEqual([
      'info NetworkPolicy shop/np spec.ingress[0].from[0]: namespace ingress has no pods in the input: the peer is nobody',
    ]);
  });

  it('knows workloads at rest', () => {
    const idle = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'batch', namespace: 'shop' },
      spec: {
        replicas: 0,
        selector: { matchLabels: { app: 'batch' } },
        template: { metadata: { labels: { app: 'batch' } } },
      },
    };
    expect(
      find('selector-empty', [
        ...shop,
        idle,
        policy('np', app('batch')),
        service('b', { app: 'batch' }, [{ port: 80 }]),
      ]),
    ).toEqual([]);
  });
});

describe('host-network', () => {
  const agent = pod('agent', { app: 'agent' }, { hostNetwork: true });

  it('says that such pods are neither selected nor matched', () => {
    expect(
      find('host-network', [
        ...shop,
        agent,
        policy('np', app('agent')),
        policy('peer', { ingress: [{ from: [app('agent')] }] }),
      ]),
    ).toEqual([
      'warning NetworkPolicy shop/np spec.podSelector: all it selects: 1 pod (agent) of the host network, whom policies do not bind',
      "warning NetworkPolicy shop/peer spec.ingress[0].from[0]: the peer is 1 pod (agent) of the host network: their packets carry the node's address, which no selector matches",
    ]);
  });

  it('says nothing of a default deny beside one', () => {
    expect(find('host-network', [...shop, agent, policy('np', {})])).toEqual([]);
  });
});

describe('ports', () => {
  it('policy-port: a number that no pod declares, and the Service that leads elsewhere', () => {
    const objects = [
      ...shop,
      service('web', { app: 'web' }, [{ port: 80, targetPort: 8080 }]),
      policy('np', { ...app('web'), ingress: [{ ports: [{ port: 80 }] }] }),
    ];
    const found = lint(objects).filter(({ rule }) => rule === 'policy-port');
    expect(linesOf(found, 'policy-port')).toEqual([
      'warning NetworkPolicy shop/np spec.ingress[0].ports[0]: 80/TCP is no port of 1 pod (web); declared: 8080/TCP (http)',
    ]);
    expect(found[0]!.advice).toBe(
      'policies see packets after Services: port 80 of Service shop/web leads to another port of the pods, which the policy must name',
    );
  });

  it('policy-port: says nothing where pods declare nothing, a range holds one, or the rule leads out of the cluster', () => {
    const bare = pod('bare', { app: 'bare' }, { ports: [] });
    const lines = find('policy-port', [
      ...shop,
      bare,
      policy('one', { ...app('bare'), ingress: [{ ports: [{ port: 80 }] }] }),
      policy('two', { ...app('web'), ingress: [{ ports: [{ port: 8000, endPort: 8100 }, { protocol: 'TCP' }] }] }),
      policy('three', {
        egress: [{ to: [{ ipBlock: { cidr: '203.0.113.0/24' } }], ports: [{ port: 443 }] }, { ports: [{ port: 443 }] }],
      }),
    ]);
    expect(lines).toEqual([]);
  });

  it('named-port: nobody has the name, or has it for another protocol', () => {
    expect(
      find('named-port', [
        ...shop,
        policy('np', {
          ingress: [{ ports: [{ port: 'https' }, { port: 'http', protocol: 'UDP' }, { port: 'http' }] }],
        }),
      ]),
    ).toEqual([
      "warning NetworkPolicy shop/np spec.ingress[0].ports[0]: no port of 2 pods (api, web) is named 'https': the rule matches nothing",
      "warning NetworkPolicy shop/np spec.ingress[0].ports[1]: the port 'http' of 2 pods (api, web) is not UDP: the rule matches nothing",
    ]);
  });

  it('target-port and service-port', () => {
    const objects = [
      ...shop,
      pod('api-2', { app: 'api' }, { ports: [{ name: 'grpc', containerPort: 9090 }] }),
      service('none', { app: 'web' }, [{ port: 80, targetPort: 'https' }]),
      service('some', { app: 'api' }, [{ port: 80, targetPort: 'http' }]),
      service('number', { app: 'web' }, [{ port: 80 }]),
    ];
    expect(find('target-port', objects)).toEqual([
      "error Service shop/none spec.ports[0].targetPort: no container of 1 pod (web) has a TCP port named 'https': the port has no endpoints",
      "warning Service shop/some spec.ports[0].targetPort: 1 pod (api-2) of 2 have no TCP port named 'http' and get no traffic",
    ]);
    expect(find('service-port', objects)).toEqual([
      'warning Service shop/number spec.ports[0].port: leads to 80/TCP, which is no port of 1 pod (web); declared: 8080/TCP (http)',
    ]);
  });
});

describe('address blocks', () => {
  const placed = [namespace('shop'), web({ ip: '10.244.1.5' }), api({ ip: '10.244.1.6' })];
  const block = (cidr: string, except: string[] = []): object =>
    policy('np', { ingress: [{ from: [{ ipBlock: { cidr, except } }] }] });

  it('over pods', () => {
    expect(find('block-over-pods', [...placed, block('10.0.0.0/8')])).toEqual([
      "warning NetworkPolicy shop/np spec.ingress[0].from[0].ipBlock: 10.0.0.0/8 holds the addresses of 2 pods (10.244.1.6, …): pods' addresses change, and Cilium matches no pod by its address",
    ]);
    expect(
      find('block-over-pods', [
        ...placed,
        block('10.0.0.0/8', ['10.244.0.0/16']),
        policy('all', { ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }] }),
      ]),
    ).toEqual([]);
  });

  it('over nodes and Services', () => {
    const node = {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'node-1' },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.7.1' }] },
    };
    expect(find('block-over-nodes', [node, ...placed, block('192.168.7.0/24')])).toHaveLength(1);
    const db = service('db', { app: 'web' }, [{ port: 8080 }], { spec: { clusterIP: '10.96.0.20' } });
    expect(find('block-over-services', [...placed, db, block('10.96.0.20/32')])).toEqual([
      'warning NetworkPolicy shop/np spec.ingress[0].from[0].ipBlock: 10.96.0.20/32 is the address of Service shop/db: policies see the packet after the Service has translated it, with the address of a pod',
    ]);
  });

  it('range-overlap: Services and nodes among pods', () => {
    const node = {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'node-1' },
      status: { addresses: [{ type: 'InternalIP', address: '10.244.7.1' }] },
    };
    const lines = linesOf(
      lint([node, ...placed], [], { kubeProxy: { clusterCIDR: ['10.244.0.0/16'], serviceCIDRs: ['10.240.0.0/12'] } }),
      'range-overlap',
    );
    expect(lines).toEqual([
      "error Node node-1 status.addresses: the address 10.244.7.1 lies in the pods' range 10.244.0.0/16: what is masqueraded, and who is a pod, is decided by that range",
      "warning: the Services' range 10.240.0.0/12 overlaps the pods' range 10.244.0.0/16",
    ]);
    const lost = service('lost', { app: 'web' }, [{ port: 8080 }], { spec: { clusterIP: '10.244.9.9' } });
    expect(find('range-overlap', [...placed, lost])).toEqual([
      "error Service shop/lost spec.clusterIP: the ClusterIP 10.244.9.9 lies in the pods' range 10.244.0.0/16: a pod may get it",
    ]);
  });
});

describe('rules without an effect', () => {
  it('redundant-rule: the same twice is a warning, a narrower one a note', () => {
    const lines = find('redundant-rule', [
      ...shop,
      policy('a', { ingress: [{ from: [app('web')] }] }),
      policy('b', { ingress: [{ from: [app('web')] }] }),
      policy('c', { ...app('api'), ingress: [{ from: [app('web')], ports: [{ port: 8080 }] }] }),
      policy('d', { ...app('api'), ingress: [{ from: [app('api')] }] }),
    ]);
    expect(lines).toEqual([
      'warning NetworkPolicy shop/b spec.ingress[0]: allows nothing that NetworkPolicy shop/a spec.ingress[0] does not allow',
      'info NetworkPolicy shop/c spec.ingress[0]: allows nothing that NetworkPolicy shop/a spec.ingress[0] does not allow',
    ]);
  });

  it('redundant-rule: blocks with holes, ranges and expressions', () => {
    const block = (cidr: string, except: string[] = []) => ({ from: [{ ipBlock: { cidr, except } }] });
    const expression = (values: string[]) => ({
      from: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values }] } }],
    });
    const covers = (wide: object, narrow: object): boolean =>
      find('redundant-rule', [...shop, policy('a', { ingress: [wide] }), policy('b', { ingress: [narrow] })]).length >
      0;
    expect(covers(block('203.0.0.0/16', ['203.0.113.0/24']), block('203.0.4.0/24'))).toBe(true);
    expect(covers(block('203.0.0.0/16', ['203.0.4.0/26']), block('203.0.4.0/24'))).toBe(false);
    expect(covers(block('203.0.0.0/16', ['203.0.4.0/26']), block('203.0.4.0/24', ['203.0.4.0/25']))).toBe(true);
    expect(covers(expression(['web', 'api']), { from: [app('web')] })).toBe(true);
    expect(covers(expression(['api']), { from: [app('web')] })).toBe(false);
    expect(covers({ ports: [{ port: 8000, endPort: 8100 }] }, { ports: [{ port: 8080 }] })).toBe(true);
    expect(covers({ ports: [{ port: 8000, endPort: 8100 }] }, { ports: [{ port: 'http' }] })).toBe(false);
  });

  it('shadowed-rule: the first that matches decides, in its tier and before the others', () => {
    const everybody = [{ namespaces: {} }];
    const lines = find('shadowed-rule', [
      ...shop,
      clusterPolicy('first', 1, {
        ingress: [
          { action: 'Pass', from: everybody, protocols: [{ tcp: { destinationPort: { number: 8080 } } }] },
          { action: 'Deny', from: everybody },
        ],
      }),
      clusterPolicy('second', 2, {
        ingress: [{ action: 'Accept', from: [{ namespaces: { matchLabels: { env: 'prod' } } }] }],
      }),
      policy('np', { ingress: [{ from: [app('web')] }, {}] }),
    ]);
    expect(lines).toEqual([
      'warning ClusterNetworkPolicy second spec.ingress[0]: never reached: ClusterNetworkPolicy first spec.ingress[1] (deny) decides about all of it before',
      'warning NetworkPolicy shop/np spec.ingress[0]: never reached: ClusterNetworkPolicy first spec.ingress[1] (deny) decides about all of it before',
    ]);
  });

  it('other-direction and equal-priority', () => {
    expect(
      find('other-direction', [...shop, policy('np', { policyTypes: ['Egress'], ingress: [{}], egress: [{}] })]),
    ).toEqual([
      'warning NetworkPolicy shop/np spec.ingress: policyTypes does not list Ingress: these rules do nothing',
    ]);
    const rule = (action: string) => ({ ingress: [{ action, from: [{ namespaces: {} }] }] });
    const lines = find('equal-priority', [
      ...shop,
      clusterPolicy('a', 5, rule('Accept')),
      clusterPolicy('b', 5, rule('Deny')),
    ]);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('warning ClusterNetworkPolicy b spec.priority: is ambiguous');
  });
});

describe('isolation', () => {
  it('default-deny: a note where nobody isolates, a warning where somebody began', () => {
    expect(find('default-deny', shop)).toEqual([
      'info Namespace shop: no default deny for ingress and egress: 2 pods (api, web) take connections from everybody and connect to everybody',
    ]);
    expect(find('default-deny', [...shop, policy('np', { ...app('web'), ingress: [{ from: [app('api')] }] })])).toEqual(
      [
        'warning Namespace shop: no default deny for ingress and egress: 1 pod (api) takes connections from everybody; 2 pods (api, web) connect to everybody',
      ],
    );
    expect(find('default-deny', [...shop, policy('np', { policyTypes: ['Ingress', 'Egress'] })])).toEqual([]);
    const baseline = (direction: string, side: string) => ({
      [direction]: [{ action: 'Deny', [side]: [{ namespaces: {} }] }],
    });
    const closed = clusterPolicy('closed', 1, {
      tier: 'Baseline',
      ...baseline('ingress', 'from'),
      ...baseline('egress', 'to'),
    });
    expect(find('default-deny', [...shop, closed])).toEqual([]);
  });

  it('allow-all: a policy for everybody beside the default deny', () => {
    expect(
      find('allow-all', [
        ...shop,
        policy('deny', { policyTypes: ['Ingress'] }),
        policy('open', { ingress: [{}] }),
        policy('narrow', { ingress: [{ from: [app('web')] }] }),
      ]),
    ).toEqual([
      'warning NetworkPolicy shop/open spec.ingress[0]: lets everybody in on every port, for all pods: NetworkPolicy shop/deny denies nothing any more',
    ]);
  });
});

describe('dns-cut-off', () => {
  const dns = [
    pod(
      'coredns',
      { 'k8s-app': 'kube-dns' },
      { namespace: 'kube-system', ports: [{ containerPort: 53, protocol: 'UDP' }, { containerPort: 53 }] },
    ),
    service(
      'kube-dns',
      { 'k8s-app': 'kube-dns' },
      [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns-tcp', port: 53 },
      ],
      { metadata: { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } },
    ),
  ];
  const toDns = (ports: object[]) => ({
    egress: [{ to: [{ namespaceSelector: {}, podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } }], ports }],
  });

  it('is told by packets', () => {
    const both = [{ port: 53, protocol: 'UDP' }, { port: 53 }];
    expect(find('dns-cut-off', [...shop, ...dns, policy('deny', { policyTypes: ['Egress'] })])).toEqual([
      'warning NetworkPolicy shop/deny spec.egress: 2 pods (api, web) cannot reach kube-system/kube-dns on port 53 UDP and TCP: a policy denies it',
    ]);
    expect(
      find('dns-cut-off', [...shop, ...dns, policy('deny', { policyTypes: ['Egress'] }), policy('dns', toDns(both))]),
    ).toEqual([]);
    expect(find('dns-cut-off', [...shop, ...dns, policy('dns', { ...app('web'), ...toDns([both[0]!]) })])).toEqual([
      'warning NetworkPolicy shop/dns spec.egress: 1 pod (web) cannot reach kube-system/kube-dns on port 53 TCP: a policy denies it',
    ]);
  });

  it('says once that there is no DNS to ask', () => {
    expect(
      find('dns-cut-off', [
        ...shop,
        policy('a', { policyTypes: ['Egress'] }),
        policy('b', { ...app('web'), egress: [{}] }),
      ]),
    ).toEqual([
      'info: pods have egress policies, and the input holds no DNS Service (kube-system/kube-dns): whether they can ask it is not checked',
    ]);
    expect(find('dns-cut-off', shop)).toEqual([]);
  });
});
