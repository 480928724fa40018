/**
 * Checks plain data against a kind's schema, fills the schema's defaults in place, and says what is wrong in sentences.
 *
 * Validators are compiled when a kind is first met and are the only thing here that outlives a call. Nothing is coerced:
 * "80" is not a port. All errors of an object are reported.
 */

import type { TSchema } from '@sinclair/typebox';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { joinField } from '../model/origin.ts';
import { KINDS, type KindName, type KindTypes } from './kinds.ts';

export interface FieldProblem {
  readonly severity: 'error' | 'warning';
  /** 'spec.ports[0].port' */
  readonly field: string;
  readonly message: string;
}

/** What was wrong with a value's shape; `path` leads to the value, `wanted` is the type it should have. */
export interface ShapeError {
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly wanted: string;
}

const ajv = new Ajv({
  allErrors: true,
  useDefaults: true,
  verbose: true,
  strict: true,
  allowUnionTypes: true,
  // Most of the time that a short command takes before it does anything: the schemas are our own, and V8 optimises too.
  validateSchema: false,
  code: { optimize: false },
});
const validators = new Map<TSchema, ValidateFunction>();

/** Fills defaults; answers no errors exactly where `value` is now a complete object of the kind. */
export function checkShape(kind: KindName, value: unknown): ShapeError[] {
  const validate = validatorOf(KINDS[kind].schema);
  if (validate(value)) return [];
  return (validate.errors ?? []).map((error) => explain(error, value));
}

/** `checkShape` as a type guard: for values that have passed it. */
export function hasShape<K extends KindName>(kind: K, value: unknown): value is KindTypes[K] {
  return validatorOf(KINDS[kind].schema)(value) === true;
}

function validatorOf(schema: TSchema): ValidateFunction {
  let validate = validators.get(schema);
  if (validate === undefined) {
    validate = ajv.compile(schema);
    validators.set(schema, validate);
  }
  return validate;
}

function explain(error: ErrorObject, root: unknown): ShapeError {
  const path = readPointer(error.instancePath, root);
  const schema = error.parentSchema ?? {};
  const wanted = typeof schema['type'] === 'string' ? schema['type'] : '';
  if (error.keyword === 'required') {
    const missing = String(error.params['missingProperty']);
    return { path: [...path, missing], message: 'is required', wanted };
  }
  return { path, message: describeMismatch(error, schema), wanted };
}

function describeMismatch(error: ErrorObject, schema: Record<string, unknown>): string {
  const shown = show(error.data);
  const title = schema['title'];
  const words = schema['enum'];
  if (Array.isArray(words)) return `${shown} is not one of ${words.join(', ')}`;
  if (error.keyword === 'type') {
    const wanted = typeof title === 'string' ? title : describeType(schema['type']);
    const hint =
      schema['type'] === 'string' && typeof error.data !== 'object'
        ? ' (text that looks like something else needs quotes)'
        : '';
    return `${shown} is ${describeType(typeOf(error.data))}, not ${wanted}${hint}`;
  }
  if (typeof title === 'string') return `${shown} is not ${title}`;
  return `${shown} ${error.message ?? 'is not valid'}`;
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}

function describeType(type: unknown): string {
  switch (type) {
    case 'object':
      return 'an object';
    case 'array':
      return 'a list';
    case 'string':
      return 'text';
    case 'integer':
      return 'a whole number';
    case 'number':
      return 'a number';
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'empty';
    default:
      return String(type);
  }
}

/** A value as it may stand in a sentence: short, on one line. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return 'the list';
  if (typeof value === 'object' && value !== null) return 'the object';
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** A JSON pointer as a path; parts that index a list become numbers. */
function readPointer(pointer: string, root: unknown): (string | number)[] {
  const path: (string | number)[] = [];
  let value: unknown = root;
  for (const raw of pointer.split('/').slice(1)) {
    const key = raw.replaceAll('~1', '/').replaceAll('~0', '~');
    path.push(Array.isArray(value) ? Number(key) : key);
    value = typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
  }
  return path;
}

/** The problem that a shape error is. */
export function toFieldProblem(error: ShapeError): FieldProblem {
  return { severity: 'error', field: joinField(error.path), message: error.message };
}
