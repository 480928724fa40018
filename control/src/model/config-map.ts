/** core/v1 ConfigMap. Only kube-system/kube-proxy and kube-system/cilium-config are read (cluster/defaults.ts). */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta, StringMap } from './metadata.ts';

export const ConfigMapSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('ConfigMap'),
  metadata: ObjectMeta,
  data: Type.Optional(StringMap),
});
export type ConfigMap = Static<typeof ConfigMapSchema>;
