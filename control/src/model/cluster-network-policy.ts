/**
 * policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy: its shape. How many entries a list may have and which fields
 * exclude each other is checked by check-cluster-network-policy.ts.
 */

import { type Static, Type } from '@sinclair/typebox';
import { AdminEgressPeer, AdminIngressPeer, AdminPolicySubject, PolicyPriority } from './admin-policy-peers.ts';
import { ObjectMeta } from './metadata.ts';
import { PortNumber } from './port.ts';
import { oneOf } from './schema.ts';

const ProtocolPorts = Type.Object({
  destinationPort: Type.Object({
    number: Type.Optional(PortNumber),
    range: Type.Optional(Type.Object({ start: PortNumber, end: PortNumber })),
  }),
});

const PolicyProtocol = Type.Object({
  tcp: Type.Optional(ProtocolPorts),
  udp: Type.Optional(ProtocolPorts),
  sctp: Type.Optional(ProtocolPorts),
  destinationNamedPort: Type.Optional(Type.String()),
});
export type ClusterPolicyProtocol = Static<typeof PolicyProtocol>;

const rule = {
  name: Type.String({ default: '' }),
  action: oneOf(['Accept', 'Deny', 'Pass']),
  protocols: Type.Optional(Type.Array(PolicyProtocol)),
};

export const ClusterNetworkPolicySchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('ClusterNetworkPolicy'),
  metadata: ObjectMeta,
  spec: Type.Object({
    tier: oneOf(['Admin', 'Baseline']),
    priority: PolicyPriority,
    subject: AdminPolicySubject,
    ingress: Type.Array(Type.Object({ ...rule, from: Type.Array(AdminIngressPeer) }), { default: [] }),
    egress: Type.Array(Type.Object({ ...rule, to: Type.Array(AdminEgressPeer) }), { default: [] }),
  }),
});
export type ClusterNetworkPolicy = Static<typeof ClusterNetworkPolicySchema>;
