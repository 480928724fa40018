/**
 * One plain value to one Kubernetes object: which kind it is, its shape, its name and namespace, and the checks that
 * need no other object. The value becomes the object: defaults are filled in place, so the caller must not share it.
 */

import { type SourcePlace, setPlace } from '../model/origin.ts';
import { checkFields } from './check-fields.ts';
import { plainWordAt } from './document.ts';
import { apiVersionOf, KINDS, type KindName, type KindTypes, matchKind } from './kinds.ts';
import { nameHash } from './name-hash.ts';
import { checkShape, type FieldProblem, hasShape, type ShapeError, show, toFieldProblem } from './shape.ts';
import { isUnmodelledPolicy, readUnmodelledPolicy, type UnmodelledPolicy } from './unmodelled-policy.ts';

/** An object of a modelled kind, tagged with its kind. */
export type TaggedObject = { [K in KindName]: { readonly kind: K; readonly object: KindTypes[K] } }[KindName];

export interface UnmodelledObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Set where the object can change an answer. */
  readonly policy: UnmodelledPolicy | null;
}

export type ReadResult =
  | { readonly status: 'object'; readonly tagged: TaggedObject; readonly problems: readonly FieldProblem[] }
  | { readonly status: 'unmodelled'; readonly other: UnmodelledObject; readonly problems: readonly FieldProblem[] }
  /** A document of flatpath's own (ConnectivityTest, Scenario). */
  | { readonly status: 'own' }
  /** `problems` has at least one error; `object` names the object as far as it could be read. */
  | { readonly status: 'wrong'; readonly object: string; readonly problems: readonly FieldProblem[] };

/** Names of objects: dot-separated labels of lower-case letters, digits and '-'. */
const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/**
 * Reads one object. `place` is where it stands in a file, absent for objects that came from none. A namespaced object
 * without a namespace goes to 'default'; one with `generateName` alone gets a name as the API server would make it.
 */
export function readObject(value: unknown, place?: SourcePlace): ReadResult {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return wrong('', '', `${show(value)} is not a Kubernetes object`);
  }
  const apiVersion: unknown = Reflect.get(value, 'apiVersion');
  const kind: unknown = Reflect.get(value, 'kind');
  const problems: FieldProblem[] = [];
  checkText(kind, 'kind', problems);
  checkText(apiVersion, 'apiVersion', problems);
  if (typeof kind !== 'string' || typeof apiVersion !== 'string' || problems.length > 0) {
    return { status: 'wrong', object: describeValue(value), problems };
  }
  if (apiVersion.startsWith('flatpath.dev/')) return { status: 'own' };
  const match = matchKind(apiVersion, kind);
  if (match.status === 'wrong') return wrong(describeValue(value), match.field, match.message);
  if (match.status === 'unmodelled') return readUnmodelled(value, apiVersion, kind, place);
  return readModelled(value, match.kind, place);
}

function readModelled(value: object, kind: KindName, place: SourcePlace | undefined): ReadResult {
  fillName(value, kind);
  Reflect.set(value, 'apiVersion', apiVersionOf(KINDS[kind]));
  const problems: FieldProblem[] = [];
  let tagged = tag(kind, value);
  if (tagged === null) {
    if (restoreWords(value, checkShape(kind, value), problems)) tagged = tag(kind, value);
    if (tagged === null) problems.unshift(...checkShape(kind, value).map(toFieldProblem));
  }
  const object = describeValue(value);
  if (tagged === null) return { status: 'wrong', object, problems };
  const { metadata } = tagged.object;
  checkName(metadata.name, 'metadata.name', problems);
  if (KINDS[kind].namespaced) checkName(metadata.namespace, 'metadata.namespace', problems);
  problems.push(...checkFields(tagged));
  if (problems.some(({ severity }) => severity === 'error')) return { status: 'wrong', object, problems };
  if (place !== undefined) setPlace(tagged.object, place);
  return { status: 'object', tagged, problems };
}

function readUnmodelled(value: object, apiVersion: string, kind: string, place: SourcePlace | undefined): ReadResult {
  const namespace = textAt(metadataOf(value), 'namespace') ?? '';
  const name = textAt(metadataOf(value), 'name') ?? '';
  let policy: UnmodelledPolicy | null = null;
  if (isUnmodelledPolicy(apiVersion, kind)) {
    const at = place === undefined ? {} : { file: place.file, ...place.locate('') };
    // Whether a policy of a custom kind is namespaced cannot be known: none written means the whole cluster.
    policy = readUnmodelledPolicy(apiVersion, kind, value, { kind, namespace, name, field: '', ...at });
  }
  return { status: 'unmodelled', other: { apiVersion, kind, namespace, name, policy }, problems: [] };
}

function tag(kind: KindName, value: object): TaggedObject | null {
  const tagAs = <K extends KindName>(name: K): { kind: K; object: KindTypes[K] } | null =>
    hasShape(name, value) ? { kind: name, object: value } : null;
  switch (kind) {
    case 'Namespace':
      return tagAs(kind);
    case 'Node':
      return tagAs(kind);
    case 'Pod':
      return tagAs(kind);
    case 'Service':
      return tagAs(kind);
    case 'Endpoints':
      return tagAs(kind);
    case 'EndpointSlice':
      return tagAs(kind);
    case 'NetworkPolicy':
      return tagAs(kind);
    case 'ClusterNetworkPolicy':
      return tagAs(kind);
    case 'AdminNetworkPolicy':
      return tagAs(kind);
    case 'BaselineAdminNetworkPolicy':
      return tagAs(kind);
    case 'ConfigMap':
      return tagAs(kind);
    case 'Deployment':
      return tagAs(kind);
    case 'ReplicaSet':
      return tagAs(kind);
    case 'StatefulSet':
      return tagAs(kind);
    case 'DaemonSet':
      return tagAs(kind);
    case 'Job':
      return tagAs(kind);
    case 'CronJob':
      return tagAs(kind);
  }
}

/** 'Service shop/checkout' of a value that may lack any of it; '' where not even a kind can be read. */
export function describeValue(value: unknown): string {
  const kind = textAt(value, 'kind');
  if (kind === undefined) return '';
  const metadata = metadataOf(value);
  const namespace = textAt(metadata, 'namespace');
  const name = textAt(metadata, 'name') ?? '(no name)';
  return `${kind} ${namespace === undefined || namespace === '' ? name : `${namespace}/${name}`}`;
}

function fillName(value: object, kind: KindName): void {
  const metadata = metadataOf(value);
  if (typeof metadata !== 'object' || metadata === null) return;
  const namespace = textAt(metadata, 'namespace');
  if (!KINDS[kind].namespaced) Reflect.set(metadata, 'namespace', '');
  else if (namespace === undefined || namespace === '') {
    if (namespace !== undefined || !Object.hasOwn(metadata, 'namespace')) Reflect.set(metadata, 'namespace', 'default');
  }
  const prefix = textAt(metadata, 'generateName');
  if (prefix !== undefined && !Object.hasOwn(metadata, 'name')) {
    Reflect.set(metadata, 'name', `${prefix}${nameHash(`${kind}/${prefix}`, 5)}`);
  }
}

/**
 * Where text was wanted but an unquoted yes, no, on or off (a boolean in kubectl's YAML) stands, the word is taken.
 * Answers whether anything was put back.
 */
function restoreWords(value: object, errors: readonly ShapeError[], problems: FieldProblem[]): boolean {
  let restored = false;
  for (const error of errors) {
    if (error.wanted !== 'string') continue;
    const holder = partAt(value, error.path.slice(0, -1));
    const key = error.path[error.path.length - 1];
    if (holder === undefined || key === undefined) continue;
    const word = plainWordAt(holder, key);
    if (word === undefined) continue;
    Reflect.set(holder, key, word);
    restored = true;
    const { field } = toFieldProblem(error);
    problems.push({
      severity: 'warning',
      field,
      message: `unquoted ${word} is a boolean to kubectl; put it in quotes`,
    });
  }
  return restored;
}

function partAt(value: object, path: readonly (string | number)[]): object | undefined {
  let part: unknown = value;
  for (const key of path) {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return undefined;
    part = Reflect.get(part, key);
  }
  return typeof part === 'object' && part !== null ? part : undefined;
}

function checkText(value: unknown, field: string, problems: FieldProblem[]): void {
  if (value === undefined || value === '') problems.push({ severity: 'error', field, message: 'is required' });
  else if (typeof value !== 'string')
    problems.push({ severity: 'error', field, message: `${show(value)} is not text` });
}

function checkName(name: string, field: string, problems: FieldProblem[]): void {
  if (name === '') problems.push({ severity: 'error', field, message: 'is required' });
  else if (name.length > 253 || !NAME.test(name)) {
    const message = `${show(name)} is not a name (lower-case letters, digits, '-' and '.', at most 253)`;
    problems.push({ severity: 'error', field, message });
  }
}

function metadataOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, 'metadata')
    ? Reflect.get(value, 'metadata')
    : undefined;
}

function textAt(value: unknown, key: string): string | undefined {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  const text: unknown = Reflect.get(value, key);
  return typeof text === 'string' ? text : undefined;
}

function wrong(object: string, field: string, message: string): ReadResult {
  return { status: 'wrong', object, problems: [{ severity: 'error', field, message }] };
}
