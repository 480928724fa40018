/**
 * A small cluster of plain objects in the ebpf mode, and frames sent through it.
 *
 * Three nodes in two zones; four pods: `client` and `web-1` on node-1, `web-2` on node-2, `web-3` on node-3; both
 * families, labels `app` (client, web) and `name`, a port `http`. Services are the test's own; `slices` makes the slices
 * of one over pods.
 */
import { loadCluster } from '../../control/src/cluster/load.ts';
import { compileImage, type Image, modelCluster } from '../../control/src/compile/image.ts';
import { type Family, parseAddress, type Words } from '../../control/src/model/address.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import { COUNTERS, countOf } from '../../engine/src/programs/count.ts';
import { type Datapath, MODE_EBPF } from '../../engine/src/programs/datapath.ts';
import { connectSocket } from '../../engine/src/programs/ebpf-socket.ts';
import { createActive } from '../../engine/src/programs/flow-lookup.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { createMasqueradePorts } from '../../engine/src/programs/masquerade.ts';
import { VERDICT_NAMES } from '../../engine/src/programs/verdict.ts';
import { createAffinity } from '../../engine/src/tables/affinity.ts';
import { createConntrack } from '../../engine/src/tables/conntrack.ts';
import { createEventRing, type EventRing } from '../../engine/src/tables/event-ring.ts';
import { formatEndpoint } from '../../engine/src/wire/address.ts';
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
import { initChunk } from '../../engine/src/wire/sctp-chunk.ts';
import { TCP_SYN } from '../../engine/src/wire/tcp.ts';

export const SYN = TCP_SYN;

export interface World {
  readonly image: Image;
  readonly dp: Datapath;
  readonly burst: Burst;
  readonly ring: EventRing;
  /** Endpoint number by pod name. */
  readonly pods: ReadonlyMap<string, number>;
}

const NODES = ['node-1', 'node-2', 'node-3'];

const POD_ADDRESSES: Readonly<Record<string, { node: string; ips: [string, string] }>> = {
  client: { node: 'node-1', ips: ['10.244.0.10', 'fd00:10:244::10'] },
  'web-1': { node: 'node-1', ips: ['10.244.0.11', 'fd00:10:244::11'] },
  'web-2': { node: 'node-2', ips: ['10.244.1.12', 'fd00:10:244:1::12'] },
  'web-3': { node: 'node-3', ips: ['10.244.2.13', 'fd00:10:244:2::13'] },
};

export function node(index: number): object {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: `node-${index}`,
      labels: { 'topology.kubernetes.io/zone': index === 3 ? 'zone-b' : 'zone-a' },
    },
    spec: { podCIDRs: [`10.244.${index - 1}.0/24`, `fd00:10:244:${index - 1}::/64`] },
    status: {
      addresses: [
        { type: 'InternalIP', address: `192.168.0.${index}` },
        { type: 'InternalIP', address: `2001:db8::${index}` },
      ],
    },
  };
}

function pod(name: string): object {
  const { node: nodeName, ips } = POD_ADDRESSES[name]!;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels: { app: name.split('-')[0], name } },
    spec: {
      nodeName,
      containers: [{ name: 'main', ports: [{ name: 'http', containerPort: name === 'web-3' ? 9090 : 8080 }] }],
    },
    status: { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
  };
}

export interface PortParts {
  readonly name?: string;
  readonly port: number;
  readonly nodePort?: number;
  readonly protocol?: string;
}

/** A dual-stack Service with given ClusterIPs 10.96.0.N and fd00:10:96::N. */
export function service(name: string, index: number, ports: readonly PortParts[], spec: object = {}): object {
  const { status, ...rest } = spec as { status?: object };
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: {
      type: 'NodePort',
      clusterIP: `10.96.0.${index}`,
      clusterIPs: [`10.96.0.${index}`, `fd00:10:96::${index}`],
      ipFamilies: ['IPv4', 'IPv6'],
      ipFamilyPolicy: 'RequireDualStack',
      ports,
      ...rest,
    },
    ...(status === undefined ? {} : { status }),
  };
}

export interface BackendParts {
  readonly pod: string;
  readonly conditions?: object;
  readonly hints?: object;
}

/** Slices of a Service over pods, one a family. */
export function slices(
  name: string,
  ports: readonly PortParts[],
  backends: readonly (string | BackendParts)[],
): object[] {
  return (['IPv4', 'IPv6'] as const).map((addressType, family) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${addressType.toLowerCase()}`,
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': name },
    },
    addressType,
    ports: ports.map(({ name: portName = '', port, protocol = 'TCP' }) => ({ name: portName, port, protocol })),
    endpoints: backends.map((entry) => {
      const {
        pod: podName,
        conditions,
        hints,
      } = typeof entry === 'string' ? { pod: entry, conditions: {}, hints: undefined } : entry;
      const { node: nodeName, ips } = POD_ADDRESSES[podName]!;
      return {
        addresses: [ips[family]],
        nodeName,
        conditions: conditions ?? {},
        ...(hints === undefined ? {} : { hints }),
      };
    }),
  }));
}

export interface WorldOptions {
  readonly datapath?: DatapathInput;
  /** Flows that each conntrack holds. */
  readonly flows?: number;
  readonly nodes?: readonly string[];
}

export function makeWorld(objects: readonly object[], options: WorldOptions = {}): World {
  const given = [...NODES.map((_, i) => node(i + 1)), ...Object.keys(POD_ADDRESSES).map(pod), ...objects];
  const { cluster } = loadCluster([], { objects: given });
  const model = modelCluster(cluster, resolveDatapath(options.datapath));
  const image = compileImage(model, 'ebpf', options.nodes ?? NODES);
  const ring = createEventRing(4096);
  const flows = options.flows ?? 1024;
  const dp: Datapath = {
    mode: MODE_EBPF,
    topology: model.topology.tables,
    compiledNodes: image.compiledNodes,
    iptables: null,
    nftables: null,
    ipvs: null,
    ebpf: image.ebpf,
    conntrack4: createConntrack(4, flows, 1, 0),
    conntrack6: createConntrack(6, flows, 1, 0),
    affinity: createAffinity(1024, 1, 1024, 0, 0),
    ports: createMasqueradePorts(1),
    ipvsState: null,
    counters: new Float64Array(COUNTERS),
    ring,
    active: createActive(),
    answers: createBurst(4),
    answerCount: 0,
  };
  const pods = new Map(model.topology.endpoints.map((endpoint, i) => [endpoint.pod.metadata.name, i]));
  return { image, dp, burst: createBurst(4), ring, pods };
}

export interface Packet {
  /** A pod's name, `host`, `unlisted` (a pod that nobody knows) or `outside`. */
  readonly from: string;
  /** Node where it enters, from 0; a listed pod's own. */
  readonly node?: number;
  readonly src: string;
  readonly sport?: number;
  readonly dst: string;
  readonly dport?: number;
  readonly protocol?: 'tcp' | 'udp' | 'sctp';
  /** TCP flags; SYN unless named. */
  readonly flags?: number;
  /** Other transport fields, in place of the ones above. */
  readonly l4?: L4Fields;
  readonly payload?: Uint8Array;
  readonly ip?: object;
  readonly timeMs?: number;
  readonly flowHash?: number;
  /** 0: choice points read the ring's script. */
  readonly choice?: number;
}

export interface Outcome {
  readonly verdict: string;
  readonly reason: string;
  /** Where the frame ended. */
  readonly node: number;
  /** Pod that it was delivered to, null for none. */
  readonly pod: string | null;
  readonly nat: number;
  readonly src: string;
  readonly dst: string;
  readonly family: Family;
  readonly srcWords: Words;
  readonly dstWords: Words;
  readonly sport: number;
  readonly dport: number;
  /** The frame as it ended. */
  readonly bytes: Uint8Array;
  /** What `verifyFrame` says of it: 0 for right. */
  readonly wrong: number;
}

/** Sends a frame through the cluster; every counted frame must be conserved. */
export function send(world: World, packet: Packet): Outcome {
  setLanes(world, packet);
  putFrame(world.burst, frameOf(packet));
  return run(world);
}

/** Connects first, as a socket does, and sends the first frame to where the connection goes. */
export function connectAndSend(world: World, packet: Packet): Outcome {
  const b = world.burst;
  setLanes(world, packet);
  const fields = fieldsOf(packet);
  const protocols = { tcp: 6, udp: 17, sctp: 132 };
  b.family[0] = fields.ip.family;
  b.proto[0] = protocols[packet.protocol ?? 'tcp'];
  setWords(b.src0, b.src1, b.src2, b.src3, fields.ip.src);
  setWords(b.dst0, b.dst1, b.dst2, b.dst3, fields.ip.dst);
  b.sport[0] = packet.sport ?? 40_000;
  b.dport[0] = packet.dport ?? 80;
  b.nat[0] = 0;
  b.target[0] = -1;
  b.len[0] = 0;
  const step = connectSocket(world.dp, b, 0);
  if (step !== 0) {
    b.verdict[0] = step < 0 ? 3 : step;
    if (step < 0) b.reason[0] = -step;
    return outcome(world, 0);
  }
  const nat = b.nat[0]!;
  const src = wordsOf(b.src0, b.src1, b.src2, b.src3);
  const dst = wordsOf(b.dst0, b.dst1, b.dst2, b.dst3);
  const l4 = l4Of({ ...packet, dport: b.dport[0]! });
  putFrame(b, buildFrame({ ip: { ...fields.ip, src, dst }, l4, payload: fields.payload }));
  return run(world, nat);
}

/** The answer of whoever got the frame: addresses and ports exchanged, sent from where it ended. */
export function reply(world: World, to: Outcome, parts: Partial<Packet> = {}): Outcome {
  const from = to.pod ?? (to.verdict === 'forwarded' ? 'outside' : 'host');
  return send(world, {
    from,
    node: to.node,
    src: to.dst,
    sport: to.dport,
    dst: to.src,
    dport: to.sport,
    flags: 0x12,
    ...parts,
  });
}

/** `ip:port`s that a packet may reach, over all choices, in order; each choice begins with a fresh client. */
export function reachable(make: () => World, packet: Packet, isSocket = false): string[] {
  const found = new Set<string>();
  for (let taken = 0; ; taken++) {
    const world = make();
    world.ring.script[0] = taken;
    const result = (isSocket ? connectAndSend : send)(world, { ...packet, choice: 0 });
    if (result.verdict === 'dropped' || result.verdict === 'rejected') return [`${result.verdict} ${result.reason}`];
    found.add(`${result.pod ?? result.verdict} ${result.dport}`);
    if (taken + 1 >= world.ring.options[0]!) return [...found].sort();
  }
}

function setLanes({ pods, image, burst: b }: World, packet: Packet): void {
  const endpoint = pods.get(packet.from) ?? -1;
  const entries: Readonly<Record<string, number>> = { host: ENTRY_HOST, outside: ENTRY_UPLINK };
  b.node[0] = packet.node ?? (endpoint >= 0 ? image.model.topology.endpoints[endpoint]!.node : 0);
  b.entry[0] = entries[packet.from] ?? ENTRY_POD;
  b.endpoint[0] = endpoint;
  b.shard[0] = 0;
  b.timeMs[0] = packet.timeMs ?? 0;
  b.choice[0] = packet.choice ?? -1;
  b.flowHash[0] = packet.flowHash ?? 12_345;
  b.tag[0] = 0;
  b.reason[0] = 0;
}

function run(world: World, connected = 0): Outcome {
  const { dp, burst } = world;
  const before = dp.counters.slice();
  runBurst(dp, burst, 1);
  const counter = countOf(burst.verdict[0]!, burst.reason[0]!);
  if (dp.counters[counter]! - before[counter]! !== 1) throw new Error('a frame was not counted once');
  return outcome(world, connected);
}

function outcome({ burst: b, pods }: World, connected: number): Outcome {
  const family = b.family[0] === 6 ? 6 : 4;
  const src = wordsOf(b.src0, b.src1, b.src2, b.src3);
  const dst = wordsOf(b.dst0, b.dst1, b.dst2, b.dst3);
  const off = frameOffset(b, 0);
  const target = b.target[0]!;
  return {
    verdict: VERDICT_NAMES[b.verdict[0]!]!,
    reason: reasonName(b.reason[0]!),
    node: b.node[0]!,
    pod: target < 0 ? null : [...pods].find(([, index]) => index === target)![0],
    nat: b.nat[0]! | connected,
    src: addressText(family, src),
    dst: addressText(family, dst),
    family,
    srcWords: src,
    dstWords: dst,
    sport: b.sport[0]!,
    dport: b.dport[0]!,
    bytes: b.bytes.slice(off, off + b.len[0]!),
    wrong: b.len[0] === 0 ? 0 : verifyFrame(b, 0),
  };
}

function addressText(family: Family, words: Words): string {
  const text = formatEndpoint(family, words[0], words[1], words[2], words[3], 0);
  return text.slice(0, -2).replace(/[[\]]/g, '');
}

function frameOf(packet: Packet): Uint8Array {
  return buildFrame(fieldsOf(packet));
}

function fieldsOf(packet: Packet): FrameFields {
  const src = parseAddress(packet.src)!;
  const dst = parseAddress(packet.dst)!;
  const l4 = packet.l4 ?? l4Of(packet);
  return { ip: { family: src.family, src: src.words, dst: dst.words, ...packet.ip }, l4, payload: packet.payload };
}

function l4Of(packet: Packet): L4Fields {
  const { sport = 40_000, dport = 80, protocol = 'tcp', flags = TCP_SYN } = packet;
  if (protocol === 'tcp') return { protocol, sport, dport, flags };
  if (protocol === 'udp') return { protocol, sport, dport };
  return { protocol, sport, dport, chunks: [initChunk('init', 1, 65_536, 10, 10, 1)] };
}

function putFrame(b: Burst, frame: Uint8Array): void {
  b.bytes.set(frame, frameOffset(b, 0));
  b.len[0] = frame.length;
}

function setWords(l0: Int32Array, l1: Int32Array, l2: Int32Array, l3: Int32Array, words: Words): void {
  l0[0] = words[0];
  l1[0] = words[1];
  l2[0] = words[2];
  l3[0] = words[3];
}

function wordsOf(l0: Int32Array, l1: Int32Array, l2: Int32Array, l3: Int32Array): Words {
  return [l0[0]!, l1[0]!, l2[0]!, l3[0]!];
}
