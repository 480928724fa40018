/**
 * What a rule of a dump is read in: its place in the dump, and what is known of the node it came from.
 */

import {
  IFACE_LOOPBACK,
  IFACE_POD,
  MATCH_IN_DEVICE,
  MATCH_IN_IFACE,
  MATCH_NEVER,
  MATCH_OUT_DEVICE,
  MATCH_OUT_IFACE,
} from '@flatpath/engine/tables/rule-list';
import type { EncodedMatch, Match, TableName } from '../compile/iptables-rules.ts';
import { deviceRange } from '../compile/node-ruleset.ts';
import type { Family } from '../model/address.ts';
import { NotUnderstoodRule } from './iptables-rule.ts';

/**
 * Where a dump's node stands: nothing is known of it; it is a node of manifests, whose interfaces are classes; or its
 * own addresses and routes were given, and its interfaces have names.
 */
export type NodePlace =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'cluster'; readonly podInterfaces: readonly string[] }
  | { readonly kind: 'interfaces'; readonly names: readonly string[] };

/** How a `recent` list is used by all the rules of a dump. */
export interface ListUse {
  /** By kube-proxy's two forms alone: set, and rcheck with seconds and reap. */
  readonly plain: boolean;
  /** Stamps that an address keeps: a power of two, at least the most hits that a rule asks for. */
  readonly stamps: number;
  /** As its first rule says it: the kernel keeps that for all of them. Null: whole addresses. */
  readonly mask: string | null;
}

export interface RuleContext {
  readonly family: Family;
  readonly table: TableName;
  readonly place: NodePlace;
  /** Unique in the ruleset: names what the rule itself remembers. */
  readonly ruleName: string;
  readonly lists: ReadonlyMap<string, ListUse>;
  /** Names of the ipsets that were given. */
  readonly sets: ReadonlySet<string>;
  /** Virtual servers were given, so that `-m ipvs` has something to ask. */
  readonly hasIpvs: boolean;
  /** Notes that a part of the rule is taken to be so because nothing tells. */
  assume(part: string, message: string): void;
}

export const NEEDS_ADDRESSES =
  "depends on the node's addresses, routes and interfaces: give --addresses (ip -j addr, ip -j route), or -f and --node";

export const NEEDS_NAMES = 'manifests do not tell the names of interfaces: give --addresses (ip -j addr, ip -j route)';

/** Refuses where nothing is known of the node. */
export function requirePlace(context: RuleContext, part: string): void {
  if (context.place.kind === 'unknown') throw new NotUnderstoodRule(part, NEEDS_ADDRESSES);
}

export function encoded(op: number, invert: boolean, operands: readonly number[]): EncodedMatch {
  return { kind: 'encoded', op, invert, operands, list: null };
}

/** What holds always or never, as matches: none, or one that is false. */
export function constant(holds: boolean): Match[] {
  return holds ? [] : [encoded(MATCH_NEVER, false, [])];
}

/** The match on an interface by name or, with a `+` at the end, by the beginning of its name. */
export function interfaceMatch(context: RuleContext, side: 'in' | 'out', pattern: string, invert: boolean): Match[] {
  if (pattern === '+') return constant(!invert);
  const part = `${side === 'in' ? '-i' : '-o'} ${pattern}`;
  const { place } = context;
  switch (place.kind) {
    case 'unknown':
      throw new NotUnderstoodRule(part, NEEDS_ADDRESSES);
    case 'cluster': {
      const op = side === 'in' ? MATCH_IN_IFACE : MATCH_OUT_IFACE;
      if (pattern === 'lo') return [encoded(op, invert, [IFACE_LOOPBACK])];
      if (place.podInterfaces.includes(pattern)) return [encoded(op, invert, [IFACE_POD])];
      throw new NotUnderstoodRule(part, NEEDS_NAMES);
    }
    case 'interfaces': {
      const [first, last] = deviceRange(place.names, pattern, '+');
      return [encoded(side === 'in' ? MATCH_IN_DEVICE : MATCH_OUT_DEVICE, invert, [first, last])];
    }
  }
}
