/** `flatpath test`: runs ConnectivityTest documents. stdout carries the report alone. */
import { type Command, Option } from 'commander';
import { describeProblem } from '../cluster/problem.ts';
import type { ClusterModel } from '../compile/image.ts';
import { MODES, type Mode } from '../model/datapath.ts';
import { exitCodeOf, formatJunit, formatText, makeReport, type Report } from '../probe/report.ts';
import { runSuite } from '../probe/suite.ts';
import type { LoadedRuleset } from '../ruleset/ruleset.ts';
import { describeModel } from './cluster-options.ts';
import { EXIT_BAD, UsageError } from './exit.ts';
import {
  addRulesetOptions,
  describeNotes,
  describeSkipped,
  type RulesetOptions,
  readRulesetRequest,
  requestedMode,
  rulesetReport,
} from './ruleset-options.ts';
import { Progress, paletteFor } from './terminal.ts';

interface TestOptions extends RulesetOptions {
  readonly mode: string;
  readonly reporter: 'text' | 'json' | 'junit';
  readonly strict?: boolean;
  readonly node?: string;
}

export function addTest(program: Command): void {
  addRulesetOptions(program.command('test'))
    .description('runs ConnectivityTest documents; exit 0 only if all hold')
    .argument('<path...>', 'files or folders with ConnectivityTest documents, or - for stdin')
    .addOption(new Option('--mode <mode>', 'picks among the modes that a document lists').default('all'))
    .addOption(new Option('--reporter <form>', 'form of the report').choices(['text', 'json', 'junit']).default('text'))
    .option('--node <name>', 'with --ruleset: the node that the dumps came from')
    .option('--strict', 'policies that are not enforced make their documents an error')
    .addHelpText('after', '\nExample:\n  flatpath test examples/shop/tests --reporter junit > report.xml')
    .action((paths: string[], options: TestOptions) => {
      process.exitCode = test(paths, options);
    });
}

function test(paths: readonly string[], options: TestOptions): number {
  const request = readRulesetRequest(options);
  const mode = request === null ? readMode(options.mode) : requestedMode(request, options.mode);
  const progress = new Progress();
  const said = new Set<string>();
  const tellLine = (line: string): void => {
    if (said.has(line)) return;
    said.add(line);
    process.stderr.write(`${line}\n`);
  };
  const tell = (model: ClusterModel): void => {
    for (const line of describeModel(model)) tellLine(line);
  };
  let loaded: LoadedRuleset | null = null;
  const ruleset = request && {
    request,
    node: options.node?.replace(/^node\//, '') ?? null,
    onLoaded: (read: LoadedRuleset): void => {
      loaded = read;
      for (const line of describeNotes(read)) tellLine(line);
    },
  };
  const { tests, problems } = runSuite(paths, {
    ...(ruleset !== null && { ruleset }),
    mode,
    onProgress: (done, probes) => progress.update(() => `${done} tests, ${probes} probes done`),
    strict: options.strict === true,
    onModel: tell,
  });
  progress.end();
  for (const problem of problems) process.stderr.write(`error: ${describeProblem(problem)}\n`);
  // Machines that read the report get one, whatever happened.
  const report = makeReport(tests);
  process.stdout.write(`${format(report, options.reporter, loaded)}\n`);
  return problems.length > 0 ? EXIT_BAD : exitCodeOf(report);
}

function readMode(text: string): Mode | null {
  if (text === 'all') return null;
  const mode = MODES.find((candidate) => candidate === text);
  if (mode === undefined) throw new UsageError(`--mode ${text}: not one of ${MODES.join(', ')}, all`);
  return mode;
}

function format(report: Report, reporter: TestOptions['reporter'], loaded: LoadedRuleset | null): string {
  switch (reporter) {
    case 'json':
      return JSON.stringify({ ...report, ...(loaded !== null && { ruleset: rulesetReport(loaded) }) }, null, 2);
    case 'junit':
      return formatJunit(report);
    default:
      return [...(loaded === null ? [] : describeSkipped(loaded)), formatText(report, paletteFor(process.stdout))].join(
        '\n',
      );
  }
}
