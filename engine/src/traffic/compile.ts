/**
 * Compiles streams into the shared memory that workers run from (see stream.ts for its pictures). Cold.
 *
 * Refuses what no client could send: more flows of one pair than it has source ports, a frame shorter than its headers or
 * longer than a slot, a protocol that the family does not carry. Nothing here knows where the integers come from.
 */
import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '../wire/burst.ts';
import { PROTO_ICMP } from '../wire/icmp4.ts';
import { PROTO_ICMPV6 } from '../wire/icmp6.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { createFlows } from './flow.ts';
import { buildAlias, zipfWeights } from './sample.ts';
import {
  PEER_WORDS,
  STREAM_ALIAS,
  STREAM_DESTINATIONS,
  STREAM_DESTINATIONS_AT,
  STREAM_FAMILY,
  STREAM_FLOW_FIRST,
  STREAM_FLOWS,
  STREAM_GENERATIONS,
  STREAM_PORT_FIRST,
  STREAM_PORT_STRIDE,
  STREAM_PROTO,
  STREAM_RESPOND,
  STREAM_SIZE_ALIAS,
  STREAM_SIZES,
  STREAM_SOURCES,
  STREAM_SOURCES_AT,
  STREAM_TEMPLATE,
  STREAM_WORDS,
  type StreamSpec,
  type Traffic,
  type TrafficSpec,
} from './stream.ts';
import { createTemplates } from './template.ts';

const PORTS = 65_536;
const TWO_32 = 4_294_967_296;
/** Flow numbers are carried in a 32-bit tag beside one bit for the direction, and their state is 64 bytes each. */
export const MAX_FLOWS = 1 << 24;
const MAX_STREAMS = 65_535;

function sharedInts(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(length * 4));
}

/**
 * Compiles streams.
 * @throws RangeError naming the stream by its index and what is wrong with it
 */
export function compileTraffic(spec: TrafficSpec): Traffic {
  const streams = spec.streams;
  if (streams.length === 0 || streams.length > MAX_STREAMS)
    throw new RangeError(`${streams.length} streams: 1 to ${MAX_STREAMS} fit a run`);
  if (!(spec.packetsPerSecond > 0)) throw new RangeError('packetsPerSecond must be above 0');
  if (!(spec.packets >= 0 && spec.packets <= 2 ** 39)) throw new RangeError('packets must be 0 to 2^39');
  for (let i = 0; i < streams.length; i++) checkStream(streams[i], i);
  const flowCount = streams.reduce((sum, stream) => sum + stream.flows, 0);
  if (flowCount > MAX_FLOWS) throw new RangeError(`${flowCount} flows: at most ${MAX_FLOWS} fit a run`);

  const words = sharedInts(streams.length * STREAM_WORDS);
  const peerCount = streams.reduce((sum, s) => sum + s.sources.length + s.destinations.length, 0);
  const peers = sharedInts(peerCount * PEER_WORDS);
  const newBelow = new Float64Array(new SharedArrayBuffer(streams.length * 8));
  const aliasCount = streams.reduce((sum, s) => sum + (s.skew > 0 ? s.flows : 0) + s.sizes.length, streams.length);
  const limit = sharedInts(aliasCount);
  const alias = sharedInts(aliasCount);
  buildAlias(
    streams.map((stream) => stream.weight),
    limit,
    alias,
    0,
  );
  let peerAt = 0;
  let aliasAt = streams.length;
  let flowAt = 0;
  let templateAt = 0;
  for (let i = 0; i < streams.length; i++) {
    const stream = streams[i];
    const at = i * STREAM_WORDS;
    const perPair = Math.ceil(stream.flows / (stream.sources.length * stream.destinations.length));
    const stride = Math.ceil(perPair / 256) * 256;
    words[at + STREAM_FAMILY] = stream.family;
    words[at + STREAM_PROTO] = stream.proto;
    words[at + STREAM_FLOW_FIRST] = flowAt;
    words[at + STREAM_FLOWS] = stream.flows;
    words[at + STREAM_SOURCES_AT] = peerAt;
    words[at + STREAM_SOURCES] = stream.sources.length;
    for (const source of stream.sources) {
      peers.set([source.node, source.entry, source.endpoint, 0, ...source.address], peerAt);
      peerAt += PEER_WORDS;
    }
    words[at + STREAM_DESTINATIONS_AT] = peerAt;
    words[at + STREAM_DESTINATIONS] = stream.destinations.length;
    for (const destination of stream.destinations) {
      peers.set([destination.port, 0, 0, 0, ...destination.address], peerAt);
      peerAt += PEER_WORDS;
    }
    words[at + STREAM_PORT_FIRST] = stream.portFirst;
    words[at + STREAM_PORT_STRIDE] = stride;
    words[at + STREAM_GENERATIONS] = Math.max(1, Math.floor(stream.portCount / stride));
    words[at + STREAM_RESPOND] = stream.respond;
    words[at + STREAM_SIZES] = stream.sizes.length;
    words[at + STREAM_TEMPLATE] = templateAt;
    words[at + STREAM_ALIAS] = -1;
    if (stream.skew > 0) {
      buildAlias(zipfWeights(stream.flows, stream.skew), limit, alias, aliasAt);
      words[at + STREAM_ALIAS] = aliasAt;
      aliasAt += stream.flows;
    }
    const weights = stream.sizes.map((size) => size.weight);
    buildAlias(weights, limit, alias, aliasAt);
    words[at + STREAM_SIZE_ALIAS] = aliasAt;
    aliasAt += stream.sizes.length;
    newBelow[i] = stream.newFlows * TWO_32;
    flowAt += stream.flows;
    templateAt += stream.sizes.length + 2;
  }
  return {
    seed: spec.seed | 0,
    packets: Math.floor(spec.packets),
    packetsPerSecond: spec.packetsPerSecond,
    streams: streams.length,
    words,
    peers,
    newBelow,
    limit,
    alias,
    templates: createTemplates(streams),
    flows: createFlows(flowCount, words, peers),
  };
}

function checkStream(stream: StreamSpec, index: number): void {
  const fail = (what: string) => {
    throw new RangeError(`stream ${index}: ${what}`);
  };
  const { family, proto } = stream;
  if (family !== 4 && family !== 6) fail(`family ${family} is not 4 or 6`);
  const icmp = family === 4 ? PROTO_ICMP : PROTO_ICMPV6;
  if (![PROTO_TCP, PROTO_UDP, PROTO_SCTP, icmp].includes(proto))
    fail(`protocol ${proto} is not sent over IPv${family}`);
  if (stream.sources.length === 0) fail('no source');
  if (stream.destinations.length === 0) fail('no destination');
  if (!Number.isInteger(stream.flows) || stream.flows < 1) fail(`${stream.flows} flows`);
  const { portFirst, portCount } = stream;
  if (!(Number.isInteger(portFirst) && Number.isInteger(portCount) && portFirst >= 1 && portCount >= 1)) {
    fail(`source ports from ${portFirst}, ${portCount} of them`);
  }
  if (portFirst + portCount > PORTS) fail(`source ports ${portFirst} to ${portFirst + portCount - 1} end beyond 65535`);
  const perPair = Math.ceil(stream.flows / (stream.sources.length * stream.destinations.length));
  if (perPair > portCount) fail(`${perPair} flows from one source to one destination, but ${portCount} source ports`);
  for (const source of stream.sources) {
    const { entry, endpoint, node } = source;
    if (entry !== ENTRY_POD && entry !== ENTRY_HOST && entry !== ENTRY_UPLINK) fail(`entry ${entry} of a source`);
    if (node < 0 || endpoint < -1) fail(`source on node ${node} with endpoint ${endpoint}`);
  }
  if (!(stream.newFlows >= 0 && stream.newFlows <= 1)) fail(`share of new flows ${stream.newFlows}`);
  if (!(stream.skew >= 0 && stream.skew < Infinity)) fail(`skew ${stream.skew}`);
  if (stream.sizes.length === 0) fail('no packet size');
}
