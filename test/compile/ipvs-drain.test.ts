/** Graceful removal of real servers: what a changed cluster leaves of the ones before (kubernetes graceful_termination.go). */

import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { drainRemoved } from '../../control/src/compile/ipvs-drain.ts';
import { KubeProxyIpvs } from '../../control/src/compile/ipvs-kube-proxy.ts';
import type { IpvsRuleset, VirtualServer } from '../../control/src/compile/ipvs-ruleset.ts';
import type { Protocol } from '../../control/src/model/port.ts';
import { kubeProxyConfig, makeCluster, makeService, makeSlice } from './fixture.ts';

function clusterWith(hosts: readonly number[], protocol: Protocol = 'TCP'): Cluster {
  return makeCluster({
    services: [makeService('ns1/svc1', { clusterIPs: ['10.96.0.1'], ports: [{ name: 'p', protocol }] })],
    endpointSlices: [
      makeSlice(
        'ns1/svc1',
        [{ name: 'p', protocol, port: 8080 }],
        hosts.map((host) => ({ address: `10.244.1.${host}` })),
      ),
    ],
  });
}

function rulesetOf(cluster: Cluster): IpvsRuleset {
  return new KubeProxyIpvs(cluster, kubeProxyConfig(), 4).nodeRuleset(cluster.nodes[0]!);
}

/** Last byte of the address and weight of each real server, in the order of adding. */
function reals({ virtualServers }: IpvsRuleset): string[] {
  return virtualServers[0]!.realServers.map(({ address, weight }) => `${address.words[0]! & 255} ${weight}`);
}

const busy = () => false;
const idle = () => true;

/** The rulesets of a cluster whose endpoints change step by step. */
function through(
  steps: readonly (readonly number[])[],
  isIdle: (server: VirtualServer, real: number) => boolean,
  protocol: Protocol = 'TCP',
): IpvsRuleset {
  const [first, ...rest] = steps.map((hosts) => rulesetOf(clusterWith(hosts, protocol)));
  return rest.reduce((ruleset, next) => drainRemoved(next, { ruleset, isIdle }), first!);
}

describe('real servers of TCP', () => {
  it('keep their connections with weight 0 (kubernetes#57841, #99162)', () => {
    expect(reals(through([[1, 2, 3], [2]], busy))).toEqual(['1 0', '2 1', '3 0']);
  });

  it('go once they have no connection', () => {
    expect(reals(through([[1, 2, 3], [2]], idle))).toEqual(['2 1']);
    const busyOnly = (server: VirtualServer, real: number): boolean =>
      server.realServers[real]!.text !== '10.244.1.3:8080';
    expect(reals(through([[1, 2, 3], [2]], busyOnly))).toEqual(['2 1', '3 0']);
  });

  it('drain over several changes', () => {
    expect(reals(through([[1, 2], [2], [2, 3], [3]], busy))).toEqual(['1 0', '2 0', '3 1']);
  });

  it('that come back while they drain are added anew', () => {
    expect(reals(through([[1, 2], [2], [1, 2]], busy))).toEqual(['2 1', '1 1']);
  });

  it('keep their places, new ones come behind', () => {
    expect(
      reals(
        through(
          [
            [2, 4],
            [1, 2, 3, 4],
          ],
          busy,
        ),
      ),
    ).toEqual(['2 1', '4 1', '1 1', '3 1']);
  });

  it('drain of a Service that has no endpoint left', () => {
    expect(reals(through([[1], []], busy))).toEqual(['1 0']);
  });
});

describe('real servers of UDP and SCTP', () => {
  it.each(['UDP', 'SCTP'] as const)('go at once: %s (kubernetes#84322)', (protocol) => {
    expect(reals(through([[1, 2], [2]], busy, protocol))).toEqual(['2 1']);
  });
});

describe('a ruleset', () => {
  it('without a difference stays the same object', () => {
    const cluster = clusterWith([1, 2]);
    const source = new KubeProxyIpvs(cluster, kubeProxyConfig(), 4);
    const next = source.nodeRuleset(cluster.nodes[0]!);
    expect(drainRemoved(next, { ruleset: source.nodeRuleset(cluster.nodes[0]!), isIdle: busy })).toBe(next);
  });

  it('keeps nothing of a virtual server that is gone', () => {
    const next = rulesetOf(makeCluster({}));
    expect(drainRemoved(next, { ruleset: rulesetOf(clusterWith([1])), isIdle: busy })).toBe(next);
  });
});
