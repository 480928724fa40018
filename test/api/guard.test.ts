import { request } from 'node:http';
import { connect } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isLoopbackHost } from '../../control/src/api/guard.ts';
import { startServer, startSmall, type TestServer } from './support.ts';

const JSON_TYPE = { 'content-type': 'application/json' };

describe('who may speak', () => {
  it('only names of the server are answered', async () => {
    const { send } = await startServer({ allowedHosts: ['flatpath.test', '10.0.0.5', 'other:99'] });
    for (const host of [
      'localhost',
      '127.0.0.1:80',
      '[::1]',
      'LOCALHOST:80',
      'flatpath.test',
      '10.0.0.5:80',
      'other:99',
    ]) {
      expect((await send('GET', '/healthz', { host })).code, host).toBe(200);
    }
    for (const host of ['evil.example', 'localhost:81', 'localhost.evil.example', 'other', 'localhost@evil']) {
      expect((await send('GET', '/healthz', { host })).code, host).toBe(403);
    }
  });

  it('a page of another site changes nothing', async () => {
    const { send } = await startSmall();
    const body = '{"from":"pod/default/client","to":"svc/default/web:80"}';
    const foreign: Record<string, string>[] = [
      { origin: 'http://evil.example' },
      { origin: 'null' },
      { origin: 'http://localhost:81' },
      { 'sec-fetch-site': 'cross-site' },
    ];
    for (const headers of foreign) {
      expect((await send('POST', '/flatpath/v1/trace', { ...JSON_TYPE, ...headers }, body)).code).toBe(403);
    }
    const own = { ...JSON_TYPE, origin: 'http://localhost', 'sec-fetch-site': 'same-origin' };
    expect((await send('POST', '/flatpath/v1/trace', own, body)).code).toBe(200);
  });

  it('a token is asked for everywhere but for health', async () => {
    const { send } = await startServer({ token: 'secret' });
    expect((await send('GET', '/healthz', {})).code).toBe(200);
    for (const authorization of ['', 'Bearer wrong', 'secret', 'Bearer  secret', 'Basic secret']) {
      expect((await send('GET', '/metrics', { authorization })).code, authorization).toBe(401);
    }
    expect((await send('GET', '/metrics', { authorization: 'Bearer secret' })).code).toBe(200);
  });

  it('knows loopback', () => {
    for (const host of ['127.0.0.1', '127.8.8.8', 'localhost', '::1']) expect(isLoopbackHost(host)).toBe(true);
    for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.evil.example', '']) expect(isLoopbackHost(host)).toBe(false);
  });
});

describe('what may be said', () => {
  it('only JSON, by its exact type', async () => {
    const { send } = await startServer();
    const types = [
      'text/plain',
      'application/json\ta',
      ' application/json',
      'application/x-www-form-urlencoded',
      'application/jsonx',
      'application/json; charset=utf-16',
      'application/vnd.tcpdump.pcap',
    ];
    for (const type of types) {
      expect((await send('POST', '/flatpath/v1/trace', { 'content-type': type }, '{}')).code, type).toBe(415);
    }
    expect(
      (await send('POST', '/flatpath/v1/trace', { 'content-type': 'application/json; charset=utf-8' }, '{}')).code,
    ).toBe(422);
  });

  it('no prototype, no depth, no length', async () => {
    const { send, ask } = await startServer();
    for (const text of ['{"__proto__":{"a":1}}', '{"constructor":{"prototype":{}}}', '{', '']) {
      expect((await send('POST', '/flatpath/v1/trace', JSON_TYPE, text)).code, text).toBe(400);
    }
    const deep = '['.repeat(200_000) + ']'.repeat(200_000);
    expect((await send('PUT', '/flatpath/v1/objects', JSON_TYPE, deep)).code).toBe(400);
    expect((await ask('POST', '/flatpath/v1/trace', { from: 'x'.repeat(2 ** 20), to: 'y' })).code).toBe(413);
    expect((await ask('PUT', '/flatpath/v1/objects', [{ filler: 'x'.repeat(2 ** 21) }])).code).toBe(422);
  });

  it('numbers are not read from text, unknown keys not dropped', async () => {
    const { ask } = await startSmall();
    const packet = { fields: { src: '203.0.113.9', dst: '10.96.0.80', dport: '80' } };
    expect((await ask('POST', '/flatpath/v1/packets', { packets: [packet] })).code).toBe(422);
    expect((await ask('POST', '/flatpath/v1/trace', { from: 'a', to: 'b', extra: 1 })).json['message']).toContain(
      'extra',
    );
  });
});

describe('over a socket', () => {
  async function listen(server: TestServer): Promise<number> {
    await server.app.listen({ host: '127.0.0.1', port: 0 });
    const address = server.app.server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return address.port;
  }

  it('answers under its own port only', async () => {
    const server = await startSmall();
    const port = await listen(server);
    const status = (host: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const ask = request({ host: '127.0.0.1', port, path: '/healthz', headers: { host } }, (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        });
        ask.on('error', reject).end();
      });
    expect(await status(`127.0.0.1:${port}`)).toBe(200);
    expect(await status('127.0.0.1')).toBe(403);
    expect(await status(`evil.example:${port}`)).toBe(403);
    const list = await fetch(`http://127.0.0.1:${port}/api/v1/services`);
    expect(await list.json()).toMatchObject({ kind: 'ServiceList' });
  });

  it('does not fall over what is no HTTP', async () => {
    const server = await startServer();
    const port = await listen(server);
    for (const text of [
      '\0\0\0\0',
      'GET / HTTP/9\r\n\r\n',
      'GET / HTTP/1.1\r\n\r\n',
      'POST /%zz HTTP/1.1\r\nHost: x\r\n\r\n',
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => socket.end(text));
        socket
          .on('data', () => undefined)
          .on('close', () => resolve())
          .on('error', () => undefined);
      });
    }
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  });
});

describe('any input at all', () => {
  const seed = process.env['FLATPATH_SEED'] === undefined ? {} : { seed: Number(process.env['FLATPATH_SEED']) };

  it('gets an answer below 500, and a Status with a message where it is refused', async () => {
    const { send, cluster } = await startSmall();
    const before = cluster.generation;
    const routes = [
      'POST /flatpath/v1/trace',
      'POST /flatpath/v1/packets',
      'POST /flatpath/v1/streams',
      'PUT /flatpath/v1/datapath',
      'POST /api/v1/namespaces/default/services',
      'PUT /flatpath/v1/objects',
    ] as const;
    const words = fc.constantFrom(
      'from',
      'to',
      'packets',
      'fields',
      'hex',
      'src',
      'dst',
      'node',
      'mode',
      'spec',
      'ports',
      'port',
      'metadata',
      'name',
      'kind',
      'apiVersion',
      'items',
      'streams',
      '__proto__',
      'constructor',
    );
    const leaves = fc.oneof(
      fc.string(),
      fc.double(),
      fc.boolean(),
      fc.constant(null),
      fc.constantFrom(
        'pod/default/client',
        '10.96.0.80',
        'svc/default/web:80',
        'v1',
        'Service',
        'List',
        '00ff',
        'ebpf',
      ),
    );
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        leaves,
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(words, tie('value'), { maxKeys: 4 }),
      ),
    }));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...routes), value, async (route, body) => {
        const [method, url] = route.split(' ') as ['POST' | 'PUT', string];
        const answer = await send(method, url, JSON_TYPE, JSON.stringify(body) ?? '');
        expect(answer.code).toBeLessThan(500);
        if (answer.code < 400) return;
        expect(answer.json['kind']).toBe('Status');
        expect(String(answer.json['message']).length).toBeGreaterThan(0);
        // A refused body names at least one path or says in a sentence why it is none.
        if (answer.code === 422)
          expect(Object.values(answer.json['details']?.['causes'] ?? {}).length).toBeGreaterThan(0);
      }),
      { numRuns: 300, ...seed },
    );
    // Whatever was taken left a cluster that works.
    expect(cluster.generation).toBeGreaterThanOrEqual(before);
    expect((await send('GET', '/api/v1/nodes', {})).code).toBe(200);
  });
});
