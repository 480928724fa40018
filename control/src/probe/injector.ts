/**
 * The injector: frames that come from outside the emulator (a capture, the API) through one mode's datapath, one by one,
 * with connections that live on from frame to frame.
 *
 * A frame carries what it carries: it is translated at the interface it enters by, never at a socket. Where it enters
 * is said by the caller, or follows from its source address as for a reference (probe/connection.ts).
 */

import type { Datapath } from '@flatpath/engine/programs/datapath';
import { runBurst } from '@flatpath/engine/programs/journey';
import { takeReleased } from '@flatpath/engine/programs/netfilter-fragment';
import { NAT_DESTINATION, NAT_SOURCE, VERDICT_NAMES, type VerdictName } from '@flatpath/engine/programs/verdict';
import { affinityMerge } from '@flatpath/engine/tables/affinity';
import { createEventRing, type EventRing, resetEventRing } from '@flatpath/engine/tables/event-ring';
import { hashTuple4, hashTuple6 } from '@flatpath/engine/tables/hash';
import { type Burst, CAPTURE_SLOT_BYTES, createBurst, ENTRY_ANSWER, frameOffset } from '@flatpath/engine/wire/burst';
import { parseFrame } from '@flatpath/engine/wire/parse';
import { REASON_FRAME_TOO_LARGE, REASON_NODE_NOT_COMPILED, reasonName } from '@flatpath/engine/wire/reason';
import { attachDatapath, reattachDatapath } from '../compile/attach.ts';
import { type ClusterModel, compileImage, type Image } from '../compile/image.ts';
import type { IpvsBefore } from '../compile/ipvs.ts';
import { formatWords, parseAddress, type Words } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import { locateSource } from './connection.ts';

/** Where a frame enters. */
export interface Entry {
  readonly node: number;
  /** ENTRY_POD, ENTRY_HOST or ENTRY_UPLINK. */
  readonly entry: number;
  /** Endpoint number of a listed pod, else -1. */
  readonly endpoint: number;
}

export interface Injected {
  readonly verdict: VerdictName;
  readonly reason: string;
  readonly translated: boolean;
  readonly masquerade: boolean;
  /** Node where its journey ended. */
  readonly node: number;
  /** Endpoint that it was delivered to, -1 for none. */
  readonly endpoint: number;
  /** The frame as it came out; null where it was dropped or rejected. */
  readonly frame: Uint8Array | null;
  /** The fragments that had waited for this one, as they came out behind it. */
  readonly fragments: readonly Uint8Array[];
  /** What rejecting nodes sent back, as it came out. */
  readonly answers: readonly Uint8Array[];
  readonly events: Int32Array;
}

/** Connections that are remembered in each family, as many as a node's kernel would. */
const FLOWS = 131_072;
/** Clients that session affinity remembers. */
const STAMPS = 65_536;
const EVENT_WORDS = 1 << 16;

export class Injector {
  readonly model: ClusterModel;
  readonly mode: Mode;
  image: Image;
  datapath: Datapath;
  private readonly ring: EventRing = createEventRing(EVENT_WORDS);
  private readonly burst: Burst = createBurst(1, CAPTURE_SLOT_BYTES);
  private readonly answer: Burst = createBurst(1, CAPTURE_SLOT_BYTES);

  /** What ran before a change of the cluster, for nodes that are compiled later. */
  private readonly before: IpvsBefore | null;

  constructor(model: ClusterModel, mode: Mode, before: IpvsBefore | null = null) {
    this.model = model;
    this.mode = mode;
    this.before = before;
    this.image = compileImage(model, mode, []);
    this.datapath = attachDatapath(this.image, FLOWS, STAMPS, this.ring, 1);
  }

  /**
   * Sends a frame in.
   * @param frame from the Ethernet header on, up to 65,549 bytes
   * @param entry null: by the frame's source address; a frame without an address enters by the uplink of `uplinkNode`
   * @param uplinkNode node where frames from outside enter, null: the node that owns the target, else the first
   */
  inject(frame: Uint8Array, entry: Entry | null, uplinkNode: number | null, timeMs: number, record: boolean): Injected {
    const b = this.burst;
    if (frame.length > b.slotBytes - 2) return tooLarge(uplinkNode ?? 0);
    for (;;) {
      this.placeFrame(frame, entry, uplinkNode, timeMs);
      resetEventRing(this.ring);
      this.ring.on = record;
      this.datapath.answerCount = 0;
      runBurst(this.datapath, b, 1);
      if (b.reason[0] !== REASON_NODE_NOT_COMPILED) break;
      this.compileNode(b.node[0]!);
    }
    affinityMerge(this.datapath.affinity);
    const events = record ? this.ring.words.slice(0, this.ring.used) : new Int32Array(0);
    this.ring.on = false;
    const result = {
      verdict: VERDICT_NAMES[b.verdict[0]!] as VerdictName,
      reason: reasonName(b.reason[0]!),
      translated: (b.nat[0]! & NAT_DESTINATION) !== 0,
      masquerade: (b.nat[0]! & NAT_SOURCE) !== 0,
      node: b.node[0]!,
      endpoint: b.target[0]!,
      frame: b.verdict[0]! <= 2 ? copyFrame(b) : null,
      events,
    };
    return { ...result, fragments: this.takeFragments(), answers: this.runAnswers() };
  }

  private placeFrame(frame: Uint8Array, entry: Entry | null, uplinkNode: number | null, timeMs: number): void {
    const b = this.burst;
    b.bytes.set(frame, frameOffset(b, 0));
    b.len[0] = frame.length;
    b.shard[0] = 0;
    b.timeMs[0] = timeMs;
    b.choice[0] = -1;
    b.flowHash[0] = 0;
    b.unverified[0] = 1;
    b.tag[0] = 0;
    let at = entry;
    if (parseFrame(b, 0) === 0) {
      const family = b.family[0] === 6 ? 6 : 4;
      const src: Words = [b.src0[0]!, b.src1[0]!, b.src2[0]!, b.src3[0]!];
      const dst: Words = [b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!];
      const ports = (b.sport[0]! << 16) | b.dport[0]!;
      const proto = b.proto[0]!;
      b.flowHash[0] =
        family === 4 ? hashTuple4(0, src[0], dst[0], ports, proto) : hashTuple6(0, ...src, ...dst, ports, proto);
      at ??= locateSource(
        this.model,
        parseAddress(formatWords(family, src))!,
        parseAddress(formatWords(family, dst))!,
        uplinkNode,
      );
    }
    at ??= { node: uplinkNode ?? 0, entry: 3, endpoint: -1 };
    this.compileNode(at.node);
    b.node[0] = at.node;
    b.entry[0] = at.entry;
    b.endpoint[0] = at.endpoint;
  }

  /** The fragments of the datagram that the frame completed, but for the one that came out in its place. */
  private takeFragments(): Uint8Array[] {
    const out: Uint8Array[] = [];
    while (takeReleased(this.datapath, 0, this.answer, 0)) out.push(copyFrame(this.answer));
    return out;
  }

  /** Sends the answers of rejecting nodes on their way and collects how they come out. */
  private runAnswers(): Uint8Array[] {
    const { datapath, answer } = this;
    const out: Uint8Array[] = [];
    const waiting = datapath.answers;
    const count = datapath.answerCount;
    datapath.answerCount = 0;
    for (let s = 0; s < count; s++) {
      const from = frameOffset(waiting, s);
      answer.bytes.set(waiting.bytes.subarray(from, from + waiting.len[s]!), frameOffset(answer, 0));
      answer.len[0] = waiting.len[s]!;
      answer.node[0] = waiting.node[s]!;
      answer.entry[0] = ENTRY_ANSWER;
      answer.endpoint[0] = -1;
      answer.shard[0] = waiting.shard[s]!;
      answer.timeMs[0] = waiting.timeMs[s]!;
      answer.choice[0] = -1;
      answer.flowHash[0] = waiting.flowHash[s]!;
      answer.tag[0] = 0;
      runBurst(datapath, answer, 1);
      if (answer.verdict[0]! <= 2) out.push(copyFrame(answer));
    }
    datapath.answerCount = 0;
    return out;
  }

  private compileNode(node: number): void {
    if (this.image.compiledNodes[node] === 1) return;
    const name = this.model.cluster.nodes[node]!.metadata.name;
    this.image = compileImage(this.model, this.mode, [...this.image.nodes, name], this.before);
    this.datapath = reattachDatapath(this.datapath, this.image);
  }
}

function copyFrame(b: Burst): Uint8Array {
  const from = frameOffset(b, 0);
  return b.bytes.slice(from, from + b.len[0]!);
}

function tooLarge(node: number): Injected {
  return {
    verdict: 'dropped',
    reason: reasonName(REASON_FRAME_TOO_LARGE),
    translated: false,
    masquerade: false,
    node,
    endpoint: -1,
    frame: null,
    fragments: [],
    answers: [],
    events: new Int32Array(0),
  };
}
