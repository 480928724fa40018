/**
 * What judges one direction of a pod as chains of nftables: a chain for each tier that has a say, shared by all pods with
 * the same `JudgementOrder`.
 *
 *     egress-admin-…     a rule accepts (`return`: the other direction is judged too), denies (`drop`) or passes
 *                        (`goto` the next tier); behind the last rule `goto` the next tier
 *     egress-network-…   a rule accepts; behind the last rule `drop`: the pod is isolated
 *     egress-baseline-…  instead of it for pods that no NetworkPolicy isolates; behind the last rule `return`
 *
 * Each rule that decides is a judgement, the last ones too, so that a packet's events hold exactly one.
 */

import type { KubernetesObject } from '../model/metadata.ts';
import type { Judgement, JudgementOrder, PolicyRule } from '../policy/policy-rules.ts';
import { nftComment } from './nft-names.ts';
import { policiesBase, policyPath } from './nft-policy-names.ts';
import type { NftPolicySets } from './nft-policy-sets.ts';
import type { NftChain, NftRule, NftSet, NftSource, NftStatement } from './nft-ruleset.ts';
import { DENY, makeNftRule, RETURN, verdictOf } from './nft-statements.ts';

/** A direction's chains; packets enter by the first. */
export interface PolicyBody {
  readonly chains: readonly NftChain[];
  /** That the chains ask; a set may stand here several times. */
  readonly sets: readonly NftSet[];
}

interface Tier {
  readonly name: string;
  readonly rules: readonly PolicyRule[];
}

/** Makes the chains of judgement orders; nodes share them. */
export class NftPolicyChains {
  private readonly sets: NftPolicySets;
  private readonly bodies = new Map<JudgementOrder, PolicyBody>();
  private readonly bases = new Set<string>();

  constructor(sets: NftPolicySets) {
    this.sets = sets;
  }

  bodyOf(order: JudgementOrder): PolicyBody {
    let body = this.bodies.get(order);
    if (body === undefined) {
      body = this.makeBody(order);
      this.bodies.set(order, body);
    }
    return body;
  }

  private makeBody(order: JudgementOrder): PolicyBody {
    const base = this.baseOf(order);
    const tiers = tiersOf(order);
    const sets: NftSet[] = [];
    const nameOf = (tier: Tier): string => `${order.direction}-${tier.name}-${base}`;
    const chains = tiers.map((tier, i): NftChain => {
      const next = tiers[i + 1];
      const onward = next === undefined ? lastRule(order) : goOn(nameOf(next), order);
      const rules = tier.rules.flatMap((rule) => this.rulesOf(rule, order, onward, sets));
      const comment = nftComment(order.policies.map(policyPath).join(', '));
      const sources = order.policies.map(selectorOf);
      return { name: nameOf(tier), base: null, comment, rules: [...rules, onward], sources };
    });
    return { chains, sets };
  }

  /** Orders of the same policies are one object; should they ever be two, a number keeps their names apart. */
  private baseOf({ direction, policies }: JudgementOrder): string {
    for (let ordinal = 0; ; ordinal++) {
      const base = policiesBase(policies, ordinal);
      const key = `${direction} ${base}`;
      if (this.bases.has(key)) continue;
      this.bases.add(key);
      return base;
    }
  }

  /** @param onward what follows the tier: a rule that passes does the same at once */
  private rulesOf(rule: PolicyRule, order: JudgementOrder, onward: NftRule, sets: NftSet[]): NftRule[] {
    const { policy, field, peerField } = rule;
    const sources: NftSource[] = [{ object: policy, field: peerField }];
    if (field !== peerField) sources.push({ object: policy, field });
    const comment = nftComment(`${policy.kind} ${policyPath(policy)} ${peerField}`);
    return this.sets.matches(rule, order).map(({ statements, sets: asked }) => {
      for (const set of asked) sets.push(set);
      return makeNftRule(
        [...statements, ...verdictOfRule(rule, onward)],
        sources,
        comment,
        rule.action === 'pass' ? onward.judgement : judgementOf(rule),
      );
    });
  }
}

function tiersOf({ admin, network, baseline }: JudgementOrder): Tier[] {
  const tiers: Tier[] = [];
  if (admin.length > 0) tiers.push({ name: 'admin', rules: admin });
  if (network !== null) tiers.push({ name: 'network', rules: network.rules });
  else if (baseline.length > 0) tiers.push({ name: 'baseline', rules: baseline });
  // Policies without a rule for the direction.
  if (tiers.length === 0) tiers.push({ name: 'open', rules: [] });
  return tiers;
}

function verdictOfRule({ action }: PolicyRule, onward: NftRule): readonly NftStatement[] {
  switch (action) {
    case 'accept':
      return [RETURN];
    case 'deny':
      return [DENY];
    case 'pass':
      return onward.statements;
  }
}

function judgementOf(rule: PolicyRule): Judgement {
  const { direction, action, policy } = rule;
  return { direction, verdict: action === 'deny' ? 'denied' : 'allowed', rule, policies: [policy] };
}

function goOn(chain: string, { policies }: JudgementOrder): NftRule {
  return makeNftRule([verdictOf({ kind: 'goto', chain })], policies.map(selectorOf));
}

/** What becomes of a packet that nothing has decided about: isolation denies, all else is open. */
function lastRule({ direction, network, policies }: JudgementOrder): NftRule {
  if (network === null) {
    const judgement: Judgement = { direction, verdict: 'allowed', rule: null, policies };
    return makeNftRule([RETURN], policies.map(selectorOf), 'no rule decides', judgement);
  }
  const { isolating } = network;
  const judgement: Judgement = { direction, verdict: 'denied', rule: null, policies: isolating };
  return makeNftRule([DENY], isolating.map(selectorOf), 'isolated, and no rule allows it', judgement);
}

/** The field by which a policy selects its pods. */
function selectorOf(policy: KubernetesObject): NftSource {
  return { object: policy, field: policy.kind === 'NetworkPolicy' ? 'spec.podSelector' : 'spec.subject' };
}
