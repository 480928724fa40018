/**
 * Rules without an effect: those that an earlier one always decides, those that another one says already, those of a
 * direction that the policy does not isolate; and policies of one priority.
 *
 * Told from the texts (cover.ts), so a finding holds whatever pods there are.
 */

import { describeObject } from '../cluster/problem.ts';
import type { NetworkPolicy } from '../model/network-policy.ts';
import type { Direction } from '../policy/policy-rules.ts';
import { coversPeers, coversPorts, coversScope } from './cover.ts';
import type { LintContext } from './lint-context.ts';
import type { WrittenPolicy, WrittenRule } from './written-policy.ts';

interface PlacedRule {
  readonly own: WrittenPolicy;
  readonly rule: WrittenRule;
}

export function checkRules(context: LintContext): void {
  for (const direction of ['ingress', 'egress'] as const) {
    const rules = context.policies.flatMap((own) => (own[direction] ?? []).map((rule): PlacedRule => ({ own, rule })));
    checkTiers(context, rules);
    checkRedundant(context, rules);
  }
  for (const policy of context.cluster.networkPolicies) checkDirections(context, policy);
  for (const warning of context.model.policies.warnings) {
    const [kind = '', name = ''] = warning.object.split(' ');
    context.findings.push({
      rule: 'equal-priority',
      severity: 'warning',
      kind,
      namespace: '',
      name,
      field: warning.field,
      file: warning.file,
      line: warning.line ?? 0,
      message: warning.message,
      advice: 'give them different priorities',
    });
  }
}

/** Of the tiers in their order: what a rule of the cluster decides, no later rule hears of. */
function checkTiers(context: LintContext, rules: readonly PlacedRule[]): void {
  const deciding: PlacedRule[] = [];
  for (const placed of rules) {
    const { own, rule } = placed;
    const before = deciding.find(
      (earlier) =>
        // A rule that passes ends its own tier only.
        (earlier.rule.action !== 'pass' || earlier.own.tier === own.tier) && covers(earlier, placed),
    );
    if (before !== undefined) {
      context.report(own.policy, rule.field, {
        rule: 'shadowed-rule',
        severity: 'warning',
        message: `never reached: ${nameRule(before)} (${before.rule.action}) decides about all of it before`,
        advice: adviceFor(before, placed),
      });
    } else if (own.tier !== 'network') deciding.push(placed);
  }
}

function adviceFor(before: PlacedRule, { own, rule }: PlacedRule): string {
  if (before.rule.action === rule.action) return 'remove it';
  if (before.own.policy === own.policy) return 'put it before the other, or narrow the other';
  if (before.own.tier === own.tier) return 'give its policy a lower priority number, or narrow the other';
  return 'narrow the other, or let it pass where this one is to decide';
}

/** NetworkPolicies add up, so order does not matter; of two that say the same the later one is named. */
function checkRedundant(context: LintContext, rules: readonly PlacedRule[]): void {
  const byNamespace = new Map<string, PlacedRule[]>();
  for (const placed of rules) {
    if (placed.own.tier !== 'network') continue;
    const { namespace } = placed.own.policy.metadata;
    const list = byNamespace.get(namespace);
    if (list === undefined) byNamespace.set(namespace, [placed]);
    else list.push(placed);
  }
  for (const list of byNamespace.values()) {
    list.forEach((placed, position) => {
      const wider = list.find(
        (other, index) => index !== position && covers(other, placed) && (index < position || !covers(placed, other)),
      );
      if (wider === undefined) return;
      context.report(placed.own.policy, placed.rule.field, {
        rule: 'redundant-rule',
        severity: covers(placed, wider) ? 'warning' : 'info',
        message: `allows nothing that ${nameRule(wider)} does not allow`,
        advice: covers(placed, wider) ? 'they say the same: remove one' : 'remove it, or narrow the other',
      });
    });
  }
}

function covers(wide: PlacedRule, narrow: PlacedRule): boolean {
  return (
    coversScope(wide.own.subject, narrow.own.subject) &&
    coversPorts(wide.rule.ports, narrow.rule.ports) &&
    coversPeers(wide.rule.peers, narrow.rule.peers)
  );
}

function nameRule({ own, rule }: PlacedRule): string {
  return `${describeObject(own.policy)} ${rule.field}`;
}

function checkDirections(context: LintContext, policy: NetworkPolicy): void {
  const types = policy.spec.policyTypes ?? [];
  const check = (direction: Direction, type: 'Ingress' | 'Egress'): void => {
    if (types.length === 0 || types.includes(type) || (policy.spec[direction] ?? []).length === 0) return;
    context.report(policy, `spec.${direction}`, {
      rule: 'other-direction',
      severity: 'warning',
      message: `policyTypes does not list ${type}: these rules do nothing`,
      advice: `add ${type} to policyTypes, which also isolates that direction, or remove the rules`,
    });
  };
  check('ingress', 'Ingress');
  check('egress', 'Egress');
}
