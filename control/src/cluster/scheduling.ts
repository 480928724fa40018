/**
 * Pods to nodes: `nodeName` wins, then nodeSelector and required node affinity, then an even spread by name.
 *
 * Not modelled: resources, taints and tolerations, pod affinity, preferences, topology spread constraints.
 */

import { hasLabels } from '../model/label-selector.ts';
import type { Node } from '../model/node.ts';
import type { NodeSelectorRequirement, PodSpec } from '../model/pod.ts';
import { hashText } from './name-hash.ts';
import { ARCH_LABEL, OS_LABEL } from './nodes.ts';
import type { ProblemList } from './problem.ts';
import type { PodGroup } from './workloads.ts';

/**
 * Gives every pod of the groups a node. Given pods go round from the first node; a workload's from a node that its name
 * chooses, so that not all first replicas share a node.
 */
export function schedulePods(
  groups: readonly PodGroup[],
  nodes: readonly Node[],
  nodesGiven: boolean,
  problems: ProblemList,
): void {
  for (const { owner, pods } of groups) {
    let turn = owner === null ? 0 : hashText(`${owner.kind}/${owner.metadata.namespace}/${owner.metadata.name}`);
    let warned = false;
    for (const pod of pods) {
      if (pod.spec.nodeName !== '') continue;
      let fitting = isUnconstrained(pod.spec) ? nodes : nodes.filter((node) => canRunOn(pod.spec, node));
      if (fitting.length === 0) {
        fitting = nodes;
        if (nodesGiven && (!warned || owner === null)) {
          problems.warn(pod, 'spec.nodeSelector', 'no node has the labels that it asks for; any node is taken');
          warned = true;
        }
      }
      pod.spec.nodeName = fitting[turn % fitting.length]!.metadata.name;
      turn++;
    }
  }
}

/** True where the node satisfies nodeSelector and required node affinity. */
export function canRunOn(spec: PodSpec, node: Node): boolean {
  const labels = labelsOf(node);
  if (spec.nodeSelector !== undefined && !hasLabels(labels, spec.nodeSelector)) return false;
  const terms = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (terms === undefined || terms.length === 0) return true;
  const fields = { 'metadata.name': node.metadata.name };
  return terms.some(({ matchExpressions = [], matchFields = [] }) => {
    // A term without requirements matches nothing.
    if (matchExpressions.length === 0 && matchFields.length === 0) return false;
    return (
      matchExpressions.every((requirement) => satisfies(requirement, labels)) &&
      matchFields.every((requirement) => satisfies(requirement, fields))
    );
  });
}

function isUnconstrained(spec: PodSpec): boolean {
  return spec.nodeSelector === undefined && spec.affinity?.nodeAffinity === undefined;
}

/** Manifests of nodes are often cut down: what every kubelet sets is taken as set. */
function labelsOf(node: Node): Record<string, string> {
  return { [OS_LABEL]: 'linux', [ARCH_LABEL]: 'amd64', ...node.metadata.labels };
}

function satisfies({ key, operator, values = [] }: NodeSelectorRequirement, labels: Record<string, string>): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && Number(value) > Number(values[0]);
    case 'Lt':
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}
