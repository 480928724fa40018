/**
 * What every Kubernetes object has: apiVersion, kind and metadata.
 *
 * Only the fields that flatpath reads are typed; all others are allowed and ignored. `metadata.namespace` is '' on
 * cluster-scoped objects and is filled with 'default' on namespaced ones by the loader, so readers never default it.
 */

import { type Static, Type } from '@sinclair/typebox';

export const StringMap = Type.Record(Type.String(), Type.String());
export type StringMap = Static<typeof StringMap>;

export const OwnerReference = Type.Object({
  apiVersion: Type.Optional(Type.String()),
  kind: Type.String(),
  name: Type.String(),
  controller: Type.Optional(Type.Boolean()),
});

export const ObjectMeta = Type.Object({
  name: Type.String(),
  namespace: Type.String({ default: '' }),
  uid: Type.Optional(Type.String()),
  labels: Type.Optional(StringMap),
  annotations: Type.Optional(StringMap),
  generation: Type.Optional(Type.Integer()),
  deletionTimestamp: Type.Optional(Type.String()),
  ownerReferences: Type.Optional(Type.Array(OwnerReference)),
});
export type ObjectMeta = Static<typeof ObjectMeta>;

/** The part that all modelled objects share. */
export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}
