/**
 * The cluster behind the API: desired state, datapath configuration, and the completed model that packets run in.
 *
 * A change is whole or not at all: it is made in a copy of the desired state, completed, modelled and compiled by everyone
 * who runs packets, and takes the old one's place only when all of that went well. Changes come one after the other. When
 * `change` resolves, everything that runs has taken the new image up.
 */
import type { Cluster } from '../cluster/cluster.ts';
import { completeCluster } from '../cluster/complete.ts';
import { KIND_NAMES, type KindName, type KindTypes, type ModelledObject } from '../cluster/kinds.ts';
import { loadCluster } from '../cluster/load.ts';
import type { Problem } from '../cluster/problem.ts';
import { ObjectStore } from '../cluster/store.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { type DatapathInput, resolveDatapath } from '../model/datapath.ts';
import { StatusError } from './status.ts';

/** Somebody who runs packets in the model. */
export interface Publisher {
  /** Compiles for a model without touching what runs; the answer puts it in force and resolves when that has happened. */
  prepare(model: ClusterModel): () => Promise<void>;
}

/** What a change does to the desired state and the configuration. */
export interface Edit {
  /** Changes the copy; may throw to refuse. Answers the keys of the objects that it changed, null for all. */
  readonly objects?: (draft: ObjectStore) => readonly string[] | null;
  readonly datapath?: DatapathInput;
  /** Goes through every check and changes nothing. */
  readonly dryRun?: boolean;
}

/** Changes that may wait for each other. */
const MOST_WAITING = 256;

export interface CompileTimes {
  count: number;
  seconds: number;
  lastSeconds: number;
}

export class LiveCluster {
  store: ObjectStore;
  datapath: DatapathInput;
  model: ClusterModel;
  /** Counts changes; the resourceVersion of lists. */
  generation = 1;
  readonly compileTimes: CompileTimes = { count: 0, seconds: 0, lastSeconds: 0 };
  private readonly publishers: Publisher[] = [];
  private readonly versions = new Map<string, number>();
  private baseVersion = 1;
  private waiting = 0;
  private last: Promise<unknown> = Promise.resolve();

  /** @throws InputError with everything that is wrong with the input */
  constructor(paths: readonly string[], datapath: DatapathInput) {
    const { cluster, store } = loadCluster(paths, completionOptions(datapath));
    this.store = store;
    this.datapath = datapath;
    this.model = modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
  }

  get warnings(): readonly Problem[] {
    return [...this.model.cluster.warnings, ...this.model.warnings];
  }

  addPublisher(publisher: Publisher): void {
    this.publishers.push(publisher);
  }

  /** Objects of a kind as the cluster holds them, completed where completing adds something. */
  list<K extends KindName>(kind: K): readonly ModelledObject[] {
    return listCompleted(this.model.cluster, this.store, kind);
  }

  find(kind: KindName, namespace: string, name: string): ModelledObject | undefined {
    return this.list(kind).find(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
  }

  /** The generation in which a given object was last written; a made one is as old as the cluster. */
  versionOf(kind: KindName, namespace: string, name: string): number {
    if (this.store.get(kind, namespace, name) === undefined) return this.generation;
    return this.versions.get(objectKey(kind, namespace, name)) ?? this.baseVersion;
  }

  /** @throws InputError, StatusError or RangeError where the change is refused; nothing has happened then */
  change(edit: Edit): Promise<void> {
    if (this.waiting >= MOST_WAITING) throw new StatusError(429, `${this.waiting} changes are waiting, as many as may`);
    this.waiting++;
    const result = this.last.then(() => this.apply(edit)).finally(() => this.waiting--);
    // The next change waits for this one, whatever comes of it.
    this.last = result.catch(() => undefined);
    return result;
  }

  private async apply(edit: Edit): Promise<void> {
    const started = performance.now();
    const draft = new ObjectStore();
    draft.putAll(this.store);
    const touched = edit.objects?.(draft) ?? (edit.objects === undefined ? [] : null);
    const datapath = edit.datapath ?? this.datapath;
    const cluster = completeCluster(draft, completionOptions(datapath));
    const model = modelCluster(cluster, resolveDatapath(datapath, cluster.defaults), null, this.model.identities);
    const commits = this.publishers.map((publisher) => publisher.prepare(model));
    if (edit.dryRun === true) return;
    this.store = draft;
    this.datapath = datapath;
    this.model = model;
    this.generation++;
    if (touched === null) {
      this.versions.clear();
      this.baseVersion = this.generation;
    } else for (const key of touched) this.versions.set(key, this.generation);
    const seconds = (performance.now() - started) / 1000;
    this.compileTimes.count++;
    this.compileTimes.seconds += seconds;
    this.compileTimes.lastSeconds = seconds;
    await Promise.all(commits.map((commit) => commit()));
  }
}

export function objectKey(kind: KindName, namespace: string, name: string): string {
  return `${kind}/${namespace}/${name}`;
}

/** Every object of a store, by kind. */
export function allObjects(store: ObjectStore): ModelledObject[] {
  return KIND_NAMES.flatMap((kind) => listStored(store, kind));
}

function listStored<K extends KindName>(store: ObjectStore, kind: K): KindTypes[K][] {
  return store.list(kind);
}

function listCompleted(cluster: Cluster, store: ObjectStore, kind: KindName): readonly ModelledObject[] {
  switch (kind) {
    case 'Namespace':
      return cluster.namespaces;
    case 'Node':
      return cluster.nodes;
    case 'Pod':
      return cluster.pods;
    case 'Service':
      return cluster.services;
    case 'EndpointSlice':
      return cluster.endpointSlices;
    case 'NetworkPolicy':
      return cluster.networkPolicies;
    case 'ClusterNetworkPolicy':
      return cluster.clusterNetworkPolicies;
    case 'AdminNetworkPolicy':
      return cluster.adminNetworkPolicies;
    case 'BaselineAdminNetworkPolicy':
      return cluster.baselineAdminNetworkPolicies;
    default:
      return listStored(store, kind);
  }
}

function completionOptions(datapath: DatapathInput): { serviceCIDRs: string[]; clusterCIDR: string[] } {
  const { serviceCIDRs = [], clusterCIDR = [] } = datapath.kubeProxy ?? {};
  return { serviceCIDRs, clusterCIDR };
}
