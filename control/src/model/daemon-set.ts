/** apps/v1 DaemonSet: one pod for every node that its template may run on. Taints and tolerations are not modelled. */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { workloadFields } from './workload.ts';

export const DaemonSetSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('DaemonSet'),
  metadata: ObjectMeta,
  spec: Type.Object({ ...workloadFields }),
});
export type DaemonSet = Static<typeof DaemonSetSchema>;
