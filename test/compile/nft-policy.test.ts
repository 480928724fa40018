/**
 * Policies in the nftables mode: the table of a small cluster as text, what is shared and what is left out, the profiles,
 * and where the table stands among kube-proxy's.
 */

import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, compileImage, modelCluster } from '../../control/src/compile/image.ts';
import { NftPolicyRules } from '../../control/src/compile/nft-policy.ts';
import type { NftRule, NftTable } from '../../control/src/compile/nft-ruleset.ts';
import { formatNft, renderNft } from '../../control/src/compile/nft-save.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import type { ProfileName } from '../../control/src/policy/profile.ts';

const node = (number: number): object => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: `node-${number}`, labels: { role: number === 1 ? 'edge' : 'worker' } },
  spec: { podCIDRs: [`10.244.${number}.0/24`] },
  status: { addresses: [{ type: 'InternalIP', address: `192.168.0.${number}` }] },
});

interface PodParts {
  readonly node?: number;
  readonly ips: readonly string[];
  readonly ports?: readonly object[];
}

const pod = (name: string, { node: number = 1, ips, ports = [] }: PodParts): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, labels: { app: name.split('-')[0] } },
  spec: { nodeName: `node-${number}`, containers: [{ name: 'c', ports }] },
  status: { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
});

const HTTP = { name: 'http', containerPort: 8080 };
const PODS = [
  pod('web-0', { ips: ['10.244.1.10', 'fd00:1::10'], ports: [HTTP] }),
  pod('web-1', { node: 2, ips: ['10.244.2.10', 'fd00:2::10'], ports: [{ ...HTTP, containerPort: 9000 }] }),
  pod('app-0', { ips: ['10.244.1.20'] }),
  pod('app-1', { node: 2, ips: ['10.244.2.20'] }),
];

const policy = (name: string, spec: object): object => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name },
  spec,
});
const onWeb = (name: string, spec: object): object =>
  policy(name, { podSelector: { matchLabels: { app: 'web' } }, ...spec });
const FROM_APP = { podSelector: { matchLabels: { app: 'app' } } };

function modelOf(objects: readonly object[], profile: ProfileName = 'kubernetes', pods = PODS): ClusterModel {
  const { cluster } = loadCluster([], { objects: [node(1), node(2), ...pods, ...objects] });
  return modelCluster(cluster, resolveDatapath({ policy: { profile } } as DatapathInput));
}

function table(model: ClusterModel, family: 4 | 6 = 4, number = 0): NftTable | null {
  return new NftPolicyRules(model, family).table(number);
}

/** The lines of a chain without its comment. */
function chain(made: NftTable | null, start: string): string[] {
  const lines = formatNft({ tables: [made!] }).split('\n');
  const from = lines.findIndex((line) => line.startsWith(`\tchain ${start}`));
  const rules = lines.slice(from + 1, lines.indexOf('\t}', from)).map((line) => line.trim());
  return rules.filter((line) => !line.startsWith('comment ')).map(plain);
}

/** Without hashes and comments. */
function plain(text: string): string {
  return text.replace(/-[0-9a-f]{16}/g, '-…').replace(/ comment "[^"]*"/g, '');
}

const names = (list: readonly { readonly name: string }[]): string[] => list.map(({ name }) => plain(name));

describe("a node's policy table", () => {
  it('is what nft would print, with the objects behind it in comments', () => {
    const model = modelOf([onWeb('allow-app', { ingress: [{ from: [FROM_APP], ports: [{ port: 80 }] }] })]);
    expect(formatNft({ tables: [table(model)!] }).replace(/-[0-9a-f]{16}/g, '-…')).toBe(`table ip flatpath-policy {
	comment "network policies of the pods on this node"
	map ingress-pods {
		type ipv4_addr : verdict
		elements = { 10.244.1.10 comment "default/web-0" : jump ingress-network-…-default/allow-app }
	}

	set pods-to-themselves {
		type ipv4_addr . ipv4_addr
		elements = { 10.244.1.10 . 10.244.1.10 comment "default/web-0" }
	}

	set pods-… {
		type ipv4_addr
		elements = { 10.244.1.20 comment "default/app-0",
			     10.244.2.20 comment "default/app-1" }
	}

	chain forward {
		type filter hook forward priority 0; policy accept;
		ct state established,related accept
		ip saddr . ip daddr @pods-to-themselves accept
		ip daddr vmap @ingress-pods
	}

	chain ingress-network-…-default/allow-app {
		comment "default/allow-app"
		ip saddr @pods-… tcp dport 80 return comment "NetworkPolicy default/allow-app spec.ingress[0].from[0]"
		drop comment "isolated, and no rule allows it"
	}
}
`);
  });

  it('stands behind that of kube-proxy, one a family where a pod of the node is judged', () => {
    const model = modelOf([onWeb('deny', {})]);
    const tables = (name: string) =>
      renderNft(model.cluster, model.config, name, model)
        .split('\n')
        .filter((line) => line.startsWith('table'));
    const ours = ['table ip flatpath-policy {', 'table ip6 flatpath-policy {'];
    expect(tables('node-1')).toEqual(['table ip kube-proxy {', 'table ip6 kube-proxy {', ...ours]);
    const onApp = modelOf([policy('deny', { podSelector: { matchLabels: { app: 'app' } } })]);
    expect(table(onApp, 4)).not.toBeNull();
    expect(table(onApp, 6)).toBeNull();
  });

  it('is none, and nothing else changes, without policies', () => {
    const model = modelOf([]);
    expect(table(model)).toBeNull();
    const { cluster, config } = model;
    expect(renderNft(cluster, config, 'node-1', model)).toBe(renderNft(cluster, config, 'node-1'));
    const { nft } = compileImage(model, 'nftables', ['node-1', 'node-2']);
    for (const { ruleCount, rule } of [nft!.family4, nft!.family6]) {
      const tables = Array.from({ length: ruleCount }, (_, id) => rule(id).table.split(' ')[1]);
      expect([...new Set(tables)].sort()).toEqual(['cni', 'kube-proxy']);
    }
    const onRemote = modelOf([onWeb('deny', {})], 'kubernetes', PODS.slice(1));
    expect(table(onRemote, 4, 0)).toBeNull();
    expect(table(onRemote, 4, 1)).not.toBeNull();
  });

  it('shares bodies and sets between pods and nodes', () => {
    const model = modelOf([onWeb('allow-app', { ingress: [{ from: [FROM_APP] }] })]);
    const rules = new NftPolicyRules(model, 4);
    const [first, second] = [rules.table(0)!, rules.table(1)!];
    expect(second.chains[1]).toBe(first.chains[1]);
    expect(second.sets.at(-1)).toBe(first.sets.at(-1));
    const twice = modelOf([
      onWeb('a', { ingress: [{ from: [FROM_APP] }] }),
      policy('b', { podSelector: {}, ingress: [{ from: [FROM_APP] }] }),
    ]);
    expect(names(table(twice)!.sets)).toEqual(['ingress-pods', 'pods-to-themselves', 'pods-…']);
  });

  it('keeps the names of orders apart that are made of the same policies', () => {
    const model = modelOf([onWeb('deny', {})]);
    const { policies } = model;
    const ingress = policies.ingress.map((order) => (order === null ? null : { ...order }));
    const made = table({ ...model, policies: { ...policies, ingress } }, 4, 1);
    const other = new NftPolicyRules({ ...model, policies: { ...policies, ingress } }, 4);
    const [one, two] = [other.table(0)!, other.table(1)!].map(({ chains }) => chains[1]!.name);
    expect(made).not.toBeNull();
    expect(one).not.toBe(two);
  });
});

describe('peers', () => {
  const egress = (to: object, profile?: ProfileName) =>
    chain(table(modelOf([onWeb('p', { policyTypes: ['Egress'], egress: [{ to: [to] }] })], profile)), 'egress-network');

  it('are sets of pods, and prefixes without what they except', () => {
    expect(egress(FROM_APP)).toEqual(['ip daddr @pods-… return', 'drop']);
    expect(egress({ ipBlock: { cidr: '10.0.0.0/8' } })).toEqual(['ip daddr 10.0.0.0/8 return', 'drop']);
    expect(egress({ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.0.0.0/16', '10.2.3.4/32'] } })).toEqual([
      'ip daddr 10.0.0.0/8 ip daddr != { 10.0.0.0/15, 10.2.3.4 } return',
      'drop',
    ]);
  });

  it('that stand for everybody ask nothing, those that nobody can be are left out', () => {
    expect(egress({ ipBlock: { cidr: '0.0.0.0/0' } })).toEqual(['return', 'drop']);
    expect(egress({ ipBlock: { cidr: '0.0.0.0/0', except: ['0.0.0.0/1', '128.0.0.0/1'] } })).toEqual(['drop']);
    expect(egress({ ipBlock: { cidr: 'fd00::/8' } })).toEqual(['drop']);
    expect(egress({ podSelector: { matchLabels: { app: 'nobody' } } })).toEqual(['drop']);
  });

  it('of profile cilium are CIDRs without addresses of pods and nodes', () => {
    expect(egress({ ipBlock: { cidr: '10.0.0.0/8' } }, 'cilium')).toEqual([
      'ip daddr 10.0.0.0/8 ip daddr != @cluster-… return',
      'drop',
    ]);
    const made = table(modelOf([onWeb('p', { egress: [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }] })], 'cilium'));
    const set = made!.sets.find(({ name }) => name.startsWith('cluster-'))!;
    expect(set.elements.map(({ comment }) => comment)).toEqual([
      ...['default/app-0', 'default/app-1', 'default/web-0', 'default/web-1'],
      ...['node-1', 'node-2'],
    ]);
  });

  it('may be nodes', () => {
    const nodes = {
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: 'nodes' },
      spec: {
        tier: 'Admin',
        priority: 1,
        subject: { namespaces: {} },
        egress: [{ action: 'Deny', to: [{ nodes: { matchLabels: { role: 'edge' } } }] }],
      },
    };
    const made = table(modelOf([nodes]));
    expect(chain(made, 'egress-admin')).toEqual(['ip daddr @nodes-… drop', 'return']);
    const set = made!.sets.find(({ name }) => name.startsWith('nodes-'))!;
    expect(set.elements.map(({ comment }) => comment)).toEqual(['node-1']);
  });
});

describe('ports', () => {
  const ingress = (...ports: object[]) =>
    chain(table(modelOf([onWeb('p', { ingress: [{ ports }] })])), 'ingress-network').slice(0, -1);

  it('are one statement, ranges that touch one range', () => {
    expect(ingress({ port: 80 })).toEqual(['tcp dport 80 return']);
    expect(ingress({ port: 80 }, { port: 443 }, { port: 81 })).toEqual(['tcp dport { 80-81, 443 } return']);
    expect(ingress({ protocol: 'UDP', port: 100, endPort: 200 }, { protocol: 'UDP', port: 150, endPort: 300 })).toEqual(
      ['udp dport 100-300 return'],
    );
    expect(ingress({})).toEqual(['meta l4proto tcp return']);
    expect(ingress({}, { port: 80 }, { protocol: 'SCTP' })).toEqual(['meta l4proto { tcp, sctp } return']);
    expect(ingress({ port: 53 }, { protocol: 'UDP', port: 53, endPort: 60 }, { protocol: 'SCTP' })).toEqual([
      'meta l4proto . th dport { tcp . 53, udp . 53-60, sctp . 0-65535 } return',
    ]);
  });

  it('with names are those of each pod that is meant', () => {
    const made = table(
      modelOf([onWeb('p', { ingress: [{ from: [FROM_APP], ports: [{ port: 'http' }, { port: 443 }] }] })]),
    );
    expect(chain(made, 'ingress-network')).toEqual([
      'ip saddr @pods-… tcp dport 443 return',
      'ip saddr @pods-… ip daddr . meta l4proto . th dport @ports-… return',
      'drop',
    ]);
    const lines = formatNft({ tables: [made!] });
    expect(lines).toContain('10.244.1.10 . tcp . 8080 comment "default/web-0 http"');
    expect(lines).toContain('10.244.2.10 . tcp . 9000 comment "default/web-1 http"');
  });

  it('with names lead to the pods of the peer alone, and to nobody where no pod has the name', () => {
    const to = (peer: object, port: string) => {
      const spec = {
        podSelector: FROM_APP.podSelector,
        policyTypes: ['Egress'],
        egress: [{ to: [peer], ports: [{ port }] }],
      };
      return table(modelOf([policy('p', spec)]));
    };
    const elements = (made: NftTable | null) =>
      made!.sets.find(({ name }) => name.startsWith('ports-'))?.elements.map(({ comment }) => comment) ?? [];
    const onWebs = to({ podSelector: { matchLabels: { app: 'web' } } }, 'http');
    expect(chain(onWebs, 'egress-network')).toEqual(['ip daddr . meta l4proto . th dport @ports-… return', 'drop']);
    expect(elements(onWebs)).toEqual(['default/web-0 http', 'default/web-1 http']);
    expect(elements(to({ ipBlock: { cidr: '10.244.1.0/24' } }, 'http'))).toEqual(['default/web-0 http']);
    expect(elements(to({ ipBlock: { cidr: '10.244.0.0/16', except: ['10.244.1.10/32'] } }, 'http'))).toEqual([
      'default/web-1 http',
    ]);
    expect(chain(to({ podSelector: {} }, 'metrics'), 'egress-network')).toEqual(['drop']);
  });
});

describe('tiers', () => {
  const cluster = (name: string, tier: string, ...actions: string[]): object => ({
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name },
    spec: {
      tier,
      priority: 5,
      subject: { namespaces: {} },
      ingress: actions.map((action, i) => ({
        action,
        from: [{ namespaces: {} }],
        protocols: [{ tcp: { destinationPort: { number: i + 1 } } }],
      })),
    },
  });
  const of = (made: NftTable | null, name: string): readonly NftRule[] =>
    made!.chains.find((one) => one.name.startsWith(name))!.rules;

  it('hand over to the next one by goto, a rule that passes too', () => {
    const made = table(
      modelOf([
        cluster('a', 'Admin', 'Accept', 'Deny', 'Pass'),
        policy('np', { podSelector: {} }),
        cluster('b', 'Baseline', 'Deny'),
      ]),
    );
    expect(chain(made, 'ingress-admin-')).toEqual([
      'ip saddr @pods-… tcp dport 1 return',
      'ip saddr @pods-… tcp dport 2 drop',
      'ip saddr @pods-… tcp dport 3 goto ingress-network-…-a-and-2-more',
      'goto ingress-network-…-a-and-2-more',
    ]);
    expect(of(made, 'ingress-admin').map(({ judgement }) => judgement?.verdict ?? null)).toEqual([
      'allowed',
      'denied',
      null,
      null,
    ]);
    const [isolated] = of(made, 'ingress-network');
    expect(isolated!.judgement).toMatchObject({ verdict: 'denied', rule: null });
    expect(isolated!.judgement!.policies.map(({ metadata }) => metadata.name)).toEqual(['np']);
  });

  it('end open where no NetworkPolicy isolates, and a pass of the last tier is that end', () => {
    const made = table(modelOf([cluster('b', 'Baseline', 'Deny', 'Pass')]));
    expect(chain(made, 'ingress-baseline-')).toEqual([
      'ip saddr @pods-… tcp dport 1 drop',
      'ip saddr @pods-… tcp dport 2 return',
      'return',
    ]);
    expect(
      of(made, 'ingress-baseline').map(({ judgement }) => [judgement!.verdict, judgement!.rule?.action ?? null]),
    ).toEqual([
      ['denied', 'deny'],
      ['allowed', null],
      ['allowed', null],
    ]);
  });
});

describe('profiles', () => {
  const POLICY = onWeb('p', { policyTypes: ['Ingress', 'Egress'] });

  it('kubernetes: known flows and a pod itself pass, nothing stands in input', () => {
    const made = table(modelOf([POLICY]));
    expect(chain(made, 'forward')).toEqual([
      'type filter hook forward priority 0; policy accept;',
      'ct state established,related accept',
      'ip saddr . ip daddr @pods-to-themselves accept',
      'iifname "veth*" ip saddr vmap @egress-pods',
      'ip daddr vmap @ingress-pods',
    ]);
    expect(made!.chains.some(({ name }) => name === 'input')).toBe(false);
  });

  it('cilium: replies alone are known, and what a pod sends to its node is judged', () => {
    const made = table(modelOf([POLICY], 'cilium'));
    const known = ['ct state related accept', 'ct state established ct direction reply accept'];
    expect(chain(made, 'forward').slice(1, 4)).toEqual([...known, 'ip saddr . ip daddr @pods-to-themselves accept']);
    expect(chain(made, 'input').slice(1)).toEqual([...known, 'iifname "veth*" ip saddr vmap @egress-pods']);
    const made6 = table(modelOf([POLICY], 'cilium'), 6);
    expect(chain(made6, 'input').slice(1)).toEqual([
      ...known,
      'icmpv6 type { 133, 135, 136 } accept',
      'iifname "veth*" ip6 saddr vmap @egress-pods',
    ]);
  });

  it('calico: a pod that reaches itself through its Service is judged', () => {
    const made = table(modelOf([POLICY], 'calico'));
    expect(chain(made, 'forward').slice(1)).toEqual([
      'ct state established,related accept',
      'iifname "veth*" ip saddr vmap @egress-pods',
      'ip daddr vmap @ingress-pods',
    ]);
    expect(chain(made, 'input').slice(1)).toEqual([
      'ct state established,related accept',
      'iifname "veth*" ip saddr vmap @egress-pods',
    ]);
  });
});
