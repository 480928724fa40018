/**
 * The chains of the iptables mode that do not belong to one Service: kube-proxy's fixed chains, its jumps from the base
 * chains, and the shared chains that service ports add their lines to.
 *
 * Jumps are prepended one by one, so a base chain runs them in the reverse of the order in which kube-proxy ensures
 * them; KUBE-FIREWALL, ensured last, comes first. The order of Services in a shared chain is arbitrary in kube-proxy (a
 * Go map); here it is by name.
 *
 * CNI-MASQ is not kube-proxy's: it stands for the CNI's masquerade of pod traffic that leaves the cluster.
 * Source: kubernetes pkg/proxy/iptables/proxier.go, 1.34.
 */

import {
  OWNER_BIT_CLUSTER,
  OWNER_BIT_NODE,
  OWNER_BIT_POD,
  OWNER_BIT_POD_CIDR,
  OWNER_BIT_SERVICE,
} from '@flatpath/engine/programs/owner';
import type { Family } from '../model/address.ts';
import { LOOPBACK_PREFIX, type NodeView } from './iptables-node.ts';
import {
  type Chain,
  type ConntrackState,
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
import type { ServiceRules } from './iptables-service.ts';

const NFACCT_INVALID_DROPPED = 'ct_state_invalid_dropped_pkts';

const NEW: Match = { kind: 'conntrack', states: ['NEW'], invert: false };
const MARKED: Match = { kind: 'mark', invert: false };
const NOT_MARKED: Match = { kind: 'mark', invert: true };
const KUBE_PROXY: readonly Source[] = [{ option: 'kubeProxy' }];
const OUTBOUND: readonly Source[] = [{ option: 'pods.masqueradeOutbound' }];

/** The base chains of a table in hook order, as every table is declared. */
export const BASE_CHAINS: Readonly<Record<TableName, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  security: ['INPUT', 'FORWARD', 'OUTPUT'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
};

/** Switches of kube-proxy's fixed rules. */
export interface FixedRuleOptions {
  /** The node sets nf_conntrack_tcp_be_liberal: INVALID packets are not dropped. */
  readonly tcpBeLiberal: boolean;
  readonly nfacct: boolean;
}

/** Base chains with kube-proxy's jumps, the fixed chains, and the empty canaries. */
export function fixedChains(localhostNodePorts: boolean, options: FixedRuleOptions): Chain[] {
  return [
    chainOf('filter', 'INPUT', [
      jumpRule('filter', 'INPUT', 'KUBE-FIREWALL', [], ''),
      jumpRule('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', [NEW], 'kubernetes load balancer firewall'),
      jumpRule('filter', 'INPUT', 'KUBE-NODEPORTS', [], 'kubernetes health check service ports'),
      jumpRule('filter', 'INPUT', 'KUBE-EXTERNAL-SERVICES', [NEW], 'kubernetes externally-visible service portals'),
    ]),
    chainOf('filter', 'FORWARD', [
      jumpRule('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', [NEW], 'kubernetes load balancer firewall'),
      jumpRule('filter', 'FORWARD', 'KUBE-FORWARD', [], 'kubernetes forwarding rules'),
      jumpRule('filter', 'FORWARD', 'KUBE-SERVICES', [NEW], 'kubernetes service portals'),
      jumpRule('filter', 'FORWARD', 'KUBE-EXTERNAL-SERVICES', [NEW], 'kubernetes externally-visible service portals'),
    ]),
    chainOf('filter', 'OUTPUT', [
      jumpRule('filter', 'OUTPUT', 'KUBE-FIREWALL', [], ''),
      jumpRule('filter', 'OUTPUT', 'KUBE-PROXY-FIREWALL', [NEW], 'kubernetes load balancer firewall'),
      jumpRule('filter', 'OUTPUT', 'KUBE-SERVICES', [NEW], 'kubernetes service portals'),
    ]),
    chainOf('filter', 'KUBE-FIREWALL', firewallRules(localhostNodePorts)),
    chainOf('filter', 'KUBE-FORWARD', forwardRules(options)),
    chainOf('filter', 'KUBE-PROXY-CANARY', []),
    chainOf('nat', 'PREROUTING', [jumpRule('nat', 'PREROUTING', 'KUBE-SERVICES', [], 'kubernetes service portals')]),
    chainOf('nat', 'OUTPUT', [jumpRule('nat', 'OUTPUT', 'KUBE-SERVICES', [], 'kubernetes service portals')]),
    chainOf('nat', 'POSTROUTING', [
      jumpRule('nat', 'POSTROUTING', 'KUBE-POSTROUTING', [], 'kubernetes postrouting rules'),
    ]),
    chainOf('nat', 'KUBE-POSTROUTING', [
      makeRule('nat', 'KUBE-POSTROUTING', {}, [NOT_MARKED], { kind: 'return' }, KUBE_PROXY),
      // Off again, so that a packet that passes here twice is not masqueraded twice.
      makeRule('nat', 'KUBE-POSTROUTING', {}, [], { kind: 'mark', value: MASQUERADE_MARK, mask: 0 }, KUBE_PROXY),
      makeRule(
        'nat',
        'KUBE-POSTROUTING',
        {},
        [comment('kubernetes service traffic requiring SNAT')],
        { kind: 'masquerade', outbound: false, randomFully: true },
        KUBE_PROXY,
      ),
    ]),
    chainOf('nat', 'KUBE-MARK-MASQ', [
      makeRule(
        'nat',
        'KUBE-MARK-MASQ',
        {},
        [],
        { kind: 'mark', value: MASQUERADE_MARK, mask: MASQUERADE_MARK },
        KUBE_PROXY,
      ),
    ]),
    chainOf('nat', 'KUBE-PROXY-CANARY', []),
    chainOf('mangle', 'KUBE-PROXY-CANARY', []),
  ];
}

/** The chains that all service ports write to, on a node. `services` in the order of the service ports. */
export function sharedChains(services: readonly ServiceRules[], view: NodeView, family: Family): Chain[] {
  const natServices: Rule[] = [];
  const natNodePorts: Rule[] = [];
  const filterServices: Rule[] = [];
  const filterExternalServices: Rule[] = [];
  const filterFirewall: Rule[] = [];
  const filterNodePorts: Rule[] = [];
  for (const service of services) {
    for (const rule of service.natServices) natServices.push(rule);
    for (const rule of service.natNodePorts) natNodePorts.push(rule);
    for (const rule of service.filterServices) filterServices.push(rule);
    for (const rule of service.filterExternalServices) filterExternalServices.push(rule);
    for (const rule of service.filterFirewall) filterFirewall.push(rule);
    for (const rule of service.filterNodePorts) filterNodePorts.push(rule);
  }
  for (const rule of nodePortJumps(view, family)) natServices.push(rule);
  return [
    chainOf('filter', 'KUBE-SERVICES', filterServices),
    chainOf('filter', 'KUBE-EXTERNAL-SERVICES', filterExternalServices),
    chainOf('filter', 'KUBE-NODEPORTS', filterNodePorts),
    chainOf('filter', 'KUBE-PROXY-FIREWALL', filterFirewall),
    chainOf('nat', 'KUBE-SERVICES', natServices),
    chainOf('nat', 'KUBE-NODEPORTS', natNodePorts),
  ];
}

/** The CNI's part: its chain, and the jump that stands behind kube-proxy's in POSTROUTING. */
export function outboundMasquerade(): { jump: Rule; chain: Chain } {
  const pods = OWNER_BIT_POD | OWNER_BIT_POD_CIDR | OWNER_BIT_CLUSTER;
  const matches: Match[] = [
    comment('outbound traffic of pods'),
    { kind: 'owner', side: 'src', set: 'CNI-PODS', bits: pods, invert: false },
    {
      kind: 'owner',
      side: 'dst',
      set: 'CNI-CLUSTER',
      bits: pods | OWNER_BIT_NODE | OWNER_BIT_SERVICE,
      invert: true,
    },
  ];
  const words = [comment('CNI outbound masquerade')];
  return {
    jump: makeRule('nat', 'POSTROUTING', {}, words, jump('CNI-MASQ'), OUTBOUND),
    chain: chainOf('nat', 'CNI-MASQ', [
      makeRule('nat', 'CNI-MASQ', {}, matches, { kind: 'masquerade', outbound: true, randomFully: true }, OUTBOUND),
    ]),
  };
}

/** The end of KUBE-SERVICES: what is for an address of the node goes on to the nodePorts. */
function nodePortJumps(view: NodeView, family: Family): Rule[] {
  const words = comment('kubernetes service nodeports; NOTE: this must be the last rule in this chain');
  const target = jump('KUBE-NODEPORTS');
  const sources: Source[] = [{ option: 'kubeProxy.nodePortAddresses' }];
  if (view.nodePortIPs !== null) {
    return view.nodePortIPs.map((address) =>
      makeRule('nat', 'KUBE-SERVICES', { destination: hostMatch(address) }, [words], target, sources),
    );
  }
  const toNode: Match = { kind: 'addrtype', side: 'dst', invert: false };
  const notLoopback: Header = view.localhostNodePorts
    ? {}
    : { destination: { prefix: LOOPBACK_PREFIX[family], invert: true } };
  return [makeRule('nat', 'KUBE-SERVICES', notLoopback, [words, toNode], target, sources)];
}

/** NodePorts on localhost need route_localnet, which would let packets for 127/8 in from outside. */
function firewallRules(localhostNodePorts: boolean): Rule[] {
  if (!localhostNodePorts) return [];
  const prefix = LOOPBACK_PREFIX[4];
  const known: ConntrackState[] = ['RELATED', 'ESTABLISHED', 'DNAT'];
  const header: Header = { source: { prefix, invert: true }, destination: { prefix, invert: false } };
  const matches: Match[] = [
    comment('block incoming localnet connections'),
    { kind: 'conntrack', states: known, invert: true },
  ];
  const sources: Source[] = [{ option: 'kubeProxy.localhostNodePorts' }];
  return [makeRule('filter', 'KUBE-FIREWALL', header, matches, { kind: 'drop' }, sources)];
}

function forwardRules(options: FixedRuleOptions): Rule[] {
  const rules: Rule[] = [];
  const add = (matches: Match[], target: Target) => {
    rules.push(makeRule('filter', 'KUBE-FORWARD', {}, matches, target, KUBE_PROXY));
  };
  if (!options.tcpBeLiberal) {
    const invalid: Match[] = [{ kind: 'conntrack', states: ['INVALID'], invert: false }];
    if (options.nfacct) invalid.push({ kind: 'nfacct', counter: NFACCT_INVALID_DROPPED });
    add(invalid, { kind: 'drop' });
  }
  add([comment('kubernetes forwarding rules'), MARKED], { kind: 'accept' });
  const known: Match = { kind: 'conntrack', states: ['RELATED', 'ESTABLISHED'], invert: false };
  add([comment('kubernetes forwarding conntrack rule'), known], { kind: 'accept' });
  return rules;
}

function jumpRule(table: TableName, chain: string, to: string, matches: readonly Match[], words: string): Rule {
  const all = words === '' ? matches : [...matches, comment(words)];
  return makeRule(table, chain, {}, all, jump(to), KUBE_PROXY);
}

function chainOf(table: TableName, name: string, rules: readonly Rule[]): Chain {
  return { table, name, rules };
}
