/**
 * Runs ConnectivityTest documents: every document in every mode it lists, every probe along every branch.
 *
 * What cannot be read, loaded or resolved becomes an entry with `error`; the others run. Clusters are loaded once for
 * documents that ask for the same manifests and options.
 */

import { dirname, resolve } from 'node:path';
import type { Cluster } from '../cluster/cluster.ts';
import { listFiles, readText } from '../cluster/files.ts';
import { loadCluster } from '../cluster/load.ts';
import { type OwnDocument, readOwnDocuments } from '../cluster/own-documents.ts';
import { InputError, type Problem } from '../cluster/problem.ts';
import { SourceText } from '../cluster/source-text.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { describeAnswer } from '../explain/judgement.ts';
import { BUILT_MODES, type DatapathInput, type Mode, resolveDatapath } from '../model/datapath.ts';
import { modelRuleset, type RulesetRequest } from '../ruleset/node-model.ts';
import type { LoadedRuleset } from '../ruleset/ruleset.ts';
import { answersOf, branchPolicies } from './branch-policies.ts';
import { type Connection, resolveConnection } from './connection.ts';
import {
  type ConnectivityTest,
  checkConnectivityTest,
  documentName,
  listedModes,
  type Probe,
  probeName,
  probeNames,
  TEST_KIND,
} from './connectivity-test.ts';
import { describePolicy, listNotEnforced, notEnforcedFor } from './not-enforced.ts';
import { literalAddress, UnresolvedReference } from './reference.ts';
import {
  type ActualResult,
  type BranchResult,
  differences,
  NO_ANSWER,
  type ProbeResult,
  type TestResult,
} from './report.ts';
import { type Branch, Simulator } from './simulator.ts';

export interface SuiteOptions {
  /** Picks among the modes that a document lists; null: all of them. */
  readonly mode: Mode | null;
  /** Called after each entry, with entries done and documents in all. */
  readonly onProgress?: (done: number, probes: number) => void;
  /** Policies that nothing here enforces are an error of the documents that hold them. */
  readonly strict?: boolean;
  /** Called for each cluster that was loaded, for its warnings. */
  readonly onModel?: (model: ClusterModel) => void;
  /** One node of every document's cluster runs the rules of its dumps; a document without objects is that node alone. */
  readonly ruleset?: SuiteRuleset;
}

export interface SuiteRuleset {
  readonly request: RulesetRequest;
  /** The node that the dumps came from, null: the only one. */
  readonly node: string | null;
  /** Called each time that the dumps were read. */
  readonly onLoaded: (loaded: LoadedRuleset) => void;
}

export interface SuiteResult {
  readonly tests: readonly TestResult[];
  /** Paths that do not exist, cannot be read or hold no ConnectivityTest; the others ran. */
  readonly problems: readonly Problem[];
}

export function runSuite(paths: readonly string[], options: SuiteOptions): SuiteResult {
  const results: TestResult[] = [];
  const problems: Problem[] = [];
  const loader = new ModelLoader(options);
  let probes = 0;
  for (const document of findDocuments(paths, problems)) {
    for (const result of runDocument(document, loader, options)) {
      results.push(result);
      probes += result.probes.length;
      options.onProgress?.(results.length, probes);
    }
    loader.endDocument();
  }
  return { tests: results, problems };
}

function runDocument(found: OwnDocument, loader: ModelLoader, options: SuiteOptions): TestResult[] {
  const modes = listedModes(found.value).filter((mode) => options.mode === null || mode === options.mode);
  const name = documentName(found.value) || found.file;
  const failAll = (error: string): TestResult[] =>
    modes.map((mode) => ({ name, mode, error, probes: failedProbes(found.value, error) }));

  if (found.error !== null) return failAll(found.error);
  const problems = checkConnectivityTest(found.value);
  const place = `${found.file}: document ${found.number}`;
  if (problems.length > 0) return failAll(problems.map((problem) => `${place} ${problem}`).join('\n'));
  const document = found.value as ConnectivityTest;
  let model: ClusterModel | null = null;
  const results: TestResult[] = [];
  for (const mode of modes) {
    if (!BUILT_MODES.includes(mode)) {
      const error = `this build has no mode '${mode}'`;
      results.push({ name, mode, error, probes: failedProbes(document, error) });
      continue;
    }
    try {
      model ??= loader.load(document, found);
      const simulator = new Simulator(model, mode);
      const probes = (document.spec.probes ?? []).map((probe) => runProbe(simulator, probe));
      results.push({ name, mode, error: null, probes });
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      results.push({ name, mode, error: error.message, probes: failedProbes(document, error.message) });
    }
  }
  return results;
}

/** Runs one probe along every branch and compares. */
export function runProbe(simulator: Simulator, probe: Probe): ProbeResult {
  const name = probeName(probe);
  const expected = probe.expect ?? {};
  let connection: Connection;
  try {
    connection = resolveConnection(simulator.model, probe);
  } catch (error) {
    if (!(error instanceof UnresolvedReference)) throw error;
    const answer = { actual: NO_ANSWER, branches: [], notEnforced: [], denials: [] };
    return { name, passed: false, expected, ...answer, error: error.message };
  }
  const branches = simulator.probe(connection, false);
  const result = {
    name,
    passed: true,
    expected,
    actual: summarizeBranches(branches),
    branches: branches.map((branch) => describeBranch(simulator, branch)),
    notEnforced: notEnforcedFor(simulator.model, connection, branches),
    denials: [],
    error: null,
  };
  if (differences(result).length === 0) return result;
  return { ...result, passed: false, denials: listDenials(simulator, connection) };
}

/** What policies said against a connection's first packet, on any branch: it runs again with the recorder on. */
function listDenials(simulator: Simulator, connection: Connection): string[] {
  const denials = new Set<string>();
  for (const branch of simulator.probe(connection, true)) {
    for (const answer of answersOf(branchPolicies(simulator.image, branch))) {
      if (answer.verdict === 'denied') denials.add(describeAnswer(answer));
    }
  }
  return [...denials];
}

/** Verdicts in the order in which one of them speaks for all branches. */
const SEVERITY = ['dropped', 'rejected', 'forwarded', 'delivered'];

/** The answer for all branches together (DESIGN §7). */
export function summarizeBranches(branches: readonly Branch[]): ActualResult {
  let worst: Branch | null = null;
  const backends = new Set<string>();
  for (const branch of branches) {
    if (worst === null || SEVERITY.indexOf(branch.verdict) < SEVERITY.indexOf(worst.verdict)) worst = branch;
    if (branch.backend !== null) backends.add(branch.backend);
  }
  if (worst === null) return NO_ANSWER;
  return {
    verdict: worst.verdict,
    reason: worst.reason,
    translated: branches.some((branch) => branch.translated),
    backends: [...backends].sort(),
    masquerade: branches.some((branch) => branch.masquerade),
  };
}

function describeBranch(simulator: Simulator, branch: Branch): BranchResult {
  return {
    verdict: branch.verdict,
    reason: branch.reason,
    translated: branch.translated,
    backends: branch.backend === null ? [] : [branch.backend],
    masquerade: branch.masquerade,
    deliveredTo: simulator.describeTarget(branch),
  };
}

function failedProbes(document: unknown, error: string): ProbeResult[] {
  const probes = (document as ConnectivityTest | null)?.spec?.probes;
  return probeNames(document).map((name, i) => ({
    name,
    passed: false,
    expected: probes?.[i]?.expect ?? {},
    actual: NO_ANSWER,
    branches: [],
    notEnforced: [],
    denials: [],
    error,
  }));
}

/** Loads clusters, and keeps the last few for documents that ask for the same again. */
class ModelLoader {
  private readonly options: SuiteOptions;
  private readonly kept = new Map<string, ClusterModel>();

  constructor(options: SuiteOptions) {
    this.options = options;
  }

  load(document: ConnectivityTest, { file, number }: OwnDocument): ClusterModel {
    const { manifests = [], objects = [], datapath = {} } = document.spec;
    const folder = file === '<stdin>' ? process.cwd() : dirname(file);
    const paths = manifests.map((path) => resolve(folder, path));
    const reserved = namedAddresses(document);
    const key = objects.length > 0 ? null : JSON.stringify([paths, datapath, reserved]);
    const known = key === null ? undefined : this.kept.get(key);
    if (known !== undefined) return known;
    const { ruleset } = this.options;
    if (ruleset !== undefined && paths.length === 0 && objects.length === 0) {
      return this.keep(key, this.loadNode(ruleset, null, datapath));
    }
    const { cluster } = loadCluster(paths, {
      objects,
      // Inline objects are numbered within their document.
      objectsFile: `${file} (document ${number}, spec.objects)`,
      reserved,
      serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
      clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
    });
    const model =
      ruleset === undefined
        ? modelCluster(cluster, resolveDatapath(datapath, cluster.defaults))
        : this.loadNode(ruleset, cluster, datapath);
    this.options.onModel?.(model);
    const notEnforced = this.options.strict === true ? listNotEnforced(model) : [];
    if (notEnforced.length > 0) {
      const message = `--strict: nothing here enforces ${notEnforced.map(describePolicy).join(', ')}`;
      throw new InputError([{ severity: 'error', file, document: number, object: '', field: '', message }]);
    }
    return this.keep(key, model);
  }

  private keep(key: string | null, model: ClusterModel): ClusterModel {
    if (key !== null) this.kept.set(key, model);
    return model;
  }

  /** The node of the dumps, in a cluster or alone. */
  private loadNode(ruleset: SuiteRuleset, cluster: Cluster | null, datapath: DatapathInput): ClusterModel {
    const names = cluster?.nodes.map(({ metadata }) => metadata.name) ?? [];
    const node = ruleset.node ?? (names.length === 1 ? names[0]! : null);
    if (names.length > 0 && (node === null || !names.includes(node))) {
      const message = `--node says which node the dumps came from: ${names.slice(0, 8).join(', ')}`;
      throw new InputError([{ severity: 'error', file: '', document: 0, object: '', field: '', message }]);
    }
    const { model, loaded } = modelRuleset(ruleset.request, cluster, node, datapath);
    ruleset.onLoaded(loaded);
    return model;
  }

  endDocument(): void {
    while (this.kept.size > 8) {
      const oldest = this.kept.keys().next().value;
      if (oldest !== undefined) this.kept.delete(oldest);
    }
  }
}

/** Every literal address that probes come from or go to: made addresses must not take one. What `backends` names may be made. */
function namedAddresses(document: ConnectivityTest): string[] {
  const named = new Set<string>();
  for (const probe of document.spec.probes ?? []) {
    for (const text of [probe.from, probe.to]) {
      const address = literalAddress(text);
      if (address !== null) named.add(address);
    }
  }
  return [...named].sort();
}

/** Documents in the order of the paths; files that hold no ConnectivityTest are passed over in folders. */
function* findDocuments(paths: readonly string[], problems: Problem[]): Generator<OwnDocument> {
  for (const path of paths) {
    const known = problems.length;
    let found = 0;
    for (const file of listFiles([path], problems)) {
      const text = readText(file, problems);
      // A folder's other files are none of ours; a file that was named has to be readable.
      if (text === null || (file.found && !text.includes(TEST_KIND))) continue;
      for (const document of readOwnDocuments(new SourceText(file.path, text), TEST_KIND)) {
        found++;
        yield document;
      }
    }
    if (found > 0 || problems.length > known) continue;
    const message = `holds no ${TEST_KIND} document`;
    problems.push({ severity: 'error', file: path, document: 0, object: '', field: '', message });
  }
}
