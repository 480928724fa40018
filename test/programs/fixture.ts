/** A small datapath by hand: two nodes, three pods, the rules that a test gives, one shard unless it asks for more. */

import { COUNT_ENTERED, COUNTERS, countOf } from '../../engine/src/programs/count.ts';
import { type Datapath, MODE_IPTABLES, type Topology } from '../../engine/src/programs/datapath.ts';
import { createActive } from '../../engine/src/programs/flow-lookup.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { createMasqueradePorts } from '../../engine/src/programs/masquerade.ts';
import {
  OWNER_CLUSTER,
  OWNER_NODE,
  OWNER_POD,
  OWNER_POD_CIDR,
  OWNER_SERVICE,
  ownerValue,
} from '../../engine/src/programs/owner.ts';
import { VERDICT_NAMES } from '../../engine/src/programs/verdict.ts';
import { createAffinity } from '../../engine/src/tables/affinity.ts';
import { createConntrack } from '../../engine/src/tables/conntrack.ts';
import { createEventRing } from '../../engine/src/tables/event-ring.ts';
import { createLpm4, lpm4Insert } from '../../engine/src/tables/lpm4.ts';
import { createLpm6, lpm6Insert } from '../../engine/src/tables/lpm6.ts';
import type { RuleList } from '../../engine/src/tables/rule-list.ts';
import { buildFrame, type FrameFields, type L4Fields } from '../../engine/src/wire/build.ts';
import {
  type Burst,
  createBurst,
  ENTRY_HOST,
  ENTRY_POD,
  ENTRY_UPLINK,
  frameOffset,
} from '../../engine/src/wire/burst.ts';
import { verifyFrame } from '../../engine/src/wire/checksum.ts';
import { reasonName } from '../../engine/src/wire/reason.ts';
import { type Address, isFour, nodeOne, nodeTwo, podOne, podThree, podTwo, svcOne, tuple, words } from './addresses.ts';
import { ruleList } from './rules.ts';

export function buildTopology(): Topology {
  const owners4 = createLpm4(32);
  const owners6 = createLpm6(32);
  const own = (address: Address, bits: number, kind: number, index: number) => {
    const [w0, w1, w2, w3] = words(address);
    if (isFour(address)) lpm4Insert(owners4, w0, bits, ownerValue(kind, index));
    else lpm6Insert(owners6, w0, w1, w2, w3, bits, ownerValue(kind, index));
  };
  own('10.244.0.0', 16, OWNER_CLUSTER, 0);
  own('fd00:10:244::', 56, OWNER_CLUSTER, 0);
  [nodeOne, nodeTwo].forEach((node, index) => {
    own(`10.244.${index}.0`, 24, OWNER_POD_CIDR, index);
    own(`fd00:10:244:${index}::`, 64, OWNER_POD_CIDR, index);
    own(node[4], 32, OWNER_NODE, index);
    own(node[6], 128, OWNER_NODE, index);
  });
  own(svcOne[4], 32, OWNER_SERVICE, 0);
  own(svcOne[6], 128, OWNER_SERVICE, 0);
  const pods = [podOne, podTwo, podThree];
  for (const pod of pods) {
    own(pod[4], 32, OWNER_POD, pod.index);
    own(pod[6], 128, OWNER_POD, pod.index);
  }
  return {
    nodes: 2,
    owners4,
    owners6,
    endpointNode: Int32Array.from(pods, (pod) => pod.node),
    endpointAddress4: Int32Array.from(pods, (pod) => words(pod[4])[0]),
    endpointAddress6: Int32Array.from(pods.flatMap((pod) => [...words(pod[6])])),
    nodeAddress4: Int32Array.from([nodeOne, nodeTwo], (node) => words(node[4])[0]),
    nodeAddress6: Int32Array.from([nodeOne, nodeTwo].flatMap((node) => [...words(node[6])])),
    interfaces: null,
  };
}

export interface DatapathOptions {
  readonly rules4?: RuleList;
  readonly rules6?: RuleList;
  readonly shards?: number;
  readonly flows?: number;
  readonly conntrackMax?: number;
  readonly routeLocalnet?: boolean;
  /** On by default: most tests do not care for sequence numbers. */
  readonly tcpBeLiberal?: boolean;
}

export function buildDatapath(options: DatapathOptions = {}): Datapath {
  const { shards = 1, flows = 1024, conntrackMax = 131_072, routeLocalnet = false, tcpBeLiberal = true } = options;
  const none = ruleList(2, {}, []);
  return {
    mode: MODE_IPTABLES,
    topology: buildTopology(),
    compiledNodes: Int32Array.of(1, 1),
    iptables: {
      rules4: options.rules4 ?? none,
      rules6: options.rules6 ?? none,
      conntrackMax,
      tcpBeLiberal,
      routeLocalnet,
      recentLists: 4,
      sets: null,
    },
    nftables: null,
    ipvs: null,
    ebpf: null,
    conntrack4: createConntrack(4, flows, shards),
    conntrack6: createConntrack(6, flows, shards),
    affinity: createAffinity(256, shards, 64, 4 * 2 * 2, 100),
    ports: createMasqueradePorts(shards),
    ipvsState: null,
    counters: new Float64Array(COUNTERS),
    ring: createEventRing(65_536),
    active: createActive(),
    answers: createBurst(8),
    answerCount: 0,
  };
}

/** Where a frame enters: by a pod's interface, from the node itself, or by the uplink of a node. */
export interface Entry {
  readonly pod?: { readonly index: number; readonly node: number };
  readonly host?: number;
  readonly uplink?: number;
  readonly shard?: number;
  readonly timeMs?: number;
  readonly flowHash?: number;
  readonly choice?: number;
}

export interface Outcome {
  readonly verdict: string;
  readonly reason: string;
  /** The tuple that arrived, as text. */
  readonly tuple: string;
  readonly target: number;
  readonly node: number;
  readonly nat: number;
  /** The frame as it arrived. */
  readonly bytes: Uint8Array;
  /** 0 if every checksum and length of the frame is right. */
  readonly wrong: number;
  readonly ctState: number;
}

/** Puts frames into a burst of their own, runs it, and tells what became of each. */
export function send(dp: Datapath, entry: Entry, ...frames: (FrameFields | Uint8Array)[]): Outcome[] {
  const b = createBurst(frames.length);
  frames.forEach((frame, s) => {
    const bytes = frame instanceof Uint8Array ? frame : buildFrame(frame);
    b.bytes.set(bytes, frameOffset(b, s));
    b.len[s] = bytes.length;
    b.node[s] = entry.pod?.node ?? entry.host ?? entry.uplink ?? 0;
    b.entry[s] = entry.pod !== undefined ? ENTRY_POD : entry.host !== undefined ? ENTRY_HOST : ENTRY_UPLINK;
    b.endpoint[s] = entry.pod?.index ?? -1;
    b.shard[s] = entry.shard ?? 0;
    b.timeMs[s] = entry.timeMs ?? 0;
    b.flowHash[s] = ((entry.flowHash ?? 0x1234567) + Math.imul(s, 0x9e3779b1)) | 0;
    b.choice[s] = entry.choice ?? -1;
    b.tag[s] = s;
  });
  runBurst(dp, b, frames.length);
  return frames.map((_, s) => readOutcome(b, s));
}

export function sendOne(dp: Datapath, entry: Entry, frame: FrameFields | Uint8Array): Outcome {
  return send(dp, entry, frame)[0]!;
}

/** Sends the answers that wait in the datapath, as the caller of the journey does. */
export function sendAnswers(dp: Datapath): Outcome[] {
  const count = dp.answerCount;
  dp.answerCount = 0;
  runBurst(dp, dp.answers, count);
  return Array.from({ length: count }, (_, s) => readOutcome(dp.answers, s));
}

export function readOutcome(b: Burst, s: number): Outcome {
  const at = frameOffset(b, s);
  return {
    verdict: VERDICT_NAMES[b.verdict[s]!]!,
    reason: reasonName(b.reason[s]!),
    tuple: tuple(b, s),
    target: b.target[s]!,
    node: b.node[s]!,
    nat: b.nat[s]!,
    bytes: b.bytes.slice(at, at + b.len[s]!),
    wrong: b.family[s] === 0 ? 0 : verifyFrame(b, s),
    ctState: b.ctState[s]!,
  };
}

/** A frame between two addresses of one family. */
export function frame(from: Address, to: Address, l4: L4Fields, payload: Uint8Array = new Uint8Array(0)): FrameFields {
  if (isFour(from)) return { ip: { family: 4, src: words(from), dst: words(to), id: 7 }, l4, payload };
  return { ip: { family: 6, src: words(from), dst: words(to) }, l4, payload };
}

export function tcp(from: Address, sport: number, to: Address, dport: number, flags: number, text = ''): FrameFields {
  return frame(
    from,
    to,
    { protocol: 'tcp', sport, dport, flags, seq: 1000, ackSeq: 2000 },
    new TextEncoder().encode(text),
  );
}

export function udp(from: Address, sport: number, to: Address, dport: number, text = 'query'): FrameFields {
  return frame(from, to, { protocol: 'udp', sport, dport }, new TextEncoder().encode(text));
}

/** Frames that entered, less those that are counted with a verdict: 0 when every frame ended exactly once. */
export function unaccounted(dp: Datapath): number {
  let ended = 0;
  for (let verdict = 0; verdict < VERDICT_NAMES.length; verdict++) {
    for (let reason = 0; reason < 256; reason++) ended += dp.counters[countOf(verdict, reason)]!;
  }
  return dp.counters[COUNT_ENTERED]! - ended;
}
