/** `flatpath run`: a scenario's traffic at full speed through each of its modes, a live line, then a table. */

import { cpus } from 'node:os';
import { COUNT_ENTERED } from '@flatpath/engine/programs/count';
import { type Command, Option } from 'commander';
import { BUILT_MODES, MODES, type Mode } from '../model/datapath.ts';
import { compileTraffic } from '../traffic/compile-traffic.ts';
import { loadScenario, loadScenarioModel } from '../traffic/load-scenario.ts';
import { type RunReport, reportRun, startTraffic } from '../traffic/run.ts';
import { readDatapath, reportModel } from './cluster-options.ts';
import { EXIT_INTERRUPTED, EXIT_NO, EXIT_OK, UsageError } from './exit.ts';
import { formatRunTable } from './run-table.ts';
import { Progress, paletteFor } from './terminal.ts';

interface RunOptions {
  readonly mode?: string;
  readonly workers?: string;
  readonly packets?: string;
  readonly datapath?: string;
  readonly json?: boolean;
}

export function addRun(program: Command): void {
  program
    .command('run')
    .description('sends the traffic of a scenario through the datapaths and compares them')
    .argument('<scenario>', 'a Scenario document')
    .addOption(new Option('--mode <mode>', `one of ${MODES.join(', ')}; default: those of the scenario`))
    .option('--workers <n>', 'worker threads; default: cores - 1, at least 1')
    .option('--packets <n>', "packets to send, instead of the scenario's")
    .option('--datapath <file>', 'datapath configuration, over that of the scenario')
    .option('--json', 'the result as JSON')
    .addHelpText('after', '\nExample:\n  flatpath run examples/shop/traffic.yaml --mode ebpf --workers 2')
    .action(async (scenario: string, options: RunOptions) => {
      process.exitCode = await run(scenario, options);
    });
}

async function run(path: string, options: RunOptions): Promise<number> {
  const loaded = loadScenario(path);
  const { spec } = loaded.scenario;
  const datapath = { ...spec.datapath, ...(options.datapath === undefined ? {} : readDatapath(options.datapath)) };
  const model = loadScenarioModel(loaded, datapath);
  reportModel(model, false);
  const workers = readCount(options.workers, '--workers', 256) ?? Math.max(1, cpus().length - 1);
  const packets = readCount(options.packets, '--packets', 2 ** 39);
  const asked = packets === null ? spec : { ...spec, packets, duration: undefined };
  const traffic = compileTraffic(model, asked);
  const reports: RunReport[] = [];
  let interrupted = false;
  for (const mode of readRunModes(options.mode, datapath.modes)) {
    if (interrupted) break;
    const { handle } = startTraffic(model, mode, traffic, workers);
    // The first Ctrl-C ends the run at its next tick and shows what it did; the second one ends the process.
    const interrupt = (): void => {
      interrupted = true;
      handle.stop();
    };
    process.once('SIGINT', interrupt);
    const progress = new Progress();
    const timer = setInterval(() => progress.update(() => progressLine(mode, traffic.packets, handle.progress())), 100);
    try {
      reports.push(reportRun(mode, workers, traffic.seed, await handle.done));
    } finally {
      clearInterval(timer);
      progress.end();
      process.removeListener('SIGINT', interrupt);
    }
  }
  const text = options.json
    ? JSON.stringify({ version: 1, scenario: path, runs: reports }, null, 2)
    : formatRunTable(reports, paletteFor(process.stdout));
  process.stdout.write(`${text}\n`);
  if (interrupted) return EXIT_INTERRUPTED;
  return reports.some((report) => report.broken > 0) ? EXIT_NO : EXIT_OK;
}

interface ProgressLike {
  readonly measuring: boolean;
  readonly totals: { readonly counters: Float64Array; readonly station: Float64Array };
}

function progressLine(mode: Mode, packets: number, { measuring, totals }: ProgressLike): string {
  const entered = totals.counters[COUNT_ENTERED]!;
  if (!measuring) return `${mode}: setting up connections, ${entered.toLocaleString('en')} packets`;
  const share = Math.min(1, (totals.station[0] ?? 0) / packets);
  return `${mode}: ${Math.floor(share * 100)} %, ${entered.toLocaleString('en')} packets`;
}

/** The modes to run: the one asked for, else those of the scenario that this build has. */
function readRunModes(asked: string | undefined, listed: readonly Mode[] | undefined): Mode[] {
  if (asked !== undefined && asked !== 'all') {
    const mode = MODES.find((candidate) => candidate === asked);
    if (mode === undefined) throw new UsageError(`--mode ${asked}: not one of ${MODES.join(', ')}`);
    if (!BUILT_MODES.includes(mode))
      throw new UsageError(`--mode ${asked}: this build runs ${BUILT_MODES.join(' and ')}`);
    return [mode];
  }
  const modes = (listed ?? BUILT_MODES).filter((mode) => BUILT_MODES.includes(mode));
  if (modes.length === 0)
    throw new UsageError(`the scenario lists no mode that this build runs: ${BUILT_MODES.join(', ')}`);
  return modes;
}

function readCount(text: string | undefined, option: string, most: number): number | null {
  if (text === undefined) return null;
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > most) {
    throw new UsageError(`${option} ${text}: a whole number from 1 to ${most}`);
  }
  return count;
}
