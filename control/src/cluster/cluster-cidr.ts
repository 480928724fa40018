/**
 * Where the pods are: what kube-proxy's clusterCIDR means where the user leaves it empty.
 *
 * Per family: 1. 10.244.0.0/16 or fd00:10:244::/56, if that holds all pod addresses and pod CIDRs; 2. else the smallest
 * prefix that holds the pod CIDRs (without any: the pods), if no node lies in it; 3. else none, with a warning.
 */

import {
  type Address,
  type Family,
  inPrefix,
  makePrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../model/address.ts';
import { internalAddresses } from '../model/node.ts';
import { hasEnded } from '../model/pod.ts';
import type { Cluster } from './cluster.ts';
import type { Problem } from './problem.ts';

const DEFAULTS: Readonly<Record<Family, Prefix>> = {
  4: makePrefix(4, [(10 << 24) | (244 << 16), 0, 0, 0], 16),
  6: makePrefix(6, [0xfd000010 | 0, 0x02440000, 0, 0], 56),
};

/** @param configured the user's clusterCIDR: prefixes that were checked before; empty asks for the rule above */
export function resolveClusterCidr(
  cluster: Cluster,
  configured: readonly string[],
): { prefixes: Prefix[]; warnings: Problem[] } {
  const prefixes = configured.map(parsePrefix).filter((prefix) => prefix !== null);
  const warnings: Problem[] = [];
  if (configured.length > 0) return { prefixes, warnings };
  for (const family of [4, 6] as const) {
    const found = knownClusterCidr(cluster, family);
    if (found.prefix !== null) prefixes.push(found.prefix);
    else warnings.push({ severity: 'warning', file: '', document: 0, object: '', field: '', message: found.message });
  }
  return { prefixes, warnings };
}

type Found = { readonly prefix: Prefix; readonly message: '' } | { readonly prefix: null; readonly message: string };

/** By cluster, which never changes: the rule reads every pod, and each compile asks for it. */
const known: Readonly<Record<Family, WeakMap<Cluster, Found>>> = { 4: new WeakMap(), 6: new WeakMap() };

function knownClusterCidr(cluster: Cluster, family: Family): Found {
  let found = known[family].get(cluster);
  if (found === undefined) {
    found = findClusterCidr(cluster, family);
    known[family].set(cluster, found);
  }
  return found;
}

function findClusterCidr(cluster: Cluster, family: Family): Found {
  const blocks: Prefix[] = [];
  const nodes: Address[] = [];
  for (const node of cluster.nodes) {
    for (const text of node.spec.podCIDRs) {
      const block = parsePrefix(text);
      if (block?.family === family) blocks.push(block);
    }
    for (const text of internalAddresses(node)) {
      const address = parseAddress(text);
      if (address?.family === family) nodes.push(address);
    }
  }
  const pods: Prefix[] = [];
  for (const pod of cluster.pods) {
    if (pod.spec.hostNetwork || hasEnded(pod)) continue;
    for (const { ip } of pod.status.podIPs) {
      const address = parseAddress(ip);
      if (address?.family === family) pods.push(makePrefix(family, address.words, family === 4 ? 32 : 128));
    }
  }
  const usual = DEFAULTS[family];
  const isInside = (prefix: Prefix): boolean => prefix.length >= usual.length && inPrefix(prefix, usual);
  if (blocks.every(isInside) && pods.every(isInside)) return { prefix: usual, message: '' };
  const smallest = smallestAround(blocks.length > 0 ? blocks : pods);
  const inside = nodes.find((address) => inPrefix(address, smallest));
  if (inside === undefined) return { prefix: smallest, message: '' };
  const message =
    `clusterCIDR for IPv${family} is unknown: the smallest prefix around the pods, ${smallest.text}, holds node address ` +
    `${inside.text}; without it no source counts as a pod. Set kubeProxy.clusterCIDR`;
  return { prefix: null, message };
}

function smallestAround(prefixes: readonly Prefix[]): Prefix {
  let around = prefixes[0]!;
  for (const prefix of prefixes) {
    let length = Math.min(around.length, prefix.length);
    while (!inPrefix(prefix, makePrefix(around.family, around.words, length))) length--;
    around = makePrefix(around.family, around.words, length);
  }
  return around;
}
