/**
 * nftables tables as the engine's rules and sets of one family (engine tables/nft-rules.ts), for the nodes that are asked
 * for: the tables of that family and those of family inet.
 *
 * Chains and sets that nodes share are written once. A rule id leads back to text and origins, so do the ids of sets and
 * of elements; ids depend on the input alone. A rule that the engine cannot run never matches and is listed in
 * `unencodable`.
 */

import {
  anonymousSet,
  NFT_ACCEPT,
  NFT_DROP,
  type NftBaseChain,
  NftRulesBuilder,
} from '@flatpath/engine/tables/nft-rules';
import type { NftSetElement } from '@flatpath/engine/tables/nft-sets';
import {
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
} from '@flatpath/engine/tables/rule-list';
import type { Family } from '../model/address.ts';
import { type EncodedExpression, encodeStatements, NEVER, type NftScope } from './nft-encode-rule.ts';
import { isVerdict, keyBounds, NftUnencodable, valueWordsOf, verdictWords } from './nft-encode-value.ts';
import type { NftInterfaces } from './nft-fields.ts';
import type {
  NftBase,
  NftChain,
  NftDatatype,
  NftElement,
  NftFamily,
  NftHook,
  NftMapReference,
  NftRule,
  NftSet,
  NftSource,
  NftTable,
  NftValue,
} from './nft-ruleset.ts';
import { nftOrigins } from './nft-ruleset.ts';
import { nftElementText, nftRuleText } from './nft-text.ts';
import type { CompiledNft, NftChainInfo, NftElementInfo, NftRuleInfo } from './nftables.ts';

const HOOK_OF: Readonly<Record<NftHook, number>> = {
  prerouting: HOOK_PREROUTING,
  input: HOOK_INPUT,
  forward: HOOK_FORWARD,
  output: HOOK_OUTPUT,
  postrouting: HOOK_POSTROUTING,
};

/** A rule that never matches because the engine cannot run it, or a set of which the same is true of what asks it. */
export interface UnencodableRule {
  readonly table: string;
  /** '' for a set. */
  readonly chain: string;
  readonly text: string;
  readonly why: string;
  readonly sources: readonly NftSource[];
}

/** Numbers that both families' lists take from: of stamps (sets that packets write, counters of `numgen inc`). */
export class NftStampNumbers {
  private readonly sets = new Map<string, number>();
  private used = 0;

  /** Number of a set that packets write; one for both families where the table is of family inet. */
  ofSet(table: NftTable, set: string): number {
    const key = `${table.family} ${table.name} ${set}`;
    let number = this.sets.get(key);
    if (number === undefined) {
      number = this.used++;
      this.sets.set(key, number);
    }
    return number;
  }

  ofCounter(): number {
    return this.used++;
  }

  /** Numbers are below this. */
  get count(): number {
    return this.used;
  }
}

interface KnownRule {
  readonly table: NftTable;
  readonly chain: string;
  readonly rule: NftRule;
}

/** A named set, or the elements that stand in a rule. */
interface KnownSet {
  readonly table: NftTable;
  readonly name: string | null;
  readonly set: NftSet;
}

interface KnownElement {
  readonly set: number;
  readonly element: NftElement;
}

/** What a table puts into a node's directory. */
interface TableParts {
  readonly chains: readonly number[];
  readonly sets: readonly number[];
  readonly bases: readonly NftBaseChain[];
}

/** Collects the nodes' tables. */
export class NftEncoder {
  readonly unencodable: UnencodableRule[] = [];
  private readonly family: Family;
  private readonly stamps: NftStampNumbers;
  private readonly builder = new NftRulesBuilder();
  private readonly rules: KnownRule[] = [];
  private readonly chains: NftChainInfo[] = [];
  private readonly sets: KnownSet[] = [];
  private readonly elements: KnownElement[] = [];
  private readonly chainIds = new Map<string, number>();
  private readonly setNumbers = new Map<string, number>();
  /** Start of each body and set, which nodes share by identity. */
  private readonly bodies = new Map<NftChain, number>();
  private readonly setStarts = new Map<NftSet, number>();
  private readonly unencodableSets = new Set<NftSet>();
  private readonly tables = new Map<NftTable, TableParts>();

  constructor(family: Family, stamps: NftStampNumbers) {
    this.family = family;
    this.stamps = stamps;
  }

  /**
   * @param tables in the order of their creation; those of the other family are left out
   * @param interfaces of the node; null where only classes of interfaces are known. Nodes that share a table share them
   */
  addNode(node: number, tables: readonly NftTable[], interfaces: NftInterfaces | null): void {
    const own: NftFamily = this.family === 4 ? 'ip' : 'ip6';
    const parts = tables
      .filter(({ family }) => family === own || family === 'inet')
      .map((table) => this.tableParts(table, interfaces));
    this.builder.node(
      node,
      parts.flatMap(({ chains }) => chains),
      parts.flatMap(({ sets }) => sets),
      parts.flatMap(({ bases }) => bases),
    );
  }

  finish(nodes: number): CompiledNft {
    const { chains } = this;
    return {
      rules: this.builder.build(nodes, chains.length, this.setNumbers.size),
      ruleCount: this.rules.length,
      unencodable: this.unencodable,
      rule: (id) => describeRule(known(this.rules[id], 'rule', id)),
      judgementOf: (id) => known(this.rules[id], 'rule', id).rule.judgement,
      chain: (id) => known(chains[id], 'chain', id),
      setName: (id) => describeSet(known(this.sets[id], 'set', id)),
      element: (id) => this.describeElement(id),
    };
  }

  private tableParts(table: NftTable, interfaces: NftInterfaces | null): TableParts {
    let parts = this.tables.get(table);
    if (parts === undefined) {
      parts = this.encodeTable(table, interfaces);
      this.tables.set(table, parts);
    }
    return parts;
  }

  private encodeTable(table: NftTable, interfaces: NftInterfaces | null): TableParts {
    const scope = this.scopeOf(table, interfaces);
    const sets: number[] = [];
    const chains: number[] = [];
    const bases: NftBaseChain[] = [];
    for (const set of table.sets) sets.push(this.setNumber(table, set.name), this.startOfSet(table, set, scope));
    for (const chain of table.chains) {
      const id = this.chainId(table, chain.name, chain.base);
      chains.push(id, this.bodyOf(table, chain, scope));
      if (chain.base === null) continue;
      const { hook, type, priority, policy } = chain.base;
      bases.push({
        chain: id,
        hook: HOOK_OF[hook],
        nat: type === 'nat',
        priority,
        policy: policy === 'drop' ? NFT_DROP : NFT_ACCEPT,
      });
    }
    return { chains, sets, bases };
  }

  private scopeOf(table: NftTable, interfaces: NftInterfaces | null): NftScope {
    const named = new Map(table.sets.map((set) => [set.name, set]));
    const find = (name: string): NftSet => {
      const set = named.get(name);
      if (set === undefined) throw new NftUnencodable(`the table has no set or map '${name}'`);
      if (this.unencodableSets.has(set)) throw new NftUnencodable(`the set or map '${name}' cannot be run`);
      return set;
    };
    const scope: NftScope = {
      family: this.family,
      interfaces,
      chainId: (name) => this.chainId(table, name),
      setNumber: (name) => this.setNumber(table, find(name).name),
      valueWords: (name) => valueWords(find(name).data),
      anonymousSet: (map, key) => this.anonymousSet(table, map, key, scope),
      nextCounter: () => this.stamps.ofCounter(),
    };
    return scope;
  }

  /** @param base of a base chain, to which nothing jumps: its own table asks first */
  private chainId(table: NftTable, name: string, base: NftBase | null = null): number {
    const key = `${table.family} ${table.name} ${name}`;
    let id = this.chainIds.get(key);
    if (id === undefined) {
      id = this.chains.length;
      this.chainIds.set(key, id);
      this.chains.push({ table: `${table.family} ${table.name}`, name, base });
    }
    return id;
  }

  private setNumber(table: NftTable, name: string): number {
    const key = `${table.family} ${table.name} ${name}`;
    let number = this.setNumbers.get(key);
    if (number === undefined) {
      number = this.setNumbers.size;
      this.setNumbers.set(key, number);
    }
    return number;
  }

  private bodyOf(table: NftTable, chain: NftChain, scope: NftScope): number {
    let start = this.bodies.get(chain);
    if (start === undefined) {
      start = this.builder.beginBody();
      this.bodies.set(chain, start);
      for (const rule of chain.rules) this.encodeRule(table, chain, rule, scope);
      this.builder.endBody();
    }
    return start;
  }

  private encodeRule(table: NftTable, chain: NftChain, rule: NftRule, scope: NftScope): void {
    const id = this.rules.length;
    this.rules.push({ table, chain: chain.name, rule });
    this.builder.rule(id);
    let expressions: readonly EncodedExpression[];
    try {
      expressions = encodeStatements(rule.statements, scope);
    } catch (error) {
      if (!(error instanceof NftUnencodable)) throw error;
      expressions = [NEVER];
      this.unencodable.push({
        table: `${table.family} ${table.name}`,
        chain: chain.name,
        text: nftRuleText(rule, table.family),
        why: error.message,
        sources: rule.sources,
      });
    }
    for (const [op, operands] of expressions) this.builder.expression(op, operands);
  }

  private startOfSet(table: NftTable, set: NftSet, scope: NftScope): number {
    let start = this.setStarts.get(set);
    if (start === undefined) {
      const dynamic = set.flags.includes('dynamic') || set.flags.includes('timeout');
      const stamps = dynamic ? this.stamps.ofSet(table, set.name) : -1;
      start = this.writeNamedSet(table, set, stamps, scope);
      this.setStarts.set(set, start);
    }
    return start;
  }

  /** A set that the engine cannot run is listed and stays empty; the rules that ask it never match. */
  private writeNamedSet(table: NftTable, set: NftSet, stamps: number, scope: NftScope): number {
    try {
      return this.writeSet(table, set.name, set, stamps, scope);
    } catch (error) {
      if (!(error instanceof NftUnencodable)) throw error;
      this.unencodableSets.add(set);
      this.unencodable.push({
        table: `${table.family} ${table.name}`,
        chain: '',
        text: `${set.data === null ? 'set' : 'map'} ${set.name}`,
        why: error.message,
        sources: set.sources,
      });
      return this.writeSet(table, set.name, { ...set, key: ['integer'], elements: [] }, -1, scope);
    }
  }

  private anonymousSet(
    table: NftTable,
    { elements }: NftMapReference & { kind: 'elements' },
    key: readonly NftDatatype[],
    scope: NftScope,
  ): number {
    const value = elements[0]?.value ?? null;
    const data = value === null ? null : isVerdict(value) ? 'verdict' : dataTypes(value);
    const set: NftSet = {
      name: '',
      key,
      data,
      flags: [],
      timeoutSeconds: null,
      size: null,
      autoMerge: false,
      comment: null,
      elements,
      sources: [],
    };
    return anonymousSet(this.writeSet(table, null, set, -1, scope));
  }

  private writeSet(table: NftTable, name: string | null, set: NftSet, stamps: number, scope: NftScope): number {
    const id = this.sets.length;
    this.sets.push({ table, name, set });
    const elements = set.elements.map((element): NftSetElement => {
      const elementId = this.elements.length;
      this.elements.push({ set: id, element });
      return encodeElement(elementId, element, scope);
    });
    const fields = set.key.map((type) => (type === 'ipv6_addr' ? 4 : 1));
    const lifeMs = set.timeoutSeconds === null ? 0 : set.timeoutSeconds * 1000;
    try {
      return this.builder.set({ id, fields, valueWords: valueWords(set.data), stamps, lifeMs }, elements);
    } catch (error) {
      // A key twice, or one of too many words.
      if (error instanceof RangeError) throw new NftUnencodable(error.message);
      throw error;
    }
  }

  private describeElement(id: number): NftElementInfo {
    const { set, element } = known(this.elements[id], 'element', id);
    const [origin = null, ...further] = nftOrigins(element.sources);
    return { text: nftElementText(element, this.sets[set]!.set), origin, further };
  }
}

function encodeElement(id: number, element: NftElement, scope: NftScope): NftSetElement {
  const bounds = keyBounds(element.key, scope.interfaces);
  const { value } = element;
  let words: readonly number[] = [];
  if (value !== null) words = isVerdict(value) ? verdictWords(value, scope.chainId) : valueWordsOf(value);
  if (bounds === null) return { id, first: null, last: null, value: words };
  const single = bounds.first.every((word, i) => word === bounds.last[i]);
  return { id, first: bounds.first, last: single ? null : bounds.last, value: words };
}

function valueWords(data: NftSet['data']): number {
  if (data === null) return 0;
  if (data === 'verdict') return 2;
  return data.reduce((sum, type) => sum + (type === 'ipv6_addr' ? 4 : 1), 0);
}

function dataTypes(value: NftValue): NftDatatype[] {
  if (value.kind === 'concat') return value.parts.flatMap(dataTypes);
  if (value.kind === 'address') return [value.address.family === 4 ? 'ipv4_addr' : 'ipv6_addr'];
  return ['integer'];
}

function describeRule({ table, chain, rule }: KnownRule): NftRuleInfo {
  const [origin = null, ...further] = nftOrigins(rule.sources);
  return { table: `${table.family} ${table.name}`, chain, text: nftRuleText(rule, table.family), origin, further };
}

/** `@service-ips`, or what stands in a rule. */
function describeSet({ name, set }: KnownSet): string {
  if (name !== null) return `@${name}`;
  return set.data === null ? 'set of the rule' : 'map of the rule';
}

function known<T>(value: T | undefined, what: string, id: number): T {
  if (value === undefined) throw new RangeError(`there is no ${what} ${id}`);
  return value;
}
