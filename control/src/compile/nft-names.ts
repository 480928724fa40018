/**
 * Names of kube-proxy's per-service chains and sets in nftables: a prefix, eight characters of base32(sha256(name)), and
 * the name itself, which is `namespace/service/protocol/port name`, for an endpoint followed by `__address/port`.
 *
 * nft names have at most 256 characters; a base (without its prefix) longer than 240 ends in `...`. Colons are no
 * characters of a name: IPv6 addresses are written with dots. Source: kubernetes pkg/proxy/nftables/proxier.go.
 */

import { hash } from 'node:crypto';
import type { ServiceEndpoint, ServicePortInfo } from './service-ports.ts';

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const LONGEST_BASE = 240;
/** nft stores no longer comment. */
const LONGEST_COMMENT = 128;

/** What the service-, local-, external- and firewall- chains of a service port end in. */
export function servicePortBase(port: ServicePortInfo): string {
  return hashAndTruncate(servicePortPath(port));
}

/** What an endpoint's endpoint- chain and affinity- set end in. */
export function endpointBase(port: ServicePortInfo, endpoint: ServiceEndpoint): string {
  const address = endpoint.address.text.replaceAll(':', '.');
  return hashAndTruncate(`${servicePortPath(port)}__${address}/${endpoint.port}`);
}

/** `name` with its hash before it, cut to the length that fits behind any prefix. */
export function hashAndTruncate(name: string): string {
  const base = `${shortHash(name)}-${name}`;
  return base.length > LONGEST_BASE ? `${base.slice(0, LONGEST_BASE - 3)}...` : base;
}

/** A comment that nft takes: kube-proxy's, or as much of it as there is room for. */
export function nftComment(text: string): string {
  return text.length > LONGEST_COMMENT ? `${text.slice(0, LONGEST_COMMENT - 3)}...` : text;
}

function servicePortPath({ service, portIndex, protocol }: ServicePortInfo): string {
  const { namespace, name } = service.metadata;
  return `${namespace}/${name}/${protocol.toLowerCase()}/${service.spec.ports[portIndex]!.name}`;
}

/** The first 40 bits of the SHA-256 in base32. */
function shortHash(text: string): string {
  let bits = hash('sha256', text, 'buffer').readUIntBE(0, 5);
  let out = '';
  for (let i = 0; i < 8; i++) {
    out = BASE32[bits % 32]! + out;
    bits = Math.floor(bits / 32);
  }
  return out;
}
