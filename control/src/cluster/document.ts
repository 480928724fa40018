/**
 * One document of an input file as plain data, whatever it was written in. Readers of YAML and JSON both answer this.
 *
 * Guarantees: objects have no null fields (null is absent), no field is called `__proto__`, nothing is nested deeper than
 * MAX_DEPTH, no key stands twice, and no two places share an object.
 */

import type { SourcePlace } from '../model/origin.ts';

/** Levels of lists and objects that an input may nest. Kubernetes' own objects stay below 20. */
export const MAX_DEPTH = 64;
/** Bytes that one input file may have. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024;

export interface InputDocument {
  /** 1-based number in its file. */
  readonly number: number;
  readonly value: unknown;
  /** Place of the part at `path`, for the objects in a List. */
  placeOf(path: readonly (string | number)[]): SourcePlace;
}

/** Something wrong with the text itself, before it is known which objects it holds. */
export interface DocumentProblem {
  readonly document: number;
  /** 0-based offset in the text, or -1. */
  readonly offset: number;
  /** Where in the document, as far as it could be read. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  /** The document as far as it could be read, to name the object in it. */
  readonly value: unknown;
}

export interface ReadDocuments {
  readonly documents: readonly InputDocument[];
  readonly problems: readonly DocumentProblem[];
}

const plainWords = new WeakMap<object, Map<string | number, string>>();

/**
 * Notes that `holder[key]` was an unquoted yes, no, on or off. YAML 1.1, which kubectl reads, makes these booleans, and
 * so do we; where text is expected the word itself can be had back.
 */
export function notePlainWord(holder: object, key: string | number, word: string): void {
  let words = plainWords.get(holder);
  if (words === undefined) {
    words = new Map();
    plainWords.set(holder, words);
  }
  words.set(key, word);
}

/** The unquoted word behind a boolean, if it was one. */
export function plainWordAt(holder: object, key: string | number): string | undefined {
  return plainWords.get(holder)?.get(key);
}
