/** `POST /flatpath/v1/trace`: one connection's story, the same JSON as `flatpath trace --json`. */
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { ClusterModel } from '../compile/image.ts';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { oneOf } from '../model/schema.ts';
import { type ConnectionRequest, resolveConnection } from '../probe/connection.ts';
import { UnresolvedReference } from '../probe/reference.ts';
import { traceConnection, traceReport } from '../probe/trace-report.ts';
import { breathe, type JobGate } from './jobs.ts';
import type { LiveCluster } from './live-cluster.ts';
import { invalidField } from './status.ts';

const TraceBody = Type.Object(
  {
    from: Type.String({ description: 'who connects: pod/NS/NAME, deploy/, sts/, ds/, node/NAME or an address' }),
    to: Type.String({ description: 'to whom: svc/NS/NAME:PORT, pod/…, node/…, an address, name.ns.svc' }),
    protocol: Type.Optional(Type.String()),
    node: Type.Optional(Type.String({ description: 'where a packet from outside enters' })),
    mode: Type.Optional(oneOf([...BUILT_MODES, 'all'])),
  },
  { additionalProperties: false },
);
type TraceBody = Static<typeof TraceBody>;

export function addTrace(app: FastifyInstance, cluster: LiveCluster, jobs: JobGate, defaultMode: () => Mode): void {
  app.post<{ Body: TraceBody }>(
    '/flatpath/v1/trace',
    {
      onRequest: jobs.enter,
      schema: { tags: ['trace'], summary: "tells a connection's first packet's story", body: TraceBody },
    },
    async ({ body }) => {
      // One model for all modes, whatever changes in between.
      const { model } = cluster;
      const connection = connect(model, body);
      const modes = body.mode === 'all' ? BUILT_MODES : [body.mode ?? defaultMode()];
      const traces = [];
      for (const mode of modes) {
        traces.push(traceConnection(model, mode, connection));
        await breathe();
      }
      return traceReport(body, traces);
    },
  );
}

function connect(model: ClusterModel, request: ConnectionRequest): ReturnType<typeof resolveConnection> {
  try {
    return resolveConnection(model, request);
  } catch (error) {
    if (!(error instanceof UnresolvedReference)) throw error;
    throw invalidField(fieldAtFault(error.message, request), error.message);
  }
}

/** The sentence quotes what it is about. */
function fieldAtFault(message: string, request: ConnectionRequest): string {
  if (message.startsWith('node ')) return 'node';
  const quoted = (text: string | undefined): boolean => text !== undefined && message.startsWith(`'${text.trim()}'`);
  if (quoted(request.protocol)) return 'protocol';
  return quoted(request.from) ? 'from' : 'to';
}
