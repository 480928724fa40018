/**
 * `POST /flatpath/v1/diff`: what changed objects would do to the cluster as it is now; nothing is changed. The answer is the
 * JSON of `flatpath diff --json`.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import { KIND_NAMES } from '../cluster/kinds.ts';
import { readInput } from '../cluster/load.ts';
import type { Problem } from '../cluster/problem.ts';
import { ObjectStore } from '../cluster/store.ts';
import { findDifference, modeOfSide, viewSides } from '../diff/difference.ts';
import { differenceReport } from '../diff/json-report.ts';
import { completeSides, type SideInput } from '../diff/sides.ts';
import { BUILT_MODES, DatapathSchema, type Mode } from '../model/datapath.ts';
import { checkDatapathValues } from '../model/datapath-check.ts';
import { oneOf } from '../model/schema.ts';
import type { JobGate } from './jobs.ts';
import type { LiveCluster } from './live-cluster.ts';
import { causesOf, invalid, invalidField, problemCauses } from './status.ts';

/** Bytes of a change. */
const CHANGE_BYTES = 16 * 1024 * 1024;
const closed = { additionalProperties: false } as const;

const DiffBody = Type.Object(
  {
    objects: Type.Optional(Type.Array(Type.Object({}), { description: 'objects that are added or replaced' })),
    removed: Type.Optional(
      Type.Array(
        Type.Object(
          {
            kind: oneOf(KIND_NAMES),
            namespace: Type.Optional(Type.String({ description: 'left out for kinds of the whole cluster' })),
            name: Type.String(),
          },
          closed,
        ),
        { description: 'objects that are gone after the change' },
      ),
    ),
    datapath: Type.Optional(DatapathSchema),
    mode: Type.Optional(oneOf([...BUILT_MODES])),
  },
  closed,
);
type DiffBody = Static<typeof DiffBody>;

/** @param fixedMode mode of the server, null where the cluster decides */
export function addDiff(app: FastifyInstance, cluster: LiveCluster, jobs: JobGate, fixedMode: Mode | null): void {
  app.post<{ Body: DiffBody }>(
    '/flatpath/v1/diff',
    {
      onRequest: jobs.enter,
      bodyLimit: CHANGE_BYTES,
      schema: { tags: ['diff'], summary: 'what changed objects would do to connections', body: DiffBody },
    },
    ({ body }) => {
      const before: SideInput = { store: cluster.store, datapath: cluster.datapath, isDump: false, warnings: [] };
      const datapath = body.datapath ?? cluster.datapath;
      const problems = checkDatapathValues(datapath, 'datapath');
      if (problems.length > 0) throw invalid(causesOf(problems));
      const after: SideInput = { ...before, store: changeStore(cluster.store, body), datapath };
      const sides = completeSides(before, after, []);
      const mode = body.mode ?? fixedMode;
      const modes = {
        before: mode ?? modeOfSide(sides.before, before.datapath),
        after: mode ?? modeOfSide(sides.after, after.datapath),
      };
      return differenceReport(findDifference(viewSides(sides, modes)), null);
    },
  );
}

/** The desired state with a change; the given one stays as it is. */
function changeStore(store: ObjectStore, { objects = [], removed = [] }: DiffBody): ObjectStore {
  const { store: put, errors } = readInput([], { objects });
  if (errors.length > 0) throw invalid(problemCauses(errors, fieldInObjects));
  const draft = new ObjectStore();
  draft.putAll(store);
  removed.forEach(({ kind, namespace = '', name }, index) => {
    if (draft.delete(kind, namespace, name)) return;
    const object = `${kind} ${namespace === '' ? '' : `${namespace}/`}${name}`;
    throw invalidField(`removed[${index}].name`, `there is no ${object}`);
  });
  draft.putAll(put);
  return draft;
}

function fieldInObjects({ document, field }: Problem): string {
  const item = `objects[${document - 1}]`;
  if (document < 1) return field;
  return field === '' || field.startsWith('[') ? `${item}${field}` : `${item}.${field}`;
}
