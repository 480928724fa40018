/**
 * What is left open: namespaces where some pod takes, or sends, whatever comes, because nothing closes the direction for all
 * pods there; and policies that open for everybody what another one closed.
 */

import { describeObject } from '../cluster/problem.ts';
import { selects } from '../model/label-selector.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { Pod } from '../model/pod.ts';
import type { Direction } from '../policy/policy-rules.ts';
import { type LintContext, listPods, takesAll } from './lint-context.ts';
import type { WrittenRule } from './written-policy.ts';

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

export function checkIsolation(context: LintContext): void {
  for (const namespace of context.cluster.namespaces) {
    for (const direction of DIRECTIONS) checkAllowAll(context, namespace.metadata.name, direction);
    checkDefaultDeny(context, namespace);
  }
}

function checkDefaultDeny(context: LintContext, namespace: KubernetesObject): void {
  const { name } = namespace.metadata;
  const pods = context.podsIn(name).filter((pod) => !pod.spec.hostNetwork);
  if (pods.length === 0) return;
  const open = DIRECTIONS.filter((direction) => !isClosed(context, name, direction));
  if (open.length === 0) return;
  const uncovered = describeOpen(
    open.map((direction) => ({ direction, left: pods.filter((pod) => isOpen(context, pod, direction)) })),
  );
  const policies = context.cluster.networkPolicies.filter(({ metadata }) => metadata.namespace === name);
  // Where somebody began to isolate, an open way in is more likely forgotten than meant.
  const isForgotten = policies.length > 0 && open.includes('ingress');
  context.report(namespace, '', {
    rule: 'default-deny',
    severity: isForgotten ? 'warning' : 'info',
    message: `no default deny for ${open.join(' and ')}: ${uncovered}`,
    advice: `add a NetworkPolicy with an empty podSelector and policyTypes [${open.map((direction) => (direction === 'ingress' ? 'Ingress' : 'Egress')).join(', ')}]`,
  });
}

const OPENNESS = {
  ingress: { one: 'takes connections from everybody', many: 'take connections from everybody' },
  egress: { one: 'connects to everybody', many: 'connect to everybody' },
} as const;

/** Who stands open now; where nobody does, it is the pods to come. */
function describeOpen(open: readonly { readonly direction: Direction; readonly left: readonly Pod[] }[]): string {
  const byPods = new Map<string, string[]>();
  for (const { direction, left } of open) {
    const who = left.length === 0 ? 'new pods would' : listPods(left);
    byPods.set(who, [...(byPods.get(who) ?? []), OPENNESS[direction][left.length === 1 ? 'one' : 'many']]);
  }
  return [...byPods].map(([who, what]) => `${who} ${what.join(' and ')}`).join('; ');
}

/** A policy closes the direction for all pods of the namespace, those to come too. */
function isClosed(context: LintContext, namespace: string, direction: Direction): boolean {
  return context.policies.some((own) => {
    const rules = own[direction];
    if (rules === null || !takesAll(own.subject.pods) || !context.namespacesOf(own.subject).includes(namespace))
      return false;
    return own.tier === 'network' || rules.some((rule) => rule.action === 'deny' && meansEveryPod(rule));
  });
}

function isOpen(context: LintContext, pod: Pod, direction: Direction): boolean {
  const { namespace, labels } = pod.metadata;
  return !context.policies.some((own) => {
    if (own[direction] === null || !context.namespacesOf(own.subject).includes(namespace)) return false;
    if (!selects(own.subject.pods, labels)) return false;
    return own.tier === 'network' || own[direction].some((rule) => rule.action === 'deny' && meansEveryPod(rule));
  });
}

function meansEveryPod({ peers, ports }: WrittenRule): boolean {
  return (
    ports === null &&
    peers.some(
      (peer) =>
        peer.kind === 'pods' &&
        typeof peer.scope.namespaces !== 'string' &&
        takesAll(peer.scope.namespaces) &&
        takesAll(peer.scope.pods),
    )
  );
}

/** A policy for all pods that lets everybody in, beside one for all pods that lets nobody in. */
function checkAllowAll(context: LintContext, namespace: string, direction: Direction): void {
  const forAll = context.policies.filter(
    (own) => own.tier === 'network' && own.policy.metadata.namespace === namespace && takesAll(own.subject.pods),
  );
  const closing = forAll.find((own) => own[direction]?.length === 0);
  if (closing === undefined) return;
  for (const own of forAll) {
    const rule = own[direction]?.find(letsEverybody);
    if (rule === undefined) continue;
    context.report(own.policy, rule.field, {
      rule: 'allow-all',
      severity: 'warning',
      message: `${direction === 'ingress' ? 'lets everybody in' : 'lets everything out'} on every port, for all pods: ${describeObject(closing.policy)} denies nothing any more`,
      advice: 'narrow the podSelector, the peers or the ports, or remove the default deny',
    });
  }
}

function letsEverybody({ peers, ports }: WrittenRule): boolean {
  return ports === null && peers.some((peer) => peer.kind === 'any');
}
