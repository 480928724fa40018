/** Findings of a few objects, as short text. */

import { askOf } from '../../control/src/cli/lint.ts';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { modelCluster } from '../../control/src/compile/image.ts';
import type { Finding } from '../../control/src/lint/finding.ts';
import { lintCluster } from '../../control/src/lint/lint.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';

export function lint(
  objects: readonly object[],
  paths: readonly string[] = [],
  datapath: DatapathInput = {},
): Finding[] {
  const { cluster, store } = loadCluster([...paths], { objects: [...objects] });
  const model = modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
  return lintCluster(model, store, askOf(model));
}

/** `severity Kind namespace/name field: message`, of one rule. */
export function linesOf(findings: readonly Finding[], rule: string): string[] {
  return findings
    .filter((own) => own.rule === rule)
    .map(({ severity, kind, namespace, name, field, message }) => {
      const object = namespace === '' ? name : `${namespace}/${name}`;
      return `${[severity, kind, object, field].filter((part) => part !== '').join(' ')}: ${message}`;
    });
}

export function namespace(name: string, labels: object = {}): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

export interface PodParts {
  readonly namespace?: string;
  readonly ip?: string;
  readonly hostNetwork?: boolean;
  readonly ports?: readonly object[];
}

export function pod(name: string, labels: object, parts: PodParts = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: parts.namespace ?? 'shop', labels },
    spec: {
      nodeName: 'node-1',
      hostNetwork: parts.hostNetwork ?? false,
      containers: [{ name: 'main', ports: parts.ports ?? [{ name: 'http', containerPort: 8080 }] }],
    },
    ...(parts.ip === undefined ? {} : { status: { podIP: parts.ip, podIPs: [{ ip: parts.ip }] } }),
  };
}

export function service(name: string, selector: object, ports: readonly object[], more: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop', ...((more as { metadata?: object }).metadata ?? {}) },
    spec: { selector, ports, ...((more as { spec?: object }).spec ?? {}) },
  };
}

export function policy(name: string, spec: object, home = 'shop'): object {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: home },
    spec: { podSelector: {}, ...spec },
  };
}

export function clusterPolicy(name: string, priority: number, spec: object): object {
  return {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name },
    spec: { tier: 'Admin', priority, subject: { namespaces: {} }, ...spec },
  };
}
