/**
 * The HTTP server: routes, guards and limits together (FACTS §3 lists what they must withstand).
 *
 * It listens to nobody by itself; `listen` or `inject` is the caller's. Closing it stops all streams.
 */
import swagger from '@fastify/swagger';
import { Ajv } from 'ajv';
import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, fastify } from 'fastify';
import { destination, pino } from 'pino';
import { BUILT_MODES, type DatapathInput, type Mode } from '../model/datapath.ts';
import { defaultMode } from '../probe/trace-report.ts';
import { addDiff } from './diff.ts';
import { makeGuard } from './guard.ts';
import { Injection } from './injection.ts';
import { JobGate } from './jobs.ts';
import { addJsonBody, BODY_BYTES, isJsonType } from './json-body.ts';
import { LiveCluster } from './live-cluster.ts';
import { addMetrics } from './metrics.ts';
import { addObjects } from './objects.ts';
import { addPackets } from './packets.ts';
import { addReachability } from './reachability.ts';
import { addResources, RESOURCE_ROOT } from './resources.ts';
import { addStats } from './stats.ts';
import { StatusError, statusOf } from './status.ts';
import { StreamBook } from './stream-book.ts';
import { addStreams } from './streams.ts';
import { addTrace } from './trace.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Media types that a route takes beside JSON. */
    mediaTypes?: readonly string[];
  }
}

export interface ServerOptions {
  /** Manifests to begin with: files, folders or `-`. */
  readonly paths: readonly string[];
  readonly datapath: DatapathInput;
  /** Mode of packets, streams and traces that name none; null: the cluster's own, else iptables. */
  readonly mode: Mode | null;
  readonly token: string;
  readonly allowedHosts: readonly string[];
  /** As pino names them; the log goes to stderr. */
  readonly logLevel: string;
}

export interface Server {
  readonly app: FastifyInstance;
  readonly cluster: LiveCluster;
}

const REQUEST_TIMEOUT_MS = 60_000;
/** A socket on which nothing moves for so long is closed; streams of events move every second. */
const CONNECTION_TIMEOUT_MS = 120_000;
const HEADERS_TIMEOUT_MS = 10_000;
/** Longest name of a Kubernetes object, and room for what does not fit to be told so. */
const MAX_PARAM = 512;

/** @throws InputError where the manifests are wrong */
export async function createServer(options: ServerOptions): Promise<Server> {
  const cluster = new LiveCluster(options.paths, options.datapath);
  const logger: FastifyBaseLogger = pino({ level: options.logLevel }, destination(2));
  const app = fastify({
    loggerInstance: logger,
    bodyLimit: BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error',
    forceCloseConnections: true,
    routerOptions: { maxParamLength: MAX_PARAM },
    frameworkErrors: (error, _request, reply: FastifyReply) => {
      reply.code(400).type('application/json').send(statusOf(error));
    },
  });
  app.server.headersTimeout = HEADERS_TIMEOUT_MS;
  addJsonBody(app);
  checkStrictly(app);
  addGuards(app, options);
  answerFailures(app);

  const injection = new Injection(cluster);
  const book = new StreamBook(cluster);
  const jobs = new JobGate();
  const mode = (): Mode => options.mode ?? defaultMode(cluster.model);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'flatpath',
        description: "Runs a Kubernetes cluster's packets before the cluster does. Failures are Status objects.",
        version: '0.1.0',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    },
  });
  await app.register(async (scope) => {
    addResources(scope, cluster);
    addObjects(scope, cluster, jobs);
    addPackets(scope, cluster, injection, jobs, mode);
    addTrace(scope, cluster, jobs, mode);
    addReachability(scope, cluster, jobs, options.mode);
    addDiff(scope, cluster, jobs, options.mode);
    addStreams(scope, cluster, book, jobs, mode);
    addStats(scope, cluster, injection, book, mode);
    addMetrics(scope, cluster, injection, book);
    addOwn(scope);
  });
  app.addHook('preClose', () => book.close());
  await app.ready();
  return { app, cluster };
}

/** Values are what they are: nothing is coerced, dropped or filled in, and all errors are told. */
function checkStrictly(app: FastifyInstance): void {
  const ajv = new Ajv({ allErrors: true, strict: false, allowUnionTypes: true });
  app.setValidatorCompiler(({ schema, httpPart, url }) => {
    // The reader of manifests checks these, with the same schema and more: names, addresses, ports.
    if (httpPart === 'body' && RESOURCE_ROOT.test(url)) return () => true;
    const validate = ajv.compile(schema);
    return (value: unknown) => {
      // A capture is no JSON; the route reads it.
      if (Buffer.isBuffer(value) || validate(value)) return { value };
      return { error: Object.assign(new Error('invalid'), { validation: validate.errors ?? [] }) };
    };
  });
  app.setSchemaErrorFormatter((errors) => Object.assign(new Error('invalid'), { validation: errors }));
}

function addGuards(app: FastifyInstance, { token, allowedHosts }: ServerOptions): void {
  const guard = makeGuard({ token, allowedHosts, port: () => listeningPort(app) });
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
    guard(request);
    const type = request.headers['content-type'];
    if (type === undefined || isJsonType(type)) return;
    const { mediaTypes = [] } = request.routeOptions.config;
    if (!mediaTypes.includes(type)) {
      throw new StatusError(415, `the body must be ${['application/json', ...mediaTypes].join(' or ')}`);
    }
  });
}

/** The port of the server's own socket; 80 before there is one. */
function listeningPort(app: FastifyInstance): number {
  const address = app.server.address();
  return address === null || typeof address === 'string' ? 80 : address.port;
}

function answerFailures(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const status = statusOf(error);
    if (status.code >= 500) request.log.error(error);
    else request.log.info({ status: status.code, reason: status.message }, 'refused');
    reply.code(status.code).type('application/json').send(status);
  });
  app.setNotFoundHandler((request, reply) => {
    const status = statusOf(new StatusError(404, `there is nothing at ${request.method} ${request.url.slice(0, 200)}`));
    reply.code(404).type('application/json').send(status);
  });
}

/** What the server says of itself. */
function addOwn(app: FastifyInstance): void {
  const tags = ['server'];
  app.get('/healthz', { schema: { tags, summary: 'ok while the server serves' } }, async (_request, reply) => {
    reply.type('text/plain; charset=utf-8');
    return 'ok';
  });
  app.get('/openapi.json', { schema: { tags, summary: 'this description' } }, () => app.swagger());
  app.get('/', { schema: { tags, summary: 'what there is' } }, () => ({
    name: 'flatpath',
    modes: BUILT_MODES,
    routes: Object.keys(app.swagger().paths ?? {}).sort(),
  }));
}
