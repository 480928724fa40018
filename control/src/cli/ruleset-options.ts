/**
 * The options of commands that send packets through a real node's dump: `--ruleset FILE…`, `--addresses FILE…`,
 * `--lenient`; and what such a run has to say about rules that it did not understand.
 */
import { type Command, Option } from 'commander';
import { loadCluster } from '../cluster/load.ts';
import type { ClusterModel } from '../compile/image.ts';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { modelRuleset, type RulesetRequest } from '../ruleset/node-model.ts';
import type { NotUnderstood } from '../ruleset/not-understood.ts';
import { type LoadedRuleset, modeOfDumps } from '../ruleset/ruleset.ts';
import { type ClusterOptions, loadModel, readDatapath, reportModel } from './cluster-options.ts';
import { UsageError } from './exit.ts';

export interface RulesetOptions {
  readonly ruleset?: string[];
  readonly addresses?: string[];
  readonly lenient?: boolean;
}

/** A model to run packets in, and the dumps of the node whose rules are not kube-proxy's. */
export interface LoadedModel {
  readonly model: ClusterModel;
  /** Null: all rules come from manifests. */
  readonly loaded: LoadedRuleset | null;
}

export function addRulesetOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--ruleset <file...>',
        "a real node's rules: iptables-save, ip6tables-save, nft list ruleset (or -j), ipvsadm-save, ipset save",
      ),
    )
    .addOption(
      new Option('--addresses <file...>', "that node's `ip -j addr` and `ip -j route`, in one file or several"),
    )
    .option('--lenient', 'rules that are not understood never match, and are named in the answer');
}

/** The request behind the options, null without `--ruleset`. */
export function readRulesetRequest(options: RulesetOptions): RulesetRequest | null {
  const { ruleset, addresses = [], lenient = false } = options;
  if (ruleset !== undefined) return { files: ruleset, addresses, lenient };
  if (addresses.length > 0) throw new UsageError('--addresses belongs to --ruleset');
  if (lenient) throw new UsageError('--lenient belongs to --ruleset');
  return null;
}

/**
 * Loads what `-f`, `--datapath`, `--ruleset` and `--addresses` name; prints warnings and assumptions.
 * @param node the node that the dumps came from; needed with manifests of more than one node
 */
export function loadRulesetModel(
  options: Partial<ClusterOptions> & RulesetOptions,
  node: string | undefined,
  reserved: readonly string[] = [],
): LoadedModel {
  const request = readRulesetRequest(options);
  const { file, datapath: datapathFile, strict } = options;
  if (request === null) {
    if (file === undefined) throw new UsageError('-f PATH or --ruleset FILE is needed');
    return {
      model: loadModel({ file, ...(datapathFile && { datapath: datapathFile }), strict }, reserved),
      loaded: null,
    };
  }
  const datapath = datapathFile === undefined ? {} : readDatapath(datapathFile);
  const cluster =
    file === undefined
      ? null
      : loadCluster(file, {
          reserved: [...reserved],
          serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
          clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
        }).cluster;
  const names = cluster?.nodes.map(({ metadata }) => metadata.name) ?? [];
  const { model, loaded } = modelRuleset(request, cluster, nodeOfDumps(names, node), datapath);
  reportModel(model, strict === true);
  for (const line of describeNotes(loaded)) process.stderr.write(`${line}\n`);
  return { model, loaded };
}

/** @param names nodes of the manifests, none where none were given */
export function nodeOfDumps(names: readonly string[], given: string | undefined): string | null {
  const bare = given?.startsWith('node/') === true ? given.slice('node/'.length) : given;
  if (names.length === 0) return bare ?? null;
  if (bare === undefined) {
    if (names.length === 1) return names[0]!;
    throw new UsageError(`--node says which node the dumps came from: ${names.slice(0, 8).join(', ')}`);
  }
  if (!names.includes(bare)) throw new UsageError(`--node ${bare}: there is ${names.slice(0, 8).join(', ')}`);
  return bare;
}

/** The modes to run: the one of the rules, where `--mode` does not ask for another. */
export function rulesetModes(loaded: LoadedRuleset, mode: string | undefined): Mode[] {
  return [ownMode(loaded.ruleset.mode, mode)];
}

/** The same before the dumps are compiled. */
export function requestedMode(request: RulesetRequest, mode: string): Mode {
  return ownMode(modeOfDumps(request.files), mode);
}

function ownMode(own: Mode, mode: string | undefined): Mode {
  if (mode !== undefined && mode !== 'all' && mode !== own) {
    throw new UsageError(`--mode ${mode}: the dumps hold rules of ${own}`);
  }
  if (!BUILT_MODES.includes(own))
    throw new UsageError(`this build runs ${BUILT_MODES.join(', ')}, the dumps are of ${own}`);
  return own;
}

/** Lines about rules that never match because they are not understood. */
export function describeSkipped(loaded: LoadedRuleset): string[] {
  return loaded.skipped.map((part) => `taken as never matching: ${describePart(part)}`);
}

/** Lines for stderr: warnings, and what was taken to be so because nothing tells. */
export function describeNotes({ warnings, assumed }: LoadedRuleset): string[] {
  return [
    ...warnings.map((warning) => `warning: ${warning}`),
    ...assumed.map((part) => `assumed: ${describePart(part)}`),
  ];
}

function describePart({ file, line, path, text, message }: NotUnderstood): string {
  const place = line === null ? [file, path].filter((part) => part !== '').join(' ') : `${file}:${line}`;
  return `${place}: '${text}' ${message}`;
}

/** What an answer in JSON says about the dumps. */
export function rulesetReport(loaded: LoadedRuleset): object {
  const { files, skipped, assumed, ruleset } = loaded;
  return { files, mode: ruleset.mode, skipped, assumed };
}
