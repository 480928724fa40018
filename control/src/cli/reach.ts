/** `flatpath reach`: who can reach whom, on which ports. Exit 0, or 2 for bad input. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { MODES, type Mode } from '../model/datapath.ts';
import { type PortFilter, readPortFilter } from '../reach/filter-ports.ts';
import { htmlPieces } from '../reach/html.ts';
import { jsonPieces } from '../reach/json.ts';
import { Reachability } from '../reach/reachability.ts';
import { type ReachReport, reachMode, reportSteps } from '../reach/report.ts';
import { formatReport } from '../reach/text.ts';
import { addClusterOptions, type ClusterOptions, loadModel, readModes } from './cluster-options.ts';
import { EXIT_OK, UsageError } from './exit.ts';
import { Progress, paletteFor } from './terminal.ts';

interface ReachOptions extends ClusterOptions {
  readonly mode?: string;
  readonly namespace: string[];
  readonly from: string[];
  readonly to: string[];
  readonly ports: string[];
  readonly denied?: boolean;
  readonly json?: boolean;
  readonly html?: string;
}

/** Columns of a pipe. */
const PIPE_COLUMNS = 120;

export function addReach(program: Command): void {
  addClusterOptions(program.command('reach'))
    .description('who can reach whom, on which ports: workloads, nodes and the outside, and through which Services')
    .addOption(new Option('--mode <mode>', `${MODES.join(', ')}; the cluster's own, else ebpf`))
    .option('--namespace <name...>', 'pairs of which one end is in such a namespace', [])
    .option('--from <ref...>', 'sources: pod/NS/NAME, deploy/, sts/, ds/, node/NAME, nodes, outside or an address', [])
    .option('--to <ref...>', 'targets: the same, or svc/NS/NAME', [])
    .option('--ports <list...>', '80, 443/tcp, 8000-8080, 53/udp, icmp; with commas', [])
    .option('--denied', 'lists what is not reached, and why')
    .option('--json', 'the complete answer as JSON')
    .option('--html <file>', 'a page of its own with a matrix to read, sort and filter; - for stdout')
    .addHelpText(
      'after',
      '\nExamples:\n  flatpath reach -f examples/shop --to svc/shop/checkout\n' +
        '  flatpath reach -f examples/shop --namespace shop --ports 5432,6379 --html reach.html',
    )
    .action((options: ReachOptions) => {
      process.exitCode = reach(options);
    });
}

function reach(options: ReachOptions): number {
  const ports = readPorts(options.ports);
  const asked = options.mode === undefined ? null : readOneMode(options.mode);
  const model = loadModel(options, [...options.from, ...options.to]);
  const progress = new Progress();
  const filter = { from: options.from, to: options.to, namespaces: options.namespace, ports };
  const steps = reportSteps(new Reachability(model, asked ?? reachMode(model)), filter);
  let step = steps.next();
  for (let done = 1; step.done !== true; done++, step = steps.next()) {
    progress.update(() => `reach: ${done} sources tried`);
  }
  const report = step.value;
  progress.end();
  if (options.html !== undefined) {
    writePage(report, options);
    if (options.json !== true) return EXIT_OK;
  }
  if (options.json === true) for (const piece of jsonPieces(report)) process.stdout.write(piece);
  else {
    const { bold, dim } = paletteFor(process.stdout);
    const width = process.stdout.columns ?? PIPE_COLUMNS;
    for (const line of formatReport(report, { width, denied: options.denied === true, bold, dim })) {
      process.stdout.write(`${line}\n`);
    }
  }
  return EXIT_OK;
}

function writePage(report: ReachReport, { html, file }: ReachOptions): void {
  const pieces = htmlPieces(report, `reach: ${file.join(' ')}`);
  if (html === '-') {
    for (const piece of pieces) process.stdout.write(piece);
    return;
  }
  const to = openSync(html!, 'w');
  try {
    for (const piece of pieces) writeSync(to, piece);
  } finally {
    closeSync(to);
  }
}

function readPorts(texts: readonly string[]): PortFilter[] {
  return texts.flatMap((text) => {
    const filters = readPortFilter(text);
    if (filters === null) throw new UsageError(`--ports ${text}: not a list of 80, 443/tcp, 8000-8080, 53/udp or icmp`);
    return filters;
  });
}

function readOneMode(text: string): Mode {
  const [mode, ...others] = readModes(text);
  if (others.length > 0) throw new UsageError('--mode all: reach answers for one mode');
  return mode!;
}
