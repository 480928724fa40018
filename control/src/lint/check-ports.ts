/**
 * Ports that nobody has: names that no container gives, numbers that none declares, of policies and of Services.
 *
 * Declaring ports is free, so a number is only doubted where every pod in question declares ports and none has it.
 */

import { hasSelector, resolveTargetPort } from '../cluster/endpoint-slices.ts';
import { hasLabels } from '../model/label-selector.ts';
import type { Pod } from '../model/pod.ts';
import type { Protocol } from '../model/port.ts';
import type { Service } from '../model/service.ts';
import { namedPorts } from '../policy/named-ports.ts';
import { type LintContext, listPods } from './lint-context.ts';
import type { WrittenPolicy, WrittenPort, WrittenRule } from './written-policy.ts';

export function checkPorts(context: LintContext): void {
  for (const own of context.policies) {
    for (const rule of [...(own.ingress ?? []), ...(own.egress ?? [])]) checkRule(context, own, rule);
  }
  for (const service of context.cluster.services) if (hasSelector(service)) checkService(context, service);
}

function checkRule(context: LintContext, own: WrittenPolicy, rule: WrittenRule): void {
  const targets = targetsOf(context, own, rule).filter((pod) => !pod.spec.hostNetwork);
  if (targets.length === 0) return;
  // Where a rule leads out of the cluster too, its numbers may be meant for there.
  const podsOnly = rule.direction === 'ingress' || rule.peers.every(({ kind }) => kind === 'pods');
  for (const port of rule.ports ?? []) {
    if (port.kind === 'named') {
      if (targets.some((pod) => namedPorts(pod, port.name, port.protocol).length > 0)) continue;
      const other = port.protocol !== null && targets.some((pod) => namedPorts(pod, port.name, null).length > 0);
      context.report(own.policy, port.field, {
        rule: 'named-port',
        severity: 'warning',
        message: other
          ? `the port '${port.name}' of ${listPods(targets)} is not ${port.protocol}: the rule matches nothing`
          : `no port of ${listPods(targets)} is named '${port.name}': the rule matches nothing`,
        advice: other ? 'give the protocol that the port has' : 'name the port in the containers, or use its number',
      });
    } else if (podsOnly && port.last - port.first < 65_535 && isUndeclared(targets, port)) {
      const translated = servicePortBehind(context, targets, port);
      context.report(own.policy, port.field, {
        rule: 'policy-port',
        severity: 'warning',
        message: `${describePort(port)} is no port of ${listPods(targets)}; declared: ${declaredList(targets)}`,
        advice:
          translated === null
            ? 'correct the port, or declare it'
            : `policies see packets after Services: ${translated} leads to another port of the pods, which the policy must name`,
      });
    }
  }
}

/** The pods whose ports a rule speaks about. */
function targetsOf(context: LintContext, own: WrittenPolicy, rule: WrittenRule): readonly Pod[] {
  if (rule.direction === 'ingress') return context.select(own.subject);
  const found = new Set<Pod>();
  for (const peer of rule.peers) {
    if (peer.kind === 'any') return context.pods;
    if (peer.kind === 'pods') for (const pod of context.select(peer.scope)) found.add(pod);
  }
  return [...found];
}

type RangePort = Extract<WrittenPort, { kind: 'range' }>;

function isUndeclared(pods: readonly Pod[], { protocol, first, last }: RangePort): boolean {
  return pods.every((pod) => {
    const ports = declaredPorts(pod);
    return ports.length > 0 && !ports.some((own) => own.protocol === protocol && own.port >= first && own.port <= last);
  });
}

/** A Service of these pods with this port and another one behind it, by name; the usual reason for the mistake. */
function servicePortBehind(
  context: LintContext,
  targets: readonly Pod[],
  { protocol, first, last }: RangePort,
): string | null {
  for (const service of context.cluster.services) {
    const { namespace, name } = service.metadata;
    if (!hasSelector(service)) continue;
    const isOurs = targets.some(
      ({ metadata }) => metadata.namespace === namespace && hasLabels(metadata.labels, service.spec.selector ?? {}),
    );
    const port = service.spec.ports.find((own) => own.protocol === protocol && own.port >= first && own.port <= last);
    if (isOurs && port !== undefined) return `port ${port.port} of Service ${namespace}/${name}`;
  }
  return null;
}

function checkService(context: LintContext, service: Service): void {
  const { namespace } = service.metadata;
  const pods = context
    .podsIn(namespace)
    .filter(({ metadata }) => hasLabels(metadata.labels, service.spec.selector ?? {}));
  if (pods.length === 0) return;
  service.spec.ports.forEach((port, index) => {
    const field = `spec.ports[${index}]`;
    const lacking = pods.filter((pod) => resolveTargetPort(port, pod) === null);
    if (lacking.length > 0) {
      const all = lacking.length === pods.length;
      context.report(service, `${field}.targetPort`, {
        rule: 'target-port',
        severity: all ? 'error' : 'warning',
        message: all
          ? `no container of ${listPods(pods)} has a ${port.protocol} port named '${port.targetPort}': the port has no endpoints`
          : `${listPods(lacking)} of ${pods.length} have no ${port.protocol} port named '${port.targetPort}' and get no traffic`,
        advice: `name the port in the containers, or use its number; there is ${declaredList(pods)}`,
      });
      return;
    }
    const first = resolveTargetPort(port, pods[0]!)!;
    if (typeof port.targetPort === 'string' || !isUndeclared(pods, rangeOf(port.protocol, first))) return;
    context.report(service, port.targetPort === undefined ? `${field}.port` : `${field}.targetPort`, {
      rule: 'service-port',
      severity: 'warning',
      message: `leads to ${first}/${port.protocol}, which is no port of ${listPods(pods)}; declared: ${declaredList(pods)}`,
      advice: 'correct targetPort, or declare the port',
    });
  });
}

function rangeOf(protocol: Protocol, port: number): RangePort {
  return { kind: 'range', field: '', protocol, first: port, last: port };
}

function declaredPorts({ spec }: Pod): { protocol: Protocol; port: number; name: string }[] {
  const sidecars = spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...spec.containers, ...sidecars].flatMap(({ ports }) =>
    ports.map(({ protocol, containerPort, name }) => ({ protocol, port: containerPort, name })),
  );
}

function declaredList(pods: readonly Pod[]): string {
  const found = new Set<string>();
  for (const pod of pods) {
    for (const { protocol, port, name } of declaredPorts(pod)) {
      found.add(`${port}/${protocol}${name === '' ? '' : ` (${name})`}`);
    }
  }
  const list = [...found].sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
  if (list.length === 0) return 'none';
  return `${list.slice(0, 6).join(', ')}${list.length > 6 ? ', …' : ''}`;
}

function describePort({ protocol, first, last }: RangePort): string {
  return first === last ? `${first}/${protocol}` : `${first} to ${last}/${protocol}`;
}
