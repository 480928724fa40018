/**
 * The YAML that most manifests are written in, read without a parser's tree: block maps and lists, scalars on one line,
 * flow collections on one line, comments. It is some twenty times as fast as a complete parser.
 *
 * Guarantees: where it answers a value, the complete reader (yaml-documents.ts) answers the same one and no problem; a test
 * holds it to that. Where anything else stands in the text (anchors, tags, block scalars, tabs, words that YAML 1.1 takes
 * for booleans, keys that stand twice, errors) it answers null, and the complete reader has the word.
 */

import { MAX_DEPTH } from './document.ts';

/** A document's value, never null or undefined, and the offset of its first key or dash. */
export interface PlainDocument {
  readonly value: unknown;
  readonly start: number;
}

/** Reads the document that fills `text` from `from` to `to`; null where it is not plain. An empty document is not. */
export function readPlain(text: string, from: number, to: number): PlainDocument | null {
  const body = text.slice(from, to);
  if (NOT_PLAIN.test(body)) return null;
  const reader = new PlainReader(body);
  if (!reader.nextLine()) return null;
  const start = reader.at;
  const value = reader.readBlock(reader.indent, 0);
  return value === NOTHING || reader.at < body.length ? null : { value, start: from + start };
}

/** Control characters (tabs and carriage returns among them), and what some readers take for line breaks. */
const NOT_PLAIN = /[^\n -~\u00a0-\u2027\u202a-\ufefe\uff00-\uffff]/;
/** The text is not plain. */
const NOTHING = Symbol('not plain');

const KEY = /[A-Za-z_][-A-Za-z0-9_./]*(?=:(?:[ \n]|$))/y;
const DOUBLE_QUOTED = /"(?:[^"\\\n]|\\["\\/bfnrt])*"/y;
const SINGLE_QUOTED = /'(?:[^'\n]|'')*'/y;
/** A word, in a line of its own and inside a flow collection; what it may not hold is looked for afterwards. */
const WORD = /(?:[A-Za-z0-9_./(+$=]|-(?=[A-Za-z0-9]))[^\n]*/y;
const FLOW_WORD = /(?:[A-Za-z0-9_./(+$=]|-(?=[A-Za-z0-9]))[^\n,[\]{}]*/y;
const SMALL_INTEGER = /^(?:0|-?[1-9][0-9]{0,14})$/;
/** Everything that YAML's core schema, or YAML 1.1, might take for something other than text. */
const NOT_TEXT =
  /^(?:[-+]?(?:0x[0-9a-f_]*|0[ob][0-9_]*|\.?[0-9][0-9_.]*(?:e[-+]?[0-9]*)?|\.(?:inf|nan))|null|true|false|y|yes|n|no|on|off)$/i;

class PlainReader {
  /** Offset of the current line's first character that is no space; the text's length behind the last line. */
  at = 0;
  /** Column of `at`, 0-based; -1 behind the last line. */
  indent = -1;
  readonly #text: string;
  #next = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Goes to the next line that holds more than space and comment. */
  nextLine(): boolean {
    const text = this.#text;
    let start = this.#next;
    while (start < text.length) {
      let at = start;
      while (text.charCodeAt(at) === 0x20) at++;
      const code = text.charCodeAt(at);
      if (at < text.length && code !== 0x0a && code !== 0x23) {
        this.at = at;
        this.indent = at - start;
        return true;
      }
      start = lineEnd(text, at) + 1;
    }
    this.at = text.length;
    this.indent = -1;
    return false;
  }

  /** The map or list whose first key or dash stands at `at`, in column `indent`. */
  readBlock(indent: number, depth: number): unknown {
    if (depth >= MAX_DEPTH) return NOTHING;
    return this.#isDash() ? this.#readList(indent, depth) : this.#readMap(indent, depth);
  }

  #readMap(indent: number, depth: number): unknown {
    const result: Record<string, unknown> = {};
    let nulls: string[] | null = null;
    while (this.indent === indent) {
      const key = this.#readKey();
      if (key === null || Object.hasOwn(result, key) || nulls?.includes(key)) return NOTHING;
      const value = this.#readRest(indent, depth, true);
      if (value === NOTHING) return NOTHING;
      if (value !== null) result[key] = value;
      else if (nulls === null) nulls = [key];
      else nulls.push(key);
    }
    return this.indent > indent ? NOTHING : result;
  }

  #readList(indent: number, depth: number): unknown {
    const result: unknown[] = [];
    while (this.indent === indent && this.#isDash()) {
      this.at = skipSpaces(this.#text, this.at + 1);
      const column = this.at - (this.#text.lastIndexOf('\n', this.at - 1) + 1);
      const nested = this.#isDash() || this.#startsKey();
      if (nested) this.indent = column;
      const value = nested ? this.readBlock(column, depth + 1) : this.#readRest(indent, depth, false);
      if (value === NOTHING) return NOTHING;
      result.push(value);
    }
    return this.indent > indent ? NOTHING : result;
  }

  /** The value behind a key or a dash: in the rest of the line, or in the lines below. Leaves `at` behind it. */
  #readRest(indent: number, depth: number, isMap: boolean): unknown {
    const text = this.#text;
    this.at = skipSpaces(text, this.at);
    if (this.#isLineEnd()) {
      this.#next = lineEnd(text, this.at) + 1;
      this.nextLine();
      // A map's list may stand in the column of its key.
      if (this.indent > indent || (isMap && this.indent === indent && this.#isDash())) {
        return this.readBlock(this.indent, depth + 1);
      }
      return null;
    }
    const value = this.#readInline(depth + 1);
    if (value === NOTHING || !this.#isLineEnd()) return NOTHING;
    this.#next = lineEnd(text, this.at) + 1;
    this.nextLine();
    // Deeper lines would go on with the value.
    return this.indent > indent ? NOTHING : value;
  }

  #readInline(depth: number): unknown {
    const code = this.#text.charCodeAt(this.at);
    if (code === 0x22 || code === 0x27) return this.#readQuoted(code);
    if (code === 0x5b || code === 0x7b) return this.#readFlow(code, depth);
    const word = this.#take(WORD);
    if (word === null) return NOTHING;
    const comment = word.indexOf(' #');
    return readWord(comment < 0 ? word : word.slice(0, comment));
  }

  /** A flow collection on one line. */
  #readFlow(open: number, depth: number): unknown {
    if (depth >= MAX_DEPTH) return NOTHING;
    const text = this.#text;
    const list: unknown[] = [];
    const map: Record<string, unknown> = {};
    const close = open + 2;
    this.at = skipSpaces(text, this.at + 1);
    let isFirst = true;
    while (!isFirst || text.charCodeAt(this.at) !== close) {
      isFirst = false;
      const key = open === 0x7b ? this.#readKey() : '';
      if (key === null || Object.hasOwn(map, key)) return NOTHING;
      this.at = skipSpaces(text, this.at);
      const value = this.#readFlowValue(depth);
      if (value === NOTHING) return NOTHING;
      if (open === 0x5b) list.push(value);
      else if (value === null) return NOTHING;
      else map[key] = value;
      this.at = skipSpaces(text, this.at);
      const code = text.charCodeAt(this.at);
      if (code === close) break;
      if (code !== 0x2c) return NOTHING;
      this.at = skipSpaces(text, this.at + 1);
    }
    this.at++;
    return open === 0x5b ? list : map;
  }

  #readFlowValue(depth: number): unknown {
    const code = this.#text.charCodeAt(this.at);
    if (code === 0x22 || code === 0x27) return this.#readQuoted(code);
    if (code === 0x5b || code === 0x7b) return this.#readFlow(code, depth + 1);
    const word = this.#take(FLOW_WORD);
    return word === null || word.includes(' #') ? NOTHING : readWord(word);
  }

  #readQuoted(quote: number): unknown {
    const quoted = this.#take(quote === 0x22 ? DOUBLE_QUOTED : SINGLE_QUOTED);
    if (quoted === null) return NOTHING;
    if (quote === 0x27) return quoted.slice(1, -1).replaceAll("''", "'");
    return quoted.includes('\\') ? JSON.parse(quoted) : quoted.slice(1, -1);
  }

  /** A key and the colon behind it. */
  #readKey(): string | null {
    const text = this.#text;
    const code = text.charCodeAt(this.at);
    const key = code === 0x22 || code === 0x27 ? this.#readQuoted(code) : this.#take(KEY);
    if (typeof key !== 'string' || key === '__proto__') return null;
    const behind = text.charCodeAt(this.at + 1);
    const isKey = text.charCodeAt(this.at) === 0x3a && (behind === 0x20 || behind === 0x0a || Number.isNaN(behind));
    this.at++;
    return isKey ? key : null;
  }

  /** Whether a key, and so a map, begins at `at`. */
  #startsKey(): boolean {
    const start = this.at;
    const isKey = this.#readKey() !== null;
    this.at = start;
    return isKey;
  }

  #isDash(): boolean {
    if (this.#text.charCodeAt(this.at) !== 0x2d) return false;
    const behind = this.#text.charCodeAt(this.at + 1);
    return behind === 0x20 || behind === 0x0a || Number.isNaN(behind);
  }

  /** Nothing but space and a comment follows. A comment needs a space before it. */
  #isLineEnd(): boolean {
    const text = this.#text;
    const at = skipSpaces(text, this.at);
    if (at >= text.length || text.charCodeAt(at) === 0x0a) return true;
    return text.charCodeAt(at) === 0x23 && text.charCodeAt(at - 1) === 0x20;
  }

  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.#text);
    if (match === null) return null;
    this.at += match[0].length;
    return match[0];
  }
}

/** The value of an unquoted word. */
function readWord(raw: string): unknown {
  const word = raw.trimEnd();
  if (word.includes(': ') || word.endsWith(':')) return NOTHING;
  if (!NOT_TEXT.test(word)) return word;
  if (word === 'true') return true;
  if (word === 'false') return false;
  if (word === 'null') return null;
  return SMALL_INTEGER.test(word) ? Number(word) : isAddressLike(word) ? word : NOTHING;
}

/** Digits with two dots or more are no number in any YAML. */
function isAddressLike(word: string): boolean {
  return /^[0-9]+\.[0-9]+\.[0-9.]+$/.test(word);
}

function skipSpaces(text: string, at: number): number {
  while (text.charCodeAt(at) === 0x20) at++;
  return at;
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end;
}
