/**
 * When one rule covers another, whatever pods there are: told from selectors, prefixes and port ranges alone.
 *
 * `true` is certain; `false` only says that the texts do not show it. So nothing is called covered because a small
 * cluster happens to have one application.
 */

import { inPrefix, overlaps, type Prefix } from '../model/address.ts';
import type { LabelSelector } from '../model/label-selector.ts';
import { NAMESPACE_NAME_LABEL } from '../model/namespace.ts';
import type { PodScope, WrittenPeer, WrittenPort } from './written-policy.ts';

/** Everything that `narrow` takes is taken by `wide`. */
export function coversSelector(wide: LabelSelector, narrow: LabelSelector): boolean {
  for (const [key, value] of Object.entries(wide.matchLabels ?? {})) {
    if (!implies(narrow, key, 'In', [value])) return false;
  }
  return (wide.matchExpressions ?? []).every(({ key, operator, values }) =>
    implies(narrow, key, operator, values ?? []),
  );
}

/** Every label set that the selector takes satisfies the requirement. */
function implies(selector: LabelSelector, key: string, operator: string, values: readonly string[]): boolean {
  const labels = selector.matchLabels ?? {};
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  const own = (selector.matchExpressions ?? []).filter((expression) => expression.key === key);
  const choices = own.filter((expression) => expression.operator === 'In').map((expression) => expression.values ?? []);
  if (value !== undefined) choices.push([value]);
  switch (operator) {
    case 'In':
      return choices.some((list) => list.every((choice) => values.includes(choice)));
    case 'NotIn':
      if (choices.some((list) => list.every((choice) => !values.includes(choice)))) return true;
      return own.some(
        (expression) =>
          expression.operator === 'DoesNotExist' ||
          (expression.operator === 'NotIn' && values.every((other) => expression.values?.includes(other) === true)),
      );
    case 'Exists':
      return choices.length > 0 || own.some((expression) => expression.operator === 'Exists');
    default:
      return own.some((expression) => expression.operator === 'DoesNotExist');
  }
}

export function coversScope(wide: PodScope, narrow: PodScope): boolean {
  return coversNamespaces(wide.namespaces, narrow.namespaces) && coversSelector(wide.pods, narrow.pods);
}

function coversNamespaces(wide: PodScope['namespaces'], narrow: PodScope['namespaces']): boolean {
  if (typeof wide === 'string') {
    if (typeof narrow === 'string') return wide === narrow;
    return implies(narrow, NAMESPACE_NAME_LABEL, 'In', [wide]);
  }
  // Of a namespace that is given by name only its name is certain.
  const labels = typeof narrow === 'string' ? { matchLabels: { [NAMESPACE_NAME_LABEL]: narrow } } : narrow;
  return coversSelector(wide, labels);
}

export function coversPeer(wide: WrittenPeer, narrow: WrittenPeer): boolean {
  if (wide.kind === 'any') return true;
  if (wide.kind === 'pods' && narrow.kind === 'pods') return coversScope(wide.scope, narrow.scope);
  if (wide.kind === 'nodes' && narrow.kind === 'nodes') return coversSelector(wide.selector, narrow.selector);
  if (wide.kind === 'block' && narrow.kind === 'block') {
    return (
      isWithin(narrow.prefix, wide.prefix) &&
      wide.except.every((hole) => !overlaps(hole, narrow.prefix) || narrow.except.some((own) => isWithin(hole, own)))
    );
  }
  return false;
}

/** Some peer of `wide` covers each of `narrow`. */
export function coversPeers(wide: readonly WrittenPeer[], narrow: readonly WrittenPeer[]): boolean {
  return narrow.every((peer) => wide.some((other) => coversPeer(other, peer)));
}

export function coversPorts(wide: readonly WrittenPort[] | null, narrow: readonly WrittenPort[] | null): boolean {
  if (wide === null) return true;
  if (narrow === null) return false;
  return narrow.every((port) => wide.some((other) => coversPort(other, port)));
}

function coversPort(wide: WrittenPort, narrow: WrittenPort): boolean {
  if (wide.kind === 'range') {
    if (wide.protocol !== narrow.protocol) return false;
    if (narrow.kind === 'named') return wide.first <= 1 && wide.last === 65_535;
    return wide.first <= narrow.first && wide.last >= narrow.last;
  }
  return (
    narrow.kind === 'named' &&
    wide.name === narrow.name &&
    (wide.protocol === null || wide.protocol === narrow.protocol)
  );
}

/** All addresses of `inner` lie in `outer`. */
export function isWithin(inner: Prefix, outer: Prefix): boolean {
  return inner.length >= outer.length && inPrefix(inner, outer);
}
