/**
 * Socket-level balancing: a stream or a probe *connects*, and its socket gets the backend's address before any frame
 * exists (cilium: bpf/bpf_sock.c, connect and sendmsg hooks). Frames on the wire carry the backend; getpeername and
 * recvmsg show the frontend to the program, which a datapath never sees.
 *
 *  1. Only TCP and UDP have the hooks, and only sockets of pods (unless balancing is for hosts only) and of the host.
 *  2. Every kind of frontend is translated, nodePorts on the address of any node; for the host on loopback too.
 *  3. externalTrafficPolicy does not bind sockets of the cluster, internalTrafficPolicy binds those of ClusterIPs;
 *     loadBalancerSourceRanges are for frames from outside.
 *  4. Without a backend the connection fails.
 */
import { backendAddress, backendPort } from '../tables/backends.ts';
import { rowValue } from '../tables/hash-table.ts';
import { type Burst, ENTRY_HOST, ENTRY_POD } from '../wire/burst.ts';
import { REASON_NO_BACKEND } from '../wire/reason.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import type { Datapath } from './datapath.ts';
import { EBPF_SOCKET_LB, type EbpfImage, FE_FLAGS, FE_HAS_BACKENDS } from './ebpf-image.ts';
import { findFrontend, NODE_PORTS_ANY, NODE_PORTS_LOOPBACK, selectBackend } from './ebpf-service.ts';
import { EVENT_NAT, record1, recordTuple } from './record.ts';
import { isLoopbackDestination } from './route.ts';
import { NAT_DESTINATION, VERDICT_REJECTED } from './verdict.ts';

/**
 * Connects the flow in the lanes of a slot, before its frame is built; in another mode nothing happens. Lanes node, entry, endpoint, family, proto, src,
 * dst, sport, dport, shard, timeMs, choice and flowHash must be set; bytes are neither read nor written.
 *
 * On translation the destination lanes become the backend's and `nat` gets NAT_DESTINATION. A socket of the host that
 * spoke to loopback takes the node's address as its source when its backend is elsewhere, as an unbound socket does.
 * @returns 0: send the frame to what the lanes say now; VERDICT_REJECTED (lane `reason` is set) or minus a drop reason:
 *   the connection failed and no frame exists. The caller counts it.
 */
export function connectSocket(dp: Datapath, b: Burst, s: number): number {
  const image = dp.ebpf;
  if (image === null) return 0;
  const proto = b.proto[s];
  if (proto !== PROTO_TCP && proto !== PROTO_UDP) return 0;
  if (!isBalanced(image, b.entry[s])) return 0;
  const nodePorts = b.entry[s] === ENTRY_HOST ? NODE_PORTS_LOOPBACK : NODE_PORTS_ANY;
  const frontend = findFrontend(dp, image, b, s, nodePorts);
  if (frontend < 0) return 0;
  const backend = selectBackend(dp, image, b, s, frontend);
  if (backend < 0) {
    if ((rowValue(image.frontends, frontend, FE_FLAGS) & FE_HAS_BACKENDS) !== 0) return -REASON_NO_BACKEND;
    b.reason[s] = REASON_NO_BACKEND;
    return VERDICT_REJECTED;
  }
  b.dst0[s] = backendAddress(image.backends, backend, 0);
  b.dst1[s] = backendAddress(image.backends, backend, 1);
  b.dst2[s] = backendAddress(image.backends, backend, 2);
  b.dst3[s] = backendAddress(image.backends, backend, 3);
  b.dport[s] = backendPort(image.backends, backend);
  if (isLoopbackSource(b, s) && !isLoopbackDestination(b, s)) takeNodeSource(dp, b, s);
  b.nat[s] |= NAT_DESTINATION;
  if (dp.ring.on) {
    record1(dp.ring, EVENT_NAT, NAT_DESTINATION);
    recordTuple(dp.ring, b, s);
  }
  return 0;
}

function isBalanced(image: EbpfImage, entry: number): boolean {
  if (entry === ENTRY_HOST) return true;
  return entry === ENTRY_POD && (image.options & EBPF_SOCKET_LB) !== 0;
}

function isLoopbackSource(b: Burst, s: number): boolean {
  return b.family[s] === 4 ? b.src0[s] >>> 24 === 127 : (b.src0[s] | b.src1[s] | b.src2[s]) === 0 && b.src3[s] === 1;
}

function takeNodeSource(dp: Datapath, b: Burst, s: number): void {
  const node = b.node[s];
  if (b.family[s] === 4) {
    b.src0[s] = dp.topology.nodeAddress4[node];
    return;
  }
  const own = dp.topology.nodeAddress6;
  b.src0[s] = own[node * 4];
  b.src1[s] = own[node * 4 + 1];
  b.src2[s] = own[node * 4 + 2];
  b.src3[s] = own[node * 4 + 3];
}
