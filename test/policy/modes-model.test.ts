/**
 * The resolved policies that all modes compile, read as policy-rules.ts says they are to be read, against the oracle: verdict and
 * the rule that is named. Quicker than packets, so it sees many more clusters.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ClusterModel } from '../../control/src/compile/image.ts';
import { inPrefix, parseAddress } from '../../control/src/model/address.ts';
import { namedPorts } from '../../control/src/policy/named-ports.ts';
import type { JudgementOrder, PolicyRule } from '../../control/src/policy/policy-rules.ts';
import { seeds } from '../conformance/random-world.ts';
import { modelOf } from './compare.ts';
import { type End, PolicyOracle, type Profile } from './oracle.ts';
import { CLIENTS, NODES, nodeAddress, PORTS, podAddress, TRANSPORTS } from './random-cluster.ts';
import { allObjects, type PolicyCluster, randomPolicyCluster } from './random-policies.ts';

interface Answer {
  readonly allowed: boolean;
  readonly by: string | null;
}

function read(model: ClusterModel, order: JudgementOrder | null, end: End): Answer {
  if (order === null) return { allowed: true, by: null };
  const decides = (rule: PolicyRule): boolean => matches(model, rule, end);
  const answer = (rule: PolicyRule): Answer => ({ allowed: rule.action === 'accept', by: nameOf(rule) });
  const admin = order.admin.find(decides);
  if (admin !== undefined && admin.action !== 'pass') return answer(admin);
  if (order.network !== null) {
    const rule = order.network.rules.find(decides);
    return rule === undefined ? { allowed: false, by: null } : answer(rule);
  }
  const baseline = order.baseline.find(decides);
  return baseline === undefined || baseline.action === 'pass' ? { allowed: true, by: null } : answer(baseline);
}

function matches({ topology, policies }: ClusterModel, { peer, ports }: PolicyRule, end: End): boolean {
  const address = parseAddress(end.peer)!;
  const endpoint = topology.endpointByAddress.get(end.peer);
  const node = topology.nodeByAddress.get(end.peer);
  if (peer.kind === 'pods' && (endpoint === undefined || !peer.endpoints.includes(endpoint))) return false;
  if (peer.kind === 'nodes' && (node === undefined || !peer.nodes.includes(node))) return false;
  if (peer.kind === 'block') {
    const isOwned = endpoint !== undefined || node !== undefined;
    if (isOwned && !policies.profile.cidrMatchesCluster) return false;
    if (!inPrefix(address, peer.prefix) || peer.except.some((except) => inPrefix(address, except))) return false;
  }
  if (ports === null) return true;
  const target =
    end.direction === 'egress'
      ? endpoint
      : topology.endpoints.findIndex(({ pod }) => pod.metadata.name === end.pod.name);
  return ports.some((port) => {
    if (port.kind === 'range') return port.protocol === end.protocol && end.port >= port.first && end.port <= port.last;
    const pod = target === undefined ? undefined : topology.endpoints[target]?.pod;
    if (pod === undefined) return false;
    return namedPorts(pod, port.name, port.protocol).some(
      (own) => own.protocol === end.protocol && own.port === end.port,
    );
  });
}

function nameOf({ policy, peerField }: PolicyRule): string {
  const { namespace, name } = policy.metadata;
  return `${policy.kind} ${namespace === '' ? '' : `${namespace}/`}${name} ${peerField}`;
}

function endsOf(oracle: PolicyOracle): End[] {
  const peers = [
    ...oracle.pods.flatMap(({ addresses }) => addresses),
    ...NODES.flatMap((node) => [nodeAddress(node, 4), nodeAddress(node, 6)]),
    ...CLIENTS,
    podAddress(1, 99, 4),
    '10.96.0.11',
  ];
  const ports = [
    { protocol: 'ICMP' as const, port: 0 },
    ...TRANSPORTS.flatMap((protocol) => [...PORTS, 8081, 65_535].map((port) => ({ protocol, port }))),
  ];
  return oracle.pods.flatMap((pod) =>
    peers.flatMap((peer) =>
      ports.flatMap((port) => (['ingress', 'egress'] as const).map((direction) => ({ direction, pod, peer, ...port }))),
    ),
  );
}

function disagreements(drawn: PolicyCluster, profile: Profile): string[] {
  const model = modelOf(allObjects(drawn), { policy: { profile } });
  const oracle = new PolicyOracle(drawn.cluster, drawn.policies, profile);
  const found: string[] = [];
  for (const end of endsOf(oracle)) {
    const endpoint = model.topology.endpoints.findIndex(({ pod }) => pod.metadata.name === end.pod.name);
    const order = model.policies[end.direction][endpoint] ?? null;
    const got = read(model, order, end);
    const { allowed, by, selected } = oracle.judge(end);
    const isNamed = by.length === 0 ? got.by === null : got.by !== null && by.includes(got.by);
    if (got.allowed === allowed && isNamed && selected === (order !== null)) continue;
    const { pod, ...rest } = end;
    found.push(
      `${pod.namespace}/${pod.name} ${JSON.stringify(rest)}\n  expected ${allowed} ${by.join(', ')} (selected ${selected})\n` +
        `  got      ${got.allowed} ${got.by} (selected ${order !== null})`,
    );
  }
  return found.slice(0, 5);
}

describe.each(['kubernetes', 'cilium'] as const)('profile %s', (profile) => {
  it.each(seeds)('resolves policies as the oracle reads them, seed %i', (seed) => {
    fc.assert(
      fc.property(randomPolicyCluster, (drawn) => {
        expect(disagreements(drawn, profile)).toEqual([]);
      }),
      { seed, numRuns: 30 },
    );
  });
});
