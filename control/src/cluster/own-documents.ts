/**
 * flatpath's own documents (ConnectivityTest, Scenario) in a file, beside whatever else it holds.
 *
 * A document that cannot be read is answered with its error; the others of the file are read all the same. A JSON file
 * may hold an array of them.
 */

import { readJson } from './json-documents.ts';
import type { SourceText } from './source-text.ts';
import { readYaml } from './yaml-documents.ts';

export interface OwnDocument {
  readonly file: string;
  /** 1-based number in its file; those of an array count on. */
  readonly number: number;
  /** The document as far as it could be read, nulls gone. */
  readonly value: unknown;
  /** What was wrong with its text, one line a problem; null for a readable one. */
  readonly error: string | null;
}

/** The documents of a kind in a file's text, in order. Text that is damaged beyond naming its kind counts as one. */
export function readOwnDocuments(source: SourceText, kind: string): OwnDocument[] {
  const { documents, problems } = source.file.endsWith('.json') ? readJson(source) : readYaml(source);
  const errors = new Map<number, { lines: string[]; value: unknown }>();
  for (const problem of problems) {
    const place = problem.offset >= 0 ? `${source.file}:${source.positionAt(problem.offset).line}` : source.file;
    const known = errors.get(problem.document);
    const line = `${place}: ${problem.message}`;
    if (known === undefined) errors.set(problem.document, { lines: [line], value: problem.value });
    else known.lines.push(line);
  }
  const found: OwnDocument[] = [];
  for (const document of documents) {
    const error = errors.get(document.number)?.lines.join('\n') ?? null;
    errors.delete(document.number);
    const values: unknown[] = Array.isArray(document.value) ? document.value : [document.value];
    values.forEach((value, i) => {
      if (hasKind(value, kind)) found.push({ file: source.file, number: document.number + i, value, error });
    });
  }
  for (const [number, { lines, value }] of errors) {
    found.push({ file: source.file, number, value, error: lines.join('\n') });
  }
  return found;
}

function hasKind(value: unknown, kind: string): boolean {
  return typeof value === 'object' && value !== null && Reflect.get(value, 'kind') === kind;
}
