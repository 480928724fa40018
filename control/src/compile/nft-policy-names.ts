/**
 * Names of the chains and sets of the policies' nftables tables: a prefix, 16 hexadecimal digits of the SHA-256 of what
 * the thing is made of, and for a chain the first of the policies behind it.
 *
 * Equal things have equal names on all nodes and in all compiles; 64 bits keep different ones apart. nft names have at
 * most 255 characters, of which a policy's own take at most 200.
 */

import { hash } from 'node:crypto';
import type { KubernetesObject } from '../model/metadata.ts';

const DIGITS = 16;
const LONGEST_PATH = 200;

/** `pods-3c5a…` */
export function contentName(prefix: string, content: string): string {
  return `${prefix}-${hash('sha256', content, 'hex').slice(0, DIGITS)}`;
}

/** What the chains of a list of policies end in: `3c5a…-default/allow-web`, `3c5a…-deny-all-and-2-more`. */
export function policiesBase(policies: readonly KubernetesObject[], ordinal: number): string {
  const content = `${ordinal}\n${policies.map((policy) => `${policy.kind} ${policyPath(policy)}`).join('\n')}`;
  const more = policies.length > 1 ? `-and-${policies.length - 1}-more` : '';
  const path = `${policyPath(policies[0]!)}${more}`;
  const cut = path.length > LONGEST_PATH ? `${path.slice(0, LONGEST_PATH - 3)}...` : path;
  return `${hash('sha256', content, 'hex').slice(0, DIGITS)}-${cut}`;
}

/** `default/allow-web`, or the name alone of a cluster-scoped policy. */
export function policyPath({ metadata: { namespace, name } }: KubernetesObject): string {
  return namespace === '' ? name : `${namespace}/${name}`;
}
