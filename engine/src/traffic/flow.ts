/**
 * Flows: the state of both ends of every connection that the streams keep, and the shard each belongs to.
 *
 * One flow is one 64-byte line of `words`, written only by the owner of the flow's shard:
 *
 *     +0 … 3   destination of the standing connection, after socket-level balancing
 *     +4       its ports, source port << 16 | destination port
 *     +5 … 8   destination of the connection being opened (TCP and SCTP handshakes)
 *     +9       its ports
 *     +10      SEQ    next sequence number of the client (ICMP: echo sequence; SCTP: TSN)
 *     +11      ACK    next sequence number of the server
 *     +12      index of the source in `peers`
 *     +13      index of the destination in `peers`
 *     +14      STATE  generation of the standing connection << 1 | 1; 0 when there is none
 *     +15      ATTEMPT  generation being opened or last opened
 *
 * A flow number is global: streams have consecutive ranges. `shards` has the shard of each flow, fixed for the run.
 */
import { PROTO_ICMP } from '../wire/icmp4.ts';
import { PROTO_ICMPV6 } from '../wire/icmp6.ts';
import { shardOfTuple4, shardOfTuple6 } from './shard.ts';
import {
  DESTINATION_PORT,
  PEER_ADDRESS,
  PEER_WORDS,
  STREAM_DESTINATIONS,
  STREAM_DESTINATIONS_AT,
  STREAM_FAMILY,
  STREAM_FLOW_FIRST,
  STREAM_FLOWS,
  STREAM_GENERATIONS,
  STREAM_PORT_FIRST,
  STREAM_PORT_STRIDE,
  STREAM_PROTO,
  STREAM_SOURCES,
  STREAM_SOURCES_AT,
  STREAM_WORDS,
} from './stream.ts';

export const FLOW_WORDS = 16;
/** The two connections of a flow: destination address (4 words) and ports. */
export const FLOW_STANDING = 0;
export const FLOW_OPENING = 5;
export const CONNECTION_PORTS = 4;
export const FLOW_SEQ = 10;
export const FLOW_ACK = 11;
export const FLOW_SOURCE = 12;
export const FLOW_DESTINATION = 13;
export const FLOW_STATE = 14;
export const FLOW_ATTEMPT = 15;

export interface Flows {
  readonly count: number;
  /** FLOW_WORDS a flow. */
  readonly words: Int32Array;
  readonly shards: Uint8Array;
  /** Stream of each flow. */
  readonly streams: Uint16Array;
}

/** A large buffer begins 16 bytes behind a page (malloc's head): 48 more put each flow's 64 bytes on a line of its own. */
const LINE_PAD_BYTES = 48;

/** Lays out the flows of compiled streams; no connection stands yet. */
export function createFlows(count: number, streams: Int32Array, peers: Int32Array): Flows {
  const flows: Flows = {
    count,
    words: new Int32Array(new SharedArrayBuffer(count * FLOW_WORDS * 4 + LINE_PAD_BYTES), LINE_PAD_BYTES),
    shards: new Uint8Array(new SharedArrayBuffer(count)),
    streams: new Uint16Array(new SharedArrayBuffer(count * 2)),
  };
  for (let stream = 0; stream * STREAM_WORDS < streams.length; stream++) {
    const first = streams[stream * STREAM_WORDS + STREAM_FLOW_FIRST];
    const last = first + streams[stream * STREAM_WORDS + STREAM_FLOWS];
    for (let f = first; f < last; f++) layFlow(flows, f, stream, streams, peers);
  }
  return flows;
}

function layFlow(flows: Flows, f: number, stream: number, streams: Int32Array, peers: Int32Array): void {
  const at = stream * STREAM_WORDS;
  const own = f - streams[at + STREAM_FLOW_FIRST];
  const sources = streams[at + STREAM_SOURCES];
  const pair = Math.floor(own / sources);
  const source = streams[at + STREAM_SOURCES_AT] + (own % sources) * PEER_WORDS;
  const destination = streams[at + STREAM_DESTINATIONS_AT] + (pair % streams[at + STREAM_DESTINATIONS]) * PEER_WORDS;
  const line = f * FLOW_WORDS;
  flows.words[line + FLOW_SOURCE] = source / PEER_WORDS;
  flows.words[line + FLOW_DESTINATION] = destination / PEER_WORDS;
  flows.streams[f] = stream;
  const ports = flowPorts(flows.words, f, 0, streams, stream, peers);
  const proto = streams[at + STREAM_PROTO];
  const dport = proto === PROTO_ICMP || proto === PROTO_ICMPV6 ? 0 : ports & 0xffff;
  const a = source + PEER_ADDRESS;
  const d = destination + PEER_ADDRESS;
  flows.shards[f] =
    streams[at + STREAM_FAMILY] === 4
      ? shardOfTuple4(peers[a], peers[d], ports >>> 16, dport, proto)
      : shardOfTuple6(
          peers[a],
          peers[a + 1],
          peers[a + 2],
          peers[a + 3],
          peers[d],
          peers[d + 1],
          peers[d + 2],
          peers[d + 3],
          ports >>> 16,
          dport,
          proto,
        );
}

/** Ports of a flow's generation before any translation, source << 16 | destination; ICMP: the identifier twice. */
export function flowPorts(
  words: Int32Array,
  f: number,
  generation: number,
  streams: Int32Array,
  stream: number,
  peers: Int32Array,
): number {
  const at = stream * STREAM_WORDS;
  const own = f - streams[at + STREAM_FLOW_FIRST];
  const n = Math.floor(own / (streams[at + STREAM_SOURCES] * streams[at + STREAM_DESTINATIONS]));
  const turn = generation % streams[at + STREAM_GENERATIONS];
  const sport = streams[at + STREAM_PORT_FIRST] + n + turn * streams[at + STREAM_PORT_STRIDE];
  const proto = streams[at + STREAM_PROTO];
  if (proto === PROTO_ICMP || proto === PROTO_ICMPV6) return (sport << 16) | sport;
  return (sport << 16) | peers[words[f * FLOW_WORDS + FLOW_DESTINATION] * PEER_WORDS + DESTINATION_PORT];
}
