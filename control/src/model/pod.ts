/**
 * core/v1 Pod, and the pod template that workloads share.
 *
 * In a completed cluster every pod has `spec.nodeName`, and every pod that has not ended has `status.podIP` and
 * `status.podIPs` (`podIPs[0].ip === podIP`, at most one address a family).
 */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta, StringMap } from './metadata.ts';
import { PortNumber, PortOrNone, Protocol } from './port.ts';

export const ContainerPort = Type.Object({
  name: Type.String({ default: '' }),
  containerPort: PortNumber,
  protocol: Protocol,
  /** 0: none. */
  hostPort: PortOrNone,
  hostIP: Type.String({ default: '' }),
});
export type ContainerPort = Static<typeof ContainerPort>;

const Container = Type.Object({
  name: Type.String({ default: '' }),
  /** 'Always' on an init container makes it a sidecar. */
  restartPolicy: Type.String({ default: '' }),
  ports: Type.Array(ContainerPort, { default: [] }),
});

const NodeSelectorRequirement = Type.Object({
  key: Type.String(),
  operator: Type.String(),
  values: Type.Optional(Type.Array(Type.String())),
});
export type NodeSelectorRequirement = Static<typeof NodeSelectorRequirement>;

const NodeAffinity = Type.Object({
  requiredDuringSchedulingIgnoredDuringExecution: Type.Optional(
    Type.Object({
      nodeSelectorTerms: Type.Array(
        Type.Object({
          matchExpressions: Type.Optional(Type.Array(NodeSelectorRequirement)),
          matchFields: Type.Optional(Type.Array(NodeSelectorRequirement)),
        }),
        { default: [] },
      ),
    }),
  ),
});

export const PodSpec = Type.Object(
  {
    nodeName: Type.String({ default: '' }),
    nodeSelector: Type.Optional(StringMap),
    affinity: Type.Optional(Type.Object({ nodeAffinity: Type.Optional(NodeAffinity) })),
    hostNetwork: Type.Boolean({ default: false }),
    hostname: Type.String({ default: '' }),
    subdomain: Type.String({ default: '' }),
    containers: Type.Array(Container, { default: [] }),
    initContainers: Type.Array(Container, { default: [] }),
  },
  { default: {} },
);
export type PodSpec = Static<typeof PodSpec>;

export const PodTemplate = Type.Object(
  {
    metadata: Type.Object({ labels: Type.Optional(StringMap), annotations: Type.Optional(StringMap) }, { default: {} }),
    spec: PodSpec,
  },
  { default: {} },
);
export type PodTemplate = Static<typeof PodTemplate>;

export const PodSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Pod'),
  metadata: ObjectMeta,
  spec: PodSpec,
  status: Type.Object(
    {
      phase: Type.String({ default: '' }),
      podIP: Type.String({ default: '' }),
      podIPs: Type.Array(Type.Object({ ip: Type.String({ default: '' }) }), { default: [] }),
      hostIP: Type.String({ default: '' }),
      conditions: Type.Optional(Type.Array(Type.Object({ type: Type.String(), status: Type.String() }))),
    },
    { default: {} },
  ),
});
export type Pod = Static<typeof PodSchema>;

/** True for a Succeeded or Failed pod: it owns no address and backs no Service. */
export function hasEnded(pod: Pod): boolean {
  return pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed';
}

/**
 * True for a pod that is ready: condition Ready is True; without conditions a pod is ready unless its phase says that
 * it does not run.
 */
export function isPodReady(pod: Pod): boolean {
  if (hasEnded(pod)) return false;
  const conditions = pod.status.conditions;
  if (conditions !== undefined) {
    for (const condition of conditions) if (condition.type === 'Ready') return condition.status === 'True';
  }
  return pod.status.phase === '' || pod.status.phase === 'Running';
}
