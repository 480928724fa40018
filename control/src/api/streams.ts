/**
 * `/flatpath/v1/streams`: traffic on worker threads, in the words of a scenario, started, watched and stopped.
 *
 * A whole Scenario document is taken too, as long as it brings no cluster of its own: streams run in the server's.
 */
import { availableParallelism } from 'node:os';
import type { TrafficSpec } from '@flatpath/engine/traffic/stream';
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { ClusterModel } from '../compile/image.ts';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { oneOf } from '../model/schema.ts';
import { UnresolvedReference } from '../probe/reference.ts';
import { compileTraffic } from '../traffic/compile-traffic.ts';
import { checkScenario, SCENARIO_KIND, type ScenarioSpec, ScenarioSpecSchema } from '../traffic/scenario.ts';
import type { JobGate } from './jobs.ts';
import type { LiveCluster } from './live-cluster.ts';
import { causesOf, invalid, invalidField } from './status.ts';
import type { StreamBook } from './stream-book.ts';

const MOST_WORKERS = 64;
const EVENT_STREAM = 'text/event-stream';
const NDJSON = 'application/x-ndjson';

const closed = { additionalProperties: false } as const;
const { seed, packets, duration, streams } = ScenarioSpecSchema.properties;
const StreamsBody = Type.Object(
  {
    name: Type.Optional(Type.String({ maxLength: 253 })),
    mode: Type.Optional(oneOf(BUILT_MODES)),
    /** Left out: the machine's cores less one. */
    workers: Type.Optional(Type.Integer({ minimum: 1, maximum: MOST_WORKERS })),
    seed,
    packets,
    duration,
    streams: Type.Optional(streams),
    apiVersion: Type.Optional(Type.Literal('flatpath.dev/v1alpha1')),
    kind: Type.Optional(Type.Literal(SCENARIO_KIND)),
    metadata: Type.Optional(Type.Object({ name: Type.Optional(Type.String()) })),
    spec: Type.Optional(ScenarioSpecSchema),
  },
  closed,
);
type StreamsBody = Static<typeof StreamsBody>;
const IdParams = Type.Object({ id: Type.String() });
interface IdRoute {
  Params: Static<typeof IdParams>;
}

export function addStreams(
  app: FastifyInstance,
  cluster: LiveCluster,
  book: StreamBook,
  jobs: JobGate,
  defaultMode: () => Mode,
): void {
  const tags = ['streams'];
  const one = '/flatpath/v1/streams/:id';
  app.post<{ Body: StreamsBody }>(
    '/flatpath/v1/streams',
    { onRequest: jobs.enter, schema: { tags, summary: 'starts streams, or a scenario', body: StreamsBody } },
    async ({ body }, reply) => {
      const traffic = readTraffic(cluster.model, body);
      const workers = body.workers ?? Math.max(1, availableParallelism() - 1);
      const name = body.name ?? body.metadata?.name ?? '';
      reply.code(201);
      return start(book, name, body.mode ?? defaultMode(), traffic, workers);
    },
  );
  app.get('/flatpath/v1/streams', { schema: { tags, summary: 'lists the streams' } }, () => ({ streams: book.list() }));
  app.get<IdRoute>(one, { schema: { tags, summary: 'what a stream has done', params: IdParams } }, ({ params }) =>
    book.read(params.id),
  );
  app.get<IdRoute>(
    `${one}/events`,
    {
      schema: {
        tags,
        summary: 'a line a second until the stream ends',
        params: IdParams,
        produces: [NDJSON, EVENT_STREAM],
      },
    },
    (request, reply) => {
      const asEvents = (request.headers.accept ?? '').includes(EVENT_STREAM);
      const lines = book.watch(request.params.id, (event) => {
        const json = JSON.stringify(event);
        return asEvents ? `data: ${json}\n\n` : `${json}\n`;
      });
      reply.type(asEvents ? EVENT_STREAM : NDJSON).header('cache-control', 'no-store');
      return reply.send(lines);
    },
  );
  app.delete<IdRoute>(
    one,
    { schema: { tags, summary: 'stops a stream; forgets one that has ended', params: IdParams } },
    ({ params }) => book.stop(params.id),
  );
}

function readTraffic(model: ClusterModel, body: StreamsBody): TrafficSpec {
  const spec = body.spec ?? plainSpec(body);
  const at = body.spec === undefined ? '' : 'spec.';
  if (spec.manifests !== undefined)
    throw invalidField('spec.manifests', 'the streams run in the cluster of the server');
  if (spec.datapath !== undefined)
    throw invalidField('spec.datapath', 'the streams run with the datapath of the server');
  const sentences = checkScenario({ apiVersion: 'flatpath.dev/v1alpha1', kind: SCENARIO_KIND, spec });
  if (sentences.length > 0) throw invalid(causesOf(sentences.map((sentence) => sentence.replace(/^spec\./, at))));
  try {
    return compileTraffic(model, spec);
  } catch (error) {
    if (!(error instanceof UnresolvedReference)) throw error;
    throw invalid(causesOf([error.message.replace(/^spec\./, at)]));
  }
}

function plainSpec({ seed, packets, duration, streams, apiVersion, kind }: StreamsBody): ScenarioSpec {
  if (apiVersion !== undefined || kind !== undefined) throw invalidField('spec', 'is required in a Scenario');
  if (streams === undefined) throw invalidField('streams', 'is required');
  return { seed, packets, duration, streams };
}

function start(book: StreamBook, name: string, mode: Mode, traffic: TrafficSpec, workers: number): object {
  try {
    return book.start(name, mode, traffic, workers);
  } catch (error) {
    if (error instanceof UnresolvedReference || error instanceof RangeError)
      throw invalidField('streams', error.message);
    throw error;
  }
}
