/** Policies over the API: every kind is kept, checked and resolved like in a file. */

import { describe, expect, it } from 'vitest';
import { startSmall, type TestServer } from '../api/support.ts';

const GROUP = '/apis/policy.networking.k8s.io';
const deny = { action: 'Deny', from: [{ namespaces: {} }] };
const subject = { namespaces: {} };
const KINDS = [
  {
    kind: 'ClusterNetworkPolicy',
    version: 'v1alpha2',
    path: `${GROUP}/v1alpha2/clusternetworkpolicies`,
    name: 'deny-all',
    spec: { tier: 'Admin', priority: 5, subject, ingress: [deny] },
    wrong: { tier: 'Admin', priority: 1001, subject, ingress: [{ ...deny, action: 'Allow' }] },
    fields: ['spec.priority', 'spec.ingress[0].action'],
  },
  {
    kind: 'AdminNetworkPolicy',
    version: 'v1alpha1',
    path: `${GROUP}/v1alpha1/adminnetworkpolicies`,
    name: 'deny-all',
    spec: { priority: 5, subject, ingress: [deny] },
    wrong: { priority: 5, subject: { pods: { podSelector: {} } }, ingress: [{ ...deny, from: [{}] }] },
    fields: ['spec.subject.pods.namespaceSelector', 'spec.ingress[0].from[0]'],
  },
  {
    kind: 'BaselineAdminNetworkPolicy',
    version: 'v1alpha1',
    path: `${GROUP}/v1alpha1/baselineadminnetworkpolicies`,
    name: 'default',
    spec: { subject, ingress: [deny] },
    wrong: { subject, ingress: [{ ...deny, action: 'Pass' }] },
    fields: ['spec.ingress[0].action'],
  },
  {
    kind: 'NetworkPolicy',
    version: 'v1',
    path: '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies',
    name: 'deny-all',
    spec: { podSelector: {} },
    wrong: { podSelector: {}, ingress: [{ ports: [{ port: 'http', endPort: 90 }] }] },
    fields: ['spec.ingress[0].ports[0].endPort'],
  },
];

describe.each(KINDS)('$kind', ({ kind, version, path, name, spec, wrong, fields }) => {
  const judged = ({ cluster }: TestServer): number =>
    cluster.model.policies.ingress.filter((order) => order !== null).length;

  it('is made, read, replaced, listed and deleted, and judges meanwhile', async () => {
    const server = await startSmall();
    const { ask } = server;
    expect(judged(server)).toBe(0);
    const made = await ask('PUT', `${path}/${name}`, { spec });
    expect(made.code).toBe(201);
    expect(made.json).toMatchObject({ kind, metadata: { name }, spec });
    expect(String(made.json['apiVersion'])).toMatch(new RegExp(`/${version}$`));
    expect(judged(server)).toBe(server.cluster.model.topology.endpoints.length);

    expect((await ask('GET', `${path}/${name}`)).json).toEqual(made.json);
    expect((await ask('PUT', `${path}/${name}`, made.json)).code).toBe(200);
    const { json } = await ask('GET', path);
    expect([json['kind'], Object.values(json['items']!).length]).toEqual([`${kind}List`, 1]);

    expect((await ask('DELETE', `${path}/${name}`)).code).toBe(200);
    expect((await ask('GET', `${path}/${name}`)).code).toBe(404);
    expect(judged(server)).toBe(0);
  });

  it('is refused where it is wrong, with the fields', async () => {
    const { ask, cluster } = await startSmall();
    const before = cluster.generation;
    const { code, json } = await ask('PUT', `${path}/${name}`, { spec: wrong });
    expect(code).toBe(422);
    expect(Object.values(json['details']!['causes']!).map((cause) => cause['field'])).toEqual(fields);
    expect(cluster.generation).toBe(before);
  });
});

describe('the Baseline one', () => {
  it('has one name', async () => {
    const { ask } = await startSmall();
    const answer = await ask('PUT', `${GROUP}/v1alpha1/baselineadminnetworkpolicies/second`, { spec: { subject } });
    expect(answer).toMatchObject({ code: 422, json: { details: { causes: [{ field: 'metadata.name' }] } } });
  });
});

describe('the cluster-wide kinds', () => {
  it('have no namespaced paths', async () => {
    const { ask } = await startSmall();
    const path = `${GROUP}/v1alpha2/namespaces/default/clusternetworkpolicies`;
    expect((await ask('GET', path)).code).toBe(404);
  });
});
