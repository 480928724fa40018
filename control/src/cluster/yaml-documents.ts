/**
 * YAML text to plain documents, by the `yaml` library's parser and our own walk over its nodes.
 *
 * Guarantees, beside those of document.ts: the text is parsed once; positions cost nothing until they are asked for, and
 * then only the asking object's own lines are parsed again; anchors, aliases and merge keys (`<<`) work, but all aliases
 * of a file together expand to at most MAX_EXPANDED values. Refused with a problem: alias bombs, keys that are no text,
 * nesting and token counts beyond the limits, anything that is not YAML.
 */

import {
  Composer,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  type Node,
  type Pair,
  type ParsedNode,
  Parser,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import type { SourcePlace } from '../model/origin.ts';
import { splitField } from '../model/origin.ts';
import { type DocumentProblem, type InputDocument, MAX_DEPTH, notePlainWord, type ReadDocuments } from './document.ts';
import type { SourceText } from './source-text.ts';

/** Values that the aliases of one file may expand to. A Helm chart's anchors need some hundreds. */
export const MAX_EXPANDED = 100_000;
/** Lexical tokens of one file; a dump of 64 MiB has about 12 million, and each costs some hundred bytes of memory. */
const MAX_TOKENS = 16_000_000;

const OPTIONS = {
  version: '1.2',
  schema: 'core',
  merge: true,
  prettyErrors: false,
  // Duplicates are found in our own walk: the library compares every key with every other.
  uniqueKeys: false,
  keepSourceTokens: false,
} as const;

/** Reads all documents of a YAML text. Empty documents count in the numbering but are left out. */
export function readYaml(source: SourceText): ReadDocuments {
  const documents: InputDocument[] = [];
  const problems: DocumentProblem[] = [];
  let number = 0;
  const budget = { expanded: 0 };
  try {
    for (const document of composeDocuments(source.text)) {
      number++;
      readDocument(document, number, source, budget, documents, problems);
    }
  } catch (error) {
    if (!(error instanceof TooMuch) && !(error instanceof RangeError)) throw error;
    const offset = error instanceof TooMuch ? error.offset : -1;
    const message = error instanceof TooMuch ? error.message : `is nested deeper than ${MAX_DEPTH} levels`;
    problems.push({ document: number + 1, offset, path: [], message, value: undefined });
  }
  return { documents, problems };
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
  for (const lexeme of new Lexer().lex(text)) {
    if (++tokens > MAX_TOKENS) throw new TooMuch(`has more than ${MAX_TOKENS} YAML tokens; write it as JSON`, -1);
    // A level of a collection is at most two entries of the parser's stack.
    if (parser.stack.length > 2 * MAX_DEPTH + 4) {
      throw new TooMuch(`is nested deeper than ${MAX_DEPTH} levels`, parser.offset);
    }
    for (const token of parser.next(lexeme)) yield* composer.next(token);
  }
  for (const token of parser.end()) yield* composer.next(token);
  yield* composer.end(false, text.length);
}

function readDocument(
  document: Document.Parsed,
  number: number,
  source: SourceText,
  budget: { expanded: number },
  documents: InputDocument[],
  problems: DocumentProblem[],
): void {
  const contents = document.contents;
  const walk = new Walk(budget);
  const value = contents === null ? undefined : walk.read(contents, undefined, 0);
  for (const error of document.errors) {
    const path = contents === null ? [] : pathAt(contents, error.pos[0]);
    const message = `is not YAML: ${error.message}`;
    problems.push({ document: number, offset: error.pos[0], path, message, value });
  }
  for (const { offset, path, message } of walk.problems) {
    problems.push({ document: number, offset, path, message, value });
  }
  if (document.errors.length > 0 || walk.problems.length > 0) return;
  if (contents === null || value === undefined) return;
  documents.push({
    number,
    value,
    placeOf: (path) => new YamlPlace(source, number, walk.nodeAt(contents, path)),
  });
}

/** Turns nodes into plain data, in the order of the text (an alias means the anchor last defined before it). */
class Walk {
  readonly problems: { offset: number; path: (string | number)[]; message: string }[] = [];
  readonly #budget: { expanded: number };
  readonly #anchors = new Map<string, Node>();
  readonly #open = new Set<Node>();
  readonly #path: (string | number)[] = [];
  #inAlias = 0;

  constructor(budget: { expanded: number }) {
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

  /** The node at a path, through aliases and merge keys; the nearest one around it where it does not exist. */
  nodeAt(root: ParsedNode, path: readonly (string | number)[]): ParsedNode {
    return findNode(root, path, (name) => this.#anchors.get(name));
  }

  #readAlias(name: string, offset: number, holder: object | undefined, depth: number): unknown {
    const target = this.#anchors.get(name);
    if (target === undefined) {
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

function offsetOf(node: unknown): number {
  if (isScalar(node) || isAlias(node) || isMap(node) || isSeq(node)) return node.range?.[0] ?? -1;
  return -1;
}

/** Follows a path through nodes as far as it exists. */
function findNode(
  root: ParsedNode,
  path: readonly (string | number)[],
  anchor: (name: string) => Node | undefined,
): ParsedNode {
  let node = root;
  for (const part of path) {
    const next = childOf(node, part, anchor);
    if (next === null) break;
    node = next;
  }
  return node;
}

function childOf(
  node: unknown,
  part: string | number,
  anchor: (name: string) => Node | undefined,
  depth = 0,
): ParsedNode | null {
  if (depth > MAX_DEPTH) return null;
  if (isAlias(node)) return childOf(anchor(node.source), part, anchor, depth + 1);
  if (isSeq(node)) return (typeof part === 'number' ? (node.items[part] as ParsedNode | undefined) : undefined) ?? null;
  if (!isMap(node)) return null;
  let merged: ParsedNode | null = null;
  for (const pair of node.items) {
    if (!isScalar(pair.key)) continue;
    if (String(pair.key.value) === part) return (pair.value as ParsedNode | null) ?? (pair.key as ParsedNode);
    if (pair.key.value === '<<') {
      const bases = isSeq(pair.value) ? pair.value.items : [pair.value];
      for (const base of bases) merged ??= childOf(base, part, anchor, depth + 1);
    }
  }
  return merged;
}

/** Path of the innermost part of a document that covers an offset. */
function pathAt(root: ParsedNode, offset: number): (string | number)[] {
  const path: (string | number)[] = [];
  let node: unknown = root;
  while (path.length < MAX_DEPTH) {
    let step: string | number | undefined;
    let next: unknown;
    if (isSeq(node)) {
      for (let i = 0; i < node.items.length; i++) {
        if (offsetOf(node.items[i]) > offset) break;
        step = i;
        next = node.items[i];
      }
    } else if (isMap(node)) {
      for (const pair of node.items) {
        if (offsetOf(pair.key) > offset) break;
        step = isScalar(pair.key) ? String(pair.key.value) : undefined;
        next = pair.value;
      }
    }
    if (step === undefined) break;
    path.push(step);
    node = next;
  }
  return path;
}

/**
 * Place of one object. It keeps only where the object's text begins and ends; that text alone is parsed again when a
 * field's line is asked for.
 */
class YamlPlace implements SourcePlace {
  readonly document: number;
  readonly #source: SourceText;
  readonly #start: number;
  readonly #end: number;
  #parsed: ParsedNode | null | undefined;

  constructor(source: SourceText, document: number, node: ParsedNode) {
    this.document = document;
    this.#source = source;
    this.#start = node.range[0];
    this.#end = node.range[1];
  }

  get file(): string {
    return this.#source.file;
  }

  locate(field: string): { line: number; column: number } {
    const start = this.#source.positionAt(this.#start);
    if (field === '') return start;
    // The first line's indentation is put back, so that the slice means what it meant in the file.
    const indent = start.column - 1;
    this.#parsed ??= parseDocument(' '.repeat(indent) + this.#source.text.slice(this.#start, this.#end), OPTIONS)
      .contents as ParsedNode | null;
    if (this.#parsed === null) return start;
    const offset = this.#findKey(this.#parsed, splitField(field));
    return offset < 0 ? start : this.#source.positionAt(this.#start + offset - indent);
  }

  /** Offset of the last key of the path that exists (a list's item counts as a key), or -1. */
  #findKey(root: ParsedNode, path: readonly (string | number)[]): number {
    const anchors = new Map<string, Node>();
    collectAnchors(root, anchors);
    let node: ParsedNode = root;
    let offset = -1;
    for (const part of path) {
      const next = childOf(node, part, (name) => anchors.get(name));
      if (next === null) break;
      offset = keyOffset(node, part) ?? offsetOf(next);
      node = next;
    }
    return offset;
  }
}

function keyOffset(node: unknown, part: string | number): number | null {
  if (!isMap(node)) return null;
  for (const pair of node.items) {
    if (isScalar(pair.key) && String(pair.key.value) === part) return offsetOf(pair.key);
  }
  return null;
}

function collectAnchors(node: unknown, anchors: Map<string, Node>): void {
  if (!isScalar(node) && !isMap(node) && !isSeq(node)) return;
  if (node.anchor !== undefined) anchors.set(node.anchor, node);
  if (isSeq(node)) for (const item of node.items) collectAnchors(item, anchors);
  if (isMap(node)) for (const pair of node.items) collectAnchors(pair.value, anchors);
}
