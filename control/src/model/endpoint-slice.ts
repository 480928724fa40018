/**
 * discovery.k8s.io EndpointSlice.
 *
 * Conditions may be missing; `isReady` and `isTerminating` read them as kube-proxy does. Only
 * `addresses[0]` of an endpoint is ever used by a datapath; the others are carried, not read.
 */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { PortNumber, Protocol } from './port.ts';
import { oneOf } from './schema.ts';

/** Label that names the Service a slice belongs to. */
export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
/** Label that names the controller which keeps a slice. */
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';

const Named = Type.Object({ name: Type.String() });

export const Endpoint = Type.Object({
  addresses: Type.Array(Type.String()),
  conditions: Type.Object(
    {
      ready: Type.Optional(Type.Boolean()),
      serving: Type.Optional(Type.Boolean()),
      terminating: Type.Optional(Type.Boolean()),
    },
    { default: {} },
  ),
  hostname: Type.Optional(Type.String()),
  nodeName: Type.Optional(Type.String()),
  zone: Type.Optional(Type.String()),
  hints: Type.Optional(
    Type.Object({
      forZones: Type.Optional(Type.Array(Named)),
      forNodes: Type.Optional(Type.Array(Named)),
    }),
  ),
  targetRef: Type.Optional(
    Type.Object({
      kind: Type.Optional(Type.String()),
      namespace: Type.Optional(Type.String()),
      name: Type.Optional(Type.String()),
    }),
  ),
});
export type Endpoint = Static<typeof Endpoint>;

export const EndpointPort = Type.Object({
  name: Type.String({ default: '' }),
  protocol: Protocol,
  /** Absent (or null in the manifest): this port has no endpoints. */
  port: Type.Optional(PortNumber),
});
export type EndpointPort = Static<typeof EndpointPort>;

export const EndpointSliceSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('EndpointSlice'),
  metadata: ObjectMeta,
  addressType: oneOf(['IPv4', 'IPv6', 'FQDN']),
  endpoints: Type.Array(Endpoint, { default: [] }),
  ports: Type.Array(EndpointPort, { default: [] }),
});
export type EndpointSlice = Static<typeof EndpointSliceSchema>;

/** Ready for new connections. Missing means ready. */
export function isReady(endpoint: Endpoint): boolean {
  return endpoint.conditions.ready !== false;
}

/** Shutting down. Missing means no. */
export function isTerminating(endpoint: Endpoint): boolean {
  return endpoint.conditions.terminating === true;
}

/** Name of the Service (in the slice's namespace) that a slice belongs to, or '' for a slice of nobody. */
export function serviceNameOf(slice: EndpointSlice): string {
  return slice.metadata.labels?.[SERVICE_NAME_LABEL] ?? '';
}
