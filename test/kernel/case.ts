/**
 * A case for the judge, as plain JSON: a cluster, the mode that its first node runs, and flows of packets through that
 * node. The same case always sends the same packets; what a failing run saves and what FLATPATH_KERNEL_CASE replays.
 */

import type { Mode } from '../../control/src/model/datapath.ts';
import type { ProfileName } from '../../control/src/policy/profile.ts';
import type { World, WorldFamily } from '../conformance/world.ts';

/** The node under judgement; all others are addresses behind its eth0. */
export const JUDGED_NODE = 'node-1';

export interface KernelCase {
  readonly version: 2;
  readonly mode: Mode;
  readonly world: World;
  /** Policies as the API server has them, and the profile that they are judged by. */
  readonly policies: readonly object[];
  readonly profile: ProfileName;
  /** net.netfilter.nf_conntrack_tcp_be_liberal: conntrack judges no TCP window, and kube-proxy drops no INVALID packet. */
  readonly tcpBeLiberal: boolean;
  readonly flows: readonly Flow[];
}

export type FlowProtocol = 'tcp' | 'udp' | 'sctp' | 'icmp' | 'other';

/** Where packets enter the node: a pod's interface, one of a pod that nobody listed, eth0, wan0, a local process. */
export type Place =
  | { readonly kind: 'pod'; readonly pod: string }
  | { readonly kind: 'stray' | 'peer' | 'outside' | 'host' };

/** How a flow's packets are dressed: with IP options or an extension header, or cut into fragments. */
export type Dress = 'plain' | 'options' | 'fragments' | 'reordered fragments';

export interface Flow {
  /** Unique in the case: the mark that its packets carry. */
  readonly id: number;
  /** What it exercises, for the count of what was covered. */
  readonly features: readonly string[];
  readonly family: WorldFamily;
  readonly protocol: FlowProtocol;
  readonly from: Place;
  readonly source: string;
  readonly destination: string;
  /** Of ICMP the identifier. */
  readonly sport: number;
  /** Of protocol `other` the protocol's number. */
  readonly dport: number;
  /** Of the client's packets, as what follows. */
  readonly ttl: number;
  readonly tos: number;
  /** Flow label of IPv6. */
  readonly label: number;
  readonly dress: Dress;
  /** One a phase; the first comes from the client. */
  readonly steps: readonly Step[];
}

export type TcpForm =
  | 'syn'
  | 'syn-ack'
  | 'ack'
  | 'data'
  | 'fin'
  | 'rst'
  | 'no-flags'
  | 'syn-fin'
  | 'bad-checksum'
  | 'out-of-window';
export type UdpForm = 'datagram' | 'no-checksum' | 'bad-checksum';
export type SctpForm =
  | 'init'
  | 'init-ack'
  | 'cookie-echo'
  | 'cookie-ack'
  | 'data'
  | 'sack'
  | 'heartbeat'
  | 'heartbeat-ack'
  | 'shutdown'
  | 'shutdown-ack'
  | 'shutdown-complete'
  | 'abort'
  | 'bad-checksum';
export type IcmpForm = 'echo' | 'echo-reply' | 'timestamp' | 'bad-checksum';
export type Form = TcpForm | UdpForm | SctpForm | IcmpForm | 'raw';

export type ErrorType = 'port-unreachable' | 'host-unreachable' | 'too-big' | 'time-exceeded' | 'parameter-problem';

/** A packet of the flow, or an ICMP error about the packet that its sender saw last. */
export type Step =
  | { readonly kind: 'packet'; readonly from: 'client' | 'server'; readonly form: Form }
  | { readonly kind: 'error'; readonly from: 'client' | 'server' | 'router'; readonly error: ErrorType };

export function placeName(place: Place): string {
  return place.kind === 'pod' ? `pod ${place.pod}` : place.kind;
}
