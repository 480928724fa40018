/**
 * policy.networking.k8s.io/v1alpha1 AdminNetworkPolicy: its shape. How many entries a list may have and which fields
 * exclude each other is checked by check-admin-network-policy.ts.
 */

import { type Static, Type } from '@sinclair/typebox';
import { AdminEgressPeer, AdminIngressPeer, AdminPolicySubject, PolicyPriority } from './admin-policy-peers.ts';
import { AdminPolicyPort } from './admin-policy-port.ts';
import { ObjectMeta } from './metadata.ts';
import { oneOf } from './schema.ts';

const rule = {
  name: Type.String({ default: '' }),
  action: oneOf(['Allow', 'Deny', 'Pass']),
  ports: Type.Optional(Type.Array(AdminPolicyPort)),
};

export const AdminNetworkPolicySchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('AdminNetworkPolicy'),
  metadata: ObjectMeta,
  spec: Type.Object({
    priority: PolicyPriority,
    subject: AdminPolicySubject,
    ingress: Type.Array(Type.Object({ ...rule, from: Type.Array(AdminIngressPeer) }), { default: [] }),
    egress: Type.Array(Type.Object({ ...rule, to: Type.Array(AdminEgressPeer) }), { default: [] }),
  }),
});
export type AdminNetworkPolicy = Static<typeof AdminNetworkPolicySchema>;
