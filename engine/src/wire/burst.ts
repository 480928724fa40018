/**
 * A burst: up to 256 frames that are processed together, and one lane (a typed-array column) per fact about them.
 *
 * Memory of the slab, one slot a frame:
 *
 *     slot s at s * slotBytes
 *     +0       2 bytes of headroom, so that the IP header behind 14 bytes of Ethernet (or 18 with a VLAN tag)
 *              stands on a 4-byte boundary and 32-bit lanes can be read straight from `words`
 *     +2       the frame, `len[s]` bytes
 *
 * `slotBytes` is an odd multiple of 64, so that equal offsets of neighbouring slots fall into different cache sets.
 *
 * Who writes a lane: the source of the frame writes the *entry* lanes, `parseFrame` writes the *header* lanes, the
 * programs write the rest. Addresses are host-order 32-bit words kept in Int32Array; an IPv4 address is word 0 and
 * the words 1 to 3 are 0. All lanes live as long as the burst; nothing here is allocated per packet.
 */

export const BURST_FRAMES = 256;
export const FRAME_HEADROOM = 2;
/** Largest frame that a default slot takes, in bytes: a jumbo frame never comes out of the stream generator. */
export const DEFAULT_SLOT_BYTES = 2048 + 64;
/** Slot for captures: the largest IP packet (65,535) with Ethernet and a VLAN tag. */
export const CAPTURE_SLOT_BYTES = 65_536 + 3 * 64;

/** Where a frame enters its node (lane `entry`). */
export const ENTRY_POD = 1;
export const ENTRY_HOST = 2;
export const ENTRY_UPLINK = 3;
/** The node itself answers a frame that it rejects: a local packet that belongs to that frame's connection. */
export const ENTRY_ANSWER = 4;

/** Fragment state (lane `frag`). */
export const FRAG_NONE = 0;
export const FRAG_FIRST = 1;
export const FRAG_LATER = 2;

export interface Burst {
  readonly slots: number;
  readonly slotBytes: number;
  /** The slab through three eyes; all start at byte 0 of the same buffer. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly words: Int32Array;

  // Entry lanes: set by whoever puts the frame into its slot, before `parseFrame`.
  /** Frame length in bytes, from the Ethernet header on. */
  readonly len: Int32Array;
  /** Index of the node where the frame is now. */
  readonly node: Int32Array;
  /** ENTRY_POD, ENTRY_HOST, ENTRY_UPLINK or ENTRY_ANSWER. */
  readonly entry: Int32Array;
  /** Endpoint index of the sending pod for ENTRY_POD, -1 for an unlisted pod; else -1. */
  readonly endpoint: Int32Array;
  /** The flow's shard, 0 … shards-1; see docs/sharding.md. */
  readonly shard: Int32Array;
  /** Virtual time of the frame in milliseconds since the start of the run. */
  readonly timeMs: Int32Array;
  /** -1: choice points ask the flow's hash. Otherwise they read the recorder's script (trace and test). */
  readonly choice: Int32Array;
  /** Hash of (seed, flow) that every random choice of this frame is drawn from. */
  readonly flowHash: Int32Array;
  /**
   * 1 for a frame from outside the emulator, whose transport checksum nobody has verified yet, as behind a network card
   * that does not; 0 for a frame whose sender is known to have made it right.
   */
  readonly unverified: Int32Array;
  /** Free for the source of the frame (stream and flow number); programs carry it, never read it. */
  readonly tag: Int32Array;

  // Header lanes: written by `parseFrame`.
  /** Byte offset in the slab of the IP header. */
  readonly l3: Int32Array;
  /** Byte offset in the slab of the L4 header; of the fragment's data for FRAG_LATER. */
  readonly l4: Int32Array;
  /** Byte offset in the slab just behind the IP packet (Ethernet padding excluded). */
  readonly end: Int32Array;
  /** 4 or 6. */
  readonly family: Int32Array;
  /** L4 protocol number (IPv6: of the last extension header's next header). */
  readonly proto: Int32Array;
  readonly frag: Int32Array;
  readonly src0: Int32Array;
  readonly src1: Int32Array;
  readonly src2: Int32Array;
  readonly src3: Int32Array;
  readonly dst0: Int32Array;
  readonly dst1: Int32Array;
  readonly dst2: Int32Array;
  readonly dst3: Int32Array;
  /** Ports in host order. ICMP echo and its kin: the identifier in both; other ICMP and unknown protocols: 0. */
  readonly sport: Int32Array;
  readonly dport: Int32Array;
  /** TCP: the flags byte. ICMP: type << 8 | code. SCTP: type of the first chunk. Else 0. */
  readonly info: Int32Array;

  // Program lanes: reset by the journey when a frame enters a node (mark, ct…) or the cluster (the others).
  readonly mark: Int32Array;
  /** Hash of the tuple for its node's conntrack, made for all frames of a hop before they are run. */
  readonly hash: Int32Array;
  /** Conntrack slot found or made on this node, -1 for none. */
  readonly ct: Int32Array;
  /** State of the packet for its conntrack, CT_* of the program. */
  readonly ctState: Int32Array;
  /** Final verdict (VERDICT_*) and reason (number of the registry; 0 where there is none). */
  readonly verdict: Int32Array;
  readonly reason: Int32Array;
  /** Endpoint index that the frame was delivered to, -1 for none. */
  readonly target: Int32Array;
  /** NAT_* flags of everything that rewrote the frame on its way. */
  readonly nat: Int32Array;
}

/**
 * Makes a burst of `slots` frames.
 * @param slots 1 … 256
 * @param slotBytes an odd multiple of 64; the longest frame is `slotBytes - 2`
 */
export function createBurst(slots = BURST_FRAMES, slotBytes = DEFAULT_SLOT_BYTES): Burst {
  if (slots < 1 || slots > BURST_FRAMES) throw new RangeError(`a burst has 1 to ${BURST_FRAMES} slots, not ${slots}`);
  if (slotBytes % 128 !== 64) throw new RangeError(`slotBytes must be an odd multiple of 64, not ${slotBytes}`);
  const buffer = new ArrayBuffer(slots * slotBytes);
  const lane = () => new Int32Array(slots);
  return {
    slots,
    slotBytes,
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
    len: lane(),
    node: lane(),
    entry: lane(),
    endpoint: lane(),
    shard: lane(),
    timeMs: lane(),
    choice: lane(),
    flowHash: lane(),
    unverified: lane(),
    tag: lane(),
    l3: lane(),
    l4: lane(),
    end: lane(),
    family: lane(),
    proto: lane(),
    frag: lane(),
    src0: lane(),
    src1: lane(),
    src2: lane(),
    src3: lane(),
    dst0: lane(),
    dst1: lane(),
    dst2: lane(),
    dst3: lane(),
    sport: lane(),
    dport: lane(),
    info: lane(),
    mark: lane(),
    hash: lane(),
    ct: lane(),
    ctState: lane(),
    verdict: lane(),
    reason: lane(),
    target: lane(),
    nat: lane(),
  };
}

/** Byte offset in the slab at which the frame of a slot starts. */
export function frameOffset(burst: Burst, slot: number): number {
  return slot * burst.slotBytes + FRAME_HEADROOM;
}
