/**
 * A small cluster of real manifests in one mode, and real frames through it, one after the other, with connections that
 * live on: what incidents are told by.
 *
 *     node-1  192.168.0.1  2001:db8::1    client 10.244.0.10   web-a 10.244.0.11
 *     node-2  192.168.0.2  2001:db8::2    other  10.244.1.10   web-b 10.244.1.12
 *
 * Service i has the ClusterIPs 10.96.0.(10 + i) and fd00:10:96::(10 + i).
 */
import { loadCluster } from '../../control/src/cluster/load.ts';
import { attachDatapath } from '../../control/src/compile/attach.ts';
import { compileImage, type Image, modelCluster } from '../../control/src/compile/image.ts';
import { formatWords, parseAddress, type Words } from '../../control/src/model/address.ts';
import { type DatapathInput, type Mode, resolveDatapath } from '../../control/src/model/datapath.ts';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { takeReleased } from '../../engine/src/programs/netfilter-fragment.ts';
import { VERDICT_NAMES } from '../../engine/src/programs/verdict.ts';
import { createEventRing } from '../../engine/src/tables/event-ring.ts';
import { hashTuple4, hashTuple6 } from '../../engine/src/tables/hash.ts';
import { buildFrame, type FrameFields, type L4Fields } from '../../engine/src/wire/build.ts';
import {
  type Burst,
  CAPTURE_SLOT_BYTES,
  createBurst,
  ENTRY_HOST,
  ENTRY_POD,
  ENTRY_UPLINK,
  frameOffset,
} from '../../engine/src/wire/burst.ts';
import { verifyFrame } from '../../engine/src/wire/checksum.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { reasonName } from '../../engine/src/wire/reason.ts';
import { DEFAULT_OPTIONS, endpoint, objectsOf, service, type WorldService } from '../conformance/world.ts';
import { unaccounted } from '../programs/fixture.ts';

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

export type Family = 4 | 6;
export const FAMILIES = [4, 6] as const;

export interface Place {
  readonly 4: string;
  readonly 6: string;
}

export const nodeOne: Place = { 4: '192.168.0.1', 6: '2001:db8::1' };
export const nodeTwo: Place = { 4: '192.168.0.2', 6: '2001:db8::2' };
export const client: Place = { 4: '10.244.0.10', 6: 'fd00:10:244::10' };
export const webA: Place = { 4: '10.244.0.11', 6: 'fd00:10:244::11' };
export const other: Place = { 4: '10.244.1.10', 6: 'fd00:10:244:1::10' };
export const webB: Place = { 4: '10.244.1.12', 6: 'fd00:10:244:1::12' };
export const outside: Place = { 4: '203.0.113.7', 6: '2001:db8:113::7' };
export const router: Place = { 4: '198.51.100.1', 6: '2001:db8:100::1' };

const NODES = [
  { name: 'node-1', zone: 'a', addresses: [nodeOne[4], nodeOne[6]], podCIDRs: ['10.244.0.0/24', 'fd00:10:244::/64'] },
  { name: 'node-2', zone: 'a', addresses: [nodeTwo[4], nodeTwo[6]], podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64'] },
];
const PODS = { client, 'web-a': webA, other, 'web-b': webB } as const;
export type PodName = keyof typeof PODS;
/** Who sends: a pod, a process of a node, or what comes to a node from outside. */
export type Sender = PodName | 'host-1' | 'host-2' | 'uplink-1' | 'uplink-2';

const podNode = (name: PodName): number => (name === 'client' || name === 'web-a' ? 0 : 1);

export function vip(index: number): Place {
  return { 4: `10.96.0.${10 + index}`, 6: `fd00:10:96::${10 + index}` };
}

/** A dual-stack Service `index` of port 80 (nodePort 30080 + index) over some pods' port 8080. */
export function webService(
  index: number,
  pods: readonly PodName[],
  protocol: 'TCP' | 'UDP' | 'SCTP' = 'TCP',
): WorldService {
  const port = { name: '', protocol, port: 80, nodePort: 30_080 + index };
  return service(`svc-${index}`, {
    type: 'NodePort',
    clusterIPs: [vip(index)[4], vip(index)[6]],
    ports: [port],
    slices: FAMILIES.map((family) => ({
      family,
      ports: [{ name: '', protocol, port: 8080 }],
      endpoints: pods.map((name) => endpoint(PODS[name][family], `node-${podNode(name) + 1}`)),
    })),
  });
}

export interface LabOptions {
  readonly kubeProxy?: DatapathInput['kubeProxy'];
  /** Connections that each family's table holds. */
  readonly flows?: number;
  /** Addresses that stand behind another one in every endpoint of the slices. */
  readonly further?: Readonly<Record<string, readonly string[]>>;
}

/** What became of a frame. */
export interface Exit {
  /** `delivered web-b`, `delivered node-1`, `forwarded`, `dropped REASON`, `rejected REASON`, `held`. */
  readonly end: string;
  readonly src: string;
  readonly dst: string;
  readonly sport: number;
  readonly dport: number;
  readonly bytes: Uint8Array;
  /** 0 if every length and checksum is right. */
  readonly wrong: number;
}

export class Lab {
  readonly mode: Mode;
  readonly dp: Datapath;
  private readonly image: Image;
  private readonly burst: Burst = createBurst(8, CAPTURE_SLOT_BYTES);
  private readonly answers: Burst = createBurst(1, CAPTURE_SLOT_BYTES);

  constructor(mode: Mode, services: readonly WorldService[], options: LabOptions = {}) {
    const { flows = 16_384 } = options;
    const objects = labObjects(services);
    for (const object of objects) addAddresses(object, options.further ?? {});
    const { cluster } = loadCluster([], { objects });
    const model = modelCluster(
      cluster,
      resolveDatapath({ ...(options.kubeProxy && { kubeProxy: options.kubeProxy }) }),
    );
    this.mode = mode;
    this.image = compileImage(model, mode, ['node-1', 'node-2']);
    this.dp = attachDatapath(this.image, flows, 1024, createEventRing(4096), 1);
  }

  /** Frames of one burst, one exit each. */
  sendAll(from: Sender, frames: readonly (FrameFields | Uint8Array)[], atMs = 0): Exit[] {
    const b = this.burst;
    frames.forEach((frame, s) => {
      this.place(b, s, from, frame instanceof Uint8Array ? frame : buildFrame(frame), atMs);
    });
    runBurst(this.dp, b, frames.length);
    return frames.map((_, s) => this.exit(b, s));
  }

  send(from: Sender, frame: FrameFields | Uint8Array, atMs = 0): Exit {
    return this.sendAll(from, [frame], atMs)[0]!;
  }

  /** What rejecting nodes sent back, as it came out. */
  takeAnswers(): Exit[] {
    const waiting = this.dp.answers;
    const count = this.dp.answerCount;
    this.dp.answerCount = 0;
    runBurst(this.dp, waiting, count);
    return Array.from({ length: count }, (_, s) => this.exit(waiting, s));
  }

  /** The fragments that were sent on from waiting. */
  takeFragments(): Exit[] {
    const out: Exit[] = [];
    while (takeReleased(this.dp, 0, this.answers, 0)) out.push(this.exit(this.answers, 0));
    return out;
  }

  /** Frames in, less frames out by verdict and reason. */
  unaccounted(): number {
    return unaccounted(this.dp);
  }

  private place(b: Burst, s: number, from: Sender, bytes: Uint8Array, atMs: number): void {
    const place = /^(host|uplink)-(\d)$/.exec(from);
    b.bytes.set(bytes, frameOffset(b, s));
    b.len[s] = bytes.length;
    b.node[s] = place === null ? podNode(from as PodName) : Number(place[2]) - 1;
    b.entry[s] = place === null ? ENTRY_POD : place[1] === 'host' ? ENTRY_HOST : ENTRY_UPLINK;
    const { endpoints } = this.image.model.topology;
    b.endpoint[s] = place === null ? endpoints.findIndex(({ pod }) => pod.metadata.name === from) : -1;
    b.shard[s] = 0;
    b.timeMs[s] = atMs;
    b.choice[s] = -1;
    b.unverified[s] = 1;
    b.tag[s] = 0;
    b.flowHash[s] = 0;
    if (parseFrame(b, s) < 0) return;
    const ports = (b.sport[s]! << 16) | b.dport[s]!;
    const src: Words = [b.src0[s]!, b.src1[s]!, b.src2[s]!, b.src3[s]!];
    const dst: Words = [b.dst0[s]!, b.dst1[s]!, b.dst2[s]!, b.dst3[s]!];
    b.flowHash[s] =
      b.family[s] === 4
        ? hashTuple4(0, src[0], dst[0], ports, b.proto[s]!)
        : hashTuple6(0, ...src, ...dst, ports, b.proto[s]!);
  }

  private exit(b: Burst, s: number): Exit {
    const family = b.family[s] === 6 ? 6 : 4;
    const verdict = VERDICT_NAMES[b.verdict[s]!]!;
    const pod = this.image.model.topology.endpoints[b.target[s]!]?.pod.metadata.name;
    const where = verdict === 'delivered' ? ` ${pod ?? `node-${b.node[s]! + 1}`}` : '';
    const why = b.reason[s] === 0 ? '' : ` ${reasonName(b.reason[s]!)}`;
    const at = frameOffset(b, s);
    return {
      end: `${verdict}${where}${why}`,
      src: formatWords(family, [b.src0[s]!, b.src1[s]!, b.src2[s]!, b.src3[s]!]),
      dst: formatWords(family, [b.dst0[s]!, b.dst1[s]!, b.dst2[s]!, b.dst3[s]!]),
      sport: b.sport[s]!,
      dport: b.dport[s]!,
      bytes: b.bytes.slice(at, at + b.len[s]!),
      wrong: verifyFrame(b, s),
    };
  }
}

/** The lab's objects with some Services. */
export function labObjects(services: readonly WorldService[]): object[] {
  return objectsOf({
    nodes: NODES,
    pods: Object.entries(PODS).map(([name, { 4: four, 6: six }]) => ({
      name,
      node: `node-${podNode(name as PodName) + 1}`,
      addresses: [four, six],
      hostNetwork: false,
    })),
    services,
    options: DEFAULT_OPTIONS,
  });
}

function addAddresses(object: object, further: Readonly<Record<string, readonly string[]>>): void {
  const { endpoints = [] } = object as { endpoints?: { addresses: string[] }[] };
  for (const { addresses } of endpoints) addresses.push(...(further[addresses[0]!] ?? []));
}

// ---- frames -----------------------------------------------------------------------------------------------------

export function packet(from: string, to: string, l4: L4Fields, payload = new Uint8Array(0)): FrameFields {
  const src = parseAddress(from)!;
  const dst = parseAddress(to)!;
  return { ip: { family: src.family, src: src.words, dst: dst.words } as FrameFields['ip'], l4, payload };
}

export function udp(from: string, sport: number, to: string, dport: number, bytes = 8): FrameFields {
  return packet(
    from,
    to,
    { protocol: 'udp', sport, dport },
    Uint8Array.from({ length: bytes }, (_, i) => i & 255),
  );
}

export interface TcpParts {
  readonly seq?: number;
  readonly ack?: number;
  readonly bytes?: number;
}

export function tcp(
  from: string,
  sport: number,
  to: string,
  dport: number,
  flags: number,
  parts: TcpParts = {},
): FrameFields {
  const { seq = 1000, ack = 0, bytes = 0 } = parts;
  return packet(from, to, { protocol: 'tcp', sport, dport, flags, seq, ackSeq: ack }, new Uint8Array(bytes));
}

/** Who a frame reached, as the sender of the answer: its addresses and ports turned around. */
export function back(exit: Exit): { from: string; sport: number; to: string; dport: number } {
  return { from: exit.dst, sport: exit.dport, to: exit.src, dport: exit.sport };
}

/** The sender that a frame was delivered to. */
export function reached(exit: Exit): Sender {
  return exit.end.replace('delivered ', '').replace('node-', 'host-') as Sender;
}
