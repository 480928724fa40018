/** apps/v1 Deployment. `replicas` is 1 where it is left out, as the API server sets. */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { Replicas, workloadFields } from './workload.ts';

export const DeploymentSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Deployment'),
  metadata: ObjectMeta,
  spec: Type.Object({ replicas: Replicas, ...workloadFields }),
});
export type Deployment = Static<typeof DeploymentSchema>;
