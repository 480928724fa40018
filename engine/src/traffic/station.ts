/**
 * A station: one worker's end of the traffic. It holds what the generator and the responder write and count; the
 * functions are in generate.ts, respond.ts, connect.ts and settle.ts.
 *
 * Of a run's packets a station sends those whose shard it owns (`owner[shard] === worker`) and answers what becomes of
 * them. Everything in it belongs to one thread.
 *
 * A frame's tag is `flow << 1 | side`, side 0 when the client sent it and 1 when the server, or a node on its behalf, did.
 */
import type { Datapath } from '../programs/datapath.ts';
import { type Burst, createBurst } from '../wire/burst.ts';
import { SHARDS } from './shard.ts';
import type { Traffic } from './stream.ts';
import { viewTemplates } from './template.ts';

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

/** FIN and SHUTDOWN frames, and the ICMP errors that quote them, fit into small slots. */
const CLOSING_SLOT_BYTES = 320;

export interface Station {
  readonly worker: number;
  /** Worker that owns each shard. */
  readonly owner: Uint8Array;
  readonly traffic: Traffic;
  /** The views of `traffic` that every packet reads, one load away. */
  readonly streamWords: Int32Array;
  readonly peers: Int32Array;
  readonly flowWords: Int32Array;
  readonly flowShards: Uint8Array;
  readonly flowStreams: Uint16Array;
  readonly templateIndex: Int32Array;
  /** The image of each template. */
  readonly templateViews: readonly Int32Array[];
  /** Replaced when an image is taken up. */
  dp: Datapath;
  /** The frames of the breath, and those that close the connections which it replaced. */
  readonly burst: Burst;
  readonly closing: Burst;
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
  const owner = new Uint8Array(SHARDS);
  for (let shard = 0; shard < SHARDS; shard++) owner[shard] = shard % workers;
  return {
    worker,
    owner,
    traffic,
    streamWords: traffic.words,
    peers: traffic.peers,
    flowWords: traffic.flows.words,
    flowShards: traffic.flows.shards,
    flowStreams: traffic.flows.streams,
    templateIndex: traffic.templates.index,
    templateViews: viewTemplates(traffic.templates),
    dp,
    burst: createBurst(),
    closing: createBurst(undefined, CLOSING_SLOT_BYTES),
    closingCount: 0,
    settingUp: 0,
    timeMs: 0,
    counts,
    digestLow: 0,
    digestHigh: 0,
    untilVerify: VERIFY_EVERY,
  };
}
