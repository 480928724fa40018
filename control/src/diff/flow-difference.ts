/**
 * What a change does to recorded flows: each runs as the first packet of a new connection on both sides, and those that
 * break or open are told with the connections that were recorded of them.
 */

import { type Address, inPrefix, parsePrefix } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';
import type { Cell } from '../reach/evaluator.ts';
import { type Decision, decisionOf, deniedBy, type Traced, Tracer } from './decision.ts';
import type { RowSide, Views } from './difference.ts';
import { describeEnd, type FlowEnd, FlowEnds, FlowPlaces } from './flow-ends.ts';
import { type ChangeKind, compareOutcomes, type Outcome, Outcomes } from './outcome.ts';
import type { RecordedFlow, Recording } from './recorded-flow.ts';
import type { SideView } from './side-view.ts';

export interface FlowRow {
  readonly kind: ChangeKind;
  /** 'deploy/shop/cart', 'node/worker-1', '203.0.113.7'. */
  readonly source: string;
  /** The same, or 'svc/shop/cart'. */
  readonly target: string;
  readonly protocol: Protocol;
  /** 0 for ICMP. */
  readonly port: number;
  readonly connections: number;
  readonly before: RowSide;
  readonly after: RowSide;
}

export interface FlowDifference {
  readonly recordings: readonly Recording[];
  /** Connections that ran, and those whose ends are on neither side or share no address family. */
  readonly connections: number;
  readonly unplaced: number;
  /** Connections with an end at a private address, or with both ends, that nobody of either side has: they ran as addresses. */
  readonly unknown: number;
  /** What breaks first, most connections first. */
  readonly rows: readonly FlowRow[];
}

/** A flow as it runs. */
interface Asked {
  readonly flow: RecordedFlow;
  readonly source: FlowEnd;
  readonly target: FlowEnd;
  /** Null where the side lacks one of the ends. */
  readonly before: Cell | null;
  readonly after: Cell | null;
}

/** Rows of the same ends, port and outcomes while they are gathered. */
interface Gathered {
  readonly asked: Asked;
  readonly kind: ChangeKind;
  readonly was: Outcome | null;
  readonly is: Outcome | null;
  connections: number;
}

/** RFC 1918, 4193 and 6598. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map(
  (text) => parsePrefix(text)!,
);
const KINDS: readonly ChangeKind[] = ['breaks', 'opens', 'changes'];

export function findFlowDifference(views: Views, recordings: readonly Recording[]): FlowDifference {
  const ends = new FlowEnds([views.before, views.after]);
  const places = { before: new FlowPlaces(views.before), after: new FlowPlaces(views.after) };
  const asked: Asked[] = [];
  let unplaced = 0;
  let unknown = 0;
  for (const flow of recordings.flatMap((recording) => recording.flows)) {
    const source = ends.identify(flow.source);
    const target = ends.identify(flow.target);
    const before = source === null || target === null ? null : placeFlow(flow, source, target, places.before);
    const after = source === null || target === null ? null : placeFlow(flow, source, target, places.after);
    if (source === null || target === null || (before === null && after === null)) {
      unplaced += flow.count;
      continue;
    }
    if (isStray(source) || isStray(target) || (isAddress(source) && isAddress(target))) unknown += flow.count;
    asked.push({ flow, source, target, before, after });
  }
  return {
    recordings,
    connections: asked.reduce((sum, { flow }) => sum + flow.count, 0),
    unplaced,
    unknown,
    rows: compare(views, asked),
  };
}

function isAddress(end: FlowEnd): boolean {
  return end.kind === 'address';
}

/** A private address that nobody has was some pod's or node's, which the manifests do not give away. */
function isStray(end: FlowEnd): boolean {
  return end.kind === 'address' && PRIVATE.some((prefix) => inPrefix(end.address, prefix));
}

/** Every address that recordings name: no made object may have it. */
export function listRecordedAddresses(recordings: readonly Recording[]): string[] {
  const found = new Set<string>();
  for (const { flows } of recordings) {
    for (const { source, target } of flows) {
      for (const { address } of [source, target]) if (address !== null) found.add(address.text);
    }
  }
  return [...found].sort();
}

function placeFlow(flow: RecordedFlow, from: FlowEnd, to: FlowEnd, places: FlowPlaces): Cell | null {
  const { protocol, port } = flow;
  // A flow keeps the family that it was recorded with, where the names still have it.
  const family = flow.target.address?.family ?? flow.source.address?.family;
  const byFamily = (address: Address): number => (address.family === family ? 0 : 1);
  const targets = [...places.targetsOf(to)].sort((a, b) => byFamily(a) - byFamily(b) || a.family - b.family);
  for (const address of targets) {
    const source = places.sourceOf(from, address);
    if (source !== null && source.address.family === address.family)
      return { source, target: { address, port }, protocol };
  }
  return null;
}

function compare(views: Views, asked: readonly Asked[]): FlowRow[] {
  const outcomes = new Outcomes();
  const was = runSide(views.before, asked, 'before', outcomes);
  const is = runSide(views.after, asked, 'after', outcomes);
  const gathered = new Map<string, Gathered>();
  asked.forEach((one, i) => {
    const kind = compareOutcomes(was[i]!, is[i]!);
    if (kind === null) return;
    const { flow } = one;
    const ends = `${describeEnd(one.source)} ${describeEnd(one.target)} ${flow.protocol} ${flow.port}`;
    const key = `${ends} ${was[i]?.number ?? ''} ${is[i]?.number ?? ''}`;
    const known = gathered.get(key);
    if (known === undefined) gathered.set(key, { asked: one, kind, was: was[i]!, is: is[i]!, connections: flow.count });
    else known.connections += flow.count;
  });
  if (gathered.size === 0) return [];
  const tracers = { before: new Tracer(views.before), after: new Tracer(views.after) };
  const rows = [...gathered.values()].map((found) => toRow(found, tracers));
  return rows.sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || b.connections - a.connections);
}

function runSide(
  view: SideView,
  asked: readonly Asked[],
  side: 'before' | 'after',
  outcomes: Outcomes,
): (Outcome | null)[] {
  const cells = asked.map((one) => one[side]);
  const answers = view.evaluator.evaluate(cells.filter((cell) => cell !== null));
  let at = 0;
  return cells.map((cell) => (cell === null ? null : outcomes.of(view, answers[at++]!)));
}

function toRow({ asked, kind, was, is, connections }: Gathered, tracers: Record<'before' | 'after', Tracer>): FlowRow {
  const { source, target, flow } = asked;
  const before = traceCell(tracers.before, asked.before);
  const after = traceCell(tracers.after, asked.after);
  return {
    kind,
    source: describeEnd(source),
    target: describeEnd(target),
    protocol: flow.protocol,
    port: flow.port,
    connections,
    before: { outcome: was, decision: before === null ? absence(asked) : decisionOf(before, deniedBy(after)) },
    after: { outcome: is, decision: after === null ? absence(asked) : decisionOf(after, deniedBy(before)) },
  };
}

function traceCell(tracer: Tracer, cell: Cell | null): Traced | null {
  if (cell === null) return null;
  const { source, target, protocol } = cell;
  return tracer.trace({ family: target.address.family, protocol, sources: [source], targets: [target] });
}

function absence({ source, target }: Asked): Decision {
  const sentence = `${describeEnd(source)} or ${describeEnd(target)} does not exist`;
  return { sentence, origin: null, policies: [] };
}
