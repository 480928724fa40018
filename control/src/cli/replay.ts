/** `flatpath replay`: a capture through the datapath, and what comes out as a capture. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { CaptureError, readCapture } from '@flatpath/engine/wire/capture';
import { pcapHeader, pcapRecord } from '@flatpath/engine/wire/pcap';
import { MODES } from '../model/datapath.ts';
import { Injector } from '../probe/injector.ts';
import { addClusterOptions, type ClusterOptions, loadModel, readModes } from './cluster-options.ts';
import { EXIT_BAD, EXIT_OK, UsageError } from './exit.ts';
import { Progress } from './terminal.ts';

interface ReplayOptions extends ClusterOptions {
  readonly output: string;
  readonly mode: string;
  readonly node?: string;
  readonly json?: boolean;
}

export function addReplay(program: Command): void {
  addClusterOptions(program.command('replay'))
    .description('sends a capture (pcap or pcapng) through the datapath and writes what comes out')
    .argument('<capture>', 'the capture, or - for stdin')
    .requiredOption('-o, --output <file>', 'capture to write (pcap, nanoseconds)')
    .addOption(new Option('--mode <mode>', `one of ${MODES.join(', ')}`).default('iptables'))
    .option('--node <name>', 'where packets from outside enter')
    .option('--json', 'the summary as JSON')
    .addHelpText('after', '\nExample:\n  flatpath replay in.pcap -o out.pcap -f examples/shop --mode ebpf')
    .action((capture: string, options: ReplayOptions) => {
      process.exitCode = replay(capture, options);
    });
}
