import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { InputError } from '../../control/src/cluster/problem.ts';
import { errorsOf, linesOf, loadObjects, node, pod, service } from './support.ts';

const checkout = (spec: string): string => `apiVersion: v1
kind: Service
metadata:
  name: checkout
  namespace: shop
spec:
${spec.replace(/^/gm, '  ')}
`;

describe('text that cannot be read', () => {
  it('is not YAML', () => {
    expect(errorsOf('apiVersion: v1\nkind: Service\nmetadata: {name: a\nspec: [')[0]).toMatch(
      /^shop\.yaml:\d: Service .*: is not YAML: /,
    );
    expect(errorsOf('a: b: c')[0]).toMatch(/^shop\.yaml:1: document 1.*is not YAML: /);
  });

  it('is a template that was not rendered', () => {
    const [line] = errorsOf('apiVersion: v1\nkind: Service\nmetadata:\n  {{- include "x" . | nindent 4 }}\n');
    expect(line).toMatch(/is not YAML: .*\(it looks like a template: render it first, with 'helm template'\)$/);
  });

  it('is not JSON', () => {
    expect(errorsOf({ 'a.json': '{"apiVersion": "v1",\n "kind": }' })).toEqual([
      'a.json:2: document 1: is not JSON: "}" where a value should be',
    ]);
    expect(errorsOf({ 'a.json': '{"a": [1, 2' })).toEqual([
      "a.json:1: document 1: is not JSON: the text ends where ',' or ']' should be",
    ]);
    expect(errorsOf({ 'a.json': '{"a": "b\\q"}' })).toEqual([
      'a.json:1: document 1: is not JSON: "\\"" where a value should be',
    ]);
  });

  it('is no object', () => {
    expect(errorsOf('hello')).toEqual(['shop.yaml:1: document 1: "hello" is not a Kubernetes object']);
    expect(errorsOf('- 1\n- 2')).toHaveLength(2);
    expect(errorsOf({ 'a.json': '[[[[[[1]]]]]]' })).toHaveLength(1);
  });

  it('is not UTF-8, missing, or a folder without manifests', () => {
    expect(linesOf(() => loadCluster(['/no/such/file.yaml']))).toEqual(['/no/such/file.yaml: does not exist']);
    expect(errorsOf({ 'a.txt': 'x', 'b.txt': 'y' })[0]).toMatch(/holds no \.yaml, \.yml or \.json file$/);
  });

  it('reports the right line in a document of a CRLF file', () => {
    const text = checkout('ports:\n  - port: 0').replaceAll('\n', '\r\n');
    expect(errorsOf(`\ufeff# comment\r\n---\r\n${text}`)).toEqual([
      'shop.yaml:10: Service shop/checkout spec.ports[0].port: 0 is not a port (1 to 65535)',
    ]);
  });
});

describe('attacks', () => {
  it('refuses an alias bomb', () => {
    let text = 'a0: &a0 [x, x, x, x, x, x, x, x, x]\n';
    for (let i = 1; i < 10; i++) {
      text += `a${i}: &a${i} [${Array(9)
        .fill(`*a${i - 1}`)
        .join(', ')}]\n`;
    }
    expect(
      errorsOf(`apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n${text.replace(/^(?=.)/gm, '  ')}`),
    ).toEqual([
      expect.stringMatching(
        /^shop\.yaml:\d+: ConfigMap bomb data\.a\d.*: its aliases expand to more than 100000 values$/,
      ),
    ]);
  });

  it('refuses an alias inside its own anchor', () => {
    const text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: a, labels: {x: *m}}\n';
    expect(errorsOf(text)).toEqual([
      'shop.yaml:3: ConfigMap a metadata.labels.x: the alias *m stands inside its own anchor',
    ]);
    expect(errorsOf('apiVersion: v1\nkind: ConfigMap\nmetadata: {name: *nobody}\n')[0]).toMatch(
      /the alias \*nobody has no anchor before it|Unresolved alias/,
    );
  });

  it.each(['yaml', 'json'])('refuses __proto__ in %s', (kind) => {
    const json =
      '{"apiVersion": "v1", "kind": "Service",\n "metadata": {"name": "a", "labels": {"__proto__": {"x": "1"}}}}';
    const yaml = 'apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels:\n    __proto__: {x: "1"}\n';
    const lines = kind === 'json' ? errorsOf({ 'a.json': json }) : errorsOf({ 'a.yaml': yaml });
    expect(lines).toEqual([
      `a.${kind}:${kind === 'json' ? 2 : 6}: Service a metadata.labels.__proto__: is not allowed as a key`,
    ]);
    expect(Object.prototype).not.toHaveProperty('x');
  });

  it('takes constructor and prototype as plain keys', () => {
    const labels = JSON.parse('{"constructor": "a", "prototype": "b", "toString": "c", "hasOwnProperty": "d"}');
    const { cluster } = loadObjects([pod('a', labels), service('s', { selector: { constructor: 'a' } })]);
    expect(cluster.pods[0]!.metadata.labels).toEqual(labels);
    expect(cluster.endpointSlices[0]!.endpoints).toHaveLength(1);
    expect(
      loadObjects([pod('a', {}), service('s', { selector: { constructor: 'a' } })]).cluster.endpointSlices[0]!
        .endpoints,
    ).toEqual([]);
  });

  it.each([
    ['yaml flow', 'a.yaml', `${'['.repeat(100_000)}`],
    ['yaml block', 'a.yaml', `${'- '.repeat(20_000)}x`],
    ['yaml map', 'a.yaml', Array.from({ length: 200 }, (_, i) => `${' '.repeat(i)}a:\n`).join('')],
    ['json', 'a.json', `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
  ])('refuses deep nesting: %s', (_name, file, text) => {
    expect(errorsOf({ [file]: text })[0]).toMatch(/: is nested deeper than 64 levels$/);
  });

  it('refuses keys that stand twice', () => {
    expect(errorsOf(checkout('ports: [{port: 80}]\nports: [{port: 81}]'))).toEqual([
      'shop.yaml:8: Service shop/checkout spec.ports: stands twice in one object',
    ]);
    const json =
      '{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},\n"spec":{"ports":[{"port":80},{"port":81,\n"port":82}]}}';
    expect(errorsOf({ 'a.json': json })).toEqual([
      'a.json:3: Service a spec.ports[1].port: stands twice in one object',
    ]);
  });

  it('refuses keys that are no text', () => {
    expect(errorsOf('apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n? [a, b]\n: c\n')).toEqual([
      'shop.yaml:4: ConfigMap a: a key is a list or an object; keys are text',
    ]);
  });
});

describe('objects that are none', () => {
  it.each([
    ['apiVersion: v1\nmetadata: {name: a}', 'shop.yaml:1: document 1 kind: is required'],
    ['kind: Service\nmetadata: {name: a}', 'shop.yaml:1: Service a apiVersion: is required'],
    [
      'apiVersion: v2\nkind: Service\nmetadata: {name: a}',
      'shop.yaml:1: Service a apiVersion: v2 is not an apiVersion of Service (v1)',
    ],
    ['apiVersion: 1\nkind: Service\nmetadata: {name: a}', 'shop.yaml:1: Service a apiVersion: 1 is not text'],
    [
      'apiVersion: core/v1\nkind: Pod\nmetadata: {name: a}',
      'shop.yaml:1: Pod a apiVersion: core/v1 is not an apiVersion of Pod (v1)',
    ],
    [
      'apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: a}',
      'shop.yaml:1: Deployment a apiVersion: extensions/v1beta1 is not an apiVersion of Deployment (apps/v1)',
    ],
    [
      'apiVersion: networking.k8s.io/v2\nkind: NetworkPolicy\nmetadata: {name: a}',
      'shop.yaml:1: NetworkPolicy a apiVersion: networking.k8s.io/v2 is not an apiVersion of NetworkPolicy (networking.k8s.io/v1)',
    ],
    ['apiVersion: v1\nkind: service\nmetadata: {name: a}', 'shop.yaml:2: service a kind: service is written Service'],
    ['apiVersion: v1\nkind: ConfigMap', 'shop.yaml:1: ConfigMap (no name) metadata: is required'],
    [
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: b}',
      'shop.yaml:3: ConfigMap b/(no name) metadata.name: is required',
    ],
    [
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: My_Shop}',
      "shop.yaml:3: ConfigMap default/My_Shop metadata.name: \"My_Shop\" is not a name (lower-case letters, digits, '-' and '.', at most 253)",
    ],
  ])('%j', (text, line) => {
    expect(errorsOf(text)).toEqual([line]);
  });
});

describe('Service', () => {
  const at = 'Service shop/checkout spec';
  it.each([
    ['ports:\n  - port: 70000', `shop.yaml:8: ${at}.ports[0].port: 70000 is not a port (1 to 65535)`],
    ['ports:\n  - port: "80"', `shop.yaml:8: ${at}.ports[0].port: "80" is text, not a port (1 to 65535)`],
    ['ports:\n  - port: 80.5', `shop.yaml:8: ${at}.ports[0].port: 80.5 is a number, not a port (1 to 65535)`],
    ['ports:\n  - name: http', `shop.yaml:8: ${at}.ports[0].port: is required`],
    ['ports: 80', `shop.yaml:7: ${at}.ports: 80 is a number, not a list`],
    ['ports:\n  - 80', `shop.yaml:8: ${at}.ports[0]: 80 is a number, not an object`],
    ['selector: {app: a}', `shop.yaml:6: ${at}.ports: is required`],
    [
      'ports:\n  - {port: 80, protocol: tcp}',
      `shop.yaml:8: ${at}.ports[0].protocol: "tcp" is not one of TCP, UDP, SCTP`,
    ],
    [
      'ports:\n  - {port: 80, targetPort: 0x10000}',
      `shop.yaml:8: ${at}.ports[0].targetPort: 65536 is not a port (1 to 65535)`,
    ],
    [
      'ports:\n  - {port: 80, targetPort: "8080"}',
      `shop.yaml:8: ${at}.ports[0].targetPort: "8080" is neither a port's number nor its name`,
    ],
    ['ports:\n  - {port: 80, nodePort: -1}', `shop.yaml:8: ${at}.ports[0].nodePort: -1 is not a port (1 to 65535)`],
    [
      'ports:\n  - {port: 80}\n  - {port: 81, name: b}',
      `shop.yaml:8: ${at}.ports[0].name: is required where a Service has several ports`,
    ],
    [
      'ports:\n  - {port: 80, name: a}\n  - {port: 81, name: a}',
      `shop.yaml:9: ${at}.ports[1].name: "a" stands twice in this Service`,
    ],
    [
      'ports:\n  - {port: 80, name: a}\n  - {port: 80, name: b}',
      `shop.yaml:9: ${at}.ports[1].port: 80/TCP stands twice in this Service`,
    ],
    [
      'ports:\n  - {port: 80, name: Web_1}',
      `shop.yaml:8: ${at}.ports[0].name: "Web_1" is not a port's name (lower-case letters, digits and '-')`,
    ],
    [
      'ports: [{port: 80}]\ntype: Loadbalancer',
      `shop.yaml:8: ${at}.type: "Loadbalancer" is not one of ClusterIP, NodePort, LoadBalancer, ExternalName`,
    ],
    ['type: ExternalName', `shop.yaml:6: ${at}.externalName: is required`],
    ['ports: [{port: 80}]\nclusterIP: 10.96.0.300', `shop.yaml:8: ${at}.clusterIP: "10.96.0.300" is not an address`],
    ['ports: [{port: 80}]\nclusterIP: 10.96.0.1/32', `shop.yaml:8: ${at}.clusterIP: "10.96.0.1/32" is not an address`],
    [
      'ports: [{port: 80}]\nclusterIPs: [10.96.0.1, 10.96.0.2]',
      `shop.yaml:8: ${at}.clusterIPs: holds two IPv4 addresses`,
    ],
    [
      'ports: [{port: 80}]\nclusterIP: 10.96.0.1\nipFamilies: [IPv6]',
      `shop.yaml:8: ${at}.clusterIP: "10.96.0.1" is not IPv6, which spec.ipFamilies[0] says`,
    ],
    [
      'ports: [{port: 80}]\nclusterIP: 10.96.0.1\nclusterIPs: [10.96.0.2]',
      `shop.yaml:9: ${at}.clusterIPs[0]: "10.96.0.2" differs from spec.clusterIP "10.96.0.1"`,
    ],
    ['ports: [{port: 80}]\nipFamilies: [IPv4, IPv4]', `shop.yaml:8: ${at}.ipFamilies[1]: IPv4 stands twice`],
    ['ports: [{port: 80}]\nipFamilies: [ipv4]', `shop.yaml:8: ${at}.ipFamilies[0]: "ipv4" is not one of IPv4, IPv6`],
    [
      'ports: [{port: 80}]\nexternalIPs: [shop.example.com]',
      `shop.yaml:8: ${at}.externalIPs[0]: "shop.example.com" is not an address`,
    ],
    [
      'ports: [{port: 80}]\ntype: LoadBalancer\nloadBalancerSourceRanges: [10.0.0.1]',
      `shop.yaml:9: ${at}.loadBalancerSourceRanges[0]: "10.0.0.1" is not a prefix (address/length)`,
    ],
    [
      'ports: [{port: 80}]\nsessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}',
      `shop.yaml:9: ${at}.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not a timeout (1 to 86400 seconds)`,
    ],
    [
      'ports: [{port: 80}]\nselector: {app: 1}',
      `shop.yaml:8: ${at}.selector.app: 1 is a number, not text (text that looks like something else needs quotes)`,
    ],
  ])('%j', (spec, line) => {
    expect(errorsOf(checkout(spec))).toEqual([line]);
  });

  it('names the pair of Services with one ClusterIP', () => {
    const a = checkout('ports: [{port: 80}]\nclusterIP: 10.96.0.10');
    const b = a.replace('name: checkout', 'name: cart').replace('10.96.0.10', '010.096.0.10');
    expect(errorsOf(`${a}---\n${b}`)).toEqual([
      'shop.yaml:8: Service shop/checkout spec.clusterIP: 10.96.0.10 is also the ClusterIP of Service shop/cart',
    ]);
  });

  it('names the pair of Services with one nodePort, protocol by protocol', () => {
    const lines = linesOf(() =>
      loadObjects([
        service('a', { type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] }),
        service('b', { type: 'NodePort', ports: [{ port: 80, nodePort: 30080, protocol: 'UDP' }] }),
        service('c', { ports: [{ port: 80, nodePort: 30080 }] }),
        service('d', { clusterIP: 'None', ports: [{ port: 80, nodePort: 30080 }] }),
        service('e', { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 30080 }),
      ]),
    );
    expect(lines).toEqual([
      'Service shop/c spec.ports[0].nodePort: 30080/TCP is also a nodePort of Service shop/a',
      'Service shop/e spec.healthCheckNodePort: 30080/TCP is also a nodePort of Service shop/a',
    ]);
  });
});

describe('other kinds', () => {
  it.each([
    [
      'EndpointSlice',
      'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nendpoints:\n  - addresses: [fd00::1]\n  - addresses: []\n  - addresses: [127.0.0.1]\n  - conditions: {ready: true}\n',
      ['shop.yaml:9: EndpointSlice default/s endpoints[3].addresses: is required'],
    ],
    [
      'EndpointSlice addresses',
      'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nendpoints:\n  - addresses: [fd00::1]\n  - addresses: []\n  - addresses: [127.0.0.1]\nports: [{port: 80}, {port: 81}]\n',
      [
        'shop.yaml:9: EndpointSlice default/s ports[1].name: "" stands twice in this slice',
        'shop.yaml:6: EndpointSlice default/s endpoints[0].addresses[0]: "fd00::1" is not an IPv4 address',
        'shop.yaml:7: EndpointSlice default/s endpoints[1].addresses: is required',
        'shop.yaml:8: EndpointSlice default/s endpoints[2].addresses[0]: "127.0.0.1" is loopback; an endpoint cannot have it',
      ],
    ],
    [
      'Pod',
      'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - ports:\n        - containerPort: 100000\n    - ports:\n        - name: x\n',
      [
        'shop.yaml:7: Pod default/p spec.containers[0].ports[0].containerPort: 100000 is not a port (1 to 65535)',
        'shop.yaml:9: Pod default/p spec.containers[1].ports[0].containerPort: is required',
      ],
    ],
    [
      'Pod addresses',
      'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus:\n  podIP: 10.0.0.256\n  podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]\n',
      [
        'shop.yaml:5: Pod default/p status.podIP: "10.0.0.256" is not an address',
        'shop.yaml:6: Pod default/p status.podIPs: holds two IPv4 addresses',
      ],
    ],
    [
      'Node',
      'apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {podCIDR: 10.244.0.0}\nstatus: {addresses: [{type: InternalIP, address: host}]}\n',
      [
        'shop.yaml:5: Node n status.addresses[0].address: "host" is not an address',
        'shop.yaml:4: Node n spec.podCIDR: "10.244.0.0" is not a prefix (address/length)',
      ],
    ],
    [
      'Deployment',
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: -1, selector: {}, template: {}}\n',
      ['shop.yaml:4: Deployment default/d spec.replicas: -1 is not a number of replicas (0 or more)'],
    ],
    [
      'Deployment selector',
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {app: a}}\n  template: {metadata: {labels: {app: b}}}\n',
      ['shop.yaml:5: Deployment default/d spec.selector: does not select the labels of spec.template.metadata'],
    ],
    [
      'NetworkPolicy',
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec:\n  podSelector: {matchExpressions: [{key: a, operator: In}]}\n  ingress:\n    - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]\n      ports: [{port: 90, endPort: 80}, {port: 0}]\n    - from: [{}]\n',
      [
        'shop.yaml:5: NetworkPolicy default/n spec.podSelector.matchExpressions[0].values: is required with In',
        'shop.yaml:7: NetworkPolicy default/n spec.ingress[0].from[0].ipBlock.except[0]: "11.0.0.0/8" does not lie inside "10.0.0.0/8"',
        'shop.yaml:8: NetworkPolicy default/n spec.ingress[0].ports[0].endPort: 80 lies before port 90',
        'shop.yaml:8: NetworkPolicy default/n spec.ingress[0].ports[1].port: 0 is not a port (1 to 65535)',
        'shop.yaml:9: NetworkPolicy default/n spec.ingress[1].from[0]: needs a podSelector, a namespaceSelector or an ipBlock',
      ],
    ],
  ])('%s', (_name, text, lines) => {
    expect(errorsOf(text)).toEqual(lines);
  });

  it('holds slices to their limits', () => {
    const slice = (endpoints: number, ports: number, addresses: number): object => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 's', labels: { 'kubernetes.io/service-name': 'a' } },
      addressType: 'IPv4',
      endpoints: Array.from({ length: endpoints }, (_, i) => ({
        addresses: Array.from({ length: addresses }, (_, j) => `10.${j}.${i >> 8}.${i & 255}`),
      })),
      ports: Array.from({ length: ports }, (_, i) => ({ name: `p${i}`, port: i + 1 })),
    });
    expect(linesOf(() => loadObjects([slice(1000, 100, 1)]))).toEqual([]);
    expect(linesOf(() => loadObjects([slice(1, 1, 100)]))).toEqual([]);
    expect(linesOf(() => loadObjects([slice(1001, 101, 1)]))).toEqual([
      'EndpointSlice default/s endpoints: holds 1001 endpoints; a slice takes at most 1000',
      'EndpointSlice default/s ports: holds 101 ports; a slice takes at most 100',
    ]);
    expect(linesOf(() => loadObjects([slice(1, 1, 101)]))).toEqual([
      'EndpointSlice default/s endpoints[0].addresses: holds 101 addresses; an endpoint takes at most 100',
    ]);
  });

  it('names a pod CIDR that is used up', () => {
    const pods = Array.from({ length: 7 }, (_, i) => pod(`p${i}`, {}, { nodeName: 'worker' }));
    expect(linesOf(() => loadObjects([node('worker', { podCIDR: '10.244.1.0/29' }, '192.0.2.1'), ...pods]))).toEqual([
      'Node worker spec.podCIDR: 10.244.1.0/29 is used up: 2 of 7 pods get no address, from Pod shop/p5 on',
    ]);
    expect(linesOf(() => loadObjects(pods, { clusterCIDR: ['10.1.0.0/29'] }))).toEqual([
      'Pod shop/p0 status.podIP: clusterCIDR 10.1.0.0/29 is used up: no room for the 7 pods of node worker',
    ]);
  });

  it('names nodes with one address or overlapping pod CIDRs', () => {
    const lines = linesOf(() =>
      loadObjects([
        node('a', { podCIDR: '10.244.0.0/16' }, '192.0.2.1'),
        node('b', { podCIDR: '10.244.7.0/24' }, '192.0.2.1'),
        node('c', { podCIDR: '10.245.0.0/24' }, '192.0.2.3'),
      ]),
    );
    expect(lines).toEqual([
      'Node b status.addresses[0].address: 192.0.2.1 is also an address of Node a',
      'Node b spec.podCIDRs[0]: 10.244.7.0/24 overlaps 10.244.0.0/16 of Node a',
    ]);
  });
});

describe('a load with errors', () => {
  it('reports all of them at once, over files and stages, and gives nothing back', () => {
    const lines = errorsOf({
      'a.yaml': `${checkout('ports: [{port: 0}, {port: 99999}]')}---\n- 1\n---\nkind: Pod\n`,
      'b.json': '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "P"}}',
      'c.yaml': 'a: [',
      'd.yaml': `${checkout('ports: [{port: 1}]\nclusterIP: 10.96.0.9').replace('name: checkout', 'name: x')}---\n${checkout('ports: [{port: 1}]\nclusterIP: 10.96.0.9').replace('name: checkout', 'name: y')}`,
    });
    expect(lines.map((line) => line.split(':')[0])).toEqual([
      'a.yaml',
      'a.yaml',
      'a.yaml',
      'a.yaml',
      'b.json',
      'c.yaml',
      'd.yaml',
    ]);
  });

  it('carries problems that a program can read', () => {
    try {
      loadObjects([service('a', { ports: [{ port: 'x' }] })], { objectsFile: 'test.yaml' });
      expect.unreachable();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      expect(error.problems).toEqual([
        {
          severity: 'error',
          file: 'test.yaml',
          document: 1,
          object: 'Service shop/a',
          field: 'spec.ports[0].port',
          message: '"x" is text, not a port (1 to 65535)',
          line: undefined,
        },
      ]);
      expect(error.message).toBe('test.yaml: Service shop/a spec.ports[0].port: "x" is text, not a port (1 to 65535)');
    }
    expect(existsSync('test.yaml')).toBe(false);
  });
});
