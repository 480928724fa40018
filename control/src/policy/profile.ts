/**
 * Policy profiles: what real implementations do differently where the APIs leave it open. `policy.profile` of the datapath
 * configuration chooses; docs/policy-semantics.md explains each switch with its source.
 */

export type ProfileName = 'kubernetes' | 'cilium' | 'calico';

export interface PolicyProfile {
  readonly name: ProfileName;
  /** `ipBlock` and `networks` match addresses of pods and nodes too; false: only addresses that the cluster does not own. */
  readonly cidrMatchesCluster: boolean;
  /** A pod reaches its own node whatever its egress policies say. (A node always reaches its own pods.) */
  readonly ownNodeEgress: 'always' | 'judged';
  /** A pod reaches itself through its Service whatever its policies say. (By its own address it meets no policy at all.) */
  readonly hairpin: 'always' | 'judged';
  /**
   * Packets of a flow that a policy allowed, after the policy changed. `by-mode`: conntrack's ESTABLISHED lets them pass in
   * iptables, nftables and ipvs; the maps of ebpf are asked again. Replies always pass.
   */
  readonly establishedFlows: 'by-mode' | 'kept' | 'judged';
}

const PROFILES: Readonly<Record<ProfileName, PolicyProfile>> = {
  kubernetes: {
    name: 'kubernetes',
    cidrMatchesCluster: true,
    ownNodeEgress: 'always',
    hairpin: 'always',
    establishedFlows: 'by-mode',
  },
  cilium: {
    name: 'cilium',
    cidrMatchesCluster: false,
    ownNodeEgress: 'judged',
    hairpin: 'always',
    establishedFlows: 'judged',
  },
  calico: {
    name: 'calico',
    cidrMatchesCluster: true,
    ownNodeEgress: 'judged',
    hairpin: 'judged',
    establishedFlows: 'kept',
  },
};

export function policyProfile(name: ProfileName): PolicyProfile {
  return PROFILES[name];
}
