/**
 * A datapath: everything that one thread needs to run packets in one mode: the image's tables (read only), the
 * connection state (own shards only), counters and recorder. Programs take it as their first argument; they keep no
 * state of their own.
 */
import type { Affinity } from '../tables/affinity.ts';
import type { Conntrack } from '../tables/conntrack.ts';
import type { EventRing } from '../tables/event-ring.ts';
import type { IpSets } from '../tables/ipset.ts';
import type { Lpm4 } from '../tables/lpm4.ts';
import type { Lpm6 } from '../tables/lpm6.ts';
import type { RuleList } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import type { EbpfImage } from './ebpf-image.ts';
import type { Interfaces } from './interface.ts';
import type { IpvsImage } from './ipvs-image.ts';
import type { IpvsState } from './ipvs-state.ts';
import type { MasqueradePorts } from './masquerade.ts';
import type { NftablesImage } from './nftables-image.ts';

export const MODE_IPTABLES = 0;
export const MODE_NFTABLES = 1;
export const MODE_IPVS = 2;
export const MODE_EBPF = 3;

/** Who lives where: the same for every mode of a cluster. */
export interface Topology {
  readonly nodes: number;
  /** Address -> owner (programs/owner.ts), one table a family. */
  readonly owners4: Lpm4;
  readonly owners6: Lpm6;
  /** Node of each endpoint. */
  readonly endpointNode: Int32Array;
  /** Addresses of each endpoint, for the source check: IPv4 word (0: none) and four IPv6 words (all 0: none). */
  readonly endpointAddress4: Int32Array;
  readonly endpointAddress6: Int32Array;
  /** First address of each node per family: the source of masqueraded and of the node's own packets. 0: none. */
  readonly nodeAddress4: Int32Array;
  readonly nodeAddress6: Int32Array;
  /** Named interfaces and routes, of a node whose rules came from a dump; null where there is no such node. */
  readonly interfaces: Interfaces | null;
}

/** The kernel's settings, part of the image of each mode that runs on netfilter. */
export interface KernelSettings {
  /** net.netfilter.nf_conntrack_max, flows in all zones of this table. */
  readonly conntrackMax: number;
  /** net.netfilter.nf_conntrack_tcp_be_liberal: a segment outside its window is not INVALID for that, but a wrong RST is. */
  readonly tcpBeLiberal: boolean;
  /** net.ipv4.conf.all.route_localnet: kube-proxy sets it to serve nodePorts on 127.0.0.1. */
  readonly routeLocalnet: boolean;
}

/** The image of the iptables mode: one rule list a family. */
export interface IptablesImage extends KernelSettings {
  readonly rules4: RuleList;
  readonly rules6: RuleList;
  /** `recent` lists have ids below it, in either family; see `recentListId` of rule-match.ts. */
  readonly recentLists: number;
  /** ipsets that rules ask; kube-proxy's ask none in this mode. */
  readonly sets: IpSets | null;
}

export interface Datapath {
  readonly mode: number;
  // What an image brings: replaced as a whole between two bursts.
  topology: Topology;
  /** 1 for each node that the image holds a node part of; a frame that meets another ends there, and control compiles it. */
  compiledNodes: Int32Array;
  /** Set in MODE_IPTABLES. */
  iptables: IptablesImage | null;
  /** Set in MODE_NFTABLES. */
  nftables: NftablesImage | null;
  /** Set in MODE_IPVS. */
  ipvs: IpvsImage | null;
  /** Set in MODE_EBPF. */
  ebpf: EbpfImage | null;
  readonly conntrack4: Conntrack;
  readonly conntrack6: Conntrack;
  readonly affinity: Affinity;
  readonly ports: MasqueradePorts;
  /** Set in MODE_IPVS. */
  readonly ipvsState: IpvsState | null;
  readonly counters: Float64Array;
  readonly ring: EventRing;
  /** Frames of the present hop, as slots of the burst, and scratch behind them (flow-lookup.ts). */
  readonly active: Int32Array;
  /** Answers to rejected frames wait here, one a rejected slot, until the caller sends them on their way. */
  readonly answers: Burst;
  answerCount: number;
}

/** The kernel's settings in a mode that runs on netfilter. */
export function kernelOf(dp: Datapath): KernelSettings {
  if (dp.iptables !== null) return dp.iptables;
  return dp.nftables !== null ? dp.nftables : dp.ipvs!;
}
