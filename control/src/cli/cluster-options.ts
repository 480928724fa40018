/**
 * The options of every command that loads a cluster: `-f PATH…`, `--datapath FILE`, `--strict`.
 */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { parse } from 'yaml';
import { loadCluster } from '../cluster/load.ts';
import { describeProblem } from '../cluster/problem.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { BUILT_MODES, type DatapathInput, MODES, type Mode, resolveDatapath } from '../model/datapath.ts';
import { checkDatapath } from '../model/datapath-check.ts';
import { describePolicy, listNotEnforced } from '../probe/not-enforced.ts';
import { UsageError } from './exit.ts';

export interface ClusterOptions {
  readonly file: string[];
  readonly datapath?: string;
  readonly strict?: boolean;
}

/** @param needsFiles false where a command may do without manifests */
export function addClusterOptions(command: Command, needsFiles = true): Command {
  return command
    .addOption(
      new Option('-f, --file <path...>', 'manifests: files, folders, or - for stdin').makeOptionMandatory(needsFiles),
    )
    .option('--datapath <file>', 'datapath configuration (the `datapath` block of a ConnectivityTest)')
    .option('--strict', 'objects that can change an answer but are not modelled end with exit code 2');
}

/** Loads what `-f` and `--datapath` name, prints warnings and what is not modelled. */
export function loadModel(options: ClusterOptions, reserved: readonly string[] = []): ClusterModel {
  const datapath = options.datapath === undefined ? {} : readDatapath(options.datapath);
  const { cluster } = loadCluster(options.file, {
    reserved: [...reserved],
    serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
    clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
  });
  const model = modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
  reportModel(model, options.strict === true);
  return model;
}

/** Prints warnings, what ConfigMaps decided and what is not modelled. */
export function reportModel(model: ClusterModel, strict: boolean): void {
  for (const line of describeModel(model)) process.stderr.write(`${line}\n`);
  if (strict && listNotEnforced(model).length > 0) {
    throw new UsageError('--strict: the input holds policies that flatpath does not enforce');
  }
}

/** What a user should know of a cluster that was loaded, a sentence a line. */
export function describeModel(model: ClusterModel): string[] {
  const { cluster } = model;
  const lines = [...cluster.warnings, ...model.warnings].map((warning) => `warning: ${describeProblem(warning)}`);
  for (const taken of cluster.defaults.taken) {
    const { origin } = taken;
    lines.push(`${taken.option} ${taken.value} from ConfigMap ${origin.namespace}/${origin.name}`);
  }
  if (cluster.unmodelled.length > 0) {
    const kinds = cluster.unmodelled.map(({ kind, apiVersion, count }) => `${count} ${kind} (${apiVersion})`);
    lines.push(`not modelled: ${kinds.join(', ')}`);
  }
  const policies = listNotEnforced(model).map(describePolicy);
  if (policies.length > 0) lines.push(`not enforced, but may change an answer: ${policies.join(', ')}`);
  return lines;
}

/** Reads the file behind `--datapath`. */
export function readDatapath(file: string): DatapathInput {
  let document: unknown;
  try {
    document = parse(readFileSync(file, 'utf8'), { maxAliasCount: 0, schema: 'core' });
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { input, problems } = checkDatapath(document);
  if (problems.length > 0) throw new UsageError(problems.map((problem) => `${file}: ${problem}`).join('\nerror: '));
  return input;
}

/** The modes that `--mode M|all` asks for. */
export function readModes(text: string): Mode[] {
  if (text === 'all') return [...BUILT_MODES];
  const mode = MODES.find((candidate) => candidate === text);
  if (mode === undefined) throw new UsageError(`--mode ${text}: not one of ${MODES.join(', ')}, all`);
  if (!BUILT_MODES.includes(mode)) throw new UsageError(`--mode ${text}: this build runs ${BUILT_MODES.join(' and ')}`);
  return [mode];
}
