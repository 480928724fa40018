/** The library: what loads, what it answers, what it throws, and what its matchers say. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { InputError, loadCluster, type ProbeRequest } from '../../control/src/library/cluster.ts';
import '../../control/src/library/vitest.ts';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';

const RECIPES = fileURLToPath(new URL('../../examples/policies', import.meta.url));
const CAST = join(RECIPES, 'cast.yaml');
const POLICY = join(RECIPES, 'allow-from-app/policy.yaml');
const SHOP = loadCluster([CAST, POLICY]);

const API: ProbeRequest = { from: 'deploy/shop/api', to: 'svc/shop/db', port: 'postgres' };
const BATCH: ProbeRequest = { from: 'deploy/shop/batch', to: 'svc/shop/db', port: 5432 };

function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof InputError) return error.problems.map(({ message }) => message);
    throw error;
  }
  return [];
}

/** The message of an expectation that does not hold. */
function failureOf(run: () => void): string {
  try {
    run();
  } catch (error) {
    return (error as Error).message;
  }
  return 'it holds';
}

describe('loadCluster', () => {
  it('takes a path, paths, or manifests and objects', () => {
    expect(loadCluster(RECIPES).objects.networkPolicies.length).toBeGreaterThan(8);
    expect(SHOP.objects.networkPolicies.map(({ metadata }) => metadata.name)).toEqual(['db-from-api']);
    const deny = {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'deny', namespace: 'shop' },
      spec: { podSelector: {} },
    };
    const closed = loadCluster({ manifests: [CAST], objects: [deny] });
    expect(closed).toDeny(API);
    expect(loadCluster({ objects: [] }).objects.pods).toEqual([]);
    // The object is the caller's.
    expect(deny.spec).toEqual({ podSelector: {} });
  });

  it("runs the mode that is asked for, else the cluster's own, else iptables", () => {
    const config = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kube-proxy', namespace: 'kube-system' } };
    const objects = [{ ...config, data: { 'config.conf': 'kind: KubeProxyConfiguration\nmode: ipvs\n' } }];
    expect(SHOP.mode).toBe('iptables');
    expect(loadCluster({ objects }).mode).toBe('ipvs');
    expect(loadCluster({ objects }, { mode: 'ebpf' }).mode).toBe('ebpf');
    expect(SHOP.withMode('nftables').mode).toBe('nftables');
  });

  it('takes a datapath configuration', () => {
    const self = { from: 'pod/shop/db-0', to: 'svc/shop/db', port: 5432 };
    expect(SHOP).toAllow(self);
    expect(loadCluster([CAST, POLICY], { datapath: { policy: { profile: 'calico' } } })).toDeny(self);
  });

  it('throws everything that is wrong', () => {
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 's' }, spec: { ports: [{ port: 70_000 }] } };
    const broken = { ...service, metadata: { name: 't' }, spec: { clusterIP: 'x', ports: [{ port: 80 }] } };
    expect(problemsOf(() => loadCluster({ objects: [service, broken] }))).toHaveLength(2);
    expect(problemsOf(() => loadCluster('nowhere.yaml'))).toHaveLength(1);
    // What JavaScript lets through.
    const options = { mode: 'tables', datapath: { kubeproxy: {} } } as object;
    expect(problemsOf(() => loadCluster([CAST], options))).toEqual([
      expect.stringMatching(/^datapath .*kubeproxy/),
      "mode 'tables' is not one of iptables, nftables, ipvs, ebpf",
    ]);
  });
});

describe('probe', () => {
  it.each(BUILT_MODES)('tells the verdict, every branch and who decided: %s', (mode) => {
    const answer = SHOP.withMode(mode).probe(BATCH);
    expect(answer).toMatchObject({
      verdict: 'dropped',
      reason: 'policy-denied',
      translated: true,
      masquerade: false,
      notEnforced: [],
    });
    expect(answer.branches).toHaveLength(1);
    const [branch] = answer.branches;
    expect(branch!.backend).toBe(answer.backends[0]);
    expect(branch!.policies.egress).toMatchObject({ because: 'unselected', verdict: 'allowed' });
    expect(branch!.policies.ingress).toMatchObject({
      pod: 'shop/db-0',
      verdict: 'denied',
      because: 'isolated',
      policies: [{ kind: 'NetworkPolicy', namespace: 'shop', name: 'db-from-api', file: POLICY, line: 3 }],
    });
    expect(SHOP.withMode(mode).probe(API).branches[0]!.policies.ingress).toMatchObject({
      because: 'rule',
      policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'db-from-api' },
      rule: 'spec.ingress[0]',
      peer: 'spec.ingress[0].from[0]',
      origin: { file: POLICY, line: 11 },
    });
  });

  it('takes the port behind the target or beside it, of either family', () => {
    const verdicts = [
      { from: 'deploy/shop/api', to: 'svc/shop/db:5432' },
      { from: 'deploy/shop/api', to: 'svc/shop/db:postgres' },
      { from: 'deploy/shop/api', to: 'svc/shop/db', port: 5432 },
      { from: 'deploy/shop/api', to: 'db.shop.svc', port: 5432 },
      { from: 'deploy/shop/api', to: 'pod/shop/db-0', port: 'postgres' },
      { from: '2001:db8::7', to: '2001:db8::8', port: 80 },
      { from: '2001:db8::7', to: '[2001:db8::8]', port: 80 },
      { from: 'deploy/shop/batch', to: 'svc/kube-system/kube-dns', port: 'dns' },
      { from: 'deploy/shop/batch', to: '203.0.113.1', protocol: 'icmp' },
    ].map((request) => SHOP.probe(request).verdict);
    expect(verdicts).toEqual([...new Array(5).fill('delivered'), 'forwarded', 'forwarded', 'delivered', 'forwarded']);
  });

  it('throws what it cannot find, as bad input', () => {
    const ask = (request: ProbeRequest) => problemsOf(() => SHOP.probe(request));
    expect(ask({ from: 'deploy/shop/nobody', to: 'svc/shop/db:5432' })).toEqual([
      expect.stringContaining("'deploy/shop/nobody' does not exist"),
    ]);
    expect(ask({ from: 'deploy/shop/api', to: 'svc/shop/db:5432', port: 80 })).toEqual([
      "'svc/shop/db:5432' has a port, and so has the request: 80",
    ]);
    expect(ask({ from: 'deploy/shop/api', to: 'svc/shop/db', port: 0 })).toHaveLength(1);
    expect(ask({ from: 'deploy/shop/api', to: 'pod/shop/db-0' })).toEqual([expect.stringContaining('needs a port')]);
  });

  it('names policies that nothing here enforces', () => {
    const foreign = {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'l7', namespace: 'shop' },
      spec: { endpointSelector: {} },
    };
    const cluster = loadCluster({ manifests: [CAST], objects: [foreign] });
    expect(cluster.probe(API).notEnforced).toMatchObject([{ kind: 'CiliumNetworkPolicy', name: 'l7' }]);
    expect(cluster.warnings).toContain('not enforced: CiliumNetworkPolicy shop/l7');
  });
});

describe('trace', () => {
  it.each(BUILT_MODES)('tells the story: %s', (mode) => {
    const { text, branches, ...trace } = SHOP.withMode(mode).trace(BATCH);
    expect(trace).toMatchObject({ mode, verdict: 'dropped', reason: 'policy-denied' });
    const judged = branches[0]!.hops!.flatMap(({ steps }) => steps).filter(({ step }) => step === 'judgement');
    expect(judged).toEqual([{ step: 'judgement', ...branches[0]!.policies.ingress }]);
    expect(text).toContain('no policy selects pod shop/batch-');
    expect(text).toContain(`is denied: no rule of NetworkPolicy shop/db-from-api (${POLICY}:3) allows it`);
    expect(text).not.toContain('\u001b');
  });
});

describe('reach', () => {
  it('answers what the command does, and agrees with probe', () => {
    const answer = SHOP.reach({ to: ['sts/shop/db'], namespaces: ['shop'], ports: ['5432/tcp'] });
    expect(answer.mode).toBe('iptables');
    const reachedBy = answer.sources.flatMap((source, i) => {
      const rows = answer.cells[answer.matrix[i]![0]!] ?? [];
      const arrives = rows.some(({ outcomes }) => outcomes.some(({ verdict }) => verdict === 'delivered'));
      return arrives ? [answer.peers[source]!.id] : [];
    });
    expect(reachedBy).toContain('deploy/shop/api');
    expect(reachedBy).not.toContain('deploy/shop/batch');
    expect(answer.text).toContain('sts/shop/db');
  });

  it('throws what it cannot read or find', () => {
    expect(problemsOf(() => SHOP.reach({ ports: ['http'] }))).toHaveLength(1);
    expect(problemsOf(() => SHOP.reach({ from: ['deploy/shop/nobody'] }))).toHaveLength(1);
    expect(problemsOf(() => SHOP.reach({ namespaces: ['nowhere'] }))).toHaveLength(1);
  });
});

describe('matchers', () => {
  it.each(BUILT_MODES)('hold or not: %s', (mode) => {
    const shop = SHOP.withMode(mode);
    expect(shop).toAllow(API);
    expect(shop).not.toDeny(API);
    expect(shop).toDeny(BATCH);
    expect(shop).not.toAllow(BATCH);
    expect(shop).toAllow({ from: 'deploy/shop/api', to: '203.0.113.1', port: 443 });
  });

  it('tell a refusal from a denial', () => {
    const nobody = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'nobody', namespace: 'shop' },
      spec: { selector: { app: 'nobody' }, ports: [{ port: 80 }] },
    };
    const cluster = loadCluster({ manifests: [CAST], objects: [nobody] });
    const request = { from: 'deploy/shop/api', to: 'svc/shop/nobody', port: 80 };
    expect(cluster).not.toAllow(request);
    expect(cluster).not.toDeny(request);
  });

  it('say what became of the packet, and who decided', () => {
    expect(failureOf(() => expect(SHOP).toAllow(BATCH)).replace(/batch-\w+-\w+/, 'batch-1')).toBe(
      [
        'expected deploy/shop/batch → svc/shop/db, port 5432 to be allowed (mode iptables)',
        `  ${SHOP.probe(BATCH).backends[0]}: dropped (policy-denied)`,
        '    no policy selects pod shop/batch-1 for egress',
        `    ingress of pod shop/db-0 is denied: no rule of NetworkPolicy shop/db-from-api (${POLICY}:3) allows it`,
      ].join('\n'),
    );
    expect(failureOf(() => expect(SHOP).not.toAllow(API))).toContain(
      `is allowed by NetworkPolicy shop/db-from-api spec.ingress[0].from[0] (${POLICY}:11)`,
    );
    expect(failureOf(() => expect(SHOP).toDeny(API))).toMatch(
      /^expected .* to be denied by policies \(mode iptables\)\n/,
    );
    expect(failureOf(() => expect(SHOP).not.toDeny(BATCH))).toMatch(/^expected .* not to be denied by policies /);
  });

  it('want a cluster', () => {
    expect(failureOf(() => expect({}).toAllow(API))).toBe(
      "toAllow asks a cluster: expect(loadCluster('manifests')).toAllow({from, to, port})",
    );
  });
});
