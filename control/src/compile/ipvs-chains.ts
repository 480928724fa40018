/**
 * The iptables rules of kube-proxy in ipvs mode: how many there are does not depend on the number of Services, the
 * ipsets carry those. Rules that ask a set stand only where the set has elements, those of the filter table's guards
 * always.
 *
 *     nat KUBE-SERVICES          loopback sources return; load balancers -> KUBE-LOAD-BALANCER; ClusterIPs, external
 *                                IPs: mark; what is for a local address -> KUBE-NODE-PORT; the rest of them accept
 *     nat KUBE-NODE-PORT         policy Local returns, other nodePorts are marked
 *     nat KUBE-LOAD-BALANCER     policy Local returns, others are marked
 *     nat KUBE-POSTROUTING       hairpin by KUBE-LOOP-BACK, then the mark
 *     filter KUBE-PROXY-FIREWALL, KUBE-SOURCE-RANGES-FIREWALL    loadBalancerSourceRanges
 *     filter KUBE-IPVS-FILTER    ports of the node that are asked for at a virtual address are refused
 *     filter KUBE-IPVS-OUT-FILTER  the node itself at a load balancer whose source ranges leave it out
 *
 * Jumps are prepended one by one, so a base chain runs them in the reverse of the order in which they are ensured.
 * Source: kubernetes pkg/proxy/ipvs/proxier.go (iptablesJumpChain, ipsetWithIptablesChain, writeIptablesRules), 1.34.
 */

import type { Family } from '../model/address.ts';
import type { Protocol } from '../model/port.ts';
import { LOOPBACK_PREFIX, type LocalDetector } from './iptables-node.ts';
import {
  type Chain,
  comment,
  type Header,
  hostMatch,
  jump,
  MASQUERADE_MARK,
  type Match,
  makeRule,
  type Rule,
  type Source,
  type TableName,
  type Target,
} from './iptables-rules.ts';
import { KUBE_SETS, type KubeSet, nodePortSet, type SetContents, setName } from './ipvs-sets.ts';
import type { ServicePortInfo, ServiceVip } from './service-ports.ts';

const KUBE_PROXY: readonly Source[] = [{ option: 'kubeProxy' }];
const ANY: Header = {};
const MARK_MASQ = jump('KUBE-MARK-MASQ');
const ACCEPT: Target = { kind: 'accept' };
const RETURN: Target = { kind: 'return' };
const DROP: Target = { kind: 'drop' };
const TO_LOCAL: Match = { kind: 'addrtype', side: 'dst', invert: false };
const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];

type Sides = readonly ('src' | 'dst')[];
const DST: Sides = ['dst'];
const DST_DST: Sides = ['dst', 'dst'];
const DST_DST_SRC: Sides = ['dst', 'dst', 'src'];

/** A load balancer's port that the node itself may not use. */
export interface BarredVip {
  readonly port: ServicePortInfo;
  readonly vip: ServiceVip;
}

/** What the rules of a node depend on. */
export interface ChainInput {
  readonly family: Family;
  readonly contents: SetContents;
  readonly detector: LocalDetector | null;
  readonly masqueradeAll: boolean;
  readonly barred: readonly BarredVip[];
}

export function ipvsChains(input: ChainInput): Chain[] {
  const maker = new ChainMaker(input);
  return [
    chainOf('filter', 'INPUT', [
      jumpRule('filter', 'INPUT', 'KUBE-IPVS-FILTER', 'kubernetes ipvs access filter'),
      jumpRule('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', 'kube-proxy firewall rules'),
      jumpRule('filter', 'INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
    ]),
    chainOf('filter', 'FORWARD', [
      jumpRule('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', 'kube-proxy firewall rules'),
      jumpRule('filter', 'FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
    ]),
    chainOf('filter', 'OUTPUT', [
      jumpRule('filter', 'OUTPUT', 'KUBE-IPVS-OUT-FILTER', 'kubernetes ipvs access filter'),
    ]),
    chainOf('filter', 'KUBE-FORWARD', forwardRules()),
    chainOf('filter', 'KUBE-IPVS-FILTER', maker.filterRules()),
    chainOf('filter', 'KUBE-IPVS-OUT-FILTER', maker.outFilterRules()),
    chainOf('filter', 'KUBE-NODE-PORT', maker.healthCheckRules()),
    chainOf('filter', 'KUBE-PROXY-FIREWALL', maker.firewallRules()),
    chainOf('filter', 'KUBE-SOURCE-RANGES-FIREWALL', maker.sourceRangeRules()),
    chainOf('nat', 'PREROUTING', [jumpRule('nat', 'PREROUTING', 'KUBE-SERVICES', 'kubernetes service portals')]),
    chainOf('nat', 'OUTPUT', [jumpRule('nat', 'OUTPUT', 'KUBE-SERVICES', 'kubernetes service portals')]),
    chainOf('nat', 'POSTROUTING', [jumpRule('nat', 'POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules')]),
    chainOf('nat', 'KUBE-LOAD-BALANCER', maker.loadBalancerRules()),
    chainOf('nat', 'KUBE-MARK-MASQ', [
      makeRule(
        'nat',
        'KUBE-MARK-MASQ',
        ANY,
        [],
        { kind: 'mark', value: MASQUERADE_MARK, mask: MASQUERADE_MARK },
        KUBE_PROXY,
      ),
    ]),
    chainOf('nat', 'KUBE-NODE-PORT', maker.nodePortRules()),
    chainOf('nat', 'KUBE-POSTROUTING', maker.postroutingRules()),
    chainOf('nat', 'KUBE-SERVICES', maker.serviceRules()),
  ];
}

class ChainMaker {
  private readonly input: ChainInput;

  constructor(input: ChainInput) {
    this.input = input;
  }

  serviceRules(): Rule[] {
    const { family, detector, masqueradeAll } = this.input;
    const chain = 'KUBE-SERVICES';
    const loopback: Header = { source: { prefix: LOOPBACK_PREFIX[family], invert: false } };
    const rules: Rule[] = [makeRule('nat', chain, loopback, [], RETURN, KUBE_PROXY)];
    this.push(rules, 'nat', chain, 'KUBE-LOAD-BALANCER', DST_DST, jump('KUBE-LOAD-BALANCER'));
    if (masqueradeAll) {
      this.push(rules, 'nat', chain, 'KUBE-CLUSTER-IP', DST_DST, MARK_MASQ, ANY, [
        { option: 'kubeProxy.masqueradeAll' },
      ]);
    } else if (detector !== null) {
      this.push(rules, 'nat', chain, 'KUBE-CLUSTER-IP', DST_DST, MARK_MASQ, notLocal(detector), [
        { option: 'kubeProxy.detectLocalMode' },
      ]);
    } else {
      // A local process takes the virtual address, which is the node's own, as its source.
      this.push(rules, 'nat', chain, 'KUBE-CLUSTER-IP', ['src', 'dst'], MARK_MASQ, ANY, [
        { option: 'kubeProxy.detectLocalMode' },
      ]);
    }
    this.push(rules, 'nat', chain, 'KUBE-EXTERNAL-IP', DST_DST, MARK_MASQ);
    this.pushExternal(rules, 'KUBE-EXTERNAL-IP');
    this.pushExternal(rules, 'KUBE-EXTERNAL-IP-LOCAL');
    rules.push(makeRule('nat', chain, ANY, [TO_LOCAL], jump('KUBE-NODE-PORT'), KUBE_PROXY));
    for (const set of ['KUBE-CLUSTER-IP', 'KUBE-LOAD-BALANCER'] as const) {
      if (this.input.contents.isEmpty(set)) continue;
      rules.push(makeRule('nat', chain, ANY, [this.asks(set, DST_DST)], ACCEPT, KUBE_PROXY));
    }
    return rules;
  }

  nodePortRules(): Rule[] {
    const rules: Rule[] = [];
    for (const protocol of PROTOCOLS) {
      // An SCTP port goes with its address: bitmap:port knows no protocol, and SCTP came later.
      const sides = protocol === 'SCTP' ? DST_DST : DST;
      this.push(rules, 'nat', 'KUBE-NODE-PORT', nodePortSet(protocol, true), sides, RETURN, { protocol });
      this.push(rules, 'nat', 'KUBE-NODE-PORT', nodePortSet(protocol, false), sides, MARK_MASQ, { protocol });
    }
    return rules;
  }

  loadBalancerRules(): Rule[] {
    const rules: Rule[] = [];
    this.push(rules, 'nat', 'KUBE-LOAD-BALANCER', 'KUBE-LOAD-BALANCER-LOCAL', DST_DST, RETURN);
    rules.push(makeRule('nat', 'KUBE-LOAD-BALANCER', ANY, [], MARK_MASQ, KUBE_PROXY));
    return rules;
  }

  postroutingRules(): Rule[] {
    const chain = 'KUBE-POSTROUTING';
    const rules: Rule[] = [];
    const hairpin: Target = { kind: 'masquerade', outbound: false, randomFully: false };
    this.push(rules, 'nat', chain, 'KUBE-LOOP-BACK', DST_DST_SRC, hairpin);
    rules.push(
      makeRule('nat', chain, ANY, [{ kind: 'mark', invert: true }], RETURN, KUBE_PROXY),
      // Off again, so that a packet that passes here twice is not masqueraded twice.
      makeRule('nat', chain, ANY, [], { kind: 'mark', value: MASQUERADE_MARK, mask: 0 }, KUBE_PROXY),
      makeRule(
        'nat',
        chain,
        ANY,
        [comment('kubernetes service traffic requiring SNAT')],
        { kind: 'masquerade', outbound: false, randomFully: true },
        KUBE_PROXY,
      ),
    );
    return rules;
  }

  firewallRules(): Rule[] {
    const rules: Rule[] = [];
    const to = jump('KUBE-SOURCE-RANGES-FIREWALL');
    this.push(rules, 'filter', 'KUBE-PROXY-FIREWALL', 'KUBE-LOAD-BALANCER-FW', DST_DST, to);
    return rules;
  }

  sourceRangeRules(): Rule[] {
    const chain = 'KUBE-SOURCE-RANGES-FIREWALL';
    const rules: Rule[] = [];
    this.push(rules, 'filter', chain, 'KUBE-LOAD-BALANCER-SOURCE-CIDR', DST_DST_SRC, RETURN);
    this.push(rules, 'filter', chain, 'KUBE-LOAD-BALANCER-SOURCE-IP', DST_DST_SRC, RETURN);
    rules.push(makeRule('filter', chain, ANY, [], DROP, KUBE_PROXY));
    return rules;
  }

  /** The node holds every virtual address, so any port of the node could be asked for there (kubernetes#72236). */
  filterRules(): Rule[] {
    const chain = 'KUBE-IPVS-FILTER';
    const served = ['KUBE-LOAD-BALANCER', 'KUBE-CLUSTER-IP', 'KUBE-EXTERNAL-IP', 'KUBE-EXTERNAL-IP-LOCAL'] as const;
    const rules = served.map((set) => makeRule('filter', chain, ANY, [this.asks(set, DST_DST)], RETURN, KUBE_PROXY));
    const healthCheck = [this.asks('KUBE-HEALTH-CHECK-NODE-PORT', DST)];
    rules.push(makeRule('filter', chain, ANY, healthCheck, RETURN, KUBE_PROXY));
    const virtual: Match[] = [{ kind: 'conntrack', states: ['NEW'], invert: false }, this.asks('KUBE-IPVS-IPS', DST)];
    rules.push(makeRule('filter', chain, ANY, virtual, { kind: 'reject' }, KUBE_PROXY));
    return rules;
  }

  /** A local process speaks from the virtual address itself, which no source range holds (kubernetes#119656). */
  outFilterRules(): Rule[] {
    return this.input.barred.map(({ port, vip }) => {
      const ipvs: Match = { kind: 'ipvs', protocol: port.protocol, address: vip.address, port: port.port };
      return makeRule('filter', 'KUBE-IPVS-OUT-FILTER', { source: hostMatch(vip.address) }, [ipvs], DROP, [
        { object: port.service, field: 'spec.loadBalancerSourceRanges' },
        { object: port.service, field: vip.field },
        { object: port.service, field: `spec.ports[${port.portIndex}].port` },
      ]);
    });
  }

  healthCheckRules(): Rule[] {
    const matches = [
      comment(KUBE_SETS['KUBE-HEALTH-CHECK-NODE-PORT'].comment),
      this.asks('KUBE-HEALTH-CHECK-NODE-PORT', DST),
    ];
    return [makeRule('filter', 'KUBE-NODE-PORT', ANY, matches, ACCEPT, KUBE_PROXY)];
  }

  /** Off-machine traffic to external IPs, and what the node holds itself, ends KUBE-SERVICES here. */
  private pushExternal(rules: Rule[], set: KubeSet): void {
    if (this.input.contents.isEmpty(set)) return;
    const chain = 'KUBE-SERVICES';
    const words = comment(KUBE_SETS[set].comment);
    const asks = this.asks(set, DST_DST);
    const offMachine: Match[] = [words, asks, { kind: 'not-bridged' }, { kind: 'addrtype', side: 'src', invert: true }];
    rules.push(makeRule('nat', chain, ANY, offMachine, ACCEPT, KUBE_PROXY));
    rules.push(makeRule('nat', chain, ANY, [words, asks, TO_LOCAL], ACCEPT, KUBE_PROXY));
  }

  /** The rule of a set, where the set has elements. */
  private push(
    rules: Rule[],
    table: TableName,
    chain: string,
    set: KubeSet,
    sides: Sides,
    target: Target,
    header: Header = ANY,
    sources: readonly Source[] = KUBE_PROXY,
  ): void {
    if (this.input.contents.isEmpty(set)) return;
    const matches = [comment(KUBE_SETS[set].comment), this.asks(set, sides)];
    rules.push(makeRule(table, chain, header, matches, target, sources));
  }

  private asks(set: KubeSet, sides: Sides): Match {
    return { kind: 'set', set: setName(set, this.input.family), sides, invert: false };
  }
}

function forwardRules(): Rule[] {
  const known: Match = { kind: 'conntrack', states: ['RELATED', 'ESTABLISHED'], invert: false };
  const chain = 'KUBE-FORWARD';
  return [
    makeRule(
      'filter',
      chain,
      ANY,
      [comment('kubernetes forwarding rules'), { kind: 'mark', invert: false }],
      ACCEPT,
      KUBE_PROXY,
    ),
    makeRule('filter', chain, ANY, [comment('kubernetes forwarding conntrack rule'), known], ACCEPT, KUBE_PROXY),
  ];
}

function notLocal(detector: LocalDetector): Header {
  if (detector.prefix !== null) return { source: { prefix: detector.prefix, invert: true } };
  return { inInterface: { name: detector.interfaceName!, invert: true } };
}

function jumpRule(table: TableName, chain: string, to: string, words: string): Rule {
  return makeRule(table, chain, ANY, [comment(words)], jump(to), KUBE_PROXY);
}

function chainOf(table: TableName, name: string, rules: readonly Rule[]): Chain {
  return { table, name, rules };
}
