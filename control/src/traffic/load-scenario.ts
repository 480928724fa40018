/** Reads a scenario file, and the cluster that it names. */

import { dirname, resolve } from 'node:path';
import { listFiles, readText } from '../cluster/files.ts';
import { loadCluster } from '../cluster/load.ts';
import { readOwnDocuments } from '../cluster/own-documents.ts';
import { InputError, type Problem } from '../cluster/problem.ts';
import { SourceText } from '../cluster/source-text.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { type DatapathInput, resolveDatapath } from '../model/datapath.ts';
import { literalAddress } from '../probe/reference.ts';
import { checkScenario, SCENARIO_KIND, type Scenario } from './scenario.ts';

export interface LoadedScenario {
  readonly scenario: Scenario;
  readonly file: string;
}

/** @throws InputError for a file that is not there, not readable, or not exactly one good Scenario */
export function loadScenario(path: string): LoadedScenario {
  const problems: Problem[] = [];
  const scenarios: LoadedScenario[] = [];
  for (const file of listFiles([path], problems)) {
    const text = readText(file, problems);
    if (text === null || (file.found && !text.includes(SCENARIO_KIND))) continue;
    for (const { value, error } of readOwnDocuments(new SourceText(file.path, text), SCENARIO_KIND)) {
      const sentences = error === null ? checkScenario(value) : error.split('\n');
      for (const message of sentences) problems.push(problem(file.path, message));
      scenarios.push({ scenario: value as Scenario, file: file.path });
    }
  }
  if (problems.length === 0 && scenarios.length !== 1) {
    problems.push(problem(path, scenarios.length === 0 ? 'holds no Scenario' : 'holds more than one Scenario'));
  }
  if (problems.length > 0) throw new InputError(problems);
  return scenarios[0]!;
}

/** Loads the scenario's manifests (relative to its file) under its datapath configuration. */
export function loadScenarioModel({ scenario, file }: LoadedScenario, datapath: DatapathInput): ClusterModel {
  const folder = file === '<stdin>' ? process.cwd() : dirname(file);
  const paths = (scenario.spec.manifests ?? []).map((path) => resolve(folder, path));
  const { cluster } = loadCluster(paths, {
    reserved: namedAddresses(scenario),
    serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
    clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
  });
  return modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
}

function problem(file: string, message: string): Problem {
  return { severity: 'error', file, document: 1, object: '', field: '', message };
}

/** Addresses that the streams name: made ones must not take them. */
function namedAddresses(scenario: Scenario): string[] {
  const texts = scenario.spec.streams.flatMap(({ from, to }) => [from, to].flat());
  return texts.map((text) => literalAddress(text)).filter((address) => address !== null);
}
