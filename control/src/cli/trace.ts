/** `flatpath trace`: one packet's story. Exit 0 when it arrives on every branch, 1 when it does not. */
import { type Command, Option } from 'commander';
import { MODES } from '../model/datapath.ts';
import type { Connection } from '../probe/connection.ts';
import { resolveConnection } from '../probe/connection.ts';
import { defaultMode, type Trace, traceConnection, traceReport } from '../probe/trace-report.ts';
import { formatTrace } from '../probe/trace-text.ts';
import { addClusterOptions, type ClusterOptions, readModes } from './cluster-options.ts';
import { EXIT_NO, EXIT_OK, UsageError } from './exit.ts';
import {
  addRulesetOptions,
  describeSkipped,
  type LoadedModel,
  loadRulesetModel,
  type RulesetOptions,
  rulesetModes,
  rulesetReport,
} from './ruleset-options.ts';
import { formatSideBySide } from './side-by-side.ts';
import { paletteFor } from './terminal.ts';

interface TraceOptions extends Partial<ClusterOptions>, RulesetOptions {
  readonly from: string;
  readonly to: string;
  readonly protocol?: string;
  readonly mode?: string;
  readonly node?: string;
  readonly json?: boolean;
}

export function addTrace(program: Command): void {
  addRulesetOptions(addClusterOptions(program.command('trace'), false))
    .description("tells one packet's story: every hop, rule or map entry, and the object each came from")
    .requiredOption('--from <ref>', 'who connects: pod/NS/NAME, deploy/, sts/, ds/, node/NAME or an address')
    .requiredOption('--to <ref:port>', 'to whom: svc/NS/NAME:PORT, pod/…, node/…, an address, name.ns.svc')
    .option('--protocol <name>', 'tcp, udp, sctp or icmp')
    .addOption(new Option('--mode <mode>', `${MODES.join(', ')}, or all side by side`))
    .option('--node <name>', 'where a packet from outside enters; with --ruleset the node that the dumps came from')
    .option('--json', 'the complete answer as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatpath trace -f examples/shop --from deploy/shop/frontend --to svc/shop/checkout:5050\n' +
        '  flatpath trace --ruleset node.iptables --addresses node.json --from 10.1.2.3 --to 10.96.0.10:80',
    )
    .action((options: TraceOptions) => {
      process.exitCode = trace(options);
    });
}

function trace(options: TraceOptions): number {
  const { model, loaded } = loadRulesetModel(options, options.node, [options.from, options.to]);
  const connection = resolveConnection(model, options);
  requireFamily(loaded, connection);
  const modes = loaded === null ? readModes(options.mode ?? defaultMode(model)) : rulesetModes(loaded, options.mode);
  const traces = modes.map((mode) => traceConnection(model, mode, connection));
  const text = options.json
    ? JSON.stringify(
        { ...traceReport(options, traces), ...(loaded !== null && { ruleset: rulesetReport(loaded) }) },
        null,
        2,
      )
    : [toText(options, connection, traces), ...(loaded === null ? [] : describeSkipped(loaded))].join('\n');
  process.stdout.write(`${text}\n`);
  const arrived = traces.every(({ branches }) =>
    branches.every((branch) => branch.verdict === 'delivered' || branch.verdict === 'forwarded'),
  );
  return arrived ? EXIT_OK : EXIT_NO;
}

/** Rules of the packet's family are needed: without them nothing would be walked. */
function requireFamily(loaded: LoadedModel['loaded'], { family }: Connection): void {
  if (loaded === null || loaded.ruleset.mode === 'nftables' || loaded.ruleset.iptables[family] !== null) return;
  const tool = family === 4 ? 'iptables-save' : 'ip6tables-save';
  throw new UsageError(`an IPv${family} packet meets IPv${family} rules: add --ruleset with the output of ${tool}`);
}

function toText(options: TraceOptions, connection: Connection, traces: readonly Trace[]): string {
  const palette = paletteFor(process.stdout);
  const title = palette.bold(`${options.from} → ${options.to} ${connection.protocol}`);
  const columns = traces.map((trace) => [palette.bold(`mode ${trace.mode}`), ...formatTrace(trace, palette)]);
  if (columns.length === 1) return [title, ...columns[0]!].join('\n');
  return [title, ...formatSideBySide(columns, process.stdout.columns ?? 0)].join('\n');
}
