/**
 * Finds and reads the files of a load: a path is a file, a folder (all .yaml, .yml and .json below it, by name) or `-`
 * for standard input. Hidden folders and node_modules are left out; a folder is entered once, whatever links say.
 */

import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_FILE_BYTES } from './document.ts';
import type { Problem } from './problem.ts';

export interface InputFile {
  /** Path as given, or joined below the folder that was given; '<stdin>' for standard input. */
  readonly path: string;
  /** Found in a folder, so not named by the user. */
  readonly found: boolean;
  /** Set where the file lies elsewhere than on the disk, such as in a commit. */
  readonly text?: string;
}

const STDIN = '<stdin>';
/** Names that are read in folders. */
export const MANIFEST = /\.(ya?ml|json)$/i;

/** Expands paths to files, in the order given and by name inside folders. */
export function listFiles(paths: readonly (string | InputFile)[], problems: Problem[]): InputFile[] {
  const files: InputFile[] = [];
  for (const path of paths) {
    if (typeof path !== 'string') {
      files.push(path);
      continue;
    }
    if (path === '-') {
      files.push({ path: STDIN, found: false });
      continue;
    }
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined) problems.push(fileError(path, 'does not exist'));
    else if (!stats.isDirectory()) files.push({ path, found: false });
    else {
      const before = files.length;
      walkFolder(path, new Set(), files, problems);
      if (files.length === before) problems.push(fileError(path, 'holds no .yaml, .yml or .json file'));
    }
  }
  return files;
}

/** The text of a file, or null after a problem: too large, unreadable, not UTF-8. */
export function readText(file: InputFile, problems: Problem[]): string | null {
  if (file.text !== undefined) return file.text;
  let bytes: Buffer;
  try {
    if (file.path !== STDIN && statSync(file.path).size > MAX_FILE_BYTES) {
      problems.push(fileError(file.path, `is larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB`));
      return null;
    }
    bytes = readFileSync(file.path === STDIN ? 0 : file.path);
  } catch (error) {
    problems.push(fileError(file.path, `cannot be read: ${error instanceof Error ? error.message : String(error)}`));
    return null;
  }
  if (bytes.length > MAX_FILE_BYTES) {
    problems.push(fileError(file.path, `is larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB`));
    return null;
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    problems.push(fileError(file.path, 'is not UTF-8 text'));
    return null;
  }
}

function walkFolder(folder: string, seen: Set<string>, files: InputFile[], problems: Problem[]): void {
  try {
    const real = realpathSync(folder);
    if (seen.has(real)) return;
    seen.add(real);
    for (const name of readdirSync(folder).sort()) {
      if (name.startsWith('.') || name === 'node_modules') continue;
      const path = join(folder, name);
      const stats = statSync(path, { throwIfNoEntry: false });
      if (stats?.isDirectory()) walkFolder(path, seen, files, problems);
      else if (stats?.isFile() && MANIFEST.test(name)) files.push({ path, found: true });
    }
  } catch (error) {
    problems.push(fileError(folder, `cannot be read: ${error instanceof Error ? error.message : String(error)}`));
  }
}

export function fileError(file: string, message: string): Problem {
  return { severity: 'error', file, document: 0, object: '', field: '', message };
}
