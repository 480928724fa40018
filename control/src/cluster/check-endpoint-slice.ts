/**
 * Checks of EndpointSlices and of the older Endpoints: their limits, their addresses and families.
 *
 * Odd but valid (a warning): several addresses in one endpoint (kube-proxy reads the first), a slice that names no
 * Service, a slice of host names. Loopback, link-local and multicast addresses are refused, as the API server does.
 */

import { type Address, inPrefix, type Prefix, parsePrefix } from '../model/address.ts';
import { type EndpointSlice, SERVICE_NAME_LABEL, serviceNameOf } from '../model/endpoint-slice.ts';
import type { Endpoints } from '../model/endpoints.ts';
import type { FieldReport } from './field-report.ts';
import { show } from './shape.ts';

const MAX_ENDPOINTS = 1000;
const MAX_PORTS = 100;
const MAX_ADDRESSES = 100;

const FORBIDDEN: readonly { readonly name: string; readonly prefixes: readonly Prefix[] }[] = [
  { name: 'unspecified', prefixes: prefixes('0.0.0.0/32', '::/128') },
  { name: 'loopback', prefixes: prefixes('127.0.0.0/8', '::1/128') },
  { name: 'link-local', prefixes: prefixes('169.254.0.0/16', 'fe80::/10') },
  { name: 'link-local multicast', prefixes: prefixes('224.0.0.0/24', 'ff02::/16') },
];

export function checkEndpointSlice(slice: EndpointSlice, report: FieldReport): void {
  if (slice.endpoints.length > MAX_ENDPOINTS) {
    report.error('endpoints', `holds ${slice.endpoints.length} endpoints; a slice takes at most ${MAX_ENDPOINTS}`);
  }
  if (slice.ports.length > MAX_PORTS) {
    report.error('ports', `holds ${slice.ports.length} ports; a slice takes at most ${MAX_PORTS}`);
  }
  const names = new Set<string>();
  slice.ports.forEach(({ name }, index) => {
    if (names.has(name)) report.error(`ports[${index}].name`, `${show(name)} stands twice in this slice`);
    names.add(name);
  });
  if (serviceNameOf(slice) === '') {
    report.warn('metadata.labels', `has no ${SERVICE_NAME_LABEL}: the slice belongs to no Service`);
  }
  if (slice.addressType === 'FQDN') {
    report.warn('addressType', 'FQDN slices are ignored by every datapath');
    return;
  }
  const family = slice.addressType === 'IPv4' ? 4 : 6;
  slice.endpoints.forEach(({ addresses }, index) => {
    const field = `endpoints[${index}].addresses`;
    if (addresses.length === 0) report.error(field, 'is required');
    if (addresses.length > MAX_ADDRESSES) {
      report.error(field, `holds ${addresses.length} addresses; an endpoint takes at most ${MAX_ADDRESSES}`);
    } else if (addresses.length > 1) {
      report.warn(field, `holds ${addresses.length} addresses; only the first is used, as kube-proxy does`);
    }
    addresses.forEach((text, position) => {
      checkReachable(report.address(`${field}[${position}]`, text, family), `${field}[${position}]`, report);
    });
  });
}

export function checkEndpoints(endpoints: Endpoints, report: FieldReport): void {
  endpoints.subsets.forEach((subset, index) => {
    for (const list of ['addresses', 'notReadyAddresses'] as const) {
      subset[list].forEach(({ ip }, position) => {
        const field = `subsets[${index}].${list}[${position}].ip`;
        checkReachable(report.address(field, ip), field, report);
      });
    }
  });
}

function checkReachable(address: Address | null, field: string, report: FieldReport): void {
  if (address === null) return;
  for (const { name, prefixes: forbidden } of FORBIDDEN) {
    if (forbidden.some((prefix) => inPrefix(address, prefix))) {
      report.error(field, `${show(address.text)} is ${name}; an endpoint cannot have it`);
      return;
    }
  }
}

function prefixes(...texts: string[]): Prefix[] {
  return texts.map(parsePrefix).filter((prefix) => prefix !== null);
}
