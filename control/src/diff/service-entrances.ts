/**
 * Entrances: every address and port at which a Service is offered, matched over both sides by the Service's name, the kind
 * of address and the port that clients use. A ClusterIP is known by its Service (clients know it by DNS), the others by
 * themselves.
 */

import type { Family } from '../model/address.ts';
import { hasNoVirtualAddress, type Service } from '../model/service.ts';
import type { Protocol } from '../probe/reference.ts';
import { type Frontend, type FrontendKind, listFrontends } from '../reach/frontends.ts';
import type { SideView } from './side-view.ts';

export interface EntranceFamily {
  readonly family: Family;
  /** Null where the side does not offer it. */
  before: Frontend | null;
  after: Frontend | null;
}

export interface ServiceEntrance {
  /** 'svc/shop/cart'. */
  readonly id: string;
  readonly kind: FrontendKind;
  readonly namespace: string;
  readonly name: string;
  /** Text of an external or load-balancer address, '' for others. */
  readonly address: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** The Service itself; null where the side has none of the name. */
  readonly before: Service | null;
  readonly after: Service | null;
  readonly families: EntranceFamily[];
}

/** In the order of names, ports and kinds. */
export function listEntrances(before: SideView, after: SideView): ServiceEntrance[] {
  const entrances = new Map<string, ServiceEntrance>();
  const services = [before, after].map(
    ({ model }) => new Map(model.cluster.services.map((service) => [serviceId(service), service] as const)),
  );
  for (const side of ['before', 'after'] as const) {
    const { model, parties } = side === 'before' ? before : after;
    for (const frontend of listFrontends(model.cluster, parties.families)) {
      const { info, kind, port } = frontend;
      const id = serviceId(info.service);
      const address = kind === 'ExternalIP' || kind === 'LoadBalancer' ? frontend.address!.text : '';
      const key = `${id} ${String(port).padStart(5, '0')} ${info.protocol} ${kind} ${address}`;
      let entrance = entrances.get(key);
      if (entrance === undefined) {
        const { namespace, name } = info.service.metadata;
        const sides = { before: services[0]!.get(id) ?? null, after: services[1]!.get(id) ?? null };
        const { protocol } = info;
        entrance = { id, kind, namespace, name, address, protocol, port, ...sides, families: [] };
        entrances.set(key, entrance);
      }
      let own = entrance.families.find(({ family }) => family === info.family);
      if (own === undefined) {
        own = { family: info.family, before: null, after: null };
        entrance.families.push(own);
      }
      own[side] = frontend;
    }
  }
  return [...entrances].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entrance]) => entrance);
}

/**
 * The Service is there on both sides, and on one of them without any address of its own (headless, ExternalName): its
 * name leads elsewhere then, which is a change and no end.
 */
export function losesAddress({ before, after }: ServiceEntrance): boolean {
  return before !== null && after !== null && hasNoVirtualAddress(before) !== hasNoVirtualAddress(after);
}

export function isEntrance(target: object): target is ServiceEntrance {
  return 'families' in target;
}

/** 'svc/shop/cart:80', 'nodePort 30080 of svc/shop/cart', '203.0.113.7:80 of svc/shop/cart'. */
export function describeEntrance({ id, kind, address, port }: ServiceEntrance): string {
  switch (kind) {
    case 'ClusterIP':
      return `${id}:${port}`;
    case 'NodePort':
      return `nodePort ${port} of ${id}`;
    default:
      return `${address.includes(':') ? `[${address}]` : address}:${port} of ${id}`;
  }
}

function serviceId({ metadata }: Service): string {
  return `svc/${metadata.namespace}/${metadata.name}`;
}
