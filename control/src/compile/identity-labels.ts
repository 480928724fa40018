/**
 * The label set that a pod's identity stands for: its labels, its namespace and the namespace's labels, in Cilium's spelling.
 *
 * Labels that Cilium leaves out by default (pkg/labelsfilter/filter.go: those of single pods and of revisions) are left out
 * here too, or each pod of a StatefulSet would be an identity of its own. Where rules tell pods of one such set apart, by a
 * selector that asks for a label left out, these pods keep all their labels.
 */
import type { Namespace } from '../model/namespace.ts';
import type { Pod } from '../model/pod.ts';

export interface LabelSet {
  /** Sorted: `k8s:app=web`. */
  readonly labels: readonly string[];
  /** The labels as one text: equal for equal sets. */
  readonly key: string;
}

const NAMESPACE = 'k8s:io.kubernetes.pod.namespace';
const NAMESPACE_LABELS = 'k8s:io.cilium.k8s.namespace.labels';

/** What a key that is left out begins with. */
const LEFT_OUT = [
  'io.kubernetes',
  'kubernetes.io',
  'statefulset.kubernetes.io/pod-name',
  'apps.kubernetes.io/pod-index',
  'batch.kubernetes.io/job-completion-index',
  'k8s.io',
  'pod-template-generation',
  'pod-template-hash',
  'controller-revision-hash',
  'annotation',
  'etcd_node',
];
const LEFT_OUT_WITHIN = 'beta.kubernetes.io';

export class LabelSets {
  private readonly namespaces: ReadonlyMap<string, readonly string[]>;
  private readonly countsByKey = new Map<string, boolean>();

  constructor(namespaces: readonly Namespace[]) {
    this.namespaces = new Map(namespaces.map(({ metadata }) => [metadata.name, namespaceLabels(metadata)]));
  }

  /**
   * The label sets of pods, such that pods of one set are of one class.
   * @param classOf class of each pod: equal where no rule tells them apart
   */
  distinguish(pods: readonly Pod[], classOf: Int32Array): LabelSet[] {
    const sets = pods.map((pod) => this.labelSet(pod, false));
    const classOfKey = new Map<string, number>();
    const mixed = new Set<string>();
    sets.forEach(({ key }, i) => {
      const known = classOfKey.get(key);
      if (known === undefined) classOfKey.set(key, classOf[i]!);
      else if (known !== classOf[i]) mixed.add(key);
    });
    return mixed.size === 0 ? sets : sets.map((set, i) => (mixed.has(set.key) ? this.labelSet(pods[i]!, true) : set));
  }

  private labelSet({ metadata }: Pod, withAll: boolean): LabelSet {
    const labels = [...(this.namespaces.get(metadata.namespace) ?? [`${NAMESPACE}=${metadata.namespace}`])];
    for (const [key, value] of Object.entries(metadata.labels ?? {})) {
      if (withAll || this.counts(key)) labels.push(`k8s:${key}=${value}`);
    }
    labels.sort();
    return { labels, key: labels.join(';') };
  }

  private counts(key: string): boolean {
    let counts = this.countsByKey.get(key);
    if (counts === undefined) {
      counts = !LEFT_OUT.some((start) => key.startsWith(start)) && !key.includes(LEFT_OUT_WITHIN);
      this.countsByKey.set(key, counts);
    }
    return counts;
  }
}

function namespaceLabels({ name, labels = {} }: Namespace['metadata']): string[] {
  return [
    `${NAMESPACE}=${name}`,
    ...Object.entries(labels).map(([key, value]) => `${NAMESPACE_LABELS}.${key}=${value}`),
  ];
}
