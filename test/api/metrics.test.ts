import { describe, expect, it } from 'vitest';
import { KIND_NAMES, KINDS } from '../../control/src/cluster/kinds.ts';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { startSmall } from './support.ts';

describe('metrics', () => {
  it('count packets by mode, verdict and reason', async () => {
    const { ask } = await startSmall();
    const packets = [{ from: 'pod/default/client', fields: { dst: 'svc/default/web:80' } }, { hex: '00' }];
    await ask('POST', '/flatpath/v1/packets', { mode: 'ebpf', packets });
    const { type, text } = await ask('GET', '/metrics');
    expect(type).toContain('text/plain');
    expect(text).toContain('flatpath_packets_total{mode="ebpf",verdict="delivered",reason="none"} 1');
    expect(text).toContain('flatpath_packets_total{mode="ebpf",verdict="dropped",reason="unsupported-l2"} 1');
    expect(text).toContain('flatpath_image_generation 2');
    expect(text).toMatch(/^flatpath_new_flows_total\{mode="ebpf"\} 1$/m);
    expect(text).toMatch(/^flatpath_conntrack_entries\{mode="ebpf",family="ipv4"\} [1-9]/m);
    // A scrape reads and adds nothing.
    const again = await ask('GET', '/metrics');
    const own = (body: string): string[] => body.split('\n').filter((line) => line.startsWith('flatpath_'));
    expect(own(again.text)).toEqual(own(text));
  });
});

describe('the description', () => {
  it('has every route, and the schemas that validate', async () => {
    const { ask } = await startSmall();
    const { json } = await ask('GET', '/openapi.json');
    expect(json).toMatchObject({ openapi: expect.stringMatching(/^3\./), info: { title: 'flatpath' } });
    const paths = json['paths']!;
    for (const path of [
      'packets',
      'trace',
      'streams',
      'streams/{id}',
      'streams/{id}/events',
      'stats',
      'flows',
      'objects',
      'datapath',
    ]) {
      expect(paths, path).toHaveProperty([`/flatpath/v1/${path}`]);
    }
    for (const kind of KIND_NAMES) {
      const { group, version, plural, namespaced, schema } = KINDS[kind];
      const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
      const collection = namespaced ? `${root}/namespaces/{namespace}/${plural}` : `${root}/${plural}`;
      const body = paths[collection]!['post']!['requestBody']!['content']!['application/json']!['schema']!;
      // The description writes some keywords in OpenAPI's own way; what an object has and needs stays.
      expect(Object.keys(body['properties']!)).toEqual(Object.keys(schema['properties']));
      expect(body['required']).toEqual(schema['required']);
      expect(paths).toHaveProperty([`${collection}/{name}`, 'put']);
    }
    // Refused methods are no part of it.
    expect(paths['/api/v1/nodes/{name}']).not.toHaveProperty('patch');
  });

  it('has an index and a health check', async () => {
    const { ask } = await startSmall();
    const { json } = await ask('GET', '/');
    expect(Object.values(json['routes']!)).toContain('/flatpath/v1/trace');
    expect(await ask('GET', '/healthz')).toMatchObject({ code: 200, text: 'ok' });
  });
});

describe('trace', () => {
  it('answers what the command does', async () => {
    const { ask } = await startSmall();
    const request = { from: 'pod/default/client', to: 'svc/default/web:80', mode: 'all' };
    const { code, json } = await ask('POST', '/flatpath/v1/trace', request);
    expect(code).toBe(200);
    expect(json).toMatchObject({ version: 1, from: request.from, to: request.to });
    const traces = Object.values(json['traces']!);
    expect(traces.map(({ mode }) => String(mode))).toEqual([...BUILT_MODES]);
    for (const trace of traces) {
      expect(trace).toMatchObject({ verdict: 'delivered', backends: ['10.244.1.20:8080', '10.244.2.20:8080'] });
      expect(Object.values(trace['branches']!)).toHaveLength(2);
    }
  });

  it('names the reference that is wrong', async () => {
    const { ask } = await startSmall();
    const good = { from: 'pod/default/client', to: 'svc/default/web:80' };
    for (const [field, value] of Object.entries({
      from: 'pod/default/x',
      to: 'svc/default/x:1',
      node: 'x',
      protocol: 'x',
    })) {
      const { code, json } = await ask('POST', '/flatpath/v1/trace', { ...good, [field]: value });
      expect(code).toBe(422);
      expect(json['details']!['causes']![0]!['field']).toBe(field);
    }
  });
});
