/**
 * The ipsets of kube-proxy in ipvs mode: their names, types and comments, and what a node puts into them.
 *
 * All sets exist on every node, empty ones too. An element is in a set once; where two Services give it, the first by
 * name is its origin. IPv6 sets carry `KUBE-6-` for `KUBE-` and at most 31 characters, so the longest names are cut.
 * Source: kubernetes pkg/proxy/ipvs/{ipset.go,proxier.go}, 1.34.
 */

import type { Address, Family, Prefix } from '../model/address.ts';
import type { Protocol } from '../model/port.ts';
import type { Ipset, IpsetElement, IpsetPart, IpsetType } from './ipset.ts';
import { hostPrefix, type Source } from './iptables-rules.ts';
import { PROTOCOL_NUMBER } from './service-ports.ts';

interface SetKind {
  readonly type: IpsetType;
  readonly comment: string;
}

/** In the order in which kube-proxy lists them. */
export const KUBE_SETS = {
  'KUBE-LOOP-BACK': {
    type: 'hash:ip,port,ip',
    comment: 'Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose',
  },
  'KUBE-CLUSTER-IP': {
    type: 'hash:ip,port',
    comment: 'Kubernetes service cluster ip + port for masquerade purpose',
  },
  'KUBE-EXTERNAL-IP': {
    type: 'hash:ip,port',
    comment: 'Kubernetes service external ip + port for masquerade and filter purpose',
  },
  'KUBE-EXTERNAL-IP-LOCAL': {
    type: 'hash:ip,port',
    comment: 'Kubernetes service external ip + port with externalTrafficPolicy=local',
  },
  'KUBE-LOAD-BALANCER': { type: 'hash:ip,port', comment: 'Kubernetes service lb portal' },
  'KUBE-LOAD-BALANCER-FW': {
    type: 'hash:ip,port',
    comment: 'Kubernetes service load balancer ip + port for load balancer with sourceRange',
  },
  'KUBE-LOAD-BALANCER-LOCAL': {
    type: 'hash:ip,port',
    comment: 'Kubernetes service load balancer ip + port with externalTrafficPolicy=local',
  },
  'KUBE-LOAD-BALANCER-SOURCE-IP': {
    type: 'hash:ip,port,ip',
    comment: 'Kubernetes service load balancer ip + port + source IP for packet filter purpose',
  },
  'KUBE-LOAD-BALANCER-SOURCE-CIDR': {
    type: 'hash:ip,port,net',
    comment: 'Kubernetes service load balancer ip + port + source cidr for packet filter purpose',
  },
  'KUBE-NODE-PORT-TCP': { type: 'bitmap:port', comment: 'Kubernetes nodeport TCP port for masquerade purpose' },
  'KUBE-NODE-PORT-LOCAL-TCP': {
    type: 'bitmap:port',
    comment: 'Kubernetes nodeport TCP port with externalTrafficPolicy=local',
  },
  'KUBE-NODE-PORT-UDP': { type: 'bitmap:port', comment: 'Kubernetes nodeport UDP port for masquerade purpose' },
  'KUBE-NODE-PORT-LOCAL-UDP': {
    type: 'bitmap:port',
    comment: 'Kubernetes nodeport UDP port with externalTrafficPolicy=local',
  },
  'KUBE-NODE-PORT-SCTP-HASH': {
    type: 'hash:ip,port',
    comment: "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
  },
  'KUBE-NODE-PORT-LOCAL-SCTP-HASH': {
    type: 'hash:ip,port',
    comment: "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
  },
  'KUBE-HEALTH-CHECK-NODE-PORT': { type: 'bitmap:port', comment: 'Kubernetes health check node port' },
  'KUBE-IPVS-IPS': { type: 'hash:ip', comment: 'Virtual addresses' },
} as const satisfies Readonly<Record<string, SetKind>>;
export type KubeSet = keyof typeof KUBE_SETS;

/** Longest name that the kernel takes. */
const MAX_NAME = 31;
const ALL_PORTS = { first: 0, last: 65_535 };

/** The name that a set of kube-proxy has in a family. */
export function setName(set: KubeSet, family: Family): string {
  if (family === 4) return set;
  return `KUBE-6-${set.slice('KUBE-'.length)}`.slice(0, MAX_NAME);
}

/** The nodePorts set of a protocol: of all nodePorts, or of those of policy Local. */
export function nodePortSet(protocol: Protocol, local: boolean): KubeSet {
  switch (protocol) {
    case 'TCP':
      return local ? 'KUBE-NODE-PORT-LOCAL-TCP' : 'KUBE-NODE-PORT-TCP';
    case 'UDP':
      return local ? 'KUBE-NODE-PORT-LOCAL-UDP' : 'KUBE-NODE-PORT-UDP';
    case 'SCTP':
      return local ? 'KUBE-NODE-PORT-LOCAL-SCTP-HASH' : 'KUBE-NODE-PORT-SCTP-HASH';
  }
}

export function addressPart(address: Address): IpsetPart {
  return { kind: 'prefix', prefix: hostPrefix(address) };
}

export function prefixPart(prefix: Prefix): IpsetPart {
  return { kind: 'prefix', prefix };
}

export function portPart(protocol: Protocol | null, port: number): IpsetPart {
  return {
    kind: 'port',
    protocol: protocol === null ? null : PROTOCOL_NUMBER[protocol],
    first: port,
    last: port,
  };
}

/** An element that may go into several sets; `key` is what makes it the same element in a set. */
export interface KeyedElement {
  readonly key: string;
  readonly element: IpsetElement;
}

export function keyedElement(parts: readonly IpsetPart[], sources: readonly Source[]): KeyedElement {
  const key = parts
    .map((part) => (part.kind === 'prefix' ? part.prefix.text : `${part.protocol ?? ''}:${part.first}`))
    .join(',');
  return { key, element: { parts, nomatch: false, sources } };
}

/** What a node puts into its sets, each element once. */
export class SetContents {
  private readonly elements = new Map<KubeSet, Map<string, IpsetElement>>();

  add(set: KubeSet, { key, element }: KeyedElement): void {
    let own = this.elements.get(set);
    if (own === undefined) {
      own = new Map();
      this.elements.set(set, own);
    }
    if (!own.has(key)) own.set(key, element);
  }

  isEmpty(set: KubeSet): boolean {
    return !this.elements.has(set);
  }

  /** The sets that have elements. */
  filled(): KubeSet[] {
    return [...this.elements.keys()].sort();
  }

  /** All sets, in kube-proxy's order. */
  build(family: Family): Ipset[] {
    return (Object.keys(KUBE_SETS) as KubeSet[]).map((set) => {
      const { type } = KUBE_SETS[set];
      return {
        name: setName(set, family),
        type,
        family,
        range: type === 'bitmap:port' ? ALL_PORTS : null,
        elements: [...(this.elements.get(set)?.values() ?? [])],
      };
    });
  }
}
