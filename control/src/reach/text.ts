/**
 * The matrix for a terminal: for each source what it reaches, targets with the same ports together. Sources that reach the
 * same are one block, whole namespaces are one word, so that a hundred workloads are still a page.
 */

import { describeReached, isReachedOutcome } from './port-text.ts';
import type { OutcomeReport, PeerReport, ReachReport, RowReport } from './report.ts';

export interface TextOptions {
  /** Characters of a line. */
  readonly width: number;
  /** Lists what is not reached, and why, instead of what is. */
  readonly denied: boolean;
  bold(text: string): string;
  dim(text: string): string;
}

/** A list that lacks so few is told by what it lacks. */
const FEW = 3;
/** What is said of targets of which every port is reached. */
const ALL = 'all';
const ALL_OF_SERVICE = 'all its ports';
/** Least width of the column of targets. */
const LEAST_COLUMN = 30;

export function* formatReport(report: ReachReport, options: TextOptions): Generator<string> {
  yield options.bold(describeHead(report));
  yield '';
  const blocks = new Map<string, { sources: PeerReport[]; lines: Map<string, number[]> }>();
  const texts: string[] = [];
  report.sources.forEach((source, i) => {
    const lines = linesOf(report, source, report.matrix[i]!, options.denied, texts);
    const key = [...lines].map(([text, reached]) => `${text}\n${reached.join()}`).join('\n');
    const block = blocks.get(key);
    if (block === undefined) blocks.set(key, { sources: [report.peers[source]!], lines });
    else block.sources.push(report.peers[source]!);
  });
  const sources = report.sources.map((i) => report.peers[i]!);
  const targets = report.targets.map((i) => report.peers[i]!);
  const fromFolder = new PeerFolder(sources);
  const toFolder = new PeerFolder(targets);
  for (const { sources: own, lines } of blocks.values()) {
    for (const line of wrap(fromFolder.fold(own).join(', '), options.width, '')) yield options.bold(line);
    if (lines.size === 0)
      yield options.dim(options.denied ? '  reaches everything that was asked' : '  reaches nothing');
    const column = Math.min(
      Math.max(...[...lines.keys()].map((text) => text.length), 4),
      Math.max(options.width - LEAST_COLUMN, 20),
    );
    for (const [text, reached] of lines) {
      const indent = ' '.repeat(column + 4);
      const words = toFolder.fold(reached.map((i) => targets[i]!));
      const wrapped = wrap(words.join(', '), options.width, indent);
      const isLong = text.length > column;
      if (isLong) yield `  ${text}`;
      yield* wrapped.map((line, i) =>
        i === 0 && !isLong
          ? `  ${text.padEnd(column)}  ${line.trimStart()}`
          : i === 0
            ? `${indent}${line.trimStart()}`
            : line,
      );
    }
    yield '';
  }
  if (!options.denied) yield* formatServices(targets, options);
}

function describeHead({ mode, profile, counts, peers, sources }: ReachReport): string {
  const workloads = sources.filter((i) => peers[i]!.kind === 'workload').length;
  const parts = [
    `${counts.pods} pods${workloads > 0 ? ` (${workloads} workloads here)` : ''}`,
    `${counts.nodes} nodes`,
    `${counts.services} Services`,
    `${counts.policies} policies`,
  ];
  return `mode ${mode}, profile ${profile}: ${parts.join(', ')}; ${counts.packets} packets run`;
}

/**
 * Positions of targets by what is said of them: all ports first, then all ports of a Service, then as they come.
 * @param texts what was said of cells before
 */
function linesOf(
  report: ReachReport,
  source: number,
  row: Int32Array,
  denied: boolean,
  texts: string[],
): Map<string, number[]> {
  const lines = new Map<string, number[]>([
    [ALL, []],
    [ALL_OF_SERVICE, []],
  ]);
  report.targets.forEach((target, i) => {
    const cell = row[i]!;
    if (cell < 0) return;
    const rows = report.cells[cell]!;
    const peer = report.peers[target]!;
    // A million cells are some hundred different ones.
    const isLone = rows.length === 0 && target === source && peer.kind === 'workload';
    const known = cell * 4 + (peer.kind === 'service' ? 2 : 0) + (isLone ? 1 : 0);
    let text = texts[known];
    if (text === undefined) {
      text = denied ? describeDenied(report, rows) : describeTarget(rows, peer, isLone);
      texts[known] = text;
    }
    if (text === 'none') return;
    const own = lines.get(text);
    if (own === undefined) lines.set(text, [i]);
    else own.push(i);
  });
  for (const [text, reached] of lines) if (reached.length === 0) lines.delete(text);
  return lines;
}

function describeTarget(rows: readonly RowReport[], peer: PeerReport, isItself: boolean): string {
  // A pod without others of its workload: it reaches itself.
  if (rows.length === 0) return isItself ? ALL : 'none';
  const isService = peer.kind === 'service';
  const isOpen = rows.every(({ outcomes }) => outcomes.every(isReachedOutcome));
  return isService && isOpen && peer.ports.length > 0 ? ALL_OF_SERVICE : describeReached(rows, isService);
}

/** Why ports are not reached: `TCP 80: ingress isolated`, each cause with its ports. */
function describeDenied(report: ReachReport, rows: readonly RowReport[]): string {
  const causes = new Set(rows.flatMap(({ outcomes }) => outcomes.map((outcome) => describeCause(report, outcome))));
  const parts: string[] = [];
  for (const cause of causes) {
    if (cause === '') continue;
    // The ports of a cause are told as if they were what is reached.
    const told = rows.map((row) => ({
      ...row,
      outcomes: row.outcomes.map((outcome): OutcomeReport => {
        const isIt = describeCause(report, outcome) === cause;
        const { pairs } = outcome;
        return { verdict: isIt ? 'delivered' : 'dropped', reason: '', ...(pairs !== undefined && { pairs }) };
      }),
    }));
    parts.push(`${describeReached(told, false)}: ${cause}`);
  }
  return parts.length === 0 ? 'none' : parts.join('; ');
}

/** '' for what is reached. */
function describeCause({ policies }: ReachReport, outcome: OutcomeReport): string {
  const { reason, denied, policy, field } = outcome;
  if (isReachedOutcome(outcome)) return '';
  if (denied === undefined) return reason;
  if (policy === undefined) return `${denied} isolated`;
  const { kind, namespace, name } = policies[policy]!;
  return `${denied} denied by ${kind} ${namespace === '' ? name : `${namespace}/${name}`} ${field ?? ''}`.trimEnd();
}

/** Tells lists of peers by name; whole namespaces and whole kinds as one word. */
class PeerFolder {
  private readonly ofKind = new Map<PeerReport['kind'], readonly PeerReport[]>();
  /** By kind and namespace. */
  private readonly inside = new Map<string, readonly PeerReport[]>();

  /** @param all whom the lists are parts of */
  constructor(all: readonly PeerReport[]) {
    for (const kind of KINDS) {
      const same = all.filter((peer) => peer.kind === kind);
      this.ofKind.set(kind, same);
      for (const [namespace, peers] of byNamespace(same)) this.inside.set(`${kind} ${namespace}`, peers);
    }
  }

  fold(peers: readonly PeerReport[]): string[] {
    return KINDS.flatMap((kind) => {
      const own = peers.filter((peer) => peer.kind === kind);
      if (own.length === 0) return [];
      if (kind === 'workload' || kind === 'service') return this.foldKind(own, kind);
      if (kind === 'outside' && own.length > 1 && own.length === this.ofKind.get(kind)!.length) {
        return ['all of the outside'];
      }
      return own.map(nameOf);
    });
  }

  private foldKind(own: readonly PeerReport[], kind: 'workload' | 'service'): string[] {
    const plural = kind === 'workload' ? 'workloads' : 'Services';
    const same = this.ofKind.get(kind)!;
    if (own.length === same.length && own.length > 1) return [`all ${plural}`];
    if (isNearly(own, same)) return [`all ${plural} but ${lacking(own, same)}`];
    const words: string[] = [];
    for (const [namespace, inside] of byNamespace(own)) {
      const there = this.inside.get(`${kind} ${namespace}`)!;
      if (inside.length === there.length && inside.length > 1) {
        words.push(`all ${inside.length} ${plural} of ${namespace}`);
      } else if (isNearly(inside, there)) {
        words.push(`all ${plural} of ${namespace} but ${lacking(inside, there)}`);
      } else for (const peer of inside) words.push(nameOf(peer));
    }
    return words;
  }
}

const KINDS = ['workload', 'service', 'nodes', 'outside'] as const;

function byNamespace(peers: readonly PeerReport[]): Map<string, PeerReport[]> {
  const found = new Map<string, PeerReport[]>();
  for (const peer of peers) {
    const same = found.get(peer.namespace);
    if (same === undefined) found.set(peer.namespace, [peer]);
    else same.push(peer);
  }
  return found;
}

/** True where a list is best told by what it lacks. */
function isNearly(own: readonly PeerReport[], same: readonly PeerReport[]): boolean {
  return same.length - own.length <= FEW && own.length > 2 * FEW;
}

function lacking(own: readonly PeerReport[], same: readonly PeerReport[]): string {
  const has = new Set(own);
  return same
    .filter((peer) => !has.has(peer))
    .map(nameOf)
    .join(', ');
}

function nameOf({ id, kind, members }: PeerReport): string {
  if (kind === 'workload') return members.length === 1 ? id : `${id} (${members.length})`;
  return kind === 'nodes' && members.length > 1 ? `${id} (${members.length})` : id;
}

function* formatServices(targets: readonly PeerReport[], { bold, dim }: TextOptions): Generator<string> {
  const services = targets.filter(({ kind }) => kind === 'service');
  if (services.length === 0) return;
  yield bold('Services lead to');
  for (const { id, ports } of services) {
    for (const { protocol, port, nodePort, leadsTo } of ports) {
      const ends = leadsTo.map(
        ({ peer, port: end, endpoints }) => `${peer}:${end}${endpoints > 1 ? ` (${endpoints})` : ''}`,
      );
      const at = nodePort === null ? '' : dim(` nodePort ${nodePort}`);
      yield `  ${id} ${protocol} ${port}${at} → ${ends.length === 0 ? 'nothing' : ends.join(', ')}`;
    }
  }
}

/** Words of a list over lines; all but the first are indented. */
function wrap(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(', ')) {
    const next = line === '' ? word : `${line}, ${word}`;
    if (line !== '' && indent.length + next.length > width) {
      lines.push(`${indent}${line},`);
      line = word;
    } else line = next;
  }
  lines.push(`${indent}${line}`);
  return lines;
}
