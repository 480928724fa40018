/** Everything that may be asked of a random cluster, by addresses: who, from which node, to where, on which port. */

import {
  CLIENTS,
  type ClusterObjects,
  type KubeObject,
  NODES,
  nodeAddress,
  nodeName,
  PORTS,
  podAddress,
  UNLISTED_HOST,
} from './random-cluster.ts';

export interface PolicyQuestion {
  readonly from: string;
  /** Where a packet from outside enters, or an unlisted pod is. */
  readonly node: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
}

export function questionText({ to, port }: PolicyQuestion): string {
  if (port === 0) return to;
  return to.includes(':') ? `[${to}]:${port}` : `${to}:${port}`;
}

/** All that policies may have a say in; a test takes some of them. */
export function allQuestions(cluster: ClusterObjects): PolicyQuestion[] {
  return ([4, 6] as const).flatMap((family) => {
    const isOwn = (address: string): boolean => address.includes(':') === (family === 6);
    const pods = cluster.pods.flatMap(podIps).filter(isOwn);
    const nodes = NODES.map((node) => nodeAddress(node, family));
    const clients = CLIENTS.filter(isOwn);
    const unlisted = podAddress(1, UNLISTED_HOST, family);
    const services = cluster.services.flatMap(frontends).filter(({ to }) => isOwn(to));
    // Of every two pods each way, for they are what policies are about.
    const outward = [...nodes, unlisted, clients[0]!].flatMap(portsOf);
    const inward = [...pods.flatMap(portsOf), ...services];
    const questions = [
      ...pods.flatMap((from) => [...inward, ...inward, ...services, ...outward].map((target) => ({ ...target, from }))),
      ...[...nodes, unlisted, ...clients].flatMap((from) => inward.map((target) => ({ ...target, from }))),
    ];
    return questions.map((question, index) => ({
      ...question,
      node: question.from === unlisted ? nodeName(1) : nodeName(NODES[index % NODES.length]!),
    }));
  });
}

type Target = Pick<PolicyQuestion, 'to' | 'port' | 'protocol'>;

function portsOf(to: string): Target[] {
  return [
    { to, port: 0, protocol: 'ICMP' },
    ...PORTS.map((port): Target => ({ to, port, protocol: 'TCP' })),
    // Between the ports that policies name: only a range holds it.
    { to, port: 8081, protocol: 'TCP' },
    { to, port: 53, protocol: 'UDP' },
    { to, port: 8080, protocol: 'UDP' },
    { to, port: 9090, protocol: 'SCTP' },
  ];
}

interface RawService {
  readonly spec: {
    readonly clusterIPs: readonly string[];
    readonly externalIPs?: readonly string[];
    readonly ports: readonly { readonly port: number; readonly nodePort?: number; readonly protocol: 'TCP' }[];
  };
  readonly status?: { readonly loadBalancer: { readonly ingress: readonly { readonly ip: string }[] } };
}

/** Every address and port by which a Service is reached, and a port that it has not. */
function frontends(object: KubeObject): Target[] {
  if (object.kind !== 'Service') return [];
  const { spec, status } = object as unknown as RawService;
  const { port, nodePort, protocol } = spec.ports[0]!;
  const addresses = [
    ...spec.clusterIPs,
    ...(spec.externalIPs ?? []),
    ...(status?.loadBalancer.ingress ?? []).map(({ ip }) => ip),
  ];
  // Thrice, for there are fewer of them than of pods.
  const served = [...addresses, ...addresses, ...addresses].map((to) => ({ to, port, protocol }));
  const byNode = ([4, 6] as const).flatMap((family) =>
    nodePort === undefined ? [] : NODES.map((node) => ({ to: nodeAddress(node, family), port: nodePort, protocol })),
  );
  return [...served, ...byNode, { to: addresses[0]!, port: 7, protocol }];
}

function podIps({ status }: KubeObject): string[] {
  return (status as { readonly podIPs: readonly { readonly ip: string }[] }).podIPs.map(({ ip }) => ip);
}
