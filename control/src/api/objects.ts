/**
 * The whole desired state at once, and the datapath configuration: read, and replaced whole or not at all.
 */
import { Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import { readInput } from '../cluster/load.ts';
import type { Problem } from '../cluster/problem.ts';
import { type DatapathInput, DatapathSchema } from '../model/datapath.ts';
import { checkDatapathValues } from '../model/datapath-check.ts';
import type { JobGate } from './jobs.ts';
import { allObjects, type LiveCluster } from './live-cluster.ts';
import { causesOf, invalid, problemCauses } from './status.ts';

/** Bytes of a list of objects. */
const LIST_BYTES = 16 * 1024 * 1024;

const ObjectList = Type.Unsafe<object>({
  type: ['object', 'array'],
  description: 'a List with items, one object, or an array of objects',
});

export function addObjects(app: FastifyInstance, cluster: LiveCluster, jobs: JobGate): void {
  const tags = ['objects'];
  app.get('/flatpath/v1/objects', { schema: { tags, summary: 'the desired state as a List' } }, () => ({
    apiVersion: 'v1',
    kind: 'List',
    metadata: { resourceVersion: String(cluster.generation) },
    items: allObjects(cluster.store),
  }));
  app.put(
    '/flatpath/v1/objects',
    {
      onRequest: jobs.enter,
      bodyLimit: LIST_BYTES,
      schema: { tags, summary: 'replaces the desired state', body: ObjectList },
    },
    async (request) => {
      const { store, errors } = readInput([], { objects: itemsOf(request.body) });
      if (errors.length > 0) throw invalid(problemCauses(errors, fieldInList));
      await cluster.change({
        objects: (draft) => {
          draft.replaceAll(store);
          return null;
        },
      });
      return describeCluster(cluster);
    },
  );

  const datapathTags = ['datapath'];
  app.get('/flatpath/v1/datapath', { schema: { tags: datapathTags, summary: 'the configuration in force' } }, () =>
    describeDatapath(cluster),
  );
  app.put<{ Body: DatapathInput }>(
    '/flatpath/v1/datapath',
    { schema: { tags: datapathTags, summary: 'replaces the configuration', body: DatapathSchema } },
    async (request) => {
      const problems = checkDatapathValues(request.body, '');
      if (problems.length > 0) throw invalid(causesOf(problems));
      await cluster.change({ datapath: request.body });
      return describeDatapath(cluster);
    },
  );
}

/** The items of a List, so that a problem can name the item. */
function itemsOf(body: unknown): unknown[] {
  if (Array.isArray(body)) return body;
  if (typeof body !== 'object' || body === null) return [body];
  const items: unknown = Reflect.get(body, 'items');
  return Reflect.get(body, 'kind') === 'List' && Array.isArray(items) ? items : [body];
}

function fieldInList({ document, field }: Problem): string {
  const item = `items[${document - 1}]`;
  if (document < 1) return field;
  return field === '' || field.startsWith('[') ? `${item}${field}` : `${item}.${field}`;
}

function describeCluster(cluster: LiveCluster): object {
  const { unmodelled, unmodelledPolicies } = cluster.model.cluster;
  return {
    generation: cluster.generation,
    objects: allObjects(cluster.store).length,
    warnings: cluster.warnings,
    unmodelled,
    unmodelledPolicies: unmodelledPolicies.map(({ apiVersion, kind, namespace, name }) => ({
      apiVersion,
      kind,
      namespace,
      name,
    })),
  };
}

function describeDatapath(cluster: LiveCluster): object {
  return {
    /** As it was given. */
    given: cluster.datapath,
    /** Every default filled in. */
    effective: cluster.model.config,
    fromConfigMaps: cluster.model.cluster.defaults.taken.map(({ option, value, origin }) => ({
      option,
      value,
      origin,
    })),
  };
}
