/** The cluster-wide policies resolved: subjects, peers, ports, the order of tiers and priorities, ambiguity. */

import { describe, expect, it } from 'vitest';
import {
  adminNetworkPolicy,
  baselineAdminNetworkPolicy,
  CAST,
  clusterNetworkPolicy,
  networkPolicy,
  Resolved,
} from './support.ts';

const EVERYBODY = { namespaces: {} };
const DEV = { matchLabels: { env: 'dev' } };
const WEB = { matchLabels: { app: 'web' } };
const deny = { action: 'Deny', from: [EVERYBODY] };

const cnp = (name: string, spec: object): object =>
  clusterNetworkPolicy(name, { tier: 'Admin', priority: 10, subject: EVERYBODY, ingress: [deny], ...spec });
const anp = (name: string, spec: object): object =>
  adminNetworkPolicy(name, { priority: 10, subject: EVERYBODY, ingress: [deny], ...spec });
const banp = (spec: object = {}): object =>
  baselineAdminNetworkPolicy({ subject: EVERYBODY, ingress: [deny], ...spec });
const resolve = (...policies: object[]): Resolved => new Resolved([...CAST, ...policies]);

describe('subject', () => {
  it.each([
    ['all namespaces', EVERYBODY, ['dev/db', 'dev/web', 'other/bare', 'prod/db', 'prod/web']],
    ['namespaces by label', { namespaces: DEV }, ['dev/db', 'dev/web']],
    ['pods and namespaces', { pods: { namespaceSelector: DEV, podSelector: WEB } }, ['dev/web']],
    ['pods of all namespaces', { pods: { namespaceSelector: {}, podSelector: WEB } }, ['dev/web', 'prod/web']],
  ])('%s', (_name, subject, pods) => {
    for (const make of [cnp, anp]) expect(resolve(make('a', { subject })).selected('ingress')).toEqual(pods);
    expect(resolve(banp({ subject })).selected('ingress')).toEqual(pods);
    expect(resolve(banp({ subject })).selected('egress')).toEqual([]);
  });

  it('v1alpha2 may leave the namespaces out', () => {
    expect(resolve(cnp('a', { subject: { pods: { podSelector: WEB } } })).selected('ingress')).toEqual([
      'dev/web',
      'prod/web',
    ]);
  });
});

describe('rules', () => {
  it('of a ClusterNetworkPolicy', () => {
    const resolved = resolve(
      cnp('a', {
        ingress: [
          { action: 'Accept', from: [{ pods: { podSelector: WEB } }, { namespaces: DEV }] },
          { action: 'Pass', from: [EVERYBODY], protocols: [{ destinationNamedPort: 'http' }] },
        ],
        egress: [
          {
            action: 'Deny',
            to: [{ networks: ['10.0.0.5/8', 'fd00::/8'] }, { nodes: { matchLabels: { zone: 'b' } } }, { nodes: {} }],
            protocols: [
              { tcp: { destinationPort: { number: 80 } } },
              { udp: { destinationPort: { range: { start: 53, end: 54 } } } },
              { sctp: { destinationPort: { number: 7 } } },
            ],
          },
          { action: 'Accept', to: [{ domainNames: ['*.example.org'] }, { namespaces: { matchLabels: { no: 'no' } } }] },
        ],
      }),
    );
    const ports = 'TCP/80,UDP/53-54,SCTP/7';
    expect(resolved.rules()).toEqual([
      'spec.ingress[0].from[0] accept {dev/web prod/web} *',
      'spec.ingress[0].from[1] accept {dev/db dev/web} *',
      'spec.ingress[1].from[0] pass {dev/db dev/web other/bare prod/db prod/web} any/http',
      `spec.egress[0].to[0].networks[0] deny 10.0.0.0/8 ${ports}`,
      `spec.egress[0].to[0].networks[1] deny fd00::/8 ${ports}`,
      `spec.egress[0].to[1] deny nodes{n2} ${ports}`,
      `spec.egress[0].to[2] deny nodes{n1 n2} ${ports}`,
      'spec.egress[1].to[1] accept {} *',
    ]);
    expect(resolved.model.rules.map(({ field }) => field)).toEqual([
      ...Array(2).fill('spec.ingress[0]'),
      'spec.ingress[1]',
      ...Array(4).fill('spec.egress[0]'),
      'spec.egress[1]',
    ]);
  });

  it('of an AdminNetworkPolicy and of the Baseline one', () => {
    const ports = [
      { portNumber: { protocol: 'UDP', port: 53 } },
      { portNumber: { port: 80 } },
      { portRange: { start: 8000, end: 8080 } },
      { namedPort: 'metrics' },
    ];
    const spec = { ingress: [{ action: 'Allow', from: [{ namespaces: DEV }], ports }] };
    const rule = 'spec.ingress[0].from[0] accept {dev/db dev/web} UDP/53,TCP/80,TCP/8000-8080,any/metrics';
    expect(resolve(anp('a', spec)).rules()).toEqual([rule]);
    expect(resolve(banp(spec)).rules()).toEqual([rule]);
  });

  it('a direction without rules is left alone, one with a peer that matches nothing is not', () => {
    expect(resolve(cnp('a', { ingress: [], egress: [] })).selected('ingress')).toEqual([]);
    const resolved = resolve(cnp('a', { egress: [{ action: 'Accept', to: [{ domainNames: ['a.b'] }] }] }));
    expect(resolved.order('egress', 'dev/db')).toMatchObject({ admin: [], network: null, baseline: [] });
    expect(resolved.order('egress', 'dev/db')!.policies).toHaveLength(1);
  });
});

describe('order', () => {
  const names = (resolved: Resolved, pod: string, tier: 'admin' | 'baseline'): string[] =>
    resolved.order('ingress', pod)![tier].map(({ policy }) => policy.metadata.name);

  it('the Admin tier is both kinds by priority', () => {
    const resolved = resolve(
      cnp('c20', { priority: 20 }),
      anp('a5', { priority: 5 }),
      cnp('c1', { priority: 1 }),
      anp('a1000', { priority: 1000 }),
      anp('a10', { priority: 10 }),
    );
    expect(names(resolved, 'prod/web', 'admin')).toEqual(['c1', 'a5', 'a10', 'c20', 'a1000']);
    expect(resolved.warnings()).toEqual([]);
  });

  it('the Baseline tier is ClusterNetworkPolicies by priority, then the one without', () => {
    const base = (name: string, priority: number): object => cnp(name, { tier: 'Baseline', priority });
    const resolved = resolve(banp(), base('b', 7), base('a', 9), base('zero', 0));
    expect(names(resolved, 'dev/web', 'baseline')).toEqual(['zero', 'b', 'a', 'default']);
    expect(resolved.model.rules.map(({ tier, priority }) => `${tier} ${priority}`)).toEqual([
      'baseline 0',
      'baseline 7',
      'baseline 9',
      'baseline 0',
    ]);
  });

  it('Baseline rules stand only where no NetworkPolicy isolates the direction', () => {
    const egress = [{ action: 'Deny', to: [EVERYBODY] }];
    const resolved = resolve(banp({ egress }), networkPolicy({ podSelector: WEB }), cnp('c', {}));
    const web = resolved.order('ingress', 'prod/web')!;
    expect(web).toMatchObject({ baseline: [], network: { rules: [] } });
    expect(web.policies.map(({ kind }) => kind)).toEqual([
      'ClusterNetworkPolicy',
      'NetworkPolicy',
      'BaselineAdminNetworkPolicy',
    ]);
    expect(resolved.order('egress', 'prod/web')).toMatchObject({ network: null });
    expect(resolved.order('egress', 'prod/web')!.baseline).toHaveLength(1);
    expect(resolved.order('ingress', 'prod/db')!.baseline).toHaveLength(1);
    expect(resolved.order('ingress', 'prod/db')).toBe(resolved.order('ingress', 'dev/web'));
  });
});

describe('policies of one priority', () => {
  const accept = { ingress: [{ action: 'Accept', from: [EVERYBODY] }] };

  it('are ambiguous where they judge one pod differently; the order is by kind, then by name', () => {
    const resolved = resolve(cnp('b', {}), cnp('a', {}), anp('z', { ingress: [{ ...deny, action: 'Allow' }] }));
    expect(resolved.order('ingress', 'dev/db')!.policies.map(({ metadata }) => metadata.name)).toEqual(['z', 'a', 'b']);
    const wrong =
      'spec.priority: is ambiguous: AdminNetworkPolicy z has the same priority and selects Pod dev/db too; ' +
      'AdminNetworkPolicy z is taken first (by kind, then by name)';
    expect(resolved.warnings()).toEqual([`ClusterNetworkPolicy a ${wrong}`, `ClusterNetworkPolicy b ${wrong}`]);
  });

  it.each([
    [
      'other pods',
      cnp('a', { subject: { namespaces: DEV } }),
      cnp('b', { ...accept, subject: { namespaces: { matchLabels: { env: 'prod' } } } }),
    ],
    ['another direction', cnp('a', {}), cnp('b', { ingress: [], egress: [{ action: 'Accept', to: [EVERYBODY] }] })],
    ['another tier', cnp('a', {}), cnp('b', { ...accept, tier: 'Baseline' })],
    ['another priority', cnp('a', {}), cnp('b', { ...accept, priority: 11 })],
    ['the same action', cnp('a', {}), cnp('b', {})],
    ['the Baseline one has none', cnp('a', { ...accept, tier: 'Baseline', priority: 0 }), banp()],
  ])('are not: %s', (_name, a, b) => {
    expect(resolve(a, b).warnings()).toEqual([]);
  });

  it('of the Baseline tier are not where a NetworkPolicy isolates every pod they share', () => {
    const baseline = { tier: 'Baseline', subject: { namespaces: DEV } };
    const both = [cnp('a', baseline), cnp('b', { ...baseline, ...accept })];
    expect(resolve(...both).warnings()).toHaveLength(1);
    expect(resolve(...both, networkPolicy({}, 'p', 'dev')).warnings()).toEqual([]);
  });
});
