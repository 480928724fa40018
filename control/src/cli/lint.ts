/**
 * `flatpath lint`: policies and Services that cannot do what they seem to. Exit 0 when nothing of the asked severity was
 * found, 1 when something was.
 */
import { type Command, Option } from 'commander';
import { loadCluster } from '../cluster/load.ts';
import type { ClusterModel } from '../compile/image.ts';
import { modelCluster } from '../compile/image.ts';
import { SEVERITIES, type Severity } from '../lint/finding.ts';
import { lintCluster } from '../lint/lint.ts';
import type { Ask } from '../lint/lint-context.ts';
import { isAtLeast, lintJson, lintText } from '../lint/lint-report.ts';
import { resolveDatapath } from '../model/datapath.ts';
import { resolveConnection } from '../probe/connection.ts';
import { UnresolvedReference } from '../probe/reference.ts';
import { Simulator } from '../probe/simulator.ts';
import { defaultMode } from '../probe/trace-report.ts';
import { addClusterOptions, type ClusterOptions, readDatapath, reportModel } from './cluster-options.ts';
import { EXIT_NO, EXIT_OK } from './exit.ts';
import { paletteFor } from './terminal.ts';

interface LintOptions extends ClusterOptions {
  readonly severity: Severity;
  readonly json?: boolean;
}

export function addLint(program: Command): void {
  addClusterOptions(program.command('lint'))
    .description('finds policies and Services that cannot do what they seem to')
    .addOption(
      new Option('--severity <least>', 'the least that is shown and ends with exit code 1')
        .choices([...SEVERITIES])
        .default('warning'),
    )
    .option('--json', 'the findings as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatpath lint -f examples/shop\n  flatpath lint -f k8s/ --severity info --json\n\nEvery rule: docs/lint.md',
    )
    .action((options: LintOptions) => {
      process.exitCode = lint(options);
    });
}

function lint(options: LintOptions): number {
  const datapath = options.datapath === undefined ? {} : readDatapath(options.datapath);
  const { cluster, store } = loadCluster(options.file, {
    serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
    clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
  });
  const model = modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
  reportModel(model, options.strict === true);
  const findings = lintCluster(model, store, askOf(model));
  const { severity } = options;
  process.stdout.write(
    options.json === true
      ? `${JSON.stringify(lintJson(findings, severity), null, 2)}\n`
      : `${lintText(findings, severity, paletteFor(process.stdout))}\n`,
  );
  return findings.some((finding) => isAtLeast(finding, severity)) ? EXIT_NO : EXIT_OK;
}

/** A first packet through the mode that the cluster runs; a pod and a Service that share no family have no answer. */
export function askOf(model: ClusterModel): Ask {
  let simulator: Simulator | null = null;
  return (from, to, port, protocol) => {
    simulator ??= new Simulator(model, defaultMode(model));
    const reference = ({ metadata }: typeof from | typeof to): string => `${metadata.namespace}/${metadata.name}`;
    try {
      const request = { from: `pod/${reference(from)}`, to: `svc/${reference(to)}:${port}`, protocol };
      return simulator.probe(resolveConnection(model, request), false);
    } catch (error) {
      if (error instanceof UnresolvedReference) return [];
      throw error;
    }
  };
}
