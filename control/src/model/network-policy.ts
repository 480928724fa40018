/**
 * networking.k8s.io/v1 NetworkPolicy: its shape. Addresses in `ipBlock` and the order of port ranges are checked when
 * the cluster is completed.
 *
 * `ingress: []` (nobody) and an absent `ingress` differ from `ingress: [{}]` (everybody), so nothing is defaulted here
 * but the protocol of a port.
 */

import { type Static, Type } from '@sinclair/typebox';
import { LabelSelector } from './label-selector.ts';
import { ObjectMeta } from './metadata.ts';
import { Protocol } from './port.ts';
import { IntOrString, oneOf } from './schema.ts';

const NetworkPolicyPeer = Type.Object({
  podSelector: Type.Optional(LabelSelector),
  namespaceSelector: Type.Optional(LabelSelector),
  ipBlock: Type.Optional(Type.Object({ cidr: Type.String(), except: Type.Optional(Type.Array(Type.String())) })),
});

const NetworkPolicyPort = Type.Object({
  protocol: Protocol,
  port: Type.Optional(IntOrString),
  endPort: Type.Optional(Type.Integer()),
});

export const NetworkPolicySchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('NetworkPolicy'),
  metadata: ObjectMeta,
  spec: Type.Object(
    {
      podSelector: Type.Object(
        {
          matchLabels: LabelSelector.properties.matchLabels,
          matchExpressions: LabelSelector.properties.matchExpressions,
        },
        { default: {} },
      ),
      policyTypes: Type.Optional(Type.Array(oneOf(['Ingress', 'Egress']))),
      ingress: Type.Optional(
        Type.Array(
          Type.Object({
            from: Type.Optional(Type.Array(NetworkPolicyPeer)),
            ports: Type.Optional(Type.Array(NetworkPolicyPort)),
          }),
        ),
      ),
      egress: Type.Optional(
        Type.Array(
          Type.Object({
            to: Type.Optional(Type.Array(NetworkPolicyPeer)),
            ports: Type.Optional(Type.Array(NetworkPolicyPort)),
          }),
        ),
      ),
    },
    { default: {} },
  ),
});
export type NetworkPolicy = Static<typeof NetworkPolicySchema>;
