/**
 * Where an object, or one of its fields, came from.
 *
 * Objects read from a file know their place in it; objects that a controller made know the object and field they were
 * made from. Both are kept beside the objects (WeakMap), never in them, so that objects stay plain Kubernetes data.
 * Positions are found only when somebody asks: `originOf` costs nothing at load time.
 */

import type { KubernetesObject } from './metadata.ts';

export interface Origin {
  readonly kind: string;
  /** '' for a cluster-scoped object. */
  readonly namespace: string;
  readonly name: string;
  /** 'spec.ports[0].port', or '' for the whole object. */
  readonly field: string;
  readonly file?: string;
  /** 1-based number of the document in the file. */
  readonly document?: number;
  /** 1-based. The line of the field, or of the nearest field around it that exists. */
  readonly line?: number;
  /** 1-based. */
  readonly column?: number;
}

/** Finds fields of one object in the text it was read from. */
export interface SourcePlace {
  readonly file: string;
  /** 1-based number of the document in the file. */
  readonly document: number;
  /** 1-based position of the field or of the nearest existing one around it; '' asks for the object itself. */
  locate(field: string): { line: number; column: number };
}

interface Derivation {
  readonly from: KubernetesObject;
  readonly field: string;
  /** The made part has the shape of that field, so a path inside the one is a path inside the other. */
  readonly sameShape: boolean;
}

const places = new WeakMap<object, SourcePlace>();
const derivations = new WeakMap<object, Derivation>();

/** Notes that an object was read from a file. */
export function setPlace(object: KubernetesObject, place: SourcePlace): void {
  places.set(object, place);
}

/**
 * Notes that `made` (an object, or a part of one such as an endpoint in a slice) was made by a controller because of
 * `from`'s field.
 */
export function setDerived(made: object, from: KubernetesObject, field: string): void {
  derivations.set(made, { from, field, sameShape: false });
}

/** Notes that a part of a made object (a pod's spec) is `from`'s field as it stands there (a template's spec). */
export function setCopied(made: object, from: KubernetesObject, field: string): void {
  derivations.set(made, { from, field, sameShape: true });
}

/** Gives a completed copy the origin of the object it was copied from. */
export function copyOrigin(copy: object, original: object): void {
  const place = places.get(original);
  if (place !== undefined) places.set(copy, place);
  const derivation = derivations.get(original);
  if (derivation !== undefined) derivations.set(copy, derivation);
}

/**
 * Where a field came from. For a made object, or inside a made part, this is the object and field behind it (a pod of a
 * Deployment answers with the Deployment's template).
 */
export function originOf(object: KubernetesObject, field: string): Origin {
  let subject = object;
  let path = field;
  for (let hops = 0; hops < 8; hops++) {
    const source = deepestDerivation(subject, path);
    if (source === undefined) break;
    subject = source.from;
    path = source.field;
  }
  const place = places.get(subject);
  const { kind, metadata } = subject;
  const origin = { kind, namespace: metadata.namespace, name: metadata.name, field: path };
  if (place === undefined) return origin;
  const { line, column } = place.locate(path);
  return { ...origin, file: place.file, document: place.document, line, column };
}

/** 'Service shop/checkout spec.ports[0].port (examples/shop/checkout.yaml:12)'. */
export function describeOrigin(origin: Origin): string {
  let text = `${origin.kind} ${origin.namespace === '' ? '' : `${origin.namespace}/`}${origin.name}`;
  if (origin.field !== '') text += ` ${origin.field}`;
  if (origin.file !== undefined) text += ` (${origin.file}${origin.line === undefined ? '' : `:${origin.line}`})`;
  return text;
}

/** 'spec.ports[0].port' -> ['spec', 'ports', 0, 'port']. Keys with dots are written `["a.b"]`. */
export function splitField(field: string): (string | number)[] {
  const parts: (string | number)[] = [];
  const pattern = /\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.[\]]+)/g;
  for (const match of field.matchAll(pattern)) {
    if (match[1] !== undefined) parts.push(match[1].replace(/\\(.)/g, '$1'));
    else if (match[2] !== undefined) parts.push(Number(match[2]));
    else parts.push(match[3]!);
  }
  return parts;
}

/** ['spec', 'ports', 0, 'port'] -> 'spec.ports[0].port'. */
export function joinField(parts: readonly (string | number)[]): string {
  let text = '';
  for (const part of parts) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (/^[^.[\]"\\]+$/.test(part)) text += text === '' ? part : `.${part}`;
    else text += `["${part.replace(/["\\]/g, '\\$&')}"]`;
  }
  return text;
}

function deepestDerivation(
  object: KubernetesObject,
  field: string,
): { from: KubernetesObject; field: string } | undefined {
  let derivation = derivations.get(object);
  let depth = 0;
  let part: unknown = object;
  const path = splitField(field);
  for (let i = 0; i < path.length; i++) {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, path[i]!)) break;
    part = Reflect.get(part, path[i]!);
    const deeper = typeof part === 'object' && part !== null ? derivations.get(part) : undefined;
    if (deeper === undefined) continue;
    derivation = deeper;
    depth = i + 1;
  }
  if (derivation === undefined) return undefined;
  const rest = derivation.sameShape ? path.slice(depth) : [];
  return { from: derivation.from, field: joinField([...splitField(derivation.field), ...rest]) };
}
