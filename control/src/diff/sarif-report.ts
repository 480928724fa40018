/**
 * The difference as SARIF 2.1.0 (OASIS), for code scanning: a result for each entry of what breaks, opens or changes, at
 * the line of the object that decides after the change.
 *
 * Fingerprints are made of who talks to whom and what becomes of it, never of lines, so a result stays the same one when
 * its file is edited elsewhere. What came from `git:REV:path` is placed at `path`.
 */

import { createHash } from 'node:crypto';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Origin } from '../model/origin.ts';
import type { Difference, RowSide } from './difference.ts';
import type { FlowDifference, FlowRow } from './flow-difference.ts';
import { type Fold, foldRows } from './fold.ts';
import type { ObjectChange } from './object-changes.ts';
import type { ChangeKind } from './outcome.ts';
import { formatPorts } from './port-text.ts';
import { countOf, describeOutcome, listNames } from './words.ts';

const SCHEMA = 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json';

interface Rule {
  readonly id: string;
  readonly name: string;
  readonly level: 'error' | 'warning' | 'note';
  readonly text: string;
}

const RULES: readonly Rule[] = [
  rule('breaks', 'ConnectionBreaks', 'error', 'A connection that worked before the change does not work any more.'),
  rule('opens', 'ConnectionOpens', 'warning', 'A connection that did not work before the change works now.'),
  rule('changes', 'ConnectionChanges', 'note', 'A connection ends elsewhere or otherwise than before the change.'),
  rule('recorded-breaks', 'RecordedFlowBreaks', 'error', 'A recorded flow does not work any more.'),
  rule('recorded-opens', 'RecordedFlowOpens', 'warning', 'A recorded flow that did not work works now.'),
  rule('recorded-changes', 'RecordedFlowChanges', 'note', 'A recorded flow ends elsewhere or otherwise than before.'),
];

interface Finding {
  readonly rule: string;
  readonly message: string;
  /** Parts of the fingerprint. */
  readonly identity: readonly string[];
  readonly before: RowSide;
  readonly after: RowSide;
  readonly causes: readonly ObjectChange[];
}

/**
 * @param folder that relative paths are seen from
 * @param version of this program
 */
export function sarifReport(
  difference: Difference,
  flows: FlowDifference | null,
  folder: string,
  version: string,
): object {
  const findings = [...(flows?.rows ?? []).map(flowFinding), ...foldRows(difference.rows).map(foldFinding)];
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'flatpath', version, rules: RULES.map(describeRule) } },
        results: findings.map((finding) => toResult(finding, folder)),
        columnKind: 'utf16CodeUnits',
      },
    ],
  };
}

function rule(kind: string, name: string, level: Rule['level'], text: string): Rule {
  return { id: `flatpath/${kind}`, name, level, text };
}

function describeRule({ id, name, level, text }: Rule): object {
  return { id, name, shortDescription: { text }, defaultConfiguration: { level } };
}

function foldFinding({ rows, sources, targets, ports }: Fold): Finding {
  const { kind, before, after } = rows[0]!;
  const message = `${listNames(sources)} → ${listNames(targets)}, ${ports}: ${describeSides(before, after)}`;
  const causes = [...new Set(rows.flatMap((row) => row.causes))];
  return { rule: ruleOf(kind), message, identity: [...sources, '>', ...targets, ports], before, after, causes };
}

function flowFinding({ kind, source, target, protocol, port, connections, before, after }: FlowRow): Finding {
  const ports = formatPorts([{ protocol, first: port, last: port }]);
  const count = countOf(connections, 'recorded connection', 'recorded connections');
  const message = `${source} → ${target}, ${ports} (${count}): ${describeSides(before, after)}`;
  return {
    rule: ruleOf(`recorded-${kind}`),
    message,
    identity: [source, '>', target, ports],
    before,
    after,
    causes: [],
  };
}

function ruleOf(kind: ChangeKind | `recorded-${ChangeKind}`): string {
  return `flatpath/${kind}`;
}

function describeSides(before: RowSide, after: RowSide): string {
  return `before: ${describeOutcome(before)}; now: ${describeOutcome(after)}. ${capital(after.decision.sentence)}.`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function toResult({ rule: ruleId, message, identity, before, after, causes }: Finding, folder: string): object {
  const index = RULES.findIndex(({ id }) => id === ruleId);
  // Where nothing decides after the change, what was changed is where to look, else what decided before.
  const origins = [after.decision.origin, ...causes.map(({ origin }) => origin), before.decision.origin];
  const places = origins
    .map((origin) => (origin === null ? null : placeOf(origin, folder)))
    .filter((place) => place !== null);
  const distinct = [...new Map(places.map((place) => [JSON.stringify(place), place])).values()];
  const [first, ...others] = distinct;
  return {
    ruleId,
    ruleIndex: index,
    level: RULES[index]!.level,
    message: { text: message },
    locations: first === undefined ? [] : [first],
    ...(others.length > 0 && { relatedLocations: others.map((place, id) => ({ id: id + 1, ...place })) }),
    partialFingerprints: { 'flatpathConnection/v1': fingerprint([ruleId, ...identity]) },
  };
}

/** Null for an object that no file holds. */
function placeOf(origin: Origin, folder: string): object | null {
  const { file, line, column, kind, namespace, name, field } = origin;
  if (file === undefined || file === '' || file.startsWith('<')) return null;
  const region =
    line === undefined ? {} : { region: { startLine: line, ...(column !== undefined && { startColumn: column }) } };
  const object = `${kind} ${namespace === '' ? '' : `${namespace}/`}${name}`;
  return {
    physicalLocation: { artifactLocation: artifactOf(file, folder), ...region },
    logicalLocations: [{ fullyQualifiedName: field === '' ? object : `${object} ${field}`, kind: 'object' }],
  };
}

function artifactOf(file: string, folder: string): object {
  const path = file.replace(/^git:[^:]*:/, '');
  const inside = relative(folder, resolve(folder, path));
  if (inside === '' || inside.startsWith('..') || isAbsolute(inside)) {
    return { uri: pathToFileURL(resolve(folder, path)).href };
  }
  return { uri: inside.split(sep).map(encodeURIComponent).join('/'), uriBaseId: '%SRCROOT%' };
}

function fingerprint(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex');
}
