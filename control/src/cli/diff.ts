/** `flatpath diff`: what a change would do to connections. Exit 1 when something that worked breaks. */
import { type Command, Option } from 'commander';
import type { ClusterModel } from '../compile/image.ts';
import { type Difference, findDifference, modeOfSide, onlyDeclared, viewSides } from '../diff/difference.ts';
import { type FlowDifference, findFlowDifference, listRecordedAddresses } from '../diff/flow-difference.ts';
import { differenceReport } from '../diff/json-report.ts';
import { formatMarkdown } from '../diff/markdown-report.ts';
import { readRecording } from '../diff/read-recording.ts';
import { type Recording, RecordingError } from '../diff/recorded-flow.ts';
import { sarifReport } from '../diff/sarif-report.ts';
import { completeSides, readSides } from '../diff/sides.ts';
import { formatDifference } from '../diff/text-report.ts';
import { MODES } from '../model/datapath.ts';
import { listNotEnforced } from '../probe/not-enforced.ts';
import { describeModel, readDatapath, readModes } from './cluster-options.ts';
import { EXIT_NO, EXIT_OK, UsageError } from './exit.ts';
import { Progress, paletteFor } from './terminal.ts';

interface DiffOptions {
  readonly file: string[];
  readonly to: string[];
  readonly datapath?: string;
  readonly toDatapath?: string;
  readonly mode?: string;
  readonly flows?: string[];
  readonly declaredPorts?: boolean;
  readonly strict?: boolean;
  readonly json?: boolean;
  readonly markdown?: boolean;
  readonly sarif?: boolean;
}

export function addDiff(program: Command): void {
  program
    .command('diff')
    .description('tells what a change would do to connections; exit 1 when something that worked breaks')
    .requiredOption('-f, --file <path...>', 'manifests before: files, folders, - for stdin, or git:REV:path')
    .requiredOption('--to <path...>', 'manifests after, likewise')
    .addOption(new Option('--mode <mode>', `one of ${MODES.join(', ')}; default: the cluster's own, else ebpf`))
    .option('--datapath <file>', 'datapath configuration (the `datapath` block of a ConnectivityTest)')
    .option('--to-datapath <file>', 'that of after, where it is another one')
    .option('--flows <file...>', 'recorded flows: a pcap or pcapng, hubble observe -o jsonpb, or conntrack -L')
    .option('--declared-ports', 'leave out ports that a target does not declare, where it declares any')
    .option('--strict', 'objects that can change an answer but are not modelled end with exit code 2')
    .addOption(new Option('--json', 'everything, as JSON').conflicts(['markdown', 'sarif']))
    .addOption(new Option('--markdown', 'for a comment on a pull request').conflicts(['json', 'sarif']))
    .addOption(new Option('--sarif', 'SARIF 2.1.0, for code scanning').conflicts(['json', 'markdown']))
    .addHelpText(
      'after',
      '\nExamples:\n  flatpath diff -f git:origin/main:deploy --to deploy\n' +
        '  flatpath diff -f deploy --to deploy new-policy.yaml --flows flows.json --markdown',
    )
    .action((options: DiffOptions) => {
      process.exitCode = diff(options, program.version() ?? '');
    });
}

function diff(options: DiffOptions, version: string): number {
  const progress = new Progress();
  const flags = options.mode === undefined ? null : readModes(options.mode);
  if (flags !== null && flags.length !== 1) throw new UsageError('diff compares in one mode');
  const recordings = (options.flows ?? []).map(readFlows);
  const { before, after } = readSides(
    { paths: options.file, datapath: options.datapath === undefined ? {} : readDatapath(options.datapath) },
    { paths: options.to, datapath: readDatapathAfter(options) },
    process.cwd(),
  );
  const sides = completeSides(before, after, listRecordedAddresses(recordings));
  reportModels(sides.before.model, sides.after.model, options.strict === true);
  const mode = flags?.[0] ?? null;
  const modes = {
    before: mode ?? modeOfSide(sides.before, before.datapath),
    after: mode ?? modeOfSide(sides.after, after.datapath),
  };
  progress.update(() => 'comparing');
  const views = viewSides(sides, modes);
  const whole = findDifference(views);
  const difference = options.declaredPorts === true ? onlyDeclared(whole) : whole;
  const flows = recordings.length === 0 ? null : findFlowDifference(views, recordings);
  progress.end();
  process.stdout.write(`${format(options, difference, flows, version)}\n`);
  const judged = flows === null ? difference.rows : flows.rows;
  return judged.some(({ kind }) => kind === 'breaks') ? EXIT_NO : EXIT_OK;
}

function format(options: DiffOptions, difference: Difference, flows: FlowDifference | null, version: string): string {
  if (options.json === true) return JSON.stringify(differenceReport(difference, flows), null, 2);
  if (options.sarif === true) return JSON.stringify(sarifReport(difference, flows, process.cwd(), version), null, 2);
  if (options.markdown === true) return formatMarkdown(difference, flows).trimEnd();
  return formatDifference(difference, flows, paletteFor(process.stdout)).join('\n');
}

function readDatapathAfter({ datapath, toDatapath }: DiffOptions): ReturnType<typeof readDatapath> {
  const file = toDatapath ?? datapath;
  return file === undefined ? {} : readDatapath(file);
}

function readFlows(file: string): Recording {
  try {
    return readRecording(file);
  } catch (error) {
    if (error instanceof RecordingError) throw new UsageError(error.message);
    throw error;
  }
}

/** What a user should know of both sides; what is so of one alone names it. */
function reportModels(before: ClusterModel, after: ClusterModel, strict: boolean): void {
  const were = describeModel(before);
  const are = new Set(describeModel(after));
  for (const line of were) if (!are.has(line)) process.stderr.write(`before: ${line}\n`);
  for (const line of are) process.stderr.write(`${line}\n`);
  if (strict && [before, after].some((model) => listNotEnforced(model).length > 0)) {
    throw new UsageError('--strict: the input holds policies that flatpath does not enforce');
  }
}
