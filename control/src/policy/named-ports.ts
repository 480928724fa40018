/** A container port's name, resolved in a pod. */

import type { Pod } from '../model/pod.ts';
import type { Protocol } from '../model/port.ts';

export interface ResolvedPort {
  readonly protocol: Protocol;
  readonly port: number;
}

/**
 * The ports that a pod's containers give a name: containers first, then sidecars; several where the name is used for
 * several protocols, or by several containers.
 * @param protocol null for any
 */
export function namedPorts(pod: Pod, name: string, protocol: Protocol | null): ResolvedPort[] {
  const sidecars = pod.spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  const found: ResolvedPort[] = [];
  for (const { ports } of [...pod.spec.containers, ...sidecars]) {
    for (const port of ports) {
      if (port.name !== name || (protocol !== null && port.protocol !== protocol)) continue;
      if (found.some((other) => other.protocol === port.protocol && other.port === port.containerPort)) continue;
      found.push({ protocol: port.protocol, port: port.containerPort });
    }
  }
  return found;
}
