/**
 * The chains, rules, sets and elements of an nft ruleset as items of a check (check.ts).
 *
 * Rules are the same where they say the same: comments, counters and the order of elements do not count. The tables
 * `kube-proxy` are kube-proxy's, all others foreign. Elements that packets write (affinity) are no part of it.
 */

import type { NftChain, NftRule, NftRuleset, NftSet, NftSource, NftTable } from '../compile/nft-ruleset.ts';
import { nftElementText, nftRuleText } from '../compile/nft-text.ts';
import type { CheckItem } from './check.ts';

/** True for a table that kube-proxy writes. */
export function isKubeProxyTable({ family, name }: NftTable): boolean {
  return family !== 'inet' && name === 'kube-proxy';
}

export function nftItems({ tables }: NftRuleset): CheckItem[] {
  return tables.flatMap((table) => [
    ...table.chains.flatMap((chain) => chainItems(table, chain)),
    ...table.sets.flatMap((set) => setItems(table, set)),
  ]);
}

function chainItems(table: NftTable, chain: NftChain): CheckItem[] {
  const place = `${table.family} ${table.name}`;
  const isOwn = isKubeProxyTable(table);
  const text = `:${chain.name}`;
  const key = `${text} ${JSON.stringify(chain.base)}`;
  const rules = chain.rules.map((rule) => ({
    place: `${place} ${chain.name}`,
    key: ruleKey(rule),
    text: nftRuleText(rule, table.family),
    isOwn,
    holds: null,
    ...placeOf(rule.sources),
  }));
  return [{ place, key, text, isOwn, holds: `${place} ${chain.name}`, ...placeOf(chain.sources) }, ...rules];
}

function setItems(table: NftTable, set: NftSet): CheckItem[] {
  const place = `${table.family} ${table.name}`;
  const isOwn = isKubeProxyTable(table);
  const text = `${set.data === null ? 'set' : 'map'} ${set.name}`;
  const flags = set.flags.filter((flag) => flag !== 'dynamic');
  const key = `${text} ${JSON.stringify([set.key, set.data, flags, set.timeoutSeconds])}`;
  const holds = `${place} ${text}`;
  const item = { place, key, text, isOwn, holds, ...placeOf(set.sources) };
  if (set.flags.includes('dynamic')) return [item];
  const elements = set.elements.map((element) => ({
    place: holds,
    key: keyOf([element.key, element.value]),
    text: nftElementText(element, set),
    isOwn,
    holds: null,
    ...placeOf(element.sources),
  }));
  return [item, ...elements];
}

function placeOf(sources: readonly NftSource[]): { readonly file: string; readonly line: number | null } {
  const [source] = sources;
  if (source === undefined || !('line' in source)) return { file: '', line: null };
  return { file: source.file, line: source.line };
}

function ruleKey({ statements }: NftRule): string {
  return keyOf(statements.filter(({ kind }) => kind !== 'counter'));
}

/** Text that is equal for what is equal: without comments and sources, elements sorted. */
function keyOf(value: unknown): string {
  return JSON.stringify(value, (name, part: unknown) => {
    if (name === 'comment' || name === 'sources') return undefined;
    return name === 'elements' && Array.isArray(part) ? part.map(keyOf).sort() : part;
  });
}
