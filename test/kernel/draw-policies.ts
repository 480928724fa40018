/**
 * Random policies for the judged node's pods: rules that name the clients, backends and ports of the drawn flows, so that
 * packets meet them. A third of the cases has none, because most packets of a case with some are denied.
 */

import type { ProfileName } from '../../control/src/policy/profile.ts';
import type { Random } from './random.ts';

/** Pods of the judged node, which policies select, and others. */
const OWN_PODS = ['client-1', 'self-1', 'one-10', 'one-11'];
const PODS = [...OWN_PODS, 'client-2', 'two-10', 'two-11'];
const ZONES = ['zone-1', 'zone-2'];
const PROFILES: readonly ProfileName[] = ['kubernetes', 'kubernetes', 'cilium', 'calico'];
const PORTS = [80, 81, 8080, 8081, 7070];
/** Ranges hold few of the ports that the two draw for masqueraded flows, each its own: a server's packets go there. */
const WIDE = 100;
/** Names that pods give their ports, by protocol (model.ts). */
const PORT_NAMES = { TCP: ['web', 'web-alt'], UDP: ['talk', 'talk-alt'], SCTP: ['plain'] } as const;
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
/** Blocks around clients, pods and nodes, with what may be cut out of them. */
const BLOCKS: readonly (readonly [cidr: string, except: readonly string[]])[] = [
  ['0.0.0.0/0', ['192.0.2.0/24', '10.244.1.0/25', '128.0.0.0/1']],
  ['10.244.0.0/16', ['10.244.1.8/29', '10.244.2.0/24']],
  ['192.168.0.0/24', ['192.168.0.2/32']],
  ['192.0.2.0/24', ['192.0.2.0/28']],
  ['10.96.0.0/16', []],
  ['::/0', ['2001:db8:2::/64', 'fd00:10:244:1::/64', '8000::/1']],
  ['fd00:10:244::/56', ['fd00:10:244:1::8/125', 'fd00:10:244:2::/64']],
  ['fd00:168::/64', ['fd00:168::2/128']],
  ['2001:db8:2::/64', ['2001:db8:2::/124']],
];
const API = 'policy.networking.k8s.io';

export interface DrawnPolicies {
  readonly policies: readonly object[];
  readonly profile: ProfileName;
}

export function drawPolicies(random: Random): DrawnPolicies {
  const drawer = new PolicyDrawer(random);
  const profile = random.pick(PROFILES);
  if (random.oneIn(3)) return { policies: [], profile };
  const policies = Array.from({ length: random.between(1, 4) }, (_, i) =>
    random.oneIn(2) ? drawer.networkPolicy(`np-${i}`) : drawer.clusterPolicy(`cnp-${i}`, i),
  );
  return { policies: random.oneIn(3) ? [drawer.commonPolicy('common'), ...policies] : policies, profile };
}

class PolicyDrawer {
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  networkPolicy(name: string): object {
    const { random } = this;
    const policyTypes = random.pick([['Ingress'], ['Egress'], ['Ingress', 'Egress']]);
    const rules = (peers: 'from' | 'to'): object[] =>
      Array.from({ length: random.below(4) }, () => ({
        ...(random.oneIn(6) ? {} : { [peers]: this.some(() => this.networkPeer()) }),
        ...(random.oneIn(3) ? {} : { ports: this.networkPorts() }),
      }));
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name, namespace: 'default' },
      spec: { podSelector: this.selector(OWN_PODS), policyTypes, ingress: rules('from'), egress: rules('to') },
    };
  }

  /** What most flows meet: all pods reach each other at named ports, and outsiders reach them at what Services lead to. */
  commonPolicy(name: string): object {
    const { random } = this;
    const named = PROTOCOLS.flatMap((protocol) => PORT_NAMES[protocol].map((port) => ({ protocol, port })));
    const numbered = PROTOCOLS.flatMap((protocol) => [80, 8080].map((port) => ({ protocol, port })));
    const from = BLOCKS.filter(([cidr]) => cidr.endsWith('/0')).map(([cidr, except]) => ({
      ipBlock: { cidr, except: [random.pick(except.slice(1))] },
    }));
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name, namespace: 'default' },
      spec: {
        podSelector: {},
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from, ports: numbered }],
        egress: [{ to: [{ podSelector: {} }], ports: named }],
      },
    };
  }

  /** Priorities differ, so that their order is nobody's choice. */
  clusterPolicy(name: string, priority: number): object {
    const { random } = this;
    const rules = (peers: 'from' | 'to'): object[] =>
      Array.from({ length: random.below(4) }, () => {
        // Names are of pods: the API takes none where peers are something else.
        const isOfPods = peers === 'from' || random.oneIn(2);
        return {
          action: random.pick(['Accept', 'Deny', 'Pass']),
          [peers]: this.some(() => (isOfPods ? this.podPeer() : this.addressPeer())),
          ...(random.oneIn(3) ? {} : { protocols: this.some(() => this.protocol(isOfPods)) }),
        };
      });
    return {
      apiVersion: `${API}/v1alpha2`,
      kind: 'ClusterNetworkPolicy',
      metadata: { name },
      spec: {
        tier: random.pick(['Admin', 'Baseline']),
        priority,
        subject: { pods: { namespaceSelector: {}, podSelector: this.selector(OWN_PODS) } },
        ingress: rules('from'),
        egress: rules('to'),
      },
    };
  }

  private networkPeer(): object {
    const { random } = this;
    if (random.oneIn(2)) return random.oneIn(4) ? { namespaceSelector: {} } : { podSelector: this.selector(PODS) };
    const [cidr, except] = random.pick(BLOCKS);
    return { ipBlock: { cidr, except: random.some(except, 2) } };
  }

  private podPeer(): object {
    const podSelector = this.selector(PODS);
    return this.random.oneIn(4) ? { namespaces: {} } : { pods: { namespaceSelector: {}, podSelector } };
  }

  private addressPeer(): object {
    const { random } = this;
    if (random.oneIn(2)) return { networks: [...new Set(this.some(() => random.pick(BLOCKS)[0]))] };
    const zone = random.pick(ZONES);
    return { nodes: { matchLabels: { 'topology.kubernetes.io/zone': zone } } };
  }

  /** Mostly of one protocol, so that several stand in one match. */
  private networkPorts(): object[] {
    const own = this.random.pick(PROTOCOLS);
    return this.some(() => this.networkPort(this.random.oneIn(3) ? this.random.pick(PROTOCOLS) : own));
  }

  private networkPort(protocol: keyof typeof PORT_NAMES): object {
    const { random } = this;
    const port = random.pick(PORTS);
    return random.pick([
      { protocol },
      { protocol, port },
      { protocol, port },
      { protocol, port, endPort: port + random.pick([0, 1, 8000]) },
      { protocol, port: random.pick(PORT_NAMES[protocol]) },
      { protocol, port: random.pick(PORT_NAMES[protocol]) },
    ]);
  }

  private protocol(mayBeNamed: boolean): object {
    const { random } = this;
    const number = random.pick(PORTS);
    const destinationPort = random.oneIn(2)
      ? { number }
      : { range: { start: number, end: number + random.pick([1, WIDE]) } };
    return mayBeNamed && random.oneIn(4)
      ? { destinationNamedPort: random.pick(PORT_NAMES[random.pick(PROTOCOLS)]) }
      : { [random.pick(PROTOCOLS).toLowerCase()]: { destinationPort } };
  }

  private selector(pods: readonly string[]): object {
    const { random } = this;
    if (random.oneIn(4)) return {};
    const values = random.some(pods, 2);
    return values.length === 0
      ? { matchLabels: { pod: 'nobody' } }
      : { matchExpressions: [{ key: 'pod', operator: 'In', values }] };
  }

  private some<T>(draw: () => T): T[] {
    return Array.from({ length: this.random.between(1, 3) }, draw);
  }
}
