/**
 * Where kube-proxy in ipvs mode and in iptables mode differ by design. Every difference between the two modes' answers has
 * to be explained by one of these, and each of these has to explain some. docs/modes.md lists them for readers.
 */

import type { Difference } from './known-differences.ts';
import {
  allBackends,
  type Frontend,
  hasAnyBackend,
  isLoopback,
  isPolicyLocal,
  localBackends,
  nodeOwning,
} from './oracle.ts';
import type { Question } from './run-world.ts';
import { familyOf, type World, type WorldService } from './world.ts';

export const IPVS_DIFFERENCES: readonly Difference[] = [
  {
    name: 'nodePorts do not answer on loopback',
    source: 'FACTS §1.4, §5.11; kubernetes pkg/proxy/ipvs/netlink_linux.go (isValidForSet)',
    explains: (_, { to }) => isLoopback(to),
  },
  {
    name: 'a port that nobody serves at an address of a Service is refused: the node holds the address',
    source: 'FACTS §1.3 (KUBE-IPVS-FILTER, kubernetes#72236)',
    explains: (world, question) =>
      world.services.some((service) => kindsOf(service, question.to).length > 0) &&
      frontendsAt(world, question).length === 0,
  },
  {
    name: 'policy Local falls back to remote endpoints, and refuses where it has none',
    source: 'FACTS §5.14; kubernetes#97081',
    explains: (world, question) =>
      frontendsAt(world, question).some(
        (frontend) =>
          isPolicyLocal(frontend) &&
          world.nodes.some(({ name }) => localBackends(frontend, familyOf(question.to), name).length === 0),
      ),
  },
  {
    name: 'external policy Local binds pods and the node too, and masquerades nobody',
    source: 'kubernetes pkg/proxy/ipvs/proxier.go (KUBE-EXTERNAL-IP-LOCAL, -LOAD-BALANCER-LOCAL, -NODE-PORT-LOCAL-…)',
    explains: (world, question, client) =>
      client !== 'outside' &&
      frontendsAt(world, question).some((frontend) => frontend.kind !== 'clusterIP' && isPolicyLocal(frontend)),
  },
  {
    name: 'source ranges hold where nobody serves the port: dropped, not rejected',
    source: 'kubernetes pkg/proxy/ipvs/proxier.go (KUBE-PROXY-FIREWALL in INPUT stands before IPVS)',
    explains: (world, question, client) =>
      client !== 'host' &&
      frontendsAt(world, question).some(
        (frontend) =>
          frontend.kind === 'loadBalancer' &&
          frontend.service.sourceRanges.length > 0 &&
          !hasAnyBackend(frontend, familyOf(question.to)),
      ),
  },
  {
    name: 'source ranges hold the node off behind IPVS: translated, then dropped',
    source: 'FACTS §1.3 (KUBE-IPVS-OUT-FILTER, kubernetes#119656)',
    explains: (world, question, client) =>
      client === 'host' &&
      frontendsAt(world, question).some(
        ({ kind, service }) => kind === 'loadBalancer' && service.sourceRanges.length > 0,
      ),
  },
  {
    name: 'a Service without backends is refused at external addresses for the node itself too',
    source: 'FACTS §1.1 (KUBE-EXTERNAL-SERVICES is not in OUTPUT), §5.14 (empty virtual servers)',
    explains: (world, question, client) =>
      client === 'host' &&
      frontendsAt(world, question).some(
        (frontend) => frontend.kind !== 'clusterIP' && !hasAnyBackend(frontend, familyOf(question.to)),
      ),
  },
  {
    name: 'the hairpin rule keeps the port, so a node that reaches itself keeps its address and port',
    source: 'kubernetes pkg/proxy/ipvs/proxier.go (KUBE-LOOP-BACK: MASQUERADE without --random-fully)',
    explains: (world, question, client) =>
      client === 'host' && backendsAt(world, question).some((address) => nodeOwning(world, address) !== null),
  },
  {
    name: 'hairpins are masqueraded by the node that runs the endpoint, and by no other',
    source: 'kubernetes pkg/proxy/ipvs/proxier.go (KUBE-LOOP-BACK holds local endpoints; kubernetes#53775)',
    explains: (world, question) => backendsAt(world, question).includes(question.from),
  },
  {
    name: 'an address of a node that is an external IP too is held by the other nodes',
    source: 'kubernetes pkg/proxy/ipvs/proxier.go (shouldBind); linux fib_frontend.c (martian source)',
    explains: (world, { to }) =>
      world.services.some((service) =>
        [...service.externalIPs, ...service.ingress.map(({ ip }) => ip)].some(
          (address) => familyOf(address) === familyOf(to) && nodeOwning(world, address) !== null,
        ),
      ),
  },
];

/** Every Service port that the question is about, as what it is asked. */
function frontendsAt(world: World, { to, port, protocol }: Question): Frontend[] {
  return world.services.flatMap((service) =>
    service.ports
      .filter((own) => own.protocol === protocol)
      .flatMap((own): Frontend[] => {
        const kinds: Frontend['kind'][] = own.port === port ? kindsOf(service, to) : [];
        if (own.nodePort === port && nodeOwning(world, to) !== null) kinds.push('nodePort');
        return kinds.map((kind) => ({ service, port: own, kind }));
      }),
  );
}

function backendsAt(world: World, question: Question): string[] {
  return frontendsAt(world, question).flatMap((frontend) =>
    allBackends(frontend, familyOf(question.to)).map(({ address }) => address),
  );
}

function kindsOf(service: WorldService, to: string): Frontend['kind'][] {
  const kinds: Frontend['kind'][] = [];
  if (service.clusterIPs.includes(to)) kinds.push('clusterIP');
  if (service.externalIPs.includes(to)) kinds.push('externalIP');
  if (service.ingress.some(({ ip, proxy }) => ip === to && !proxy)) kinds.push('loadBalancer');
  return kinds;
}
