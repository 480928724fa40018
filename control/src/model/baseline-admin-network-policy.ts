/**
 * policy.networking.k8s.io/v1alpha1 BaselineAdminNetworkPolicy: its shape. A cluster has at most one, called `default`;
 * it has no priority and its rules do not pass. Checked further by check-admin-network-policy.ts.
 */

import { type Static, Type } from '@sinclair/typebox';
import { AdminEgressPeer, AdminIngressPeer, AdminPolicySubject } from './admin-policy-peers.ts';
import { AdminPolicyPort } from './admin-policy-port.ts';
import { ObjectMeta } from './metadata.ts';
import { oneOf } from './schema.ts';

/** The name that the one of a cluster has. */
export const BASELINE_NAME = 'default';

const rule = {
  name: Type.String({ default: '' }),
  action: oneOf(['Allow', 'Deny']),
  ports: Type.Optional(Type.Array(AdminPolicyPort)),
};

export const BaselineAdminNetworkPolicySchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('BaselineAdminNetworkPolicy'),
  metadata: ObjectMeta,
  spec: Type.Object({
    subject: AdminPolicySubject,
    ingress: Type.Array(Type.Object({ ...rule, from: Type.Array(AdminIngressPeer) }), { default: [] }),
    egress: Type.Array(Type.Object({ ...rule, to: Type.Array(AdminEgressPeer) }), { default: [] }),
  }),
});
export type BaselineAdminNetworkPolicy = Static<typeof BaselineAdminNetworkPolicySchema>;
