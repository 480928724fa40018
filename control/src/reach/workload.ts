/** The workload that a pod belongs to, as people name it: the Deployment behind its ReplicaSet, the CronJob behind its Job. */

import type { Pod } from '../model/pod.ts';

export interface Workload {
  /** Deployment, StatefulSet, DaemonSet, ReplicaSet, CronJob, Job, any other owner's kind, or Pod for a pod of its own. */
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** What kinds are called in references; others go by their kind in lower case. */
const SHORT_KINDS: Readonly<Record<string, string>> = {
  Deployment: 'deploy',
  StatefulSet: 'sts',
  DaemonSet: 'ds',
  ReplicaSet: 'rs',
};

const POD_TEMPLATE_HASH = 'pod-template-hash';
/** The time of a CronJob's run behind its Jobs' names, in minutes since 1970. */
const RUN_SUFFIX = /-\d{8}$/;

export function workloadOf({ metadata }: Pod): Workload {
  const { namespace } = metadata;
  const owners = metadata.ownerReferences ?? [];
  const owner = owners.find(({ controller }) => controller === true) ?? owners[0];
  if (owner === undefined) return { kind: 'Pod', namespace, name: metadata.name };
  const { kind, name } = owner;
  const hash = metadata.labels?.[POD_TEMPLATE_HASH];
  if (kind === 'ReplicaSet' && hash !== undefined && name.endsWith(`-${hash}`)) {
    return { kind: 'Deployment', namespace, name: name.slice(0, -hash.length - 1) };
  }
  if (kind === 'Job' && RUN_SUFFIX.test(name))
    return { kind: 'CronJob', namespace, name: name.replace(RUN_SUFFIX, '') };
  return { kind, namespace, name };
}

/** `deploy/shop/cart`, as references name it. */
export function workloadId({ kind, namespace, name }: Workload): string {
  return `${SHORT_KINDS[kind] ?? kind.toLowerCase()}/${namespace}/${name}`;
}
