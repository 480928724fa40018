/**
 * A run: compiled streams through one mode on worker threads.
 *
 * The image covers the nodes that the streams can reach; connection tables are sized for the flows with headroom, within
 * what the real system of the mode holds.
 */

import {
  COUNT_BYTES,
  COUNT_ENTERED,
  COUNT_EVICTIONS,
  COUNT_HOPS,
  COUNT_LOOKUPS,
  COUNT_NEW_FLOWS,
  COUNT_RULES,
  countOf,
} from '@flatpath/engine/programs/count';
import { VERDICT_NAMES } from '@flatpath/engine/programs/verdict';
import { createEventRing } from '@flatpath/engine/tables/event-ring';
import { compileTraffic as compileStreams } from '@flatpath/engine/traffic/compile';
import { SHARDS } from '@flatpath/engine/traffic/shard';
import { STATION_BROKEN, STATION_PACKETS, STATION_REFUSED, STATION_VERIFIED } from '@flatpath/engine/traffic/station';
import type { TrafficSpec } from '@flatpath/engine/traffic/stream';
import { reasonName } from '@flatpath/engine/wire/reason';
import { type RunHandle, type RunResult, startRun, type Totals } from '@flatpath/engine/worker/pool';
import { takeImage, takeState } from '@flatpath/engine/worker/transfer';
import { attachDatapath, ipvsBefore } from '../compile/attach.ts';
import { type ClusterModel, compileImage, type Image } from '../compile/image.ts';
import { formatWords } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import { serviceNameOf } from '../model/endpoint-slice.ts';
import { UnresolvedReference } from '../probe/reference.ts';

/** A cluster of so many nodes is compiled whole; of a larger one the nodes that the streams can reach. */
const COMPILE_ALL_NODES = 64;
/** Clients that session affinity remembers, as Cilium's map does. */
const STAMPS = 65_536;
/** Each node that a packet crosses has an entry of its own, and new flows come before old ones have timed out. */
const ENTRIES_PER_FLOW = 4;
/** Cilium's TCP connection map (FACTS §1.6). */
const CT_MAP_FLOWS = 524_288;
/** More would take gigabytes: 64 bytes a flow in IPv4, 160 in IPv6, and headroom. */
const MOST_FLOWS = 1 << 22;
const RING_WORDS = 64;

export interface TrafficRun {
  readonly mode: Mode;
  readonly handle: RunHandle;
  /** Compiles another image of the same mode; what it answers publishes it, and resolves when every worker runs it. */
  prepare(model: ClusterModel): () => Promise<void>;
}

/** One verdict and reason of a run's outcome. */
export interface Outcome {
  readonly verdict: string;
  readonly reason: string;
  readonly packets: number;
}

export interface RunReport {
  readonly mode: Mode;
  readonly workers: number;
  readonly seed: number;
  /** Frames that entered, replies and answers included, each a full frame, generated and delivered. */
  readonly packets: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly packetsPerSecond: number;
  readonly nsPerPacket: number;
  readonly newFlows: number;
  readonly newFlowsPerSecond: number;
  /** Frames that the streams sent, without replies. */
  readonly sent: number;
  /** Connections that were refused at the socket, before a packet existed. */
  readonly refused: number;
  readonly outcomes: readonly Outcome[];
  readonly hopsPerPacket: number;
  readonly rulesPerPacket: number;
  readonly lookupsPerPacket: number;
  readonly evictions: number;
  /** Frames checked in full after their journey, and how many were not what they should be. */
  readonly verified: number;
  readonly broken: number;
  readonly lost: { readonly workers: number; readonly frames: number; readonly flows: number };
  readonly virtualSeconds: number;
  readonly digest: string;
}

/** @throws UnresolvedReference naming what the engine refuses of the streams */
export function startTraffic(model: ClusterModel, mode: Mode, spec: TrafficSpec, workers: number): TrafficRun {
  const nodes = reachedNodes(model, spec);
  let image = liberal(compileImage(model, mode, nodes));
  const datapath = attachDatapath(image, tableFlows(image, spec), STAMPS, createEventRing(RING_WORDS), SHARDS);
  let traffic: ReturnType<typeof compileStreams>;
  try {
    traffic = compileStreams(spec);
  } catch (error) {
    if (error instanceof RangeError) throw new UnresolvedReference(nameField(error.message));
    throw error;
  }
  const handle = startRun({ traffic, image: takeImage(datapath), state: takeState(datapath), updates: [] }, workers);
  return {
    mode,
    handle,
    prepare(changed) {
      const next = liberal(compileImage(changed, mode, reachedNodes(changed, spec), ipvsBefore(image, datapath)));
      const parts = partsOf(next);
      return () => {
        image = next;
        return handle.swapImage(parts);
      };
    },
  };
}

/**
 * Streams send whether or not anything is acknowledged, which conntrack would call INVALID as soon as a window is full: in a
 * run it is liberal. The rules stay those of the configuration.
 */
function liberal(image: Image): Image {
  const { iptables, nftables, ipvs } = image;
  return {
    ...image,
    iptables: iptables && { ...iptables, tcpBeLiberal: true },
    nftables: nftables && { ...nftables, tcpBeLiberal: true },
    ipvs: ipvs && { ...ipvs, tcpBeLiberal: true },
  };
}

/** The engine knows a stream by its number; a user knows it by the field of the scenario. */
function nameField(message: string): string {
  const field = message.includes('a frame of') ? '.packetBytes' : '';
  return message.replace(/^stream (\d+): /, `spec.streams[$1]${field}: `);
}

/** Flows that the connection tables hold: with netfilter what its sysctl says, else the map's size. */
function tableFlows(image: Image, spec: TrafficSpec): number {
  const wanted = ENTRIES_PER_FLOW * spec.streams.reduce((sum, stream) => sum + stream.flows, 0);
  const real = (image.iptables ?? image.nftables ?? image.ipvs)?.conntrackMax ?? CT_MAP_FLOWS;
  return Math.min(Math.max(wanted, real), MOST_FLOWS);
}

function partsOf(image: Image): ReturnType<typeof takeImage> {
  return takeImage(attachDatapath(image, 1, 1, createEventRing(RING_WORDS), 1));
}

/** Names of the nodes that a run's packets can meet. */
function reachedNodes(model: ClusterModel, spec: TrafficSpec): string[] {
  const { cluster, topology } = model;
  const names = cluster.nodes.map((node) => node.metadata.name);
  if (names.length <= COMPILE_ALL_NODES) return names;
  const reached = new Set<string>([names[0]!]);
  const addresses = new Set<string>();
  for (const stream of spec.streams) {
    const family = stream.family === 6 ? 6 : 4;
    for (const source of stream.sources) reached.add(names[source.node]!);
    for (const { address } of stream.destinations) addresses.add(formatWords(family, address));
  }
  for (const text of addresses) {
    const endpoint = topology.endpointByAddress.get(text);
    const node = endpoint === undefined ? topology.nodeByAddress.get(text) : topology.endpoints[endpoint]!.node;
    if (node !== undefined) reached.add(names[node]!);
  }
  // A nodePort may belong to any Service, so a node's address stands for all of them.
  const anyService = [...addresses].some((text) => topology.nodeByAddress.has(text));
  const services = new Set<string>();
  for (const service of cluster.services) {
    const { spec: wanted, status } = service;
    const own = [...wanted.clusterIPs, ...wanted.externalIPs, ...status.loadBalancer.ingress.map(({ ip }) => ip)];
    if (anyService || own.some((text) => addresses.has(text))) {
      services.add(`${service.metadata.namespace}/${service.metadata.name}`);
    }
  }
  for (const slice of cluster.endpointSlices) {
    if (!services.has(`${slice.metadata.namespace}/${serviceNameOf(slice)}`)) continue;
    for (const { nodeName } of slice.endpoints) if (nodeName !== undefined) reached.add(nodeName);
  }
  return names.filter((name) => reached.has(name));
}

/** What a finished run says. */
export function reportRun(mode: Mode, workers: number, seed: number, result: RunResult): RunReport {
  const { counters, station } = result.run;
  const packets = counters[COUNT_ENTERED]!;
  const seconds = result.wallMs / 1000;
  const per = (value: number): number => (packets === 0 ? 0 : value / packets);
  const newFlows = counters[COUNT_NEW_FLOWS]!;
  return {
    mode,
    workers,
    seed,
    packets,
    bytes: counters[COUNT_BYTES]!,
    seconds,
    packetsPerSecond: seconds === 0 ? 0 : packets / seconds,
    nsPerPacket: packets === 0 ? 0 : (result.wallMs * 1e6) / packets,
    newFlows,
    newFlowsPerSecond: seconds === 0 ? 0 : newFlows / seconds,
    sent: station[STATION_PACKETS]!,
    refused: station[STATION_REFUSED]!,
    outcomes: outcomesOf(result.run),
    hopsPerPacket: per(counters[COUNT_HOPS]!),
    rulesPerPacket: per(counters[COUNT_RULES]!),
    lookupsPerPacket: per(counters[COUNT_LOOKUPS]!),
    evictions: counters[COUNT_EVICTIONS]!,
    verified: station[STATION_VERIFIED]!,
    broken: station[STATION_BROKEN]!,
    lost: result.lost,
    virtualSeconds: result.virtualMs / 1000,
    digest: result.digest,
  };
}

/** Packets by verdict and reason, largest first within a verdict. */
export function outcomesOf({ counters }: Totals): Outcome[] {
  const outcomes: Outcome[] = [];
  for (let verdict = 1; verdict < VERDICT_NAMES.length; verdict++) {
    const ofVerdict: Outcome[] = [];
    for (let reason = 0; reason < 256; reason++) {
      const packets = counters[countOf(verdict, reason)]!;
      if (packets > 0) ofVerdict.push({ verdict: VERDICT_NAMES[verdict]!, reason: reasonName(reason), packets });
    }
    outcomes.push(...ofVerdict.sort((a, b) => b.packets - a.packets));
  }
  return outcomes;
}
