/**
 * From a scenario's words to the engine's integers: references become sources and destinations, rates become weights.
 */

import { RESPOND_ACK, RESPOND_NONE, type StreamSpec, type TrafficSpec } from '@flatpath/engine/traffic/stream';
import type { ClusterModel } from '../compile/image.ts';
import { resolveConnection } from '../probe/connection.ts';
import { protocolNumber } from '../probe/first-packet.ts';
import { UnresolvedReference } from '../probe/reference.ts';
import { durationSeconds, type ScenarioSpec, type StreamDocument } from './scenario.ts';

/** Linux' ephemeral ports, net.ipv4.ip_local_port_range. */
const PORT_FIRST = 32_768;
const PORT_COUNT = 28_232;
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
  const froms = typeof stream.from === 'string' ? [stream.from] : stream.from;
  const tos = typeof stream.to === 'string' ? [stream.to] : stream.to;
  const name = stream.name ?? `stream ${index + 1}`;
  const connections = froms.flatMap((from) =>
    tos.map((to) => {
      try {
        return resolveConnection(model, { from, to, protocol: stream.protocol, node: stream.node });
      } catch (error) {
        if (error instanceof UnresolvedReference)
          throw new UnresolvedReference(`spec.streams[${index}] (${name}): ${error.message}`);
        throw error;
      }
    }),
  );
  const { family, protocol } = connections[0]!;
  if (connections.some((other) => other.family !== family || other.protocol !== protocol)) {
    throw new UnresolvedReference(
      `spec.streams[${index}] (${name}): its references mix address families or protocols; make it two streams`,
    );
  }
  const sources = unique(connections.flatMap((connection) => connection.sources));
  const targets = unique(connections.flatMap((connection) => connection.targets));
  const bytes = stream.packetBytes ?? DEFAULT_BYTES;
  return {
    family,
    proto: protocolNumber(protocol, family),
    sources: sources.map(({ node, entry, endpoint, address }) => ({ node, entry, endpoint, address: address.words })),
    destinations: targets.map(({ address, port }) => ({ address: address.words, port })),
    portFirst: PORT_FIRST,
    portCount: PORT_COUNT,
    flows: stream.flows ?? DEFAULT_FLOWS,
    skew: stream.distribution === 'zipf' ? (stream.skew ?? DEFAULT_SKEW) : 0,
    newFlows: stream.newFlows ?? 0,
    sizes: typeof bytes === 'number' ? [{ bytes, weight: 1 }] : bytes,
    weight: rate,
    respond: (stream.respond ?? true) ? RESPOND_ACK : RESPOND_NONE,
  };
}

function unique<T extends object>(items: readonly T[]): T[] {
  const seen = new Map<string, T>();
  for (const item of items) {
    const key = JSON.stringify(item);
    if (!seen.has(key)) seen.set(key, item);
  }
  return [...seen.values()];
}
