/**
 * The ports of AdminNetworkPolicy and BaselineAdminNetworkPolicy (policy.networking.k8s.io/v1alpha1). Exactly one field of
 * the three must be set; the checks say so.
 */

import { type Static, Type } from '@sinclair/typebox';
import { PortNumber, Protocol } from './port.ts';

export const AdminPolicyPort = Type.Object({
  portNumber: Type.Optional(Type.Object({ protocol: Protocol, port: PortNumber })),
  portRange: Type.Optional(Type.Object({ protocol: Protocol, start: PortNumber, end: PortNumber })),
  namedPort: Type.Optional(Type.String()),
});
export type AdminPolicyPort = Static<typeof AdminPolicyPort>;
