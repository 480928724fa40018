/** Frontends: every address and port that a Service is offered at, and to whom. */

import type { Cluster } from '../cluster/cluster.ts';
import { listServicePorts, type ServicePortInfo } from '../compile/service-ports.ts';
import type { Address, Family } from '../model/address.ts';

export type FrontendKind = 'ClusterIP' | 'ExternalIP' | 'LoadBalancer' | 'NodePort';

export interface Frontend {
  readonly number: number;
  readonly info: ServicePortInfo;
  readonly kind: FrontendKind;
  /** Null for a nodePort: the address of the node that is asked. */
  readonly address: Address | null;
  readonly port: number;
}

/** In the order of Services and their ports; ClusterIPs first. Headless and ExternalName Services have none. */
export function listFrontends(cluster: Cluster, families: readonly Family[]): Frontend[] {
  const frontends: Frontend[] = [];
  const add = (info: ServicePortInfo, kind: FrontendKind, address: Address | null, port: number): void => {
    frontends.push({ number: frontends.length, info, kind, address, port });
  };
  for (const family of families) {
    for (const info of listServicePorts(cluster, family)) {
      add(info, 'ClusterIP', info.clusterIP.address, info.port);
      for (const { address } of info.externalIPs) add(info, 'ExternalIP', address, info.port);
      for (const { address } of info.loadBalancerVIPs) add(info, 'LoadBalancer', address, info.port);
      if (info.nodePort !== 0) add(info, 'NodePort', null, info.nodePort);
    }
  }
  return frontends;
}
