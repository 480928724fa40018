/**
 * flatpath's side of the judgement: one node of a cluster, in one mode, packet by packet.
 *
 * Only the judged node is compiled, so a packet for another node ends where it leaves this one, with its bytes as they
 * are on the wire. A packet whose path has choices is run once for each way it may go, with the state put back in
 * between, until one is what the kernel did; that way then stays.
 */

import { attachDatapath } from '../../control/src/compile/attach.ts';
import { type ClusterModel, compileImage, type Image } from '../../control/src/compile/image.ts';
import type { Mode } from '../../control/src/model/datapath.ts';
import { COUNT_NEW_FLOWS } from '../../engine/src/programs/count.ts';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { wholeDatagram } from '../../engine/src/programs/fragment-state.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { takeReleased } from '../../engine/src/programs/netfilter-fragment.ts';
import { VERDICT_DELIVERED, VERDICT_FORWARDED } from '../../engine/src/programs/verdict.ts';
import { createEventRing, nextBranch, resetEventRing } from '../../engine/src/tables/event-ring.ts';
import { hashTuple4, hashTuple6 } from '../../engine/src/tables/hash.ts';
import {
  type Burst,
  createBurst,
  ENTRY_ANSWER,
  ENTRY_HOST,
  ENTRY_POD,
  ENTRY_UPLINK,
  FRAG_NONE,
  frameOffset,
} from '../../engine/src/wire/burst.ts';
import { ETHERNET_BYTES } from '../../engine/src/wire/ethernet.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { REASON_NODE_NOT_COMPILED, reasonName } from '../../engine/src/wire/reason.ts';
import { JUDGED_NODE, type Place, placeName } from './case.ts';

/** A packet that comes out, from its IP header on. */
export interface Outgoing {
  /** Name of a place; `host` for what is delivered to the node itself. */
  readonly place: string;
  readonly packet: Uint8Array;
  /** The node made it: an ICMP error or a reset. */
  readonly isAnswer: boolean;
}

export interface Outcome {
  readonly outgoing: readonly Outgoing[];
  /** Why nothing came out, for people. */
  readonly reason: string;
  /** It made a new entry in conntrack. */
  readonly beginsFlow: boolean;
  readonly events: Int32Array;
}

const STAMPS = 256;
const EVENT_WORDS = 1 << 18;
const MAX_BRANCHES = 4096;

export class FlatpathNode {
  readonly image: Image;
  private readonly model: ClusterModel;
  private readonly node: number;
  private readonly ring = createEventRing(EVENT_WORDS);
  private readonly datapath: Datapath;
  private readonly burst: Burst = createBurst(1);
  private readonly state: StateCopy;

  /** @param flows connections that conntrack holds in each family */
  constructor(model: ClusterModel, mode: Mode, flows: number) {
    this.model = model;
    this.node = model.topology.nodeIndex.get(JUDGED_NODE)!;
    this.image = compileImage(model, mode, [JUDGED_NODE]);
    this.datapath = attachDatapath(this.image, flows, STAMPS, this.ring, 1);
    this.ring.on = true;
    this.state = new StateCopy(this.datapath);
  }

  /**
   * Sends a packet in, whole or in fragments, and looks for the way of it that `isKernels` accepts; if there is none, the
   * first way stays.
   * @param pieces from their IP headers on
   */
  send(pieces: readonly Uint8Array[], from: Place, timeMs: number, isKernels: (outcome: Outcome) => boolean): Outcome {
    const { ring } = this;
    ring.script.fill(0);
    this.state.take();
    const first = this.runAll(pieces, from, timeMs);
    if (ring.points === 0 || isKernels(first)) return first;
    for (let branch = 1; branch < MAX_BRANCHES && nextBranch(ring); branch++) {
      this.state.restore();
      const outcome = this.runAll(pieces, from, timeMs);
      if (isKernels(outcome)) return outcome;
    }
    this.state.restore();
    ring.script.fill(0);
    return this.runAll(pieces, from, timeMs);
  }

  /** All that came out of some pieces; only the one that completes a datagram has choices, and it is the last. */
  private runAll(pieces: readonly Uint8Array[], from: Place, timeMs: number): Outcome {
    const outcomes = pieces.map((piece) => this.run(piece, from, timeMs));
    const events = outcomes.flatMap((outcome) => [...outcome.events]);
    return {
      outgoing: outcomes.flatMap((outcome) => outcome.outgoing),
      reason: outcomes.at(-1)!.reason,
      beginsFlow: outcomes.some((outcome) => outcome.beginsFlow),
      events: Int32Array.from(events),
    };
  }

  /** Sends a packet in and lets the hash of its flow decide, as in a run. */
  sendByHash(packet: Uint8Array, from: Place, timeMs: number): Outcome {
    return this.run(packet, from, timeMs, -1);
  }

  private run(packet: Uint8Array, from: Place, timeMs: number, choice = 0): Outcome {
    const { ring, datapath, burst } = this;
    resetEventRing(ring);
    datapath.answerCount = 0;
    const flows = datapath.counters[COUNT_NEW_FLOWS]!;
    this.place(packet, from, timeMs, choice);
    runBurst(datapath, burst, 1);
    const outgoing: Outgoing[] = [];
    const isPiece = burst.frag[0] !== FRAG_NONE;
    const reason = this.collect(burst, false, isPiece, outgoing);
    while (isPiece && takeReleased(datapath, 0, burst, 0)) this.collect(burst, false, false, outgoing);
    const beginsFlow = datapath.counters[COUNT_NEW_FLOWS]! > flows;
    this.runAnswers(outgoing);
    if (ring.lost > 0) throw new Error(`a packet made more than ${EVENT_WORDS} words of events`);
    return { outgoing, reason, beginsFlow, events: ring.words.slice(0, ring.used) };
  }

  private place(packet: Uint8Array, from: Place, timeMs: number, choice: number): void {
    const b = this.burst;
    const at = frameOffset(b, 0);
    b.bytes.fill(0, at, at + ETHERNET_BYTES);
    b.view.setUint16(at + 12, packet[0]! >>> 4 === 6 ? 0x86dd : 0x0800);
    b.bytes.set(packet, at + ETHERNET_BYTES);
    b.len[0] = ETHERNET_BYTES + packet.length;
    b.node[0] = this.node;
    b.entry[0] = entryOf(from);
    b.endpoint[0] = from.kind === 'pod' ? this.endpointOf(from.pod) : -1;
    b.shard[0] = 0;
    b.timeMs[0] = timeMs;
    b.choice[0] = choice;
    b.tag[0] = 0;
    b.unverified[0] = 1;
    b.flowHash[0] = 0;
    if (parseFrame(b, 0) < 0) return;
    const ports = (b.sport[0]! << 16) | b.dport[0]!;
    const [s, d] = [
      [b.src0[0]!, b.src1[0]!, b.src2[0]!, b.src3[0]!] as const,
      [b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!] as const,
    ];
    b.flowHash[0] =
      b.family[0] === 4 ? hashTuple4(0, s[0], d[0], ports, b.proto[0]!) : hashTuple6(0, ...s, ...d, ports, b.proto[0]!);
  }

  private endpointOf(pod: string): number {
    return this.model.topology.endpoints.findIndex((endpoint) => endpoint.pod.metadata.name === pod);
  }

  /** @param isPiece the burst's frame came as a fragment: where it leaves for another node, its datagram does */
  private collect(own: Burst, isAnswer: boolean, isPiece: boolean, into: Outgoing[]): string {
    const reason = own.reason[0]!;
    const isWhole = isPiece && reason === REASON_NODE_NOT_COMPILED;
    const b = isWhole ? wholeDatagram(this.datapath.ports.fragments) : own;
    const place = this.exitOf(own.verdict[0]!, reason, own.target[0]!);
    if (place === null) return reasonName(reason);
    const from = frameOffset(b, 0);
    const link = ETHERNET_BYTES;
    into.push({ place, packet: b.bytes.slice(from + link, from + b.len[0]!), isAnswer });
    return 'none';
  }

  /** The interface by which a packet left; null if it did not. */
  private exitOf(verdict: number, reason: number, target: number): string | null {
    if (reason === REASON_NODE_NOT_COMPILED) return 'peer';
    if (verdict === VERDICT_FORWARDED) return 'outside';
    if (verdict !== VERDICT_DELIVERED) return null;
    const pod = this.model.topology.endpoints[target]?.pod;
    return pod === undefined ? 'host' : placeName({ kind: 'pod', pod: pod.metadata.name });
  }

  private runAnswers(into: Outgoing[]): void {
    const { datapath, burst } = this;
    const waiting = datapath.answers;
    const count = datapath.answerCount;
    for (let s = 0; s < count; s++) {
      const from = frameOffset(waiting, s);
      burst.bytes.set(waiting.bytes.subarray(from, from + waiting.len[s]!), frameOffset(burst, 0));
      burst.len[0] = waiting.len[s]!;
      burst.node[0] = waiting.node[s]!;
      burst.entry[0] = ENTRY_ANSWER;
      burst.endpoint[0] = -1;
      burst.timeMs[0] = waiting.timeMs[s]!;
      burst.choice[0] = -1;
      burst.flowHash[0] = waiting.flowHash[s]!;
      runBurst(datapath, burst, 1);
      this.collect(burst, true, false, into);
    }
    datapath.answerCount = 0;
  }
}

function entryOf(from: Place): number {
  switch (from.kind) {
    case 'pod':
    case 'stray':
      return ENTRY_POD;
    case 'host':
      return ENTRY_HOST;
    default:
      return ENTRY_UPLINK;
  }
}

/** All that packets write in a datapath: every typed array and number that is not part of the image. */
class StateCopy {
  private readonly arrays = new Map<ArrayBufferLike, { live: Uint8Array; kept: Uint8Array }>();
  private readonly numbers: { owner: Record<string, unknown>; key: string; kept: number }[] = [];

  constructor(datapath: Datapath) {
    const { conntrack4, conntrack6, affinity, ports } = datapath;
    const seen = new Set<object>();
    for (const part of [conntrack4, conntrack6, affinity, ports]) this.collect(part, seen);
  }

  private collect(part: object, seen: Set<object>): void {
    if (seen.has(part)) return;
    seen.add(part);
    if (ArrayBuffer.isView(part)) {
      if (this.arrays.has(part.buffer)) return;
      const live = new Uint8Array(part.buffer);
      this.arrays.set(part.buffer, { live, kept: new Uint8Array(live.length) });
      return;
    }
    for (const [key, value] of Object.entries(part)) {
      if (typeof value === 'object' && value !== null) this.collect(value, seen);
      else if (typeof value === 'number') this.numbers.push({ owner: part as Record<string, unknown>, key, kept: 0 });
    }
  }

  take(): void {
    for (const { live, kept } of this.arrays.values()) kept.set(live);
    for (const one of this.numbers) one.kept = one.owner[one.key] as number;
  }

  restore(): void {
    for (const { live, kept } of this.arrays.values()) live.set(kept);
    for (const { owner, key, kept } of this.numbers) owner[key] = kept;
  }
}
