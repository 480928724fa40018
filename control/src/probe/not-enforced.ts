/**
 * Policies that the datapath does not enforce: those of other systems, which are not modelled, and on a node whose rules
 * come from a dump every policy, because the dump stands for what is enforced there. An answer about a pod that one of
 * them may select names it: the real cluster may answer otherwise.
 */

import type { ClusterModel } from '../compile/image.ts';
import { rulesetOf } from '../compile/node-ruleset.ts';
import { hasLabels } from '../model/label-selector.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import { destinationOf } from './branch-policies.ts';
import type { Connection } from './connection.ts';
import type { Branch } from './simulator.ts';

/** The name of a policy; `namespace` is '' for one of the whole cluster. */
export interface PolicyName {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** All policies of a cluster that are not enforced, or not on the node whose rules come from a dump. */
export function listNotEnforced(model: ClusterModel): PolicyName[] {
  const all = model.topology.endpoints.map((_, endpoint) => endpoint);
  return [...replacedFor(model, all), ...model.cluster.unmodelledPolicies.map(nameOf)];
}

/** The policies that may select a pod at either end of a connection: its source, its targets and every backend. */
export function notEnforcedFor(
  model: ClusterModel,
  connection: Connection,
  branches: readonly Branch[],
): readonly PolicyName[] {
  if (model.cluster.unmodelledPolicies.length === 0 && model.ruleset === null) return NONE;
  const { endpointByAddress } = model.topology;
  const endpoints = new Set<number>();
  const add = (endpoint: number | undefined): void => {
    if (endpoint !== undefined && endpoint >= 0) endpoints.add(endpoint);
  };
  for (const { endpoint } of connection.sources) add(endpoint);
  for (const { address } of connection.targets) add(endpointByAddress.get(address.text));
  for (const branch of branches) add(endpointByAddress.get(destinationOf(branch)));
  return [...replacedFor(model, endpoints), ...unmodelledFor(model, endpoints)];
}

/** 'CiliumNetworkPolicy shop/deny', or 'GlobalNetworkPolicy deny' for one of the whole cluster. */
export function describePolicy({ kind, namespace, name }: PolicyName): string {
  return namespace === '' ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

const NONE: readonly PolicyName[] = [];

/** Modelled policies that select a pod on the node of the dump. */
function replacedFor({ topology, policies, ruleset }: ClusterModel, endpoints: Iterable<number>): PolicyName[] {
  if (ruleset === null) return [];
  const found = new Set<KubernetesObject>();
  for (const endpoint of endpoints) {
    if (rulesetOf(ruleset, topology.endpoints[endpoint]!.node) === null) continue;
    for (const order of [policies.ingress[endpoint], policies.egress[endpoint]]) {
      for (const policy of order?.policies ?? []) found.add(policy);
    }
  }
  return [...found].map(({ apiVersion, kind, metadata: { namespace, name } }) => ({
    apiVersion,
    kind,
    namespace,
    name,
  }));
}

function unmodelledFor({ cluster, topology }: ClusterModel, endpoints: Iterable<number>): PolicyName[] {
  const pods = [...endpoints].map((endpoint) => topology.endpoints[endpoint]!.pod.metadata);
  const maySelect = cluster.unmodelledPolicies.filter(({ namespace, podLabels }) =>
    pods.some(
      (pod) =>
        (namespace === '' || pod.namespace === namespace) && (podLabels === null || hasLabels(pod.labels, podLabels)),
    ),
  );
  return maySelect.map(nameOf);
}

function nameOf({ apiVersion, kind, namespace, name }: PolicyName): PolicyName {
  return { apiVersion, kind, namespace, name };
}
