/**
 * Real manifests in, a completed cluster out.
 *
 * Guarantees: every document of every file becomes an object, a counted kind that is not modelled, or a problem that
 * names file, document, object and field; all errors of a load are thrown together (`InputError`) and nothing of the
 * input is applied then. Documents of flatpath's own kinds are left out without a word.
 */

import { basename } from 'node:path';
import { joinField, type SourcePlace } from '../model/origin.ts';
import type { Cluster } from './cluster.ts';
import { type CompletionOptions, completeCluster } from './complete.ts';
import type { DocumentProblem, InputDocument, ReadDocuments } from './document.ts';
import { type InputFile, listFiles, readText } from './files.ts';
import { readJson } from './json-documents.ts';
import { InputError, type Problem } from './problem.ts';
import { describeValue, readObject } from './read-object.ts';
import type { FieldProblem } from './shape.ts';
import { SourceText } from './source-text.ts';
import { ObjectStore } from './store.ts';
import { readYaml } from './yaml-documents.ts';

export interface LoadOptions extends CompletionOptions {
  /** Inline objects; they come after the files, so they win over an object of the same name there. */
  readonly objects?: readonly unknown[];
  /** Name that problems of inline objects stand under, such as the file that holds them. */
  readonly objectsFile?: string;
}

export interface LoadResult {
  readonly cluster: Cluster;
  /** The desired state that the cluster was completed from. */
  readonly store: ObjectStore;
  /** Files that were read, in order. */
  readonly files: readonly string[];
  /** Everything that is odd but valid; the same list as `cluster.warnings`. */
  readonly warnings: readonly Problem[];
}

/** What was read, before it is completed. */
export interface ReadInput {
  readonly store: ObjectStore;
  readonly files: readonly string[];
  readonly errors: readonly Problem[];
  readonly warnings: readonly Problem[];
  /** Some of it came as `kind: List`, as `kubectl get` prints. */
  readonly isDump: boolean;
}

/**
 * Loads files, folders and inline objects and completes the cluster.
 *
 * @param paths files, folders, or `-` for standard input
 * @throws InputError with every error of the load
 */
export function loadCluster(paths: readonly string[], options: LoadOptions = {}): LoadResult {
  const input = readInput(paths, options);
  const errors = [...input.errors];
  let cluster: Cluster | null = null;
  try {
    // Conflicts between objects are found even where other objects are wrong, so that one run reports them all.
    cluster = completeCluster(input.store, { ...options, isDump: input.isDump, warnings: input.warnings });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    errors.push(...error.problems);
  }
  if (cluster === null || errors.length > 0) throw new InputError(errors);
  return { cluster, store: input.store, files: input.files, warnings: cluster.warnings };
}

/** Reads without completing: errors are answered, not thrown. */
export function readInput(paths: readonly (string | InputFile)[], options: LoadOptions = {}): ReadInput {
  const reader = new InputReader();
  for (const file of listFiles(paths, reader.errors)) reader.readFile(file);
  options.objects?.forEach((object, index) => {
    reader.readInline(object, index, options.objectsFile ?? '');
  });
  return reader;
}

/** Configuration files of other tools that lie among manifests. */
const TOOL_FILES = /^(kustomization\.ya?ml|chart\.(yaml|lock)|requirements\.yaml|values.*\.ya?ml|skaffold\.ya?ml)$/i;
const MAX_LIST_DEPTH = 4;

class InputReader implements ReadInput {
  readonly store = new ObjectStore();
  readonly files: string[] = [];
  readonly errors: Problem[] = [];
  readonly warnings: Problem[] = [];
  isDump = false;
  #file: InputFile = { path: '', found: false };
  #source: SourceText | null = null;

  readFile(file: InputFile): void {
    const text = readText(file, this.errors);
    if (text === null) return;
    this.files.push(file.path);
    this.#file = file;
    this.#source = new SourceText(file.path, text);
    const { documents, problems } = readDocuments(file, this.#source);
    for (const problem of problems) this.#reportDocument(problem, this.#source);
    if (documents.length === 0 && problems.length === 0 && !file.found) {
      this.warnings.push({ ...this.#at('warning', 0), message: 'holds no object' });
    }
    for (const document of documents) this.#readDocument(document);
  }

  readInline(value: unknown, index: number, file: string): void {
    this.#file = { path: file, found: false };
    this.#source = null;
    // The value may be the caller's, and reading fills defaults in: a copy, and through JSON so that it is plain data.
    const source = new SourceText(file, JSON.stringify(value) ?? 'null');
    const { documents, problems } = readJson(source);
    for (const { path, message, value: read } of problems) {
      const object = describeValue(read);
      this.errors.push({ ...this.#at('error', index + 1), object, field: joinField(path), message });
    }
    for (const document of documents) this.#readValue(document.value, index + 1, undefined, 0);
    if (documents.length === 0 && problems.length === 0) {
      this.errors.push({ ...this.#at('error', index + 1), message: 'is empty, not a Kubernetes object' });
    }
  }

  #readDocument(document: InputDocument): void {
    const { value, number } = document;
    if (this.#skips(value)) {
      this.warnings.push({ ...this.#at('warning', number), message: 'is skipped: it has no kind' });
      return;
    }
    this.#readValue(value, number, (path) => document.placeOf(path), 0);
  }

  /** In a folder lie files of other tools; those that are named after one, or look like no object, are passed over. */
  #skips(value: unknown): boolean {
    if (!this.#file.found || typeof value !== 'object' || value === null || Object.hasOwn(value, 'kind')) return false;
    if (Array.isArray(value)) return false;
    return TOOL_FILES.test(basename(this.#file.path)) || !Object.hasOwn(value, 'apiVersion');
  }

  #readValue(
    value: unknown,
    number: number,
    placeOf: ((path: (string | number)[]) => SourcePlace) | undefined,
    depth: number,
  ): void {
    if (Array.isArray(value) && depth < MAX_LIST_DEPTH) {
      value.forEach((item, index) => {
        this.#readValue(item, number, placeOf && ((path) => placeOf([index, ...path])), depth + 1);
      });
      return;
    }
    const list = listItems(value);
    if (list !== null && depth < MAX_LIST_DEPTH) {
      this.isDump = true;
      list.items.forEach((item, index) => {
        fillItemKind(item, list);
        this.#readValue(item, number, placeOf && ((path) => placeOf(['items', index, ...path])), depth + 1);
      });
      return;
    }
    this.#readObject(value, number, placeOf?.([]));
  }

  #readObject(value: unknown, number: number, place: SourcePlace | undefined): void {
    const result = readObject(value, place);
    if (result.status === 'own') return;
    if (result.status === 'wrong') {
      this.#reportFields(result.problems, result.object, number, place);
      return;
    }
    this.#reportFields(result.problems, describeValue(value), number, place);
    if (isHelmTest(value)) {
      const line = place?.locate('metadata.annotations').line;
      const message = 'is left out: a Helm test exists only while `helm test` runs';
      const field = 'metadata.annotations';
      this.warnings.push({ ...this.#at('warning', number), object: describeValue(value), field, message, line });
    } else if (result.status === 'object') {
      const isNew = this.store.put(result.tagged);
      if (!isNew && result.tagged.kind === 'BaselineAdminNetworkPolicy') this.#reportSecond(value, number, place);
    } else this.store.putUnmodelled(result.other);
  }

  /** Of other objects the last one of a name wins; a second baseline is not meant to replace the first. */
  #reportSecond(value: unknown, number: number, place: SourcePlace | undefined): void {
    if (place === undefined) return;
    const message = 'a cluster has one BaselineAdminNetworkPolicy, and the input holds another before this';
    const line = place.locate('metadata.name').line;
    const object = describeValue(value);
    this.errors.push({ ...this.#at('error', number), object, field: 'metadata.name', message, line });
  }

  #reportFields(
    problems: readonly FieldProblem[],
    object: string,
    number: number,
    place: SourcePlace | undefined,
  ): void {
    for (const { severity, field, message } of problems) {
      const line = place?.locate(field).line;
      const problem = { ...this.#at(severity, number), object, field, message, line };
      (severity === 'error' ? this.errors : this.warnings).push(problem);
    }
  }

  #reportDocument({ document, offset, path, message, value }: DocumentProblem, source: SourceText): void {
    const found = describeInDocument(value, path);
    const line = offset < 0 ? undefined : source.positionAt(offset).line;
    const hint = source.text.includes('{{') && message.startsWith('is not YAML') ? HELM_HINT : '';
    const field = joinField(found.path);
    this.errors.push({ ...this.#at('error', document), object: found.object, field, message: message + hint, line });
  }

  #at(severity: 'error' | 'warning', document: number): Problem {
    return { severity, file: this.#file.path, document, object: '', field: '', message: '' };
  }
}

const HELM_HINT = " (it looks like a template: render it first, with 'helm template')";

function readDocuments(file: InputFile, source: SourceText): ReadDocuments {
  if (/\.json$/i.test(file.path)) return readJson(source);
  if (!/^\s*[{[]/.test(source.text.slice(0, 1024))) return readYaml(source);
  // Flow YAML and JSON look alike; JSON is much faster to read, and what is not JSON may still be YAML.
  const json = readJson(source);
  return json.problems.some(({ message }) => message.startsWith('is not JSON')) ? readYaml(source) : json;
}

interface List {
  readonly items: readonly unknown[];
  /** Kind and apiVersion of items that do not say, from `kind: PodList`; '' for a plain List. */
  readonly itemKind: string;
  readonly apiVersion: string;
}

function listItems(value: unknown): List | null {
  if (typeof value !== 'object' || value === null) return null;
  const kind: unknown = Reflect.get(value, 'kind');
  const apiVersion: unknown = Reflect.get(value, 'apiVersion');
  if (typeof kind !== 'string' || typeof apiVersion !== 'string' || !kind.endsWith('List')) return null;
  // A custom kind may well be called AllowList: without items it is an object.
  if (kind !== 'List' && !Object.hasOwn(value, 'items')) return null;
  const items: unknown = Object.hasOwn(value, 'items') ? Reflect.get(value, 'items') : [];
  return Array.isArray(items) ? { items, itemKind: kind.slice(0, -'List'.length), apiVersion } : null;
}

/** Items of a typed list, as the API prints them, carry neither kind nor apiVersion. */
function fillItemKind(item: unknown, list: List): void {
  if (list.itemKind === '' || typeof item !== 'object' || item === null) return;
  if (!Object.hasOwn(item, 'kind')) Reflect.set(item, 'kind', list.itemKind);
  if (!Object.hasOwn(item, 'apiVersion')) Reflect.set(item, 'apiVersion', list.apiVersion);
}

/**
 * True for a test hook of a chart. Charts give it the labels of the release, so taken for a pod of the release it would
 * be an endpoint of the Services that it tests.
 */
function isHelmTest(value: unknown): boolean {
  let part: unknown = value;
  for (const key of ['metadata', 'annotations', 'helm.sh/hook']) {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return false;
    part = Reflect.get(part, key);
  }
  return typeof part === 'string' && part.split(',').some((hook) => /^test(-success|-failure)?$/.test(hook.trim()));
}

/** Names the object (perhaps an item of a list) around a path in a document, and the path inside that object. */
function describeInDocument(
  value: unknown,
  path: readonly (string | number)[],
): { object: string; path: (string | number)[] } {
  const head = typeof path[0] === 'number' ? 1 : path[0] === 'items' && typeof path[1] === 'number' ? 2 : 0;
  let object: unknown = value;
  for (const key of path.slice(0, head)) {
    object = typeof object === 'object' && object !== null ? Reflect.get(object, key) : undefined;
  }
  return { object: describeValue(object), path: path.slice(head) };
}
