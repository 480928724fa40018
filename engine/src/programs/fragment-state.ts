/**
 * What a thread keeps of fragments. Streams send whole packets, so most threads never see one: the tables are made by the
 * first fragment that comes, the one thing on a packet's path that is.
 */
import { createFragmentPorts, type FragmentPorts } from '../tables/fragment-ports.ts';
import { createFragments, type Fragments } from '../tables/fragments.ts';
import { type Burst, CAPTURE_SLOT_BYTES, createBurst } from '../wire/burst.ts';

/** bpf-fragments-map-max of Cilium: datagrams that a node's map holds, here of both families together. */
const PORT_ENTRIES = 8192;

export interface FragmentState {
  readonly shards: number;
  /** Modes of the kernel: pieces that wait for the rest of their datagram. */
  held: Fragments | null;
  /** Slot 0: the datagram put together; slot 1: one of its pieces. */
  whole: Burst | null;
  /** Where the data of the datagram begins in it: what of the packet was fragmented. */
  dataAt: number;
  /** Mode ebpf: ports of datagrams, one map a node that has seen a fragment. */
  readonly ports: (FragmentPorts | undefined)[];
}

export function createFragmentState(shards: number): FragmentState {
  return { shards, held: null, whole: null, dataAt: 0, ports: [] };
}

export function heldFragments(state: FragmentState): Fragments {
  if (state.held === null) state.held = createFragments(state.shards);
  return state.held;
}

export function wholeDatagram(state: FragmentState): Burst {
  if (state.whole === null) state.whole = createBurst(2, CAPTURE_SLOT_BYTES);
  return state.whole;
}

export function fragmentPorts(state: FragmentState, node: number): FragmentPorts {
  let ports = state.ports[node];
  if (ports === undefined) {
    ports = createFragmentPorts(PORT_ENTRIES, state.shards);
    state.ports[node] = ports;
  }
  return ports;
}
