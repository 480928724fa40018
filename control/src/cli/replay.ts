/** `flatpath replay`: a capture through the datapath, and what comes out as a capture. */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { readCapture } from '@flatpath/engine/wire/capture';
import { CaptureError } from '@flatpath/engine/wire/capture-record';
import { pcapWriter } from '@flatpath/engine/wire/pcap';
import { type Command, Option } from 'commander';
import type { ClusterModel } from '../compile/image.ts';
import { MODES, type Mode } from '../model/datapath.ts';
import { Injector } from '../probe/injector.ts';
import { addClusterOptions, type ClusterOptions, readModes } from './cluster-options.ts';
import { EXIT_OK, UsageError } from './exit.ts';
import {
  addRulesetOptions,
  describeSkipped,
  type LoadedModel,
  loadRulesetModel,
  type RulesetOptions,
  rulesetModes,
  rulesetReport,
} from './ruleset-options.ts';
import { Progress } from './terminal.ts';

interface ReplayOptions extends Partial<ClusterOptions>, RulesetOptions {
  readonly output: string;
  readonly mode?: string;
  readonly node?: string;
  readonly json?: boolean;
}

/** Packets of a replay by what became of them. */
interface Tally {
  packets: number;
  written: number;
  answers: number;
  translated: number;
  masqueraded: number;
  /** Count by `verdict` or `verdict reason`. */
  readonly ends: Map<string, number>;
}

export function addReplay(program: Command): void {
  addRulesetOptions(addClusterOptions(program.command('replay'), false))
    .description('sends a capture (pcap or pcapng) through the datapath and writes what comes out')
    .argument('<capture>', 'the capture, or - for stdin')
    .requiredOption('-o, --output <file>', 'capture to write (pcap, nanoseconds)')
    .addOption(new Option('--mode <mode>', `one of ${MODES.join(', ')}; default: iptables, or that of the dumps`))
    .option('--node <name>', 'where packets from outside enter; with --ruleset the node that the dumps came from')
    .option('--json', 'the summary as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatpath replay in.pcap -o out.pcap -f examples/shop --mode ebpf\n' +
        '  flatpath replay in.pcap -o out.pcap --ruleset node.iptables --addresses node.json',
    )
    .action((capture: string, options: ReplayOptions) => {
      process.exitCode = replay(capture, options);
    });
}

function replay(capture: string, options: ReplayOptions): number {
  const { model, loaded } = loadRulesetModel(options, options.node);
  const modes = loaded === null ? readModes(options.mode ?? 'iptables') : rulesetModes(loaded, options.mode);
  if (modes.length !== 1) throw new UsageError('replay runs one mode');
  const bytes = readBytes(capture);
  // Nothing half done: the capture appears under its name when it is whole.
  const partial = `${options.output}.partial`;
  const out = openOutput(partial);
  let tally: Tally;
  try {
    tally = runCapture(model, modes[0]!, nodeNumber(model, options.node), bytes, out);
  } catch (error) {
    closeSync(out);
    rmSync(partial, { force: true });
    if (error instanceof CaptureError) throw new UsageError(`${capture}: ${error.message}`);
    throw error;
  }
  closeSync(out);
  renameSync(partial, options.output);
  const lines = options.json ? [toJson(modes[0]!, tally, loaded)] : toText(modes[0]!, options.output, tally);
  if (loaded !== null && options.json !== true) lines.push(...describeSkipped(loaded));
  process.stdout.write(`${lines.join('\n')}\n`);
  return EXIT_OK;
}

function runCapture(model: ClusterModel, mode: Mode, node: number | null, bytes: Uint8Array, out: number): Tally {
  const tally: Tally = { packets: 0, written: 0, answers: 0, translated: 0, masqueraded: 0, ends: new Map() };
  const injector = new Injector(model, mode);
  const write = pcapWriter('nanoseconds', (piece) => writeSync(out, piece));
  const progress = new Progress();
  let first: number | null = null;
  for (const { seconds, nanoseconds, data } of readCapture(bytes)) {
    const now = seconds * 1000 + Math.floor(nanoseconds / 1_000_000);
    first ??= now;
    // A capture may go back in time between its interfaces; the virtual clock does not start below 0.
    const result = injector.inject(data, null, node, Math.max(0, now - first), false);
    tally.packets++;
    if (result.translated) tally.translated++;
    if (result.masquerade) tally.masqueraded++;
    const end = result.reason === 'none' ? result.verdict : `${result.verdict} ${result.reason}`;
    tally.ends.set(end, (tally.ends.get(end) ?? 0) + 1);
    const own = result.frame === null ? [] : [result.frame];
    for (const frame of [...own, ...result.fragments, ...result.answers]) {
      write(seconds, nanoseconds, frame, frame.length);
      tally.written++;
    }
    tally.answers += result.answers.length;
    progress.update(() => `${tally.packets} packets replayed`);
  }
  progress.end();
  return tally;
}

function readBytes(capture: string): Uint8Array {
  try {
    return readFileSync(capture === '-' ? 0 : capture);
  } catch (error) {
    throw new UsageError(`${capture}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function openOutput(file: string): number {
  try {
    return openSync(file, 'w');
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function nodeNumber(model: ClusterModel, name: string | undefined): number | null {
  if (name === undefined) return null;
  const index = model.topology.nodeIndex.get(name.startsWith('node/') ? name.slice('node/'.length) : name);
  if (index === undefined) throw new UsageError(`--node ${name}: there is no such node`);
  return index;
}

function toText(mode: Mode, output: string, tally: Tally): string[] {
  const lines = [
    `${tally.packets} packets through ${mode}: ${tally.translated} translated, ${tally.masqueraded} masqueraded`,
  ];
  for (const [end, count] of [...tally.ends].sort()) lines.push(`  ${String(count).padStart(9)}  ${end}`);
  const answers = tally.answers === 0 ? '' : `, ${tally.answers} of them answers to rejected packets`;
  lines.push(`${tally.written} packets written to ${output}${answers}`);
  return lines;
}

function toJson(mode: Mode, tally: Tally, loaded: LoadedModel['loaded']): string {
  const { ends, ...counts } = tally;
  const report = { version: 1, mode, ...counts, ends: Object.fromEntries([...ends].sort()) };
  return JSON.stringify({ ...report, ...(loaded !== null && { ruleset: rulesetReport(loaded) }) }, null, 2);
}
