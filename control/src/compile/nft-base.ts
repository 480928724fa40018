/**
 * The part of kube-proxy's nftables table that does not belong to one Service: base chains, the chains they jump to, the
 * sets and maps that service ports add elements to; and the CNI's table beside it.
 *
 *     filter-prerouting  -110  firewall-check                    nat-prerouting   -100  services
 *     filter-output      -110  firewall-check                    nat-output       -100  services
 *     filter-output-post-dnat  -90  service-endpoints-check, cluster-ips-check
 *     filter-input       -110  nodeport-endpoints-check, service-endpoints-check
 *     filter-forward     -110  service-endpoints-check, cluster-ips-check
 *     nat-postrouting     100  masquerading
 *
 * Names and priorities of base chains are those of FACTS §1.4 (kube-proxy up to 1.34.0). What a local process sends is
 * checked for endpoints behind its translation, as kube-proxy does it since k8s#132456: before, the check came first and
 * dropped what externalTrafficPolicy Local lets the node itself reach (k8s#131765).
 *
 * The table `cni` is not kube-proxy's: it stands for the CNI's masquerade of pod traffic that leaves the cluster.
 * Source: kubernetes pkg/proxy/nftables/proxier.go (setupNFTables), 1.34.
 */

import {
  OWNER_BIT_CLUSTER,
  OWNER_BIT_NODE,
  OWNER_BIT_POD,
  OWNER_BIT_POD_CIDR,
  OWNER_BIT_SERVICE,
} from '@flatpath/engine/programs/owner';
import type { Address, Family, Prefix } from '../model/address.ts';
import { LOOPBACK_PREFIX } from './iptables-node.ts';
import { MASQUERADE_MARK } from './iptables-rules.ts';
import { mergePrefixes } from './nft-intervals.ts';
import type {
  NftBase,
  NftChain,
  NftDatatype,
  NftElement,
  NftRule,
  NftSet,
  NftSource,
  NftStatement,
  NftTable,
} from './nft-ruleset.ts';
import type { SharedSet } from './nft-service.ts';
import {
  ADDRESS_PROTOCOL_PORT,
  DROP,
  isAmong,
  isInPrefix,
  isInSet,
  isLocalAddress,
  isMarkClear,
  lookUp,
  MASQUERADE_FULLY_RANDOM,
  makeNftRule,
  PROTOCOL_AND_PORT,
  REJECT,
  RETURN,
  STATE_NEW,
  setMark,
  verdictOf,
} from './nft-statements.ts';

export const KUBE_PROXY_TABLE = 'kube-proxy';
export const KUBE_PROXY_COMMENT = 'rules for kube-proxy';
const NODE_PORT_IPS = 'nodeport-ips';

const KUBE_PROXY: readonly NftSource[] = [{ option: 'kubeProxy' }];
const NODE_PORT_ADDRESSES: readonly NftSource[] = [{ option: 'kubeProxy.nodePortAddresses' }];
const SERVICE_CIDRS: readonly NftSource[] = [{ option: 'kubeProxy.serviceCIDRs' }];
const OUTBOUND: readonly NftSource[] = [{ option: 'pods.masqueradeOutbound' }];

const BEFORE_DNAT = -110;
const AFTER_DNAT = -90;
const DNAT = -100;
const SNAT = 100;
/** Behind kube-proxy's chain, which decides first. */
const AFTER_SNAT = 110;

const PORT_KEY: readonly NftDatatype[] = ['inet_proto', 'inet_service'];

/** What kube-proxy's fixed chains depend on, in one family of one node. */
export interface FixedChainOptions {
  readonly family: Family;
  /** Null: every local address serves nodePorts. */
  readonly nodePortIPs: readonly Address[] | null;
  /** Of the family; empty: no check of unallocated addresses. */
  readonly serviceCIDRs: readonly Prefix[];
}

/** kube-proxy's chains but for those of Services, in the order in which it makes them. */
export function nftFixedChains({ family, nodePortIPs, serviceCIDRs }: FixedChainOptions): NftChain[] {
  const addressKey = ADDRESS_PROTOCOL_PORT[family];
  const loopback = LOOPBACK_PREFIX[family];
  const notLoopback = isInPrefix('daddr', loopback, true);
  const toNodePortIP = isInSet(family, 'daddr', NODE_PORT_IPS);
  const refusesNodePort = nodePortIPs === null ? notLoopback : toNodePortIP;
  const servesNodePort = nodePortIPs === null ? [isLocalAddress('daddr'), notLoopback] : [toNodePortIP];
  const checks = [
    makeNftRule(
      [isInSet(family, 'daddr', 'cluster-ips'), REJECT[family]],
      KUBE_PROXY,
      'Reject traffic to invalid ports of ClusterIPs',
    ),
  ];
  if (serviceCIDRs.length > 0) {
    const unallocated = isAmong(family, 'daddr', mergePrefixes(serviceCIDRs, family), false);
    checks.push(makeNftRule([unallocated, DROP], SERVICE_CIDRS, 'Drop traffic to unallocated ClusterIPs'));
  }
  return [
    baseChain('filter-prerouting', 'filter', 'prerouting', BEFORE_DNAT, [newTo('firewall-check')]),
    baseChain('filter-input', 'filter', 'input', BEFORE_DNAT, [
      newTo('nodeport-endpoints-check'),
      newTo('service-endpoints-check'),
    ]),
    baseChain('filter-forward', 'filter', 'forward', BEFORE_DNAT, [
      newTo('service-endpoints-check'),
      newTo('cluster-ips-check'),
    ]),
    baseChain('filter-output', 'filter', 'output', BEFORE_DNAT, [newTo('firewall-check')]),
    baseChain('filter-output-post-dnat', 'filter', 'output', AFTER_DNAT, [
      newTo('service-endpoints-check'),
      newTo('cluster-ips-check'),
    ]),
    baseChain('nat-prerouting', 'nat', 'prerouting', DNAT, [jumpTo('services')]),
    baseChain('nat-output', 'nat', 'output', DNAT, [jumpTo('services')]),
    baseChain('nat-postrouting', 'nat', 'postrouting', SNAT, [jumpTo('masquerading')]),
    chainOf('nodeport-endpoints-check', [
      makeNftRule([refusesNodePort, lookUp(PROTOCOL_AND_PORT, 'no-endpoint-nodeports')], NODE_PORT_ADDRESSES),
    ]),
    chainOf('service-endpoints-check', [makeNftRule([lookUp(addressKey, 'no-endpoint-services')], KUBE_PROXY)]),
    chainOf('firewall-check', [makeNftRule([lookUp(addressKey, 'firewall-ips')], KUBE_PROXY)]),
    chainOf('services', [
      makeNftRule([lookUp(addressKey, 'service-ips')], KUBE_PROXY),
      makeNftRule([...servesNodePort, lookUp(PROTOCOL_AND_PORT, 'service-nodeports')], NODE_PORT_ADDRESSES),
    ]),
    chainOf('masquerading', [
      makeNftRule([isMarkClear(MASQUERADE_MARK), RETURN], KUBE_PROXY),
      // Off again, so that a packet that passes here twice is not masqueraded twice.
      makeNftRule([setMark('xor', MASQUERADE_MARK)], KUBE_PROXY),
      makeNftRule([MASQUERADE_FULLY_RANDOM], KUBE_PROXY),
    ]),
    chainOf('cluster-ips-check', checks),
    chainOf('mark-for-masquerade', [makeNftRule([setMark('or', MASQUERADE_MARK)], KUBE_PROXY)]),
    chainOf(
      'reject-chain',
      [makeNftRule([REJECT[family]], KUBE_PROXY)],
      'helper for @no-endpoint-services / @no-endpoint-nodeports',
    ),
  ];
}

/** The set of addresses on which nodePorts listen. */
export function nodePortIPsSet(addresses: readonly Address[], family: Family): NftSet {
  const elements = addresses.map((address): NftElement => {
    const key = { kind: 'address', address } as const;
    return { key, value: null, comment: null, timeoutSeconds: null, sources: NODE_PORT_ADDRESSES };
  });
  return setOf(NODE_PORT_IPS, [addressType(family)], null, 'IPs that accept NodePort traffic', elements);
}

/** One of the sets and maps that service ports write into, with what they wrote. */
export function nftSharedSet(name: SharedSet, elements: readonly NftElement[], family: Family): NftSet {
  const address = addressType(family);
  const addressKey: readonly NftDatatype[] = [address, ...PORT_KEY];
  switch (name) {
    case 'cluster-ips':
      return setOf(name, [address], null, 'Active ClusterIPs', elements);
    case 'no-endpoint-services':
      return setOf(
        name,
        addressKey,
        'verdict',
        'vmap to drop or reject packets to services with no endpoints',
        elements,
      );
    case 'no-endpoint-nodeports':
      return setOf(
        name,
        PORT_KEY,
        'verdict',
        'vmap to drop or reject packets to service nodeports with no endpoints',
        elements,
      );
    case 'firewall-ips':
      return setOf(name, addressKey, 'verdict', 'destinations that are subject to LoadBalancerSourceRanges', elements);
    case 'service-ips':
      return setOf(name, addressKey, 'verdict', 'ClusterIP, ExternalIP and LoadBalancer IP traffic', elements);
    case 'service-nodeports':
      return setOf(name, PORT_KEY, 'verdict', 'NodePort traffic', elements);
  }
}

/** The CNI's table: pods' traffic to what is no pod's, node's or Service's address takes the node's address. */
export function outboundTable(family: Family): NftTable {
  const pods = OWNER_BIT_POD | OWNER_BIT_POD_CIDR | OWNER_BIT_CLUSTER;
  const statements: NftStatement[] = [
    { kind: 'owner', side: 'saddr', set: 'pods', bits: pods, invert: false },
    { kind: 'owner', side: 'daddr', set: 'cluster', bits: pods | OWNER_BIT_NODE | OWNER_BIT_SERVICE, invert: true },
    { kind: 'outbound-masquerade' },
  ];
  const rule = makeNftRule(statements, OUTBOUND, 'outbound traffic of pods');
  return {
    family: family === 4 ? 'ip' : 'ip6',
    name: 'cni',
    comment: null,
    sets: [],
    chains: [baseChain('postrouting', 'nat', 'postrouting', AFTER_SNAT, [rule])],
  };
}

function addressType(family: Family): NftDatatype {
  return family === 4 ? 'ipv4_addr' : 'ipv6_addr';
}

function setOf(
  name: string,
  key: readonly NftDatatype[],
  data: 'verdict' | null,
  comment: string,
  elements: readonly NftElement[],
): NftSet {
  return {
    name,
    key,
    data,
    flags: [],
    timeoutSeconds: null,
    size: null,
    autoMerge: false,
    comment,
    elements,
    sources: KUBE_PROXY,
  };
}

/** `ct state new jump …`. */
function newTo(chain: string): NftRule {
  return makeNftRule([STATE_NEW, verdictOf({ kind: 'jump', chain })], KUBE_PROXY);
}

function jumpTo(chain: string): NftRule {
  return makeNftRule([verdictOf({ kind: 'jump', chain })], KUBE_PROXY);
}

function chainOf(name: string, rules: readonly NftRule[], comment: string | null = null): NftChain {
  return { name, base: null, comment, rules, sources: KUBE_PROXY };
}

function baseChain(
  name: string,
  type: NftBase['type'],
  hook: NftBase['hook'],
  priority: number,
  rules: readonly NftRule[],
): NftChain {
  return { name, base: { type, hook, priority, policy: 'accept' }, comment: null, rules, sources: KUBE_PROXY };
}
