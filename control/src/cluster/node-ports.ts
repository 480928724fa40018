/**
 * nodePorts and health-check ports: 30000 to 32767, the upper band (from 30086) before the lower.
 *
 * A given nodePort counts whatever the Service's type, but not on headless and ExternalName Services, which no datapath
 * serves. Two Services may share a number with different protocols; the allocator itself never gives a number twice.
 */

import { hasNoVirtualAddress, type Service } from '../model/service.ts';
import { hashText } from './name-hash.ts';
import { describeObject, type ProblemList } from './problem.ts';

const FIRST = 30_000;
const LAST = 32_767;
/** First port of the dynamic band: min(max(16, 2768/32), 128) = 86 ports are left for people to choose. */
const FIRST_DYNAMIC = 30_086;

export class NodePortAllocator {
  readonly #services: readonly Service[];
  readonly #problems: ProblemList;
  /** 'port/protocol' -> who has it. */
  readonly #owners = new Map<string, string>();
  readonly #numbers = new Set<number>();

  constructor(services: readonly Service[], problems: ProblemList) {
    this.#services = services.filter((service) => !hasNoVirtualAddress(service));
    this.#problems = problems;
  }

  /** Takes given ports, reports collisions, then gives ports to those that lack one. */
  assign(): void {
    for (const service of this.#services) {
      service.spec.ports.forEach(({ nodePort, protocol }, index) => {
        if (nodePort !== 0) this.#takeGiven(service, `spec.ports[${index}].nodePort`, nodePort, protocol, 'a nodePort');
      });
      const { healthCheckNodePort } = service.spec;
      if (healthCheckNodePort === 0) continue;
      this.#takeGiven(service, 'spec.healthCheckNodePort', healthCheckNodePort, 'TCP', 'the health-check port');
    }
    for (const service of this.#services) this.#assignMissing(service);
  }

  #takeGiven(service: Service, field: string, port: number, protocol: string, what: string): void {
    const key = `${port}/${protocol}`;
    const owner = this.#owners.get(key);
    if (owner !== undefined) this.#problems.error(service, field, `${key} is also ${owner}`);
    else this.#owners.set(key, `${what} of ${describeObject(service)}`);
    this.#numbers.add(port);
    if (port < FIRST || port > LAST) {
      this.#problems.warn(service, field, `${port} is outside the usual range ${FIRST} to ${LAST}`);
    }
  }

  #assignMissing(service: Service): void {
    const { spec, metadata } = service;
    const wantsPorts = spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts);
    const name = `${metadata.namespace}/${metadata.name}`;
    if (wantsPorts) {
      spec.ports = spec.ports.map((port, index) => {
        if (port.nodePort !== 0) return port;
        const nodePort = this.#draw(service, `spec.ports[${index}].nodePort`, `${name}:${port.port}/${port.protocol}`);
        return { ...port, nodePort };
      });
    }
    if (spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local' && spec.healthCheckNodePort === 0) {
      spec.healthCheckNodePort = this.#draw(service, 'spec.healthCheckNodePort', `${name}:health`);
    }
  }

  #draw(service: Service, field: string, name: string): number {
    const hash = hashText(`nodePort/${name}`);
    const port = this.#drawBetween(FIRST_DYNAMIC, LAST, hash) ?? this.#drawBetween(FIRST, FIRST_DYNAMIC - 1, hash);
    if (port !== null) return port;
    this.#problems.error(service, field, `no port is left between ${FIRST} and ${LAST}`);
    return 0;
  }

  #drawBetween(first: number, last: number, hash: number): number | null {
    const size = last - first + 1;
    for (let step = 0; step < size; step++) {
      const port = first + ((hash + step) % size);
      if (this.#numbers.has(port)) continue;
      this.#numbers.add(port);
      return port;
    }
    return null;
  }
}
