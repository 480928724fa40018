/**
 * Rules of an nft dump that ask where their node stands, of a node of which too little is known: addresses and routes
 * (fib, masquerade, redirect), interfaces by name, and base chains that only a part of the packets meets.
 *
 * Such a rule is listed and left out, as one that never matches.
 */

import type { NftChain, NftRule, NftTable } from '../compile/nft-ruleset.ts';
import type { NotUnderstood } from './not-understood.ts';
import { NEEDS_ADDRESSES, NEEDS_NAMES, type NodePlace } from './rule-context.ts';

/** The tables as far as they can be decided. */
export function placeTables(
  file: string,
  tables: readonly NftTable[],
  place: NodePlace,
  notUnderstood: NotUnderstood[],
): NftTable[] {
  if (place.kind === 'interfaces') return [...tables];
  return tables.map((table) => ({
    ...table,
    chains: table.chains
      .filter((chain) => !isUndecided(file, chain, place, notUnderstood))
      .map((chain) => ({
        ...chain,
        rules: chain.rules.filter((rule) => {
          const message = lackOf(rule, place);
          if (message !== null) notUnderstood.push({ file, line: lineOf(rule), path: '', text: chain.name, message });
          return message === null;
        }),
      })),
  }));
}

/** A base chain that a forwarded packet does not meet, where nothing tells which packets are forwarded. */
function isUndecided(file: string, chain: NftChain, place: NodePlace, notUnderstood: NotUnderstood[]): boolean {
  const { base } = chain;
  if (place.kind !== 'unknown' || base === null || base.hook === 'prerouting') return false;
  if (chain.rules.length === 0 && base.policy === 'accept') return false;
  const line = chain.rules[0] === undefined ? null : lineOf(chain.rules[0]);
  notUnderstood.push({ file, line, path: '', text: chain.name, message: `which packets meet it ${NEEDS_ADDRESSES}` });
  return base.hook === 'input' || base.hook === 'output';
}

/** Why the rule cannot be decided, null where it can. */
function lackOf(rule: NftRule, place: NodePlace): string | null {
  for (const statement of rule.statements) {
    let asksInterface = false;
    for (const part of parts(statement)) {
      const kind = part['kind'];
      if (place.kind === 'unknown' && (kind === 'fib' || kind === 'masquerade' || kind === 'redirect')) {
        return NEEDS_ADDRESSES;
      }
      if (kind === 'meta' && typeof part['key'] === 'string' && /^(iif|oif)/.test(part['key'])) {
        if (place.kind === 'unknown') return NEEDS_ADDRESSES;
        asksInterface = true;
      }
      if (place.kind !== 'cluster' || !asksInterface) continue;
      // The names in a named set are the table's, not the rule's.
      if (kind === 'named') return NEEDS_NAMES;
      if (kind === 'name' && !isKnown(String(part['name']), place.podInterfaces)) return NEEDS_NAMES;
    }
  }
  return null;
}

function isKnown(name: string, podInterfaces: readonly string[]): boolean {
  return name === 'lo' || podInterfaces.includes(name.replace(/\*$/, '+'));
}

/** A statement and everything in it, at any depth. */
function* parts(value: unknown): Generator<Readonly<Record<string, unknown>>> {
  if (Array.isArray(value)) for (const item of value) yield* parts(item);
  else if (typeof value === 'object' && value !== null) {
    yield value as Readonly<Record<string, unknown>>;
    for (const [key, item] of Object.entries(value)) if (key !== 'sources') yield* parts(item);
  }
}

function lineOf(rule: NftRule): number | null {
  const source = rule.sources[0];
  return source !== undefined && 'line' in source ? source.line : null;
}
