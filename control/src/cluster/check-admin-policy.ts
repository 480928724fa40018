/**
 * Checks that the cluster-wide policies share: subject, peers, lengths of lists, ranges of ports. What their CRDs say in
 * validation rules is said here: exactly one field of a subject, peer or port is set; a rule has a peer; `nodes`,
 * `networks` and `domainNames` have no named ports.
 *
 * Odd but valid (a warning): host bits in a network, a name that no port can have, `domainNames` (nothing looks names up
 * here, so such a peer matches nothing).
 */

import type { AdminPolicyPeer, AdminPolicySubject } from '../model/admin-policy-peers.ts';
import { checkLabelSelector } from './check-label-selector.ts';
import { type FieldReport, isPortName } from './field-report.ts';
import { show } from './shape.ts';

export const MAX_RULE_NAME = 100;
/** Of `networks` and `domainNames`. */
const MAX_ENTRIES = 25;

/** What a rule of any of the kinds has in common. */
export interface AdminPolicyRule {
  readonly name: string;
  readonly action: string;
  readonly from?: readonly AdminPolicyPeer[];
  readonly to?: readonly AdminPolicyPeer[];
}

export interface AdminPolicyLimits {
  /** Of each direction of a policy, of a rule's peers, and of its ports. */
  readonly entries: number;
  /** `pods` without a namespaceSelector are those of all namespaces; false: it must be there. */
  readonly namespacesOptional: boolean;
}

export function checkSubject(subject: AdminPolicySubject, limits: AdminPolicyLimits, report: FieldReport): void {
  checkOneOf(subject, ['namespaces', 'pods'], 'spec.subject', report);
  checkSelectors(subject, limits, 'spec.subject', report);
}

/**
 * Checks a rule but for its ports.
 * @param field the rule's own
 * @param namedPorts the rule has some
 */
export function checkRule(
  rule: AdminPolicyRule,
  field: string,
  namedPorts: boolean,
  limits: AdminPolicyLimits,
  report: FieldReport,
): void {
  if (rule.name.length > MAX_RULE_NAME) {
    report.error(`${field}.name`, `has ${rule.name.length} characters; a rule's name has at most ${MAX_RULE_NAME}`);
  }
  const peers = rule.from ?? rule.to ?? [];
  const list = `${field}.${rule.from === undefined ? 'to' : 'from'}`;
  checkLength(peers, 'peer', limits.entries, list, report);
  const isOpen = rule.action === 'Accept' || rule.action === 'Allow';
  const names = rule.from === undefined ? EGRESS_PEERS : INGRESS_PEERS;
  peers.forEach((peer, index) => {
    const at = `${list}[${index}]`;
    checkOneOf(peer, names, at, report);
    checkSelectors(peer, limits, at, report);
    if (peer.nodes !== undefined) checkLabelSelector(peer.nodes, `${at}.nodes`, report);
    if (peer.networks !== undefined) checkNetworks(peer.networks, `${at}.networks`, report);
    if (peer.domainNames !== undefined) checkDomainNames(peer.domainNames, isOpen, `${at}.domainNames`, report);
    const outside = names.find((name) => OUTSIDE.includes(name) && peer[name] !== undefined);
    if (namedPorts && outside !== undefined) report.error(`${at}.${outside}`, 'have no named ports');
  });
}

/** @param word one entry's noun */
export function checkLength(
  entries: readonly unknown[],
  word: string,
  most: number,
  field: string,
  report: FieldReport,
  least: 0 | 1 = 1,
): void {
  if (entries.length < least) report.error(field, `needs at least one ${word}`);
  if (entries.length > most) report.error(field, `holds ${entries.length} ${word}s; at most ${most} are allowed`);
}

export function checkRange(
  { start, end }: { readonly start: number; readonly end: number },
  field: string,
  report: FieldReport,
): void {
  if (start >= end) report.error(`${field}.end`, `${end} does not lie behind start ${start}`);
}

export function checkPortName(name: string, field: string, report: FieldReport): void {
  if (!isPortName(name)) report.warn(field, `${show(name)} is no name that a port can have; it matches nothing`);
}

/** Exactly one of the named fields is set. */
export function checkOneOf<K extends string>(
  holder: { readonly [key in K]?: unknown },
  names: readonly K[],
  field: string,
  report: FieldReport,
): void {
  const set = names.filter((name) => holder[name] !== undefined);
  if (set.length === 1) return;
  const found = set.length === 0 ? 'none' : set.join(' and ');
  report.error(field, `needs exactly one of ${names.join(', ')}; it has ${found}`);
}

const INGRESS_PEERS = ['namespaces', 'pods'] as const;
const OUTSIDE: readonly string[] = ['nodes', 'networks', 'domainNames'];
const EGRESS_PEERS = ['namespaces', 'pods', 'nodes', 'networks', 'domainNames'] as const;

function checkSelectors(
  { namespaces, pods }: AdminPolicySubject,
  limits: AdminPolicyLimits,
  field: string,
  report: FieldReport,
): void {
  if (namespaces !== undefined) checkLabelSelector(namespaces, `${field}.namespaces`, report);
  if (pods === undefined) return;
  const { namespaceSelector, podSelector } = pods;
  if (namespaceSelector !== undefined) checkLabelSelector(namespaceSelector, `${field}.pods.namespaceSelector`, report);
  else if (!limits.namespacesOptional) report.error(`${field}.pods.namespaceSelector`, 'is required');
  checkLabelSelector(podSelector, `${field}.pods.podSelector`, report);
}

function checkNetworks(networks: readonly string[], field: string, report: FieldReport): void {
  checkLength(networks, 'network', MAX_ENTRIES, field, report);
  networks.forEach((text, index) => {
    report.prefix(`${field}[${index}]`, text);
    if (networks.indexOf(text) < index) report.error(`${field}[${index}]`, `${show(text)} stands twice`);
  });
}

function checkDomainNames(names: readonly string[], isOpen: boolean, field: string, report: FieldReport): void {
  checkLength(names, 'name', MAX_ENTRIES, field, report);
  if (!isOpen) report.error(field, 'can be accepted only, neither denied nor passed');
  else report.warn(field, 'are not looked up here: this peer matches nothing');
}
