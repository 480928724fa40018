/**
 * What every check of lint works with: the cluster, its policies as written, the pods that selectors take, and the list of
 * findings.
 */

import type { Cluster } from '../cluster/cluster.ts';
import type { ClusterModel } from '../compile/image.ts';
import { type LabelSelector, selects } from '../model/label-selector.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import type { Namespace } from '../model/namespace.ts';
import { hasEnded, type Pod } from '../model/pod.ts';
import type { Protocol } from '../model/port.ts';
import type { Service } from '../model/service.ts';
import { type Finding, type FindingText, findingAt } from './finding.ts';
import { type PodScope, type WrittenPolicy, writtenPolicies } from './written-policy.ts';

/** Labels of pods that a workload would make, so that one scaled to zero is not called a typing error. */
export interface PodTemplateLabels {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What the datapath makes of a new connection from a pod to a Service. */
export interface Answer {
  readonly verdict: string;
  readonly reason: string;
}

/** Sends a first packet through the datapath and answers every branch. */
export type Ask = (from: Pod, to: Service, port: number, protocol: Protocol) => readonly Answer[];

export class LintContext {
  readonly model: ClusterModel;
  readonly cluster: Cluster;
  readonly policies: readonly WrittenPolicy[];
  /** Pods that have not ended. */
  readonly pods: readonly Pod[];
  readonly findings: Finding[] = [];
  readonly #templates: readonly PodTemplateLabels[];
  readonly #namespaces = new Map<string, Namespace>();
  readonly #podsIn = new Map<string, Pod[]>();
  readonly #selected = new Map<string, readonly Pod[]>();

  constructor(model: ClusterModel, templates: readonly PodTemplateLabels[]) {
    this.model = model;
    this.cluster = model.cluster;
    this.policies = writtenPolicies(model.cluster);
    this.pods = model.cluster.pods.filter((pod) => !hasEnded(pod));
    this.#templates = templates;
    for (const namespace of model.cluster.namespaces) this.#namespaces.set(namespace.metadata.name, namespace);
    for (const pod of this.pods) {
      const { namespace } = pod.metadata;
      const pods = this.#podsIn.get(namespace);
      if (pods === undefined) this.#podsIn.set(namespace, [pod]);
      else pods.push(pod);
    }
  }

  report(object: KubernetesObject, field: string, text: FindingText): void {
    this.findings.push(findingAt(object, field, text));
  }

  /** A finding about the input as a whole. */
  reportInput(text: FindingText): void {
    this.findings.push({ ...text, kind: '', namespace: '', name: '', field: '', file: '', line: 0 });
  }

  podsIn(namespace: string): readonly Pod[] {
    return this.#podsIn.get(namespace) ?? [];
  }

  /** Names of the namespaces of a scope. */
  namespacesOf({ namespaces }: PodScope): string[] {
    if (typeof namespaces === 'string') return [namespaces];
    return [...this.#namespaces.values()]
      .filter(({ metadata }) => selects(namespaces, metadata.labels))
      .map(({ metadata }) => metadata.name);
  }

  /** Pods of a scope, those of the host network too. */
  select(scope: PodScope): readonly Pod[] {
    const key = JSON.stringify([scope.namespaces, scope.pods]);
    let found = this.#selected.get(key);
    if (found === undefined) {
      found = this.namespacesOf(scope)
        .flatMap((namespace) => this.podsIn(namespace))
        .filter((pod) => selects(scope.pods, pod.metadata.labels));
      this.#selected.set(key, found);
    }
    return found;
  }

  /** Some workload or ended pod has the labels, though no pod runs. */
  isAtRest(scope: PodScope): boolean {
    const namespaces = new Set(this.namespacesOf(scope));
    const isIn = (namespace: string, labels: LabelsOf): boolean =>
      namespaces.has(namespace) && selects(scope.pods, labels);
    return (
      this.#templates.some(({ namespace, labels }) => isIn(namespace, labels)) ||
      this.cluster.pods.some(({ metadata }) => isIn(metadata.namespace, metadata.labels))
    );
  }
}

type LabelsOf = Pod['metadata']['labels'];

/** True for a selector that takes everything. */
export function takesAll({ matchLabels, matchExpressions }: LabelSelector): boolean {
  return Object.keys(matchLabels ?? {}).length === 0 && (matchExpressions ?? []).length === 0;
}

/** `app=web, tier in (a, b)`. */
export function describeSelector({ matchLabels, matchExpressions }: LabelSelector): string {
  const labels = Object.entries(matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  const expressions = (matchExpressions ?? []).map(({ key, operator, values }) => {
    const list = `(${(values ?? []).join(', ')})`;
    if (operator === 'In') return `${key} in ${list}`;
    if (operator === 'NotIn') return `${key} not in ${list}`;
    return operator === 'Exists' ? `a label ${key}` : `no label ${key}`;
  });
  return [...labels, ...expressions].join(', ');
}

/** `3 pods (web-1, web-2 and 1 more)`. */
export function listPods(pods: readonly Pod[]): string {
  const names = pods.map(({ metadata }) => metadata.name);
  const shown = names.slice(0, 3).join(', ');
  const rest = names.length > 3 ? ` and ${names.length - 3} more` : '';
  return `${pods.length} pod${pods.length === 1 ? '' : 's'} (${shown}${rest})`;
}
