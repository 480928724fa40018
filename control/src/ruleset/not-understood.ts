/**
 * What a reader of dumps met and does not understand: a match, a target, an expression, a type of set.
 *
 * The rule that holds it stands in the ruleset all the same, as one that never matches. Whether that is an error (the
 * default) or taken so (`--lenient`) is for the caller to decide: a reader lists them all, in the order of the dump.
 * Text that is no dump at all is an `InputError` of the reader and never comes here.
 */

import type { Problem } from '../cluster/problem.ts';

export interface NotUnderstood {
  readonly file: string;
  /** 1-based; null in a dump without lines (JSON). */
  readonly line: number | null;
  /** Where in a JSON dump: 'nftables[12].rule.expr[3]'; '' in text. */
  readonly path: string;
  /** The part as written. */
  readonly text: string;
  /** What is wrong with it, without the text: 'flatpath does not know this match'. */
  readonly message: string;
}

/** As an error of the input. */
export function problemOf({ file, line, path, text, message }: NotUnderstood): Problem {
  const place = line === null ? {} : { line };
  const object = text === '' ? '' : `'${text}'`;
  return { severity: 'error', file, document: 0, object, field: path, message, ...place };
}

/** An error of the dump as such, at a line of it. */
export function dumpError(file: string, line: number, message: string): Problem {
  return { severity: 'error', file, document: 0, object: '', field: '', message, line };
}
