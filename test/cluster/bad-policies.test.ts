/** Policies that an API server refuses, or takes with a warning: every line with object and field. */

import { describe, expect, it } from 'vitest';
import { errorsOf, linesOf, loadObjects, loadText, warningsOf } from './support.ts';

const GROUP = 'policy.networking.k8s.io';

function network(spec: object): object {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'n' }, spec };
}

function wide(kind: string, spec: object, name = 'p', version = 'v1alpha1'): object {
  return { apiVersion: `${GROUP}/${version}`, kind, metadata: { name }, spec };
}

const EVERYBODY = { namespaces: {} };

function cluster(spec: object, version = 'v1alpha2'): object {
  return wide('ClusterNetworkPolicy', { tier: 'Admin', priority: 1, subject: EVERYBODY, ...spec }, 'p', version);
}

function admin(spec: object): object {
  return wide('AdminNetworkPolicy', { priority: 1, subject: EVERYBODY, ...spec });
}

/** Error lines without 'NetworkPolicy default/n ' before each. */
function errors(object: object): string[] {
  return linesOf(() => loadObjects([object])).map((line) => line.replace(/^.*?\w+Policy \S+ /, ''));
}

function warnings(object: object): string[] {
  return warningsOf(loadObjects([object])).map((line) => line.replace(/^\w+Policy \S+ /, ''));
}

describe('NetworkPolicy', () => {
  const ingress = (rule: object): object => network({ ingress: [rule] });
  it.each([
    [
      'an unknown operator',
      network({ podSelector: { matchExpressions: [{ key: 'a', operator: 'Equals', values: ['b'] }] } }),
      ['spec.podSelector.matchExpressions[0].operator: "Equals" is not one of In, NotIn, Exists, DoesNotExist'],
    ],
    [
      'values where none belong, and none where some do',
      ingress({
        from: [
          { podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } },
          { namespaceSelector: { matchExpressions: [{ key: 'a', operator: 'NotIn', values: [] }] } },
        ],
      }),
      [
        'spec.ingress[0].from[0].podSelector.matchExpressions[0].values: must be empty with Exists',
        'spec.ingress[0].from[1].namespaceSelector.matchExpressions[0].values: is required with NotIn',
      ],
    ],
    [
      'keys and values that no label has',
      network({
        podSelector: {
          matchLabels: { 'a b': 'c', 'x/y/z': '', 'example.org/ok': 'ok_1.2', v: '-x' },
          matchExpressions: [{ key: '', operator: 'In', values: ['ok', 'x'.repeat(64)] }],
        },
      }),
      [
        `spec.podSelector.matchLabels.a b: "a b" is not a label's key (letters, digits, '-', '_' and '.', at most 63, with or without a domain and '/' before it)`,
        `spec.podSelector.matchLabels.x/y/z: "x/y/z" is not a label's key (letters, digits, '-', '_' and '.', at most 63, with or without a domain and '/' before it)`,
        `spec.podSelector.matchLabels.v: "-x" is not a label's value (letters, digits, '-', '_' and '.', at most 63)`,
        `spec.podSelector.matchExpressions[0].key: "" is not a label's key (letters, digits, '-', '_' and '.', at most 63, with or without a domain and '/' before it)`,
        `spec.podSelector.matchExpressions[0].values[1]: "${'x'.repeat(64)}" is not a label's value (letters, digits, '-', '_' and '.', at most 63)`,
      ],
    ],
    [
      'endPort below its port, with a name, without a port, out of range',
      ingress({
        ports: [{ port: 90, endPort: 89 }, { port: 'web', endPort: 90 }, { endPort: 1 }, { port: 1, endPort: 65536 }],
      }),
      [
        'spec.ingress[0].ports[0].endPort: 89 lies before port 90',
        'spec.ingress[0].ports[1].endPort: needs a number in port',
        'spec.ingress[0].ports[2].endPort: needs a number in port',
        'spec.ingress[0].ports[3].endPort: 65536 is not a port (1 to 65535)',
      ],
    ],
    [
      'ports',
      ingress({ ports: [{ port: 65536 }, { port: 'UPPER' }, { port: '80' }, { port: '' }] }),
      [
        'spec.ingress[0].ports[0].port: 65536 is not a port (1 to 65535)',
        `spec.ingress[0].ports[1].port: "UPPER" is neither a port's number nor its name`,
        `spec.ingress[0].ports[2].port: "80" is neither a port's number nor its name`,
        `spec.ingress[0].ports[3].port: "" is neither a port's number nor its name`,
      ],
    ],
    [
      'protocols',
      ingress({ ports: [{ protocol: 'ICMP' }, { protocol: 'tcp' }] }),
      [
        'spec.ingress[0].ports[0].protocol: "ICMP" is not one of TCP, UDP, SCTP',
        'spec.ingress[0].ports[1].protocol: "tcp" is not one of TCP, UDP, SCTP',
      ],
    ],
    [
      'blocks: no prefix, except outside, as wide as the block, of the other family',
      ingress({
        from: [
          { ipBlock: { cidr: '10.0.0.0' } },
          { ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16', '10.0.0.0/8', 'fd00::/16', 'x', '10.1.0.0/16'] } },
        ],
      }),
      [
        'spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.0" is not a prefix (address/length)',
        'spec.ingress[0].from[1].ipBlock.except[0]: "11.0.0.0/16" does not lie inside "10.0.0.0/8"',
        'spec.ingress[0].from[1].ipBlock.except[1]: "10.0.0.0/8" does not lie inside "10.0.0.0/8"',
        'spec.ingress[0].from[1].ipBlock.except[2]: "fd00::/16" does not lie inside "10.0.0.0/8"',
        'spec.ingress[0].from[1].ipBlock.except[3]: "x" is not a prefix (address/length)',
      ],
    ],
    [
      'a block beside a selector, and nothing at all',
      network({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8' }, podSelector: {} }, {}] }] }),
      [
        'spec.egress[0].to[0]: ipBlock stands alone in its peer',
        'spec.egress[0].to[1]: needs a podSelector, a namespaceSelector or an ipBlock',
      ],
    ],
    [
      'a type that there is not',
      network({ policyTypes: ['ingress'] }),
      ['spec.policyTypes[0]: "ingress" is not one of Ingress, Egress'],
    ],
    [
      'too many types',
      network({ policyTypes: ['Ingress', 'Egress', 'Ingress'] }),
      ['spec.policyTypes: holds 3 types; a policy takes at most 2'],
    ],
  ])('%s', (_name, object, lines) => {
    expect(errors(object)).toEqual(lines);
  });

  it('is taken with a warning', () => {
    expect(
      warnings(network({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.5/8', except: ['10.1.1.1/16'] } }] }] })),
    ).toEqual([
      'spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.5/8" has bits behind its length; it is read as 10.0.0.0/8',
      'spec.ingress[0].from[0].ipBlock.except[0]: "10.1.1.1/16" has bits behind its length; it is read as 10.1.0.0/16',
    ]);
    expect(warnings(network({ policyTypes: ['Ingress', 'Ingress'], egress: [{}] }))).toEqual([
      'spec.policyTypes[1]: Ingress stands twice',
      'spec.egress: has no effect: policyTypes leaves Egress out',
    ]);
  });
});

describe('ClusterNetworkPolicy', () => {
  const peers = (count: number): object[] => Array.from({ length: count }, () => EVERYBODY);
  it.each([
    [
      'priority, tier and action',
      cluster({ tier: 'admin', priority: -1, ingress: [{ action: 'Allow', from: [EVERYBODY] }] }),
      [
        'spec.tier: "admin" is not one of Admin, Baseline',
        'spec.priority: -1 is not a priority (0 to 1000)',
        'spec.ingress[0].action: "Allow" is not one of Accept, Deny, Pass',
      ],
    ],
    [
      'what must be there',
      wide('ClusterNetworkPolicy', { ingress: [{}], egress: [{ action: 'Deny', from: [EVERYBODY] }] }, 'p', 'v1alpha2'),
      [
        'spec.tier: is required',
        'spec.priority: is required',
        'spec.subject: is required',
        'spec.ingress[0].action: is required',
        'spec.ingress[0].from: is required',
        'spec.egress[0].to: is required',
      ],
    ],
    [
      'exactly one field of a subject and of a peer',
      cluster({
        subject: { namespaces: {}, pods: { podSelector: {} } },
        ingress: [{ action: 'Deny', from: [{}, { networks: ['10.0.0.0/8'] }] }],
        egress: [{ action: 'Deny', to: [{ nodes: {}, networks: ['10.0.0.0/8'] }] }],
      }),
      [
        'spec.subject: needs exactly one of namespaces, pods; it has namespaces and pods',
        'spec.ingress[0].from[0]: needs exactly one of namespaces, pods; it has none',
        'spec.ingress[0].from[1]: needs exactly one of namespaces, pods; it has none',
        'spec.egress[0].to[0]: needs exactly one of namespaces, pods, nodes, networks, domainNames; it has nodes and networks',
      ],
    ],
    [
      'selectors',
      cluster({
        subject: { pods: { podSelector: { matchLabels: { '-': 'a' } } } },
        egress: [{ action: 'Deny', to: [{ nodes: { matchExpressions: [{ key: 'a', operator: 'In' }] } }] }],
      }),
      [
        `spec.subject.pods.podSelector.matchLabels.-: "-" is not a label's key (letters, digits, '-', '_' and '.', at most 63, with or without a domain and '/' before it)`,
        'spec.egress[0].to[0].nodes.matchExpressions[0].values: is required with In',
      ],
    ],
    [
      'lists: too long, empty',
      cluster({
        ingress: [
          ...Array.from({ length: 24 }, () => ({ action: 'Deny', from: [EVERYBODY] })),
          { action: 'Deny', from: [] },
          { action: 'Deny', from: peers(26), protocols: [] },
        ],
        egress: [{ action: 'Deny', to: [{ networks: [] }] }],
      }),
      [
        'spec.ingress: holds 26 rules; at most 25 are allowed',
        'spec.ingress[24].from: needs at least one peer',
        'spec.ingress[25].from: holds 26 peers; at most 25 are allowed',
        'spec.ingress[25].protocols: needs at least one protocol',
        'spec.egress[0].to[0].networks: needs at least one network',
      ],
    ],
    [
      'protocols with none or two members, and ports of all kinds',
      cluster({
        ingress: [
          {
            action: 'Deny',
            from: [EVERYBODY],
            protocols: [
              {},
              { tcp: { destinationPort: { number: 1 } }, udp: { destinationPort: { number: 1 } } },
              { sctp: { destinationPort: {} } },
              { tcp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } } },
              { tcp: { destinationPort: { range: { start: 9, end: 8 } } } },
              { tcp: { destinationPort: { range: { start: 9, end: 9 } } } },
            ],
          },
        ],
      }),
      [
        'spec.ingress[0].protocols[0]: needs exactly one of tcp, udp, sctp, destinationNamedPort; it has none',
        'spec.ingress[0].protocols[1]: needs exactly one of tcp, udp, sctp, destinationNamedPort; it has tcp and udp',
        'spec.ingress[0].protocols[2].sctp.destinationPort: needs exactly one of number, range; it has none',
        'spec.ingress[0].protocols[3].tcp.destinationPort: needs exactly one of number, range; it has number and range',
        'spec.ingress[0].protocols[4].tcp.destinationPort.range.end: 8 does not lie behind start 9',
        'spec.ingress[0].protocols[5].tcp.destinationPort.range.end: 9 does not lie behind start 9',
      ],
    ],
    [
      'ports out of range',
      cluster({
        ingress: [
          {
            action: 'Deny',
            from: [EVERYBODY],
            protocols: [
              { tcp: {} },
              { tcp: { destinationPort: { number: 0 } } },
              { udp: { destinationPort: { range: { start: 1, end: 65536 } } } },
            ],
          },
        ],
      }),
      [
        'spec.ingress[0].protocols[0].tcp.destinationPort: is required',
        'spec.ingress[0].protocols[1].tcp.destinationPort.number: 0 is not a port (1 to 65535)',
        'spec.ingress[0].protocols[2].udp.destinationPort.range.end: 65536 is not a port (1 to 65535)',
      ],
    ],
    [
      'networks, names and named ports',
      cluster({
        egress: [
          {
            name: 'x'.repeat(101),
            action: 'Deny',
            to: [
              { networks: ['10.0.0.0', '10.0.0.0/8', '10.0.0.0/8'] },
              { domainNames: ['a.b'] },
              { nodes: {} },
              EVERYBODY,
            ],
            protocols: [{ destinationNamedPort: 'http' }],
          },
        ],
      }),
      [
        `spec.egress[0].name: has 101 characters; a rule's name has at most 100`,
        'spec.egress[0].to[0].networks[0]: "10.0.0.0" is not a prefix (address/length)',
        'spec.egress[0].to[0].networks[2]: "10.0.0.0/8" stands twice',
        'spec.egress[0].to[0].networks: have no named ports',
        'spec.egress[0].to[1].domainNames: can be accepted only, neither denied nor passed',
        'spec.egress[0].to[1].domainNames: have no named ports',
        'spec.egress[0].to[2].nodes: have no named ports',
      ],
    ],
  ])('%s', (_name, object, lines) => {
    expect(errors(object)).toEqual(lines);
  });

  it('is taken with a warning', () => {
    const to = [{ networks: ['10.0.0.5/8'] }, { domainNames: ['example.org'] }];
    const ingress = [{ action: 'Pass', from: [EVERYBODY], protocols: [{ destinationNamedPort: 'No_Port' }] }];
    expect(warnings(cluster({ ingress, egress: [{ action: 'Accept', to }] }))).toEqual([
      'spec.ingress[0].protocols[0].destinationNamedPort: "No_Port" is no name that a port can have; it matches nothing',
      'spec.egress[0].to[0].networks[0]: "10.0.0.5/8" has bits behind its length; it is read as 10.0.0.0/8',
      'spec.egress[0].to[1].domainNames: are not looked up here: this peer matches nothing',
    ]);
  });

  it('is read in its next version too, and in no other', () => {
    const { cluster: loaded } = loadObjects([cluster({}, 'v1beta1')]);
    expect(loaded.clusterNetworkPolicies.map(({ apiVersion }) => apiVersion)).toEqual([`${GROUP}/v1alpha2`]);
    expect(linesOf(() => loadObjects([cluster({}, 'v1alpha1')]))).toEqual(
      [
        `ClusterNetworkPolicy p apiVersion: ${GROUP}/v1alpha1 is not an apiVersion of ClusterNetworkPolicy (${GROUP}/v1alpha2)`,
      ].map((line) => expect.stringContaining(line)),
    );
  });
});

describe('AdminNetworkPolicy and the Baseline one', () => {
  const rules = (count: number): object[] =>
    Array.from({ length: count }, () => ({ action: 'Deny', from: [EVERYBODY] }));
  it.each([
    [
      'actions are those of v1alpha1',
      admin({ priority: 1001, ingress: [{ action: 'Accept', from: [EVERYBODY] }] }),
      [
        'spec.priority: 1001 is not a priority (0 to 1000)',
        'spec.ingress[0].action: "Accept" is not one of Allow, Deny, Pass',
      ],
    ],
    [
      'the Baseline one does not pass',
      wide(
        'BaselineAdminNetworkPolicy',
        { subject: EVERYBODY, ingress: [{ action: 'Pass', from: [EVERYBODY] }] },
        'default',
      ),
      ['spec.ingress[0].action: "Pass" is not one of Allow, Deny'],
    ],
    [
      'the Baseline one has one name',
      wide('BaselineAdminNetworkPolicy', { subject: EVERYBODY }, 'mine'),
      ['metadata.name: "mine": a cluster has only one BaselineAdminNetworkPolicy, called default'],
    ],
    [
      'namespaces must be named, 100 rules are enough, ports have exactly one field',
      admin({
        subject: { pods: { podSelector: {} } },
        ingress: [
          ...rules(100),
          {
            action: 'Allow',
            from: [EVERYBODY],
            ports: [{}, { portNumber: { port: 1 }, namedPort: 'a' }, { portRange: { start: 5, end: 4 } }],
          },
        ],
        egress: [{ action: 'Deny', to: [{ networks: ['fd00::/8'] }], ports: [{ namedPort: 'http' }] }],
      }),
      [
        'spec.subject.pods.namespaceSelector: is required',
        'spec.ingress: holds 101 rules; at most 100 are allowed',
        'spec.ingress[100].ports[0]: needs exactly one of portNumber, portRange, namedPort; it has none',
        'spec.ingress[100].ports[1]: needs exactly one of portNumber, portRange, namedPort; it has portNumber and namedPort',
        'spec.ingress[100].ports[2].portRange.end: 4 does not lie behind start 5',
        'spec.egress[0].to[0].networks: have no named ports',
      ],
    ],
  ])('%s', (_name, object, lines) => {
    expect(errors(object)).toEqual(lines);
  });

  it('26 rules are not too many', () => {
    expect(errors(admin({ ingress: rules(26) }))).toEqual([]);
  });
});

describe('in a file', () => {
  const text = [
    `apiVersion: ${GROUP}/v1alpha1`,
    'kind: BaselineAdminNetworkPolicy',
    'metadata: {name: default, namespace: shop}',
    'spec:',
    '  subject: {namespaces: {}}',
    '  ingress:',
    '    - action: Deny',
    '      from:',
    '        - namespaces: {}',
    '          pods: {podSelector: {}}',
  ].join('\n');

  it('errors name the line', () => {
    expect(errorsOf(text)).toEqual([
      'shop.yaml:9: BaselineAdminNetworkPolicy default spec.ingress[0].from[0]: needs exactly one of namespaces, pods; it has namespaces and pods',
      'shop.yaml:10: BaselineAdminNetworkPolicy default spec.ingress[0].from[0].pods.namespaceSelector: is required',
    ]);
  });

  it('lists with nothing in them are as if left out', () => {
    const np =
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec:\n  podSelector:\n  ingress:\n    - from:\n      ports:\n  egress:\n';
    const { cluster: loaded } = loadText(np);
    expect(loaded.networkPolicies[0]!.spec).toEqual({ podSelector: {}, ingress: [{}] });
  });
});

describe('BaselineAdminNetworkPolicy', () => {
  it('is one in a cluster', () => {
    const baseline = JSON.stringify(wide('BaselineAdminNetworkPolicy', { subject: EVERYBODY }, 'default'));
    const text = `${baseline}\n---\n${baseline}\n`;
    expect(linesOf(() => loadText(text))).toEqual([
      'shop.yaml:3: BaselineAdminNetworkPolicy default metadata.name: a cluster has one BaselineAdminNetworkPolicy, and the input holds another before this',
    ]);
  });
});
