/**
 * Rulesets in a form in which equal ones are equal: without lines and files, elements in order of their text, and without
 * what the JSON of nft 1.0.6 does not tell (comments of tables and chains, auto-merge, dynamic) or tells in other words.
 */

import type {
  NftElement,
  NftExpression,
  NftMapReference,
  NftRule,
  NftRuleset,
  NftSet,
  NftStatement,
  NftTable,
} from '../../control/src/compile/nft-ruleset.ts';

export function normalRuleset({ tables }: NftRuleset): unknown {
  return tables.map(normalTable);
}

function normalTable({ family, name, sets, chains }: NftTable): unknown {
  return {
    family,
    name,
    sets: sets.map(normalSet).sort(byName),
    chains: chains
      .map((chain) => ({ name: chain.name, base: chain.base, rules: chain.rules.map(normalRule) }))
      .sort(byName),
  };
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}

function normalSet(set: NftSet): { readonly name: string } {
  const { name, key, data, timeoutSeconds, comment } = set;
  const flags = set.flags.filter((flag) => flag !== 'dynamic');
  return { name, key, data, flags, timeoutSeconds, comment, elements: normalElements(set.elements) } as {
    readonly name: string;
  };
}

export function normalElements(elements: readonly NftElement[]): unknown[] {
  const plain = elements.map(({ key, value, comment, timeoutSeconds }) => ({ key, value, comment, timeoutSeconds }));
  return plain.map((element) => JSON.stringify(element)).sort();
}

export function normalRule({ statements, comment }: NftRule): unknown {
  // A comment of iptables-nft is a statement in JSON and nothing in text.
  return { statements: statements.filter((s) => !isXtComment(s)).map(normalStatement), comment };
}

function isXtComment(statement: NftStatement): boolean {
  return statement.kind === 'ignored' && statement.text.includes('"comment"');
}

function normalStatement(statement: NftStatement): unknown {
  switch (statement.kind) {
    case 'log':
    case 'limit':
    case 'ignored':
    case 'exceeded':
    case 'unknown':
      return { kind: statement.kind };
    case 'match':
      return { ...statement, left: normalExpression(statement.left), right: normalRight(statement.right) };
    case 'vmap':
      return { ...statement, key: normalExpression(statement.key), map: normalRight(statement.map) };
    case 'dnat':
    case 'snat':
      return { ...statement, address: normalOperand(statement.address) };
    case 'set':
      return { ...statement, value: normalOperand(statement.value) };
    case 'dynset':
      return { ...statement, key: normalExpression(statement.key) };
    default:
      return statement;
  }
}

function normalOperand(operand: unknown): unknown {
  const isLookup = typeof operand === 'object' && operand !== null && 'kind' in operand && operand.kind === 'lookup';
  return isLookup ? normalExpression(operand as NftExpression) : operand;
}

function normalRight<T extends { readonly kind: string }>(right: T | NftMapReference): unknown {
  return isElements(right) ? { kind: right.kind, elements: normalElements(right.elements) } : right;
}

function isElements(right: { readonly kind: string }): right is Extract<NftMapReference, { kind: 'elements' }> {
  return right.kind === 'elements';
}

function normalExpression(expression: NftExpression): unknown {
  switch (expression.kind) {
    case 'lookup':
      return { ...expression, key: normalExpression(expression.key), map: normalRight(expression.map) };
    case 'concat':
      return { ...expression, parts: expression.parts.map(normalExpression) };
    default:
      return expression;
  }
}
