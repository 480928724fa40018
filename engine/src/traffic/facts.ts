/**
 * Facts: what a thread reads of the compiled traffic for every packet, as plain objects made once at its start.
 *
 * The shared words of stream.ts and template.ts are for carrying traffic to threads. Reading a word costs its array's
 * length, address and a bounds check; a field of an object costs one load. A packet reads some thirty of these: writing
 * one took 92 ns where it took 158 ns from the words (4,096 flows, one noisy machine, with a few smaller changes).
 */
import type { Topology } from '../programs/datapath.ts';
import { ENTRY_HOST } from '../wire/burst.ts';
import {
  PEER_ADDRESS,
  PEER_WORDS,
  SOURCE_ENDPOINT,
  SOURCE_ENTRY,
  SOURCE_NODE,
  STREAM_ALIAS,
  STREAM_FAMILY,
  STREAM_FLOW_FIRST,
  STREAM_FLOWS,
  STREAM_PROTO,
  STREAM_RESPOND,
  STREAM_SIZE_ALIAS,
  STREAM_SIZES,
  STREAM_TEMPLATE,
  STREAM_WORDS,
  type Traffic,
} from './stream.ts';
import {
  SLOT_L4_OF_IPV4,
  SLOT_L4_OF_IPV6,
  TEMPLATE_AT,
  TEMPLATE_COPY,
  TEMPLATE_IP_SUM,
  TEMPLATE_L4_SUM,
  TEMPLATE_LENGTH,
  TEMPLATE_PAYLOAD,
  TEMPLATE_WORDS,
} from './template.ts';

export interface StreamFacts {
  readonly family: number;
  readonly proto: number;
  readonly firstFlow: number;
  readonly flows: number;
  /** Base of the flows' alias table, -1 when all flows are alike. */
  readonly flowAlias: number;
  readonly sizes: number;
  readonly sizeAlias: number;
  readonly newBelow: number;
  readonly respond: number;
  /** Index of the stream's first template. */
  readonly template: number;
  /** Byte offset in a slot of the transport header. */
  readonly l4: number;
}

export interface FrameFacts {
  /** The image of the template. */
  readonly view: Int32Array;
  readonly words: number;
  readonly length: number;
  readonly ipSum: number;
  readonly l4Sum: number;
  readonly payload: number;
}

/** A source; of a destination only the address means anything. */
export interface PeerFacts {
  readonly node: number;
  readonly entry: number;
  readonly endpoint: number;
  readonly a0: number;
  readonly a1: number;
  readonly a2: number;
  readonly a3: number;
  /**
   * Index of the same process under its node's address: what a loopback source turns into when its socket is balanced to
   * an address elsewhere. Its own index for every other source.
   */
  readonly routed: number;
}

export interface Facts {
  readonly streams: readonly StreamFacts[];
  readonly frames: readonly FrameFacts[];
  /** By index, as FLOW_SOURCE and FLOW_DESTINATION of flow.ts name them. */
  readonly peers: readonly PeerFacts[];
}

export function readFacts(traffic: Traffic, topology: Topology): Facts {
  const { words, peers, templates } = traffic;
  const streams: StreamFacts[] = [];
  for (let i = 0; i < traffic.streams; i++) {
    const at = i * STREAM_WORDS;
    streams.push({
      family: words[at + STREAM_FAMILY],
      proto: words[at + STREAM_PROTO],
      firstFlow: words[at + STREAM_FLOW_FIRST],
      flows: words[at + STREAM_FLOWS],
      flowAlias: words[at + STREAM_ALIAS],
      sizes: words[at + STREAM_SIZES],
      sizeAlias: words[at + STREAM_SIZE_ALIAS],
      newBelow: traffic.newBelow[i],
      respond: words[at + STREAM_RESPOND],
      template: words[at + STREAM_TEMPLATE],
      l4: words[at + STREAM_FAMILY] === 4 ? SLOT_L4_OF_IPV4 : SLOT_L4_OF_IPV6,
    });
  }
  const frames: FrameFacts[] = [];
  for (let row = 0; row < templates.index.length; row += TEMPLATE_WORDS) {
    const at = templates.index[row + TEMPLATE_AT];
    const count = templates.index[row + TEMPLATE_COPY];
    frames.push({
      view: templates.words.subarray(at, at + count),
      words: count,
      length: templates.index[row + TEMPLATE_LENGTH],
      ipSum: templates.index[row + TEMPLATE_IP_SUM],
      l4Sum: templates.index[row + TEMPLATE_L4_SUM],
      payload: templates.index[row + TEMPLATE_PAYLOAD],
    });
  }
  const sides: PeerFacts[] = [];
  for (let at = 0; at < peers.length; at += PEER_WORDS) {
    sides.push({
      node: peers[at + SOURCE_NODE],
      entry: peers[at + SOURCE_ENTRY],
      endpoint: peers[at + SOURCE_ENDPOINT],
      a0: peers[at + PEER_ADDRESS],
      a1: peers[at + PEER_ADDRESS + 1],
      a2: peers[at + PEER_ADDRESS + 2],
      a3: peers[at + PEER_ADDRESS + 3],
      routed: at / PEER_WORDS,
    });
  }
  addRouted(sides, topology);
  return { streams, frames, peers: sides };
}

/** Gives each loopback source its twin; twins come last, so that no index changes. */
function addRouted(sides: PeerFacts[], { nodeAddress4, nodeAddress6 }: Topology): void {
  const own = sides.length;
  for (let i = 0; i < own; i++) {
    const { node, entry, endpoint, a0, a1, a2, a3 } = sides[i];
    const at = node * 4;
    const routed = sides.length;
    if (entry !== ENTRY_HOST) continue;
    if (a0 >>> 24 === 127) sides.push({ node, entry, endpoint, a0: nodeAddress4[node], a1: 0, a2: 0, a3: 0, routed });
    else if ((a0 | a1 | a2) === 0 && a3 === 1) {
      const [b0, b1, b2, b3] = nodeAddress6.subarray(at, at + 4);
      sides.push({ node, entry, endpoint, a0: b0, a1: b1, a2: b2, a3: b3, routed });
    } else continue;
    sides[i] = { node, entry, endpoint, a0, a1, a2, a3, routed };
  }
}
