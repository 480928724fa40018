/**
 * Source NAT and Direct Server Return of the ebpf mode.
 *
 * - Masquerade: the source becomes the node's first address of the family, the port one of 32768 to 65535 (FACTS §1.6);
 *   the client's own port is kept where it lies in that range and is free (cilium: bpf/lib/nat.h). Ports are handed out
 *   by programs/masquerade.ts.
 * - A pod that is balanced to itself would see its own address as the client's: its frame takes a link-local source
 *   (cilium: ipv4- and ipv6-service-loopback-address).
 * - DSR: the balancing node tells the backend's node which frontend the client spoke to. Cilium writes it into the frame
 *   (an IPv4 option, an IPv6 destination option or a Geneve option): into every frame, of TCP only with SYN. Here it
 *   goes into the connection table of the backend's node directly, at the same frames; the bytes stay as they are.
 */
import { CT_REPLY, ctFlags, ctPeer, ctRemove, ctSetFlags, ctXPorts, ctXSrc } from '../tables/conntrack.ts';
import type { Burst } from '../wire/burst.ts';
import { REASON_NO_NAT_MAPPING } from '../wire/reason.ts';
import type { Datapath } from './datapath.ts';
import {
  EBPF_CT_ALLOWED,
  EBPF_CT_DSR,
  EBPF_CT_TRANSLATED,
  findReverseFlow,
  insertFlow,
  passFlow,
} from './ebpf-conntrack.ts';
import { MAP_DSR, MAP_SNAT } from './ebpf-image.ts';
import { allocatePort } from './masquerade.ts';
import { EVENT_MAP, record2 } from './record.ts';
import { conntrackOf, setSource } from './translate.ts';
import { NAT_SOURCE } from './verdict.ts';

const SNAT_FIRST_PORT = 32_768;
const SNAT_LAST_PORT = 65_535;

/** 169.254.42.1 */
const LOOPBACK4 = 0xa9fe2a01 | 0;
/** fe80::1 */
const LOOPBACK6_HIGH = 0xfe800000 | 0;
const LOOPBACK6_LOW = 1;

/**
 * Gives the frame the node's address and a free port. It must carry its final destination.
 * @param flag NAT_SOURCE or NAT_OUTBOUND
 * @returns 0, or minus a drop reason
 */
export function masquerade(dp: Datapath, b: Burst, s: number, flag: number): number {
  const node = b.node[s];
  const own6 = dp.topology.nodeAddress6;
  const is4 = b.family[s] === 4;
  const a0 = is4 ? dp.topology.nodeAddress4[node] : own6[node * 4];
  const a1 = is4 ? 0 : own6[node * 4 + 1];
  const a2 = is4 ? 0 : own6[node * 4 + 2];
  const a3 = is4 ? 0 : own6[node * 4 + 3];
  if ((a0 | a1 | a2 | a3) === 0) return -REASON_NO_NAT_MAPPING;
  const port = allocatePort(dp, b, s, a0, a1, a2, a3, SNAT_FIRST_PORT, SNAT_LAST_PORT, b.sport[s]);
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_SNAT, port < 0 ? -1 : port);
  if (port < 0) return port;
  return setSource(dp, b, s, a0, a1, a2, a3, port, flag);
}

/** True where the frame would go to the address that it comes from. */
export function isToItself(b: Burst, s: number): boolean {
  return b.src0[s] === b.dst0[s] && b.src1[s] === b.dst1[s] && b.src2[s] === b.dst2[s] && b.src3[s] === b.dst3[s];
}

/** Gives a frame that was balanced to its own sender a source that the sender will answer to. 0, or minus a reason. */
export function maskHairpin(dp: Datapath, b: Burst, s: number): number {
  if (b.family[s] === 4) return setSource(dp, b, s, LOOPBACK4, 0, 0, 0, b.sport[s], NAT_SOURCE);
  return setSource(dp, b, s, LOOPBACK6_HIGH, 0, 0, LOOPBACK6_LOW, b.sport[s], NAT_SOURCE);
}

/**
 * Tells the backend's node that the frame, balanced already, came as `original`. Moves slots of the shard.
 * @returns 0, or minus a drop reason
 */
export function tellBackendNode(dp: Datapath, b: Burst, s: number, node: number, original: Int32Array): number {
  const reply = findReverseFlow(dp, b, s, node);
  if (reply >= 0 && answersFor(dp, b, s, reply, original)) return 0;
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_DSR, node);
  const slot = insertFlow(dp, b, s, node, original, EBPF_CT_TRANSLATED | EBPF_CT_DSR);
  return Math.min(slot, 0);
}

/** True for a reply direction that gives its frames the original destination as their source. */
function answersFor(dp: Datapath, b: Burst, s: number, reply: number, original: Int32Array): boolean {
  const ct = conntrackOf(dp, b, s);
  if ((ctFlags(ct, reply) & (EBPF_CT_DSR | CT_REPLY)) !== (EBPF_CT_DSR | CT_REPLY)) return false;
  for (let i = 0; i < ct.addressWords; i++) if (ctXSrc(ct, reply, i) !== original[4 + i]) return false;
  return ctXPorts(ct, reply) >>> 16 === (original[8] & 0xffff);
}

/**
 * Counts a frame that another node balanced to a backend of this one to the flow that it told of.
 * @returns true where there is such a flow
 */
export function passBalancedFrame(dp: Datapath, b: Burst, s: number): boolean {
  const reply = findReverseFlow(dp, b, s, b.node[s]);
  if (reply < 0) return false;
  const ct = conntrackOf(dp, b, s);
  if ((ctFlags(ct, reply) & (EBPF_CT_DSR | CT_REPLY)) !== (EBPF_CT_DSR | CT_REPLY)) return false;
  passFlow(dp, b, s, ct, ctPeer(ct, b.shard[s], reply));
  return true;
}

/** Notes that the pod's policies let the frame's flow (lane `ct`) pass. */
export function keepBalancedFlow(dp: Datapath, b: Burst, s: number): void {
  const ct = conntrackOf(dp, b, s);
  ctSetFlags(ct, b.ct[s], ctPeer(ct, b.shard[s], b.ct[s]), EBPF_CT_ALLOWED);
}

/** Takes out the frame's flow (lane `ct`), which the pod's policies refused. Moves slots of the shard. */
export function forgetBalancedFlow(dp: Datapath, b: Burst, s: number): void {
  ctRemove(conntrackOf(dp, b, s), b.shard[s], b.ct[s]);
  b.ct[s] = -1;
}
