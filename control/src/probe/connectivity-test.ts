/**
 * ConnectivityTest documents (flatpath.dev/v1alpha1): schema, type and validation.
 *
 * Unknown keys are errors, as are two probes' worth of them at once: a document's errors are reported together, each
 * with its field. Null is absent, as everywhere.
 */

import { REASONS } from '@flatpath/engine/wire/reason';
import { type Static, Type } from '@sinclair/typebox';
import { Ajv, type ValidateFunction } from 'ajv';
import { plainWordAt } from '../cluster/document.ts';
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

/** Free text: `name: 7` and YAML's `name: y` are meant as such. */
const NameSchema = Type.Union([Type.String(), Type.Number(), Type.Boolean()]);

export const ProbeSchema = Type.Object(
  {
    name: Type.Optional(NameSchema),
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
    metadata: Type.Optional(Type.Object({ name: Type.Optional(NameSchema) })),
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
  return readName(property(document, 'metadata')) ?? '';
}

/** Names of a document's probes, as far as they can be read. */
export function probeNames(document: unknown): string[] {
  const probes = property(property(document, 'spec'), 'probes');
  if (!Array.isArray(probes)) return [];
  return probes.map(probeName);
}

/** A probe's name; where it has none, who asks whom. */
export function probeName(probe: unknown): string {
  const show = (reference: unknown): string => (typeof reference === 'string' ? reference : '?');
  return readName(probe) ?? `${show(property(probe, 'from'))} → ${show(property(probe, 'to'))}`;
}

/** The `name` of a holder as the text that was written; null where it has none. */
function readName(holder: unknown): string | null {
  const name = property(holder, 'name');
  if (typeof name === 'boolean') return plainWordAt(holder as object, 'name') ?? String(name);
  return typeof name === 'string' || typeof name === 'number' ? String(name) : null;
}

function property(object: unknown, key: string): unknown {
  return typeof object === 'object' && object !== null && Object.hasOwn(object, key)
    ? Reflect.get(object, key)
    : undefined;
}
