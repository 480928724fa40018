/**
 * core/v1 Endpoints to EndpointSlices, for Services that have no given slice: one slice a subset and family.
 *
 * A given Endpoints object wins over the Service's selector: what is given explicitly is the state to show. Endpoints of
 * no Service, those marked `endpointslice.kubernetes.io/skip-mirror`, and leader-election records are left out, as the
 * mirroring controller does.
 */

import { parseAddress } from '../model/address.ts';
import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts';
import type { EndpointAddress, Endpoints } from '../model/endpoints.ts';
import { type Node, zoneOf } from '../model/node.ts';
import { setDerived } from '../model/origin.ts';
import type { Service } from '../model/service.ts';
import { makeSlice } from './endpoint-slices.ts';

const SKIP_LABEL = 'endpointslice.kubernetes.io/skip-mirror';
const LEADER_ANNOTATION = 'control-plane.alpha.kubernetes.io/leader';
const ENDPOINTS_PER_SLICE = 1000;

/** True where the Endpoints stand for a Service's endpoints. */
export function isMirrored({ metadata }: Endpoints): boolean {
  if (metadata.labels?.[SKIP_LABEL] === 'true') return false;
  return !Object.hasOwn(metadata.annotations ?? {}, LEADER_ANNOTATION);
}

/** The slices that an Endpoints object of a Service stands for. */
export function mirrorEndpoints(endpoints: Endpoints, service: Service, nodes: readonly Node[]): EndpointSlice[] {
  const zones = new Map(nodes.map((node) => [node.metadata.name, zoneOf(node)]));
  const slices: EndpointSlice[] = [];
  endpoints.subsets.forEach((subset, number) => {
    const ports = subset.ports.map((port, index) => {
      const made = { ...port };
      setDerived(made, endpoints, `subsets[${number}].ports[${index}]`);
      return made;
    });
    for (const family of ['IPv4', 'IPv6'] as const) {
      const found: Endpoint[] = [];
      for (const list of ['addresses', 'notReadyAddresses'] as const) {
        subset[list].forEach((address, index) => {
          const parsed = parseAddress(address.ip);
          if (parsed === null || parsed.family !== (family === 'IPv4' ? 4 : 6)) return;
          const endpoint = makeEndpoint(address, parsed.text, list === 'addresses', zones);
          setDerived(endpoint, endpoints, `subsets[${number}].${list}[${index}]`);
          found.push(endpoint);
        });
      }
      for (let start = 0; start < found.length; start += ENDPOINTS_PER_SLICE) {
        const slice = makeSlice(service, family, ports, 'endpointslicemirroring-controller.k8s.io', slices.length);
        slice.endpoints = found.slice(start, start + ENDPOINTS_PER_SLICE);
        setDerived(slice, endpoints, `subsets[${number}]`);
        slices.push(slice);
      }
    }
  });
  return slices;
}

function makeEndpoint(
  address: EndpointAddress,
  text: string,
  ready: boolean,
  zones: ReadonlyMap<string, string>,
): Endpoint {
  const endpoint: Endpoint = { addresses: [text], conditions: { ready, serving: ready, terminating: false } };
  const zone = zones.get(address.nodeName ?? '');
  if (address.nodeName !== undefined) endpoint.nodeName = address.nodeName;
  if (zone !== undefined && zone !== '') endpoint.zone = zone;
  if (address.hostname !== undefined) endpoint.hostname = address.hostname;
  if (address.targetRef !== undefined) endpoint.targetRef = address.targetRef;
  return endpoint;
}
