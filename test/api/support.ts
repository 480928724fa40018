/** A server for tests, asked without a socket, and a small cluster with addresses of its own. */
import { onTestFinished } from 'vitest';
import type { LiveCluster } from '../../control/src/api/live-cluster.ts';
import { createServer, type Server, type ServerOptions } from '../../control/src/api/server.ts';

export interface Answer {
  readonly code: number;
  readonly type: string;
  readonly text: string;
  // What a route answers is looked at field by field by the test that asked.
  readonly json: Json;
}

/** Parsed JSON, for tests to walk without a schema. */
export interface Json {
  readonly [key: string]: Json;
}

export interface TestServer {
  readonly app: Server['app'];
  readonly cluster: LiveCluster;
  ask(method: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'PATCH', url: string, body?: unknown): Promise<Answer>;
  /** With headers of one's own; the body goes as it is. */
  send(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'PATCH',
    url: string,
    headers: Record<string, string>,
    body?: string | Buffer,
  ): Promise<Answer>;
}

/** A server that is closed when the test is over. */
export async function startServer(options: Partial<ServerOptions> = {}): Promise<TestServer> {
  const { app, cluster } = await createServer({
    paths: [],
    datapath: {},
    mode: null,
    token: '',
    allowedHosts: [],
    logLevel: 'silent',
    ...options,
  });
  onTestFinished(() => app.close());
  const send: TestServer['send'] = async (method, url, headers, body) => {
    const answer = await app.inject({ method, url, headers: { host: 'localhost', ...headers }, payload: body });
    const type = String(answer.headers['content-type'] ?? '');
    const json: unknown = type.startsWith('application/json') ? JSON.parse(answer.body) : {};
    return { code: answer.statusCode, type, text: answer.body, json: json as Json };
  };
  const ask: TestServer['ask'] = (method, url, body) =>
    body === undefined
      ? send(method, url, {})
      : send(method, url, { 'content-type': 'application/json' }, JSON.stringify(body));
  return { app, cluster, ask, send };
}

/** Two nodes, a client, and a Service with two backends; all addresses are given. */
export function smallCluster(): object[] {
  const node = (name: string, address: string, podCIDR: string): object => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec: { podCIDRs: [podCIDR] },
    status: { addresses: [{ type: 'InternalIP', address }] },
  });
  return [
    node('alpha', '192.168.0.1', '10.244.1.0/24'),
    node('beta', '192.168.0.2', '10.244.2.0/24'),
    pod('client', 'alpha', '10.244.1.10', {}),
    pod('web-1', 'alpha', '10.244.1.20', { app: 'web' }),
    pod('web-2', 'beta', '10.244.2.20', { app: 'web' }),
    service('web', { clusterIP: '10.96.0.80', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] }),
  ];
}

export function pod(name: string, nodeName: string, podIP: string, labels: object): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels },
    spec: { nodeName, containers: [{ name: 'main', ports: [{ containerPort: 8080 }] }] },
    status: { podIP, podIPs: [{ ip: podIP }], phase: 'Running' },
  };
}

export function service(name: string, spec: object): object {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' }, spec };
}

/** A server that holds the small cluster. */
export async function startSmall(options: Partial<ServerOptions> = {}): Promise<TestServer> {
  const server = await startServer(options);
  const answer = await server.ask('PUT', '/flatpath/v1/objects', {
    kind: 'List',
    apiVersion: 'v1',
    items: smallCluster(),
  });
  if (answer.code !== 200) throw new Error(answer.text);
  return server;
}
