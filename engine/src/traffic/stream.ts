/**
 * Streams: what a run sends, as integers, and its compiled form over shared memory that all workers read.
 *
 * Packet number k of a run has a stream, a flow, a size and a time that are a function of (seed, k) alone. Of a stream
 * with S sources and D destinations, flow f goes from source f mod S to destination (f / S) mod D and is the n-th flow
 * of that pair, n = f / (S × D). A flow has *generations*, one connection after the other; generation g has the port
 *
 *     first + n + (g mod generations) × stride        stride: flows of a pair, rounded up to 256
 *
 * so ports of one pair never meet, and all generations of a flow share a shard (traffic/shard.ts). Where the range is too
 * small for a second generation, the next one takes the same port again, as a client does that runs out of ports.
 *
 * Compiled streams, `STREAM_WORDS` words each, lanes STREAM_…; sources and destinations, `PEER_WORDS` words each:
 *
 *     source       node · entry · endpoint · 0 · address (4)
 *     destination  port · 0 · 0 · 0 · address (4)
 *
 * The flows' own state is in flow.ts, the frames in template.ts; compile.ts makes all of it from a TrafficSpec.
 */
import type { Flows } from './flow.ts';
import type { Templates } from './template.ts';

/** Nobody answers but in the handshakes of the set-up. */
export const RESPOND_NONE = 0;
/** The target acknowledges: TCP data gets an ACK, SCTP data a SACK; UDP and ICMP echo get the same bytes back. */
export const RESPOND_ACK = 1;
/** The target sends TCP data back: the same bytes in a segment of its own. Else as RESPOND_ACK. */
export const RESPOND_ECHO = 2;

export interface SourceSpec {
  /** Node index where its frames enter. */
  readonly node: number;
  /** ENTRY_POD, ENTRY_HOST or ENTRY_UPLINK. */
  readonly entry: number;
  /** Endpoint index of a listed pod, else -1. */
  readonly endpoint: number;
  /** Host-order words; IPv4 is the first, the others 0. */
  readonly address: readonly [number, number, number, number];
}

export interface DestinationSpec {
  readonly address: readonly [number, number, number, number];
  /** 0 for ICMP. */
  readonly port: number;
}

export interface SizeSpec {
  /** Length of the frame, Ethernet header included, in bytes. */
  readonly bytes: number;
  readonly weight: number;
}

export interface StreamSpec {
  readonly family: number;
  /** TCP, UDP, SCTP, ICMP (echo; family 4) or ICMPv6 (echo; family 6). */
  readonly proto: number;
  readonly sources: readonly SourceSpec[];
  readonly destinations: readonly DestinationSpec[];
  /** Source ports (ICMP: identifiers), first and how many. */
  readonly portFirst: number;
  readonly portCount: number;
  readonly flows: number;
  /** 0: all flows alike. Else the exponent of a Zipf distribution; flow 0 is the busiest. */
  readonly skew: number;
  /** Share of packets that begin a flow's next generation, 0 to 1. */
  readonly newFlows: number;
  readonly sizes: readonly SizeSpec[];
  /** Share of the run's packets; virtual packets a second do as well. */
  readonly weight: number;
  /** RESPOND_… */
  readonly respond: number;
}

export interface TrafficSpec {
  /** 32-bit integer. */
  readonly seed: number;
  /** Packets that the streams send, replies not counted; up to 2^39. */
  readonly packets: number;
  /** Virtual packets a second of all streams together: sets the virtual time of a packet number. */
  readonly packetsPerSecond: number;
  readonly streams: readonly StreamSpec[];
}

export const STREAM_WORDS = 16;
export const STREAM_FAMILY = 0;
export const STREAM_PROTO = 1;
export const STREAM_FLOW_FIRST = 2;
export const STREAM_FLOWS = 3;
/** Word offsets of the first source and destination in `peers`. */
export const STREAM_SOURCES_AT = 4;
export const STREAM_SOURCES = 5;
export const STREAM_DESTINATIONS_AT = 6;
export const STREAM_DESTINATIONS = 7;
export const STREAM_PORT_FIRST = 8;
export const STREAM_PORT_STRIDE = 9;
export const STREAM_GENERATIONS = 10;
export const STREAM_RESPOND = 11;
export const STREAM_SIZES = 12;
/** Index of the stream's first template. */
export const STREAM_TEMPLATE = 13;
/** Base of the flows' alias table, -1 when all flows are alike. */
export const STREAM_ALIAS = 14;
/** Base of the sizes' alias table. */
export const STREAM_SIZE_ALIAS = 15;

export const PEER_WORDS = 8;
export const SOURCE_NODE = 0;
export const SOURCE_ENTRY = 1;
export const SOURCE_ENDPOINT = 2;
export const DESTINATION_PORT = 0;
export const PEER_ADDRESS = 4;

/** Compiled traffic: plain numbers and views of shared memory, so it can be sent to a thread as it is. */
export interface Traffic {
  readonly seed: number;
  readonly packets: number;
  readonly packetsPerSecond: number;
  readonly streams: number;
  /** STREAM_WORDS a stream. */
  readonly words: Int32Array;
  readonly peers: Int32Array;
  /** Per stream: a packet's hash below this begins a new generation; 2^32 for every packet. */
  readonly newBelow: Float64Array;
  /** Alias tables: of the streams at 0, then of flows and sizes where a stream says so. */
  readonly limit: Int32Array;
  readonly alias: Int32Array;
  readonly templates: Templates;
  readonly flows: Flows;
}
