/**
 * The policies of a node's pods as a table of nftables of their own, one a family, beside kube-proxy's:
 *
 *     forward  0   flows that are known pass; a pod and itself pass; then the chains of the packet's ends:
 *                  iifname "veth*" ip saddr vmap @egress-pods, ip daddr vmap @ingress-pods: jump to what judges the pod
 *                  (nft-policy-chains.ts); what another node sends back with the pod's address has been judged already
 *     input    0   in profiles that judge what a pod sends to its own node: the same for ip saddr alone
 *
 * Forward and input stand behind translation and before masquerade, so a packet is judged with the backend's address and
 * the client's; and behind kube-proxy's checks (-110), whose refusals come first. What a local process sends passes neither:
 * a node always reaches its own pods. A node whose pods no policy selects in the family has no table.
 *
 * Real CNIs keep such tables; their shapes differ. Nodes share the chains and sets behind the two maps.
 */

import type { Family } from '../model/address.ts';
import type { PolicyModel } from '../policy/policy-model.ts';
import type { Direction } from '../policy/policy-rules.ts';
import type { PolicyProfile } from '../policy/profile.ts';
import { nftComment } from './nft-names.ts';
import { NftPolicyChains } from './nft-policy-chains.ts';
import { makePolicySet, NftPolicySets } from './nft-policy-sets.ts';
import type {
  NftBase,
  NftChain,
  NftDatatype,
  NftElement,
  NftRule,
  NftSet,
  NftSource,
  NftStatement,
  NftTable,
} from './nft-ruleset.ts';
import { NFT_CT_DIR, NFT_CT_STATE } from './nft-ruleset.ts';
import { ACCEPT, addressExpression, isInterface, isMember, isOneOf, lookUp, makeNftRule } from './nft-statements.ts';
import { type PolicedCluster, podInterface } from './policy-node.ts';

const POLICY_TABLE = 'flatpath-policy';
const COMMENT = 'network policies of the pods on this node';
const PODS: Readonly<Record<Direction, string>> = { egress: 'egress-pods', ingress: 'ingress-pods' };
const THEMSELVES = 'pods-to-themselves';
const PRIORITY = 0;

const PROFILE: readonly NftSource[] = [{ option: 'policy.profile' }];
/** Router solicitation, neighbour solicitation and advertisement: without them a pod finds no node. */
const NEIGHBOUR_DISCOVERY = isOneOf(
  { kind: 'payload', field: 'icmpv6 type' },
  [133, 135, 136].map((value) => ({ kind: 'number', value })),
);
const IN_REPLY: NftStatement = {
  kind: 'match',
  left: { kind: 'ct', key: 'direction', direction: null },
  operator: '==',
  right: { kind: 'number', value: NFT_CT_DIR.reply },
};

/** Makes the policy tables of one family for the nodes of a cluster. */
export class NftPolicyRules {
  private readonly family: Family;
  private readonly addressType: NftDatatype;
  private readonly policies: PolicyModel;
  private readonly fromPod: NftStatement;
  private readonly sets: NftPolicySets;
  private readonly chains: NftPolicyChains;
  /** Judged pods by node number. */
  private readonly judged = new Map<number, number[]>();

  constructor({ topology, policies, config }: PolicedCluster, family: Family) {
    this.family = family;
    this.addressType = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    this.policies = policies;
    this.fromPod = isInterface('iifname', podInterface(config).replace(/\+$/, '*'), false);
    this.sets = new NftPolicySets(topology, policies, family);
    this.chains = new NftPolicyChains(this.sets);
    topology.endpoints.forEach(({ node }, endpoint) => {
      if (policies.egress[endpoint] === null && policies.ingress[endpoint] === null) return;
      if (this.sets.addressOf(endpoint) === null) return;
      const found = this.judged.get(node);
      if (found === undefined) this.judged.set(node, [endpoint]);
      else found.push(endpoint);
    });
  }

  /**
   * @param node its number in the topology
   * @returns null where no policy selects a pod of the node
   */
  table(node: number): NftTable | null {
    const pods = this.judged.get(node);
    if (pods === undefined) return null;
    const parts: Parts = { maps: [], sets: new Map(), chains: new Map() };
    const { profile } = this.policies;
    const egress = this.judging('egress', pods, parts);
    const ingress = this.judging('ingress', pods, parts);
    const known = knownFlows(profile);
    const own = profile.hairpin === 'always' ? [this.toThemselves(pods, parts)] : [];
    const chains = [baseChain('forward', [...known, ...own, ...egress, ...ingress])];
    if (profile.ownNodeEgress === 'judged' && egress.length > 0) {
      const discovery = this.family === 6 ? [accept([NEIGHBOUR_DISCOVERY])] : [];
      chains.push(baseChain('input', [...known, ...discovery, ...egress]));
    }
    return {
      family: this.family === 4 ? 'ip' : 'ip6',
      name: POLICY_TABLE,
      comment: COMMENT,
      sets: [...parts.maps, ...parts.sets.values()],
      chains: [...chains, ...parts.chains.values()],
    };
  }

  /** The rule that leads to the chains of the pods that a direction is judged for; none where there is no such pod. */
  private judging(direction: Direction, pods: readonly number[], { maps, sets, chains }: Parts): NftRule[] {
    const elements: NftElement[] = [];
    for (const endpoint of pods) {
      const order = this.policies[direction][endpoint]!;
      if (order === null) continue;
      const body = this.chains.bodyOf(order);
      for (const chain of body.chains) chains.set(chain.name, chain);
      for (const set of body.sets) sets.set(set.name, set);
      elements.push({
        key: { kind: 'address', address: this.sets.addressOf(endpoint)! },
        value: { kind: 'jump', chain: body.chains[0]!.name },
        comment: nftComment(this.sets.podName(endpoint)),
        timeoutSeconds: null,
        sources: body.chains[0]!.sources,
      });
    }
    if (elements.length === 0) return [];
    const map = makePolicySet(PODS[direction], [this.addressType], 'verdict', elements);
    maps.push(map);
    const { family, fromPod } = this;
    if (direction === 'ingress') return [makeNftRule([lookUp(addressExpression(family, 'daddr'), map.name)], PROFILE)];
    return [makeNftRule([fromPod, lookUp(addressExpression(family, 'saddr'), map.name)], PROFILE)];
  }

  /** Lets pass what a pod sends to itself through a Service; what it sends to its own address no node sees. */
  private toThemselves(pods: readonly number[], { maps }: Parts): NftRule {
    const { family, addressType } = this;
    const elements = pods.map((endpoint): NftElement => {
      const address = { kind: 'address', address: this.sets.addressOf(endpoint)! } as const;
      const comment = nftComment(this.sets.podName(endpoint));
      return {
        key: { kind: 'concat', parts: [address, address] },
        value: null,
        comment,
        timeoutSeconds: null,
        sources: PROFILE,
      };
    });
    maps.push(makePolicySet(THEMSELVES, [addressType, addressType], null, elements));
    const parts = [addressExpression(family, 'saddr'), addressExpression(family, 'daddr')];
    return accept([isMember({ kind: 'concat', parts }, THEMSELVES)]);
  }
}

/** What a node's table is collected from. */
interface Parts {
  /** The node's own: what leads to the pods. */
  readonly maps: NftSet[];
  /** By name. */
  readonly sets: Map<string, NftSet>;
  readonly chains: Map<string, NftChain>;
}

/** Packets of flows that were allowed: all, or, where each packet is judged again, replies and errors. */
function knownFlows({ establishedFlows }: PolicyProfile): NftRule[] {
  const { established, related } = NFT_CT_STATE;
  if (establishedFlows !== 'judged') return [accept([hasState(established | related)])];
  return [accept([hasState(related)]), accept([hasState(established), IN_REPLY])];
}

function hasState(bits: number): NftStatement {
  return {
    kind: 'match',
    left: { kind: 'ct', key: 'state', direction: null },
    operator: 'in',
    right: { kind: 'number', value: bits },
  };
}

/** What stands above all policies; other tables may still refuse the packet. */
function accept(matches: readonly NftStatement[]): NftRule {
  return makeNftRule([...matches, ACCEPT], PROFILE);
}

function baseChain(hook: NftBase['hook'], rules: readonly NftRule[]): NftChain {
  const base: NftBase = { type: 'filter', hook, priority: PRIORITY, policy: 'accept' };
  return { name: hook, base, comment: null, rules, sources: PROFILE };
}
