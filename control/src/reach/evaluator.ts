/**
 * The evaluator: the first packets of many new connections through one mode's datapath, as fast as the engine runs them.
 *
 * What `Simulator` does for one connection with its story this does for a list without: packets whose way has no choice
 * go 256 a burst, each with a client port of its own; those that a Service may send to several backends go one by one,
 * once for every choice. Between two bursts the datapath forgets all connections, so every packet is a fresh client's.
 * Node parts are compiled when a packet first meets a node.
 *
 * `judge` runs a packet once more with the recorder on, to say which policies decided.
 *
 * Equal answers of one evaluator, and of those that `onlyJudging` makes of it, are one object: compare them by identity.
 */

import type { Datapath } from '@flatpath/engine/programs/datapath';
import { connectSocket } from '@flatpath/engine/programs/ebpf-socket';
import { runBurst } from '@flatpath/engine/programs/journey';
import {
  NAT_DESTINATION,
  NAT_SOURCE,
  VERDICT_DELIVERED,
  VERDICT_DROPPED,
  VERDICT_NAMES,
  type VerdictName,
} from '@flatpath/engine/programs/verdict';
import { createEventRing, nextBranch, resetEventRing } from '@flatpath/engine/tables/event-ring';
import { formatEndpoint } from '@flatpath/engine/wire/address';
import { BURST_FRAMES, type Burst, createBurst } from '@flatpath/engine/wire/burst';
import { REASON_NODE_NOT_COMPILED, reasonName } from '@flatpath/engine/wire/reason';
import { attachDatapath, forgetConnections } from '../compile/attach.ts';
import { type ClusterModel, compileImage, type Image } from '../compile/image.ts';
import { readJudgements } from '../explain/judgement.ts';
import type { Mode } from '../model/datapath.ts';
import type { Direction, Judgement } from '../policy/policy-rules.ts';
import type { Source, Target } from '../probe/connection.ts';
import { keepsToItself, setLanes, sourceToward } from '../probe/first-packet.ts';
import type { Protocol } from '../probe/reference.ts';
import { FrameWriter } from './first-packets.ts';

/** A new connection to try: one packet from one place to one address. */
export interface Cell {
  readonly source: Source;
  /** Of the source's family. */
  readonly target: Target;
  readonly protocol: Protocol;
}

/** What becomes of the packet on one way that the datapath could choose. */
export interface Way {
  /** The same for equal ways of one evaluator. */
  readonly key: string;
  readonly verdict: VerdictName;
  /** A drop reason's name; `none` where it was delivered or forwarded. */
  readonly reason: string;
  /** The Service path rewrote the source. */
  readonly masquerade: boolean;
  /** `ip:port` (`[v6]:port`) that the destination was translated to; null where it was not. */
  readonly backend: string | null;
}

/** The answer for all ways together, as a probe gives it (DESIGN §7), and the ways themselves, sorted, each once. */
export interface Answer {
  /** Counts the evaluator's answers. */
  readonly number: number;
  readonly verdict: VerdictName;
  readonly reason: string;
  readonly translated: boolean;
  readonly masquerade: boolean;
  readonly backends: readonly string[];
  readonly ways: readonly Way[];
}

/** Client ports of a burst, a slot each, in the middle of Linux' ephemeral range. */
const CLIENT_PORTS = 40_000;
/** Flows of a datapath's own conntrack: a frame over eight nodes makes eight. */
const SINGLE_FLOWS = 32;
const BURST_FLOWS = BURST_FRAMES * 8;
const STAMPS = 16;
const MAX_WAYS = 20_000;
/** The recorder is on for `judge` alone; choice points use the ring's script. */
const EVENT_WORDS = 1 << 14;
/** A cluster of so many nodes is compiled at once; of a larger one only the nodes that packets meet. */
const COMPILE_ALL_NODES = 8;

/** Verdicts in the order in which one of them speaks for all ways. */
const SEVERITY: readonly VerdictName[] = ['dropped', 'rejected', 'forwarded', 'delivered'];

/** An image, and datapaths of it. */
interface Machinery {
  readonly image: Image;
  /** For bursts, and for single packets: the time to forget connections grows with the table that held them. */
  readonly datapath: Datapath;
  readonly single: Datapath;
}

/** Ways and answers, each once. */
class Results {
  packets = 0;
  private readonly ways = new Map<string, Way>();
  /** Ways without a backend, by their numbers: most are. */
  private readonly plainWays: (Way | undefined)[] = [];
  private readonly answers = new Map<string, Answer>();
  private readonly ofWay = new Map<Way, Answer>();

  wayOf(verdict: number, reason: number, masquerade: boolean, backend: string | null): Way {
    const plain = (verdict * 256 + reason) * 2 + (masquerade ? 1 : 0);
    const key = backend === null ? '' : `${plain} ${backend}`;
    let way = backend === null ? this.plainWays[plain] : this.ways.get(key);
    if (way === undefined) {
      way = {
        key: key || `${plain} `,
        verdict: VERDICT_NAMES[verdict] as VerdictName,
        reason: reasonName(reason),
        masquerade,
        backend,
      };
      if (backend === null) this.plainWays[plain] = way;
      else this.ways.set(key, way);
    }
    return way;
  }

  /** @param ways each once */
  answerOf(ways: readonly Way[]): Answer {
    if (ways.length !== 1) return this.answerOfAll(ways);
    const way = ways[0]!;
    let answer = this.ofWay.get(way);
    if (answer === undefined) {
      answer = this.answerOfAll(ways);
      this.ofWay.set(way, answer);
    }
    return answer;
  }

  private answerOfAll(ways: readonly Way[]): Answer {
    const sorted = [...ways].sort((a, b) => (a.key < b.key ? -1 : 1));
    const key = sorted.map((way) => way.key).join(',');
    let answer = this.answers.get(key);
    if (answer === undefined) {
      answer = summarizeWays(this.answers.size, sorted);
      this.answers.set(key, answer);
    }
    return answer;
  }
}

export class Evaluator {
  readonly model: ClusterModel;
  readonly mode: Mode;
  private readonly results: Results;
  private machinery: Machinery | null = null;
  private readonly burst: Burst = createBurst(BURST_FRAMES);
  private readonly ring = createEventRing(EVENT_WORDS);
  private readonly frames = new FrameWriter();
  /** Of a burst's slots: what the socket did to the packet, and the cell. */
  private readonly socketNat = new Int32Array(BURST_FRAMES);
  private readonly slotCell = new Int32Array(BURST_FRAMES);

  constructor(model: ClusterModel, mode: Mode, results = new Results()) {
    this.model = model;
    this.mode = mode;
    this.results = results;
  }

  /** Made by the first packet: not every evaluator gets one. */
  private machine(): Machinery {
    if (this.machinery === null) {
      const names = this.model.cluster.nodes.map((node) => node.metadata.name);
      this.machinery = this.compile(names.length <= COMPILE_ALL_NODES || this.mode === 'ebpf' ? names : []);
    }
    return this.machinery;
  }

  private compile(nodes: readonly string[]): Machinery {
    const image = compileImage(this.model, this.mode, nodes);
    return {
      image,
      datapath: attachDatapath(image, BURST_FLOWS, STAMPS, this.ring, 1),
      single: attachDatapath(image, SINGLE_FLOWS, STAMPS, this.ring, 1),
    };
  }

  /** Packets that were run, each way of each cell counted, with those of `onlyJudging`. */
  get packets(): number {
    return this.results.packets;
  }

  /** An evaluator of the same cluster without the other direction's policies; this one where there are none. */
  onlyJudging(direction: Direction): Evaluator {
    const { model, mode, results } = this;
    const other = direction === 'egress' ? 'ingress' : 'egress';
    const { policies } = model;
    if (policies[other].every((order) => order === null)) return this;
    const half = { ...policies, [other]: policies[other].map(() => null) };
    return new Evaluator({ ...model, policies: half }, mode, results);
  }

  /** One answer for each cell, in their order. */
  evaluate(cells: readonly Cell[]): Answer[] {
    if (cells.length === 0) return [];
    const answers = new Array<Answer>(cells.length);
    let waiting = cells.map((_, i) => i);
    this.compileNodes(cells.map(({ source }) => source.node));
    while (waiting.length > 0) {
      // Compiling is dear: a round meets all nodes that lack, and they are compiled together for the next.
      const missing = new Set<number>();
      waiting = this.runRound(cells, waiting, answers, missing);
      this.compileNodes(missing);
    }
    return answers;
  }

  /** What policies said of an evaluated cell's packet on its worst way, in the order in which they were asked. */
  judge(cell: Cell): Judgement[] {
    const { ring } = this;
    this.compileNodes([cell.source.node]);
    ring.script.fill(0);
    let worst: Way | null = null;
    let events = new Int32Array(0);
    for (let runs = 0; runs < MAX_WAYS; runs++) {
      ring.on = true;
      const way = this.runOne(cell);
      ring.on = false;
      if (way !== null && (worst === null || isWorse(way, worst))) {
        worst = way;
        events = ring.words.slice(0, ring.used);
      }
      if (!nextBranch(ring)) break;
    }
    return readJudgements(this.machine().image, events);
  }

  /** Runs cells; answers the positions of those that met a node that is not compiled. */
  private runRound(
    cells: readonly Cell[],
    waiting: readonly number[],
    answers: Answer[],
    missing: Set<number>,
  ): number[] {
    const left: number[] = [];
    for (let first = 0; first < waiting.length; first += BURST_FRAMES) {
      const batch = waiting.slice(first, first + BURST_FRAMES);
      if (!this.runTogether(cells, batch, answers, left, missing)) this.runApart(cells, batch, answers, left, missing);
    }
    return left;
  }

  /** Runs cells as one burst. False if one of them met a choice, or might meet another's client port: nothing is said then. */
  private runTogether(
    cells: readonly Cell[],
    batch: readonly number[],
    answers: Answer[],
    left: number[],
    missing: Set<number>,
  ): boolean {
    const { ring, burst, socketNat, slotCell } = this;
    const { datapath } = this.machine();
    if (batch.some((i) => isClientPort(cells[i]!.target.port))) return false;
    ring.script.fill(0, 0, ring.points);
    resetEventRing(ring);
    forgetConnections(datapath);
    let frames = 0;
    for (const i of batch) {
      const cell = cells[i]!;
      if (!this.begin(datapath, cell, frames)) {
        answers[i] = this.results.answerOf([this.readWay(frames, 0)]);
        continue;
      }
      socketNat[frames] = burst.nat[frames]!;
      slotCell[frames] = i;
      frames++;
    }
    runBurst(datapath, burst, frames);
    datapath.answerCount = 0;
    for (let point = 0; point < ring.points; point++) if (ring.options[point]! > 1) return false;
    this.results.packets += batch.length;
    for (let s = 0; s < frames; s++) {
      const i = slotCell[s]!;
      if (burst.reason[s] === REASON_NODE_NOT_COMPILED) {
        missing.add(burst.node[s]!);
        left.push(i);
      } else answers[i] = this.results.answerOf([this.readWay(s, socketNat[s]!)]);
    }
    return true;
  }

  /** Runs cells one after the other, each once for every way. */
  private runApart(
    cells: readonly Cell[],
    batch: readonly number[],
    answers: Answer[],
    left: number[],
    missing: Set<number>,
  ): void {
    for (const i of batch) {
      const ways = new Set<Way>();
      let isWhole = true;
      this.ring.script.fill(0);
      for (let runs = 0; runs < MAX_WAYS; runs++) {
        const way = this.runOne(cells[i]!);
        if (way !== null) ways.add(way);
        else {
          missing.add(this.burst.node[0]!);
          isWhole = false;
        }
        if (!nextBranch(this.ring)) break;
      }
      if (isWhole) answers[i] = this.results.answerOf([...ways]);
      else left.push(i);
    }
  }

  /** One way of a cell, as the script says; null if it met a node that is not compiled. */
  private runOne(cell: Cell): Way | null {
    const { burst } = this;
    const { single } = this.machine();
    resetEventRing(this.ring);
    forgetConnections(single);
    this.results.packets++;
    if (!this.begin(single, cell, 0)) return this.readWay(0, 0);
    const socketNat = burst.nat[0]!;
    runBurst(single, burst, 1);
    single.answerCount = 0;
    return burst.reason[0] === REASON_NODE_NOT_COMPILED ? null : this.readWay(0, socketNat);
  }

  /** Puts a cell's packet into a slot; false if it has come to its end without one: its socket could not connect, or it is its own target. */
  private begin(dp: Datapath, cell: Cell, s: number): boolean {
    const { burst } = this;
    const { target, protocol } = cell;
    const source = sourceToward(this.machine().image, cell.source, target);
    setLanes(burst, s, protocol, source, target, CLIENT_PORTS + s);
    if (keepsToItself(this.model, source, target)) {
      burst.verdict[s] = VERDICT_DELIVERED;
      return false;
    }
    const connected = connectSocket(dp, burst, s);
    if (connected === 0) {
      this.frames.write(burst, s, protocol);
      return true;
    }
    burst.verdict[s] = connected < 0 ? VERDICT_DROPPED : connected;
    if (connected < 0) burst.reason[s] = -connected;
    return false;
  }

  private readWay(s: number, socketNat: number): Way {
    const b = this.burst;
    const nat = b.nat[s]! | socketNat;
    const verdict = b.verdict[s]!;
    const reason = b.reason[s]!;
    const masquerade = (nat & NAT_SOURCE) !== 0;
    const backend =
      (nat & NAT_DESTINATION) === 0
        ? null
        : formatEndpoint(b.family[s]!, b.dst0[s]!, b.dst1[s]!, b.dst2[s]!, b.dst3[s]!, b.dport[s]!);
    return this.results.wayOf(verdict, reason, masquerade, backend);
  }

  /** Makes sure that the image covers some nodes. */
  private compileNodes(nodes: Iterable<number>): void {
    const lacking = new Set<string>();
    const { image } = this.machine();
    for (const node of nodes) {
      if (image.compiledNodes[node] !== 1) lacking.add(this.model.cluster.nodes[node]!.metadata.name);
    }
    if (lacking.size === 0) return;
    this.machinery = this.compile([...image.nodes, ...lacking]);
  }
}

/** The answer for all ways together: the worst verdict speaks for them, and the sets of what they do are united. */
function summarizeWays(number: number, ways: readonly Way[]): Answer {
  let worst = ways[0]!;
  const backends = new Set<string>();
  for (const way of ways) {
    if (isWorse(way, worst)) worst = way;
    if (way.backend !== null) backends.add(way.backend);
  }
  return {
    number,
    verdict: worst.verdict,
    reason: worst.reason,
    translated: backends.size > 0,
    masquerade: ways.some(({ masquerade }) => masquerade),
    backends: [...backends].sort(),
    ways,
  };
}

function isWorse(way: Way, than: Way): boolean {
  return SEVERITY.indexOf(way.verdict) < SEVERITY.indexOf(than.verdict);
}

/** A reply to one of the burst's packets has such a port: a packet that carries it must not share the burst. */
function isClientPort(port: number): boolean {
  return port >= CLIENT_PORTS && port < CLIENT_PORTS + BURST_FRAMES;
}
