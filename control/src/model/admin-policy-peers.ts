/**
 * What the cluster-wide policies (ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy) share: whom they
 * are about, and whom their rules name. In each of these shapes exactly one field must be set; the checks say so.
 *
 * Source: kubernetes-sigs/network-policy-api, apis/v1alpha1 and apis/v1alpha2.
 */

import { type Static, Type } from '@sinclair/typebox';
import { LabelSelector } from './label-selector.ts';

/** Pods by both selectors. v1alpha2 lets the namespaces out (all of them); v1alpha1 does not. */
const NamespacedPod = Type.Object({
  namespaceSelector: Type.Optional(LabelSelector),
  podSelector: LabelSelector,
});

/** The lower, the earlier. */
export const PolicyPriority = Type.Integer({ minimum: 0, maximum: 1000, title: 'a priority (0 to 1000)' });

export const AdminPolicySubject = Type.Object({
  namespaces: Type.Optional(LabelSelector),
  pods: Type.Optional(NamespacedPod),
});
export type AdminPolicySubject = Static<typeof AdminPolicySubject>;

export const AdminIngressPeer = AdminPolicySubject;

export const AdminEgressPeer = Type.Object({
  namespaces: Type.Optional(LabelSelector),
  pods: Type.Optional(NamespacedPod),
  nodes: Type.Optional(LabelSelector),
  networks: Type.Optional(Type.Array(Type.String())),
  domainNames: Type.Optional(Type.Array(Type.String())),
});
/** A peer of either direction. */
export type AdminPolicyPeer = Static<typeof AdminEgressPeer>;
