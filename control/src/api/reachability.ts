/**
 * /flatpath/v1/reachability: who can reach whom on which ports, in the cluster as it is now. GET takes the question as query
 * parameters, POST as JSON; both change nothing. The work gives way to other requests after each source.
 */
import { Readable } from 'node:stream';
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { oneOf } from '../model/schema.ts';
import { UnresolvedReference } from '../probe/reference.ts';
import type { ReachFilter } from '../reach/filter.ts';
import { readPortFilter } from '../reach/filter-ports.ts';
import { jsonPieces } from '../reach/json.ts';
import { Reachability } from '../reach/reachability.ts';
import { type ReachReport, reachMode, reportSteps } from '../reach/report.ts';
import { breathe, type JobGate } from './jobs.ts';
import type { LiveCluster } from './live-cluster.ts';
import { invalidField } from './status.ts';

const closed = { additionalProperties: false } as const;
const mode = Type.Optional(oneOf([...BUILT_MODES]));
const FROM = 'sources: pod/NS/NAME, deploy/, sts/, ds/, node/NAME, nodes, outside or an address';
const TO = 'targets: the same, or svc/NS/NAME';
const NAMESPACES = 'pairs of which one end is in such a namespace';
const PORTS = '80, 443/tcp, 8000-8080, 53/udp, icmp';

const Query = Type.Object(
  {
    mode,
    from: Type.Optional(Type.String({ description: `${FROM}; several with commas` })),
    to: Type.Optional(Type.String({ description: `${TO}; several with commas` })),
    namespaces: Type.Optional(Type.String({ description: `${NAMESPACES}; several with commas` })),
    ports: Type.Optional(Type.String({ description: `${PORTS}; several with commas` })),
  },
  closed,
);
type Query = Static<typeof Query>;

const Body = Type.Object(
  {
    mode,
    from: Type.Optional(Type.Array(Type.String(), { description: FROM })),
    to: Type.Optional(Type.Array(Type.String(), { description: TO })),
    namespaces: Type.Optional(Type.Array(Type.String(), { description: NAMESPACES })),
    ports: Type.Optional(Type.Array(Type.String(), { description: PORTS })),
  },
  closed,
);
type Body = Static<typeof Body>;

/** @param fixedMode mode of the server, null where the cluster decides */
export function addReachability(
  app: FastifyInstance,
  cluster: LiveCluster,
  jobs: JobGate,
  fixedMode: Mode | null,
): void {
  const url = '/flatpath/v1/reachability';
  const shared = { tags: ['reachability'], summary: 'who can reach whom, on which ports' };
  const answer = async (reply: FastifyReply, body: Body): Promise<FastifyReply> => {
    const { model } = cluster;
    const filter = readFilter(body);
    const reach = new Reachability(model, body.mode ?? fixedMode ?? reachMode(model));
    const report = await makeReport(reach, filter);
    return reply.type('application/json').send(Readable.from(jsonPieces(report)));
  };
  app.get<{ Querystring: Query }>(
    url,
    { onRequest: jobs.enter, schema: { ...shared, querystring: Query } },
    ({ query }, reply) => answer(reply, splitQuery(query)),
  );
  app.post<{ Body: Body }>(url, { onRequest: jobs.enter, schema: { ...shared, body: Body } }, ({ body }, reply) =>
    answer(reply, body),
  );
}

async function makeReport(reach: Reachability, filter: ReachFilter): Promise<ReachReport> {
  const steps = reportSteps(reach, filter);
  try {
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
      await breathe();
    }
  } catch (error) {
    if (!(error instanceof UnresolvedReference)) throw error;
    throw invalidField(fieldAtFault(error.message, filter), error.message);
  }
}

function splitQuery({ mode: asked, ...lists }: Query): Body {
  const split = Object.entries(lists).map(([name, text]) => [name, text.split(',').map((word) => word.trim())]);
  return { ...Object.fromEntries(split), ...(asked !== undefined && { mode: asked }) };
}

function readFilter({ from = [], to = [], namespaces = [], ports = [] }: Body): ReachFilter {
  const filters = ports.flatMap((text) => {
    const own = readPortFilter(text);
    if (own === null) throw invalidField('ports', `'${text}' is not a port: ${PORTS}`);
    return own;
  });
  return { from, to, namespaces, ports: filters };
}

/** The sentence quotes what it is about. */
function fieldAtFault(message: string, { from, namespaces }: ReachFilter): string {
  if (namespaces.some((name) => message.startsWith(`namespace '${name}'`))) return 'namespaces';
  return from.some((text) => message.startsWith(`'${text}'`)) ? 'from' : 'to';
}
