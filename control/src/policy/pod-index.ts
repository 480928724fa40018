/**
 * Which pods a selector takes. Labels lead to the pods that have them, so that a requirement costs a pass over bits and
 * not a look at every pod's labels; the same selectors asked again give the same list object.
 *
 * The operators mean what `selects` of model/label-selector.ts says: NotIn and DoesNotExist take pods without the key.
 * Nothing here reads a policy.
 */

import { type LabelSelector, selects } from '../model/label-selector.ts';
import { NAMESPACE_NAME_LABEL, type Namespace } from '../model/namespace.ts';
import type { Pod } from '../model/pod.ts';
import { addPods, createPodSet, keepPods, listPods, type PodSet, removePods } from './pod-set.ts';

type Labels = Readonly<Record<string, string>>;

interface PodsOfNamespace {
  readonly labels: Labels;
  readonly endpoints: number[];
}

export class PodIndex {
  readonly #size: number;
  readonly #namespaces = new Map<string, PodsOfNamespace>();
  /** Endpoint numbers by label key, then by value. */
  readonly #labelled = new Map<string, Map<string, number[]>>();
  readonly #byPodSelector = new Map<string, PodSet>();
  readonly #byNamespaceSelector = new Map<string, PodSet>();
  readonly #selections = new Map<string, readonly number[]>();

  /** @param endpoints the pods by endpoint number */
  constructor(namespaces: readonly Namespace[], endpoints: readonly { readonly pod: Pod }[]) {
    this.#size = endpoints.length;
    for (const { metadata } of namespaces) this.#addNamespace(metadata.name, metadata.labels ?? {});
    endpoints.forEach(({ pod: { metadata } }, endpoint) => {
      const { namespace, labels } = metadata;
      const pods =
        this.#namespaces.get(namespace) ?? this.#addNamespace(namespace, { [NAMESPACE_NAME_LABEL]: namespace });
      pods.endpoints.push(endpoint);
      for (const [key, value] of Object.entries(labels ?? {})) this.#addLabel(key, value, endpoint);
    });
  }

  /** The pods of one namespace that a selector takes: endpoint numbers, ascending. */
  selectIn(namespace: string, podSelector: LabelSelector): readonly number[] {
    return this.#select(`=${namespace}`, podSelector, () => {
      const set = createPodSet(this.#size);
      addPods(set, this.#namespaces.get(namespace)?.endpoints ?? []);
      return set;
    });
  }

  /** The pods that a selector takes in the namespaces that another one takes: endpoint numbers, ascending. */
  select(namespaceSelector: LabelSelector, podSelector: LabelSelector): readonly number[] {
    return this.#select(JSON.stringify(namespaceSelector), podSelector, () => {
      const set = createPodSet(this.#size);
      for (const { labels, endpoints } of this.#namespaces.values()) {
        if (selects(namespaceSelector, labels)) addPods(set, endpoints);
      }
      return set;
    });
  }

  #addNamespace(name: string, labels: Labels): PodsOfNamespace {
    const pods = { labels, endpoints: [] };
    this.#namespaces.set(name, pods);
    return pods;
  }

  #addLabel(key: string, value: string, endpoint: number): void {
    let values = this.#labelled.get(key);
    if (values === undefined) {
      values = new Map();
      this.#labelled.set(key, values);
    }
    const endpoints = values.get(value);
    if (endpoints === undefined) values.set(value, [endpoint]);
    else endpoints.push(endpoint);
  }

  #select(namespaceText: string, podSelector: LabelSelector, inNamespaces: () => PodSet): readonly number[] {
    const podText = JSON.stringify(podSelector);
    const text = `${namespaceText}\n${podText}`;
    let found = this.#selections.get(text);
    if (found === undefined) {
      const set = remembered(this.#byPodSelector, podText, () => this.#match(podSelector)).slice();
      keepPods(set, remembered(this.#byNamespaceSelector, namespaceText, inNamespaces));
      found = listPods(set);
      this.#selections.set(text, found);
    }
    return found;
  }

  #match({ matchLabels, matchExpressions }: LabelSelector): PodSet {
    const set = createPodSet(this.#size).fill(0xffff_ffff);
    for (const [key, value] of Object.entries(matchLabels ?? {})) keepPods(set, this.#withLabel(key, [value]));
    for (const { key, operator, values = [] } of matchExpressions ?? []) {
      const isNegative = operator === 'NotIn' || operator === 'DoesNotExist';
      const isListed = operator === 'In' || operator === 'NotIn';
      const holders = this.#withLabel(key, isListed ? values : [...(this.#labelled.get(key)?.keys() ?? [])]);
      if (isNegative) removePods(set, holders);
      else keepPods(set, holders);
    }
    return set;
  }

  /** The pods whose label has one of the values. */
  #withLabel(key: string, values: readonly string[]): PodSet {
    const set = createPodSet(this.#size);
    for (const value of values) addPods(set, this.#labelled.get(key)?.get(value) ?? []);
    return set;
  }
}

function remembered(sets: Map<string, PodSet>, text: string, make: () => PodSet): PodSet {
  let set = sets.get(text);
  if (set === undefined) {
    set = make();
    sets.set(text, set);
  }
  return set;
}
