/** Loads manifests from text, as files in a folder of their own, and shows problems without the folder's path. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type LoadOptions, type LoadResult, loadCluster } from '../../control/src/cluster/load.ts';
import { describeProblem, InputError } from '../../control/src/cluster/problem.ts';

/** Loads one text as `shop.yaml`, or several files by name. */
export function loadText(input: string | Record<string, string>, options: LoadOptions = {}): LoadResult {
  const files = typeof input === 'string' ? { 'shop.yaml': input } : input;
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    const names = Object.keys(files);
    return loadCluster(names.length === 1 ? [join(folder, names[0]!)] : [folder], options);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(
      error.problems.map((problem) => ({ ...problem, file: problem.file.replace(`${folder}/`, '') })),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Loads plain objects. */
export function loadObjects(objects: readonly unknown[], options: LoadOptions = {}): LoadResult {
  return loadCluster([], { ...options, objects });
}

/** The error lines of an input that must be refused. */
export function errorsOf(input: string | Record<string, string>, options: LoadOptions = {}): string[] {
  return linesOf(() => loadText(input, options));
}

/** The error lines that a load throws; none where it throws nothing. */
export function linesOf(load: () => unknown): string[] {
  try {
    load();
  } catch (error) {
    if (error instanceof InputError) return error.problems.map(describeProblem);
    throw error;
  }
  return [];
}

/** The warnings of an input that must load, without file and line. */
export function warningsOf(result: LoadResult): string[] {
  return result.warnings.map((problem) => describeProblem({ ...problem, file: '', line: undefined }));
}

/** A Service as short as it can be. */
export function service(name: string, spec: object = {}, more: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop' },
    spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec },
    ...more,
  };
}

export function pod(name: string, labels: Record<string, string>, spec: object = {}, status?: object): object {
  const object = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop', labels }, spec };
  return status === undefined ? object : { ...object, status };
}

export function node(name: string, spec: object = {}, address?: string, labels: Record<string, string> = {}): object {
  const status = address === undefined ? {} : { addresses: [{ type: 'InternalIP', address }] };
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, labels }, spec, status };
}

export function deployment(name: string, replicas: number | undefined, template: object = {}): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'shop' },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name } }, spec: {}, ...template },
    },
  };
}

/** Seed of a property test: fixed by FLATPATH_SEED, else drawn; fast-check prints it on failure. */
export function seed(): number {
  const fixed = process.env['FLATPATH_SEED'];
  return fixed === undefined ? (Math.random() * 0x7fffffff) | 0 : Number(fixed);
}
