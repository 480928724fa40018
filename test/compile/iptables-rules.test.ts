/**
 * The rules of single Services, checked by hand against what kube-proxy writes, and the points of FACTS §5 that concern
 * rules.
 */

import { describe, expect, it } from 'vitest';
import type { KernelOptions } from '../../control/src/compile/iptables-kube-proxy.ts';
import { renderIptablesSave } from '../../control/src/compile/iptables-save.ts';
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

type ProxyOptions = Partial<DatapathConfig['kubeProxy']>;

interface Ask {
  readonly parts?: ServiceParts;
  readonly endpoints?: EndpointParts[];
  readonly options?: ProxyOptions;
  readonly node?: string;
  readonly family?: 4 | 6;
  readonly kernel?: KernelOptions;
}

const HASH = 'XPGD46QRK7WJZT7O';
const SEP = 'KUBE-SEP-SXIVWICOYRO3J4NJ';
const NODES = [
  makeNode('node-1', ['192.168.0.1', '2001:db8::1'], { podCIDRs: ['10.180.0.0/24', 'fd00:180::/64'] }),
  makeNode('node-2', ['192.168.0.2', '2001:db8::2'], { podCIDRs: ['10.180.1.0/24'] }),
];
const CIDRS = ['10.0.0.0/8', 'fd00::/16'];

/** Everything that `node` (node-1) has for the Service ns1/svc1 with port p80 and endpoints 10.180.0.1, …:80. */
function save({ parts, endpoints, options, node = 'node-1', family = 4, kernel }: Ask): string {
  const { ports = [{}], ...more } = parts ?? {};
  const service = makeService('ns1/svc1', {
    clusterIPs: ['172.30.0.41', 'fd00:172::41'],
    ports: ports.map((port) => ({ name: 'p80', port: 80, ...port })),
    ...more,
  });
  const prefix = family === 4 ? '10.180.0.' : 'fd00:180::';
  const slice = makeSlice(
    'ns1/svc1',
    ports.map(({ protocol = 'TCP' }) => ({ name: 'p80', port: 80, protocol })),
    (endpoints ?? [{}]).map((endpoint, i) => ({ address: `${prefix}${i + 1}`, ...endpoint })),
    { addressType: family === 4 ? 'IPv4' : 'IPv6' },
  );
  const cluster = makeCluster({ nodes: NODES, services: [service], endpointSlices: [slice] });
  return renderIptablesSave(cluster, kubeProxyConfig({ clusterCIDR: CIDRS, ...options }), node, family, kernel);
}

/** The `-A` lines of some chains of a table, without `-A `. */
function rules(text: string, table: 'nat' | 'filter' | 'mangle', ...chains: string[]): string[] {
  const start = text.indexOf(`*${table}\n`);
  const lines = text.slice(start, text.indexOf('COMMIT', start)).split('\n');
  return lines
    .filter((line) => chains.some((chain) => line.startsWith(`-A ${chain} `)))
    .map((line) => line.slice('-A '.length));
}

/** All rules of the Service's own chains. */
const own = (text: string) =>
  rules(text, 'nat', `KUBE-SVC-${HASH}`, `KUBE-SVL-${HASH}`, `KUBE-EXT-${HASH}`, `KUBE-FW-${HASH}`);
const NODE_PORTS_LAST =
  'KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" ' +
  '-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS';

describe('fixed rules', () => {
  it('stand in the base chains in the order of prepending', () => {
    const text = save({});
    expect(rules(text, 'filter', 'INPUT', 'FORWARD', 'OUTPUT')).toEqual([
      'INPUT -j KUBE-FIREWALL',
      'INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
      'INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
      'INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
      'FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
      'FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
      'FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
      'FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
      'OUTPUT -j KUBE-FIREWALL',
      'OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
      'OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    ]);
    expect(rules(text, 'nat', 'PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING')).toEqual([
      'PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
      'OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
      'POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    ]);
    expect(text.split('\n').filter((line) => line === ':KUBE-PROXY-CANARY - [0:0]')).toHaveLength(3);
  });

  it('mark, unmark and masquerade', () => {
    expect(rules(save({}), 'nat', 'KUBE-MARK-MASQ', 'KUBE-POSTROUTING')).toEqual([
      'KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
      'KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
      'KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0',
      'KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    ]);
  });

  it('drop INVALID packets unless the node is liberal', () => {
    const invalid = 'KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP';
    const others = [
      'KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
      'KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ];
    expect(rules(save({}), 'filter', 'KUBE-FORWARD')).toEqual([invalid, ...others]);
    const liberal = save({ kernel: { tcpBeLiberal: true, nfacct: false } });
    expect(rules(liberal, 'filter', 'KUBE-FORWARD')).toEqual(others);
  });

  it('count by nfacct only where asked', () => {
    expect(save({ parts: { ports: [{ nodePort: 30000 }] } })).not.toContain('nfacct');
    const text = save({ parts: { ports: [{ nodePort: 30000 }] }, kernel: { tcpBeLiberal: false, nfacct: true } });
    expect(rules(text, 'filter', 'KUBE-FORWARD')[0]).toBe(
      'KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP',
    );
    expect(rules(text, 'nat', 'KUBE-NODEPORTS')).toEqual([
      `KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp -m comment --comment "ns1/svc1:p80" -m tcp --dport 30000 -m nfacct --nfacct-name  localhost_nps_accepted_pkts -j KUBE-EXT-${HASH}`,
      `KUBE-NODEPORTS -p tcp -m comment --comment "ns1/svc1:p80" -m tcp --dport 30000 -j KUBE-EXT-${HASH}`,
    ]);
  });
});

describe('a ClusterIP', () => {
  it('goes to its endpoints with equal chances, masqueraded from outside the cluster', () => {
    const text = save({ endpoints: [{}, {}, {}] });
    expect(rules(text, 'nat', 'KUBE-SERVICES')).toEqual([
      `KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-${HASH}`,
      NODE_PORTS_LAST,
    ]);
    const chain = `KUBE-SVC-${HASH}`;
    const [masquerade, first, second, third] = rules(text, 'nat', chain);
    expect(masquerade).toBe(
      `${chain} ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ`,
    );
    expect(first).toBe(
      `${chain} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.33333333349 -j ${SEP}`,
    );
    expect(second).toContain('10.180.0.2:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-');
    expect(third).toMatch(/10\.180\.0\.3:80" -j KUBE-SEP-/);
    expect(rules(text, 'nat', SEP)).toEqual([
      `${SEP} -s 10.180.0.1/32 -m comment --comment "ns1/svc1:p80" -j KUBE-MARK-MASQ`,
      `${SEP} -p tcp -m comment --comment "ns1/svc1:p80" -m tcp -j DNAT --to-destination 10.180.0.1:80`,
    ]);
  });

  it('in IPv6', () => {
    const text = save({ family: 6, parts: { ports: [{ protocol: 'SCTP' }] } });
    const [vip] = rules(text, 'nat', 'KUBE-SERVICES');
    expect(vip).toContain(
      '-d fd00:172::41/128 -p sctp -m comment --comment "ns1/svc1:p80 cluster IP" -m sctp --dport 80',
    );
    expect(text).toContain('-s fd00:180::1/128 ');
    expect(text).toContain(
      '-p sctp -m comment --comment "ns1/svc1:p80" -m sctp -j DNAT --to-destination [fd00:180::1]:80',
    );
    expect(text).toContain('! -s fd00::/16 -d fd00:172::41/128');
  });

  it.each([
    ['masqueradeAll', { masqueradeAll: true }, '-d 172.30.0.41/32'],
    ['masqueradeAll without detector', { masqueradeAll: true, detectLocalMode: 'None' }, '-d 172.30.0.41/32'],
    ['NodeCIDR', { detectLocalMode: 'NodeCIDR' }, '! -s 10.180.0.0/24 -d 172.30.0.41/32'],
    ['BridgeInterface', { detectLocalMode: 'BridgeInterface' }, '-d 172.30.0.41/32 ! -i cni0'],
    ['InterfaceNamePrefix', { detectLocalMode: 'InterfaceNamePrefix' }, '-d 172.30.0.41/32 ! -i veth+'],
  ] satisfies [string, ProxyOptions, string][])('masquerades by %s', (_, options, header) => {
    const [first] = rules(save({ options }), 'nat', `KUBE-SVC-${HASH}`);
    expect(first).toContain(`KUBE-SVC-${HASH} ${header} -p tcp`);
    expect(first).toMatch(/-j KUBE-MARK-MASQ$/);
  });

  it('is masqueraded for hairpins alone without a detector', () => {
    const text = save({ options: { detectLocalMode: 'None' } });
    expect(text.match(/-j KUBE-MARK-MASQ/g)).toHaveLength(1);
    expect(rules(text, 'nat', SEP)[0]).toContain('-s 10.180.0.1/32');
  });

  it('has no detector on a node without a CIDR of the family', () => {
    const options: ProxyOptions = { detectLocalMode: 'NodeCIDR' };
    expect(own(save({ node: 'node-2', options }))).toHaveLength(2);
    expect(own(save({ node: 'node-2', options, family: 6 }))).toHaveLength(1);
  });

  it('uses the first CIDR of a family only', () => {
    const text = save({ options: { clusterCIDR: ['10.1.0.0/16', '10.2.0.0/16'] } });
    expect(text).toContain('! -s 10.1.0.0/16');
    expect(text).not.toContain('10.2.0.0/16');
  });

  it('is rejected with no endpoint anywhere', () => {
    const text = save({ endpoints: [] });
    expect(rules(text, 'nat', 'KUBE-SERVICES')).toEqual([NODE_PORTS_LAST]);
    expect(rules(text, 'filter', 'KUBE-SERVICES')).toEqual([
      'KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    ]);
    expect(rules(save({ endpoints: [], family: 6 }), 'filter', 'KUBE-SERVICES')[0]).toMatch(
      /-j REJECT --reject-with icmp6-port-unreachable$/,
    );
  });

  it('is dropped under internalTrafficPolicy Local with endpoints elsewhere, be it one that drains', () => {
    const draining = { nodeName: 'node-2', conditions: { ready: false, serving: true, terminating: true } };
    for (const endpoints of [[{ nodeName: 'node-2' }], [draining]]) {
      const text = save({ endpoints, parts: { internalTrafficPolicy: 'Local' } });
      expect(rules(text, 'filter', 'KUBE-SERVICES')).toEqual([
        'KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 has no local endpoints" -m tcp --dport 80 -j DROP',
      ]);
      expect(own(text)).toEqual([]);
    }
  });

  it('goes to local endpoints through KUBE-SVL under internalTrafficPolicy Local', () => {
    const text = save({
      endpoints: [{ nodeName: 'node-1' }, { nodeName: 'node-2' }],
      parts: { internalTrafficPolicy: 'Local' },
    });
    expect(rules(text, 'nat', 'KUBE-SERVICES')[0]).toContain(`-j KUBE-SVL-${HASH}`);
    expect(own(text)).toEqual([
      `KUBE-SVL-${HASH} ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ`,
      `KUBE-SVL-${HASH} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -j ${SEP}`,
    ]);
    expect(text).not.toContain('10.180.0.2');
  });

  it('heeds no externalTrafficPolicy', () => {
    const parts: ServiceParts = { type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ nodePort: 30000 }] };
    const text = save({ parts, endpoints: [{ nodeName: 'node-2' }] });
    expect(rules(text, 'nat', 'KUBE-SERVICES')[0]).toContain(`-j KUBE-SVC-${HASH}`);
    expect(rules(text, 'filter', 'KUBE-SERVICES')).toEqual([]);
  });
});

describe('session affinity', () => {
  it('is checked before the choice and noted before the DNAT', () => {
    const text = save({ endpoints: [{}, {}], parts: { sessionAffinity: 'ClientIP' } });
    const chain = `KUBE-SVC-${HASH}`;
    const lines = rules(text, 'nat', chain).slice(1);
    expect(lines[0]).toBe(
      `${chain} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m recent --rcheck --seconds 10800 --reap --name ${SEP} --mask 255.255.255.255 --rsource -j ${SEP}`,
    );
    expect(lines[1]).toContain('10.180.0.2:80" -m recent --rcheck');
    expect(lines[2]).toContain('-m statistic --mode random --probability 0.50000000000');
    expect(rules(text, 'nat', SEP)[1]).toBe(
      `${SEP} -p tcp -m comment --comment "ns1/svc1:p80" -m recent --set --name ${SEP} --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.180.0.1:80`,
    );
  });

  it('takes its timeout from the Service and a full mask in IPv6', () => {
    const sessionAffinityConfig = { clientIP: { timeoutSeconds: 60 } };
    const text = save({ family: 6, parts: { sessionAffinity: 'ClientIP', sessionAffinityConfig } });
    expect(text).toContain('--rcheck --seconds 60 --reap --name KUBE-SEP-');
    expect(text).toContain('--mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource');
  });
});

describe('external addresses', () => {
  const external: ServiceParts = {
    type: 'LoadBalancer',
    ports: [{ nodePort: 30080 }],
    externalIPs: ['203.0.113.1'],
    ingress: [{ ip: '203.0.113.9' }],
  };

  it('go through KUBE-EXT, masqueraded under policy Cluster, pods included', () => {
    const text = save({ parts: external });
    expect(rules(text, 'nat', 'KUBE-SERVICES', 'KUBE-NODEPORTS')).toEqual([
      `KUBE-NODEPORTS -p tcp -m comment --comment "ns1/svc1:p80" -m tcp --dport 30080 -j KUBE-EXT-${HASH}`,
      `KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-${HASH}`,
      `KUBE-SERVICES -d 203.0.113.1/32 -p tcp -m comment --comment "ns1/svc1:p80 external IP" -m tcp --dport 80 -j KUBE-EXT-${HASH}`,
      `KUBE-SERVICES -d 203.0.113.9/32 -p tcp -m comment --comment "ns1/svc1:p80 loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-${HASH}`,
      NODE_PORTS_LAST,
    ]);
    expect(rules(text, 'nat', `KUBE-EXT-${HASH}`)).toEqual([
      `KUBE-EXT-${HASH} -m comment --comment "masquerade traffic for ns1/svc1:p80 external destinations" -j KUBE-MARK-MASQ`,
      `KUBE-EXT-${HASH} -j KUBE-SVC-${HASH}`,
    ]);
    expect(rules(text, 'filter', 'KUBE-EXTERNAL-SERVICES')).toEqual([]);
  });

  const localParts: ServiceParts = { ...external, externalTrafficPolicy: 'Local', healthCheckNodePort: 31000 };
  const shortCuts = [
    `KUBE-EXT-${HASH} -s 10.0.0.0/8 -m comment --comment "pod traffic for ns1/svc1:p80 external destinations" -j KUBE-SVC-${HASH}`,
    `KUBE-EXT-${HASH} -m comment --comment "masquerade LOCAL traffic for ns1/svc1:p80 external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`,
    `KUBE-EXT-${HASH} -m comment --comment "route LOCAL traffic for ns1/svc1:p80 external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-${HASH}`,
  ];

  it('bind traffic from outside alone to local endpoints under policy Local', () => {
    const text = save({ parts: localParts, endpoints: [{ nodeName: 'node-1' }, { nodeName: 'node-2' }] });
    expect(rules(text, 'nat', `KUBE-EXT-${HASH}`)).toEqual([...shortCuts, `KUBE-EXT-${HASH} -j KUBE-SVL-${HASH}`]);
    expect(rules(text, 'nat', `KUBE-SVL-${HASH}`)).toEqual([
      `KUBE-SVL-${HASH} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -j ${SEP}`,
    ]);
    expect(rules(text, 'nat', `KUBE-SVC-${HASH}`)).toHaveLength(3);
  });

  it('keep the short cuts and drop the rest where no endpoint is local', () => {
    const text = save({ parts: localParts, endpoints: [{ nodeName: 'node-2' }] });
    expect(rules(text, 'nat', `KUBE-EXT-${HASH}`)).toEqual(shortCuts);
    const why = '-m comment --comment "ns1/svc1:p80 has no local endpoints"';
    expect(rules(text, 'filter', 'KUBE-EXTERNAL-SERVICES')).toEqual([
      `KUBE-EXTERNAL-SERVICES -d 203.0.113.1/32 -p tcp ${why} -m tcp --dport 80 -j DROP`,
      `KUBE-EXTERNAL-SERVICES -d 203.0.113.9/32 -p tcp ${why} -m tcp --dport 80 -j DROP`,
      `KUBE-EXTERNAL-SERVICES -p tcp ${why} -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP`,
    ]);
    expect(rules(text, 'nat', 'KUBE-NODEPORTS')).toHaveLength(1);
  });

  it('have no short cut for pods without a detector, and masqueradeAll does not touch it', () => {
    const endpoints = [{ nodeName: 'node-1' }];
    const none = save({ parts: localParts, endpoints, options: { detectLocalMode: 'None' } });
    expect(rules(none, 'nat', `KUBE-EXT-${HASH}`)).toEqual([
      ...shortCuts.slice(1),
      `KUBE-EXT-${HASH} -j KUBE-SVL-${HASH}`,
    ]);
    const all = save({ parts: localParts, endpoints, options: { masqueradeAll: true } });
    expect(rules(all, 'nat', `KUBE-EXT-${HASH}`)[0]).toBe(shortCuts[0]);
  });

  it('are rejected with no endpoint anywhere, nodePorts included', () => {
    const text = save({ parts: localParts, endpoints: [] });
    const refused = rules(text, 'filter', 'KUBE-EXTERNAL-SERVICES');
    expect(refused).toHaveLength(3);
    for (const line of refused)
      expect(line).toMatch(/has no endpoints".*-j REJECT --reject-with icmp-port-unreachable$/);
    expect(own(text)).toEqual([]);
    expect(rules(text, 'nat', 'KUBE-NODEPORTS')).toEqual([]);
  });

  it('heed no internalTrafficPolicy', () => {
    const parts: ServiceParts = { ...external, internalTrafficPolicy: 'Local' };
    const text = save({ parts, endpoints: [{ nodeName: 'node-2' }] });
    expect(rules(text, 'nat', `KUBE-EXT-${HASH}`)).toHaveLength(2);
    expect(rules(text, 'filter', 'KUBE-SERVICES')).toHaveLength(1);
    expect(rules(text, 'filter', 'KUBE-EXTERNAL-SERVICES')).toEqual([]);
  });

  it('accept the health check whatever is local, and only under policy Local', () => {
    const accept =
      'KUBE-NODEPORTS -p tcp -m comment --comment "ns1/svc1:p80 health check node port" -m tcp --dport 31000 -j ACCEPT';
    for (const endpoints of [[], [{ nodeName: 'node-2' }]]) {
      const options: ProxyOptions = { nodePortAddresses: ['10.99.0.0/16'] };
      expect(rules(save({ parts: localParts, endpoints, options }), 'filter', 'KUBE-NODEPORTS')).toEqual([accept]);
    }
    const cluster: ServiceParts = { ...localParts, externalTrafficPolicy: 'Cluster' };
    expect(rules(save({ parts: cluster }), 'filter', 'KUBE-NODEPORTS')).toEqual([]);
  });

  it('are not captured with ipMode Proxy', () => {
    const text = save({ parts: { ...external, ingress: [{ ip: '203.0.113.9', ipMode: 'Proxy' }] } });
    expect(text).not.toContain('203.0.113.9');
  });

  it('pass the firewall chain with source ranges, nodePorts and externalIPs past it', () => {
    const text = save({ parts: { ...external, loadBalancerSourceRanges: [' 198.51.100.0/24', '2001:db8::/32'] } });
    expect(rules(text, 'nat', `KUBE-FW-${HASH}`)).toEqual([
      `KUBE-FW-${HASH} -s 198.51.100.0/24 -m comment --comment "ns1/svc1:p80 loadbalancer IP" -j KUBE-EXT-${HASH}`,
      `KUBE-FW-${HASH} -m comment --comment "other traffic to ns1/svc1:p80 will be dropped by KUBE-PROXY-FIREWALL"`,
    ]);
    expect(rules(text, 'filter', 'KUBE-PROXY-FIREWALL')).toEqual([
      `KUBE-PROXY-FIREWALL -d 203.0.113.9/32 -p tcp -m comment --comment "ns1/svc1:p80 traffic not accepted by KUBE-FW-${HASH}" -m tcp --dport 80 -j DROP`,
    ]);
    const jumps = [...rules(text, 'nat', 'KUBE-SERVICES'), ...rules(text, 'nat', 'KUBE-NODEPORTS')];
    expect(jumps.filter((line) => line.endsWith(`-j KUBE-FW-${HASH}`))).toHaveLength(1);
    expect(jumps.filter((line) => line.endsWith(`-j KUBE-EXT-${HASH}`))).toHaveLength(2);
  });

  it('let the balancer address itself in where a range holds the node, and write no match for everybody', () => {
    const text = save({ parts: { ...external, loadBalancerSourceRanges: ['192.168.0.1/32', '0.0.0.0/0'] } });
    const words = '-m comment --comment "ns1/svc1:p80 loadbalancer IP"';
    expect(rules(text, 'nat', `KUBE-FW-${HASH}`).slice(0, 3)).toEqual([
      `KUBE-FW-${HASH} -s 192.168.0.1/32 ${words} -j KUBE-EXT-${HASH}`,
      `KUBE-FW-${HASH} ${words} -j KUBE-EXT-${HASH}`,
      `KUBE-FW-${HASH} -s 203.0.113.9/32 ${words} -j KUBE-EXT-${HASH}`,
    ]);
    const elsewhere = save({ node: 'node-2', parts: { ...external, loadBalancerSourceRanges: ['192.168.0.1/32'] } });
    expect(rules(elsewhere, 'nat', `KUBE-FW-${HASH}`)).toHaveLength(2);
  });

  it('open to everybody in a family that has no source range', () => {
    const text = save({ parts: { ...external, loadBalancerSourceRanges: ['2001:db8::/32'] } });
    expect(text).not.toContain('KUBE-FW-');
  });

  it('are rejected past the firewall chain when there is no endpoint', () => {
    const text = save({ parts: { ...external, loadBalancerSourceRanges: ['198.51.100.0/24'] }, endpoints: [] });
    expect(text).not.toContain('KUBE-FW-');
    expect(rules(text, 'filter', 'KUBE-EXTERNAL-SERVICES')).toHaveLength(3);
  });
});

describe('nodePorts', () => {
  const last = (ask: Ask) => {
    const text = save({ parts: { ports: [{ nodePort: 30000 }] }, ...ask });
    const words =
      '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" ';
    return rules(text, 'nat', 'KUBE-SERVICES')
      .filter((line) => line.includes('NOTE'))
      .map((line) => line.replace(words, ''));
  };
  const hasFirewall = (ask: Ask) => rules(save(ask), 'filter', 'KUBE-FIREWALL').length > 0;
  const localnet =
    'KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP';

  it('listen on every local address, localhost included, and guard it', () => {
    expect(last({})).toEqual(['KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
    expect(rules(save({}), 'filter', 'KUBE-FIREWALL')).toEqual([localnet]);
  });

  it('leave localhost out when told so, and always in IPv6', () => {
    const off: Ask = { options: { localhostNodePorts: false } };
    expect(last(off)).toEqual(['KUBE-SERVICES ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
    expect(hasFirewall(off)).toBe(false);
    expect(last({ family: 6 })).toEqual(['KUBE-SERVICES ! -d ::1/128 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
    expect(hasFirewall({ family: 6 })).toBe(false);
    expect(save({ family: 6 })).toContain('-A INPUT -j KUBE-FIREWALL');
  });

  it('listen on the addresses of nodePortAddresses alone', () => {
    const lan: Ask = { options: { nodePortAddresses: ['192.168.0.0/24'] } };
    expect(last(lan)).toEqual(['KUBE-SERVICES -d 192.168.0.1/32 -j KUBE-NODEPORTS']);
    expect(last({ ...lan, node: 'node-2' })).toEqual(['KUBE-SERVICES -d 192.168.0.2/32 -j KUBE-NODEPORTS']);
    expect(hasFirewall(lan)).toBe(false);
    expect(last({ ...lan, family: 6 })).toEqual([
      'KUBE-SERVICES ! -d ::1/128 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    ]);
    expect(last({ options: { nodePortAddresses: ['10.99.0.0/16'] } })).toEqual([]);
    expect(last({ options: { nodePortAddresses: ['192.168.0.0/24', '0.0.0.0/0'] } })).toHaveLength(1);
  });

  it('listen on loopback where a prefix holds it and localhost nodePorts are on', () => {
    const nodePortAddresses = ['127.0.0.0/8', '192.168.0.0/24', '::1/128'];
    const both = [
      'KUBE-SERVICES -d 127.0.0.1/32 -j KUBE-NODEPORTS',
      'KUBE-SERVICES -d 192.168.0.1/32 -j KUBE-NODEPORTS',
    ];
    expect(last({ options: { nodePortAddresses } })).toEqual(both);
    expect(hasFirewall({ options: { nodePortAddresses } })).toBe(true);
    expect(last({ options: { nodePortAddresses, localhostNodePorts: false } })).toEqual([both[1]]);
    expect(last({ options: { nodePortAddresses }, family: 6 })).toEqual([]);
  });

  it('listen on the primary addresses', () => {
    const options: ProxyOptions = { nodePortAddresses: ['primary'] };
    expect(last({ options })).toEqual(['KUBE-SERVICES -d 192.168.0.1/32 -j KUBE-NODEPORTS']);
    expect(last({ options, family: 6 })).toEqual(['KUBE-SERVICES -d 2001:db8::1/128 -j KUBE-NODEPORTS']);
  });

  it('refuse an address that is not a prefix', () => {
    expect(() => save({ options: { nodePortAddresses: ['eth0'] } })).toThrow(
      "kubeProxy.nodePortAddresses: 'eth0' is not a prefix",
    );
  });
});

describe('a large cluster', () => {
  const withEndpoints = (count: number) =>
    save({ endpoints: Array.from({ length: count }, (_, i) => ({ address: `10.181.${i >> 8}.${i & 255}` })) });

  it('leaves out the comments of endpoint rules from 1,001 endpoints on, and no others', () => {
    expect(withEndpoints(1000)).toContain('--comment "ns1/svc1:p80 -> 10.181.0.0:80"');
    const large = withEndpoints(1001);
    expect(large).not.toContain('->');
    expect(large).not.toContain('--comment "ns1/svc1:p80"');
    expect(large).toContain('--comment "ns1/svc1:p80 cluster IP"');
  });
});
