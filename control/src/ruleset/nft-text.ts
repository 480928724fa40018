/**
 * Reads what `nft list ruleset` prints (nft 1.0), and what `render --as nft` prints, into a ruleset.
 *
 * Understood: tables of the families ip, ip6 and inet with their chains, sets and maps; objects that rules only count
 * with (counters, quotas, limits, helpers, flowtables) are read over. Tables of other families, chains of other hooks and
 * dormant tables are named and skipped: no packet of a cluster meets them. A rule or set that is not understood is named
 * with its line. Text that is no list of tables is an `InputError` with every place that does not fit.
 */

import { InputError, type Problem } from '../cluster/problem.ts';
import type {
  NftBase,
  NftChain,
  NftChainType,
  NftDatatype,
  NftElement,
  NftFamily,
  NftRule,
  NftSet,
  NftSetFlag,
  NftTable,
} from '../compile/nft-ruleset.ts';
import { durationOf, elementsOf } from './nft-build.ts';
import { NftCursor } from './nft-cursor.ts';
import { finishTable, isFamily, isHook, isTranslated, type ParsedNft, type RulePlace } from './nft-parsed.ts';
import { readElements, readTypeof, type TextContext } from './nft-text-expression.ts';
import { readTextRule } from './nft-text-rule.ts';
import { type Token, tokenize } from './nft-tokens.ts';
import { NftUnclear, setDatatype } from './nft-values.ts';
import { dumpError, type NotUnderstood } from './not-understood.ts';

/**
 * Reads a dump.
 * @param file its name, for messages and origins
 * @throws InputError with all errors if the text is no list of tables
 */
export function parseNftText(file: string, text: string): ParsedNft {
  return new NftTextReader(file, text).read();
}

/** Priorities that have names; `dstnat + 10` is one of them and a number. */
const PRIORITIES: Readonly<Record<string, number>> = {
  raw: -300,
  mangle: -150,
  dstnat: -100,
  filter: 0,
  security: 50,
  srcnat: 100,
};

/** Blocks of a table that rules use by name and that decide nothing here. */
const OBJECTS = new Set(['counter', 'quota', 'limit', 'ct', 'flowtable', 'synproxy', 'secmark', 'tunnel']);

class NftTextReader {
  private readonly file: string;
  private readonly text: string;
  private readonly tokens: readonly Token[];
  /** Position of the closing brace of each opening one. */
  private readonly closing: ReadonlyMap<number, number>;
  private readonly cursor: NftCursor;
  private readonly errors: Problem[] = [];
  private readonly notUnderstood: NotUnderstood[] = [];
  private readonly skipped: string[] = [];

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
    this.tokens = tokenize(text);
    this.closing = this.matchBraces();
    this.cursor = new NftCursor(this.tokens, 0, this.tokens.length - 1);
  }

  read(): ParsedNft {
    const tables: NftTable[] = [];
    const { cursor } = this;
    if (this.errors.length === 0) {
      for (this.skipEnds(); !cursor.isDone; this.skipEnds()) {
        const table = this.attempt(() => this.readTable());
        if (table === undefined) break;
        if (table === null) continue;
        if (tables.some(({ family, name }) => family === table.family && name === table.name)) {
          this.error(cursor.previous.line, `table ${table.family} ${table.name} is there twice`);
        }
        tables.push(table);
      }
    }
    if (this.errors.length > 0) throw new InputError(this.errors);
    const translated = tables.filter(isTranslated).map(({ family, name }) => `${family} ${name}`);
    return { ruleset: { tables }, notUnderstood: this.notUnderstood, skipped: this.skipped, translated };
  }

  private matchBraces(): Map<number, number> {
    const closing = new Map<number, number>();
    const open: number[] = [];
    this.tokens.forEach(({ kind, text, line }, i) => {
      if (kind !== 'mark') return;
      if (text === '{') open.push(i);
      if (text !== '}') return;
      const at = open.pop();
      if (at === undefined) this.error(line, "'}' closes nothing");
      else closing.set(at, i);
    });
    for (const at of open) this.error(this.tokens[at]!.line, "'{' is never closed");
    return closing;
  }

  private error(line: number, message: string): void {
    this.errors.push(dumpError(this.file, line, message));
  }

  /** Runs a reader; what does not fit is an error of the dump at the line where it stopped, and `undefined`. */
  private attempt<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof NftUnclear)) throw error;
      this.error(this.cursor.token.line, error.message);
      return undefined;
    }
  }

  private skipEnds(): void {
    while (!this.cursor.isDone && (this.cursor.token.kind === 'end' || this.cursor.peek() === ';')) this.cursor.at++;
  }

  /** Enters a block and answers where it closes. */
  private openBlock(): number {
    const at = this.cursor.at;
    this.cursor.expect('{');
    return this.closing.get(at)!;
  }

  /** Null: a table that is skipped. */
  private readTable(): NftTable | null {
    const { cursor } = this;
    if (!cursor.take('table')) {
      throw new NftUnclear(`'${cursor.token.text}' begins no table; expected is what 'nft list ruleset' prints`);
    }
    const family = cursor.word('the family of the table');
    // `table filter { … }` is of family ip.
    const isShort = cursor.peek() === '{';
    const name = isShort ? family : cursor.word('the name of the table');
    const stop = this.openBlock();
    const known = isShort ? 'ip' : family;
    if (!isFamily(known)) {
      this.skipped.push(`table ${family} ${name}`);
      cursor.at = stop + 1;
      return null;
    }
    const table = new TableReader(this.file, known, name);
    for (this.skipEnds(); cursor.at < stop; this.skipEnds()) {
      const begun = cursor.at;
      if (this.attempt(() => this.readPart(table)) === undefined) this.leaveLine(begun, stop);
    }
    cursor.at = stop + 1;
    if (table.isDormant) {
      this.skipped.push(`table ${known} ${name} (dormant)`);
      return null;
    }
    return finishTable(table, this.notUnderstood);
  }

  /** Past the line, or the block that begins in it. */
  private leaveLine(begun: number, stop: number): void {
    const { cursor } = this;
    cursor.at = begun;
    while (cursor.at < stop && cursor.token.kind !== 'end') {
      cursor.at = (this.closing.get(cursor.at) ?? cursor.at) + 1;
    }
  }

  private readPart(table: TableReader): true {
    const { cursor } = this;
    const begun = cursor.at;
    const word = cursor.word('a part of the table');
    if (word === 'comment') table.comment = cursor.word('a comment');
    else if (word === 'flags') {
      do {
        if (cursor.word('a flag') === 'dormant') table.isDormant = true;
      } while (cursor.take(','));
    } else if (word === 'chain') this.readChain(table);
    else if (word === 'set' || word === 'map') this.readSet(table, word === 'map');
    else if (OBJECTS.has(word)) this.leaveLine(begun, this.tokens.length - 1);
    else {
      cursor.at = begun;
      throw new NftUnclear(`'${word}' is no part of a table`);
    }
    return true;
  }

  // ---- chains -------------------------------------------------------------------------------------------------

  private readChain(table: TableReader): void {
    const { cursor } = this;
    const { line } = cursor.token;
    const name = cursor.word('the name of the chain');
    const stop = this.openBlock();
    const rules: NftRule[] = [];
    let comment: string | null = null;
    const header: { base: NftBase | null; isSkipped: boolean } = { base: null, isSkipped: false };
    for (this.skipEnds(); cursor.at < stop; this.skipEnds()) {
      if (cursor.peek() === 'type') {
        header.base = this.readBase();
        header.isSkipped = header.base === null;
      } else if (cursor.peek() === 'policy') {
        cursor.at++;
        const policy = cursor.word('a policy');
        if (policy !== 'accept' && policy !== 'drop') throw new NftUnclear(`'${policy}' is no policy`);
        if (header.base !== null) header.base = { ...header.base, policy };
      } else if (cursor.peek() === 'comment') {
        cursor.at++;
        comment = cursor.word('a comment');
      } else if (cursor.peek() === 'devices' || cursor.peek() === 'flags') this.leaveLine(cursor.at, stop);
      else this.readRule(table, rules, stop);
    }
    cursor.at = stop + 1;
    if (header.isSkipped) this.skipped.push(`chain ${name} of table ${table.family} ${table.name}`);
    else table.chains.push({ name, base: header.base, comment, rules, sources: [{ file: this.file, line }] });
  }

  /** `type filter hook input priority filter + 10`; null for a hook that packets of a cluster do not meet. */
  private readBase(): NftBase | null {
    const { cursor } = this;
    cursor.expect('type');
    const type = cursor.word('the type of the chain');
    cursor.expect('hook');
    const hook = cursor.word('a hook');
    if (cursor.take('device')) cursor.word('a device');
    cursor.expect('priority');
    const priority = this.readPriority();
    if (!isHook(hook)) return null;
    if (!isChainType(type)) throw new NftUnclear(`'${type}' is no type of a chain`);
    return { type, hook, priority, policy: 'accept' };
  }

  private readPriority(): number {
    const { cursor } = this;
    const word = cursor.word('a priority');
    const isName = Object.hasOwn(PRIORITIES, word);
    if (!isName && !/^-?\d{1,10}$/.test(word)) throw new NftUnclear(`'${word}' is no priority`);
    if (!isName) return Number(word);
    const sign = cursor.take('+') ? 1 : cursor.take('-') ? -1 : 0;
    return PRIORITIES[word]! + (sign === 0 ? 0 : sign * cursor.number('a number'));
  }

  private readRule(table: TableReader, rules: NftRule[], chainStop: number): void {
    const { cursor } = this;
    const from = cursor.at;
    while (cursor.at < chainStop && cursor.token.kind !== 'end' && cursor.peek() !== ';') {
      cursor.at = (this.closing.get(cursor.at) ?? cursor.at) + 1;
    }
    const { rule, unclear } = readTextRule(this.text, this.tokens, from, cursor.at, table.context);
    const { line } = this.tokens[from]!;
    rules.push(rule);
    table.places.set(rule, { line, path: '' });
    if (unclear !== null) this.notUnderstood.push({ file: this.file, line, path: '', ...unclear });
  }

  // ---- sets ---------------------------------------------------------------------------------------------------

  private readSet(table: TableReader, isMap: boolean): void {
    const { cursor } = this;
    const { line } = cursor.token;
    const name = cursor.word('the name of the set');
    const stop = this.openBlock();
    try {
      table.sets.push(this.readSetBody(table, name, isMap, line, stop));
    } catch (error) {
      if (!(error instanceof NftUnclear)) throw error;
      table.unclearSets.add(name);
      const at = Math.min(cursor.token.line, this.tokens[stop]!.line);
      const text = `${isMap ? 'map' : 'set'} ${name}`;
      this.notUnderstood.push({ file: this.file, line: at, path: '', text, message: error.message });
    }
    cursor.at = stop + 1;
  }

  private readSetBody(table: TableReader, name: string, isMap: boolean, line: number, stop: number): NftSet {
    const { cursor } = this;
    let types: SetTypes | null = null;
    let flags: NftSetFlag[] = [];
    let timeoutSeconds: number | null = null;
    let size: number | null = null;
    let comment: string | null = null;
    let autoMerge = false;
    let elements: NftElement[] = [];
    for (this.skipEnds(); cursor.at < stop; this.skipEnds()) {
      const word = cursor.word('a property of the set');
      switch (word) {
        case 'type':
        case 'typeof':
          types = this.readTypes(table.context, word === 'typeof', isMap);
          break;
        case 'flags':
          flags = this.readSetFlags();
          break;
        case 'timeout':
          timeoutSeconds = durationOf(cursor.word('a timeout'));
          break;
        case 'size':
          size = cursor.number('a size');
          break;
        case 'comment':
          comment = cursor.word('a comment');
          break;
        case 'auto-merge':
          autoMerge = true;
          break;
        case 'elements': {
          cursor.expect('=');
          cursor.expect('{');
          if (types === null) throw new NftUnclear('the elements come before the type');
          const raw = readElements(cursor, table.context, !isMap);
          elements = elementsOf(raw, types.key, types.data === 'verdict' ? null : types.data);
          break;
        }
        // How often the kernel looks for dead elements, what it would rather save, what it counts.
        case 'gc-interval':
        case 'policy':
          cursor.word('a value');
          break;
        case 'counter':
          break;
        default:
          throw new NftUnclear(`flatpath does not know the property '${word}' of a set`);
      }
    }
    if (types === null) throw new NftUnclear('the set has no type');
    const sources = [{ file: this.file, line }];
    return { name, ...types, flags, timeoutSeconds, size, autoMerge, comment, elements, sources };
  }

  private readTypes(context: TextContext, isTypeof: boolean, isMap: boolean): SetTypes {
    const { cursor } = this;
    const read = (): readonly NftDatatype[] => {
      if (isTypeof) return readTypeof(cursor, context);
      const types = [setDatatype(cursor.word('a type'))];
      while (cursor.take('.')) types.push(setDatatype(cursor.word('a type')));
      return types;
    };
    const key = read();
    if (!isMap) return { key, data: null };
    cursor.expect(':');
    if (cursor.take('verdict')) return { key, data: 'verdict' };
    cursor.take('interval');
    return { key, data: read() };
  }

  private readSetFlags(): NftSetFlag[] {
    const { cursor } = this;
    const flags: NftSetFlag[] = [];
    do {
      const flag = cursor.word('a flag');
      if (!isSetFlag(flag)) throw new NftUnclear(`'${flag}' is no flag of a set`);
      flags.push(flag);
    } while (cursor.take(','));
    return flags.sort();
  }
}

interface SetTypes {
  readonly key: readonly NftDatatype[];
  readonly data: 'verdict' | readonly NftDatatype[] | null;
}

/** The parts of the table that is being read. */
class TableReader {
  readonly file: string;
  readonly family: NftFamily;
  readonly name: string;
  readonly context: TextContext;
  readonly sets: NftSet[] = [];
  readonly chains: NftChain[] = [];
  readonly unclearSets = new Set<string>();
  readonly places = new Map<NftRule, RulePlace>();
  comment: string | null = null;
  isDormant = false;

  constructor(file: string, family: NftFamily, name: string) {
    this.file = file;
    this.family = family;
    this.name = name;
    this.context = { file, family };
  }
}

export function isChainType(type: string): type is NftChainType {
  return type === 'filter' || type === 'nat' || type === 'route';
}

export function isSetFlag(flag: string): flag is NftSetFlag {
  return flag === 'constant' || flag === 'interval' || flag === 'dynamic' || flag === 'timeout';
}
