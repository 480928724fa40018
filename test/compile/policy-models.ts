/**
 * A small cluster, random policy models over it, and a naive judge of them: rule by rule, address by address, straight from
 * the words of policy/policy-rules.ts.
 */
import * as fc from 'fast-check';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { type Address, inPrefix, parseAddress, parsePrefix } from '../../control/src/model/address.ts';
import { resolveDatapath } from '../../control/src/model/datapath.ts';
import type { KubernetesObject } from '../../control/src/model/metadata.ts';
import { namedPorts } from '../../control/src/policy/named-ports.ts';
import type { PolicyModel } from '../../control/src/policy/policy-model.ts';
import type {
  Direction,
  JudgementOrder,
  PolicyPeer,
  PolicyPort,
  PolicyRule,
} from '../../control/src/policy/policy-rules.ts';
import { type PolicyProfile, policyProfile } from '../../control/src/policy/profile.ts';

const NODES = 3;

interface PodParts {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly object[];
}

const HTTP = (containerPort: number, protocol = 'TCP') => ({ name: 'http', containerPort, protocol });
const PODS: readonly PodParts[] = [
  { name: 'a-0', labels: { app: 'a', 'pod-template-hash': '1' }, ports: [HTTP(80)] },
  { name: 'a-1', labels: { app: 'a', 'pod-template-hash': '1' }, ports: [HTTP(8080)] },
  { name: 'a-2', labels: { app: 'a', 'pod-template-hash': '2' }, ports: [HTTP(80), HTTP(80, 'UDP')] },
  { name: 'b-0', labels: { app: 'b' }, ports: [HTTP(80, 'UDP'), { name: 'dns', containerPort: 53, protocol: 'UDP' }] },
  { name: 'b-1', labels: { app: 'b' }, ports: [] },
  { name: 'c-0', labels: {}, ports: [{ name: 'dns', containerPort: 53, protocol: 'SCTP' }] },
];

export function podObject({ name, labels, ports }: PodParts, index: number): object {
  const node = index % NODES;
  const ips = [`10.244.${node}.${index + 10}`, `fd00:10:244:${node}::${index + 10}`];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: index % 2 === 0 ? 'left' : 'right', labels },
    spec: { nodeName: `node-${node + 1}`, containers: [{ name: 'main', ports }] },
    status: { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
  };
}

function nodeObject(index: number): object {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: `node-${index + 1}` },
    spec: { podCIDRs: [`10.244.${index}.0/24`, `fd00:10:244:${index}::/64`] },
    status: {
      addresses: [`192.168.0.${index + 1}`, `2001:db8::${index + 1}`].map((address) => ({
        type: 'InternalIP',
        address,
      })),
    },
  };
}

/** Six pods of two namespaces on three nodes, both families. */
export function makeModel(
  podIndexes: readonly number[] = PODS.map((_, i) => i),
  before?: ClusterModel,
  policies: readonly object[] = [],
): ClusterModel {
  const objects = [
    ...Array.from({ length: NODES }, (_, i) => nodeObject(i)),
    ...podIndexes.map((i) => podObject(PODS[i]!, i)),
    ...policies,
  ];
  const { cluster } = loadCluster([], { objects });
  return modelCluster(cluster, resolveDatapath(), null, before?.identities);
}

/** Addresses of every kind, of either family. */
export const ADDRESSES: readonly Address[] = [
  ...PODS.flatMap((_, i) => [`10.244.${i % NODES}.${i + 10}`, `fd00:10:244:${i % NODES}::${i + 10}`]),
  ...['192.168.0.1', '192.168.0.2', '192.168.0.3', '2001:db8::1', '2001:db8::3'],
  ...['10.244.0.99', '10.96.0.1', '10.0.0.1', '192.168.0.77', '203.0.113.5', '203.0.113.200', '0.0.0.0'],
  ...['fd00:10:244::99', 'fd00:10:96::1', '2001:db8::99', '2001:db8:1::1', '::2'],
].map((text) => parseAddress(text)!);

const PREFIXES = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.244.0.0/16',
  '10.244.1.0/24',
  '10.244.0.10/32',
  '192.168.0.0/24',
  '192.168.0.2/31',
  '203.0.113.0/24',
  '203.0.113.128/25',
  '203.0.113.5/32',
  '::/0',
  'fd00::/8',
  'fd00:10:244:1::/64',
  '2001:db8::/32',
  '2001:db8::1/128',
].map((text) => parsePrefix(text)!);

export const PORTS = [0, 1, 53, 79, 80, 81, 443, 1023, 1024, 8080, 9000, 30_000, 65_535];
export const PROTOCOLS = ['TCP', 'UDP', 'SCTP', null] as const;

const somePorts: fc.Arbitrary<PolicyPort> = fc.oneof(
  fc
    .record({
      kind: fc.constant('range' as const),
      protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
      ends: fc.tuple(fc.constantFrom(...PORTS), fc.constantFrom(...PORTS), fc.boolean()),
    })
    .map(({ kind, protocol, ends: [a, b, single] }) => ({
      kind,
      protocol,
      first: single ? a : Math.min(a, b),
      last: single ? a : Math.max(a, b),
    })),
  fc.record({
    kind: fc.constant('named' as const),
    protocol: fc.constantFrom('TCP' as const, 'UDP' as const, null),
    name: fc.constantFrom('http', 'dns', 'none'),
  }),
);

const ascending = (length: number) => fc.subarray(Array.from({ length }, (_, i) => i));

const peer = (direction: Direction): fc.Arbitrary<PolicyPeer> =>
  fc.oneof(
    fc.constant({ kind: 'any' as const }),
    ascending(PODS.length).map((endpoints) => ({ kind: 'pods' as const, endpoints })),
    fc.tuple(fc.constantFrom(...PREFIXES), fc.subarray(PREFIXES, { maxLength: 2 })).map(([prefix, others]) => ({
      kind: 'block' as const,
      prefix,
      except: others.filter((other) => inPrefix(other, prefix) && other.length > prefix.length),
    })),
    ...(direction === 'egress' ? [ascending(NODES).map((nodes) => ({ kind: 'nodes' as const, nodes }))] : []),
  );

const ruleParts = (direction: Direction) =>
  fc.record({ peer: peer(direction), ports: fc.option(fc.array(somePorts, { minLength: 1, maxLength: 3 })) });
const action = fc.constantFrom('accept' as const, 'deny' as const, 'pass' as const);
const ranked = (direction: Direction) => fc.array(fc.tuple(ruleParts(direction), action), { maxLength: 4 });

const policyObject = (kind: string, name: string): KubernetesObject => ({
  apiVersion: 'v1',
  kind,
  metadata: { name, namespace: '' },
});
const ADMIN = policyObject('ClusterNetworkPolicy', 'admin');
const NETWORK = policyObject('NetworkPolicy', 'network');
const BASELINE = policyObject('ClusterNetworkPolicy', 'baseline');

const order = (direction: Direction): fc.Arbitrary<JudgementOrder> =>
  fc
    .tuple(ranked(direction), fc.option(fc.array(ruleParts(direction), { maxLength: 4 })), ranked(direction))
    .map(([admin, network, baseline]) => {
      const rule = (tier: PolicyRule['tier'], policy: KubernetesObject) => {
        return ([parts, given]: [Pick<PolicyRule, 'peer' | 'ports'>, PolicyRule['action']], i: number): PolicyRule => {
          const field = `spec.${direction}[${i}]`;
          return { id: 0, policy, tier, priority: 0, direction, action: given, field, peerField: field, ...parts };
        };
      };
      return {
        direction,
        admin: admin.map(rule('admin', ADMIN)),
        network:
          network === null
            ? null
            : {
                isolating: [NETWORK],
                rules: network.map((parts, i) => rule('network', NETWORK)([parts, 'accept'], i)),
              },
        baseline: network === null ? baseline.map(rule('baseline', BASELINE)) : [],
        policies: [ADMIN, ...(network === null ? [BASELINE] : [NETWORK])],
      };
    });

/** Orders shared by some pods, none for others. */
const judged = (direction: Direction, pods: number): fc.Arbitrary<(JudgementOrder | null)[]> =>
  fc
    .tuple(
      fc.array(order(direction), { minLength: 1, maxLength: 3 }),
      fc.array(fc.integer({ min: -1, max: 2 }), { minLength: pods, maxLength: pods }),
    )
    .map(([orders, picks]) => picks.map((pick) => orders[pick] ?? null));

export const randomPolicies: fc.Arbitrary<PolicyModel> = fc
  .tuple(
    judged('ingress', PODS.length),
    judged('egress', PODS.length),
    fc.constantFrom('kubernetes' as const, 'cilium' as const, 'calico' as const),
  )
  .map(([ingress, egress, profile]) => ({ profile: policyProfile(profile), rules: [], ingress, egress, warnings: [] }));

/** What naive judging answers: the rule that decides, null for none, and whether the packet passes. */
export interface NaiveJudgement {
  readonly rule: PolicyRule | null;
  readonly allowed: boolean;
}

/**
 * @param judgedPod number of the pod whose direction this is
 * @param remote the other end's address
 * @param protocol null for one without ports
 */
export function judgeNaively(
  model: ClusterModel,
  { admin, network, baseline, direction }: JudgementOrder,
  profile: PolicyProfile,
  judgedPod: number,
  remote: Address,
  protocol: 'TCP' | 'UDP' | 'SCTP' | null,
  port: number,
): NaiveJudgement {
  const remotePod = model.topology.endpointByAddress.get(remote.text) ?? null;
  const target = direction === 'ingress' ? judgedPod : remotePod;
  const first = (rules: readonly PolicyRule[]): PolicyRule | undefined =>
    rules.find(
      (rule) => matchesPeer(model, profile, rule.peer, remote) && matchesPort(model, rule, target, protocol, port),
    );
  const byAdmin = first(admin);
  if (byAdmin !== undefined && byAdmin.action !== 'pass')
    return { rule: byAdmin, allowed: byAdmin.action === 'accept' };
  if (network !== null) {
    const rule = first(network.rules) ?? null;
    return { rule, allowed: rule !== null };
  }
  const byBaseline = first(baseline);
  if (byBaseline === undefined || byBaseline.action === 'pass') return { rule: null, allowed: true };
  return { rule: byBaseline, allowed: byBaseline.action === 'accept' };
}

function matchesPeer(
  { topology }: ClusterModel,
  { cidrMatchesCluster }: PolicyProfile,
  given: PolicyPeer,
  remote: Address,
): boolean {
  const pod = topology.endpointByAddress.get(remote.text);
  const node = topology.nodeByAddress.get(remote.text);
  switch (given.kind) {
    case 'any':
      return true;
    case 'pods':
      return pod !== undefined && given.endpoints.includes(pod);
    case 'nodes':
      return node !== undefined && given.nodes.includes(node);
    case 'block':
      if (!cidrMatchesCluster && (pod !== undefined || node !== undefined)) return false;
      return inPrefix(remote, given.prefix) && !given.except.some((prefix) => inPrefix(remote, prefix));
  }
}

function matchesPort(
  { topology }: ClusterModel,
  { ports }: PolicyRule,
  target: number | null,
  protocol: 'TCP' | 'UDP' | 'SCTP' | null,
  port: number,
): boolean {
  if (ports === null) return true;
  if (protocol === null) return false;
  return ports.some((given) => {
    if (given.kind === 'range') return given.protocol === protocol && port >= given.first && port <= given.last;
    if (target === null) return false;
    const found = namedPorts(topology.endpoints[target]!.pod, given.name, given.protocol);
    return found.some((named) => named.protocol === protocol && named.port === port);
  });
}
