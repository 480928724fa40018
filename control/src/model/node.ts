/**
 * core/v1 Node.
 *
 * In a completed cluster every node has at least one InternalIP and `spec.podCIDRs` (which may be empty only where no
 * pod of the node needed an address).
 */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { Quantity } from './schema.ts';

export const ZONE_LABEL = 'topology.kubernetes.io/zone';
export const HOSTNAME_LABEL = 'kubernetes.io/hostname';

export const NodeAddress = Type.Object({ type: Type.String(), address: Type.String() });
export type NodeAddress = Static<typeof NodeAddress>;

export const NodeSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Node'),
  metadata: ObjectMeta,
  spec: Type.Object(
    {
      podCIDR: Type.String({ default: '' }),
      podCIDRs: Type.Array(Type.String(), { default: [] }),
    },
    { default: {} },
  ),
  status: Type.Object(
    {
      addresses: Type.Array(NodeAddress, { default: [] }),
      /** Read for the shares of topology-mode Auto. */
      allocatable: Type.Optional(Type.Object({ cpu: Type.Optional(Quantity) })),
      conditions: Type.Optional(Type.Array(Type.Object({ type: Type.String(), status: Type.String() }))),
    },
    { default: {} },
  ),
});
export type Node = Static<typeof NodeSchema>;

/** The node's zone, '' where it has none. */
export function zoneOf(node: Node): string {
  return node.metadata.labels?.[ZONE_LABEL] ?? '';
}

/** Text of the node's InternalIPs in order; hostnames and other address types are left out. */
export function internalAddresses(node: Node): string[] {
  const found: string[] = [];
  for (const { type, address } of node.status.addresses) if (type === 'InternalIP') found.push(address);
  return found;
}
