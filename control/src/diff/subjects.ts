/**
 * Subjects: whom a comparison speaks about, matched over both sides by name. Workloads with their pods, the nodes, and
 * each region of the outside that some policy or Service tells apart on either side.
 *
 * Pods of a workload are matched by name; those whose names a rollout has changed, in order. A workload that became one of
 * another kind under the same name is the same. Pods that a workload has more or less of than before are in `added` and
 * `removed` alone: that is scaling, and no flow's end.
 */

import type { Family, Prefix } from '../model/address.ts';
import { type Workload, workloadId, workloadOf } from '../reach/workload.ts';
import type { SideView } from './side-view.ts';

/** One party on both sides; -1 where it is not. Never -1 on both. */
export interface Member {
  /** 'pod/shop/cart-0', 'node/worker-1', 'outside', '203.0.113.0/24'. */
  readonly name: string;
  readonly before: number;
  readonly after: number;
}

export interface Subject {
  /** 'deploy/shop/cart', 'nodes', 'outside', '203.0.113.0/24'; of a changed kind the one after. */
  readonly id: string;
  readonly kind: 'workload' | 'nodes' | 'outside';
  /** '' for nodes and the outside. */
  readonly namespace: string;
  readonly members: readonly Member[];
  readonly isAdded: boolean;
  readonly isRemoved: boolean;
  /** Pods of a workload that is on both sides. */
  readonly scaledFrom: number;
  readonly scaledTo: number;
  /** The object that owns the pods, or the pod itself; null for others. */
  readonly before: Workload | null;
  readonly after: Workload | null;
}

interface Group {
  readonly workload: Workload;
  /** Party numbers by pod name. */
  readonly pods: Map<string, number>;
}

export function matchSubjects(before: SideView, after: SideView): Subject[] {
  return [...matchWorkloads(before, after), matchNodes(before, after), ...matchRegions(before, after)];
}

function matchWorkloads(before: SideView, after: SideView): Subject[] {
  const groupsBefore = groupPods(before);
  const groupsAfter = groupPods(after);
  const subjects: Subject[] = [];
  const renamed = new Map<string, Group>();
  for (const [id, group] of groupsBefore) {
    if (!groupsAfter.has(id)) renamed.set(`${group.workload.namespace}/${group.workload.name}`, group);
  }
  for (const [id, group] of groupsAfter) {
    const { namespace, name } = group.workload;
    let known = groupsBefore.get(id);
    if (known === undefined) {
      known = renamed.get(`${namespace}/${name}`);
      renamed.delete(`${namespace}/${name}`);
    }
    subjects.push(matchPods(known ?? null, group));
  }
  for (const group of renamed.values()) subjects.push(matchPods(group, null));
  return subjects.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Workloads by id, with the pods that have an address of their own. */
function groupPods({ model }: SideView): Map<string, Group> {
  const groups = new Map<string, Group>();
  model.topology.endpoints.forEach(({ pod }, party) => {
    const workload = workloadOf(pod);
    const id = workloadId(workload);
    const group = groups.get(id);
    if (group === undefined) groups.set(id, { workload, pods: new Map([[pod.metadata.name, party]]) });
    else group.pods.set(pod.metadata.name, party);
  });
  return groups;
}

/** At least one of them is there. */
function matchPods(before: Group | null, after: Group | null): Subject {
  const workload = (after ?? before)!.workload;
  const members: Member[] = [];
  const nameOf = (name: string): string => `pod/${workload.namespace}/${name}`;
  if (before === null || after === null) {
    for (const [name, party] of (after ?? before)!.pods) {
      members.push({ name: nameOf(name), before: after === null ? party : -1, after: after === null ? -1 : party });
    }
  } else {
    const goneNames = [...before.pods.keys()].filter((name) => !after.pods.has(name));
    for (const [name, party] of after.pods) {
      const was = before.pods.get(name) ?? before.pods.get(goneNames.shift() ?? '');
      if (was !== undefined) members.push({ name: nameOf(name), before: was, after: party });
    }
  }
  return {
    id: workloadId(workload),
    kind: 'workload',
    namespace: workload.namespace,
    members,
    isAdded: before === null,
    isRemoved: after === null,
    scaledFrom: before?.pods.size ?? 0,
    scaledTo: after?.pods.size ?? 0,
    before: before?.workload ?? null,
    after: after?.workload ?? null,
  };
}

function matchNodes(before: SideView, after: SideView): Subject {
  const names = new Set([...before.model.topology.nodeIndex.keys(), ...after.model.topology.nodeIndex.keys()]);
  const partyOf = ({ model, parties }: SideView, name: string): number => {
    const index = model.topology.nodeIndex.get(name);
    return index === undefined ? -1 : parties.pods + index;
  };
  const members = [...names]
    .sort()
    .map((name) => ({ name: `node/${name}`, before: partyOf(before, name), after: partyOf(after, name) }));
  return lone('nodes', 'nodes', members);
}

function matchRegions(before: SideView, after: SideView): Subject[] {
  const regions = new Map<string, { family: Family; prefix: Prefix | null }>();
  for (const { parties } of [before, after]) {
    for (const { family, prefix } of parties.regions)
      regions.set(`${family} ${prefix?.text ?? ''}`, { family, prefix });
  }
  const byId = new Map<string, Member[]>();
  for (const { family, prefix } of regions.values()) {
    const id = prefix?.text ?? 'outside';
    const member = { name: id, before: before.regionOf(family, prefix), after: after.regionOf(family, prefix) };
    if (member.before < 0 || member.after < 0) continue;
    const known = byId.get(id);
    if (known === undefined) byId.set(id, [member]);
    else known.push(member);
  }
  return [...byId].sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, members]) => lone(id, 'outside', members));
}

function lone(id: string, kind: 'nodes' | 'outside', members: readonly Member[]): Subject {
  const none = { namespace: '', isAdded: false, isRemoved: false, before: null, after: null };
  return { id, kind, members, scaledFrom: members.length, scaledTo: members.length, ...none };
}

/** 'Deployment shop/cart'. */
export function describeWorkload({ kind, namespace, name }: Workload): string {
  return `${kind} ${namespace}/${name}`;
}
