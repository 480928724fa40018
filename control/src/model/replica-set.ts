/** apps/v1 ReplicaSet. One that a Deployment owns makes no pods of its own here: the Deployment makes them. */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { Replicas, workloadFields } from './workload.ts';

export const ReplicaSetSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('ReplicaSet'),
  metadata: ObjectMeta,
  spec: Type.Object({ replicas: Replicas, ...workloadFields }),
});
export type ReplicaSet = Static<typeof ReplicaSetSchema>;
