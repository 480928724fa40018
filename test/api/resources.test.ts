import { describe, expect, it } from 'vitest';
import { KIND_NAMES, KINDS } from '../../control/src/cluster/kinds.ts';
import { pod, service, startServer, startSmall } from './support.ts';

const SERVICES = '/api/v1/namespaces/default/services';

describe('resource paths', () => {
  it('lists every kind', async () => {
    const { ask } = await startSmall();
    for (const kind of KIND_NAMES) {
      const { group, version, plural, namespaced } = KINDS[kind];
      const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
      const paths = [`${root}/${plural}`, ...(namespaced ? [`${root}/namespaces/default/${plural}`] : [])];
      for (const path of paths) {
        const { code, json } = await ask('GET', path);
        expect(code, path).toBe(200);
        expect(json['kind']).toBe(`${kind}List`);
        expect(Array.isArray(json['items'])).toBe(true);
      }
    }
  });

  it('creates, reads, replaces and deletes, and answers what the cluster assigned', async () => {
    const { ask } = await startSmall();
    const created = await ask('POST', SERVICES, { metadata: { name: 'db' }, spec: { ports: [{ port: 5432 }] } });
    expect(created.code).toBe(201);
    expect(created.json).toMatchObject({
      kind: 'Service',
      apiVersion: 'v1',
      metadata: { name: 'db', namespace: 'default' },
    });
    expect(created.json['spec']?.['clusterIP']).toMatch(/^10\.(9[6-9]|10\d|11[01])\./);

    expect((await ask('GET', `${SERVICES}/db`)).json).toEqual(created.json);
    expect(await ask('POST', SERVICES, { metadata: { name: 'db' }, spec: { ports: [{ port: 1 }] } })).toMatchObject({
      code: 409,
      json: { kind: 'Status', status: 'Failure', reason: 'AlreadyExists', details: { name: 'db', kind: 'services' } },
    });
    const replaced = await ask('PUT', `${SERVICES}/db`, {
      metadata: { name: 'db' },
      spec: { ports: [{ port: 3306 }] },
    });
    expect(replaced).toMatchObject({ code: 200, json: { spec: { ports: [{ port: 3306 }] } } });
    expect((await ask('PUT', `${SERVICES}/new`, { spec: { ports: [{ port: 1 }] } })).code).toBe(201);
    expect((await ask('DELETE', `${SERVICES}/db`)).code).toBe(200);
    expect(await ask('GET', `${SERVICES}/db`)).toMatchObject({ code: 404, json: { reason: 'NotFound' } });
    expect((await ask('DELETE', `${SERVICES}/db`)).code).toBe(404);
  });

  it('takes back what it answered', async () => {
    const { ask } = await startSmall();
    for (const path of [`${SERVICES}/web`, '/api/v1/nodes/alpha', '/api/v1/namespaces/default/pods/client']) {
      const { json } = await ask('GET', path);
      expect(await ask('PUT', path, json), path).toMatchObject({ code: 200 });
    }
  });

  it('refuses a change that makes the cluster invalid, whole', async () => {
    const { ask, cluster } = await startSmall();
    const before = cluster.generation;
    const model = cluster.model;
    const answer = await ask('POST', SERVICES, {
      metadata: { name: 'two' },
      spec: { clusterIP: '10.96.0.80', ports: [{ port: 1 }] },
    });
    expect(answer).toMatchObject({
      code: 422,
      json: {
        reason: 'Invalid',
        details: {
          name: 'two',
          kind: 'services',
          causes: [{ reason: 'FieldValueDuplicate', field: 'spec.clusterIP' }],
        },
      },
    });
    expect(cluster.generation).toBe(before);
    expect(cluster.model).toBe(model);
    expect((await ask('GET', `${SERVICES}/two`)).code).toBe(404);
  });

  it('names every wrong field at once', async () => {
    const { ask } = await startServer();
    const { code, json } = await ask('POST', SERVICES, {
      metadata: { name: 'bad' },
      spec: { type: 'Clusterip', ports: [{ port: 0 }, { port: '80' }] },
    });
    expect(code).toBe(422);
    const fields = Object.values(json['details']?.['causes'] ?? {}).map((cause) => cause['field']);
    expect(fields).toEqual(expect.arrayContaining(['spec.type', 'spec.ports[0].port', 'spec.ports[1].port']));
  });

  it('refuses a body that is not what the path says', async () => {
    const { ask } = await startServer();
    expect((await ask('POST', SERVICES, pod('x', 'a', '10.0.0.1', {}))).code).toBe(400);
    expect((await ask('POST', '/api/v1/namespaces/other/services', service('x', {}))).code).toBe(400);
    expect((await ask('PUT', `${SERVICES}/y`, service('x', {}))).code).toBe(400);
    for (const body of [[], 3, 'text', null]) expect((await ask('POST', SERVICES, body)).code).toBe(400);
  });

  it('keeps a late writer from overwriting', async () => {
    const { ask } = await startSmall();
    const { json } = await ask('GET', `${SERVICES}/web`);
    expect((await ask('PUT', `${SERVICES}/web`, json)).code).toBe(200);
    expect(await ask('PUT', `${SERVICES}/web`, json)).toMatchObject({ code: 409, json: { reason: 'Conflict' } });
  });

  it('checks a dry run and changes nothing', async () => {
    const { ask, cluster } = await startSmall();
    const before = cluster.generation;
    const path = `${SERVICES}?dryRun=All`;
    expect((await ask('POST', path, service('dry', { ports: [{ port: 1 }] }))).code).toBe(201);
    expect((await ask('POST', path, service('dry', { clusterIP: '10.96.0.80' }))).code).toBe(422);
    expect((await ask('DELETE', `${SERVICES}/web?dryRun=All`)).code).toBe(200);
    expect(cluster.generation).toBe(before);
    expect((await ask('GET', `${SERVICES}/web`)).code).toBe(200);
    expect((await ask('GET', `${SERVICES}/dry`)).code).toBe(404);
  });

  it('reads made objects, and says what they are made from when one is to be deleted', async () => {
    const { ask } = await startSmall();
    await ask('POST', '/apis/apps/v1/namespaces/default/deployments', {
      metadata: { name: 'api' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'api' } },
        template: { metadata: { labels: { app: 'api' } }, spec: { containers: [{ name: 'main' }] } },
      },
    });
    const { json } = await ask('GET', '/api/v1/namespaces/default/pods');
    const made = Object.values(json['items'] ?? {}).filter((one) =>
      String(one['metadata']?.['name']).startsWith('api-'),
    );
    expect(made).toHaveLength(2);
    const answer = await ask('DELETE', `/api/v1/namespaces/default/pods/${made[0]?.['metadata']?.['name']}`);
    expect(answer.code).toBe(409);
    expect(answer.json['message']).toContain('Deployment default/api');
  });

  it('deletes a namespace with all that lives in it', async () => {
    const { ask } = await startSmall();
    await ask('POST', '/api/v1/namespaces/shop/services', { metadata: { name: 'a' }, spec: { ports: [{ port: 1 }] } });
    expect((await ask('GET', '/api/v1/namespaces/shop')).code).toBe(200);
    expect((await ask('DELETE', '/api/v1/namespaces/shop')).code).toBe(200);
    expect((await ask('GET', '/api/v1/namespaces/shop')).code).toBe(404);
    expect((await ask('GET', '/api/v1/namespaces/shop/services/a')).code).toBe(404);
    expect((await ask('GET', `${SERVICES}/web`)).code).toBe(200);
  });

  it('refuses PATCH, watch and parameters that it does not know', async () => {
    const { ask } = await startServer();
    expect(await ask('PATCH', `${SERVICES}/web`, {})).toMatchObject({
      code: 405,
      json: { reason: 'MethodNotAllowed' },
    });
    expect((await ask('DELETE', SERVICES)).code).toBe(405);
    expect((await ask('POST', '/api/v1/services', {})).code).toBe(405);
    expect((await ask('GET', `${SERVICES}?watch=true`)).code).toBe(400);
    expect((await ask('GET', `${SERVICES}?labelSelector=app%3Dweb`)).code).toBe(400);
    expect((await ask('GET', '/api/v1/widgets')).code).toBe(404);
  });

  it('makes changes one after the other', async () => {
    const { ask, cluster } = await startSmall();
    const before = cluster.generation;
    const names = Array.from({ length: 12 }, (_, i) => `s${i}`);
    const answers = await Promise.all(
      names.map((name) => ask('POST', SERVICES, { metadata: { name }, spec: { ports: [{ port: 80 }] } })),
    );
    expect(answers.map(({ code }) => code)).toEqual(names.map(() => 201));
    expect(cluster.generation).toBe(before + names.length);
    const versions = answers.map(({ json }) => Number(json['metadata']?.['resourceVersion']));
    expect(new Set(versions).size).toBe(names.length);
    // Of two that want one address one gets it.
    const rivals = await Promise.all(
      ['r1', 'r2'].map((name) =>
        ask('POST', SERVICES, { metadata: { name }, spec: { clusterIP: '10.96.0.99', ports: [{ port: 1 }] } }),
      ),
    );
    expect(rivals.map(({ code }) => code).sort()).toEqual([201, 422]);
  });
});

describe('the whole desired state', () => {
  it('is replaced at once', async () => {
    const { ask } = await startSmall();
    const answer = await ask('PUT', '/flatpath/v1/objects', [service('only', { ports: [{ port: 1 }] })]);
    expect(answer).toMatchObject({ code: 200, json: { objects: 1 } });
    expect((await ask('GET', `${SERVICES}/web`)).code).toBe(404);
    const { json } = await ask('GET', '/flatpath/v1/objects');
    expect(json).toMatchObject({ kind: 'List', items: [{ metadata: { name: 'only' } }] });
    expect((await ask('PUT', '/flatpath/v1/objects', json)).code).toBe(200);
  });

  it('is not touched by a list with an error, and every error is named', async () => {
    const { ask, cluster } = await startSmall();
    const before = cluster.generation;
    const answer = await ask('PUT', '/flatpath/v1/objects', [
      service('good', { ports: [{ port: 1 }] }),
      service('bad', { ports: [{ port: 70_000 }] }),
      3,
      { apiVersion: 'apps/v9', kind: 'Deployment', metadata: { name: 'd' } },
    ]);
    expect(answer.code).toBe(422);
    const fields = Object.values(answer.json['details']?.['causes'] ?? {}).map((cause) => cause['field']);
    expect(fields).toEqual(['items[1].spec.ports[0].port', 'items[2]', 'items[3].apiVersion']);
    expect(cluster.generation).toBe(before);
    expect((await ask('GET', `${SERVICES}/web`)).code).toBe(200);
  });

  it('counts what is not modelled', async () => {
    const { ask } = await startServer();
    const answer = await ask('PUT', '/flatpath/v1/objects', [
      {
        apiVersion: 'cilium.io/v2',
        kind: 'CiliumNetworkPolicy',
        metadata: { name: 'p', namespace: 'default' },
        spec: {},
      },
    ]);
    expect(answer.json).toMatchObject({
      unmodelled: [{ kind: 'CiliumNetworkPolicy', count: 1 }],
      unmodelledPolicies: [{ name: 'p' }],
    });
  });
});

describe('the datapath configuration', () => {
  it('is read, replaced and checked', async () => {
    const { ask } = await startSmall();
    expect((await ask('GET', '/flatpath/v1/datapath')).json).toMatchObject({
      given: {},
      effective: { ebpf: { algorithm: 'random' } },
    });
    const maglev = { ebpf: { algorithm: 'maglev' } };
    expect(await ask('PUT', '/flatpath/v1/datapath', maglev)).toMatchObject({ code: 200, json: { given: maglev } });
    const wrong = await ask('PUT', '/flatpath/v1/datapath', {
      ebpf: { maglevTableSize: 7 },
      kubeProxy: { clusterCIDR: ['x'] },
    });
    expect(wrong.code).toBe(422);
    const fields = Object.values(wrong.json['details']?.['causes'] ?? {}).map((cause) => cause['field']);
    expect(fields).toEqual(['kubeProxy.clusterCIDR[0]', 'ebpf.maglevTableSize']);
    expect((await ask('PUT', '/flatpath/v1/datapath', { nope: 1 })).code).toBe(422);
    expect((await ask('GET', '/flatpath/v1/datapath')).json).toMatchObject({ given: maglev });
  });
});
