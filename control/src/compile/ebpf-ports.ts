/**
 * What the rules that match a peer decide, port by port: tiers, order and passes worked out into intervals of ports.
 *
 * Order of judgement: policy/policy-rules.ts. A rule without ports decides every port of every protocol and what has no
 * ports; a rule with ports decides those alone.
 *
 * The ports of a slot are cut once wherever a rule of the judgement order begins or ends; each peer's rules then colour the
 * pieces in their order, what is coloured stays.
 */
import { PORT_SLOTS } from '@flatpath/engine/tables/policy-map';
import type { Pod } from '../model/pod.ts';
import type { Protocol } from '../model/port.ts';
import { namedPorts } from '../policy/named-ports.ts';
import type { PolicyPort, PolicyRule } from '../policy/policy-rules.ts';

export type NamedPort = Extract<PolicyPort, { kind: 'named' }>;

const SLOT_OF: Readonly<Record<Protocol, number>> = { TCP: 0, UDP: 1, SCTP: 2 };
const SLOTS = PORT_SLOTS + 1;
const PORTS = 65_536;

/** The rules of a judgement order as ports are decided by them. */
export interface OrderedRules {
  /** In order: the Admin tier, then those of NetworkPolicies, or the Baseline tier's. */
  readonly rules: readonly PolicyRule[];
  /** How many are of the Admin tier. */
  readonly admin: number;
  /** Decision word of each rule; of a pass it is not asked. */
  readonly decisions: readonly number[];
  /** Decision word of a port that no rule decides. */
  readonly otherwise: number;
}

/** Takes the intervals of a port map, by slot and port; each holds up to the next one. */
export type IntervalSink = (slot: number, first: number, decision: number) => void;

/** Not decided yet, and passed on to the next tier. */
const OPEN = -1;
const PASSED = -2;

interface Range {
  readonly slot: number;
  readonly first: number;
  readonly last: number;
}

/** Lists of ports, read once for a whole cluster. */
export class PortLists {
  private readonly known = new Map<readonly PolicyPort[], readonly Range[] | null>();
  /** Scratch of `cutsOf`: 1 for a cut that is in the list. */
  private readonly isCut = new Uint8Array(SLOTS * PORTS);

  hasNames(ports: readonly PolicyPort[]): boolean {
    return this.fixedRanges(ports) === null;
  }

  /** The ranges of a list, its names as a pod resolves them; null where there is no pod. */
  ranges(ports: readonly PolicyPort[], target: Pod | null): readonly Range[] {
    return this.fixedRanges(ports) ?? ports.flatMap((port) => rangesOf(port, target));
  }

  /** First ports of the pieces that ranges cut each slot into. */
  cutsOf(lists: Iterable<readonly Range[]>): number[][] {
    const cuts: number[][] = Array.from({ length: SLOTS }, () => [0]);
    for (const ranges of lists) {
      for (const { slot, first, last } of ranges) {
        this.addCut(cuts[slot]!, slot, first);
        this.addCut(cuts[slot]!, slot, last + 1);
      }
    }
    cuts.forEach((list, slot) => {
      for (const port of list) this.isCut[slot * PORTS + port] = 0;
      list.sort((a, b) => a - b);
    });
    return cuts;
  }

  private addCut(list: number[], slot: number, port: number): void {
    const at = slot * PORTS + port;
    if (port === 0 || port === PORTS || this.isCut[at] === 1) return;
    this.isCut[at] = 1;
    list.push(port);
  }

  /** Null for a list with names. */
  private fixedRanges(ports: readonly PolicyPort[]): readonly Range[] | null {
    let ranges = this.known.get(ports);
    if (ranges === undefined) {
      const hasNames = ports.some(({ kind }) => kind === 'named');
      ranges = hasNames ? null : ports.flatMap((port) => rangesOf(port, null));
      this.known.set(ports, ranges);
    }
    return ranges;
  }
}

/** Pieces that a rule covers in each slot: first piece and the one behind the last, in turns. Null: all of every slot. */
type Coverage = readonly (readonly number[])[] | null;

/** Decides the ports of one judgement order, as one target resolves their names. */
export class PortPainter {
  private readonly order: OrderedRules;
  /** First port of each piece, by slot. */
  private readonly starts: readonly (readonly number[])[];
  /** By rule. */
  private readonly coverage: readonly Coverage[];
  private readonly colours: Int32Array;

  /** @param target the pod whose container ports named ports mean; null where it is no pod */
  constructor(order: OrderedRules, lists: PortLists, target: Pod | null) {
    this.order = order;
    const ranges = new Map<readonly PolicyPort[], readonly Range[]>();
    for (const { ports } of order.rules) {
      if (ports !== null && !ranges.has(ports)) ranges.set(ports, lists.ranges(ports, target));
    }
    this.starts = lists.cutsOf([...ranges.values()]);
    const covered = new Map<readonly PolicyPort[], Coverage>();
    for (const [ports, found] of ranges) covered.set(ports, this.cover(found));
    this.coverage = order.rules.map(({ ports }) => (ports === null ? null : covered.get(ports)!));
    this.colours = new Int32Array(Math.max(...this.starts.map(({ length }) => length)));
  }

  /**
   * Decides the ports for a peer.
   * @param matched positions of the rules that match it, ascending
   */
  decide(matched: readonly number[], sink: IntervalSink): void {
    const { colours, order } = this;
    let admin = 0;
    while (admin < matched.length && matched[admin]! < order.admin) admin++;
    for (let slot = 0; slot < SLOTS; slot++) {
      const pieces = this.starts[slot]!.length;
      colours.fill(OPEN, 0, pieces);
      this.paintTier(matched, 0, admin, slot, pieces);
      this.paintTier(matched, admin, matched.length, slot, pieces);
      this.collect(slot, pieces, sink);
    }
  }

  /** The first rule of a tier that matches a port decides it; a pass leaves it to what comes behind the tier. */
  private paintTier(matched: readonly number[], from: number, end: number, slot: number, pieces: number): void {
    const { colours, order } = this;
    let passes = false;
    for (let i = from; i < end; i++) {
      const rule = matched[i]!;
      const isPass = order.rules[rule]!.action === 'pass';
      const colour = isPass ? PASSED : order.decisions[rule]!;
      passes ||= isPass;
      const covered = this.coverage[rule]!;
      if (covered === null) {
        this.paint(0, pieces, colour);
        break;
      }
      const runs = covered[slot]!;
      for (let run = 0; run < runs.length; run += 2) this.paint(runs[run]!, runs[run + 1]!, colour);
    }
    if (!passes) return;
    for (let i = 0; i < pieces; i++) if (colours[i] === PASSED) colours[i] = OPEN;
  }

  private paint(from: number, end: number, colour: number): void {
    const { colours } = this;
    for (let i = from; i < end; i++) if (colours[i] === OPEN) colours[i] = colour;
  }

  private collect(slot: number, pieces: number, sink: IntervalSink): void {
    const { colours, order } = this;
    const starts = this.starts[slot]!;
    let last = OPEN;
    for (let i = 0; i < pieces; i++) {
      const decision = colours[i] === OPEN ? order.otherwise : colours[i]!;
      if (decision !== last) sink(slot, starts[i]!, decision);
      last = decision;
    }
  }

  private cover(ranges: readonly Range[]): Coverage {
    const covered: number[][] = Array.from({ length: SLOTS }, () => []);
    for (const { slot, first, last } of ranges) {
      const starts = this.starts[slot]!;
      covered[slot]!.push(pieceAt(starts, first), last + 1 === PORTS ? starts.length : pieceAt(starts, last + 1));
    }
    return covered;
  }
}

function rangesOf(port: PolicyPort, target: Pod | null): Range[] {
  if (port.kind === 'range') return [{ slot: SLOT_OF[port.protocol], first: port.first, last: port.last }];
  if (target === null) return [];
  const found = namedPorts(target, port.name, port.protocol);
  return found.map((named) => ({ slot: SLOT_OF[named.protocol], first: named.port, last: named.port }));
}

/** The piece that begins at a port. */
function pieceAt(starts: readonly number[], port: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle]! < port) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The named ports of rules, each once. */
export function namesIn(rules: Iterable<PolicyRule>, lists: PortLists): NamedPort[] {
  const names = new Map<string, NamedPort>();
  for (const { ports } of rules) {
    if (ports === null || !lists.hasNames(ports)) continue;
    for (const port of ports) if (port.kind === 'named') names.set(`${port.protocol}/${port.name}`, port);
  }
  return [...names.values()];
}

/** What names mean in a pod, as text: pods of one text resolve them alike. */
export function resolvedNames(pod: Pod, names: readonly NamedPort[]): string {
  return names
    .map(({ name, protocol }) => {
      const ports = namedPorts(pod, name, protocol).map((found) => `${found.protocol}/${found.port}`);
      return `${name}=${ports.sort().join('+')}`;
    })
    .join(',');
}
