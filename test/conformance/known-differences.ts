/**
 * Where kube-proxy in iptables mode and Cilium differ by design. Every difference between the modes' answers has to be
 * explained by one of these, and each of these has to explain some.
 */

import { isInside, isLoopback, nodeOwning } from './oracle.ts';
import type { Question } from './run-world.ts';
import { familyOf, type World, type WorldService } from './world.ts';

export interface Difference {
  readonly name: string;
  readonly source: string;
  explains(world: World, question: Question, client: Client): boolean;
}

export type Client = 'pod' | 'host' | 'outside';

const serviceAt = (world: World, { to }: Question): WorldService | undefined =>
  world.services.find(
    (own) => own.clusterIPs.includes(to) || own.externalIPs.includes(to) || own.ingress.some(({ ip }) => ip === to),
  );

const isNodePort = (world: World, { to }: Question): boolean => isLoopback(to) || nodeOwning(world, to) !== null;

export const KNOWN_DIFFERENCES: readonly Difference[] = [
  {
    name: 'socket-level balancing needs no masquerade: clients in the cluster keep their source',
    source: 'cilium Documentation/network/kubernetes/kubeproxy-free.rst (Socket LoadBalancer); bpf/bpf_sock.c',
    explains: (_, { protocol }, client) => client !== 'outside' && protocol !== 'SCTP',
  },
  {
    name: 'a ClusterIP is not served to the outside',
    source: 'FACTS §1.6 bpf.lbExternalClusterIP; drop code 174',
    explains: (world, { to }, client) =>
      client === 'outside' && world.services.some(({ clusterIPs }) => clusterIPs.includes(to)),
  },
  {
    name: 'a client outside meets a backend of the same node without SNAT',
    source: 'cilium bpf/lib/nodeport.h (nodeport_lb4: SNAT for remote backends only)',
    explains: (_, __, client) => client === 'outside',
  },
  {
    name: 'SCTP ports are not rewritten and SCTP is not masqueraded',
    source: 'FACTS §1.6 (CRC32c covers the ports)',
    explains: (_, { protocol }) => protocol === 'SCTP',
  },
  {
    name: 'SCTP of pods is balanced at their interface, that of the host not at all',
    source: 'cilium bpf/bpf_sock.c (TCP and UDP only), bpf/bpf_lxc.c (ENABLE_SCTP)',
    explains: (_, { protocol }, client) => protocol === 'SCTP' && client !== 'outside',
  },
  {
    name: 'loadBalancerSourceRanges bind clients outside only',
    source: 'FACTS §5.6; cilium bpf/lib/lb.h (lb4_src_range_ok), called by the nodeport path only',
    explains: (world, question, client) =>
      client !== 'outside' && (serviceAt(world, question)?.sourceRanges.length ?? 0) > 0,
  },
  {
    name: 'source ranges are asked before backends: a refused client is dropped, not rejected',
    source: 'cilium bpf/lib/nodeport.h (range check before lb4_local)',
    explains: (world, question, client) =>
      client === 'outside' && (serviceAt(world, question)?.sourceRanges.length ?? 0) > 0,
  },
  {
    name: 'a Service without backends is known to sockets of the host at external addresses too',
    source: 'FACTS §1.1 (KUBE-EXTERNAL-SERVICES is not in OUTPUT); cilium bpf/bpf_sock.c',
    explains: (world, { to }, client) =>
      client === 'host' &&
      world.services.some((own) => own.externalIPs.includes(to) || own.ingress.some(({ ip }) => ip === to)),
  },
  {
    name: 'nodePorts of other nodes are balanced where the client is',
    source: 'cilium bpf/bpf_sock.c (sock4_wildcard_lookup includes remote hosts)',
    explains: (world, question, client) => client !== 'outside' && isNodePort(world, question),
  },
  {
    name: 'nodePorts answer on ::1',
    source: 'FACTS §1.1 (IPv6 excludes ::1); cilium bpf/bpf_sock.c (in_hostns and loopback)',
    explains: (_, { to }) => to === '::1',
  },
];

/** Who asks. */
export function clientOf(world: World, { from }: Question): Client {
  if (isLoopback(from) || nodeOwning(world, from) !== null) return 'host';
  const isPod =
    world.pods.some(({ addresses }) => addresses.includes(from)) ||
    world.options.clusterCIDR.some((prefix) => familyOf(prefix) === familyOf(from) && isInside(from, prefix));
  return isPod ? 'pod' : 'outside';
}
