/** `flatpath test`: runs ConnectivityTest documents. stdout carries the report alone. */
import { type Command, Option } from 'commander';
import { describeProblem, type Problem } from '../cluster/problem.ts';
import { MODES, type Mode } from '../model/datapath.ts';
import { exitCodeOf, formatJunit, formatText, makeReport, type Report } from '../probe/report.ts';
import { runSuite } from '../probe/suite.ts';
import { EXIT_BAD, UsageError } from './exit.ts';
import { Progress, paletteFor } from './terminal.ts';

interface TestOptions {
  readonly mode: string;
  readonly reporter: 'text' | 'json' | 'junit';
}

export function addTest(program: Command): void {
  program
    .command('test')
    .description('runs ConnectivityTest documents; exit 0 only if all hold')
    .argument('<path...>', 'files or folders with ConnectivityTest documents, or - for stdin')
    .addOption(new Option('--mode <mode>', 'picks among the modes that a document lists').default('all'))
    .addOption(new Option('--reporter <form>', 'form of the report').choices(['text', 'json', 'junit']).default('text'))
    .addHelpText('after', '\nExample:\n  flatpath test examples/shop/tests --reporter junit > report.xml')
    .action((paths: string[], options: TestOptions) => {
      process.exitCode = test(paths, options);
    });
}

function test(paths: readonly string[], options: TestOptions): number {
  const mode = readMode(options.mode);
  const progress = new Progress();
  const said = new Set<string>();
  const warn = (warnings: readonly Problem[]): void => {
    for (const warning of warnings) {
      const text = describeProblem(warning);
      if (said.has(text)) continue;
      said.add(text);
      process.stderr.write(`warning: ${text}\n`);
    }
  };
  const { tests, problems } = runSuite(paths, {
    mode,
    onProgress: (done, probes) => progress.update(() => `${done} tests, ${probes} probes done`),
    onWarnings: warn,
  });
  progress.end();
  for (const problem of problems) process.stderr.write(`error: ${describeProblem(problem)}\n`);
  // Machines that read the report get one, whatever happened.
  const report = makeReport(tests);
  process.stdout.write(`${format(report, options.reporter)}\n`);
  return problems.length > 0 ? EXIT_BAD : exitCodeOf(report);
}

function readMode(text: string): Mode | null {
  if (text === 'all') return null;
  const mode = MODES.find((candidate) => candidate === text);
  if (mode === undefined) throw new UsageError(`--mode ${text}: not one of ${MODES.join(', ')}, all`);
  return mode;
}

function format(report: Report, reporter: TestOptions['reporter']): string {
  switch (reporter) {
    case 'json':
      return JSON.stringify(report, null, 2);
    case 'junit':
      return formatJunit(report);
    default:
      return formatText(report, paletteFor(process.stdout));
  }
}
