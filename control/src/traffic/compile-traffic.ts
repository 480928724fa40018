/**
 * From a scenario's words to the engine's integers: references become sources and destinations, rates become weights.
 */

import { RESPOND_ACK, RESPOND_NONE, type StreamSpec, type TrafficSpec } from '@flatpath/engine/traffic/stream';
import type { ClusterModel } from '../compile/image.ts';
import { hasEnded } from '../model/pod.ts';
import { type Connection, resolveConnection } from '../probe/connection.ts';
import { protocolNumber } from '../probe/first-packet.ts';
import { findPods, parseReference, UnresolvedReference } from '../probe/reference.ts';
import { durationSeconds, type ScenarioSpec, type StreamDocument } from './scenario.ts';

/** Linux' ephemeral ports, net.ipv4.ip_local_port_range. */
const EPHEMERAL_FIRST = 32_768;
const EPHEMERAL_COUNT = 28_232;
/** Every port that a client may take without privileges. */
const ALL_PORT_FIRST = 1024;
const ALL_PORT_COUNT = 64_512;
/** Virtual packets a second of a run that goes as fast as it can. */
const FREE_RUNNING_PPS = 1_000_000;
const DEFAULT_FLOWS = 1024;
const DEFAULT_BYTES = 128;
const DEFAULT_SKEW = 1.1;

/** @throws UnresolvedReference that names the stream, where a reference cannot be resolved */
export function compileTraffic(model: ClusterModel, spec: ScenarioSpec): TrafficSpec {
  const rates = streamRates(spec.streams);
  const packetsPerSecond = rates.reduce((sum, rate) => sum + rate, 0);
  const packets = spec.packets ?? Math.max(1, Math.round(durationSeconds(spec.duration!) * packetsPerSecond));
  const streams = spec.streams.map((stream, i) => compileStream(model, stream, i, rates[i]!));
  return { seed: (spec.seed ?? 1) | 0, packets, packetsPerSecond, streams };
}

/** Virtual packets a second of each stream: those without a rate share what is left of FREE_RUNNING_PPS by weight. */
function streamRates(streams: readonly StreamDocument[]): number[] {
  let fixed = 0;
  let weights = 0;
  for (const stream of streams) {
    if (stream.rate !== undefined) fixed += stream.rate;
    else weights += stream.weight ?? 1;
  }
  const shared = Math.max(FREE_RUNNING_PPS - fixed, FREE_RUNNING_PPS / 10);
  return streams.map((stream) => stream.rate ?? (shared * (stream.weight ?? 1)) / weights);
}

function compileStream(model: ClusterModel, stream: StreamDocument, index: number, rate: number): StreamSpec {
  const name = stream.name ?? `stream ${index + 1}`;
  let connections: Connection[];
  try {
    const froms = [stream.from].flat().flatMap((text) => expandWorkload(model, text));
    const tos = [stream.to].flat().flatMap((text) => expandWorkload(model, text));
    const { protocol, node } = stream;
    connections = froms.flatMap((from) => tos.map((to) => resolveConnection(model, { from, to, protocol, node })));
  } catch (error) {
    if (error instanceof UnresolvedReference)
      throw new UnresolvedReference(`spec.streams[${index}]: ${name}: ${error.message}`);
    throw error;
  }
  const { family, protocol } = connections[0]!;
  if (connections.some((other) => other.family !== family || other.protocol !== protocol)) {
    throw new UnresolvedReference(
      `spec.streams[${index}]: ${name}: its references mix address families or protocols; make it two streams`,
    );
  }
  const sources = unique(connections.flatMap((connection) => connection.sources));
  const targets = unique(connections.flatMap((connection) => connection.targets));
  const bytes = stream.packetBytes ?? DEFAULT_BYTES;
  const flows = stream.flows ?? DEFAULT_FLOWS;
  const ports = sourcePorts(Math.ceil(flows / (sources.length * targets.length)));
  if (ports === null) {
    const most = ALL_PORT_COUNT * sources.length * targets.length;
    throw new UnresolvedReference(
      `spec.streams[${index}].flows: ${name}: ${flows} flows are more than ${sources.length} × ${targets.length} sources and targets have ports for (${most}); name more sources, or a workload`,
    );
  }
  return {
    family,
    proto: protocolNumber(protocol, family),
    sources: sources.map(({ node, entry, endpoint, address }) => ({ node, entry, endpoint, address: address.words })),
    destinations: targets.map(({ address, port }) => ({ address: address.words, port })),
    ...ports,
    flows,
    skew: stream.distribution === 'zipf' ? (stream.skew ?? DEFAULT_SKEW) : 0,
    newFlows: stream.newFlows ?? 0,
    sizes: typeof bytes === 'number' ? [{ bytes, weight: 1 }] : bytes,
    weight: rate,
    respond: (stream.respond ?? true) ? RESPOND_ACK : RESPOND_NONE,
  };
}

/** Source ports for so many flows of one pair: the ephemeral ones, more where a client would need them, null beyond. */
function sourcePorts(flows: number): { portFirst: number; portCount: number } | null {
  if (flows <= EPHEMERAL_COUNT) return { portFirst: EPHEMERAL_FIRST, portCount: EPHEMERAL_COUNT };
  return flows <= ALL_PORT_COUNT ? { portFirst: ALL_PORT_FIRST, portCount: ALL_PORT_COUNT } : null;
}

/** In a stream a workload stands for all of its pods, over which the flows are dealt out. */
function expandWorkload(model: ClusterModel, text: string): string[] {
  const reference = parseReference(text);
  if (reference.kind !== 'deploy' && reference.kind !== 'sts' && reference.kind !== 'ds') return [text];
  const pods = findPods(model.cluster, reference).filter((pod) => !hasEnded(pod));
  if (pods.length === 0) return [text];
  const port = reference.port === null ? '' : `:${reference.port}`;
  return pods.map(({ metadata }) => `pod/${metadata.namespace}/${metadata.name}${port}`);
}

function unique<T extends object>(items: readonly T[]): T[] {
  const seen = new Map<string, T>();
  for (const item of items) {
    const key = JSON.stringify(item);
    if (!seen.has(key)) seen.set(key, item);
  }
  return [...seen.values()];
}
