/**
 * Manifests out of a commit: `git:REV:path`, read with `git` from the repository of a folder. Nothing is checked out.
 *
 * The path is seen from the repository's root, or from the folder where it begins with `./`; without one it is the whole
 * tree. A folder's files are chosen and ordered as those of a folder on the disk are, symbolic links inside the repository
 * are followed, and every file keeps the name `git:REV:path`. Refuses, as problems that name the place: what is no
 * repository, no revision, no path, or no UTF-8 text.
 */

import { spawnSync } from 'node:child_process';
import { MAX_FILE_BYTES } from '../cluster/document.ts';
import { fileError, type InputFile, MANIFEST } from '../cluster/files.ts';
import type { Problem } from '../cluster/problem.ts';

const PREFIX = 'git:';
/** Bytes that git may answer at once. */
const MAX_ANSWER = 1024 * 1024 * 1024;
/** Folders that symbolic links may lead through, one in the other. */
const MAX_LINKS = 8;

interface GitPlace {
  readonly folder: string;
  readonly revision: string;
  /** Below the root, without slashes at its ends; '' for the root. */
  readonly path: string;
}

interface Entry {
  readonly path: string;
  readonly isLink: boolean;
}

interface GitObject {
  readonly type: string;
  readonly bytes: Buffer;
}

export function isGitPath(path: string): boolean {
  return path.startsWith(PREFIX);
}

/**
 * Reads the manifests behind `git:REV:path`.
 * @param folder whose repository is meant
 */
export function readGitFiles(spec: string, folder: string, problems: Problem[]): InputFile[] {
  try {
    const place = parseSpec(spec, folder);
    const [found] = readObjects(place, [place.path]);
    if (found?.type === 'blob') return [toFile(spec, found, false, problems)].filter((file) => file !== null);
    if (found?.type !== 'tree') throw new GitError(`'${place.path}' does not exist in ${place.revision}`);
    return readFolder(place, problems);
  } catch (error) {
    if (!(error instanceof GitError)) throw error;
    problems.push(fileError(spec, error.message));
    return [];
  }
}

class GitError extends Error {}

function parseSpec(spec: string, folder: string): GitPlace {
  const rest = spec.slice(PREFIX.length);
  const colon = rest.indexOf(':');
  if (colon <= 0) throw new GitError('is not git:REV:path, such as git:origin/main:deploy');
  const revision = rest.slice(0, colon);
  let path = rest.slice(colon + 1);
  if (/[\n\0]/.test(spec)) throw new GitError('holds a line break');
  if (path === '.' || path.startsWith('./') || path.startsWith('../')) {
    path = resolveFrom(ask(folder, ['rev-parse', '--show-prefix']).toString().trim(), path);
  }
  // Also says whether there is a repository at all.
  const answer = ask(
    folder,
    ['rev-parse', '--verify', '--quiet', '--end-of-options', `${revision}^{tree}`],
    [0, 1, 128],
  );
  if (answer.length === 0) {
    ask(folder, ['rev-parse', '--git-dir']);
    throw new GitError(`'${revision}' is not a revision of this repository`);
  }
  return { folder, revision, path: path.replace(/^\/+|\/+$/g, '') };
}

/** `./k8s` seen from `deploy/`, as a path below the root. */
function resolveFrom(prefix: string, path: string): string {
  const parts = prefix.split('/').filter((part) => part !== '');
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw new GitError('leads out of the repository');
  }
  return parts.join('/');
}

function readFolder(place: GitPlace, problems: Problem[]): InputFile[] {
  const paths = listManifests(place, place.path, 0).sort(comparePaths);
  const spec = `${PREFIX}${place.revision}:`;
  if (paths.length === 0) throw new GitError('holds no .yaml, .yml or .json file');
  const files: InputFile[] = [];
  readObjects(place, paths).forEach((object, i) => {
    const name = `${spec}${paths[i]}`;
    if (object.type !== 'blob')
      problems.push(fileError(name, 'is a symbolic link that leads to no file of the commit'));
    else {
      const file = toFile(name, object, true, problems);
      if (file !== null) files.push(file);
    }
  });
  return files;
}

/** Paths of the manifests below a folder, those behind links to folders too. */
function listManifests(place: GitPlace, path: string, links: number): string[] {
  const found: string[] = [];
  const otherLinks: string[] = [];
  for (const entry of listTree(place, path)) {
    const below = path === '' ? entry.path : entry.path.slice(path.length + 1);
    if (below.split('/').some((part) => part.startsWith('.') || part === 'node_modules')) continue;
    if (MANIFEST.test(entry.path)) found.push(entry.path);
    else if (entry.isLink) otherLinks.push(entry.path);
  }
  if (links >= MAX_LINKS) return found;
  readObjects(place, otherLinks).forEach((object, i) => {
    if (object.type === 'tree') found.push(...listLinked(place, otherLinks[i]!, links + 1));
  });
  return found;
}

/** The manifests of a folder that a link leads to, under the link's name: git lists the folder only under its own. */
function listLinked(place: GitPlace, link: string, links: number): string[] {
  const target = ask(place.folder, ['cat-file', 'blob', `${place.revision}:${link}`]).toString();
  const own = resolveFrom(link.split('/').slice(0, -1).join('/'), target);
  // A link to a folder around itself has no end.
  if (own === '' || link.startsWith(`${own}/`)) return [];
  return listManifests(place, own, links).map((path) => link + path.slice(own.length));
}

function listTree(place: GitPlace, path: string): Entry[] {
  const tree = `${place.revision}:${path}`;
  const answer = ask(place.folder, ['ls-tree', '-r', '-z', '--full-tree', tree]).toString();
  const entries: Entry[] = [];
  for (const line of answer.split('\0')) {
    const match = /^(\d+) (\w+) [0-9a-f]+\t(.*)$/s.exec(line);
    if (match === null || match[2] !== 'blob' || match[3]!.includes('\n')) continue;
    entries.push({ path: path === '' ? match[3]! : `${path}/${match[3]}`, isLink: match[1] === '120000' });
  }
  return entries;
}

/** Objects by path, links followed; type 'missing' for what is not there. */
function readObjects(place: GitPlace, paths: readonly string[]): GitObject[] {
  if (paths.length === 0) return [];
  const input = paths.map((path) => `${place.revision}:${path}\n`).join('');
  const answer = ask(place.folder, ['cat-file', '--batch', '--follow-symlinks'], [0], input);
  const objects: GitObject[] = [];
  for (let at = 0; objects.length < paths.length; ) {
    const end = answer.indexOf(10, at);
    if (end < 0) throw new GitError('git answered less than it was asked for');
    const head = answer.toString('utf8', at, end);
    const object = /^[0-9a-f]+ (blob|tree|commit|tag) (\d+)$/.exec(head);
    const dangling = /^(symlink|dangling|loop|notdir) (\d+)$/.exec(head);
    const size = Number((object ?? dangling)?.[2] ?? -1);
    const bytes = answer.subarray(end + 1, end + 1 + Math.max(0, size));
    objects.push({ type: object?.[1] ?? 'missing', bytes });
    at = end + 1 + (size < 0 ? 0 : size + 1);
  }
  return objects;
}

function toFile(name: string, { bytes }: GitObject, found: boolean, problems: Problem[]): InputFile | null {
  if (bytes.length > MAX_FILE_BYTES) {
    problems.push(fileError(name, `is larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB`));
    return null;
  }
  try {
    return { path: name, found, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    problems.push(fileError(name, 'is not UTF-8 text'));
    return null;
  }
}

/** Folder by folder, by name, as a walk over the disk meets them. */
function comparePaths(a: string, b: string): number {
  const left = a.split('/');
  const right = b.split('/');
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    if (left[i]! !== right[i]!) return left[i]! < right[i]! ? -1 : 1;
  }
  return left.length - right.length;
}

/** Runs git. @throws GitError with git's own sentence where it ends with another status */
function ask(folder: string, args: readonly string[], allowed: readonly number[] = [0], input = ''): Buffer {
  const { status, stdout, stderr, error } = spawnSync('git', args, {
    cwd: folder,
    input,
    maxBuffer: MAX_ANSWER,
    env: { ...process.env, LC_ALL: 'C', GIT_OPTIONAL_LOCKS: '0' },
  });
  if (error !== undefined) {
    const missing = 'code' in error && error.code === 'ENOENT';
    throw new GitError(missing ? 'git is needed to read it, and is not installed' : `git: ${error.message}`);
  }
  if (status === null || !allowed.includes(status)) {
    throw new GitError(
      `git: ${stderr
        .toString()
        .trim()
        .split('\n')[0]
        ?.replace(/^fatal: /, '')}`,
    );
  }
  return stdout;
}
