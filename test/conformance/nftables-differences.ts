/**
 * Where kube-proxy in nftables mode and in iptables mode differ by design. Every difference between the two modes' answers
 * has to be explained by one of these, and each of these has to explain some. docs/modes.md lists them for readers.
 */

import type { Difference } from './known-differences.ts';
import { type Frontend, hasAnyBackend, isInside, isLoopback, nodeAddress, nodeOwning } from './oracle.ts';
import type { Question } from './run-world.ts';
import { familyOf, type World, type WorldService } from './world.ts';

const SERVICE_CIDRS = ['10.96.0.0/12', 'fd00:10:96::/112'];

export const NFTABLES_DIFFERENCES: readonly Difference[] = [
  {
    name: 'nodePorts do not answer on loopback',
    source: 'FACTS §1.4, §5.11; kubernetes pkg/proxy/nftables/README.md',
    explains: (_, { to }) => isLoopback(to),
  },
  {
    name: 'nodePorts listen on the first address of a node unless told otherwise',
    source: 'FACTS §1.4, §5.11 (nodeport-addresses defaults to primary)',
    explains: (world, { to }) => {
      const node = nodeOwning(world, to);
      const isFirst = node !== null && nodeAddress(world, node, familyOf(to)) === to;
      return node !== null && !isFirst && world.options.nodePortAddresses.length === 0;
    },
  },
  {
    name: 'a ClusterIP rejects what it does not serve',
    source: 'FACTS §1.4, §5.13; proxier.go (cluster-ips-check)',
    explains: (world, question) =>
      world.services.some(({ clusterIPs }) => clusterIPs.includes(question.to)) &&
      frontendsAt(world, question).length === 0,
  },
  {
    name: 'addresses of the service range that nobody has are dropped',
    source: 'FACTS §1.4, §5.13; proxier.go (cluster-ips-check)',
    explains: (world, { to }) =>
      SERVICE_CIDRS.some((prefix) => isInside(to, prefix)) &&
      !world.services.some(({ clusterIPs }) => clusterIPs.includes(to)),
  },
  {
    name: 'source ranges hold where nobody serves the port: dropped, not rejected',
    source: 'FACTS §1.4 (the firewall stands before DNAT); proxier.go (usesFWChain)',
    explains: (world, question) =>
      frontendsAt(world, question).some(
        (frontend) =>
          frontend.kind === 'loadBalancer' &&
          frontend.service.sourceRanges.length > 0 &&
          !hasAnyBackend(frontend, familyOf(question.to)),
      ),
  },
  {
    name: 'a Service without backends is refused at external addresses for the node itself too',
    source: 'FACTS §1.1 (KUBE-EXTERNAL-SERVICES is not in OUTPUT); proxier.go (service-endpoints-check in output)',
    explains: (world, question, client) =>
      client === 'host' &&
      frontendsAt(world, question).some(
        (frontend) => frontend.kind !== 'clusterIP' && !hasAnyBackend(frontend, familyOf(question.to)),
      ),
  },
];

/** Every Service port that the question is about, as what it is asked. */
function frontendsAt(world: World, { to, port, protocol }: Question): Frontend[] {
  return world.services.flatMap((service) =>
    service.ports
      .filter((own) => own.port === port && own.protocol === protocol)
      .flatMap((own): Frontend[] => kindsOf(service, to).map((kind) => ({ service, port: own, kind }))),
  );
}

function kindsOf(service: WorldService, to: string): Frontend['kind'][] {
  const kinds: Frontend['kind'][] = [];
  if (service.clusterIPs.includes(to)) kinds.push('clusterIP');
  if (service.externalIPs.includes(to)) kinds.push('externalIP');
  if (service.ingress.some(({ ip, proxy }) => ip === to && !proxy)) kinds.push('loadBalancer');
  return kinds;
}
