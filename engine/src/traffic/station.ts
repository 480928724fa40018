/**
 * A station: one worker's end of the traffic. It holds what the generator and the responder write and count; the
 * functions are in generate.ts, respond.ts and settle.ts.
 *
 * Of a run's packets a station sends those whose shard it owns (`owner[shard] === worker`) and answers what becomes of
 * them. Everything in it belongs to one thread.
 *
 * A frame's tag is `flow << 1 | side`, side 0 when the client sent it and 1 when the server, or a node on its behalf, did.
 */
import type { Datapath } from '../programs/datapath.ts';
import { BURST_FRAMES } from '../wire/burst.ts';
import { type FrameFacts, type PeerFacts, readFacts, type StreamFacts } from './facts.ts';
import { SHARDS } from './shard.ts';
import type { Traffic } from './stream.ts';

/** What a station counts beside the datapath (lanes of `counts`). */
/** Packet numbers taken, each a frame or a refused connect. */
export const STATION_PACKETS = 0;
/** Connects that the socket level refused: counted as entered and ended, but there is no frame. */
export const STATION_REFUSED = 1;
/** Handshakes that came to their end. */
export const STATION_OPENED = 2;
/** Replies that reached somebody else than the client that waits, or with a tuple it does not know. 0 in a right cluster. */
export const STATION_STRAY = 3;
/** Frames verified in full after they ended, and those among them that were wrong. */
export const STATION_VERIFIED = 4;
export const STATION_BROKEN = 5;
/** Digest of all ended frames: sums modulo 2^32 of two words each. */
export const STATION_DIGEST_LOW = 6;
export const STATION_DIGEST_HIGH = 7;
/** Breaths that the counts contain: what was published says how far it goes. */
export const STATION_BREATHS = 8;
export const STATION_COUNTS = 9;

export interface Station {
  worker: number;
  /** Worker that owns each shard. */
  readonly owner: Uint8Array;
  readonly traffic: Traffic;
  /** What every packet reads of `traffic`, one load away. */
  readonly streams: readonly StreamFacts[];
  readonly frames: readonly FrameFacts[];
  readonly peers: readonly PeerFacts[];
  readonly flowWords: Int32Array;
  readonly flowShards: Uint8Array;
  readonly flowStreams: Uint16Array;
  /** Scratch of a window: the packets that the station takes and their flows. */
  readonly chosen: Int32Array;
  readonly chosenFlows: Int32Array;
  readonly dp: Datapath;
  /** Frames in the closing burst. */
  closingCount: number;
  /** 1 while flows are being set up: handshakes are answered whatever the stream says. */
  settingUp: number;
  /** Virtual time of what is being sent, in ms. */
  timeMs: number;
  readonly counts: Float64Array;
  /** The digest while it runs, as int32 sums. */
  digestLow: number;
  digestHigh: number;
  /** Frames until the next full verification. */
  untilVerify: number;
}

/** One frame of so many is verified in full after it has ended. */
export const VERIFY_EVERY = 4096;

/** @param counts STATION_COUNTS lanes, zeroed */
export function createStation(
  traffic: Traffic,
  dp: Datapath,
  worker: number,
  workers: number,
  counts: Float64Array,
): Station {
  const facts = readFacts(traffic, dp.topology);
  const owner = new Uint8Array(SHARDS);
  for (let shard = 0; shard < SHARDS; shard++) owner[shard] = shard % workers;
  return {
    worker,
    owner,
    traffic,
    streams: facts.streams,
    frames: facts.frames,
    peers: facts.peers,
    flowWords: traffic.flows.words,
    flowShards: traffic.flows.shards,
    flowStreams: traffic.flows.streams,
    chosen: new Int32Array(BURST_FRAMES),
    chosenFlows: new Int32Array(BURST_FRAMES),
    dp,
    closingCount: 0,
    settingUp: 0,
    timeMs: 0,
    counts,
    digestLow: 0,
    digestHigh: 0,
    untilVerify: VERIFY_EVERY,
  };
}
