/**
 * The simulator: one mode's datapath in the control thread, for single packets whose every branch matters.
 *
 * `probe`, `trace`, `test` and injection run the engine's own programs here, with the recorder on. The connection
 * state starts empty for each branch of a connection (a fresh client). Node parts are compiled when a packet first
 * meets a node.
 */

import type { Datapath } from '@flatpath/engine/programs/datapath';
import { connectSocket } from '@flatpath/engine/programs/ebpf-socket';
import { runBurst } from '@flatpath/engine/programs/journey';
import { EVENT_ROUTE, EVENT_VERDICT, record2, recordTuple } from '@flatpath/engine/programs/record';
import { ROUTE_LOOPBACK } from '@flatpath/engine/programs/route';
import {
  NAT_DESTINATION,
  NAT_SOURCE,
  VERDICT_DELIVERED,
  VERDICT_DROPPED,
  VERDICT_NAMES,
  type VerdictName,
} from '@flatpath/engine/programs/verdict';
import { createEventRing, type EventRing, nextBranch, resetEventRing } from '@flatpath/engine/tables/event-ring';
import { formatEndpoint } from '@flatpath/engine/wire/address';
import { type Burst, createBurst } from '@flatpath/engine/wire/burst';
import { REASON_NODE_NOT_COMPILED, reasonName } from '@flatpath/engine/wire/reason';
import { attachDatapath, forgetConnections } from '../compile/attach.ts';
import { type ClusterModel, compileImage, type Image } from '../compile/image.ts';
import type { Mode } from '../model/datapath.ts';
import type { Connection, Source, Target } from './connection.ts';
import { CLIENT_PORT, keepsToItself, setLanes, sourceToward, writePacket } from './first-packet.ts';

/** What became of the first packet on one branch of its path. */
export interface Branch {
  readonly source: Source;
  readonly target: Target;
  readonly verdict: VerdictName;
  /** Name of the reason; `none` for a delivered or forwarded packet. */
  readonly reason: string;
  readonly translated: boolean;
  readonly masquerade: boolean;
  /** `ip:port` that the destination was translated to, null where it was not. */
  readonly backend: string | null;
  /** Endpoint number of the pod that it was delivered to, -1 for none. */
  readonly endpoint: number;
  /** Node where its journey ended. */
  readonly node: number;
  /** Events of the recorder; empty unless asked for. */
  readonly events: Int32Array;
}

/** Branches that one connection may have before the rest is left out: a Service of 1,000 endpoints has 1,000. */
const MAX_BRANCHES = 20_000;
const EVENT_WORDS = 1 << 16;
/** Flows of a probe's own conntrack; a packet over eight nodes makes eight. */
const PROBE_FLOWS = 32;
const PROBE_STAMPS = 16;
/** A cluster of so many nodes is compiled at once; of a larger one only the nodes that packets meet. */
const COMPILE_ALL_NODES = 8;

export class Simulator {
  readonly model: ClusterModel;
  readonly mode: Mode;
  image: Image;
  private datapath: Datapath;
  private readonly burst: Burst = createBurst(1);
  private readonly ring = createEventRing(EVENT_WORDS);

  constructor(model: ClusterModel, mode: Mode) {
    this.model = model;
    this.mode = mode;
    const names = model.cluster.nodes.map((node) => node.metadata.name);
    this.image = compileImage(model, mode, names.length <= COMPILE_ALL_NODES ? names : []);
    this.datapath = attachDatapath(this.image, PROBE_FLOWS, PROBE_STAMPS, this.ring, 1);
  }

  /**
   * Runs a connection's first packet along every branch that the datapath could choose.
   * @param record keeps each branch's events, for its story
   */
  probe(connection: Connection, record: boolean): Branch[] {
    this.compileNodes(connection.sources.map(({ node }) => node));
    for (;;) {
      // Compiling is dear: a round meets all nodes that lack, and they are compiled together for the next.
      const missing = new Set<number>();
      const branches = this.runBranches(connection, record, missing);
      if (missing.size === 0) return branches;
      this.compileNodes(missing);
    }
  }

  /** Every branch of every target; those that end at a node that is not compiled are left out, and the node is noted. */
  private runBranches(connection: Connection, record: boolean, missing: Set<number>): Branch[] {
    const branches: Branch[] = [];
    let runs = 0;
    connection.targets.forEach((target, i) => {
      const source = sourceToward(this.image, connection.sources[i]!, target);
      this.ring.script.fill(0);
      let more = true;
      while (more && runs < MAX_BRANCHES) {
        runs++;
        const branch = this.runBranch(connection, source, target, record);
        if (branch === null) missing.add(this.burst.node[0]!);
        else branches.push(branch);
        more = nextBranch(this.ring);
      }
    });
    return branches;
  }

  /** Name of what a branch's packet was delivered to: `pod ns/name` or `node name`; null where it was not delivered. */
  describeTarget(branch: Branch): string | null {
    if (branch.verdict !== 'delivered') return null;
    const { endpoints, nodes } = this.model.topology;
    const pod = endpoints[branch.endpoint]?.pod;
    if (pod !== undefined) return `pod ${pod.metadata.namespace}/${pod.metadata.name}`;
    return `node ${nodes[branch.node]?.metadata.name ?? branch.node}`;
  }

  /** One branch; null when it ended at a node that is not compiled. */
  private runBranch(connection: Connection, source: Source, target: Target, record: boolean): Branch | null {
    const { datapath, burst, ring } = this;
    forgetConnections(datapath);
    resetEventRing(ring);
    ring.on = record;
    setLanes(burst, 0, connection.protocol, source, target, CLIENT_PORT);
    if (keepsToItself(this.model, source, target)) {
      deliverToSender(burst, ring);
      return this.describeEnd(source, target);
    }
    if (record) recordTuple(ring, burst, 0);
    const connected = connectSocket(datapath, burst, 0);
    const socketNat = burst.nat[0]!;
    if (connected < 0) {
      burst.verdict[0] = VERDICT_DROPPED;
      burst.reason[0] = -connected;
    } else if (connected > 0) burst.verdict[0] = connected;
    else {
      writePacket(burst);
      runBurst(datapath, burst, 1);
      burst.nat[0]! |= socketNat;
    }
    datapath.answerCount = 0;
    if (burst.reason[0] === REASON_NODE_NOT_COMPILED) return null;
    return this.describeEnd(source, target);
  }

  private describeEnd(source: Source, target: Target): Branch {
    const b = this.burst;
    const ring = this.ring;
    const nat = b.nat[0]!;
    const translated = (nat & NAT_DESTINATION) !== 0;
    return {
      source,
      target,
      verdict: VERDICT_NAMES[b.verdict[0]!] as VerdictName,
      reason: reasonName(b.reason[0]!),
      translated,
      masquerade: (nat & NAT_SOURCE) !== 0,
      backend: translated
        ? formatEndpoint(b.family[0]!, b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!, b.dport[0]!)
        : null,
      endpoint: b.target[0]!,
      node: b.node[0]!,
      events: ring.on ? ring.words.slice(0, ring.used) : NO_EVENTS,
    };
  }

  /** Makes sure that the image covers some nodes. */
  private compileNodes(nodes: Iterable<number>): void {
    const lacking = new Set<string>();
    for (const node of nodes) {
      if (this.image.compiledNodes[node] !== 1) lacking.add(this.model.cluster.nodes[node]!.metadata.name);
    }
    if (lacking.size === 0) return;
    this.image = compileImage(this.model, this.mode, [...this.image.nodes, ...lacking]);
    this.datapath = attachDatapath(this.image, PROBE_FLOWS, PROBE_STAMPS, this.ring, 1);
  }
}

const NO_EVENTS = new Int32Array(0);

/** Ends the packet of the lanes at the pod that sends it. */
function deliverToSender(b: Burst, ring: EventRing): void {
  b.verdict[0] = VERDICT_DELIVERED;
  b.target[0] = b.endpoint[0]!;
  if (!ring.on) return;
  recordTuple(ring, b, 0);
  record2(ring, EVENT_ROUTE, ROUTE_LOOPBACK, b.endpoint[0]!);
  record2(ring, EVENT_VERDICT, VERDICT_DELIVERED, 0);
}
