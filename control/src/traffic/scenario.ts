/**
 * Scenario documents (flatpath.dev/v1alpha1): which streams to send through a cluster, in references and words.
 *
 * Unknown keys are errors, and all errors of a document are reported together with their fields.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Ajv, type ValidateFunction } from 'ajv';
import { DatapathSchema } from '../model/datapath.ts';
import { checkDatapathValues } from '../model/datapath-check.ts';
import { oneOf } from '../model/schema.ts';
import { summarizeErrors } from '../model/schema-errors.ts';

export const SCENARIO_KIND = 'Scenario';

const closed = { additionalProperties: false } as const;
const References = Type.Unsafe<string | string[]>({
  type: ['string', 'array'],
  items: { type: 'string' },
  minItems: 1,
});

/** Longest frame of a stream: a jumbo frame, and what a slot takes. */
const MAX_FRAME_BYTES = 2048;
const MAX_FLOWS = 4_000_000;
const MAX_PACKETS = 2 ** 39;

const PacketSize = Type.Object(
  {
    bytes: Type.Integer({ minimum: 42, maximum: MAX_FRAME_BYTES }),
    weight: Type.Number({ exclusiveMinimum: 0 }),
  },
  closed,
);

export const StreamSchema = Type.Object(
  {
    name: Type.Optional(Type.String()),
    /** One reference or a list; flows are dealt out over them. */
    from: References,
    to: References,
    protocol: Type.Optional(Type.String()),
    /** Where packets from outside enter. */
    node: Type.Optional(Type.String()),
    flows: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_FLOWS })),
    distribution: Type.Optional(oneOf(['uniform', 'zipf'])),
    /** Exponent of the zipf distribution. */
    skew: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 4 })),
    /** Share of packets that begin a new flow. */
    newFlows: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    /** Frame length with its Ethernet header, or a mix. */
    packetBytes: Type.Optional(
      Type.Unsafe<number | Static<typeof PacketSize>[]>({
        anyOf: [
          { type: 'integer', minimum: 42, maximum: MAX_FRAME_BYTES },
          { type: 'array', minItems: 1, items: PacketSize },
        ],
      }),
    ),
    /** Packets a second of virtual time; left out: as fast as possible, sharing by `weight`. */
    rate: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
    weight: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
    respond: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type StreamDocument = Static<typeof StreamSchema>;

export const ScenarioSpecSchema = Type.Object(
  {
    manifests: Type.Optional(Type.Array(Type.String())),
    datapath: Type.Optional(DatapathSchema),
    seed: Type.Optional(Type.Integer({ minimum: -(2 ** 31), maximum: 2 ** 32 - 1 })),
    packets: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_PACKETS })),
    /** Virtual time, such as 500ms, 10s or 2m. */
    duration: Type.Optional(Type.String({ pattern: '^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$' })),
    streams: Type.Array(StreamSchema, { minItems: 1 }),
  },
  closed,
);

export const ScenarioSchema = Type.Object(
  {
    apiVersion: Type.Literal('flatpath.dev/v1alpha1'),
    kind: Type.Literal(SCENARIO_KIND),
    metadata: Type.Optional(Type.Object({ name: Type.Optional(Type.String()) })),
    spec: ScenarioSpecSchema,
  },
  closed,
);
export type Scenario = Static<typeof ScenarioSchema>;
export type ScenarioSpec = Static<typeof ScenarioSpecSchema>;

let validate: ValidateFunction | null = null;

/** Checks a document, nulls already gone; one sentence per error, empty for a good one. */
export function checkScenario(document: unknown): string[] {
  validate ??= new Ajv({ allErrors: true, strict: false, allowUnionTypes: true }).compile(ScenarioSchema);
  if (!validate(document)) return summarizeErrors(validate.errors ?? []);
  const { spec } = document as Scenario;
  const problems = checkDatapathValues(spec.datapath ?? {}, 'spec.datapath');
  if (spec.packets !== undefined && spec.duration !== undefined) {
    problems.push('spec.duration: a scenario has packets or a duration, not both');
  }
  if (spec.packets === undefined && spec.duration === undefined) {
    problems.push('spec.packets: a scenario needs packets or a duration');
  }
  spec.streams.forEach((stream, i) => {
    if (stream.skew !== undefined && stream.distribution !== 'zipf') {
      problems.push(`spec.streams[${i}].skew: only with distribution zipf`);
    }
    if (stream.rate !== undefined && stream.weight !== undefined) {
      problems.push(`spec.streams[${i}].weight: a stream has a rate or a weight, not both`);
    }
  });
  return problems;
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600 };

/** '10s' -> 10. */
export function durationSeconds(text: string): number {
  const match = /^([0-9.]+)(ms|s|m|h)$/.exec(text)!;
  return Number(match[1]) * UNIT_SECONDS[match[2]!]!;
}
