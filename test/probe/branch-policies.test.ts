/** What an answer says of policies at both ends of a connection: who decided, who isolates, or why nobody was asked. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { describeAnswer, type PolicyAnswer, readJudgements } from '../../control/src/explain/judgement.ts';
import { formatStory } from '../../control/src/explain/story-text.ts';
import { BUILT_MODES, type DatapathInput, type Mode, resolveDatapath } from '../../control/src/model/datapath.ts';
import { type BranchPolicies, branchPolicies } from '../../control/src/probe/branch-policies.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { describePolicy, listNotEnforced } from '../../control/src/probe/not-enforced.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { runProbe } from '../../control/src/probe/suite.ts';
import { traceConnection } from '../../control/src/probe/trace-report.ts';
import { formatTrace } from '../../control/src/probe/trace-text.ts';
import { modelRuleset } from '../../control/src/ruleset/node-model.ts';

const node = (name: string, address: string, podCIDR: string) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  spec: { podCIDR },
  status: { addresses: [{ type: 'InternalIP', address }] },
});
const pod = (namespace: string, name: string, nodeName: string, podIP: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { app: name } },
  spec: { nodeName, containers: [{ ports: [{ name: 'http', containerPort: 8080 }] }] },
  status: { podIP },
});
const policy = (name: string, app: string, spec: object) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace: 'shop' },
  spec: { podSelector: { matchLabels: { app } }, ...spec },
});
const clusterPolicy = (name: string, tier: string, app: string, rules: object) => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  metadata: { name },
  spec: {
    tier,
    priority: 7,
    subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app } } } },
    ...rules,
  },
});

const OBJECTS = [
  node('n1', '192.168.0.1', '10.244.0.0/24'),
  node('n2', '192.168.0.2', '10.244.1.0/24'),
  pod('shop', 'web', 'n1', '10.244.0.2'),
  pod('shop', 'api', 'n1', '10.244.0.3'),
  pod('shop', 'db', 'n2', '10.244.1.3'),
  pod('other', 'lone', 'n2', '10.244.1.4'),
  pod('other', 'free', 'n1', '10.244.0.5'),
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'db', namespace: 'shop' },
    spec: { clusterIP: '10.96.0.10', selector: { app: 'db' }, ports: [{ port: 80, targetPort: 'http' }] },
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'empty', namespace: 'shop' },
    spec: { clusterIP: '10.96.0.11', selector: { app: 'nobody' }, ports: [{ port: 80 }] },
  },
  policy('api-in', 'api', {
    ingress: [
      { from: [{ podSelector: { matchLabels: { app: 'db' } } }, { podSelector: { matchLabels: { app: 'web' } } }] },
    ],
  }),
  policy('db-closed', 'db', { policyTypes: ['Ingress', 'Egress'] }),
  policy('db-in', 'db', {
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'api' } } }], ports: [{ port: 'http' }] }],
  }),
  clusterPolicy('watch', 'Admin', 'lone', {
    ingress: [
      { action: 'Deny', from: [{ namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } }] },
      { action: 'Accept', from: [{ namespaces: { matchLabels: { team: 'nobody' } } }] },
    ],
  }),
];

function modelOf(objects: readonly unknown[], datapath: DatapathInput = {}): ClusterModel {
  const { cluster } = loadCluster([], { objects });
  return modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
}

const MODEL = modelOf(OBJECTS);

function policiesOf(mode: Mode, from: string, to: string, protocol?: string, model = MODEL): BranchPolicies {
  const simulator = new Simulator(model, mode);
  const branches = simulator.probe(resolveConnection(model, { from, to, protocol }), true);
  expect(branches).toHaveLength(1);
  return branchPolicies(simulator.image, branches[0]!);
}

/** An answer in a word: 'allowed api-in spec.ingress[0].from[1]', 'allowed own-node'. */
function inShort(answer: PolicyAnswer | null): string | null {
  if (answer === null) return null;
  const { verdict, because, policy: decided, peer, policies } = answer;
  if (because === 'rule') return `${verdict} ${decided!.name} ${peer}`;
  return [verdict, because, ...policies.map(({ name }) => name)].join(' ');
}

describe.each(BUILT_MODES)('%s', (mode) => {
  it.each([
    ['pod/shop/web', 'pod/shop/api:8080', 'allowed unselected', 'allowed api-in spec.ingress[0].from[1]'],
    ['pod/other/free', 'pod/shop/api:8080', 'allowed unselected', 'denied isolated api-in'],
    ['203.0.113.9', 'pod/shop/api:8080', null, 'denied isolated api-in'],
    ['pod/shop/api', 'svc/shop/db:80', 'allowed unselected', 'allowed db-in spec.ingress[0].from[0]'],
    ['pod/shop/web', 'svc/shop/db:80', 'allowed unselected', 'denied isolated db-closed db-in'],
    ['pod/shop/db', 'pod/shop/api:8080', 'denied isolated db-closed', 'not-judged not-reached'],
    ['pod/shop/db', 'pod/other/free:80', 'denied isolated db-closed', 'allowed unselected'],
    ['pod/shop/db', '203.0.113.9:443', 'denied isolated db-closed', null],
    ['pod/shop/db', 'node/n1:22', 'denied isolated db-closed', null],
    ['pod/shop/db', 'node/n2:22', 'allowed own-node', null],
    ['pod/shop/db', 'pod/shop/db:80', 'allowed itself', 'allowed itself'],
    ['pod/shop/db', 'svc/shop/db:80', 'allowed itself', 'allowed itself'],
    ['node/n2', 'pod/shop/db:80', null, 'allowed own-node'],
    ['node/n1', 'pod/shop/db:80', null, 'denied isolated db-closed db-in'],
    ['pod/shop/web', 'pod/other/lone:80', 'allowed unselected', 'denied watch spec.ingress[0].from[0]'],
    ['pod/other/free', 'pod/other/lone:80', 'allowed unselected', 'allowed open watch'],
    ['pod/shop/db', 'svc/shop/empty:80', 'not-judged not-reached', null],
    ['pod/other/free', '203.0.113.9:443', 'allowed unselected', null],
  ])('%s → %s: egress %s, ingress %s', (from, to, egress, ingress) => {
    const answers = policiesOf(mode, from, to);
    expect({ egress: inShort(answers.egress), ingress: inShort(answers.ingress) }).toEqual({ egress, ingress });
  });

  it('names tier, priority, action, rule and peer', () => {
    expect(policiesOf(mode, 'pod/shop/web', 'pod/other/lone:80').ingress).toEqual({
      direction: 'ingress',
      pod: 'other/lone',
      verdict: 'denied',
      because: 'rule',
      policy: { kind: 'ClusterNetworkPolicy', namespace: '', name: 'watch' },
      tier: 'admin',
      priority: 7,
      action: 'deny',
      rule: 'spec.ingress[0]',
      peer: 'spec.ingress[0].from[0]',
      origin: { kind: 'ClusterNetworkPolicy', namespace: '', name: 'watch', field: 'spec.ingress[0].from[0]' },
      policies: [{ kind: 'ClusterNetworkPolicy', namespace: '', name: 'watch', field: '' }],
    });
  });

  it('makes one judgement for each judged direction of a packet, and the story tells it where it happens', () => {
    const simulator = new Simulator(MODEL, mode);
    const pods = MODEL.topology.endpoints.map(({ pod: { metadata } }) => `pod/${metadata.namespace}/${metadata.name}`);
    for (const from of [...pods, 'node/n1', '203.0.113.9']) {
      for (const to of [...pods, 'svc/shop/db', 'node/n2']) {
        const connection = resolveConnection(MODEL, { from, to: `${to}:80` });
        const { branches, stories, policies } = traceConnection(MODEL, mode, connection);
        branches.forEach((branch, i) => {
          const judgements = readJudgements(simulator.image, branch.events);
          const directions = judgements.map(({ direction }) => direction);
          expect(new Set(directions).size, `${from} → ${to}`).toBe(directions.length);
          const steps = stories[i]!.hops.flatMap(({ steps }) => steps.filter(({ step }) => step === 'judgement'));
          const { egress, ingress } = policies[i]!;
          const told = [egress, ingress].filter(
            (answer) => answer !== null && ['rule', 'isolated', 'open'].includes(answer.because),
          );
          expect(steps).toEqual(told.map((answer) => ({ step: 'judgement', ...answer })));
          if (branch.reason === 'policy-denied') expect(told.at(-1)).toMatchObject({ verdict: 'denied' });
        });
      }
    }
  });

  it('says in the story, behind its end and in a failed test who denies', () => {
    const request = { from: 'pod/shop/web', to: 'svc/shop/db:80' };
    const trace = traceConnection(MODEL, mode, resolveConnection(MODEL, request));
    const sentence =
      'ingress of pod shop/db is denied: no rule of NetworkPolicy shop/db-closed or NetworkPolicy shop/db-in allows it';
    expect(formatStory(trace.stories[0]!, PLAIN).map((line) => line.trim())).toContain(sentence);
    const text = formatTrace(trace, PLAIN);
    expect(text).toContain(sentence);
    expect(text).toContain('no policy selects pod shop/web for egress');
    expect(text).toContain('verdict: dropped (policy-denied)');
    const failed = runProbe(trace.simulator, { ...request, expect: { verdict: 'delivered' } });
    expect(failed).toMatchObject({ passed: false, denials: [sentence] });
    expect(runProbe(trace.simulator, { ...request, expect: { verdict: 'dropped' } }).denials).toEqual([]);
  });

  it('judges what a profile judges', () => {
    const model = modelOf(OBJECTS, { policy: { profile: 'calico' } });
    const ownNode = policiesOf(mode, 'pod/shop/db', 'node/n2:22', undefined, model);
    expect(inShort(ownNode.egress)).toBe('denied isolated db-closed');
    const hairpin = policiesOf(mode, 'pod/shop/db', 'svc/shop/db:80', undefined, model);
    expect(inShort(hairpin.egress)).toBe('denied isolated db-closed');
  });
});

const plain = (text: string): string => text;
const PLAIN = { good: plain, bad: plain, dim: plain, bold: plain };

describe('a node whose rules come from a dump', () => {
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-dump-'));
  const file = join(folder, 'n1.iptables');
  writeFileSync(file, '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n');
  afterAll(() => rmSync(folder, { recursive: true }));

  it('leaves policies to its dump, and names those of its pods', () => {
    const { cluster } = loadCluster([], { objects: OBJECTS });
    const { model } = modelRuleset({ files: [file], addresses: [], lenient: false }, cluster, 'n1', {});
    const answers = policiesOf('iptables', 'pod/other/free', 'pod/shop/api:8080', undefined, model);
    expect(inShort(answers.egress)).toBe('allowed unselected');
    expect(inShort(answers.ingress)).toBe('not-judged dump');
    const simulator = new Simulator(model, 'iptables');
    const named = (from: string, to: string): string[] =>
      runProbe(simulator, { from, to }).notEnforced.map(describePolicy);
    expect(named('pod/other/free', 'pod/shop/api:8080')).toEqual(['NetworkPolicy shop/api-in']);
    expect(named('pod/other/free', 'pod/shop/db:80')).toEqual([]);
    expect(listNotEnforced(model).map(describePolicy)).toEqual(['NetworkPolicy shop/api-in']);
    // The other node keeps its own.
    expect(inShort(policiesOf('iptables', 'pod/other/free', 'pod/shop/db:80', undefined, model).ingress)).toBe(
      'denied isolated db-closed db-in',
    );
  });
});

describe('sentences', () => {
  it('name the first policies of many', () => {
    const names = Array.from({ length: 9 }, (_, i) => `p${i}`);
    const policies = names.map((name) => ({ kind: 'NetworkPolicy', namespace: 'shop', name, field: '' }));
    const answer = policiesOf('iptables', 'pod/other/free', 'pod/shop/api:8080').ingress!;
    expect(describeAnswer({ ...answer, policies })).toBe(
      'ingress of pod shop/api is denied: no rule of NetworkPolicy shop/p0, NetworkPolicy shop/p1, ' +
        'NetworkPolicy shop/p2, NetworkPolicy shop/p3, NetworkPolicy shop/p4 or 4 more allows it',
    );
  });

  it('say the tier of a rule of the administrator', () => {
    const answer = policiesOf('iptables', 'pod/shop/web', 'pod/other/lone:80').ingress!;
    expect(describeAnswer(answer)).toBe(
      'ingress of pod other/lone is denied by ClusterNetworkPolicy watch spec.ingress[0].from[0], tier Admin, priority 7',
    );
  });
});
