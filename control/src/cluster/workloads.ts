/**
 * Workloads to pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job and CronJob.
 *
 * A workload whose pods are given makes none: pods that name it as their owner, or pods without an owner that its
 * selector takes (these are adopted, as its controller would). Names that a cluster draws at random are drawn from the
 * workload's name, so the same manifests give the same pods, and a new image gives no new names.
 */

import type { CronJob } from '../model/cron-job.ts';
import type { DaemonSet } from '../model/daemon-set.ts';
import type { Job, JobSpec } from '../model/job.ts';
import { type LabelSelector, selects } from '../model/label-selector.ts';
import type { KubernetesObject, ObjectMeta } from '../model/metadata.ts';
import type { Node } from '../model/node.ts';
import { setCopied, setDerived } from '../model/origin.ts';
import { hasEnded, type Pod, type PodTemplate } from '../model/pod.ts';
import { nameHash } from './name-hash.ts';
import { canRunOn } from './scheduling.ts';
import type { ObjectStore } from './store.ts';

/** Pods of one workload, to be spread over the nodes together. */
export interface PodGroup {
  /** The workload, or null for pods that were given. */
  readonly owner: KubernetesObject | null;
  readonly pods: Pod[];
}

interface PodMaker {
  readonly owner: KubernetesObject;
  readonly template: PodTemplate;
  readonly templateField: string;
  /** Kind and name in the pod's ownerReferences. */
  readonly ownerKind: string;
  readonly ownerName: string;
}

/**
 * Makes the pods of all workloads that have none.
 *
 * @param given copies of the given pods; adopted ones get an owner
 * @param nodes where DaemonSets run; @param nodesGiven false where all nodes are made up
 */
export function makeWorkloadPods(
  store: ObjectStore,
  given: readonly Pod[],
  nodes: readonly Node[],
  nodesGiven: boolean,
): PodGroup[] {
  const owned = new OwnedPods(store, given);
  const groups: PodGroup[] = [];
  for (const deployment of store.list('Deployment')) {
    if (owned.claim('Deployment', deployment, deployment.spec.selector)) continue;
    const { namespace, name } = deployment.metadata;
    const hash = nameHash(`Deployment/${namespace}/${name}`, 10);
    const maker = makerOf(deployment, deployment.spec.template, 'ReplicaSet', `${name}-${hash}`);
    groups.push(makeReplicas(maker, deployment.spec.replicas, { 'pod-template-hash': hash }));
  }
  for (const replicaSet of store.list('ReplicaSet')) {
    if (owned.isOwnedByWorkload(replicaSet.metadata)) continue;
    if (owned.claim('ReplicaSet', replicaSet, replicaSet.spec.selector)) continue;
    const maker = makerOf(replicaSet, replicaSet.spec.template, 'ReplicaSet', replicaSet.metadata.name);
    groups.push(makeReplicas(maker, replicaSet.spec.replicas, {}));
  }
  for (const set of store.list('StatefulSet')) {
    if (owned.claim('StatefulSet', set, set.spec.selector)) continue;
    const { name } = set.metadata;
    const maker = makerOf(set, set.spec.template, 'StatefulSet', name);
    const start = set.spec.ordinals?.start ?? 0;
    const pods: Pod[] = [];
    for (let ordinal = start; ordinal < start + set.spec.replicas; ordinal++) {
      const podName = `${name}-${ordinal}`;
      const pod = makePod(maker, podName, {
        'statefulset.kubernetes.io/pod-name': podName,
        'apps.kubernetes.io/pod-index': String(ordinal),
      });
      pod.spec.hostname = podName;
      pod.spec.subdomain = set.spec.serviceName;
      pods.push(pod);
    }
    groups.push({ owner: set, pods });
  }
  for (const set of store.list('DaemonSet')) {
    if (owned.claim('DaemonSet', set, set.spec.selector)) continue;
    groups.push({ owner: set, pods: makeDaemonPods(set, nodes, nodesGiven) });
  }
  for (const job of store.list('Job')) {
    if (owned.claim('Job', job, job.spec.selector) || hasJobEnded(job)) continue;
    const { name } = job.metadata;
    groups.push(makeJobPods(makerOf(job, job.spec.template, 'Job', name), job.spec));
  }
  for (const cronJob of store.list('CronJob')) {
    if (cronJob.spec.suspend || owned.isRunning(cronJob)) continue;
    const { spec } = cronJob.spec.jobTemplate;
    const jobName = `${cronJob.metadata.name}-1`;
    const maker = makerOf(cronJob, spec.template, 'Job', jobName, 'spec.jobTemplate.spec.template');
    groups.push(makeJobPods(maker, spec));
  }
  return groups;
}

function makerOf(
  owner: KubernetesObject,
  template: PodTemplate,
  ownerKind: string,
  ownerName: string,
  templateField = 'spec.template',
): PodMaker {
  return { owner, template, templateField, ownerKind, ownerName };
}

function makeReplicas(maker: PodMaker, replicas: number, labels: Record<string, string>): PodGroup {
  const { namespace } = maker.owner.metadata;
  const pods: Pod[] = [];
  const suffixes = new Set<string>();
  for (let i = 0; i < replicas; i++) {
    const suffix = drawSuffix(`${maker.ownerKind}/${namespace}/${maker.ownerName}/${i}`, suffixes);
    pods.push(makePod(maker, `${maker.ownerName}-${suffix}`, labels));
  }
  return { owner: maker.owner, pods };
}

function makeJobPods(maker: PodMaker, spec: JobSpec): PodGroup {
  const parallelism = spec.parallelism ?? 1;
  const count = spec.suspend ? 0 : Math.min(parallelism, spec.completions ?? parallelism);
  return makeReplicas(maker, count, {
    'batch.kubernetes.io/job-name': maker.ownerName,
    'job-name': maker.ownerName,
  });
}

function makeDaemonPods(set: DaemonSet, nodes: readonly Node[], nodesGiven: boolean): Pod[] {
  const maker = makerOf(set, set.spec.template, 'DaemonSet', set.metadata.name);
  let fitting = nodes.filter((node) => canRunOn(maker.template.spec, node));
  // Made nodes have no labels of the user's: a selector that none of them can satisfy says nothing about them.
  if (fitting.length === 0 && !nodesGiven) fitting = [...nodes];
  const { namespace, name } = set.metadata;
  const suffixes = new Set<string>();
  return fitting.map((node) => {
    const suffix = drawSuffix(`DaemonSet/${namespace}/${name}/${node.metadata.name}`, suffixes);
    const pod = makePod(maker, `${name}-${suffix}`, {});
    pod.spec.nodeName = node.metadata.name;
    return pod;
  });
}

/** Five letters that no other pod of the workload has: among some thousand pods two names do draw the same. */
function drawSuffix(key: string, taken: Set<string>): string {
  let suffix = nameHash(key, 5);
  for (let again = 1; taken.has(suffix); again++) suffix = nameHash(`${key}#${again}`, 5);
  taken.add(suffix);
  return suffix;
}

function makePod(maker: PodMaker, name: string, labels: Record<string, string>): Pod {
  const { owner, template, templateField } = maker;
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: owner.metadata.namespace,
      labels: { ...template.metadata.labels, ...labels },
      annotations: template.metadata.annotations,
      ownerReferences: [{ kind: maker.ownerKind, name: maker.ownerName, controller: true }],
    },
    spec: { ...template.spec },
    status: { phase: 'Running', podIP: '', podIPs: [], hostIP: '' },
  };
  setDerived(pod, owner, templateField);
  setCopied(pod.spec, owner, `${templateField}.spec`);
  setCopied(pod.metadata, owner, `${templateField}.metadata`);
  return pod;
}

function hasJobEnded(job: Job): boolean {
  const conditions = job.status.conditions ?? [];
  return conditions.some(({ type, status }) => (type === 'Complete' || type === 'Failed') && status === 'True');
}

/** Which workloads' pods are given. */
class OwnedPods {
  readonly #store: ObjectStore;
  /** 'Kind/namespace/name' of every owner that a given pod names. */
  readonly #owners = new Set<string>();
  /** The same for pods that still run. */
  readonly #running = new Set<string>();
  readonly #orphans = new Map<string, Pod[]>();

  constructor(store: ObjectStore, given: readonly Pod[]) {
    this.#store = store;
    for (const pod of given) {
      const { namespace, ownerReferences } = pod.metadata;
      if (ownerReferences === undefined || ownerReferences.length === 0) {
        const orphans = this.#orphans.get(namespace);
        if (orphans === undefined) this.#orphans.set(namespace, [pod]);
        else orphans.push(pod);
        continue;
      }
      for (const { kind, name } of ownerReferences) this.#note(kind, namespace, name, pod);
    }
  }

  /** True where the workload's pods are given; pods without an owner that it selects become its own. */
  claim(kind: string, workload: KubernetesObject, selector: LabelSelector | undefined): boolean {
    const { namespace, name } = workload.metadata;
    if (this.#owners.has(`${kind}/${namespace}/${name}`)) return true;
    if (selector === undefined) return false;
    let adopted = false;
    for (const pod of this.#orphans.get(namespace) ?? []) {
      if (pod.metadata.ownerReferences !== undefined && pod.metadata.ownerReferences.length > 0) continue;
      if (!selects(selector, pod.metadata.labels)) continue;
      pod.metadata.ownerReferences = [{ kind, name, controller: true }];
      adopted = true;
    }
    return adopted;
  }

  /** True for a ReplicaSet or Job whose owner is given too. */
  isOwnedByWorkload({ namespace, ownerReferences }: ObjectMeta): boolean {
    return (ownerReferences ?? []).some(
      ({ kind, name }) => kind === 'Deployment' && this.#store.get('Deployment', namespace, name) !== undefined,
    );
  }

  /** True where a Job of the CronJob is given that has not ended, or pods of one that run. */
  isRunning({ metadata: { namespace, name } }: CronJob): boolean {
    if (this.#running.has(`CronJob/${namespace}/${name}`)) return true;
    return this.#store
      .list('Job')
      .some(
        (job) =>
          job.metadata.namespace === namespace &&
          !hasJobEnded(job) &&
          (job.metadata.ownerReferences ?? []).some((owner) => owner.kind === 'CronJob' && owner.name === name),
      );
  }

  #note(kind: string, namespace: string, name: string, pod: Pod): void {
    this.#owners.add(`${kind}/${namespace}/${name}`);
    if (!hasEnded(pod)) this.#running.add(`${kind}/${namespace}/${name}`);
    // The pods of a ReplicaSet are its Deployment's, those of a Job its CronJob's; where the object between is not
    // given, its name tells.
    const above = kind === 'ReplicaSet' ? 'Deployment' : kind === 'Job' ? 'CronJob' : null;
    if (above === null) return;
    const between =
      kind === 'ReplicaSet' ? this.#store.get('ReplicaSet', namespace, name) : this.#store.get('Job', namespace, name);
    const dash = name.lastIndexOf('-');
    const ownerName =
      between?.metadata.ownerReferences?.find((owner) => owner.kind === above)?.name ??
      (dash > 0 ? name.slice(0, dash) : '');
    if (ownerName !== '') this.#note(above, namespace, ownerName, pod);
  }
}
