/**
 * Kubernetes' resource paths for the modelled kinds: list, read, create, replace, delete.
 *
 * What is written is desired state; what is read is the completed object, with the addresses that the cluster assigned.
 * Objects that controllers made (pods of a Deployment, computed slices) are read like the others and cannot be deleted:
 * the object that they were made from can. A given object takes the place of a made one of its name. PATCH and watch
 * are refused, and so is every query parameter that would change an answer and is not known here.
 */
import { type TSchema, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import {
  apiVersionOf,
  KIND_NAMES,
  KINDS,
  type KindEntry,
  type KindName,
  type ModelledObject,
} from '../cluster/kinds.ts';
import { readInput } from '../cluster/load.ts';
import { InputError } from '../cluster/problem.ts';
import type { ObjectStore } from '../cluster/store.ts';
import { describeOrigin, originOf } from '../model/origin.ts';
import { allObjects, type Edit, type LiveCluster, objectKey } from './live-cluster.ts';
import { invalid, problemCauses, StatusError } from './status.ts';

interface Params {
  /** Absent in paths of cluster-scoped kinds. */
  readonly namespace?: string;
  /** Absent in paths of collections. */
  readonly name?: string;
}

interface ResourceRoute {
  Params: Params;
  Querystring: { readonly dryRun?: 'All' };
  Body: unknown;
}

type ResourceRequest = FastifyRequest<ResourceRoute>;

const closed = { additionalProperties: false } as const;
const text = () => Type.Optional(Type.String());
/** Parameters that clients send and that change nothing here. */
const ReadQuery = Type.Object({ pretty: text(), timeout: text(), limit: text(), resourceVersion: text() }, closed);
const WriteQuery = Type.Object(
  {
    pretty: text(),
    timeout: text(),
    fieldManager: text(),
    fieldValidation: text(),
    gracePeriodSeconds: text(),
    propagationPolicy: text(),
    dryRun: Type.Optional(Type.Literal('All')),
  },
  closed,
);

/** Root of the paths whose bodies the reader of manifests checks, with the kind's own schema and more. */
export const RESOURCE_ROOT = /^\/apis?\//;

export function addResources(app: FastifyInstance, cluster: LiveCluster): void {
  for (const kind of KIND_NAMES) addKind(app, cluster, kind);
}

function addKind(app: FastifyInstance, cluster: LiveCluster, kind: KindName): void {
  const entry = KINDS[kind];
  const { namespaced, plural, schema: body } = entry;
  const root = entry.group === '' ? `/api/${entry.version}` : `/apis/${entry.group}/${entry.version}`;
  const all = `${root}/${plural}`;
  const collection = namespaced ? `${root}/namespaces/:namespace/${plural}` : all;
  const one = `${collection}/:name`;
  const schemaOf = (summary: string, querystring: TSchema, params: string[], further: { body?: TSchema } = {}) => ({
    tags: [apiVersionOf(entry)],
    summary: `${summary} ${kind}`,
    querystring,
    ...(params.length === 0 ? {} : { params: Type.Object(Object.fromEntries(params.map((p) => [p, Type.String()]))) }),
    ...further,
  });
  const inCollection = namespaced ? ['namespace'] : [];
  const resource = new Resource(cluster, kind);

  if (namespaced) {
    app.get<ResourceRoute>(all, { schema: schemaOf('lists every', ReadQuery, []) }, () => resource.list(null));
    refuse(app, all, ['POST', 'PUT', 'PATCH', 'DELETE']);
  }
  app.get<ResourceRoute>(collection, { schema: schemaOf('lists', ReadQuery, inCollection) }, (request) =>
    resource.list(request.params.namespace ?? null),
  );
  app.post<ResourceRoute>(
    collection,
    { schema: schemaOf('creates a', WriteQuery, inCollection, { body }) },
    (request, reply) => resource.create(request, reply),
  );
  refuse(app, collection, ['PUT', 'PATCH', 'DELETE']);

  const inObject = [...inCollection, 'name'];
  app.get<ResourceRoute>(one, { schema: schemaOf('reads a', ReadQuery, inObject) }, (request) =>
    resource.read(placeOf(request)),
  );
  app.put<ResourceRoute>(
    one,
    { schema: schemaOf('replaces or creates a', WriteQuery, inObject, { body }) },
    (request, reply) => resource.replace(request, reply),
  );
  app.delete<ResourceRoute>(one, { schema: schemaOf('deletes a', WriteQuery, inObject) }, (request) =>
    resource.delete(request),
  );
  refuse(app, one, ['POST', 'PATCH']);
}

/** Methods that Kubernetes has for a path, or one might expect there, and that are not served. */
function refuse(app: FastifyInstance, url: string, method: HTTPMethods[]): void {
  app.route({
    method,
    url,
    schema: { hide: true },
    handler: (request) => {
      throw new StatusError(405, `${request.method} is not served for ${request.routeOptions.url ?? url}`);
    },
  });
}

function placeOf({ params }: ResourceRequest): { namespace: string; name: string } {
  return { namespace: params.namespace ?? '', name: params.name ?? '' };
}

class Resource {
  private readonly cluster: LiveCluster;
  private readonly kind: KindName;
  private readonly entry: KindEntry;

  constructor(cluster: LiveCluster, kind: KindName) {
    this.cluster = cluster;
    this.kind = kind;
    this.entry = KINDS[kind];
  }

  /** @param namespace null: all of them */
  list(namespace: string | null): object {
    const objects = this.cluster.list(this.kind);
    const wanted = namespace === null ? objects : objects.filter(({ metadata }) => metadata.namespace === namespace);
    return {
      apiVersion: apiVersionOf(this.entry),
      kind: `${this.kind}List`,
      metadata: { resourceVersion: String(this.cluster.generation) },
      items: wanted.map((object) => this.present(object)),
    };
  }

  read({ namespace, name }: { namespace: string; name: string }): object {
    const found = this.cluster.find(this.kind, namespace, name);
    if (found === undefined) throw this.notFound(name);
    return this.present(found);
  }

  async create(request: ResourceRequest, reply: FastifyReply): Promise<object> {
    const { namespace, name } = placeOf(request);
    const read = this.readBody(request.body, namespace, name);
    await this.change(read.name, {
      dryRun: request.query.dryRun === 'All',
      objects: (draft) => {
        if (draft.get(this.kind, namespace, read.name) !== undefined) throw this.exists(read.name);
        draft.putAll(read.store);
        return [objectKey(this.kind, namespace, read.name)];
      },
    });
    reply.code(201);
    return this.written(namespace, read);
  }

  async replace(request: ResourceRequest, reply: FastifyReply): Promise<object> {
    const { namespace, name } = placeOf(request);
    const read = this.readBody(request.body, namespace, name);
    let isNew = false;
    await this.change(name, {
      dryRun: request.query.dryRun === 'All',
      objects: (draft) => {
        isNew = draft.get(this.kind, namespace, name) === undefined;
        if (!isNew) this.checkVersion(request.body, namespace, name);
        draft.putAll(read.store);
        return [objectKey(this.kind, namespace, name)];
      },
    });
    if (isNew) reply.code(201);
    return this.written(namespace, read);
  }

  async delete(request: ResourceRequest): Promise<object> {
    const { namespace, name } = placeOf(request);
    const found = this.cluster.find(this.kind, namespace, name);
    if (found === undefined) throw this.notFound(name);
    const answer = this.present(found);
    await this.change(name, {
      dryRun: request.query.dryRun === 'All',
      objects: (draft) => {
        const content = this.kind === 'Namespace' ? deleteContent(draft, name) : [];
        const wasGiven = draft.delete(this.kind, namespace, name);
        if (!wasGiven && content.length === 0) throw this.isMade(found);
        return [...content, objectKey(this.kind, namespace, name)];
      },
    });
    return answer;
  }

  /** A change whose conflicts are told as this object's. */
  private async change(name: string, edit: Edit): Promise<void> {
    try {
      await this.cluster.change(edit);
    } catch (error) {
      if (error instanceof InputError) throw invalid(problemCauses(error.problems), this.details(name));
      throw error;
    }
  }

  /** The object as it stands after a change; after a dry run as it was read. */
  private written(namespace: string, read: ReadBody): object {
    const found = this.cluster.find(this.kind, namespace, read.name) ?? read.store.get(this.kind, namespace, read.name);
    return found === undefined ? {} : this.present(found);
  }

  private present(object: ModelledObject): object {
    const { namespace, name } = object.metadata;
    const resourceVersion = String(this.cluster.versionOf(this.kind, namespace, name));
    return { ...object, metadata: { ...object.metadata, resourceVersion } };
  }

  /**
   * Reads the one object of a body. What the path says need not be said again, and must not be said otherwise.
   * @param name '' where the path names none
   * @throws StatusError 422 with every cause, 400 where body and path disagree
   */
  private readBody(body: unknown, namespace: string, name: string): ReadBody {
    if (!isRecord(body)) throw new StatusError(400, `the body must be one ${this.kind}`);
    const apiVersion = apiVersionOf(this.entry);
    const metadata = body['metadata'] ?? {};
    const whole: Record<string, unknown> = { apiVersion, kind: this.kind, ...body };
    if (isRecord(metadata)) {
      whole['metadata'] = {
        ...(namespace === '' ? {} : { namespace }),
        ...(name === '' ? {} : { name }),
        ...metadata,
      };
    }
    if (whole['kind'] !== this.kind || whole['apiVersion'] !== apiVersion) {
      throw new StatusError(400, `the body must be a ${this.kind} of ${apiVersion}, as the path says`);
    }
    const said = (key: string): unknown => (isRecord(metadata) ? metadata[key] : undefined);
    if (namespace !== '' && (said('namespace') ?? namespace) !== namespace) {
      throw new StatusError(400, 'the namespace of the body is not the namespace of the path');
    }
    if (name !== '' && (said('name') ?? name) !== name) {
      throw new StatusError(400, 'the name of the body is not the name of the path');
    }
    const { store, errors } = readInput([], { objects: [whole] });
    const given = said('name');
    if (errors.length > 0) {
      throw invalid(problemCauses(errors), this.details(typeof given === 'string' ? given : name));
    }
    const object = allObjects(store)[0];
    if (object === undefined) throw new StatusError(400, `the body must be one ${this.kind}`);
    if (object.metadata.namespace !== namespace) {
      const field = 'metadata.namespace';
      throw invalid([{ reason: 'FieldValueForbidden', field, message: `a ${this.kind} lives in no namespace` }]);
    }
    return { store, name: object.metadata.name };
  }

  /** A writer that read an older object must not overwrite what came after it. */
  private checkVersion(body: unknown, namespace: string, name: string): void {
    const metadata = isRecord(body) ? body['metadata'] : undefined;
    const version = isRecord(metadata) ? metadata['resourceVersion'] : undefined;
    const current = String(this.cluster.versionOf(this.kind, namespace, name));
    if (version === undefined || version === '' || version === current) return;
    throw new StatusError(
      409,
      `${this.entry.plural} "${name}" has been changed since; its resourceVersion is ${current}`,
      this.details(name),
    );
  }

  private details(name: string): { name: string; group: string; kind: string } {
    return { name, group: this.entry.group, kind: this.entry.plural };
  }

  private notFound(name: string): StatusError {
    return new StatusError(404, `${this.entry.plural} "${name}" not found`, this.details(name));
  }

  private exists(name: string): StatusError {
    const message = `${this.entry.plural} "${name}" already exists`;
    return new StatusError(409, message, this.details(name), 'AlreadyExists');
  }

  private isMade(object: ModelledObject): StatusError {
    const origin = originOf(object, '');
    const { name } = object.metadata;
    const isOwn = origin.kind === object.kind && origin.name === name;
    const source = isOwn ? 'because other objects name it' : `from ${describeOrigin(origin)}`;
    return new StatusError(409, `${this.entry.plural} "${name}" is made ${source}; change that`, this.details(name));
  }
}

interface ReadBody {
  /** Holds the object alone. */
  readonly store: ObjectStore;
  readonly name: string;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Deletes what lives in a namespace; answers its keys. */
function deleteContent(draft: ObjectStore, namespace: string): string[] {
  const keys: string[] = [];
  for (const object of allObjects(draft)) {
    const kind = KIND_NAMES.find((name) => name === object.kind);
    if (kind === undefined || object.metadata.namespace !== namespace) continue;
    draft.delete(kind, namespace, object.metadata.name);
    keys.push(objectKey(kind, namespace, object.metadata.name));
  }
  return keys;
}
