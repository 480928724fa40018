/**
 * The desired state: objects as they were given, by kind, namespace and name. The same key put twice: the last wins.
 *
 * What is stored is never changed; completing a cluster copies what it fills in.
 */

import { groupOf, KIND_NAMES, type KindName, type KindTypes } from './kinds.ts';
import type { TaggedObject, UnmodelledObject } from './read-object.ts';

type ObjectMaps = { [K in KindName]: Map<string, KindTypes[K]> };

export class ObjectStore {
  readonly #objects: ObjectMaps = {
    Namespace: new Map(),
    Node: new Map(),
    Pod: new Map(),
    Service: new Map(),
    Endpoints: new Map(),
    EndpointSlice: new Map(),
    NetworkPolicy: new Map(),
    ClusterNetworkPolicy: new Map(),
    AdminNetworkPolicy: new Map(),
    BaselineAdminNetworkPolicy: new Map(),
    ConfigMap: new Map(),
    Deployment: new Map(),
    ReplicaSet: new Map(),
    StatefulSet: new Map(),
    DaemonSet: new Map(),
    Job: new Map(),
    CronJob: new Map(),
  };
  readonly #others = new Map<string, UnmodelledObject>();

  /** Adds or replaces one object; answers whether it was new. */
  put(tagged: TaggedObject): boolean {
    return this.#set(tagged.kind, tagged.object);
  }

  /** Adds or replaces an object of a kind that is not modelled. */
  putUnmodelled(other: UnmodelledObject): void {
    const { apiVersion, kind, namespace, name } = other;
    this.#others.set(`${groupOf(apiVersion)}/${kind}/${namespace}/${name}`, other);
  }

  /** Namespace '' for cluster-scoped kinds. */
  get<K extends KindName>(kind: K, namespace: string, name: string): KindTypes[K] | undefined {
    return this.#objects[kind].get(`${namespace}/${name}`);
  }

  /** Objects of a kind by namespace, then name. */
  list<K extends KindName>(kind: K): KindTypes[K][] {
    return sortByName([...this.#objects[kind].values()]);
  }

  unmodelled(): UnmodelledObject[] {
    return [...this.#others.values()];
  }

  /** Answers whether there was such an object. */
  delete(kind: KindName, namespace: string, name: string): boolean {
    return this.#objects[kind].delete(`${namespace}/${name}`);
  }

  /** Everything of another store on top of this one's. */
  putAll(other: ObjectStore): void {
    for (const kind of KIND_NAMES) this.#copyKind(kind, other);
    for (const object of other.#others.values()) this.putUnmodelled(object);
  }

  /** Takes over everything of another store, and drops what was here before. */
  replaceAll(other: ObjectStore): void {
    for (const kind of KIND_NAMES) this.#objects[kind].clear();
    this.#others.clear();
    this.putAll(other);
  }

  #copyKind<K extends KindName>(kind: K, other: ObjectStore): void {
    for (const object of other.#objects[kind].values()) this.#set(kind, object);
  }

  #set<K extends KindName>(kind: K, object: KindTypes[K]): boolean {
    const map = this.#objects[kind];
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    const isNew = !map.has(key);
    map.set(key, object);
    return isNew;
  }
}

/** Sorts by namespace, then name, in plain code-unit order, in place. */
export function sortByName<T extends { metadata: { namespace: string; name: string } }>(objects: T[]): T[] {
  return objects.sort((a, b) => {
    const left = a.metadata;
    const right = b.metadata;
    if (left.namespace !== right.namespace) return left.namespace < right.namespace ? -1 : 1;
    if (left.name === right.name) return 0;
    return left.name < right.name ? -1 : 1;
  });
}
