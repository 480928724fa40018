/**
 * The rules of single Services in nftables, checked by hand against what kube-proxy writes, and the points of FACTS §1.4
 * and §5 that concern them.
 */

import { describe, expect, it } from 'vitest';
import { hashAndTruncate } from '../../control/src/compile/nft-names.ts';
import { renderNft } from '../../control/src/compile/nft-save.ts';
import type { DatapathConfig } from '../../control/src/model/datapath.ts';
import {
  type EndpointParts,
  kubeProxyConfig,
  makeCluster,
  makeNode,
  makeService,
  makeSlice,
  type ServiceParts,
} from './fixture.ts';

interface Ask {
  readonly parts?: ServiceParts;
  readonly endpoints?: EndpointParts[];
  readonly options?: Partial<DatapathConfig['kubeProxy']>;
  readonly family?: 4 | 6;
}

const PORT = 'ULMVA6XW-ns1/svc1/tcp/p80';
const END = '5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80';
const OTHER = hashAndTruncate('ns1/svc1/tcp/p80__10.180.0.2/80');
const NODES = [
  makeNode('node-1', ['192.168.0.1', '192.168.7.1', '2001:db8::1'], { podCIDRs: ['10.180.0.0/24', 'fd00:180::/64'] }),
  makeNode('node-2', ['192.168.0.2'], { podCIDRs: ['10.180.1.0/24'] }),
];

/** What node-1 has for the Service ns1/svc1 with port p80 and endpoints 10.180.0.1, …:80, by the name of the block. */
function blocks({ parts, endpoints, options, family = 4 }: Ask): (name: string) => string[] | null {
  const { ports = [{}], ...more } = parts ?? {};
  const service = makeService('ns1/svc1', {
    clusterIPs: ['172.30.0.41', 'fd00:172::41'],
    ports: ports.map((port) => ({ name: 'p80', port: 80, ...port })),
    ...more,
  });
  const slice = makeSlice(
    'ns1/svc1',
    ports.map(({ protocol = 'TCP' }) => ({ name: 'p80', port: 80, protocol })),
    (endpoints ?? [{}]).map((own, i) => ({ address: `${family === 4 ? '10.180.0.' : 'fd00:180::'}${i + 1}`, ...own })),
    { addressType: family === 4 ? 'IPv4' : 'IPv6' },
  );
  const cluster = makeCluster({ nodes: NODES, services: [service], endpointSlices: [slice] });
  const text = renderNft(cluster, kubeProxyConfig({ clusterCIDR: ['10.0.0.0/8', 'fd00::/16'], ...options }), 'node-1');
  const start = text.indexOf(family === 4 ? 'table ip kube-proxy' : 'table ip6 kube-proxy');
  const end = text.indexOf('\n}\n', start);
  const found = new Map<string, string[]>();
  for (const block of text.slice(start, end).split('\n\n')) {
    const lines = block.split('\n').filter((line) => line.startsWith('\t'));
    const head = lines.findIndex((line) => line.endsWith('{') && !line.startsWith('\t\t'));
    const name = lines[head]!.trim().split(' ')[1]!;
    found.set(
      name,
      lines.slice(head + 1, -1).map((line) => line.trim()),
    );
  }
  return (name) => found.get(name) ?? null;
}

/** Elements of a set, without its other lines. */
function elements(lines: string[] | null): string[] {
  const at = lines!.findIndex((line) => line.startsWith('elements = '));
  if (at < 0) return [];
  return lines!.slice(at).map((line) => line.replace('elements = { ', '').replace(/( \}|,)$/, ''));
}

const LOCAL = 'fib saddr type local';
const ON_NODE_1 = [{ nodeName: 'node-1' }];
const BALANCED: ServiceParts = { type: 'LoadBalancer', ingress: [{ ip: '1.2.3.4' }], ports: [{ nodePort: 30001 }] };

describe('names', () => {
  it.each([
    ['ns1/svc1/tcp/p80', PORT],
    ['ns1/svc1/tcp/p80__10.180.0.1/80', END],
  ])('of %s carry the hash that kube-proxy gives them', (name, base) => {
    expect(hashAndTruncate(name)).toBe(base);
  });

  it('are cut to 240 characters', () => {
    const base = hashAndTruncate('n'.repeat(300));
    expect(base).toHaveLength(240);
    expect(base.endsWith('n...')).toBe(true);
    expect(hashAndTruncate('n'.repeat(231))).toHaveLength(240);
    expect(hashAndTruncate('n'.repeat(231)).endsWith('...')).toBe(false);
  });

  it('write IPv6 addresses with dots', () => {
    const of = blocks({ family: 6 });
    const [chain] = of(`service-${PORT}`)!.slice(-1);
    expect(chain).toMatch(/ vmap \{ 0 : goto endpoint-[A-Z2-7]{8}-ns1\/svc1\/tcp\/p80__fd00\.180\.\.1\/80 \}$/);
  });
});

describe('fixed chains', () => {
  it('stand at the hooks with numeric priorities', () => {
    const of = blocks({});
    expect(of('filter-prerouting')).toEqual([
      'type filter hook prerouting priority -110; policy accept;',
      'ct state new jump firewall-check',
    ]);
    expect(of('filter-input')).toEqual([
      'type filter hook input priority -110; policy accept;',
      'ct state new jump nodeport-endpoints-check',
      'ct state new jump service-endpoints-check',
    ]);
    expect(of('filter-forward')).toEqual([
      'type filter hook forward priority -110; policy accept;',
      'ct state new jump service-endpoints-check',
      'ct state new jump cluster-ips-check',
    ]);
    expect(of('filter-output')).toEqual([
      'type filter hook output priority -110; policy accept;',
      'ct state new jump firewall-check',
    ]);
    expect(of('filter-output-post-dnat')).toEqual([
      'type filter hook output priority -90; policy accept;',
      'ct state new jump service-endpoints-check',
      'ct state new jump cluster-ips-check',
    ]);
    expect(of('nat-prerouting')).toEqual(['type nat hook prerouting priority -100; policy accept;', 'jump services']);
    expect(of('nat-output')).toEqual(['type nat hook output priority -100; policy accept;', 'jump services']);
    expect(of('nat-postrouting')).toEqual([
      'type nat hook postrouting priority 100; policy accept;',
      'jump masquerading',
    ]);
  });

  it('look up, mark, masquerade and reject', () => {
    const of = blocks({});
    expect(of('services')).toEqual([
      'ip daddr . meta l4proto . th dport vmap @service-ips',
      'ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports',
    ]);
    expect(of('service-endpoints-check')).toEqual(['ip daddr . meta l4proto . th dport vmap @no-endpoint-services']);
    expect(of('nodeport-endpoints-check')).toEqual([
      'ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports',
    ]);
    expect(of('firewall-check')).toEqual(['ip daddr . meta l4proto . th dport vmap @firewall-ips']);
    expect(of('mark-for-masquerade')).toEqual(['meta mark set meta mark | 0x00004000']);
    expect(of('masquerading')).toEqual([
      'meta mark & 0x00004000 == 0x00000000 return',
      'meta mark set meta mark ^ 0x00004000',
      'masquerade fully-random',
    ]);
    expect(of('reject-chain')).toEqual([
      'comment "helper for @no-endpoint-services / @no-endpoint-nodeports"',
      'reject',
    ]);
    expect(of('service-ips')!.slice(0, 2)).toEqual([
      'type ipv4_addr . inet_proto . inet_service : verdict',
      'comment "ClusterIP, ExternalIP and LoadBalancer IP traffic"',
    ]);
  });

  it('drop no INVALID packet and open no hole', () => {
    const text = renderNft(makeCluster({}), kubeProxyConfig(), 'node-1');
    expect(text).not.toContain('ct state invalid');
    expect(text).not.toMatch(/^\t\t.*\baccept$/m);
  });

  it('reject unserved ports of live ClusterIPs and drop what the service ranges do not give out', () => {
    const rejects = 'ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"';
    const drops = (set: string) => `ip daddr ${set} drop comment "Drop traffic to unallocated ClusterIPs"`;
    expect(blocks({})('cluster-ips-check')).toEqual([rejects, drops('10.96.0.0/12')]);
    expect(blocks({ options: { serviceCIDRs: ['fd00:10:96::/112'] } })('cluster-ips-check')).toEqual([rejects]);
    expect(blocks({ options: { serviceCIDRs: [] } })('cluster-ips-check')).toEqual([rejects]);
    const two = blocks({ options: { serviceCIDRs: ['172.30.0.0/16', '10.96.0.0/12'] } });
    expect(two('cluster-ips-check')).toEqual([rejects, drops('{ 10.96.0.0/12, 172.30.0.0/16 }')]);
    expect(elements(two('cluster-ips'))).toEqual(['172.30.0.41']);
  });

  it('listen with nodePorts on primary addresses, on those of prefixes, or everywhere; on loopback never', () => {
    const listens = (nodePortAddresses: string[], family: 4 | 6 = 4): string[] => {
      const of = blocks({ options: { nodePortAddresses }, family });
      return of('nodeport-ips') === null ? of('services')!.slice(1) : elements(of('nodeport-ips'));
    };
    expect(listens([])).toEqual(['192.168.0.1']);
    expect(listens([], 6)).toEqual(['2001:db8::1']);
    expect(listens(['primary'])).toEqual(['192.168.0.1']);
    expect(listens(['192.168.0.0/16'])).toEqual(['192.168.0.1', '192.168.7.1']);
    expect(listens(['127.0.0.0/8'])).toEqual([]);
    expect(listens(['192.168.0.1/32'], 6)).toEqual([
      'fib daddr type local ip6 daddr != ::1 meta l4proto . th dport vmap @service-nodeports',
    ]);
    expect(listens(['0.0.0.0/0'])).toEqual([
      'fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports',
    ]);
    expect(blocks({ options: { nodePortAddresses: ['0.0.0.0/0'] } })('nodeport-endpoints-check')).toEqual([
      'ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports',
    ]);
  });
});

describe('a Service', () => {
  it('sends its ClusterIP to a chain that balances over its endpoints', () => {
    const of = blocks({ endpoints: [{}, {}] });
    expect(elements(of('service-ips'))).toEqual([`172.30.0.41 . tcp . 80 : goto service-${PORT}`]);
    expect(of(`service-${PORT}`)).toEqual([
      'ip daddr 172.30.0.41 ip saddr != 10.0.0.0/8 jump mark-for-masquerade',
      `numgen random mod 2 vmap { 0 : goto endpoint-${END}, 1 : goto endpoint-${OTHER} }`,
    ]);
    expect(of(`endpoint-${END}`)).toEqual([
      'ip saddr 10.180.0.1 jump mark-for-masquerade',
      'meta l4proto tcp dnat to 10.180.0.1:80',
    ]);
    expect(of(`external-${PORT}`)).toBeNull();
  });

  it('writes IPv6 in its own table', () => {
    const of = blocks({ family: 6, parts: { ports: [{ protocol: 'SCTP' }] } });
    const [key] = elements(of('service-ips'));
    expect(key).toMatch(/^fd00:172::41 \. sctp \. 80 : goto service-[A-Z2-7]{8}-ns1\/svc1\/sctp\/p80$/);
    expect(of('reject-chain')!.at(-1)).toBe('reject');
    const chain = /goto (endpoint-\S+) \}/.exec(of(key!.split('goto ')[1]!)!.at(-1)!)![1]!;
    expect(of(chain)).toEqual([
      'ip6 saddr fd00:180::1 jump mark-for-masquerade',
      'meta l4proto sctp dnat to [fd00:180::1]:80',
    ]);
  });

  it.each([
    ['masqueradeAll', { masqueradeAll: true }, ['ip daddr 172.30.0.41 jump mark-for-masquerade']],
    ['None', { detectLocalMode: 'None' }, []],
    [
      'NodeCIDR',
      { detectLocalMode: 'NodeCIDR' },
      ['ip daddr 172.30.0.41 ip saddr != 10.180.0.0/24 jump mark-for-masquerade'],
    ],
    [
      'BridgeInterface',
      { detectLocalMode: 'BridgeInterface', bridgeInterface: 'br0' },
      ['ip daddr 172.30.0.41 iifname != "br0" jump mark-for-masquerade'],
    ],
    [
      'InterfaceNamePrefix',
      { detectLocalMode: 'InterfaceNamePrefix', interfaceNamePrefix: 'azv' },
      ['ip daddr 172.30.0.41 iifname != "azv*" jump mark-for-masquerade'],
    ],
  ] as const)('masquerades ClusterIP traffic by %s', (_, options, rules) => {
    expect(blocks({ options })(`service-${PORT}`)!.slice(0, -1)).toEqual(rules);
  });

  it('masquerades all external traffic of policy Cluster', () => {
    const of = blocks({ parts: { ...BALANCED, externalIPs: ['5.6.7.8'] } });
    expect(of(`external-${PORT}`)).toEqual(['jump mark-for-masquerade', `goto service-${PORT}`]);
    expect(elements(of('service-ips'))).toEqual([
      `172.30.0.41 . tcp . 80 : goto service-${PORT}`,
      `5.6.7.8 . tcp . 80 : goto external-${PORT}`,
      `1.2.3.4 . tcp . 80 : goto external-${PORT}`,
    ]);
    expect(elements(of('service-nodeports'))).toEqual([`tcp . 30001 : goto external-${PORT}`]);
  });

  it('lets pods and the node itself take the short cut of policy Local', () => {
    const of = blocks({ parts: { ...BALANCED, externalTrafficPolicy: 'Local' }, endpoints: ON_NODE_1 });
    const shortCut = [
      `ip saddr 10.0.0.0/8 goto service-${PORT} comment "short-circuit pod traffic"`,
      `${LOCAL} jump mark-for-masquerade comment "masquerade local traffic"`,
      `${LOCAL} goto service-${PORT} comment "short-circuit local traffic"`,
    ];
    expect(of(`external-${PORT}`)).toEqual([...shortCut, `goto local-${PORT}`]);
    expect(of(`local-${PORT}`)).toEqual([`numgen random mod 1 vmap { 0 : goto endpoint-${END} }`]);
    const remote = blocks({
      parts: { ...BALANCED, externalTrafficPolicy: 'Local', healthCheckNodePort: 32000 },
      endpoints: [{ nodeName: 'node-2' }],
    });
    expect(remote(`external-${PORT}`)).toEqual(shortCut);
    expect(remote(`local-${PORT}`)).toBeNull();
    expect(elements(remote('no-endpoint-services'))).toEqual(['1.2.3.4 . tcp . 80 comment "ns1/svc1:p80" : drop']);
    expect(elements(remote('no-endpoint-nodeports'))).toEqual(['tcp . 30001 comment "ns1/svc1:p80" : drop']);
    expect(elements(remote('service-ips'))).toHaveLength(2);
    const blind = blocks({
      parts: { ...BALANCED, externalTrafficPolicy: 'Local' },
      endpoints: ON_NODE_1,
      options: { detectLocalMode: 'None' },
    });
    expect(blind(`external-${PORT}`)).toEqual([...shortCut.slice(1), `goto local-${PORT}`]);
  });

  it('drops its ClusterIP where internalTrafficPolicy Local finds nobody', () => {
    const of = blocks({ parts: { internalTrafficPolicy: 'Local' }, endpoints: [{ nodeName: 'node-2' }] });
    expect(elements(of('service-ips'))).toEqual([]);
    expect(elements(of('no-endpoint-services'))).toEqual(['172.30.0.41 . tcp . 80 comment "ns1/svc1:p80" : drop']);
    expect(elements(of('cluster-ips'))).toEqual(['172.30.0.41']);
  });

  it('rejects everything without an endpoint', () => {
    const of = blocks({ parts: { ...BALANCED, externalIPs: ['5.6.7.8'] }, endpoints: [] });
    const rejected = (key: string) => `${key} comment "ns1/svc1:p80" : goto reject-chain`;
    expect(elements(of('no-endpoint-services'))).toEqual([
      rejected('172.30.0.41 . tcp . 80'),
      rejected('5.6.7.8 . tcp . 80'),
      rejected('1.2.3.4 . tcp . 80'),
    ]);
    expect(elements(of('no-endpoint-nodeports'))).toEqual([rejected('tcp . 30001')]);
    expect(elements(of('service-ips'))).toEqual([]);
    expect(of(`external-${PORT}`)).toBeNull();
    expect(of(`service-${PORT}`)).toBeNull();
  });

  it('drops who is not in its source ranges, before any translation, whether it has endpoints or not', () => {
    const guarded = (loadBalancerSourceRanges: string[], endpoints: EndpointParts[] = [{}]): string[] | null => {
      const of = blocks({ parts: { ...BALANCED, loadBalancerSourceRanges }, endpoints });
      expect(elements(of('firewall-ips'))).toEqual(
        of(`firewall-${PORT}`) === null ? [] : [`1.2.3.4 . tcp . 80 : goto firewall-${PORT}`],
      );
      return of(`firewall-${PORT}`);
    };
    expect(guarded([' 203.0.113.0/25'])).toEqual(['ip saddr != 203.0.113.0/25 drop']);
    expect(guarded(['203.0.113.0/25'], [])).toEqual(['ip saddr != 203.0.113.0/25 drop']);
    // A node in range speaks from the balancer's own address too.
    expect(guarded(['203.0.113.0/25', '192.168.0.0/24'])).toEqual([
      'ip saddr != { 1.2.3.4, 192.168.0.0/24, 203.0.113.0/25 } drop',
    ]);
    // nft merges what touches.
    expect(guarded(['203.0.113.0/25', '203.0.113.128/26'])).toEqual(['ip saddr != 203.0.113.0-203.0.113.191 drop']);
    expect(guarded(['2001:db8::/32'])).toBeNull();
    const proxied = blocks({
      parts: { ...BALANCED, ingress: [{ ip: '1.2.3.4', ipMode: 'Proxy' }], loadBalancerSourceRanges: ['10.0.0.0/8'] },
    });
    expect(proxied(`firewall-${PORT}`)).toBeNull();
    expect(elements(proxied('service-ips'))).toHaveLength(1);
  });

  it('keeps clients with their endpoint by dynamic sets', () => {
    const of = blocks({
      parts: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } } },
    });
    expect(of(`affinity-${END}`)).toEqual(['type ipv4_addr', 'size 65535', 'flags dynamic,timeout', 'timeout 3h']);
    expect(of(`service-${PORT}`)!.slice(1)).toEqual([
      `ip saddr @affinity-${END} goto endpoint-${END}`,
      `numgen random mod 1 vmap { 0 : goto endpoint-${END} }`,
    ]);
    expect(of(`endpoint-${END}`)).toEqual([
      'ip saddr 10.180.0.1 jump mark-for-masquerade',
      `update @affinity-${END} { ip saddr }`,
      'meta l4proto tcp dnat to 10.180.0.1:80',
    ]);
  });

  it('that claims an address after another does not get it', () => {
    const shared = { clusterIPs: ['10.96.0.1'], externalIPs: ['5.6.7.8'], ports: [{ name: 'p' }] };
    const cluster = makeCluster({
      services: [makeService('a/one', shared), makeService('b/two', { ...shared, clusterIPs: ['10.96.0.2'] })],
      endpointSlices: ['a/one', 'b/two'].map((path) =>
        makeSlice(path, [{ name: 'p', port: 80 }], [{ address: '10.180.0.1' }]),
      ),
    });
    const text = renderNft(cluster, kubeProxyConfig(), 'node-1');
    expect(text).toMatch(/5\.6\.7\.8 \. tcp \. 80 : goto external-[A-Z2-7]{8}-a\/one\/tcp\/p/);
    expect(text).not.toMatch(/5\.6\.7\.8 \. tcp \. 80 : goto external-[A-Z2-7]{8}-b\/two/);
  });
});
