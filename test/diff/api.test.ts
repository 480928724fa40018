/** POST /flatpath/v1/diff: a change tried against the running state, which it leaves alone. */

import { describe, expect, it } from 'vitest';
import { smallCluster, startServer } from '../api/support.ts';

const deny = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'deny', namespace: 'default' },
  spec: { podSelector: {}, policyTypes: ['Ingress'] },
};

async function startSmall() {
  const server = await startServer();
  await server.ask('PUT', '/flatpath/v1/objects', smallCluster());
  return server;
}

describe('POST /flatpath/v1/diff', () => {
  it('tells what changed objects would break, and changes nothing', async () => {
    const server = await startSmall();
    const { generation } = server.cluster;
    const { code, json } = await server.ask('POST', '/flatpath/v1/diff', { objects: [deny], mode: 'iptables' });
    expect(code).toBe(200);
    expect(json).toMatchObject({
      version: 1,
      modes: { before: 'iptables', after: 'iptables' },
      objects: [{ change: 'added', kind: 'NetworkPolicy', name: 'deny' }],
    });
    expect(Number(json['summary']!['breaks'])).toBeGreaterThan(0);
    expect(server.cluster.generation).toBe(generation);
  });

  it('tells what removed objects would do, and a change of the configuration', async () => {
    const server = await startSmall();
    await server.ask('POST', '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies', deny);
    const removed = [{ kind: 'NetworkPolicy', namespace: 'default', name: 'deny' }];
    const { json } = await server.ask('POST', '/flatpath/v1/diff', { removed });
    expect(json['summary']).toMatchObject({ breaks: 0 });
    expect(Number(json['summary']!['opens'])).toBeGreaterThan(0);
    const same = await server.ask('POST', '/flatpath/v1/diff', {});
    expect(same.json).toMatchObject({ objects: [], changes: [] });
  });

  it('refuses what is wrong, with the field', async () => {
    const server = await startSmall();
    const broken = { objects: [{ ...deny, spec: { podSelector: {}, policyTypes: ['Sideways'] } }] };
    const wrong = await server.ask('POST', '/flatpath/v1/diff', broken);
    expect(wrong.code).toBe(422);
    expect(wrong.text).toContain('objects[0].spec.policyTypes');
    const absent = { removed: [{ kind: 'Pod', namespace: 'default', name: 'nobody' }] };
    const gone = await server.ask('POST', '/flatpath/v1/diff', absent);
    expect(gone.code).toBe(422);
    expect(gone.text).toContain('there is no Pod default/nobody');
    expect((await server.ask('POST', '/flatpath/v1/diff', { unknown: 1 })).code).toBe(422);
  });
});
