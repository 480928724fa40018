/**
 * The image of the ipvs mode: virtual servers, the ipsets and the few iptables rules beside them, and what the node takes
 * for its own addresses.
 *
 *     services        virtual servers, real servers, schedulers' tables   (tables/ipvs-services.ts)
 *     sets            ipsets of all nodes                                 (tables/ipset.ts)
 *     rules4, rules6  chains that ask the sets                            (tables/rule-list.ts, MATCH_SET)
 *
 * The addresses of kube-ipvs0 are two sets of the same table (`localSet4`, `localSet6`): they are local to a node, so that
 * packets to them go to INPUT, where IPVS waits.
 * Written by the compiler only, read by all; a change is a new image. The scratch belongs to the thread.
 */
import { attachIpSets, type IpSets } from '../tables/ipset.ts';
import {
  attachIpvsServices,
  type IpvsServices,
  type IpvsServicesParts,
  ipvsServicesParts,
} from '../tables/ipvs-services.ts';
import type { RuleList } from '../tables/rule-list.ts';
import type { KernelSettings } from './datapath.ts';

// Options (`IpvsImage.options`), sysctls of net.ipv4.vs. net.ipv4.vs.conntrack is always on, as kube-proxy sets it.
/** conn_reuse_mode is not 0: a new SYN on a connection that is closing is scheduled anew. kube-proxy sets 0 before Linux 5.9. */
export const IPVS_REUSE = 1;
/** expire_nodest_conn: a connection whose real server is gone ends with its next packet. kube-proxy sets it. */
export const IPVS_EXPIRE_NODEST = 2;
/** expire_quiescent_template: a client leaves a real server of weight 0 at once. kube-proxy sets it. */
export const IPVS_EXPIRE_QUIESCENT = 4;
/** sloppy_tcp: a TCP segment other than SYN may begin a connection. Off by default. */
export const IPVS_SLOPPY_TCP = 8;
/** What kube-proxy sets on a kernel from 5.9 on. */
export const IPVS_KUBE_PROXY_OPTIONS = IPVS_REUSE | IPVS_EXPIRE_NODEST | IPVS_EXPIRE_QUIESCENT;

/** Timeouts of `ipvsadm --set` in ms: the kernel's defaults, which kube-proxy leaves unless told. */
export const IPVS_TCP_TIMEOUT_MS = 900_000;
export const IPVS_TCP_FIN_TIMEOUT_MS = 120_000;
export const IPVS_UDP_TIMEOUT_MS = 300_000;

// Map ids of EVENT_MAP.
/** Row: a virtual server; -1: none for this destination. */
export const MAP_VIRTUAL_SERVERS = 1;
/** Row: the real server that the frame goes to or comes from; -1: none can take it. */
export const MAP_REAL_SERVERS = 2;
/** Row: the real server that the client stays with (persistence); -1: none. */
export const MAP_PERSISTENCE = 3;
/** Row: the real server of the frame's known connection; -1: there is a connection, its real server is gone. */
export const MAP_CONNECTIONS = 4;
/** An ipset was asked: MAP_SETS + set id. Row: element id; -1: not in the set (an element with nomatch included). */
export const MAP_SETS = 16;

// Words of the scratch.
/** 1 when IPVS has changed the frame's destination, or its source, in this pass. */
export const PASS_REQUEST = 0;
export const PASS_ANSWER = 1;
/** Where a weighted round robin left off: position and weight. */
export const WRR_POSITION = 2;
export const WRR_WEIGHT = 3;
const SCRATCH_WORDS = 4;

/** Working memory of one thread; nothing in it outlives a frame's pass through a node. */
export interface IpvsScratch {
  readonly words: Int32Array;
}

export interface IpvsImage extends KernelSettings {
  readonly services: IpvsServices;
  readonly sets: IpSets;
  readonly rules4: RuleList;
  readonly rules6: RuleList;
  /** Set ids of the addresses of kube-ipvs0 (type SET_ADDRESS), -1 for none. */
  readonly localSet4: number;
  readonly localSet6: number;
  /** IPVS_… bits. */
  readonly options: number;
  readonly tcpTimeoutMs: number;
  readonly tcpFinTimeoutMs: number;
  readonly udpTimeoutMs: number;
  /** As in IptablesImage. */
  readonly recentLists: number;
  readonly scratch: IpvsScratch;
}

/** What another thread needs to attach an image; rule lists are taken apart by the caller. */
export interface IpvsImageParts extends Omit<IpvsImage, 'services' | 'sets' | 'rules4' | 'rules6' | 'scratch'> {
  readonly services: IpvsServicesParts;
  readonly sets: SharedArrayBuffer;
}

/** What the compiler gives; `makeIpvsImage` adds what belongs to the thread. */
export type IpvsImageSource = Omit<IpvsImage, 'scratch'>;

/** An image in the thread that compiled it. */
export function makeIpvsImage(source: IpvsImageSource): IpvsImage {
  return { ...source, scratch: { words: new Int32Array(SCRATCH_WORDS) } };
}

/**
 * Builds an image over its buffers in another thread.
 * @throws TypeError if a buffer does not hold its table
 */
export function attachIpvsImage(parts: IpvsImageParts, rules4: RuleList, rules6: RuleList): IpvsImage {
  const services = attachIpvsServices(parts.services);
  return makeIpvsImage({ ...parts, services, sets: attachIpSets(parts.sets), rules4, rules6 });
}

/** Takes an image apart for `attachIpvsImage`, its rule lists left out. */
export function ipvsImageParts(image: IpvsImage): IpvsImageParts {
  return {
    services: ipvsServicesParts(image.services),
    sets: image.sets.buffer,
    localSet4: image.localSet4,
    localSet6: image.localSet6,
    options: image.options,
    tcpTimeoutMs: image.tcpTimeoutMs,
    tcpFinTimeoutMs: image.tcpFinTimeoutMs,
    udpTimeoutMs: image.udpTimeoutMs,
    conntrackMax: image.conntrackMax,
    tcpBeLiberal: image.tcpBeLiberal,
    routeLocalnet: image.routeLocalnet,
    recentLists: image.recentLists,
  };
}
