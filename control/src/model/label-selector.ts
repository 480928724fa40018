/**
 * Label selectors: the schema, and what it means that a selector takes labels (policy/pod-index.ts does the same for many
 * pods at once). Keys are looked up as own properties only, so that a label called 'constructor' is just a label. NotIn and
 * DoesNotExist match where the key is absent.
 */

import { type Static, Type } from '@sinclair/typebox';
import { StringMap } from './metadata.ts';
import { oneOf } from './schema.ts';

export const LabelSelector = Type.Object({
  matchLabels: Type.Optional(StringMap),
  matchExpressions: Type.Optional(
    Type.Array(
      Type.Object({
        key: Type.String(),
        operator: oneOf(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: Type.Optional(Type.Array(Type.String())),
      }),
    ),
  ),
});
export type LabelSelector = Static<typeof LabelSelector>;

/** True where the labels satisfy every requirement; an empty selector takes everything. */
export function selects(selector: LabelSelector, labels: Readonly<Record<string, string>> | undefined): boolean {
  const has = labels ?? {};
  if (selector.matchLabels !== undefined && !hasLabels(has, selector.matchLabels)) return false;
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const present = Object.hasOwn(has, key);
    const listed = present && values?.includes(has[key]!) === true;
    if (operator === 'In' && !listed) return false;
    if (operator === 'NotIn' && listed) return false;
    if (operator === 'Exists' && !present) return false;
    if (operator === 'DoesNotExist' && present) return false;
  }
  return true;
}

/** True where every wanted label is there with its value. */
export function hasLabels(
  labels: Readonly<Record<string, string>> | undefined,
  wanted: Readonly<Record<string, string>>,
): boolean {
  for (const key of Object.keys(wanted)) {
    if (labels === undefined || !Object.hasOwn(labels, key) || labels[key] !== wanted[key]) return false;
  }
  return true;
}
