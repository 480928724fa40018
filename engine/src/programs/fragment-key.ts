/** What tells the fragments of one datagram from others: beside the addresses, where they are and their number. */
import type { Burst } from '../wire/burst.ts';
import { getIpv4Id } from '../wire/ipv4.ts';
import { FRAGMENT_NUMBER, findFragmentHeader } from '../wire/ipv6.ts';

/** Node, and protocol for IPv4; odd for IPv6, whose later fragments need not know the protocol. */
export function fragmentKey(b: Burst, s: number): number {
  return b.family[s] === 4 ? (b.node[s] << 9) | (b.proto[s] << 1) : (b.node[s] << 9) | 1;
}

/** The number that all fragments of a datagram carry: of the IPv4 header, or of the IPv6 fragment header. */
export function datagramNumber(b: Burst, s: number): number {
  const l3 = b.l3[s];
  if (b.family[s] === 4) return getIpv4Id(b.view, l3);
  return b.view.getInt32(l3 + (findFragmentHeader(b.view, l3) & 0xffff) + FRAGMENT_NUMBER);
}
