/**
 * Names of kube-proxy's per-service chains: a prefix and 16 characters of base32(sha256(service port name + protocol)),
 * because a chain name has at most 28 characters. The four chains of a service port share one hash; an endpoint's chain
 * has its own, over `ip:port` too. Source: kubernetes pkg/proxy/iptables/proxier.go.
 */

import { hash } from 'node:crypto';
import type { Protocol } from '../model/port.ts';

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The hash that the KUBE-SVC, KUBE-SVL, KUBE-EXT and KUBE-FW chains of a service port end in. */
export function servicePortHash(key: string, protocol: Protocol): string {
  return shortHash(key + protocol.toLowerCase());
}

/** KUBE-SEP-… of an endpoint (`ip:port`, IPv6 in brackets) of a service port. */
export function endpointChainName(key: string, protocol: Protocol, endpoint: string): string {
  return `KUBE-SEP-${shortHash(key + protocol.toLowerCase() + endpoint)}`;
}

/** Ten bits as two characters. */
const PAIRS = Array.from({ length: 1024 }, (_, bits) => BASE32[bits >> 5]! + BASE32[bits & 31]!);

/** The first 80 bits of the SHA-256 in base32: exactly 16 characters, two groups of 40 bits. */
export function shortHash(text: string): string {
  const digest = hash('sha256', text, 'buffer');
  return group(digest, 0) + group(digest, 5);
}

function group(digest: Uint8Array, at: number): string {
  const [a, b, c, d, e] = [digest[at]!, digest[at + 1]!, digest[at + 2]!, digest[at + 3]!, digest[at + 4]!];
  return (
    PAIRS[(a << 2) | (b >> 6)]! +
    PAIRS[((b & 63) << 4) | (c >> 4)]! +
    PAIRS[((c & 15) << 6) | (d >> 2)]! +
    PAIRS[((d & 3) << 8) | e]!
  );
}
