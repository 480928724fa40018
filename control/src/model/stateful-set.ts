/** apps/v1 StatefulSet. `ordinals.start` moves the first pod's number; `serviceName` becomes the pods' subdomain. */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { Replicas, workloadFields } from './workload.ts';

export const StatefulSetSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('StatefulSet'),
  metadata: ObjectMeta,
  spec: Type.Object({
    replicas: Replicas,
    serviceName: Type.String({ default: '' }),
    ordinals: Type.Optional(Type.Object({ start: Type.Integer({ default: 0, minimum: 0 }) })),
    ...workloadFields,
  }),
});
export type StatefulSet = Static<typeof StatefulSetSchema>;
