/**
 * IPVS as data: virtual servers and their real servers, and what stands beside them on a node.
 *
 * One shape for what kube-proxy programs in ipvs mode (`ipvs-kube-proxy.ts`) and for a real node's `ipvsadm-save` with
 * its `ipset save` and `iptables-save`; text and the engine's tables are made from it and nothing else. Virtual servers,
 * sets and chains are shared by identity between nodes where they are equal.
 */

import { SCHEDULER_NAMES } from '@flatpath/engine/tables/ipvs-services';
import type { Address, Family } from '../model/address.ts';
import type { Protocol } from '../model/port.ts';
import type { Ipset } from './ipset.ts';
import type { ChainInfo } from './iptables.ts';
import type { Chain, Source } from './iptables-rules.ts';

/** The kernel's schedulers (ip_vs_*.c). */
export const IPVS_SCHEDULERS = SCHEDULER_NAMES;
export type IpvsScheduler = (typeof IPVS_SCHEDULERS)[number];

/** The scheduler's own flags: bits 0 to 2 are IP_VS_SVC_F_SCHED1 to SCHED3. Of sh and mh: 1 fallback, 2 port. */
export const SCHEDULER_FALLBACK = 1;
export const SCHEDULER_PORT = 2;

/** What a virtual server stands for. */
export type VirtualAddress =
  | { readonly kind: 'address'; readonly protocol: Protocol; readonly address: Address; readonly port: number }
  | { readonly kind: 'fwmark'; readonly family: Family; readonly mark: number };

export type Forwarding = 'masquerade' | 'route' | 'tunnel';

export interface RealServer {
  readonly address: Address;
  readonly port: number;
  /** `ip:port`, IPv6 in brackets; unique within the virtual server and its sort key. */
  readonly text: string;
  /** 0: keeps its connections, gets no new ones. */
  readonly weight: number;
  readonly forwarding: Forwarding;
  readonly sources: readonly Source[];
}

export interface VirtualServer {
  readonly virtual: VirtualAddress;
  readonly scheduler: IpvsScheduler;
  /** SCHEDULER_… bits. */
  readonly schedulerFlags: number;
  /** Seconds that a client stays with its real server, 0 without persistence. */
  readonly persistentSeconds: number;
  /** Length of the prefix of the client's address that persistence goes by: 32 or 128 for the whole address. */
  readonly persistentPrefix: number;
  /** Each packet is a connection of its own (UDP only). */
  readonly onePacket: boolean;
  /** In the order in which they were added, which rr, wrr and the tables of sh, dh and mh go by. */
  readonly realServers: readonly RealServer[];
  /** At least one; the first decided that the virtual server exists. */
  readonly sources: readonly Source[];
}

/** Everything of a node in one family. */
export interface IpvsRuleset {
  readonly family: Family;
  readonly virtualServers: readonly VirtualServer[];
  readonly sets: readonly Ipset[];
  /** Base chains and their own; one without rules may be left out. */
  readonly chains: readonly Chain[];
  /** Base chains whose policy is DROP; kube-proxy leaves it at ACCEPT. */
  readonly dropping?: readonly ChainInfo[];
  /** Addresses of kube-ipvs0: the node takes them for its own. */
  readonly boundAddresses: readonly Address[];
}

/** `ip:port`, or `fwmark N` of a virtual server. */
export function virtualText(virtual: VirtualAddress): string {
  if (virtual.kind === 'fwmark') return `fwmark ${virtual.mark}`;
  const { address, port } = virtual;
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

/** What makes a virtual server the same one: protocol, address and port, or mark and family. */
export function virtualKey(virtual: VirtualAddress): string {
  if (virtual.kind === 'fwmark') return `${virtual.family} ${virtualText(virtual)}`;
  return `${virtual.address.family} ${virtual.protocol} ${virtualText(virtual)}`;
}
