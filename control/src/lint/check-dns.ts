/**
 * Pods whose egress policies keep them from the cluster's DNS, told by a packet and not by reading rules: one first packet of
 * each protocol from each set of pods that the same policies judge on the same node.
 */

import type { Pod } from '../model/pod.ts';
import type { Service } from '../model/service.ts';
import type { JudgementOrder } from '../policy/policy-rules.ts';
import { type Ask, type LintContext, listPods } from './lint-context.ts';

const DNS_PORT = 53;
/** Names under which distributions run it, where the label is missing. */
const DNS_NAMES = ['kube-dns', 'coredns', 'rke2-coredns-rke2-coredns', 'dns-default'];

interface Suspects {
  readonly order: JudgementOrder;
  readonly pods: Pod[];
}

export function checkDns(context: LintContext, ask: Ask): void {
  const suspects = suspectsOf(context);
  if (suspects.length === 0) return;
  const service = context.cluster.services.find(isDns);
  if (service === undefined) {
    context.reportInput({
      rule: 'dns-cut-off',
      severity: 'info',
      message:
        'pods have egress policies, and the input holds no DNS Service (kube-system/kube-dns): whether they can ask it is not checked',
      advice: "give the manifests of the cluster's DNS too",
    });
    return;
  }
  const cut = new Map<string, { first: Suspects; pods: Pod[]; protocols: string }>();
  for (const own of suspects) {
    const protocols = (['UDP', 'TCP'] as const).filter(
      (protocol) =>
        service.spec.ports.some((port) => port.port === DNS_PORT && port.protocol === protocol) &&
        ask(own.pods[0]!, service, DNS_PORT, protocol).some(({ reason }) => reason === 'policy-denied'),
    );
    if (protocols.length === 0) continue;
    const key = [
      protocols.join(' and '),
      ...own.order.policies.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
    ].join(' ');
    const same = cut.get(key);
    if (same === undefined) cut.set(key, { first: own, pods: [...own.pods], protocols: protocols.join(' and ') });
    else same.pods.push(...own.pods);
  }
  for (const { first, pods, protocols } of cut.values()) {
    const policy = first.order.network?.isolating[0] ?? first.order.policies[0]!;
    context.report(policy, policy.kind === 'NetworkPolicy' ? 'spec.egress' : 'spec', {
      rule: 'dns-cut-off',
      severity: 'warning',
      message: `${listPods(pods)} cannot reach ${service.metadata.namespace}/${service.metadata.name} on port 53 ${protocols}: a policy denies it`,
      advice: 'allow egress to the DNS pods on port 53, UDP and TCP',
    });
  }
}

/** Pods with policies for egress, by what judges them and their node: DNS may be reached on one node alone. */
function suspectsOf({ model }: LintContext): Suspects[] {
  const { topology, policies } = model;
  const groups = new Map<JudgementOrder, Map<number, Suspects>>();
  topology.endpoints.forEach(({ pod, node }, endpoint) => {
    const order = policies.egress[endpoint] ?? null;
    if (order === null) return;
    const byNode = groups.get(order) ?? new Map<number, Suspects>();
    groups.set(order, byNode);
    const own = byNode.get(node);
    if (own === undefined) byNode.set(node, { order, pods: [pod] });
    else own.pods.push(pod);
  });
  return [...groups.values()].flatMap((byNode) => [...byNode.values()]);
}

function isDns({ metadata, spec }: Service): boolean {
  if (metadata.namespace !== 'kube-system' && metadata.namespace !== 'openshift-dns') return false;
  if (!spec.ports.some(({ port }) => port === DNS_PORT) || spec.clusterIP === 'None') return false;
  return metadata.labels?.['k8s-app'] === 'kube-dns' || DNS_NAMES.includes(metadata.name);
}
