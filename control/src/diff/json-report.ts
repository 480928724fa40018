/** The difference as JSON: everything that is known, with names instead of objects. `version` says which shape it is. */

import type { Origin } from '../model/origin.ts';
import type { Difference, DifferenceRow, RowSide } from './difference.ts';
import type { FlowDifference } from './flow-difference.ts';
import type { ChangeKind } from './outcome.ts';
import { isEntrance } from './service-entrances.ts';

export function differenceReport(difference: Difference, flows: FlowDifference | null): object {
  const { modes, objects, scaled, rows, compared } = difference;
  return {
    version: 1,
    modes,
    summary: { ...countKinds(rows), compared },
    objects: objects.map(({ change, kind, namespace, name, origin }) => ({ change, kind, namespace, name, origin })),
    scaled: scaled.map(({ id, scaledFrom, scaledTo }) => ({ workload: id, before: scaledFrom, after: scaledTo })),
    changes: rows.map(describeRow),
    flows: flows === null ? null : describeFlows(flows),
  };
}

export function countKinds(rows: readonly { readonly kind: ChangeKind }[]): Record<ChangeKind, number> {
  const counts = { breaks: 0, opens: 0, changes: 0 };
  for (const { kind } of rows) counts[kind]++;
  return counts;
}

function describeRow(row: DifferenceRow): object {
  const { kind, source, target, ports, declared, families, pairs, of, causes } = row;
  return {
    kind,
    source: source.id,
    target: target.id,
    entrance: isEntrance(target) ? { kind: target.kind, address: target.address || null, port: target.port } : null,
    ports,
    declaredPorts: declared,
    families,
    pairs,
    of,
    before: describeSide(row.before),
    after: describeSide(row.after),
    causes: causes.map(({ change, kind: causeKind, namespace, name }) => ({
      change,
      kind: causeKind,
      namespace,
      name,
    })),
  };
}

function describeFlows({ recordings, connections, unplaced, unknown, rows }: FlowDifference): object {
  return {
    unit: 'connections',
    recordings: recordings.map(({ file, format, connections: own, skipped }) => ({
      file,
      format,
      connections: own,
      skipped: Object.fromEntries([...skipped].sort()),
    })),
    connections,
    unplaced,
    unknown,
    summary: countConnections(rows),
    changes: rows.map(({ kind, source, target, protocol, port, connections: own, before, after }) => ({
      kind,
      source,
      target,
      protocol,
      port,
      connections: own,
      before: describeSide(before),
      after: describeSide(after),
    })),
  };
}

/** Connections by what becomes of them. */
export function countConnections(rows: FlowDifference['rows']): Record<ChangeKind, number> {
  const counts = { breaks: 0, opens: 0, changes: 0 };
  for (const { kind, connections } of rows) counts[kind] += connections;
  return counts;
}

function describeSide({ outcome, decision }: RowSide): object {
  const decidedBy: Origin | null = decision.origin;
  if (outcome === null) return { works: 'absent', because: decision.sentence, decidedBy };
  const { works, verdict, reason, translated, masquerade, backends } = outcome;
  return { works, verdict, reason, translated, masquerade, backends, because: decision.sentence, decidedBy };
}
