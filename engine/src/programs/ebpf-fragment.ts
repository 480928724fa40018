/**
 * Fragments in the ebpf mode: nothing is put together. A first fragment leaves its ports under (node, addresses, protocol,
 * datagram number) and goes its way; later ones take them from there (cilium: bpf/lib/ipv4.h and ipv6.h, map
 * cilium_ipv4_frag_datagrams of 8,192 entries, LRU, without a time).
 *
 * So a later fragment that overtakes its first one finds nothing (cilium#25709, #13349), nor does one whose entry newer
 * datagrams have pushed out (cilium#43781): the caller drops it. A number that is used again overwrites the entry.
 */
import {
  getFragmentPorts,
  infoOfEntry,
  portsOfEntry,
  protoOfEntry,
  setFragmentPorts,
} from '../tables/fragment-ports.ts';
import type { Burst } from '../wire/burst.ts';
import { datagramNumber, fragmentKey } from './fragment-key.ts';
import { type FragmentState, fragmentPorts } from './fragment-state.ts';

/** Remembers the ports of a first fragment as its lanes hold them on arrival. */
export function noteFirstFragment(state: FragmentState, b: Burst, s: number): void {
  setFragmentPorts(
    fragmentPorts(state, b.node[s]),
    b.shard[s],
    fragmentKey(b, s),
    datagramNumber(b, s),
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    (b.sport[s] << 16) | b.dport[s],
    b.proto[s],
    b.info[s],
  );
}

/**
 * Gives a later fragment's lanes the ports and the transport protocol of its datagram.
 * @returns 0, or -1 if the first fragment is not known
 */
export function recallFirstFragment(state: FragmentState, b: Burst, s: number): number {
  const f = fragmentPorts(state, b.node[s]);
  const at = getFragmentPorts(
    f,
    b.shard[s],
    fragmentKey(b, s),
    datagramNumber(b, s),
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
  );
  if (at === -1) return -1;
  const ports = portsOfEntry(f, at);
  // Extension headers of IPv6 may stand behind the fragment header, where a later fragment cannot name the protocol.
  b.proto[s] = protoOfEntry(f, at);
  b.sport[s] = ports >>> 16;
  b.dport[s] = ports & 0xffff;
  // An ICMP message's type is part of its flow's key (flow-key.ts).
  b.info[s] = infoOfEntry(f, at);
  return 0;
}
