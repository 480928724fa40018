/**
 * Reads what `nft -j list ruleset` prints (libnftables-json, schema version 1) into a ruleset: the same one that
 * `nft-text.ts` makes of the text of the same rules.
 *
 * nft 1.0.6 leaves out of its JSON that a set is dynamic (made good here, where a rule writes into the set) and all but
 * the names of iptables-nft's extensions (not understood). A rule or set that is not understood is named with its path;
 * JSON that is no ruleset is an `InputError`.
 */

import { findJsonError } from '../cluster/json-syntax.ts';
import { InputError, type Problem } from '../cluster/problem.ts';
import type { NftBase, NftChain, NftFamily, NftRule, NftSet, NftStatement } from '../compile/nft-ruleset.ts';
import { elementsOf } from './nft-build.ts';
import {
  isObject,
  type JsonContext,
  type JsonObject,
  jsonElements,
  jsonTypes,
  kindOf,
  numberIn,
  quoteJson,
  textIn,
  textsIn,
} from './nft-json-expression.ts';
import { jsonStatement } from './nft-json-statement.ts';
import { finishTable, isFamily, isHook, isTranslated, type ParsedNft, type RulePlace } from './nft-parsed.ts';
import { isChainType, isSetFlag } from './nft-text.ts';
import { NftUnclear } from './nft-values.ts';
import type { NotUnderstood } from './not-understood.ts';

/**
 * Reads a dump.
 * @param file its name, for messages and origins
 * @throws InputError if the text is no JSON, or no ruleset of nft
 */
export function parseNftJson(file: string, text: string): ParsedNft {
  return new NftJsonReader(file, text).read();
}

interface TableParts {
  readonly file: string;
  readonly family: NftFamily;
  readonly name: string;
  readonly comment: string | null;
  readonly isDormant: boolean;
  readonly sets: NftSet[];
  readonly chains: NftChain[];
  /** Rules of each chain, by its name; the chain holds the same list. */
  readonly rules: Map<string, NftRule[]>;
  readonly unclearSets: Set<string>;
  readonly places: Map<NftRule, RulePlace>;
}

class NftJsonReader {
  private readonly file: string;
  private readonly text: string;
  private readonly tables = new Map<string, TableParts>();
  private readonly errors: Problem[] = [];
  private readonly notUnderstood: NotUnderstood[] = [];
  private readonly skipped: string[] = [];
  private readonly skippedChains = new Set<string>();

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
  }

  read(): ParsedNft {
    const root = this.parse();
    const items = isObject(root) ? root['nftables'] : undefined;
    if (!Array.isArray(items)) {
      this.error(1, '', "there is no list 'nftables', which 'nft -j list ruleset' prints");
      throw new InputError(this.errors);
    }
    const lines = itemLines(this.text, items.length);
    items.forEach((item: unknown, i) => {
      const line = lines[i] ?? 1;
      const path = `nftables[${i}]`;
      try {
        this.readItem(item, line, path);
      } catch (error) {
        if (!(error instanceof NftUnclear)) throw error;
        this.error(line, path, error.message);
      }
    });
    if (this.errors.length > 0) throw new InputError(this.errors);
    return this.finish();
  }

  private parse(): unknown {
    try {
      return JSON.parse(this.text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      const { offset, message } = findJsonError(this.text);
      this.error(this.text.slice(0, offset).split('\n').length, '', `is not JSON: ${message}`);
      throw new InputError(this.errors);
    }
  }

  private error(line: number, field: string, message: string): void {
    this.errors.push({ severity: 'error', file: this.file, document: 0, object: '', field, message, line });
  }

  private finish(): ParsedNft {
    const live = [...this.tables.values()].filter(({ isDormant }) => !isDormant);
    const tables = live.map((parts) => finishTable(parts, this.notUnderstood));
    const translated = tables.filter(isTranslated).map(({ family, name }) => `${family} ${name}`);
    return { ruleset: { tables }, notUnderstood: this.notUnderstood, skipped: this.skipped, translated };
  }

  private readItem(item: unknown, line: number, path: string): void {
    const { kind, body } = kindOf(item);
    if (kind === 'metainfo') return;
    if (kind === '' || !isObject(body)) throw new NftUnclear(`${quoteJson(item)} is no part of a ruleset`);
    if (kind === 'table') {
      this.addTable(body);
      return;
    }
    const table = this.tableOf(body);
    if (table === null) return;
    const context = { family: table.family, source: { file: this.file, line, path: `${path}.${kind}` } };
    switch (kind) {
      case 'chain':
        this.addChain(table, body, context);
        return;
      case 'set':
      case 'map':
        this.addSet(table, body, context);
        return;
      case 'rule':
        this.addRule(table, body, context);
        return;
      // Objects that rules only count with, and elements of meters and sets that are listed by themselves.
      case 'counter':
      case 'quota':
      case 'limit':
      case 'ct helper':
      case 'ct timeout':
      case 'ct expectation':
      case 'flowtable':
      case 'synproxy':
      case 'secmark':
      case 'tunnel':
        return;
    }
    throw new NftUnclear(`flatpath does not know a '${kind}' in a ruleset`);
  }

  private addTable(body: JsonObject): void {
    const family = textIn(body, 'family');
    const name = textIn(body, 'name');
    if (!isFamily(family)) {
      this.skipped.push(`table ${family} ${name}`);
      return;
    }
    const isDormant = textsIn(body, 'flags').includes('dormant');
    if (isDormant) this.skipped.push(`table ${family} ${name} (dormant)`);
    const key = `${family} ${name}`;
    if (this.tables.has(key)) throw new NftUnclear(`table ${key} is there twice`);
    this.tables.set(key, {
      file: this.file,
      family,
      name,
      comment: commentOf(body),
      isDormant,
      sets: [],
      chains: [],
      rules: new Map(),
      unclearSets: new Set(),
      places: new Map(),
    });
  }

  /** The table that a part belongs to; null for one of another family. */
  private tableOf(body: JsonObject): TableParts | null {
    const family = textIn(body, 'family');
    if (!isFamily(family)) return null;
    const key = `${family} ${textIn(body, 'table')}`;
    const table = this.tables.get(key);
    if (table === undefined) throw new NftUnclear(`table ${key} is not there`);
    return table;
  }

  private addChain(table: TableParts, body: JsonObject, { source }: JsonContext): void {
    const name = textIn(body, 'name');
    const hook = body['hook'] === undefined ? null : textIn(body, 'hook');
    if (hook !== null && !isHook(hook)) {
      this.skipped.push(`chain ${name} of table ${table.family} ${table.name}`);
      this.skippedChains.add(`${table.family} ${table.name} ${name}`);
      return;
    }
    let base: NftBase | null = null;
    if (hook !== null) {
      const type = textIn(body, 'type');
      if (!isChainType(type)) throw new NftUnclear(`'${type}' is no type of a chain`);
      const policy = body['policy'] === undefined ? 'accept' : textIn(body, 'policy');
      if (policy !== 'accept' && policy !== 'drop') throw new NftUnclear(`'${policy}' is no policy`);
      base = { type, hook, priority: numberIn(body, 'prio'), policy };
    }
    const rules: NftRule[] = [];
    table.rules.set(name, rules);
    table.chains.push({ name, base, comment: commentOf(body), rules, sources: [source] });
  }

  private addRule(table: TableParts, body: JsonObject, context: JsonContext): void {
    const name = textIn(body, 'chain');
    if (this.skippedChains.has(`${table.family} ${table.name} ${name}`)) return;
    const rules = table.rules.get(name);
    if (rules === undefined) throw new NftUnclear(`chain ${name} is not there`);
    const expressions = body['expr'];
    if (!Array.isArray(expressions)) throw new NftUnclear("the rule has no list 'expr'");
    const statements: NftStatement[] = [];
    const { line, path } = context.source;
    for (let i = 0; i < expressions.length; i++) {
      try {
        statements.push(jsonStatement(expressions[i], context));
      } catch (error) {
        if (!(error instanceof NftUnclear)) throw error;
        const text = quoteJson(expressions[i]);
        statements.push({ kind: 'unknown', text });
        const { file } = this;
        this.notUnderstood.push({ file, line, path: `${path}.expr[${i}]`, text, message: error.message });
        break;
      }
    }
    const rule: NftRule = { statements, comment: commentOf(body), sources: [context.source], judgement: null };
    rules.push(rule);
    table.places.set(rule, { line, path });
  }

  private addSet(table: TableParts, body: JsonObject, context: JsonContext): void {
    const name = textIn(body, 'name');
    try {
      table.sets.push(readSet(name, body, context));
    } catch (error) {
      if (!(error instanceof NftUnclear)) throw error;
      table.unclearSets.add(name);
      const { line, path } = context.source;
      this.notUnderstood.push({ file: this.file, line, path, text: `set ${name}`, message: error.message });
    }
  }
}

function readSet(name: string, body: JsonObject, context: JsonContext): NftSet {
  const key = jsonTypes(body['type'], context);
  const { map } = body;
  const data = map === undefined ? null : map === 'verdict' ? 'verdict' : jsonTypes(map, context);
  const raw = body['elem'] === undefined ? [] : jsonElements(body['elem'], context);
  const flags = textsIn(body, 'flags').map((flag) => {
    if (!isSetFlag(flag)) throw new NftUnclear(`'${flag}' is no flag of a set`);
    return flag;
  });
  return {
    name,
    key,
    data,
    flags: flags.sort(),
    timeoutSeconds: body['timeout'] === undefined ? null : numberIn(body, 'timeout'),
    size: body['size'] === undefined ? null : numberIn(body, 'size'),
    autoMerge: body['auto-merge'] === true,
    comment: commentOf(body),
    elements: elementsOf(raw, key, data === 'verdict' ? null : data),
    sources: [context.source],
  };
}

function commentOf(body: JsonObject): string | null {
  return body['comment'] === undefined ? null : textIn(body, 'comment');
}

/** The line of each item of the list: where the objects at depth 3 open. Text that JSON.parse has accepted. */
function itemLines(text: string, count: number): number[] {
  const lines: number[] = [];
  let line = 1;
  let depth = 0;
  const token = /\n|[{}[\]]|"(?:[^"\\]|\\.)*"/g;
  for (let match = token.exec(text); match !== null && lines.length < count; match = token.exec(text)) {
    const [found] = match;
    if (found === '\n') line++;
    else if (found === '{' || found === '[') {
      depth++;
      if (depth === 3) lines.push(line);
    } else if (found === '}' || found === ']') depth--;
  }
  return lines;
}
