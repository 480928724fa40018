/** `flatpath trace`: one packet's story. Exit 0 when it arrives on every branch, 1 when it does not. */
import { type Command, Option } from 'commander';
import { formatStory } from '../explain/story-text.ts';
import { MODES } from '../model/datapath.ts';
import type { Connection } from '../probe/connection.ts';
import { resolveConnection } from '../probe/connection.ts';
import { describePolicy } from '../probe/not-enforced.ts';
import { summarizeBranches } from '../probe/suite.ts';
import { defaultMode, type Trace, traceConnection, traceReport } from '../probe/trace-report.ts';
import { addClusterOptions, type ClusterOptions, loadModel, readModes } from './cluster-options.ts';
import { EXIT_NO, EXIT_OK } from './exit.ts';
import { formatSideBySide } from './side-by-side.ts';
import { paletteFor } from './terminal.ts';

interface TraceOptions extends ClusterOptions {
  readonly from: string;
  readonly to: string;
  readonly protocol?: string;
  readonly mode?: string;
  readonly node?: string;
  readonly json?: boolean;
}

export function addTrace(program: Command): void {
  addClusterOptions(program.command('trace'))
    .description("tells one packet's story: every hop, rule or map entry, and the object each came from")
    .requiredOption('--from <ref>', 'who connects: pod/NS/NAME, deploy/, sts/, ds/, node/NAME or an address')
    .requiredOption('--to <ref:port>', 'to whom: svc/NS/NAME:PORT, pod/…, node/…, an address, name.ns.svc')
    .option('--protocol <name>', 'tcp, udp, sctp or icmp')
    .addOption(new Option('--mode <mode>', `${MODES.join(', ')}, or all side by side`))
    .option('--node <name>', 'where a packet from outside enters')
    .option('--json', 'the complete answer as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  flatpath trace -f examples/shop --from deploy/shop/frontend --to svc/shop/checkout:5050',
    )
    .action((options: TraceOptions) => {
      process.exitCode = trace(options);
    });
}

function trace(options: TraceOptions): number {
  const model = loadModel(options, [options.from, options.to]);
  const connection = resolveConnection(model, options);
  const modes = readModes(options.mode ?? defaultMode(model));
  const traces = modes.map((mode) => traceConnection(model, mode, connection));
  const text = options.json
    ? JSON.stringify(traceReport(options, traces), null, 2)
    : toText(options, connection, traces);
  process.stdout.write(`${text}\n`);
  const arrived = traces.every(({ branches }) =>
    branches.every((branch) => branch.verdict === 'delivered' || branch.verdict === 'forwarded'),
  );
  return arrived ? EXIT_OK : EXIT_NO;
}

function toText(options: TraceOptions, connection: Connection, traces: readonly Trace[]): string {
  const palette = paletteFor(process.stdout);
  const title = palette.bold(`${options.from} → ${options.to} ${connection.protocol}`);
  const columns = traces.map((trace) => [palette.bold(`mode ${trace.mode}`), ...describeTrace(trace)]);
  if (columns.length === 1) return [title, ...columns[0]!].join('\n');
  return [title, ...formatSideBySide(columns, process.stdout.columns ?? 0)].join('\n');
}

function describeTrace({ simulator, branches, stories, notEnforced }: Trace): string[] {
  const palette = paletteFor(process.stdout);
  const summary = summarizeBranches(branches);
  // The story worth telling is that of a branch that decides the verdict.
  const decides = branches.findIndex(({ verdict, reason }) => verdict === summary.verdict && reason === summary.reason);
  const told = decides < stories.length ? decides : 0;
  const lines = branches.length > 1 ? [palette.dim(`path ${told + 1} of ${branches.length}`)] : [];
  lines.push(...formatStory(stories[told]!, palette));
  const reason = summary.reason === 'none' ? '' : ` (${summary.reason})`;
  const paint = summary.verdict === 'delivered' || summary.verdict === 'forwarded' ? palette.good : palette.bad;
  lines.push('', `verdict: ${paint(summary.verdict)}${reason}`);
  lines.push(
    `a Service translated it: ${yesNo(summary.translated)}, and masqueraded its source: ${yesNo(summary.masquerade)}`,
  );
  if (notEnforced.length > 0) {
    lines.push(palette.bad(`not enforced, but may change this answer: ${notEnforced.map(describePolicy).join(', ')}`));
  }
  if (branches.length > 1 || summary.backends.length > 0) {
    lines.push(`${branches.length} possible ${branches.length === 1 ? 'path' : 'paths'}:`);
    for (const branch of branches) {
      const end =
        simulator.describeTarget(branch) ?? `${branch.verdict}${branch.reason === 'none' ? '' : ` (${branch.reason})`}`;
      const source = branch.masquerade ? ', source masqueraded' : '';
      lines.push(`  ${branch.backend ?? branch.target.address.text}  ${end}${source}`);
    }
  }
  return lines;
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
