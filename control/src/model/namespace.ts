/**
 * core/v1 Namespace. In a completed cluster it carries the label `kubernetes.io/metadata.name`, as the API server sets.
 */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';

export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';

export const NamespaceSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Namespace'),
  metadata: ObjectMeta,
});
export type Namespace = Static<typeof NamespaceSchema>;
