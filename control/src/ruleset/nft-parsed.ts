/**
 * What the readers of nft dumps answer, and what both do once a table's parts are read.
 *
 * A table's rules may name chains and sets that come later, so references are checked at the end: a rule that looks into
 * a set which is not understood never matches, as if it said so itself.
 */

import type {
  NftChain,
  NftExpression,
  NftFamily,
  NftHook,
  NftMapReference,
  NftRule,
  NftRuleset,
  NftSet,
  NftStatement,
  NftTable,
  NftVerdict,
} from '../compile/nft-ruleset.ts';
import type { NotUnderstood } from './not-understood.ts';

export interface ParsedNft {
  readonly ruleset: NftRuleset;
  /** In the order of the dump; rules among them stand in the ruleset and never match. */
  readonly notUnderstood: readonly NotUnderstood[];
  /** What a cluster's packets never meet, by name: 'table bridge filter', 'chain ingress of table inet x'. */
  readonly skipped: readonly string[];
  /** Tables that iptables-nft keeps: nft prints a translation of them that loses parts of some matches. */
  readonly translated: readonly string[];
}

/** Where a rule stands, for messages. */
export interface RulePlace {
  readonly line: number | null;
  readonly path: string;
}

/** The parts of a table as a reader found them. */
export interface TableParts {
  readonly file: string;
  readonly family: NftFamily;
  readonly name: string;
  readonly comment: string | null;
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
  /** Sets that could not be read: what looks into them never matches. */
  readonly unclearSets: ReadonlySet<string>;
  readonly places: ReadonlyMap<NftRule, RulePlace>;
}

const HOOKS = ['prerouting', 'input', 'forward', 'output', 'postrouting'] as const;

export function isHook(name: string): name is NftHook {
  return HOOKS.some((hook) => hook === name);
}

/** Families whose tables a cluster's packets meet. */
export function isFamily(name: string): name is NftFamily {
  return name === 'ip' || name === 'ip6' || name === 'inet';
}

/** A table of its parts; what its rules name and do not find goes to `notUnderstood`. */
export function finishTable(parts: TableParts, notUnderstood: NotUnderstood[]): NftTable {
  const { family, name, comment } = parts;
  const chains = new Set(parts.chains.map((chain) => chain.name));
  const sets = new Set(parts.sets.map((set) => set.name));
  const written = new Set<string>();
  const missingIn = (statement: NftStatement): string | null => {
    for (const reference of referencesOf(statement)) {
      if (reference.kind === 'chain' && !chains.has(reference.name)) return `there is no chain '${reference.name}'`;
      if (reference.kind !== 'set' || sets.has(reference.name)) continue;
      return parts.unclearSets.has(reference.name)
        ? `the set '${reference.name}' is not understood`
        : `there is no set '${reference.name}'`;
    }
    return null;
  };
  const checkRule = (rule: NftRule): NftRule => {
    for (let i = 0; i < rule.statements.length; i++) {
      const statement = rule.statements[i]!;
      const missing = missingIn(statement);
      if (missing !== null) {
        const { line, path } = parts.places.get(rule) ?? { line: null, path: '' };
        notUnderstood.push({ file: parts.file, line, path, text: '', message: missing });
        return { ...rule, statements: [...rule.statements.slice(0, i), { kind: 'unknown', text: missing }] };
      }
      if (statement.kind === 'dynset') written.add(statement.set);
    }
    return rule;
  };
  const checked = parts.chains.map((chain) => ({ ...chain, rules: chain.rules.map(checkRule) }));
  return { family, name, comment, chains: checked, sets: parts.sets.map((set) => asWritten(set, written, missingIn)) };
}

/**
 * A set that packets write is dynamic, whether or not the dump says so (JSON of nft 1.0.6 does not). Elements that lead to
 * a chain that is not there are left out: the kernel holds none.
 */
function asWritten(set: NftSet, written: ReadonlySet<string>, missingIn: (s: NftStatement) => string | null): NftSet {
  const elements = set.elements.filter(({ value }) => {
    return value === null || !isVerdict(value) || missingIn({ kind: 'verdict', verdict: value }) === null;
  });
  const isDynamic = written.has(set.name) && !set.flags.includes('dynamic');
  const flags = isDynamic ? [...set.flags, 'dynamic' as const].sort() : set.flags;
  return { ...set, flags, elements };
}

/** iptables-nft's tables: its names, and its base chains in capitals. */
export function isTranslated(table: NftTable): boolean {
  const isName = ['filter', 'nat', 'mangle', 'raw', 'security'].includes(table.name);
  const isBase = ({ name, base }: NftChain) => base !== null && name === base.hook.toUpperCase();
  return isName && table.family !== 'inet' && table.chains.some(isBase);
}

interface Reference {
  readonly kind: 'chain' | 'set';
  readonly name: string;
}

function referencesOf(statement: NftStatement): Reference[] {
  const found: Reference[] = [];
  switch (statement.kind) {
    case 'match':
      ofExpression(statement.left, found);
      if (statement.right.kind === 'named') found.push({ kind: 'set', name: statement.right.name });
      break;
    case 'vmap':
      ofExpression(statement.key, found);
      ofMap(statement.map, found);
      break;
    case 'verdict':
      ofVerdict(statement.verdict, found);
      break;
    case 'dnat':
    case 'snat':
      if (statement.address?.kind === 'lookup') ofExpression(statement.address, found);
      break;
    case 'set':
      if (statement.value.kind === 'lookup') ofExpression(statement.value, found);
      break;
    case 'dynset':
      found.push({ kind: 'set', name: statement.set });
      break;
  }
  return found;
}

function ofExpression(expression: NftExpression, found: Reference[]): void {
  if (expression.kind === 'concat') for (const part of expression.parts) ofExpression(part, found);
  if (expression.kind === 'bitwise') ofExpression(expression.left, found);
  if (expression.kind === 'hash' && expression.key !== null) ofExpression(expression.key, found);
  if (expression.kind !== 'lookup') return;
  ofExpression(expression.key, found);
  ofMap(expression.map, found);
}

function ofMap(map: NftMapReference, found: Reference[]): void {
  if (map.kind === 'named') {
    found.push({ kind: 'set', name: map.name });
    return;
  }
  for (const { value } of map.elements) if (value !== null && isVerdict(value)) ofVerdict(value, found);
}

function ofVerdict(verdict: NftVerdict, found: Reference[]): void {
  if (verdict.kind === 'jump' || verdict.kind === 'goto') found.push({ kind: 'chain', name: verdict.chain });
}

function isVerdict(value: { readonly kind: string }): value is NftVerdict {
  return ['accept', 'drop', 'return', 'continue', 'jump', 'goto'].includes(value.kind);
}
