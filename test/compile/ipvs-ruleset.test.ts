/** What kube-proxy in ipvs mode programs: virtual servers, ipsets, rules, against its documented behaviour. */

import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { ruleOrigins } from '../../control/src/compile/iptables-rules.ts';
import { KubeProxyIpvs } from '../../control/src/compile/ipvs-kube-proxy.ts';
import { renderIpset, renderIpvsadm, renderIpvsIptables } from '../../control/src/compile/ipvs-render.ts';
import type { IpvsRuleset } from '../../control/src/compile/ipvs-ruleset.ts';
import { KUBE_SETS, type KubeSet, setName } from '../../control/src/compile/ipvs-sets.ts';
import type { Family } from '../../control/src/model/address.ts';
import type { DatapathConfig } from '../../control/src/model/datapath.ts';
import { describeOrigin } from '../../control/src/model/origin.ts';
import { kubeProxyConfig, makeCluster, makeNode, makeService, makeSlice, type ServiceParts } from './fixture.ts';

const NODES = [
  makeNode('node-1', ['192.168.0.1', '198.51.100.1', 'fd00:168::1'], {
    podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64'],
  }),
  makeNode('node-2', ['192.168.0.2', 'fd00:168::2'], { podCIDRs: ['10.244.2.0/24', 'fd00:10:244:2::/64'] }),
];

/** One Service `ns1/svc1` with a local endpoint and a remote one, as node-1 sees it. */
function clusterOf(parts: ServiceParts, endpoints: Parameters<typeof makeSlice>[2] = BOTH): Cluster {
  return makeCluster({
    nodes: NODES,
    services: [makeService('ns1/svc1', { clusterIPs: ['10.96.0.41'], ports: [{ name: 'p80' }], ...parts })],
    endpointSlices: [makeSlice('ns1/svc1', [{ name: 'p80', port: 8080 }], endpoints)],
  });
}

const HERE = { address: '10.244.1.1', nodeName: 'node-1' };
const THERE = { address: '10.244.2.1', nodeName: 'node-2' };
const BOTH = [HERE, THERE];
const EXTERNAL: ServiceParts = {
  type: 'LoadBalancer',
  ports: [{ name: 'p80', nodePort: 30_080 }],
  externalIPs: ['203.0.113.1'],
  ingress: [{ ip: '203.0.113.9' }],
};

function rulesetOf(
  cluster: Cluster,
  config: DatapathConfig = kubeProxyConfig(),
  node = 0,
  family: Family = 4,
): IpvsRuleset {
  return new KubeProxyIpvs(cluster, config, family).nodeRuleset(cluster.nodes[node]!);
}

/** `add` lines of a set without the command. */
function elementsOf(
  cluster: Cluster,
  set: string,
  config: DatapathConfig = kubeProxyConfig(),
  node = 'node-1',
): string[] {
  const start = `add ${set} `;
  return renderIpset(cluster, config, node)
    .split('\n')
    .filter((line) => line.startsWith(start))
    .map((line) => line.slice(start.length));
}

/** Real servers by virtual server, from the text. */
function serversOf(
  cluster: Cluster,
  config: DatapathConfig = kubeProxyConfig(),
  node = 'node-1',
): Record<string, string[]> {
  const servers: Record<string, string[]> = {};
  for (const line of renderIpvsadm(cluster, config, node).split('\n')) {
    const [command, option, address, ...rest] = line.split(' ');
    if (command === '-A') servers[`${option} ${address}`] = [];
    else if (command === '-a') servers[`${option} ${address}`]!.push(rest[1]!);
  }
  return servers;
}

function chainOf(
  cluster: Cluster,
  chain: string,
  config: DatapathConfig = kubeProxyConfig(),
  family: Family = 4,
): string[] {
  return renderIpvsIptables(cluster, config, 'node-1', family)
    .split('\n')
    .filter((line) => line.startsWith(`-A ${chain} `))
    .map((line) => line.slice(`-A ${chain} `.length).replace(/-m comment --comment "[^"]*" /, ''));
}

describe('names of the ipsets (FACTS §1.3)', () => {
  it('carry KUBE-6- in IPv6 and at most 31 characters', () => {
    expect(setName('KUBE-CLUSTER-IP', 4)).toBe('KUBE-CLUSTER-IP');
    expect(setName('KUBE-CLUSTER-IP', 6)).toBe('KUBE-6-CLUSTER-IP');
    expect(setName('KUBE-LOAD-BALANCER-SOURCE-CIDR', 6)).toBe('KUBE-6-LOAD-BALANCER-SOURCE-CID');
    expect(setName('KUBE-NODE-PORT-LOCAL-SCTP-HASH', 6)).toBe('KUBE-6-NODE-PORT-LOCAL-SCTP-HAS');
  });

  it('are different in every family', () => {
    const names = (Object.keys(KUBE_SETS) as KubeSet[]).flatMap((set) => [setName(set, 4), setName(set, 6)]);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => name.length <= 31)).toBe(true);
  });

  it('stand on every node, empty or not', () => {
    expect(rulesetOf(makeCluster({ nodes: NODES })).sets.map(({ name }) => name)).toEqual(Object.keys(KUBE_SETS));
  });
});

describe('virtual servers', () => {
  it('are one for each address and port of a Service', () => {
    expect(serversOf(clusterOf(EXTERNAL))).toEqual({
      '-t 10.96.0.41:80': ['10.244.1.1:8080', '10.244.2.1:8080'],
      '-t 203.0.113.1:80': ['10.244.1.1:8080', '10.244.2.1:8080'],
      '-t 203.0.113.9:80': ['10.244.1.1:8080', '10.244.2.1:8080'],
      '-t 192.168.0.1:30080': ['10.244.1.1:8080', '10.244.2.1:8080'],
      '-t 198.51.100.1:30080': ['10.244.1.1:8080', '10.244.2.1:8080'],
    });
  });

  it('have the scheduler, persistence and weights that ipvsadm-restore reads', () => {
    const cluster = clusterOf({
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
      ports: [
        { name: 'p80' },
        { name: 'dns', protocol: 'UDP', port: 53 },
        { name: 'sig', protocol: 'SCTP', port: 2905 },
      ],
    });
    expect(renderIpvsadm(cluster, kubeProxyConfig({ ipvsScheduler: 'mh' }), 'node-1').split('\n')).toEqual([
      '-A -t 10.96.0.41:80 -s mh -p 60 -b mh-port',
      '-a -t 10.96.0.41:80 -r 10.244.1.1:8080 -m -w 1',
      '-a -t 10.96.0.41:80 -r 10.244.2.1:8080 -m -w 1',
      '-A -u 10.96.0.41:53 -s mh -p 60 -b mh-port',
      '-A --sctp-service 10.96.0.41:2905 -s mh -p 60 -b mh-port',
      '',
    ]);
  });

  it('hold both families', () => {
    const cluster = makeCluster({
      nodes: NODES,
      services: [makeService('ns1/svc1', { clusterIPs: ['10.96.0.41', 'fd00:10:96::41'], ports: [{ name: 'p80' }] })],
      endpointSlices: [
        makeSlice('ns1/svc1', [{ name: 'p80', port: 8080 }], BOTH),
        makeSlice('ns1/svc1', [{ name: 'p80', port: 8080 }], [{ address: 'fd00:10:244:1::1' }], {
          addressType: 'IPv6',
          name: 'six',
        }),
      ],
    });
    expect(serversOf(cluster)).toEqual({
      '-t 10.96.0.41:80': ['10.244.1.1:8080', '10.244.2.1:8080'],
      '-t [fd00:10:96::41]:80': ['[fd00:10:244:1::1]:8080'],
    });
  });

  it('stay without endpoints, one a node address (FACTS §5.14)', () => {
    expect(serversOf(clusterOf(EXTERNAL, []))).toEqual({
      '-t 10.96.0.41:80': [],
      '-t 203.0.113.1:80': [],
      '-t 203.0.113.9:80': [],
      '-t 192.168.0.1:30080': [],
      '-t 198.51.100.1:30080': [],
    });
  });

  it('follow the policy of their address, and fall back to remote endpoints (FACTS §5.14, kubernetes#97081)', () => {
    const local = { ...EXTERNAL, externalTrafficPolicy: 'Local' as const };
    expect(serversOf(clusterOf(local))).toMatchObject({
      '-t 10.96.0.41:80': ['10.244.1.1:8080', '10.244.2.1:8080'],
      '-t 203.0.113.1:80': ['10.244.1.1:8080'],
      '-t 203.0.113.9:80': ['10.244.1.1:8080'],
      '-t 192.168.0.1:30080': ['10.244.1.1:8080'],
    });
    expect(serversOf(clusterOf(local, [THERE]))).toMatchObject({
      '-t 10.96.0.41:80': ['10.244.2.1:8080'],
      '-t 203.0.113.1:80': ['10.244.2.1:8080'],
      '-t 192.168.0.1:30080': ['10.244.2.1:8080'],
    });
    const internal = { ...EXTERNAL, internalTrafficPolicy: 'Local' as const };
    expect(serversOf(clusterOf(internal))['-t 10.96.0.41:80']).toEqual(['10.244.1.1:8080']);
    expect(serversOf(clusterOf(internal, [THERE]))['-t 10.96.0.41:80']).toEqual(['10.244.2.1:8080']);
  });

  it('have nothing to fall back to where no traffic goes by policy Cluster (kubernetes pkg/proxy/topology.go)', () => {
    const internal: ServiceParts = { internalTrafficPolicy: 'Local' };
    expect(serversOf(clusterOf(internal, [THERE]))).toEqual({ '-t 10.96.0.41:80': [] });
  });

  it('use terminating endpoints when nothing is ready, by list (FACTS §1.2)', () => {
    const draining = { conditions: { ready: false, serving: true, terminating: true } };
    const local = { ...EXTERNAL, externalTrafficPolicy: 'Local' as const };
    const servers = serversOf(clusterOf(local, [{ ...HERE, ...draining }, THERE]));
    expect(servers['-t 10.96.0.41:80']).toEqual(['10.244.2.1:8080']);
    expect(servers['-t 203.0.113.1:80']).toEqual(['10.244.1.1:8080']);
  });

  it('listen for nodePorts on the addresses of nodePortAddresses, never on loopback (FACTS §1.4)', () => {
    const ports = (nodePortAddresses: string[]): string[] =>
      Object.keys(serversOf(clusterOf(EXTERNAL), kubeProxyConfig({ nodePortAddresses }))).filter((name) =>
        name.endsWith(':30080'),
      );
    expect(ports([])).toEqual(['-t 192.168.0.1:30080', '-t 198.51.100.1:30080']);
    expect(ports(['primary'])).toEqual(['-t 192.168.0.1:30080']);
    expect(ports(['198.51.100.0/24', '127.0.0.0/8'])).toEqual(['-t 198.51.100.1:30080']);
    expect(ports(['0.0.0.0/0'])).toEqual(['-t 192.168.0.1:30080', '-t 198.51.100.1:30080']);
    expect(ports(['127.0.0.0/8'])).toEqual([]);
  });

  it('of two Services with one address and port are the first by name', () => {
    const cluster = makeCluster({
      nodes: NODES,
      services: ['ns1/a', 'ns1/b'].map((path, i) =>
        makeService(path, { clusterIPs: [`10.96.0.${i + 1}`], ports: [{ name: 'p80' }], externalIPs: ['203.0.113.1'] }),
      ),
      endpointSlices: ['ns1/a', 'ns1/b'].map((path, i) =>
        makeSlice(path, [{ name: 'p80', port: 8080 + i }], [{ address: `10.244.1.${i + 1}` }]),
      ),
    });
    expect(serversOf(cluster)['-t 203.0.113.1:80']).toEqual(['10.244.1.1:8080']);
    expect(elementsOf(cluster, 'KUBE-EXTERNAL-IP')).toEqual(['203.0.113.1,tcp:80']);
  });

  it('say where they come from', () => {
    const { virtualServers } = rulesetOf(clusterOf({ ...EXTERNAL, sessionAffinity: 'ClientIP' }));
    const fields = virtualServers.map(({ sources }) =>
      sources.map((source) => ('object' in source ? source.field : 'option' in source ? source.option : '')),
    );
    expect(fields[0]).toEqual([
      'spec.clusterIP',
      'spec.ports[0].port',
      'spec.sessionAffinity',
      'kubeProxy.ipvsScheduler',
    ]);
    expect(fields[2]![0]).toBe('status.loadBalancer.ingress[0].ip');
    expect(fields[3]![0]).toBe('spec.ports[0].nodePort');
  });

  it('are refused with a scheduler that the kernel does not have', () => {
    expect(() => rulesetOf(clusterOf({}), kubeProxyConfig({ ipvsScheduler: 'random' }))).toThrow(
      "kubeProxy.ipvsScheduler: 'random' is not one of rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh, fo, ovf",
    );
  });
});

describe('ipsets', () => {
  it('hold what a Service has, by kind and policy', () => {
    const local = clusterOf({ ...EXTERNAL, externalTrafficPolicy: 'Local', healthCheckNodePort: 31_000 });
    expect(elementsOf(local, 'KUBE-CLUSTER-IP')).toEqual(['10.96.0.41,tcp:80']);
    expect(elementsOf(local, 'KUBE-EXTERNAL-IP')).toEqual([]);
    expect(elementsOf(local, 'KUBE-EXTERNAL-IP-LOCAL')).toEqual(['203.0.113.1,tcp:80']);
    expect(elementsOf(local, 'KUBE-LOAD-BALANCER')).toEqual(['203.0.113.9,tcp:80']);
    expect(elementsOf(local, 'KUBE-LOAD-BALANCER-LOCAL')).toEqual(['203.0.113.9,tcp:80']);
    expect(elementsOf(local, 'KUBE-NODE-PORT-TCP')).toEqual(['30080']);
    expect(elementsOf(local, 'KUBE-NODE-PORT-LOCAL-TCP')).toEqual(['30080']);
    expect(elementsOf(local, 'KUBE-HEALTH-CHECK-NODE-PORT')).toEqual(['31000']);
    const everywhere = clusterOf(EXTERNAL);
    expect(elementsOf(everywhere, 'KUBE-EXTERNAL-IP')).toEqual(['203.0.113.1,tcp:80']);
    expect(elementsOf(everywhere, 'KUBE-EXTERNAL-IP-LOCAL')).toEqual([]);
    expect(elementsOf(everywhere, 'KUBE-LOAD-BALANCER-LOCAL')).toEqual([]);
    expect(elementsOf(everywhere, 'KUBE-NODE-PORT-LOCAL-TCP')).toEqual([]);
  });

  it('name SCTP nodePorts with the addresses they listen on', () => {
    const cluster = clusterOf({
      type: 'NodePort',
      ports: [{ name: 'p80', protocol: 'SCTP', nodePort: 30_080 }],
      externalTrafficPolicy: 'Local',
    });
    const wanted = ['192.168.0.1,sctp:30080', '198.51.100.1,sctp:30080'];
    expect(elementsOf(cluster, 'KUBE-NODE-PORT-SCTP-HASH')).toEqual(wanted);
    expect(elementsOf(cluster, 'KUBE-NODE-PORT-LOCAL-SCTP-HASH')).toEqual(wanted);
  });

  it('hold every endpoint of the node for hairpins, whatever its state (kubernetes#53775, #134884)', () => {
    const cluster = clusterOf({}, [
      HERE,
      THERE,
      { address: '10.244.1.2', nodeName: 'node-1', conditions: { ready: false } },
      { address: '10.244.1.3' },
    ]);
    expect(elementsOf(cluster, 'KUBE-LOOP-BACK')).toEqual([
      '10.244.1.1,tcp:8080,10.244.1.1',
      '10.244.1.2,tcp:8080,10.244.1.2',
    ]);
    expect(elementsOf(cluster, 'KUBE-LOOP-BACK', kubeProxyConfig(), 'node-2')).toEqual([
      '10.244.2.1,tcp:8080,10.244.2.1',
    ]);
  });

  it('list what kube-ipvs0 holds: no address that the node has elsewhere', () => {
    const cluster = clusterOf({ ...EXTERNAL, externalIPs: ['203.0.113.1', '198.51.100.1', '192.168.0.2'] });
    const bound = ['10.96.0.41', '203.0.113.1', '192.168.0.2', '203.0.113.9'];
    expect(elementsOf(cluster, 'KUBE-IPVS-IPS')).toEqual(bound);
    expect(rulesetOf(cluster).boundAddresses.map(({ text }) => text)).toEqual(bound);
    expect(elementsOf(cluster, 'KUBE-IPVS-IPS', kubeProxyConfig(), 'node-2')).toEqual([
      '10.96.0.41',
      '203.0.113.1',
      '198.51.100.1',
      '203.0.113.9',
    ]);
  });

  it('hold source ranges, and the balancer itself where the node is in range', () => {
    const ranges = (loadBalancerSourceRanges: string[]): Cluster =>
      clusterOf({ ...EXTERNAL, loadBalancerSourceRanges });
    const other = ranges(['192.0.2.0/24', ' 192.0.2.9/32', '2001:db8::/32']);
    expect(elementsOf(other, 'KUBE-LOAD-BALANCER-FW')).toEqual(['203.0.113.9,tcp:80']);
    expect(elementsOf(other, 'KUBE-LOAD-BALANCER-SOURCE-CIDR')).toEqual([
      '203.0.113.9,tcp:80,192.0.2.0/24',
      '203.0.113.9,tcp:80,192.0.2.9',
    ]);
    expect(elementsOf(other, 'KUBE-LOAD-BALANCER-SOURCE-IP')).toEqual([]);
    expect(elementsOf(ranges(['192.168.0.0/24']), 'KUBE-LOAD-BALANCER-SOURCE-IP')).toEqual([
      '203.0.113.9,tcp:80,203.0.113.9',
    ]);
  });

  it('store no range of length 0: it filters nothing (kubernetes#132719)', () => {
    const cluster = clusterOf({ ...EXTERNAL, loadBalancerSourceRanges: ['192.0.2.0/24', '0.0.0.0/0'] });
    expect(elementsOf(cluster, 'KUBE-LOAD-BALANCER-FW')).toEqual([]);
    expect(elementsOf(cluster, 'KUBE-LOAD-BALANCER-SOURCE-CIDR')).toEqual([]);
    expect(chainOf(cluster, 'KUBE-IPVS-OUT-FILTER')).toEqual([]);
  });
});

describe('rules', () => {
  it('stand in the order of kube-proxy, where their sets have elements', () => {
    expect(chainOf(clusterOf(EXTERNAL), 'KUBE-SERVICES')).toEqual([
      '-s 127.0.0.0/8 -j RETURN',
      '-m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER',
      '! -s 10.244.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ',
      '-m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ',
      '-m set --match-set KUBE-EXTERNAL-IP dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT',
      '-m set --match-set KUBE-EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT',
      '-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
      '-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT',
      '-m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT',
    ]);
    expect(chainOf(makeCluster({ nodes: NODES }), 'KUBE-SERVICES')).toEqual([
      '-s 127.0.0.0/8 -j RETURN',
      '-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    ]);
    expect(chainOf(clusterOf(EXTERNAL), 'KUBE-SERVICES', kubeProxyConfig(), 6)).toEqual([
      '-s ::1/128 -j RETURN',
      '-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    ]);
  });

  it('mark ClusterIP traffic by local detection', () => {
    const mark = (options: Partial<DatapathConfig['kubeProxy']>): string =>
      chainOf(clusterOf({}), 'KUBE-SERVICES', kubeProxyConfig(options)).find((line) =>
        line.endsWith('KUBE-MARK-MASQ'),
      )!;
    const set = '-m set --match-set KUBE-CLUSTER-IP';
    expect(mark({ masqueradeAll: true })).toBe(`${set} dst,dst -j KUBE-MARK-MASQ`);
    expect(mark({ detectLocalMode: 'NodeCIDR' })).toBe(`! -s 10.244.1.0/24 ${set} dst,dst -j KUBE-MARK-MASQ`);
    expect(mark({ detectLocalMode: 'BridgeInterface' })).toBe(`! -i cni0 ${set} dst,dst -j KUBE-MARK-MASQ`);
    expect(mark({ detectLocalMode: 'InterfaceNamePrefix' })).toBe(`! -i veth+ ${set} dst,dst -j KUBE-MARK-MASQ`);
    expect(mark({ detectLocalMode: 'None' })).toBe(`${set} src,dst -j KUBE-MARK-MASQ`);
  });

  it('mark nodePorts by protocol, policy Local first', () => {
    const services = (['TCP', 'UDP', 'SCTP'] as const).map((protocol, i) =>
      makeService(`ns1/${protocol.toLowerCase()}`, {
        type: 'NodePort',
        clusterIPs: [`10.96.0.${i + 1}`],
        externalTrafficPolicy: 'Local',
        ports: [{ name: 'p', protocol, nodePort: 30_000 + i }],
      }),
    );
    expect(
      chainOf(makeCluster({ nodes: NODES, services }), 'KUBE-NODE-PORT').filter((line) => !line.includes('HEALTH')),
    ).toEqual([
      '-p tcp -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN',
      '-p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ',
      '-p udp -m set --match-set KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN',
      '-p udp -m set --match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ',
      '-p sctp -m set --match-set KUBE-NODE-PORT-LOCAL-SCTP-HASH dst,dst -j RETURN',
      '-p sctp -m set --match-set KUBE-NODE-PORT-SCTP-HASH dst,dst -j KUBE-MARK-MASQ',
    ]);
  });

  it('guard the ports of the node at virtual addresses (kubernetes#72236)', () => {
    expect(chainOf(clusterOf({}), 'KUBE-IPVS-FILTER')).toEqual([
      '-m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN',
      '-m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN',
      '-m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN',
      '-m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN',
      '-m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN',
      '-m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable',
    ]);
    expect(chainOf(clusterOf({}), 'KUBE-IPVS-FILTER', kubeProxyConfig(), 6)[5]).toBe(
      '-m conntrack --ctstate NEW -m set --match-set KUBE-6-IPVS-IPS dst -j REJECT --reject-with icmp6-port-unreachable',
    );
  });

  it('filter source ranges, for the node itself too (kubernetes#119656)', () => {
    const cluster = clusterOf({ ...EXTERNAL, loadBalancerSourceRanges: ['192.0.2.0/24'] });
    expect(chainOf(cluster, 'KUBE-PROXY-FIREWALL')).toEqual([
      '-m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL',
    ]);
    expect(chainOf(cluster, 'KUBE-SOURCE-RANGES-FIREWALL')).toEqual([
      '-m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN',
      '-j DROP',
    ]);
    expect(chainOf(cluster, 'KUBE-IPVS-OUT-FILTER')).toEqual([
      '-s 203.0.113.9/32 -m ipvs --vproto 6 --vaddr 203.0.113.9 --vport 80 -j DROP',
    ]);
    const inRange = clusterOf({ ...EXTERNAL, loadBalancerSourceRanges: ['192.168.0.0/24'] });
    expect(chainOf(inRange, 'KUBE-IPVS-OUT-FILTER')).toEqual([]);
    expect(chainOf(inRange, 'KUBE-SOURCE-RANGES-FIREWALL')).toContain(
      '-m set --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN',
    );
  });

  it('masquerade hairpins before the mark is asked (kubernetes#92584)', () => {
    expect(chainOf(clusterOf({}), 'KUBE-POSTROUTING')).toEqual([
      '-m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE',
      '-m mark ! --mark 0x4000/0x4000 -j RETURN',
      '-j MARK --set-xmark 0x4000/0x0',
      '-j MASQUERADE --random-fully',
    ]);
  });

  it('have an origin each', () => {
    for (const { rules } of rulesetOf(clusterOf({ ...EXTERNAL, loadBalancerSourceRanges: ['192.0.2.0/24'] })).chains) {
      for (const rule of rules) expect(describeOrigin(ruleOrigins(rule)[0]!)).not.toBe('');
    }
  });
});

describe('nodes that are alike', () => {
  it('share sets, virtual servers and chains', () => {
    const cluster = clusterOf({ ...EXTERNAL, loadBalancerSourceRanges: ['192.168.0.0/24'] });
    const source = new KubeProxyIpvs(cluster, kubeProxyConfig(), 4);
    const [one, two] = cluster.nodes.map((node) => source.nodeRuleset(node));
    expect(two!.chains).toBe(one!.chains);
    const shared = one!.sets.filter((set) => two!.sets.includes(set)).map(({ name }) => name);
    expect(Object.keys(KUBE_SETS).filter((name) => !shared.includes(name))).toEqual(['KUBE-LOOP-BACK']);
    expect(two!.virtualServers.slice(0, 3)).toEqual(one!.virtualServers.slice(0, 3));
    for (let i = 0; i < 3; i++) expect(two!.virtualServers[i]).toBe(one!.virtualServers[i]);
  });
});
