/** batch/v1 Job. One that is suspended or has ended (condition Complete or Failed) makes no pods. */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { workloadFields } from './workload.ts';

const count = Type.Integer({ minimum: 0, title: 'a number of pods (0 or more)' });

export const JobSpec = Type.Object({
  parallelism: Type.Optional(count),
  completions: Type.Optional(count),
  suspend: Type.Boolean({ default: false }),
  ...workloadFields,
});
export type JobSpec = Static<typeof JobSpec>;

export const JobSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Job'),
  metadata: ObjectMeta,
  spec: JobSpec,
  status: Type.Object(
    { conditions: Type.Optional(Type.Array(Type.Object({ type: Type.String(), status: Type.String() }))) },
    { default: {} },
  ),
});
export type Job = Static<typeof JobSchema>;
