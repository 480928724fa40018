/**
 * The image of the ebpf mode: the maps that a service proxy in eBPF keeps, one set for all nodes of a cluster.
 *
 *     frontends        address, port, protocol                   -> a row of FE_ words (tables/hash-table.ts)
 *     selections       rows of SEL_WORDS words: a slice of the backends' lists and the Maglev ring over it
 *     node selections  (set, node) or (set, -2 - zone)            -> selection, only where a node's differs
 *     backends         addresses, ports and the slices' lists     (tables/backends.ts)
 *     rings            Maglev rings of all selections             (tables/maglev.ts)
 *     source ranges    rows of RANGE_WORDS words: address and mask
 *     nodePort ranges  prefixes of the node addresses that serve nodePorts; only with EBPF_NODE_PORT_RANGES
 *
 * A *set* is the selection that a frontend names: the one of every node for which node selections say nothing else. A
 * frontend has two, one for frames that come in by the uplink and one for pods and the host. A node finds its selection
 * by (set, node), else by (set, zone), else it is the set itself: 5,000 nodes cost nothing where they are alike, and a
 * Local policy costs a row per node that has a backend.
 *
 * nodePorts are one frontend each with the address of all zeros, found by the addresses that nodes own.
 *
 *     policy           identities and policy maps (programs/ebpf-policy-image.ts); null: no policy selects any pod
 *
 * Written by the compiler only, read by all; a change is a new image. The scratch belongs to the thread.
 */
import { attachBackends, type Backends } from '../tables/backends.ts';
import { attachHashTable, type HashTable } from '../tables/hash-table.ts';
import { attachLpm4, type Lpm4 } from '../tables/lpm4.ts';
import { attachLpm6, type Lpm6 } from '../tables/lpm6.ts';
import { attachMaglev, type Maglev } from '../tables/maglev.ts';
import { attachEbpfPolicy, type EbpfPolicy, type EbpfPolicyParts, ebpfPolicyParts } from './ebpf-policy-image.ts';

// Options of the datapath (`EbpfImage.options`).
/** Pods' sockets are balanced at connect; without it only the host's are, pods' frames at their interface. */
export const EBPF_SOCKET_LB = 1;
/** Replies of remote backends go straight to the client (Direct Server Return); without it SNAT brings them back. */
export const EBPF_DSR = 2;
/** ClusterIPs are served to the outside. */
export const EBPF_EXTERNAL_CLUSTER_IP = 4;
/** SCTP is carried. */
export const EBPF_SCTP = 8;
/** Pod traffic out of the cluster takes the node's address. */
export const EBPF_MASQUERADE = 16;
/** Only node addresses in the nodePort ranges serve nodePorts. */
export const EBPF_NODE_PORT_RANGES = 32;

/** Words of a frontend's key: address words 0 to 3, `frontendPort`. */
export const FRONTEND_KEY_WORDS = 5;
/** Number of the frontend in `CompiledEbpf.frontends`. */
export const FE_ROW = 0;
/** FE_… flags. */
export const FE_FLAGS = 1;
/** Set for frames that come in by the uplink. */
export const FE_EXTERNAL = 2;
/** Set for pods and the host. */
export const FE_INTERNAL = 3;
/** Session affinity in ms, 0 for none. */
export const FE_AFFINITY_MS = 4;
/** Id of the frontend's stamps in the affinity table, 0 to 2^31 - 1; equal in every image of the cluster. */
export const FE_AFFINITY_ID = 5;
/** First row and number of its source ranges. */
export const FE_RANGE = 6;
export const FE_RANGES = 7;
export const FRONTEND_WORDS = 8;

// Kind of a frontend.
export const FE_IS_CLUSTER_IP = 1;
export const FE_IS_NODE_PORT = 2;
export const FE_IS_EXTERNAL_IP = 4;
export const FE_IS_LOAD_BALANCER = 8;
/** Clients from outside must be in one of the source ranges. */
export const FE_HAS_RANGES = 16;
/** Some node of the cluster has a usable backend: without one here the frame is dropped, not rejected. */
export const FE_HAS_BACKENDS = 32;

/** A selection: first entry and number of entries of its list, ring (-1: none) and ring size. */
export const SEL_FIRST = 0;
export const SEL_COUNT = 1;
export const SEL_RING = 2;
export const SEL_RING_SIZE = 3;
/** Set: node selections may name another selection (SEL_BY_… bits). Read from the set's own row. */
export const SEL_DIFFERS = 4;
export const SEL_WORDS = 5;

export const SEL_BY_NODE = 1;
export const SEL_BY_ZONE = 2;

/** A source range: address words 0 to 3, mask words 0 to 3. */
export const RANGE_WORDS = 8;

// Map ids of EVENT_MAP.
/** Row: a frontend. */
export const MAP_FRONTENDS = 1;
/** Row: a backend. */
export const MAP_BACKENDS = 2;
/** Row: a source range. */
export const MAP_SOURCE_RANGES = 3;
/** Row: the backend that the client stays with. */
export const MAP_AFFINITY = 4;
/** Row: position in the ring. */
export const MAP_MAGLEV = 5;
/** Row: a selection. */
export const MAP_SELECTIONS = 6;
/** Row: port that a masqueraded source took; -1 when none was free. */
export const MAP_SNAT = 7;
/** Row: node that was told the frontend which its backend answers for (DSR). */
export const MAP_DSR = 8;
/** Row: an identity, that of the frame's other end. */
export const MAP_IPCACHE = 9;
/** Row: the judgement of one direction of a pod. */
export const MAP_POLICY = 10;

/** Working memory of one thread; nothing in it outlives a frame's pass through a node. */
export interface EbpfScratch {
  /** The frame's tuple as it came: source and destination of four words each, ports word (flow-key.ts). */
  readonly original: Int32Array;
}

export interface EbpfImage {
  /** EBPF_… bits. */
  readonly options: number;
  readonly frontends: HashTable;
  readonly selections: Int32Array;
  readonly nodeSelections: HashTable;
  /** Zone number of each node, -1 without one. */
  readonly nodeZone: Int32Array;
  readonly backends: Backends;
  readonly rings: Maglev;
  readonly sourceRanges: Int32Array;
  readonly nodePortRanges4: Lpm4;
  readonly nodePortRanges6: Lpm6;
  /** Null where no policy selects any pod. */
  readonly policy: EbpfPolicy | null;
  readonly scratch: EbpfScratch;
}

/** What another thread needs to attach an image: numbers and shared buffers only. */
export interface EbpfImageParts {
  readonly options: number;
  readonly frontends: SharedArrayBuffer;
  readonly selections: SharedArrayBuffer;
  readonly nodeSelections: SharedArrayBuffer;
  readonly nodeZone: SharedArrayBuffer;
  readonly backends: SharedArrayBuffer;
  readonly rings: SharedArrayBuffer;
  readonly sourceRanges: SharedArrayBuffer;
  readonly nodePortRanges4: SharedArrayBuffer;
  readonly nodePortRanges6: SharedArrayBuffer;
  readonly policy: EbpfPolicyParts | null;
}

const ORIGINAL_WORDS = 9;

/**
 * Builds an image over its buffers, in the thread that compiled it or in another.
 * @throws TypeError if a buffer does not hold its table
 */
export function attachEbpfImage(parts: EbpfImageParts): EbpfImage {
  return {
    options: parts.options,
    frontends: attachHashTable(parts.frontends),
    selections: new Int32Array(parts.selections),
    nodeSelections: attachHashTable(parts.nodeSelections),
    nodeZone: new Int32Array(parts.nodeZone),
    backends: attachBackends(parts.backends),
    rings: attachMaglev(parts.rings),
    sourceRanges: new Int32Array(parts.sourceRanges),
    nodePortRanges4: attachLpm4(parts.nodePortRanges4),
    nodePortRanges6: attachLpm6(parts.nodePortRanges6),
    policy: parts.policy && attachEbpfPolicy(parts.policy),
    scratch: { original: new Int32Array(ORIGINAL_WORDS) },
  };
}

/** Takes an image apart for `attachEbpfImage`. */
export function ebpfImageParts(image: EbpfImage): EbpfImageParts {
  return {
    options: image.options,
    frontends: image.frontends.buffer,
    selections: sharedBuffer(image.selections),
    nodeSelections: image.nodeSelections.buffer,
    nodeZone: sharedBuffer(image.nodeZone),
    backends: image.backends.buffer,
    rings: image.rings.buffer,
    sourceRanges: sharedBuffer(image.sourceRanges),
    nodePortRanges4: image.nodePortRanges4.buffer,
    nodePortRanges6: image.nodePortRanges6.buffer,
    policy: image.policy && ebpfPolicyParts(image.policy),
  };
}

/** The fifth key word of a frontend. The family keeps an IPv4 address apart from the IPv6 address of the same word 0. */
export function frontendPort(family: number, port: number, proto: number): number {
  return (family << 24) | (port << 8) | proto;
}

/** The second key word of a node selection that holds for a zone. */
export function zoneKey(zone: number): number {
  return -2 - zone;
}

function sharedBuffer(words: Int32Array): SharedArrayBuffer {
  if (!(words.buffer instanceof SharedArrayBuffer)) throw new TypeError('an image lives in SharedArrayBuffers');
  return words.buffer;
}
