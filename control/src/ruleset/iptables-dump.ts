/**
 * A dump of iptables-save as chains that the engine's rule list can be made of (compile/iptables-encode.ts).
 *
 * A rule that is not understood is listed and left out, as one that never matches; whether that is an error is the
 * caller's to say. Of a node about which nothing is known, rules that only a part of its packets meet (INPUT against
 * FORWARD, OUTPUT, POSTROUTING) cannot be decided either: listed once a base chain, and its packets are then taken as
 * forwarded ones.
 */

import type { ChainInfo } from '../compile/iptables.ts';
import { BASE_CHAINS } from '../compile/iptables-base.ts';
import type { Chain, Rule, TableName } from '../compile/iptables-rules.ts';
import { makeRule } from '../compile/iptables-rules.ts';
import type { Family } from '../model/address.ts';
import { ruleMatches } from './iptables-match.ts';
import { noteListUse } from './iptables-match-state.ts';
import { type GivenRule, NotUnderstoodRule, readRule } from './iptables-rule.ts';
import type { DumpChain, DumpRule, DumpTable, IptablesDump } from './iptables-save.ts';
import { ruleTarget } from './iptables-target.ts';
import type { NotUnderstood } from './not-understood.ts';
import { type ListUse, NEEDS_ADDRESSES, type NodePlace, type RuleContext } from './rule-context.ts';

/** What is known beside the dump. */
export interface DumpSurroundings {
  readonly place: NodePlace;
  /** Names of the ipsets that were given. */
  readonly sets: ReadonlySet<string>;
  readonly hasIpvs: boolean;
}

export interface DumpChains {
  readonly family: Family;
  readonly chains: readonly Chain[];
  /** Base chains whose policy is DROP. */
  readonly dropping: readonly ChainInfo[];
  /** Rules that are left out, in the order of the dump. */
  readonly notUnderstood: readonly NotUnderstood[];
  /** Parts of rules that were taken to be so because nothing tells. */
  readonly assumed: readonly NotUnderstood[];
}

/** The words of a rule, read before any is encoded: a `recent` list is encoded by all of its uses. */
interface ReadDumpRule {
  readonly table: TableName;
  readonly chain: string;
  readonly rule: DumpRule;
  readonly given: GivenRule;
}

export function compileDump(dump: IptablesDump, surroundings: DumpSurroundings): DumpChains {
  return new DumpCompiler(dump, surroundings).compile();
}

class DumpCompiler {
  private readonly dump: IptablesDump;
  private readonly surroundings: DumpSurroundings;
  private readonly notUnderstood: NotUnderstood[] = [];
  private readonly assumed: NotUnderstood[] = [];
  private readonly lists = new Map<string, ListUse>();

  constructor(dump: IptablesDump, surroundings: DumpSurroundings) {
    this.dump = dump;
    this.surroundings = surroundings;
  }

  compile(): DumpChains {
    const read = new Map<DumpChain, ReadDumpRule[]>();
    for (const table of this.dump.tables.values()) {
      for (const chain of table.chains.values()) read.set(chain, this.readChain(table, chain));
    }
    const chains: Chain[] = [];
    const dropping: ChainInfo[] = [];
    for (const table of this.dump.tables.values()) {
      for (const chain of table.chains.values()) {
        if (this.isUndecided(table.name, chain)) continue;
        const rules: Rule[] = [];
        for (const entry of read.get(chain)!) {
          const rule = this.compileRule(entry);
          if (rule !== null) rules.push(rule);
        }
        chains.push({ table: table.name, name: chain.name, rules });
        if (chain.policy === 'DROP') dropping.push({ table: table.name, name: chain.name });
      }
    }
    const byLine = (a: NotUnderstood, b: NotUnderstood): number => (a.line ?? 0) - (b.line ?? 0);
    return {
      family: this.dump.family,
      chains,
      dropping,
      notUnderstood: this.notUnderstood.sort(byLine),
      assumed: this.assumed.sort(byLine),
    };
  }

  private readChain(table: DumpTable, chain: DumpChain): ReadDumpRule[] {
    const rules: ReadDumpRule[] = [];
    for (const rule of chain.rules) {
      const given = this.attempt(rule, () => readRule(rule.words, (name) => table.chains.has(name)));
      if (given === null) continue;
      for (const { name, options } of given.matches) if (name === 'recent') noteListUse(this.lists, options);
      rules.push({ table: table.name, chain: chain.name, rule, given });
    }
    return rules;
  }

  private compileRule({ table, chain, rule, given }: ReadDumpRule): Rule | null {
    const { file, family } = this.dump;
    const context: RuleContext = {
      family,
      table,
      place: this.surroundings.place,
      ruleName: `${file}:${rule.line}`,
      lists: this.lists,
      sets: this.surroundings.sets,
      hasIpvs: this.surroundings.hasIpvs,
      assume: (text, message) => this.assumed.push({ file, line: rule.line, path: '', text, message }),
    };
    return this.attempt(rule, () => {
      const target = ruleTarget(given.target, context);
      const matches = ruleMatches(given, context);
      const made = makeRule(table, chain, {}, matches, target, [{ file, line: rule.line }]);
      return { ...made, text: rule.text };
    });
  }

  /** Runs a step on a rule; null, and the rule listed, where it is not understood. */
  private attempt<T>(rule: DumpRule, step: () => T): T | null {
    try {
      return step();
    } catch (error) {
      if (!(error instanceof NotUnderstoodRule)) throw error;
      const { part, message } = error;
      this.notUnderstood.push({ file: this.dump.file, line: rule.line, path: '', text: part, message });
      return null;
    }
  }

  /** Which packets meet the chain is not known: the chain stays out where a forwarded packet does not meet it. */
  private isUndecided(table: TableName, chain: DumpChain): boolean {
    const { place } = this.surroundings;
    if (place.kind !== 'unknown' || chain.name === 'PREROUTING') return false;
    if (!BASE_CHAINS[table].includes(chain.name) || (chain.rules.length === 0 && chain.policy !== 'DROP')) return false;
    const line = chain.rules[0]?.line ?? chain.line;
    const message = `which packets meet it ${NEEDS_ADDRESSES}`;
    this.notUnderstood.push({ file: this.dump.file, line, path: '', text: `${table} ${chain.name}`, message });
    return chain.name === 'INPUT' || chain.name === 'OUTPUT';
  }
}
