/**
 * Selectors that match nothing, pods of the host network behind them, and policies of namespaces without pods.
 *
 * A namespace that the input does not hold, or holds without pods, is told apart from labels that nobody there has: the
 * first is worth a note, the second is a mistake. A workload at rest (scaled to zero, ended) counts as somebody.
 */

import { hasSelector } from '../cluster/endpoint-slices.ts';
import { selects } from '../model/label-selector.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import { NAMESPACE_NAME_LABEL } from '../model/namespace.ts';
import { describeSelector, type LintContext, listPods, takesAll } from './lint-context.ts';
import type { PodScope, WrittenPeer, WrittenPolicy } from './written-policy.ts';

export function checkSelectors(context: LintContext): void {
  for (const own of context.policies) {
    checkSubject(context, own);
    for (const rule of [...(own.ingress ?? []), ...(own.egress ?? [])]) {
      for (const peer of rule.peers) checkPeer(context, own, peer);
    }
  }
  for (const service of context.cluster.services) {
    if (!hasSelector(service)) continue;
    const { namespace } = service.metadata;
    const scope = { field: 'spec.selector', namespaces: namespace, pods: { matchLabels: service.spec.selector ?? {} } };
    if (context.select(scope).length === 0) reportEmpty(context, service, scope, 'the Service has no endpoints');
  }
}

function checkSubject(context: LintContext, { policy, subject }: WrittenPolicy): void {
  const pods = context.select(subject);
  if (pods.length === 0) {
    reportEmpty(context, policy, subject, 'the policy is about nobody');
    return;
  }
  const onHost = pods.filter((pod) => pod.spec.hostNetwork);
  if (onHost.length === 0 || (takesAll(subject.pods) && onHost.length < pods.length)) return;
  const all = onHost.length === pods.length;
  context.report(policy, subject.field, {
    rule: 'host-network',
    severity: all ? 'warning' : 'info',
    message: `${all ? 'all it selects' : 'it also selects'}: ${listPods(onHost)} of the host network, whom policies do not bind`,
    advice: 'protect such pods on the node (a host firewall), or take hostNetwork from them',
  });
}

function checkPeer(context: LintContext, { policy }: WrittenPolicy, peer: WrittenPeer): void {
  if (peer.kind === 'nodes') {
    const { nodes } = context.cluster;
    if (nodes.some(({ metadata }) => selects(peer.selector, metadata.labels))) return;
    context.report(policy, peer.field, {
      rule: 'selector-empty',
      severity: 'warning',
      message: `no node has ${describeSelector(peer.selector)}`,
      advice: `${valuesInUse(peer.selector, nodes)}label the nodes, or correct the selector`,
    });
    return;
  }
  if (peer.kind !== 'pods') return;
  const pods = context.select(peer.scope);
  if (pods.length === 0) {
    reportEmpty(context, policy, peer.scope, 'the peer is nobody');
    return;
  }
  if (!pods.every((pod) => pod.spec.hostNetwork)) return;
  context.report(policy, peer.field, {
    rule: 'host-network',
    severity: 'warning',
    message: `the peer is ${listPods(pods)} of the host network: their packets carry the node's address, which no selector matches`,
    advice: 'name the nodes instead: an ipBlock with their addresses, or a nodes peer',
  });
}

function reportEmpty(context: LintContext, object: KubernetesObject, scope: PodScope, outcome: string): void {
  const namespaces = context.namespacesOf(scope);
  const withPods = namespaces.filter((name) => context.podsIn(name).length > 0);
  if (namespaces.length === 0) {
    const named =
      typeof scope.namespaces === 'string' ? undefined : scope.namespaces.matchLabels?.[NAMESPACE_NAME_LABEL];
    context.report(object, scope.field, {
      rule: 'selector-empty',
      severity: named === undefined ? 'warning' : 'info',
      message:
        named === undefined && typeof scope.namespaces !== 'string'
          ? `no namespace has ${describeSelector(scope.namespaces)}: ${outcome}`
          : `namespace ${named} is not in the input: ${outcome}`,
      advice:
        named === undefined
          ? `${typeof scope.namespaces === 'string' ? '' : valuesInUse(scope.namespaces, context.cluster.namespaces)}label the namespace, or give its Namespace object too`
          : 'give its manifests too, or correct the name',
    });
    return;
  }
  if (context.isAtRest(scope)) return;
  if (withPods.length === 0) {
    const list = namespaces.slice(0, 3).join(', ');
    context.report(object, scope.field, {
      rule: 'empty-namespace',
      severity: 'info',
      message: `namespace ${list} has no pods in the input: ${outcome}`,
      advice: 'give the manifests of its workloads too',
    });
    return;
  }
  const pods = withPods.flatMap((name) => context.podsIn(name));
  const where = withPods.length === 1 ? `namespace ${withPods[0]}` : `${withPods.length} namespaces`;
  context.report(object, scope.field, {
    rule: 'selector-empty',
    severity: 'warning',
    message: `no pod of ${where} has ${describeSelector(scope.pods)}: ${outcome}`,
    advice: `${valuesInUse(scope.pods, pods)}correct the selector, or the labels of the pods`,
  });
}

/** What the selector's first label is in reality: most empty selectors are typing errors. */
function valuesInUse(
  { matchLabels, matchExpressions }: PodScope['pods'],
  objects: readonly { readonly metadata: { readonly labels?: Readonly<Record<string, string>> | undefined } }[],
): string {
  for (const key of [...Object.keys(matchLabels ?? {}), ...(matchExpressions ?? []).map((own) => own.key)]) {
    const values = new Set<string>();
    for (const { metadata } of objects) {
      if (metadata.labels !== undefined && Object.hasOwn(metadata.labels, key)) values.add(metadata.labels[key]!);
    }
    const list = [...values].sort();
    const wanted = matchLabels?.[key];
    if (list.length === 0) return `nothing there has a label ${key}; `;
    if (wanted !== undefined && values.has(wanted)) continue;
    return `${key} is ${list.slice(0, 5).join(', ')}${list.length > 5 ? ', …' : ''} there; `;
  }
  return '';
}
