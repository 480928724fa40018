/**
 * Places in YAML text: from a path to an offset, and from an offset to a path.
 */

import { isAlias, isMap, isScalar, isSeq, type Node, type ParsedNode, parseDocument } from 'yaml';
import { type SourcePlace, splitField } from '../model/origin.ts';
import { MAX_DEPTH } from './document.ts';
import type { SourceText } from './source-text.ts';

/** How every YAML text is parsed here. */
export const OPTIONS = {
  version: '1.2',
  schema: 'core',
  merge: true,
  prettyErrors: false,
  // Duplicates are found in our own walk: the library compares every key with every other.
  uniqueKeys: false,
  keepSourceTokens: false,
} as const;

/** Offset of a node in the parsed text, -1 for none. */
export function offsetOf(node: unknown): number {
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
export function pathAt(root: ParsedNode, offset: number): (string | number)[] {
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
export class YamlPlace implements SourcePlace {
  readonly document: number;
  readonly #source: SourceText;
  readonly #start: number;
  readonly #end: number;
  #parsed: ParsedNode | null | undefined;

  constructor(source: SourceText, document: number, start: number, end: number) {
    this.document = document;
    this.#source = source;
    this.#start = start;
    this.#end = end;
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

/**
 * One document's text. Its nodes are parsed again when a part of it is asked for, such as an object in a list; the whole
 * document's place costs nothing.
 */
export class DocumentText {
  readonly #source: SourceText;
  readonly #number: number;
  readonly #first: number;
  readonly #last: number;
  readonly #start: number;
  readonly #anchors = new Map<string, Node>();
  #parsed: ParsedNode | null | undefined;

  /** `first` and `last` bound the contents, `start` is where the document's text begins, with its dashes. */
  constructor(source: SourceText, number: number, first: number, last: number, start: number) {
    this.#source = source;
    this.#number = number;
    this.#first = first;
    this.#last = last;
    this.#start = start;
  }

  /** The place of the part at `path`, or of the nearest one around it that exists. */
  placeOf(path: readonly (string | number)[]): YamlPlace {
    if (path.length === 0) return new YamlPlace(this.#source, this.#number, this.#first, this.#last);
    if (this.#parsed === undefined) {
      const text = this.#source.text.slice(this.#start, this.#last);
      this.#parsed = parseDocument(text, OPTIONS).contents as ParsedNode | null;
      collectAnchors(this.#parsed, this.#anchors);
    }
    if (this.#parsed === null) return new YamlPlace(this.#source, this.#number, this.#first, this.#last);
    const [first, last] = findNode(this.#parsed, path, (name) => this.#anchors.get(name)).range;
    return new YamlPlace(this.#source, this.#number, this.#start + first, this.#start + last);
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
