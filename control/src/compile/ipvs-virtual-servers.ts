/**
 * The virtual servers of kube-proxy in ipvs mode: one for each address and port that a Service has on a node, with the
 * real servers that the node uses for it.
 *
 *  1. Real servers follow the address's traffic policy (internal for the ClusterIP, external for the others).
 *  2. Policy Local without a local endpoint falls back to the endpoints of policy Cluster, so that pods of the node reach
 *     the Service; these are none for a port that no traffic of policy Cluster goes to.
 *  3. A virtual server without real servers stays: it refuses what comes to it, there are no REJECT rules.
 *  4. Every real server has weight 1; session affinity is persistence, `mh` hashes the client's port too.
 *
 * Equal virtual servers are one object, so nodes that are alike share them.
 * Source: kubernetes pkg/proxy/ipvs/proxier.go (syncProxyRules, syncEndpoint), 1.34.
 */

import type { Address } from '../model/address.ts';
import type { EndpointSelection } from './endpoint-selection.ts';
import type { Source } from './iptables-rules.ts';
import { type IpvsScheduler, type RealServer, SCHEDULER_PORT, type VirtualServer } from './ipvs-ruleset.ts';
import type { ServiceEndpoint, ServicePortInfo } from './service-ports.ts';

/** Makes virtual servers and remembers them. */
export class VirtualServerMaker {
  private readonly scheduler: IpvsScheduler;
  private readonly made = new Map<ServicePortInfo, Map<string, Variant[]>>();
  private readonly realServers = new Map<ServiceEndpoint, RealServer>();

  constructor(scheduler: IpvsScheduler) {
    this.scheduler = scheduler;
  }

  /**
   * The virtual server of a port at an address.
   * @param local the address's traffic policy is Local
   * @param field the field of the Service that gives the address; null for a node's own, where the nodePort listens
   */
  make(
    port: ServicePortInfo,
    address: Address,
    field: string | null,
    local: boolean,
    selection: EndpointSelection,
  ): VirtualServer {
    const endpoints = local && selection.local.length > 0 ? selection.local : selection.cluster;
    const key = `${field ?? 'node'} ${address.text}`;
    let addresses = this.made.get(port);
    if (addresses === undefined) {
      addresses = new Map();
      this.made.set(port, addresses);
    }
    let variants = addresses.get(key);
    if (variants === undefined) {
      variants = [];
      addresses.set(key, variants);
    }
    // Selections are shared between nodes that are alike, their lists with them.
    const known = variants.find((variant) => variant.endpoints === endpoints);
    if (known !== undefined) return known.server;
    const server = this.build(port, address, field, endpoints);
    variants.push({ endpoints, server });
    return server;
  }

  private build(
    port: ServicePortInfo,
    address: Address,
    field: string | null,
    endpoints: readonly ServiceEndpoint[],
  ): VirtualServer {
    const { service, portIndex, protocol, affinitySeconds } = port;
    const sources: Source[] =
      field === null
        ? [{ object: service, field: `spec.ports[${portIndex}].nodePort` }]
        : [
            { object: service, field },
            { object: service, field: `spec.ports[${portIndex}].port` },
          ];
    if (affinitySeconds > 0) sources.push({ object: service, field: 'spec.sessionAffinity' });
    sources.push({ option: 'kubeProxy.ipvsScheduler' });
    return {
      virtual: { kind: 'address', protocol, address, port: field === null ? port.nodePort : port.port },
      scheduler: this.scheduler,
      schedulerFlags: this.scheduler === 'mh' ? SCHEDULER_PORT : 0,
      persistentSeconds: affinitySeconds,
      persistentPrefix: address.family === 4 ? 32 : 128,
      onePacket: false,
      realServers: endpoints.map((endpoint) => this.realServer(endpoint)),
      sources,
    };
  }

  private realServer(endpoint: ServiceEndpoint): RealServer {
    let server = this.realServers.get(endpoint);
    if (server === undefined) {
      const { address, port, text } = endpoint;
      server = { address, port, text, weight: 1, forwarding: 'masquerade', sources: [{ endpoint }] };
      this.realServers.set(endpoint, server);
    }
    return server;
  }
}

interface Variant {
  readonly endpoints: readonly ServiceEndpoint[];
  readonly server: VirtualServer;
}
