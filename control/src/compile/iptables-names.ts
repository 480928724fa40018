/**
 * Names of kube-proxy's per-service chains: a prefix and 16 characters of base32(sha256(service port name + protocol)),
 * because a chain name has at most 28 characters. The four chains of a service port share one hash; an endpoint's chain
 * has its own, over `ip:port` too. Source: kubernetes pkg/proxy/iptables/proxier.go.
 */

import { createHash } from 'node:crypto';
import type { Protocol } from '../model/port.ts';

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const NAME_CHARACTERS = 16;

/** The hash that the KUBE-SVC, KUBE-SVL, KUBE-EXT and KUBE-FW chains of a service port end in. */
export function servicePortHash(key: string, protocol: Protocol): string {
  return shortHash(key + protocol.toLowerCase());
}

/** KUBE-SEP-… of an endpoint (`ip:port`, IPv6 in brackets) of a service port. */
export function endpointChainName(key: string, protocol: Protocol, endpoint: string): string {
  return `KUBE-SEP-${shortHash(key + protocol.toLowerCase() + endpoint)}`;
}

/** The first 80 bits of the SHA-256 in base32: exactly 16 characters. */
function shortHash(text: string): string {
  const digest = createHash('sha256').update(text).digest();
  let name = '';
  let bits = 0;
  let held = 0;
  for (let i = 0; name.length < NAME_CHARACTERS; ) {
    if (held < 5) {
      bits = ((bits << 8) | digest[i++]!) & 0xfff;
      held += 8;
    }
    held -= 5;
    name += BASE32[(bits >> held) & 31];
  }
  return name;
}
