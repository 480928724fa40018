/**
 * YAML text to plain documents: what is plain by our own quick reader, the rest by the `yaml` library's parser and our own
 * walk over its nodes.
 *
 * Guarantees, beside those of document.ts: nothing of a parse is kept; positions cost nothing until they are asked for,
 * and then only the asking object's own lines are parsed again; anchors, aliases and merge keys (`<<`) work, but all aliases
 * of a file together expand to at most MAX_EXPANDED values. Refused with a problem: alias bombs, keys that are no text,
 * nesting and token counts beyond the limits, anything that is not YAML.
 */

import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  type Node,
  type Pair,
  Parser,
  type YAMLMap,
} from 'yaml';
import type { SourcePlace } from '../model/origin.ts';
import { type DocumentProblem, type InputDocument, MAX_DEPTH, notePlainWord, type ReadDocuments } from './document.ts';
import { SourceText } from './source-text.ts';
import { type ListText, splitList } from './yaml-list.ts';
import { DocumentText, OPTIONS, offsetOf, pathAt, YamlPlace } from './yaml-place.ts';
import { readPlain } from './yaml-plain.ts';

/** Values that the aliases of one file may expand to. A Helm chart's anchors need some hundreds. */
export const MAX_EXPANDED = 100_000;
/**
 * Lexical tokens of one document, or of one item of a `kind: List`. Each costs some 600 bytes until its document has
 * been read, so this is about 1 GB; a document of so many tokens is larger than 5 MiB.
 */
const MAX_TOKENS = 2_000_000;

/** Reads all documents of a YAML text. Empty documents count in the numbering but are left out. */
export function readYaml(source: SourceText): ReadDocuments {
  const budget = { expanded: 0 };
  const list = splitList(source.text);
  return (list === null ? null : readList(source, list, budget)) ?? readAll(source, budget);
}

interface Budget {
  expanded: number;
}

/** Document by document: each by the quick reader if it is plain, else by the library. */
function readAll(source: SourceText, budget: Budget): ReadDocuments {
  const { text } = source;
  const documents: InputDocument[] = [];
  const problems: DocumentProblem[] = [];
  let number = 0;
  for (const { start, body, end } of splitDocuments(text)) {
    // Behind the dashes only a comment may stand where the document is plain.
    const plain = body === start || /^ *(#.*)?$/.test(lineAt(text, body)) ? readPlain(text, body, end) : null;
    if (plain !== null) {
      const place = ++number;
      const part = new DocumentText(source, place, plain.start, end, start);
      documents.push({ number: place, value: plain.value, placeOf: (path) => part.placeOf(path) });
      continue;
    }
    const broken = forEachDocument(text.slice(start, end), (document) => {
      number++;
      const read = readDocument(document, budget);
      for (const problem of read.problems) {
        const offset = problem.offset < 0 ? -1 : problem.offset + start;
        problems.push({ ...problem, offset, document: number, value: read.value });
      }
      if (read.problems.length > 0 || read.value === undefined || document.contents === null) return;
      const [first, last] = document.contents.range;
      const part = new DocumentText(source, number, start + first, start + last, start);
      documents.push({ number, value: read.value, placeOf: (path) => part.placeOf(path) });
    });
    if (broken === null) continue;
    const offset = broken.offset < 0 ? -1 : broken.offset + start;
    problems.push({ ...broken, offset, document: number + 1, path: [], value: undefined });
    break;
  }
  return { documents, problems };
}

/**
 * Cuts a text where `---` stands at the margin, which begins a document whatever stands around it. A text with
 * directives or `...` is not cut. `body` is the offset behind the dashes.
 */
function* splitDocuments(text: string): Generator<{ start: number; body: number; end: number }> {
  let start = 0;
  let body = 0;
  if (!/^(?:%|\.\.\.|\ufeff)/m.test(text)) {
    for (const { index } of text.matchAll(/^---(?=[ \t\r\n]|$)/gm)) {
      // What stands before the first dashes is a document if it is more than comments.
      if (body > 0 || /^[ \t]*[^ \t\r\n#]/m.test(text.slice(0, index))) yield { start, body, end: index };
      start = index;
      body = index + 3;
    }
  }
  yield { start, body, end: text.length };
}

function lineAt(text: string, at: number): string {
  const end = text.indexOf('\n', at);
  return text.slice(at, end < 0 ? text.length : end);
}

/**
 * Reads a `kind: List` item by item, so that a dump of a whole cluster never stands in memory as a tree of nodes.
 * Answers null where the items cannot be read apart: an alias may mean an anchor in another item.
 */
function readList(source: SourceText, list: ListText, budget: Budget): ReadDocuments | null {
  const head = readAll(new SourceText(source.file, list.around), { expanded: 0 });
  const value = head.documents[0]?.value;
  if (head.problems.length > 0 || typeof value !== 'object' || value === null) return null;
  const items: unknown[] = [];
  const ranges: { start: number; end: number }[] = [];
  const problems: DocumentProblem[] = [];
  for (const { start, end } of list.items) {
    const path = ['items', items.length];
    const plain = readPlain(source.text, start, end);
    if (plain !== null && Array.isArray(plain.value) && plain.value.length === 1) {
      const dash = /^- */.exec(source.text.slice(start, start + 80));
      ranges.push({ start: start + (dash?.[0].length ?? 0), end });
      items.push(plain.value[0]);
      continue;
    }
    let isSplit = true;
    const broken = forEachDocument(source.text.slice(start, end), (document) => {
      const read = readDocument(document, budget);
      const item = isSeq(document.contents) ? document.contents.items[0] : undefined;
      isSplit &&= isSeq(document.contents) && document.contents.items.length === 1 && !read.walk.missesAnchor;
      const range = isScalar(item) || isMap(item) || isSeq(item) || isAlias(item) ? item.range : undefined;
      ranges.push({ start: start + (range?.[0] ?? 0), end: start + (range?.[1] ?? 0) });
      items.push(Array.isArray(read.value) ? read.value[0] : undefined);
      for (const problem of read.problems) {
        const offset = problem.offset < 0 ? -1 : problem.offset + start;
        problems.push({
          ...problem,
          offset,
          path: [...path, ...problem.path.slice(1)],
          document: 1,
          value: { ...value, items },
        });
      }
    });
    if (broken !== null) {
      const offset = broken.offset < 0 ? start : broken.offset + start;
      problems.push({ ...broken, offset, path, document: 1, value: undefined });
      break;
    }
    if (!isSplit || items.length !== ranges.length || items.length !== Number(path[1]) + 1) return null;
  }
  if (problems.length > 0) return { documents: [], problems };
  const placeOf = (path: readonly (string | number)[]): SourcePlace => {
    const range = path[0] === 'items' && typeof path[1] === 'number' ? ranges[path[1]] : undefined;
    return new YamlPlace(source, 1, range?.start ?? 0, range?.end ?? source.text.length);
  };
  return { documents: [{ number: 1, value: { ...value, items }, placeOf }], problems };
}

/** Calls `use` for every document; answers what stopped the reading, if anything did. */
function forEachDocument(
  text: string,
  use: (document: Document.Parsed) => void,
): { offset: number; message: string } | null {
  try {
    for (const document of composeDocuments(text)) use(document);
    return null;
  } catch (error) {
    if (error instanceof TooMuch) return { offset: error.offset, message: error.message };
    if (error instanceof RangeError) return { offset: -1, message: `is nested deeper than ${MAX_DEPTH} levels` };
    throw error;
  }
}

/** The text is larger or deeper than any honest manifest. */
class TooMuch extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

/** Lexer, parser and composer one behind the other, so that limits hold before memory is spent. */
function* composeDocuments(text: string): Generator<Document.Parsed> {
  const parser = new Parser();
  const composer = new Composer(OPTIONS);
  let tokens = 0;
  const next = function* (token: CST.Token): Generator<Document.Parsed> {
    for (const document of composer.next(token)) {
      tokens = 0;
      yield document;
    }
  };
  for (const lexeme of new Lexer().lex(text)) {
    if (++tokens > MAX_TOKENS)
      throw new TooMuch(
        `is one document of more than ${MAX_TOKENS} YAML tokens; write it as JSON, or as several documents`,
        -1,
      );
    // A level of a collection is at most two entries of the parser's stack.
    if (parser.stack.length > 2 * MAX_DEPTH + 4) {
      throw new TooMuch(`is nested deeper than ${MAX_DEPTH} levels`, parser.offset);
    }
    for (const token of parser.next(lexeme)) yield* next(token);
  }
  for (const token of parser.end()) yield* next(token);
  yield* composer.end(false, text.length);
}

interface ReadDocument {
  readonly value: unknown;
  readonly walk: Walk;
  readonly problems: readonly {
    readonly offset: number;
    readonly path: (string | number)[];
    readonly message: string;
  }[];
}

function readDocument(document: Document.Parsed, budget: Budget): ReadDocument {
  const { contents } = document;
  const walk = new Walk(budget);
  const value = contents === null ? undefined : walk.read(contents, undefined, 0);
  const syntax = document.errors.map(({ pos, message }) => ({
    offset: pos[0],
    path: contents === null ? [] : pathAt(contents, pos[0]),
    message: `is not YAML: ${message}`,
  }));
  return { value, walk, problems: [...syntax, ...walk.problems] };
}

/** Turns nodes into plain data, in the order of the text (an alias means the anchor last defined before it). */
class Walk {
  readonly problems: { offset: number; path: (string | number)[]; message: string }[] = [];
  /** An alias had no anchor before it. */
  missesAnchor = false;
  readonly #budget: Budget;
  readonly #anchors = new Map<string, Node>();
  readonly #open = new Set<Node>();
  readonly #path: (string | number)[] = [];
  #inAlias = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** The node's value; undefined for null and for what is refused. `holder` will hold it under the path's last key. */
  read(node: unknown, holder: object | undefined, depth: number): unknown {
    if (isAlias(node)) return this.#readAlias(node.source, offsetOf(node), holder, depth);
    if (this.#inAlias > 0 && ++this.#budget.expanded > MAX_EXPANDED) {
      if (this.#budget.expanded === MAX_EXPANDED + 1) {
        this.#refuse(offsetOf(node), `its aliases expand to more than ${MAX_EXPANDED} values`);
      }
      return undefined;
    }
    if (isScalar(node)) {
      if (node.anchor !== undefined) this.#anchors.set(node.anchor, node);
      return this.#readScalar(node.value, node.type === 'PLAIN', holder);
    }
    if (!isMap(node) && !isSeq(node)) return undefined;
    if (depth >= MAX_DEPTH) {
      this.#refuse(offsetOf(node), `is nested deeper than ${MAX_DEPTH} levels`);
      return undefined;
    }
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node);
    this.#open.add(node);
    const value = isMap(node) ? this.#readMap(node, depth) : this.#readSeq(node.items, depth);
    this.#open.delete(node);
    return value;
  }

  #readAlias(name: string, offset: number, holder: object | undefined, depth: number): unknown {
    const target = this.#anchors.get(name);
    if (target === undefined) {
      this.missesAnchor = true;
      this.#refuse(offset, `is not YAML: the alias *${name} has no anchor before it`);
      return undefined;
    }
    if (this.#open.has(target)) {
      this.#refuse(offset, `the alias *${name} stands inside its own anchor`);
      return undefined;
    }
    this.#inAlias++;
    const value = this.read(target, holder, depth);
    this.#inAlias--;
    return value;
  }

  #readScalar(value: unknown, plain: boolean, holder: object | undefined): unknown {
    if (value === null) return undefined;
    if (plain && typeof value === 'string' && value.length <= 3 && holder !== undefined) {
      const meant = wordAsBoolean(value);
      if (meant !== null) {
        notePlainWord(holder, this.#path[this.#path.length - 1]!, value);
        return meant;
      }
    }
    return value;
  }

  #readMap(map: YAMLMap, depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const seen = new Set<string>();
    const merges: Pair[] = [];
    for (const pair of map.items) {
      const key = this.#readKey(pair);
      if (key === null) continue;
      if (key === '<<' && isScalar(pair.key) && pair.key.type === 'PLAIN') {
        merges.push(pair);
        continue;
      }
      this.#path.push(key);
      if (key === '__proto__') this.#refuse(offsetOf(pair.key), 'is not allowed as a key');
      else if (seen.has(key)) this.#refuse(offsetOf(pair.key), 'stands twice in one object');
      else {
        seen.add(key);
        const value = this.read(pair.value, result, depth + 1);
        if (value !== undefined) result[key] = value;
      }
      this.#path.pop();
    }
    for (const merge of merges) this.#readMerge(merge, result, seen, depth);
    return result;
  }

  #readKey(pair: Pair): string | null {
    let key: unknown = pair.key;
    if (isAlias(key)) key = this.#anchors.get(key.source);
    if (key === null) return '';
    if (!isScalar(key)) {
      this.#refuse(offsetOf(pair.key), 'a key is a list or an object; keys are text');
      return null;
    }
    if (key.anchor !== undefined) this.#anchors.set(key.anchor, key);
    return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value));
  }

  /** `<<: *base` or `<<: [*a, *b]`: own keys win, then earlier maps. */
  #readMerge(merge: Pair, result: Record<string, unknown>, seen: Set<string>, depth: number): void {
    const value = this.read(merge.value, undefined, depth);
    for (const base of Array.isArray(value) ? value : [value]) {
      if (typeof base !== 'object' || base === null || Array.isArray(base)) {
        if (base !== undefined)
          this.#refuse(offsetOf(merge.key), 'a merge key (<<) takes an object or a list of objects');
        continue;
      }
      for (const [key, part] of Object.entries(base)) {
        if (seen.has(key)) continue;
        seen.add(key);
        result[key] = part;
      }
    }
  }

  #readSeq(items: readonly unknown[], depth: number): unknown[] {
    const result: unknown[] = [];
    for (let i = 0; i < items.length; i++) {
      this.#path.push(i);
      // A null in a list keeps its place; the schema says what belongs there.
      result.push(this.read(items[i], result, depth + 1) ?? null);
      this.#path.pop();
    }
    return result;
  }

  #refuse(offset: number, message: string): void {
    if (this.problems.length < 100) this.problems.push({ offset, path: [...this.#path], message });
  }
}

function wordAsBoolean(word: string): boolean | null {
  switch (word) {
    case 'y':
    case 'Y':
    case 'yes':
    case 'Yes':
    case 'YES':
    case 'on':
    case 'On':
    case 'ON':
      return true;
    case 'n':
    case 'N':
    case 'no':
    case 'No':
    case 'NO':
    case 'off':
    case 'Off':
    case 'OFF':
      return false;
    default:
      return null;
  }
}
