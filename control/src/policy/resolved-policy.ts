/**
 * One policy resolved: the pods that it is about and its rules, one for each peer. Rules get their ids here, in the order
 * in which they are added: tier by tier, policy by policy, as written.
 */

import type { KubernetesObject } from '../model/metadata.ts';
import type { PolicyPeer, PolicyRule, PolicyTier } from './policy-rules.ts';

export interface ResolvedPolicy {
  readonly policy: KubernetesObject;
  readonly tier: PolicyTier;
  /** The pods that the policy selects, by endpoint number, ascending. */
  readonly endpoints: readonly number[];
  /** Null: the policy says nothing about the direction. */
  readonly ingress: readonly PolicyRule[] | null;
  readonly egress: readonly PolicyRule[] | null;
}

/** The whole of a protocol. */
export const ANY_PORT = { first: 0, last: 65_535 } as const;

/** A peer and the field that it was written in. */
export interface FieldPeer {
  readonly field: string;
  readonly peer: PolicyPeer;
}

export class RuleList {
  readonly rules: PolicyRule[] = [];

  /** Adds a rule for each of its peers and answers them. */
  add(rule: Omit<PolicyRule, 'id' | 'peer' | 'peerField'>, peers: readonly FieldPeer[]): PolicyRule[] {
    const added = peers.map(({ field, peer }, index) => ({
      id: this.rules.length + index,
      ...rule,
      peerField: field,
      peer,
    }));
    this.rules.push(...added);
    return added;
  }
}
