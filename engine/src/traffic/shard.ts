/**
 * Shards: which part of the connection state a frame belongs to. docs/sharding.md holds the argument.
 *
 * A shard is computed once, from the 5-tuple with which a flow enters the cluster (before any translation), and then
 * carried in the lane `shard` by everything that the flow causes. The source port is added last and unmixed: a client
 * that takes a source port 256 higher stays in its shard, so a stream's flow has one writer for the whole run.
 * `findShard` is for frames that come without a lane; only a thread that owns all shards may ask it.
 */
import { flowPorts } from '../programs/flow-key.ts';
import { type Conntrack, ctFind4, ctFind6 } from '../tables/conntrack.ts';
import { hashTuple4, hashTuple6 } from '../tables/hash.ts';
import type { Burst } from '../wire/burst.ts';
import { isIcmp4Error, PROTO_ICMP } from '../wire/icmp4.ts';
import { isIcmp6Error, PROTO_ICMPV6 } from '../wire/icmp6.ts';
import {
  innerTuple,
  TUPLE_DPORT,
  TUPLE_DST,
  TUPLE_FAMILY,
  TUPLE_PROTO,
  TUPLE_SPORT,
  TUPLE_SRC,
  TUPLE_WORDS,
} from '../wire/quote.ts';

export const SHARDS = 256;

/** The part of a datapath that knows flows. */
export interface Tracked {
  readonly conntrack4: Conntrack;
  readonly conntrack6: Conntrack;
}

/** The shard must not depend on a run's seed: a capture replayed with another seed meets the same entries. */
const SHARD_SEED = 0x5f1a7;

/** Shard of an IPv4 flow by the tuple it enters with; ports in host order, ICMP: the identifier as `sport`, 0 as `dport`. */
export function shardOfTuple4(src: number, dst: number, sport: number, dport: number, proto: number): number {
  return (hashTuple4(SHARD_SEED, src, dst, dport, proto) + sport) & (SHARDS - 1);
}

/** IPv6 of `shardOfTuple4`. */
export function shardOfTuple6(
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  sport: number,
  dport: number,
  proto: number,
): number {
  return (hashTuple6(SHARD_SEED, s0, s1, s2, s3, d0, d1, d2, d3, dport, proto) + sport) & (SHARDS - 1);
}

/** The shard that the tuple in a parsed frame's lanes has if the frame begins a flow, 0 … SHARDS - 1. */
export function shardOfFrame(b: Burst, s: number): number {
  const proto = b.proto[s];
  const dport = proto === PROTO_ICMP || proto === PROTO_ICMPV6 ? 0 : b.dport[s];
  if (b.family[s] === 4) return shardOfTuple4(b.src0[s], b.dst0[s], b.sport[s], dport, proto);
  return shardOfTuple6(
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    b.sport[s],
    dport,
    proto,
  );
}

/**
 * Shard of a frame that has no lane: replayed, injected, or an ICMP error from outside. The frame must be parsed, and
 * `node` and `timeMs` set.
 *
 * 1. The partition that tracks the frame's tuple in the zone of its node: a packet or a reply of a known flow.
 * 2. For an ICMP error: the partition that tracks the packet it quotes, in either direction.
 * 3. The hash of the frame's own tuple: it begins a flow.
 *
 * Asks up to every partition; not for the packet path of a worker, which may not read foreign shards.
 * @returns 0 … shards of the datapath's conntrack - 1
 */
export function findShard(dp: Tracked, b: Burst, s: number): number {
  const ct = b.family[s] === 4 ? dp.conntrack4 : dp.conntrack6;
  if (ct.shards === 1) return 0;
  const ports = flowPorts(b, s);
  const own = trackedShard(
    dp,
    b.family[s],
    b.node[s],
    b.proto[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    ports,
    b.timeMs[s],
  );
  if (own >= 0) return own;
  const type = b.info[s] >>> 8;
  const isError =
    b.family[s] === 4
      ? b.proto[s] === PROTO_ICMP && isIcmp4Error(type)
      : b.proto[s] === PROTO_ICMPV6 && isIcmp6Error(type);
  const quoted = isError ? quotedShard(dp, b, s) : -1;
  return quoted >= 0 ? quoted : shardOfFrame(b, s) & (ct.shards - 1);
}

/** The partition that tracks the packet quoted by an ICMP error, -1 for none. */
function quotedShard(dp: Tracked, b: Burst, s: number): number {
  const q = new Int32Array(TUPLE_WORDS);
  if (innerTuple(b, s, q) < 0) return -1;
  const family = q[TUPLE_FAMILY];
  const src = TUPLE_SRC;
  const dst = TUPLE_DST;
  const forth = (q[TUPLE_SPORT] << 16) | q[TUPLE_DPORT];
  const back = (q[TUPLE_DPORT] << 16) | q[TUPLE_SPORT];
  const node = b.node[s];
  const proto = q[TUPLE_PROTO];
  const time = b.timeMs[s];
  // The quoted packet left this node after translation, so its reverse is the key of the flow's reply direction.
  const reply = trackedShard(
    dp,
    family,
    node,
    proto,
    q[dst],
    q[dst + 1],
    q[dst + 2],
    q[dst + 3],
    q[src],
    q[src + 1],
    q[src + 2],
    q[src + 3],
    back,
    time,
  );
  if (reply >= 0) return reply;
  return trackedShard(
    dp,
    family,
    node,
    proto,
    q[src],
    q[src + 1],
    q[src + 2],
    q[src + 3],
    q[dst],
    q[dst + 1],
    q[dst + 2],
    q[dst + 3],
    forth,
    time,
  );
}

/** The first partition that holds a living direction with this key, -1 for none. */
function trackedShard(
  dp: Tracked,
  family: number,
  zone: number,
  proto: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  ports: number,
  nowMs: number,
): number {
  const ct = family === 4 ? dp.conntrack4 : dp.conntrack6;
  for (let shard = 0; shard < ct.shards; shard++) {
    const slot =
      family === 4
        ? ctFind4(ct, shard, zone, proto, s0, d0, ports, nowMs)
        : ctFind6(ct, shard, zone, proto, s0, s1, s2, s3, d0, d1, d2, d3, ports, nowMs);
    if (slot >= 0) return shard;
  }
  return -1;
}
