/**
 * batch/v1 CronJob. flatpath shows the cluster while a run is going on: one Job's pods, none where it is suspended.
 */

import { type Static, Type } from '@sinclair/typebox';
import { JobSpec } from './job.ts';
import { ObjectMeta } from './metadata.ts';

export const CronJobSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('CronJob'),
  metadata: ObjectMeta,
  spec: Type.Object({
    suspend: Type.Boolean({ default: false }),
    jobTemplate: Type.Object({ spec: JobSpec }),
  }),
});
export type CronJob = Static<typeof CronJobSchema>;
