/**
 * Policies and Services that cannot do what they seem to. Everything that lint looks for is a file of its own; this one
 * runs them all and puts what they found in order.
 *
 * It reads the cluster as it was completed and compiled. Only DNS is asked of the datapath, by the caller's `ask`: lint
 * knows no packets.
 */

import type { ObjectStore } from '../cluster/store.ts';
import type { ClusterModel } from '../compile/image.ts';
import { checkBlocks, checkRanges } from './check-blocks.ts';
import { checkDns } from './check-dns.ts';
import { checkIsolation } from './check-isolation.ts';
import { checkPorts } from './check-ports.ts';
import { checkRules } from './check-rules.ts';
import { checkSelectors } from './check-selectors.ts';
import { type Finding, sortFindings } from './finding.ts';
import { type Ask, LintContext, type PodTemplateLabels } from './lint-context.ts';

/**
 * Everything that is wrong or odd, the worst first.
 * @param store the input, for workloads that have no pods now
 * @param ask sends a first packet from a pod to a Service
 */
export function lintCluster(model: ClusterModel, store: ObjectStore, ask: Ask): Finding[] {
  const context = new LintContext(model, templateLabels(store));
  checkSelectors(context);
  checkPorts(context);
  checkBlocks(context);
  checkRanges(context);
  checkRules(context);
  checkIsolation(context);
  checkDns(context, ask);
  return sortFindings(context.findings);
}

function templateLabels(store: ObjectStore): PodTemplateLabels[] {
  const kinds = ['Deployment', 'ReplicaSet', 'StatefulSet', 'DaemonSet', 'Job'] as const;
  const workloads = kinds.flatMap((kind) =>
    store.list(kind).map(({ metadata, spec }) => ({ metadata, template: spec.template })),
  );
  const cronJobs = store
    .list('CronJob')
    .map(({ metadata, spec }) => ({ metadata, template: spec.jobTemplate.spec.template }));
  return [...workloads, ...cronJobs].map(({ metadata, template }) => ({
    namespace: metadata.namespace,
    labels: template.metadata.labels ?? {},
  }));
}
