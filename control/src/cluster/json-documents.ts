/**
 * JSON text to plain documents: JSON.parse for the values (dumps are large and it is fast), and a scanner over the same
 * text for what it does not tell: keys that stand twice, and positions, which are looked for only when asked for.
 */

import { type SourcePlace, splitField } from '../model/origin.ts';
import { type DocumentProblem, MAX_DEPTH, type ReadDocuments } from './document.ts';
import { findJsonError } from './json-syntax.ts';
import type { SourceText } from './source-text.ts';

/** Reads a JSON text: one document. */
export function readJson(source: SourceText): ReadDocuments {
  const problems: DocumentProblem[] = [];
  const refuse = (offset: number, path: (string | number)[], message: string, value: unknown): void => {
    if (problems.length < 100) problems.push({ document: 1, offset, path, message, value });
  };
  if (source.text.trim() === '') return { documents: [], problems };
  let value: unknown;
  try {
    value = JSON.parse(source.text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const { offset, message } = findJsonError(source.text);
    refuse(offset, [], `is not JSON: ${message}`, undefined);
    return { documents: [], problems };
  }
  const tidy = new Tidy();
  const plain = tidy.read(value, 0);
  const root = skipSpace(source.text, 0);
  for (const { path, message } of tidy.problems) refuse(findOffset(source.text, root, path), path, message, value);
  // Values that JSON.parse overwrote are missing from the tree: only then is it worth looking for the key.
  if (problems.length === 0 && countKeys(source.text) !== tidy.keys) {
    for (const { offset, path } of findDuplicates(source.text))
      refuse(offset, path, 'stands twice in one object', value);
  }
  if (problems.length > 0 || plain === undefined) return { documents: [], problems };
  return {
    documents: [{ number: 1, value: plain, placeOf: (path) => new JsonPlace(source, path) }],
    problems,
  };
}

/** Takes nulls out and counts keys, in place. */
class Tidy {
  keys = 0;
  readonly problems: { path: (string | number)[]; message: string }[] = [];
  readonly #path: (string | number)[] = [];

  read(value: unknown, depth: number): unknown {
    if (value === null) return undefined;
    if (typeof value !== 'object') return value;
    if (depth >= MAX_DEPTH) {
      this.problems.push({ path: [...this.#path], message: `is nested deeper than ${MAX_DEPTH} levels` });
      return undefined;
    }
    return Array.isArray(value) ? this.#readList(value, depth) : this.#readObject(value, depth);
  }

  #readList(list: unknown[], depth: number): unknown[] {
    for (let i = 0; i < list.length; i++) {
      this.#path.push(i);
      // A null in a list keeps its place; the schema says what belongs there.
      list[i] = this.read(list[i], depth + 1) ?? null;
      this.#path.pop();
    }
    return list;
  }

  #readObject(object: object, depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    for (const [key, part] of Object.entries(object)) {
      this.keys++;
      this.#path.push(key);
      if (key === '__proto__') this.problems.push({ path: [...this.#path], message: 'is not allowed as a key' });
      else {
        const value = this.read(part, depth + 1);
        if (value !== undefined) result[key] = value;
      }
      this.#path.pop();
    }
    return result;
  }
}

/** Place of the object at a path; its offset is looked for once, when the first position is asked for. */
class JsonPlace implements SourcePlace {
  readonly document = 1;
  readonly #source: SourceText;
  readonly #path: readonly (string | number)[];
  #start = -1;

  constructor(source: SourceText, path: readonly (string | number)[]) {
    this.#source = source;
    this.#path = [...path];
  }

  get file(): string {
    return this.#source.file;
  }

  locate(field: string): { line: number; column: number } {
    const text = this.#source.text;
    if (this.#start < 0) this.#start = skipKey(text, findOffset(text, skipSpace(text, 0), this.#path));
    return this.#source.positionAt(findOffset(text, this.#start, splitField(field)));
  }
}

// The scanner below runs over text that JSON.parse has accepted, so it checks nothing.

/** Offset of the key (or list item) at the end of the path, or of the last one that exists. */
function findOffset(text: string, start: number, path: readonly (string | number)[]): number {
  let found = start;
  let at = start;
  for (const part of path) {
    const next = findChild(text, at, part);
    if (next < 0) break;
    found = next;
    at = skipKey(text, next);
  }
  return found;
}

/** Where `at` stands on a key, the offset of its value; else `at`. */
function skipKey(text: string, at: number): number {
  if (text[at] !== '"') return at;
  const end = skipSpace(text, skipString(text, at));
  return text[end] === ':' ? skipSpace(text, end + 1) : at;
}

function findChild(text: string, at: number, part: string | number): number {
  const open = text[at];
  if (open !== (typeof part === 'number' ? '[' : '{')) return -1;
  let index = 0;
  let next = skipSpace(text, at + 1);
  while (next < text.length && text[next] !== ']' && text[next] !== '}') {
    if (typeof part === 'number') {
      if (index === part) return next;
    } else if (readString(text, next) === part) return next;
    next = skipSpace(text, skipValue(text, skipKey(text, next)));
    if (text[next] === ',') next = skipSpace(text, next + 1);
    index++;
  }
  return -1;
}

function skipSpace(text: string, at: number): number {
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) break;
    at++;
  }
  return at;
}

/** Offset behind a string that begins at `at`. */
function skipString(text: string, at: number): number {
  let end = text.indexOf('"', at + 1);
  for (;;) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0 || end < 0) return end + 1;
    end = text.indexOf('"', end + 1);
  }
}

function readString(text: string, at: number): string {
  return String(JSON.parse(text.slice(at, skipString(text, at))));
}

function skipValue(text: string, at: number): number {
  let depth = 0;
  for (;;) {
    const char = text[at];
    if (char === '"') at = skipString(text, at);
    else if (char === '{' || char === '[') {
      depth++;
      at++;
    } else if (char === '}' || char === ']') {
      depth--;
      at++;
    } else if (char === undefined) return at;
    else {
      at++;
      if (depth > 0) continue;
      while (at < text.length && !',]} \n\r\t'.includes(text[at]!)) at++;
    }
    if (depth <= 0) return at;
  }
}

/** Colons outside strings: one for each key of the text. */
function countKeys(text: string): number {
  let keys = 0;
  for (let at = 0; at < text.length; ) {
    const code = text.charCodeAt(at);
    if (code === 0x22) {
      at = skipString(text, at);
      continue;
    }
    if (code === 0x3a) keys++;
    at++;
  }
  return keys;
}

function findDuplicates(text: string): { offset: number; path: (string | number)[] }[] {
  const found: { offset: number; path: (string | number)[] }[] = [];
  const visit = (at: number, path: (string | number)[]): number => {
    const open = text[at];
    if (open !== '{' && open !== '[') return skipValue(text, at);
    const keys = new Set<string>();
    let index = 0;
    let next = skipSpace(text, at + 1);
    while (text[next] !== '}' && text[next] !== ']') {
      let part: string | number = index++;
      if (open === '{') {
        part = readString(text, next);
        if (keys.has(part)) found.push({ offset: next, path: [...path, part] });
        keys.add(part);
      }
      next = skipSpace(text, visit(open === '{' ? skipKey(text, next) : next, [...path, part]));
      if (text[next] === ',') next = skipSpace(text, next + 1);
    }
    return next + 1;
  };
  visit(skipSpace(text, 0), []);
  return found;
}
