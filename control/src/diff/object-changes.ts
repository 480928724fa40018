/**
 * Which objects differ between two desired states: added, removed, or changed in something that answers can depend on.
 *
 * Of metadata only labels and annotations count: the rest is the API server's bookkeeping, which differs between any two
 * dumps. Events of a controller (observed generations, conditions of workloads) count as little.
 */

import { KIND_NAMES, type KindName, type ModelledObject } from '../cluster/kinds.ts';
import type { ObjectStore } from '../cluster/store.ts';
import { type Origin, originOf } from '../model/origin.ts';

export interface ObjectChange {
  readonly change: 'added' | 'removed' | 'changed';
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Where it is written: after the change, or where it was before it was removed. */
  readonly origin: Origin;
}

/** Kinds whose status is what a cluster assigned or observed about the traffic itself. */
const TELLING_STATUS: ReadonlySet<KindName> = new Set(['Node', 'Pod', 'Service']);
/** Annotations that tools write with every deployment or restart. */
const BUSY_ANNOTATION =
  /^(kubectl\.kubernetes\.io|deployment\.kubernetes\.io|meta\.helm\.sh|control-plane\.alpha\.kubernetes\.io)\//;

/** By kind, namespace and name. */
export function listObjectChanges(before: ObjectStore, after: ObjectStore): ObjectChange[] {
  const changes: ObjectChange[] = [];
  for (const kind of KIND_NAMES) {
    const old = new Map(before.list(kind).map((object) => [nameOf(object), object]));
    for (const object of after.list(kind)) {
      const was = old.get(nameOf(object));
      old.delete(nameOf(object));
      if (was === undefined) changes.push(describe('added', object));
      else if (was !== object && textOf(kind, was) !== textOf(kind, object)) changes.push(describe('changed', object));
    }
    for (const object of old.values()) changes.push(describe('removed', object));
  }
  return changes;
}

function describe(change: ObjectChange['change'], object: ModelledObject): ObjectChange {
  const { kind, metadata } = object;
  return { change, kind, namespace: metadata.namespace, name: metadata.name, origin: originOf(object, '') };
}

function nameOf({ metadata }: ModelledObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function textOf(kind: KindName, object: ModelledObject): string {
  const { metadata, ...rest } = object;
  const { labels = {}, annotations = {}, ownerReferences = [] } = metadata;
  const told = Object.entries(annotations).filter(([key]) => !BUSY_ANNOTATION.test(key));
  const parts: Record<string, unknown> = { ...rest, labels, annotations: Object.fromEntries(told), ownerReferences };
  if (!TELLING_STATUS.has(kind)) delete parts['status'];
  return JSON.stringify(sortKeys(parts));
}

/** The same value with the keys of all its objects in order. */
function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, part]) => [key, sortKeys(part)]));
}
