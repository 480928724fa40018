/** Policies as chains and sets of the iptables and ipvs modes: what stands where, and what is left out. */

import { describe, expect, it } from 'vitest';
import { type ClusterModel, compileImage } from '../../control/src/compile/image.ts';
import { kernelOptions } from '../../control/src/compile/iptables-kube-proxy.ts';
import { renderIptablesSave, renderPolicyIpsets } from '../../control/src/compile/iptables-save.ts';
import { renderIpset, renderIpvsIptables } from '../../control/src/compile/ipvs-render.ts';
import { NodePolicyMaker, type PolicyMode } from '../../control/src/compile/policy-node.ts';
import type { Family } from '../../control/src/model/address.ts';
import type { DatapathInput } from '../../control/src/model/datapath.ts';
import { modelOf } from '../policy/compare.ts';
import type { KubeObject } from '../policy/random-cluster.ts';

function node(number: number): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: `node-${number}` },
    spec: { podCIDR: `10.244.${number}.0/24`, podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`] },
    status: {
      addresses: [`192.168.0.${number}`, `fd00:168::${number}`].map((address) => ({ type: 'InternalIP', address })),
    },
  };
}

/** A pod on a node. */
function pod(name: string, onNode: number, host: number, families: readonly Family[] = [4, 6]): KubeObject {
  const ips = families.map((family) => (family === 4 ? `10.244.${onNode}.${host}` : `fd00:10:244:${onNode}::${host}`));
  const ports = [
    { name: 'http', protocol: 'TCP', containerPort: name === 'web-2' ? 8081 : 8080 },
    { name: 'dns', protocol: 'UDP', containerPort: 53 },
  ];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', labels: { app: name.replace(/-\d$/, '') } },
    spec: { nodeName: `node-${onNode}`, containers: [{ name: 'c', ports }] },
    status: { phase: 'Running', podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
  };
}

const POLICY = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'p', namespace: 'shop' },
};
const SERVICE: KubeObject = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'nobody', namespace: 'shop' },
  spec: { clusterIP: '10.96.0.9', selector: { app: 'nobody' }, ports: [{ port: 80 }] },
};
const CAST = [
  node(1),
  node(2),
  pod('web-1', 1, 2),
  pod('web-2', 1, 3),
  pod('web-3', 2, 2),
  pod('db', 1, 4, [4]),
  SERVICE,
];

function policy(spec: object, name = 'p'): KubeObject {
  return { ...POLICY, metadata: { name, namespace: 'shop' }, spec } as KubeObject;
}

function clusterPolicy(name: string, spec: object): KubeObject {
  const kind = 'ClusterNetworkPolicy';
  return { apiVersion: 'policy.networking.k8s.io/v1alpha2', kind, metadata: { name }, spec } as KubeObject;
}

function model(policies: readonly KubeObject[], datapath: DatapathInput = {}): ClusterModel {
  return modelOf([...CAST, ...policies], datapath);
}

/** Lines about policies on node-1, as they are printed. */
function rulesOf(own: ClusterModel, mode: PolicyMode = 'iptables', family: Family = 4, name = 'node-1'): string[] {
  const maker = new NodePolicyMaker(mode, own);
  const { cluster, config } = own;
  const text =
    mode === 'iptables'
      ? renderIptablesSave(cluster, config, name, family, kernelOptions(config), maker)
      : renderIpvsIptables(cluster, config, name, family, maker);
  return text.split('\n').filter((line) => line.startsWith('-A') && line.includes('POLICY'));
}

function setsOf(own: ClusterModel, mode: PolicyMode = 'iptables'): string[] {
  const render = mode === 'iptables' ? renderPolicyIpsets : renderIpset;
  const text = render(own.cluster, own.config, 'node-1', new NodePolicyMaker(mode, own));
  return text.split('\n').filter((line) => line.includes('POLICY'));
}

/** Hashes as `…` and comments left out. */
function plain(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/-[A-Z2-7]{16}/g, '-…').replace(/ -m comment --comment (?:"[^"]*"|\S+)/, ''));
}

/** The rules of the chains of NetworkPolicies, without the one that ends them, with what the sets hold in their place. */
function networkRules(own: ClusterModel, family: Family = 4): string[] {
  const contents = new Map<string, string[]>();
  for (const line of setsOf(own)) {
    const [verb, name = '', element = '', nomatch = ''] = line.split(' ');
    if (verb === 'create') contents.set(name, []);
    else contents.get(name)!.push(nomatch === 'nomatch' ? `!${element}` : element);
  }
  return rulesOf(own, 'iptables', family)
    .filter((line) => line.startsWith('-A POLICY-NET-') && !line.includes('isolated for'))
    .map((line) =>
      line.replace(/--match-set (\S+)/, (_all, name: string) => `{${contents.get(name)!.sort().join(' ')}}`),
    )
    .map((line) => plain([line])[0]!.replace('-A POLICY-NET-… ', ''));
}

const WEB = { matchLabels: { app: 'web' } };
const DB = { matchLabels: { app: 'db' } };
const deny = (direction: 'Ingress' | 'Egress') => policy({ podSelector: DB, policyTypes: [direction] });
const ingress = (rule: object, podSelector: object = DB) => policy({ podSelector, ingress: [rule] });
const egress = (rule: object) => policy({ podSelector: DB, policyTypes: ['Egress'], egress: [rule] });

describe('a node', () => {
  it('has nothing of policies where they judge none of its pods', () => {
    const own = model([ingress({}, { matchLabels: { app: 'nobody' } })]);
    for (const mode of ['iptables', 'ipvs'] as const) {
      expect([...rulesOf(own, mode), ...rulesOf(own, mode, 6), ...setsOf(own, mode)]).toEqual([]);
      const [before, after] = [model([]), own].map((of) => compileImage(of, mode, ['node-1']));
      expect(after!.rules4!.rules).toEqual(before!.rules4!.rules);
      expect(after!.rules6!.rules).toEqual(before!.rules6!.rules);
      expect(after!.sets).toBeNull();
      expect(after!.ipvs?.sets).toEqual(before!.ipvs?.sets);
    }
  });

  it('has nothing for pods of another node, or in a family in which none of them has an address', () => {
    const own = model([deny('Ingress')]);
    expect(rulesOf(own, 'iptables', 4, 'node-2')).toEqual([]);
    expect(rulesOf(own, 'iptables', 6)).toEqual([]);
    expect(rulesOf(own).length).toBeGreaterThan(0);
  });

  it('sends packets of judged pods to their chains, once a direction', () => {
    const own = model([deny('Ingress'), policy({ podSelector: WEB, policyTypes: ['Egress'] }, 'q')]);
    expect(plain(rulesOf(own))).toEqual([
      '-A FORWARD -j POLICY-FORWARD',
      '-A POLICY-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
      '-A POLICY-FORWARD -m conntrack --ctstate NEW -m set --match-set POLICY-SERVICES dst,dst -j RETURN',
      '-A POLICY-FORWARD -i veth+ -m set --match-set POLICY-PODS-OUT src -j POLICY-OUT',
      '-A POLICY-FORWARD -m set --match-set POLICY-PODS-IN dst -j POLICY-IN',
      '-A POLICY-IN -d 10.244.1.4/32 -g POLICY-IN-…',
      '-A POLICY-IN-… -s 10.244.1.4/32 -j RETURN',
      '-A POLICY-IN-… -g POLICY-NET-…',
      '-A POLICY-NET-… -j DROP',
      '-A POLICY-NET-… -j DROP',
      '-A POLICY-OUT -s 10.244.1.2/32 -g POLICY-OUT-…',
      '-A POLICY-OUT -s 10.244.1.3/32 -g POLICY-OUT-…',
      ...['10.244.1.2', '10.244.1.3'].flatMap((own) => [
        `-A POLICY-OUT-… -d ${own}/32 -j RETURN`,
        '-A POLICY-OUT-… -g POLICY-NET-…',
      ]),
    ]);
    expect(setsOf(own).filter((line) => line.startsWith('add'))).toEqual([
      'add POLICY-SERVICES 10.96.0.9,tcp:80',
      'add POLICY-PODS-OUT 10.244.1.2',
      'add POLICY-PODS-OUT 10.244.1.3',
      'add POLICY-PODS-IN 10.244.1.4',
      'add POLICY-6-PODS-OUT fd00:10:244:1::2',
      'add POLICY-6-PODS-OUT fd00:10:244:1::3',
    ]);
  });

  it('in ipvs mode judges behind IPVS too, for what no local process sends', () => {
    const rules = plain(rulesOf(model([deny('Egress')]), 'ipvs'));
    expect(rules.slice(0, 6)).toEqual([
      '-A FORWARD -j POLICY-FORWARD',
      '-A OUTPUT -m addrtype ! --src-type LOCAL -j POLICY-OUTPUT',
      '-A POLICY-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
      '-A POLICY-FORWARD -i veth+ -m set --match-set POLICY-PODS-OUT src -j POLICY-OUT',
      '-A POLICY-NET-… -j DROP',
      '-A POLICY-OUT -s 10.244.1.4/32 -g POLICY-OUT-…',
    ]);
    expect(rules.slice(-2)).toEqual([
      '-A POLICY-OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
      '-A POLICY-OUTPUT -m set --match-set POLICY-PODS-OUT src -j POLICY-OUT',
    ]);
  });

  it('knows its pods by the bridge where kube-proxy does', () => {
    const own = model([deny('Egress')], { kubeProxy: { detectLocalMode: 'BridgeInterface', bridgeInterface: 'br7' } });
    expect(rulesOf(own).join('\n')).toContain('-A POLICY-FORWARD -i br7 ');
  });
});

describe('profiles', () => {
  it('cilium: known flows are judged, and what goes to the own node; blocks leave out the cluster', () => {
    const own = model([egress({ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] })], { policy: { profile: 'cilium' } });
    expect(plain(rulesOf(own))).toEqual([
      '-A INPUT -j POLICY-INPUT',
      '-A FORWARD -j POLICY-FORWARD',
      ...['POLICY-FORWARD', 'POLICY-INPUT'].flatMap((chain) => [
        `-A ${chain} -m conntrack --ctstate RELATED -j RETURN`,
        `-A ${chain} -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN`,
        `-A ${chain} -m conntrack --ctstate NEW -m set --match-set POLICY-SERVICES dst,dst -j RETURN`,
        `-A ${chain} -i veth+ -m set --match-set POLICY-PODS-OUT src -j POLICY-OUT`,
      ]),
      '-A POLICY-NET-… -m set ! --match-set POLICY-CLUSTER dst -j RETURN',
      '-A POLICY-NET-… -j DROP',
      '-A POLICY-OUT -s 10.244.1.4/32 -g POLICY-OUT-…',
      '-A POLICY-OUT-… -d 10.244.1.4/32 -j RETURN',
      '-A POLICY-OUT-… -g POLICY-NET-…',
    ]);
    expect(setsOf(own).filter((line) => line.startsWith('add POLICY-CLUSTER'))).toHaveLength(6);
  });

  it('calico: known flows pass, a pod is judged at its own Service too', () => {
    const rules = plain(rulesOf(model([deny('Egress')], { policy: { profile: 'calico' } })));
    expect(rules).toContain('-A POLICY-INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN');
    expect(rules.filter((rule) => rule.startsWith('-A POLICY-OUT-…'))).toEqual(['-A POLICY-OUT-… -g POLICY-NET-…']);
  });

  it('ipvs: what comes to virtual servers is not judged at INPUT; neighbours are found', () => {
    const own = model([policy({ podSelector: WEB, policyTypes: ['Egress'] })], { policy: { profile: 'calico' } });
    const inputs = (family: Family) =>
      plain(rulesOf(own, 'ipvs', family)).filter((rule) => rule.startsWith('-A POLICY-INPUT'));
    expect(inputs(4)).toContain('-A POLICY-INPUT -m set --match-set KUBE-IPVS-IPS dst -j RETURN');
    expect(inputs(6)).toContain('-A POLICY-INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN');
  });
});

describe('a rule of a policy', () => {
  const FROM_WEB = '-m set {10.244.1.2 10.244.1.3 10.244.2.2} src';
  it.each<[string, KubeObject, string[]]>([
    ['without peers and ports', ingress({}), ['-j RETURN']],
    ['of pods', ingress({ from: [{ podSelector: WEB }] }), [`${FROM_WEB} -j RETURN`]],
    ['of pods that there are none of', ingress({ from: [{ podSelector: { matchLabels: { app: 'x' } } }] }), []],
    ['of a block', ingress({ from: [{ ipBlock: { cidr: '10.0.0.7/8' } }] }), ['-s 10.0.0.0/8 -j RETURN']],
    ['of the whole world', ingress({ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }), ['-j RETURN']],
    ['of a block of the other family', ingress({ from: [{ ipBlock: { cidr: '::/0' } }] }), []],
    [
      'of a block with an exception',
      ingress({ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.1.0.0/16'] } }] }),
      ['-m set {!10.1.0.0/16 10.0.0.0/8} src -j RETURN'],
    ],
    [
      'of the world with an exception: ipset stores no length 0',
      egress({ to: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] } }] }),
      ['-m set {!10.0.0.0/8 0.0.0.0/1 128.0.0.0/1} dst -j RETURN'],
    ],
    [
      'of the world without one half',
      egress({ to: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['128.0.0.0/1'] } }] }),
      ['-m set {!128.0.0.0/1 0.0.0.0/1} dst -j RETURN'],
    ],
    ['of a protocol', ingress({ ports: [{ protocol: 'SCTP' }] }), ['-p sctp -j RETURN']],
    ['of a port', ingress({ ports: [{ port: 80 }] }), ['-p tcp -m tcp --dport 80 -j RETURN']],
    [
      'of ports that touch, and of two protocols',
      ingress({ ports: [{ port: 80, endPort: 90 }, { port: 91 }, { protocol: 'UDP', port: 53 }] }),
      ['-p tcp -m tcp --dport 80:91 -j RETURN', '-p udp -m udp --dport 53 -j RETURN'],
    ],
    [
      'of a range and all ports of its protocol',
      ingress({ ports: [{ port: 80, endPort: 90 }, { protocol: 'TCP' }] }),
      ['-p tcp -j RETURN'],
    ],
    [
      'of a named port, which is the subject pod’s',
      ingress({ ports: [{ port: 'http' }, { port: 'none' }, { port: 443 }] }),
      ['-p tcp -m multiport --dports 443,8080 -j RETURN'],
    ],
    ['of a name that the pod does not give', ingress({ ports: [{ port: 'none' }] }), []],
    ['of a name for another protocol', ingress({ ports: [{ port: 'dns' }] }), []],
    [
      'of a named port in egress: those of each destination',
      egress({ to: [{ podSelector: WEB }], ports: [{ port: 'http' }] }),
      ['-m set {10.244.1.2,tcp:8080 10.244.1.3,tcp:8081 10.244.2.2,tcp:8080} dst,dst -j RETURN'],
    ],
    [
      'of a named port to a block: pods in it',
      egress({ to: [{ ipBlock: { cidr: '10.244.2.0/24' } }], ports: [{ port: 'dns', protocol: 'UDP' }] }),
      ['-m set {10.244.2.2,udp:53} dst,dst -j RETURN'],
    ],
  ])('%s', (_name, own, rules) => {
    expect(networkRules(model([own]))).toEqual(rules);
  });

  it('with more ports than multiport holds is several', () => {
    const ports = Array.from({ length: 9 }, (_, i) => ({ port: 100 * (i + 1), endPort: 100 * (i + 1) + 1 }));
    const [first = '', second = '', ...rest] = networkRules(model([ingress({ ports })]));
    expect(first).toBe(
      `-p tcp -m multiport --dports ${ports
        .slice(0, 7)
        .map(({ port, endPort }) => `${port}:${endPort}`)
        .join(',')} -j RETURN`,
    );
    expect(second).toBe('-p tcp -m multiport --dports 800:801,900:901 -j RETURN');
    expect(rest).toEqual([]);
  });

  it('of nodes has all their addresses', () => {
    const own = model([
      clusterPolicy('c', {
        tier: 'Admin',
        priority: 1,
        subject: { namespaces: {} },
        egress: [{ action: 'Deny', to: [{ nodes: {} }] }],
      }),
    ]);
    expect(plain(rulesOf(own))).toContain('-A POLICY-ADM-… -m set --match-set POLICY-NODES-… dst -j DROP');
    const elements = setsOf(own).filter((line) => line.startsWith('add POLICY-NODES'));
    expect(elements.map((line) => line.split(' ')[2])).toEqual(['192.168.0.1', '192.168.0.2']);
  });
});

describe('tiers', () => {
  const guard = (tier: 'Admin' | 'Baseline', action: string) =>
    clusterPolicy(tier.toLowerCase(), {
      tier,
      priority: 1,
      subject: { namespaces: {} },
      ingress: [{ action, from: [{ namespaces: {} }] }],
    });
  const targets = (policies: readonly KubeObject[], chain: string): (string | undefined)[] =>
    plain(rulesOf(model(policies)))
      .filter((line) => line.startsWith(`-A ${chain}-… `))
      .map((line) => line.split(' ').slice(-2).join(' '));

  it.each<[string, readonly KubeObject[], string, string[]]>([
    [
      'Admin in front of NetworkPolicies',
      [guard('Admin', 'Deny'), deny('Ingress')],
      'POLICY-ADM',
      ['-j DROP', '-g POLICY-NET-…', '-j DROP', '-j RETURN'],
    ],
    [
      'Admin passes to Baseline',
      [guard('Admin', 'Pass'), guard('Baseline', 'Deny')],
      'POLICY-ADM',
      ['-g POLICY-BASE-…', '-g POLICY-BASE-…'],
    ],
    ['Admin passes to nothing', [guard('Admin', 'Pass')], 'POLICY-ADM', ['-j RETURN', '-j RETURN']],
    ['Baseline is open at its end', [guard('Baseline', 'Deny')], 'POLICY-BASE', ['-j DROP', '-j RETURN']],
  ])('%s', (_name, policies, chain, expected) => {
    expect(targets(policies, chain)).toEqual(expected);
  });
});

describe('names', () => {
  it('stay when something else changes, and fit the kernel', () => {
    const chains = (own: ClusterModel) => new Set(rulesOf(own).map((line) => line.split(' ')[1]!));
    const before = chains(model([deny('Ingress')]));
    const after = chains(model([policy({ podSelector: WEB }, 'a'), deny('Ingress')]));
    for (const name of before) expect(after).toContain(name);
    for (const name of after) expect(name.length).toBeLessThanOrEqual(28);
    const sets = setsOf(model([egress({ to: [{ podSelector: WEB }], ports: [{ port: 'http' }] })]));
    for (const line of sets) expect(line.split(' ')[1]!.length).toBeLessThanOrEqual(31);
  });

  it('are shared by pods that the same policies judge, apart by the numbers of their ports', () => {
    const own = model([ingress({ ports: [{ port: 80 }] }, {})]);
    const judged = new Set(rulesOf(own).flatMap((line) => /-g (POLICY-NET-\S+)/.exec(line)?.[1] ?? []));
    expect(judged.size).toBe(1);
    const named = model([ingress({ ports: [{ port: 'http' }] }, {})]);
    // web-1 and db have http at 8080, web-2 at 8081.
    expect(new Set(rulesOf(named).flatMap((line) => /-g (POLICY-NET-\S+)/.exec(line)?.[1] ?? [])).size).toBe(2);
  });

  it('of two policies that say the same are two: the judgement names them', () => {
    const policies = [policy({ podSelector: WEB }, 'a'), policy({ podSelector: DB }, 'b')];
    const drops = rulesOf(model(policies)).filter((line) => line.includes('isolated for'));
    expect(drops.map((line) => /NetworkPolicy \S+(?=")/.exec(line)?.[0]).sort()).toEqual([
      'NetworkPolicy shop/a',
      'NetworkPolicy shop/b',
    ]);
  });
});

describe('the image', () => {
  it('has a judgement at each rule that decides, and at no other', () => {
    const own = model([ingress({ from: [{ podSelector: WEB }] })]);
    const { rules4 } = compileImage(own, 'iptables', ['node-1']);
    const judged: string[] = [];
    for (let id = 0; id < rules4!.ruleCount; id++) {
      const judgement = rules4!.judgementOf(id);
      if (judgement === null) continue;
      const { chain, text } = rules4!.rule(id);
      expect(chain).toMatch(/^POLICY-NET-/);
      judged.push(
        `${text.split(' ').at(-1)} ${judgement.verdict} ${judgement.direction} ${judgement.rule?.peerField ?? '-'}`,
      );
    }
    expect(judged).toEqual(['RETURN allowed ingress spec.ingress[0].from[0]', 'DROP denied ingress -']);
  });
});
