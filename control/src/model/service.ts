/**
 * core/v1 Service.
 *
 * Defaults are those of the API server, so that a Service has the same shape however little was written. A field that
 * the cluster assigns is '' / 0 / [] until the cluster is completed.
 */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta, StringMap } from './metadata.ts';
import { PortNumber, PortOrNone, Protocol } from './port.ts';
import { IntOrString, oneOf } from './schema.ts';

const TrafficPolicy = oneOf(['Cluster', 'Local'], 'Cluster');
const IPFamily = oneOf(['IPv4', 'IPv6']);
export type IPFamily = Static<typeof IPFamily>;

export const ServicePort = Type.Object({
  name: Type.String({ default: '' }),
  protocol: Protocol,
  port: PortNumber,
  /** Absent: the same number as `port`. A string is a container port's name, looked up pod by pod. */
  targetPort: Type.Optional(IntOrString),
  /** 0: none. */
  nodePort: PortOrNone,
});
export type ServicePort = Static<typeof ServicePort>;

export const LoadBalancerIngress = Type.Object({
  ip: Type.String({ default: '' }),
  hostname: Type.String({ default: '' }),
  /** Proxy: the balancer speaks to nodePorts itself, nodes do not capture the address. */
  ipMode: oneOf(['VIP', 'Proxy'], 'VIP'),
});
export type LoadBalancerIngress = Static<typeof LoadBalancerIngress>;

export const ServiceSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Service'),
  metadata: ObjectMeta,
  spec: Type.Object(
    {
      type: oneOf(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'], 'ClusterIP'),
      ports: Type.Array(ServicePort, { default: [] }),
      selector: Type.Optional(StringMap),
      /** 'None' for a headless Service, '' for an ExternalName. */
      clusterIP: Type.String({ default: '' }),
      /** ['None'] for a headless Service; else at most one address a family, `clusterIPs[0] === clusterIP`. */
      clusterIPs: Type.Array(Type.String(), { default: [] }),
      ipFamilies: Type.Array(IPFamily, { default: [] }),
      ipFamilyPolicy: Type.Optional(oneOf(['SingleStack', 'PreferDualStack', 'RequireDualStack'])),
      externalIPs: Type.Array(Type.String(), { default: [] }),
      loadBalancerIP: Type.String({ default: '' }),
      loadBalancerSourceRanges: Type.Array(Type.String(), { default: [] }),
      allocateLoadBalancerNodePorts: Type.Boolean({ default: true }),
      externalName: Type.String({ default: '' }),
      externalTrafficPolicy: TrafficPolicy,
      internalTrafficPolicy: TrafficPolicy,
      healthCheckNodePort: PortOrNone,
      publishNotReadyAddresses: Type.Boolean({ default: false }),
      sessionAffinity: oneOf(['None', 'ClientIP'], 'None'),
      sessionAffinityConfig: Type.Optional(
        Type.Object({
          clientIP: Type.Optional(Type.Object({ timeoutSeconds: Type.Optional(Type.Integer()) })),
        }),
      ),
      trafficDistribution: Type.Optional(oneOf(['PreferClose', 'PreferSameZone', 'PreferSameNode'])),
    },
    { default: {} },
  ),
  status: Type.Object(
    {
      loadBalancer: Type.Object({ ingress: Type.Array(LoadBalancerIngress, { default: [] }) }, { default: {} }),
    },
    { default: {} },
  ),
});
export type Service = Static<typeof ServiceSchema>;

/** Seconds that ClientIP affinity lasts where the Service does not say (the API server's default). */
export const DEFAULT_AFFINITY_SECONDS = 10_800;

/** Seconds of ClientIP affinity, 0 for a Service without affinity. */
export function affinitySeconds(service: Service): number {
  if (service.spec.sessionAffinity !== 'ClientIP') return 0;
  return service.spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS;
}

/** True for a Service that datapaths skip because it has no virtual address: headless or ExternalName. */
export function hasNoVirtualAddress(service: Service): boolean {
  return service.spec.type === 'ExternalName' || service.spec.clusterIP === 'None' || service.spec.clusterIP === '';
}
