/**
 * Random policies that matter to the clusters of random-cluster.ts: selectors of the labels in use, blocks around pods,
 * nodes and clients, ports that somebody has; and the shapes that are easily confused (absent, null, empty, `[{}]`).
 *
 * Every object is one that the API server would take.
 */

import fc from 'fast-check';
import {
  APPS,
  type ClusterObjects,
  type KubeObject,
  NAMESPACES,
  PORT_NAMES,
  PORTS,
  podAddress,
  randomObjects,
  someNamespace,
  TIERS,
  TRANSPORTS,
} from './random-cluster.ts';

export interface PolicyCluster {
  readonly cluster: ClusterObjects;
  readonly policies: readonly KubeObject[];
}

/** Everything, in the order in which a cluster would be applied. */
export function allObjects({ cluster, policies }: PolicyCluster): KubeObject[] {
  return [...cluster.nodes, ...cluster.namespaces, ...cluster.pods, ...cluster.services, ...policies];
}

// ---- selectors ---------------------------------------------------------------------------------------------------

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly object[];
}

function selector(labels: Readonly<Record<string, readonly string[]>>): fc.Arbitrary<Selector> {
  const entries = Object.entries(labels);
  const key = fc.constantFrom(...entries.map(([name]) => name), 'absent');
  const pair = fc.constantFrom(...entries).chain(([name, values]) => fc.constantFrom(...values).map((v) => [name, v]));
  const matchLabels = pair.map((own) => Object.fromEntries([own]) as Record<string, string>);
  const expression = fc.oneof(
    fc.constantFrom(...entries).chain(([name, values]) =>
      fc.record({
        key: fc.constant(name),
        operator: fc.constantFrom('In', 'NotIn'),
        values: fc.subarray([...values], { minLength: 1 }),
      }),
    ),
    fc.record({ key, operator: fc.constantFrom('Exists', 'DoesNotExist') }),
  );
  return fc.oneof(
    { weight: 2, arbitrary: fc.constant({}) },
    { weight: 4, arbitrary: matchLabels.map((own) => ({ matchLabels: own })) },
    { weight: 2, arbitrary: expression.map((own) => ({ matchExpressions: [own] })) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(matchLabels, expression)
        .map(([own, other]) => ({ matchLabels: own, matchExpressions: [other] })),
    },
  );
}

const podSelector = selector({ app: APPS, tier: TIERS });
const namespaceSelector = selector({
  env: ['prod', 'dev'],
  team: ['a', 'b'],
  'kubernetes.io/metadata.name': NAMESPACES,
});
const nodeSelector = selector({ role: ['edge', 'worker'], zone: ['z1', 'z2'] });

// ---- blocks ------------------------------------------------------------------------------------------------------

/** Each with what may be cut out of it. */
const BLOCKS: readonly { readonly cidr: string; readonly within: readonly string[] }[] = [
  { cidr: '0.0.0.0/0', within: ['10.0.0.0/8', '203.0.113.64/26', '192.168.0.2/32', '10.244.1.0/24'] },
  { cidr: '::/0', within: ['fd00::/8', '2001:db8:5::40/122', 'fd00:168::2/128', 'fd00:10:244:1::/64'] },
  { cidr: '10.244.0.0/16', within: ['10.244.1.0/24', '10.244.2.2/32', '10.244.2.0/30'] },
  { cidr: 'fd00:10:244::/48', within: ['fd00:10:244:1::/64', 'fd00:10:244:2::2/128'] },
  { cidr: '10.244.1.0/24', within: ['10.244.1.2/32', '10.244.1.99/32'] },
  { cidr: 'fd00:10:244:2::/64', within: ['fd00:10:244:2::/126'] },
  { cidr: `${podAddress(1, 2, 4)}/32`, within: [] },
  { cidr: `${podAddress(2, 3, 6)}/128`, within: [] },
  { cidr: '192.168.0.0/24', within: ['192.168.0.1/32', '192.168.0.2/31'] },
  { cidr: '192.168.0.2/32', within: [] },
  { cidr: 'fd00:168::/64', within: ['fd00:168::1/128'] },
  { cidr: '203.0.113.0/24', within: ['203.0.113.64/26', '203.0.113.5/32'] },
  { cidr: '2001:db8:5::/64', within: ['2001:db8:5::5/128'] },
  { cidr: '10.96.0.0/12', within: [] },
];

const ipBlock = fc.constantFrom(...BLOCKS).chain(({ cidr, within }) =>
  fc.oneof(
    fc.constant({ cidr }),
    fc.subarray([...within]).map((except) => ({ cidr, except })),
  ),
);
const networks = fc.uniqueArray(
  fc.constantFrom(...BLOCKS).map(({ cidr }) => cidr),
  { minLength: 1, maxLength: 2 },
);

// ---- NetworkPolicy -----------------------------------------------------------------------------------------------

const networkPeer = fc.oneof(
  { weight: 2, arbitrary: fc.record({ podSelector }) },
  { weight: 2, arbitrary: fc.record({ namespaceSelector }) },
  { weight: 3, arbitrary: fc.record({ namespaceSelector, podSelector }) },
  { weight: 3, arbitrary: fc.record({ ipBlock }) },
);

const protocol = fc.constantFrom('TCP' as const, 'TCP' as const, ...TRANSPORTS);
const number = fc.constantFrom(...PORTS, 8080 as const, 80 as const);
const networkPort: fc.Arbitrary<object> = fc.oneof(
  { weight: 1, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: fc.record({ protocol }) },
  { weight: 4, arbitrary: fc.record({ protocol, port: number }) },
  { weight: 1, arbitrary: fc.record({ port: number }) },
  { weight: 3, arbitrary: fc.record({ protocol, port: fc.constantFrom(...PORT_NAMES) }) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(protocol, number, fc.constantFrom(0, 1, 1000, 8000))
      .map(([own, first, more]) => ({ protocol: own, port: first, endPort: first + more })),
  },
);

/** A list as people write it: left out, null, empty, or with something in it. */
const list = <T>(member: fc.Arbitrary<T>, maxLength: number): fc.Arbitrary<T[] | null | undefined> =>
  fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom<T[] | null | undefined>(undefined, null, []) },
    { weight: 5, arbitrary: fc.array(member, { minLength: 1, maxLength }) },
  );

const withoutUndefined = <T extends object>(own: T): T =>
  Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)) as T;

const rules = (peers: 'from' | 'to'): fc.Arbitrary<object[] | null | undefined> => {
  const rule = fc
    .tuple(list(networkPeer, 3), list(networkPort, 3))
    .map(([own, ports]) => withoutUndefined({ [peers]: own, ports }));
  return fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom<object[] | null | undefined>(undefined, null, []) },
    { weight: 1, arbitrary: fc.constant<object[]>([{}]) },
    { weight: 6, arbitrary: fc.array(rule, { minLength: 1, maxLength: 2 }) },
  );
};

const networkPolicy = (index: number): fc.Arbitrary<KubeObject> =>
  fc
    .record({
      namespace: someNamespace,
      podSelector: fc.oneof(fc.constant({}), podSelector),
      policyTypes: fc.constantFrom(undefined, undefined, ['Ingress'], ['Egress'], ['Ingress', 'Egress']),
      ingress: rules('from'),
      egress: rules('to'),
    })
    .map(({ namespace, ...spec }) => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: `np-${index}`, namespace },
      spec: withoutUndefined(spec),
    }));

// ---- the cluster's own policies ----------------------------------------------------------------------------------

const subject: fc.Arbitrary<object> = fc.oneof(
  fc.constant({ namespaces: {} }),
  fc.record({ namespaces: namespaceSelector }),
  fc.record({ pods: fc.record({ namespaceSelector, podSelector }) }),
);
/** Nobody's name goes with nodes and networks: the API refuses it. */
const clusterPeers = (direction: 'ingress' | 'egress', named: boolean): fc.Arbitrary<object[]> =>
  fc.array(
    direction === 'ingress' || named
      ? subject
      : fc.oneof(subject, fc.record({ nodes: nodeSelector }), fc.record({ networks })),
    { minLength: 1, maxLength: 2 },
  );

const range = fc.tuple(number, fc.constantFrom(1, 1000, 8000)).map(([start, more]) => ({ start, end: start + more }));
const portName = fc.constantFrom(...PORT_NAMES);

const adminPort = (named: boolean): fc.Arbitrary<object> =>
  named
    ? portName.map((namedPort) => ({ namedPort }))
    : fc.oneof(
        fc.record({ portNumber: fc.record({ protocol, port: number }) }),
        fc.tuple(protocol, range).map(([own, ends]) => ({ portRange: { protocol: own, ...ends } })),
      );
const clusterProtocol = (named: boolean): fc.Arbitrary<object> =>
  named
    ? portName.map((destinationNamedPort) => ({ destinationNamedPort }))
    : fc
        .tuple(fc.constantFrom('tcp', 'tcp', 'udp', 'sctp'), fc.oneof(fc.record({ number }), fc.record({ range })))
        .map(([own, destinationPort]) => ({ [own]: { destinationPort } }));

interface Flavour {
  readonly actions: readonly string[];
  readonly ports: 'ports' | 'protocols';
}
const CLUSTER: Flavour = { actions: ['Accept', 'Deny', 'Pass'], ports: 'protocols' };
const ADMIN: Flavour = { actions: ['Allow', 'Deny', 'Pass'], ports: 'ports' };
const BASELINE: Flavour = { actions: ['Allow', 'Deny'], ports: 'ports' };

const clusterRules = (direction: 'ingress' | 'egress', { actions, ports }: Flavour): fc.Arbitrary<object[]> =>
  fc.array(
    fc.boolean().chain((named) =>
      fc
        .record({
          action: fc.constantFrom(...actions),
          peers: clusterPeers(direction, named),
          ports: fc.option(
            fc.array(ports === 'ports' ? adminPort(named) : clusterProtocol(named), { minLength: 1, maxLength: 2 }),
            { nil: undefined, freq: 2 },
          ),
        })
        .map((rule) =>
          withoutUndefined({
            action: rule.action,
            [direction === 'ingress' ? 'from' : 'to']: rule.peers,
            [ports]: rule.ports,
          }),
        ),
    ),
    { maxLength: 3, size: 'max' },
  );

const clusterSpec = (flavour: Flavour) =>
  fc.record({
    subject,
    ingress: clusterRules('ingress', flavour),
    egress: clusterRules('egress', flavour),
  });

/** Few numbers, so that two policies often have the same. */
const priority = fc.constantFrom(0, 10, 10, 20, 1000);

const clusterNetworkPolicy = (index: number): fc.Arbitrary<KubeObject> =>
  fc
    .record({ tier: fc.constantFrom('Admin', 'Admin', 'Baseline'), priority, spec: clusterSpec(CLUSTER) })
    .map(({ tier, priority: own, spec }) => ({
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: `cnp-${index}` },
      spec: { tier, priority: own, ...spec },
    }));

const adminNetworkPolicy = (index: number): fc.Arbitrary<KubeObject> =>
  fc.record({ priority, spec: clusterSpec(ADMIN) }).map(({ priority: own, spec }) => ({
    apiVersion: 'policy.networking.k8s.io/v1alpha1',
    kind: 'AdminNetworkPolicy',
    metadata: { name: `anp-${index}` },
    spec: { priority: own, ...spec },
  }));

const baselinePolicy: fc.Arbitrary<KubeObject> = clusterSpec(BASELINE).map((spec) => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha1',
  kind: 'BaselineAdminNetworkPolicy',
  metadata: { name: 'default' },
  spec,
}));

// ---- all together ------------------------------------------------------------------------------------------------

const upTo = (count: number, one: (index: number) => fc.Arbitrary<KubeObject>): fc.Arbitrary<KubeObject[]> =>
  fc
    .tuple(...Array.from({ length: count }, (_, index) => fc.option(one(index + 1), { freq: 2 })))
    .map((drawn) => drawn.filter((own) => own !== null));

/** NetworkPolicies alone. */
export const randomNetworkPolicies: fc.Arbitrary<KubeObject[]> = upTo(7, networkPolicy);

/** All kinds; often only some of them. */
export const randomPolicies: fc.Arbitrary<KubeObject[]> = fc
  .record({
    network: randomNetworkPolicies,
    cluster: fc.oneof(fc.constant([]), upTo(3, clusterNetworkPolicy)),
    admin: fc.oneof(fc.constant([]), upTo(2, adminNetworkPolicy)),
    baseline: fc.option(baselinePolicy, { freq: 2 }),
  })
  .map(({ network, cluster, admin, baseline }) => [
    ...network,
    ...cluster,
    ...admin,
    ...(baseline === null ? [] : [baseline]),
  ]);

/** A cluster with policies of all kinds. */
export const randomPolicyCluster: fc.Arbitrary<PolicyCluster> = fc.record({
  cluster: randomObjects(),
  policies: randomPolicies,
});

/** Clusters of a seed, for tests that do without shrinking. */
export function samplePolicyClusters(seed: number, count: number): PolicyCluster[] {
  return fc.sample(randomPolicyCluster, { seed, numRuns: count });
}
