/**
 * ConnectivityTest documents (flatpath.dev/v1alpha1): schema, type and validation.
 *
 * Unknown keys are errors, as are two probes' worth of them at once: a document's errors are reported together, each
 * with its field. Null is absent, as everywhere.
 */

import { REASONS } from '@flatpath/engine/wire/reason';
import { type Static, Type } from '@sinclair/typebox';
import { Ajv, type ValidateFunction } from 'ajv';
import { DatapathSchema, MODES, type Mode } from '../model/datapath.ts';
import { checkDatapathValues } from '../model/datapath-check.ts';
import { summarizeErrors } from '../model/schema-errors.ts';

export const FLATPATH_API_VERSION = 'flatpath.dev/v1alpha1';
export const TEST_KIND = 'ConnectivityTest';

const closed = { additionalProperties: false } as const;

export const ExpectSchema = Type.Object(
  {
    verdict: Type.Optional(
      Type.Union((['delivered', 'forwarded', 'dropped', 'rejected'] as const).map((verdict) => Type.Literal(verdict))),
    ),
    reason: Type.Optional(Type.String()),
    translated: Type.Optional(Type.Boolean()),
    backends: Type.Optional(Type.Array(Type.String())),
    masquerade: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type Expectation = Static<typeof ExpectSchema>;

export const ProbeSchema = Type.Object(
  {
    name: Type.Optional(Type.String()),
    from: Type.String(),
    to: Type.String(),
    protocol: Type.Optional(Type.String()),
    node: Type.Optional(Type.String()),
    expect: Type.Optional(ExpectSchema),
  },
  closed,
);
export type Probe = Static<typeof ProbeSchema>;

export const ConnectivityTestSchema = Type.Object(
  {
    apiVersion: Type.Literal(FLATPATH_API_VERSION),
    kind: Type.Literal('ConnectivityTest'),
    metadata: Type.Optional(Type.Object({ name: Type.Optional(Type.String()) })),
    spec: Type.Object(
      {
        manifests: Type.Optional(Type.Array(Type.String())),
        objects: Type.Optional(Type.Array(Type.Object({}))),
        datapath: Type.Optional(DatapathSchema),
        probes: Type.Optional(Type.Array(ProbeSchema)),
      },
      closed,
    ),
  },
  closed,
);
export type ConnectivityTest = Static<typeof ConnectivityTestSchema>;

let validate: ValidateFunction | null = null;

/** Reasons that an `expect.reason` may name. */
const REASON_NAMES = new Set(REASONS.map((reason) => reason.name));

/**
 * Checks a document, nulls already gone.
 * @returns the errors, one sentence each, empty for a good document
 */
export function checkConnectivityTest(document: unknown): string[] {
  validate ??= new Ajv({ allErrors: true, strict: false }).compile(ConnectivityTestSchema);
  if (!validate(document)) return summarizeErrors(validate.errors ?? []);
  const { spec } = document as ConnectivityTest;
  const problems = checkDatapathValues(spec.datapath ?? {}, 'spec.datapath');
  spec.probes?.forEach((probe, i) => {
    const reason = probe.expect?.reason;
    if (reason !== undefined && reason !== 'none' && !REASON_NAMES.has(reason)) {
      problems.push(`spec.probes[${i}].expect.reason: '${reason}' is not the name of a reason`);
    }
  });
  return problems;
}

/** The modes that a document lists, as far as they can be read; all four where it lists none. */
export function listedModes(document: unknown): Mode[] {
  const spec = property(document, 'spec');
  const modes = property(property(spec, 'datapath'), 'modes');
  if (!Array.isArray(modes)) return [...MODES];
  const known = MODES.filter((mode) => modes.includes(mode));
  return known.length > 0 || modes.length === 0 ? known : [...MODES];
}

/** A document's name: free text, and '' where it has none. */
export function documentName(document: unknown): string {
  const name = property(property(document, 'metadata'), 'name');
  return typeof name === 'string' ? name : '';
}

/** Names of a document's probes, as far as they can be read. */
export function probeNames(document: unknown): string[] {
  const probes = property(property(document, 'spec'), 'probes');
  if (!Array.isArray(probes)) return [];
  return probes.map((probe) => {
    const name = property(probe, 'name');
    return typeof name === 'string' ? name : defaultProbeName(property(probe, 'from'), property(probe, 'to'));
  });
}

export function defaultProbeName(from: unknown, to: unknown): string {
  return `${typeof from === 'string' ? from : '?'} → ${typeof to === 'string' ? to : '?'}`;
}

function property(object: unknown, key: string): unknown {
  return typeof object === 'object' && object !== null && Object.hasOwn(object, key)
    ? Reflect.get(object, key)
    : undefined;
}
