/** `/flatpath/v1/stats` and `/flatpath/v1/flows`: what packets have done, and the connections of injected ones. */
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { oneOf } from '../model/schema.ts';
import { listFlows } from './flow-list.ts';
import type { Injection } from './injection.ts';
import type { LiveCluster } from './live-cluster.ts';
import { StatusError } from './status.ts';
import type { StreamBook } from './stream-book.ts';
import { tallyModes } from './tallies.ts';

const FLOW_PAGE = 500;

const FlowsQuery = Type.Object(
  {
    mode: Type.Optional(oneOf(BUILT_MODES)),
    limit: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,3}$' })),
    continue: Type.Optional(Type.String({ maxLength: 20 })),
  },
  { additionalProperties: false },
);
type FlowsQuery = Static<typeof FlowsQuery>;

export function addStats(
  app: FastifyInstance,
  cluster: LiveCluster,
  injection: Injection,
  book: StreamBook,
  defaultMode: () => Mode,
): void {
  const tags = ['stats'];
  app.get('/flatpath/v1/stats', { schema: { tags, summary: 'counters by mode, verdict and reason' } }, () => {
    const { nodes, pods, services, endpointSlices, ...policies } = cluster.model.cluster;
    return {
      generation: cluster.generation,
      defaultMode: defaultMode(),
      compile: cluster.compileTimes,
      cluster: {
        nodes: nodes.length,
        pods: pods.length,
        services: services.length,
        endpointSlices: endpointSlices.length,
        networkPolicies: policies.networkPolicies.length,
        clusterNetworkPolicies: policies.clusterNetworkPolicies.length,
        adminNetworkPolicies: policies.adminNetworkPolicies.length + policies.baselineAdminNetworkPolicies.length,
      },
      streams: book.all.filter((stream) => !stream.isOver()).length,
      modes: tallyModes(injection, book),
    };
  });
  app.get<{ Querystring: FlowsQuery }>(
    '/flatpath/v1/flows',
    { schema: { tags, summary: 'the connections of injected packets, page by page', querystring: FlowsQuery } },
    ({ query }) => {
      const injector = injection.used.get(query.mode ?? defaultMode());
      if (injector === undefined) return { flows: [], continue: null };
      const page = listFlows(injector, injection.now(), Number(query.limit ?? FLOW_PAGE), query.continue ?? '');
      if (page === null) throw new StatusError(400, 'continue is not a token of this list');
      return page;
    },
  );
}
